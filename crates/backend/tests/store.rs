//! A store over a backend: a folder and a real Redis server, which goes away and comes back.

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use datamesh_backend::OpenBackendError;
use datamesh_core::id::NodeId;
use datamesh_engine::world::{HandedOver, Items, ItemsError};
use support::{ITEM_SIZE, PATIENCE, Redis, Tier, TierError};

const ITEMS: u64 = 40;

fn object_count(folder: &Path) -> usize {
    let names = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.to_string_lossy().starts_with("segment-")).count()
}

/// Puts items, restarts, loses the own disk, and gives all space back. Says how many objects the backend has at the end.
fn a_life_of_a_store(directory: &Path, address: &str) {
    let mut tier = Tier::new(directory, address);
    tier.open();
    tier.put_all(0..ITEMS);
    tier.wait_for_moves();
    let figures = tier.figures();
    assert!(figures.segment_count >= 6 && figures.local_size < 700_000, "{figures:?}");
    assert_eq!(tier.count_of(0..ITEMS), 40);
    tier.close();

    tier.open();
    assert_eq!(tier.count_of(0..ITEMS + 1), 40, "after a restart");
    assert_eq!(tier.figures().segment_count, figures.segment_count);
    tier.drop_all();

    fs::remove_dir_all(directory).expect("the own disk is lost");
    tier.open();
    let there = tier.count_of(0..ITEMS);
    let local = 40 - there;
    assert!(local <= 12, "what had moved is there again, {local} items had not");
    assert!(tier.store().recovery().index_rebuilt);
    tier.put_all(0..ITEMS + 10);
    assert_eq!(tier.count_of(0..ITEMS + 10), 50, "and it goes on");
    tier.wait_for_moves();

    tier.release_all();
    assert!(tier.collect().expect("collected") >= 6);
    tier.wait_for("removals", |figures| figures.removals_waiting == 0);
    assert_eq!(tier.count_of(0..ITEMS), 0);
    assert!(tier.figures().segment_count <= 1, "{:?}", tier.figures());
}

#[test]
fn a_folder_holds_closed_segments_and_gives_them_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let backend = directory.path().join("backend");
    a_life_of_a_store(&directory.path().join("items"), &format!("file://{}", backend.display()));
    assert!(object_count(&backend) <= 1, "the backend's space is given back");
}

#[test]
fn a_redis_server_holds_closed_segments_and_gives_them_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let redis = Redis::start();
    a_life_of_a_store(&directory.path().join("items"), &redis.address());
    assert!(redis.object_count() <= 3, "the backend's space is given back, but for the claim");
}

#[test]
fn a_backend_that_goes_away_stops_nothing_but_reads_of_what_lies_there_and_is_caught_up_with() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut redis = Redis::start();
    let mut tier = Tier::new(&directory.path().join("items"), &redis.address());
    tier.local_size_max = 2 << 20;
    tier.open();
    tier.put_all(0..20);
    tier.wait_for_moves();
    redis.kill();

    // What is local is served and taken, up to the bound; what lies there is refused soon, and nothing is concluded.
    tier.put_all(20..30);
    assert_eq!(tier.count_of(20..30), 10);
    assert!(matches!(tier.get(0), Err(ItemsError::Disk(_))));
    let begun = Instant::now();
    assert!(matches!(tier.get(1), Err(ItemsError::Disk(_))));
    assert!(begun.elapsed() < Duration::from_secs(1), "nobody waits for what did not answer just now");
    assert_eq!(tier.figures().away, 1);
    let taken = (30..100).take_while(|number| tier.put(*number).is_ok()).count();
    assert!((10..40).contains(&taken), "{taken} items were taken");
    assert_eq!(tier.put(99), Err(ItemsError::Full));
    assert!(tier.store().usage().full);
    assert!(tier.figures().local_size <= 2 << 20, "{:?}", tier.figures());
    tier.release_all();
    assert!(tier.collect().is_ok_and(|count| count > 0), "releases need no backend");
    assert!(tier.figures().removals_waiting > 0);

    redis.restart();
    tier.wait_for("removals", |figures| figures.removals_waiting == 0 && figures.away == 0);
    tier.put_all(100..130);
    tier.wait_for_moves();
    assert_eq!(tier.count_of(100..130), 30);
    let taken = u64::try_from(taken).expect("small");
    assert_eq!(tier.count_of(0..30 + taken), 0);
}

#[test]
fn a_collection_that_needs_a_backend_which_is_away_ends_and_succeeds_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut redis = Redis::start();
    let mut tier = Tier::new(&directory.path().join("items"), &redis.address());
    tier.open();
    tier.put_all(0..30);
    tier.wait_for_moves();
    // Most of each segment is garbage, so that the rest must be read to be kept.
    let parts: Vec<_> =
        (0..30).filter(|number| number % 5 != 0).map(|number| handed_over(&tier, number)).collect();
    let discarded = tier.runtime.block_on(tier.store().discard(parts)).expect("discarded");
    assert_eq!(discarded, 24);
    redis.kill();
    assert!(tier.collect().is_err());
    assert!(tier.put(1000).is_ok(), "and who stores meanwhile is not told of it");
    redis.restart();
    let begun = Instant::now();
    while !tier.collect().is_ok_and(|count| count >= 3) {
        assert!(begun.elapsed() < PATIENCE, "the segments are stuck");
    }
    assert_eq!(tier.count_of(0..30), 6);
    tier.close();

    // Discarded is discarded, though the index is made anew from what lies at the backend.
    fs::remove_file(tier.directory.join("index")).expect("removed");
    tier.open();
    assert_eq!(tier.count_of(0..30), 6);
}

fn handed_over(tier: &Tier, number: u64) -> HandedOver {
    let part = support::item(number).0.part().expect("a part").id();
    let known = tier.runtime.block_on(tier.store().describe(part)).expect("readable").expect("it is held");
    HandedOver { part, leases: known.leases }
}

#[test]
fn an_index_is_made_anew_from_all_segments_or_not_at_all() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut redis = Redis::start();
    let mut tier = Tier::new(&directory.path().join("items"), &redis.address());
    tier.open();
    tier.put_all(0..ITEMS);
    tier.wait_for_moves();
    tier.close();
    redis.kill();

    tier.open();
    assert!(
        matches!(tier.get(0), Err(ItemsError::Disk(_))),
        "with its index a store opens without the backend"
    );
    tier.close();
    fs::remove_file(tier.directory.join("index")).expect("removed");
    assert!(matches!(tier.try_open(), Err(TierError::Store(_))), "without it it doesn't");
    assert!(tier.try_open().is_err());
    redis.restart();
    tier.open();
    assert_eq!(tier.count_of(0..ITEMS), 40);
}

#[test]
fn two_nodes_never_mix_their_segments_at_one_address() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = format!("file://{}", directory.path().join("backend").display());
    let mut tier = Tier::new(&directory.path().join("items"), &address);
    tier.open();
    tier.put_all(0..ITEMS);
    tier.wait_for_moves();
    let mut other = Tier::new(&directory.path().join("other"), &address);
    other.node = NodeId::from_bytes([2; 32]);
    let refused = other.try_open();
    assert!(
        matches!(refused, Err(TierError::Backend(OpenBackendError::Claimed(node))) if node == tier.node),
        "{refused:?}"
    );
    tier.close();
    // Its own segments are not to be looked for elsewhere.
    tier.address = format!("file://{}", directory.path().join("elsewhere").display()).parse().expect("valid");
    assert!(matches!(tier.try_open(), Err(TierError::Backend(OpenBackendError::Moved(_)))));
}

#[test]
fn an_object_that_is_not_what_was_moved_is_found_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let backend = directory.path().join("backend");
    let mut tier = Tier::new(&directory.path().join("items"), &format!("file://{}", backend.display()));
    tier.open();
    tier.put_all(0..ITEMS);
    tier.wait_for_moves();
    let segments = fs::read_dir(&backend).expect("a folder").map(|entry| entry.expect("an entry").path());
    let first =
        segments.filter(|path| path.to_string_lossy().contains("segment-")).min().expect("one at least");
    let mut bytes = fs::read(&first).expect("read");
    bytes[ITEM_SIZE / 2] ^= 1;
    fs::write(&first, &bytes).expect("written");
    let rotten = (0..ITEMS).filter(|number| matches!(tier.get(*number), Err(ItemsError::Rotten(_)))).count();
    assert_eq!(rotten, 1);
    fs::remove_file(&first).expect("removed");
    let lost = (0..ITEMS).filter(|number| tier.get(*number).is_err()).count();
    assert!(lost > 0, "and so is one that is gone");
}
