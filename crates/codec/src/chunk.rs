//! Cuts a stream into chunks: fixed size or content defined.
//!
//! The chunker holds no bytes. Its caller keeps a buffer, asks for the size of the chunk at its start, takes that many
//! bytes and asks again, so that where chunks end depends on the stream alone and never on how it arrived.

use core::fmt;

use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use zeroize::{Zeroize, ZeroizeOnDrop};

use datamesh_core::limits::{
    CHUNK_SIZE_MAX, DEFINED_CHUNK_SIZE_MEAN, DEFINED_CHUNK_SIZE_MIN, FIXED_CHUNK_SIZE,
};
use datamesh_core::scheme::Chunking;

const GEAR_CONTEXT: &str = "datamesh 2026 gear table v1";

/// The secret under which content-defined chunks are cut.
///
/// Chunk lengths are visible in the manifest's public half. Cut under a table that everyone knows, they would be a
/// fingerprint by which a known file could be recognised. A gear hash is no cryptographic hash: whoever can make an
/// owner put many files of their choice can learn the table from the lengths. Where that matters, cut fixed chunks.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct GearKey([u8; GearKey::SIZE]);

impl GearKey {
    /// Bytes of a key.
    pub const SIZE: usize = 32;

    /// The key of objects that are meant for everyone: all cut them alike, so that they deduplicate across the mesh.
    pub const PUBLIC: Self = Self([0; Self::SIZE]);

    /// Wraps a key's bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for GearKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("GearKey(..)")
    }
}

/// Whether more of the stream follows what the caller has buffered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It does, or it may.
    MoreFollows,
    /// It doesn't: the buffer ends where the stream ends.
    Ended,
}

/// Finds where chunks end.
#[derive(Debug, Clone)]
pub struct Chunker {
    cuts: Cuts,
}

#[derive(Debug, Clone)]
enum Cuts {
    Fixed,
    ContentDefined(Box<Gear>),
}

impl Chunker {
    /// A chunker of this kind. Without a key, content-defined chunks are cut under [`GearKey::PUBLIC`].
    #[must_use]
    pub fn new(chunking: Chunking, gear_key: Option<&GearKey>) -> Self {
        let cuts = match chunking {
            Chunking::Fixed => Cuts::Fixed,
            Chunking::ContentDefined => {
                Cuts::ContentDefined(Box::new(Gear::new(gear_key.unwrap_or(&GearKey::PUBLIC))))
            }
        };
        Self { cuts }
    }

    /// The most bytes that [`next_size`](Self::next_size) needs to see: the longest chunk.
    #[must_use]
    pub fn buffer_size(&self) -> usize {
        match self.cuts {
            Cuts::Fixed => FIXED_CHUNK_SIZE,
            Cuts::ContentDefined(_) => CHUNK_SIZE_MAX,
        }
    }

    /// The size of the chunk at the start of `buffer`; `None` if the buffer must first hold more, or if it is empty
    /// and nothing follows.
    #[must_use]
    pub fn next_size(&self, buffer: &[u8], rest: Rest) -> Option<usize> {
        let longest = self.buffer_size();
        let undecided = rest == Rest::MoreFollows && buffer.len() < longest;
        if undecided || buffer.is_empty() {
            return None;
        }
        let window = &buffer[..buffer.len().min(longest)];
        match &self.cuts {
            Cuts::Fixed => Some(window.len()),
            Cuts::ContentDefined(gear) => Some(gear.cut(window)),
        }
    }
}

/// The gear hash's table and masks. `doubled` is the table that FastCDC's two bytes per step also need.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct Gear {
    table: [u64; 256],
    doubled: [u64; 256],
    strict_mask: u64,
    loose_mask: u64,
}

impl Gear {
    /// All 256 entries come from the key. The library's own seed would only mix one 64-bit number into a table that
    /// everyone knows, and 64 bits can be guessed.
    fn new(key: &GearKey) -> Self {
        let mut entries = blake3::Hasher::new_derive_key(GEAR_CONTEXT).update(&key.0).finalize_xof();
        let table = [(); 256].map(|()| {
            let mut entry = [0; 8];
            entries.fill(&mut entry);
            u64::from_le_bytes(entry)
        });
        // Level 2 is what the authors of FastCDC found to deduplicate best.
        let (strict_mask, loose_mask) = select_masks(DEFINED_CHUNK_SIZE_MEAN, Normalization::Level2);
        Self { table, doubled: table.map(|entry| entry << 1), strict_mask, loose_mask }
    }

    fn cut(&self, window: &[u8]) -> usize {
        let (_, size) = cut_gear(
            window,
            DEFINED_CHUNK_SIZE_MIN,
            DEFINED_CHUNK_SIZE_MEAN,
            CHUNK_SIZE_MAX,
            self.strict_mask,
            self.loose_mask,
            self.strict_mask << 1,
            self.loose_mask << 1,
            &self.table,
            &self.doubled,
        );
        size
    }
}

impl fmt::Debug for Gear {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Gear(..)")
    }
}
