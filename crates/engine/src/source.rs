//! Cuts a source into chunks and takes the digest of all of it on the way.

use std::io;

use bytes::{Bytes, BytesMut};
use datamesh_codec::chunk::{Chunker, Rest};
use datamesh_core::id::ID_SIZE;

use crate::world::{Source, World};

/// Bytes asked of the source at once.
const READ_SIZE: usize = 1 << 20;

/// One chunk of a source.
#[derive(Clone)]
pub(crate) struct Chunk {
    pub(crate) bytes: Bytes,
    /// The BLAKE3 hash of all of the source up to the end of this chunk.
    pub(crate) digest_to_here: [u8; ID_SIZE],
}

impl Chunk {
    /// The only chunk of a source without bytes.
    pub(crate) fn empty() -> Self {
        Self { bytes: Bytes::new(), digest_to_here: *blake3::hash(b"").as_bytes() }
    }
}

/// The chunks of a source, in order.
pub(crate) struct Chunks<'a> {
    world: &'a World,
    source: &'a mut dyn Source,
    chunker: Chunker,
    buffer: BytesMut,
    hasher: blake3::Hasher,
    rest: Rest,
    size: u64,
}

impl<'a> Chunks<'a> {
    pub(crate) fn new(world: &'a World, source: &'a mut dyn Source, chunker: Chunker) -> Self {
        let hasher = blake3::Hasher::new();
        Self { world, source, chunker, buffer: BytesMut::new(), hasher, rest: Rest::MoreFollows, size: 0 }
    }

    /// The next chunk; `None` after the last.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Chunk>> {
        self.fill().await?;
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
            (Chunk { bytes: chunk, digest_to_here }, buffer, hasher)
        };
        let (chunk, buffer, hasher) = self.world.compute.output(cut).await;
        (self.buffer, self.hasher) = (buffer, hasher);
        self.size += u64::try_from(chunk.bytes.len()).expect("a chunk is small");
        Ok(Some(chunk))
    }

    /// Whether the chunk that was returned last was the last one.
    pub(crate) async fn ended(&mut self) -> io::Result<bool> {
        self.fill().await?;
        Ok(self.buffer.is_empty())
    }

    /// Bytes of all chunks returned so far, and their BLAKE3 digest.
    pub(crate) fn total(&self) -> (u64, [u8; ID_SIZE]) {
        (self.size, *self.hasher.finalize().as_bytes())
    }

    async fn fill(&mut self) -> io::Result<()> {
        let wanted = self.chunker.buffer_size();
        while matches!(self.rest, Rest::MoreFollows) && self.buffer.len() < wanted {
            let held = self.buffer.len();
            self.buffer.reserve(wanted - held);
            if self.source.read(&mut self.buffer, READ_SIZE.min(wanted - held)).await? == 0 {
                self.rest = Rest::Ended;
            }
        }
        Ok(())
    }
}
