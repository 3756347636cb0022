//! Append-only segment files: the format, group commit, compaction.
//!
//! A segment is a header and then records. All that the store knows is in its segments; the index is derived from them
//! and can be derived again. `docs/format.md` has the layout byte by byte. Three things shape it:
//!
//! - **Every frame is keyed.** Payloads are written by strangers. A frame's check is a keyed hash over its place, so no
//!   payload can hold bytes that a scan would take for a record, and a record is one only where it was written.
//! - **The order of records means nothing.** Compaction moves them. Leases are a set that only grows, releases are final,
//!   and a lapse and a discard name the place up to which they count, so any order of replay ends in the same index.
//! - **A segment vouches for the one before it.** Its header says how much of its predecessor was synced, so what a
//!   failed sync left behind that point is never believed.

mod scan;

use core::fmt;

use bytes::Bytes;
use datamesh_core::encode::{decode, encode};
use datamesh_core::id::ItemId;
use datamesh_core::lease::{Lease, Release};
use datamesh_core::limits::{BLOCK_SIZE_MAX, WIRE_HEADER_SIZE_MAX, WIRE_PAYLOAD_SIZE_MAX};
use datamesh_core::sign::Signed;
use datamesh_core::time::Epoch;
use datamesh_core::wire::StoredItem;
use serde::{Deserialize, Serialize};

pub(crate) use crate::segment::scan::{Found, Scan, read_record};

/// Records and the segment header begin and end at multiples of this, bytes; so no frame straddles two disk sectors.
pub(crate) const ALIGNMENT: u64 = 32;
/// Bytes of a segment's header.
pub(crate) const SEGMENT_HEADER_SIZE: usize = 96;
/// Bytes of a record's frame.
pub(crate) const FRAME_SIZE: usize = 32;
/// The longest payload of a record, bytes.
pub(crate) const PAYLOAD_SIZE_MAX: usize =
    if WIRE_PAYLOAD_SIZE_MAX > BLOCK_SIZE_MAX { WIRE_PAYLOAD_SIZE_MAX } else { BLOCK_SIZE_MAX };

/// Most items that one record discards.
pub(crate) const DISCARD_ITEMS_MAX: usize = 1024;

const HEADER_SIZE_MAX: usize = WIRE_HEADER_SIZE_MAX;
const SEGMENT_MAGIC: &[u8; 8] = b"dm-segmt";
const SEGMENT_VERSION: u32 = 3;
const RECORD_MAGIC: &[u8; 4] = b"dmrc";
const CHECK_SIZE: usize = 8;
const NAME_PREFIX: &str = "segment-";
const PADDING: [u8; 32] = [0; 32];

/// The secret of a store that its frames are checked with. It protects no secret: see the module's text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreKey(pub(crate) [u8; 32]);

impl fmt::Debug for StoreKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StoreKey(..)")
    }
}

/// Where a record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// The name of a segment's file.
pub(crate) fn name_of_segment(segment: u64) -> String {
    format!("{NAME_PREFIX}{segment:016x}")
}

/// The number of the segment whose file has this name. Segments are begun in the order of their numbers, and the last is the one
/// that is written.
#[must_use]
pub fn segment_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(NAME_PREFIX)?;
    let segment = u64::from_str_radix(digits, 16).ok()?;
    (name_of_segment(segment) == name).then_some(segment)
}

/// What a segment begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) segment: u64,
    /// The segment before it and how many bytes of that were synced; zeros where there is none.
    pub(crate) previous: Place,
    pub(crate) key: StoreKey,
}

/// Why bytes are no segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentHeaderError {
    Damaged,
    Version(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_SIZE] {
        let mut bytes = [0; SEGMENT_HEADER_SIZE];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.previous.segment.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.previous.offset.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.key.0);
        let check = check_of(blake3::Hasher::new().update(&bytes[..72]));
        bytes[72..80].copy_from_slice(&check);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEADER_SIZE]) -> Result<Self, SegmentHeaderError> {
        let check = check_of(blake3::Hasher::new().update(&bytes[..72]));
        if &bytes[..8] != SEGMENT_MAGIC || bytes[72..80] != check {
            return Err(SegmentHeaderError::Damaged);
        }
        let version = u32::from_le_bytes(part(bytes, 8));
        if version != SEGMENT_VERSION {
            return Err(SegmentHeaderError::Version(version));
        }
        Ok(Self {
            segment: u64::from_le_bytes(part(bytes, 16)),
            previous: Place {
                segment: u64::from_le_bytes(part(bytes, 24)),
                offset: u64::from_le_bytes(part(bytes, 32)),
            },
            key: StoreKey(part(bytes, 40)),
        })
    }
}

/// What a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An item's bytes and a lease.
    Item = 1,
    /// One more lease of an item.
    Lease = 2,
    /// A release.
    Release = 3,
    /// Leases that have expired.
    Lapse = 4,
    /// A record that was found torn, and is none any more.
    Void = 5,
    /// Items that are held no more.
    Discard = 6,
}

/// A record's fixed beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) header_size: u32,
    pub(crate) payload_size: u32,
    header_check: [u8; CHECK_SIZE],
}

impl Frame {
    pub(crate) fn encode(&self, key: &StoreKey, place: Place) -> [u8; FRAME_SIZE] {
        let mut bytes = [0; FRAME_SIZE];
        bytes[..4].copy_from_slice(RECORD_MAGIC);
        bytes[4] = self.kind.number();
        bytes[8..12].copy_from_slice(&self.header_size.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_size.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.header_check);
        let check = frame_check(key, place, &bytes);
        bytes[24..].copy_from_slice(&check);
        bytes
    }

    /// The frame that these bytes are, if one was written at this very place.
    pub(crate) fn decode(bytes: &[u8; FRAME_SIZE], key: &StoreKey, place: Place) -> Option<Self> {
        // The magic number is compared first only because it is cheap.
        if &bytes[..4] != RECORD_MAGIC || bytes[24..] != frame_check(key, place, bytes) {
            return None;
        }
        let frame = Self {
            kind: Kind::of_number(bytes[4])?,
            header_size: u32::from_le_bytes(part(bytes, 8)),
            payload_size: u32::from_le_bytes(part(bytes, 12)),
            header_check: part(bytes, 16),
        };
        let in_bounds = frame.header_len() <= HEADER_SIZE_MAX && frame.payload_len() <= PAYLOAD_SIZE_MAX;
        in_bounds.then_some(frame)
    }

    /// Whether these are the bytes of the record's header.
    pub(crate) fn vouches_for(&self, key: &StoreKey, header: &[u8]) -> bool {
        self.header_check == header_check(key, header)
    }

    pub(crate) fn header_len(&self) -> usize {
        usize::try_from(self.header_size).expect("32 bits fit a usize")
    }

    pub(crate) fn payload_len(&self) -> usize {
        usize::try_from(self.payload_size).expect("32 bits fit a usize")
    }

    /// Bytes of frame and header: what lies between a record's place and its payload.
    pub(crate) fn head_size(&self) -> u64 {
        head_size(self.header_size)
    }

    /// Bytes of the whole record, padding included.
    pub(crate) fn record_size(&self) -> u64 {
        (self.head_size() + u64::from(self.payload_size)).next_multiple_of(ALIGNMENT)
    }

    /// The frame that makes a record void.
    pub(crate) const fn voided(self) -> Self {
        Self { kind: Kind::Void, ..self }
    }
}

/// Bytes of a record before its payload.
pub(crate) fn head_size(header_size: u32) -> u64 {
    u64::try_from(FRAME_SIZE).expect("a small number") + u64::from(header_size)
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Item => 1,
            Self::Lease => 2,
            Self::Release => 3,
            Self::Lapse => 4,
            Self::Void => 5,
            Self::Discard => 6,
        }
    }

    fn of_number(number: u8) -> Option<Self> {
        [Self::Item, Self::Lease, Self::Release, Self::Lapse, Self::Void, Self::Discard]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// Why an item is kept: the header of an item's record and of a lease's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keeping {
    pub(crate) item: StoredItem,
    pub(crate) lease: Signed<Lease>,
}

impl Keeping {
    /// The item's id, if the item is one.
    pub(crate) fn id(&self) -> Option<ItemId> {
        self.item.id()
    }
}

/// Leases before a place that had expired by an epoch are no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lapse {
    pub(crate) now: Epoch,
    pub(crate) before: Place,
}

/// What records before a place say of items counts for nothing any more: others hold them, or they have rotted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Discard {
    pub(crate) items: Vec<ItemId>,
    pub(crate) before: Place,
}

/// What a record says, short of an item's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Item(Keeping),
    Lease(Keeping),
    Release(Signed<Release>),
    Lapse(Lapse),
    Discard(Discard),
}

impl Record {
    /// Reads a record's header. Void records and headers that say nothing sensible say nothing.
    pub(crate) fn decode(kind: Kind, header: &[u8]) -> Option<Self> {
        match kind {
            Kind::Item => decode(header).ok().map(Self::Item),
            Kind::Lease => decode(header).ok().map(Self::Lease),
            Kind::Release => decode(header).ok().map(Self::Release),
            Kind::Lapse => decode(header).ok().map(Self::Lapse),
            Kind::Discard => decode(header).ok().map(Self::Discard),
            Kind::Void => None,
        }
    }

    const fn kind(&self) -> Kind {
        match self {
            Self::Item(_) => Kind::Item,
            Self::Lease(_) => Kind::Lease,
            Self::Release(_) => Kind::Release,
            Self::Lapse(_) => Kind::Lapse,
            Self::Discard(_) => Kind::Discard,
        }
    }

    fn header(&self) -> Vec<u8> {
        match self {
            Self::Item(keeping) | Self::Lease(keeping) => encode(keeping),
            Self::Release(release) => encode(release),
            Self::Lapse(lapse) => encode(lapse),
            Self::Discard(discard) => encode(discard),
        }
    }
}

/// A record as it will be written at a place.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) frame: Frame,
    head: Vec<u8>,
    payload: Bytes,
}

impl Draft {
    /// # Panics
    /// If the payload or header is longer than one may be, which whoever accepted the item has ruled out.
    pub(crate) fn new(key: &StoreKey, place: Place, record: &Record, payload: Bytes) -> Self {
        let header = record.header();
        assert!(header.len() <= HEADER_SIZE_MAX, "headers are bounded before they come here");
        assert!(payload.len() <= PAYLOAD_SIZE_MAX, "payloads are bounded before they come here");
        let frame = Frame {
            kind: record.kind(),
            header_size: u32::try_from(header.len()).expect("bounded above"),
            payload_size: u32::try_from(payload.len()).expect("bounded above"),
            header_check: header_check(key, &header),
        };
        let head = [&frame.encode(key, place)[..], &header].concat();
        Self { frame, head, payload }
    }

    /// What it says.
    pub(crate) fn record(&self) -> Option<Record> {
        Record::decode(self.frame.kind, &self.head[FRAME_SIZE..])
    }

    /// What is written, part by part; the payload is not copied.
    pub(crate) fn parts(&self) -> [&[u8]; 3] {
        let padding = self.frame.record_size() - self.frame.head_size() - u64::from(self.frame.payload_size);
        let padding = usize::try_from(padding).expect("less than the alignment");
        [&self.head, &self.payload, &PADDING[..padding]]
    }
}

fn frame_check(key: &StoreKey, place: Place, frame: &[u8; FRAME_SIZE]) -> [u8; CHECK_SIZE] {
    let mut input = [0; 40];
    input[..8].copy_from_slice(&place.segment.to_le_bytes());
    input[8..16].copy_from_slice(&place.offset.to_le_bytes());
    input[16..].copy_from_slice(&frame[..24]);
    check_of(blake3::Hasher::new_keyed(&key.0).update(&input))
}

fn header_check(key: &StoreKey, header: &[u8]) -> [u8; CHECK_SIZE] {
    check_of(blake3::Hasher::new_keyed(&key.0).update(header))
}

fn check_of(hasher: &blake3::Hasher) -> [u8; CHECK_SIZE] {
    part(hasher.finalize().as_bytes(), 0)
}

/// `N` bytes from an offset on.
///
/// # Panics
/// If there are fewer: callers name constant places in arrays of constant size.
fn part<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("as long as asked for")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use datamesh_core::id::{BlockId, ItemId, OwnerId};
    use datamesh_core::lease::{Lease, LeaseTag};
    use datamesh_core::sign::Signed;
    use datamesh_core::time::Epoch;
    use datamesh_core::wire::StoredItem;
    use ed25519_dalek::SigningKey;

    use super::{
        DISCARD_ITEMS_MAX, Discard, Draft, FRAME_SIZE, Frame, HEADER_SIZE_MAX, Keeping, Lapse, Place, Record,
        SegmentHeader, StoreKey, name_of_segment, segment_of_name,
    };

    const KEY: StoreKey = StoreKey([7; 32]);
    const PLACE: Place = Place { segment: 3, offset: 96 };

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn lapse() -> Draft {
        let lapse = Lapse { now: Epoch::from_hours(5), before: PLACE };
        Draft::new(&KEY, PLACE, &Record::Lapse(lapse), Bytes::new())
    }

    fn item() -> Draft {
        let item = StoredItem::Block {
            block: BlockId::of(b"bytes"),
            redundancy: "1+2".parse().expect("a redundancy"),
        };
        let key = SigningKey::from_bytes(&[1; 32]);
        let owner = OwnerId::from_bytes(key.verifying_key().to_bytes());
        let tag = LeaseTag::from_bytes([2; 16]);
        let lease = Lease { owner, tag, subject: item.subject(), until: Epoch::NEVER };
        let keeping = Keeping { item, lease: Signed::sign(lease, &key) };
        Draft::new(&KEY, PLACE, &Record::Item(keeping), Bytes::from_static(b"bytes"))
    }

    #[test]
    fn the_format_does_not_drift() {
        let header = SegmentHeader { segment: 3, previous: Place { segment: 2, offset: 4096 }, key: KEY };
        let expected = concat!(
            "646d2d7365676d74",
            "03000000",
            "00000000",
            "0300000000000000",
            "0200000000000000",
            "0010000000000000",
            "0707070707070707070707070707070707070707070707070707070707070707",
            "cfd2bf9277a8331d",
            "00000000000000000000000000000000",
        );
        assert_eq!(hex(&header.encode()), expected);
        let expected = concat!(
            "646d7263",
            "04000000",
            "20000000",
            "00000000",
            "3a801c2c4d8fee19",
            "93833fc393bd7afa",
            "a2",
            "636e6f77",
            "05",
            "666265666f7265",
            "a2",
            "666f6666736574",
            "1860",
            "677365676d656e74",
            "03",
        );
        assert_eq!(hex(&lapse().parts().concat()), expected);
        let record = item().parts().concat();
        assert_eq!(record.len(), 320);
        assert_eq!(
            blake3::hash(&record).to_hex().as_str(),
            "6c1a5b6889cd0af869093e8f38dc4bfd69d6b9cb847c2b29e101378e809e9f01"
        );
    }

    #[test]
    fn a_discard_does_not_drift_and_fits_a_header_however_many_items_it_has() {
        let discard = |count: usize| {
            let items = vec![ItemId::Block(BlockId::of(b"bytes")); count];
            Draft::new(&KEY, PLACE, &Record::Discard(Discard { items, before: PLACE }), Bytes::new())
        };
        let record = discard(2).parts().concat();
        assert_eq!(record[4], 6);
        assert_eq!(
            blake3::hash(&record).to_hex().as_str(),
            "fb8743c11caacada109be39e17c733b8de522f41b2435d3cfdeea430e840c5ab"
        );
        assert!(discard(DISCARD_ITEMS_MAX).frame.header_len() < HEADER_SIZE_MAX / 4);
    }

    #[test]
    fn a_header_is_read_back_and_no_other_byte_is_taken_for_it() {
        let header = SegmentHeader { segment: 3, previous: Place { segment: 2, offset: 4096 }, key: KEY };
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
        for at in 0..80 {
            let mut bytes = header.encode();
            bytes[at] ^= 1;
            assert!(SegmentHeader::decode(&bytes).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_frame_counts_only_where_it_was_written_and_under_its_key() {
        let bytes: [u8; FRAME_SIZE] = lapse().parts().concat()[..FRAME_SIZE].try_into().expect("a frame");
        assert!(Frame::decode(&bytes, &KEY, PLACE).is_some());
        assert!(Frame::decode(&bytes, &StoreKey([8; 32]), PLACE).is_none());
        assert!(Frame::decode(&bytes, &KEY, Place { offset: 128, ..PLACE }).is_none());
        assert!(Frame::decode(&bytes, &KEY, Place { segment: 4, ..PLACE }).is_none());
        for at in 0..FRAME_SIZE {
            let mut rotten = bytes;
            rotten[at] ^= 1;
            assert!(Frame::decode(&rotten, &KEY, PLACE).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_segment_is_found_by_its_name_and_by_no_other() {
        assert_eq!(segment_of_name(&name_of_segment(0xabc)), Some(0xabc));
        for other in
            ["index", "segment-", "segment-abc", "segment-0000000000000ABC", "segment-0000000000000abc~"]
        {
            assert_eq!(segment_of_name(other), None, "{other}");
        }
    }
}
