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
use crate::transfer::{Failure, GatherError, Transfer, TransferSettings};
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
#[derive(Clone, Copy, Default)]
struct Outcome {
    stored: u64,
    unplaced: u64,
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
    replicas.add(repair_block(transfer, &passed, redundancy).await?);
    while let Some(passed) = walk.next().await? {
        replicas.add(repair_block(transfer, &passed, redundancy).await?);
        if let Some((first, leaf)) = passed.leaf {
            let mut outcomes = stream::iter((first..).zip(leaf.stripes))
                .map(|(index, stripe)| repair_stripe(transfer, Arc::clone(&coder), index, stripe))
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

async fn repair_stripe(
    transfer: &Transfer,
    coder: Arc<Coder>,
    index: u64,
    stripe: Stripe,
) -> Result<Outcome, RepairError> {
    let holders = transfer.stripe_holders(&stripe);
    let located = transfer.locate(&stripe, holders).await;
    transfer.observe(Event::Advanced { bytes: u64::from(stripe.sealed_size) });
    let missing: Vec<usize> = located.placement().missing().collect();
    if missing.is_empty() {
        return Ok(Outcome::default());
    }
    // As much as all shards of the stripe: those that are there, and those that are made again from them.
    let _share = transfer.memory(stripe.shard_size() * stripe.redundancy.shard_count()).await;
    let gathered = transfer.gather(&stripe).await;
    let shards = gathered.map_err(|source| RepairError::TooFewShards { index, source })?;
    let (wanted, of) = (missing.clone(), stripe.clone());
    let rebuild = move || coder.rebuild(&of, &shards, &wanted);
    let rebuilt = transfer.world.compute.output(rebuild).await;
    let rebuilt = rebuilt.map_err(|source| RepairError::Rebuild { index, source })?;

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

async fn repair_block(
    transfer: &Transfer,
    passed: &Passed,
    redundancy: Redundancy,
) -> Result<Outcome, RepairError> {
    let block: BlockId = passed.block;
    let holders = transfer.block_holders(&block, redundancy);
    let located = transfer.locate_block(block, holders).await;
    let held: Vec<(ItemId, NodeId)> =
        located.holders[0].iter().map(|node| (ItemId::Block(block), *node)).collect();
    let missing_count = located.placement().missing().count();
    if missing_count == 0 {
        return Ok(Outcome::default());
    }
    let item = StoredItem::Block { block, redundancy: redundancy.of_manifest() };
    let items = vec![(item, passed.bytes.clone()); missing_count];
    store_elsewhere(transfer, items, &held, holders).await
}

/// Stores items on nodes that hold nothing of the stripe or block, under every lease that a holder knows.
async fn store_elsewhere(
    transfer: &Transfer,
    items: Vec<(StoredItem, Bytes)>,
    held: &[(ItemId, NodeId)],
    holders: Holders<'_>,
) -> Result<Outcome, RepairError> {
    let leases = leases(transfer, held, items[0].0.subject()).await;
    if leases.is_empty() {
        let item = items[0].0.id().expect("an item to repair is one of its stripe");
        return Err(RepairError::NoLease { item });
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
                    stored.push((part.0, node));
                }
                None => missing.push(part),
            }
        }
        if missing.is_empty() {
            break;
        }
    }
    for (item, node) in &stored {
        for lease in &leases {
            add_lease(transfer, *node, item, lease.clone()).await;
        }
        transfer.observe(Event::Repaired { node: *node });
    }
    let count = |parts: usize| u64::try_from(parts).unwrap_or(u64::MAX);
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

/// Keeps a repaired item under one more of its leases. Where that fails, the item is still kept under the first.
async fn add_lease(transfer: &Transfer, node: NodeId, item: &StoredItem, lease: Signed<Lease>) {
    let request = Message::bare(Request::Lease { item: item.clone(), lease });
    match transfer.ask(node, request, transfer.settings.store_deadline).await {
        Ok(Message { header: Response::Stored(_), .. }) => {}
        Ok(Message { header: Response::Refused(refusal), .. }) => {
            transfer.blame(node, &Failure::Refused { node, refusal });
        }
        Ok(_) => transfer.blame(node, &Failure::Protocol { node }),
        Err(error) => transfer.blame(node, &Failure::Call(error)),
    }
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.stored += other.stored;
        self.unplaced += other.unplaced;
    }
}
