//! Compresses a chunk when it pays; decompression is bounded by the manifest.
//!
//! A packed chunk is a payload and one trailer byte that says what the payload is. The byte comes last so that a stored
//! chunk is unpacked by dropping it, and so that whatever is in front of it can be sealed and opened in place.
//!
//! Every chunk gets a compressor of its own. Reusing one measures a few percent faster, but at some levels zstd
//! carries a salt for its hash tables from one call to the next; with a fresh one the bytes depend on the chunk alone,
//! and deduplication in public and dedup mode rests on that.

use zstd::bulk::{Compressor, Decompressor};

use datamesh_core::limits::{CHUNK_SIZE_MAX, DATA_SHARDS_MAX, KIB, SEAL_OVERHEAD_MAX, SHARD_ALIGNMENT};
use datamesh_core::scheme::Compression;

const STORED: u8 = 0;
const ZSTD: u8 = 1;
const TRAILER_SIZE: usize = 1;

/// Bytes that a packed chunk can grow by without being moved: sealing appends a tag, striping pads with zeros.
pub const SPARE_CAPACITY: usize = SEAL_OVERHEAD_MAX + DATA_SHARDS_MAX * SHARD_ALIGNMENT;

/// A chunk shorter than this is compressed without being probed: the probe would cost as much.
const PROBED_SIZE_MIN: usize = 64 * KIB;
const PROBE_SAMPLES: usize = 8;
const PROBE_SAMPLE_SIZE: usize = 2 * KIB;
const PROBE_LEVEL: i32 = 1;
/// Compression pays when it saves at least one byte in this many: less would not repay decompressing on every read.
const SAVING_DIVISOR: usize = 64;

/// Why a packed chunk can't be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// Not even a trailer.
    #[error("packed chunk is empty")]
    Empty,
    /// The trailer names no known form.
    #[error("packed chunk has unknown form {0}")]
    UnknownForm(u8),
    /// No chunk is so long.
    #[error("chunk of {0} bytes, at most {CHUNK_SIZE_MAX}")]
    TooLong(usize),
    /// The chunk is shorter or longer than the manifest says.
    #[error("chunk unpacks to {found} bytes, expected {expected}")]
    Size {
        /// Bytes found.
        found: usize,
        /// Bytes that the manifest says.
        expected: usize,
    },
    /// The payload is not zstd, or would unpack to more than the manifest says.
    #[error("chunk of {expected} bytes does not decompress: {reason}")]
    Malformed {
        /// Bytes that the manifest says.
        expected: usize,
        /// What the decompressor found.
        reason: String,
    },
}

/// Packs a chunk, compressed if that pays. The same chunk always gives the same bytes.
///
/// The result has [`SPARE_CAPACITY`], so that sealing and striping it never move it.
///
/// # Panics
/// If the chunk is longer than [`CHUNK_SIZE_MAX`].
#[must_use]
pub fn pack(chunk: &[u8], compression: Compression) -> Vec<u8> {
    assert!(chunk.len() <= CHUNK_SIZE_MAX, "chunkers cut nothing longer");
    match compression {
        Compression::Zstd(level) if promises_to_shrink(chunk) => {
            compressed(chunk, i32::from(level)).unwrap_or_else(|| stored(chunk))
        }
        Compression::Zstd(_) | Compression::None => stored(chunk),
    }
}

/// Unpacks what [`pack`] packed, into exactly `plain_size` bytes.
///
/// # Errors
/// [`UnpackError`] if the bytes are nothing that was packed, or not of a chunk of that size. Nothing larger than
/// `plain_size` is allocated, whatever the bytes claim.
pub fn unpack(mut packed: Vec<u8>, plain_size: usize) -> Result<Vec<u8>, UnpackError> {
    if plain_size > CHUNK_SIZE_MAX {
        return Err(UnpackError::TooLong(plain_size));
    }
    let chunk = match packed.pop().ok_or(UnpackError::Empty)? {
        STORED => packed,
        ZSTD => decompressed(&packed, plain_size)?,
        other => return Err(UnpackError::UnknownForm(other)),
    };
    if chunk.len() == plain_size {
        Ok(chunk)
    } else {
        Err(UnpackError::Size { found: chunk.len(), expected: plain_size })
    }
}

fn stored(chunk: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(chunk.len() + TRAILER_SIZE + SPARE_CAPACITY);
    packed.extend_from_slice(chunk);
    packed.push(STORED);
    packed
}

/// The chunk compressed, or nothing if that doesn't pay.
fn compressed(chunk: &[u8], level: i32) -> Option<Vec<u8>> {
    let room = chunk.len() + TRAILER_SIZE + SPARE_CAPACITY;
    let mut packed = compress_within(chunk, level, room).filter(|packed| pays(chunk.len(), packed.len()))?;
    packed.push(ZSTD);
    // What compression saved goes back at once: a chunk in flight should take what it weighs.
    packed.shrink_to(packed.len() + SPARE_CAPACITY);
    Some(packed)
}

/// The bytes compressed; nothing if they need more than `room`.
fn compress_within(bytes: &[u8], level: i32, room: usize) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(room);
    let mut compressor = Compressor::new(level).ok()?;
    compressor.compress_to_buffer(bytes, &mut output).ok()?;
    Some(output)
}

fn decompressed(payload: &[u8], plain_size: usize) -> Result<Vec<u8>, UnpackError> {
    let malformed =
        |error: std::io::Error| UnpackError::Malformed { expected: plain_size, reason: error.to_string() };
    // The decompressor writes no further than the capacity.
    let mut chunk = Vec::with_capacity(plain_size);
    let mut decompressor = Decompressor::new().map_err(malformed)?;
    decompressor.decompress_to_buffer(payload, &mut chunk).map_err(malformed)?;
    Ok(chunk)
}

/// Whether samples spread over the chunk compress. Media, archives and ciphertexts don't, and cost next to nothing here.
fn promises_to_shrink(chunk: &[u8]) -> bool {
    if chunk.len() < PROBED_SIZE_MIN {
        return true;
    }
    let stride = (chunk.len() - PROBE_SAMPLE_SIZE) / (PROBE_SAMPLES - 1);
    let samples: Vec<u8> = (0..PROBE_SAMPLES)
        .flat_map(|sample| &chunk[sample * stride..sample * stride + PROBE_SAMPLE_SIZE])
        .copied()
        .collect();
    compress_within(&samples, PROBE_LEVEL, samples.len())
        .is_some_and(|compressed| pays(samples.len(), compressed.len()))
}

fn pays(plain_size: usize, compressed_size: usize) -> bool {
    compressed_size < plain_size - plain_size / SAVING_DIVISOR
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use datamesh_core::limits::{CHUNK_SIZE_MAX, MIB};
    use datamesh_core::scheme::Compression;

    use super::{SPARE_CAPACITY, STORED, UnpackError, ZSTD, pack, promises_to_shrink, unpack};

    const LEVEL: Compression = Compression::Zstd(3);

    fn noise(seed: u64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn text(size: usize) -> Vec<u8> {
        (0_u64..)
            .flat_map(|line| format!("line {line} says {}\n", line * line % 977).into_bytes())
            .take(size)
            .collect()
    }

    fn any_chunk() -> impl Strategy<Value = Vec<u8>> {
        let size = || prop_oneof![0..40_usize, 0..200_000_usize];
        prop_oneof![
            (any::<u64>(), size()).prop_map(|(seed, size)| noise(seed, size)),
            size().prop_map(text),
            (any::<u64>(), size(), size())
                .prop_map(|(seed, left, right)| [noise(seed, left), text(right)].concat()),
        ]
    }

    fn any_compression() -> impl Strategy<Value = Compression> {
        prop_oneof![Just(Compression::None), (-7..9_i8).prop_map(Compression::Zstd)]
    }

    proptest! {
        #[test]
        fn what_was_packed_unpacks(chunk in any_chunk(), compression in any_compression()) {
            let packed = pack(&chunk, compression);
            prop_assert!(packed.len() <= chunk.len() + 1);
            prop_assert!(packed.capacity() - packed.len() >= SPARE_CAPACITY);
            prop_assert_eq!(&packed, &pack(&chunk, compression));
            prop_assert_eq!(unpack(packed, chunk.len()), Ok(chunk));
        }

        #[test]
        fn hostile_bytes_are_an_error_or_of_the_expected_size(
            mut packed in proptest::collection::vec(any::<u8>(), 0..300), form in 0..3_u8, plain_size in 0..5000_usize,
        ) {
            packed.push(form);
            prop_assert!(unpack(packed, plain_size).map_or(true, |chunk| chunk.len() == plain_size));
        }
    }

    #[test]
    fn text_shrinks_and_noise_is_stored() {
        let packed = pack(&text(MIB), LEVEL);
        assert!(packed.len() < MIB / 3);
        assert_eq!(packed.last(), Some(&ZSTD));
        for (chunk, compression) in [(noise(1, MIB), LEVEL), (text(MIB), Compression::None)] {
            let packed = pack(&chunk, compression);
            assert_eq!(packed.last(), Some(&STORED));
            assert_eq!(packed.len(), MIB + 1);
        }
    }

    #[test]
    fn the_probe_finds_text_between_noise() {
        assert!(!promises_to_shrink(&noise(2, MIB)));
        let mixed: Vec<u8> =
            (0..8).flat_map(|part| [noise(part, MIB / 16), text(MIB / 16)].concat()).collect();
        assert!(promises_to_shrink(&mixed));
    }

    #[test]
    fn a_bomb_is_refused_before_it_unfolds() {
        let mut bomb = zstd::bulk::compress(&vec![0; 64 * MIB], 3).expect("compresses");
        assert!(bomb.len() < 10_000);
        bomb.push(ZSTD);
        let error = unpack(bomb.clone(), MIB).expect_err("more than it may be");
        assert!(matches!(error, UnpackError::Malformed { expected: MIB, .. }), "{error}");
        assert_eq!(unpack(bomb, 64 * MIB), Err(UnpackError::TooLong(64 * MIB)));
    }

    #[test]
    fn a_chunk_of_another_size_than_the_manifest_says_is_refused() {
        for compression in [LEVEL, Compression::None] {
            let packed = pack(&text(5000), compression);
            assert_eq!(unpack(packed.clone(), 5001), Err(UnpackError::Size { found: 5000, expected: 5001 }));
            assert!(unpack(packed, 4999).is_err());
        }
    }

    #[test]
    fn what_has_no_known_form_is_refused() {
        assert_eq!(unpack(Vec::new(), 0), Err(UnpackError::Empty));
        assert_eq!(unpack(vec![1, 2, 3, 9], 3), Err(UnpackError::UnknownForm(9)));
        assert!(matches!(unpack(vec![1, 2, 3, ZSTD], 3), Err(UnpackError::Malformed { .. })));
        assert_eq!(unpack(vec![STORED], 0), Ok(Vec::new()));
        assert!(matches!(unpack(vec![STORED], CHUNK_SIZE_MAX + 1), Err(UnpackError::TooLong(_))));
    }
}
