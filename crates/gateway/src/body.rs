//! Bodies of requests as sources of the engine, and what the engine gives as bodies of answers.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use datamesh_core::bucket::{Digests, Extent};
use datamesh_engine::buckets::{Buckets, ReadError};
use datamesh_engine::transfer::Temperature;
use datamesh_engine::world::{Sink, Source};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use s3s::StdError;
use s3s::crypto::{Checksum, Md5};
use s3s::stream::{ByteStream, RemainingLength};
use tokio::sync::mpsc;
use tracing::{Instrument, info_span};

use crate::s3::digests::{Algorithm, Hashers};

/// Chunks that an answer is ahead of its client: of 1 MiB each where they are of a fixed size, of 4 MiB at most.
const CHUNKS_AHEAD_MAX: usize = 2;

/// What is wrong with a body that a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// It ended before, or went on behind, the size that was said.
    Size,
    /// Its bytes are not those that the request was signed for.
    Digest,
    /// One of its chunks is not signed as it should be.
    Signature,
    /// It can't be read, or isn't in the form that was said.
    Broken,
}

/// What was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Bytes.
    pub size: u64,
    /// Their MD5.
    pub md5: [u8; 16],
    /// The digests that were asked for.
    pub digests: Digests,
}

/// A body that a client sends, as a source of the engine. Its digests are computed as it is read.
pub struct BodySource<S> {
    stream: S,
    rest: Bytes,
    expected_size: Option<u64>,
    size: u64,
    md5: Md5,
    hashers: Hashers,
    fault: Option<BodyFault>,
}

impl<S: Stream<Item = Result<Bytes, StdError>> + Send + Unpin> BodySource<S> {
    /// A source of the bytes of a stream, of which these digests are wanted.
    pub fn new(
        stream: S,
        expected_size: Option<u64>,
        algorithms: impl IntoIterator<Item = Algorithm>,
    ) -> Self {
        Self {
            stream,
            rest: Bytes::new(),
            expected_size,
            size: 0,
            md5: Md5::new(),
            hashers: Hashers::new(algorithms),
            fault: None,
        }
    }

    /// What is wrong with the body, if that is why it could not be read.
    pub const fn fault(&self) -> Option<BodyFault> {
        self.fault
    }

    /// What was received, once all of it was read.
    pub fn finish(self) -> Received {
        Received { size: self.size, md5: self.md5.finalize(), digests: self.hashers.finish() }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyFault> {
        loop {
            match self.stream.next().await {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    self.size = self.size.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                    if self.expected_size.is_some_and(|expected| self.size > expected) {
                        return Err(BodyFault::Size);
                    }
                    self.md5.update(&bytes);
                    self.hashers.update(&bytes);
                    return Ok(Some(bytes));
                }
                Some(Err(error)) => return Err(fault_of(&*error)),
                None if self.expected_size.is_some_and(|expected| self.size < expected) => {
                    return Err(BodyFault::Size);
                }
                None => return Ok(None),
            }
        }
    }
}

/// The types of these errors are not public; their texts are all that tells them apart.
fn fault_of(error: &(dyn std::error::Error + Send + Sync + 'static)) -> BodyFault {
    let text = error.to_string();
    let has = |word: &str| text.contains(word);
    if has("Sha256Mismatch") {
        BodyFault::Digest
    } else if has("SignatureMismatch") {
        BodyFault::Signature
    } else if has("Incomplete") || has("LengthMismatch") {
        BodyFault::Size
    } else {
        BodyFault::Broken
    }
}

impl<S: Stream<Item = Result<Bytes, StdError>> + Send + Unpin> Source for BodySource<S> {
    fn read<'a>(&'a mut self, buffer: &'a mut BytesMut, size_max: usize) -> BoxFuture<'a, io::Result<usize>> {
        async move {
            if self.rest.is_empty() {
                match self.next().await {
                    Ok(Some(bytes)) => self.rest = bytes,
                    Ok(None) => return Ok(0),
                    Err(fault) => {
                        self.fault = Some(fault);
                        return Err(io::Error::other("the body can't be read"));
                    }
                }
            }
            let size = self.rest.len().min(size_max);
            buffer.extend_from_slice(&self.rest.split_to(size));
            Ok(size)
        }
        .boxed()
    }
}

/// What the engine reads, as a body that knows its size. Dropped, the reading stops.
pub struct BodyStream {
    first: Option<Bytes>,
    chunks: mpsc::Receiver<Result<Bytes, ReadError>>,
    remaining: u64,
}

/// Reads a range of what lies in these objects. When this returns, the first bytes are there.
///
/// # Errors
/// [`ReadError`] when not even the first bytes can be read.
///
/// # Cancel safety
/// The reading stops when dropped.
pub async fn read(
    buckets: &Buckets,
    extents: Vec<Extent>,
    temperature: Temperature,
    range: Range<u64>,
) -> Result<BodyStream, ReadError> {
    let (sender, mut chunks) = mpsc::channel(CHUNKS_AHEAD_MAX);
    let remaining = range.end.saturating_sub(range.start);
    let buckets = buckets.clone();
    let reading = async move {
        let mut sink = ChannelSink(sender.clone());
        let copied = tokio::select! {
            copied = buckets.copy(&extents, temperature, range, &mut sink) => copied,
            () = sender.closed() => return,
        };
        if let Err(error) = copied {
            tracing::warn!(%error, "a content can't be read");
            // Who does not wait any more need not be told.
            let _ = sender.send(Err(error)).await;
        }
    };
    tokio::spawn(reading.instrument(info_span!("get")));
    let first = chunks.recv().await.transpose()?;
    Ok(BodyStream { first, chunks, remaining })
}

struct ChannelSink(mpsc::Sender<Result<Bytes, ReadError>>);

impl Sink for ChannelSink {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        async move { self.0.send(Ok(bytes)).await.map_err(gone) }.boxed()
    }
}

impl Stream for BodyStream {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => self.chunks.poll_recv(context),
        };
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.remaining = self.remaining.saturating_sub(size);
        }
        next.map(|next| next.map(|bytes| bytes.map_err(StdError::from)))
    }
}

impl ByteStream for BodyStream {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.remaining)
            .map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use datamesh_engine::world::Source;
    use futures::executor::block_on;
    use futures::stream;
    use s3s::StdError;

    use super::{BodyFault, BodySource};
    use crate::s3::digests::Algorithm;

    fn body(parts: &[&'static str]) -> Vec<Result<Bytes, StdError>> {
        parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect()
    }

    fn read_all(
        parts: Vec<Result<Bytes, StdError>>,
        expected: Option<u64>,
    ) -> Result<(Vec<u8>, super::Received), Option<BodyFault>> {
        let mut source = BodySource::new(stream::iter(parts), expected, [Algorithm::Crc32]);
        let mut buffer = BytesMut::new();
        loop {
            match block_on(source.read(&mut buffer, 3)) {
                Ok(0) => return Ok((buffer.to_vec(), source.finish())),
                Ok(_) => {}
                Err(_) => return Err(source.fault()),
            }
        }
    }

    #[test]
    fn a_body_is_read_whole_with_its_digests() {
        let (bytes, received) = read_all(body(&["1234", "", "56789"]), Some(9)).unwrap();
        assert_eq!(bytes, b"123456789");
        assert_eq!(received.size, 9);
        assert_eq!(crate::escape::hex(&received.md5), "25f9e794323b453885f5181f1b624d0b");
        assert_eq!(received.digests["crc32"], "y/Q5Jg==");
    }

    #[test]
    fn a_body_of_another_size_than_was_said_is_refused() {
        assert_eq!(read_all(body(&["1234"]), Some(5)).unwrap_err(), Some(BodyFault::Size));
        assert_eq!(read_all(body(&["1234", "56"]), Some(5)).unwrap_err(), Some(BodyFault::Size));
    }

    #[test]
    fn a_body_that_breaks_off_is_told_from_one_that_ends() {
        let broken = vec![Ok(Bytes::from_static(b"12")), Err(StdError::from("connection reset"))];
        assert_eq!(read_all(broken, None).unwrap_err(), Some(BodyFault::Broken));
    }
}
