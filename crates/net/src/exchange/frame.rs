//! The framing of exchange messages: a header and a payload, each behind its length, checked before allocation.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use datamesh_core::encode::{DecodeError, decode, encode};
use datamesh_core::limits::{
    AUTHORITIES_MAX, BLOCK_SIZE_MAX, METRICS_SIZE_MAX, STRIPE_SHARDS_MAX, SUMMARY_CLASSES_MAX,
    WIRE_BLOCKS_MAX, WIRE_BLOCKS_PUTS_MAX, WIRE_GROUPS_MAX, WIRE_HEADER_SIZE_MAX, WIRE_ITEMS_MAX,
    WIRE_LEASES_MAX, WIRE_PARTS_MAX, WIRE_PAYLOAD_SIZE_MAX, WIRE_PUTS_MAX, WIRE_RECORDS_MAX,
};
use datamesh_core::sign::Signed;
use datamesh_core::summary::Summary;
use datamesh_core::topology::NodeRecord;
use datamesh_core::wire::{FetchRequest, Message, Request, Response, StoredItem};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::buffers::Buffers;

const LENGTH_SIZE: usize = size_of::<u32>();
/// The longest header of an answer that holds no list of unbounded parts, bytes.
const PLAIN_HEADER_SIZE_MAX: usize = 4 * 1024;
/// Slower than this, a peer that drips bytes would hold its reservation for nothing: bytes a second.
const RATE_MIN: usize = 16 * 1024;
/// Bytes of an unwanted payload that are read at once.
const SKIP_SIZE: usize = 4 * 1024;

/// Why a message did not arrive or was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The stream or its connection ended.
    #[error("stream broke: {0}")]
    Broken(#[from] io::Error),
    /// No byte moved for as long as one may take.
    #[error("stream stalled")]
    Stalled,
    /// What arrived is no message.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// How a peer broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("header of {size} bytes where {size_max} are allowed")]
    HeaderTooLong { size: u32, size_max: usize },
    #[error("payload of {size} bytes where {size_max} are allowed")]
    PayloadTooLong { size: u32, size_max: usize },
    #[error("header: {0}")]
    Malformed(#[from] DecodeError),
    #[error("header has more parts than are allowed")]
    OutOfBounds,
    #[error("node record is forged or out of bounds")]
    ForgedRecord,
    #[error("roll is not signed by its authority, or out of bounds")]
    ForgedRoll,
    #[error("page of node records does not follow the one before")]
    PageOutOfOrder,
    #[error("answer is none to the request")]
    WrongAnswer,
}

/// The header of a message, with the bounds that are checked as soon as it is decoded.
pub(crate) trait Header: Serialize + DeserializeOwned + Send {
    /// Whether every list in it is as short as it has to be.
    fn bounded(&self) -> bool;

    /// Bytes that may follow it.
    fn payload_size_max(&self) -> usize;
}

impl Header for Request {
    fn bounded(&self) -> bool {
        match self {
            Self::Store(store) => bounded_item(&store.item),
            Self::Has(items) => items.len() <= WIRE_ITEMS_MAX,
            Self::Announce(records) => bounded_records(records),
            Self::Acknowledge(service) => service.unverified().bounded(),
            Self::Summarise(groups) => groups.len() <= WIRE_GROUPS_MAX,
            Self::Releases(puts) => puts.len() <= WIRE_PUTS_MAX,
            Self::Blocks(puts) => puts.len() <= WIRE_BLOCKS_PUTS_MAX,
            Self::Rolls(known) => known.len() <= AUTHORITIES_MAX,
            Self::Enrol(roll) => roll.unverified().bounded(),
            Self::Fetch(_)
            | Self::Describe(_)
            | Self::Parts { .. }
            | Self::Lease { .. }
            | Self::Release(_)
            | Self::Records { .. }
            | Self::Status
            | Self::Metrics
            | Self::Health => true,
        }
    }

    fn payload_size_max(&self) -> usize {
        match self {
            Self::Store(store) => match store.item {
                StoredItem::Shard { .. } => WIRE_PAYLOAD_SIZE_MAX,
                StoredItem::Block { .. } => BLOCK_SIZE_MAX,
            },
            _ => 0,
        }
    }
}

impl Header for Response {
    fn bounded(&self) -> bool {
        match self {
            Self::Holds(holds) => holds.len() <= WIRE_ITEMS_MAX,
            Self::Described(description) => {
                bounded_item(&description.item) && description.leases.len() <= WIRE_LEASES_MAX
            }
            Self::Records { records, .. } => bounded_records(records),
            Self::Summaries { changed, .. } => {
                let short = |summary: &Summary| summary.classes.len() <= SUMMARY_CLASSES_MAX;
                changed.len() <= WIRE_GROUPS_MAX && changed.iter().all(short)
            }
            Self::Parts { parts, .. } => parts.len() <= WIRE_PARTS_MAX,
            Self::Releases(releases) => releases.len() <= WIRE_PUTS_MAX,
            Self::Blocks { changed, .. } => {
                let block_count: usize = changed.iter().map(|kept| kept.blocks.len()).sum();
                changed.len() <= WIRE_BLOCKS_PUTS_MAX && block_count <= WIRE_BLOCKS_MAX
            }
            Self::Health(health) => health.bounded(),
            Self::Roll(roll) => roll.as_ref().is_none_or(|roll| roll.unverified().bounded()),
            Self::Stored(_)
            | Self::Found
            | Self::Absent
            | Self::Released { .. }
            | Self::Learned { .. }
            | Self::Status(_)
            | Self::Metrics
            | Self::Countersigned(_)
            | Self::Refused(_) => true,
        }
    }

    fn payload_size_max(&self) -> usize {
        match self {
            Self::Found => WIRE_PAYLOAD_SIZE_MAX,
            Self::Metrics => METRICS_SIZE_MAX,
            _ => 0,
        }
    }
}

fn bounded_item(item: &StoredItem) -> bool {
    match item {
        StoredItem::Shard { stripe, .. } => stripe.shards.len() <= STRIPE_SHARDS_MAX,
        StoredItem::Block { .. } => true,
    }
}

fn bounded_records(records: &[Signed<NodeRecord>]) -> bool {
    records.len() <= WIRE_RECORDS_MAX && records.iter().all(|record| record.unverified().bounded())
}

/// The longest header and payload that answer a request.
#[must_use]
pub(crate) fn answer_size_max(request: &Request) -> (usize, usize) {
    let header_size_max = match request {
        Request::Records { .. }
        | Request::Rolls(_)
        | Request::Describe(_)
        | Request::Summarise(_)
        | Request::Parts { .. }
        | Request::Releases(_)
        | Request::Blocks(_)
        | Request::Health => WIRE_HEADER_SIZE_MAX,
        _ => PLAIN_HEADER_SIZE_MAX,
    };
    let payload_size_max = match request {
        Request::Fetch(FetchRequest { size: Some(size), .. }) => {
            usize::try_from(*size).unwrap_or(usize::MAX).min(WIRE_PAYLOAD_SIZE_MAX)
        }
        Request::Fetch(FetchRequest { size: None, .. }) => WIRE_PAYLOAD_SIZE_MAX,
        Request::Metrics => METRICS_SIZE_MAX,
        _ => 0,
    };
    (header_size_max, payload_size_max)
}

/// Sends a message and says how many bytes it took.
///
/// # Cancel safety
/// When dropped, a part of the message may have been sent, and the stream is of no more use.
pub(crate) async fn write<H: Header>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &Message<H>,
    stall: Duration,
) -> Result<usize, FrameError> {
    let head = head(&[], message);
    let size = push(stream, &head, &message.payload, stall).await?;
    flush(stream, stall).await?;
    Ok(size)
}

/// What stands before a message's payload: some prefix, the header and the payload's length.
pub(crate) fn head<H: Header>(prefix: &[u8], message: &Message<H>) -> Vec<u8> {
    let header = encode(&message.header);
    let mut head = Vec::with_capacity(prefix.len() + header.len() + 2 * LENGTH_SIZE);
    head.extend_from_slice(prefix);
    head.extend_from_slice(&length(header.len()));
    head.extend_from_slice(&header);
    head.extend_from_slice(&length(message.payload.len()));
    head
}

/// Gives a stream a message, of which it may keep the end until it is flushed. Says how many bytes it took.
///
/// # Cancel safety
/// As [`write`].
pub(crate) async fn push(
    stream: &mut (impl AsyncWrite + Unpin),
    head: &[u8],
    payload: &[u8],
    stall: Duration,
) -> Result<usize, FrameError> {
    for part in [head, payload] {
        drain(stream, part, stall).await?;
    }
    Ok(head.len() + payload.len())
}

/// Has a stream send what it kept.
pub(crate) async fn flush(stream: &mut (impl AsyncWrite + Unpin), stall: Duration) -> Result<(), FrameError> {
    moved(stall, stream.flush()).await
}

/// # Panics
/// If one of our own messages is longer than any may be.
fn length(size: usize) -> [u8; LENGTH_SIZE] {
    u32::try_from(size).expect("messages are far shorter than 4 GiB").to_le_bytes()
}

/// Reads the length of a header; `None` when the stream ended where a message would begin.
pub(crate) async fn read_header_size(
    stream: &mut (impl AsyncRead + Unpin),
    size_max: usize,
    stall: Duration,
) -> Result<Option<usize>, FrameError> {
    let Some(size) = read_number(stream, stall).await? else { return Ok(None) };
    within(size, size_max).map(Some).ok_or_else(|| Violation::HeaderTooLong { size, size_max }.into())
}

/// Reads a number; `None` when the stream ended before it.
///
/// # Cancel safety
/// Nothing is lost when dropped before the first byte has arrived.
pub(crate) async fn read_number(
    stream: &mut (impl AsyncRead + Unpin),
    stall: Duration,
) -> Result<Option<u32>, FrameError> {
    await_number(stream, stall, || false).await
}

/// Reads a number that may be long in coming: whenever none has begun for as long as nothing may move, it says whether to wait
/// on. `None` when the stream ended before it.
///
/// # Cancel safety
/// As [`read_number`].
pub(crate) async fn await_number(
    stream: &mut (impl AsyncRead + Unpin),
    stall: Duration,
    mut wait_on: impl FnMut() -> bool,
) -> Result<Option<u32>, FrameError> {
    let mut first = [0];
    loop {
        match moved(stall, stream.read(&mut first)).await {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(FrameError::Stalled) if wait_on() => {}
            Err(error) => return Err(error),
        }
    }
    let mut rest = [0; LENGTH_SIZE - 1];
    fill(stream, &mut rest, stall).await?;
    Ok(Some(u32::from_le_bytes([first[0], rest[0], rest[1], rest[2]])))
}

/// Reads a payload of a length that was checked, and keeps nothing of it.
pub(crate) async fn skip_payload(
    stream: &mut (impl AsyncRead + Unpin),
    size: usize,
    stall: Duration,
) -> Result<(), FrameError> {
    let mut scratch = [0; SKIP_SIZE];
    let mut left = size;
    while left > 0 {
        let step = left.min(SKIP_SIZE);
        fill(stream, &mut scratch[..step], stall).await?;
        left -= step;
    }
    Ok(())
}

/// Reads a header of a length that was checked, and the length of the payload after it, which is checked too.
pub(crate) async fn read_header<H: Header>(
    stream: &mut (impl AsyncRead + Unpin),
    size: usize,
    stall: Duration,
) -> Result<(H, usize), FrameError> {
    let mut bytes = vec![0; size];
    fill(stream, &mut bytes, stall).await?;
    let header = parse::<H>(&bytes)?;
    let mut length = [0; LENGTH_SIZE];
    fill(stream, &mut length, stall).await?;
    let size = u32::from_le_bytes(length);
    let size_max = header.payload_size_max();
    let payload_size = within(size, size_max).ok_or(Violation::PayloadTooLong { size, size_max })?;
    Ok((header, payload_size))
}

/// Decodes and bounds at once: a short encoding of many small parts takes more room decoded.
fn parse<H: Header>(bytes: &[u8]) -> Result<H, Violation> {
    let header: H = decode(bytes)?;
    if header.bounded() { Ok(header) } else { Err(Violation::OutOfBounds) }
}

fn within(size: u32, size_max: usize) -> Option<usize> {
    usize::try_from(size).ok().filter(|size| *size <= size_max)
}

/// Reads a payload of a length that was checked and reserved.
pub(crate) async fn read_payload(
    stream: &mut (impl AsyncRead + Unpin),
    size: usize,
    buffers: &Buffers,
    stall: Duration,
) -> Result<Bytes, FrameError> {
    let mut buffer = buffers.take(size);
    fill(stream, buffer.as_mut(), stall).await?;
    Ok(buffer.freeze())
}

async fn drain(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    stall: Duration,
) -> Result<(), FrameError> {
    let patient = drain_patiently(stream, bytes, stall);
    timeout(patience(bytes.len(), stall), patient).await.map_err(|_| FrameError::Stalled)?
}

async fn drain_patiently(
    stream: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    stall: Duration,
) -> Result<(), FrameError> {
    while !bytes.is_empty() {
        let written = moved(stall, stream.write(bytes)).await?;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        bytes = &bytes[written..];
    }
    Ok(())
}

async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    stall: Duration,
) -> Result<(), FrameError> {
    let patience = patience(buffer.len(), stall);
    timeout(patience, fill_patiently(stream, buffer, stall)).await.map_err(|_| FrameError::Stalled)?
}

/// How long so many bytes may take in all.
pub(crate) fn patience(size: usize, stall: Duration) -> Duration {
    let seconds = u64::try_from(size / RATE_MIN).unwrap_or(u64::MAX);
    stall.saturating_add(Duration::from_secs(seconds))
}

async fn fill_patiently(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    stall: Duration,
) -> Result<(), FrameError> {
    let mut filled = 0;
    while filled < buffer.len() {
        let read = moved(stall, stream.read(&mut buffer[filled..])).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        filled += read;
    }
    Ok(())
}

async fn moved<T>(stall: Duration, step: impl Future<Output = io::Result<T>>) -> Result<T, FrameError> {
    timeout(stall, step).await.map_err(|_| FrameError::Stalled)?.map_err(FrameError::Broken)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use bytes::Bytes;
    use datamesh_core::encode::encode;
    use datamesh_core::id::{BlockId, ItemId};
    use datamesh_core::limits::{WIRE_HEADER_SIZE_MAX, WIRE_ITEMS_MAX};
    use datamesh_core::wire::{Message, Request, Response};
    use futures::io::Cursor;
    use futures::{AsyncRead, AsyncReadExt};

    use crate::buffers::Buffers;

    use super::{
        FrameError, Header, Violation, await_number, read_header, read_header_size, read_payload, write,
    };

    const STALL: Duration = Duration::from_millis(50);

    async fn read<H: Header>(bytes: &[u8]) -> Result<Option<Message<H>>, FrameError> {
        let mut stream = Cursor::new(bytes);
        let Some(size) = read_header_size(&mut stream, WIRE_HEADER_SIZE_MAX, STALL).await? else {
            return Ok(None);
        };
        let (header, size) = read_header(&mut stream, size, STALL).await?;
        let payload = read_payload(&mut stream, size, &Buffers::default(), STALL).await?;
        Ok(Some(Message { header, payload }))
    }

    async fn written<H: Header>(message: &Message<H>) -> Vec<u8> {
        let mut stream = Cursor::new(Vec::new());
        let size = write(&mut stream, message, STALL).await.expect("memory takes all");
        let bytes = stream.into_inner();
        assert_eq!(bytes.len(), size);
        bytes
    }

    fn framed(header: &[u8], payload_size: u32) -> Vec<u8> {
        let header_size = u32::try_from(header.len()).expect("short");
        [&header_size.to_le_bytes()[..], header, &payload_size.to_le_bytes()].concat()
    }

    #[tokio::test]
    async fn a_message_is_read_back_as_written() {
        let found = Message { header: Response::Found, payload: Bytes::from(vec![7; 200_000]) };
        assert_eq!(read(&written(&found).await).await.expect("read"), Some(found));
        let status = Message::bare(Request::Status);
        assert_eq!(read(&written(&status).await).await.expect("read"), Some(status));
        assert_eq!(read::<Request>(&[]).await.expect("a clean end"), None);
    }

    #[tokio::test]
    async fn a_frame_cut_anywhere_is_broken_and_no_violation() {
        let bytes =
            written(&Message { header: Response::Found, payload: Bytes::from_static(b"payload") }).await;
        for end in 1..bytes.len() {
            assert!(matches!(read::<Response>(&bytes[..end]).await, Err(FrameError::Broken(_))), "{end}");
        }
    }

    #[tokio::test]
    async fn lengths_are_refused_before_their_bytes_arrive() {
        let huge = u32::MAX.to_le_bytes();
        let header = read::<Request>(&huge).await.expect_err("too long");
        assert!(matches!(header, FrameError::Violation(Violation::HeaderTooLong { size: u32::MAX, .. })));
        let found = framed(&encode(&Response::Found), u32::MAX);
        let payload = read::<Response>(&found).await.expect_err("too long");
        assert!(matches!(payload, FrameError::Violation(Violation::PayloadTooLong { size: u32::MAX, .. })));
    }

    #[tokio::test]
    async fn a_payload_where_none_belongs_is_refused() {
        let status = framed(&encode(&Request::Status), 1);
        let error = read::<Request>(&status).await.expect_err("no payload allowed");
        assert!(matches!(error, FrameError::Violation(Violation::PayloadTooLong { size: 1, size_max: 0 })));
    }

    #[tokio::test]
    async fn garbage_and_too_many_parts_are_violations() {
        let garbage = read::<Request>(&framed(&[0xff; 9], 0)).await.expect_err("garbage");
        assert!(matches!(garbage, FrameError::Violation(Violation::Malformed(_))));
        let deep = read::<Request>(&framed(&vec![0x81; WIRE_HEADER_SIZE_MAX], 0)).await.expect_err("deep");
        assert!(matches!(deep, FrameError::Violation(Violation::Malformed(_))));

        let items = |count| encode(&Request::Has(vec![ItemId::Block(BlockId::of(b"")); count]));
        assert!(read::<Request>(&framed(&items(WIRE_ITEMS_MAX), 0)).await.is_ok());
        let many = read::<Request>(&framed(&items(WIRE_ITEMS_MAX + 1), 0)).await.expect_err("too many");
        assert!(matches!(many, FrameError::Violation(Violation::OutOfBounds)));
    }

    #[tokio::test]
    async fn a_silent_stream_stalls() {
        let error = read_header_size(&mut Silent, WIRE_HEADER_SIZE_MAX, STALL).await.expect_err("silence");
        assert!(matches!(error, FrameError::Stalled));
    }

    #[tokio::test]
    async fn a_number_is_waited_for_until_it_begins_and_not_within() {
        let mut waits = 0;
        let wait_on = || {
            waits += 1;
            waits < 3
        };
        let error = await_number(&mut Silent, STALL, wait_on).await.expect_err("silence");
        assert!(matches!(error, FrameError::Stalled));
        assert_eq!(waits, 3);
        let mut begun = Cursor::new([1, 2]).chain(Silent);
        let error = await_number(&mut begun, STALL, || true).await.expect_err("half a number");
        assert!(matches!(error, FrameError::Stalled));
    }

    struct Silent;

    impl AsyncRead for Silent {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }
}
