//! Changes come to the same in any order.

use std::collections::BTreeMap;

use datamesh_core::bucket::{
    Bucket, BucketName, Change, Content, Extent, Extents, Key, Part, Slot, Stamp, Upload, UploadId, Value,
    Version, VersionSlot, Versioning, WriterId,
};
use datamesh_core::id::ObjectId;
use datamesh_core::lease::LeaseTag;
use datamesh_core::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::RELEASE_AFTER;
use crate::buckets::rows;
use crate::buckets::view::View;
use crate::buckets::view::tests::Memory;
use crate::world::Map;

const NOW: Timestamp = Timestamp::from_ms(1_000_000);

fn name() -> BucketName {
    "bucket".parse().expect("a name")
}

fn key(number: u8) -> Key {
    format!("key {number}").parse().expect("a key")
}

fn stamp(ms: u64) -> Stamp {
    Stamp { ms, count: 0, writer: WriterId::from_bytes([u8::try_from(ms % 3).expect("small"); 16]) }
}

fn extent(number: u64) -> Extent {
    let mut tag = [0; 16];
    tag[..8].copy_from_slice(&number.to_le_bytes());
    Extent { object: ObjectId::from_bytes([1; 32]), size: number, tag: LeaseTag::from_bytes(tag) }
}

fn content(extents: Extents, etag: u64) -> Content {
    Content {
        size: etag,
        etag: etag.to_string(),
        extents,
        headers: BTreeMap::new(),
        metadata: BTreeMap::new(),
        tags: BTreeMap::new(),
        digests: BTreeMap::new(),
        class: None,
    }
}

fn version(key_number: u8, slot: VersionSlot, at: u64, content: Option<Content>) -> Change {
    let value = Value::Version(Version { modified: Timestamp::from_ms(at), content });
    Change { slot: Slot::Version(name(), key(key_number), slot), stamp: stamp(at), value: Some(value) }
}

fn upload(completed: bool) -> Value {
    let content = content(Extents::Listed(vec![]), 0);
    Value::Upload(Upload { begun: Timestamp::from_ms(1), content, completed, digest: None })
}

/// What a gateway may write.
#[derive(Debug, Clone, Copy)]
enum Proposed {
    Put { key: u8, versioned: bool },
    Delete { key: u8, marked: bool },
    Part(u16),
    EndUpload { completed: bool },
}

fn proposed() -> impl Strategy<Value = Proposed> {
    prop_oneof![
        (0_u8..2, any::<bool>()).prop_map(|(key, versioned)| Proposed::Put { key, versioned }),
        (0_u8..2, any::<bool>()).prop_map(|(key, marked)| Proposed::Delete { key, marked }),
        (1_u16..3).prop_map(Proposed::Part),
        any::<bool>().prop_map(|completed| Proposed::EndUpload { completed }),
    ]
}

impl Proposed {
    fn changes(self, at: u64) -> Vec<Change> {
        let id = UploadId(stamp(3));
        match self {
            Self::Put { key, versioned } => {
                let slot = if versioned { VersionSlot::At(stamp(at)) } else { VersionSlot::Null };
                vec![version(key, slot, at, Some(content(Extents::Listed(vec![extent(at)]), at)))]
            }
            Self::Delete { key, marked: true } => vec![version(key, VersionSlot::At(stamp(at)), at, None)],
            Self::Delete { key: number, marked: false } => {
                let slot = Slot::Version(name(), key(number), VersionSlot::Null);
                vec![Change { slot, stamp: stamp(at), value: None }]
            }
            Self::Part(number) => vec![part(number, at)],
            Self::EndUpload { completed } => {
                let slot = Slot::Upload(name(), key(0), id);
                let ended = Change { slot, stamp: stamp(at), value: completed.then(|| upload(true)) };
                let made = || {
                    let extents = Extents::Uploaded { upload: id, parts: vec![(1, 2)] };
                    version(0, VersionSlot::Null, at, Some(content(extents, at)))
                };
                [ended].into_iter().chain(completed.then(made)).collect()
            }
        }
    }
}

fn part(number: u16, at: u64) -> Change {
    let part = Part {
        modified: Timestamp::from_ms(at),
        extent: extent(at),
        etag: at.to_string(),
        digests: BTreeMap::new(),
    };
    let slot = Slot::Part(name(), UploadId(stamp(3)), number);
    Change { slot, stamp: stamp(at), value: Some(Value::Part(part)) }
}

/// The rows that all who know these changes have in common: when something is released is each one's own affair.
fn common(changes: &[Change]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let map = Memory::default();
    for change in changes {
        let mut view = View::of(&map);
        view.apply(change, NOW).expect("applied");
        map.write(view.into_changes()).expect("written");
    }
    let mut view = View::of(&map);
    view.sweep(Timestamp::from_ms(u64::MAX / 2)).expect("swept");
    let swept = view.into_changes();
    map.write(swept).expect("written");
    let rows = map.0.into_inner().expect("not poisoned");
    rows.into_iter().filter(|(row, _)| !matches!(row[0], b'r' | b's')).collect()
}

fn begin() -> Vec<Change> {
    let bucket = Bucket { created: stamp(1), versioning: Versioning::Off, documents: BTreeMap::new() };
    let slot = Slot::Bucket(name());
    let made = Change { slot, stamp: stamp(1), value: Some(Value::Bucket(bucket)) };
    let slot = Slot::Upload(name(), key(0), UploadId(stamp(3)));
    vec![made, Change { slot, stamp: stamp(3), value: Some(upload(false)) }]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn changes_come_to_the_same_in_any_order_and_however_often(
        proposals in vec(proposed(), 1..12),
        order in vec(any::<u64>(), 64),
        times in 1_usize..3,
    ) {
        let changes: Vec<Change> = {
            let made = (10..).zip(proposals).flat_map(|(at, proposed)| proposed.changes(at));
            begin().into_iter().chain(made).collect()
        };
        let mut shuffled: Vec<(u64, Change)> = order.into_iter().cycle().zip(changes.clone()).collect();
        shuffled.sort_by_key(|(place, _)| *place);
        let shuffled: Vec<Change> = shuffled.into_iter().map(|(_, change)| change).collect();
        let repeated: Vec<Change> = shuffled.iter().cycle().take(shuffled.len() * times).cloned().collect();
        let (one, other) = (common(&changes), common(&repeated));
        assert!(one == other, "rows differ: {changes:?} and {repeated:?}");
    }
}

/// Tags that are due to be released once everything is.
fn released(map: &Memory) -> Vec<LeaseTag> {
    let mut view = View::of(map);
    let later = Timestamp::from_ms(u64::MAX / 2);
    view.sweep(later).expect("swept");
    let due = view.due(Timestamp::from_ms(u64::MAX - 1), 1000).expect("read");
    let swept = view.into_changes();
    map.write(swept).expect("written");
    due.into_iter().map(|(_, tag)| tag).collect()
}

fn applied(changes: &[Change]) -> Memory {
    let map = Memory::default();
    for change in changes {
        let mut view = View::of(&map);
        view.apply(change, NOW).expect("applied");
        map.write(view.into_changes()).expect("written");
    }
    map
}

#[test]
fn what_is_overwritten_is_released_once_readers_are_done_and_what_is_not_stays() {
    let put = |at| version(0, VersionSlot::Null, at, Some(content(Extents::Listed(vec![extent(at)]), at)));
    let map = applied(&[put(10), put(12), put(11)]);
    assert_eq!(released(&map), [extent(10).tag, extent(11).tag]);
    let view = View::of(&map);
    assert!(view.due(NOW, 9).expect("read").is_empty(), "somebody may be reading it");
    let later = u64::try_from(RELEASE_AFTER.as_millis()).expect("short");
    assert_eq!(view.due(Timestamp::from_ms(NOW.as_ms() + later), 9).expect("read").len(), 2);
    // Its tags are changed; its bytes are the same ones.
    let mut tagged = content(Extents::Listed(vec![extent(12)]), 12);
    tagged.tags.insert("a".into(), "b".into());
    let map = applied(&[put(12), version(0, VersionSlot::Null, 13, Some(tagged))]);
    assert!(released(&map).is_empty());
}

#[test]
fn the_parts_of_an_upload_live_as_long_as_what_was_made_of_them() {
    let id = UploadId(stamp(3));
    let ended = |at, completed: bool| {
        let slot = Slot::Upload(name(), key(0), id);
        Change { slot, stamp: stamp(at), value: completed.then(|| upload(true)) }
    };
    let made = |at| {
        let extents = Extents::Uploaded { upload: id, parts: vec![(1, 2)] };
        version(0, VersionSlot::Null, at, Some(content(extents, at)))
    };
    let begun: Vec<Change> = begin().into_iter().chain([part(1, 10), part(2, 11)]).collect();
    let with = |more: Vec<Change>| applied(&begun.iter().cloned().chain(more).collect::<Vec<_>>());

    assert!(released(&with(vec![ended(12, true), made(12)])).is_empty());
    assert_eq!(released(&with(vec![ended(12, false)])).len(), 2, "given up");
    // One gateway gives it up while another completes it: what was acknowledged as complete is not lost.
    assert!(released(&with(vec![ended(13, false), ended(12, true), made(12)])).is_empty());
    assert!(released(&with(vec![ended(12, true), made(12), ended(13, false)])).is_empty());
    // What was made of it is deleted; a part that is learnt of later is not kept either.
    let deleted =
        Change { slot: Slot::Version(name(), key(0), VersionSlot::Null), stamp: stamp(14), value: None };
    let map = with(vec![ended(12, true), made(12), deleted, part(2, 9), part(3, 13)]);
    assert_eq!(released(&map).len(), 4, "also what came too late");
    let rows = map.0.lock().expect("not poisoned");
    assert!(!rows.keys().any(|row| row.starts_with(&rows::parts(&name(), &id))));
}
