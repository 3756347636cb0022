//! The format of an entry: a head that says what it is of, and the bytes, which prove themselves.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use datamesh_core::encode::{decode, encode};
use datamesh_core::id::{BlockId, ID_SIZE, ShardId, StripeId};
use datamesh_core::limits::{BLOCK_SIZE_MAX, KIB};
use datamesh_core::manifest::Stripe;

const MAGIC: &[u8; 8] = b"dmcache1";
const LENGTH_SIZE: usize = size_of::<u32>();
/// The longest encoding of a stripe in a head: 255 shard ids and little else.
const STRIPE_ENCODING_SIZE_MAX: usize = 16 * KIB;

/// What an entry is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Stripe(StripeId),
    Block(BlockId),
}

/// What an entry is of, with all that it takes to check its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    Stripe(Stripe),
    Block(BlockId),
}

impl Key {
    pub(super) const fn hash(&self) -> &[u8; ID_SIZE] {
        match self {
            Self::Stripe(stripe) => stripe.as_bytes(),
            Self::Block(block) => block.as_bytes(),
        }
    }

    /// The folder of its kind.
    pub(super) const fn folder(&self) -> &'static str {
        match self {
            Self::Stripe(_) => STRIPES,
            Self::Block(_) => BLOCKS,
        }
    }

    /// Where its entry lies below the cache's directory.
    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        let name = blake3::Hash::from_bytes(*self.hash()).to_hex();
        directory.join(self.folder()).join(&name[..FOLD_LENGTH]).join(name.as_str())
    }
}

/// Entries of stripes lie below here.
pub(super) const STRIPES: &str = "stripes";
/// Entries of blocks lie below here.
pub(super) const BLOCKS: &str = "blocks";
/// Hexadecimal digits of a name that its folder is called.
pub(super) const FOLD_LENGTH: usize = 2;

impl Subject {
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Stripe(stripe) => Key::Stripe(stripe.id()),
            Self::Block(block) => Key::Block(*block),
        }
    }

    pub(super) fn head(&self) -> Vec<u8> {
        let stripe = match self {
            Self::Stripe(stripe) => encode(stripe),
            Self::Block(_) => Vec::new(),
        };
        let size = u32::try_from(stripe.len()).expect("a stripe has 255 shards at most");
        [MAGIC, &size.to_le_bytes()[..], &stripe].concat()
    }

    /// The longest payload that it can have.
    fn payload_size_max(&self) -> usize {
        match self {
            Self::Stripe(stripe) => stripe.redundancy.data_count() * stripe.shard_size(),
            Self::Block(_) => BLOCK_SIZE_MAX,
        }
    }

    /// Whether these are its bytes.
    pub(super) fn proves(&self, payload: &[u8]) -> bool {
        match self {
            Self::Stripe(stripe) => {
                let size = stripe.shard_size();
                payload.len() == self.payload_size_max()
                    && payload
                        .chunks_exact(size)
                        .zip(&stripe.shards)
                        .all(|(data, id)| ShardId::of(data) == *id)
            }
            Self::Block(block) => BlockId::of(payload) == *block,
        }
    }

    /// Reads an entry; `None` if it is not of this subject or its bytes are others.
    pub(super) fn read(&self, mut file: &File) -> io::Result<Option<Vec<u8>>> {
        let expected = self.head();
        let mut head = vec![0; expected.len()];
        match file.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        if head != expected {
            return Ok(None);
        }
        let size_max = self.payload_size_max();
        let mut payload = Vec::with_capacity(size_max + 1);
        // One byte more than there may be tells a file that goes on.
        let bound = u64::try_from(size_max + 1).expect("a payload is a few mebibytes");
        file.take(bound).read_to_end(&mut payload)?;
        Ok(self.proves(&payload).then_some(payload))
    }
}

/// Reads which stripe an entry is of, and where its bytes begin; `None` if it is no entry of this id.
pub(super) fn read_stripe(mut file: &File, id: &StripeId) -> io::Result<Option<(Stripe, u64)>> {
    let mut fixed = [0; MAGIC.len() + LENGTH_SIZE];
    if file.read_exact(&mut fixed).is_err() || !fixed.starts_with(MAGIC) {
        return Ok(None);
    }
    let length = fixed.last_chunk::<LENGTH_SIZE>().expect("the length comes last");
    let size = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if size > STRIPE_ENCODING_SIZE_MAX {
        return Ok(None);
    }
    let mut encoded = vec![0; size];
    if file.read_exact(&mut encoded).is_err() {
        return Ok(None);
    }
    let stripe =
        decode::<Stripe>(&encoded).ok().filter(|stripe| stripe.check().is_ok() && stripe.id() == *id);
    let begin = u64::try_from(fixed.len() + size).expect("a head is a few kibibytes");
    Ok(stripe.map(|stripe| (stripe, begin)))
}
