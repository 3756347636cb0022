//! What a node costs while nothing happens: bytes and processor time of a look at all groups, however much is stored.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use datamesh_core::id::{NodeId, OwnerId, ShardId};
use datamesh_core::lease::{Lease, LeaseTag};
use datamesh_core::limits::PLACEMENT_GROUPS;
use datamesh_core::manifest::Stripe;
use datamesh_core::scheme::Redundancy;
use datamesh_core::sign::Signed;
use datamesh_core::time::Epoch;
use datamesh_core::topology::{NodeRecord, NodeState, Role, Topology};
use datamesh_core::wire::StoredItem;
use datamesh_engine::ring::Ring;
use datamesh_engine::world::Items;
use datamesh_node::system::SystemEntropy;
use datamesh_store::disk::Files;
use datamesh_store::{Store, StoreSettings};
use ed25519_dalek::SigningKey;
use futures::stream::{self, StreamExt};
use support::{Mesh, Random, json, scaled};

/// k and m of all that is stored.
const SCHEME: (usize, usize) = (4, 2);
/// Bytes of a shard: none of what is measured depends on them.
const SHARD_SIZE: usize = 64;
const CAPACITY: u64 = 20 << 30;
/// Items that one node is given at once.
const STORES_IN_FLIGHT: usize = 512;
/// Clock ticks of `/proc/PID/stat` a second.
const TICKS_PER_SECOND: u64 = 100;
/// Bytes that it costs to ask one holder of one group whether anything has changed.
const ASKED_SIZE_MAX: usize = 14;
/// Bytes of all else that nodes say while they look at their groups.
const REST_SIZE_MAX: usize = 40_000;
const PATIENCE: Duration = Duration::from_secs(600);

/// What all nodes together have cost so far.
#[derive(Debug, Clone, Copy)]
struct Cost {
    at: Instant,
    /// Looks at all groups.
    rounds: u64,
    /// Bytes of messages, each counted where it is sent and where it is received.
    messages: u64,
    /// Bytes of packets on the loopback interface, each counted once: of all that runs in this network namespace.
    packets: u64,
    cpu_ticks: u64,
}

/// What a node costs by the second without looks, and by the look.
#[derive(Debug, Clone, Copy)]
struct Idle {
    cpu_us_a_second: f64,
    packets_a_second: f64,
    cpu_us_a_round: f64,
    packets_a_round: f64,
    messages_a_round: f64,
}

/// The ring that the nodes of a mesh compute.
fn ring(mesh: &Mesh) -> (Ring, Vec<NodeId>) {
    let nodes: Vec<NodeId> = mesh.nodes.iter().map(|node| node.peer_id.parse().expect("a peer id")).collect();
    let mut topology = Topology::default();
    for (number, node) in nodes.iter().enumerate() {
        topology.learn(NodeRecord {
            node: *node,
            sequence: 1,
            addresses: vec![],
            role: Role::Storage,
            state: NodeState::Active,
            domain: format!("here/home/host-{number}").parse().expect("a domain"),
            capacity: CAPACITY,
            grace_s: 1,
            software: String::new(),
        });
    }
    (Ring::of(&topology), nodes)
}

/// A stripe of its own, with its shards.
fn stripe(random: &mut Random, redundancy: Redundancy) -> (Stripe, Vec<Bytes>) {
    let shards: Vec<Bytes> =
        (0..redundancy.shard_count()).map(|_| Bytes::from(random.bytes(SHARD_SIZE))).collect();
    let sealed_size = u32::try_from(SHARD_SIZE * redundancy.data_count()).expect("small");
    let ids = shards.iter().map(|bytes| ShardId::of(bytes)).collect();
    (Stripe { redundancy, sealed_size, shards: ids }, shards)
}

/// Gives the stopped nodes of a mesh so many stripes more, as a put would have placed them.
fn fill(mesh: &Mesh, stripe_count: u64, seed: u64) {
    let (ring, nodes) = ring(mesh);
    let redundancy = Redundancy::new(SCHEME.0, SCHEME.1).expect("a redundancy");
    let key = SigningKey::from_bytes(&[7; 32]);
    let owner = OwnerId::from_bytes(key.verifying_key().to_bytes());
    let stores: BTreeMap<NodeId, Store> = nodes
        .iter()
        .zip(&mesh.nodes)
        .map(|(node, process)| {
            let (settings, files) = (StoreSettings::new(CAPACITY), Arc::new(Files));
            let store = Store::open(&process.home.join("node/items"), settings, files, &SystemEntropy);
            (*node, store.expect("a stopped node's store opens"))
        })
        .collect();
    let mut random = Random(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let stores = &stores;
    let items = (0..stripe_count).flat_map(|_| {
        let (stripe, shards) = stripe(&mut random, redundancy);
        let item = StoredItem::Shard { index: 0, stripe: stripe.clone() };
        let subject = item.subject();
        let lease = Lease { owner, tag: LeaseTag::from_bytes([1; 16]), subject, until: Epoch::NEVER };
        let lease = Signed::sign(lease, &key);
        let holders: Vec<NodeId> = ring.order(subject.group()).take(redundancy.shard_count()).collect();
        let parts = (0_u8..).zip(holders.into_iter().zip(shards));
        let stored = parts.map(|(index, (holder, bytes))| {
            (holder, StoredItem::Shard { index, stripe: stripe.clone() }, lease.clone(), bytes)
        });
        stored.collect::<Vec<_>>()
    });
    runtime.block_on(async {
        let stored = stream::iter(items).map(|(holder, item, lease, bytes)| async move {
            stores[&holder].store(item, lease, bytes).await.map(drop)
        });
        let mut stored = stored.buffer_unordered(STORES_IN_FLIGHT * stores.len());
        while let Some(stored) = stored.next().await {
            stored.expect("there is room");
        }
        for store in stores.values() {
            store.close().await.expect("it closes");
        }
    });
}

/// The sum over all nodes of a metric.
fn metric(mesh: &Mesh, name: &str) -> u64 {
    let samples = json(&mesh.client, &["metrics"]);
    let of_nodes = samples.iter().filter(|sample| sample["metric"] == name && sample["node"].is_string());
    of_nodes.map(|sample| sample["value"].as_u64().expect("a whole number")).sum()
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The name stands in brackets; utime and stime are the 14th and 15th field of the line.
    let fields = stat.rsplit_once(')').expect("a name").1.split_whitespace().skip(11).take(2);
    fields.map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// Bytes that the loopback interface of this network namespace has carried.
fn packet_bytes() -> u64 {
    let table = fs::read_to_string("/proc/self/net/dev").expect("readable");
    let own = table.lines().find_map(|line| line.trim().strip_prefix("lo:")).expect("a loopback interface");
    own.split_whitespace().next().expect("bytes received").parse().expect("a number")
}

impl Cost {
    fn of(mesh: &Mesh) -> Self {
        let (rounds, messages) =
            (metric(mesh, "datamesh_keep_rounds"), metric(mesh, "datamesh_network_bytes"));
        let cpu_ticks = mesh.nodes.iter().map(|node| cpu_ticks(node.pid())).sum();
        Self { at: Instant::now(), rounds, messages, packets: packet_bytes(), cpu_ticks }
    }

    /// What was spent since an earlier look.
    fn since(&self, before: &Self) -> Spent {
        Spent {
            seconds: self.at.duration_since(before.at).as_secs_f64(),
            rounds: precise(self.rounds - before.rounds),
            messages: precise(self.messages - before.messages),
            packets: precise(self.packets - before.packets),
            cpu_us: precise(self.cpu_ticks - before.cpu_ticks) * 1e6 / precise(TICKS_PER_SECOND),
        }
    }
}

/// What all nodes together spent meanwhile.
#[derive(Debug, Clone, Copy)]
struct Spent {
    seconds: f64,
    rounds: f64,
    messages: f64,
    packets: f64,
    cpu_us: f64,
}

fn precise(number: u64) -> f64 {
    let high = f64::from(u32::try_from(number >> 32).expect("32 bits"));
    let low = f64::from(u32::try_from(number & 0xffff_ffff).expect("32 bits"));
    high * 4_294_967_296.0 + low
}

/// Watches a mesh whose nodes look at their groups at this pace, for so long behind their first looks.
fn watch(mesh: &mut Mesh, check_every: &str, looks: u64, time: Duration) -> Spent {
    for node in &mut mesh.nodes {
        node.kill();
        json(&node.home, &["config", "set", "repair.check_every", check_every]);
    }
    mesh.nodes.iter_mut().for_each(support::Node::restart);
    mesh.wait_for_nodes(mesh.nodes.len());
    let node_count = u64::try_from(mesh.nodes.len()).expect("few");
    let deadline = Instant::now() + PATIENCE;
    while metric(mesh, "datamesh_keep_rounds") < looks * node_count {
        assert!(Instant::now() < deadline, "the nodes don't look at their groups");
        thread::sleep(Duration::from_millis(500));
    }
    let before = Cost::of(mesh);
    thread::sleep(time);
    let spent = Cost::of(mesh).since(&before);
    for name in [
        "datamesh_keep_short",
        "datamesh_keep_misplaced",
        "datamesh_keep_handed_over",
        "datamesh_keep_repairs",
    ] {
        assert_eq!(metric(mesh, name), 0, "{name}: what was stored does not lie as the ring says");
    }
    spent
}

/// What a node of this mesh costs, of which each holds so many shards.
fn measure(mesh: &mut Mesh, shards_per_node: u64) -> Idle {
    let (quiet_for, busy_for) = scaled((3, 6), (60, 60));
    let without = watch(mesh, "1d", 0, Duration::from_secs(quiet_for));
    let with = watch(mesh, scaled("1s", "5s"), 3, Duration::from_secs(busy_for));
    let node_count = precise(u64::try_from(mesh.nodes.len()).expect("few"));
    let a_round =
        |with: f64, without: f64, seconds: f64, rounds: f64| (with - without * seconds).max(0.0) / rounds;
    let per_second = |spent: f64| spent / without.seconds;
    let of = |with_spent: f64, without_spent: f64| {
        a_round(with_spent, per_second(without_spent), with.seconds, with.rounds)
    };
    let idle = Idle {
        cpu_us_a_second: per_second(without.cpu_us) / node_count,
        packets_a_second: per_second(without.packets) / node_count,
        cpu_us_a_round: of(with.cpu_us, without.cpu_us),
        packets_a_round: of(with.packets, without.packets),
        messages_a_round: of(with.messages, without.messages) / 2.0,
    };
    println!("idle: {}", idle.to_json(mesh.nodes.len(), shards_per_node));
    idle
}

impl Idle {
    fn to_json(self, node_count: usize, shards_per_node: u64) -> serde_json::Value {
        serde_json::json!({
            "nodes": node_count,
            "shards_per_node": shards_per_node,
            "cpu_us_a_second": self.cpu_us_a_second.round(),
            "packet_bytes_a_second": self.packets_a_second.round(),
            "cpu_us_a_look": self.cpu_us_a_round.round(),
            "packet_bytes_a_look": self.packets_a_round.round(),
            "message_bytes_a_look": self.messages_a_round.round(),
        })
    }
}

fn start(node_count: usize) -> Mesh {
    Mesh::start_with(node_count, &[("repair.check_every", "1d"), ("repair.settle", "1s")])
}

/// Has a mesh hold so many shards on each node, more than before, and measures it.
fn grown(mesh: &mut Mesh, from: u64, to: u64) -> Idle {
    mesh.nodes.iter_mut().for_each(support::Node::kill);
    let node_count = u64::try_from(mesh.nodes.len()).expect("few");
    let (k, m) = SCHEME;
    let shard_count = u64::try_from(k + m).expect("few");
    fill(mesh, (to - from) * node_count / shard_count, to);
    mesh.nodes.iter_mut().for_each(support::Node::restart);
    mesh.wait_for_nodes(mesh.nodes.len());
    let held = metric(mesh, "datamesh_store_items");
    let expected = to * node_count;
    assert!(held.abs_diff(expected) <= expected / 100 + shard_count, "{held} of {expected} shards are held");
    measure(mesh, to)
}

#[test]
fn a_look_at_all_groups_costs_the_same_bytes_however_much_is_stored() {
    const NODES: usize = 6;
    let mut mesh = start(NODES);
    let steps: &[u64] = scaled(&[1_000, 10_000], &[10_000, 100_000, 1_000_000]);
    let (mut before, mut costs) = (0, Vec::new());
    for step in steps {
        costs.push(grown(&mut mesh, before, *step));
        before = *step;
    }
    let (first, last) = (costs[0], costs[costs.len() - 1]);
    assert!(first.messages_a_round > 0.0);
    // A group that holds nothing yet costs less than half of one that holds anything, and that is all the difference.
    assert!(last.messages_a_round < 2.0 * first.messages_a_round, "{costs:?}");
    let holders = (SCHEME.0 + SCHEME.1).min(NODES) - 1;
    let asked = usize::from(PLACEMENT_GROUPS) / NODES * holders;
    let most = precise(u64::try_from(asked * ASKED_SIZE_MAX + REST_SIZE_MAX).expect("few"));
    assert!(last.messages_a_round < most, "{most}: {costs:?}");
}

#[test]
fn a_look_at_all_groups_costs_no_more_bytes_the_more_nodes_there_are() {
    let (node_counts, shards): (&[usize], u64) = scaled((&[6, 9], 1_000), (&[6, 12, 24, 48], 10_000));
    let costs: Vec<Idle> = node_counts.iter().map(|nodes| grown(&mut start(*nodes), 0, shards)).collect();
    let (first, last) = (costs[0], costs[costs.len() - 1]);
    assert!(last.messages_a_round < first.messages_a_round, "{costs:?}");
}
