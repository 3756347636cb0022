//! Rings are built once for all operations of a process, and those of the mesh as it was are kept for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use datamesh_core::id::NodeId;
use datamesh_core::limits::RINGS_KEPT;
use datamesh_core::topology::{FailureDomain, NodeRecord, NodeState, Role, Topology};
use datamesh_engine::progress::Unobserved;
use datamesh_engine::ring::Ring;
use datamesh_engine::rings::Rings;
use datamesh_engine::transfer::{Transfer, TransferSettings};
use datamesh_engine::world::Compute;
use datamesh_sim::network::{Answer, Link};
use datamesh_sim::world::SimWorld;
use futures::executor::block_on;
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, poll};

/// Runs each job a moment after it was asked to, and counts them.
#[derive(Debug, Default)]
struct Counting {
    pause: Option<Duration>,
    jobs: AtomicUsize,
}

impl Counting {
    fn jobs(&self) -> usize {
        self.jobs.load(Ordering::SeqCst)
    }
}

impl Compute for Counting {
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.jobs.fetch_add(1, Ordering::SeqCst);
        let pause = self.pause;
        async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            job();
        }
        .boxed()
    }
}

fn record(number: u8) -> NodeRecord {
    NodeRecord {
        node: NodeId::from_bytes([number; 32]),
        sequence: 1,
        addresses: vec![],
        role: Role::Storage,
        state: NodeState::Active,
        domain: FailureDomain::alone(&number.to_string()),
        capacity: 1,
        grace_s: 14_400,
        software: "test".into(),
    }
}

fn mesh(nodes: u8) -> Arc<Topology> {
    Arc::new(Topology::new((0..nodes).map(record)))
}

fn member_counts(rings: impl Iterator<Item = Arc<Ring>>) -> Vec<usize> {
    rings.map(|ring| ring.members().len()).collect()
}

#[test]
fn a_hundred_transfers_at_once_build_one_ring() {
    SimWorld::run(1, Link::default(), async |sim| {
        let answer: Answer = Arc::new(|_, _| panic!("nobody is asked"));
        for number in 0..6 {
            let domain = FailureDomain::alone(&number.to_string());
            sim.network().add_node(sim.record(&sim.key(number), domain, 1 << 30), Arc::clone(&answer));
        }
        let compute = Arc::new(Counting { pause: Some(Duration::from_millis(10)), ..Counting::default() });
        let mut world = sim.world_of(NodeId::from_bytes([9; 32]));
        world.compute = Arc::clone(&compute) as Arc<dyn Compute>;
        let start = || Transfer::start(world.clone(), TransferSettings::default(), Arc::new(Unobserved));
        let transfers = join_all((0..100).map(|_| start())).await;
        assert_eq!((transfers.len(), compute.jobs()), (100, 1));
        assert_eq!(world.rings.earlier().count(), 0);
        sim.network().change_topology(|topology| {
            topology.learn(record(200));
        });
        let transfers = join_all((0..100).map(|_| start())).await;
        assert_eq!((transfers.len(), compute.jobs()), (100, 2));
        assert_eq!(member_counts(world.rings.earlier()), [6], "the ring of the mesh as it was");
    });
}

#[test]
fn threads_that_ask_at_once_are_given_one_ring() {
    let (rings, compute, topology) = (Rings::default(), Counting::default(), mesh(20));
    let given: Vec<Arc<Ring>> = thread::scope(|scope| {
        let ask = || block_on(rings.current(&topology, &compute));
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a ring")).collect()
    });
    assert_eq!(compute.jobs(), 1);
    assert!(given.iter().all(|ring| Arc::ptr_eq(ring, &given[0])));
}

#[test]
fn a_topology_that_places_alike_has_the_ring_that_is_there() {
    let (rings, compute) = (Rings::default(), Counting::default());
    let current = |topology: &Arc<Topology>| block_on(rings.current(topology, &compute));
    let mut other = Topology::clone(&mesh(6));
    assert!(other.learn(NodeRecord { sequence: 2, software: "newer".into(), ..record(3) }));
    let first = current(&mesh(6));
    assert!(Arc::ptr_eq(&first, &current(&Arc::new(other))));
    assert_eq!(rings.earlier().count(), 0);
    assert!(!Arc::ptr_eq(&first, &current(&mesh(7))));
}

#[test]
fn the_rings_used_last_are_kept_and_no_more() {
    let (rings, compute) = (Rings::default(), Counting::default());
    let current = |topology: &Arc<Topology>| block_on(rings.current(topology, &compute));
    assert_eq!(rings.earlier().count(), 0);
    let meshes: Vec<Arc<Topology>> = (1..=8).map(mesh).collect();
    for topology in &meshes {
        current(topology);
    }
    assert_eq!(member_counts(rings.earlier()), [7, 6, 5, 4]);
    assert_eq!(rings.earlier().count(), RINGS_KEPT);
    let sixth = rings.earlier().nth(1).expect("the ring of six nodes");
    assert!(Arc::ptr_eq(&sixth, &current(&meshes[5])), "it was there");
    assert_eq!(member_counts(rings.earlier()), [8, 7, 5, 4]);
    assert_eq!(current(&meshes[0]).members().len(), 1, "it was not there and is built again");
    assert_eq!(member_counts(rings.earlier()), [6, 8, 7, 5]);
}

#[test]
fn whoever_gives_up_waiting_holds_nobody_up() {
    SimWorld::run(2, Link::default(), async |_sim| {
        let rings = Rings::default();
        let compute = Counting { pause: Some(Duration::from_secs(1)), ..Counting::default() };
        let topology = mesh(6);
        let mut given_up = Box::pin(rings.current(&topology, &compute));
        let mut waiting = Box::pin(rings.current(&topology, &compute));
        assert!(matches!(poll!(&mut given_up), Poll::Pending));
        assert!(matches!(poll!(&mut waiting), Poll::Pending));
        drop(given_up);
        assert_eq!(waiting.await.members().len(), 6);
        assert_eq!(compute.jobs(), 2, "the first was lost");
    });
}
