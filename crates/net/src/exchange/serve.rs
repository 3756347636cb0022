//! The serving side of the exchange: reads requests within a byte budget, answers them, and reports broken peers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use datamesh_core::admission::RollError;
use datamesh_core::id::NodeId;
use datamesh_core::limits::WIRE_HEADER_SIZE_MAX;
use datamesh_core::wire::{Message, Refusal, Request, Response};
use futures::AsyncWriteExt;
use libp2p::PeerId;
use libp2p::swarm::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::buffers::Buffers;
use crate::counters::Tally;
use crate::exchange::Answer;
use crate::exchange::budget::{Budget, Reservation};
use crate::exchange::frame::{self, FrameError, Violation, answer_size_max};
use crate::identity::node_of;
use crate::membership::Membership;
use crate::membership::rolls::EnrolError;
use crate::peers::Fault;
use crate::settings::NetworkLimits;

/// Streams that one peer may have open. More than twice what one of us opens, see `call`.
const STREAMS_PER_PEER: usize = 256;
/// Connections of the data plane that one peer may have. More than one of us makes, and a restarted peer may have left some.
const LINKS_PER_PEER: usize = 8;
/// Peers that it takes to have all places for answering.
const PEERS_ANSWERED_MIN: usize = 4;
/// How long a stream or a connection may lie unused. Longer than a caller keeps it, so that the caller closes it.
pub(crate) const IDLE: Duration = Duration::from_secs(120);

/// Answers requests, whichever way they arrive.
pub(crate) struct Server {
    answerer: Arc<dyn Answer>,
    membership: Arc<Membership>,
    budget: Budget,
    answers: Arc<Semaphore>,
    shares: Mutex<BTreeMap<NodeId, Weak<Parts>>>,
    buffers: Buffers,
    limits: NetworkLimits,
    faults: mpsc::Sender<Fault>,
    tally: Arc<Tally>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// What one peer may have under way at a server, over all its connections.
#[derive(Debug, Clone)]
pub(crate) struct Share(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    streams: Arc<Semaphore>,
    links: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    budget: Budget,
    /// Ends the connections of the data plane that the peer has now.
    links_end: Mutex<CancellationToken>,
}

impl Share {
    fn new(limits: &NetworkLimits, links_end: CancellationToken) -> Self {
        let answer_count = (limits.answers / PEERS_ANSWERED_MIN).max(1);
        let size = limits.inbound_bytes_per_peer;
        Self::with(STREAMS_PER_PEER, LINKS_PER_PEER, answer_count, size, links_end)
    }

    fn with(
        stream_count: usize,
        link_count: usize,
        answer_count: usize,
        size: usize,
        links_end: CancellationToken,
    ) -> Self {
        Self(Arc::new(Parts {
            streams: Arc::new(Semaphore::new(stream_count)),
            links: Arc::new(Semaphore::new(link_count)),
            answers: Arc::new(Semaphore::new(answer_count)),
            budget: Budget::new(size),
            links_end: Mutex::new(links_end),
        }))
    }

    /// The share of a peer that is answered nothing.
    pub(crate) fn none() -> Self {
        Self::with(0, 0, 0, 0, CancellationToken::new())
    }

    /// A place for one more connection of the data plane, if there is one.
    pub(crate) fn link_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.links).try_acquire_owned().ok()
    }

    /// Is cancelled when the peer's connections of the data plane have to end, or the network closes.
    pub(crate) fn links_end(&self) -> CancellationToken {
        self.0.links_end().clone()
    }
}

impl Parts {
    fn links_end(&self) -> MutexGuard<'_, CancellationToken> {
        // Nothing that holds the lock can leave the token half changed.
        self.links_end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for a message in a peer's share and in the server's budget, until this is dropped.
pub(crate) struct Room {
    _share: Reservation,
    _bytes: Reservation,
    _answering: Option<[OwnedSemaphorePermit; 2]>,
}

impl Server {
    pub(crate) fn new(
        answerer: Arc<dyn Answer>,
        membership: Arc<Membership>,
        limits: &NetworkLimits,
        buffers: Buffers,
        faults: mpsc::Sender<Fault>,
        tally: Arc<Tally>,
        closing: CancellationToken,
    ) -> Self {
        Self {
            answerer,
            membership,
            budget: Budget::new(limits.inbound_bytes),
            answers: Arc::new(Semaphore::new(limits.answers)),
            shares: Mutex::default(),
            buffers,
            limits: limits.clone(),
            faults,
            tally,
            tasks: TaskTracker::new(),
            closing,
        }
    }

    /// Ends the connections of the data plane that a peer has. It may make others, unless it is denied.
    pub(crate) fn disconnect(&self, node: &NodeId) {
        let parts = self.shares().get(node).and_then(Weak::upgrade);
        if let Some(parts) = parts {
            std::mem::replace(&mut *parts.links_end(), self.closing.child_token()).cancel();
        }
    }

    fn shares(&self) -> MutexGuard<'_, BTreeMap<NodeId, Weak<Parts>>> {
        // Nothing that holds the lock can leave the map half changed.
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The share of a connected peer: one for all its connections.
    pub(crate) fn share(&self, node: NodeId) -> Share {
        let mut shares = self.shares();
        if let Some(share) = shares.get(&node).and_then(Weak::upgrade) {
            return Share(share);
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Share::new(&self.limits, self.closing.child_token());
        shares.insert(node, Arc::downgrade(&share.0));
        share
    }

    /// Runs a part of the serving, which the end of the network waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Serves a stream until it ends. A stream beyond the peer's share is dropped.
    pub(crate) fn accept(self: &Arc<Self>, peer: PeerId, share: Share, stream: Stream) {
        let (Ok(place), Some(from)) = (Arc::clone(&share.0.streams).try_acquire_owned(), node_of(&peer))
        else {
            self.tally.requests_refused.increase();
            return;
        };
        let server = Arc::clone(self);
        self.tasks.spawn(async move {
            let closing = server.closing.clone();
            let served = closing.run_until_cancelled(server.serve(from, &share, stream)).await;
            if let Some(Err(FrameError::Violation(violation))) = served {
                server.report(peer, &violation);
            }
            drop(place);
        });
    }

    /// Waits until nothing is being answered any more, after the network began to close.
    pub(crate) async fn closed(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Bytes of the budget that are not reserved.
    pub(crate) fn free(&self) -> usize {
        self.budget.free()
    }

    pub(crate) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// How long nothing may move.
    pub(crate) fn stall(&self) -> Duration {
        self.limits.stall
    }

    pub(crate) fn count_request(&self, size: usize) {
        self.tally.bytes_received.add_size(size);
    }

    pub(crate) fn count_answer(&self, size: usize) {
        self.tally.bytes_sent.add_size(size);
        self.tally.requests_answered.increase();
    }

    pub(crate) fn count_refusal(&self) {
        self.tally.requests_refused.increase();
    }

    /// Tells the swarm that a peer broke the protocol.
    pub(crate) fn report(&self, peer: PeerId, violation: &Violation) {
        // When so many faults are waiting that there is no room, one more tells nothing new.
        let _ = self.faults.try_send(Fault { peer, what: violation.to_string() });
    }

    async fn serve(&self, from: NodeId, share: &Share, mut stream: Stream) -> Result<(), FrameError> {
        while let Some(size) = frame::read_header_size(&mut stream, WIRE_HEADER_SIZE_MAX, IDLE).await? {
            if !self.serve_one(from, share, &mut stream, size).await? {
                self.refuse(&mut stream).await?;
                break;
            }
        }
        stream.close().await?;
        Ok(())
    }

    /// Serves the request behind a header of this size; `false` when there is no room for it in time.
    async fn serve_one(
        &self,
        from: NodeId,
        share: &Share,
        stream: &mut Stream,
        size: usize,
    ) -> Result<bool, FrameError> {
        let Some(header_room) = self.room(share, size).await else { return Ok(false) };
        let (header, payload_size) = frame::read_header::<Request>(stream, size, self.limits.stall).await?;
        drop(header_room);
        let Some(_room) = self.message_room(share, &header, size + payload_size).await else {
            return Ok(false);
        };
        let payload = frame::read_payload(stream, payload_size, &self.buffers, self.limits.stall).await?;
        self.count_request(size + payload_size);
        let answer = self.answer(from, Message { header, payload }).await?;
        let sent = frame::write(stream, &answer, self.limits.stall).await?;
        self.count_answer(sent);
        Ok(true)
    }

    /// Room for so many bytes; `None` when there is none in time. A peer waits for room in its own share before it takes any
    /// of what all have in common, so that a greedy one waits for itself.
    pub(crate) async fn room(&self, share: &Share, size: usize) -> Option<Room> {
        let share = self.reserve(&share.0.budget, size).await?;
        let bytes = self.reserve(&self.budget, size).await?;
        Some(Room { _share: share, _bytes: bytes, _answering: None })
    }

    /// Room for a request and its longest answer, and a place among those that are answered at once: in the peer's share, where
    /// it is waited for, then among all, where there is one or the node is busy.
    pub(crate) async fn message_room(
        &self,
        share: &Share,
        header: &Request,
        request_size: usize,
    ) -> Option<Room> {
        let (header_size_max, payload_size_max) = answer_size_max(header);
        let message_size = request_size + header_size_max + payload_size_max;
        let own_place = self.share_place(share).await?;
        let share = self.reserve(&share.0.budget, message_size).await?;
        let place = Arc::clone(&self.answers).try_acquire_owned().ok()?;
        let bytes = self.reserve(&self.budget, message_size).await?;
        Some(Room { _share: share, _bytes: bytes, _answering: Some([own_place, place]) })
    }

    async fn share_place(&self, share: &Share) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&share.0.answers).acquire_owned();
        let place = timeout(self.limits.stall, place).await.ok()?;
        Some(place.expect("places are never closed"))
    }

    async fn reserve(&self, budget: &Budget, size: usize) -> Option<Reservation> {
        timeout(self.limits.stall, budget.reserve(size)).await.ok()
    }

    /// Says that the node is busy. The stream is of no more use, since what was not read stays in it.
    async fn refuse(&self, stream: &mut Stream) -> Result<(), FrameError> {
        self.count_refusal();
        let busy = Message::bare(Response::Refused(Refusal::Busy));
        let sent = frame::write(stream, &busy, self.limits.stall).await?;
        self.tally.bytes_sent.add_size(sent);
        Ok(())
    }

    /// Answers one request: membership itself, everything else by whom the network was started with.
    pub(crate) async fn answer(
        &self,
        from: NodeId,
        request: Message<Request>,
    ) -> Result<Message<Response>, Violation> {
        let (_, answer_size) = answer_size_max(&request.header);
        let answer = match request.header {
            Request::Records { after } => Message::bare(self.membership.page(after)),
            Request::Announce(records)
                if !self.membership.takes(&from)
                    && records.iter().any(|record| record.unverified().node == from) =>
            {
                Message::bare(Response::Refused(Refusal::NotAdmitted))
            }
            Request::Rolls(known) => {
                Message::bare(Response::Roll(self.membership.rolls().lacking(&known).cloned()))
            }
            Request::Enrol(roll) => Message::bare(match self.membership.enrol(roll).await {
                Ok(news) => Response::Learned { record_count: u64::from(news) },
                Err(EnrolError::Roll(RollError::Forged)) => return Err(Violation::ForgedRoll),
                Err(EnrolError::Roll(RollError::Stranger | RollError::Ahead)) => {
                    Response::Refused(Refusal::Denied)
                }
                Err(error @ EnrolError::Disk(_)) => {
                    tracing::warn!(%error, "it has to be told again");
                    Response::Refused(Refusal::DiskFailed)
                }
            }),
            Request::Announce(records) => {
                let learned = self.membership.learn(records).await?;
                let record_count = u64::try_from(learned).expect("a count fits 64 bits");
                Message::bare(Response::Learned { record_count })
            }
            _ => self.answerer.answer(from, request).await,
        };
        assert!(answer.payload.len() <= answer_size, "an answer is no longer than its request allows");
        Ok(answer)
    }
}
