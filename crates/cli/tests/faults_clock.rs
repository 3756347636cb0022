//! Nodes whose clocks are years off: they serve, nothing is lost, and once their clocks are right they belong to the mesh again.

mod support;

use std::thread;
use std::time::Duration;

use support::clock::clock_off;
use support::objects::{Objects, metric, wait_until};
use support::{Mesh, json};

const NODES: usize = 7;
const MIB: u64 = 1 << 20;
const WITHIN: Duration = Duration::from_secs(90);
const HASTY: [(&str, &str); 5] = [
    ("repair.check_every", "1s"),
    ("repair.settle", "1s"),
    ("placement.grace", "5s"),
    ("storage.collect_every", "1s"),
    ("storage.free_floor", "0B"),
];

fn restart_with_clock(mesh: &mut Mesh, index: usize, wrapper: Vec<String>) {
    mesh.nodes[index].kill();
    mesh.nodes[index].wrapper = wrapper;
    mesh.nodes[index].restart();
}

/// Whether a client sees a node as one that may be given shards.
fn is_active(mesh: &Mesh, index: usize) -> bool {
    let peers = json(&mesh.client, &["peers"]);
    let own = peers.iter().find(|peer| peer["peer_id"] == mesh.nodes[index].peer_id.as_str());
    own.is_some_and(|peer| peer["state"] == "active" && peer["item_count"].is_u64())
}

fn items(mesh: &Mesh, index: usize) -> u64 {
    metric(mesh, index, "datamesh_store_items", &[])
}

fn survive(off: [&str; 2], seed: u64) {
    let mut mesh = Mesh::start_with(NODES, &HASTY);
    let mut objects = Objects::new(seed);
    objects.put_whole(&mesh, 6, 2 * MIB);
    let before = items(&mesh, 2);
    assert!(before > 0);
    for (index, by) in [2, 5].into_iter().zip(off) {
        restart_with_clock(&mut mesh, index, clock_off(by));
    }
    // Longer than the grace, and several rounds of repair and of collections by the wrong clocks.
    thread::sleep(Duration::from_secs(12));
    objects.read_back(&mesh);
    // What is put meanwhile is acknowledged by whoever takes it.
    objects.put(&mesh, MIB);
    objects.read_back(&mesh);
    // The others don't need those two.
    for index in [2, 5] {
        mesh.nodes[index].kill();
    }
    objects.read_back(&mesh);
    for index in [2, 5] {
        mesh.nodes[index].wrapper = Vec::new();
        mesh.nodes[index].restart();
    }
    let took = wait_until("both are active again", WITHIN, || is_active(&mesh, 2) && is_active(&mesh, 5));
    println!("{off:?}: active again {:.1} s after their clocks were right", took.as_secs_f64());
    objects.wait_until_whole(&mesh, "with right clocks", WITHIN);
    wait_until("they are given shards again", WITHIN, || items(&mesh, 2) > 0 && items(&mesh, 5) > 0);
    objects.read_back(&mesh);
}

#[test]
fn clocks_that_are_years_ahead_lose_nothing() {
    survive(["+5y", "+9y"], 121);
}

#[test]
fn clocks_that_are_years_behind_lose_nothing() {
    survive(["-5y", "-9y"], 122);
}
