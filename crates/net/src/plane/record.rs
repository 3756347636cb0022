//! Protects TLS 1.3 records after the handshake (RFC 8446, section 5.2), in the caller's buffer. Pure.

use ring::aead::{AES_128_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, crypto::cipher::AeadKey};

/// Bytes of plaintext that one record may hold.
pub(crate) const PLAINTEXT_SIZE_MAX: usize = 16 * 1024;
pub(crate) const HEADER_SIZE: usize = 5;
const TAG_SIZE: usize = 16;
/// Bytes that a record may take beyond its plaintext: header, content type, tag.
pub(crate) const OVERHEAD: usize = HEADER_SIZE + 1 + TAG_SIZE;
/// The longest body of a record: RFC 8446 allows 256 bytes more than the plaintext.
const BODY_SIZE_MAX: usize = PLAINTEXT_SIZE_MAX + 256;
/// Records under one key, after which a connection is worn out: below the 2^24.5 of RFC 8446, section 5.5. 256 GiB.
pub(crate) const RECORDS_MAX: u64 = 1 << 24;

const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;
const VERSION: [u8; 2] = [3, 3];
const NONCE_SIZE: usize = 12;

/// Why a record is refused or can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("no TLS record of this connection")]
    Malformed,
    #[error("TLS record is forged or damaged")]
    Forged,
    #[error("TLS record of content type {0} where only data belongs")]
    Unexpected(u8),
    #[error("connection has carried as much as one key may protect")]
    WornOut,
}

/// What a record holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    Data(&'a [u8]),
    /// The peer ends the connection, in good order or not.
    End,
}

/// One direction's key, and the number of the next record.
struct Protection {
    key: LessSafeKey,
    iv: [u8; NONCE_SIZE],
    sequence: u64,
}

impl Protection {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Option<Self> {
        let bound = |algorithm: &'static Algorithm, key: &AeadKey| {
            UnboundKey::new(algorithm, key.as_ref()).ok().map(LessSafeKey::new)
        };
        let (key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (bound(&AES_128_GCM, &key)?, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (bound(&CHACHA20_POLY1305, &key)?, iv),
            _ => return None,
        };
        Some(Self { key, iv: iv.as_ref().try_into().ok()?, sequence })
    }

    /// The next record's nonce: the static one, with the record's number in its last bytes.
    fn nonce(&mut self) -> Result<Nonce, RecordError> {
        if self.sequence >= RECORDS_MAX {
            return Err(RecordError::WornOut);
        }
        let mut nonce = self.iv;
        let last = nonce.iter_mut().rev().zip(self.sequence.to_le_bytes());
        last.for_each(|(byte, number)| *byte ^= number);
        self.sequence += 1;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

fn header(body_size: usize) -> [u8; HEADER_SIZE] {
    let [high, low] = u16::try_from(body_size).expect("a record is short").to_be_bytes();
    [APPLICATION_DATA, VERSION[0], VERSION[1], high, low]
}

/// Makes records.
pub(crate) struct Sealing(Protection);

impl Sealing {
    /// `None` for a cipher that is not used here.
    pub(crate) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Option<Self> {
        Protection::new(secrets).map(Self)
    }

    /// Appends a record with this plaintext.
    ///
    /// # Errors
    /// [`RecordError::WornOut`] when the key has protected enough.
    ///
    /// # Panics
    /// If the plaintext is longer than a record may hold.
    pub(crate) fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        assert!(plaintext.len() <= PLAINTEXT_SIZE_MAX, "a record holds 16 KiB at most");
        let nonce = self.0.nonce()?;
        let header = header(plaintext.len() + 1 + TAG_SIZE);
        out.extend_from_slice(&header);
        let begin = out.len();
        out.extend_from_slice(plaintext);
        out.push(APPLICATION_DATA);
        let sealed = self.0.key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut out[begin..]);
        let tag = sealed.expect("a record is far shorter than a cipher's limit");
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

/// Opens records.
pub(crate) struct Opening(Protection);

impl Opening {
    /// `None` for a cipher that is not used here.
    pub(crate) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Option<Self> {
        Protection::new(secrets).map(Self)
    }

    /// Opens a whole record in place.
    ///
    /// # Errors
    /// [`RecordError`] when it is not the next one of this connection.
    pub(crate) fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<Content<'a>, RecordError> {
        let (header, body) = record.split_first_chunk_mut::<HEADER_SIZE>().ok_or(RecordError::Malformed)?;
        if header[0] != APPLICATION_DATA {
            return Err(RecordError::Unexpected(header[0]));
        }
        let nonce = self.0.nonce()?;
        let opened = self.0.key.open_in_place(nonce, Aad::from(*header), body);
        let opened = opened.map_err(|_| RecordError::Forged)?;
        // The content type stands behind the plaintext, and zeros may follow it.
        let type_at = opened.iter().rposition(|byte| *byte != 0).ok_or(RecordError::Malformed)?;
        match opened[type_at] {
            APPLICATION_DATA => Ok(Content::Data(&opened[..type_at])),
            ALERT => Ok(Content::End),
            other => Err(RecordError::Unexpected(other)),
        }
    }
}

/// The size of the record that begins here, header included; `None` until its header is here.
///
/// # Errors
/// [`RecordError::Malformed`] when no record begins like this.
pub(crate) fn record_size(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
    let Some(header) = bytes.first_chunk::<HEADER_SIZE>() else { return Ok(None) };
    let body_size = usize::from(u16::from_be_bytes([header[3], header[4]]));
    let sound = header[1] == VERSION[0] && body_size <= BODY_SIZE_MAX;
    if sound { Ok(Some(HEADER_SIZE + body_size)) } else { Err(RecordError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::{
        Content, HEADER_SIZE, OVERHEAD, Opening, PLAINTEXT_SIZE_MAX, Protection, RECORDS_MAX, RecordError,
        Sealing, record_size,
    };
    use ring::aead::{AES_128_GCM, LessSafeKey, UnboundKey};

    fn protection(sequence: u64) -> Protection {
        let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).expect("16 bytes");
        Protection { key: LessSafeKey::new(key), iv: [9; 12], sequence }
    }

    fn sealed(sequence: u64, plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Sealing(protection(sequence)).seal(plaintext, &mut out).expect("fresh");
        out
    }

    #[test]
    fn a_record_is_opened_as_it_was_sealed() {
        for size in [0, 1, 500, PLAINTEXT_SIZE_MAX] {
            let mut record = sealed(3, &vec![5; size]);
            assert_eq!(record.len(), size + OVERHEAD);
            assert_eq!(record_size(&record), Ok(Some(record.len())));
            let opened = Opening(protection(3)).open(&mut record);
            assert_eq!(opened, Ok(Content::Data(&vec![5; size][..])));
        }
    }

    #[test]
    fn a_changed_or_moved_record_is_refused() {
        let record = sealed(3, b"some data");
        for at in 0..record.len() {
            let mut changed = record.clone();
            changed[at] ^= 1;
            assert!(Opening(protection(3)).open(&mut changed).is_err(), "byte {at}");
        }
        assert_eq!(Opening(protection(4)).open(&mut record.clone()), Err(RecordError::Forged));
        assert_eq!(
            Opening(protection(3)).open(&mut record[..HEADER_SIZE].to_vec()),
            Err(RecordError::Forged)
        );
    }

    #[test]
    fn a_key_protects_so_many_records_and_no_more() {
        let mut out = Vec::new();
        let mut sealing = Sealing(protection(RECORDS_MAX - 1));
        assert_eq!(sealing.seal(b"last", &mut out), Ok(()));
        assert_eq!(sealing.seal(b"one more", &mut out), Err(RecordError::WornOut));
    }

    #[test]
    fn lengths_are_checked_before_the_body_arrives() {
        assert_eq!(record_size(&[23, 3, 3, 0]), Ok(None));
        assert_eq!(record_size(&[23, 3, 3, 0, 9]), Ok(Some(14)));
        assert_eq!(record_size(&[23, 3, 3, 0xff, 0xff]), Err(RecordError::Malformed));
        assert_eq!(record_size(b"GET / HTTP"), Err(RecordError::Malformed));
    }
}
