//! Nodes die for good, a failure domain is lost, nodes join, all are restarted one by one: the mesh stays whole by itself.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Mesh, Random, field, json, number, run, same_bytes, scaled, text};

const MIB: u64 = 1 << 20;
const NODES: usize = 12;
/// Nodes of one failure domain.
const NODES_PER_HOST: usize = 2;
const JOINING: usize = 6;
/// k and m of all that is put.
const SCHEME: (u64, u64) = (4, 2);
const SETTINGS: [(&str, &str); 2] = [("repair.settle", "3s"), ("repair.rate", "off")];
const PATIENCE: Duration = Duration::from_secs(1800);

/// How many objects, and the bytes of each: in the long form 20 GiB, or fewer objects (`CHURN_OBJECTS`) where the disk has no room
/// for half as much again.
fn load() -> (u64, u64) {
    let object_count = std::env::var("CHURN_OBJECTS").map(|count| count.parse().expect("a count of objects"));
    scaled((40, MIB), (object_count.unwrap_or(2560), 8 * MIB))
}

fn grace() -> Duration {
    Duration::from_secs(scaled(5, 10))
}

fn settings(grace: &str) -> Vec<(&str, &str)> {
    let check_every = scaled("1s", "5s");
    SETTINGS.into_iter().chain([("placement.grace", grace), ("repair.check_every", check_every)]).collect()
}

/// What nodes say of themselves in numbers: of each node, the sum over all labels.
fn metric(mesh: &Mesh, name: &str) -> BTreeMap<String, u64> {
    let mut values = BTreeMap::new();
    for sample in json(&mesh.client, &["metrics"]) {
        if sample["metric"] == name
            && let Some(node) = sample["node"].as_str()
        {
            *values.entry(node.to_owned()).or_default() += sample["value"].as_u64().expect("a whole number");
        }
    }
    values
}

fn sum(values: &BTreeMap<String, u64>) -> u64 {
    values.values().sum()
}

/// Waits until no node finds anything short or out of its place, twice in a row.
fn settle(mesh: &Mesh, what: &str) -> Duration {
    let begun = Instant::now();
    let mut rounds = metric(mesh, "datamesh_keep_rounds");
    let mut quiet = 0;
    loop {
        assert!(begun.elapsed() < PATIENCE, "{what}: not settled");
        thread::sleep(Duration::from_millis(500));
        let now = metric(mesh, "datamesh_keep_rounds");
        if now.iter().any(|(node, count)| rounds.get(node).is_none_or(|before| count < &(before + 2))) {
            continue;
        }
        let to_do = sum(&metric(mesh, "datamesh_keep_short")) + sum(&metric(mesh, "datamesh_keep_misplaced"));
        quiet = if to_do == 0 { quiet + 1 } else { 0 };
        rounds = now;
        if quiet == 2 {
            return begun.elapsed();
        }
    }
}

fn content(index: u64, size: u64) -> Vec<u8> {
    Random(1000 + index).bytes(usize::try_from(size).expect("it fits memory"))
}

struct Objects {
    ids: Vec<String>,
    size: u64,
}

impl Objects {
    fn put(mesh: &Mesh) -> Self {
        let (count, size) = load();
        let file = mesh.path("file");
        let ids = (0..count).map(|index| {
            fs::write(&file, content(index, size)).expect("written");
            let put =
                json(&mesh.client, &["put", "--scheme", "4+2", file.to_str().expect("UTF-8")]).remove(0);
            assert_eq!(field(&put, "acknowledged"), "whole", "{put}");
            field(&put, "object").to_owned()
        });
        Self { ids: ids.collect(), size }
    }

    /// Gets every so manieth object and compares it.
    fn check(&self, mesh: &Mesh, every: usize) {
        let (out, expected) = (mesh.path("out"), mesh.path("expected"));
        for (index, id) in self.ids.iter().enumerate().step_by(every) {
            json(&mesh.client, &["get", "--force", id, out.to_str().expect("UTF-8")]);
            let index = u64::try_from(index).expect("few");
            fs::write(&expected, content(index, self.size)).expect("written");
            assert!(same_bytes(&expected, &out), "{id}");
        }
    }

    fn assert_whole(&self, mesh: &Mesh, every: usize) {
        for id in self.ids.iter().step_by(every) {
            let verified = json(&mesh.client, &["verify", id]).remove(0);
            assert!(verified["score"].as_f64().expect("a number") >= 1.0, "{verified}");
        }
    }
}

/// The bytes that must be moved at the least to make up for what is lost with these nodes.
fn lost_bytes(mesh: &Mesh, objects: &Objects, lost: &[String]) -> u64 {
    let (k, _) = SCHEME;
    let mut least = 0;
    for id in &objects.ids {
        let info = json(&mesh.client, &["info", id]).remove(0);
        for stripe in info["stripes"].as_array().expect("stripes") {
            let shard_size = number(stripe, "sealed_size").div_ceil(k).next_multiple_of(64);
            let shards = stripe["shards"].as_array().expect("shards");
            let gone = shards.iter().filter(|shard| lost.iter().any(|node| shard["node"] == node.as_str()));
            let gone = u64::try_from(gone.count()).expect("few");
            // One of the holders reads k - 1 shards from others, makes the lost ones and sends them on.
            let moved = if gone == 0 { 0 } else { k - 1 + gone };
            least += moved * shard_size;
        }
    }
    least
}

fn peer_id(mesh: &Mesh, index: usize) -> String {
    mesh.nodes[index].peer_id.clone()
}

#[test]
fn a_mesh_stays_whole_through_loss_growth_and_restarts() {
    let grace = format!("{}s", grace().as_secs());
    let mut mesh = Mesh::start_in_domains(NODES, NODES_PER_HOST, &settings(&grace));
    let objects = Objects::put(&mesh);
    let every = scaled(4, 20);
    settle(&mesh, "after the puts");
    let stored = number(&json(&mesh.client, &["health"])[0], "used");
    println!("{} objects of {} bytes, {stored} bytes stored", objects.ids.len(), objects.size);

    lose_two_nodes(&mut mesh, &objects, every);
    lose_a_domain(&mut mesh, &objects, every);
    grow(&mut mesh, &objects, every);
    restart_all(&mut mesh, &objects);
    objects.check(&mesh, every);
}

fn lose_two_nodes(mesh: &mut Mesh, objects: &Objects, every: usize) {
    let lost = [peer_id(mesh, 11), peer_id(mesh, 4)];
    let least = lost_bytes(mesh, objects, &lost);
    for index in [11, 4] {
        let mut node = mesh.nodes.remove(index);
        node.kill();
        fs::remove_dir_all(&node.home).expect("its disk is gone");
    }
    let sent_before = sum(&metric(mesh, "datamesh_network_bytes"));
    let handed_over_before = sum(&metric(mesh, "datamesh_keep_handed_over"));
    let repaired_before = sum(&metric(mesh, "datamesh_keep_repairs"));
    let begun = Instant::now();
    thread::sleep(grace());
    settle(mesh, "two nodes lost");
    let took = begun.elapsed();
    // Each byte is counted where it is sent and where it is received.
    let moved = (sum(&metric(mesh, "datamesh_network_bytes")) - sent_before) / 2;
    let handed_over = sum(&metric(mesh, "datamesh_keep_handed_over")) - handed_over_before;
    let repaired = sum(&metric(mesh, "datamesh_keep_repairs")) - repaired_before;
    println!("two nodes lost: {repaired} parts made again, {handed_over} handed over");
    println!(
        "two nodes lost: whole {:.1} s after they died, the grace of {} s with it; {moved} bytes moved, {least} at the least: {:.3}",
        took.as_secs_f64(),
        grace().as_secs(),
        ratio(moved, least)
    );
    objects.assert_whole(mesh, every);
    objects.check(mesh, every);
    // What nodes say to each other in any case weighs more where little was stored.
    let most_percent = scaled(400, 110);
    assert!(moved * 100 <= least * most_percent, "{moved} bytes moved of {least}");
}

fn lose_a_domain(mesh: &mut Mesh, objects: &Objects, every: usize) {
    for _ in 0..NODES_PER_HOST {
        // Also the node that the client joined through: it knows others by now.
        let mut node = mesh.nodes.remove(0);
        node.kill();
        fs::remove_dir_all(&node.home).expect("its disk is gone");
    }
    objects.check(mesh, every);
    thread::sleep(grace());
    let took = settle(mesh, "a domain lost");
    println!(
        "a failure domain lost: nothing was, and all parts are back {:.1} s after the grace",
        took.as_secs_f64()
    );
    objects.check(mesh, every);
}

fn grow(mesh: &mut Mesh, objects: &Objects, every: usize) {
    let handed_over_before = sum(&metric(mesh, "datamesh_keep_handed_over"));
    let repaired_before = sum(&metric(mesh, "datamesh_keep_repairs"));
    let known: Vec<String> = (0..mesh.nodes.len()).map(|index| peer_id(mesh, index)).collect();
    let begun = Instant::now();
    let grace = format!("{}s", grace().as_secs());
    mesh.add_nodes(JOINING, NODES_PER_HOST, &settings(&grace));
    settle(mesh, "six nodes joined");
    let handed_over = sum(&metric(mesh, "datamesh_keep_handed_over")) - handed_over_before;
    let repaired = sum(&metric(mesh, "datamesh_keep_repairs")) - repaired_before;
    let items = metric(mesh, "datamesh_store_items");
    let gained: u64 = items.iter().filter(|(node, _)| !known.contains(node)).map(|(_, count)| count).sum();
    let mean = sum(&items) / u64::try_from(items.len()).expect("few");
    let most = items.values().max().copied().unwrap_or_default();
    println!(
        "six nodes joined: in {:.1} s {handed_over} parts handed over and {repaired} made again, {gained} on the new nodes: {:.3}; \
         the fullest node has {:.3} of the mean",
        begun.elapsed().as_secs_f64(),
        ratio(handed_over + repaired, gained),
        ratio(most, mean)
    );
    objects.assert_whole(mesh, every);
    let (most_moved_percent, most_load_percent) = scaled((200, 180), (120, 130));
    assert!((handed_over + repaired) * 100 <= gained * most_moved_percent);
    assert!(most * 100 <= mean * most_load_percent, "{items:?}");
}

fn restart_all(mesh: &mut Mesh, objects: &Objects) {
    let (done, reads, writes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let client = mesh.client.clone();
    let (read_to, write_from) = (mesh.path("read"), mesh.path("write"));
    fs::write(&write_from, content(0, MIB)).expect("written");
    let node_count = mesh.nodes.len();
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            for id in objects.ids.iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                get(&client, id, &read_to);
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        let writing = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let put =
                    run(&client, &["--json", "put", "--scheme", "4+2", write_from.to_str().expect("UTF-8")]);
                assert!(put.status.success(), "a put failed: {}", text(&put.stderr));
                writes.fetch_add(1, Ordering::Relaxed);
            }
        });
        for index in 0..node_count {
            mesh.nodes[index].kill();
            mesh.nodes[index].restart();
            mesh.wait_for_nodes(node_count);
        }
        done.store(true, Ordering::Relaxed);
        reading.join().expect("no read failed");
        writing.join().expect("no put failed");
    });
    let (reads, writes) = (reads.into_inner(), writes.into_inner());
    println!(
        "{node_count} nodes restarted one by one: {reads} reads and {writes} puts meanwhile, none failed"
    );
    assert!(reads > 0 && writes > 0);
}

fn get(client: &Path, id: &str, out: &Path) -> Value {
    json(client, &["get", "--force", id, out.to_str().expect("UTF-8")]).remove(0)
}

fn ratio(part: u64, whole: u64) -> f64 {
    let precise = |number: u64| f64::from(u32::try_from(number >> 10).unwrap_or(u32::MAX).max(1));
    if whole < 1 << 20 { precise(part << 10) / precise(whole << 10) } else { precise(part) / precise(whole) }
}
