//! How an object stands: who holds each of its shards, and what it survives.

use std::collections::BTreeMap;
use std::sync::Arc;

use datamesh_core::health::Level;
use datamesh_core::id::{BlockId, NodeId, ObjectId, ShardId};
use datamesh_core::limits::BLOCK_SIZE_MAX;
use datamesh_core::manifest::Stripe;
use datamesh_core::placement::Placement;
use datamesh_core::scheme::{Redundancy, Scheme};
use futures::future::join_all;
use futures::stream::{self, StreamExt};

use crate::place::{Survival, survival};
use crate::progress::{Event, Observer};
use crate::standing::level;
use crate::transfer::{Failure, Located, Transfer, TransferSettings};
use crate::walk::{Passed, Walk, WalkError};
use crate::world::World;

/// How closely shards are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Nodes say what they hold.
    Index,
    /// Every shard is read back and checked against its id.
    Bytes,
}

/// How an object stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectHealth {
    /// Which object.
    pub object: ObjectId,
    /// How it is encoded.
    pub scheme: Scheme,
    /// Its stripes, in the order of its bytes.
    pub stripes: Vec<StripeHealth>,
    /// Its manifest blocks, root first.
    pub blocks: Vec<BlockHealth>,
    /// What it survives: the least of all of these.
    pub survival: Survival,
    /// The nodes that failed when asked.
    pub failures: BTreeMap<NodeId, Failure>,
}

/// How a stripe stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripeHealth {
    /// Its index in the object.
    pub index: u64,
    /// Bytes of its sealed chunk.
    pub sealed_size: u32,
    /// Its shards.
    pub shards: Vec<ShardId>,
    /// Who holds them.
    pub placement: Placement,
    /// What it survives.
    pub survival: Survival,
}

/// How a manifest block stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockHealth {
    /// Which block.
    pub block: BlockId,
    /// Who holds replicas of it.
    pub placement: Placement,
    /// What it survives.
    pub survival: Survival,
}

impl ObjectHealth {
    /// The availability score of the object: that of its weakest stripe or manifest block.
    #[must_use]
    pub fn score(&self) -> f64 {
        let stripes = self.stripes.iter().map(|stripe| &stripe.placement);
        let stripe_scores = stripes.map(|placement| {
            score(placement.healthy_count(), self.scheme.redundancy.data_count(), placement.holders().len())
        });
        let blocks = self.blocks.iter().map(|block| &block.placement);
        let block_scores =
            blocks.map(|placement| score(placement.healthy_count(), 1, placement.holders().len()));
        stripe_scores.chain(block_scores).fold(1.0, f64::min)
    }
}

impl ObjectHealth {
    /// How bad it is: as its worst stripe or manifest block.
    #[must_use]
    pub fn level(&self) -> Option<Level> {
        let of_stripe =
            |stripe: &StripeHealth| level(stripe.placement.healthy_count(), self.scheme.redundancy);
        let of_block = |block: &BlockHealth| {
            let replicas = Redundancy::new(1, block.placement.holders().len().saturating_sub(1)).ok()?;
            level(block.placement.healthy_count(), replicas)
        };
        self.stripes.iter().map(of_stripe).chain(self.blocks.iter().map(of_block)).max().flatten()
    }
}

/// The availability score: 1 whole; from a half up while k are healthy, in proportion to the spare ones; below k less than a
/// half, in proportion to what is there.
#[must_use]
pub fn score(healthy_count: usize, data_count: usize, shard_count: usize) -> f64 {
    let ratio = |part: usize, whole: usize| {
        let small = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        small(part) / small(whole)
    };
    if healthy_count >= shard_count {
        1.0
    } else if healthy_count >= data_count {
        0.5 + 0.5 * ratio(healthy_count - data_count, shard_count - data_count)
    } else {
        0.5 * ratio(healthy_count, data_count)
    }
}

/// Looks at every shard and manifest block of an object where it lies. Needs no key.
///
/// # Errors
/// [`WalkError`] when the manifest can't be read.
///
/// # Cancel safety
/// Nothing is left behind when dropped.
pub async fn inspect(
    world: &World,
    settings: TransferSettings,
    observer: Arc<dyn Observer>,
    object: ObjectId,
    depth: Depth,
) -> Result<ObjectHealth, WalkError> {
    let transfer = Transfer::start(world.clone(), settings, observer).await;
    transfer.acknowledging(Box::pin(inspect_in(&transfer, object, depth))).await
}

async fn inspect_in(transfer: &Transfer, object: ObjectId, depth: Depth) -> Result<ObjectHealth, WalkError> {
    let (mut walk, root, passed) = Walk::start(transfer, object).await?;
    let redundancy = root.scheme.redundancy;
    let mut blocks = vec![inspect_block(transfer, passed.block, redundancy, depth).await];
    let mut stripes = Vec::new();
    while let Some(Passed { block, leaf, .. }) = walk.next().await? {
        blocks.push(inspect_block(transfer, block, redundancy, depth).await);
        if let Some((first, leaf)) = leaf {
            let inspected = stream::iter((first..).zip(leaf.stripes))
                .map(|(index, stripe)| inspect_stripe(transfer, index, stripe, depth))
                .buffered(transfer.settings.stripes_in_flight);
            stripes.extend(inspected.collect::<Vec<_>>().await);
        }
    }
    let survivals =
        stripes.iter().map(|stripe| stripe.survival).chain(blocks.iter().map(|block| block.survival));
    let survival = Survival::weakest(survivals).expect("an object has a root block");
    Ok(ObjectHealth { object, scheme: root.scheme, stripes, blocks, survival, failures: transfer.failures() })
}

async fn inspect_stripe(transfer: &Transfer, index: u64, stripe: Stripe, depth: Depth) -> StripeHealth {
    let located = transfer.locate(&stripe, transfer.stripe_holders(&stripe)).await;
    let placement = sound(transfer, located, depth, stripe.shard_size()).await.placement();
    transfer.observe(Event::Advanced { bytes: u64::from(stripe.sealed_size) });
    let survival = survival(&placement, transfer.topology(), stripe.redundancy);
    let Stripe { sealed_size, shards, .. } = stripe;
    StripeHealth { index, sealed_size, shards, placement, survival }
}

async fn inspect_block(
    transfer: &Transfer,
    block: BlockId,
    redundancy: Redundancy,
    depth: Depth,
) -> BlockHealth {
    let holders = transfer.block_holders(&block, redundancy);
    let located = transfer.locate_block(block, holders).await;
    let placement = sound(transfer, located, depth, BLOCK_SIZE_MAX).await.placement();
    let replicated = Redundancy::new(1, holders.count() - 1).expect("m + 1 replicas are within bounds");
    let survival = survival(&placement, transfer.topology(), replicated);
    BlockHealth { block, placement, survival }
}

/// The same, with only those holders that have the item indeed.
async fn sound(transfer: &Transfer, located: Located, depth: Depth, size_max: usize) -> Located {
    if depth == Depth::Index {
        return located;
    }
    let _share = transfer.memory(size_max * located.items.len()).await;
    let checks = located.items.iter().zip(&located.holders).map(|(item, holders)| async move {
        let mut sound = Vec::new();
        for node in holders {
            match transfer.fetch(*node, *item, size_max).await {
                Ok(_) => sound.push(*node),
                Err(failure) => transfer.blame(*node, &failure),
            }
        }
        sound
    });
    let holders = join_all(checks).await;
    Located { holders, ..located }
}

#[cfg(test)]
mod tests {
    use super::score;

    #[test]
    fn the_score_falls_with_each_shard_lost_and_below_a_half_when_the_stripe_is() {
        let scores: Vec<f64> = (0..=6).rev().map(|healthy| score(healthy, 4, 6)).collect();
        assert_eq!(scores, [1.0, 0.75, 0.5, 0.375, 0.25, 0.125, 0.0]);
        assert!((score(1, 1, 1) - 1.0).abs() < f64::EPSILON);
    }
}
