//! Objects for tests: stripes that follow from their index, and a mesh that holds their blocks.

use std::collections::BTreeMap;

use bytes::Bytes;
use datamesh_codec::keys::{Identity, ObjectKey};
use datamesh_codec::manifest::{Block, Finished, ManifestWriter, OpenRoot, StripeEntry, Subtree};
use datamesh_core::id::{BlockId, ObjectId, ShardId};
use datamesh_core::lease::LeaseTag;
use datamesh_core::manifest::{ChunkEntry, Details, Kind, Stripe};
use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Redundancy, Scheme};
use datamesh_core::time::Timestamp;

pub(crate) const MODES: [Mode; 3] = [Mode::Sealed, Mode::Dedup, Mode::Public];

/// Bytes that follow from a number, as entropy for tests.
pub(crate) fn entropy(number: u64) -> impl FnMut(&mut [u8]) {
    let mut stream = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
    move |buffer| stream.fill(buffer)
}

pub(crate) fn scheme(mode: Mode, data: usize, parity: usize) -> Scheme {
    let redundancy = Redundancy::new(data, parity).expect("a redundancy");
    let cipher = if mode == Mode::Public { Cipher::None } else { Cipher::Chacha20Poly1305 };
    Scheme { mode, chunking: Chunking::Fixed, compression: Compression::None, cipher, redundancy }
}

pub(crate) fn owner() -> Identity {
    Identity::from_seed(&[1; 32])
}

pub(crate) fn key() -> ObjectKey {
    ObjectKey::from_bytes([2; 32])
}

pub(crate) fn details(size: u64) -> Details {
    Details {
        name: "object".to_owned(),
        kind: Kind::File,
        media_type: Some("text/plain".to_owned()),
        size,
        digest: [3; 32],
        metadata: BTreeMap::from([("colour".to_owned(), "green".to_owned())]),
        tag: LeaseTag::from_bytes([4; 16]),
        created: Timestamp::from_ms(5),
    }
}

/// A stripe that was never encoded: only its shards' ids matter to a manifest.
pub(crate) fn stripe(scheme: &Scheme, index: u64) -> Stripe {
    let redundancy = scheme.redundancy;
    let mut stream = blake3::Hasher::new().update(&index.to_le_bytes()).finalize_xof();
    let mut id = [0; 32];
    let shards = (0..redundancy.shard_count())
        .map(|_| {
            stream.fill(&mut id);
            ShardId::from_bytes(id)
        })
        .collect();
    let sealed_size = 1 + u32::try_from(index % 1_000_000).expect("small");
    Stripe { redundancy, sealed_size, shards }
}

pub(crate) fn chunk(scheme: &Scheme, index: u64) -> ChunkEntry {
    let size = 1 + u32::try_from(index * 7919 % 4_000_000).expect("small");
    let byte = u8::try_from(index % 251).expect("small");
    let key = if scheme.mode == Mode::Dedup { Bytes::from(vec![byte; 32]) } else { Bytes::new() };
    ChunkEntry { size, key }
}

/// A writer of an object for its owner.
pub(crate) fn writer(scheme: Scheme) -> ManifestWriter {
    let recipients = if scheme.mode == Mode::Public { vec![] } else { vec![owner().recipient().clone()] };
    ManifestWriter::new(scheme, &key(), &recipients, &mut entropy(6)).expect("one recipient, or none")
}

/// An object's blocks, as the mesh holds them.
pub(crate) struct Stored {
    pub(crate) object: ObjectId,
    pub(crate) blocks: BTreeMap<BlockId, Bytes>,
    pub(crate) size: u64,
}

impl Stored {
    /// An object of this many stripes.
    pub(crate) fn write(scheme: Scheme, stripe_count: u64) -> Self {
        let mut writer = writer(scheme);
        let (mut blocks, mut size) = (BTreeMap::new(), 0);
        for index in 0..stripe_count {
            let chunk = chunk(&scheme, index);
            size += u64::from(chunk.size);
            let written = writer.push(stripe(&scheme, index), chunk).expect("within bounds");
            blocks.extend(written.into_iter().map(|Block { id, bytes }| (id, bytes)));
        }
        let finished = writer.finish(&details(size)).expect("within bounds");
        let object = finished.object();
        let Finished { blocks: rest, root } = finished;
        blocks.extend(rest.into_iter().chain([root]).map(|Block { id, bytes }| (id, bytes)));
        Self { object, blocks, size }
    }

    pub(crate) fn open(&self) -> OpenRoot {
        OpenRoot::open(&self.blocks[&self.object.root()], self.object, &[owner()])
            .expect("its owner opens it")
    }

    /// Every chunk below a subtree, in order.
    pub(crate) fn read(&self, root: &OpenRoot, subtree: &Subtree) -> Vec<StripeEntry> {
        let bytes = &self.blocks[&subtree.block()];
        if subtree.is_leaf() {
            return root.open_leaf(subtree, bytes).expect("a leaf");
        }
        let children = root.open_branch(subtree, bytes).expect("a branch");
        children.iter().flat_map(|child| self.read(root, child)).collect()
    }
}
