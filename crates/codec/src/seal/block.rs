//! Seals the secret half of a manifest block, bound to its public half and to its place in the tree.
//!
//! A put that resumes may write a block of the same place and key with other content. So a block's key follows from its
//! content too: it comes from the object's key and a salt, and the salt is a keyed hash of the public half, the place and
//! the plaintext. Two blocks share a key only if they are the same block.

use bytes::Bytes;
use datamesh_core::manifest::Place;
use datamesh_core::scheme::{Cipher, Mode, Scheme};
use zeroize::Zeroizing;

use crate::keys::{KEY_SIZE, ObjectKey};
use crate::seal::aead::{Key, NONCE_ZERO, TAG_SIZE};

const SALT_CONTEXT: &str = "datamesh 2026 manifest salt key v1";
const BLOCK_CONTEXT: &str = "datamesh 2026 manifest block key v1";
const PUBLIC_HALF_CONTEXT: &str = "datamesh 2026 manifest public half v1";
const SALT_SIZE: usize = 32;
const ROOT_LEVEL: u8 = u8::MAX;

/// Where a root stands: above every level that a tree can have.
pub(crate) const ROOT_PLACE: Place = Place { level: ROOT_LEVEL, index: 0 };

/// Seals and opens the secret halves of one object's manifest.
#[derive(Debug, Clone)]
pub(crate) enum BlockSeal {
    /// As they are.
    Public,
    /// Under keys that follow from the object's.
    Private { cipher: Cipher, salt_key: Zeroizing<[u8; KEY_SIZE]>, block_key: Zeroizing<[u8; KEY_SIZE]> },
}

impl BlockSeal {
    /// What seals an object of this scheme under its key.
    pub(crate) fn new(scheme: &Scheme, key: &ObjectKey) -> Self {
        let cipher = scheme.cipher;
        match scheme.mode {
            Mode::Public => Self::Public,
            Mode::Sealed | Mode::Dedup => Self::Private {
                cipher,
                salt_key: key.subkey(SALT_CONTEXT, cipher),
                block_key: key.subkey(BLOCK_CONTEXT, cipher),
            },
        }
    }

    /// Seals what a block keeps to its readers.
    pub(crate) fn seal(&self, place: Place, public: &[u8], plaintext: Vec<u8>) -> Bytes {
        let Self::Private { cipher, salt_key, block_key } = self else {
            return plaintext.into();
        };
        let bound = bound(place, public);
        let salt =
            *blake3::Hasher::new_keyed(salt_key).update(&bound).update(&plaintext).finalize().as_bytes();
        let mut sealed = Vec::with_capacity(plaintext.len() + TAG_SIZE + SALT_SIZE);
        sealed.extend_from_slice(&plaintext);
        key(*cipher, block_key, &salt).seal(NONCE_ZERO, &bound, &mut sealed);
        sealed.extend_from_slice(&salt);
        sealed.into()
    }

    /// Opens what a block keeps to its readers; `None` if it was not sealed so.
    pub(crate) fn open(&self, place: Place, public: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let Self::Private { cipher, block_key, .. } = self else {
            return Some(Zeroizing::new(sealed.to_vec()));
        };
        let (sealed, salt) = sealed.split_last_chunk::<SALT_SIZE>()?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let size = key(*cipher, block_key, salt).open(NONCE_ZERO, &bound(place, public), &mut bytes)?.len();
        bytes.truncate(size);
        Some(bytes)
    }
}

fn key(cipher: Cipher, block_key: &[u8; KEY_SIZE], salt: &[u8; SALT_SIZE]) -> Key {
    let key = Zeroizing::new(*blake3::keyed_hash(block_key, salt).as_bytes());
    Key::new(cipher, &key).expect("a private scheme has a cipher")
}

/// The hash of all of a block but its sealed half, and of its place.
fn bound(place: Place, public: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(PUBLIC_HALF_CONTEXT);
    hasher.update(&[place.level]).update(&place.index.to_le_bytes()).update(public);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use datamesh_core::manifest::Place;
    use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Redundancy, Scheme};

    use super::{BlockSeal, ROOT_PLACE};
    use crate::keys::ObjectKey;

    fn seal(cipher: Cipher, key: u8) -> BlockSeal {
        let redundancy = Redundancy::new(4, 2).expect("a redundancy");
        let (chunking, compression) = (Chunking::Fixed, Compression::None);
        let scheme = Scheme { mode: Mode::Sealed, chunking, compression, cipher, redundancy };
        BlockSeal::new(&scheme, &ObjectKey::from_bytes([key; 32]))
    }

    #[test]
    fn a_block_opens_with_its_own_key_cipher_place_and_public_half_alone() {
        let place = Place { level: 1, index: 2 };
        for (cipher, other) in
            [(Cipher::Aes256Gcm, Cipher::Chacha20Poly1305), (Cipher::Chacha20Poly1305, Cipher::Aes256Gcm)]
        {
            let sealed = seal(cipher, 1).seal(place, b"public", b"secret".to_vec());
            let opened = seal(cipher, 1).open(place, b"public", &sealed).expect("it opens");
            assert_eq!(opened.as_slice(), b"secret");
            assert!(seal(cipher, 2).open(place, b"public", &sealed).is_none(), "key");
            assert!(seal(other, 1).open(place, b"public", &sealed).is_none(), "cipher");
            assert!(seal(cipher, 1).open(place, b"publik", &sealed).is_none(), "public half");
            for other in [Place { level: 2, ..place }, Place { index: 3, ..place }, ROOT_PLACE] {
                assert!(seal(cipher, 1).open(other, b"public", &sealed).is_none(), "{other:?}");
            }
            for bit in 0..8 * sealed.len() {
                let mut forged = sealed.to_vec();
                forged[bit / 8] ^= 1 << (bit % 8);
                assert!(seal(cipher, 1).open(place, b"public", &forged).is_none(), "bit {bit}");
            }
            for end in 0..sealed.len() {
                assert!(seal(cipher, 1).open(place, b"public", &sealed[..end]).is_none(), "first {end}");
            }
        }
    }

    #[test]
    fn only_the_same_block_is_sealed_to_the_same_bytes() {
        let place = Place { level: 0, index: 0 };
        let sealed = |plaintext: &[u8]| seal(Cipher::Aes256Gcm, 1).seal(place, b"public", plaintext.to_vec());
        assert_eq!(sealed(&[0; 1000]), sealed(&[0; 1000]));
        let (one, mut near) = (sealed(&[0; 1000]), [0; 1000]);
        near[999] = 1;
        let equal = one.iter().zip(sealed(&near)).filter(|(one, other)| **one == *other).count();
        assert!(equal < 50, "{equal} equal bytes");
    }
}
