//! renew = walk the manifest, and have the holders of all that it names keep it for longer.
//!
//! The leases are of the put's own tag: a release ends them like those that they follow, whether it comes before, after or in
//! between. So they can lengthen a term and never shorten it.

use std::collections::BTreeMap;
use std::sync::Arc;

use datamesh_codec::keys::Identity;
use datamesh_core::id::{BlockId, ItemId, NodeId, ObjectId};
use datamesh_core::lease::{Lease, LeaseTag, Subject};
use datamesh_core::manifest::Stripe;
use datamesh_core::receipt::KeptItem;
use datamesh_core::scheme::Redundancy;
use datamesh_core::sign::Signed;
use datamesh_core::time::Epoch;
use datamesh_core::wire::{Refusal, StoredItem};
use futures::future::join_all;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::progress::{Event, Observer};
use crate::transfer::{Failure, Located, Transfer, TransferSettings};
use crate::walk::{Passed, Walk, WalkError};
use crate::world::World;

/// What is to be kept for longer.
pub struct RenewOrder<'a> {
    /// Which object.
    pub object: ObjectId,
    /// Who has put it.
    pub owner: &'a Identity,
    /// The tag of the put.
    pub tag: LeaseTag,
    /// The first epoch in which it need not be kept any more.
    pub until: Epoch,
}

/// What a renewal reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// Parts and replicas that are kept for longer.
    pub lease_count: u64,
    /// Parts and replicas of which that could not be had: repair makes them again from the others once they have ended.
    pub missed_count: u64,
    /// The nodes that failed meanwhile.
    pub failures: BTreeMap<NodeId, Failure>,
}

/// Why an object is not kept for longer.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The manifest can't be read.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// Its owner has released it.
    #[error("object {0} was released")]
    Released(ObjectId),
    /// Too few holders of something were reached.
    #[error("{what} was renewed on {renewed} nodes, {needed} are needed{}", describe(failures))]
    NotEnough {
        /// A stripe or a block.
        what: String,
        /// On how many nodes.
        renewed: usize,
        /// On how many it must be.
        needed: usize,
        /// The nodes that failed.
        failures: BTreeMap<NodeId, Failure>,
    },
}

fn describe(failures: &BTreeMap<NodeId, Failure>) -> String {
    failures.values().map(|failure| format!("; {failure}")).collect()
}

/// Has every holder of an object's shards and manifest blocks keep them until an epoch.
///
/// # Errors
/// [`RenewError`] when too little of it could be renewed to count as kept, or it was released. What was renewed until then
/// stays; it may be done again.
///
/// # Cancel safety
/// What was renewed until it is dropped stays so.
pub async fn renew(
    world: &World,
    settings: TransferSettings,
    observer: Arc<dyn Observer>,
    order: &RenewOrder<'_>,
) -> Result<Renewed, RenewError> {
    let transfer = Transfer::start(world.clone(), settings, observer).await;
    let renewing = Renewing { transfer: &transfer, order };
    transfer.acknowledging(Box::pin(renewing.run())).await
}

struct Renewing<'a> {
    transfer: &'a Transfer,
    order: &'a RenewOrder<'a>,
}

/// Of some parts, those that were renewed, and those that were not.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    renewed: usize,
    missed: usize,
}

impl Renewing<'_> {
    async fn run(&self) -> Result<Renewed, RenewError> {
        let _slot = self.transfer.slot().await;
        let (mut walk, root, passed) = Walk::start(self.transfer, self.order.object).await?;
        let redundancy = root.scheme.redundancy;
        let mut total = self.block(passed, redundancy).await?;
        while let Some(mut passed) = walk.next().await? {
            let leaf = passed.leaf.take();
            total.add(self.block(passed, redundancy).await?);
            if let Some((first, leaf)) = leaf {
                let mut stripes = stream::iter((first..).zip(leaf.stripes))
                    .map(|(index, stripe)| self.stripe(index, stripe))
                    .buffer_unordered(self.transfer.settings.stripes_in_flight)
                    // Boxed, since the compiler can't tell otherwise that whoever renews may be a task of its own.
                    .boxed();
                while let Some(count) = stripes.try_next().await? {
                    total.add(count);
                }
            }
        }
        let widen = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Ok(Renewed {
            lease_count: widen(total.renewed),
            missed_count: widen(total.missed),
            failures: self.transfer.failures(),
        })
    }

    async fn stripe(&self, index: u64, stripe: Stripe) -> Result<Count, RenewError> {
        let located = self.transfer.locate(&stripe, self.transfer.stripe_holders(&stripe)).await;
        let (size, redundancy) = (stripe.shard_size(), stripe.redundancy);
        let sealed_size = stripe.sealed_size;
        let subject = Subject::Stripe(stripe.id());
        let items = (0..=u8::MAX).map(|index| StoredItem::Shard { index, stripe: stripe.clone() });
        let count = self.renew(items, size, located, subject).await?;
        self.transfer.observe(Event::Advanced { bytes: u64::from(sealed_size) });
        self.enough(count, redundancy.acknowledged_count_min(), || format!("stripe {index}"))
    }

    async fn block(&self, passed: Passed, redundancy: Redundancy) -> Result<Count, RenewError> {
        let block: BlockId = passed.block;
        let holders = self.transfer.block_holders(&block, redundancy);
        let located = self.transfer.locate_block(block, holders).await;
        let item = StoredItem::Block { block, redundancy: redundancy.of_manifest() };
        let items = std::iter::repeat(item);
        let count = self.renew(items, passed.bytes.len(), located, Subject::Block(block)).await?;
        self.enough(count, redundancy.manifest_replica_count_min(), || format!("manifest block {block}"))
    }

    /// Renews each item where it lies: one holder of each, no node counted twice for the same item.
    async fn renew(
        &self,
        items: impl Iterator<Item = StoredItem>,
        size: usize,
        located: Located,
        subject: Subject,
    ) -> Result<Count, RenewError> {
        let RenewOrder { object, owner, tag, until } = *self.order;
        let lease = Lease { owner: owner.owner(), tag, subject, until };
        let lease = Signed::sign(lease, owner.signing_key());
        let size = u32::try_from(size).expect("an item is shorter than 4 GiB");
        let placement = located.placement();
        let placed = items.zip(&located.items).zip(placement.holders());
        let placed = placed.filter_map(|((stored, item), holder)| Some((stored, *item, (*holder)?)));
        let renewals = placed.map(|(stored, item, node)| self.renew_one(node, stored, item, size, &lease));
        let mut renewed = 0;
        for outcome in join_all(renewals).await {
            match outcome {
                Ok(()) => renewed += 1,
                Err((_, Failure::Refused { refusal: Refusal::Released, .. })) => {
                    return Err(RenewError::Released(object));
                }
                Err((_, Failure::Absent { .. })) => {}
                Err((node, failure)) => self.transfer.blame(node, &failure),
            }
        }
        Ok(Count { renewed, missed: located.items.len() - renewed })
    }

    async fn renew_one(
        &self,
        node: NodeId,
        stored: StoredItem,
        item: ItemId,
        size: u32,
        lease: &Signed<Lease>,
    ) -> Result<(), (NodeId, Failure)> {
        let kept = KeptItem { item, size };
        self.transfer.lease(node, &stored, lease, kept).await.map_err(|failure| (node, failure))
    }

    fn enough(&self, count: Count, needed: usize, what: impl Fn() -> String) -> Result<Count, RenewError> {
        if count.renewed >= needed {
            return Ok(count);
        }
        let failures = self.transfer.failures();
        Err(RenewError::NotEnough { what: what(), renewed: count.renewed, needed, failures })
    }
}

impl Count {
    const fn add(&mut self, other: Self) {
        self.renewed += other.renewed;
        self.missed += other.missed;
    }
}
