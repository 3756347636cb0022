//! How an object is encoded: chunking, compression, cipher, and k data + m parity shards.

use core::fmt;
use core::num::NonZeroU8;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{DATA_SHARDS_MAX, PARITY_SHARDS_MAX, SHARD_ALIGNMENT, STRIPE_SHARDS_MAX};

/// How an object is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheme {
    /// Who can read it, and what deduplicates with what.
    pub mode: Mode,
    /// Where chunks end.
    pub chunking: Chunking,
    /// Whether chunks are compressed.
    pub compression: Compression,
    /// What encrypts chunks; nothing in [`Mode::Public`] alone.
    pub cipher: Cipher,
    /// Data and parity shards of each stripe.
    pub redundancy: Redundancy,
}

/// Who can read an object, and what deduplicates with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A fresh random key: identical files give unrelated ciphertexts.
    Sealed,
    /// Chunk keys follow from the chunk under the owner's secret: deduplicates within one owner.
    Dedup,
    /// Not encrypted: deduplicates across the mesh, and anyone may read it.
    Public,
}

/// Where chunks end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chunking {
    /// Every [`FIXED_CHUNK_SIZE`](crate::limits::FIXED_CHUNK_SIZE) bytes: reveals nothing but the size.
    Fixed,
    /// Where the content says so (FastCDC with a keyed gear table).
    ContentDefined,
}

/// Whether chunks are compressed before they are sealed, each only when it pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Never.
    None,
    /// Zstandard at this level.
    Zstd(i8),
}

/// What encrypts and authenticates chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cipher {
    /// Nothing does.
    None,
    /// AES-256-GCM (NIST SP 800-38D).
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439).
    Chacha20Poly1305,
}

/// Data and parity shards of a stripe: any k of the k + m rebuild it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u8, u8)", into = "(u8, u8)")]
pub struct Redundancy {
    data: NonZeroU8,
    parity: u8,
}

/// Why two numbers, or a text, are no redundancy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedundancyError {
    /// Out of range.
    #[error(
        "{data}+{parity} is out of range: 1..={DATA_SHARDS_MAX} data, 0..={PARITY_SHARDS_MAX} parity, together up to {STRIPE_SHARDS_MAX}"
    )]
    OutOfRange {
        /// Data shards asked for.
        data: usize,
        /// Parity shards asked for.
        parity: usize,
    },
    /// Not of the form `4+2`.
    #[error("`{0}` is no redundancy: write data and parity shards as in 4+2")]
    Malformed(String),
}

impl Redundancy {
    /// The presets that a put chooses from, smallest first.
    pub const PRESETS: [Self; 6] = [
        Self::preset(1, 1),
        Self::preset(1, 2),
        Self::preset(2, 2),
        Self::preset(4, 2),
        Self::preset(8, 4),
        Self::preset(10, 6),
    ];

    const fn preset(data: u8, parity: u8) -> Self {
        Self { data: NonZeroU8::new(data).expect("presets have data shards"), parity }
    }

    /// k data and m parity shards.
    ///
    /// # Errors
    /// [`RedundancyError::OutOfRange`] unless 1 ≤ k ≤ 128, m ≤ 128 and k + m ≤ 255.
    pub fn new(data: usize, parity: usize) -> Result<Self, RedundancyError> {
        let out_of_range = || RedundancyError::OutOfRange { data, parity };
        if data > DATA_SHARDS_MAX || parity > PARITY_SHARDS_MAX || data + parity > STRIPE_SHARDS_MAX {
            return Err(out_of_range());
        }
        let narrow = |count: usize| u8::try_from(count).map_err(|_| out_of_range());
        let data = NonZeroU8::new(narrow(data)?).ok_or_else(out_of_range)?;
        Ok(Self { data, parity: narrow(parity)? })
    }

    /// The largest preset that this many failure domains hold, one shard each; `None` below two.
    #[must_use]
    pub fn largest_for(domain_count: usize) -> Option<Self> {
        Self::PRESETS.into_iter().rev().find(|preset| preset.shard_count() <= domain_count)
    }

    /// k: the shards that rebuild a stripe.
    #[must_use]
    pub fn data_count(self) -> usize {
        usize::from(self.data.get())
    }

    /// m: the shards that may be lost.
    #[must_use]
    pub fn parity_count(self) -> usize {
        usize::from(self.parity)
    }

    /// k + m.
    #[must_use]
    pub fn shard_count(self) -> usize {
        self.data_count() + self.parity_count()
    }

    /// The fewest distinct failure domains that a put may be acknowledged on, as degraded: k + ⌈m/2⌉.
    #[must_use]
    pub fn acknowledged_count_min(self) -> usize {
        self.data_count() + self.parity_count().div_ceil(2)
    }

    /// Replicas of each manifest block: m + 1, so that a manifest survives what its stripes survive.
    #[must_use]
    pub fn manifest_replica_count(self) -> usize {
        self.parity_count() + 1
    }

    /// The redundancy of the manifest blocks of an object whose stripes have this one: a replica is all of a block.
    #[must_use]
    pub const fn of_manifest(self) -> Self {
        Self { data: NonZeroU8::MIN, parity: self.parity }
    }

    /// The fewest manifest replicas that a put may be acknowledged on: a majority.
    #[must_use]
    pub fn manifest_replica_count_min(self) -> usize {
        self.manifest_replica_count() / 2 + 1
    }

    /// Bytes of each shard of a stripe whose sealed chunk has this many bytes.
    #[must_use]
    pub fn shard_size(self, sealed_size: usize) -> usize {
        sealed_size.div_ceil(self.data_count()).next_multiple_of(SHARD_ALIGNMENT)
    }
}

impl fmt::Display for Redundancy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}+{}", self.data, self.parity)
    }
}

impl FromStr for Redundancy {
    type Err = RedundancyError;

    fn from_str(text: &str) -> Result<Self, RedundancyError> {
        let malformed = || RedundancyError::Malformed(text.to_owned());
        let (data, parity) = text.split_once('+').ok_or_else(malformed)?;
        let number = |digits: &str| digits.trim().parse::<usize>().map_err(|_| malformed());
        Self::new(number(data)?, number(parity)?)
    }
}

impl TryFrom<(u8, u8)> for Redundancy {
    type Error = RedundancyError;

    fn try_from((data, parity): (u8, u8)) -> Result<Self, RedundancyError> {
        Self::new(usize::from(data), usize::from(parity))
    }
}

impl From<Redundancy> for (u8, u8) {
    fn from(redundancy: Redundancy) -> Self {
        (redundancy.data.get(), redundancy.parity)
    }
}

#[cfg(test)]
mod tests {
    use super::Redundancy;

    #[test]
    fn a_put_takes_the_largest_preset_that_the_domains_hold() {
        let chosen = |domains| Redundancy::largest_for(domains).map(|preset| preset.to_string());
        let expected =
            [(0, None), (1, None), (2, Some("1+1")), (3, Some("1+2")), (5, Some("2+2")), (6, Some("4+2"))];
        for (domains, preset) in expected {
            assert_eq!(chosen(domains).as_deref(), preset, "{domains}");
        }
        assert_eq!(chosen(12).as_deref(), Some("8+4"));
        assert_eq!(chosen(15).as_deref(), Some("8+4"));
        assert_eq!(chosen(10_000).as_deref(), Some("10+6"));
    }

    #[test]
    fn only_what_the_field_holds_is_a_redundancy() {
        for good in ["1+0", "4+2", "128+127", "127+128", "16+8"] {
            assert_eq!(good.parse::<Redundancy>().map(|parsed| parsed.to_string()).as_deref(), Ok(good));
        }
        for bad in ["0+2", "129+1", "1+129", "128+128", "4", "4-2", "+", "-1+2", "999999999999999999999+1"] {
            assert!(bad.parse::<Redundancy>().is_err(), "{bad}");
        }
    }
}
