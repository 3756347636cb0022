//! Finds out who holds which shard of a stripe, without moving a shard.

use std::collections::BTreeSet;

use datamesh_core::id::{BlockId, ItemId, NodeId};
use datamesh_core::manifest::Stripe;
use datamesh_core::placement::Placement;
use datamesh_core::wire::{Message, Request, Response};
use futures::future::join_all;

use super::{Failure, Transfer};
use crate::place::Holders;

/// Who holds what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The items looked for. The same one may be there more than once: the shards of a stripe with one data shard are all
    /// the same, and so are the replicas of a block.
    pub items: Vec<ItemId>,
    /// The holders of each item, in the order of the candidates.
    pub holders: Vec<Vec<NodeId>>,
    /// The nodes that were asked.
    pub asked: BTreeSet<NodeId>,
}

impl Located {
    /// A holder for each item, no copy of an item counted twice, and as many different holders as can be had simply: an item
    /// that several nodes hold counts where nothing else lies.
    #[must_use]
    pub fn placement(&self) -> Placement {
        let mut placement = Placement::empty(self.items.len());
        let (mut used, mut counted) = (BTreeSet::new(), BTreeSet::new());
        for (index, (item, holders)) in self.items.iter().zip(&self.holders).enumerate() {
            let uncounted = || holders.iter().filter(|node| !counted.contains(&(*item, **node)));
            let holder = uncounted().find(|node| !used.contains(*node)).or_else(|| uncounted().next());
            if let Some(node) = holder.copied() {
                used.insert(node);
                counted.insert((*item, node));
                placement.hold(index, node);
            }
        }
        placement
    }
}

impl Transfer {
    /// Who holds the shards of a stripe: first the nodes that the ring names are asked, then, if a shard isn't with them,
    /// up to [`SEARCH_NODES_MAX`](super::SEARCH_NODES_MAX) more: those that the rings before named, and those that step in.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn locate(&self, stripe: &Stripe, holders: Holders<'_>) -> Located {
        self.locate_items(stripe.shards.iter().copied().map(ItemId::Shard).collect(), holders).await
    }

    /// Who holds replicas of a manifest block, searched for in the same way.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn locate_block(&self, block: BlockId, holders: Holders<'_>) -> Located {
        self.locate_items(vec![ItemId::Block(block); holders.count()], holders).await
    }

    /// Who holds these items: the intended holders are asked first, and others only if something isn't with them.
    async fn locate_items(&self, items: Vec<ItemId>, holders: Holders<'_>) -> Located {
        let mut located = Located { holders: vec![Vec::new(); items.len()], items, asked: BTreeSet::new() };
        let near: Vec<NodeId> = holders.intended().collect();
        self.ask_who_has(&near, &mut located).await;
        if located.placement().missing().next().is_some() {
            let far = self.further_candidates(holders.group(), &near, holders.count());
            self.ask_who_has(&far, &mut located).await;
        }
        located
    }

    async fn ask_who_has(&self, nodes: &[NodeId], located: &mut Located) {
        let items = &located.items;
        let questions = nodes.iter().map(|node| async move { (*node, self.has(*node, items).await) });
        let answers = join_all(questions).await;
        for (node, answer) in answers {
            located.asked.insert(node);
            match answer {
                Ok(held) => {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use datamesh_core::id::{ItemId, NodeId, ShardId};

    use super::Located;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn located(items: &[u8], holders: &[&[u8]]) -> Located {
        Located {
            items: items.iter().map(|item| ItemId::Shard(ShardId::from_bytes([*item; 32]))).collect(),
            holders: holders.iter().map(|nodes| nodes.iter().copied().map(node).collect()).collect(),
            asked: BTreeSet::new(),
        }
    }

    #[test]
    fn one_copy_of_a_replica_is_not_counted_as_two() {
        let both = located(&[1, 1], &[&[7, 8], &[7, 8]]).placement();
        assert_eq!(both.holders(), [Some(node(7)), Some(node(8))]);
        let one = located(&[1, 1], &[&[7], &[7]]).placement();
        assert_eq!(one.healthy_count(), 1);
    }

    #[test]
    fn shards_count_on_different_nodes_where_they_can() {
        let spread = located(&[1, 2], &[&[7], &[7, 8]]).placement();
        assert_eq!(spread.holders(), [Some(node(7)), Some(node(8))]);
        let together = located(&[1, 2], &[&[7], &[7]]).placement();
        assert_eq!(together.holders(), [Some(node(7)), Some(node(7))]);
    }
}
