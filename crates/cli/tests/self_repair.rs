//! The mesh keeps its objects whole by itself: nodes are lost for good, come and go, and no client runs.

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use support::{Mesh, Random, field, json, number, same_bytes};

const MIB: u64 = 1 << 20;
const NODES: usize = 8;
const GRACE: &str = "5s";
/// How soon a small mesh must be whole again.
const WHOLE_WITHIN: Duration = Duration::from_secs(90);

/// What a node of these tests is told: to notice and to repair within seconds.
const HASTY: [(&str, &str); 3] =
    [("placement.grace", GRACE), ("repair.check_every", "1s"), ("repair.settle", "2s")];

/// Starts a mesh and puts files into it. Says what was put.
fn mesh_with_files(file_count: usize) -> (Mesh, Vec<(std::path::PathBuf, String)>) {
    let mesh = Mesh::start_with(NODES, &HASTY);
    let mut random = Random(71);
    let files = (0..file_count).map(|index| {
        let path = mesh.path(&format!("file {index}"));
        // Some travel inside their manifest block.
        let size = if index % 4 == 3 { 20_000 } else { 3 * MIB + random.below(3 * MIB) };
        random.file(&path, size);
        let put = json(&mesh.client, &["put", "--scheme", "4+2", path.to_str().expect("UTF-8")]).remove(0);
        assert_eq!(field(&put, "acknowledged"), "whole");
        (path, field(&put, "object").to_owned())
    });
    let files = files.collect();
    (mesh, files)
}

/// Whether every shard and replica of an object is there, on as many nodes as it was put on.
fn is_whole(mesh: &Mesh, object: &str) -> bool {
    let verified = json(&mesh.client, &["verify", "--deep", object]).remove(0);
    verified["score"].as_f64().expect("a number") >= 1.0
}

fn wait_until_whole(mesh: &Mesh, files: &[(std::path::PathBuf, String)], what: &str) {
    let begun = Instant::now();
    let mut short: Vec<&str> = files.iter().map(|(_, object)| object.as_str()).collect();
    while !short.is_empty() {
        assert!(begun.elapsed() < WHOLE_WITHIN, "{what}: {} of {} not whole", short.len(), files.len());
        thread::sleep(Duration::from_millis(500));
        short.retain(|object| !is_whole(mesh, object));
    }
    println!("{what}: whole again after {:.1} s", begun.elapsed().as_secs_f64());
}

fn get(mesh: &Mesh, file: &Path, object: &str) {
    let out = mesh.path("out");
    json(&mesh.client, &["get", "--force", object, out.to_str().expect("UTF-8")]);
    assert!(same_bytes(file, &out), "{object}");
}

#[test]
fn nodes_lost_for_good_are_made_up_for_and_then_two_more_may_go() {
    let (mut mesh, files) = mesh_with_files(8);
    for _ in 0..2 {
        let mut lost = mesh.nodes.pop().expect("eight");
        lost.kill();
        fs::remove_dir_all(&lost.home).expect("its disk is gone");
    }
    assert!(!files.iter().all(|(_, object)| is_whole(&mesh, object)), "the lost nodes held parts of them");
    wait_until_whole(&mesh, &files, "two nodes lost");
    for node in &mut mesh.nodes[1..3] {
        node.kill();
    }
    files.iter().for_each(|(path, object)| get(&mesh, path, object));
}

#[test]
fn a_node_that_lost_its_disk_gets_it_filled_again() {
    let (mut mesh, files) = mesh_with_files(4);
    let node = &mut mesh.nodes[3];
    node.kill();
    let items =
        support::files_below(&node.home).into_iter().filter(|file| file.to_string_lossy().contains("items"));
    items.for_each(|file| fs::remove_file(node.home.join(file)).expect("removed"));
    node.restart();
    mesh.wait_for_nodes(NODES);
    wait_until_whole(&mesh, &files, "a disk lost");
    files.iter().for_each(|(path, object)| get(&mesh, path, object));
}

#[test]
fn what_is_deleted_stays_deleted() {
    let (mut mesh, files) = mesh_with_files(2);
    // It is away when the owner says so, and must be told when it is back.
    mesh.nodes[5].kill();
    let deleted = support::run(&mesh.client, &["delete", &files[0].1]);
    let warnings = support::text(&deleted.stderr);
    assert!(deleted.status.success() && warnings.contains("1 nodes were away"), "{warnings}");
    mesh.nodes[5].restart();
    mesh.wait_for_nodes(NODES);
    let used = |mesh: &Mesh| number(&json(&mesh.client, &["health"])[0], "used");
    let size = fs::metadata(&files[1].0).expect("there").len();
    let most = size * 3 / 2 + 200_000;
    assert!(used(&mesh) > most, "the node that was away still keeps what it has");
    let begun = Instant::now();
    while used(&mesh) > most {
        assert!(begun.elapsed() < WHOLE_WITHIN, "{} bytes are kept, of {size} put", used(&mesh));
        thread::sleep(Duration::from_millis(500));
    }
    wait_until_whole(&mesh, &files[1..], "the other object");
    get(&mesh, &files[1].0, &files[1].1);
}

#[test]
fn what_rots_on_a_disk_is_found_by_the_node_itself_and_made_again() {
    let (mut mesh, files) = mesh_with_files(4);
    let (scrubbed, control) = (2, 5);
    json(&mesh.nodes[scrubbed].home, &["config", "set", "storage.scrub_period", "5s"]);
    mesh.nodes[scrubbed].kill();
    mesh.nodes[scrubbed].restart();
    mesh.wait_for_nodes(NODES);
    // While they run: what a node has not written itself it reads whole when it starts after a crash.
    let mut random = Random(72);
    for index in [scrubbed, control] {
        let home = mesh.nodes[index].home.clone();
        let files = support::files_below(&home).into_iter();
        for segment in files.filter(|file| file.to_string_lossy().contains("segment-")) {
            flip_bits(&home.join(segment), 20, &mut random);
        }
    }
    let rotten = |mesh: &Mesh, index: usize| {
        let samples = json(&mesh.client, &["metrics", &mesh.nodes[index].peer_id]);
        let sample =
            samples.iter().find(|sample| sample["metric"] == "datamesh_scrub_rotten").expect("it is told");
        number(sample, "value")
    };
    let begun = Instant::now();
    while rotten(&mesh, scrubbed) == 0 {
        assert!(begun.elapsed() < WHOLE_WITHIN, "the rot is not found");
        thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(rotten(&mesh, control), 0, "a node that reads its items within a month has not come to these");
    wait_until_whole(&mesh, &files, "rot found by a scrub or a look from outside");
    files.iter().for_each(|(path, object)| get(&mesh, path, object));
}

#[test]
fn a_node_that_drains_gives_all_away_and_remembers_to_when_it_is_restarted() {
    let (mut mesh, files) = mesh_with_files(4);
    support::failure(&mesh.client, &["node", "drain"], 3);
    let leaving = mesh.nodes[4].home.clone();
    assert_eq!(field(&json(&leaving, &["node", "drain"])[0], "state"), "draining");
    mesh.nodes[4].kill();
    mesh.nodes[4].restart();
    let peer = |mesh: &Mesh| {
        let peers = json(&mesh.client, &["peers"]);
        let own = |peer: &serde_json::Value| field(peer, "peer_id") == mesh.nodes[4].peer_id;
        peers.into_iter().find(own).expect("it is known")
    };
    let begun = Instant::now();
    while field(&peer(&mesh), "state") != "draining" || peer(&mesh)["item_count"] != 0 {
        assert!(begun.elapsed() < WHOLE_WITHIN, "{}", peer(&mesh));
        thread::sleep(Duration::from_millis(500));
    }
    println!("drained after {:.1} s", begun.elapsed().as_secs_f64());
    mesh.nodes[4].kill();
    wait_until_whole(&mesh, &files, "without the node that drained");
    mesh.nodes[4].restart();
    assert_eq!(field(&json(&leaving, &["node", "activate"])[0], "state"), "active");
    let begun = Instant::now();
    while peer(&mesh)["item_count"] == 0 || peer(&mesh)["item_count"].is_null() {
        assert!(begun.elapsed() < WHOLE_WITHIN, "it is given nothing: {}", peer(&mesh));
        thread::sleep(Duration::from_millis(500));
    }
    wait_until_whole(&mesh, &files, "with the node again");
    files.iter().for_each(|(path, object)| get(&mesh, path, object));
}

/// Turns so many bits of a segment, anywhere behind its header.
fn flip_bits(path: &Path, count: u64, random: &mut Random) {
    let file = fs::File::options().read(true).write(true).open(path).expect("it opens");
    let size = file.metadata().expect("there").len();
    for _ in 0..count {
        let at = 96 + random.below(size - 96);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("readable");
        byte[0] ^= 1 << random.below(8);
        file.write_all_at(&byte, at).expect("written");
    }
}
