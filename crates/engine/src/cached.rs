//! Looks in the cache before nodes are asked, and offers it what they gave.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use datamesh_codec::stripe::{Coder, DecodeError};
use datamesh_core::id::{BlockId, ItemId, NodeId};
use datamesh_core::lease::Subject;
use datamesh_core::limits::BLOCK_SIZE_MAX;
use datamesh_core::manifest::Stripe;
use datamesh_core::summary::PartId;
use datamesh_core::topology::{NodeRecord, NodeState, Role};
use datamesh_core::wire::{Message, Request};
use futures::future::{Either, join, select, try_join_all};

use crate::transfer::{Failure, GatherError, Temperature, Transfer};
use crate::world::{Cache, NoCache, World};

/// Cache nodes that are asked for one stripe at the most.
const CACHES_MAX: usize = 3;
/// Stripes that a cache node may lack in a row before it is asked for fewer.
const PATIENCE: u32 = 4;
/// From then on it is asked for one in so many.
const ASK_EVERY: u32 = 16;

/// What the sealed chunk of a stripe is made from.
pub enum Found {
    /// Its data shards, from the cache.
    Kept(Vec<u8>),
    /// Any k of its shards, from nodes.
    Gathered(Vec<Option<Bytes>>),
}

/// The cache nodes of a mesh.
///
/// They are asked before the holders, since that is what they are for. A cache that doesn't have an object is soon asked for only a
/// few of its stripes, so that it costs a get next to nothing.
pub struct CacheNodes {
    nodes: Vec<CacheNode>,
}

struct CacheNode {
    node: NodeId,
    /// Stripes that it lacked in a row.
    misses: AtomicU32,
    /// Stripes that it was not asked for because of that.
    passed_over: AtomicU32,
}

/// The world of a reading: without a cache of its own where what it reads is cold. Nor are there cache nodes then, see [`CacheNodes::of`].
pub(crate) fn world_at(world: &World, temperature: Temperature) -> World {
    let mut world = world.clone();
    if temperature == Temperature::Cold {
        world.cache = Arc::new(NoCache);
    }
    world
}

/// A stripe from the own cache, else from a cache node, else from holders. What is given hashes to what the stripe says.
///
/// # Errors
/// [`GatherError`] when no cache has it and fewer than k of its shards can be had.
///
/// # Cancel safety
/// Nothing is left behind when dropped.
pub async fn stripe(transfer: &Transfer, caches: &CacheNodes, stripe: &Stripe) -> Result<Found, GatherError> {
    if let Some(data) = transfer.world.cache.stripe(stripe).await {
        return Ok(Found::Kept(data));
    }
    match caches.stripe(transfer, stripe).await {
        Some(shards) => Ok(Found::Gathered(shards)),
        None => {
            let (gathered, ()) = join(transfer.gather(stripe), caches.tell(transfer, stripe)).await;
            gathered.map(Found::Gathered)
        }
    }
}

/// A manifest block from the own cache, else from holders, else from a cache node: it is small, and asked for once.
pub(crate) async fn block(
    transfer: &Transfer,
    caches: &CacheNodes,
    block: BlockId,
) -> Result<Bytes, GatherError> {
    if let Some(bytes) = transfer.world.cache.block(block).await {
        return Ok(bytes);
    }
    let bytes = match transfer.block(block).await {
        Ok(bytes) => bytes,
        Err(error) => caches.block(transfer, block).await.ok_or(error)?,
    };
    transfer.world.cache.offer_block(block, &bytes);
    Ok(bytes)
}

impl CacheNodes {
    /// Those of the mesh as a transfer knows it; none where what it reads is cold.
    #[must_use]
    pub fn of(transfer: &Transfer) -> Self {
        if transfer.settings.temperature == Temperature::Cold {
            return Self { nodes: Vec::new() };
        }
        let serves = |record: &&NodeRecord| {
            record.role == Role::Cache && matches!(record.state, NodeState::Active | NodeState::Draining)
        };
        let caches = transfer.topology().records().filter(serves);
        let fresh = |record: &NodeRecord| CacheNode {
            node: record.node,
            misses: AtomicU32::new(0),
            passed_over: AtomicU32::new(0),
        };
        Self { nodes: caches.take(CACHES_MAX).map(fresh).collect() }
    }

    async fn stripe(&self, transfer: &Transfer, stripe: &Stripe) -> Option<Vec<Option<Bytes>>> {
        for cache in self.order(stripe) {
            if !cache.is_worth_asking() || transfer.avoids(&cache.node) {
                continue;
            }
            if let Some(shards) = data_shards(transfer, cache.node, stripe).await {
                cache.misses.store(0, Ordering::Relaxed);
                return Some(shards);
            }
            cache.misses.fetch_add(1, Ordering::Relaxed);
        }
        None
    }

    /// Tells the cache node that the stripe falls to that somebody wants it, by asking what it knows of a part of it. When it is
    /// told again, it gets the stripe for the next one.
    async fn tell(&self, transfer: &Transfer, stripe: &Stripe) {
        let Some((cache, shard)) = self.order(stripe).next().zip(stripe.shards.first()) else { return };
        if transfer.avoids(&cache.node) {
            return;
        }
        let part = PartId { subject: Subject::Stripe(stripe.id()), item: ItemId::Shard(*shard) };
        let request = Message::bare(Request::Describe(part));
        if let Err(error) = transfer.ask(cache.node, request, transfer.settings.hedge_after).await {
            transfer.blame(cache.node, &Failure::Call(error));
        }
    }

    /// The cache nodes, beginning with the one that a stripe falls to: so several of them share an object.
    fn order(&self, stripe: &Stripe) -> impl Iterator<Item = &CacheNode> {
        let first = usize::from(stripe.id().as_bytes()[0]) % self.nodes.len().max(1);
        self.nodes[first..].iter().chain(&self.nodes[..first])
    }

    async fn block(&self, transfer: &Transfer, block: BlockId) -> Option<Bytes> {
        for CacheNode { node, .. } in &self.nodes {
            match transfer.fetch(*node, ItemId::Block(block), BLOCK_SIZE_MAX).await {
                Ok(bytes) => return Some(bytes),
                Err(failure) => transfer.blame(*node, &failure),
            }
        }
        None
    }
}

impl CacheNode {
    fn is_worth_asking(&self) -> bool {
        self.misses.load(Ordering::Relaxed) < PATIENCE
            || self.passed_over.fetch_add(1, Ordering::Relaxed) % ASK_EVERY == ASK_EVERY - 1
    }
}

/// The data shards of a stripe, all from one node: the first of them tells whether it has the others.
async fn data_shards(transfer: &Transfer, node: NodeId, stripe: &Stripe) -> Option<Vec<Option<Bytes>>> {
    let (first, others) = stripe.shards[..stripe.redundancy.data_count()].split_first()?;
    let size = stripe.shard_size();
    let first = patiently(transfer, 1, transfer.fetch(node, ItemId::Shard(*first), size)).await?;
    let first = first.inspect_err(|failure| transfer.blame(node, failure)).ok()?;
    let fetches = others.iter().map(|shard| transfer.fetch(node, ItemId::Shard(*shard), size));
    let others = patiently(transfer, stripe.redundancy.data_count(), try_join_all(fetches)).await?;
    let others = others.inspect_err(|failure| transfer.blame(node, failure)).ok()?;
    let mut shards: Vec<Option<Bytes>> = [first].into_iter().chain(others).map(Some).collect();
    shards.resize(stripe.redundancy.shard_count(), None);
    Some(shards)
}

/// What comes before holders would be asked to help out; a cache that is slower than that is no help.
async fn patiently<T>(transfer: &Transfer, item_count: usize, work: impl Future<Output = T>) -> Option<T> {
    let patience =
        transfer.settings.hedge_after.saturating_mul(u32::try_from(item_count).unwrap_or(u32::MAX));
    match select(pin!(work), transfer.world.clock.sleep(patience)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(((), _)) => None,
    }
}

impl Found {
    /// The sealed chunk. What came from nodes is offered to the cache on the way, as data shards, so that the next one
    /// neither asks nor decodes.
    pub(crate) fn sealed(
        self,
        coder: &Coder,
        stripe: &Stripe,
        cache: &dyn Cache,
    ) -> Result<Vec<u8>, DecodeError> {
        let mut data = match self {
            Self::Kept(data) => data,
            Self::Gathered(shards) => {
                let data = coder.data(stripe, &shards)?;
                cache.offer_stripe(stripe, &data);
                data
            }
        };
        data.truncate(stripe.sealed_size());
        Ok(data)
    }
}
