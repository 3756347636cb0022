//! Keys of the index's rows: what they are made of and how they sort.

use datamesh_core::bucket::{BucketName, ChapterId, Key, Slot, Stamp, UploadId, VersionSlot, WriterId};
use datamesh_core::id::BlockId;
use datamesh_core::lease::LeaseTag;
use datamesh_core::time::Timestamp;

const ACCESS: u8 = b'a';
const ENDED: u8 = b'e';
const SWEEP: u8 = b's';
const BUCKET: u8 = b'b';
const CURRENT: u8 = b'c';
const BLOCK: u8 = b'k';
const PART: u8 = b'p';
const RELEASE: u8 = b'r';
const UPLOAD: u8 = b'u';
const VERSION: u8 = b'v';
const WRITER: u8 = b'w';

/// Names have no NUL.
const END: u8 = 0;

/// The row of a slot.
pub(crate) fn slot(slot: &Slot) -> Vec<u8> {
    match slot {
        Slot::Bucket(name) => bucket(name),
        Slot::Version(name, key, version) => [versions(name, key), version_bytes(version)].concat(),
        Slot::Upload(name, key, upload) => [uploads_of(name, key), upload.0.to_bytes().to_vec()].concat(),
        Slot::Part(name, upload, number) => [parts(name, upload), number.to_be_bytes().to_vec()].concat(),
        Slot::Access(id) => access(id),
    }
}

pub(crate) fn bucket(name: &BucketName) -> Vec<u8> {
    [&[BUCKET], name.as_str().as_bytes()].concat()
}

/// What the rows of all buckets begin with.
pub(crate) fn buckets() -> Vec<u8> {
    vec![BUCKET]
}

pub(crate) fn access(id: &str) -> Vec<u8> {
    [&[ACCESS], id.as_bytes()].concat()
}

/// What the rows of all access keys begin with.
pub(crate) fn accesses() -> Vec<u8> {
    vec![ACCESS]
}

/// What the rows of all versions of a bucket begin with.
pub(crate) fn versions_of(name: &BucketName) -> Vec<u8> {
    [&[VERSION], name.as_str().as_bytes(), &[END]].concat()
}

/// What the rows of all versions of a key begin with.
pub(crate) fn versions(name: &BucketName, key: &Key) -> Vec<u8> {
    [&versions_of(name)[..], key.as_str().as_bytes(), &[END]].concat()
}

/// What the rows of the current versions of a bucket begin with; a key and nothing else follows.
pub(crate) fn currents(name: &BucketName) -> Vec<u8> {
    [&[CURRENT], name.as_str().as_bytes(), &[END]].concat()
}

pub(crate) fn current(name: &BucketName, key: &Key) -> Vec<u8> {
    [&currents(name)[..], key.as_str().as_bytes()].concat()
}

/// What the rows of all uploads into a bucket begin with.
pub(crate) fn uploads(name: &BucketName) -> Vec<u8> {
    [&[UPLOAD], name.as_str().as_bytes(), &[END]].concat()
}

fn uploads_of(name: &BucketName, key: &Key) -> Vec<u8> {
    [&uploads(name)[..], key.as_str().as_bytes(), &[END]].concat()
}

/// What the rows of all parts of an upload begin with.
pub(crate) fn parts(name: &BucketName, upload: &UploadId) -> Vec<u8> {
    [&[PART], name.as_str().as_bytes(), &[END], &upload.0.to_bytes()].concat()
}

/// A block of the log that was read.
pub(crate) fn block(chapter: &ChapterId, block: &BlockId) -> Vec<u8> {
    [&blocks(chapter)[..], block.as_bytes()].concat()
}

/// What the rows of all blocks of a chapter begin with.
pub(crate) fn blocks(chapter: &ChapterId) -> Vec<u8> {
    [&[BLOCK], &chapter.writer.as_bytes()[..], &chapter.number.to_be_bytes()].concat()
}

pub(crate) fn writer(writer: &WriterId) -> Vec<u8> {
    [&[WRITER], &writer.as_bytes()[..]].concat()
}

/// What the rows of all writers begin with.
pub(crate) fn writers() -> Vec<u8> {
    vec![WRITER]
}

/// Who writes here, and with what stamp it did so last.
pub(crate) fn own() -> Vec<u8> {
    b"m".to_vec()
}

/// What is to be released from an instant on.
pub(crate) fn release(due: Timestamp, tag: &LeaseTag) -> Vec<u8> {
    [&[RELEASE], &due.as_ms().to_be_bytes()[..], tag.as_bytes()].concat()
}

/// The tag that a row of [`release`] names.
pub(crate) fn released_tag(row: &[u8]) -> Option<LeaseTag> {
    row.get(9..)?.try_into().ok().map(LeaseTag::from_bytes)
}

/// What the rows of all that is to be released begin with.
pub(crate) fn releases() -> Vec<u8> {
    vec![RELEASE]
}

/// Behind what is to be released by now.
pub(crate) fn releases_until(now: Timestamp) -> Vec<u8> {
    behind(&[&[RELEASE], &now.as_ms().to_be_bytes()[..]].concat())
}

/// An upload of which no parts are kept any more.
pub(crate) fn ended(name: &BucketName, upload: &UploadId) -> Vec<u8> {
    [&[ENDED], name.as_str().as_bytes(), &[END], &upload.0.to_bytes()].concat()
}

/// An upload that was given up, and is to be looked at from an instant on.
pub(crate) fn sweep(due: Timestamp, name: &BucketName, upload: &UploadId) -> Vec<u8> {
    [&[SWEEP], &due.as_ms().to_be_bytes()[..], name.as_str().as_bytes(), &[END], &upload.0.to_bytes()]
        .concat()
}

/// What the rows of all uploads that were given up begin with.
pub(crate) fn sweeps() -> Vec<u8> {
    vec![SWEEP]
}

/// Behind the uploads that are to be looked at by now.
pub(crate) fn sweeps_until(now: Timestamp) -> Vec<u8> {
    behind(&[&[SWEEP], &now.as_ms().to_be_bytes()[..]].concat())
}

/// The least key behind all that begin with these bytes.
pub(crate) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut behind = prefix.to_vec();
    while let Some(last) = behind.pop() {
        if let Some(next) = last.checked_add(1) {
            behind.push(next);
            return behind;
        }
    }
    // Nothing begins with that many 255s: the first byte of a row is a letter.
    vec![u8::MAX]
}

/// The name of a bucket, or the id of an access key, that a row of it has.
pub(crate) fn name_of(row: &[u8]) -> Option<&str> {
    core::str::from_utf8(row.get(1..)?).ok()
}

/// The key that the row of a current version has behind the prefix of its bucket.
pub(crate) fn key_behind<'a>(row: &'a [u8], prefix: &[u8]) -> Option<&'a str> {
    core::str::from_utf8(row.strip_prefix(prefix)?).ok()
}

/// The key and what follows it, of the row of a version or an upload.
pub(crate) fn key_and_rest<'a>(row: &'a [u8], prefix: &[u8]) -> Option<(&'a str, &'a [u8])> {
    let rest = row.strip_prefix(prefix)?;
    let end = rest.iter().position(|byte| *byte == END)?;
    Some((core::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]))
}

/// The number of the part that a row is of.
pub(crate) fn part_number(row: &[u8]) -> Option<u16> {
    row.last_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn version_bytes(version: &VersionSlot) -> Vec<u8> {
    match version {
        VersionSlot::Null => Vec::new(),
        VersionSlot::At(stamp) => stamp.to_bytes().to_vec(),
    }
}

/// The version that a row ends with.
pub(crate) fn version_of(rest: &[u8]) -> Option<VersionSlot> {
    if rest.is_empty() { Some(VersionSlot::Null) } else { stamp_of(rest).map(VersionSlot::At) }
}

/// The stamp that a row ends with.
pub(crate) fn stamp_of(rest: &[u8]) -> Option<Stamp> {
    let bytes: &[u8; 28] = rest.try_into().ok()?;
    Some(Stamp {
        ms: u64::from_be_bytes(bytes[..8].try_into().ok()?),
        count: u32::from_be_bytes(bytes[8..12].try_into().ok()?),
        writer: WriterId::from_bytes(bytes[12..].try_into().ok()?),
    })
}
