//! What sealing promises: unrelated ciphertexts, or equal ones for one owner, and no chunk that passes for another.

use datamesh_codec::keys::{DedupSecret, Identity, ObjectKey};
use datamesh_codec::seal::{OpenError, Opener, SEAL_SIZE, SealedChunk, Sealer, preferred_cipher};
use datamesh_core::limits::MIB;
use datamesh_core::manifest::ChunkEntry;
use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Redundancy, Scheme};
use proptest::prelude::{any, prop, proptest};

const CIPHERS: [Cipher; 2] = [Cipher::Aes256Gcm, Cipher::Chacha20Poly1305];
const PRIVATE_MODES: [Mode; 2] = [Mode::Sealed, Mode::Dedup];

fn scheme(mode: Mode, cipher: Cipher) -> Scheme {
    let redundancy = Redundancy::new(4, 2).expect("a redundancy");
    Scheme { mode, chunking: Chunking::Fixed, compression: Compression::None, cipher, redundancy }
}

fn key(number: u8) -> ObjectKey {
    ObjectKey::from_bytes([number; 32])
}

fn secret(number: u8) -> DedupSecret {
    Identity::from_seed(&[number; 32]).dedup_secret().clone()
}

fn entry(sealed: &SealedChunk) -> ChunkEntry {
    ChunkEntry { size: 1, key: sealed.key.clone() }
}

fn all_private() -> impl Iterator<Item = Scheme> {
    PRIVATE_MODES.into_iter().flat_map(|mode| CIPHERS.map(|cipher| scheme(mode, cipher)))
}

#[test]
fn sealed_chunks_open_to_what_they_were() {
    let public = scheme(Mode::Public, Cipher::None);
    for scheme in all_private().chain([public]) {
        let sealer = Sealer::new(&scheme, &key(1), &secret(1));
        let opener = Opener::new(&scheme, Some(&key(1)));
        for packed in [vec![], vec![7], vec![8; 100_000]] {
            let sealed = sealer.seal(5, packed.clone());
            assert_eq!(opener.open(5, &entry(&sealed), sealed.bytes), Ok(packed), "{scheme:?}");
        }
    }
}

#[test]
fn public_chunks_stay_as_they_are() {
    let scheme = scheme(Mode::Public, Cipher::None);
    let sealed = Sealer::new(&scheme, &key(1), &secret(1)).seal(0, b"for all".to_vec());
    assert_eq!(sealed.bytes, b"for all");
    assert!(sealed.key.is_empty());
    let opened = Opener::new(&scheme, None).open(0, &entry(&sealed), sealed.bytes);
    assert_eq!(opened.as_deref(), Ok(&b"for all"[..]));
}

#[test]
fn equal_chunks_have_unrelated_ciphertexts_in_sealed_mode() {
    for cipher in CIPHERS {
        let scheme = scheme(Mode::Sealed, cipher);
        let one = Sealer::new(&scheme, &key(1), &secret(1));
        let other = Sealer::new(&scheme, &key(2), &secret(1));
        let chunk = vec![0; MIB];
        assert_unrelated(&one.seal(0, chunk.clone()).bytes, &one.seal(1, chunk.clone()).bytes);
        assert_unrelated(&one.seal(0, chunk.clone()).bytes, &other.seal(0, chunk).bytes);
    }
}

#[test]
fn equal_chunks_have_equal_ciphertexts_for_one_owner_in_dedup_mode_and_unrelated_ones_for_two() {
    for cipher in CIPHERS {
        let scheme = scheme(Mode::Dedup, cipher);
        let one = Sealer::new(&scheme, &key(1), &secret(1));
        let same_owner = Sealer::new(&scheme, &key(2), &secret(1));
        let other_owner = Sealer::new(&scheme, &key(1), &secret(2));
        let chunk = vec![0; MIB];
        let sealed = one.seal(0, chunk.clone());
        assert_eq!(sealed, same_owner.seal(9, chunk.clone()));
        assert_unrelated(&sealed.bytes, &other_owner.seal(0, chunk.clone()).bytes);
        let mut near = chunk;
        near[MIB - 1] = 1;
        assert_unrelated(&sealed.bytes, &one.seal(0, near).bytes);
    }
}

#[test]
fn the_ciphers_share_no_chunk_key() {
    let chunk = vec![0; 64];
    let [aes, chacha] = CIPHERS
        .map(|cipher| Sealer::new(&scheme(Mode::Dedup, cipher), &key(1), &secret(1)).seal(0, chunk.clone()));
    assert_ne!(aes.key, chacha.key);
}

#[test]
fn a_flipped_bit_anywhere_fails_to_open() {
    for scheme in all_private() {
        let sealed =
            Sealer::new(&scheme, &key(1), &secret(1)).seal(3, b"forty-two bytes of something".to_vec());
        let opener = Opener::new(&scheme, Some(&key(1)));
        for bit in 0..8 * sealed.bytes.len() {
            let mut forged = sealed.bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let opened = opener.open(3, &entry(&sealed), forged);
            assert_eq!(opened, Err(OpenError::NotAuthentic { chunk_index: 3 }), "{scheme:?} bit {bit}");
        }
        for end in 0..sealed.bytes.len() {
            let opened = opener.open(3, &entry(&sealed), sealed.bytes[..end].to_vec());
            assert_eq!(opened, Err(OpenError::NotAuthentic { chunk_index: 3 }), "{scheme:?} first {end}");
        }
    }
}

#[test]
fn a_chunk_moved_to_another_index_fails_to_open() {
    for cipher in CIPHERS {
        let scheme = scheme(Mode::Sealed, cipher);
        let sealer = Sealer::new(&scheme, &key(1), &secret(1));
        let resumed = Sealer::resumed(&scheme, &key(1), &secret(1), &mut |buffer| buffer.fill(9));
        let opener = Opener::new(&scheme, Some(&key(1)));
        for sealed in [sealer.seal(0, vec![1; 100]), resumed.seal(0, vec![1; 100])] {
            let moved = opener.open(1, &entry(&sealed), sealed.bytes.clone());
            assert_eq!(moved, Err(OpenError::NotAuthentic { chunk_index: 1 }));
            assert!(opener.open(0, &entry(&sealed), sealed.bytes).is_ok(), "at its own place it opens");
        }
    }
}

#[test]
fn a_chunk_of_another_dedup_entry_fails_to_open() {
    for cipher in CIPHERS {
        let scheme = scheme(Mode::Dedup, cipher);
        let sealer = Sealer::new(&scheme, &key(1), &secret(1));
        let (one, other) = (sealer.seal(0, vec![1; 100]), sealer.seal(1, vec![2; 100]));
        let swapped = Opener::new(&scheme, Some(&key(1))).open(0, &entry(&one), other.bytes);
        assert_eq!(swapped, Err(OpenError::NotAuthentic { chunk_index: 0 }));
    }
}

#[test]
fn a_chunk_does_not_open_under_another_cipher_mode_or_key() {
    for scheme in all_private() {
        let sealed = Sealer::new(&scheme, &key(1), &secret(1)).seal(0, vec![1; 100]);
        let opened = |scheme, key: Option<&ObjectKey>| {
            Opener::new(&scheme, key).open(0, &entry(&sealed), sealed.bytes.clone())
        };
        assert!(opened(scheme, Some(&key(1))).is_ok(), "the right one opens it");
        let other_cipher = CIPHERS.into_iter().find(|cipher| *cipher != scheme.cipher).expect("two ciphers");
        assert!(opened(Scheme { cipher: other_cipher, ..scheme }, Some(&key(1))).is_err());
        assert!(opened(Scheme { cipher: Cipher::None, ..scheme }, Some(&key(1))).is_err());
        let other_mode = PRIVATE_MODES.into_iter().find(|mode| *mode != scheme.mode).expect("two modes");
        if scheme.mode == Mode::Sealed {
            assert!(opened(scheme, Some(&key(2))).is_err());
            assert!(opened(scheme, None).is_err());
        } else {
            assert!(opened(Scheme { mode: other_mode, ..scheme }, Some(&key(1))).is_err());
        }
    }
}

#[test]
fn a_key_of_another_size_is_an_error() {
    for scheme in all_private() {
        let opener = Opener::new(&scheme, Some(&key(1)));
        for found in [1, 31, 33, 1000] {
            let entry = ChunkEntry { size: 1, key: vec![0; found].into() };
            assert_eq!(
                opener.open(2, &entry, vec![0; 50]),
                Err(OpenError::KeySize { chunk_index: 2, found })
            );
        }
    }
}

#[test]
fn a_resumed_put_never_repeats_a_key_with_a_nonce() {
    for cipher in CIPHERS {
        let scheme = scheme(Mode::Sealed, cipher);
        let first = Sealer::new(&scheme, &key(1), &secret(1)).seal(7, vec![0; MIB]);
        let resumed = Sealer::resumed(&scheme, &key(1), &secret(1), &mut |buffer| buffer.fill(9));
        let again = resumed.seal(7, vec![0; MIB]);
        assert_unrelated(&first.bytes, &again.bytes);
        let opener = Opener::new(&scheme, Some(&key(1)));
        for sealed in [first, again] {
            assert_eq!(opener.open(7, &entry(&sealed), sealed.bytes), Ok(vec![0; MIB]));
        }
    }
}

#[test]
fn sealing_and_opening_work_where_the_bytes_lie() {
    for scheme in all_private() {
        let mut packed = Vec::with_capacity(MIB + SEAL_SIZE);
        packed.resize(MIB, 3);
        let place = packed.as_ptr();
        let sealed = Sealer::new(&scheme, &key(1), &secret(1)).seal(0, packed);
        assert_eq!(sealed.bytes.as_ptr(), place, "{scheme:?}");
        assert_eq!(sealed.bytes.len(), MIB + SEAL_SIZE);
        let entry = entry(&sealed);
        let opened = Opener::new(&scheme, Some(&key(1))).open(0, &entry, sealed.bytes).expect("it opens");
        assert_eq!(opened.as_ptr(), place, "{scheme:?}");
    }
}

#[test]
fn the_preferred_cipher_is_one() {
    assert!(CIPHERS.contains(&preferred_cipher()));
}

proptest! {
    #[test]
    fn whatever_is_sealed_opens_again_and_what_was_not_does_not(
        packed in prop::collection::vec(any::<u8>(), 0..2000),
        noise in prop::collection::vec(any::<u8>(), 0..2000),
        chunk_index: u64,
    ) {
        for scheme in all_private() {
            let sealed = Sealer::new(&scheme, &key(1), &secret(1)).seal(chunk_index, packed.clone());
            let opener = Opener::new(&scheme, Some(&key(1)));
            assert!(opener.open(chunk_index, &entry(&sealed), noise.clone()).is_err());
            assert_eq!(opener.open(chunk_index, &entry(&sealed), sealed.bytes), Ok(packed.clone()));
        }
    }
}

/// Two random megabytes agree in one byte of 256; what shares a key stream agrees in far more or far fewer.
#[track_caller]
fn assert_unrelated(one: &[u8], other: &[u8]) {
    assert_eq!(one.len(), other.len());
    let equal = one.iter().zip(other).filter(|(one, other)| one == other).count();
    let expected = one.len() / 256;
    assert!(
        (expected * 9 / 10..expected * 11 / 10).contains(&equal),
        "{equal} equal bytes, expected {expected}"
    );
}
