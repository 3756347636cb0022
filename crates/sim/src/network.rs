//! Delay, loss, reordering, partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use datamesh_core::encode::encode;
use datamesh_core::id::NodeId;
use datamesh_core::topology::{NodeRecord, Topology};
use datamesh_core::wire::{Message, Refusal, Request, Response};
use datamesh_engine::world::{CallError, Peers};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until};

use crate::draw::Draws;
use crate::fault::{Fault, Schedule};
use crate::items::with_wrong_bit;

/// What a node answers a peer's request with: the production code, or what a test puts in its place.
pub type Answer =
    Arc<dyn Fn(NodeId, Message<Request>) -> BoxFuture<'static, Message<Response>> + Send + Sync>;

/// How messages travel.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// The shortest time that a message takes.
    pub delay_min: Duration,
    /// The longest; messages overtake each other where it is more than the shortest.
    pub delay_max: Duration,
    /// How many in a hundred calls fail because the connection breaks: half of them before the node has seen the
    /// request, half of them after it has carried it out.
    pub loss_percent: u8,
    /// How long a call waits for a node that doesn't answer.
    pub stall: Duration,
}

impl Default for Link {
    /// A lossless network of 1 ms, and 30 s until a node counts as stalled.
    fn default() -> Self {
        let delay = Duration::from_millis(1);
        Self { delay_min: delay, delay_max: delay, loss_percent: 0, stall: Duration::from_secs(30) }
    }
}

/// What was asked of a node, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallKind {
    /// [`Request::Store`].
    Store,
    /// [`Request::Fetch`].
    Fetch,
    /// [`Request::Has`].
    Has,
    /// [`Request::Describe`].
    Describe,
    /// [`Request::Summarise`].
    Summarise,
    /// [`Request::Parts`].
    Parts,
    /// [`Request::Releases`].
    Releases,
    /// [`Request::Blocks`].
    Blocks,
    /// [`Request::Lease`].
    Lease,
    /// [`Request::Release`].
    Release,
    /// [`Request::Records`].
    Records,
    /// [`Request::Announce`].
    Announce,
    /// [`Request::Rolls`].
    Rolls,
    /// [`Request::Enrol`].
    Enrol,
    /// [`Request::Status`].
    Status,
    /// [`Request::Metrics`].
    Metrics,
    /// [`Request::Health`].
    Health,
    /// [`Request::Acknowledge`].
    Acknowledge,
}

impl CallKind {
    /// The kind of a request.
    #[must_use]
    pub const fn of(request: &Request) -> Self {
        match request {
            Request::Store(_) => Self::Store,
            Request::Fetch(_) => Self::Fetch,
            Request::Has(_) => Self::Has,
            Request::Describe(_) => Self::Describe,
            Request::Summarise(_) => Self::Summarise,
            Request::Parts { .. } => Self::Parts,
            Request::Releases(_) => Self::Releases,
            Request::Blocks(_) => Self::Blocks,
            Request::Lease { .. } => Self::Lease,
            Request::Release(_) => Self::Release,
            Request::Records { .. } => Self::Records,
            Request::Announce(_) => Self::Announce,
            Request::Rolls(_) => Self::Rolls,
            Request::Enrol(_) => Self::Enrol,
            Request::Status => Self::Status,
            Request::Metrics => Self::Metrics,
            Request::Health => Self::Health,
            Request::Acknowledge(_) => Self::Acknowledge,
        }
    }
}

/// Calls of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallCount {
    /// How many were made.
    pub made: u64,
    /// How many were answered.
    pub answered: u64,
    /// Payload bytes sent to nodes.
    pub sent: u64,
    /// Payload bytes received from nodes.
    pub received: u64,
    /// Bytes of the answers' headers.
    pub told: u64,
}

/// All nodes and what lies between them. Cheap to clone.
#[derive(Clone)]
pub struct SimNetwork {
    shared: Arc<Shared>,
}

struct Shared {
    link: Link,
    state: Mutex<State>,
}

struct State {
    draws: Draws,
    topology: Arc<Topology>,
    /// What those know of the mesh who know something else than everyone.
    views: BTreeMap<NodeId, Arc<Topology>>,
    nodes: BTreeMap<NodeId, Node>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    under_way: UnderWay,
}

struct Node {
    answer: Answer,
    faults: Vec<Fault>,
    counts: BTreeMap<CallKind, CallCount>,
}

/// Calls that were made and have not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Calls now.
    pub calls: u64,
    /// The most calls there ever were.
    pub calls_most: u64,
    /// Payload bytes of requests now.
    pub bytes: u64,
    /// The most payload bytes there ever were.
    pub bytes_most: u64,
}

impl SimNetwork {
    /// A network without nodes.
    #[must_use]
    pub fn new(seed: u64, link: Link) -> Self {
        let state = State {
            draws: Draws::new(seed, "network"),
            topology: Arc::default(),
            views: BTreeMap::new(),
            nodes: BTreeMap::new(),
            cuts: BTreeSet::new(),
            under_way: UnderWay::default(),
        };
        Self { shared: Arc::new(Shared { link, state: Mutex::new(state) }) }
    }

    /// Adds a node, and its record to everyone's topology.
    pub fn add_node(&self, record: NodeRecord, answer: Answer) {
        let mut state = self.state();
        state.nodes.insert(record.node, Node { answer, faults: vec![], counts: BTreeMap::new() });
        Arc::make_mut(&mut state.topology).learn(record);
    }

    /// The mesh as one participant reaches it. It need not be a node of the mesh.
    #[must_use]
    pub fn peers_of(&self, caller: NodeId) -> Arc<dyn Peers> {
        Arc::new(SimPeers { network: self.clone(), caller })
    }

    /// Changes what everyone knows of the mesh.
    pub fn change_topology(&self, change: impl FnOnce(&mut Topology)) {
        change(Arc::make_mut(&mut self.state().topology));
    }

    /// What everyone knows of the mesh.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.state().topology)
    }

    /// Has a participant know this of the mesh, whatever everyone knows.
    pub fn set_view(&self, of: NodeId, topology: Arc<Topology>) {
        self.state().views.insert(of, topology);
    }

    /// Has all participants know what everyone knows.
    pub fn clear_views(&self) {
        self.state().views.clear();
    }

    /// Adds to what is wrong with a node.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn inject(&self, node: &NodeId, fault: Fault) {
        self.state().nodes.get_mut(node).expect("a fault is of a node that was added").faults.push(fault);
    }

    /// Sets all that is wrong with a node: nothing, where there are no faults.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn set_faults(&self, node: &NodeId, faults: Vec<Fault>) {
        self.state().nodes.get_mut(node).expect("a fault is of a node that was added").faults = faults;
    }

    /// Carries a schedule out. Completes after its last change.
    ///
    /// # Panics
    /// If a node of the schedule was not added.
    ///
    /// # Cancel safety
    /// Changes that were due are made, others are not.
    pub async fn carry_out(&self, schedule: &Schedule) {
        let start = Instant::now();
        for change in schedule.changes() {
            sleep_until(start + change.at).await;
            self.set_faults(&change.node, change.faults.clone());
        }
    }

    /// Keeps messages between two participants from arriving.
    pub fn cut(&self, one: NodeId, other: NodeId) {
        self.state().cuts.insert(ordered(one, other));
    }

    /// Ends a cut.
    pub fn mend(&self, one: NodeId, other: NodeId) {
        self.state().cuts.remove(&ordered(one, other));
    }

    /// What was asked of one node.
    #[must_use]
    pub fn counts_of(&self, node: &NodeId, kind: CallKind) -> CallCount {
        let state = self.state();
        state.nodes.get(node).and_then(|node| node.counts.get(&kind)).copied().unwrap_or_default()
    }

    /// What was asked of all nodes.
    #[must_use]
    pub fn counts(&self, kind: CallKind) -> CallCount {
        let state = self.state();
        let counts = state.nodes.values().filter_map(|node| node.counts.get(&kind));
        counts.fold(CallCount::default(), |sum, count| CallCount {
            made: sum.made + count.made,
            answered: sum.answered + count.answered,
            sent: sum.sent + count.sent,
            received: sum.received + count.received,
            told: sum.told + count.told,
        })
    }

    /// What is under way, and the most that ever was.
    #[must_use]
    pub fn under_way(&self) -> UnderWay {
        self.state().under_way
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no holder of the lock panics")
    }

    async fn call(
        &self,
        caller: NodeId,
        node: NodeId,
        request: Message<Request>,
    ) -> Result<Message<Response>, CallError> {
        let Link { stall, .. } = self.shared.link;
        let kind = CallKind::of(&request.header);
        let _under_way = CallGuard::begin(self, &request.payload);
        let trip = self.begin(node, kind, &request.payload);

        sleep(trip.there).await;
        let faults = self.arrive(caller, node)?;
        if trip.loss == Some(Loss::Request) {
            return Err(broke(node));
        }
        if faults.contains(&Fault::Stalled) {
            sleep(stall).await;
            let waited_ms = u64::try_from(stall.as_millis()).unwrap_or(u64::MAX);
            return Err(CallError::TimedOut { node, waited_ms });
        }
        let response = self.answer(caller, node, request, &faults).await?;

        let slowness =
            faults.iter().map(|fault| if let Fault::Slow(by) = fault { *by } else { Duration::ZERO });
        sleep(trip.back + slowness.sum()).await;
        self.check_reach(caller, node)?;
        if trip.loss == Some(Loss::Response) {
            return Err(broke(node));
        }
        self.count_answer(node, kind, &response);
        Ok(response)
    }

    /// Counts a call and draws what its messages meet. All draws are made here, at once, so that one call's course doesn't
    /// change the others'.
    fn begin(&self, node: NodeId, kind: CallKind, payload: &Bytes) -> Trip {
        let Link { delay_min, delay_max, loss_percent, .. } = self.shared.link;
        let mut state = self.state();
        if let Some(node) = state.nodes.get_mut(&node) {
            let count = node.counts.entry(kind).or_default();
            count.made += 1;
            count.sent += size(payload);
        }
        let draws = &mut state.draws;
        let there = draws.duration(delay_min, delay_max);
        let back = draws.duration(delay_min, delay_max);
        let loss = draws.happens(loss_percent);
        let which = if draws.happens(50) { Loss::Request } else { Loss::Response };
        Trip { there, back, loss: loss.then_some(which) }
    }

    /// A request reaches a node, which may be its last.
    fn arrive(&self, caller: NodeId, node: NodeId) -> Result<Vec<Fault>, CallError> {
        self.check_reach(caller, node)?;
        let mut state = self.state();
        let faults = &mut state.nodes.get_mut(&node).expect("a node that is reached exists").faults;
        let met = faults.clone();
        for fault in faults.iter_mut() {
            if let Fault::DiesAfter(calls) = fault {
                *fault = calls.checked_sub(1).map_or(Fault::Down, Fault::DiesAfter);
            }
        }
        drop(state);
        if met.contains(&Fault::DiesAfter(0)) {
            return Err(unreachable(node, "connection refused"));
        }
        Ok(met)
    }

    fn check_reach(&self, caller: NodeId, node: NodeId) -> Result<(), CallError> {
        let state = self.state();
        if state.cuts.contains(&ordered(caller, node)) {
            return Err(unreachable(node, "no route to host"));
        }
        match state.nodes.get(&node) {
            None => Err(unreachable(node, "no such node")),
            Some(node_state) if node_state.faults.contains(&Fault::Down) => {
                Err(unreachable(node, "connection refused"))
            }
            Some(_) => Ok(()),
        }
    }

    async fn answer(
        &self,
        caller: NodeId,
        node: NodeId,
        request: Message<Request>,
        faults: &[Fault],
    ) -> Result<Message<Response>, CallError> {
        if faults.contains(&Fault::Full) && matches!(request.header, Request::Store(_)) {
            return Ok(Message::bare(Response::Refused(Refusal::Full)));
        }
        let answer = self.state().nodes.get(&node).map(|node| Arc::clone(&node.answer));
        let answer = answer.ok_or_else(|| unreachable(node, "no such node"))?;
        let mut response = answer(caller, request).await;
        if faults.contains(&Fault::Lying) {
            response.payload = with_wrong_bit(&response.payload);
        }
        if let (true, Response::Holds(holds)) = (faults.contains(&Fault::Boasting), &mut response.header) {
            holds.fill(true);
        }
        Ok(response)
    }

    fn count_answer(&self, node: NodeId, kind: CallKind, answer: &Message<Response>) {
        let told = u64::try_from(encode(&answer.header).len()).unwrap_or(u64::MAX);
        let mut state = self.state();
        if let Some(node) = state.nodes.get_mut(&node) {
            let count = node.counts.entry(kind).or_default();
            count.answered += 1;
            count.received += size(&answer.payload);
            count.told += told;
        }
    }
}

/// What the messages of one call meet.
struct Trip {
    there: Duration,
    back: Duration,
    loss: Option<Loss>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Request,
    Response,
}

/// Counts a call as under way until it ends or is dropped.
struct CallGuard<'a> {
    network: &'a SimNetwork,
    bytes: u64,
}

impl<'a> CallGuard<'a> {
    fn begin(network: &'a SimNetwork, payload: &Bytes) -> Self {
        let bytes = size(payload);
        let now = &mut network.state().under_way;
        now.calls += 1;
        now.bytes += bytes;
        now.calls_most = now.calls_most.max(now.calls);
        now.bytes_most = now.bytes_most.max(now.bytes);
        Self { network, bytes }
    }
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        let now = &mut self.network.state().under_way;
        now.calls -= 1;
        now.bytes -= self.bytes;
    }
}

struct SimPeers {
    network: SimNetwork,
    caller: NodeId,
}

impl Peers for SimPeers {
    fn topology(&self) -> Arc<Topology> {
        let state = self.network.state();
        Arc::clone(state.views.get(&self.caller).unwrap_or(&state.topology))
    }

    fn call(
        &self,
        node: NodeId,
        request: Message<Request>,
    ) -> BoxFuture<'_, Result<Message<Response>, CallError>> {
        self.network.call(self.caller, node, request).boxed()
    }
}

fn ordered(one: NodeId, other: NodeId) -> (NodeId, NodeId) {
    if one < other { (one, other) } else { (other, one) }
}

fn unreachable(node: NodeId, why: &str) -> CallError {
    CallError::Unreachable { node, why: why.to_owned() }
}

fn broke(node: NodeId) -> CallError {
    unreachable(node, "connection reset by peer")
}

fn size(payload: &Bytes) -> u64 {
    u64::try_from(payload.len()).expect("sizes fit 64 bits")
}
