//! One connection of the data plane as its caller sees it: many calls under way at once, answered in any order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use datamesh_core::id::NodeId;
use datamesh_core::wire::{Message, Request, Response};
use futures::channel::oneshot;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::buffers::Buffers;
use crate::counters::Tally;
use crate::exchange::frame::{self, FrameError, Violation, answer_size_max};
use crate::plane::CALLS_PER_LINK;
use crate::plane::half::{ReceiveHalf, SendHalf};

/// A call's number on its connection.
type Number = u32;

/// Why a call got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The connection ended. Whether the request was carried out is not known.
    Ended,
    /// Nothing moved for as long as it may take.
    Stalled,
    /// What came is no answer.
    Violation(Violation),
}

impl Lost {
    fn from(error: &FrameError) -> Self {
        match error {
            FrameError::Broken(_) => Self::Ended,
            FrameError::Stalled => Self::Stalled,
            FrameError::Violation(violation) => Self::Violation(violation.clone()),
        }
    }
}

/// A connection to a node. The last one who holds it ends it.
pub(crate) struct Link {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Outgoing>,
    places: Arc<Semaphore>,
}

struct Outgoing {
    number: Number,
    head: Vec<u8>,
    payload: Bytes,
}

/// What the callers and the connection's two tasks have in common.
struct Shared {
    node: NodeId,
    next: AtomicU32,
    awaited: Mutex<BTreeMap<Number, Awaited>>,
    /// Bytes of requests and answers that are under way.
    outstanding: AtomicUsize,
    ended: AtomicBool,
    stall: Duration,
    clock: Instant,
    /// Milliseconds after which bytes last moved, by the clock above.
    moved_ms: AtomicUsize,
    buffers: Buffers,
    tally: Arc<Tally>,
    closing: CancellationToken,
}

/// An answer that is to come.
struct Awaited {
    header_size_max: usize,
    payload_size_max: usize,
    /// Bytes that the call counts for.
    weight: usize,
    /// When its answer has to be here.
    due: Instant,
    /// Who waits for it; `None` once nobody does.
    reply: Option<oneshot::Sender<Result<Message<Response>, Lost>>>,
    _place: OwnedSemaphorePermit,
}

/// Takes a call back when its caller goes.
struct Waiting<'a> {
    shared: &'a Shared,
    number: Number,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(awaited) = self.shared.awaited().get_mut(&self.number) {
            // Its answer still arrives, and is passed over.
            awaited.reply = None;
        }
    }
}

impl Link {
    /// Runs a connection until it ends.
    pub(crate) fn start(
        node: NodeId,
        (send, receive): (SendHalf, ReceiveHalf),
        stall: Duration,
        buffers: Buffers,
        tally: Arc<Tally>,
        closing: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared {
            node,
            next: AtomicU32::new(0),
            awaited: Mutex::default(),
            outstanding: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            stall,
            clock: Instant::now(),
            moved_ms: AtomicUsize::new(0),
            buffers,
            tally,
            closing,
        });
        let (requests, waiting) = mpsc::channel(CALLS_PER_LINK);
        let (sender, receiver) = (Arc::clone(&shared), Arc::clone(&shared));
        tokio::spawn(async move {
            let sent = sender.closing.run_until_cancelled(send_requests(send, waiting, &sender, stall)).await;
            sender.end(&sent.unwrap_or(Ok(())));
        });
        tokio::spawn(async move {
            let read = receiver.closing.run_until_cancelled(receive_answers(receive, &receiver, stall)).await;
            receiver.end(&read.unwrap_or(Ok(())));
        });
        Self { shared, requests, places: Arc::new(Semaphore::new(CALLS_PER_LINK)) }
    }

    /// Calls the node at the other end.
    ///
    /// # Cancel safety
    /// When dropped, the node may or may not have seen the request.
    pub(crate) async fn call(&self, request: &Message<Request>) -> Result<Message<Response>, Lost> {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("places are never closed");
        let (header_size_max, payload_size_max) = answer_size_max(&request.header);
        let (reply, replied) = oneshot::channel();
        let weight = request.payload.len() + payload_size_max;
        let awaited = Awaited {
            header_size_max,
            payload_size_max,
            weight,
            due: Instant::now() + frame::patience(self.outstanding() + weight, self.shared.stall),
            reply: Some(reply),
            _place: place,
        };
        let number = self.shared.expect(awaited).ok_or(Lost::Ended)?;
        let _waiting = Waiting { shared: &self.shared, number };
        let head = frame::head(&number.to_le_bytes(), request);
        let outgoing = Outgoing { number, head, payload: request.payload.clone() };
        self.requests.send(outgoing).await.map_err(|_| Lost::Ended)?;
        replied.await.unwrap_or(Err(Lost::Ended))
    }

    /// Bytes of requests and answers that are under way.
    pub(crate) fn outstanding(&self) -> usize {
        self.shared.outstanding.load(Ordering::Relaxed)
    }

    /// Whether no call can be made any more.
    pub(crate) fn ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// Whether nothing has moved and nothing was awaited for this long.
    pub(crate) fn idle_for(&self, duration: Duration) -> bool {
        self.shared.awaited().is_empty() && self.shared.still_for(duration)
    }

    /// Ends the connection.
    pub(crate) fn close(&self) {
        self.shared.closing.cancel();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// Numbers a call whose answer is to come; `None` when the connection has ended.
    fn expect(&self, call: Awaited) -> Option<Number> {
        let mut awaited = self.awaited();
        if self.ended.load(Ordering::Acquire) {
            return None;
        }
        if awaited.is_empty() {
            self.moved();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.outstanding.fetch_add(call.weight, Ordering::Relaxed);
        awaited.insert(number, call);
        Some(number)
    }

    /// The bounds of an answer that has begun to arrive; `None` if none with this number is awaited.
    fn bounds(&self, number: Number) -> Option<(usize, usize, bool)> {
        let awaited = self.awaited();
        let call = awaited.get(&number)?;
        let wanted = call.reply.as_ref().is_some_and(|reply| !reply.is_canceled());
        Some((call.header_size_max, call.payload_size_max, wanted))
    }

    fn finish(&self, number: Number) -> Option<Awaited> {
        let call = self.awaited().remove(&number)?;
        self.outstanding.fetch_sub(call.weight, Ordering::Relaxed);
        Some(call)
    }

    /// Takes a request back that nobody waits for any more and that was not sent yet.
    fn withdrawn(&self, number: Number) -> bool {
        let wanted = self.bounds(number).is_none_or(|(_, _, wanted)| wanted);
        if !wanted {
            self.finish(number);
        }
        !wanted
    }

    /// Whether the call that has waited longest should have been answered. Looked at whenever an answer has arrived, or none has
    /// for long, so that no call needs a timer. Those that were given up count too: they hold their places.
    fn overdue(&self) -> bool {
        let awaited = self.awaited();
        awaited.first_key_value().is_some_and(|(_, call)| Instant::now() >= call.due)
    }

    /// Whether it is no stall that nothing arrives: nothing is awaited, or requests are still leaving.
    fn may_wait(&self, stall: Duration) -> bool {
        let awaited = self.awaited();
        let oldest = awaited.first_key_value().map(|(_, call)| call);
        oldest.is_none_or(|call| !self.still_for(stall) && Instant::now() < call.due)
    }

    /// Tells everyone who waits that there will be no answer.
    fn end(&self, how: &Result<(), FrameError>) {
        let lost = match how {
            Ok(()) => Lost::Ended,
            Err(error) => {
                tracing::debug!(node = %self.node, %error, "data connection ended");
                Lost::from(error)
            }
        };
        let calls = {
            let mut awaited = self.awaited();
            self.ended.store(true, Ordering::Release);
            std::mem::take(&mut *awaited)
        };
        self.closing.cancel();
        for call in calls.into_values() {
            self.outstanding.fetch_sub(call.weight, Ordering::Relaxed);
            if let Some(reply) = call.reply {
                // The caller may have gone meanwhile.
                let _ = reply.send(Err(lost.clone()));
            }
        }
    }

    fn moved(&self) {
        let now = usize::try_from(self.clock.elapsed().as_millis()).unwrap_or(usize::MAX);
        self.moved_ms.store(now, Ordering::Relaxed);
    }

    fn still_for(&self, duration: Duration) -> bool {
        let moved = u64::try_from(self.moved_ms.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
        self.clock.elapsed() >= Duration::from_millis(moved) + duration
    }

    fn awaited(&self) -> MutexGuard<'_, BTreeMap<Number, Awaited>> {
        // Nothing that holds the lock can leave the map half changed.
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends requests as they come. What comes while others are being sent leaves together with them.
async fn send_requests(
    mut half: SendHalf,
    mut requests: mpsc::Receiver<Outgoing>,
    shared: &Shared,
    stall: Duration,
) -> Result<(), FrameError> {
    while let Some(first) = requests.recv().await {
        let mut next = Some(first);
        while let Some(Outgoing { number, head, payload }) = next {
            if !shared.withdrawn(number) {
                let size = frame::push(&mut half, &head, &payload, stall).await?;
                shared.tally.bytes_sent.add_size(size);
                shared.moved();
            }
            drop(payload);
            next = requests.try_recv().ok();
        }
        frame::flush(&mut half, stall).await?;
        shared.moved();
        half.rest();
    }
    Ok(())
}

/// Reads answers and gives each to who waits for it.
async fn receive_answers(mut half: ReceiveHalf, shared: &Shared, stall: Duration) -> Result<(), FrameError> {
    loop {
        if shared.overdue() {
            return Err(FrameError::Stalled);
        }
        let Some(number) = frame::await_number(&mut half, stall, || shared.may_wait(stall)).await? else {
            return Ok(());
        };
        let Some((header_size_max, payload_size_max, wanted)) = shared.bounds(number) else {
            return Err(Violation::WrongAnswer.into());
        };
        let size = frame::read_header_size(&mut half, header_size_max, stall).await?;
        let size = size.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))?;
        let (header, payload_size) = frame::read_header::<Response>(&mut half, size, stall).await?;
        if payload_size > payload_size_max {
            return Err(Violation::WrongAnswer.into());
        }
        let payload = if wanted {
            Some(frame::read_payload(&mut half, payload_size, &shared.buffers, stall).await?)
        } else {
            frame::skip_payload(&mut half, payload_size, stall).await?;
            None
        };
        shared.tally.bytes_received.add_size(size + payload_size);
        shared.moved();
        let call = shared.finish(number).ok_or(Violation::WrongAnswer)?;
        if let (Some(reply), Some(payload)) = (call.reply, payload) {
            // The caller may have gone meanwhile.
            let _ = reply.send(Ok(Message { header, payload }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datamesh_core::limits::WIRE_HEADER_SIZE_MAX;
    use datamesh_core::wire::{Message, Request, Response};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{sleep, timeout};
    use tokio_util::sync::CancellationToken;

    use super::{Link, Lost};
    use crate::buffers::Buffers;
    use crate::exchange::frame;
    use crate::identity::Identity;
    use crate::plane::half::halves;
    use crate::plane::handshake::{Credentials, Secured};

    const STALL: Duration = Duration::from_millis(200);
    const PATIENCE: Duration = Duration::from_secs(20);

    fn credentials() -> Credentials {
        let identity = Identity::generate().expect("entropy");
        Credentials::new(&identity.keypair(), None, None).expect("a certificate")
    }

    /// Both ends of a connection.
    async fn connected() -> (Secured, Secured) {
        let (caller, node) = (credentials(), credentials());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let dialled = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        let (accepted, _) = listener.accept().await.expect("accepted");
        let (dialled, accepted) = tokio::join!(caller.greet(dialled), node.welcome(accepted));
        (dialled.expect("shaken hands"), accepted.expect("shaken hands"))
    }

    async fn answer_all_but_the_first(secured: Secured) {
        let (mut send, mut receive) = halves(secured);
        while let Ok(Some(number)) = frame::read_number(&mut receive, PATIENCE).await {
            let size = frame::read_header_size(&mut receive, WIRE_HEADER_SIZE_MAX, PATIENCE).await;
            let size = size.expect("arrives").expect("a header");
            frame::read_header::<Request>(&mut receive, size, PATIENCE).await.expect("a request");
            if number > 0 {
                let head = frame::head(&number.to_le_bytes(), &Message::bare(Response::Absent));
                frame::push(&mut send, &head, &[], PATIENCE).await.expect("sent");
                frame::flush(&mut send, PATIENCE).await.expect("sent");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_call_that_is_never_answered_ends_though_others_are() {
        let (own, other) = connected().await;
        let (node, closing) = (own.node, CancellationToken::new());
        let answering = tokio::spawn(answer_all_but_the_first(other));
        let link = Link::start(node, halves(own), STALL, Buffers::default(), Default::default(), closing);
        let status = Message::bare(Request::Status);
        let others = async {
            while link.call(&status).await.is_ok() {
                sleep(STALL / 10).await;
            }
        };
        let (first, ()) = timeout(PATIENCE, async { tokio::join!(link.call(&status), others) })
            .await
            .expect("it ends by itself");
        assert_eq!(first, Err(Lost::Stalled));
        assert!(link.ended());
        answering.await.expect("its connection ended");
    }
}
