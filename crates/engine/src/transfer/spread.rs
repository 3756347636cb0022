//! Spreads items over nodes: each to its own, or, where that one fails, to one that steps in.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use datamesh_core::id::NodeId;
use datamesh_core::lease::Lease;
use datamesh_core::placement::Placement;
use datamesh_core::sign::Signed;
use datamesh_core::wire::StoredItem;
use futures::future::join_all;

use super::Transfer;
use crate::place::Holders;

/// Which nodes have or are being sent an item, and which have failed to take one.
struct Duty<'a> {
    holders: Holders<'a>,
    taken: Mutex<Taken>,
}

struct Taken {
    /// Intended holders that were given nothing, because there are fewer items than holders.
    idle: VecDeque<NodeId>,
    in_use: BTreeSet<NodeId>,
    ruled_out: BTreeSet<NodeId>,
}

impl Duty<'_> {
    /// Who steps in for a node, which takes no other item from now on.
    fn stand_in(&self, failed: Option<NodeId>) -> Option<NodeId> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = failed {
            taken.in_use.remove(&node);
            taken.ruled_out.insert(node);
        }
        let next = taken.idle.pop_front();
        let next = next.or_else(|| self.holders.stand_in(&taken.in_use, &taken.ruled_out))?;
        taken.in_use.insert(next);
        Some(next)
    }
}

impl Transfer {
    /// Stores each item on the node that is to hold it, by shard index or, for replicas, by rank. Where a node fails, another
    /// that has none of the items steps in; when there is no other, the failed one is tried again a few times.
    ///
    /// No node is given two of the items, so that losing one node loses one item. `held` are nodes that hold other items of
    /// the same stripe already. While fewer than `needed_count` items are stored, the nodes that failed a moment ago, be it
    /// with other items, are tried again a few times too.
    ///
    /// # Cancel safety
    /// When dropped, any of the items may or may not be stored.
    pub async fn spread(
        &self,
        items: Vec<(StoredItem, Bytes)>,
        lease: &Signed<Lease>,
        holders: Holders<'_>,
        held: &BTreeSet<NodeId>,
        needed_count: usize,
    ) -> Placement {
        let mut placement = Placement::empty(items.len());
        let own: Vec<NodeId> = holders.intended().filter(|node| !held.contains(node)).collect();
        let (busy, idle) = own.split_at(items.len().min(own.len()));
        let taken = Taken {
            idle: idle.iter().copied().collect(),
            in_use: busy.iter().chain(held).copied().collect(),
            ruled_out: BTreeSet::new(),
        };
        let duty = Duty { holders, taken: Mutex::new(taken) };
        let stores = items.iter().enumerate().map(|(index, (item, bytes))| {
            let first = busy.get(index).copied();
            self.store_somewhere(first, &duty, item, lease, bytes)
        });
        for (index, holder) in join_all(stores).await.into_iter().enumerate() {
            if let Some(node) = holder {
                placement.hold(index, node);
            }
        }
        let mut pause = self.settings.retry_delay;
        for _ in 1..self.settings.attempts {
            if placement.healthy_count() >= needed_count {
                break;
            }
            self.world.clock.sleep(pause).await;
            pause = self.settings.next_pause(pause);
            self.insist(&items, lease, &own, &mut placement).await;
        }
        placement
    }

    /// Gives the items that nobody has taken to the nodes that have taken none, whatever is held against them.
    async fn insist(
        &self,
        items: &[(StoredItem, Bytes)],
        lease: &Signed<Lease>,
        nodes: &[NodeId],
        placement: &mut Placement,
    ) {
        let taken: BTreeSet<NodeId> = placement.holders().iter().flatten().copied().collect();
        let free = nodes.iter().copied().filter(|node| !taken.contains(node));
        let missing: Vec<usize> = placement.missing().collect();
        let stores = missing.into_iter().zip(free).map(|(index, node)| async move {
            let (item, bytes) = &items[index];
            (index, node, self.store(node, item.clone(), lease.clone(), bytes.clone()).await)
        });
        for (index, node, stored) in join_all(stores).await {
            match stored {
                Ok(()) => {
                    self.forgive(node);
                    placement.hold(index, node);
                }
                Err(failure) => self.blame(node, &failure),
            }
        }
    }

    async fn store_somewhere(
        &self,
        first: Option<NodeId>,
        duty: &Duty<'_>,
        item: &StoredItem,
        lease: &Signed<Lease>,
        bytes: &Bytes,
    ) -> Option<NodeId> {
        let mut may_recover = None;
        let mut candidate = first.or_else(|| duty.stand_in(None));
        while let Some(node) = candidate {
            if !self.avoids(&node) {
                match self.store(node, item.clone(), lease.clone(), bytes.clone()).await {
                    Ok(()) => return Some(node),
                    Err(failure) => {
                        self.blame(node, &failure);
                        if failure.may_pass() {
                            may_recover.get_or_insert(node);
                        }
                    }
                }
            }
            candidate = duty.stand_in(Some(node));
        }
        self.store_again(may_recover?, item, lease, bytes).await
    }

    /// Tries a node that has just failed again, with growing pauses.
    async fn store_again(
        &self,
        node: NodeId,
        item: &StoredItem,
        lease: &Signed<Lease>,
        bytes: &Bytes,
    ) -> Option<NodeId> {
        let mut pause = self.settings.retry_delay;
        for _ in 1..self.settings.attempts {
            self.world.clock.sleep(pause).await;
            pause = self.settings.next_pause(pause);
            match self.store(node, item.clone(), lease.clone(), bytes.clone()).await {
                Ok(()) => {
                    self.forgive(node);
                    return Some(node);
                }
                Err(failure) => self.blame(node, &failure),
            }
        }
        None
    }
}
