//! The log key: what seals the log of an owner's buckets, and names what nodes keep of it.

use core::fmt;

use bytes::Bytes;
use datamesh_core::bucket::{ChapterId, LOG_VERSION, LogBlock};
use datamesh_core::encode::{DecodeError, decode, encode};
use datamesh_core::lease::LeaseTag;
use datamesh_core::limits::LOG_BLOCK_SIZE_MAX;
use datamesh_core::scheme::Compression;
use zeroize::Zeroizing;

use crate::compress::{UnpackError, pack, unpack};
use crate::keys::{KEY_SIZE, ObjectKey};
use crate::seal::RecordSeal;

const SEAL_CONTEXT: &str = "datamesh 2026 bucket log seal key v1";
const TAG_CONTEXT: &str = "datamesh 2026 bucket log tag key v1";
const REGISTER: &[u8] = b"register";
const COMPRESSION: Compression = Compression::Zstd(1);
const SIZE_SIZE: usize = 4;

/// Seals and opens the blocks of one owner's bucket log. Forgotten from memory when dropped. Cheap to clone.
#[derive(Clone)]
pub struct LogKey {
    seal: RecordSeal,
    tag_key: Zeroizing<[u8; KEY_SIZE]>,
}

/// Why bytes are no block of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenLogError {
    /// They were not sealed with this key.
    #[error("log block was not sealed by this owner")]
    Sealed,
    /// They don't unpack.
    #[error("log block: {0}")]
    Unpack(#[from] UnpackError),
    /// They say that they are longer than any block.
    #[error("log block of {0} bytes, at most {LOG_BLOCK_SIZE_MAX}")]
    TooLong(u32),
    /// They are not a block's one encoding.
    #[error("log block: {0}")]
    Encoding(#[from] DecodeError),
    /// They are of a version that is not known here.
    #[error("log block of version {0}, of which only {LOG_VERSION} is known")]
    Version(u8),
}

impl LogKey {
    pub(super) fn of_seed(seed: &[u8; KEY_SIZE]) -> Self {
        let object = ObjectKey::from_bytes(blake3::derive_key(SEAL_CONTEXT, seed));
        let tag_key = Zeroizing::new(blake3::derive_key(TAG_CONTEXT, seed));
        Self { seal: RecordSeal::new(&object), tag_key }
    }

    /// The tag under which nodes keep the blocks of a chapter. Who doesn't know the key can't tell it from a put's.
    #[must_use]
    pub fn chapter_tag(&self, chapter: ChapterId) -> LeaseTag {
        self.tag(&[&chapter.writer.as_bytes()[..], &chapter.number.to_le_bytes()].concat())
    }

    /// The tag under which nodes keep the blocks that say who writes.
    #[must_use]
    pub fn register_tag(&self) -> LeaseTag {
        self.tag(REGISTER)
    }

    fn tag(&self, what: &[u8]) -> LeaseTag {
        let hash = blake3::keyed_hash(&self.tag_key, what);
        LeaseTag::from_bytes(hash.as_bytes()[..16].try_into().expect("16 of 32 bytes"))
    }

    /// Seals a block.
    ///
    /// # Panics
    /// If its encoding is longer than [`LOG_BLOCK_SIZE_MAX`].
    #[must_use]
    pub fn seal(&self, block: &LogBlock) -> Bytes {
        let plain = encode(block);
        assert!(plain.len() <= LOG_BLOCK_SIZE_MAX, "whoever writes the log fills no block beyond its bound");
        let size = u32::try_from(plain.len()).expect("it was just checked");
        let mut packed = pack(&plain, COMPRESSION);
        packed.extend_from_slice(&size.to_le_bytes());
        self.seal.seal(0, &packed)
    }

    /// Opens what [`LogKey::seal`] sealed.
    ///
    /// # Errors
    /// [`OpenLogError`] for bytes that are not a sealed block of this owner.
    pub fn open(&self, sealed: &[u8]) -> Result<LogBlock, OpenLogError> {
        let packed = self.seal.open(0, sealed).ok_or(OpenLogError::Sealed)?;
        let (packed, size) = packed.split_last_chunk::<SIZE_SIZE>().ok_or(OpenLogError::Sealed)?;
        let size = u32::from_le_bytes(*size);
        let plain_size = usize::try_from(size).ok().filter(|size| *size <= LOG_BLOCK_SIZE_MAX);
        let plain_size = plain_size.ok_or(OpenLogError::TooLong(size))?;
        let block: LogBlock = decode(&unpack(packed.to_vec(), plain_size)?)?;
        if block.version == LOG_VERSION { Ok(block) } else { Err(OpenLogError::Version(block.version)) }
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LogKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use datamesh_core::bucket::{ChapterId, LOG_VERSION, LogBlock, Slot, Stamp, WriterId};

    use super::{LogKey, OpenLogError};
    use datamesh_core::bucket::Change;

    fn block(version: u8, change_count: usize) -> LogBlock {
        let chapter = ChapterId { writer: WriterId::from_bytes([1; 16]), number: 2 };
        let change = |number| Change {
            slot: Slot::Access(format!("key {number}")),
            stamp: Stamp { ms: 5, count: 0, writer: chapter.writer },
            value: None,
        };
        let changes = (0..change_count).map(change).collect();
        LogBlock { version, chapter, sequence: 3, first_chapter: 1, changes }
    }

    #[test]
    fn a_block_opens_with_its_owners_key_alone_and_no_bit_of_it_may_turn() {
        let key = LogKey::of_seed(&[1; 32]);
        for change_count in [0, 1, 3000] {
            let block = block(LOG_VERSION, change_count);
            let sealed = key.seal(&block);
            assert_eq!(key.open(&sealed), Ok(block));
            assert_eq!(LogKey::of_seed(&[2; 32]).open(&sealed), Err(OpenLogError::Sealed));
            for bit in (0..8 * sealed.len()).step_by(97) {
                let mut forged = sealed.to_vec();
                forged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(key.open(&forged), Err(OpenLogError::Sealed), "bit {bit}");
            }
        }
        assert_eq!(key.open(&[0; 10]), Err(OpenLogError::Sealed));
    }

    #[test]
    fn a_block_of_a_later_version_is_refused_by_its_number() {
        let key = LogKey::of_seed(&[1; 32]);
        let sealed = key.seal(&block(LOG_VERSION + 1, 1));
        assert_eq!(key.open(&sealed), Err(OpenLogError::Version(LOG_VERSION + 1)));
    }

    #[test]
    fn tags_tell_owners_writers_and_chapters_apart() {
        let (one, two) = (LogKey::of_seed(&[1; 32]), LogKey::of_seed(&[2; 32]));
        let chapter = |writer, number| ChapterId { writer: WriterId::from_bytes([writer; 16]), number };
        let mut tags = vec![one.register_tag(), two.register_tag()];
        for key in [&one, &two] {
            tags.extend(
                [(1, 0), (1, 1), (2, 0)].map(|(writer, number)| key.chapter_tag(chapter(writer, number))),
            );
        }
        let count = tags.len();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), count);
        assert_eq!(one.chapter_tag(chapter(1, 1)), LogKey::of_seed(&[1; 32]).chapter_tag(chapter(1, 1)));
    }
}
