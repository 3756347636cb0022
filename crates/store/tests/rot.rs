//! Bytes change where they lie: what is still good is kept, and what isn't is forgotten once it is looked at.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use datamesh_core::id::ItemId;
use datamesh_core::time::Epoch;
use datamesh_core::wire::StoredItem;
use datamesh_engine::world::{Items, ItemsError};
use datamesh_store::{Mended, OpenError, Store, StoreSettings};
use futures::executor::block_on;

use crate::support::{block, bytes, id, lease, open, open_with, release, settings};

const NEVER: Epoch = Epoch::NEVER;
const ITEMS: u64 = 30;

fn first_segment(directory: &Path) -> PathBuf {
    directory.join("segment-0000000000000001")
}

fn put(store: &Store, payload: &Bytes, tag: u8) -> Result<(), ItemsError> {
    block_on(store.store(block(payload), lease(&block(payload), tag, NEVER), payload.clone())).map(|_| ())
}

/// A closed store of some items, and the hash of its index.
fn filled(directory: &Path) -> (Vec<Bytes>, [u8; 32]) {
    let payloads: Vec<Bytes> = (0..ITEMS).map(|seed| bytes(seed, 4000)).collect();
    let store = open(directory).expect("opens");
    for payload in &payloads {
        put(&store, payload, 1).expect("stores");
    }
    assert_eq!(block_on(store.release(release(2))), Ok(0));
    let digest = block_on(store.index_digest()).expect("reads");
    block_on(store.close()).expect("closes");
    (payloads, digest)
}

/// Flips bits of the byte at an offset, counted from where this pattern first is.
fn rot(file: &Path, pattern: &[u8], offset: usize) {
    let mut content = fs::read(file).expect("reads");
    let at = content.windows(pattern.len()).position(|window| window == pattern).expect("is there");
    content[at + offset] ^= 0x55;
    fs::write(file, content).expect("writes");
}

fn held(store: &Store, payloads: &[Bytes]) -> usize {
    let held = |payload: &&Bytes| match block_on(store.fetch_checked(id(&block(payload)))) {
        Ok(Some(fetched)) => {
            assert_eq!(&&fetched, payload);
            true
        }
        Ok(None) => false,
        Err(error) => panic!("{error}"),
    };
    payloads.iter().filter(held).count()
}

#[test]
fn a_rotten_index_is_made_anew_and_is_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let (payloads, digest) = filled(directory.path());
    let index = directory.path().join("index");
    let good = fs::read(&index).expect("reads");
    // Bytes all over the file, and every mention of one item: which of them still count, redb knows.
    let used: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    let spread = (0..30).map(|flip| used[used.len() * flip / 30]);
    let item = id(&block(&payloads[3]));
    let mentions =
        good.windows(32).enumerate().filter(|(_, window)| window == item.hash()).map(|(at, _)| at + 5);
    let mut rebuilt = 0;
    for at in spread.chain(mentions) {
        let mut rotten = good.clone();
        rotten[at] ^= 0x41;
        fs::write(&index, rotten).expect("writes");
        let store = open(directory.path()).expect("opens");
        rebuilt += usize::from(store.recovery().index_rebuilt);
        assert_eq!(block_on(store.index_digest()), Ok(digest), "byte {at}");
        assert_eq!(held(&store, &payloads), payloads.len());
    }
    // It has three rows: for the item, for its lease, and for its lease under its tag.
    assert!(rebuilt >= 3, "{rebuilt} flips were noticed");
    fs::write(&index, b"no index at all").expect("writes");
    assert_eq!(block_on(open(directory.path()).expect("opens").index_digest()), Ok(digest));
}

#[test]
fn a_rotten_item_is_forgotten_once_looked_at_and_can_be_stored_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let (payloads, _) = filled(directory.path());
    rot(&first_segment(directory.path()), &payloads[7], 1234);
    let store = open(directory.path()).expect("opens");
    let item = id(&block(&payloads[7]));
    let read = block_on(store.fetch(item, 0, None)).expect("readable").expect("held");
    assert!(!item.matches(&read), "what is read is held to its id by whoever asked");
    assert_eq!(block_on(store.fetch_checked(item)), Err(ItemsError::Rotten(item)));
    // The writer has forgotten it before it answers anything that was asked after.
    assert_eq!(put(&store, &bytes(1000, 10), 1), Ok(()));
    assert_eq!(block_on(store.has(vec![item])), Ok(vec![false]));
    assert_eq!(put(&store, &payloads[7], 3), Ok(()));
    assert_eq!(held(&store, &payloads), payloads.len());
    let digest = block_on(store.index_digest());
    drop(store);
    fs::remove_file(directory.path().join("index")).expect("is there");
    assert_eq!(block_on(open(directory.path()).expect("opens again").index_digest()), digest);
}

#[test]
fn a_rotten_frame_costs_its_own_record_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let (payloads, _) = filled(directory.path());
    let segment = first_segment(directory.path());
    let frames: Vec<usize> = fs::read(&segment)
        .expect("reads")
        .windows(4)
        .enumerate()
        .filter_map(|(at, window)| (window == b"dmrc").then_some(at))
        .collect();
    assert_eq!(frames.len(), payloads.len() + 1);
    let mut content = fs::read(&segment).expect("reads");
    content[frames[10] + 9] ^= 0x55;
    fs::write(&segment, content).expect("writes");
    fs::remove_file(directory.path().join("index")).expect("is there");
    let store = open(directory.path()).expect("opens");
    assert!(store.recovery().gap_size > 4000, "{:?}", store.recovery());
    assert_eq!(held(&store, &payloads), payloads.len() - 1);
    assert_eq!(put(&store, &payloads[10], 1), Ok(()));
    assert_eq!(held(&store, &payloads), payloads.len());
}

#[test]
fn no_payload_can_pose_as_records() {
    let directory = tempfile::tempdir().expect("a directory");
    let (payloads, _) = filled(directory.path());
    let segment = first_segment(directory.path());
    // A stranger stores a copy of a whole segment, release included; then the frame before it rots.
    let forged: Bytes = fs::read(&segment).expect("reads").into();
    let store = open(directory.path()).expect("opens");
    assert_eq!(block_on(store.release(release(9))), Ok(0));
    put(&store, &forged, 3).expect("stores");
    let more: Vec<Bytes> = (100..105).map(|seed| bytes(seed, 500)).collect();
    for payload in &more {
        put(&store, payload, 3).expect("stores");
    }
    drop(store);
    let content = fs::read(&segment).expect("reads");
    let at = (0..content.len()).rfind(|at| content[*at..].starts_with(&forged)).expect("is there");
    let frame = content[..at].windows(4).rposition(|window| window == b"dmrc").expect("is there");
    let mut rotten = content;
    rotten[frame + 4] ^= 0x01;
    fs::write(&segment, rotten).expect("writes");
    fs::remove_file(directory.path().join("index")).expect("is there");
    let store = open(directory.path()).expect("opens");
    assert_eq!(store.recovery().replayed_count, ITEMS + 2 + 5);
    assert_eq!(held(&store, &payloads), payloads.len());
    assert_eq!(held(&store, &more), more.len());
}

#[test]
fn a_rotten_lease_hides_no_other_item_and_no_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let (payloads, _) = filled(directory.path());
    // The header of the fourth record: the items are stored one by one, in this order.
    let item = id(&block(&payloads[3]));
    rot(&first_segment(directory.path()), item.hash(), 0);
    let store = open(directory.path()).expect("opens");
    assert_eq!(block_on(store.list(None, 100)).expect("reads").len(), payloads.len() - 1);
    assert_eq!(block_on(store.describe(block(&payloads[3]).part().expect("a part").id())), Ok(None));
    assert_eq!(held(&store, &payloads), payloads.len());
}

#[test]
fn a_tail_that_is_torn_anywhere_is_cut_off() {
    let directory = tempfile::tempdir().expect("a directory");
    let (payloads, _) = filled(directory.path());
    let segment = first_segment(directory.path());
    let whole = fs::read(&segment).expect("reads");
    let frame = whole.windows(4).rposition(|window| window == b"dmrc").expect("is there");
    let release_size = whole.len() - frame;
    let item_size = (frame - 96) / payloads.len();
    for cut in [1, 31, 32, 33, 300, 4000, 4321, 9000, whole.len() - 97, whole.len() - 96] {
        fs::write(&segment, &whole[..whole.len() - cut]).expect("writes");
        let _ = fs::remove_file(directory.path().join("index"));
        let store = open(directory.path()).expect("opens");
        let count = held(&store, &payloads);
        // The release is the last record.
        let lost = cut.saturating_sub(release_size).div_ceil(item_size);
        assert_eq!(count, payloads.len() - lost, "{cut}");
        put(&store, &bytes(1000, 10), 1).expect("stores");
        drop(store);
        assert_eq!(held(&open(directory.path()).expect("opens again"), &payloads), count);
    }
}

#[test]
fn a_damaged_segment_header_is_survived_where_another_has_the_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let small = StoreSettings { segment_size: 30_000, ..settings() };
    let payloads: Vec<Bytes> = (0..ITEMS).map(|seed| bytes(seed, 4000)).collect();
    let store = open_with(directory.path(), small).expect("opens");
    payloads.iter().for_each(|payload| put(&store, payload, 1).expect("stores"));
    let digest = block_on(store.index_digest()).expect("reads");
    drop(store);
    rot(&first_segment(directory.path()), b"dm-segmt", 50);
    fs::remove_file(directory.path().join("index")).expect("is there");
    let store = open_with(directory.path(), small).expect("opens");
    assert_eq!(block_on(store.index_digest()), Ok(digest));
    assert_eq!(held(&store, &payloads), payloads.len());
    assert_eq!(store.mended(), Mended { index_count: 1, header_count: 1, ..Mended::default() });
    assert_eq!(block_on(store.verify_quick()).expect("reads").problems, [""; 0]);
    drop(store);
    let store = open_with(directory.path(), small).expect("opens");
    assert_eq!(store.mended(), Mended::default(), "it is mended for good");
    assert_eq!(block_on(store.index_digest()), Ok(digest));
}

#[test]
fn a_segment_of_another_version_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    filled(directory.path());
    let segment = first_segment(directory.path());
    let mut content = fs::read(&segment).expect("reads");
    content[8] = 2;
    let check = blake3::hash(&content[..72]);
    content[72..80].copy_from_slice(&check.as_bytes()[..8]);
    fs::write(&segment, content).expect("writes");
    let error = open(directory.path()).map(|_| ()).expect_err("is refused");
    assert!(matches!(error, OpenError::Version { version: 2, .. }), "{error}");
    assert!(error.to_string().contains("another version of the program"), "{error}");
}

#[test]
fn an_item_that_is_none_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path()).expect("opens");
    let payload = bytes(1, 100);
    let StoredItem::Shard { stripe, .. } = support::shard(&payload, 1) else { panic!("a shard") };
    let item = StoredItem::Shard { index: 3, stripe };
    let stored = block_on(store.store(item.clone(), lease(&item, 1, NEVER), payload));
    assert!(matches!(stored, Err(ItemsError::Disk(_))), "{stored:?}");
}

/// Scrubs everything. Says what was found rotten.
fn scrub_all(store: &Store) -> Vec<ItemId> {
    let (mut rotten, mut last) = (Vec::new(), None);
    loop {
        let scrubbed = block_on(store.scrub(last, 7)).expect("the index is sound");
        assert_eq!(scrubbed.unreadable, []);
        rotten.extend(scrubbed.rotten);
        if scrubbed.last.is_none() {
            break;
        }
        last = scrubbed.last;
    }
    // The writer has done what it was asked before it answers this.
    block_on(store.collect(Epoch::from_hours(0))).expect("collects");
    rotten
}

#[test]
fn a_scrub_finds_whatever_bit_has_turned_wherever_it_lies() {
    let mut found_count = 0;
    let sound = tempfile::tempdir().expect("a directory");
    let (payloads, _) = filled(sound.path());
    let content = fs::read(first_segment(sound.path())).expect("reads");
    // From the end of the segment's header on, a bit of every so manieth byte.
    for at in (96..content.len()).step_by(content.len() / 150) {
        let directory = tempfile::tempdir().expect("a directory");
        for file in fs::read_dir(sound.path()).expect("reads").map(|file| file.expect("reads").path()) {
            fs::copy(&file, directory.path().join(file.file_name().expect("a file"))).expect("copied");
        }
        let store = open(directory.path()).expect("opens");
        assert_eq!(scrub_all(&store), [], "nothing is rotten yet");
        let segment = first_segment(directory.path());
        let mut wrong = content.clone();
        wrong[at] ^= 1 << (at % 8);
        fs::write(&segment, &wrong).expect("written");
        let rotten = scrub_all(&store);
        let left: Vec<bool> = payloads
            .iter()
            .map(|payload| block_on(store.has(vec![id(&block(payload))])).expect("reads")[0])
            .collect();
        assert_eq!(left.iter().filter(|held| !**held).count(), rotten.len(), "byte {at}");
        assert!(rotten.len() <= 1, "one bit is of one item: byte {at}");
        found_count += rotten.len();
        assert_eq!(scrub_all(&store), [], "it is found once");
        drop(store);
        // Nothing that was taken for sound needed the index: the segments alone say the same.
        fs::remove_file(directory.path().join("index")).expect("removed");
        let again = open(directory.path()).expect("opens");
        let held: Vec<bool> = payloads
            .iter()
            .map(|payload| block_on(again.has(vec![id(&block(payload))])).expect("reads")[0])
            .collect();
        assert_eq!(held, left, "byte {at}");
        for payload in payloads.iter().zip(&held).filter(|(_, held)| **held).map(|(payload, _)| payload) {
            assert_eq!(block_on(again.fetch_checked(id(&block(payload)))), Ok(Some(payload.clone())));
        }
    }
    assert!(found_count > 100, "{found_count} of some 150 lay in records");
}

#[test]
fn a_scrub_finds_what_was_cut_off() {
    let directory = tempfile::tempdir().expect("a directory");
    let (payloads, _) = filled(directory.path());
    let store = open(directory.path()).expect("opens");
    let segment = first_segment(directory.path());
    let size = fs::metadata(&segment).expect("is there").len();
    fs::File::options().write(true).open(&segment).expect("opens").set_len(size / 2).expect("cut");
    let rotten = scrub_all(&store);
    assert!(!rotten.is_empty() && rotten.len() < payloads.len(), "{} of {}", rotten.len(), payloads.len());
    assert_eq!(held(&store, &payloads), payloads.len() - rotten.len());
}
