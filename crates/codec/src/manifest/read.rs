//! Opens manifests: the root with an identity, then each block with what its parent says of it.

use core::mem;
use core::ops::Range;

use bytes::Bytes;
use datamesh_core::encode::{DecodeError, decode};
use datamesh_core::id::{BlockId, ObjectId};
use datamesh_core::limits::CHUNK_SIZE_MAX;
use datamesh_core::manifest::{
    Body, BranchSizes, ChunkEntry, Details, LeafChunks, Link, ManifestError, Root, Stripe,
};
use datamesh_core::scheme::{Mode, Scheme};
use zeroize::Zeroizing;

use crate::keys::{Identity, ObjectKey, unwrap};
use crate::seal::block::{BlockSeal, ROOT_PLACE};
use crate::seal::{OpenError, Opener};

/// Why a root can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenRootError {
    /// The hash of the bytes is another.
    #[error("bytes are not those of the manifest of {0}")]
    WrongBytes(ObjectId),
    /// Malformed, out of bounds, of a later version, or contradicting itself.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It is granted to none of the identities.
    #[error("no key at hand opens object {0}")]
    NoKey(ObjectId),
    /// Its sealed half was not sealed with its key.
    #[error("manifest of {0} does not open with its own key")]
    NotAuthentic(ObjectId),
}

/// Why a block below the root can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenBlockError {
    /// Another block's bytes, malformed, out of bounds, or contradicting the block above it.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Its sealed half was not sealed with its object's key for its place.
    #[error("block {0} does not open with its object's key at its place")]
    NotAuthentic(BlockId),
}

/// A root that is opened, and with it the means to open all that is below.
#[derive(Debug)]
pub struct OpenRoot {
    object: ObjectId,
    root: Root,
    details: Details,
    seal: BlockSeal,
    opener: Opener,
}

/// A block of the tree before it is read, as its reader knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subtree {
    link: Link,
    offset: u64,
    size: u64,
}

/// A chunk, where it lies in its object, and the stripe that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripeEntry {
    /// Chunks before it.
    pub chunk_index: u64,
    /// Bytes of plaintext before it.
    pub offset: u64,
    /// Where its sealed bytes are.
    pub stripe: Stripe,
    /// What it takes to open them.
    pub chunk: ChunkEntry,
}

impl OpenRoot {
    /// Opens a root with whichever of the identities it is granted to. A public one needs none.
    ///
    /// # Errors
    /// [`OpenRootError`], for the hash first, then for what the bytes are, then for the key.
    pub fn open(bytes: &[u8], expected: ObjectId, identities: &[Identity]) -> Result<Self, OpenRootError> {
        if BlockId::of(bytes) != expected.root() {
            return Err(OpenRootError::WrongBytes(expected));
        }
        let mut root = Root::parse(bytes)?;
        let (seal, opener) = match root.scheme.mode {
            Mode::Public => (BlockSeal::Public, Opener::new(&root.scheme, None)),
            Mode::Sealed | Mode::Dedup => {
                let key = object_key(&root, identities).ok_or(OpenRootError::NoKey(expected))?;
                (BlockSeal::new(&root.scheme, &key), Opener::new(&root.scheme, Some(&key)))
            }
        };
        let sealed = mem::take(&mut root.sealed);
        let plaintext =
            seal.open(ROOT_PLACE, &root.to_bytes(), &sealed).ok_or(OpenRootError::NotAuthentic(expected))?;
        let details = decode(&plaintext).map_err(ManifestError::from)?;
        let opened = Self { object: expected, root, details, seal, opener };
        opened.check()?;
        Ok(opened)
    }

    /// The object that it is the root of.
    #[must_use]
    pub const fn object(&self) -> ObjectId {
        self.object
    }

    /// How the object is encoded.
    #[must_use]
    pub const fn scheme(&self) -> &Scheme {
        &self.root.scheme
    }

    /// What the owner said of the object.
    #[must_use]
    pub const fn details(&self) -> &Details {
        &self.details
    }

    /// What opens the object's chunks.
    #[must_use]
    pub const fn opener(&self) -> &Opener {
        &self.opener
    }

    /// The block at the top of the tree; `None` for an object that travels inside its root.
    #[must_use]
    pub const fn top(&self) -> Option<Subtree> {
        match self.root.top() {
            None => None,
            Some(link) => Some(Subtree { link, offset: 0, size: self.details.size }),
        }
    }

    /// The packed chunk of an object that travels inside its root; `None` for one in stripes.
    ///
    /// # Errors
    /// [`OpenError`] if it was not sealed with the object's key.
    pub fn open_inline(&self) -> Result<Option<Vec<u8>>, OpenError> {
        let Body::Inline(sealed) = &self.root.body else {
            return Ok(None);
        };
        // A chunk without an own key, so that every mode opens it with the object's.
        let entry = ChunkEntry { size: 0, key: Bytes::new() };
        self.opener.open(0, &entry, sealed.to_vec()).map(Some)
    }

    /// Opens a branch.
    ///
    /// # Errors
    /// [`OpenBlockError`] if the bytes are not the branch that the blocks above it describe.
    ///
    /// # Panics
    /// If the subtree is a leaf.
    pub fn open_branch(&self, subtree: &Subtree, bytes: &[u8]) -> Result<Vec<Subtree>, OpenBlockError> {
        let mut branch = subtree.link.branch(bytes)?;
        let sealed = mem::take(&mut branch.sealed);
        let BranchSizes(sizes) = self.open_half(subtree, &branch.to_bytes(), &sealed)?;
        if sizes.len() != branch.children.len() {
            return Err(
                ManifestError::Contradiction("a branch with more or fewer sizes than children").into()
            );
        }
        check_sum(sizes.iter().copied(), subtree.size)?;
        let mut offset = subtree.offset;
        let mut children = Vec::with_capacity(sizes.len());
        for (link, size) in subtree.link.children(&branch).zip(sizes) {
            let child = Subtree { link, offset, size };
            child.check()?;
            offset += size;
            children.push(child);
        }
        Ok(children)
    }

    /// Opens a leaf.
    ///
    /// # Errors
    /// [`OpenBlockError`] if the bytes are not the leaf that the blocks above it describe.
    ///
    /// # Panics
    /// If the subtree is a branch.
    pub fn open_leaf(&self, subtree: &Subtree, bytes: &[u8]) -> Result<Vec<StripeEntry>, OpenBlockError> {
        let mut leaf = subtree.link.leaf(bytes)?;
        let sealed = mem::take(&mut leaf.sealed);
        let LeafChunks(chunks) = self.open_half(subtree, &leaf.to_bytes(), &sealed)?;
        if chunks.len() != leaf.stripes.len() {
            return Err(ManifestError::Contradiction("a leaf with more or fewer chunks than stripes").into());
        }
        chunks.iter().try_for_each(|chunk| chunk.check(self.root.scheme.mode))?;
        check_sum(chunks.iter().map(|chunk| u64::from(chunk.size)), subtree.size)?;
        let mut offset = subtree.offset;
        let mut entries = Vec::with_capacity(chunks.len());
        for ((chunk_index, stripe), chunk) in (subtree.link.first_stripe()..).zip(leaf.stripes).zip(chunks) {
            let size = u64::from(chunk.size);
            entries.push(StripeEntry { chunk_index, offset, stripe, chunk });
            offset += size;
        }
        Ok(entries)
    }

    fn open_half<T>(&self, subtree: &Subtree, public: &[u8], sealed: &[u8]) -> Result<T, OpenBlockError>
    where
        T: serde::Serialize + serde::de::DeserializeOwned,
    {
        let Link { place, child, .. } = subtree.link;
        let plaintext: Zeroizing<Vec<u8>> =
            self.seal.open(place, public, sealed).ok_or(OpenBlockError::NotAuthentic(child.block))?;
        decode(&plaintext).map_err(|error: DecodeError| ManifestError::from(error).into())
    }

    /// Whether what the details say agrees with the rest of the root.
    fn check(&self) -> Result<(), ManifestError> {
        self.details.check()?;
        match self.top() {
            Some(top) => top.check(),
            None if self.details.size <= chunk_size_max() => Ok(()),
            None => {
                Err(ManifestError::Contradiction("an object inside its root that is longer than a chunk"))
            }
        }
    }
}

impl Subtree {
    /// Whether the block is a leaf, to be read by [`OpenRoot::open_leaf`], or else a branch, to be read by
    /// [`OpenRoot::open_branch`].
    #[must_use]
    pub const fn is_leaf(&self) -> bool {
        self.link.place.level == 0
    }

    /// The block to fetch.
    #[must_use]
    pub const fn block(&self) -> BlockId {
        self.link.child.block
    }

    /// What it takes to read the block's public half.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// The bytes of the object's plaintext that the block leads to.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.size
    }

    /// Every chunk has bytes, and none too many.
    fn check(&self) -> Result<(), ManifestError> {
        let stripe_count = self.link.child.stripe_count;
        let most = stripe_count.saturating_mul(chunk_size_max());
        if self.size > most {
            return Err(ManifestError::OutOfBounds { what: "plaintext size", found: self.size, most });
        }
        if self.size < stripe_count {
            return Err(ManifestError::Contradiction("more stripes than bytes of plaintext"));
        }
        Ok(())
    }
}

impl StripeEntry {
    /// The bytes of the object's plaintext that the chunk is.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.chunk.size)
    }
}

/// The key in the first grant that one of the identities opens and that the root commits to.
fn object_key(root: &Root, identities: &[Identity]) -> Option<ObjectKey> {
    let unwrapped = |identity| root.grants.iter().filter_map(move |grant| unwrap(grant, identity));
    identities.iter().flat_map(unwrapped).find(|key| key.is_committed_by(&root.commitment))
}

fn check_sum(sizes: impl IntoIterator<Item = u64>, expected: u64) -> Result<(), ManifestError> {
    let sum = sizes.into_iter().try_fold(0_u64, |sum, size| sum.checked_add(size));
    if sum == Some(expected) {
        return Ok(());
    }
    Err(ManifestError::Contradiction("sizes that do not add up to what the parent says"))
}

fn chunk_size_max() -> u64 {
    u64::try_from(CHUNK_SIZE_MAX).expect("a small constant")
}
