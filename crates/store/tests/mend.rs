//! What rots beside the items is made anew from what says the same: headers of segments, the index, releases.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use datamesh_core::lease::{LeaseTag, PutId};
use datamesh_core::time::Epoch;
use datamesh_engine::world::{Items, ItemsError};
use datamesh_store::{Mended, Store, StoreSettings};
use futures::executor::block_on;

use crate::support::bad_disk::BadDisk;
use crate::support::{Fixed, block, bytes, id, lease, open, open_with, release, settings};

const NEVER: Epoch = Epoch::NEVER;
const ITEMS: u64 = 40;
const FRAME: &[u8] = b"dmrc";

fn small() -> StoreSettings {
    StoreSettings { segment_size: 30_000, ..settings() }
}

fn put(store: &Store, payload: &Bytes, tag: u8) -> Result<(), ItemsError> {
    block_on(store.store(block(payload), lease(&block(payload), tag, NEVER), payload.clone())).map(|_| ())
}

/// An open store with items in several segments, and a release in the last of them.
fn filled(directory: &Path) -> (Store, Vec<Bytes>) {
    let payloads: Vec<Bytes> = (0..ITEMS).map(|seed| bytes(seed, 4000)).collect();
    let store = open_with(directory, small()).expect("opens");
    for payload in &payloads {
        put(&store, payload, 1).expect("stores");
    }
    assert_eq!(block_on(store.release(release(2))), Ok(0));
    (store, payloads)
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(directory).expect("reads").map(|entry| entry.expect("reads").path());
    let mut segments: Vec<PathBuf> = names
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-")))
        .collect();
    segments.sort();
    segments
}

/// Turns a bit of a byte where it lies, without touching the file otherwise.
fn turn(path: &Path, at: usize) {
    use std::os::unix::fs::FileExt;
    let content = fs::read(path).expect("reads");
    let file = fs::File::options().write(true).open(path).expect("opens");
    file.write_all_at(&[content[at] ^ 0x10], u64::try_from(at).expect("fits")).expect("writes");
}

fn held_count(store: &Store, payloads: &[Bytes]) -> usize {
    let held = |payload: &&Bytes| match block_on(store.fetch_checked(id(&block(payload)))) {
        Ok(found) => found.is_some_and(|found| found == **payload),
        Err(error) => panic!("{error}"),
    };
    payloads.iter().filter(held).count()
}

#[test]
fn headers_are_written_anew_from_what_the_index_knows_though_not_one_is_left() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, payloads) = filled(directory.path());
    let digest = block_on(store.index_digest()).expect("reads");
    drop(store);
    let all = segments(directory.path());
    assert!(all.len() > 3);
    let before: Vec<Vec<u8>> = all.iter().map(|path| fs::read(path).expect("reads")).collect();
    for (place, path) in all.iter().enumerate() {
        turn(path, 8 + place * 7);
    }
    let store = open_with(directory.path(), small()).expect("opens");
    let header_count = u64::try_from(all.len()).expect("few");
    assert_eq!(store.mended(), Mended { header_count, ..Mended::default() });
    assert_eq!(block_on(store.index_digest()), Ok(digest));
    assert_eq!(held_count(&store, &payloads), payloads.len());
    drop(store);
    let after: Vec<Vec<u8>> = all.iter().map(|path| fs::read(path).expect("reads")).collect();
    assert!(before == after, "the headers are what they were, to the byte");
}

#[test]
fn what_nothing_is_left_to_read_with_is_set_aside_and_the_store_goes_on_without_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, payloads) = filled(directory.path());
    drop(store);
    let all = segments(directory.path());
    all.iter().for_each(|path| turn(path, 41));
    fs::remove_file(directory.path().join("index")).expect("is there");
    let sizes: Vec<u64> = all.iter().map(|path| fs::metadata(path).expect("is there").len()).collect();
    let store = open_with(directory.path(), small()).expect("opens");
    assert_eq!(store.mended().aside_count, u64::try_from(all.len()).expect("few"));
    assert_eq!(held_count(&store, &payloads), 0, "they are missed, and can be made again");
    put(&store, &payloads[3], 1).expect("stores");
    assert_eq!(held_count(&store, &payloads), 1);
    for (path, size) in all.iter().zip(sizes) {
        let name = path.file_name().expect("a name").to_string_lossy();
        let aside = directory.path().join(format!("unreadable-{name}"));
        assert_eq!(fs::metadata(aside).expect("is kept to be looked at").len(), size);
        assert!(!path.exists(), "no number is used again");
    }
    drop(store);
    let store = open_with(directory.path(), small()).expect("opens again");
    assert_eq!((store.mended(), held_count(&store, &payloads)), (Mended::default(), 1));
}

#[test]
fn a_segment_that_the_disk_does_not_give_costs_its_own_items_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, payloads) = filled(directory.path());
    drop(store);
    let all = segments(directory.path());
    for bad in [all[1].clone(), all[all.len() - 1].clone()] {
        let disk = Arc::new(BadDisk::default());
        disk.refuse(&bad, 0..u64::MAX);
        let store = Store::open(directory.path(), small(), disk, &Fixed).expect("opens");
        assert_eq!(store.mended(), Mended { index_count: 1, aside_count: 1, ..Mended::default() });
        let lost: Vec<&Bytes> = payloads
            .iter()
            .filter(|payload| block_on(store.has(vec![id(&block(payload))])) == Ok(vec![false]))
            .collect();
        assert!(!lost.is_empty() && lost.len() < 20, "{} lost", lost.len());
        for payload in lost {
            put(&store, payload, 1).expect("stores");
        }
        assert_eq!(held_count(&store, &payloads), payloads.len());
        assert!(!bad.exists());
    }
}

#[test]
fn an_index_that_rots_under_an_open_store_is_made_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, payloads) = filled(directory.path());
    let digest = block_on(store.index_digest()).expect("reads");
    block_on(store.scrub_rest()).expect("scrubs");
    assert_eq!(store.mended(), Mended::default(), "nothing is rotten yet");
    let index = directory.path().join("index");
    let mut rebuilt_count = 0;
    for round in 0..20 {
        let content = fs::read(&index).expect("reads");
        let used: Vec<usize> = (4096..content.len()).filter(|at| content[*at] != 0).collect();
        (0..5).for_each(|bit| turn(&index, used[used.len() * (bit * 20 + round) / 100]));
        block_on(store.scrub_rest()).expect("scrubs");
        assert_eq!(block_on(store.index_digest()), Ok(digest), "round {round}");
        assert_eq!(held_count(&store, &payloads), payloads.len());
        let now = store.mended().index_count;
        assert!(now <= rebuilt_count + 1);
        rebuilt_count = now;
    }
    // Some bits are of pages that are free.
    assert!(rebuilt_count > 5, "{rebuilt_count} of 20");
    put(&store, &bytes(1000, 10), 1).expect("stores");
}

#[test]
fn an_index_that_is_cut_under_an_open_store_fails_no_longer_than_until_it_is_made_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let tiny = StoreSettings { index_cache_size: 0, ..small() };
    drop(filled(directory.path()));
    let store = open_with(directory.path(), tiny).expect("opens");
    let payloads: Vec<Bytes> = (0..ITEMS).map(|seed| bytes(seed, 4000)).collect();
    fs::File::options()
        .write(true)
        .open(directory.path().join("index"))
        .expect("opens")
        .set_len(8192)
        .expect("cut");
    let begun = Instant::now();
    let mut failed_count = 0;
    for payload in &payloads {
        loop {
            match block_on(store.fetch_checked(id(&block(payload)))) {
                Ok(found) => break assert_eq!(found.as_ref(), Some(payload)),
                Err(ItemsError::Disk(_)) => failed_count += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{failed_count} reads failed");
            thread::sleep(Duration::from_millis(5));
        }
    }
    println!("{failed_count} reads failed until the index was made anew");
    assert!(failed_count > 0, "the index is needed");
    assert_eq!(store.mended().index_count, 1);
    put(&store, &bytes(1000, 10), 1).or_else(|_| put(&store, &bytes(1000, 10), 1)).expect("stores");
    assert_eq!(held_count(&store, &payloads), payloads.len());
}

#[test]
fn a_release_that_rots_is_written_again_and_still_counts_without_the_index() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, payloads) = filled(directory.path());
    let put_id = PutId { owner: release(2).unverified().owner, tag: LeaseTag::from_bytes([2; 16]) };
    let last = segments(directory.path()).pop().expect("some");
    let at =
        fs::read(&last).expect("reads").windows(4).rposition(|window| window == FRAME).expect("is there");
    turn(&last, at + 60);
    assert_eq!(block_on(store.releases(vec![put_id])), Ok(vec![release(2)]), "the index has it too");
    block_on(store.scrub_rest()).expect("scrubs");
    // The writer has done what it was asked before it answers this.
    put(&store, &bytes(1000, 10), 1).expect("stores");
    assert_eq!(store.mended(), Mended { release_count: 1, ..Mended::default() });
    let digest = block_on(store.index_digest());
    block_on(store.scrub_rest()).expect("scrubs");
    drop(store);
    fs::remove_file(directory.path().join("index")).expect("is there");
    let store = open_with(directory.path(), small()).expect("opens");
    assert_eq!(block_on(store.index_digest()), digest);
    assert_eq!(block_on(store.releases(vec![put_id])), Ok(vec![release(2)]));
    assert_eq!(put(&store, &bytes(2000, 10), 2), Err(ItemsError::Released));
    assert_eq!(held_count(&store, &payloads), payloads.len());
}

#[test]
fn without_a_look_at_releases_one_that_rots_is_lost_with_the_index() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, _) = filled(directory.path());
    let last = segments(directory.path()).pop().expect("some");
    let at =
        fs::read(&last).expect("reads").windows(4).rposition(|window| window == FRAME).expect("is there");
    turn(&last, at + 60);
    drop(store);
    fs::remove_file(directory.path().join("index")).expect("is there");
    let store = open_with(directory.path(), small()).expect("opens");
    assert_eq!(put(&store, &bytes(2000, 10), 2), Ok(()), "nobody knows of the release any more");
}

#[test]
fn a_segment_that_vanishes_under_an_open_store_is_found_and_nothing_is_appended_to_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, payloads) = filled(directory.path());
    let all = segments(directory.path());
    fs::remove_file(&all[1]).expect("is there");
    // The one that is being appended to goes as well.
    fs::remove_file(all.last().expect("some")).expect("is there");
    block_on(store.scrub_rest()).expect("scrubs");
    assert_eq!(store.mended().index_count, 1);
    let left = held_count(&store, &payloads);
    assert!(left > 10 && left < payloads.len(), "{left}");
    payloads.iter().for_each(|payload| put(&store, payload, 1).expect("stores"));
    drop(store);
    let store = open_with(directory.path(), small()).expect("opens");
    assert_eq!(held_count(&store, &payloads), payloads.len());
    drop(store);
    fs::remove_file(directory.path().join("index")).expect("is there");
    assert_eq!(held_count(&open(directory.path()).expect("opens"), &payloads), payloads.len());
}
