//! A block of a bucket log, before it is sealed and after.

use std::collections::BTreeMap;

use datamesh_codec::keys::Identity;
use datamesh_core::bucket::{
    Access, AccessKey, Bucket, Change, ChapterId, Content, Extent, Extents, Grant, LOG_VERSION, LogBlock,
    Part, Slot, Stamp, Upload, UploadId, Value, Version, VersionSlot, Versioning, WriterId,
};
use datamesh_core::encode::encode;
use datamesh_core::id::ObjectId;
use datamesh_core::lease::LeaseTag;
use datamesh_core::time::Timestamp;

use crate::fixture::{check, read};

const WRITER: WriterId = WriterId::from_bytes([7; 16]);

fn stamp(count: u32) -> Stamp {
    Stamp { ms: 1_700_000_000_000, count, writer: WRITER }
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn extent() -> Extent {
    Extent { object: ObjectId::from_bytes([2; 32]), size: 5, tag: LeaseTag::from_bytes([3; 16]) }
}

fn content(extents: Extents) -> Content {
    Content {
        size: 5,
        etag: "5d41402abc4b2a76b9719d911017c592".to_owned(),
        extents,
        headers: texts(&[("content-type", "text/plain")]),
        metadata: texts(&[("note", "first")]),
        tags: texts(&[("kind", "letter")]),
        digests: texts(&[("crc32", "NhCmhg==")]),
        class: Some("GLACIER".to_owned()),
    }
}

fn block() -> LogBlock {
    let bucket: datamesh_core::bucket::BucketName = "bucket".parse().expect("a name");
    let key: datamesh_core::bucket::Key = "folder/key".parse().expect("a key");
    let (id, modified) = (UploadId(stamp(2)), Timestamp::from_ms(1_700_000_000_001));
    let version = |extents| Value::Version(Version { modified, content: Some(content(extents)) });
    let uploaded = Extents::Uploaded { upload: id, parts: vec![(1, 3), (5, 5)] };
    let upload = Upload {
        begun: modified,
        content: content(Extents::Listed(vec![])),
        completed: true,
        digest: Some("crc32".to_owned()),
    };
    let part = Part { modified, extent: extent(), etag: "5d41".to_owned(), digests: BTreeMap::new() };
    let grants = vec![
        Grant { bucket: None, access: Access::Read },
        Grant { bucket: Some(bucket.clone()), access: Access::Own },
    ];
    let access =
        AccessKey { secret: "secret".to_owned(), created: modified, grants, name: Some("backup".to_owned()) };
    let made =
        Bucket { created: stamp(0), versioning: Versioning::Enabled, documents: texts(&[("cors", "<x/>")]) };
    let slots = [
        (Slot::Bucket(bucket.clone()), Some(Value::Bucket(made))),
        (
            Slot::Version(bucket.clone(), key.clone(), VersionSlot::Null),
            Some(version(Extents::Listed(vec![extent()]))),
        ),
        (Slot::Version(bucket.clone(), key.clone(), VersionSlot::At(stamp(1))), Some(version(uploaded))),
        (Slot::Version(bucket.clone(), key.clone(), VersionSlot::At(stamp(9))), None),
        (Slot::Upload(bucket.clone(), key, id), Some(Value::Upload(upload))),
        (Slot::Part(bucket, id, 3), Some(Value::Part(part))),
        (Slot::Access("DMKEY".to_owned()), Some(Value::Access(access))),
    ];
    let changes = (1..).zip(slots).map(|(count, (slot, value))| Change { slot, stamp: stamp(count), value });
    LogBlock {
        version: LOG_VERSION,
        chapter: ChapterId { writer: WRITER, number: 4 },
        sequence: 5,
        first_chapter: 1,
        changes: changes.collect(),
    }
}

#[test]
fn a_block_of_a_bucket_log_keeps_its_bytes() {
    let (block, key) = (block(), Identity::from_seed(&[1; 32]).log_key());
    check("log-block", &encode(&block));
    check("log-block-sealed", &key.seal(&block));
    assert_eq!(key.open(&read("log-block-sealed")), Ok(block.clone()));
    check("log-tags", &[*key.register_tag().as_bytes(), *key.chapter_tag(block.chapter).as_bytes()].concat());
}
