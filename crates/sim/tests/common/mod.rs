//! A simulated mesh of storage nodes and a client that puts and gets.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use datamesh_codec::keys::Identity;
use datamesh_core::id::{NodeId, ObjectId};
use datamesh_core::lease::Term;
use datamesh_core::manifest::Kind;
use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Scheme};
use datamesh_core::topology::FailureDomain;
use datamesh_engine::get::{DigestCheck, GetError, Reading};
use datamesh_engine::health::{Depth, inspect};
use datamesh_engine::progress::Unobserved;
use datamesh_engine::put::{Put, PutError, PutOrder, put};
use datamesh_engine::repair::repair;
use datamesh_engine::transfer::TransferSettings;
use datamesh_engine::world::{Sink, Source, World};
use datamesh_node::serve::Server;
use datamesh_sim::fault::Fault;
use datamesh_sim::items::MemoryItems;
use datamesh_sim::network::Answer;
use datamesh_sim::world::SimWorld;
use futures::FutureExt;
use futures::future::BoxFuture;

/// Whoever puts and gets; not a node.
const CLIENT: u64 = 1000;
/// Longer than any deadline of an operation on a few stripes adds up to: past it, something hangs.
const PATIENCE: Duration = Duration::from_secs(3600);

#[derive(Clone)]
pub(crate) struct Mesh {
    pub(crate) sim: SimWorld,
    pub(crate) world: World,
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) items: BTreeMap<NodeId, Arc<MemoryItems>>,
    pub(crate) owner: Arc<Identity>,
}

impl Mesh {
    pub(crate) fn new(sim: SimWorld, node_count: u64) -> Self {
        let client = NodeId::from_bytes(sim.key(CLIENT).verifying_key().to_bytes());
        let world = sim.world_of(client);
        let owner = Arc::new(Identity::from_seed(&[9; 32]));
        let mut mesh = Self { sim, world, nodes: Vec::new(), items: BTreeMap::new(), owner };
        for number in 0..node_count {
            mesh.add_node(number);
        }
        mesh
    }

    pub(crate) fn add_node(&mut self, number: u64) {
        let key = self.sim.key(number);
        let record = self.sim.record(&key, FailureDomain::alone(&format!("host {number}")), 1 << 40);
        let items = Arc::new(MemoryItems::new(1 << 40));
        let server = Server::new(key, items.clone(), self.sim.clock(), self.sim.compute());
        let answer: Answer = Arc::new(move |_, request| {
            let server = server.clone();
            async move { server.answer(request).await }.boxed()
        });
        self.nodes.push(record.node);
        self.items.insert(record.node, items);
        self.sim.network().add_node(record, answer);
    }

    pub(crate) fn inject(&self, node_index: usize, fault: Fault) {
        self.sim.network().inject(&self.nodes[node_index], fault);
    }

    pub(crate) fn mend_all(&self) {
        for node in &self.nodes {
            self.sim.network().set_faults(node, vec![]);
        }
    }

    pub(crate) async fn put(&self, bytes: &[u8], redundancy: &str) -> Result<Put, PutError> {
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
            owner: self.owner.clone(),
            recipients: vec![],
            term: Term::UntilReleased,
        };
        let mut source = Memory(Bytes::copy_from_slice(bytes));
        let settings = TransferSettings::default();
        let putting = Box::pin(put(&self.world, settings, Arc::new(Unobserved), &mut source, &order));
        self.in_time(putting).await
    }

    pub(crate) async fn get(&self, object: ObjectId) -> Result<Vec<u8>, GetError> {
        let getting = Box::pin(async {
            let owner = [Identity::from_seed(self.owner.seed())];
            let settings = TransferSettings::default();
            let reading = Reading::open(&self.world, settings, Arc::new(Unobserved), object, &owner).await?;
            let mut sink = Kept(Vec::new());
            reading.copy(None, DigestCheck::Check, &mut sink).await?;
            Ok(sink.0)
        });
        self.in_time(getting).await
    }

    pub(crate) async fn score(&self, object: ObjectId) -> f64 {
        let settings = TransferSettings::default();
        let inspecting = Box::pin(inspect(&self.world, settings, Arc::new(Unobserved), object, Depth::Bytes));
        self.in_time(inspecting).await.expect("the manifest is there").score()
    }

    pub(crate) async fn repair(&self, object: ObjectId) -> u64 {
        let settings = TransferSettings::default();
        let repairing = Box::pin(repair(&self.world, settings, Arc::new(Unobserved), object));
        let repaired = self.in_time(repairing).await.expect("it can be repaired");
        assert_eq!(repaired.unplaced, 0);
        repaired.shards_repaired
    }

    /// Whatever is done ends in time.
    pub(crate) async fn in_time<T>(&self, doing: impl Future<Output = T>) -> T {
        let doing = std::pin::pin!(doing);
        match futures::future::select(doing, self.world.clock.sleep(PATIENCE)).await {
            futures::future::Either::Left((done, _)) => done,
            futures::future::Either::Right(_) => panic!("it hangs"),
        }
    }
}

pub(crate) struct Memory(pub(crate) Bytes);

impl Source for Memory {
    fn read<'a>(&'a mut self, buffer: &'a mut BytesMut, size_max: usize) -> BoxFuture<'a, io::Result<usize>> {
        let count = size_max.min(self.0.len());
        buffer.extend_from_slice(&self.0.split_to(count));
        async move { Ok(count) }.boxed()
    }
}

pub(crate) struct Kept(pub(crate) Vec<u8>);

impl Sink for Kept {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        self.0.extend_from_slice(&bytes);
        async { Ok(()) }.boxed()
    }
}

pub(crate) fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
