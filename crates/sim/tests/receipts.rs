//! What nodes have served is acknowledged and countersigned: both ends hold the same, and nothing that was not so.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use datamesh_codec::keys::Identity;
use datamesh_core::encode::{decode, encode};
use datamesh_core::id::{ItemId, NodeId, ObjectId};
use datamesh_core::lease::Term;
use datamesh_core::limits::SERVICE_ITEMS_MAX;
use datamesh_core::manifest::Kind;
use datamesh_core::receipt::{ServedItem, Service, ServiceReceipt, SessionId};
use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Scheme};
use datamesh_core::sign::Signed;
use datamesh_core::time::Timestamp;
use datamesh_core::topology::FailureDomain;
use datamesh_core::wire::{FetchRequest, Message, Refusal, Request, Response};
use datamesh_engine::get::{DigestCheck, Reading};
use datamesh_engine::health::{Depth, inspect};
use datamesh_engine::progress::Unobserved;
use datamesh_engine::put::{PutOrder, put};
use datamesh_engine::repair::repair;
use datamesh_engine::transfer::TransferSettings;
use datamesh_engine::world::{Notary, Receipts, Sink, Source, World};
use datamesh_node::serve::Server;
use datamesh_sim::fault::Fault;
use datamesh_sim::items::MemoryItems;
use datamesh_sim::network::{Answer, CallKind, Link};
use datamesh_sim::world::SimWorld;
use ed25519_dalek::SigningKey;
use futures::FutureExt;
use futures::future::BoxFuture;

const CLIENT: u64 = 1000;
const MIB: u64 = 1 << 20;
/// So much that each node serves more than one batch of it.
const SIZE: u64 = 450 * MIB;

/// Receipts in memory.
#[derive(Default)]
struct Kept(Mutex<Vec<ServiceReceipt>>);

impl Receipts for Kept {
    fn keep(&self, receipt: ServiceReceipt) {
        self.0.lock().expect("no holder panics").push(receipt);
    }
}

impl Kept {
    /// All there are, each checked, of one session behind another.
    fn all(&self) -> Vec<ServiceReceipt> {
        let mut all = self.0.lock().expect("no holder panics").clone();
        assert!(all.iter().all(|receipt| receipt.verify().is_ok()));
        all.sort_by_key(|receipt| {
            let Service { server, session, sequence, .. } = receipt.service.unverified();
            (*server, *session, *sequence)
        });
        all
    }
}

struct Mesh {
    sim: SimWorld,
    world: World,
    key: SigningKey,
    nodes: Vec<NodeId>,
    owner: Identity,
    /// What the client holds.
    own: Arc<Kept>,
    /// What each node holds.
    theirs: Vec<Arc<Kept>>,
}

impl Mesh {
    fn new(sim: SimWorld, node_count: u64) -> Self {
        let key = sim.key(CLIENT);
        let mut world = sim.world_of(node_of(&key));
        let own = Arc::new(Kept::default());
        let receipts = Arc::clone(&own) as Arc<dyn Receipts>;
        world.notary = Some(Arc::new(Notary { key: key.clone(), receipts }));
        let (mut nodes, mut theirs) = (Vec::new(), Vec::new());
        for number in 0..node_count {
            let key = sim.key(number);
            let record = sim.record(&key, FailureDomain::alone(&format!("host {number}")), 1 << 40);
            let kept = Arc::new(Kept::default());
            let server = Server::new(key, Arc::new(MemoryItems::new(1 << 40)), sim.clock(), sim.compute())
                .countersigning(Arc::clone(&kept) as Arc<dyn Receipts>);
            let answer: Answer = Arc::new(move |from, request| {
                let server = server.clone();
                async move { server.answer_to(from, request).await }.boxed()
            });
            nodes.push(record.node);
            theirs.push(kept);
            sim.network().add_node(record, answer);
        }
        Self { sim, world, key, nodes, owner: Identity::from_seed(&[9; 32]), own, theirs }
    }

    async fn put(&self, size: u64, redundancy: &str) -> ObjectId {
        let scheme = Scheme {
            mode: Mode::Sealed,
            chunking: Chunking::Fixed,
            compression: Compression::None,
            cipher: Cipher::Aes256Gcm,
            redundancy: redundancy.parse().expect("a redundancy"),
        };
        let order = PutOrder {
            scheme,
            name: "object".into(),
            kind: Kind::File,
            media_type: None,
            metadata: BTreeMap::new(),
            expected_size: None,
            owner: Arc::new(Identity::from_seed(self.owner.seed())),
            recipients: vec![],
            term: Term::UntilReleased,
        };
        let mut source = Zeros(size);
        let putting = put(&self.world, settings(), Arc::new(Unobserved), &mut source, &order);
        Box::pin(putting).await.expect("acknowledged").object
    }

    async fn get(&self, object: ObjectId) {
        let owner = [Identity::from_seed(self.owner.seed())];
        let reading = Reading::open(&self.world, settings(), Arc::new(Unobserved), object, &owner);
        let reading = Box::pin(reading).await.expect("it is there");
        let mut sink = Nowhere;
        let copied = Box::pin(reading.copy(None, DigestCheck::Check, &mut sink)).await;
        copied.expect("it comes back");
    }

    /// Holds what the client has to what the nodes have, and says how many bytes that is.
    fn settle(&self) -> u64 {
        let own = self.own.all();
        let theirs = self.nodes.iter().zip(&self.theirs).map(|(node, kept)| (*node, kept.all()));
        for (node, theirs) in theirs {
            let ours: Vec<_> =
                own.iter().filter(|receipt| receipt.service.unverified().server == node).cloned().collect();
            assert_eq!(ours, theirs, "both hold the same");
        }
        let mut sessions: BTreeMap<(NodeId, SessionId), (u64, u64)> = BTreeMap::new();
        for receipt in &own {
            let service = receipt.service.unverified();
            let (sequence, total) = sessions.entry((service.server, service.session)).or_default();
            assert_eq!((service.sequence, service.total), (*sequence + 1, *total + service.size()));
            (*sequence, *total) = (service.sequence, service.total);
        }
        sessions.values().map(|(_, total)| total).sum()
    }

    async fn ask(&self, request: Request) -> Message<Response> {
        self.world.peers.call(self.nodes[0], Message::bare(request)).await.expect("an answer")
    }
}

fn node_of(key: &SigningKey) -> NodeId {
    NodeId::from_bytes(key.verifying_key().to_bytes())
}

fn settings() -> TransferSettings {
    TransferSettings { hedge_after: Duration::from_millis(50), ..TransferSettings::default() }
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

#[test]
fn both_ends_hold_the_same_after_gets_with_failures_and_hedges() {
    SimWorld::run(1, Link::default(), async |sim| {
        let mesh = Mesh::new(sim, 6);
        let object = mesh.put(SIZE, "4+2").await;
        mesh.get(object).await;
        let once = mesh.settle();
        assert!(once > SIZE, "{once} bytes acknowledged");
        assert!(mesh.own.all().iter().any(|receipt| receipt.service.unverified().sequence > 1), "batches");

        let network = mesh.sim.network();
        network.inject(&mesh.nodes[0], Fault::Lying);
        network.inject(&mesh.nodes[1], Fault::Slow(Duration::from_millis(200)));
        mesh.get(object).await;
        futures::join!(mesh.get(object), mesh.get(object));
        let lies = mesh
            .own
            .all()
            .iter()
            .filter(|receipt| receipt.service.unverified().server == mesh.nodes[0])
            .count();
        assert!(mesh.settle() > 4 * SIZE);
        let acknowledgments = network.counts(CallKind::Acknowledge).answered;
        let fetches = network.counts(CallKind::Fetch).answered;
        println!(
            "{acknowledgments} acknowledgments of {fetches} fetches; {lies} of the node that lied later"
        );
        assert!(acknowledgments * 50 < fetches);

        let before = mesh.settle();
        network.set_faults(&mesh.nodes[0], vec![Fault::Down]);
        network.set_faults(&mesh.nodes[1], vec![]);
        Box::pin(inspect(&mesh.world, settings(), Arc::new(Unobserved), object, Depth::Bytes))
            .await
            .expect("readable");
        let inspected = mesh.settle();
        assert!(inspected > before + SIZE, "what a deep verify read is acknowledged");
        Box::pin(repair(&mesh.world, settings(), Arc::new(Unobserved), object)).await.expect("repaired");
        assert!(mesh.settle() > inspected, "and what a repair read");
    });
}

#[test]
fn a_lost_answer_and_a_silent_node_cost_no_more_than_a_receipt() {
    SimWorld::run(2, Link { loss_percent: 10, ..Link::default() }, async |sim| {
        let mesh = Mesh::new(sim, 6);
        let object = mesh.put(64 * MIB, "2+2").await;
        for _ in 0..5 {
            mesh.get(object).await;
        }
        let theirs: Vec<_> = mesh.theirs.iter().flat_map(|kept| kept.all()).collect();
        let own = mesh.own.all();
        assert!(own.iter().all(|receipt| theirs.contains(receipt)), "nobody holds what the node does not");
        assert!(own.len() >= 20 && own.len() * 10 >= theirs.len() * 9, "{} of {}", own.len(), theirs.len());
        let distinct: BTreeSet<_> = theirs.iter().map(|receipt| encode(&receipt.service)).collect();
        assert_eq!(distinct.len(), theirs.len(), "asked the same again, a node keeps it once");
    });
    // Whoever has served the root is silent from then on: with receipts a get takes a deadline longer at the most.
    let get_with = |notary: Option<()>| {
        SimWorld::run(3, Link::default(), async |sim| {
            let mut mesh = Mesh::new(sim, 6);
            let object = mesh.put(16 * MIB, "2+2").await;
            if notary.is_none() {
                mesh.world.notary = None;
            }
            let owner = [Identity::from_seed(mesh.owner.seed())];
            let reading = Reading::open(&mesh.world, settings(), Arc::new(Unobserved), object, &owner);
            let reading = Box::pin(reading).await.expect("it is there");
            let network = mesh.sim.network();
            let served = |node: &&NodeId| network.counts_of(node, CallKind::Fetch).answered > 0;
            let served: Vec<NodeId> = mesh.nodes.iter().filter(served).copied().collect();
            assert!((1..=2).contains(&served.len()));
            served.iter().for_each(|node| network.inject(node, Fault::Stalled));
            let started = mesh.world.clock.elapsed();
            let mut sink = Nowhere;
            Box::pin(reading.copy(None, DigestCheck::Check, &mut sink)).await.expect("it comes back");
            (mesh.world.clock.elapsed() - started, mesh.settle())
        })
    };
    let ((without, nothing), (with, something)) = (get_with(None), get_with(Some(())));
    println!("with silent nodes a get takes {without:?}, with receipts {with:?}");
    assert_eq!(nothing, 0);
    assert!(something > 16 * MIB / 2 && with <= without + Duration::from_millis(1100));
}

/// An acknowledgment of one item, right in every respect.
fn service(mesh: &Mesh, served: ServedItem) -> Service {
    Service {
        server: mesh.nodes[0],
        reader: node_of(&mesh.key),
        session: SessionId::from_bytes([1; 16]),
        sequence: 1,
        items: vec![served],
        total: u64::from(served.size),
        served: Timestamp::from_ms(0),
    }
}

#[test]
fn a_node_countersigns_what_it_served_to_that_very_peer_and_nothing_else() {
    SimWorld::run(4, Link::default(), async |sim| {
        let mesh = Mesh::new(sim, 1);
        let object = mesh.put(1000, "1+0").await;
        let item = ItemId::Block(object.root());
        let fetch = || mesh.ask(Request::Fetch(FetchRequest::whole(item, Some(400_000))));
        let submit = |service: Service| mesh.ask(Request::Acknowledge(Signed::sign(service, &mesh.key)));
        let not_served = Response::Refused(Refusal::NotServed);

        let nothing_yet = service(&mesh, ServedItem { item, size: 1 });
        assert_eq!(submit(nothing_yet).await.header, not_served, "nothing was served");
        let size = u32::try_from(fetch().await.payload.len()).expect("small");
        let served = ServedItem { item, size };
        let right = service(&mesh, served);

        let other = mesh.sim.key(77);
        let stranger = mesh.sim.world_of(node_of(&other));
        let claim = Service { reader: node_of(&other), ..right.clone() };
        let request = Message::bare(Request::Acknowledge(Signed::sign(claim.clone(), &other)));
        let answer = stranger.peers.call(mesh.nodes[0], request.clone()).await.expect("an answer");
        assert_eq!(answer.header, not_served, "another peer was not served");
        assert_eq!(mesh.ask(request.header).await.header, not_served, "nor by another's hand");

        let mut forged = encode(&Signed::sign(right.clone(), &mesh.key));
        *forged.last_mut().expect("bytes") ^= 1;
        let forged = decode(&forged).expect("it decodes");
        assert_eq!(mesh.ask(Request::Acknowledge(forged)).await.header, not_served, "forged");
        let wrong = [
            Service {
                items: vec![ServedItem { size: size + 1, ..served }],
                total: right.total + 1,
                ..right.clone()
            },
            Service { items: vec![served; 2], total: 2 * right.total, ..right.clone() },
            Service { total: right.total + 1, ..right.clone() },
            Service { sequence: 2, ..right.clone() },
            Service { sequence: 0, ..right.clone() },
            Service { server: node_of(&other), ..right.clone() },
        ];
        for wrong in wrong {
            assert_eq!(submit(wrong.clone()).await.header, not_served, "{wrong:?}");
        }
        for items in [vec![], vec![served; SERVICE_ITEMS_MAX + 1]] {
            let total = items.iter().map(|served| u64::from(served.size)).sum();
            let unbounded = Service { items, total, ..right.clone() };
            assert_eq!(submit(unbounded).await.header, Response::Refused(Refusal::OutOfBounds));
        }

        let signed = submit(right.clone()).await.header;
        assert!(matches!(signed, Response::Countersigned(_)), "the control: {signed:?}");
        assert_eq!(submit(right.clone()).await.header, signed, "asked the same again, it says the same");
        let again = Service { sequence: 2, total: 2 * right.total, ..right.clone() };
        assert_eq!(submit(again.clone()).await.header, not_served, "served once, acknowledged once");
        let session = SessionId::from_bytes([2; 16]);
        assert_eq!(submit(Service { session, ..right.clone() }).await.header, not_served, "in any session");
        fetch().await;
        assert!(matches!(submit(again).await.header, Response::Countersigned(_)));
        assert_eq!(mesh.theirs[0].all().len(), 2);
    });
}
