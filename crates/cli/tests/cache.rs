//! The cache and the metrics of real processes: what was got twice needs no holders any more, and the numbers say so.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::gateway::Gateway;
use support::objects::wait_until;
use support::{Mesh, Node, Random, datamesh, failure, field, json, run, same_bytes, text};

const MIB: u64 = 1 << 20;
/// Clients that get one object, one after another.
const READERS: u32 = 50;

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// The value of a metric that one participant tells, with these labels.
fn value(samples: &[Value], node: &str, metric: &str, labels: &[(&str, &str)]) -> f64 {
    let found = samples.iter().find(|sample| {
        sample["node"] == node
            && sample["metric"] == metric
            && labels.iter().all(|(name, value)| sample["labels"][name] == *value)
    });
    let found = found.unwrap_or_else(|| panic!("{node} does not tell {metric} {labels:?}"));
    found["value"].as_f64().expect("a number")
}

fn get(home: &Path, object: &str, out: &Path) {
    json(home, &["get", "--force", object, path_text(out)]);
}

/// A home that can read what the client of a mesh put, and has nothing else from it.
fn stranger(mesh: &Mesh, name: &str) -> std::path::PathBuf {
    let home = mesh.path(name);
    let secret = json(&mesh.client, &["keys", "export"]);
    let mut command: Command = datamesh(&home);
    command.args(["keys", "import", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let mut input = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, field(&secret[0], "secret").as_bytes()).expect("written");
    drop(input);
    assert!(child.wait().expect("waited for").success(), "the key was not imported");
    json(&home, &["join", &mesh.nodes[0].address]);
    home
}

#[test]
fn what_was_got_twice_is_read_from_the_cache_with_the_holders_gone() {
    let mut mesh = Mesh::start(6);
    let (file, out) = (mesh.path("file"), mesh.path("out"));
    Random(1).file(&file, 5 * MIB);
    let put = json(&mesh.client, &["put", path_text(&file)]).remove(0);
    let object = field(&put, "object");
    json(&mesh.client, &["config", "set", "cache.capacity", "1GB"]);
    let without = stranger(&mesh, "without");
    json(&without, &["config", "set", "cache.capacity", "0B"]);
    for home in [&mesh.client, &without] {
        get(home, object, &out);
        get(home, object, &out);
    }
    let samples = json(&mesh.client, &["metrics"]);
    let hits = |samples: &[Value]| value(samples, "client", "datamesh_cache_lookups", &[("outcome", "hit")]);
    assert!(hits(&samples) < 1.0, "the first get writes nothing, the second what the third will find");
    assert!(value(&samples, "client", "datamesh_cache_used_bytes", &[]) > 5_000_000.0);

    for node in &mut mesh.nodes[1..5] {
        node.kill();
    }
    get(&mesh.client, object, &out);
    assert!(same_bytes(&file, &out), "what came from the cache differs");
    let samples = json(&mesh.client, &["metrics"]);
    assert!(hits(&samples) >= 5.0, "five chunks and the manifest");
    assert!(value(&samples, "client", "datamesh_cache_hit_ratio", &[]) > 0.2);
    assert_eq!(
        field(&failure(&without, &["get", "--force", object, path_text(&out)], 4), "kind"),
        "not-enough"
    );

    // A cache node over the same cache serves it to whoever asks: to the one that has none itself.
    let mut command = datamesh(&mesh.client);
    command.args(["--json", "service", "--role", "cache", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--until-stdin-ends", "--bootstrap", &mesh.nodes[0].address]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("the program starts");
    mesh.wait_for_nodes(3);
    std::fs::remove_file(&out).expect("it was written");
    get(&without, object, &out);
    assert!(same_bytes(&file, &out), "what came from the cache node differs");
    drop(child.stdin.take());
    child.wait().expect("it stops");
}

#[test]
fn every_node_tells_its_metrics_and_the_totals_of_the_client_add_up() {
    let mut mesh = Mesh::start(6);
    let (file, out) = (mesh.path("file"), mesh.path("out"));
    Random(2).file(&file, 3 * MIB);
    let put = json(&mesh.client, &["put", path_text(&file)]).remove(0);
    let stored_size = put["stored_size"].as_f64().expect("a size");
    let sent = [("direction", "sent")];
    let samples = json(&mesh.client, &["metrics"]);
    assert!((value(&samples, "client", "datamesh_item_bytes", &sent) - stored_size).abs() < 1.0);
    get(&mesh.client, field(&put, "object"), &out);
    let samples = json(&mesh.client, &["metrics"]);
    let got = value(&samples, "client", "datamesh_item_bytes", &[("direction", "received")]);
    assert!(got > 3_000_000.0, "{got}");
    assert!((value(&samples, "client", "datamesh_item_success_ratio", &[]) - 1.0).abs() < 1e-9);
    let mut received = 0.0;
    for node in &mesh.nodes {
        let id = node.peer_id.as_str();
        received += value(&samples, id, "datamesh_request_item_bytes", &[("direction", "received")]);
        assert!(value(&samples, id, "datamesh_store_items", &[]) >= 3.0);
        assert!(value(&samples, id, "datamesh_network_bytes", &sent) > 0.0);
        let stores = [("request", "store"), ("outcome", "answered")];
        assert!(value(&samples, id, "datamesh_requests", &stores) >= 3.0);
        assert!(value(&samples, "client", "datamesh_peer_reliability_ratio", &[("peer", id)]) > 0.99);
    }
    assert!((received - stored_size).abs() < 1.0, "{received} of {stored_size}");

    let id = mesh.nodes[2].peer_id.clone();
    let one = run(&mesh.client, &["metrics", &id]);
    let one = text(&one.stdout);
    assert!(
        one.contains(&format!("datamesh_store_full{{node=\"{id}\"}} 0")) && one.ends_with("# EOF\n"),
        "{one}"
    );
    assert!(!one.contains("client") && !one.contains(&mesh.nodes[3].peer_id), "{one}");

    let bandwidth = json(&mesh.client, &["bandwidth"]);
    assert_eq!(bandwidth.len(), 7);
    let total = bandwidth.last().expect("the total comes last");
    assert!(total["peer_id"].is_null() && total["sent"].as_f64() == Some(stored_size), "{total}");
    assert!(bandwidth.iter().all(|row| row["up_bytes_per_second"].is_f64()), "{bandwidth:?}");

    // Who shares them with nobody says so, and the others are still told.
    mesh.nodes[2].kill();
    json(&mesh.nodes[2].home, &["config", "set", "metrics.share", "nobody"]);
    mesh.nodes[2].restart();
    mesh.wait_for_nodes(6);
    assert_eq!(field(&failure(&mesh.client, &["metrics", &id], 5), "kind"), "denied");
    let samples = json(&mesh.client, &["metrics"]);
    assert!(samples.iter().all(|sample| sample["node"] != id.as_str()));
    assert!(value(&samples, &mesh.nodes[3].peer_id, "datamesh_store_items", &[]) >= 3.0);
}

/// Bytes of items that the nodes that hold them have sent to others.
fn sent_by_holders(mesh: &Mesh) -> f64 {
    let samples = json(&mesh.client, &["metrics"]);
    let sent =
        |node: &Node| value(&samples, &node.peer_id, "datamesh_request_item_bytes", &[("direction", "sent")]);
    mesh.nodes.iter().map(sent).sum()
}

/// A client that has joined the mesh and knows nothing else.
fn fresh_client(mesh: &Mesh, number: u32) -> std::path::PathBuf {
    let home = mesh.path(&format!("reader-{number}"));
    std::fs::create_dir_all(&home).expect("a folder");
    for name in ["networks.toml", "config.toml", "keys.toml"] {
        std::fs::copy(mesh.client.join(name), home.join(name)).expect("the client has it");
    }
    home
}

#[test]
fn a_cache_node_pulls_what_is_popular_and_relieves_the_holders() {
    let mesh = Mesh::start(6);
    let (file, out) = (mesh.path("file"), mesh.path("out"));
    Random(3).file(&file, 8 * MIB);
    let put = json(&mesh.client, &["put", path_text(&file)]).remove(0);
    let object = field(&put, "object");
    let read = |number: u32| {
        let home = fresh_client(&mesh, number);
        get(&home, object, &out);
        assert!(same_bytes(&file, &out));
        std::fs::remove_dir_all(home).expect("removed");
    };
    // Without a cache node, each reader costs the holders the whole object.
    let before = sent_by_holders(&mesh);
    (0..5).for_each(read);
    let each = (sent_by_holders(&mesh) - before) / 5.0;
    assert!(each > 8.0e6, "{each} bytes for each reader");

    let home = mesh.path("cache-node");
    let capacity = 20_000_000.0;
    json(&home, &["config", "set", "cache.capacity", "20MB"]);
    let words = ["service", "--role", "cache", "--listen", "/ip4/127.0.0.1/tcp/0", "--bootstrap"];
    let entry = [mesh.nodes[0].address.as_str()];
    let words = words.iter().chain(&entry).map(ToString::to_string);
    let cache = Node::start(home, words.collect(), Vec::new());
    mesh.wait_for_nodes(7);
    let before = sent_by_holders(&mesh);
    (0..READERS).for_each(read);
    let share = (sent_by_holders(&mesh) - before) / (each * f64::from(READERS));
    println!(
        "{READERS} readers cost the holders {:.1} % of what they would without a cache node",
        share * 100.0
    );
    assert!(share < 0.2, "{share}");
    let told = |metric: &str, labels: &[(&str, &str)]| {
        value(&json(&mesh.client, &["metrics"]), &cache.peer_id, metric, labels)
    };
    let pulled = told("datamesh_cache_pulls", &[("outcome", "succeeded")]);
    assert!((8.0..=9.0).contains(&pulled), "{pulled} stripes were pulled, each once");

    // What is popular next takes the place of what was.
    for seed in 4..7 {
        Random(seed).file(&file, 6 * MIB);
        let put = json(&mesh.client, &["put", path_text(&file)]).remove(0);
        for _ in 0..4 {
            get(&mesh.client, field(&put, "object"), &out);
        }
    }
    assert!(same_bytes(&file, &out));
    let used = told("datamesh_cache_used_bytes", &[]);
    assert!(used > capacity / 2.0 && used <= capacity, "{used} of {capacity}");
    assert!(told("datamesh_cache_removals", &[("reason", "evicted")]) > 0.0);
}

/// The value of a metric that a gateway tells.
fn told_by(gateway: &Gateway, sample: &str) -> f64 {
    let metrics = gateway.run("curl", &["--silent", "--fail", &format!("{}/metrics", gateway.endpoint)]);
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample));
    let line = line.unwrap_or_else(|| panic!("no {sample} in\n{metrics}"));
    line.trim().parse().expect("a number")
}

#[test]
fn what_is_put_in_a_cold_storage_class_is_kept_by_no_cache() {
    let mesh = Mesh::start(6);
    let home = mesh.path("cache-node");
    let words = ["service", "--role", "cache", "--listen", "/ip4/127.0.0.1/tcp/0", "--bootstrap"];
    let words = words.iter().chain(&[mesh.nodes[0].address.as_str()]).map(ToString::to_string).collect();
    let cache = Node::start(home, words, Vec::new());
    mesh.wait_for_nodes(7);
    json(&mesh.client, &["config", "set", "cache.capacity", "1GB"]);
    let gateway = Gateway::start(&mesh.client);
    let file = mesh.path("file");
    Random(8).file(&file, 5 * MIB);
    let stored = std::fs::read(&file).expect("it was written");
    assert_eq!(gateway.make_bucket("classes"), "200");
    let put_and_read = |class: &str| {
        let (path, header) = (format!("/classes/{class}"), format!("x-amz-storage-class: {class}"));
        let upload = ["--header", header.as_str(), "--upload-file", path_text(&file)];
        assert_eq!(gateway.signed_with(&path, &upload).0, "200");
        for _ in 0..4 {
            let (status, read) = gateway.signed(&path, None);
            assert!(status == "200" && read == stored, "{class}: {status}");
        }
    };
    let hits = || told_by(&gateway, "datamesh_cache_lookups_total{outcome=\"hit\"}");
    let kept = || told_by(&gateway, "datamesh_cache_used_bytes");
    let of_cache_node = |metric: &str, label: (&str, &str)| {
        value(&json(&mesh.client, &["metrics"]), &cache.peer_id, metric, &[label])
    };
    // Every stripe that a cache node lacks it is told of, before the get ends.
    let asked = || of_cache_node("datamesh_requests", ("request", "describe"));
    let pulled = || of_cache_node("datamesh_cache_pulls", ("outcome", "succeeded"));
    let before = asked();
    put_and_read("GLACIER_IR");
    assert_eq!([hits(), kept(), asked() - before, pulled()], [0.0; 4], "no cache is asked or told");
    put_and_read("STANDARD_IA");
    assert!(hits() >= 5.0 && kept() > 5e6, "the control: {} hits, {} bytes", hits(), kept());
    assert!(asked() - before >= 5.0, "the control: {} questions", asked() - before);
    wait_until("the cache node has pulled", Duration::from_secs(20), || pulled() > 0.0);
}
