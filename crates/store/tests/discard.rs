//! What is discarded is gone for good: after a crash, out of the segments alone, and whatever is compacted meanwhile.

mod support;

use std::fs;
use std::path::Path;

use bytes::Bytes;
use datamesh_core::summary::PartId;
use datamesh_core::time::Epoch;
use datamesh_engine::world::Items;
use datamesh_store::{Store, StoreSettings};
use futures::executor::block_on;
use futures::future::join;

use crate::support::{block, bytes, handed_over, id, lease, open_with, release, settings};

const NEVER: Epoch = Epoch::NEVER;
const TODAY: Epoch = Epoch::from_hours(0);

fn small() -> StoreSettings {
    StoreSettings { segment_size: 20_000, ..settings() }
}

fn put(store: &Store, payload: &Bytes, tag: u8) {
    block_on(store.store(block(payload), lease(&block(payload), tag, NEVER), payload.clone()))
        .expect("stores");
}

fn part(payload: &Bytes) -> PartId {
    block(payload).part().expect("a block is a part").id()
}

fn held(store: &Store, payloads: &[Bytes]) -> Vec<bool> {
    block_on(store.has(payloads.iter().map(|payload| id(&block(payload))).collect())).expect("reads")
}

/// What is left of a store when its process is killed now.
fn crash(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    for file in fs::read_dir(directory).expect("reads").map(|file| file.expect("reads").path()) {
        fs::copy(&file, copy.path().join(file.file_name().expect("a file"))).expect("copied");
    }
    copy
}

#[test]
fn what_is_discarded_is_gone_after_a_crash_with_the_index_and_without_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let payloads: Vec<Bytes> = (0..20).map(|seed| bytes(seed, 4000)).collect();
    let store = open_with(directory.path(), small()).expect("opens");
    payloads.iter().for_each(|payload| put(&store, payload, 1));
    // Another lease for the same put's stripe lies elsewhere.
    block_on(store.lease(id(&block(&payloads[2])), lease(&block(&payloads[2]), 2, NEVER))).expect("leases");
    let parts = payloads[..10].iter().map(|payload| handed_over(&store, part(payload))).collect();
    assert_eq!(block_on(store.discard(parts)), Ok(10));
    // Stored again, it is held for what was said since and for nothing before.
    put(&store, &payloads[2], 3);
    let expected: Vec<bool> = (0..20).map(|index| index == 2 || index >= 10).collect();
    for with_index in [true, false] {
        let copy = crash(directory.path());
        if !with_index {
            fs::remove_file(copy.path().join("index")).expect("is there");
        }
        let again = open_with(copy.path(), small()).expect("opens");
        assert_eq!(held(&again, &payloads), expected, "with its index: {with_index}");
        assert_eq!(block_on(again.index_digest()), block_on(store.index_digest()));
        let known = block_on(again.describe(part(&payloads[2]))).expect("reads").expect("held");
        assert_eq!(known.leases, [lease(&block(&payloads[2]), 3, NEVER)]);
    }
}

#[test]
fn a_discard_goes_where_compaction_goes_as_long_as_what_it_discards_is_left() {
    let directory = tempfile::tempdir().expect("a directory");
    let payloads: Vec<Bytes> = (0..24).map(|seed| bytes(seed, 4000)).collect();
    let store = open_with(directory.path(), small()).expect("opens");
    for (index, payload) in payloads.iter().enumerate() {
        // One of the first segment and all of the last but one go with their put; the other segments stay as they are.
        put(&store, payload, if index == 1 || index >= 16 { 2 } else { 1 });
    }
    assert_eq!(block_on(store.discard(vec![handed_over(&store, part(&payloads[0]))])), Ok(1));
    block_on(store.release(release(2))).expect("releases");
    let rebuilt = |what: &str| {
        let copy = crash(directory.path());
        fs::remove_file(copy.path().join("index")).expect("is there");
        let again = open_with(copy.path(), small()).expect("opens");
        assert_eq!(held(&again, &payloads[..1]), [false], "{what}");
        assert_eq!(block_on(again.index_digest()), block_on(store.index_digest()), "{what}");
    };
    rebuilt("before");
    // The segment with the discard is worth compacting and the one that it is about is not.
    let collected = block_on(store.collect(TODAY)).expect("collects");
    assert!(collected.segment_count > 0, "{collected:?}");
    let first = directory.path().join("segment-0000000000000001");
    assert!(first.exists());
    rebuilt("after a collection");
    block_on(store.release(release(1))).expect("releases");
    block_on(store.collect(TODAY)).expect("collects");
    assert!(!first.exists());
    rebuilt("after all is gone");
}

#[test]
fn what_has_got_a_lease_since_it_was_handed_over_is_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let payloads: Vec<Bytes> = (0..4).map(|seed| bytes(seed, 4000)).collect();
    let store = open_with(directory.path(), small()).expect("opens");
    payloads.iter().for_each(|payload| put(&store, payload, 1));
    let parts = payloads.iter().map(|payload| handed_over(&store, part(payload))).collect();
    let again = |payload: &Bytes, tag, until| {
        let leased = store.lease(id(&block(payload)), lease(&block(payload), tag, until));
        assert_eq!(block_on(leased), Ok(true));
    };
    // The same put, for longer or shorter; another put; and what was known before.
    again(&payloads[0], 1, Epoch::from_hours(1000));
    again(&payloads[1], 2, NEVER);
    again(&payloads[2], 1, NEVER);
    assert_eq!(block_on(store.discard(parts)), Ok(2));
    assert_eq!(held(&store, &payloads), [true, true, false, false]);
}

#[test]
fn what_is_being_copied_can_be_discarded() {
    let directory = tempfile::tempdir().expect("a directory");
    let payloads: Vec<Bytes> = (0..40).map(|seed| bytes(seed, 4000)).collect();
    let store = open_with(directory.path(), small()).expect("opens");
    for (index, payload) in payloads.iter().enumerate() {
        put(&store, payload, if index % 3 == 0 { 1 } else { 2 });
    }
    block_on(store.release(release(2))).expect("releases");
    let parts = (0..40).step_by(6).map(|index| handed_over(&store, part(&payloads[index]))).collect();
    let (collected, discarded) = block_on(join(store.collect(TODAY), store.discard(parts)));
    assert!(collected.expect("collects").segment_count > 0);
    assert_eq!(discarded, Ok(7));
    let expected: Vec<bool> = (0..40).map(|index| index % 3 == 0 && index % 6 != 0).collect();
    assert_eq!(held(&store, &payloads), expected);
    let digest = block_on(store.index_digest());
    drop(store);
    fs::remove_file(directory.path().join("index")).expect("is there");
    let again = open_with(directory.path(), small()).expect("opens");
    assert_eq!(held(&again, &payloads), expected);
    assert_eq!(block_on(again.index_digest()), digest);
}
