//! Canonical encoding: the same bytes are hashed, signed, stored, and sent.
//!
//! DAG-CBOR (<https://ipld.io/specs/codecs/dag-cbor/spec/>): one value has one encoding, which [`decode`] enforces by
//! encoding again what it read.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes are no value of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not DAG-CBOR, or not of this type.
    #[error("malformed encoding: {0}")]
    Malformed(String),
    /// Decodes, but is not the one encoding of what it decodes to.
    #[error("encoding is not canonical")]
    NotCanonical,
}

/// Encodes a value in its one canonical form.
///
/// # Panics
/// If the type can't be expressed in DAG-CBOR, which is a defect of the type and not of the value.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(value).expect("core types are expressible in DAG-CBOR")
}

/// Decodes a value and refuses any but its canonical encoding.
///
/// # Errors
/// [`DecodeError`] for bytes that are not the canonical encoding of a `T`.
pub fn decode<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, DecodeError> {
    let value: T =
        serde_ipld_dagcbor::from_slice(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if encode(&value) == bytes { Ok(value) } else { Err(DecodeError::NotCanonical) }
}

#[cfg(test)]
mod tests {
    use super::{DecodeError, decode, encode};

    #[test]
    fn a_longer_encoding_of_the_same_value_is_refused() {
        assert_eq!(encode(&5_u64), [0x05]);
        assert_eq!(decode::<u64>(&[0x05]), Ok(5));
        assert!(decode::<u64>(&[0x18, 0x05]).is_err());
        assert!(matches!(decode::<u64>(&[0x05, 0x05]), Err(DecodeError::Malformed(_))));
    }
}
