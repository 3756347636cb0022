//! BLAKE3 hash trees: prove and verify a range of a shard.
//!
//! A shard's id is the plain BLAKE3 hash of its bytes, which is the root of a binary tree over leaves of 1 KiB. A proof
//! for a run of leaves is the hashes of the largest subtrees beside the run, in the order of the bytes, and then the
//! run's own bytes. The verifier knows the shard's size, so it knows the tree's shape, which hashes a proof must have and
//! how long it must be: nothing in a proof says how to read it. Hashing the run and joining it with the hashes beside it
//! gives the shard's id, or the proof is refused.
//!
//! The libraries for such proofs (`bao`, `bao-tree`) send every inner hash of the run as well, so that a stream can be
//! checked a leaf at a time. A shard's range fits memory, so here a proof is a few hundred bytes longer than the range.

use core::ops::Range;

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

use datamesh_core::id::{ID_SIZE, ShardId};
use datamesh_core::limits::SHARD_SIZE_MAX;

/// Bytes of a leaf; the last leaf of a shard may be shorter.
pub const LEAF_SIZE: usize = blake3::CHUNK_LEN;

/// Most hashes of a proof: one on either side of the run at each level of the tree.
pub const PROOF_HASHES_MAX: usize = 2 * levels(SHARD_SIZE_MAX.div_ceil(LEAF_SIZE));

/// Levels of joins above this many leaves.
const fn levels(leaf_count: usize) -> usize {
    if leaf_count <= 1 { 0 } else { 1 + levels(leaf_count.div_ceil(2)) }
}

/// A run of leaves of a shard of known size; never empty, never past the shard's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaves {
    shard_size: usize,
    bytes: Range<usize>,
}

/// Why there are no such leaves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeavesError {
    /// The run has no leaf.
    #[error("leaves {first}..{end} are none")]
    Empty {
        /// The first leaf.
        first: usize,
        /// One past the last leaf.
        end: usize,
    },
    /// The run goes past the shard's end.
    #[error("leaves {first}..{end} of a shard of {leaf_count}")]
    OutOfShard {
        /// The first leaf.
        first: usize,
        /// One past the last leaf.
        end: usize,
        /// The shard's leaves.
        leaf_count: usize,
    },
    /// No shard is so long.
    #[error("shard of {0} bytes, at most {SHARD_SIZE_MAX}")]
    ShardSize(usize),
}

/// Why a proof is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Longer or shorter than the proof of these leaves must be.
    #[error("proof of {found} bytes, expected {expected}")]
    Size {
        /// Bytes given.
        found: usize,
        /// Bytes that it must have.
        expected: usize,
    },
    /// The bytes, or the hashes beside them, are not those of the shard.
    #[error("proof does not lead to shard {0}")]
    WrongBytes(ShardId),
}

impl Leaves {
    /// These leaves, counted from 0, of a shard of this many bytes.
    ///
    /// # Errors
    /// [`LeavesError`] if the run is empty or not within the shard, or if no shard is of this size.
    pub fn new(leaves: Range<usize>, shard_size: usize) -> Result<Self, LeavesError> {
        if shard_size > SHARD_SIZE_MAX {
            return Err(LeavesError::ShardSize(shard_size));
        }
        let Range { start: first, end } = leaves;
        let leaf_count = shard_size.div_ceil(LEAF_SIZE);
        if first >= end {
            return Err(LeavesError::Empty { first, end });
        }
        if end > leaf_count {
            return Err(LeavesError::OutOfShard { first, end, leaf_count });
        }
        Ok(Self { shard_size, bytes: first * LEAF_SIZE..(end * LEAF_SIZE).min(shard_size) })
    }

    /// The leaves that hold these bytes of a shard.
    ///
    /// # Errors
    /// [`LeavesError`] as for [`new`](Self::new).
    pub fn covering(bytes: Range<usize>, shard_size: usize) -> Result<Self, LeavesError> {
        let end = if bytes.start < bytes.end { bytes.end.div_ceil(LEAF_SIZE) } else { 0 };
        Self::new(bytes.start / LEAF_SIZE..end, shard_size)
    }

    /// The bytes of the shard that these leaves are.
    #[must_use]
    pub fn bytes(&self) -> Range<usize> {
        self.bytes.clone()
    }

    /// Bytes of the shard.
    #[must_use]
    pub fn shard_size(&self) -> usize {
        self.shard_size
    }

    /// Bytes of the one proof that these leaves have.
    #[must_use]
    pub fn proof_size(&self) -> usize {
        self.hash_count(&self.root()) * ID_SIZE + self.bytes.len()
    }

    fn root(&self) -> Range<usize> {
        0..self.shard_size
    }

    fn hash_count(&self, subtree: &Range<usize>) -> usize {
        match self.relation(subtree) {
            Relation::Beside => 1,
            Relation::Within => 0,
            Relation::Across(left, right) => self.hash_count(&left) + self.hash_count(&right),
        }
    }

    fn relation(&self, subtree: &Range<usize>) -> Relation {
        if subtree.end <= self.bytes.start || self.bytes.end <= subtree.start {
            Relation::Beside
        } else if self.bytes.start <= subtree.start && subtree.end <= self.bytes.end {
            Relation::Within
        } else {
            // Leaves are whole, so what a run cuts has more than one of them.
            let (left, right) = halves(subtree);
            Relation::Across(left, right)
        }
    }
}

/// How a subtree, given as the bytes below it, lies to a run of leaves.
enum Relation {
    Beside,
    Within,
    Across(Range<usize>, Range<usize>),
}

fn halves(subtree: &Range<usize>) -> (Range<usize>, Range<usize>) {
    let size = u64::try_from(subtree.len()).expect("a shard's size fits 64 bits");
    let left = usize::try_from(left_subtree_len(size)).expect("a part of what fits memory");
    let middle = subtree.start + left;
    (subtree.start..middle, middle..subtree.end)
}

/// Proves what these leaves of a shard hold.
///
/// # Panics
/// If the shard is not of the size that the leaves were made for.
#[must_use]
pub fn prove(shard: &[u8], leaves: &Leaves) -> Vec<u8> {
    assert_eq!(shard.len(), leaves.shard_size, "leaves are of a shard of their size");
    let mut proof = Vec::with_capacity(leaves.proof_size());
    push_hashes(shard, leaves, &leaves.root(), &mut proof);
    proof.extend_from_slice(&shard[leaves.bytes()]);
    debug_assert_eq!(proof.len(), leaves.proof_size());
    proof
}

fn push_hashes(shard: &[u8], leaves: &Leaves, subtree: &Range<usize>, proof: &mut Vec<u8>) {
    match leaves.relation(subtree) {
        Relation::Beside => proof.extend_from_slice(&hash_of(&shard[subtree.clone()], subtree.start)),
        Relation::Within => {}
        Relation::Across(left, right) => {
            push_hashes(shard, leaves, &left, proof);
            push_hashes(shard, leaves, &right, proof);
        }
    }
}

/// Checks a proof against a shard's id, and gives the bytes of the leaves.
///
/// The bytes are the shard's at that place even if the leaves were made for a wrong size: then they are proven, or the
/// proof is refused. The size itself is proven only by a run that has the last leaf.
///
/// # Errors
/// [`VerifyError`] if the proof is not of the one size it can have, or does not lead to the shard's id.
pub fn verify<'proof>(
    id: ShardId,
    leaves: &Leaves,
    proof: &'proof [u8],
) -> Result<&'proof [u8], VerifyError> {
    let expected = leaves.proof_size();
    if proof.len() != expected {
        return Err(VerifyError::Size { found: proof.len(), expected });
    }
    let (hashes, bytes) = proof.split_at(expected - leaves.bytes.len());
    let (hashes, _) = hashes.as_chunks::<ID_SIZE>();
    let mut given = Given { leaves, hashes: hashes.iter(), bytes };
    if given.root() == *id.as_bytes() { Ok(bytes) } else { Err(VerifyError::WrongBytes(id)) }
}

/// What a proof gives, of a size that was checked.
struct Given<'proof> {
    leaves: &'proof Leaves,
    hashes: core::slice::Iter<'proof, [u8; ID_SIZE]>,
    bytes: &'proof [u8],
}

impl Given<'_> {
    fn root(&mut self) -> blake3::Hash {
        match self.leaves.relation(&self.leaves.root()) {
            Relation::Across(left, right) => {
                let (left, right) = (self.subtree(&left), self.subtree(&right));
                merge_subtrees_root(&left, &right, Mode::Hash)
            }
            // A run is never empty, so nothing but all of the shard remains.
            Relation::Within | Relation::Beside => blake3::hash(self.bytes),
        }
    }

    fn subtree(&mut self, subtree: &Range<usize>) -> ChainingValue {
        match self.leaves.relation(subtree) {
            Relation::Beside => *self.hashes.next().expect("the proof's size was checked"),
            Relation::Within => {
                let start = subtree.start - self.leaves.bytes.start;
                hash_of(&self.bytes[start..start + subtree.len()], subtree.start)
            }
            Relation::Across(left, right) => {
                let (left, right) = (self.subtree(&left), self.subtree(&right));
                merge_subtrees_non_root(&left, &right, Mode::Hash)
            }
        }
    }
}

/// The hash of a subtree that is not the root, of these bytes from this offset of the shard on.
fn hash_of(bytes: &[u8], offset: usize) -> ChainingValue {
    let offset = u64::try_from(offset).expect("a shard's size fits 64 bits");
    blake3::Hasher::new().set_input_offset(offset).update(bytes).finalize_non_root()
}
