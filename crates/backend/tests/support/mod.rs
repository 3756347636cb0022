//! Items, clocks and servers for the tests of backends.

#![expect(dead_code, reason = "each test file uses a part of it")]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use datamesh_backend::{Address, BackendDisk, BackendFigures, BackendSettings, OpenBackendError, Secrets};
use datamesh_core::id::{BlockId, ItemId, NodeId, OwnerId};
use datamesh_core::lease::{Lease, LeaseTag, Release};
use datamesh_core::sign::Signed;
use datamesh_core::time::{Epoch, Timestamp};
use datamesh_core::wire::StoredItem;
use datamesh_engine::world::{Clock, Entropy, Items, ItemsError};
use datamesh_store::disk::Files;
use datamesh_store::{OpenError, Store, StoreSettings};
use ed25519_dalek::SigningKey;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Runtime;

/// How long anything here may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of an item.
pub(crate) const ITEM_SIZE: usize = 60_000;

struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(42);
    }
}

struct MachineClock(Instant);

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(0)
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

/// One node's disk over a backend, and the store on it while that is open.
pub(crate) struct Tier {
    pub(crate) directory: PathBuf,
    pub(crate) address: Address,
    pub(crate) node: NodeId,
    pub(crate) local_size_max: u64,
    pub(crate) cold_after: Duration,
    /// What the leases of the current put have in common.
    tag: u8,
    pub(crate) disk: Option<Arc<BackendDisk>>,
    pub(crate) store: Option<Store>,
    /// Outlives what runs on it.
    pub(crate) runtime: Runtime,
}

/// Why a tier can't be opened.
#[derive(Debug)]
pub(crate) enum TierError {
    Backend(OpenBackendError),
    Store(OpenError),
}

impl Tier {
    pub(crate) fn new(directory: &Path, address: &str) -> Self {
        Self {
            runtime: Runtime::new().expect("a runtime"),
            directory: directory.to_owned(),
            address: address.parse().expect("an address"),
            node: NodeId::from_bytes([1; 32]),
            local_size_max: 1 << 30,
            cold_after: Duration::ZERO,
            tag: 1,
            disk: None,
            store: None,
        }
    }

    pub(crate) fn try_open(&mut self) -> Result<(), TierError> {
        let settings = BackendSettings {
            address: self.address.clone(),
            secrets: Secrets::default(),
            node: self.node,
            local_size_max: self.local_size_max,
            local_size_kept: 0,
            cold_after: self.cold_after,
            free_floor: 0,
            clock: Arc::new(MachineClock(Instant::now())),
            runtime: self.runtime.handle().clone(),
        };
        let disk =
            BackendDisk::open(&self.directory, settings, Arc::new(Files)).map_err(TierError::Backend)?;
        let disk = Arc::new(disk);
        let options = StoreSettings { segment_size: 256 << 10, ..StoreSettings::new(1 << 40) };
        let store = Store::open(&self.directory, options, disk.clone(), &Fixed).map_err(TierError::Store)?;
        (self.disk, self.store) = (Some(disk), Some(store));
        Ok(())
    }

    pub(crate) fn open(&mut self) {
        self.try_open().expect("it opens");
    }

    /// As a process that is killed: nothing is made durable on the way.
    pub(crate) fn drop_all(&mut self) {
        (self.store, self.disk) = (None, None);
    }

    pub(crate) fn close(&mut self) {
        self.runtime.block_on(self.store().close()).expect("closes");
        self.drop_all();
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("open")
    }

    pub(crate) fn figures(&self) -> BackendFigures {
        self.disk.as_ref().expect("open").figures()
    }

    pub(crate) fn put(&self, number: u64) -> Result<ItemId, ItemsError> {
        let (item, bytes) = item(number);
        self.runtime.block_on(self.store().store(item.clone(), lease(&item, self.tag), bytes))?;
        Ok(item.id().expect("an item"))
    }

    pub(crate) fn put_all(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            self.put(number).expect("stored");
        }
    }

    pub(crate) fn get(&self, number: u64) -> Result<Option<Bytes>, ItemsError> {
        let id = item(number).0.id().expect("an item");
        self.runtime.block_on(self.store().fetch_checked(id))
    }

    /// How many of these items are there, each as it was put.
    pub(crate) fn count_of(&self, numbers: std::ops::Range<u64>) -> usize {
        let there = |number: &u64| match self.get(*number).expect("it can be read") {
            Some(bytes) => {
                assert_eq!(bytes, item(*number).1);
                true
            }
            None => false,
        };
        numbers.filter(there).count()
    }

    /// Releases all that was put; what is put from now on is of another put.
    pub(crate) fn release_all(&mut self) {
        self.runtime.block_on(self.store().release(release(self.tag))).expect("released");
        self.tag += 1;
    }

    pub(crate) fn collect(&self) -> Result<u64, ItemsError> {
        let collected = self.runtime.block_on(self.store().collect(Epoch::from_hours(0)))?;
        Ok(collected.segment_count)
    }

    /// Waits until the figures are so.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&BackendFigures) -> bool) {
        let begun = Instant::now();
        while !wanted(&self.figures()) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", self.figures());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until all closed segments but the newest have moved.
    pub(crate) fn wait_for_moves(&self) {
        self.wait_for("moves", |figures| figures.local_count <= 2 && figures.segment_count > 0);
    }
}

/// An item that no other number gives.
pub(crate) fn item(number: u64) -> (StoredItem, Bytes) {
    let mut bytes = vec![0; ITEM_SIZE];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let redundancy = "1+2".parse().expect("a redundancy");
    (StoredItem::Block { block: BlockId::of(&bytes), redundancy }, bytes.into())
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn owner() -> OwnerId {
    OwnerId::from_bytes(key().verifying_key().to_bytes())
}

fn lease(item: &StoredItem, tag: u8) -> Signed<Lease> {
    let tag = LeaseTag::from_bytes([tag; 16]);
    Signed::sign(Lease { owner: owner(), tag, subject: item.subject(), until: Epoch::NEVER }, &key())
}

fn release(tag: u8) -> Signed<Release> {
    Signed::sign(Release { owner: owner(), tag: LeaseTag::from_bytes([tag; 16]) }, &key())
}

/// A Redis server that writes down each change before it answers.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("it has one").port();
        drop(free);
        let child = spawn(port, directory.path());
        Self { child, port, directory }
    }

    pub(crate) fn address(&self) -> String {
        format!("redis://127.0.0.1:{}/0/node", self.port)
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, self.directory.path());
    }

    /// How many objects there are.
    pub(crate) fn object_count(&self) -> u64 {
        let port = self.port.to_string();
        let output =
            Command::new("redis-cli").args(["-p", &port, "dbsize"]).output().expect("redis-cli runs");
        let text = String::from_utf8(output.stdout).expect("text");
        text.trim().parse().expect("a count")
    }
}

fn spawn(port: u16, directory: &Path) -> Child {
    let arguments = ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--bind", "127.0.0.1"];
    let child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--dir"])
        .arg(directory)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server starts");
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < PATIENCE, "redis-server does not answer");
        thread::sleep(Duration::from_millis(20));
    }
    child
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
