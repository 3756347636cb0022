//! Has nodes keep what they hold already under one more lease, so that it need not be sent.

use std::collections::BTreeSet;

use bytes::Bytes;
use datamesh_core::id::NodeId;
use datamesh_core::lease::Lease;
use datamesh_core::placement::Placement;
use datamesh_core::receipt::KeptItem;
use datamesh_core::sign::Signed;
use datamesh_core::wire::{Message, Request, Response, StoredItem};
use futures::future::join_all;

use super::{Failure, Transfer};
use crate::place::Holders;

/// How likely it is that holders have the items already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Likelihood {
    /// Nobody can have them.
    None,
    /// They may: one holder is asked, and the others if it has its own.
    Low,
    /// They probably do: all are asked at once.
    High,
}

impl Transfer {
    /// Spreads items as [`Transfer::spread`] does, but sends only those that their intended holders don't have yet. Says who
    /// holds what, and how many bytes need not be sent.
    ///
    /// # Cancel safety
    /// When dropped, any of the items may or may not be stored, and any may or may not have gained the lease.
    pub(crate) async fn spread_missing(
        &self,
        items: Vec<(StoredItem, Bytes)>,
        lease: &Signed<Lease>,
        holders: Holders<'_>,
        needed_count: usize,
        likelihood: Likelihood,
    ) -> (Placement, u64) {
        let mut placement = self.reuse(&items, lease, holders, likelihood).await;
        let held: BTreeSet<NodeId> = placement.holders().iter().flatten().copied().collect();
        if held.is_empty() {
            return (self.spread(items, lease, holders, &held, needed_count).await, 0);
        }
        let mut reused_size = 0;
        let (mut missing, mut indices) = (Vec::new(), Vec::new());
        for (index, (item, holder)) in items.into_iter().zip(placement.holders()).enumerate() {
            if holder.is_some() {
                reused_size += size_of(&item.1);
            } else {
                missing.push(item);
                indices.push(index);
            }
        }
        if !missing.is_empty() {
            let needed = needed_count.saturating_sub(held.len());
            let sent = self.spread(missing, lease, holders, &held, needed).await;
            for (index, holder) in indices.into_iter().zip(sent.holders()) {
                if let Some(node) = holder {
                    placement.hold(index, *node);
                }
            }
        }
        (placement, reused_size)
    }

    /// Who of the intended holders has its item, and keeps it under this lease from now on.
    async fn reuse(
        &self,
        items: &[(StoredItem, Bytes)],
        lease: &Signed<Lease>,
        holders: Holders<'_>,
        likelihood: Likelihood,
    ) -> Placement {
        let mut placement = Placement::empty(items.len());
        let own = items.iter().zip(holders.intended()).enumerate();
        let mut own: Vec<_> = own.filter(|(_, (_, node))| !self.avoids(node)).collect();
        let asked_first = match likelihood {
            Likelihood::None => return placement,
            Likelihood::Low => 1.min(own.len()),
            Likelihood::High => own.len(),
        };
        let others = own.split_off(asked_first);
        for batch in [own, others] {
            let leases = batch.into_iter().map(|(index, ((item, bytes), node))| async move {
                let kept = item.kept(bytes).expect("an item is shorter than 4 GiB");
                (index, node, self.lease(node, item, lease, kept).await)
            });
            for (index, node, leased) in join_all(leases).await {
                match leased {
                    Ok(()) => placement.hold(index, node),
                    Err(Failure::Absent { .. }) => {}
                    // It is not tried with the bytes next, so that it costs one deadline and not two.
                    Err(failure) => self.blame(node, &failure),
                }
            }
            if placement.healthy_count() == 0 {
                break;
            }
        }
        placement
    }

    /// Has a node keep an item that it holds under one more lease, and checks its receipt.
    pub(crate) async fn lease(
        &self,
        node: NodeId,
        item: &StoredItem,
        lease: &Signed<Lease>,
        kept: KeptItem,
    ) -> Result<(), Failure> {
        let id = kept.item;
        let tag = lease.unverified().tag;
        let request = Message::bare(Request::Lease { item: item.clone(), lease: lease.clone() });
        let answer = self.ask(node, request, self.settings.store_deadline).await?;
        match answer.header {
            Response::Stored(receipt) => {
                let proven = self.receipts.prove(receipt, node, tag, kept);
                if proven { Ok(()) } else { Err(Failure::Lied { node, item: id }) }
            }
            Response::Absent => Err(Failure::Absent { node, item: id }),
            Response::Refused(refusal) => Err(Failure::Refused { node, refusal }),
            _ => Err(Failure::Lied { node, item: id }),
        }
    }
}

fn size_of(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
