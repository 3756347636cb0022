//! The manifest: what an object is made of. Immutable; its hash is the object's id.
//!
//! A tree of DAG-CBOR blocks: one root, branches, leaves. Each block has a public half, which repair and audits read and
//! which holds no secret, and a sealed half, which only a holder of the object's key can open. Here are the types and
//! their bounds; `codec::manifest` writes, seals, opens and reads them.

use std::collections::BTreeMap;

use bytes::Bytes;
use cid::Cid;
use serde::{Deserialize, Serialize};

use crate::encode::{DecodeError, decode, encode};
use crate::id::{BlockId, ID_SIZE, ShardId, StripeId};
use crate::lease::LeaseTag;
use crate::limits::{
    BLOCK_SIZE_MAX, BRANCH_CHILDREN_MAX, CHUNK_SIZE_MAX, DETAIL_TEXT_SIZE_MAX, INLINE_SIZE_MAX,
    LEAF_SHARD_IDS_TARGET, LEAF_STRIPES_MAX, MANIFEST_DEPTH_MAX, METADATA_ENTRIES_MAX, METADATA_SIZE_MAX,
    RECIPIENTS_MAX, SEALED_CHUNK_SIZE_MAX,
};
use crate::scheme::{Cipher, Mode, Redundancy, Scheme};
use crate::time::Timestamp;

mod link;

pub use link::{Link, Place};

/// The one version of the format that this program reads and writes.
pub const MANIFEST_VERSION: u8 = 1;

/// Bytes of a commitment to an object's key.
pub const COMMITMENT_SIZE: usize = 32;

/// Bytes of the key that a chunk has to itself, where it has one.
pub const CHUNK_KEY_SIZE: usize = 32;

/// Why bytes are no manifest block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not the canonical encoding of such a block.
    #[error(transparent)]
    Encoding(#[from] DecodeError),
    /// The hash of the bytes is another.
    #[error("bytes are not those of block {0}")]
    WrongBytes(BlockId),
    /// Written by a later version of the program.
    #[error("manifest version {0}: this program reads version {MANIFEST_VERSION}; a newer one is needed")]
    Version(u64),
    /// A count, depth or size out of its bound.
    #[error("manifest out of bounds: {what} is {found}, at most {most}")]
    OutOfBounds {
        /// Which figure.
        what: &'static str,
        /// What it is.
        found: u64,
        /// What it may be.
        most: u64,
    },
    /// The parts of the block contradict each other.
    #[error("manifest contradicts itself: {0}")]
    Contradiction(&'static str),
}

/// The root block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// [`MANIFEST_VERSION`].
    pub version: u8,
    /// How the object is encoded.
    pub scheme: Scheme,
    /// The stripes, or the sealed object itself where it is small.
    pub body: Body,
    /// The object's key, wrapped to each recipient; none in public mode.
    pub grants: Vec<Grant>,
    /// Commits to the object's key, so that no second key opens the same object; empty in public mode.
    pub commitment: Bytes,
    /// The sealed half: [`Details`].
    pub sealed: Bytes,
}

/// Where an object's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// Here: the one sealed chunk.
    Inline(Bytes),
    /// In stripes, listed by a tree of blocks.
    Tree(Tree),
}

/// The tree below a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Levels of branches between the root and the leaves.
    pub depth: u8,
    /// The branch or leaf at the top.
    pub top: Child,
}

/// A block below another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(Cid, u64)", into = "(Cid, u64)")]
pub struct Child {
    /// The block.
    pub block: BlockId,
    /// Stripes in all leaves below it.
    pub stripe_count: u64,
}

impl TryFrom<(Cid, u64)> for Child {
    type Error = &'static str;

    fn try_from((cid, stripe_count): (Cid, u64)) -> Result<Self, Self::Error> {
        let block = BlockId::from_cid(&cid).ok_or("a link to something else than a manifest block")?;
        Ok(Self { block, stripe_count })
    }
}

impl From<Child> for (Cid, u64) {
    fn from(child: Child) -> Self {
        (child.block.cid(), child.stripe_count)
    }
}

/// The object's key wrapped to one recipient by HPKE (RFC 9180). It does not say to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The encapsulated X25519 key.
    #[serde(with = "serde_bytes")]
    pub encapsulated: [u8; 32],
    /// The object's key and a tag.
    #[serde(with = "serde_bytes")]
    pub wrapped: [u8; 48],
}

/// A block of links to blocks one level below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// The blocks, in the order of the object's bytes.
    pub children: Vec<Child>,
    /// The sealed half: [`BranchSizes`].
    pub sealed: Bytes,
}

/// A block of stripes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LeafEncoding", into = "LeafEncoding")]
pub struct Leaf {
    /// The stripes, in the order of the object's bytes; all of one redundancy.
    pub stripes: Vec<Stripe>,
    /// The sealed half: [`LeafChunks`].
    pub sealed: Bytes,
}

/// One sealed chunk as the mesh sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StripeEncoding", into = "StripeEncoding")]
pub struct Stripe {
    /// Data and parity shards.
    pub redundancy: Redundancy,
    /// Bytes of the sealed chunk, without the padding of its last data shards.
    pub sealed_size: u32,
    /// The k + m shards, data first.
    pub shards: Vec<ShardId>,
}

impl Stripe {
    /// The stripe's id: the hash of its redundancy, length and shard ids.
    #[must_use]
    pub fn id(&self) -> StripeId {
        let mut hasher = blake3::Hasher::new_derive_key("datamesh 2026 stripe id v1");
        let (data, parity) = self.redundancy.into();
        hasher.update(&[data, parity]);
        hasher.update(&self.sealed_size.to_le_bytes());
        for shard in &self.shards {
            hasher.update(shard.as_bytes());
        }
        StripeId::from_bytes(*hasher.finalize().as_bytes())
    }

    /// Whether it is within its bounds and has k + m shards.
    ///
    /// # Errors
    /// [`ManifestError`] if it isn't.
    pub fn check(&self) -> Result<(), ManifestError> {
        let most = u64::try_from(SEALED_CHUNK_SIZE_MAX).expect("a small constant");
        bounded_u64("sealed size", u64::from(self.sealed_size), most)?;
        if self.sealed_size == 0 {
            return Err(ManifestError::Contradiction("a stripe without bytes"));
        }
        if self.shards.len() != self.redundancy.shard_count() {
            return Err(ManifestError::Contradiction("a stripe with more or fewer shards than k + m"));
        }
        Ok(())
    }

    /// Bytes of each of its shards.
    #[must_use]
    pub fn shard_size(&self) -> usize {
        self.redundancy.shard_size(self.sealed_size())
    }

    /// Bytes of the sealed chunk.
    ///
    /// # Panics
    /// Never: a stripe's size is bounded when it is made or read.
    #[must_use]
    pub fn sealed_size(&self) -> usize {
        usize::try_from(self.sealed_size).expect("a sealed chunk fits memory")
    }
}

/// The sealed half of a root: what only readers of the object know about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The name under which it was put.
    pub name: String,
    /// What the bytes are.
    pub kind: Kind,
    /// The media type, if one was given.
    pub media_type: Option<String>,
    /// Bytes of plaintext.
    pub size: u64,
    /// The BLAKE3 hash of the plaintext.
    #[serde(with = "serde_bytes")]
    pub digest: [u8; ID_SIZE],
    /// What the owner noted.
    pub metadata: BTreeMap<String, String>,
    /// The tag of the leases it is kept under.
    pub tag: LeaseTag,
    /// When it was put, by the owner's clock.
    pub created: Timestamp,
}

/// What an object's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file.
    File,
    /// A folder, as a tar archive.
    Folder,
}

/// The sealed half of a branch: bytes of plaintext below each child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchSizes(pub Vec<u64>);

/// The sealed half of a leaf: what the chunk of each stripe is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafChunks(pub Vec<ChunkEntry>);

/// What a reader must know of one chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, Bytes)", into = "(u32, Bytes)")]
pub struct ChunkEntry {
    /// Bytes of plaintext.
    pub size: u32,
    /// The chunk's own key in dedup mode; empty where it follows from the object's key or there is none.
    pub key: Bytes,
}

impl From<(u32, Bytes)> for ChunkEntry {
    fn from((size, key): (u32, Bytes)) -> Self {
        Self { size, key }
    }
}

impl From<ChunkEntry> for (u32, Bytes) {
    fn from(entry: ChunkEntry) -> Self {
        (entry.size, entry.key)
    }
}

/// Stripes that a leaf holds before the next one is begun.
#[must_use]
pub fn leaf_stripe_count(redundancy: Redundancy) -> usize {
    (LEAF_SHARD_IDS_TARGET / redundancy.shard_count()).clamp(1, LEAF_STRIPES_MAX)
}

impl Root {
    /// Reads a root block.
    ///
    /// # Errors
    /// [`ManifestError`] for what is no such block or out of its bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        bounded("block size", bytes.len(), BLOCK_SIZE_MAX)?;
        let root: Self = decode(bytes).map_err(|error| later_version(bytes).unwrap_or(error.into()))?;
        if root.version != MANIFEST_VERSION {
            return Err(ManifestError::Version(root.version.into()));
        }
        root.check_keys()?;
        match &root.body {
            Body::Inline(sealed) => bounded("inline size", sealed.len(), INLINE_SIZE_MAX)?,
            Body::Tree(tree) => tree.check(root.scheme.redundancy)?,
        }
        Ok(root)
    }

    /// The block's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        encode(self).into()
    }

    /// Whether what says how the object's key is kept agrees with its mode.
    fn check_keys(&self) -> Result<(), ManifestError> {
        let contradiction = |what| Err(ManifestError::Contradiction(what));
        bounded("recipients", self.grants.len(), RECIPIENTS_MAX)?;
        let encrypted = self.scheme.cipher != Cipher::None;
        match self.scheme.mode {
            Mode::Public if encrypted => contradiction("a public object with a cipher"),
            Mode::Public if !self.grants.is_empty() => contradiction("a public object with recipients"),
            Mode::Public if !self.commitment.is_empty() => contradiction("a public object with a key"),
            Mode::Public => Ok(()),
            _ if !encrypted => contradiction("a private object without a cipher"),
            _ if self.grants.is_empty() => contradiction("a private object without recipients"),
            _ if self.commitment.len() != COMMITMENT_SIZE => {
                contradiction("a private object without a commitment to its key")
            }
            _ => Ok(()),
        }
    }
}

/// The error for a root of a later version, whatever else that version has changed.
fn later_version(bytes: &[u8]) -> Option<ManifestError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    let Versioned { version } = serde_ipld_dagcbor::from_slice(bytes).ok()?;
    (version > u64::from(MANIFEST_VERSION)).then_some(ManifestError::Version(version))
}

impl Tree {
    /// Whether the tree is the one that its stripes make: none deeper than it must be, none empty.
    fn check(&self, redundancy: Redundancy) -> Result<(), ManifestError> {
        bounded("depth", usize::from(self.depth), usize::from(MANIFEST_DEPTH_MAX))?;
        let stripe_count = self.top.stripe_count;
        bounded_u64("stripes", stripe_count, stripe_count_max(self.depth, redundancy))?;
        let below = self.depth.checked_sub(1);
        if stripe_count == 0 {
            return Err(ManifestError::Contradiction("a tree without stripes"));
        }
        if below.is_some_and(|depth| stripe_count <= stripe_count_max(depth, redundancy)) {
            return Err(ManifestError::Contradiction("a tree deeper than its stripes need"));
        }
        Ok(())
    }
}

/// Most stripes below a block with this many levels of branches, itself included, above the leaves.
#[must_use]
pub fn stripe_count_max(depth: u8, redundancy: Redundancy) -> u64 {
    let fan_out = u64::try_from(BRANCH_CHILDREN_MAX).expect("a small constant");
    let leaf = u64::try_from(leaf_stripe_count(redundancy)).expect("a small constant");
    fan_out.saturating_pow(u32::from(depth)).saturating_mul(leaf)
}

impl Branch {
    /// Reads a branch block.
    ///
    /// # Errors
    /// [`ManifestError`] for what is no such block or out of its bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        bounded("block size", bytes.len(), BLOCK_SIZE_MAX)?;
        let branch: Self = decode(bytes)?;
        bounded("children", branch.children.len(), BRANCH_CHILDREN_MAX)?;
        if branch.children.iter().any(|child| child.stripe_count == 0) {
            return Err(ManifestError::Contradiction("a child without stripes"));
        }
        if branch.children.is_empty() {
            return Err(ManifestError::Contradiction("a branch without children"));
        }
        Ok(branch)
    }

    /// The block's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        encode(self).into()
    }
}

impl Leaf {
    /// Reads a leaf block.
    ///
    /// # Errors
    /// [`ManifestError`] for what is no such block or out of its bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        bounded("block size", bytes.len(), BLOCK_SIZE_MAX)?;
        let leaf: Self = decode(bytes)?;
        let first = leaf.stripes.first().expect("a leaf that decodes has stripes");
        bounded("stripes", leaf.stripes.len(), leaf_stripe_count(first.redundancy))?;
        Ok(leaf)
    }

    /// The block's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        encode(self).into()
    }
}

impl Details {
    /// Whether every text and list is within its bound, so that a root block that holds them is within its own.
    ///
    /// # Errors
    /// [`ManifestError::OutOfBounds`] naming the first that isn't.
    pub fn check(&self) -> Result<(), ManifestError> {
        bounded("name", self.name.len(), DETAIL_TEXT_SIZE_MAX)?;
        bounded("media type", self.media_type.as_deref().map_or(0, str::len), DETAIL_TEXT_SIZE_MAX)?;
        bounded("metadata entries", self.metadata.len(), METADATA_ENTRIES_MAX)?;
        for (key, value) in &self.metadata {
            bounded("metadata key", key.len(), DETAIL_TEXT_SIZE_MAX)?;
            bounded("metadata value", value.len(), DETAIL_TEXT_SIZE_MAX)?;
        }
        let text_size = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        bounded("metadata", text_size, METADATA_SIZE_MAX)
    }
}

impl ChunkEntry {
    /// Whether such a chunk can be in an object of this mode.
    ///
    /// # Errors
    /// [`ManifestError`] if it is too long, empty, or has a key where it needs none or the other way round.
    pub fn check(&self, mode: Mode) -> Result<(), ManifestError> {
        let most = u64::try_from(CHUNK_SIZE_MAX).expect("a small constant");
        bounded_u64("chunk size", u64::from(self.size), most)?;
        if self.size == 0 {
            return Err(ManifestError::Contradiction("a chunk without bytes"));
        }
        let well_keyed = match mode {
            Mode::Sealed => matches!(self.key.len(), 0 | CHUNK_KEY_SIZE),
            Mode::Dedup => self.key.len() == CHUNK_KEY_SIZE,
            Mode::Public => self.key.is_empty(),
        };
        if well_keyed {
            Ok(())
        } else {
            Err(ManifestError::Contradiction("a chunk key that the mode has not"))
        }
    }
}

#[derive(Serialize, Deserialize)]
struct LeafEncoding {
    redundancy: Redundancy,
    stripes: Vec<(u32, Bytes)>,
    sealed: Bytes,
}

impl TryFrom<LeafEncoding> for Leaf {
    type Error = ManifestError;

    fn try_from(encoding: LeafEncoding) -> Result<Self, ManifestError> {
        let LeafEncoding { redundancy, stripes, sealed } = encoding;
        if stripes.is_empty() {
            return Err(ManifestError::Contradiction("a leaf without stripes"));
        }
        let stripe = |(sealed_size, ids)| StripeEncoding(redundancy, sealed_size, ids).try_into();
        Ok(Self { stripes: stripes.into_iter().map(stripe).collect::<Result<_, _>>()?, sealed })
    }
}

impl From<Leaf> for LeafEncoding {
    fn from(leaf: Leaf) -> Self {
        let redundancy = leaf.stripes.first().expect("a leaf has stripes").redundancy;
        let stripe = |stripe: Stripe| {
            let StripeEncoding(_, sealed_size, ids) = stripe.into();
            (sealed_size, ids)
        };
        Self { redundancy, stripes: leaf.stripes.into_iter().map(stripe).collect(), sealed: leaf.sealed }
    }
}

#[derive(Serialize, Deserialize)]
struct StripeEncoding(Redundancy, u32, Bytes);

impl TryFrom<StripeEncoding> for Stripe {
    type Error = ManifestError;

    fn try_from(StripeEncoding(redundancy, sealed_size, ids): StripeEncoding) -> Result<Self, ManifestError> {
        let (shards, rest) = ids.as_chunks::<ID_SIZE>();
        if !rest.is_empty() {
            return Err(ManifestError::Contradiction("a stripe with a part of a shard id"));
        }
        let shards = shards.iter().copied().map(ShardId::from_bytes).collect();
        let stripe = Self { redundancy, sealed_size, shards };
        stripe.check()?;
        Ok(stripe)
    }
}

impl From<Stripe> for StripeEncoding {
    fn from(stripe: Stripe) -> Self {
        let ids: Vec<u8> = stripe.shards.iter().flat_map(|shard| *shard.as_bytes()).collect();
        Self(stripe.redundancy, stripe.sealed_size, ids.into())
    }
}

fn bounded(what: &'static str, found: usize, most: usize) -> Result<(), ManifestError> {
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    bounded_u64(what, wide(found), wide(most))
}

fn bounded_u64(what: &'static str, found: u64, most: u64) -> Result<(), ManifestError> {
    if found <= most { Ok(()) } else { Err(ManifestError::OutOfBounds { what, found, most }) }
}
