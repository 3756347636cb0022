//! The serving side of the exchange: reads requests within a byte budget, answers them, and reports broken peers.

use std::sync::Arc;
use std::time::Duration;

use datamesh_core::id::NodeId;
use datamesh_core::limits::WIRE_HEADER_SIZE_MAX;
use datamesh_core::wire::{Message, Refusal, Request, Response};
use futures::AsyncWriteExt;
use libp2p::PeerId;
use libp2p::swarm::Stream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::counters::Tally;
use crate::exchange::Answer;
use crate::exchange::budget::{Budget, Reservation};
use crate::exchange::frame::{self, FrameError, Violation, answer_size_max};
use crate::identity::node_of;
use crate::membership::Membership;
use crate::peers::Fault;
use crate::settings::NetworkLimits;

/// Streams that one peer may have open. More than twice what one of us opens, see `call`.
const STREAMS_PER_PEER: usize = 256;
/// How long a stream may lie unused. Longer than a caller keeps it, so that the caller closes it.
const IDLE: Duration = Duration::from_secs(120);

/// Answers the requests that arrive on streams.
pub(crate) struct Server {
    answerer: Arc<dyn Answer>,
    membership: Arc<Membership>,
    budget: Budget,
    answers: Semaphore,
    limits: NetworkLimits,
    faults: mpsc::Sender<Fault>,
    tally: Arc<Tally>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// What one peer may have under way at a server, over all its connections.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    streams: Arc<Semaphore>,
    budget: Budget,
}

impl Share {
    /// The share of a peer that is answered nothing.
    pub(crate) fn none() -> Self {
        Self { streams: Arc::new(Semaphore::new(0)), budget: Budget::new(0) }
    }
}

impl Server {
    pub(crate) fn new(
        answerer: Arc<dyn Answer>,
        membership: Arc<Membership>,
        limits: &NetworkLimits,
        faults: mpsc::Sender<Fault>,
        tally: Arc<Tally>,
        closing: CancellationToken,
    ) -> Self {
        Self {
            answerer,
            membership,
            budget: Budget::new(limits.inbound_bytes),
            answers: Semaphore::new(limits.answers),
            limits: limits.clone(),
            faults,
            tally,
            tasks: TaskTracker::new(),
            closing,
        }
    }

    /// The share of a newly connected peer.
    pub(crate) fn share(&self) -> Share {
        let budget = Budget::new(self.limits.inbound_bytes_per_peer);
        Share { streams: Arc::new(Semaphore::new(STREAMS_PER_PEER)), budget }
    }

    /// Serves a stream until it ends. A stream beyond the peer's share is dropped.
    pub(crate) fn accept(self: &Arc<Self>, peer: PeerId, share: Share, stream: Stream) {
        let (Ok(place), Some(from)) = (Arc::clone(&share.streams).try_acquire_owned(), node_of(&peer)) else {
            self.tally.requests_refused.increase();
            return;
        };
        let server = Arc::clone(self);
        self.tasks.spawn(async move {
            let closing = server.closing.clone();
            let served = closing.run_until_cancelled(server.serve(from, &share.budget, stream)).await;
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

    fn report(&self, peer: PeerId, violation: &Violation) {
        // When so many faults are waiting that there is no room, one more tells nothing new.
        let _ = self.faults.try_send(Fault { peer, what: violation.to_string() });
    }

    async fn serve(&self, from: NodeId, share: &Budget, mut stream: Stream) -> Result<(), FrameError> {
        while let Some(size) = frame::read_header_size(&mut stream, WIRE_HEADER_SIZE_MAX, IDLE).await? {
            if !self.serve_one(from, share, &mut stream, size).await? {
                self.refuse(&mut stream).await?;
                break;
            }
        }
        stream.close().await?;
        Ok(())
    }

    /// Serves the request behind a header of this size; `false` when there is no room for it in time. A peer waits for
    /// room in its own share before it takes any of what all have in common, so that a greedy one waits for itself.
    async fn serve_one(
        &self,
        from: NodeId,
        share: &Budget,
        stream: &mut Stream,
        size: usize,
    ) -> Result<bool, FrameError> {
        let Some(header_share) = self.reserve(share, size).await else { return Ok(false) };
        let Some(header_bytes) = self.reserve(&self.budget, size).await else { return Ok(false) };
        let (header, payload_size) = frame::read_header::<Request>(stream, size, self.limits.stall).await?;
        drop((header_share, header_bytes));

        let message_size = payload_size + answer_size_max(&header).1;
        let Some(_message_share) = self.reserve(share, message_size).await else { return Ok(false) };
        let Ok(_answering) = self.answers.try_acquire() else { return Ok(false) };
        let Some(_message_bytes) = self.reserve(&self.budget, message_size).await else { return Ok(false) };
        let payload = frame::read_payload(stream, payload_size, self.limits.stall).await?;
        self.tally.bytes_received.add_size(size + payload_size);
        let answer = self.answer(from, Message { header, payload }).await?;
        let sent = frame::write(stream, &answer, self.limits.stall).await?;
        self.tally.bytes_sent.add_size(sent);
        self.tally.requests_answered.increase();
        Ok(true)
    }

    async fn reserve(&self, budget: &Budget, size: usize) -> Option<Reservation> {
        timeout(self.limits.stall, budget.reserve(size)).await.ok()
    }

    /// Says that the node is busy. The stream is of no more use, since what was not read stays in it.
    async fn refuse(&self, stream: &mut Stream) -> Result<(), FrameError> {
        self.tally.requests_refused.increase();
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
