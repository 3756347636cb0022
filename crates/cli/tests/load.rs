//! What benchmarks alone use: a client that loads nodes, and nodes that lose what they are given.

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use support::{Mesh, Random, datamesh, failure, field, json};

const USAGE: i32 = 2;

#[test]
fn a_load_fetches_whole_shards_and_counts_what_fails() {
    let mut mesh = Mesh::start(1);
    let file = mesh.path("file");
    Random(1).file(&file, 4 << 20);
    json(&mesh.client, &["put", "--scheme", "1+0", "--name", "file", file.to_str().expect("UTF-8")]);
    let load = ["bench-fetch", "file", "--at-once", "4", "--for", "500ms"];
    let seen = json(&mesh.client, &load).remove(0);
    let count = seen["transfer_count"].as_u64().expect("a count");
    assert!(count >= 4, "{seen}");
    assert_eq!(seen["failure_count"], 0, "{seen}");
    // Random bytes don't compress: each shard is a chunk of 1 MiB and what sealing adds.
    assert!(seen["size"].as_u64().expect("a size") >= count << 20, "{seen}");
    mesh.nodes[0].kill();
    let output = support::run(&mesh.client, &load);
    assert!(!output.status.success(), "nobody is there to load");
}

#[test]
fn a_node_for_benchmarks_loses_shards_and_says_so() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (home, client, file) =
        (directory.path().join("node"), directory.path().join("client"), directory.path().join("file"));
    let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let mut command = datamesh(&home);
    command.args(["--json", "bootstrap", "--listen", "/ip4/127.0.0.1/tcp/0", "--until-stdin-ends"]);
    command.arg("--lose-shards-for-benchmark");
    let mut node = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    BufReader::new(node.stdout.take().expect("piped")).read_line(&mut line).expect("it says where it serves");
    let serving: serde_json::Value = serde_json::from_str(&line).expect("it serves");
    json(&client, &["join", serving["addresses"][0].as_str().expect("an address")]);

    Random(2).file(&file, 1 << 20);
    let put = json(&client, &["put", "--scheme", "1+0", &text(&file)]).remove(0);
    assert_eq!(field(&put, "acknowledged"), "whole");
    let held = json(&client, &["peers"]).remove(0);
    assert!(held["used"].as_u64().expect("a size") < 64 << 10, "blocks alone: {held}");
    let out = text(&directory.path().join("out"));
    assert!(!support::run(&client, &["get", field(&put, "object"), &out]).status.success(), "it is lost");

    drop(node.stdin.take());
    let said = support::text(&node.wait_with_output().expect("it ends").stderr);
    assert!(said.contains("throws away every shard"), "{said}");
}

#[test]
fn a_node_that_others_can_reach_never_loses_shards() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let lose = "--lose-shards-for-benchmark";
    for listen in ["/ip4/0.0.0.0/tcp/0", "/ip4/10.0.0.1/tcp/0", "/ip6/::/tcp/0"] {
        let error = failure(directory.path(), &["bootstrap", lose, "--listen", listen], USAGE);
        assert!(field(&error, "message").contains("loopback"), "{error}");
    }
    let beside = ["--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/0.0.0.0/tcp/0"];
    failure(directory.path(), &[&["bootstrap", lose][..], &beside].concat(), USAGE);
    // Without addresses it would listen on every interface.
    assert_eq!(support::run(directory.path(), &["bootstrap", lose]).status.code(), Some(USAGE));
}
