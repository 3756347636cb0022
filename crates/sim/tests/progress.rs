//! What is told of a put and a get while they run, and when they end.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use datamesh_codec::keys::Identity;
use datamesh_core::id::{BlockId, NodeId, ObjectId};
use datamesh_core::lease::Term;
use datamesh_core::manifest::Kind;
use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Scheme};
use datamesh_core::topology::FailureDomain;
use datamesh_engine::get::{DigestCheck, Reading};
use datamesh_engine::pace::TransferProgress;
use datamesh_engine::progress::{Cause, Event, Observer, Paced};
use datamesh_engine::put::{PutError, PutOrder, put};
use datamesh_engine::traffic::{ByDirection, Rate};
use datamesh_engine::transfer::TransferSettings;
use datamesh_engine::world::{Clock, Sink, Source, World};
use datamesh_node::serve::Server;
use datamesh_sim::items::MemoryItems;
use datamesh_sim::network::{Answer, Link};
use datamesh_sim::world::SimWorld;
use futures::FutureExt;
use futures::future::BoxFuture;

const CLIENT: u64 = 1000;
const MIB: u64 = 1 << 20;
/// The rate of all transfers here, bytes of shards a second.
const RATE: u64 = 6 * MIB;

/// What was told, and when.
struct Told {
    clock: Arc<dyn Clock>,
    events: Mutex<Vec<(Duration, Event)>>,
}

impl Observer for Told {
    fn observe(&self, event: Event) {
        let now = self.clock.elapsed();
        self.events.lock().expect("no holder panics").push((now, event));
    }
}

impl Told {
    fn progress(&self) -> Vec<(Duration, TransferProgress)> {
        let events = self.events.lock().expect("no holder panics");
        let progress = events.iter().filter_map(|(at, event)| match event {
            Event::Progress(progress) => Some((*at, *progress)),
            _ => None,
        });
        progress.collect()
    }

    fn last(&self) -> Event {
        self.events.lock().expect("no holder panics").last().expect("something was told").1.clone()
    }
}

struct Mesh {
    world: World,
    owner: Arc<Identity>,
}

impl Mesh {
    fn new(sim: &SimWorld, node_count: u64) -> Self {
        let client = NodeId::from_bytes(sim.key(CLIENT).verifying_key().to_bytes());
        for number in 0..node_count {
            let key = sim.key(number);
            let record = sim.record(&key, FailureDomain::alone(&format!("host {number}")), 1 << 40);
            let server = Server::new(key, Arc::new(MemoryItems::new(1 << 40)), sim.clock(), sim.compute());
            let answer: Answer = Arc::new(move |from, request| {
                let server = server.clone();
                async move { server.answer_to(from, request).await }.boxed()
            });
            sim.network().add_node(record, answer);
        }
        Self { world: sim.world_of(client), owner: Arc::new(Identity::from_seed(&[9; 32])) }
    }

    /// Whoever is told of a transfer, and what is between.
    fn observers(&self) -> (Arc<Told>, Arc<Paced>) {
        let told = Arc::new(Told { clock: Arc::clone(&self.world.clock), events: Mutex::default() });
        let paced = Paced::new(Arc::clone(&told) as Arc<dyn Observer>, Arc::clone(&self.world.clock));
        (told, Arc::new(paced))
    }

    async fn put(&self, size: u64, observer: Arc<dyn Observer>) -> Result<ObjectId, PutError> {
        let scheme = Scheme {
            mode: Mode::Sealed,
            chunking: Chunking::Fixed,
            compression: Compression::None,
            cipher: Cipher::Aes256Gcm,
            redundancy: "4+2".parse().expect("a redundancy"),
        };
        let order = PutOrder {
            scheme,
            name: "object".into(),
            kind: Kind::File,
            media_type: None,
            metadata: BTreeMap::new(),
            expected_size: Some(size),
            owner: Arc::clone(&self.owner),
            recipients: vec![],
            term: Term::UntilReleased,
        };
        let mut source = Zeros(size);
        Box::pin(put(&self.world, limited(), observer, &mut source, &order)).await.map(|put| put.object)
    }

    async fn open(&self, object: ObjectId, observer: Arc<dyn Observer>) -> Option<Reading> {
        let owner = [Identity::from_seed(self.owner.seed())];
        Box::pin(Reading::open(&self.world, limited(), observer, object, &owner)).await.ok()
    }
}

fn limited() -> TransferSettings {
    let limits = ByDirection { upload: Rate::new(RATE), download: Rate::new(RATE) };
    TransferSettings { limits, ..TransferSettings::default() }
}

struct Zeros(u64);

impl Source for Zeros {
    fn read<'a>(&'a mut self, buffer: &'a mut BytesMut, size_max: usize) -> BoxFuture<'a, io::Result<usize>> {
        let count = usize::try_from(self.0).unwrap_or(usize::MAX).min(size_max);
        buffer.put_bytes(0, count);
        self.0 -= u64::try_from(count).expect("it fits");
        async move { Ok(count) }.boxed()
    }
}

struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _: Bytes) -> BoxFuture<'_, io::Result<()>> {
        async { Ok(()) }.boxed()
    }
}

/// Holds what was told of a steady transfer to what came true.
fn check(told: &Told, size: u64, resumed_size: u64) {
    let progress = told.progress();
    let (end, last) = *progress.last().expect("something was told");
    assert_eq!((last.bytes_done, last.remaining), (size, Some(Duration::ZERO)));
    let begun = progress[0].0;
    let moved = size - resumed_size;
    let (mut asked, mut worst) = (0, 0.0_f64);
    for (at, progress) in &progress {
        let done = progress.bytes_done.saturating_sub(resumed_size);
        if done >= moved / 10 && progress.bytes_done < size {
            let left = (end - *at).as_secs_f64();
            let said = progress.remaining.expect("told from a tenth on").as_secs_f64();
            // One event in ten is told, so that the end may be a tenth of a second nearer than it looks.
            let wrong = ((said - left).abs() - 0.1).max(0.0) / left.max(0.1);
            worst = worst.max(wrong);
            asked += 1;
        }
    }
    println!("{asked} times told from a tenth on in {:?}: wrong by {worst:.3} at most", end - begun);
    assert!(asked >= 40, "{asked}");
    assert!(worst < 0.2, "{worst}");
}

#[test]
fn at_a_steady_rate_the_time_left_is_right_from_a_tenth_on() {
    SimWorld::run(1, Link::default(), async |sim| {
        let mesh = Mesh::new(&sim, 6);
        let size = 100 * MIB + 12_345;
        let (told, paced) = mesh.observers();
        let object = mesh.put(size, paced).await.expect("acknowledged");
        check(&told, size, 0);
        assert_eq!(told.last(), Event::Completed { object, bytes: size });

        let (told, paced) = mesh.observers();
        let reading = mesh.open(object, paced).await.expect("it is there");
        Box::pin(reading.copy(None, DigestCheck::Check, &mut Nowhere)).await.expect("it comes back");
        check(&told, size, 0);
        assert_eq!(told.last(), Event::Completed { object, bytes: size });

        // Half of it was got before: counted as fast, they would make the time left far too short.
        let resumed_size = size / 2;
        let (told, paced) = mesh.observers();
        let reading = mesh.open(object, paced).await.expect("it is there");
        let mut sink = Nowhere;
        let copied = reading.copy_on(None, resumed_size, DigestCheck::Skip, &mut sink);
        assert_eq!(Box::pin(copied).await.expect("it comes back"), size - resumed_size);
        check(&told, size, resumed_size);
        assert_eq!(told.last(), Event::Completed { object, bytes: size });
    });
}

#[test]
fn what_ends_a_transfer_is_told_and_when_it_may_be_worth_another_try() {
    SimWorld::run(2, Link::default(), async |sim| {
        let mesh = Mesh::new(&sim, 6);
        let (told, paced) = mesh.observers();
        let object = mesh.put(MIB, paced).await.expect("acknowledged");
        assert_eq!(told.last(), Event::Completed { object, bytes: MIB });

        let (told, paced) = mesh.observers();
        let absent = BlockId::of(b"no object");
        assert!(mesh.open(ObjectId::of_root(absent), paced).await.is_none());
        let Event::Broken { cause, retry_after, .. } = told.last() else { panic!("{:?}", told.last()) };
        assert_eq!((cause, retry_after), (Cause::Nodes, None), "all nodes have said that they don't hold it");
    });
    SimWorld::run(2, Link::default(), async |sim| {
        let mesh = Mesh::new(&sim, 3);
        let (told, paced) = mesh.observers();
        mesh.put(MIB, paced).await.expect_err("three nodes are too few");
        let Event::Broken { cause, retry_after, why } = told.last() else { panic!("{:?}", told.last()) };
        assert_eq!((cause, retry_after), (Cause::Nodes, Some(limited().avoid_for)), "{why}");
    });
}
