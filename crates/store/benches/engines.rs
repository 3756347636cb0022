//! How fast items become durable: this store, this store with a durable index commit per group, and fjall.
//!
//! `cargo bench -p datamesh-store --features bench-engines`, on the disk that `CARGO_TARGET_DIR` is on.

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::any::Any;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use datamesh_core::lease::Lease;
use datamesh_core::sign::Signed;
use datamesh_core::time::Epoch;
use datamesh_core::wire::StoredItem;
use datamesh_engine::world::Items;
use datamesh_store::disk::{Disk, DiskFile, Files};
use datamesh_store::{Store, StoreSettings};
use fjall::{Database, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use futures::executor::block_on;
use futures::future::join_all;

use crate::support::{Fixed, block, bytes, id, lease, settings};

const SHARD_SIZE: usize = 256 << 10;
const SHARDS: u64 = 2000;
const BLOCK_SIZE: usize = 200;
const BLOCKS: u64 = 50_000;
const GROUP: usize = 32;
const GROUP_OF_BLOCKS: usize = 1000;
const ROUNDS: u32 = 4;
const WARM_UP_CHUNKS: u32 = 1500;
const READS_AT_ONCE: usize = 8;

type Item = (StoredItem, Signed<Lease>, Bytes);

fn main() {
    let shards = items(0, SHARDS, SHARD_SIZE);
    println!("{SHARDS} shards of {SHARD_SIZE} bytes, {GROUP} at a time");
    let plain = settings();
    let durable_index = StoreSettings { checkpoint_size: 0, ..plain };
    for round in 0..ROUNDS {
        println!("round {round}");
        bench_store("store", plain, &shards, GROUP);
        bench_store("store, durable index per group", durable_index, &shards, GROUP);
        bench_fjall(&shards);
    }
    drop(shards);
    println!("{BLOCKS} blocks of {BLOCK_SIZE} bytes, {GROUP_OF_BLOCKS} at a time");
    bench_store("store", plain, &items(1 << 32, BLOCKS, BLOCK_SIZE), GROUP_OF_BLOCKS);
}

fn items(first: u64, count: u64, size: usize) -> Vec<Item> {
    let item = |seed| {
        let payload = bytes(seed, size);
        let item = block(&payload);
        let lease = lease(&item, 1, Epoch::NEVER);
        (item, lease, payload)
    };
    (first..first + count).map(item).collect()
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn bench_store(name: &str, settings: StoreSettings, items: &[Item], group: usize) {
    let directory = directory();
    let disk = Arc::new(Counting::default());
    let open = || Store::open(directory.path(), settings, disk.clone(), &Fixed).expect("opens");
    let store = open();
    warm_up(directory.path());
    let (syncs, before) = (disk.syncs.load(Ordering::Relaxed), written());
    let took = timed(|| {
        for group in items.chunks(group) {
            let stores = group
                .iter()
                .map(|(item, lease, bytes)| store.store(item.clone(), lease.clone(), bytes.clone()));
            block_on(join_all(stores)).into_iter().for_each(|stored| stored.expect("stores"));
        }
    });
    let syncs = disk.syncs.load(Ordering::Relaxed) - syncs;
    report(name, took, items, &format!("{syncs} syncs, {} bytes to the disk", written() - before));
    let took = timed(|| {
        for group in items.chunks(READS_AT_ONCE) {
            let reads = group.iter().map(|(item, ..)| store.fetch(id(item), 0, None));
            block_on(join_all(reads)).into_iter().for_each(|read| assert!(read.expect("reads").is_some()));
        }
    });
    report("  read back and verified, cached", took, items, "");
    block_on(store.close()).expect("closes");
    drop(store);
    let took = timed(|| drop(open()));
    println!("  opened again and closed in {took:?}");
    fs::remove_file(directory.path().join("index")).expect("is there");
    let took = timed(|| drop(open()));
    println!("  opened without an index, made anew, and closed in {took:?}");
}

fn bench_fjall(items: &[Item]) {
    let directory = directory();
    let database = Database::builder(directory.path()).open().expect("opens");
    let options =
        || KeyspaceCreateOptions::default().with_kv_separation(Some(KvSeparationOptions::default()));
    let keyspace = database.keyspace("items", options).expect("opens");
    warm_up(directory.path());
    let before = written();
    let took = timed(|| {
        for group in items.chunks(GROUP) {
            let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
            for (item, _, bytes) in group {
                batch.insert(&keyspace, *id(item).hash(), &bytes[..]);
            }
            batch.commit().expect("stores");
        }
    });
    report(
        "fjall, values separated",
        took,
        items,
        &format!("{} bytes to the disk so far", written() - before),
    );
    // What it has put off: values are moved out of its journal when that is full.
    drop((keyspace, database));
    println!("  {} bytes to the disk once it is closed", written() - before);
}

/// Lets the machine touch as much memory for its page cache as a run will need: a virtual machine pays for it at the
/// first touch, and whoever is measured first would.
fn warm_up(directory: &Path) {
    let path = directory.join("warm-up");
    let chunk = vec![1; 1 << 20];
    let mut file = fs::File::create(&path).expect("creates");
    (0..WARM_UP_CHUNKS).for_each(|_| file.write_all(&chunk).expect("writes"));
    file.sync_all().expect("syncs");
    fs::remove_file(path).expect("is there");
}

fn timed(act: impl FnOnce()) -> Duration {
    let started = Instant::now();
    act();
    started.elapsed()
}

fn report(name: &str, took: Duration, items: &[Item], more: &str) {
    let size: usize = items.iter().map(|(_, _, bytes)| bytes.len()).sum();
    let per_second = |count: usize| count as f64 / took.as_secs_f64();
    let (rate, megabytes) = (per_second(items.len()), per_second(size) / 1e6);
    println!("{name}: {took:.2?}, {rate:.0} items/s, {megabytes:.0} MB/s; {more}");
}

/// Bytes that this process has sent to the disk, as Linux counts them.
fn written() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let figure = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    figure.and_then(|figure| figure.parse().ok()).unwrap_or_default()
}

/// The machine's own files, with a count of syncs.
#[derive(Debug, Default)]
struct Counting {
    syncs: Arc<AtomicU64>,
}

impl Counting {
    fn counted(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(CountingFile { file, syncs: self.syncs.clone() })
    }
}

impl Disk for Counting {
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        Files.create_directory(directory)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Files.create(path).map(|file| self.counted(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Files.open(path).map(|file| self.counted(file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Files.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Files.rename(from, to)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        Files.list(directory)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Files.sync_directory(directory)
    }

    fn free_space(&self, directory: &Path) -> io::Result<u64> {
        Files.free_space(directory)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        Files.lock(path)
    }
}

#[derive(Debug)]
struct CountingFile {
    file: Arc<dyn DiskFile>,
    syncs: Arc<AtomicU64>,
}

impl DiskFile for CountingFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.file.write_all_at(parts, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_size(size)
    }
}
