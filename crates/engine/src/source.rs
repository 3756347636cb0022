//! Cuts a source into chunks and takes the digest of all of it on the way.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use datamesh_codec::chunk::{Chunker, Rest};
use datamesh_core::id::ID_SIZE;
use futures::future::{Either, select};

use crate::traffic::Share;
use crate::transfer::Transfer;
use crate::world::Source;

/// Bytes asked of the source at once.
const READ_SIZE: usize = 1 << 20;
/// The beginning of a chunk that is read at once, bytes: what is as short waits for nobody, and who sends nothing keeps nobody
/// waiting.
const BEGINNING_SIZE: usize = 64 << 10;
/// How long a source may take to give the rest, before others may read beside it. One that is slow needs little memory.
const PATIENCE: Duration = Duration::from_millis(100);

/// One chunk of a source.
pub(crate) struct Chunk {
    pub(crate) bytes: Bytes,
    /// The BLAKE3 hash of all of the source up to the end of this chunk.
    pub(crate) digest_to_here: [u8; ID_SIZE],
    /// Keeps others from reading, until there is memory for this one; `None` for a short one, or where the source was slow.
    pub(crate) intake: Option<Share>,
}

impl Chunk {
    /// The only chunk of a source without bytes.
    pub(crate) fn empty() -> Self {
        Self { bytes: Bytes::new(), digest_to_here: *blake3::hash(b"").as_bytes(), intake: None }
    }
}

/// The chunks of a source, in order.
pub(crate) struct Chunks<'a> {
    transfer: &'a Transfer,
    source: &'a mut dyn Source,
    chunker: Chunker,
    buffer: BytesMut,
    hasher: blake3::Hasher,
    rest: Rest,
    size: u64,
}

impl<'a> Chunks<'a> {
    pub(crate) fn new(transfer: &'a Transfer, source: &'a mut dyn Source, chunker: Chunker) -> Self {
        let hasher = blake3::Hasher::new();
        Self { transfer, source, chunker, buffer: BytesMut::new(), hasher, rest: Rest::MoreFollows, size: 0 }
    }

    /// The next chunk; `None` after the last.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Chunk>> {
        let intake = self.fill().await?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let (chunker, rest) = (self.chunker.clone(), self.rest);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut hasher = std::mem::take(&mut self.hasher);
        let cut = move || {
            let size =
                chunker.next_size(&buffer, rest).expect("the buffer is full or holds all that is left");
            let chunk = buffer.split_to(size).freeze();
            hasher.update(&chunk);
            let digest_to_here = *hasher.finalize().as_bytes();
            (Chunk { bytes: chunk, digest_to_here, intake }, buffer, hasher)
        };
        let (chunk, buffer, hasher) = self.transfer.world.compute.output(cut).await;
        (self.buffer, self.hasher) = (buffer, hasher);
        self.size += u64::try_from(chunk.bytes.len()).expect("a chunk is small");
        Ok(Some(chunk))
    }

    /// Whether the chunk that was returned last was the last one.
    pub(crate) async fn ended(&mut self) -> io::Result<bool> {
        // No more than the beginning: that one still has its place, and whoever waits for a second one keeps the first.
        if self.lacks(1) {
            self.read(self.beginning()).await?;
        }
        Ok(self.buffer.is_empty())
    }

    /// Bytes of all chunks returned so far, and their BLAKE3 digest.
    pub(crate) fn total(&self) -> (u64, [u8; ID_SIZE]) {
        (self.size, *self.hasher.finalize().as_bytes())
    }

    /// Reads what the next chunk is cut from, most of it once few others do so. Memory is waited for with what was read, and
    /// everybody who puts would wait with a chunk.
    async fn fill(&mut self) -> io::Result<Option<Share>> {
        let (transfer, wanted) = (self.transfer, self.chunker.buffer_size());
        while self.lacks(self.beginning()) {
            self.read(self.beginning()).await?;
        }
        if !self.lacks(wanted) {
            return Ok(None);
        }
        let mut intake = Some(transfer.intake(wanted).await);
        let mut patience = transfer.world.clock.sleep(PATIENCE);
        while self.lacks(wanted) {
            let read = pin!(self.read(wanted));
            if intake.is_none() {
                read.await?;
                continue;
            }
            match select(read, &mut patience).await {
                Either::Left((read, _)) => read?,
                Either::Right(((), read)) => {
                    intake = None;
                    read.await?;
                }
            }
        }
        Ok(intake)
    }

    fn beginning(&self) -> usize {
        BEGINNING_SIZE.min(self.chunker.buffer_size())
    }

    /// Whether the buffer has fewer bytes, and more follow.
    fn lacks(&self, size: usize) -> bool {
        matches!(self.rest, Rest::MoreFollows) && self.buffer.len() < size
    }

    /// Reads once, up to so many bytes in the buffer.
    async fn read(&mut self, size: usize) -> io::Result<()> {
        let missing = size - self.buffer.len();
        self.buffer.reserve(missing);
        if self.source.read(&mut self.buffer, READ_SIZE.min(missing)).await? == 0 {
            self.rest = Rest::Ended;
        }
        Ok(())
    }
}
