//! Grants: an object's key wrapped to a recipient by HPKE (RFC 9180), and unwrapped again.
//!
//! Base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305. A grant doesn't say to whom it is: a reader tries
//! each.

use core::convert::Infallible;

use datamesh_core::manifest::Grant;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::{Kem, X25519HkdfSha256};
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable, HpkeError, OpModeR, OpModeS, Serializable};
use zeroize::Zeroizing;

use crate::keys::{Entropy, Identity, KEY_SIZE, ObjectKey, Recipient};

pub(super) type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
pub(super) type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type EncapsulatedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// Binds a grant to its use: what is wrapped for another purpose can't pose as one.
const INFO: &[u8] = b"datamesh 2026 object key grant v1";
const ADDITIONAL: &[u8] = b"";

/// Wraps an object's key to a recipient.
///
/// # Panics
/// Never: a [`Recipient`] is a key that can be agreed with.
pub fn wrap(key: &ObjectKey, recipient: &Recipient, entropy: Entropy<'_>) -> Grant {
    let (encapsulated, wrapped) = seal(recipient.public(), INFO, ADDITIONAL, key.as_bytes(), entropy)
        .expect("a recipient is a key that can be agreed with");
    Grant {
        encapsulated: encapsulated.to_bytes().as_slice().try_into().expect("an X25519 key has 32 bytes"),
        wrapped: wrapped.try_into().expect("an object's key and its tag have 48 bytes"),
    }
}

/// The object's key, if it was wrapped to this identity.
#[must_use]
pub fn unwrap(grant: &Grant, identity: &Identity) -> Option<ObjectKey> {
    let encapsulated = EncapsulatedKey::from_bytes(&grant.encapsulated).ok()?;
    let opened = open(identity.private(), &encapsulated, INFO, ADDITIONAL, &grant.wrapped).ok()?;
    let key = <[u8; KEY_SIZE]>::try_from(opened.as_slice()).ok()?;
    Some(ObjectKey::from_bytes(key))
}

/// Whether a secret can be agreed on with this key at all: X25519 with a point of small order gives zero to everybody.
pub(super) fn agrees(public: &PublicKey) -> bool {
    seal(public, INFO, ADDITIONAL, &[], &mut |buffer| buffer.fill(1)).is_ok()
}

fn seal(
    recipient: &PublicKey,
    info: &[u8],
    additional: &[u8],
    plaintext: &[u8],
    entropy: Entropy<'_>,
) -> Result<(EncapsulatedKey, Vec<u8>), HpkeError> {
    hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        recipient,
        info,
        plaintext,
        additional,
        &mut Source(entropy),
    )
}

fn open(
    private: &PrivateKey,
    encapsulated: &EncapsulatedKey,
    info: &[u8],
    additional: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, HpkeError> {
    hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        private,
        encapsulated,
        info,
        ciphertext,
        additional,
    )
    .map(Zeroizing::new)
}

/// Entropy as the HPKE library asks for it.
struct Source<'a>(Entropy<'a>);

impl TryRng for Source<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        (self.0)(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        (self.0)(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), Infallible> {
        (self.0)(buffer);
        Ok(())
    }
}

impl TryCryptoRng for Source<'_> {}

#[cfg(test)]
mod tests {
    use hpke::{Deserializable, Serializable};

    use super::{EncapsulatedKey, Kem, PrivateKey, X25519HkdfSha256, open, seal};

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    /// RFC 9180, appendix A.2.1: base mode of the one suite that grants use.
    #[test]
    fn the_known_answer_of_rfc_9180_is_given() {
        let info = bytes("4f6465206f6e2061204772656369616e2055726e");
        let plaintext = bytes("4265617574792069732074727574682c20747275746820626561757479");
        let additional = bytes("436f756e742d30");
        let ephemeral_seed = bytes("909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b");
        let recipient_seed = bytes("1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df");
        let expected_public = bytes("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a");
        let expected_private = bytes("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb");
        let expected_encapsulated = bytes("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a");
        let expected_sealed = bytes(
            "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
        );

        let (private, public) = X25519HkdfSha256::derive_keypair(&recipient_seed);
        assert_eq!(public.to_bytes().as_slice(), expected_public);
        // The library clamps private keys, so the same key need not have the same bytes.
        assert!(private == PrivateKey::from_bytes(&expected_private).expect("32 bytes"));

        let mut entropy = |buffer: &mut [u8]| buffer.copy_from_slice(&ephemeral_seed);
        let (encapsulated, sealed) =
            seal(&public, &info, &additional, &plaintext, &mut entropy).expect("a good key");
        assert_eq!(encapsulated.to_bytes().as_slice(), expected_encapsulated);
        assert_eq!(sealed, expected_sealed);

        let private = PrivateKey::from_bytes(&expected_private).expect("32 bytes");
        let encapsulated = EncapsulatedKey::from_bytes(&expected_encapsulated).expect("32 bytes");
        let opened = open(&private, &encapsulated, &info, &additional, &expected_sealed).expect("it opens");
        assert_eq!(*opened, plaintext);
        assert!(open(&private, &encapsulated, b"other", &additional, &expected_sealed).is_err());
    }
}
