//! The calling side of the exchange: a request and its answer, over the data plane or a stream, within a byte budget.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datamesh_core::id::NodeId;
use datamesh_core::wire::{Message, Request, Response};
use datamesh_engine::world::CallError;
use futures::channel::oneshot;
use libp2p::swarm::Stream;
use tokio::sync::{Semaphore, mpsc};

use crate::buffers::Buffers;
use crate::command::Command;
use crate::counters::Tally;
use crate::exchange::budget::{Budget, Reservation};
use crate::exchange::frame::{self, FrameError, Violation, answer_size_max};
use crate::exchange::streams::OpenError;
use crate::identity::peer_of;
use crate::peers::Fault;
use crate::plane::dial::Plane;
use crate::plane::link::Lost;
use crate::settings::NetworkLimits;

/// Connections of the data plane that a call takes before it takes a stream: any may be an old one that has ended.
const LINKS_TRIED_MAX: usize = 2;
/// Calls to one node that are under way on streams at the same time. A node serves twice as many streams, and Yamux allows twice
/// that, so that neither end ever meets the limit of the other.
const CALLS_PER_NODE: usize = 112;
/// Streams to one node that are kept for the next call.
const IDLE_STREAMS_PER_NODE: usize = 16;
/// How long a stream is kept for the next call.
const IDLE: Duration = Duration::from_secs(45);
/// What a call takes of the budget beside its payloads: its task, its stream and its headers, bytes.
const CALL_OVERHEAD: usize = 8 * 1024;

/// Calls nodes.
pub(crate) struct Caller {
    commands: mpsc::Sender<Command>,
    faults: mpsc::Sender<Fault>,
    plane: Option<Arc<Plane>>,
    lanes: Mutex<BTreeMap<NodeId, Lane>>,
    budget: Budget,
    buffers: Buffers,
    stall: Duration,
    tally: Arc<Tally>,
}

/// What there is between this participant and one node.
struct Lane {
    places: Arc<Semaphore>,
    idle: Vec<(Instant, Stream)>,
}

/// Why a call got no answer, and whether another stream may fare better.
enum Broken {
    /// The stream was an old one and ended before any answer: the node may have closed it for being idle.
    Stale,
    For(CallError),
}

impl Caller {
    pub(crate) fn new(
        commands: mpsc::Sender<Command>,
        faults: mpsc::Sender<Fault>,
        plane: Option<Plane>,
        buffers: Buffers,
        limits: &NetworkLimits,
        tally: Arc<Tally>,
    ) -> Self {
        let budget = Budget::new(limits.outbound_bytes);
        let plane = plane.map(Arc::new);
        Self { commands, faults, plane, lanes: Mutex::default(), budget, buffers, stall: limits.stall, tally }
    }

    /// Connects to a node that will be called soon, where the data plane reaches it.
    pub(crate) fn warm(&self, node: NodeId) {
        if let Some(plane) = &self.plane {
            plane.warm(node);
        }
    }

    /// Waits until the request and its longest answer fit the budget.
    pub(crate) async fn reserve(&self, request: &Message<Request>) -> Reservation {
        let (header_size, payload_size) = answer_size_max(&request.header);
        self.budget.reserve(CALL_OVERHEAD + header_size + payload_size + request.payload.len()).await
    }

    /// Bytes of the budget that are not reserved.
    pub(crate) fn free(&self) -> usize {
        self.budget.free()
    }

    /// Calls a node. The caller has reserved what the call takes, or knows that it is little.
    pub(crate) async fn call(
        &self,
        node: NodeId,
        request: &Message<Request>,
    ) -> Result<Message<Response>, CallError> {
        let answer = match self.by_link(node, request).await {
            Some(answer) => answer,
            None => self.by_stream(node, request).await,
        };
        match &answer {
            Ok(_) => self.tally.calls_answered.increase(),
            Err(_) => self.tally.calls_unanswered.increase(),
        }
        answer
    }

    /// Calls a node over the data plane; `None` where it can't be reached so.
    async fn by_link(
        &self,
        node: NodeId,
        request: &Message<Request>,
    ) -> Option<Result<Message<Response>, CallError>> {
        let plane = self.plane.as_ref()?;
        for _ in 0..LINKS_TRIED_MAX {
            let link = plane.link(node).await?;
            let error = match link.call(request).await {
                Ok(answer) if answers(&request.header, &answer.header) => {
                    self.tally.calls_by_link.increase();
                    return Some(Ok(answer));
                }
                Ok(_) => {
                    link.close();
                    FrameError::Violation(Violation::WrongAnswer)
                }
                Err(Lost::Ended) => continue,
                Err(Lost::Stalled) => FrameError::Stalled,
                Err(Lost::Violation(violation)) => FrameError::Violation(violation),
            };
            return Some(Err(self.describe(node, error)));
        }
        None
    }

    /// Calls a node over a libp2p stream.
    async fn by_stream(
        &self,
        node: NodeId,
        request: &Message<Request>,
    ) -> Result<Message<Response>, CallError> {
        let places = Arc::clone(&self.lanes().entry(node).or_insert_with(Lane::new).places);
        let _place = places.acquire().await.expect("places are never closed");
        self.attempt(node, request).await
    }

    async fn attempt(
        &self,
        node: NodeId,
        request: &Message<Request>,
    ) -> Result<Message<Response>, CallError> {
        // Every idle stream may be stale, so one that is is followed by a fresh one and not by the next.
        if let Some(stream) = self.idle(&node) {
            match self.exchange(node, stream, request, Broken::Stale).await {
                Err(Broken::Stale) => {}
                Err(Broken::For(error)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
        }
        let stream = self.open(node).await?;
        let ended = CallError::Unreachable { node, why: "it ended the stream before its answer".to_owned() };
        match self.exchange(node, stream, request, Broken::For(ended.clone())).await {
            Err(Broken::Stale) => Err(ended),
            Err(Broken::For(error)) => Err(error),
            Ok(answer) => Ok(answer),
        }
    }

    async fn open(&self, node: NodeId) -> Result<Stream, CallError> {
        let unreachable = |why: &str| CallError::Unreachable { node, why: why.to_owned() };
        let peer = peer_of(&node);
        let (opening, opened) = oneshot::channel();
        self.commands.send(Command::Open { peer, opening }).await.map_err(|_| CallError::Closed)?;
        match opened.await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(OpenError::Unreachable(why))) => Err(unreachable(&why)),
            Ok(Err(OpenError::Unsupported)) => Err(unreachable(&OpenError::Unsupported.to_string())),
            Err(oneshot::Canceled) if self.commands.is_closed() => Err(CallError::Closed),
            Err(oneshot::Canceled) => Err(unreachable("connection closed")),
        }
    }

    async fn exchange(
        &self,
        node: NodeId,
        mut stream: Stream,
        request: &Message<Request>,
        ended: Broken,
    ) -> Result<Message<Response>, Broken> {
        let written = frame::write(&mut stream, request, self.stall).await;
        match written {
            Ok(size) => self.tally.bytes_sent.add_size(size),
            Err(FrameError::Stalled) => return Err(Broken::For(self.describe(node, FrameError::Stalled))),
            Err(_) => {}
        }
        // A node that is busy says so without reading the request to its end: its answer counts, not our broken write.
        let answer = match (self.read_answer(&mut stream, request).await, written) {
            (Ok(Some(answer)), Ok(_)) => {
                self.keep(node, stream);
                return Ok(answer);
            }
            (Ok(Some(answer)), Err(_)) => return Ok(answer),
            (Ok(None) | Err(FrameError::Broken(_)), _) => return Err(ended),
            (Err(error), _) => error,
        };
        Err(Broken::For(self.describe(node, answer)))
    }

    async fn read_answer(
        &self,
        stream: &mut Stream,
        request: &Message<Request>,
    ) -> Result<Option<Message<Response>>, FrameError> {
        let (header_size_max, payload_size_max) = answer_size_max(&request.header);
        let Some(size) = frame::read_header_size(stream, header_size_max, self.stall).await? else {
            return Ok(None);
        };
        let (header, payload_size) = frame::read_header::<Response>(stream, size, self.stall).await?;
        if payload_size > payload_size_max || !answers(&request.header, &header) {
            return Err(Violation::WrongAnswer.into());
        }
        let payload = frame::read_payload(stream, payload_size, &self.buffers, self.stall).await?;
        self.tally.bytes_received.add_size(size + payload_size);
        Ok(Some(Message { header, payload }))
    }

    fn describe(&self, node: NodeId, error: FrameError) -> CallError {
        match error {
            FrameError::Broken(error) => CallError::Unreachable { node, why: error.to_string() },
            FrameError::Stalled => {
                let waited_ms = u64::try_from(self.stall.as_millis()).unwrap_or(u64::MAX);
                CallError::TimedOut { node, waited_ms }
            }
            FrameError::Violation(violation) => {
                self.report(node, &violation);
                CallError::Protocol { node, why: violation.to_string() }
            }
        }
    }

    /// Tells the swarm that a node broke the protocol.
    pub(crate) fn report(&self, node: NodeId, violation: &Violation) {
        let fault = Fault { peer: peer_of(&node), what: violation.to_string() };
        // When so many faults are waiting that there is no room, one more tells nothing new.
        let _ = self.faults.try_send(fault);
    }

    fn idle(&self, node: &NodeId) -> Option<Stream> {
        self.lanes().get_mut(node)?.idle.pop().map(|(_, stream)| stream)
    }

    fn keep(&self, node: NodeId, stream: Stream) {
        let mut lanes = self.lanes();
        let idle = &mut lanes.entry(node).or_insert_with(Lane::new).idle;
        if idle.len() < IDLE_STREAMS_PER_NODE {
            idle.push((Instant::now(), stream));
        }
    }

    /// Closes streams that nobody used for long, and forgets nodes that nobody calls.
    pub(crate) fn sweep(&self) {
        if let Some(plane) = &self.plane {
            plane.sweep();
        }
        self.lanes().retain(|_, lane| {
            lane.idle.retain(|(since, _)| since.elapsed() < IDLE);
            !lane.idle.is_empty() || Arc::strong_count(&lane.places) > 1
        });
    }

    /// Closes every connection of the data plane and every idle stream.
    pub(crate) fn close(&self) {
        if let Some(plane) = &self.plane {
            plane.close();
        }
        self.lanes().clear();
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Lane>> {
        // Nothing that holds the lock can leave the map half changed.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(CALLS_PER_NODE)), idle: Vec::new() }
    }
}

/// Whether an answer is one that the request may get.
fn answers(request: &Request, response: &Response) -> bool {
    match (request, response) {
        (_, Response::Refused(_))
        | (Request::Store(_), Response::Stored(_))
        | (Request::Fetch(_), Response::Found | Response::Absent)
        | (Request::Describe(_), Response::Described(_) | Response::Absent)
        | (Request::Parts { .. }, Response::Parts { .. })
        | (Request::Releases(_), Response::Releases(_))
        | (Request::Lease { .. }, Response::Stored(_) | Response::Absent)
        | (Request::Release(_), Response::Released { .. })
        | (Request::Records { .. }, Response::Records { .. })
        | (Request::Announce(_), Response::Learned { .. })
        | (Request::Rolls(_), Response::Roll(_))
        | (Request::Enrol(_), Response::Learned { .. })
        | (Request::Status, Response::Status(_))
        | (Request::Metrics, Response::Metrics)
        | (Request::Health, Response::Health(_))
        | (Request::Acknowledge(_), Response::Countersigned(_)) => true,
        (Request::Has(items), Response::Holds(holds)) => items.len() == holds.len(),
        (Request::Blocks(puts), Response::Blocks { put_count, changed }) => {
            let put_count = usize::try_from(*put_count).unwrap_or(usize::MAX);
            let mut asked = puts.iter().take(put_count).map(|(put, _)| put);
            put_count <= puts.len()
                && (put_count == 0) == puts.is_empty()
                && changed.iter().all(|kept| asked.any(|put| *put == kept.put))
        }
        (Request::Summarise(groups), Response::Summaries { group_count, changed }) => {
            let group_count = usize::try_from(*group_count).unwrap_or(usize::MAX);
            let mut asked = groups.iter().take(group_count).map(|(group, _)| group);
            group_count <= groups.len()
                && (group_count == 0) == groups.is_empty()
                && changed.iter().all(|summary| asked.any(|group| *group == summary.group))
        }
        _ => false,
    }
}
