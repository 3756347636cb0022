//! Finds out who holds which shard of a stripe, without moving a shard.

use std::collections::BTreeSet;

use datamesh_core::id::{BlockId, ItemId, NodeId};
use datamesh_core::manifest::Stripe;
use datamesh_core::wire::{Message, Request, Response};
use futures::future::join_all;

use super::{Failure, SEARCH_NODES_MAX, Transfer};
use crate::place::Holders;

/// Who holds what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The holders of each item, in the order of the candidates.
    pub holders: Vec<Vec<NodeId>>,
    /// The nodes that were asked.
    pub asked: BTreeSet<NodeId>,
    /// The nodes among them that answered.
    pub answered: BTreeSet<NodeId>,
}

impl Transfer {
    /// Who holds the shards of a stripe: first the nodes that the ring names are asked, then, if a shard isn't with them,
    /// up to [`SEARCH_NODES_MAX`] more.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn locate(&self, stripe: &Stripe, holders: Holders<'_>) -> Located {
        let items: Vec<ItemId> = stripe.shards.iter().copied().map(ItemId::Shard).collect();
        let found_all = |located: &Located| located.holders.iter().all(|holders| !holders.is_empty());
        self.locate_items(&items, holders, found_all).await
    }

    /// Who holds replicas of a manifest block, searched for in the same way.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn locate_block(&self, block: BlockId, holders: Holders<'_>) -> Located {
        let found_all = |located: &Located| located.holders[0].len() >= holders.count();
        self.locate_items(&[ItemId::Block(block)], holders, found_all).await
    }

    /// Who holds these items: the intended holders are asked first, and others only if something isn't with them.
    async fn locate_items(
        &self,
        items: &[ItemId],
        holders: Holders<'_>,
        found_all: impl Fn(&Located) -> bool,
    ) -> Located {
        let mut located = Located {
            holders: vec![Vec::new(); items.len()],
            asked: BTreeSet::new(),
            answered: BTreeSet::new(),
        };
        let near: Vec<NodeId> = holders.intended().collect();
        self.ask_who_has(items, &near, &mut located).await;
        if !found_all(&located) {
            let far: Vec<NodeId> = holders.order().skip(near.len()).take(SEARCH_NODES_MAX).collect();
            self.ask_who_has(items, &far, &mut located).await;
        }
        located
    }

    async fn ask_who_has(&self, items: &[ItemId], nodes: &[NodeId], located: &mut Located) {
        let questions = nodes.iter().map(|node| async move { (*node, self.has(*node, items).await) });
        for (node, answer) in join_all(questions).await {
            located.asked.insert(node);
            match answer {
                Ok(held) => {
                    located.answered.insert(node);
                    for (holders, _) in located.holders.iter_mut().zip(held).filter(|(_, held)| *held) {
                        holders.push(node);
                    }
                }
                Err(failure) => self.blame(node, &failure),
            }
        }
    }

    async fn has(&self, node: NodeId, items: &[ItemId]) -> Result<Vec<bool>, Failure> {
        let request = Message::bare(Request::Has(items.to_vec()));
        let answer = self.ask(node, request, self.settings.fetch_deadline).await?;
        match answer.header {
            Response::Holds(held) if held.len() == items.len() => Ok(held),
            Response::Refused(refusal) => Err(Failure::Refused { node, refusal }),
            _ => Err(Failure::Lied { node, item: items[0] }),
        }
    }
}
