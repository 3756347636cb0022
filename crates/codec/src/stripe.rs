//! Reed-Solomon: a sealed chunk to k + m shards, and any k shards back.
//!
//! The first k shards are the sealed chunk itself, padded; the m parity shards are linear combinations of them over
//! GF(2^8). The coder trusts no shard that it computed: what it rebuilds must hash to the id that the stripe
//! gives it. Shards that come from elsewhere are hashed where they arrive.

pub mod code;

use core::ops::Range;

use bytes::Bytes;

use datamesh_core::id::ShardId;
use datamesh_core::limits::SEALED_CHUNK_SIZE_MAX;
use datamesh_core::manifest::Stripe;
use datamesh_core::scheme::Redundancy;

use crate::stripe::code::Code;

const PADDING_CONTEXT: &str = "datamesh 2026 stripe padding v1";

/// Bytes at the end of a sealed chunk that its padding follows from.
const PADDING_SEED_SIZE: usize = 1024;

/// A stripe with the bytes of its shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedStripe {
    /// What the manifest says of it.
    pub stripe: Stripe,
    /// The k + m shards, data first. The data shards share one buffer, the parity shards another; replicas share all.
    pub shards: Vec<Bytes>,
}

/// Why shards can't be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer than k shards.
    #[error("stripe has {found} of {needed} shards")]
    TooFewShards {
        /// Shards given.
        found: usize,
        /// k.
        needed: usize,
    },
    /// The stripe is not of the redundancy that the coder is for.
    #[error("stripe is {found}, expected {expected}")]
    Redundancy {
        /// The stripe's.
        found: Redundancy,
        /// The coder's.
        expected: Redundancy,
    },
    /// The stripe says that it holds nothing, or more than any.
    #[error("stripe of {0} sealed bytes, expected 1 to {SEALED_CHUNK_SIZE_MAX}")]
    SealedSize(usize),
    /// The stripe, or what is given of it, has more or fewer shards than k + m.
    #[error("stripe has places for {found} shards, expected {expected}")]
    ShardCount {
        /// Ids or places for shards.
        found: usize,
        /// k + m.
        expected: usize,
    },
    /// A shard is longer or shorter than those of the stripe.
    #[error("shard {index} has {found} bytes, expected {expected}")]
    ShardSize {
        /// Which shard.
        index: usize,
        /// Its bytes.
        found: usize,
        /// What the stripe says.
        expected: usize,
    },
    /// A shard that was computed from others does not hash to its id: one of them is not what it should be, or whoever
    /// made the stripe lied.
    #[error("shard {index}, rebuilt from others, does not hash to {id}")]
    WrongBytes {
        /// Which shard.
        index: usize,
        /// Its id.
        id: ShardId,
    },
}

/// Encodes and decodes the stripes of one redundancy. Setting it up costs more than coding a stripe: keep it.
#[derive(Debug, Clone)]
pub struct Coder {
    redundancy: Redundancy,
    code: Code,
}

impl Coder {
    /// A coder for this redundancy.
    #[must_use]
    pub fn new(redundancy: Redundancy) -> Self {
        Self { redundancy, code: Code::new(redundancy) }
    }

    /// The redundancy of its stripes.
    #[must_use]
    pub fn redundancy(&self) -> Redundancy {
        self.redundancy
    }

    /// Stripes a sealed chunk.
    ///
    /// The chunk is not copied if its vector has capacity for the padding, as those of
    /// [`pack`](crate::compress::pack) have.
    ///
    /// # Panics
    /// If the sealed chunk is empty or longer than [`SEALED_CHUNK_SIZE_MAX`].
    #[must_use]
    pub fn encode(&self, mut sealed: Vec<u8>) -> EncodedStripe {
        assert!(
            (1..=SEALED_CHUNK_SIZE_MAX).contains(&sealed.len()),
            "sealed chunk of {} bytes",
            sealed.len()
        );
        let sealed_size = u32::try_from(sealed.len()).expect("a sealed chunk is a few mebibytes");
        let shard_size = self.redundancy.shard_size(sealed.len());
        let data_size = self.redundancy.data_count() * shard_size;
        sealed.reserve_exact(data_size - sealed.len());
        pad(&mut sealed, data_size);
        let (ids, shards) = if self.redundancy.data_count() == 1 {
            self.replicas(sealed)
        } else {
            self.coded(sealed, shard_size)
        };
        EncodedStripe { stripe: Stripe { redundancy: self.redundancy, sealed_size, shards: ids }, shards }
    }

    /// Where k is 1 the code gives m copies: there is nothing to compute, and one hash to take.
    fn replicas(&self, data: Vec<u8>) -> (Vec<ShardId>, Vec<Bytes>) {
        let (shard, count) = (Bytes::from(data), self.redundancy.shard_count());
        (vec![ShardId::of(&shard); count], vec![shard; count])
    }

    fn coded(&self, data: Vec<u8>, shard_size: usize) -> (Vec<ShardId>, Vec<Bytes>) {
        let mut parity = vec![0; self.redundancy.parity_count() * shard_size];
        let data_shards: Vec<&[u8]> = data.chunks_exact(shard_size).collect();
        self.code.encode(&data_shards, &mut parity.chunks_exact_mut(shard_size).collect::<Vec<_>>());
        let shards: Vec<Bytes> = slices(data, shard_size).chain(slices(parity, shard_size)).collect();
        (shards.iter().map(|shard| ShardId::of(shard)).collect(), shards)
    }

    /// The sealed chunk from any k shards, each at its own place.
    ///
    /// The bytes are those of the data shards that the stripe names, whichever k of its shards are given: those given
    /// must have been checked against their ids, and data shards that are missing are rebuilt and checked here.
    ///
    /// # Errors
    /// [`DecodeError`] if fewer than k shards are given, or if they are not those of the stripe.
    pub fn decode(&self, stripe: &Stripe, shards: &[Option<Bytes>]) -> Result<Vec<u8>, DecodeError> {
        let mut sealed = self.data(stripe, shards)?;
        sealed.truncate(stripe.sealed_size());
        Ok(sealed)
    }

    /// The k data shards one after another: the sealed chunk as [`Coder::decode`] gives it, and its padding.
    ///
    /// # Errors
    /// As [`Coder::decode`].
    pub fn data(&self, stripe: &Stripe, shards: &[Option<Bytes>]) -> Result<Vec<u8>, DecodeError> {
        self.check(stripe, shards)?;
        let shard_size = stripe.shard_size();
        let data_count = self.redundancy.data_count();
        let mut sealed = Vec::with_capacity(data_count * shard_size);
        for shard in &shards[..data_count] {
            match shard {
                Some(shard) => sealed.extend_from_slice(shard),
                None => sealed.resize(sealed.len() + shard_size, 0),
            }
        }
        let missing: Vec<usize> = (0..data_count).filter(|index| shards[*index].is_none()).collect();
        if !missing.is_empty() {
            let places = sealed.chunks_exact_mut(shard_size).enumerate();
            let places =
                places.filter(|(index, _)| shards[*index].is_none()).map(|(_, place)| place).collect();
            self.rebuild_into(stripe, shards, &missing, places)?;
        }
        Ok(sealed)
    }

    /// The wanted shards, data or parity, from any k. Each has been checked against its id.
    ///
    /// # Errors
    /// [`DecodeError`] if fewer than k shards are given, or if they are not those of the stripe.
    ///
    /// # Panics
    /// If a wanted index is no shard of the stripe.
    pub fn rebuild(
        &self,
        stripe: &Stripe,
        shards: &[Option<Bytes>],
        wanted: &[usize],
    ) -> Result<Vec<Bytes>, DecodeError> {
        self.check(stripe, shards)?;
        let shard_size = stripe.shard_size();
        let mut rebuilt = vec![0; wanted.len() * shard_size];
        self.rebuild_into(stripe, shards, wanted, rebuilt.chunks_exact_mut(shard_size).collect())?;
        Ok(slices(rebuilt, shard_size).collect())
    }

    fn rebuild_into(
        &self,
        stripe: &Stripe,
        shards: &[Option<Bytes>],
        wanted: &[usize],
        mut places: Vec<&mut [u8]>,
    ) -> Result<(), DecodeError> {
        let given: Vec<Option<&[u8]>> = shards.iter().map(Option::as_deref).collect();
        self.code.rebuild(&given, wanted, &mut places);
        for (&index, place) in wanted.iter().zip(places) {
            let id = stripe.shards[index];
            if ShardId::of(place) != id {
                return Err(DecodeError::WrongBytes { index, id });
            }
        }
        Ok(())
    }

    /// Whether the code can run on these shards: what it allocates then is bounded by what was given.
    fn check(&self, stripe: &Stripe, shards: &[Option<Bytes>]) -> Result<(), DecodeError> {
        if stripe.redundancy != self.redundancy {
            return Err(DecodeError::Redundancy { found: stripe.redundancy, expected: self.redundancy });
        }
        let sealed_size = stripe.sealed_size();
        if !(1..=SEALED_CHUNK_SIZE_MAX).contains(&sealed_size) {
            return Err(DecodeError::SealedSize(sealed_size));
        }
        let expected = self.redundancy.shard_count();
        if let Some(found) = [stripe.shards.len(), shards.len()].into_iter().find(|count| *count != expected)
        {
            return Err(DecodeError::ShardCount { found, expected });
        }
        let expected = stripe.shard_size();
        let present =
            || shards.iter().enumerate().filter_map(|(index, shard)| Some((index, shard.as_ref()?)));
        if let Some((index, shard)) = present().find(|(_, shard)| shard.len() != expected) {
            return Err(DecodeError::ShardSize { index, found: shard.len(), expected });
        }
        let (found, needed) = (present().count(), self.redundancy.data_count());
        if found < needed { Err(DecodeError::TooFewShards { found, needed }) } else { Ok(()) }
    }
}

/// The shards that lie one after another in this buffer, without copying it.
fn slices(buffer: Vec<u8>, shard_size: usize) -> impl Iterator<Item = Bytes> {
    let buffer = Bytes::from(buffer);
    let place = move |index: usize| -> Range<usize> { index * shard_size..(index + 1) * shard_size };
    (0..buffer.len() / shard_size).map(move |index| buffer.slice(place(index)))
}

/// Fills up a sealed chunk with bytes that follow from its end. Were they zeros, the shards of short chunks that are nothing
/// but padding would be the same in all stripes, and a node would hold one shard for the owners of all of them.
fn pad(sealed: &mut Vec<u8>, padded_size: usize) {
    let size = sealed.len();
    let mut hasher = blake3::Hasher::new_derive_key(PADDING_CONTEXT);
    hasher.update(&sealed[size.saturating_sub(PADDING_SEED_SIZE)..]);
    sealed.resize(padded_size, 0);
    hasher.finalize_xof().fill(&mut sealed[size..]);
}
