//! Bodies as the engine's sources and sinks: bounded, in their own time, and given up when the other side stalls.

use std::io;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Buf, BytesMut};
use datamesh_engine::world::{Sink, Source};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt};
use md5::{Digest, Md5};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::timeout;
use tracing::{Instrument, info_span};

use crate::escape::hex;
use crate::http::STALL;
use crate::http::answer::Problem;
use crate::http::transfers::Tracked;

/// Chunks that wait for a client to take them.
const CHUNKS_WAITING_MAX: usize = 2;

/// What a source does when its body breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnBreak {
    /// It fails: half a body is none.
    Fail,
    /// It ends there: what has come is kept.
    End,
}

/// A body that is read, and its MD5.
pub(super) struct BodySource {
    stream: BodyDataStream,
    rest: Bytes,
    on_break: OnBreak,
    /// Bytes that may still be read.
    left: u64,
    /// What was read before the body.
    prefix: Bytes,
    md5: Md5,
    /// Bytes that the body is still to give, where it has said how many it has.
    announced: Option<u64>,
    /// Whether the body has given all that it will.
    ended: bool,
    /// Why that is not all that it has.
    broken: Option<String>,
}

impl BodySource {
    /// A source of a body that says it has so many bytes, if it says so.
    pub(super) fn new(body: Body, announced: Option<u64>, on_break: OnBreak) -> Self {
        Self {
            stream: body.into_data_stream(),
            rest: Bytes::new(),
            on_break,
            left: u64::MAX,
            prefix: Bytes::new(),
            md5: Md5::new(),
            announced,
            ended: false,
            broken: None,
        }
    }

    /// Begins anew behind what was read: with these bytes, then at most so many of the body.
    pub(super) fn begin(&mut self, prefix: Bytes, body_size_max: u64) {
        self.md5 = Md5::new();
        self.md5.update(&prefix);
        (self.prefix, self.left) = (prefix, body_size_max);
    }

    /// Whether the body has given all that it will.
    pub(super) const fn ended(&self) -> bool {
        self.ended
    }

    /// Why the body ended before it should, if it did.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// The MD5 of what was read since it began, in hexadecimal.
    pub(super) fn md5(&self) -> String {
        hex(&self.md5.clone().finalize())
    }

    /// Has some of the body at hand, unless it has ended.
    async fn fill(&mut self) -> io::Result<()> {
        while self.rest.is_empty() && !self.ended {
            match timeout(STALL, self.stream.next()).await {
                Ok(Some(Ok(bytes))) => {
                    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    self.announced = self.announced.map(|left| left.saturating_sub(size));
                    self.rest = bytes;
                }
                Ok(None) if self.announced.is_some_and(|left| left > 0) => {
                    self.break_off(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the body is shorter than was said",
                    ))?;
                }
                Ok(None) => self.ended = true,
                Ok(Some(Err(error))) => self.break_off(io::Error::other(error))?,
                Err(_) => {
                    self.break_off(io::Error::new(io::ErrorKind::TimedOut, "the client sends nothing"))?;
                }
            }
        }
        Ok(())
    }

    fn break_off(&mut self, error: io::Error) -> io::Result<()> {
        self.ended = true;
        self.broken = Some(error.to_string());
        if self.on_break == OnBreak::End { Ok(()) } else { Err(error) }
    }
}

impl Source for BodySource {
    fn read<'a>(&'a mut self, buffer: &'a mut BytesMut, size_max: usize) -> BoxFuture<'a, io::Result<usize>> {
        async move {
            if !self.prefix.is_empty() {
                let size = size_max.min(self.prefix.len());
                buffer.extend_from_slice(&self.prefix.split_to(size));
                return Ok(size);
            }
            if self.left == 0 {
                return Ok(0);
            }
            self.fill().await?;
            let most = usize::try_from(self.left).unwrap_or(usize::MAX);
            let size = size_max.min(self.rest.len()).min(most);
            let taken = &self.rest[..size];
            self.md5.update(taken);
            buffer.extend_from_slice(taken);
            self.rest.advance(size);
            self.left -= u64::try_from(size).expect("it is at most what was left");
            Ok(size)
        }
        .boxed()
    }
}

/// Does something to its end, though whoever has asked for it may be gone before: what was put is named then, or given back.
///
/// # Errors
/// What it fails with.
pub(super) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work.in_current_span()).await.map_err(broken_off)?
}

/// Runs what reads the index, which blocks, where it holds nobody up.
///
/// # Errors
/// What it fails with.
pub(super) async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(job).await.map_err(broken_off)?
}

fn broken_off(error: JoinError) -> Problem {
    Problem::machine(format!("it was broken off here: {error}"))
}

/// How many bytes a body says it has.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Bytes on their way to a client.
pub(super) struct BodySink {
    sender: mpsc::Sender<Result<Bytes, Problem>>,
    tracked: Tracked,
}

impl Sink for BodySink {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        async move {
            if bytes.is_empty() {
                return Ok(());
            }
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            match timeout(STALL, self.sender.send(Ok(bytes))).await {
                Ok(Ok(())) => {
                    self.tracked.advance(size);
                    Ok(())
                }
                Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone")),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")),
            }
        }
        .boxed()
    }
}

/// A body that some work writes, as fast as the client takes it. Waits for its first bytes, so that what goes wrong before those is told
/// by a status; what goes wrong behind them breaks the body off.
///
/// # Errors
/// What the work fails with before it has written anything.
pub(super) async fn respond<F>(tracked: Tracked, work: impl FnOnce(BodySink) -> F) -> Result<Body, Problem>
where
    F: Future<Output = Result<(), Problem>> + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
    let outcome = tracked.clone();
    let work = work(BodySink { sender: sender.clone(), tracked });
    let working = async move {
        let done = work.instrument(info_span!("get")).await;
        outcome.ended(done.as_ref().err().map(Problem::message));
        if let Err(problem) = done {
            // Where nobody listens any more, nobody need know.
            let _ = timeout(STALL, sender.send(Err(problem))).await;
        }
    };
    tokio::spawn(working.in_current_span());
    let first = match receiver.recv().await {
        None => return Ok(Body::empty()),
        Some(first) => first?,
    };
    let rest =
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let rest = rest.map(|item| item.map_err(|problem| io::Error::other(problem.message().to_owned())));
    Ok(Body::from_stream(stream::iter([Ok(first)]).chain(rest)))
}

/// The bytes of something small, in memory.
pub(super) struct MemorySink(pub(super) BytesMut);

impl Sink for MemorySink {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        self.0.extend_from_slice(&bytes);
        async { Ok(()) }.boxed()
    }
}
