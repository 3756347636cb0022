//! get = manifest, fetch, unstripe, open, decompress, write: put's mirror.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use datamesh_codec::compress::{UnpackError, unpack};
use datamesh_codec::keys::Identity;
use datamesh_codec::manifest::{OpenBlockError, OpenRoot, OpenRootError, StripeEntry, Subtree};
use datamesh_codec::seal::OpenError;
use datamesh_codec::stripe::{Coder, DecodeError};
use datamesh_core::id::{BlockId, ObjectId};
use datamesh_core::manifest::Details;
use datamesh_core::scheme::Scheme;
use futures::future::{Either, select};
use futures::stream::{self, FusedStream, StreamExt, TryStreamExt};

use crate::cached::{self, CacheNodes};
use crate::progress::{Cause, Event, Observer};
use crate::traffic::Share;
use crate::transfer::{GatherError, Transfer, TransferSettings};
use crate::world::{Sink, World};

/// Why bytes were not got.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// No node has the object's root.
    #[error("object {object} is not on this mesh: {source}")]
    NotFound {
        /// Which object.
        object: ObjectId,
        /// Who was asked.
        source: GatherError,
    },
    /// None of the identities opens the object.
    #[error("no key at hand opens object {0}")]
    NoKey(ObjectId),
    /// The root is malformed, or of a later version.
    #[error(transparent)]
    Root(OpenRootError),
    /// No node has a block below the root.
    #[error("manifest block {block}: {source}")]
    MissingBlock {
        /// Which block.
        block: BlockId,
        /// Who was asked.
        source: GatherError,
    },
    /// A block below the root can't be opened.
    #[error(transparent)]
    Block(#[from] OpenBlockError),
    /// A stripe has lost more shards than it can.
    #[error("stripe {stripe}: {source}")]
    TooFewShards {
        /// Which stripe.
        stripe: u64,
        /// Who was asked.
        source: GatherError,
    },
    /// Shards that hash to their ids don't make a stripe: it was never whole.
    #[error("stripe {stripe} can't be rebuilt")]
    Rebuild {
        /// Which stripe.
        stripe: u64,
        /// Why.
        source: DecodeError,
    },
    /// A chunk was not sealed with the object's key at its place.
    #[error(transparent)]
    Chunk(#[from] OpenError),
    /// A chunk does not unpack to what the manifest says.
    #[error("chunk {chunk}")]
    Unpack {
        /// Which chunk.
        chunk: u64,
        /// Why.
        source: UnpackError,
    },
    /// The range begins behind the end of the object.
    #[error("range begins at byte {start}, and the object has {size}")]
    Range {
        /// Its first byte.
        start: u64,
        /// The object's size.
        size: u64,
    },
    /// The bytes are not those that were put.
    #[error("the bytes got are not those that were put: their digest is another")]
    Digest,
    /// The output can't be written.
    #[error("output can't be written")]
    Sink(#[source] io::Error),
}

impl GetError {
    fn event(&self, settings: &TransferSettings) -> Event {
        let (cause, retry_after) = match self {
            Self::NotFound { source, .. }
            | Self::MissingBlock { source, .. }
            | Self::TooFewShards { source, .. } => {
                // Nodes that failed are asked again by then; those that don't hold it have said so.
                let may_pass = !source.failures.is_empty();
                (Cause::Nodes, may_pass.then_some(settings.avoid_for))
            }
            Self::NoKey(_) | Self::Range { .. } => (Cause::Order, None),
            Self::Sink(_) => (Cause::Machine, None),
            _ => (Cause::Data, None),
        };
        Event::broken(cause, self, retry_after)
    }
}

/// An object that is open for reading.
pub struct Reading {
    object: ObjectId,
    transfer: Transfer,
    caches: CacheNodes,
    root: Arc<OpenRoot>,
    coder: Arc<Coder>,
}

/// Whether the digest of the whole object is checked, beyond the authentication of each chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestCheck {
    /// It isn't: each chunk is authentic and at its place.
    Skip,
    /// It is, where the whole object is read.
    Check,
}

/// Plaintext, and its share of the memory.
struct Plain {
    bytes: Bytes,
    share: Option<Share>,
}

impl Reading {
    /// Fetches an object's root and opens it with whichever identity it is granted to.
    ///
    /// # Errors
    /// [`GetError`] when there is no such object or none of the identities opens it.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn open(
        world: &World,
        settings: TransferSettings,
        observer: Arc<dyn Observer>,
        object: ObjectId,
        identities: &[Identity],
    ) -> Result<Self, GetError> {
        let world = cached::world_at(world, settings.temperature);
        let transfer = Transfer::start(world, settings, observer).await;
        let opened = Self::open_root(&transfer, object, identities).await;
        let (caches, root) = opened.inspect_err(|error| transfer.observe(error.event(&settings)))?;
        let coder = Arc::new(Coder::new(root.scheme().redundancy));
        Ok(Self { object, transfer, caches, root: Arc::new(root), coder })
    }

    async fn open_root(
        transfer: &Transfer,
        object: ObjectId,
        identities: &[Identity],
    ) -> Result<(CacheNodes, OpenRoot), GetError> {
        let caches = CacheNodes::of(transfer);
        let bytes = cached::block(transfer, &caches, object.root()).await;
        let bytes = bytes.map_err(|source| GetError::NotFound { object, source })?;
        let root = OpenRoot::open(&bytes, object, identities).map_err(|error| match error {
            OpenRootError::NoKey(object) => GetError::NoKey(object),
            error => GetError::Root(error),
        })?;
        Ok((caches, root))
    }

    /// What its owner said of the object.
    #[must_use]
    pub fn details(&self) -> &Details {
        self.root.details()
    }

    /// How it is encoded.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        self.root.scheme()
    }

    /// Writes the object, or a range of it, to a sink, in order. Says how many bytes that were.
    ///
    /// # Errors
    /// [`GetError`]; the sink may have been given a part by then, and never a wrong byte.
    ///
    /// # Cancel safety
    /// When dropped, the sink has been given a part.
    pub async fn copy(
        &self,
        range: Option<Range<u64>>,
        check: DigestCheck,
        sink: &mut dyn Sink,
    ) -> Result<u64, GetError> {
        self.copy_on(range, 0, check, sink).await
    }

    /// Goes on with a copy of which the sink was given so many bytes by an earlier run. Says how many were written now. A
    /// digest of the whole can only be checked where that is all of them.
    ///
    /// # Errors
    /// As [`Reading::copy`].
    ///
    /// # Cancel safety
    /// As [`Reading::copy`].
    pub async fn copy_on(
        &self,
        range: Option<Range<u64>>,
        resumed_size: u64,
        check: DigestCheck,
        sink: &mut dyn Sink,
    ) -> Result<u64, GetError> {
        let copying = Box::pin(self.copy_behind(range, resumed_size, check, sink));
        let copied = self.transfer.acknowledging(copying).await;
        self.transfer.observe(match &copied {
            Ok(written) => Event::Completed { object: self.object, bytes: resumed_size + written },
            Err(error) => error.event(&self.transfer.settings),
        });
        copied
    }

    async fn copy_behind(
        &self,
        range: Option<Range<u64>>,
        resumed_size: u64,
        check: DigestCheck,
        sink: &mut dyn Sink,
    ) -> Result<u64, GetError> {
        let size = self.details().size;
        let wanted = range.clone().unwrap_or(0..size);
        if wanted.start > size || (wanted.start == size && range.is_some() && size > 0) {
            return Err(GetError::Range { start: wanted.start, size });
        }
        let wanted = wanted.start..wanted.end.min(size);
        let _slot = self.transfer.slot().await;
        self.transfer.observe(Event::Expected { bytes: wanted.end - wanted.start });
        let wanted = wanted.start.saturating_add(resumed_size).min(wanted.end)..wanted.end;
        if resumed_size > 0 {
            self.transfer.observe(Event::Resumed { bytes: resumed_size });
            if wanted.is_empty() {
                return Ok(0);
            }
        }
        let digest = (check == DigestCheck::Check && wanted == (0..size)).then(blake3::Hasher::new);
        let (written, digest) = match self.root.open_inline()? {
            Some(packed) => self.copy_inline(packed, &wanted, digest, sink).await?,
            None => self.copy_stripes(&wanted, digest, sink).await?,
        };
        match digest {
            Some(hasher) if hasher.finalize().as_bytes() != &self.details().digest => Err(GetError::Digest),
            _ => Ok(written),
        }
    }

    async fn copy_inline(
        &self,
        packed: Vec<u8>,
        wanted: &Range<u64>,
        mut digest: Option<blake3::Hasher>,
        sink: &mut dyn Sink,
    ) -> Result<(u64, Option<blake3::Hasher>), GetError> {
        let size = usize::try_from(self.details().size).unwrap_or(usize::MAX);
        let plain = unpack(packed, size).map_err(|source| GetError::Unpack { chunk: 0, source })?;
        let bytes = part(plain.into(), 0, wanted);
        let written = self.write(Plain { bytes, share: None }, &mut digest, sink).await?;
        Ok((written, digest))
    }

    async fn copy_stripes(
        &self,
        wanted: &Range<u64>,
        mut digest: Option<blake3::Hasher>,
        sink: &mut dyn Sink,
    ) -> Result<(u64, Option<blake3::Hasher>), GetError> {
        let leaves = stream::try_unfold(self.root.top().into_iter().collect(), |pending| {
            self.next_leaf(pending, wanted)
        });
        let entries = leaves.map_ok(|leaf| stream::iter(leaf.into_iter().map(Ok))).try_flatten();
        let in_flight = self.transfer.settings.stripes_in_flight;
        // Memory is given out in the order in which it is given back: chunks are written in their order.
        let shares = entries.and_then(|entry| async move { Ok((self.share(&entry).await, entry)) });
        let chunks = shares.map_ok(|(share, entry)| self.chunk(entry, share, wanted)).try_buffered(in_flight);
        // Boxed, since the compiler can't tell otherwise that whoever gets may be a task of its own.
        let written = self.write_all(chunks.boxed().fuse(), &mut digest, sink).await?;
        Ok((written, digest))
    }

    /// Writes chunks in their order. They are polled while one is written too: however long a sink takes, the fetches under way
    /// come to their end and keep nobody else from asking the same nodes. What waits to be written has its share of the memory.
    async fn write_all(
        &self,
        mut chunks: impl FusedStream<Item = Result<Plain, GetError>> + Unpin,
        digest: &mut Option<blake3::Hasher>,
        sink: &mut dyn Sink,
    ) -> Result<u64, GetError> {
        let (mut written, mut waiting) = (0, VecDeque::new());
        loop {
            let Some(plain) = waiting.pop_front() else {
                let Some(plain) = chunks.next().await else { return Ok(written) };
                waiting.push_back(plain);
                continue;
            };
            let mut write = pin!(self.write(plain?, digest, sink));
            written += loop {
                if chunks.is_terminated() {
                    break write.await?;
                }
                match select(write.as_mut(), chunks.next()).await {
                    Either::Left((size, _)) => break size?,
                    Either::Right((plain, _)) => waiting.extend(plain),
                }
            };
        }
    }

    /// The next leaf that shares bytes with the range, and what is pending after it.
    async fn next_leaf(
        &self,
        mut pending: Vec<Subtree>,
        wanted: &Range<u64>,
    ) -> Result<Option<(Vec<StripeEntry>, Vec<Subtree>)>, GetError> {
        while let Some(subtree) = pending.pop() {
            let block = subtree.block();
            let bytes = cached::block(&self.transfer, &self.caches, block).await;
            let bytes = bytes.map_err(|source| GetError::MissingBlock { block, source })?;
            if subtree.is_leaf() {
                let mut entries = self.root.open_leaf(&subtree, &bytes)?;
                entries.retain(|entry| overlap(&entry.range(), wanted));
                return Ok(Some((entries, pending)));
            }
            let children = self.root.open_branch(&subtree, &bytes)?;
            pending.extend(children.into_iter().rev().filter(|child| overlap(&child.range(), wanted)));
        }
        Ok(None)
    }

    /// Waits until there is memory for a chunk: its shards, the sealed chunk they make, and the plaintext.
    async fn share(&self, entry: &StripeEntry) -> Share {
        let size = usize::try_from(entry.chunk.size).expect("a chunk fits memory");
        self.transfer.memory(2 * entry.stripe.sealed_size() + size).await
    }

    /// Fetches, unstripes, opens and decompresses one chunk.
    async fn chunk(&self, entry: StripeEntry, share: Share, wanted: &Range<u64>) -> Result<Plain, GetError> {
        let size = usize::try_from(entry.chunk.size).expect("a chunk fits memory");
        let (stripe, chunk) = (entry.chunk_index, entry.chunk_index);
        let found = cached::stripe(&self.transfer, &self.caches, &entry.stripe).await;
        let found = found.map_err(|source| GetError::TooFewShards { stripe, source })?;
        let (root, coder) = (Arc::clone(&self.root), Arc::clone(&self.coder));
        let cache = Arc::clone(&self.transfer.world.cache);
        let offset = entry.offset;
        let decode = move || {
            let sealed = found.sealed(&coder, &entry.stripe, &*cache);
            let sealed = sealed.map_err(|source| GetError::Rebuild { stripe, source })?;
            let packed = root.opener().open(chunk, &entry.chunk, sealed)?;
            unpack(packed, size).map_err(|source| GetError::Unpack { chunk, source })
        };
        let plain = self.transfer.world.compute.output(decode).await?;
        Ok(Plain { bytes: part(plain.into(), offset, wanted), share: Some(share) })
    }

    async fn write(
        &self,
        plain: Plain,
        digest: &mut Option<blake3::Hasher>,
        sink: &mut dyn Sink,
    ) -> Result<u64, GetError> {
        let Plain { bytes, share } = plain;
        if let Some(mut hasher) = digest.take() {
            let hashed = bytes.clone();
            let hash = move || {
                hasher.update(&hashed);
                hasher
            };
            *digest = Some(self.transfer.world.compute.output(hash).await);
        }
        let size = u64::try_from(bytes.len()).expect("a chunk is small");
        sink.write(bytes).await.map_err(GetError::Sink)?;
        drop(share);
        self.transfer.observe(Event::Advanced { bytes: size });
        Ok(size)
    }
}

fn overlap(span: &Range<u64>, wanted: &Range<u64>) -> bool {
    span.start < wanted.end && wanted.start < span.end
}

/// The part of a chunk at this offset that is wanted.
fn part(chunk: Bytes, offset: u64, wanted: &Range<u64>) -> Bytes {
    let size = u64::try_from(chunk.len()).expect("a chunk is small");
    let within = |position: u64| {
        usize::try_from(position.saturating_sub(offset).min(size)).expect("it is within the chunk")
    };
    chunk.slice(within(wanted.start)..within(wanted.end).max(within(wanted.start)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::part;

    #[test]
    fn the_part_of_a_chunk_is_what_the_range_has_of_it() {
        let chunk = Bytes::from_static(b"abcdef");
        assert_eq!(part(chunk.clone(), 10, &(0..100)), "abcdef");
        assert_eq!(part(chunk.clone(), 10, &(12..14)), "cd");
        assert_eq!(part(chunk.clone(), 10, &(0..11)), "a");
        assert_eq!(part(chunk.clone(), 10, &(15..100)), "f");
        assert_eq!(part(chunk, 10, &(16..100)), "");
    }
}
