//! Seals the records of a put's journal under the put's own object key.
//!
//! Two runs of a put may write different records at the same place. So a record's key follows from its content too, as a
//! manifest block's does.

use bytes::Bytes;
use datamesh_core::scheme::Cipher;
use zeroize::Zeroizing;

use crate::keys::{KEY_SIZE, ObjectKey};
use crate::seal::aead::{Key, NONCE_ZERO, TAG_SIZE};

const SALT_CONTEXT: &str = "datamesh 2026 journal salt key v1";
const RECORD_CONTEXT: &str = "datamesh 2026 journal record key v1";
const SALT_SIZE: usize = 32;

/// One cipher for all journals: they stay on the machine that wrote them.
const CIPHER: Cipher = Cipher::Chacha20Poly1305;

/// Seals and opens the records of one put's journal. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RecordSeal {
    salt_key: Zeroizing<[u8; KEY_SIZE]>,
    record_key: Zeroizing<[u8; KEY_SIZE]>,
}

impl RecordSeal {
    /// What seals the records of the put that has this key.
    #[must_use]
    pub fn new(key: &ObjectKey) -> Self {
        Self { salt_key: key.subkey(SALT_CONTEXT, CIPHER), record_key: key.subkey(RECORD_CONTEXT, CIPHER) }
    }

    /// Seals the record at this place of the journal.
    #[must_use]
    pub fn seal(&self, index: u64, record: &[u8]) -> Bytes {
        let place = index.to_le_bytes();
        let salt =
            *blake3::Hasher::new_keyed(&self.salt_key).update(&place).update(record).finalize().as_bytes();
        let mut sealed = Vec::with_capacity(record.len() + TAG_SIZE + SALT_SIZE);
        sealed.extend_from_slice(record);
        self.key(&salt).seal(NONCE_ZERO, &place, &mut sealed);
        sealed.extend_from_slice(&salt);
        sealed.into()
    }

    /// Opens the record at this place; `None` if it was not sealed so.
    #[must_use]
    pub fn open(&self, index: u64, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (sealed, salt) = sealed.split_last_chunk::<SALT_SIZE>()?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let size = self.key(salt).open(NONCE_ZERO, &index.to_le_bytes(), &mut bytes)?.len();
        bytes.truncate(size);
        Some(bytes)
    }

    fn key(&self, salt: &[u8; SALT_SIZE]) -> Key {
        let key = Zeroizing::new(*blake3::keyed_hash(&self.record_key, salt).as_bytes());
        Key::new(CIPHER, &key).expect("it is a cipher")
    }
}

#[cfg(test)]
mod tests {
    use super::RecordSeal;
    use crate::keys::ObjectKey;

    #[test]
    fn a_record_opens_under_its_own_key_at_its_own_place_alone() {
        let seal = RecordSeal::new(&ObjectKey::from_bytes([1; 32]));
        let sealed = seal.seal(7, b"record");
        assert_eq!(seal.open(7, &sealed).expect("it opens").as_slice(), b"record");
        assert!(seal.open(8, &sealed).is_none(), "place");
        assert!(RecordSeal::new(&ObjectKey::from_bytes([2; 32])).open(7, &sealed).is_none(), "key");
        for bit in 0..8 * sealed.len() {
            let mut forged = sealed.to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(seal.open(7, &forged).is_none(), "bit {bit}");
        }
        assert!(seal.open(7, &sealed[..20]).is_none(), "too short");
    }

    #[test]
    fn two_records_at_one_place_share_no_key_stream() {
        let seal = RecordSeal::new(&ObjectKey::from_bytes([1; 32]));
        let (one, other) = (seal.seal(0, &[0; 256]), seal.seal(0, &[1; 256]));
        let equal = one.iter().zip(&other).filter(|(one, other)| **one ^ **other == 1).count();
        assert!(equal < 20, "{equal} bytes differ as the plaintexts do");
    }
}
