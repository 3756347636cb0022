//! What the network's tests share: networks on loopback and an answerer that keeps items in memory.

#![expect(dead_code, reason = "each test file uses its own part of this")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use datamesh_core::id::{ItemId, NodeId};
use datamesh_core::topology::{FailureDomain, Role, Topology};
use datamesh_core::wire::{FetchRequest, Message, NodeStatus, Request, Response};
use datamesh_engine::world::Peers;
use datamesh_net::{Answer, Identity, Multiaddr, Network, NetworkSettings, NodeOffer, start};
use futures::FutureExt;
use futures::future::BoxFuture;

/// Longer than anything on loopback takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Answers fetches from memory, and every status after a pause.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) items: Mutex<BTreeMap<ItemId, Bytes>>,
    pub(crate) pause: Duration,
    pub(crate) answering: AtomicUsize,
    pub(crate) answering_max: AtomicUsize,
}

impl Memory {
    pub(crate) fn slow(pause: Duration) -> Arc<Self> {
        Arc::new(Self { pause, ..Self::default() })
    }

    pub(crate) fn keep(&self, bytes: Bytes) -> ItemId {
        let item = ItemId::Shard(datamesh_core::id::ShardId::of(&bytes));
        self.items.lock().expect("not poisoned").insert(item, bytes);
        item
    }

    fn find(&self, fetch: &FetchRequest) -> Message<Response> {
        let items = self.items.lock().expect("not poisoned");
        let Some(bytes) = items.get(&fetch.item) else { return Message::bare(Response::Absent) };
        let begin = usize::try_from(fetch.offset).expect("fits").min(bytes.len());
        let size = fetch.size.map_or(bytes.len(), |size| usize::try_from(size).expect("fits"));
        let payload = bytes.slice(begin..bytes.len().min(begin.saturating_add(size)));
        Message { header: Response::Found, payload }
    }
}

/// The answerer of a node: its memory, and its id.
pub(crate) struct Answerer(pub(crate) Arc<Memory>, pub(crate) NodeId);

impl Answer for Answerer {
    fn answer(&self, _: NodeId, request: Message<Request>) -> BoxFuture<'static, Message<Response>> {
        let (memory, node) = (Arc::clone(&self.0), self.1);
        async move {
            let now = memory.answering.fetch_add(1, Ordering::SeqCst) + 1;
            memory.answering_max.fetch_max(now, Ordering::SeqCst);
            if !memory.pause.is_zero() {
                tokio::time::sleep(memory.pause).await;
            }
            let answer = match &request.header {
                Request::Fetch(fetch) => memory.find(fetch),
                Request::Store(_) => {
                    memory.keep(request.payload.clone());
                    Message::bare(Response::Absent)
                }
                _ => Message::bare(Response::Status(status(node))),
            };
            memory.answering.fetch_sub(1, Ordering::SeqCst);
            answer
        }
        .boxed()
    }
}

pub(crate) fn status(node: NodeId) -> NodeStatus {
    NodeStatus {
        node,
        software: "test".into(),
        capacity: 0,
        used: 0,
        item_count: 0,
        node_count: 0,
        uptime_s: 0,
        full: false,
    }
}

pub(crate) fn offer(host: &str) -> NodeOffer {
    NodeOffer {
        role: Role::Storage,
        domain: FailureDomain::alone(host),
        capacity: 1 << 30,
        grace: Duration::from_secs(4 * 60 * 60),
        software: "test".into(),
    }
}

pub(crate) fn loopback() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/0".parse().expect("an address")
}

pub(crate) fn node_settings(host: &str, bootstrap: Vec<Multiaddr>) -> NetworkSettings {
    let identity = Identity::generate().expect("entropy");
    NetworkSettings::node(identity, vec![loopback()], bootstrap, offer(host))
}

pub(crate) fn client_settings(bootstrap: Vec<Multiaddr>) -> NetworkSettings {
    NetworkSettings::client(Identity::generate().expect("entropy"), bootstrap)
}

pub(crate) async fn launch(settings: NetworkSettings) -> (Network, Arc<Memory>) {
    launch_with(settings, Arc::new(Memory::default())).await
}

pub(crate) async fn launch_with(settings: NetworkSettings, memory: Arc<Memory>) -> (Network, Arc<Memory>) {
    let node = settings.identity.node();
    let network = start(settings, Arc::new(Answerer(Arc::clone(&memory), node))).await.expect("starts");
    (network, memory)
}

/// A mesh of this many nodes that all know one bootstrap address.
pub(crate) async fn mesh(count: usize) -> Vec<(Network, Arc<Memory>)> {
    let first = launch(node_settings("0", vec![])).await;
    let bootstrap = first.0.listen_addresses();
    let mut nodes = vec![first];
    for number in 1..count {
        nodes.push(launch(node_settings(&number.to_string(), bootstrap.clone())).await);
    }
    nodes
}

/// Waits until the condition holds and says how long that took.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

/// Waits until all of them know the same nodes, this many.
pub(crate) async fn converged(networks: &[&Network], count: usize) -> Duration {
    until("all know the same nodes", async || {
        let topologies: Vec<Arc<Topology>> = networks.iter().map(|network| network.topology()).collect();
        topologies.iter().all(|topology| topology.len() == count && *topology == topologies[0])
    })
    .await
}

/// Resident memory of this process, bytes.
pub(crate) fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
    let kibibytes: usize = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kibibytes * 1024
}

pub(crate) fn patterned(size: usize) -> Bytes {
    (0..size).map(|index| u8::try_from(index % 251).expect("a byte")).collect::<Vec<u8>>().into()
}
