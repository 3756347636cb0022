//! repair = the first half of get, then the second half of put.
//!
//! It needs no key: sealed bytes are rebuilt from sealed bytes, under the leases that their owner signed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use datamesh_codec::stripe::{Coder, DecodeError};
use datamesh_core::id::{BlockId, ItemId, NodeId, ObjectId};
use datamesh_core::lease::{Lease, Subject};
use datamesh_core::manifest::Stripe;
use datamesh_core::scheme::Redundancy;
use datamesh_core::sign::Signed;
use datamesh_core::summary::PartId;
use datamesh_core::wire::{Description, Message, Request, Response, StoredItem};
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::place::Holders;
use crate::progress::{Event, Observer};
use crate::transfer::{Failure, GatherError, Located, Transfer, TransferSettings};
use crate::walk::{Passed, Walk, WalkError};
use crate::world::World;

/// Holders of a stripe that are asked for its leases.
const LEASE_HOLDERS_MAX: usize = 8;

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// Which object.
    pub object: ObjectId,
    /// Shards that were rebuilt and stored.
    pub shards_repaired: u64,
    /// Manifest replicas that were stored.
    pub replicas_repaired: u64,
    /// Shards and replicas for which no node was left that had none of their stripe.
    pub unplaced: u64,
    /// The nodes that failed meanwhile.
    pub failures: BTreeMap<NodeId, Failure>,
}

/// Why an object can't be repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The manifest can't be read.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// A stripe has lost more shards than it can.
    #[error("stripe {index}: {source}")]
    TooFewShards {
        /// Which stripe.
        index: u64,
        /// Who was asked.
        source: GatherError,
    },
    /// Shards that hash to their ids don't make the stripe: it was never whole.
    #[error("stripe {index} can't be rebuilt")]
    Rebuild {
        /// Which stripe.
        index: u64,
        /// Why.
        source: DecodeError,
    },
    /// No holder of an item says under which lease it is kept.
    #[error("{item}: no lease to store it under elsewhere")]
    NoLease {
        /// Which item.
        item: ItemId,
    },
}

/// What became of the missing parts of one stripe or block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) stored: u64,
    pub(crate) unplaced: u64,
}

/// What holders that can't be reached are taken to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreached {
    /// Nothing: whoever asks wants the object whole without them, now.
    HasNothing,
    /// A part each: they may be back before their grace is over.
    HasItsPart,
}

/// Restores an object to full redundancy: every stripe to k + m shards, every manifest block to m + 1 replicas, on nodes that
/// hold nothing else of it while there are such.
///
/// # Errors
/// [`RepairError`] when something can't be rebuilt; what was repaired until then stays.
///
/// # Cancel safety
/// What was repaired until it is dropped stays.
pub async fn repair(
    world: &World,
    settings: TransferSettings,
    observer: Arc<dyn Observer>,
    object: ObjectId,
) -> Result<Repaired, RepairError> {
    let transfer = Transfer::start(world.clone(), settings, observer).await;
    transfer.acknowledging(Box::pin(repair_in(&transfer, object))).await
}

async fn repair_in(transfer: &Transfer, object: ObjectId) -> Result<Repaired, RepairError> {
    let _slot = transfer.slot().await;
    let (mut walk, root, passed) = Walk::start(transfer, object).await?;
    let redundancy = root.scheme.redundancy;
    let coder = Arc::new(Coder::new(redundancy));
    let (mut shards, mut replicas) = (Outcome::default(), Outcome::default());
    replicas.add(repair_passed(transfer, &passed, redundancy).await?);
    while let Some(passed) = walk.next().await? {
        replicas.add(repair_passed(transfer, &passed, redundancy).await?);
        if let Some((first, leaf)) = passed.leaf {
            let mut outcomes = stream::iter((first..).zip(leaf.stripes))
                .map(|(index, stripe)| repair_indexed(transfer, &coder, index, stripe))
                .buffer_unordered(transfer.settings.stripes_in_flight);
            while let Some(outcome) = outcomes.try_next().await? {
                shards.add(outcome);
            }
        }
    }
    Ok(Repaired {
        object,
        shards_repaired: shards.stored,
        replicas_repaired: replicas.stored,
        unplaced: shards.unplaced + replicas.unplaced,
        failures: transfer.failures(),
    })
}

async fn repair_indexed(
    transfer: &Transfer,
    coder: &Arc<Coder>,
    index: u64,
    stripe: Stripe,
) -> Result<Outcome, RepairError> {
    let repaired = repair_stripe(transfer, coder, &stripe, Unreached::HasNothing).await;
    transfer.observe(Event::Advanced { bytes: u64::from(stripe.sealed_size) });
    repaired.map_err(|error| match error {
        StripeError::TooFewShards(source) => RepairError::TooFewShards { index, source },
        StripeError::Rebuild(source) => RepairError::Rebuild { index, source },
        StripeError::NoLease { item } => RepairError::NoLease { item },
    })
}

async fn repair_passed(
    transfer: &Transfer,
    passed: &Passed,
    redundancy: Redundancy,
) -> Result<Outcome, RepairError> {
    let (block, bytes) = (passed.block, passed.bytes.clone());
    let repaired =
        repair_block(transfer, block, redundancy.of_manifest(), Unreached::HasNothing, async || Ok(bytes))
            .await;
    repaired.map_err(|error| match error {
        StripeError::NoLease { item } => RepairError::NoLease { item },
        other => unreachable!("a block that is there is not rebuilt: {other}"),
    })
}

/// Why a stripe or a block can't be made whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StripeError {
    #[error(transparent)]
    TooFewShards(#[from] GatherError),
    #[error(transparent)]
    Rebuild(#[from] DecodeError),
    #[error("{item}: no lease to store it under elsewhere")]
    NoLease { item: ItemId },
}

/// The parts that nobody has, short of those that unreached holders are taken to have: likeliest the ones of their own rank.
fn missing_parts(
    transfer: &Transfer,
    located: &Located,
    holders: Holders<'_>,
    unreached: Unreached,
) -> Vec<usize> {
    let mut missing: Vec<usize> = located.placement().missing().collect();
    if unreached == Unreached::HasItsPart {
        let silent = |(_, node): &(usize, NodeId)| transfer.avoids(node);
        let ranks: Vec<usize> = holders.intended().enumerate().filter(silent).map(|(rank, _)| rank).collect();
        for rank in ranks {
            let at = missing.iter().position(|index| *index == rank).or(missing.len().checked_sub(1));
            at.map(|at| missing.remove(at));
        }
    }
    missing
}

/// Whether some node could take another part.
fn has_room(transfer: &Transfer, located: &Located, holders: Holders<'_>) -> bool {
    let holding: BTreeSet<&NodeId> = located.holders.iter().flatten().collect();
    holders.order().any(|node| !holding.contains(&node) && !transfer.avoids(&node))
}

/// Makes the missing shards of a stripe again and stores them where none of its shards is.
pub(crate) async fn repair_stripe(
    transfer: &Transfer,
    coder: &Arc<Coder>,
    stripe: &Stripe,
    unreached: Unreached,
) -> Result<Outcome, StripeError> {
    let holders = transfer.stripe_holders(stripe);
    let located = transfer.locate(stripe, holders).await;
    let missing = missing_parts(transfer, &located, holders, unreached);
    if missing.is_empty() {
        return Ok(Outcome::default());
    }
    if !has_room(transfer, &located, holders) {
        return Ok(Outcome { stored: 0, unplaced: count(missing.len()) });
    }
    // As much as all shards of the stripe: those that are there, and those that are made again from them.
    let _share = transfer.memory(stripe.shard_size() * stripe.redundancy.shard_count()).await;
    let shards = transfer.gather(stripe).await?;
    let (wanted, of, coder) = (missing.clone(), stripe.clone(), Arc::clone(coder));
    let rebuild = move || coder.rebuild(&of, &shards, &wanted);
    let rebuilt = transfer.world.compute.output(rebuild).await?;

    let held = located.holders.iter().enumerate();
    let held: Vec<(ItemId, NodeId)> = held
        .flat_map(|(shard, nodes)| nodes.iter().map(move |node| (shard, *node)))
        .map(|(shard, node)| (ItemId::Shard(stripe.shards[shard]), node))
        .collect();
    let items = missing.into_iter().zip(rebuilt).map(|(shard, bytes)| {
        let shard = u8::try_from(shard).expect("a stripe has at most 255 shards");
        (StoredItem::Shard { index: shard, stripe: stripe.clone() }, bytes)
    });
    store_elsewhere(transfer, items.collect(), &held, holders).await
}

/// Stores replicas of a block where there is none, until there are as many as its redundancy says.
pub(crate) async fn repair_block(
    transfer: &Transfer,
    block: BlockId,
    redundancy: Redundancy,
    unreached: Unreached,
    bytes: impl AsyncFnOnce() -> Result<Bytes, GatherError>,
) -> Result<Outcome, StripeError> {
    let holders = transfer.block_holders(&block, redundancy);
    let located = transfer.locate_block(block, holders).await;
    let held: Vec<(ItemId, NodeId)> =
        located.holders[0].iter().map(|node| (ItemId::Block(block), *node)).collect();
    let missing_count = missing_parts(transfer, &located, holders, unreached).len();
    if missing_count == 0 {
        return Ok(Outcome::default());
    }
    if !has_room(transfer, &located, holders) {
        return Ok(Outcome { stored: 0, unplaced: count(missing_count) });
    }
    let item = StoredItem::Block { block, redundancy };
    let items = vec![(item, bytes().await?); missing_count];
    store_elsewhere(transfer, items, &held, holders).await
}

/// Stores items on nodes that hold nothing of the stripe or block, under every lease that a holder knows.
async fn store_elsewhere(
    transfer: &Transfer,
    items: Vec<(StoredItem, Bytes)>,
    held: &[(ItemId, NodeId)],
    holders: Holders<'_>,
) -> Result<Outcome, StripeError> {
    let leases = leases(transfer, held, items[0].0.subject()).await;
    if leases.is_empty() {
        let item = items[0].0.id().expect("an item to repair is one of its stripe");
        return Err(StripeError::NoLease { item });
    }
    let mut holding: BTreeSet<NodeId> = held.iter().map(|(_, node)| *node).collect();
    let (mut missing, mut stored) = (items, Vec::new());
    for lease in &leases {
        // A holder that was away may still name a lease that was released meanwhile: then the next one counts.
        let placement = transfer.spread(missing.clone(), lease, holders, &holding, 0).await;
        let outcomes = std::mem::take(&mut missing).into_iter().zip(placement.holders().to_vec());
        for (part, holder) in outcomes {
            match holder {
                Some(node) => {
                    holding.insert(node);
                    let kept = part.0.kept(&part.1).expect("a part is shorter than 4 GiB");
                    stored.push((part.0, kept, node));
                }
                None => missing.push(part),
            }
        }
        if missing.is_empty() {
            break;
        }
    }
    for (item, kept, node) in &stored {
        for lease in &leases {
            // Where that fails, the item is still kept under the one that it was stored with.
            if let Err(failure) = transfer.lease(*node, item, lease, *kept).await {
                transfer.blame(*node, &failure);
            }
        }
        transfer.observe(Event::Repaired { node: *node });
    }
    Ok(Outcome { stored: count(stored.len()), unplaced: count(missing.len()) })
}

/// The leases for a subject that holders name: a holder that was away, or stepped in, may not know all of them.
async fn leases(transfer: &Transfer, held: &[(ItemId, NodeId)], subject: Subject) -> Vec<Signed<Lease>> {
    let mut by_put = BTreeMap::new();
    let mut asked = BTreeSet::new();
    for (item, node) in held {
        if asked.len() >= LEASE_HOLDERS_MAX || !asked.insert(*node) {
            continue;
        }
        let request = Message::bare(Request::Describe(PartId { subject, item: *item }));
        match transfer.ask(*node, request, transfer.settings.fetch_deadline).await {
            Ok(Message { header: Response::Described(Description { leases, .. }), .. }) => {
                for lease in leases {
                    if let Ok(Lease { owner, tag, .. }) = lease.verify()
                        && lease.unverified().subject == subject
                    {
                        by_put.insert((*owner, *tag), lease);
                    }
                }
            }
            Ok(_) => transfer.blame(*node, &Failure::Absent { node: *node, item: *item }),
            Err(error) => transfer.blame(*node, &Failure::Call(error)),
        }
    }
    by_put.into_values().collect()
}

fn count(parts: usize) -> u64 {
    u64::try_from(parts).unwrap_or(u64::MAX)
}

impl Outcome {
    pub(crate) fn add(&mut self, other: Self) {
        self.stored += other.stored;
        self.unplaced += other.unplaced;
    }
}
