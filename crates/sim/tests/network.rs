//! The simulated network does to calls what its faults say, counts them, and does it again under the same seed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, NodeId, OwnerId};
use datamesh_core::lease::{Lease, LeaseTag, Release, Subject};
use datamesh_core::receipt::{KeptItem, Receipt};
use datamesh_core::sign::Signed;
use datamesh_core::time::Epoch;
use datamesh_core::topology::FailureDomain;
use datamesh_core::wire::{FetchRequest, Message, Refusal, Request, Response, StoreRequest, StoredItem};
use datamesh_engine::world::{CallError, Clock, Items, ItemsError, World};
use datamesh_sim::fault::{Fault, Plan, Schedule};
use datamesh_sim::items::MemoryItems;
use datamesh_sim::network::{Answer, CallKind, Link};
use datamesh_sim::world::SimWorld;
use ed25519_dalek::SigningKey;
use futures::FutureExt;

const BYTES: &[u8] = b"what is to be kept";
const STALL: Duration = Duration::from_secs(30);

/// Answers stores and fetches as a node does.
fn answerer(key: SigningKey, items: Arc<MemoryItems>, clock: Arc<dyn Clock>) -> Answer {
    Arc::new(move |_, Message { header, payload }| {
        let (key, items, clock) = (key.clone(), Arc::clone(&items), Arc::clone(&clock));
        async move {
            match header {
                Request::Store(StoreRequest { item, lease }) => {
                    let id = item.id().expect("the tests store blocks");
                    let tag = lease.unverified().tag;
                    let size = u32::try_from(payload.len()).expect("small");
                    items.store(item, lease, payload).await.expect("there is room");
                    let node = NodeId::from_bytes(key.verifying_key().to_bytes());
                    let items = vec![KeptItem { item: id, size }];
                    let receipt = Receipt { node, tag, items, stored: clock.now() };
                    Message::bare(Response::Stored(Signed::sign(receipt, &key)))
                }
                Request::Fetch(FetchRequest { item, offset, size, .. }) => {
                    match items.fetch(item, offset, size).await.expect("readable") {
                        Some(payload) => Message { header: Response::Found, payload },
                        None => Message::bare(Response::Absent),
                    }
                }
                Request::Has(ids) => Message::bare(Response::Holds(items.has(ids).await.expect("readable"))),
                _ => Message::bare(Response::Refused(Refusal::OutOfBounds)),
            }
        }
        .boxed()
    })
}

struct Mesh {
    sim: SimWorld,
    world: World,
    node: NodeId,
    items: Arc<MemoryItems>,
}

fn mesh_of_one(sim: SimWorld) -> Mesh {
    let key = sim.key(1);
    let items = Arc::new(MemoryItems::new(1000));
    let record = sim.record(&key, FailureDomain::alone("one"), 1000);
    let node = record.node;
    sim.network().add_node(record, answerer(key, Arc::clone(&items), sim.clock()));
    let caller = NodeId::from_bytes(sim.key(0).verifying_key().to_bytes());
    Mesh { world: sim.world_of(caller), sim, node, items }
}

fn item() -> ItemId {
    ItemId::Block(BlockId::of(BYTES))
}

fn stored_block(bytes: &[u8]) -> StoredItem {
    let redundancy = "1+2".parse().expect("a redundancy");
    StoredItem::Block { block: BlockId::of(bytes), redundancy }
}

fn lease(key: &SigningKey, tag: u8) -> Signed<Lease> {
    let lease = Lease {
        owner: OwnerId::from_bytes(key.verifying_key().to_bytes()),
        tag: LeaseTag::from_bytes([tag; 16]),
        subject: Subject::Block(BlockId::of(BYTES)),
        until: Epoch::NEVER,
    };
    Signed::sign(lease, key)
}

fn store(sim: &SimWorld) -> Message<Request> {
    let request = StoreRequest { item: stored_block(BYTES), lease: lease(&sim.key(9), 1) };
    Message { header: Request::Store(request), payload: Bytes::from_static(BYTES) }
}

fn fetch() -> Message<Request> {
    Message::bare(Request::Fetch(FetchRequest::whole(item(), None)))
}

fn has() -> Message<Request> {
    Message::bare(Request::Has(vec![item()]))
}

impl Mesh {
    async fn call(&self, request: Message<Request>) -> Result<Message<Response>, CallError> {
        self.world.peers.call(self.node, request).await
    }

    async fn fetched(&self) -> Result<Bytes, CallError> {
        self.call(fetch()).await.map(|response| response.payload)
    }
}

/// A mesh of one node that holds the bytes, and then has a fault.
async fn faulty(sim: SimWorld, fault: Fault) -> Mesh {
    let mesh = mesh_of_one(sim);
    let stored = mesh.call(store(&mesh.sim)).await.expect("a healthy node answers");
    assert!(matches!(stored.header, Response::Stored(receipt) if receipt.verify().is_ok()));
    mesh.sim.network().inject(&mesh.node, fault);
    mesh
}

#[test]
fn a_healthy_node_answers_after_two_delays() {
    SimWorld::run(1, Link::default(), async |sim| {
        let mesh = faulty(sim, Fault::Slow(Duration::ZERO)).await;
        let before = mesh.sim.clock().elapsed();
        assert_eq!(mesh.fetched().await.as_deref(), Ok(BYTES));
        assert_eq!(mesh.sim.clock().elapsed() - before, Duration::from_millis(2));
    });
}

#[test]
fn each_fault_does_what_it_says() {
    SimWorld::run(1, Link::default(), async |sim| {
        let mesh = faulty(sim, Fault::Down).await;
        assert!(matches!(mesh.fetched().await, Err(CallError::Unreachable { .. })));
        let set = |fault| mesh.sim.network().set_faults(&mesh.node, vec![fault]);

        set(Fault::Stalled);
        let before = mesh.sim.clock().elapsed();
        assert!(matches!(mesh.fetched().await, Err(CallError::TimedOut { waited_ms: 30_000, .. })));
        assert!(mesh.sim.clock().elapsed() - before >= STALL);

        set(Fault::Slow(Duration::from_secs(5)));
        let before = mesh.sim.clock().elapsed();
        assert_eq!(mesh.fetched().await.as_deref(), Ok(BYTES));
        assert_eq!(mesh.sim.clock().elapsed() - before, Duration::from_millis(5002));

        set(Fault::Lying);
        let lie = mesh.fetched().await.expect("a liar answers");
        assert!(lie.len() == BYTES.len() && !item().matches(&lie));

        set(Fault::Full);
        let refused = mesh.call(store(&mesh.sim)).await.expect("a full node answers");
        assert_eq!(refused.header, Response::Refused(Refusal::Full));
        assert_eq!(mesh.fetched().await.as_deref(), Ok(BYTES), "a full node serves reads");

        set(Fault::DiesAfter(2));
        assert!(mesh.fetched().await.is_ok() && mesh.fetched().await.is_ok());
        assert!(mesh.fetched().await.is_err() && mesh.fetched().await.is_err());

        assert!(mesh.items.lose(item()));
        set(Fault::Boasting);
        assert_eq!(mesh.call(has()).await.expect("answers").header, Response::Holds(vec![true]));
        mesh.sim.network().set_faults(&mesh.node, vec![]);
        assert_eq!(mesh.call(has()).await.expect("answers").header, Response::Holds(vec![false]));
    });
}

#[test]
fn a_node_that_goes_down_during_a_call_does_not_answer_it() {
    SimWorld::run(1, Link::default(), async |sim| {
        let mesh = faulty(sim, Fault::Slow(Duration::from_secs(1))).await;
        let kill = async {
            mesh.sim.clock().sleep(Duration::from_millis(500)).await;
            mesh.sim.network().inject(&mesh.node, Fault::Down);
        };
        let (fetched, ()) = futures::join!(mesh.fetched(), kill);
        assert!(matches!(fetched, Err(CallError::Unreachable { .. })));
    });
}

#[test]
fn a_cut_keeps_two_apart_and_no_one_else() {
    SimWorld::run(1, Link::default(), async |sim| {
        let mesh = faulty(sim, Fault::Slow(Duration::ZERO)).await;
        let caller = NodeId::from_bytes(mesh.sim.key(0).verifying_key().to_bytes());
        let other = mesh.sim.world_of(NodeId::from_bytes([7; 32]));
        mesh.sim.network().cut(mesh.node, caller);
        assert!(mesh.fetched().await.is_err());
        assert!(other.peers.call(mesh.node, fetch()).await.is_ok());
        mesh.sim.network().mend(caller, mesh.node);
        assert!(mesh.fetched().await.is_ok());
    });
}

#[test]
fn calls_are_counted_by_kind_with_their_bytes() {
    SimWorld::run(1, Link::default(), async |sim| {
        let mesh = faulty(sim, Fault::DiesAfter(1)).await;
        assert!(mesh.fetched().await.is_ok());
        let (second, third) = futures::join!(mesh.fetched(), mesh.fetched());
        assert!(second.is_err() && third.is_err());
        let size = u64::try_from(BYTES.len()).expect("small");
        let (stores, fetches) = (
            mesh.sim.network().counts(CallKind::Store),
            mesh.sim.network().counts_of(&mesh.node, CallKind::Fetch),
        );
        assert_eq!((stores.made, stores.answered, stores.sent, stores.received), (1, 1, size, 0));
        assert_eq!((fetches.made, fetches.answered, fetches.sent, fetches.received), (3, 1, 0, size));
        let under_way = mesh.sim.network().under_way();
        assert_eq!((under_way.calls, under_way.calls_most), (0, 2));
        assert_eq!((under_way.bytes, under_way.bytes_most), (0, size));
    });
}

/// When each of a hundred calls at once ended, and how, on a lossy network under a schedule of faults.
fn course(seed: u64) -> Vec<(Duration, bool)> {
    let link = Link {
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(50),
        loss_percent: 20,
        stall: STALL,
    };
    SimWorld::run(seed, link, async |sim| {
        let mesh = mesh_of_one(sim);
        let faults = vec![Fault::Down, Fault::Slow(Duration::from_millis(200)), Fault::Stalled];
        let nodes = vec![mesh.node];
        let plan =
            Plan { nodes, faulty_max: 1, faults, pause_max: Duration::from_millis(20), change_count: 10 };
        let schedule = Schedule::draw(seed, &plan);
        let calls = futures::future::join_all((0..100).map(|_| async {
            let mut nonce = [0];
            mesh.world.entropy.fill(&mut nonce);
            mesh.sim.clock().sleep(Duration::from_millis(u64::from(nonce[0]))).await;
            let ended = mesh.call(store(&mesh.sim)).await.is_ok();
            (mesh.sim.clock().elapsed(), ended)
        }));
        futures::join!(calls, mesh.sim.network().carry_out(&schedule)).0
    })
}

#[test]
fn a_seed_determines_the_course_of_everything() {
    let first = course(1);
    assert_eq!(first, course(1));
    assert_ne!(first, course(2));
    let answered = first.iter().filter(|(_, answered)| *answered).count();
    assert!((1..100).contains(&answered), "{answered} of 100 answered");
}

#[test]
fn memory_items_keep_the_contract_of_items() {
    let key = SigningKey::from_bytes(&[1; 32]);
    let block = stored_block(BYTES);
    let items = MemoryItems::new(u64::try_from(BYTES.len()).expect("small"));
    let store = |tag| items.store(block.clone(), lease(&key, tag), Bytes::from_static(BYTES)).now_or_never();
    let kept = block.kept(BYTES).expect("it is short");
    let stored = |tag| {
        let group = store(tag).expect("at once")?;
        Ok(group.of_put(lease(&key, tag).unverified().put()).collect())
    };
    let fetched = |offset, size| items.fetch(item(), offset, size).now_or_never();
    let part = |bytes: &'static [u8]| Some(Ok(Some(Bytes::from_static(bytes))));
    let release = |tag| {
        let owner = OwnerId::from_bytes(key.verifying_key().to_bytes());
        let release = Release { owner, tag: LeaseTag::from_bytes([tag; 16]) };
        items.release(Signed::sign(release, &key)).now_or_never()
    };

    assert_eq!(fetched(0, None), Some(Ok(None)));
    for tag in [1, 2, 2] {
        assert_eq!(stored(tag), Ok::<Vec<_>, ItemsError>(vec![kept]));
    }
    let other = stored_block(b"x");
    let refused = items.store(other, lease(&key, 1), Bytes::from_static(b"x")).now_or_never();
    assert_eq!(refused, Some(Err(ItemsError::Full)));
    assert!(items.usage().full);

    assert_eq!(fetched(0, None), part(BYTES));
    assert_eq!(fetched(5, Some(2)), part(&BYTES[5..7]));
    assert_eq!(fetched(17, Some(u32::MAX)), part(&BYTES[17..]));
    assert_eq!(fetched(u32::MAX, None), part(b""));
    let description = items
        .describe(block.part().expect("a block is a part").id())
        .now_or_never()
        .expect("at once")
        .expect("readable")
        .expect("held");
    assert_eq!((description.leases.len(), description.item), (2, block.clone()));

    assert_eq!((release(1), release(1)), (Some(Ok(1)), Some(Ok(0))));
    assert_eq!(stored(1), Err(ItemsError::Released));
    assert_eq!(items.fetch_checked(item()).now_or_never(), part(BYTES));
    assert!(items.rot(item()));
    let rotten = fetched(0, None).expect("at once").expect("readable").expect("held");
    assert!(!item().matches(&rotten));
    assert_eq!(items.fetch_checked(item()).now_or_never(), Some(Err(ItemsError::Rotten(item()))));
    assert_eq!(release(2), Some(Ok(1)));
    assert_eq!(items.has(vec![item()]).now_or_never(), Some(Ok(vec![false])));
    assert_eq!(items.lease(item(), lease(&key, 3)).now_or_never(), Some(Ok(false)));
}
