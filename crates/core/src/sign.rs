//! `Signed<T>`: signatures separated by domain, so no message can pose as another.
//!
//! Ed25519 (RFC 8032), verified strictly: the signed bytes are the domain, a zero byte, and the canonical encoding.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::encode::encode;
use crate::id::ID_SIZE;

/// A message that someone may sign.
pub trait Signable: Serialize + DeserializeOwned {
    /// What sets this message apart from every other that the same key may sign.
    const DOMAIN: &'static str;

    /// The public key that the message says it is from.
    fn signer(&self) -> &[u8; ID_SIZE];
}

/// A message and the signature of whom it says it is from. Not verified by being decoded: call [`Signed::verify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed<T> {
    body: T,
    #[serde(with = "serde_bytes")]
    signature: [u8; Signature::BYTE_SIZE],
}

/// The signature is not that of the key that the message names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature does not match the signer that the message names")]
pub struct SignatureError;

impl<T: Signable> Signed<T> {
    /// Signs a message.
    ///
    /// # Panics
    /// If the message names another signer than this key.
    #[must_use]
    pub fn sign(body: T, key: &SigningKey) -> Self {
        assert_eq!(body.signer(), key.verifying_key().as_bytes(), "a message is signed by whom it names");
        let signature = key.sign(&signed_bytes(&body)).to_bytes();
        Self { body, signature }
    }

    /// The message, if its signature holds.
    ///
    /// # Errors
    /// [`SignatureError`] if it doesn't.
    pub fn verify(&self) -> Result<&T, SignatureError> {
        let key = VerifyingKey::from_bytes(self.body.signer()).map_err(|_| SignatureError)?;
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&signed_bytes(&self.body), &signature).map_err(|_| SignatureError)?;
        Ok(&self.body)
    }

    /// The message as it claims to be, for what needs no proof of who sent it.
    pub const fn unverified(&self) -> &T {
        &self.body
    }
}

fn signed_bytes<T: Signable>(body: &T) -> Vec<u8> {
    let mut bytes = T::DOMAIN.as_bytes().to_vec();
    bytes.push(0);
    bytes.extend_from_slice(&encode(body));
    bytes
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use serde::{Deserialize, Serialize};

    use super::{Signable, Signed};
    use crate::encode::{decode, encode};

    macro_rules! message {
        ($name:ident, $domain:literal) => {
            #[derive(Debug, PartialEq, Serialize, Deserialize)]
            struct $name {
                #[serde(with = "serde_bytes")]
                from: [u8; 32],
                text: String,
            }
            impl Signable for $name {
                const DOMAIN: &'static str = $domain;
                fn signer(&self) -> &[u8; 32] {
                    &self.from
                }
            }
        };
    }
    message!(Letter, "test letter");
    message!(Order, "test order");

    #[test]
    fn a_signature_holds_for_its_message_signer_and_domain_alone() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let from = key.verifying_key().to_bytes();
        let letter = Signed::sign(Letter { from, text: "a".into() }, &key);
        let bytes = encode(&letter);
        assert!(decode::<Signed<Letter>>(&bytes).expect("decodes").verify().is_ok());
        assert!(decode::<Signed<Order>>(&bytes).expect("decodes").verify().is_err(), "other domain");

        let mut forged = letter;
        forged.body.text = "b".into();
        assert!(forged.verify().is_err(), "other message");
        forged.body.text = "a".into();
        forged.body.from = SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes();
        assert!(forged.verify().is_err(), "other signer");
    }
}
