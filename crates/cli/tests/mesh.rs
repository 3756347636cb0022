//! The main job over a real mesh: files go in, nodes die, the same files come out.

mod support;

use std::fs;
use std::path::Path;

use support::{Mesh, Random, failure, field, files_below, import_key, json, run, same_bytes, scaled, text};

const MIB: u64 = 1 << 20;

/// Bytes of the large file: 1 GiB in the long form.
fn large() -> u64 {
    scaled(48 * MIB, 1024 * MIB)
}

fn put(mesh: &Mesh, arguments: &[&str]) -> serde_json::Value {
    let arguments: Vec<&str> = ["put"].iter().chain(arguments).copied().collect();
    json(&mesh.client, &arguments).remove(0)
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// The unpacked source tree of a big crate: the largest that the package cache has.
fn big_source_tree() -> std::path::PathBuf {
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(
        || Path::new(&std::env::var_os("HOME").expect("a home")).join(".cargo"),
        std::path::PathBuf::from,
    );
    let sources = cargo_home.join("registry/src");
    let registries = fs::read_dir(&sources).expect("the dependencies were unpacked to build this test");
    let mut crates: Vec<std::path::PathBuf> = registries
        .flat_map(|registry| fs::read_dir(registry.expect("an entry").path()).expect("it lists"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.file_name().is_some_and(|name| text(name.as_encoded_bytes()).starts_with("libp2p-"))
        })
        .collect();
    crates.sort_by_key(|path| files_below(path).len());
    crates.pop().expect("libp2p is a dependency")
}

fn same_tree(left: &Path, right: &Path) {
    let files = files_below(left);
    assert_eq!(files, files_below(right));
    assert!(files.len() > 20, "{} is no big tree", left.display());
    for file in &files {
        assert!(same_bytes(&left.join(file), &right.join(file)), "{} differs", file.display());
    }
}

/// Puts a large file and a source tree, kills nodes for good, and gets both: with the client that put them, and with one
/// that knows nothing but an address, the ids and the key.
fn survives(node_count: usize, kill_count: usize, scheme: &str) {
    let mut mesh = Mesh::start(node_count);
    let mut random = Random(u64::try_from(node_count).expect("small"));
    let file = mesh.path("large");
    random.file(&file, large());
    let tree = big_source_tree();

    let large = put(&mesh, &[path_text(&file)]);
    assert_eq!(field(&large, "acknowledged"), "whole", "{large}");
    assert_eq!(field(&large, "scheme"), scheme, "{large}");
    let folder = put(&mesh, &["-r", path_text(&tree)]);
    assert_eq!(field(&folder, "acknowledged"), "whole", "{folder}");

    // The bootstrap node stores too, but a stranger needs one address that answers.
    let mut victims = Vec::new();
    while victims.len() < kill_count {
        let victim =
            1 + usize::try_from(random.below(u64::try_from(node_count).expect("small") - 1)).expect("small");
        if !victims.contains(&victim) {
            mesh.nodes[victim].kill();
            victims.push(victim);
        }
    }

    let out = mesh.path("out");
    json(&mesh.client, &["get", field(&large, "object"), path_text(&out)]);
    assert!(same_bytes(&file, &out), "the large file differs");
    let out_tree = mesh.path("out-tree");
    json(&mesh.client, &["get", field(&folder, "object"), path_text(&out_tree)]);
    same_tree(&tree, &out_tree);

    let stranger = mesh.path("stranger");
    let key = json(&mesh.client, &["keys", "export"]);
    import_key(&stranger, field(&key[0], "secret"));
    json(&stranger, &["join", &mesh.nodes[0].address]);
    let out = mesh.path("out-stranger");
    json(&stranger, &["get", field(&large, "object"), path_text(&out)]);
    assert!(same_bytes(&file, &out), "the stranger's file differs");
    println!(
        "{scheme} on {node_count} nodes: {kill_count} killed, {} bytes and a tree came back",
        large["size"]
    );
}

#[test]
fn the_default_scheme_survives_any_two_of_seven_nodes_killed() {
    survives(7, 2, "4+2");
}

#[test]
fn ten_plus_six_survives_any_six_of_sixteen_nodes_killed() {
    survives(16, 6, "10+6");
}

#[test]
fn one_node_more_than_the_scheme_survives_is_a_typed_error() {
    let mut mesh = Mesh::start(6);
    let file = mesh.path("file");
    Random(1).file(&file, 3 * MIB);
    let put = put(&mesh, &[path_text(&file)]);
    for node in &mut mesh.nodes[1..4] {
        node.kill();
    }
    let out = mesh.path("out");
    let error = failure(&mesh.client, &["get", field(&put, "object"), path_text(&out)], 4);
    assert!(field(&error, "message").contains("can't be reached"), "{error}");
    assert!(!out.exists(), "a half file lies under the final name");
}

#[test]
fn a_put_goes_on_with_a_node_down_and_says_that_it_is_degraded() {
    let mut mesh = Mesh::start(6);
    mesh.nodes[3].kill();
    let file = mesh.path("file");
    Random(2).file(&file, 5 * MIB);
    let put = put(&mesh, &["--scheme", "4+2", path_text(&file)]);
    assert_eq!(field(&put, "acknowledged"), "degraded", "{put}");

    mesh.nodes[3].restart();
    mesh.wait_for_nodes(6);
    let repaired = json(&mesh.client, &["repair", field(&put, "object")]);
    assert!(repaired[0]["shards_repaired"].as_u64().is_some_and(|count| count > 0), "{repaired:?}");
    let verified = json(&mesh.client, &["verify", field(&put, "object")]);
    assert_eq!(verified[0]["score"], 1.0, "{verified:?}");
}

#[test]
fn a_restarted_node_has_its_identity_and_its_shards() {
    let mut mesh = Mesh::start(6);
    let file = mesh.path("file");
    Random(3).file(&file, 3 * MIB);
    let put = put(&mesh, &[path_text(&file)]);
    let before: Vec<String> = mesh.nodes.iter().map(|node| node.peer_id.clone()).collect();
    for node in &mut mesh.nodes {
        node.kill();
    }
    for node in &mut mesh.nodes {
        node.restart();
    }
    let after: Vec<String> = mesh.nodes.iter().map(|node| node.peer_id.clone()).collect();
    assert_eq!(before, after);
    mesh.wait_for_nodes(6);
    let verified = json(&mesh.client, &["verify", "--deep", field(&put, "object")]);
    assert_eq!(verified[0]["score"], 1.0, "{verified:?}");
}

#[test]
fn an_unknown_object_is_not_found() {
    let mesh = Mesh::start(2);
    let unknown = "bafyr4i".to_owned() + &"a".repeat(52);
    let error = failure(&mesh.client, &["get", &unknown, "-"], 3);
    assert_eq!(field(&error, "kind"), "not-found", "{error}");
}

#[test]
fn a_mesh_that_does_not_answer_is_unreachable() {
    let mut mesh = Mesh::start(2);
    for node in &mut mesh.nodes {
        node.kill();
    }
    let output = run(&mesh.client, &["peers"]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
}
