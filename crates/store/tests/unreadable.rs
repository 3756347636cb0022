//! What the disk refuses to read is forgotten, so that the mesh can make it again, as long as the disk gives anything else.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use datamesh_core::time::Epoch;
use datamesh_engine::world::{Items, ItemsError};
use datamesh_store::{Store, StoreSettings};
use futures::executor::block_on;

use crate::support::bad_disk::BadDisk;
use crate::support::{Fixed, block, bytes, id, lease, release, settings};

const ITEMS: u64 = 40;
const SIZE: usize = 4000;

struct Bad {
    directory: tempfile::TempDir,
    disk: Arc<BadDisk>,
    store: Store,
    payloads: Vec<Bytes>,
}

impl Bad {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = Arc::new(BadDisk::default());
        let small = StoreSettings { segment_size: 20_000, ..settings() };
        let store = Store::open(directory.path(), small, disk.clone(), &Fixed).expect("opens");
        let payloads: Vec<Bytes> = (0..ITEMS).map(|seed| bytes(seed, SIZE)).collect();
        let bad = Self { directory, disk, store, payloads };
        bad.payloads.iter().for_each(|payload| bad.put(payload));
        bad
    }

    fn put(&self, payload: &Bytes) {
        let item = block(payload);
        block_on(self.store.store(item.clone(), lease(&item, 1, Epoch::NEVER), payload.clone()))
            .expect("stores");
    }

    fn segments(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.directory.path()).expect("lists");
        let paths = files.map(|file| file.expect("a file").path());
        let is_segment =
            |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-"));
        paths.filter(|path| is_segment(path)).collect()
    }

    /// Looks at everything once, and says how many items could not be read.
    fn scrub(&self) -> usize {
        let (mut last, mut unreadable) = (None, 0);
        loop {
            let scrubbed = block_on(self.store.scrub(last, 16)).expect("scrubs");
            unreadable += scrubbed.unreadable.len();
            assert!(scrubbed.rotten.is_empty(), "{scrubbed:?}");
            match scrubbed.last {
                Some(item) => last = Some(item),
                None => break,
            }
        }
        // The writer has done by then what it was told.
        block_on(self.store.release(release(99))).expect("releases");
        unreadable
    }

    fn held(&self) -> Vec<bool> {
        let all = self.payloads.iter().map(|payload| id(&block(payload))).collect();
        block_on(self.store.has(all)).expect("readable")
    }

    fn held_count(&self) -> usize {
        self.held().into_iter().filter(|held| *held).count()
    }
}

#[test]
fn an_item_on_a_bad_sector_is_missed_and_can_be_stored_again() {
    let bad = Bad::new();
    assert_eq!((bad.scrub(), bad.held_count()), (0, 40));
    let mut segments = bad.segments();
    segments.sort();
    // Within the first item of one segment, and over two items of another.
    bad.disk.refuse(&segments[0], 1000..1512);
    bad.disk.refuse(&segments[3], 4000..4512);
    let fails = |payload: &&Bytes| {
        matches!(block_on(bad.store.fetch_checked(id(&block(payload)))), Err(ItemsError::Disk(_)))
    };
    let failed_count = bad.payloads.iter().filter(fails).count();
    assert!(failed_count >= 2, "{failed_count}");
    assert_eq!(bad.held_count(), 40, "a reader that fails forgets nothing");

    // A record that can't be read is as bad as bytes that can't.
    let unreadable = bad.scrub();
    assert!((failed_count..failed_count + 2).contains(&unreadable), "{unreadable}");
    assert_eq!(bad.held_count(), 40 - unreadable);
    assert_eq!(bad.store.mended().rotten_count, u64::try_from(unreadable).expect("few"));
    let missed = bad.payloads.iter().zip(bad.held()).filter(|(_, held)| !held);
    missed.for_each(|(payload, _)| bad.put(payload));
    assert_eq!((bad.scrub(), bad.held_count()), (0, 40), "they lie elsewhere now");
}

#[test]
fn a_disk_that_gives_nothing_is_no_reason_to_forget_anything() {
    let bad = Bad::new();
    for segment in bad.segments() {
        // All but the header, which a start reads.
        bad.disk.refuse(&segment, 96..u64::MAX);
    }
    assert_eq!(bad.scrub(), 40);
    assert_eq!((bad.held_count(), bad.store.mended().rotten_count), (40, 0));
}
