//! A mesh whose participants all have one latency map places by it, and one that has none does not.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datamesh_core::id::{ObjectId, PlacementGroup};
use datamesh_engine::ring::latency::LatencyMap;
use datamesh_engine::ring::{Member, Ring, RingSettings};
use support::{Mesh, Random, datamesh, failure, field, json, number, same_bytes};

/// Nodes, each at a site of its own; the sites are near each other in pairs.
const NODES: usize = 6;
/// Small objects, whose manifest block is all that there is of them: with 1+1 it belongs to the first two of its group.
const OBJECTS: u64 = 48;
const MAP: &str = "\
# Round trips in milliseconds.
[here]
here = 80

[\"here/site-0\"]
\"here/site-1\" = 2
[\"here/site-2\"]
\"here/site-3\" = 2
[\"here/site-5\"]
\"here/site-4\" = 2
";

/// Starts the nodes, or starts them again as their homes say by now.
fn start(mesh: &mut Mesh) {
    mesh.nodes.clear();
    for number in 0..NODES {
        let domain = format!("here/site-{number}/host");
        let entry = mesh.nodes.first().map(|node| node.address.clone());
        let begin = entry.as_ref().map_or(vec!["bootstrap"], |entry| vec!["service", "--bootstrap", entry]);
        let rest = ["--listen", "/ip4/127.0.0.1/tcp/0", "--capacity", "20GiB", "--domain", &domain];
        let node = mesh.start_node(&mesh.path(&format!("node-{number}")), &[begin, rest.to_vec()].concat());
        mesh.nodes.push(node);
    }
    json(&mesh.client, &["join", "--name", "mesh", &mesh.nodes[0].address]);
    mesh.wait_for_nodes(NODES);
}

/// The nodes as the client knows them.
fn members(mesh: &Mesh) -> Vec<Member> {
    let member = |peer: serde_json::Value| Member {
        node: field(&peer, "peer_id").parse().expect("a peer id"),
        weight: NonZeroU64::new(number(&peer, "capacity")).expect("it offers something"),
        domain: field(&peer, "domain").parse().expect("a domain"),
    };
    json(&mesh.client, &["peers"]).into_iter().map(member).collect()
}

fn latency_map() -> LatencyMap {
    let place = |text: &str| text.parse().expect("a place");
    let sites =
        |one: u32, other: u32| (place(&format!("here/site-{one}")), place(&format!("here/site-{other}")), 2);
    let pairs = [sites(0, 1), sites(2, 3), sites(4, 5), (place("here"), place("here"), 80)];
    LatencyMap::new(pairs).expect("a map")
}

/// Puts small objects, and says who holds the manifest block of each.
fn placed(mesh: &Mesh, seed: u64) -> Vec<(PlacementGroup, BTreeSet<String>)> {
    let mut random = Random(seed);
    let files: Vec<PathBuf> = (0..OBJECTS)
        .map(|index| {
            let path = mesh.path(&format!("small-{seed}-{index}"));
            random.file(&path, 100 + index);
            path
        })
        .collect();
    let mut words = vec!["put", "--scheme", "1+1"];
    words.extend(files.iter().map(|file| file.to_str().expect("UTF-8")));
    let holders = |put: serde_json::Value| {
        let info = json(&mesh.client, &["info", field(&put, "object")]).remove(0);
        let blocks = info["manifest"].as_array().expect("blocks");
        assert_eq!(blocks.len(), 1, "{info}");
        let block = field(&blocks[0], "block").parse::<ObjectId>().expect("an id").root();
        let nodes = blocks[0]["nodes"].as_array().expect("nodes").iter();
        let nodes: BTreeSet<String> = nodes.map(|node| node.as_str().expect("an id").to_owned()).collect();
        assert_eq!(nodes.len(), 2, "{info}");
        (PlacementGroup::of_block(&block), nodes)
    };
    json(&mesh.client, &words).into_iter().map(holders).collect()
}

/// How many of these lie where a ring says.
fn as_by(ring: &Ring, placed: &[(PlacementGroup, BTreeSet<String>)]) -> usize {
    let said =
        |group| -> BTreeSet<String> { ring.order(group).take(2).map(|node| node.to_string()).collect() };
    placed.iter().filter(|(group, nodes)| said(*group) == *nodes).count()
}

/// Whose digests of maps `metrics` shows.
fn digests(mesh: &Mesh) -> Vec<(String, String)> {
    let samples = json(&mesh.client, &["metrics"]).into_iter();
    let of_placement = samples.filter(|sample| field(sample, "metric") == "datamesh_placement_info");
    of_placement
        .map(|sample| (field(&sample, "node").to_owned(), field(&sample["labels"], "latency_map").to_owned()))
        .collect()
}

fn set_map(home: &Path) {
    fs::write(home.join("map.toml"), MAP).expect("written");
    json(home, &["config", "set", "placement.latency_map", "map.toml"]);
}

#[test]
fn a_mesh_with_a_latency_map_places_by_it_and_one_without_does_not() {
    let mut mesh = Mesh::empty();
    start(&mut mesh);
    json(&mesh.client, &["config", "set", "cache.capacity", "0B"]);
    let large = mesh.path("large");
    Random(5).file(&large, 5 << 20);
    let large_put = json(&mesh.client, &["put", "--scheme", "4+2", large.to_str().expect("UTF-8")]).remove(0);
    let members = members(&mesh);
    assert_eq!(members.len(), NODES);
    let plain = Ring::build(members.clone(), RingSettings::default());
    let near = Ring::build_near(members, RingSettings::default(), Arc::new(latency_map()));

    let control = placed(&mesh, 11);
    assert_eq!(as_by(&plain, &control), control.len(), "without a map");
    let by_chance = as_by(&near, &control);
    assert!(by_chance < control.len() / 2, "{by_chance} lie near without a map");
    assert!(digests(&mesh).iter().all(|(_, digest)| digest == "none"), "{:?}", digests(&mesh));

    (0..NODES).for_each(|number| set_map(&mesh.path(&format!("node-{number}"))));
    start(&mut mesh);
    // A client that was not given the map can be told by its digest, and places as before.
    let expected = latency_map().digest().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let told = digests(&mesh);
    assert_eq!(told.len(), NODES + 1, "{told:?}");
    for (node, digest) in &told {
        assert_eq!(digest, if node == "client" { "none" } else { &expected }, "{node}");
    }
    set_map(&mesh.client);
    assert!(digests(&mesh).iter().all(|(_, digest)| *digest == expected), "{:?}", digests(&mesh));

    let nearby = placed(&mesh, 12);
    assert_eq!(as_by(&near, &nearby), nearby.len(), "with the map");
    let by_chance = as_by(&plain, &nearby);
    assert!(by_chance < nearby.len() / 2, "{by_chance} lie as without a map");
    println!("{} blocks lie by the map, {by_chance} of them as without it", nearby.len());

    let out = mesh.path("out");
    json(&mesh.client, &["get", field(&large_put, "object"), out.to_str().expect("UTF-8")]);
    assert!(same_bytes(&large, &out), "what was put before there was a map comes back");
}

#[test]
fn a_file_that_is_no_map_is_named_with_its_line() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = directory.path().join("home");
    json(&home, &["config", "set", "placement.latency_map", "map.toml"]);
    let missing = failure(&home, &["health"], 1);
    assert!(field(&missing, "message").contains("map.toml can't be read"), "{missing}");
    fs::write(home.join("map.toml"), "[eu]\nus = 90.5\n").expect("written");
    for words in [["service", "--port=0"], ["bootstrap", "--port=0"], ["put", "x"], ["list", "-q"]] {
        let mut command = datamesh(&home);
        let output = command.args(words).output().expect("it runs");
        let stderr = support::text(&output.stderr);
        if words[0] == "list" {
            assert!(output.status.success(), "the control: what places nothing needs no map: {stderr}");
            continue;
        }
        assert_eq!(output.status.code(), Some(2), "{words:?}: {stderr}");
        assert!(stderr.contains("map.toml:2: `us` is a float"), "{stderr}");
    }
    fs::write(home.join("map.toml"), MAP).expect("written");
    json(&home, &["health"]);
}
