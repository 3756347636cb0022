//! The traffic of a process under load and faults: limits are kept, transfers share fairly, and a bad peer costs its own work.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use datamesh_codec::keys::Identity;
use datamesh_core::id::{NodeId, ObjectId};
use datamesh_core::lease::Term;
use datamesh_core::manifest::Kind;
use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Scheme};
use datamesh_core::topology::FailureDomain;
use datamesh_engine::get::{DigestCheck, Reading};
use datamesh_engine::progress::{Event, Observer, Unobserved};
use datamesh_engine::put::{PutOrder, put};
use datamesh_engine::traffic::{
    ByDirection, Direction, Priority, Rate, RateLimits, Traffic, TrafficSettings,
};
use datamesh_engine::transfer::TransferSettings;
use datamesh_engine::world::{Sink, Source, World};
use datamesh_node::serve::Server;
use datamesh_sim::fault::Fault;
use datamesh_sim::items::MemoryItems;
use datamesh_sim::network::{Answer, CallKind, Link};
use datamesh_sim::world::SimWorld;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, join_all, select};

const CLIENT: u64 = 1000;
const MIB: u64 = 1 << 20;

struct Mesh {
    sim: SimWorld,
    world: World,
    nodes: Vec<NodeId>,
    owner: Arc<Identity>,
}

impl Mesh {
    /// A mesh of nodes, of which each sends no faster than this.
    fn new(sim: SimWorld, settings: TrafficSettings, rates: &[Option<u64>]) -> Self {
        let client = NodeId::from_bytes(sim.key(CLIENT).verifying_key().to_bytes());
        let mut world = sim.world_of(client);
        world.traffic = Arc::new(Traffic::new(sim.clock(), settings));
        let mut nodes = Vec::new();
        for (number, rate) in (0..).zip(rates) {
            let key = sim.key(number);
            let record = sim.record(&key, FailureDomain::alone(&format!("host {number}")), 1 << 40);
            let total = rate.and_then(Rate::new);
            let upload = RateLimits { total, per_peer: None };
            let limits = ByDirection { upload, download: RateLimits::default() };
            let traffic = Traffic::new(sim.clock(), TrafficSettings { limits, ..TrafficSettings::default() });
            let items = Arc::new(MemoryItems::new(1 << 40));
            let server = Server::new(key, items, sim.clock(), sim.compute()).within(Arc::new(traffic));
            let answer: Answer = Arc::new(move |from, request| {
                let server = server.clone();
                async move { server.answer_to(from, request).await }.boxed()
            });
            nodes.push(record.node);
            sim.network().add_node(record, answer);
        }
        Self { sim, world, nodes, owner: Arc::new(Identity::from_seed(&[9; 32])) }
    }

    fn six(sim: SimWorld) -> Self {
        Self::new(sim, TrafficSettings::default(), &[None; 6])
    }

    async fn put(&self, size: u64, settings: TransferSettings) -> ObjectId {
        self.put_from(&mut Pattern(size), settings, Arc::new(Unobserved)).await
    }

    async fn put_from(
        &self,
        source: &mut dyn Source,
        settings: TransferSettings,
        observer: Arc<dyn Observer>,
    ) -> ObjectId {
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
            expected_size: None,
            owner: Arc::clone(&self.owner),
            recipients: vec![],
            term: Term::UntilReleased,
        };
        let putting = put(&self.world, settings, observer, source, &order);
        Box::pin(putting).await.expect("acknowledged").object
    }

    async fn get(
        &self,
        object: ObjectId,
        settings: TransferSettings,
        observer: Arc<dyn Observer>,
        sink: &mut dyn Sink,
    ) -> u64 {
        let owner = [Identity::from_seed(self.owner.seed())];
        let reading = Box::pin(Reading::open(&self.world, settings, observer, object, &owner)).await;
        let copied = reading.expect("it is there");
        let copied = Box::pin(copied.copy(None, DigestCheck::Check, sink)).await;
        copied.expect("it comes back")
    }

    /// Gets an object and says how long that took.
    async fn time_to_get(&self, object: ObjectId) -> Duration {
        let started = self.world.clock.elapsed();
        self.get(object, TransferSettings::default(), Arc::new(Unobserved), &mut Counted::default()).await;
        self.world.clock.elapsed() - started
    }

    fn fetches_of(&self, node: usize) -> u64 {
        self.sim.network().counts_of(&self.nodes[node], CallKind::Fetch).made
    }

    fn received(&self) -> u64 {
        self.sim.network().counts(CallKind::Fetch).received
    }
}

/// Bytes of which no two chunks are the same.
struct Pattern(u64);

impl Source for Pattern {
    fn read<'a>(&'a mut self, buffer: &'a mut BytesMut, size_max: usize) -> BoxFuture<'a, io::Result<usize>> {
        let count = usize::try_from(self.0).unwrap_or(usize::MAX).min(size_max);
        let held = buffer.len();
        buffer.put_bytes(0, count);
        for byte in buffer[held..].chunks_mut(8) {
            byte.copy_from_slice(&self.0.to_le_bytes()[..byte.len()]);
        }
        self.0 -= u64::try_from(count).expect("it fits");
        async move { Ok(count) }.boxed()
    }
}

/// The same, and how much of it all that read such sources have in memory, as far as they tell: now, and at the most.
struct Watched<'a> {
    pattern: Pattern,
    read: &'a AtomicU64,
    stored: &'a Advance,
    ahead_most: &'a AtomicU64,
}

impl Source for Watched<'_> {
    fn read<'a>(&'a mut self, buffer: &'a mut BytesMut, size_max: usize) -> BoxFuture<'a, io::Result<usize>> {
        async move {
            let count = self.pattern.read(buffer, size_max).await?;
            let read = self.read.fetch_add(u64::try_from(count).expect("it fits"), Ordering::Relaxed);
            let ahead = read + u64::try_from(count).expect("it fits") - self.stored.0.load(Ordering::Relaxed);
            self.ahead_most.fetch_max(ahead, Ordering::Relaxed);
            Ok(count)
        }
        .boxed()
    }
}

/// So many bytes, and then nothing for ever.
struct Stalls(usize);

impl Source for Stalls {
    fn read<'a>(&'a mut self, buffer: &'a mut BytesMut, size_max: usize) -> BoxFuture<'a, io::Result<usize>> {
        let count = self.0.min(size_max);
        if count == 0 {
            return std::future::pending().boxed();
        }
        buffer.put_bytes(7, count);
        self.0 -= count;
        async move { Ok(count) }.boxed()
    }
}

#[derive(Default)]
struct Counted(u64);

impl Sink for Counted {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        self.0 += u64::try_from(bytes.len()).expect("it fits");
        async { Ok(()) }.boxed()
    }
}

/// A reader that takes nothing for ever.
struct Stopped;

impl Sink for Stopped {
    fn write(&mut self, _: Bytes) -> BoxFuture<'_, io::Result<()>> {
        std::future::pending().boxed()
    }
}

#[derive(Default)]
struct Advance(AtomicU64);

impl Observer for Advance {
    fn observe(&self, event: Event) {
        if let Event::Advanced { bytes } = event {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

fn rate(bytes_per_second: u64) -> Option<Rate> {
    Rate::new(bytes_per_second)
}

fn with_memory(mebibytes: usize) -> TrafficSettings {
    TrafficSettings { memory: mebibytes << 20, ..TrafficSettings::default() }
}

fn at(priority: Priority) -> TransferSettings {
    TransferSettings { priority, ..TransferSettings::default() }
}

#[test]
fn limits_in_total_and_per_peer_are_kept_within_three_percent_and_one_item() {
    SimWorld::run(1, Link::default(), async |sim| {
        let upload = RateLimits { total: rate(10_000_000), per_peer: rate(4_000_000) };
        let limits = ByDirection { upload, download: RateLimits::default() };
        let settings = TrafficSettings { limits, ..TrafficSettings::default() };
        for (peer_count, expected) in [(1, 4_000_000.0), (2, 8_000_000.0), (5, 10_000_000.0)] {
            let traffic = Traffic::new(sim.clock(), settings);
            let served = Mutex::new(vec![0_u64; peer_count]);
            let clock = sim.clock();
            let start = clock.elapsed();
            let flows = (0..peer_count).flat_map(|peer| (0..3).map(move |_| peer)).map(|peer| {
                let (traffic, served) = (&traffic, &served);
                let node = NodeId::from_bytes([u8::try_from(peer).expect("few"); 32]);
                async move {
                    loop {
                        traffic.serve(node, Direction::Upload, 100_000).await.expect("little waits");
                        served.lock().expect("no holder panics")[peer] += 100_000;
                    }
                }
            });
            select(Box::pin(join_all(flows)), clock.sleep(Duration::from_secs(5))).await;
            let seconds = (clock.elapsed() - start).as_secs_f64();
            let served = served.into_inner().expect("no holder panics");
            let total: u64 = served.iter().sum();
            let most = expected * seconds + 100_000.0 * peer_count as f64;
            assert!((total as f64) <= most, "{served:?} in {seconds} s");
            assert!(total as f64 >= expected * seconds * 0.97, "{served:?} in {seconds} s");
            let fair = total / u64::try_from(peer_count).expect("few");
            assert!(served.iter().all(|bytes| bytes.abs_diff(fair) <= 200_000), "{served:?}");
            let shown = traffic.snapshot().moved.upload;
            assert_eq!((shown.bytes, shown.limits.total), (total, rate(10_000_000)));
            assert!((shown.rate / expected - 1.0).abs() < 0.1, "{}", shown.rate);
        }
    });
}

#[test]
fn a_peer_that_would_wait_too_long_is_told_that_the_node_is_busy() {
    SimWorld::run(1, Link::default(), async |sim| {
        let upload = RateLimits { total: rate(1_000_000), per_peer: None };
        let limits = ByDirection { upload, download: RateLimits::default() };
        let traffic = Traffic::new(sim.clock(), TrafficSettings { limits, ..TrafficSettings::default() });
        let node = NodeId::from_bytes([1; 32]);
        let waiting = (0..50).map(|_| traffic.serve(node, Direction::Upload, 1_000_000));
        let outcomes = join_all(waiting).await;
        let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        assert!((25..=30).contains(&refused), "{refused} of 50 seconds' worth were refused");
        assert_eq!(
            traffic.snapshot().moved.upload.bytes,
            u64::try_from(50 - refused).expect("few") * 1_000_000
        );
    });
}

#[test]
fn a_transfer_keeps_to_its_own_limit_in_either_direction() {
    SimWorld::run(2, Link::default(), async |sim| {
        let mesh = Mesh::six(sim);
        let limits = ByDirection { upload: rate(3 * MIB), download: rate(2 * MIB) };
        let limited = TransferSettings { limits, ..TransferSettings::default() };
        let started = mesh.world.clock.elapsed();
        // A stripe has half as many parity shards as data shards.
        let object = mesh.put(20 * MIB, limited).await;
        let put = (mesh.world.clock.elapsed() - started).as_secs_f64();
        assert!((put / 10.0 - 1.0).abs() < 0.05, "put took {put} s");
        let started = mesh.world.clock.elapsed();
        mesh.get(object, limited, Arc::new(Unobserved), &mut Counted::default()).await;
        let get = (mesh.world.clock.elapsed() - started).as_secs_f64();
        assert!((get / 10.0 - 1.0).abs() < 0.05, "get took {get} s");
        let free = mesh.time_to_get(object).await;
        assert!(free < Duration::from_secs(1), "the control: {free:?} without a limit");
    });
}

#[test]
fn transfers_that_are_equal_get_the_same_and_others_by_their_weight() {
    // Nodes of 4 MiB/s in all, so that transfers want far more than there is.
    let contend = |priorities: &[Priority]| -> Vec<f64> {
        SimWorld::run(3, Link::default(), async |sim| {
            let mesh = Mesh::new(sim, with_memory(64), &[Some(4 * MIB); 6]);
            let object = mesh.put(300 * MIB, TransferSettings::default()).await;
            let advances: Vec<_> = priorities.iter().map(|_| Arc::new(Advance::default())).collect();
            let gets = priorities.iter().zip(&advances).map(|(priority, advance)| {
                let (mesh, advance) = (&mesh, Arc::clone(advance));
                async move { mesh.get(object, at(*priority), advance, &mut Counted::default()).await }
            });
            let gets = join_all(gets);
            let Either::Right(((), gets)) =
                select(Box::pin(gets), mesh.world.clock.sleep(Duration::from_secs(10))).await
            else {
                panic!("there was nothing to contend for");
            };
            drop(gets);
            advances.iter().map(|advance| advance.0.load(Ordering::Relaxed) as f64).collect()
        })
    };
    let equals = contend(&[Priority::Normal; 4]);
    let sum: f64 = equals.iter().sum();
    let jain = sum * sum / (4.0 * equals.iter().map(|share| share * share).sum::<f64>());
    println!("four equals got {equals:?}: Jain's index {jain:.4}");
    assert!(jain >= 0.95, "{equals:?}");
    let ranked = contend(&[Priority::Interactive, Priority::Normal, Priority::Background]);
    println!("interactive, normal and background got {ranked:?}");
    let all: f64 = ranked.iter().sum();
    for (got, weight) in ranked.iter().zip([8.0, 4.0, 1.0]) {
        assert!((got / (all * weight / 13.0) - 1.0).abs() < 0.1, "{ranked:?}");
    }
}

#[test]
fn many_who_put_at_once_read_little_that_there_is_no_memory_for() {
    const PUTS: u64 = 32;
    SimWorld::run(5, Link::default(), async |sim| {
        let settings = TrafficSettings { concurrent_transfers: 32, ..with_memory(8) };
        let mesh = Mesh::new(sim, settings, &[None; 6]);
        let (read, ahead_most, stored) = (AtomicU64::new(0), AtomicU64::new(0), Arc::new(Advance::default()));
        let puts = (0..PUTS).map(|number| {
            let (mesh, read, ahead_most, stored) = (&mesh, &read, &ahead_most, Arc::clone(&stored));
            async move {
                let pattern = Pattern(8 * MIB + number);
                let mut source = Watched { pattern, read, stored: &stored, ahead_most };
                mesh.put_from(&mut source, TransferSettings::default(), Arc::clone(&stored) as _).await
            }
        });
        join_all(puts).await;
        let ahead = ahead_most.into_inner();
        println!("{PUTS} puts had read {ahead} bytes more than were stored, at the most");
        // What has memory, what waits for it, and of each the beginning of a chunk.
        assert!(ahead <= (8 + 2 + 2) * MIB, "{ahead}");
        assert!(ahead >= 4 * MIB, "the control: {ahead}, so that nothing was contended for");
    });
}

#[test]
fn those_who_send_nothing_more_keep_nobody_from_putting() {
    SimWorld::run(6, Link::default(), async |sim| {
        let settings = TrafficSettings { concurrent_transfers: 32, ..with_memory(8) };
        let mesh = Mesh::new(sim, settings, &[None; 6]);
        let stalled = (0..16).map(|_| async {
            mesh.put_from(&mut Stalls(200_000), TransferSettings::default(), Arc::new(Unobserved)).await
        });
        let others = async {
            // Those are all at it by then.
            mesh.world.clock.sleep(Duration::from_millis(1)).await;
            let started = mesh.world.clock.elapsed();
            mesh.put(1000, TransferSettings::default()).await;
            let short = mesh.world.clock.elapsed() - started;
            mesh.put(20 * MIB, TransferSettings::default()).await;
            (short, mesh.world.clock.elapsed() - started)
        };
        let Either::Right(((short, long), _)) = select(Box::pin(join_all(stalled)), Box::pin(others)).await
        else {
            panic!("none of them ends")
        };
        println!("beside 16 that stall, a short put took {short:?} and a long one {long:?}");
        assert!(short < Duration::from_millis(100), "{short:?}: it waits for nobody");
        assert!(long < Duration::from_secs(2), "{long:?}");
    });
}

#[test]
fn no_more_transfers_run_at_once_than_may_and_the_higher_priority_goes_first() {
    SimWorld::run(4, Link::default(), async |sim| {
        let settings = TrafficSettings { concurrent_transfers: 2, ..TrafficSettings::default() };
        let mesh = Mesh::new(sim, settings, &[Some(4 * MIB); 6]);
        let object = mesh.put(20 * MIB, TransferSettings::default()).await;
        let done = Mutex::new(Vec::new());
        let priorities = [
            Priority::Normal,
            Priority::Normal,
            Priority::Background,
            Priority::Background,
            Priority::Interactive,
        ];
        let gets = priorities.into_iter().enumerate().map(|(index, priority)| {
            let (mesh, done) = (&mesh, &done);
            async move {
                mesh.get(object, at(priority), Arc::new(Unobserved), &mut Counted::default()).await;
                done.lock().expect("no holder panics").push(index);
            }
        });
        let watch = async {
            let mut most = (0, 0);
            for _ in 0..100 {
                mesh.world.clock.sleep(Duration::from_millis(10)).await;
                let snapshot = mesh.world.traffic.snapshot();
                most = (most.0.max(snapshot.transfers_running), most.1.max(snapshot.transfers_waiting));
            }
            most
        };
        let (most, _) = futures::join!(watch, join_all(gets));
        assert_eq!(most, (2, 3));
        let done = done.into_inner().expect("no holder panics");
        assert_eq!(done[..2].iter().max(), Some(&1), "{done:?}");
        assert!(
            done.iter().position(|index| *index == 4) < done.iter().position(|index| *index == 2),
            "{done:?}"
        );
    });
}

#[test]
fn a_reader_that_stops_keeps_nobody_else_from_reading() {
    SimWorld::run(5, Link::default(), async |sim| {
        let mesh = Mesh::six(sim);
        let object = mesh.put(64 * MIB, TransferSettings::default()).await;
        let alone = mesh.time_to_get(object).await;
        let stopped = join_all((0..2).map(|_| {
            let mesh = &mesh;
            async move {
                let settings = TransferSettings::default();
                mesh.get(object, settings, Arc::new(Unobserved), &mut Stopped).await
            }
        }));
        let other = async {
            mesh.world.clock.sleep(Duration::from_secs(60)).await;
            let snapshot = mesh.world.traffic.snapshot();
            assert!(snapshot.peers.values().all(|peer| peer.outstanding == 0), "fetches came to their end");
            assert!(snapshot.memory_taken > snapshot.memory / 2, "what they fetched waits for its reader");
            mesh.time_to_get(object).await
        };
        let Either::Right((took, _)) = select(Box::pin(stopped), Box::pin(other)).await else {
            panic!("nobody reads from those that stopped");
        };
        assert!(took < alone * 20, "{took:?} beside {alone:?} alone");
    });
}

#[test]
fn fifty_chunks_are_under_way_at_once_where_memory_allows_and_no_peer_has_more_than_its_window() {
    let under_way = |memory: usize| {
        SimWorld::run(6, Link::default(), async |sim| {
            let mesh = Mesh::new(sim, with_memory(memory), &[None; 6]);
            let object = mesh.put(100 * MIB, TransferSettings::default()).await;
            let settings = TransferSettings { stripes_in_flight: 64, ..TransferSettings::default() };
            let mut sink = Counted::default();
            let get = mesh.get(object, settings, Arc::new(Unobserved), &mut sink);
            let watch = async {
                let mut most = (0, 0);
                loop {
                    let snapshot = mesh.world.traffic.snapshot();
                    let peers = snapshot.peers.values();
                    let wanted = peers.clone().map(|peer| peer.outstanding + peer.waiting).sum::<usize>();
                    let widest = peers.map(|peer| peer.outstanding).max().unwrap_or_default();
                    most = (most.0.max(wanted), most.1.max(widest));
                    mesh.world.clock.sleep(Duration::from_millis(1)).await;
                    if mesh.received() >= 100 * MIB {
                        return most;
                    }
                }
            };
            let (most, _) = futures::join!(watch, get);
            most
        })
    };
    let (plenty, scarce) = (under_way(256), under_way(32));
    println!(
        "256 MiB: {} requests wanted, {} of one peer; 32 MiB: {} and {}",
        plenty.0, plenty.1, scarce.0, scarce.1
    );
    assert!(plenty.0 >= 4 * 50, "four fetches of each of 50 chunks: {plenty:?}");
    assert!(plenty.1 >= 10 && plenty.1 <= 20, "{plenty:?}");
    assert!(scarce.0 <= 4 * 11, "memory bounds it: {scarce:?}");
}

#[test]
fn the_next_get_asks_those_that_can_be_relied_on_first() {
    for fault in [Fault::Lying, Fault::Stalled, Fault::Slow(Duration::from_secs(5)), Fault::Down] {
        let asked_again = |known: bool| {
            SimWorld::run(7, Link::default(), async |sim| {
                let mut mesh = Mesh::six(sim);
                let object = mesh.put(32 * MIB, TransferSettings::default()).await;
                mesh.sim.network().inject(&mesh.nodes[1], fault);
                let (received, first) = (mesh.received(), mesh.time_to_get(object).await);
                let wasted = (mesh.received() - received).saturating_sub(32 * MIB + MIB);
                assert!(wasted <= 8 * MIB, "{fault:?}: {wasted} bytes wasted");
                if !known {
                    // The control: a process that knows nothing of peers.
                    mesh.world.traffic =
                        Arc::new(Traffic::new(mesh.world.clock.clone(), TrafficSettings::default()));
                }
                let before = mesh.fetches_of(1);
                let second = mesh.time_to_get(object).await;
                (mesh.fetches_of(1) - before, first, second)
            })
        };
        let (known, first, second) = asked_again(true);
        let (unknown, ..) = asked_again(false);
        println!(
            "{fault:?}: first get {first:?}, next {second:?} with {known} fetches of it, {unknown} if forgotten"
        );
        assert!(known == 0 && unknown > 0, "{fault:?}: {known} and {unknown}");
        assert!(second < Duration::from_secs(1) && second <= first, "{fault:?}: {second:?}");
    }
}

#[test]
fn a_bad_peer_costs_those_nothing_that_do_not_ask_it() {
    SimWorld::run(8, Link::default(), async |sim| {
        let mesh = Mesh::new(sim, TrafficSettings::default(), &[None; 6]);
        let object = mesh.put(32 * MIB, TransferSettings::default()).await;
        let healthy = mesh.time_to_get(object).await;
        mesh.sim.network().inject(&mesh.nodes[2], Fault::Stalled);
        mesh.time_to_get(object).await;
        // From now on it is known, and gets that run beside each other are as fast as without it.
        let started = mesh.world.clock.elapsed();
        join_all((0..4).map(|_| mesh.time_to_get(object))).await;
        let took = mesh.world.clock.elapsed() - started;
        assert!(
            took <= healthy * 8 + Duration::from_millis(500),
            "{took:?} for four, {healthy:?} for one before"
        );
    });
}

#[test]
fn most_is_asked_of_those_that_are_fast() {
    SimWorld::run(9, Link::default(), async |sim| {
        let rates = [20 * MIB, 20 * MIB, 20 * MIB, 20 * MIB, MIB, MIB].map(Some);
        let mesh = Mesh::new(sim, TrafficSettings::default(), &rates);
        let object = mesh.put(64 * MIB, TransferSettings::default()).await;
        let first = mesh.time_to_get(object).await;
        let before: Vec<u64> = (0..6).map(|node| mesh.fetches_of(node)).collect();
        let second = mesh.time_to_get(object).await;
        let asked: Vec<u64> = (0..6).map(|node| mesh.fetches_of(node) - before[node]).collect();
        println!("first get {first:?}, next {second:?}, fetches of each {asked:?}");
        let (fast, slow) = (asked[..4].iter().sum::<u64>(), asked[4..].iter().sum::<u64>());
        assert!(fast > slow * 8, "{asked:?}");
        // Four of 20 MiB/s carry 64 MiB in no less than 0.8 s.
        assert!(second < Duration::from_secs(3), "{second:?}");
    });
}
