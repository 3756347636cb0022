//! Moves shards: bounded, retried, hedged. The only sender.

mod acknowledge;
mod gather;
mod locate;
mod receipt;
mod reuse;
mod spread;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, NodeId, PlacementGroup};
use datamesh_core::lease::Lease;
use datamesh_core::manifest::Stripe;
use datamesh_core::scheme::Redundancy;
use datamesh_core::sign::Signed;
use datamesh_core::topology::{NodeRecord, NodeState, Topology};
use datamesh_core::wire::{FetchRequest, Message, Refusal, Request, Response, StoreRequest, StoredItem};
use futures::future::{Either, select};

use self::acknowledge::Served;
pub use self::gather::GatherError;
pub use self::locate::Located;
use self::receipt::Receipts;
pub(crate) use self::reuse::Likelihood;
use crate::place::{Holders, block_holders, stripe_holders};
use crate::progress::{Event, Observer};
use crate::ring::{Order, Ring};
use crate::traffic::{ByDirection, Direction, Flow, FlowSettings, Offence, Patience, Priority, Rate, Share};
use crate::world::{CallError, World};

/// Nodes that a search asks beyond those that the ring names for a stripe.
pub const SEARCH_NODES_MAX: usize = 64;
/// Of the nodes that are asked for a manifest block, those that come before whom the rings before named.
const BLOCK_CANDIDATES_NEAR: usize = 8;

/// Nodes that drain which are asked what they still hold of a group.
const DRAINING_ASKED_MAX: usize = 16;

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
    /// How often a node is asked when no other node is left to turn to.
    pub attempts: u32,
    /// The pause before the second attempt.
    pub retry_delay: Duration,
    /// By how much each further pause is longer than the one before.
    pub retry_backoff: u32,
    /// The longest pause.
    pub retry_delay_max: Duration,
    /// How long a node that failed is not asked again.
    pub avoid_for: Duration,
    /// Stripes under way at once, where there is memory for so many.
    pub stripes_in_flight: usize,
    /// How much it gets where there is not enough for all.
    pub priority: Priority,
    /// How fast the bytes of one transfer may move.
    pub limits: ByDirection<Option<Rate>>,
    /// The node that this process is, if it is one: to read what it has itself costs nobody anything.
    pub own: Option<NodeId>,
    /// Who keeps what is read.
    pub temperature: Temperature,
}

/// Who keeps what is read, beside its holders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Temperature {
    /// Caches do: the one of this process and the mesh's cache nodes, which are asked first.
    #[default]
    Hot,
    /// Nobody: what is seldom read pushes out of no cache what is read often.
    Cold,
}

impl Default for TransferSettings {
    fn default() -> Self {
        Self {
            store_deadline: Duration::from_secs(10),
            fetch_deadline: Duration::from_secs(30),
            hedge_after: Duration::from_millis(500),
            attempts: 3,
            retry_delay: Duration::from_secs(1),
            retry_backoff: 2,
            retry_delay_max: Duration::from_secs(60),
            avoid_for: Duration::from_secs(30),
            stripes_in_flight: 32,
            priority: Priority::Normal,
            limits: ByDirection::default(),
            own: None,
            temperature: Temperature::default(),
        }
    }
}

impl TransferSettings {
    /// The pause after the one that was just made.
    pub(crate) fn next_pause(&self, pause: Duration) -> Duration {
        pause.saturating_mul(self.retry_backoff).min(self.retry_delay_max)
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

impl Failure {
    /// Whether the node has no room, for anybody or for this owner.
    #[must_use]
    pub const fn is_for_space(&self) -> bool {
        matches!(self, Self::Refused { refusal: Refusal::Full | Refusal::OverQuota { .. }, .. })
    }

    /// Whether the same request may succeed a little later.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::Call(_) | Self::Refused { refusal: Refusal::Busy, .. })
    }

    /// What it says about the node, for every transfer to come.
    const fn offence(&self) -> Option<Offence> {
        match self {
            Self::Lied { .. } | Self::Protocol { .. } | Self::Call(CallError::Protocol { .. }) => {
                Some(Offence::Lie)
            }
            Self::Call(CallError::Unreachable { .. } | CallError::TimedOut { .. })
            | Self::Refused { refusal: Refusal::DiskFailed, .. } => Some(Offence::Silent),
            Self::Refused { refusal: Refusal::Busy, .. } => Some(Offence::Busy),
            _ => None,
        }
    }
}

/// Moves the items of one operation and remembers which nodes failed it.
pub struct Transfer {
    pub(crate) world: World,
    topology: Arc<Topology>,
    ring: Arc<Ring>,
    /// Those before it, the latest first.
    earlier: Vec<Arc<Ring>>,
    pub(crate) settings: TransferSettings,
    observer: Arc<dyn Observer>,
    flow: Flow,
    served: Served,
    receipts: Receipts,
    troubles: Mutex<BTreeMap<NodeId, Trouble>>,
}

/// What is held against a node.
#[derive(Debug, Clone)]
struct Trouble {
    avoid_until: Duration,
    why: Failure,
}

impl Transfer {
    /// A transfer over the mesh as it is known now, in which nothing is held against anyone.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn start(world: World, settings: TransferSettings, observer: Arc<dyn Observer>) -> Self {
        let topology = world.peers.topology();
        let ring = world.rings.current(&topology, &*world.compute).await;
        let earlier = world.rings.earlier().collect();
        let TransferSettings { priority, limits, hedge_after, .. } = settings;
        let flow = Flow::start(Arc::clone(&world.traffic), FlowSettings { priority, limits, hedge_after });
        Self {
            world,
            topology,
            ring,
            earlier,
            settings,
            observer,
            flow,
            served: Served::default(),
            receipts: Receipts::default(),
            troubles: Mutex::default(),
        }
    }

    /// Waits until the transfer may move bytes: only so many transfers of a process do at once. It may until this is dropped.
    ///
    /// # Cancel safety
    /// Takes nothing when dropped; the place in the queue is lost.
    pub async fn slot(&self) -> Share {
        self.flow.slot().await
    }

    /// Waits until so many bytes of the process' memory are free and it is this transfer's turn. Whoever has a share must be
    /// able to finish without another one, and must go on being polled.
    ///
    /// # Cancel safety
    /// Takes nothing when dropped; the place in the queue is lost.
    pub async fn memory(&self, bytes: usize) -> Share {
        self.flow.memory(bytes).await
    }

    /// Waits until so many bytes of a source may be read before there is memory for them.
    ///
    /// # Cancel safety
    /// Takes nothing when dropped; the place in the queue is lost.
    pub async fn intake(&self, bytes: usize) -> Share {
        self.flow.intake(bytes).await
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

    /// All nodes in the order in which they hold a group.
    pub(crate) fn group_order(&self, group: PlacementGroup) -> Order<'_> {
        self.ring.order(group)
    }

    /// Who may still hold parts of a group that others are to hold: nodes that drain, and the likeliest of the other candidates.
    pub(crate) fn former_holders(&self, group: PlacementGroup, holders: &[NodeId]) -> Vec<NodeId> {
        let draining = self.topology.records().filter(|record| record.state == NodeState::Draining);
        let draining = draining.map(|record| record.node).take(DRAINING_ASKED_MAX);
        let further = self.further_candidates(group, holders, holders.len());
        let mut former: Vec<NodeId> = further.into_iter().take(3 * holders.len()).chain(draining).collect();
        former.retain(|node| !holders.contains(node) && !self.topology.is_absent(node));
        former.sort_unstable();
        former.dedup();
        former
    }

    /// Who may hold a manifest block of whose redundancy nothing is known, the likeliest first.
    pub(crate) fn block_candidates(&self, block: &BlockId) -> Vec<NodeId> {
        let group = PlacementGroup::of_block(block);
        let mut near: Vec<NodeId> = self.ring.order(group).take(BLOCK_CANDIDATES_NEAR).collect();
        near.extend(self.further_candidates(group, &near, BLOCK_CANDIDATES_NEAR));
        near.truncate(SEARCH_NODES_MAX);
        near
    }

    /// Who may hold what those don't hold that the ring names: first whom the rings before named for as many ranks, since what
    /// was not moved yet lies there, then the nodes that step in.
    pub(crate) fn further_candidates(
        &self,
        group: PlacementGroup,
        named: &[NodeId],
        rank_count: usize,
    ) -> Vec<NodeId> {
        let mut seen: BTreeSet<NodeId> = named.iter().copied().collect();
        let serves = |node: &NodeId| {
            self.topology.record(node).is_some_and(NodeRecord::serves) && !self.topology.is_absent(node)
        };
        let before = self.earlier.iter().flat_map(|ring| ring.order(group).take(rank_count)).filter(serves);
        let candidates = before.chain(self.ring.order(group)).filter(|node| seen.insert(*node));
        candidates.take(SEARCH_NODES_MAX).collect()
    }

    /// Tells the observer.
    pub fn observe(&self, event: Event) {
        self.observer.observe(event);
    }

    /// The nodes that failed during the operation, each with its last reason.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<NodeId, Failure> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.iter().map(|(node, trouble)| (*node, trouble.why.clone())).collect()
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
        let size = count(bytes.len());
        let kept = item.kept(&bytes).expect("an item is shorter than 4 GiB");
        let tag = lease.unverified().tag;
        let request = Message { header: Request::Store(StoreRequest { item, lease }), payload: bytes };
        let call = self.flow.begin(node, Direction::Upload, size, &Patience::default()).await;
        let deadline = self.patience(self.settings.store_deadline);
        let answer = match self.call(node, request, deadline).await {
            Ok(answer) => answer,
            Err(error) => {
                call.failed();
                return Err(error.into());
            }
        };
        match answer.header {
            Response::Stored(receipt) => {
                call.answered(size);
                if !self.receipts.prove(receipt, node, tag, kept) {
                    return Err(Failure::Lied { node, item: id });
                }
                self.world.traffic.credit(node);
                self.observe(Event::Sent { node, bytes: size });
                Ok(())
            }
            answer => {
                call.dismissed();
                Err(match answer {
                    Response::Refused(refusal) => Failure::Refused { node, refusal },
                    _ => Failure::Lied { node, item: id },
                })
            }
        }
    }

    /// Has a node send a whole item of at most so many bytes, and checks it against its id.
    ///
    /// # Errors
    /// [`Failure`] when the node hasn't sent it in time.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn fetch(&self, node: NodeId, item: ItemId, size_max: usize) -> Result<Bytes, Failure> {
        self.fetch_with(node, item, size_max, &Patience::default()).await
    }

    async fn fetch_with(
        &self,
        node: NodeId,
        item: ItemId,
        size_max: usize,
        patience: &Patience,
    ) -> Result<Bytes, Failure> {
        // Said before, so that neither side keeps more memory free for the answer than it takes.
        let request = FetchRequest::whole(item, u32::try_from(size_max).ok());
        match self.fetch_as(node, request, size_max, patience).await {
            // A node holds what it sends to no id: its disk may have lied to it. Asked so, it looks, and forgets what is rotten.
            Err(Failure::Lied { .. }) => {
                let request = FetchRequest { checked: true, ..request };
                self.fetch_as(node, request, size_max, patience).await
            }
            fetched => fetched,
        }
    }

    async fn fetch_as(
        &self,
        node: NodeId,
        request: FetchRequest,
        size_max: usize,
        patience: &Patience,
    ) -> Result<Bytes, Failure> {
        let item = request.item;
        let request = Message::bare(Request::Fetch(request));
        // How long a block is turns out when it is there; it is counted then.
        let expected = if matches!(item, ItemId::Shard(_)) { size_max } else { 0 };
        let call = self.flow.begin(node, Direction::Download, count(expected), patience).await;
        let answer = match self.call(node, request, self.patience(self.settings.fetch_deadline)).await {
            Ok(answer) => answer,
            Err(error) => {
                call.failed();
                return Err(error.into());
            }
        };
        match answer.header {
            Response::Found => {
                let bytes = answer.payload;
                call.answered(count(bytes.len()));
                if !self.world.compute.matches(item, &bytes).await {
                    return Err(Failure::Lied { node, item });
                }
                self.world.traffic.credit(node);
                self.note_served(node, item, bytes.len());
                self.observe(Event::Received { node, bytes: count(bytes.len()) });
                Ok(bytes)
            }
            Response::Absent => {
                call.answered(0);
                Err(Failure::Absent { node, item })
            }
            answer => {
                call.dismissed();
                Err(match answer {
                    Response::Refused(refusal) => Failure::Refused { node, refusal },
                    _ => Failure::Lied { node, item },
                })
            }
        }
    }

    /// Asks a node something without bytes, with a deadline.
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
        let started = self.world.clock.elapsed();
        let answer = self.call(node, request, deadline).await;
        if answer.is_ok() {
            let elapsed = self.world.clock.elapsed().saturating_sub(started);
            self.world.traffic.answered(node, elapsed);
        }
        answer
    }

    async fn call(
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
        let seconds = u64::try_from(self.world.traffic.settings().memory / SLOWEST_RATE).unwrap_or(u64::MAX);
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
            troubles.insert(node, Trouble { avoid_until, why: failure.clone() });
        }
        if !matches!(failure, Failure::Absent { .. }) {
            self.world.traffic.debit(node, failure.offence());
        }
        self.observe(Event::Failed { node, why: failure.to_string() });
    }

    /// Forgets what is held against a node, since it has just done what it was asked.
    pub(crate) fn forgive(&self, node: NodeId) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trouble) = troubles.get_mut(&node) {
            trouble.avoid_until = Duration::ZERO;
        }
    }

    /// Whether a node was found so recently not to answer that it is not asked again now. One that is full or refuses something
    /// answers.
    pub(crate) fn is_silent(&self, node: &NodeId) -> bool {
        let now = self.world.clock.elapsed();
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = troubles.get(node).filter(|trouble| trouble.avoid_until > now);
        trouble.is_some_and(|trouble| matches!(trouble.why, Failure::Call(_)))
    }

    /// Whether a node failed so recently that nothing is given to it now.
    pub(crate) fn avoids(&self, node: &NodeId) -> bool {
        let now = self.world.clock.elapsed();
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.get(node).is_some_and(|trouble| trouble.avoid_until > now)
    }
}

fn count(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}
