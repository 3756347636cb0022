//! Puts that are broken off anywhere, by the end of their process or by a power cut, and gone on with.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use datamesh_codec::keys::Identity;
use datamesh_core::id::{ItemId, NodeId, ObjectId};
use datamesh_core::lease::Term;
use datamesh_core::manifest::Kind;
use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Scheme};
use datamesh_core::topology::FailureDomain;
use datamesh_engine::get::{DigestCheck, Reading};
use datamesh_engine::journal::{Begun, Unjournaled};
use datamesh_engine::place::Wholeness;
use datamesh_engine::progress::Unobserved;
use datamesh_engine::put::{Put, PutError, PutOrder, put_with_journal};
use datamesh_engine::release::release;
use datamesh_engine::transfer::TransferSettings;
use datamesh_engine::world::{Clock, Items, Journal, Sink, Source, World};
use datamesh_node::serve::Server;
use datamesh_sim::disk::{Honesty, SimDisk};
use datamesh_sim::draw::Draws;
use datamesh_sim::fault::Fault;
use datamesh_sim::items::MemoryItems;
use datamesh_sim::network::{Answer, CallKind, Link};
use datamesh_sim::world::SimWorld;
use datamesh_store::disk::Disk;
use datamesh_store::journal::JournalFile;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, pending, select};

const CLIENT: u64 = 1000;
const PUT_COUNT: u64 = 10;
const NODE_COUNT: u64 = 6;
const CHUNK_SIZE: usize = 1 << 20;
/// Bytes of a stripe of 4+2 over a chunk that does not compress, with room for sealing and padding.
const STRIPE_SIZE: u64 = (CHUNK_SIZE as u64 + 1024) * 6 / 4;

struct Mesh {
    sim: SimWorld,
    world: World,
    nodes: Vec<NodeId>,
    items: BTreeMap<NodeId, Arc<MemoryItems>>,
    owner: Arc<Identity>,
}

impl Mesh {
    fn new(sim: SimWorld) -> Self {
        let client = NodeId::from_bytes(sim.key(CLIENT).verifying_key().to_bytes());
        let world = sim.world_of(client);
        let owner = Arc::new(Identity::from_seed(&[9; 32]));
        let mut mesh = Self { sim, world, nodes: Vec::new(), items: BTreeMap::new(), owner };
        for number in 0..NODE_COUNT {
            let key = mesh.sim.key(number);
            let record = mesh.sim.record(&key, FailureDomain::alone(&format!("host {number}")), 1 << 40);
            let items = Arc::new(MemoryItems::new(1 << 40));
            let server = Server::new(key, items.clone(), mesh.sim.clock(), mesh.sim.compute());
            let answer: Answer = Arc::new(move |_, request| {
                let server = server.clone();
                async move { server.answer(request).await }.boxed()
            });
            mesh.nodes.push(record.node);
            mesh.items.insert(record.node, items);
            mesh.sim.network().add_node(record, answer);
        }
        mesh
    }

    fn order(&self, mode: Mode, redundancy: &str) -> PutOrder {
        let chunking = if mode == Mode::Sealed { Chunking::Fixed } else { Chunking::ContentDefined };
        let cipher = if mode == Mode::Public { Cipher::None } else { Cipher::Aes256Gcm };
        let redundancy = redundancy.parse().expect("a redundancy");
        PutOrder {
            scheme: Scheme { mode, chunking, compression: Compression::None, cipher, redundancy },
            name: "object".into(),
            kind: Kind::File,
            media_type: None,
            metadata: BTreeMap::new(),
            expected_size: None,
            owner: self.owner.clone(),
            recipients: vec![],
            term: Term::UntilReleased,
        }
    }

    async fn put(&self, bytes: &[u8], order: &PutOrder, journal: &dyn Journal) -> Result<Put, PutError> {
        let mut source = Memory(Bytes::copy_from_slice(bytes));
        let (settings, observer) = (settings(), Arc::new(Unobserved));
        Box::pin(put_with_journal(&self.world, settings, observer, &mut source, order, journal)).await
    }

    /// A put that ends when its process does; `None` then.
    async fn put_until(
        &self,
        end: Duration,
        bytes: &[u8],
        order: &PutOrder,
        journal: &dyn Journal,
    ) -> Option<Result<Put, PutError>> {
        let putting = std::pin::pin!(self.put(bytes, order, journal));
        match select(putting, self.world.clock.sleep(end)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    async fn get(&self, object: ObjectId) -> Vec<u8> {
        let (settings, observer) = (settings(), Arc::new(Unobserved));
        let owner = [Identity::from_seed(self.owner.seed())];
        let getting = Box::pin(async {
            let reading = Reading::open(&self.world, settings, observer, object, &owner).await?;
            let mut sink = Kept(Vec::new());
            reading.copy(None, DigestCheck::Check, &mut sink).await.map(|_| sink.0)
        });
        getting.await.expect("what was acknowledged comes back")
    }

    fn sent(&self) -> u64 {
        self.sim.network().counts(CallKind::Store).sent
    }

    fn used(&self) -> u64 {
        self.items.values().map(|items| items.usage().used).sum()
    }

    fn inject(&self, faults: &[Fault]) {
        for node in &self.nodes {
            self.sim.network().set_faults(node, faults.to_vec());
        }
    }
}

struct Memory(Bytes);

impl Source for Memory {
    fn read<'a>(&'a mut self, buffer: &'a mut BytesMut, size_max: usize) -> BoxFuture<'a, io::Result<usize>> {
        let count = size_max.min(self.0.len());
        buffer.extend_from_slice(&self.0.split_to(count));
        async move { Ok(count) }.boxed()
    }
}

struct Kept(Vec<u8>);

impl Sink for Kept {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        self.0.extend_from_slice(&bytes);
        async { Ok(()) }.boxed()
    }
}

/// The production journal on a simulated disk that takes its time.
struct DiskJournal {
    file: Mutex<JournalFile>,
    clock: Arc<dyn Clock>,
}

impl DiskJournal {
    fn open(disk: &SimDisk, clock: Arc<dyn Clock>) -> Self {
        let path = PathBuf::from("/journal");
        let there = disk.paths().contains(&path);
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let file = if there {
            JournalFile::open(disk, path).expect("it opens")
        } else {
            JournalFile::new(disk, path)
        };
        Self { file: Mutex::new(file), clock }
    }
}

impl Journal for DiskJournal {
    fn next(&self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        async { self.file.lock().expect("no holder panics").read() }.boxed()
    }

    fn commit(&self, records: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        async move {
            self.clock.sleep(Duration::from_millis(3)).await;
            self.file.lock().expect("no holder panics").append(&records)?;
            self.clock.sleep(Duration::from_millis(5)).await;
            self.file.lock().expect("no holder panics").sync()
        }
        .boxed()
    }
}

fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A window that a small object fills several times.
fn settings() -> TransferSettings {
    TransferSettings { stripes_in_flight: 8, ..TransferSettings::default() }
}

/// The most that a broken off run may have sent in vain: a window of stripes, and the blocks at the end of the manifest.
fn window() -> u64 {
    let stripes = u64::try_from(settings().stripes_in_flight).expect("small");
    stripes * STRIPE_SIZE + (64 << 10)
}

#[derive(Default, Debug)]
struct Figures {
    breaks: u64,
    resumed: u64,
    /// The most that a put sent again, for each of its breaks, bytes.
    most_again: u64,
}

/// Puts that are broken off at random moments, half of the time by a power cut, until they are through.
fn broken_puts(seeds: std::ops::Range<u64>, mode: Mode, honesty: Honesty) -> Figures {
    let mut figures = Figures::default();
    for seed in seeds {
        let link = Link { delay_max: Duration::from_millis(40), ..Link::default() };
        SimWorld::run(seed, link, async |sim| {
            let mut draws = Draws::new(seed, "breaks");
            let mesh = Mesh::new(sim);
            let bytes = noise(seed, 24 * CHUNK_SIZE + 12_345);
            let order = mesh.order(mode, "4+2");
            let mut disk = SimDisk::new(seed, honesty);
            let (mut breaks, mut sent_before) = (0, 0);
            let done = loop {
                let journal = DiskJournal::open(&disk, mesh.world.clock.clone());
                let end = draws.duration(Duration::ZERO, Duration::from_millis(250));
                match mesh.put_until(end, &bytes, &order, &journal).await {
                    Some(done) => break done.expect("all nodes are there"),
                    None => breaks += 1,
                }
                drop(journal);
                if draws.happens(50) {
                    disk = disk.restart();
                }
                sent_before = mesh.sent();
            };
            assert_eq!(done.acknowledged, Wholeness::Whole);
            assert_eq!(mesh.sent() - sent_before, done.sent_size, "a put tells what it sent");
            assert_eq!(mesh.get(done.object).await, bytes, "seed {seed}: wrong bytes");
            let again = (mesh.sent() + done.reused_size).saturating_sub(done.stored_size);
            figures.most_again = figures.most_again.max(again.checked_div(breaks).unwrap_or(0));
            figures.breaks += breaks;
            figures.resumed += u64::from(done.resumed_count > 0);
        });
    }
    figures
}

#[test]
fn a_put_broken_off_anywhere_goes_on_and_sends_no_more_than_a_window_again() {
    for mode in [Mode::Sealed, Mode::Dedup, Mode::Public] {
        let figures = broken_puts(0..PUT_COUNT, mode, Honesty::Honest);
        let Figures { breaks, resumed, most_again } = figures;
        println!(
            "{mode:?}: {breaks} breaks of {PUT_COUNT} puts, half by power cuts: {resumed} puts went on, all came back; \
             at most {most_again} bytes sent again a break, of a window of {}",
            window()
        );
        assert!(breaks > PUT_COUNT && resumed > PUT_COUNT / 2, "{figures:?}");
        assert!(most_again <= window(), "{figures:?}");
    }
}

#[test]
fn with_a_disk_that_lies_about_syncs_more_than_a_window_is_sent_again() {
    let figures = broken_puts(0..PUT_COUNT, Mode::Sealed, Honesty::Lying);
    assert!(
        figures.most_again > window(),
        "the bound holds without syncs, so that its test shows nothing: {figures:?}"
    );
}

#[test]
fn a_put_that_lost_its_network_goes_on_once_it_is_back() {
    SimWorld::run(1, Link::default(), async |sim| {
        let mesh = Mesh::new(sim);
        let (bytes, order) = (noise(1, 30 * CHUNK_SIZE), mesh.order(Mode::Sealed, "4+2"));
        let disk = SimDisk::new(1, Honesty::Honest);
        mesh.inject(&[Fault::DiesAfter(20)]);
        let journal = DiskJournal::open(&disk, mesh.world.clock.clone());
        let error = mesh.put(&bytes, &order, &journal).await.expect_err("all nodes have died");
        assert!(error.may_pass(), "{error}");
        drop(journal);
        mesh.inject(&[]);
        // Nodes that come back one after the other are met in the middle of it.
        mesh.sim.network().set_faults(&mesh.nodes[2], vec![Fault::DiesAfter(10)]);
        let journal = DiskJournal::open(&disk, mesh.world.clock.clone());
        let done = mesh.put(&bytes, &order, &journal).await.expect("five are enough");
        assert!(done.resumed_count >= 10, "{done:?}");
        assert!(mesh.used() <= done.stored_size + window(), "{} {done:?}", mesh.used());
        assert_eq!(mesh.get(done.object).await, bytes);
    });
}

#[test]
fn a_source_that_changed_is_noticed_wherever_it_did_and_what_was_stored_can_be_released() {
    let size = 12 * CHUNK_SIZE;
    let original = noise(2, size);
    let mut first_byte = original.clone();
    first_byte[0] ^= 1;
    let mut late_byte = original.clone();
    late_byte[2 * CHUNK_SIZE + 5] ^= 1;
    let shorter = original[..2 * CHUNK_SIZE].to_vec();
    for changed in [first_byte, late_byte, shorter, original[..1000].to_vec(), Vec::new()] {
        SimWorld::run(2, Link::default(), async |sim| {
            let mesh = Mesh::new(sim);
            let order = mesh.order(Mode::Sealed, "4+2");
            let disk = SimDisk::new(2, Honesty::Honest);
            mesh.inject(&[Fault::DiesAfter(9)]);
            let journal = DiskJournal::open(&disk, mesh.world.clock.clone());
            mesh.put(&original, &order, &journal).await.expect_err("all nodes have died");
            drop(journal);
            mesh.inject(&[]);
            let journal = DiskJournal::open(&disk, mesh.world.clock.clone());
            let error = mesh.put(&changed, &order, &journal).await.expect_err("it changed");
            assert!(matches!(error, PutError::Changed), "{} bytes: {error}", changed.len());
            drop(journal);

            assert!(mesh.used() > 0);
            let head = DiskJournal::open(&disk, mesh.world.clock.clone()).next().await.expect("readable");
            let begun = Begun::parse(&head.expect("it was begun")).expect("a head");
            let settings = settings();
            release(&mesh.world, settings, Arc::new(Unobserved), &mesh.owner, begun.tag).await;
            assert_eq!(mesh.used(), 0, "nothing is left behind");
        });
    }
}

/// Takes the head of a journal, and then hangs: as if the process died before anything else was noted.
struct HeadOnly(DiskJournal, Mutex<bool>);

impl Journal for HeadOnly {
    fn next(&self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        self.0.next()
    }

    fn commit(&self, records: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        if std::mem::replace(&mut *self.1.lock().expect("no holder panics"), true) {
            return pending().boxed();
        }
        self.0.commit(records)
    }
}

/// Were two plaintexts sealed with one key and nonce, the ciphertexts would differ exactly where and how they do.
#[test]
fn what_a_resumed_put_seals_betrays_nothing_of_what_the_first_run_sealed_at_the_same_place() {
    SimWorld::run(3, Link::default(), async |sim| {
        let mesh = Mesh::new(sim);
        // One data shard is the sealed chunk itself.
        let order = mesh.order(Mode::Sealed, "1+0");
        let disk = SimDisk::new(3, Honesty::Honest);
        let (original, changed) = (noise(31, 3 * CHUNK_SIZE), noise(32, 3 * CHUNK_SIZE));
        let journal = HeadOnly(DiskJournal::open(&disk, mesh.world.clock.clone()), Mutex::new(false));
        let died = mesh.put_until(Duration::from_secs(5), &original, &order, &journal).await;
        assert!(died.is_none());
        drop(journal);
        let journal = DiskJournal::open(&disk, mesh.world.clock.clone());
        let done = mesh.put(&changed, &order, &journal).await.expect("nothing was noted that it contradicts");
        assert_eq!(mesh.get(done.object).await, changed);

        let sealed: BTreeSet<Bytes> = sealed_chunks(&mesh).await;
        assert_eq!(sealed.len(), 6, "both runs have stored their chunks");
        let mask = |one: &[u8], other: &[u8]| -> Vec<u8> {
            one.iter().zip(other).take(64).map(|(one, other)| one ^ other).collect()
        };
        for (one, other) in sealed.iter().flat_map(|one| sealed.iter().map(move |other| (one, other))) {
            for index in 0..3 {
                let at = index * CHUNK_SIZE;
                assert_ne!(mask(one, other), mask(&original[at..], &changed[at..]), "chunk {index}");
            }
        }
    });
}

async fn sealed_chunks(mesh: &Mesh) -> BTreeSet<Bytes> {
    let mut sealed = BTreeSet::new();
    for items in mesh.items.values() {
        for item in items.ids() {
            if let ItemId::Shard(_) = item {
                sealed.insert(items.fetch(item, 0, None).await.expect("readable").expect("it is held"));
            }
        }
    }
    sealed
}

#[test]
fn of_a_second_version_only_the_changed_chunks_are_sent_and_of_a_fresh_one_little_is_asked() {
    for mode in [Mode::Dedup, Mode::Public] {
        SimWorld::run(4, Link::default(), async |sim| {
            let mesh = Mesh::new(sim);
            let order = mesh.order(mode, "4+2");
            let bytes = noise(4, 48 << 20);
            let first = mesh.put(&bytes, &order, &Unjournaled).await.expect("acknowledged");
            assert_eq!((first.reused_size, first.reused_count), (0, 0));
            // One question a stripe, and in public mode one a block besides.
            let asked = mesh.sim.network().counts(CallKind::Lease).made;
            assert!(asked <= first.stripe_count + 3, "{asked} questions for {} stripes", first.stripe_count);

            let mut second = bytes.clone();
            second[20 << 20..(20 << 20) + (480 << 10)].copy_from_slice(&noise(5, 480 << 10));
            second.splice(40 << 20..40 << 20, noise(6, 1 << 20));
            let before = mesh.sent();
            let done = mesh.put(&second, &order, &Unjournaled).await.expect("acknowledged");
            let sent = mesh.sent() - before;
            println!(
                "{mode:?}: of {} stripes {} were there already, {} % of the bytes were sent",
                done.stripe_count,
                done.reused_count,
                100 * sent / done.stored_size
            );
            assert_eq!(sent, done.sent_size);
            assert!(done.stripe_count - done.reused_count <= 8, "{done:?}");
            for object in [(first.object, &bytes), (done.object, &second)] {
                assert_eq!(&mesh.get(object.0).await, object.1);
            }
            // The first version goes, and what the second shares with it stays.
            let settings = settings();
            release(&mesh.world, settings, Arc::new(Unobserved), &mesh.owner, first.tag).await;
            assert_eq!(mesh.get(done.object).await, second);

            let lost = &mesh.items[&mesh.nodes[1]];
            lost.ids().into_iter().for_each(|item| assert!(lost.lose(item)));
            let third = mesh.put(&second, &order, &Unjournaled).await.expect("acknowledged");
            assert_eq!(third.acknowledged, Wholeness::Whole, "what a holder has lost is sent to it");
            assert!(third.sent_size > 0 && third.sent_size < third.stored_size / 2, "{third:?}");
        });
    }
}
