//! Encrypts and authenticates a chunk, bound to its place in its object.
//!
//! | mode | key of a chunk | nonce | bound besides the bytes |
//! |---|---|---|---|
//! | sealed | the object's chunk key, or one drawn when a put resumes | index of the chunk | cipher, index |
//! | dedup | keyed hash of cipher and packed bytes | zero | cipher |
//! | public | none: bytes stay as they are | | |
//!
//! A key and nonce never repeat with other bytes: an object's key is drawn for one put and each index is sealed once; a put
//! that resumes draws another key, since its input may have changed; and in dedup mode the key follows from the very bytes
//! that are sealed.

use bytes::Bytes;
use datamesh_core::manifest::{CHUNK_KEY_SIZE, ChunkEntry};
use datamesh_core::scheme::{Cipher, Mode, Scheme};
use zeroize::Zeroizing;

use crate::keys::{DedupSecret, Entropy, ObjectKey, cipher_code};
use crate::seal::aead::{Key, NONCE_SIZE, NONCE_ZERO, TAG_SIZE};

pub(crate) mod aead;
pub(crate) mod block;
mod record;

pub use record::RecordSeal;

const CHUNK_CONTEXT: &str = "datamesh 2026 chunk key v1";
const PLACED_DOMAIN: &[u8; 29] = b"datamesh 2026 placed chunk v1";
const DEDUP_DOMAIN: &[u8; 28] = b"datamesh 2026 dedup chunk v1";

/// Bytes that sealing adds to a packed chunk, where it encrypts.
pub const SEAL_SIZE: usize = TAG_SIZE;

/// A chunk as it is striped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedChunk {
    /// The bytes to stripe.
    pub bytes: Vec<u8>,
    /// What the chunk's entry in the manifest must carry: [`ChunkEntry::key`].
    pub key: Bytes,
}

/// Why a chunk did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Bytes, place or key are not those it was sealed with.
    #[error("chunk {chunk_index} does not open with its key at its place")]
    NotAuthentic {
        /// Which chunk.
        chunk_index: u64,
    },
    /// Its entry in the manifest has a key that is none.
    #[error("chunk {chunk_index} has a key of {found} bytes")]
    KeySize {
        /// Which chunk.
        chunk_index: u64,
        /// Bytes of the key.
        found: usize,
    },
}

/// Seals the chunks of one object. Cheap to share between threads.
#[derive(Debug)]
pub struct Sealer(Way);

#[derive(Debug)]
enum Way {
    /// One key for all chunks, kept ready; the entry carries it where it doesn't follow from the object's.
    Placed { cipher: Cipher, key: Box<Key>, entry_key: Bytes },
    /// A key for each chunk.
    Dedup { cipher: Cipher, secret: DedupSecret },
    /// No key.
    Public,
}

/// Opens the chunks of one object: [`Sealer`]'s mirror.
#[derive(Debug)]
pub struct Opener {
    mode: Mode,
    cipher: Cipher,
    /// The key of chunks whose entry carries none.
    key: Option<Key>,
}

/// The cipher that this processor is fastest with: AES-256-GCM where it has instructions for it.
#[must_use]
pub fn preferred_cipher() -> Cipher {
    #[cfg(target_arch = "x86_64")]
    let has_aes =
        std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has_aes =
        std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has_aes = false;
    if has_aes { Cipher::Aes256Gcm } else { Cipher::Chacha20Poly1305 }
}

impl Sealer {
    /// What seals an object of this scheme under its key; the secret is its owner's, and matters in dedup mode alone.
    ///
    /// # Panics
    /// If the scheme is private and without a cipher.
    #[must_use]
    pub fn new(scheme: &Scheme, key: &ObjectKey, secret: &DedupSecret) -> Self {
        match scheme.mode {
            Mode::Sealed | Mode::Public => Self::placed(scheme, key),
            Mode::Dedup => {
                assert_ne!(scheme.cipher, Cipher::None, "a private scheme has a cipher");
                Self(Way::Dedup { cipher: scheme.cipher, secret: secret.clone() })
            }
        }
    }

    /// What seals chunks under their object's key, whatever else they might deduplicate with.
    pub(crate) fn placed(scheme: &Scheme, key: &ObjectKey) -> Self {
        if scheme.mode == Mode::Public {
            return Self(Way::Public);
        }
        let key = chunk_key(scheme.cipher, key).expect("a private scheme has a cipher");
        Self(Way::Placed { cipher: scheme.cipher, key: Box::new(key), entry_key: Bytes::new() })
    }

    /// What seals the rest of an object after its put was broken off. The chunk that was under way then may have been sent,
    /// and the input may have changed since; so these chunks get a key of their own, which their entries carry.
    ///
    /// # Panics
    /// If the scheme is private and without a cipher.
    pub fn resumed(scheme: &Scheme, key: &ObjectKey, secret: &DedupSecret, entropy: Entropy<'_>) -> Self {
        if scheme.mode != Mode::Sealed {
            return Self::new(scheme, key, secret);
        }
        let mut run_key = Zeroizing::new([0; CHUNK_KEY_SIZE]);
        entropy(run_key.as_mut_slice());
        let key = Key::new(scheme.cipher, &run_key).expect("a private scheme has a cipher");
        let entry_key = Bytes::copy_from_slice(run_key.as_slice());
        Self(Way::Placed { cipher: scheme.cipher, key: Box::new(key), entry_key })
    }

    /// Seals a packed chunk where it lies. Does not reallocate if `packed` has room for [`SEAL_SIZE`] more bytes. Each index
    /// may be sealed once: a second chunk at the same index would betray both.
    #[must_use]
    pub fn seal(&self, chunk_index: u64, packed: Vec<u8>) -> SealedChunk {
        let mut bytes = packed;
        let key = match &self.0 {
            Way::Placed { cipher, key, entry_key } => {
                key.seal(nonce(chunk_index), &placed(*cipher, chunk_index), &mut bytes);
                entry_key.clone()
            }
            Way::Dedup { cipher, secret } => {
                let own = dedup_key(*cipher, secret, &bytes);
                let key = Key::new(*cipher, &own).expect("a private scheme has a cipher");
                key.seal(NONCE_ZERO, &deduped(*cipher), &mut bytes);
                Bytes::copy_from_slice(own.as_slice())
            }
            Way::Public => Bytes::new(),
        };
        SealedChunk { bytes, key }
    }
}

impl Opener {
    /// What opens an object of this scheme; `key` is the object's, which a public object has not.
    #[must_use]
    pub fn new(scheme: &Scheme, key: Option<&ObjectKey>) -> Self {
        let key = key.and_then(|key| chunk_key(scheme.cipher, key));
        Self { mode: scheme.mode, cipher: scheme.cipher, key }
    }

    /// Opens a sealed chunk where it lies, and returns the packed one.
    ///
    /// # Errors
    /// [`OpenError`] if it is not the chunk that was sealed there.
    pub fn open(&self, chunk_index: u64, entry: &ChunkEntry, sealed: Vec<u8>) -> Result<Vec<u8>, OpenError> {
        if self.mode == Mode::Public {
            return Ok(sealed);
        }
        let own = match entry.key.len() {
            0 => None,
            CHUNK_KEY_SIZE => entry.key.first_chunk::<CHUNK_KEY_SIZE>(),
            found => return Err(OpenError::KeySize { chunk_index, found }),
        };
        match own.map(|own| Key::new(self.cipher, own)) {
            None => self.open_placed(self.key.as_ref(), chunk_index, sealed),
            Some(own) if self.mode == Mode::Sealed => self.open_placed(own.as_ref(), chunk_index, sealed),
            Some(own) => open(own.as_ref(), NONCE_ZERO, &deduped(self.cipher), sealed),
        }
        .ok_or(OpenError::NotAuthentic { chunk_index })
    }

    fn open_placed(&self, key: Option<&Key>, chunk_index: u64, sealed: Vec<u8>) -> Option<Vec<u8>> {
        open(key, nonce(chunk_index), &placed(self.cipher, chunk_index), sealed)
    }
}

fn open(key: Option<&Key>, nonce: [u8; NONCE_SIZE], additional: &[u8], sealed: Vec<u8>) -> Option<Vec<u8>> {
    let mut bytes = sealed;
    let size = key?.open(nonce, additional, &mut bytes)?.len();
    bytes.truncate(size);
    Some(bytes)
}

fn chunk_key(cipher: Cipher, key: &ObjectKey) -> Option<Key> {
    Key::new(cipher, &key.subkey(CHUNK_CONTEXT, cipher))
}

/// Of the packed bytes and not of the plaintext: were they packed otherwise tomorrow, they would get another key.
fn dedup_key(cipher: Cipher, secret: &DedupSecret, packed: &[u8]) -> Zeroizing<[u8; CHUNK_KEY_SIZE]> {
    let mut hasher = blake3::Hasher::new_keyed(secret.as_bytes());
    hasher.update(&[cipher_code(cipher)]).update(packed);
    Zeroizing::new(*hasher.finalize().as_bytes())
}

fn nonce(chunk_index: u64) -> [u8; NONCE_SIZE] {
    let mut nonce = NONCE_ZERO;
    nonce[..8].copy_from_slice(&chunk_index.to_le_bytes());
    nonce
}

/// The domain, the cipher, and the chunk's index.
fn placed(cipher: Cipher, chunk_index: u64) -> [u8; PLACED_DOMAIN.len() + 9] {
    let mut additional = [0; PLACED_DOMAIN.len() + 9];
    let (domain, rest) = additional.split_at_mut(PLACED_DOMAIN.len());
    domain.copy_from_slice(PLACED_DOMAIN);
    rest[0] = cipher_code(cipher);
    rest[1..].copy_from_slice(&chunk_index.to_le_bytes());
    additional
}

/// The domain and the cipher: such a chunk is the same wherever it stands.
fn deduped(cipher: Cipher) -> [u8; DEDUP_DOMAIN.len() + 1] {
    let mut additional = [0; DEDUP_DOMAIN.len() + 1];
    let (domain, rest) = additional.split_at_mut(DEDUP_DOMAIN.len());
    domain.copy_from_slice(DEDUP_DOMAIN);
    rest[0] = cipher_code(cipher);
    additional
}
