//! Writes manifests: takes stripes in the order of the object's bytes, gives blocks as soon as they are full.

use core::mem;

use bytes::Bytes;
use datamesh_core::encode::encode;
use datamesh_core::id::{BlockId, ObjectId};
use datamesh_core::limits::{
    BLOCK_SIZE_MAX, BRANCH_CHILDREN_MAX, INLINE_SIZE_MAX, MANIFEST_DEPTH_MAX, RECIPIENTS_MAX,
};
use datamesh_core::manifest::{
    Body, Branch, BranchSizes, Child, ChunkEntry, Details, Grant, Leaf, LeafChunks, MANIFEST_VERSION,
    ManifestError, Place, Root, Stripe, Tree, leaf_stripe_count, stripe_count_max,
};
use datamesh_core::scheme::{Mode, Scheme};

use crate::keys::{Entropy, ObjectKey, Recipient, wrap};
use crate::seal::block::{BlockSeal, ROOT_PLACE};
use crate::seal::{SEAL_SIZE, Sealer};

/// A manifest block as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The hash of its bytes.
    pub id: BlockId,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What remains to be stored once the last stripe is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The blocks below the root, children before parents.
    pub blocks: Vec<Block>,
    /// The root.
    pub root: Block,
}

impl Finished {
    /// The object's id.
    #[must_use]
    pub const fn object(&self) -> ObjectId {
        ObjectId::of_root(self.root.id)
    }
}

/// Why a manifest can't be begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NewManifestError {
    /// Nobody could open the object.
    #[error("a private object has no recipients")]
    NoRecipients,
    /// More grants than a root may hold.
    #[error("object has {found} recipients, at most {RECIPIENTS_MAX}")]
    TooManyRecipients {
        /// How many.
        found: usize,
    },
    /// There is no key that could be granted.
    #[error("a public object has recipients")]
    RecipientsOfPublic,
}

/// Why a manifest can't be finished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FinishError {
    /// A name, media type or metadata out of its bound.
    #[error(transparent)]
    Details(#[from] ManifestError),
    /// The chunks are not the whole object.
    #[error("object has {details} bytes, its chunks {chunks}")]
    Size {
        /// Bytes that the details tell.
        details: u64,
        /// Bytes of all chunks.
        chunks: u64,
    },
    /// An object without stripes must travel inside its root.
    #[error("object has no stripes")]
    NoStripes,
    /// The packed object is too long to travel inside its root.
    #[error("packed object has {found} bytes, too many to travel inside its manifest")]
    NotSmall {
        /// Its bytes.
        found: usize,
    },
}

/// Whether an object that packs to a single chunk of this size travels inside its manifest.
#[must_use]
pub fn fits_inline(mode: Mode, packed_size: usize) -> bool {
    let seal_size = if mode == Mode::Public { 0 } else { SEAL_SIZE };
    packed_size.saturating_add(seal_size) <= INLINE_SIZE_MAX
}

/// Writes one object's manifest. Keeps one path of its tree in memory, whatever the object's size.
///
/// The same parameters, entropy and stripes give the same blocks, so a put that resumes pushes the stripes of its journal
/// again and gets the blocks that it stored before.
#[derive(Debug)]
pub struct ManifestWriter {
    scheme: Scheme,
    seal: BlockSeal,
    /// Seals an object that travels inside its root.
    sealer: Sealer,
    grants: Vec<Grant>,
    commitment: Bytes,
    stripes: Vec<Stripe>,
    chunks: Vec<ChunkEntry>,
    /// The children of the branch begun on each level; of level 1 first.
    branches: Vec<Begun>,
    leaf_count: u64,
    stripe_count: u64,
    size: u64,
}

/// A branch that is not full yet. Bounded by [`BRANCH_CHILDREN_MAX`].
#[derive(Debug, Default)]
struct Begun {
    /// Branches of its level before it.
    index: u64,
    children: Vec<Child>,
    sizes: Vec<u64>,
}

/// A block just written, as its parent will describe it.
struct Written {
    child: Child,
    size: u64,
}

impl ManifestWriter {
    /// Begins the manifest of an object of this scheme and key, for these recipients. A public object has no use for the key
    /// and must have no recipients.
    ///
    /// # Errors
    /// [`NewManifestError`] for too few or too many recipients.
    ///
    /// # Panics
    /// If the scheme is private and without a cipher.
    pub fn new(
        scheme: Scheme,
        key: &ObjectKey,
        recipients: &[Recipient],
        entropy: Entropy<'_>,
    ) -> Result<Self, NewManifestError> {
        let public = scheme.mode == Mode::Public;
        match recipients.len() {
            0 if !public => return Err(NewManifestError::NoRecipients),
            1.. if public => return Err(NewManifestError::RecipientsOfPublic),
            found if found > RECIPIENTS_MAX => return Err(NewManifestError::TooManyRecipients { found }),
            _ => {}
        }
        let grants = recipients.iter().map(|recipient| wrap(key, recipient, &mut *entropy)).collect();
        let commitment = if public { Bytes::new() } else { Bytes::copy_from_slice(&key.commitment()) };
        Ok(Self {
            scheme,
            seal: BlockSeal::new(&scheme, key),
            sealer: Sealer::placed(&scheme, key),
            grants,
            commitment,
            stripes: Vec::new(),
            chunks: Vec::new(),
            branches: Vec::new(),
            leaf_count: 0,
            stripe_count: 0,
            size: 0,
        })
    }

    /// Takes the object's next stripe, and gives the blocks that it completes, children before parents.
    ///
    /// # Errors
    /// [`ManifestError`] if stripe or chunk is out of bounds or not of the object's scheme; nothing was taken then.
    pub fn push(&mut self, stripe: Stripe, chunk: ChunkEntry) -> Result<Vec<Block>, ManifestError> {
        self.check(&stripe, &chunk)?;
        self.stripe_count += 1;
        self.size += u64::from(chunk.size);
        self.stripes.push(stripe);
        self.chunks.push(chunk);
        let mut blocks = Vec::new();
        if self.stripes.len() == leaf_stripe_count(self.scheme.redundancy) {
            let leaf = self.write_leaf(&mut blocks);
            self.add(leaf, 0, &mut blocks);
        }
        Ok(blocks)
    }

    /// Ends the manifest of an object in stripes.
    ///
    /// # Errors
    /// [`FinishError`] if the details are out of bounds or do not fit the chunks.
    pub fn finish(mut self, details: &Details) -> Result<Finished, FinishError> {
        details.check()?;
        if self.stripe_count == 0 {
            return Err(FinishError::NoStripes);
        }
        if self.size != details.size {
            return Err(FinishError::Size { details: details.size, chunks: self.size });
        }
        let mut blocks = Vec::new();
        let tree = self.write_rest(&mut blocks);
        Ok(Finished { blocks, root: self.write_root(Body::Tree(tree), details) })
    }

    /// Ends the manifest of an object that packs to one small chunk, and carries it inside the root. What it is sealed with
    /// follows from the object's key in every mode: inside a root nothing deduplicates.
    ///
    /// # Errors
    /// [`FinishError`] if the details are out of bounds, or the chunk is, see [`fits_inline`].
    ///
    /// # Panics
    /// If stripes were pushed.
    pub fn finish_inline(self, packed: Vec<u8>, details: &Details) -> Result<Finished, FinishError> {
        assert_eq!(self.stripe_count, 0, "an object is in stripes or inside its root, never both");
        details.check()?;
        if !fits_inline(self.scheme.mode, packed.len()) {
            return Err(FinishError::NotSmall { found: packed.len() });
        }
        let sealed = self.sealer.seal(0, packed).bytes;
        Ok(Finished { blocks: Vec::new(), root: self.write_root(Body::Inline(sealed.into()), details) })
    }

    fn check(&self, stripe: &Stripe, chunk: &ChunkEntry) -> Result<(), ManifestError> {
        stripe.check()?;
        chunk.check(self.scheme.mode)?;
        if stripe.redundancy != self.scheme.redundancy {
            return Err(ManifestError::Contradiction("a stripe of another redundancy than its object"));
        }
        let most = stripe_count_max(MANIFEST_DEPTH_MAX, self.scheme.redundancy);
        let found = self.stripe_count + 1;
        if found > most {
            return Err(ManifestError::OutOfBounds { what: "stripes", found, most });
        }
        Ok(())
    }

    /// Adds a block to the branch begun above it, and that to the one above it if it is full now, and so on. The branches of
    /// level 1 are at 0.
    fn add(&mut self, written: Written, at: usize, blocks: &mut Vec<Block>) {
        let (mut written, mut at) = (written, at);
        loop {
            if at == self.branches.len() {
                self.branches.push(Begun::default());
            }
            self.branches[at].children.push(written.child);
            self.branches[at].sizes.push(written.size);
            if self.branches[at].children.len() < BRANCH_CHILDREN_MAX {
                return;
            }
            written = self.write_branch(at, blocks);
            at += 1;
        }
    }

    /// Writes what is begun, from the leaf up, to the one block at the top.
    fn write_rest(&mut self, blocks: &mut Vec<Block>) -> Tree {
        if !self.stripes.is_empty() {
            let leaf = self.write_leaf(blocks);
            self.add(leaf, 0, blocks);
        }
        let mut at = 0;
        loop {
            let highest = at + 1 == self.branches.len();
            match self.branches[at].children[..] {
                [top] if highest => return Tree { depth: level(at), top },
                // Its last branch is full and written already.
                [] => {}
                _ => {
                    let branch = self.write_branch(at, blocks);
                    self.add(branch, at + 1, blocks);
                }
            }
            at += 1;
        }
    }

    fn write_leaf(&mut self, blocks: &mut Vec<Block>) -> Written {
        let place = Place { level: 0, index: self.leaf_count };
        self.leaf_count += 1;
        let chunks = LeafChunks(mem::take(&mut self.chunks));
        let size = chunks.0.iter().map(|chunk| u64::from(chunk.size)).sum();
        let mut leaf = Leaf { stripes: mem::take(&mut self.stripes), sealed: Bytes::new() };
        leaf.sealed = self.seal.seal(place, &leaf.to_bytes(), encode(&chunks));
        let stripe_count = u64::try_from(leaf.stripes.len()).expect("a leaf has few stripes");
        let block = Block::of(leaf.to_bytes());
        let child = Child { block: block.id, stripe_count };
        blocks.push(block);
        Written { child, size }
    }

    fn write_branch(&mut self, at: usize, blocks: &mut Vec<Block>) -> Written {
        let begun = &mut self.branches[at];
        let place = Place { level: level(at) + 1, index: begun.index };
        begun.index += 1;
        let sizes = BranchSizes(mem::take(&mut begun.sizes));
        let size = sizes.0.iter().sum();
        let mut branch = Branch { children: mem::take(&mut begun.children), sealed: Bytes::new() };
        branch.sealed = self.seal.seal(place, &branch.to_bytes(), encode(&sizes));
        let stripe_count = branch.children.iter().map(|child| child.stripe_count).sum();
        let block = Block::of(branch.to_bytes());
        let child = Child { block: block.id, stripe_count };
        blocks.push(block);
        Written { child, size }
    }

    fn write_root(self, body: Body, details: &Details) -> Block {
        let mut root = Root {
            version: MANIFEST_VERSION,
            scheme: self.scheme,
            body,
            grants: self.grants,
            commitment: self.commitment,
            sealed: Bytes::new(),
        };
        root.sealed = self.seal.seal(ROOT_PLACE, &root.to_bytes(), encode(details));
        Block::of(root.to_bytes())
    }
}

impl Block {
    fn of(bytes: Bytes) -> Self {
        assert!(bytes.len() <= BLOCK_SIZE_MAX, "what a block holds is bounded so that the block is");
        Self { id: BlockId::of(&bytes), bytes }
    }
}

/// The level of the children of the branches that are begun there.
fn level(at: usize) -> u8 {
    u8::try_from(at).expect("stripes are bounded to a depth of few levels")
}
