//! Puts of the same content at once, of which one is given up or deleted at any moment: the other keeps every byte.

mod common;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use datamesh_core::id::NodeId;
use datamesh_core::lease::{LeaseTag, Term};
use datamesh_core::manifest::Kind;
use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Scheme};
use datamesh_engine::journal::Begun;
use datamesh_engine::place::Wholeness;
use datamesh_engine::progress::Unobserved;
use datamesh_engine::put::{Put, PutError, PutOrder, put_with_journal};
use datamesh_engine::release::release;
use datamesh_engine::transfer::TransferSettings;
use datamesh_engine::world::{Journal, World};
use datamesh_sim::draw::Draws;
use datamesh_sim::network::Link;
use datamesh_sim::world::SimWorld;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, join, ready, select};

use crate::common::{Memory, Mesh, noise};

const SHARED_SIZE: usize = 2_500_000;
const NODE_COUNT: u64 = 6;

/// A journal in memory: what is noted of a put tells its tag, also when it was given up.
#[derive(Default)]
struct Noted(Mutex<Vec<Bytes>>);

impl Noted {
    fn tag(&self) -> Option<LeaseTag> {
        let records = self.0.lock().expect("not poisoned");
        records.first().map(|head| Begun::parse(head).expect("its own head").tag)
    }
}

impl Journal for Noted {
    fn next(&self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        ready(Ok(None)).boxed()
    }

    fn commit(&self, records: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        self.0.lock().expect("not poisoned").extend(records);
        ready(Ok(())).boxed()
    }
}

async fn put(world: &World, mesh: &Mesh, bytes: Vec<u8>, noted: &Noted) -> Result<Put, PutError> {
    let order = PutOrder {
        scheme: Scheme {
            mode: Mode::Dedup,
            chunking: Chunking::Fixed,
            compression: Compression::None,
            cipher: Cipher::Aes256Gcm,
            redundancy: "4+2".parse().expect("a redundancy"),
        },
        name: "object".into(),
        kind: Kind::File,
        media_type: None,
        metadata: BTreeMap::new(),
        expected_size: None,
        owner: mesh.owner.clone(),
        recipients: vec![],
        term: Term::UntilReleased,
    };
    let (settings, mut source) = (TransferSettings::default(), Memory(bytes.into()));
    Box::pin(put_with_journal(world, settings, Arc::new(Unobserved), &mut source, &order, noted)).await
}

async fn let_go(mesh: &Mesh, tag: LeaseTag) {
    let settings = TransferSettings::default();
    let released = release(&mesh.world, settings, Arc::new(Unobserved), &mesh.owner, tag).await;
    assert!(released.failures.is_empty(), "{:?}", released.failures);
}

/// What became of the put that was to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Survivor {
    is_whole: bool,
    has_reused: bool,
}

/// What nodes do with one more lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nodes {
    KeepIt,
    ForgetIt,
}

/// Two puts of one owner from two machines, begun at moments that the seed draws. One of them is given up or deleted, at a moment
/// that the seed draws too; the other stays.
fn race(seed: u64, nodes: Nodes) -> Survivor {
    SimWorld::run(seed, Link::default(), async |sim| {
        let mesh = Mesh::new(sim, NODE_COUNT);
        if nodes == Nodes::ForgetIt {
            mesh.items.values().for_each(|items| items.forget_later_leases());
        }
        let other_machine = NodeId::from_bytes(mesh.sim.key(2000).verifying_key().to_bytes());
        let other_world = mesh.sim.world_of(other_machine);
        let (clock, mut draws) = (mesh.sim.clock(), Draws::new(seed, "race"));
        // How long a put takes, with content of its own.
        let alone = Noted::default();
        let begun = clock.elapsed();
        put(&mesh.world, &mesh, noise(seed + 1_000_000, SHARED_SIZE), &alone).await.expect("acknowledged");
        let span = u64::try_from((clock.elapsed() - begun).as_millis()).expect("short").max(1);
        let mut within = |spans: u64| Duration::from_millis(draws.below(spans * span + 1));
        let (starts, lasts, waits, joins) = (within(1), within(3), within(1), within(2));

        let goes = async {
            clock.sleep(starts).await;
            let noted = Noted::default();
            let putting = std::pin::pin!(put(&mesh.world, &mesh, noise(seed, SHARED_SIZE), &noted));
            match select(putting, clock.sleep(lasts)).await {
                Either::Left((done, _)) => assert!(done.is_ok(), "{done:?}"),
                Either::Right(_) => {}
            }
            clock.sleep(waits).await;
            if let Some(tag) = noted.tag() {
                let_go(&mesh, tag).await;
            }
        };
        // The same content, and more behind it.
        let content = [noise(seed, SHARED_SIZE), noise(seed + 2_000_000, 300_000)].concat();
        let noted = Noted::default();
        let stays = async {
            clock.sleep(joins).await;
            put(&other_world, &mesh, content.clone(), &noted).await.expect("acknowledged")
        };
        let ((), stayed) = join(goes, stays).await;
        assert_eq!(stayed.acknowledged, Wholeness::Whole);
        let read = mesh.get(stayed.object).await;
        let is_whole = read.is_ok_and(|read| read == content) && mesh.score(stayed.object).await >= 1.0;
        if nodes == Nodes::KeepIt {
            for tag in [noted.tag(), alone.tag()].into_iter().flatten() {
                let_go(&mesh, tag).await;
            }
            let left: usize = mesh.items.values().map(|items| items.ids().len()).sum();
            assert_eq!(left, 0, "nothing is kept for nobody");
        }
        Survivor { is_whole, has_reused: stayed.reused_size > 0 }
    })
}

fn races(nodes: Nodes) -> Vec<Survivor> {
    let full = std::env::var("DATAMESH_TEST_SCALE").is_ok_and(|scale| scale == "full");
    (0..if full { 2000 } else { 60 }).map(|seed| race(seed, nodes)).collect()
}

#[test]
fn what_one_put_gives_up_another_that_shares_it_keeps() {
    let survivors = races(Nodes::KeepIt);
    for (seed, survivor) in survivors.iter().enumerate() {
        assert!(survivor.is_whole, "seed {seed}");
    }
    let reused = survivors.iter().filter(|survivor| survivor.has_reused).count();
    assert!(reused >= survivors.len() / 12, "only {reused} of {} shared anything", survivors.len());
}

#[test]
fn nodes_that_forget_the_second_lease_lose_what_it_protects() {
    let lost = races(Nodes::ForgetIt).iter().filter(|survivor| !survivor.is_whole).count();
    assert!(lost > 0, "the races above show nothing");
    println!("lost without the second lease: {lost}");
}
