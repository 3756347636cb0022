//! What nodes can see: nothing of the plaintext, the name or the key; and what deduplicates with what.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use support::{Mesh, Random, field, files_below, json};

const NAME: &str = "minutes-of-the-secret-meeting";
const MARK: &[u8] = b"attack at dawn, by the northern gate";

/// The shard ids of an object.
fn shards(home: &Path, object: &str) -> BTreeSet<String> {
    let info = json(home, &["info", object]);
    let stripes = info[0]["stripes"].as_array().expect("stripes").iter();
    let shards = stripes.flat_map(|stripe| stripe["shards"].as_array().expect("shards"));
    shards.map(|shard| field(shard, "shard").to_owned()).collect()
}

fn put(home: &Path, file: &Path, mode: &str) -> serde_json::Value {
    let file = file.to_str().expect("a path in UTF-8");
    json(home, &["put", "--mode", mode, "--name", NAME, file]).remove(0)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The files of a home in which a text occurs.
fn finds(home: &Path, needle: &[u8]) -> Vec<String> {
    let files = files_below(home).into_iter();
    let matching = files.filter(|file| contains(&fs::read(home.join(file)).expect("readable"), needle));
    matching.map(|file| file.display().to_string()).collect()
}

fn marked_file(path: &Path, seed: u64) {
    let mut bytes = MARK.repeat(2000);
    bytes.extend_from_slice(&Random(seed).bytes(3 << 20));
    bytes.extend_from_slice(&MARK.repeat(2000));
    fs::write(path, bytes).expect("a file can be written");
}

#[test]
fn no_node_has_anything_of_the_plaintext_the_name_or_the_key() {
    let mesh = Mesh::start(6);
    let file = mesh.path("file");
    marked_file(&file, 1);
    let small = mesh.path("small");
    fs::write(&small, MARK).expect("a file can be written");
    for mode in ["sealed", "dedup"] {
        put(&mesh.client, &file, mode);
        put(&mesh.client, &small, mode);
    }
    let secret = json(&mesh.client, &["keys", "export"]);
    let secret = field(&secret[0], "secret");
    for node in &mesh.nodes {
        for needle in [MARK, NAME.as_bytes(), secret.as_bytes()] {
            assert_eq!(finds(&node.home, needle), Vec::<String>::new(), "{}", node.peer_id);
        }
    }
    // The search itself works: what is public is found.
    let public = json(
        &mesh.client,
        &["put", "--mode", "public", "--compression", "none", small.to_str().expect("UTF-8")],
    );
    assert_eq!(field(&public[0], "acknowledged"), "whole");
    assert!(
        mesh.nodes.iter().any(|node| !finds(&node.home, MARK).is_empty()),
        "a public file is in the clear"
    );
}

#[test]
fn what_shares_shards_is_what_the_mode_says() {
    let mesh = Mesh::start(6);
    let file = mesh.path("file");
    marked_file(&file, 2);
    let stranger = mesh.path("stranger");
    json(&stranger, &["join", &mesh.nodes[0].address]);

    let twice = |mode: &str| {
        let ids = [put(&mesh.client, &file, mode), put(&mesh.client, &file, mode)];
        ids.map(|put| shards(&mesh.client, field(&put, "object")))
    };
    let [first, second] = twice("sealed");
    assert!(
        first.len() >= 18 && first.is_disjoint(&second),
        "sealed: {} shards shared",
        first.intersection(&second).count()
    );
    let [first, second] = twice("dedup");
    assert_eq!(first, second, "dedup");
    let theirs = put(&stranger, &file, "dedup");
    let theirs = shards(&stranger, field(&theirs, "object"));
    assert!(theirs.len() >= 6 && theirs.is_disjoint(&first), "dedup under another owner");
    let [first, second] = twice("public");
    assert_eq!(first, second, "public");
    let theirs = put(&stranger, &file, "public");
    assert_eq!(shards(&stranger, field(&theirs, "object")), first, "public under another owner");
}

#[test]
fn nobody_reads_without_the_key_and_a_recipient_reads_with_theirs() {
    let mesh = Mesh::start(6);
    let file = mesh.path("file");
    marked_file(&file, 3);
    let (friend, stranger) = (mesh.path("friend"), mesh.path("stranger"));
    for home in [&friend, &stranger] {
        json(home, &["join", &mesh.nodes[0].address]);
    }
    let keys = json(&friend, &["keys", "list"]);
    let recipient = field(&keys[0], "recipient");
    let file_text = file.to_str().expect("UTF-8");
    let put = json(&mesh.client, &["put", "--to", recipient, file_text]).remove(0);
    let object = field(&put, "object");

    let out = mesh.path("out");
    let out_text = out.to_str().expect("UTF-8");
    let error = support::failure(&stranger, &["get", object, out_text], 5);
    assert!(!out.exists(), "{error}");
    json(&friend, &["get", object, out_text]);
    assert!(support::same_bytes(&file, &out));
}
