//! Moves shards: bounded, retried, hedged. The only sender.

mod gather;
mod locate;
mod reuse;
mod spread;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, NodeId, PlacementGroup};
use datamesh_core::lease::Lease;
use datamesh_core::manifest::Stripe;
use datamesh_core::scheme::Redundancy;
use datamesh_core::sign::Signed;
use datamesh_core::topology::Topology;
use datamesh_core::wire::{FetchRequest, Message, Refusal, Request, Response, StoreRequest, StoredItem};
use futures::future::{Either, select};

pub use self::gather::GatherError;
pub use self::locate::Located;
pub(crate) use self::reuse::Likelihood;
use crate::place::{Holders, block_holders, stripe_holders};
use crate::progress::{Event, Observer};
use crate::ring::Ring;
use crate::world::{CallError, World};

/// Nodes that a search asks beyond those that the ring names for a stripe.
pub const SEARCH_NODES_MAX: usize = 64;

/// Bytes a second of all transfers together below which a line is as good as none.
const SLOWEST_RATE: usize = 64 * 1024;

/// How patiently bytes are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferSettings {
    /// How long a node may take to store one item before another is given it, beyond what all bytes in memory take at the
    /// slowest rate that is put up with. The transport ends a call that stalls long before.
    pub store_deadline: Duration,
    /// How long a node may take to send one item, beyond the same.
    pub fetch_deadline: Duration,
    /// How long a stripe's fetches may take before one more shard is asked for.
    pub hedge_after: Duration,
    /// How often a node is asked to store an item when no other node is left to give it to.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles with each further one.
    pub retry_delay: Duration,
    /// How long a node that failed is not asked again.
    pub avoid_for: Duration,
    /// Stripes under way at once.
    pub stripes_in_flight: usize,
    /// Bytes of chunks and shards in memory at once.
    pub memory: usize,
}

impl Default for TransferSettings {
    fn default() -> Self {
        Self {
            store_deadline: Duration::from_secs(10),
            fetch_deadline: Duration::from_secs(30),
            hedge_after: Duration::from_millis(500),
            attempts: 3,
            retry_delay: Duration::from_secs(1),
            avoid_for: Duration::from_secs(30),
            stripes_in_flight: 8,
            memory: 32 << 20,
        }
    }
}

/// Why a node did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There was no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It refused.
    #[error("node {node} refused: {refusal}")]
    Refused {
        /// Which node.
        node: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// It does not hold the item.
    #[error("node {node} does not hold {item}")]
    Absent {
        /// Which node.
        node: NodeId,
        /// Which item.
        item: ItemId,
    },
    /// It answered another question than it was asked.
    #[error("node {node} gave an answer to another question")]
    Protocol {
        /// Which node.
        node: NodeId,
    },
    /// It sent other bytes than the item's, a receipt that proves nothing, or an answer to another question.
    #[error("node {node} lied about {item}")]
    Lied {
        /// Which node.
        node: NodeId,
        /// Which item.
        item: ItemId,
    },
}

/// Moves the items of one operation and remembers which nodes failed it.
pub struct Transfer {
    pub(crate) world: World,
    topology: Arc<Topology>,
    ring: Ring,
    pub(crate) settings: TransferSettings,
    observer: Arc<dyn Observer>,
    troubles: Mutex<BTreeMap<NodeId, Trouble>>,
}

/// What is held against a node.
#[derive(Debug, Clone)]
struct Trouble {
    avoid_until: Duration,
    slow_count: u32,
    why: Option<Failure>,
}

impl Transfer {
    /// A transfer over the mesh as it is known now, in which nothing is held against anyone.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn start(world: World, settings: TransferSettings, observer: Arc<dyn Observer>) -> Self {
        let topology = world.peers.topology();
        let known = Arc::clone(&topology);
        // A ring of thousands of nodes takes a while to build.
        let ring = world.compute.output(move || Ring::of(&known)).await;
        Self { world, topology, ring, settings, observer, troubles: Mutex::new(BTreeMap::new()) }
    }

    /// The mesh as it was known when the transfer started.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Who is to hold the shards of a stripe.
    #[must_use]
    pub fn stripe_holders(&self, stripe: &Stripe) -> Holders<'_> {
        stripe_holders(&self.ring, &stripe.id(), stripe.redundancy)
    }

    /// Who is to hold the replicas of a manifest block.
    #[must_use]
    pub fn block_holders(&self, block: &BlockId, redundancy: Redundancy) -> Holders<'_> {
        block_holders(&self.ring, block, redundancy)
    }

    /// Who may hold a manifest block of whose redundancy nothing is known, the likeliest first.
    pub(crate) fn block_candidates(&self, block: &BlockId) -> Vec<NodeId> {
        self.ring.order(PlacementGroup::of_block(block)).take(SEARCH_NODES_MAX).collect()
    }

    /// Tells the observer.
    pub fn observe(&self, event: Event) {
        self.observer.observe(event);
    }

    /// The nodes that failed during the operation, each with its last reason.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<NodeId, Failure> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |(node, trouble): (&NodeId, &Trouble)| Some((*node, trouble.why.clone()?));
        troubles.iter().filter_map(failed).collect()
    }

    /// Has a node keep an item, and checks its receipt.
    ///
    /// # Errors
    /// [`Failure`] when the node has given no valid receipt in time.
    ///
    /// # Cancel safety
    /// When dropped, the node may or may not keep the item.
    pub async fn store(
        &self,
        node: NodeId,
        item: StoredItem,
        lease: Signed<Lease>,
        bytes: Bytes,
    ) -> Result<(), Failure> {
        let id = item.id().expect("an item to store names a shard that its stripe has");
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let tag = lease.unverified().tag;
        let request = Message { header: Request::Store(StoreRequest { item, lease }), payload: bytes };
        let answer = self.ask(node, request, self.patience(self.settings.store_deadline)).await?;
        match answer.header {
            Response::Stored(receipt) => {
                let promised = receipt.verify().is_ok_and(|receipt| {
                    receipt.node == node
                        && receipt.item == id
                        && receipt.tag == tag
                        && u64::from(receipt.size) == size
                });
                if !promised {
                    return Err(Failure::Lied { node, item: id });
                }
                self.observe(Event::Sent { node, bytes: size });
                Ok(())
            }
            Response::Refused(refusal) => Err(Failure::Refused { node, refusal }),
            _ => Err(Failure::Lied { node, item: id }),
        }
    }

    /// Has a node send a whole item, and checks it against its id.
    ///
    /// # Errors
    /// [`Failure`] when the node hasn't sent it in time.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn fetch(&self, node: NodeId, item: ItemId) -> Result<Bytes, Failure> {
        let request = Message::bare(Request::Fetch(FetchRequest { item, offset: 0, size: None }));
        let answer = self.ask(node, request, self.patience(self.settings.fetch_deadline)).await?;
        match answer.header {
            Response::Found => {
                let bytes = answer.payload;
                let checked = bytes.clone();
                if !self.world.compute.output(move || item.matches(&checked)).await {
                    return Err(Failure::Lied { node, item });
                }
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                self.observe(Event::Received { node, bytes: size });
                Ok(bytes)
            }
            Response::Absent => Err(Failure::Absent { node, item }),
            Response::Refused(refusal) => Err(Failure::Refused { node, refusal }),
            _ => Err(Failure::Lied { node, item }),
        }
    }

    /// Asks a node, with a deadline.
    ///
    /// # Errors
    /// [`CallError`] when there is no answer by then.
    ///
    /// # Cancel safety
    /// When dropped, the node may or may not have seen the request.
    pub async fn ask(
        &self,
        node: NodeId,
        request: Message<Request>,
        deadline: Duration,
    ) -> Result<Message<Response>, CallError> {
        let call = self.world.peers.call(node, request);
        match select(call, self.world.clock.sleep(deadline)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => {
                let waited_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
                Err(CallError::TimedOut { node, waited_ms })
            }
        }
    }

    /// How long a call may take that moves bytes: it shares the line with all others.
    fn patience(&self, base: Duration) -> Duration {
        let seconds = u64::try_from(self.settings.memory / SLOWEST_RATE).unwrap_or(u64::MAX);
        base.saturating_add(Duration::from_secs(seconds))
    }

    /// Holds a failure against a node: it is asked last, or not at all, for a while.
    pub(crate) fn blame(&self, node: NodeId, failure: &Failure) {
        // A node that has not got an item, or may not take it under some lease, is none the worse for others.
        let blameless = matches!(
            failure,
            Failure::Absent { .. }
                | Failure::Refused {
                    refusal: Refusal::Released | Refusal::TooManyLeases | Refusal::InvalidLease,
                    ..
                }
        );
        if !blameless {
            let avoid_until = self.world.clock.elapsed() + self.settings.avoid_for;
            let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
            let slow_count = troubles.get(&node).map_or(0, |trouble| trouble.slow_count);
            troubles.insert(node, Trouble { avoid_until, slow_count, why: Some(failure.clone()) });
        }
        self.observe(Event::Failed { node, why: failure.to_string() });
    }

    /// Notes that others had to be asked because a node was slow.
    pub(crate) fn note_slow(&self, node: NodeId) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = troubles.entry(node).or_insert_with(|| Trouble {
            avoid_until: Duration::ZERO,
            slow_count: 0,
            why: None,
        });
        trouble.slow_count = trouble.slow_count.saturating_add(1);
    }

    /// Forgets what is held against a node, since it has just done what it was asked.
    pub(crate) fn forgive(&self, node: NodeId) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trouble) = troubles.get_mut(&node) {
            trouble.avoid_until = Duration::ZERO;
        }
    }

    /// Whether a node failed so recently that nothing is given to it now.
    pub(crate) fn avoids(&self, node: &NodeId) -> bool {
        self.reluctance(node).0
    }

    /// How reluctantly a node is asked: by recent failure, then by how often others had to help out.
    pub(crate) fn reluctance(&self, node: &NodeId) -> (bool, u32) {
        let now = self.world.clock.elapsed();
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.get(node).map_or((false, 0), |trouble| (trouble.avoid_until > now, trouble.slow_count))
    }
}
