//! The object key: what every key of one object follows from.

use core::fmt;

use datamesh_core::manifest::COMMITMENT_SIZE;
use datamesh_core::scheme::Cipher;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::keys::{Entropy, KEY_SIZE};

const GEAR_CONTEXT: &str = "datamesh 2026 object gear key v1";
const COMMITMENT_CONTEXT: &str = "datamesh 2026 object key commitment v1";

/// The secret of one object, drawn for it alone. Forgotten from memory when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ObjectKey([u8; KEY_SIZE]);

impl ObjectKey {
    /// Draws a fresh key.
    pub fn random(entropy: Entropy<'_>) -> Self {
        let mut key = Self([0; KEY_SIZE]);
        entropy(&mut key.0);
        key
    }

    /// Wraps raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_SIZE]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_SIZE] {
        &self.0
    }

    /// What decides where the chunks of a sealed object end, if their content does: with a key of its own, two objects of the
    /// same bytes don't even have chunks of the same lengths.
    #[must_use]
    pub fn gear_key(&self) -> Zeroizing<[u8; KEY_SIZE]> {
        Zeroizing::new(blake3::derive_key(GEAR_CONTEXT, &self.0))
    }

    /// What a manifest commits to its key by: AES-GCM and ChaCha20-Poly1305 alone would let a crafted object open under
    /// two keys to two contents.
    #[must_use]
    pub fn commitment(&self) -> [u8; COMMITMENT_SIZE] {
        blake3::derive_key(COMMITMENT_CONTEXT, &self.0)
    }

    /// Whether this is the key that was committed to. Takes the same time whether it is or not.
    #[must_use]
    pub fn is_committed_by(&self, commitment: &[u8]) -> bool {
        let Ok(commitment) = <[u8; COMMITMENT_SIZE]>::try_from(commitment) else {
            return false;
        };
        // `blake3::Hash` compares in constant time; arrays do not.
        blake3::Hash::from_bytes(self.commitment()) == blake3::Hash::from_bytes(commitment)
    }

    /// The key for one use with one cipher, so that no key ever serves two algorithms.
    pub(crate) fn subkey(&self, context: &'static str, cipher: Cipher) -> Zeroizing<[u8; KEY_SIZE]> {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.0).update(&[cipher_code(cipher)]);
        Zeroizing::new(*hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ObjectKey(secret)")
    }
}

/// What stands for a cipher where it is hashed or authenticated.
pub(crate) const fn cipher_code(cipher: Cipher) -> u8 {
    match cipher {
        Cipher::None => 0,
        Cipher::Aes256Gcm => 1,
        Cipher::Chacha20Poly1305 => 2,
    }
}
