//! What is wanted stays on the own disk, what nobody wants moves to the backend, and what is wanted again comes back.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use datamesh_engine::world::ItemsError;
use support::{PATIENCE, Tier};

const ITEMS: u64 = 40;
/// Those of the first segment.
const WANTED: std::ops::Range<u64> = 0..4;
/// Those of one that moves.
const UNWANTED: std::ops::Range<u64> = 12..16;
const COLD_AFTER: Duration = Duration::from_secs(2);

fn segments_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let is_segment =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-"));
    let mut segments: Vec<PathBuf> = entries.filter(is_segment).collect();
    segments.sort();
    segments
}

struct Cold {
    _directory: tempfile::TempDir,
    items: PathBuf,
    backend: PathBuf,
    tier: Tier,
}

impl Cold {
    fn start(cold_after: Duration, local_size_max: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (items, backend) = (directory.path().join("items"), directory.path().join("backend"));
        let mut tier = Tier::new(&items, &format!("file://{}", backend.display()));
        (tier.cold_after, tier.local_size_max) = (cold_after, local_size_max);
        tier.open();
        tier.put_all(0..ITEMS);
        Self { _directory: directory, items, backend, tier }
    }

    fn read(&self, numbers: std::ops::Range<u64>) {
        let count = usize::try_from(numbers.end - numbers.start).expect("small");
        assert_eq!(self.tier.count_of(numbers), count);
    }

    /// What the backend was asked for the reading of these.
    fn asked_for(&self, numbers: std::ops::Range<u64>) -> u64 {
        let before = self.tier.figures().read_count;
        self.read(numbers);
        self.tier.figures().read_count - before
    }

    /// Wants some all the time until all others have moved.
    fn wait_until_the_rest_is_cold(&self) {
        let begun = Instant::now();
        // Left are the wanted one, the one that is written, and the newest that was.
        while self.tier.figures().local_count > 3 {
            self.read(WANTED);
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.tier.figures());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn what_is_wanted_stays_and_what_is_wanted_again_comes_back() {
    let begun = Instant::now();
    let mut cold = Cold::start(COLD_AFTER, 1 << 30);
    cold.wait_until_the_rest_is_cold();
    assert!(begun.elapsed() >= COLD_AFTER, "nothing is cold as soon as it is closed");
    assert_eq!(cold.asked_for(WANTED), 0, "what was wanted all the time has stayed");
    assert!(cold.asked_for(UNWANTED) > 0, "what was not has moved");

    let there = segments_in(&cold.backend).len();
    let asked = Instant::now();
    while cold.asked_for(UNWANTED) > 0 {
        assert!(asked.elapsed() < PATIENCE, "it does not come back: {:?}", cold.tier.figures());
    }
    assert!(cold.tier.figures().recalled_count > 0);
    cold.tier.wait_for("removals", |figures| figures.removals_waiting == 0);
    assert!(segments_in(&cold.backend).len() < there, "and lies in one place");

    // A crash, and the loss of the index, which is made again from all segments.
    cold.tier.drop_all();
    fs::remove_file(cold.items.join("index")).expect("there is one");
    cold.tier.open();
    cold.read(0..ITEMS);
    cold.wait_until_the_rest_is_cold();
    assert!(cold.asked_for(UNWANTED) > 0, "nobody has wanted it since, and it is gone again");
}

#[test]
fn where_the_own_disk_is_small_what_is_warm_moves_too() {
    let cold = Cold::start(Duration::from_secs(60 * 60), 4 << 20);
    assert_eq!(cold.tier.figures().segment_count, 0, "there is room as yet");
    cold.tier.put_all(ITEMS..2 * ITEMS - 20);
    cold.tier.wait_for("moves", |figures| figures.local_size <= 3 << 20 && figures.segment_count > 0);
    cold.read(0..2 * ITEMS - 20);
    // What has no room to come back to is read where it is.
    for _ in 0..10 {
        assert!(cold.asked_for(WANTED) > 0);
    }
    assert_eq!(cold.tier.figures().recalled_count, 0);
}

#[test]
fn a_segment_that_is_in_both_places_after_a_crash_is_the_own_disks() {
    let mut cold = Cold::start(Duration::ZERO, 1 << 30);
    cold.tier.wait_for_moves();
    cold.tier.drop_all();
    // As far as a segment has come that is brought back, when the power goes before the last step.
    let first = segments_in(&cold.backend).remove(0);
    let name = first.file_name().expect("it has one").to_owned();
    fs::copy(&first, cold.items.join(&name)).expect("copied");
    let mark = cold.items.join("backend").join(name.to_string_lossy().replace("segment-", "held-"));
    assert!(mark.exists());
    cold.tier.cold_after = Duration::from_secs(60 * 60);
    cold.tier.open();
    assert!(!mark.exists());
    cold.tier.wait_for("removals", |figures| figures.removals_waiting == 0);
    assert!(!first.exists(), "what lies at the backend is not wanted any more");
    assert_eq!(cold.asked_for(WANTED), 0);
    cold.read(0..ITEMS);

    // Nothing of it is there again once it is gone.
    cold.tier.release_all();
    assert!(cold.tier.collect().expect("collected") >= 6);
    cold.tier.drop_all();
    fs::remove_file(cold.items.join("index")).expect("there is one");
    cold.tier.open();
    assert_eq!(cold.tier.count_of(0..ITEMS), 0);
}

#[test]
fn what_can_not_come_back_now_stays_where_it_is() {
    let cold = Cold::start(COLD_AFTER, 1 << 30);
    cold.wait_until_the_rest_is_cold();
    let away = cold.backend.with_extension("away");
    fs::rename(&cold.backend, &away).expect("it is away");
    for _ in 0..10 {
        for number in UNWANTED {
            assert!(matches!(cold.tier.get(number), Err(ItemsError::Disk(_)) | Ok(None)));
        }
        cold.read(WANTED);
    }
    fs::rename(&away, &cold.backend).expect("it is back");
    let begun = Instant::now();
    while cold.tier.figures().recalled_count == 0 {
        let _ = cold.tier.get(UNWANTED.start);
        assert!(begun.elapsed() < PATIENCE, "{:?}", cold.tier.figures());
    }
    cold.read(0..ITEMS);
}
