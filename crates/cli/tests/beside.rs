//! A gateway beside a node: one process serves both, over one network, and ends both.

mod support;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::gateway::{AccessKey, Gateway};
use support::objects::wait_until;
use support::{Mesh, Random, failure, field, import_key, json};

/// How soon a gateway must know what another one of the same owner has acknowledged.
const SEEN_WITHIN: Duration = Duration::from_secs(30);
/// How soon a gateway must serve when the nodes are there that it waited for.
const SERVES_WITHIN: Duration = Duration::from_secs(90);

/// Gives a node's home the identity of the client.
fn share_identity(mesh: &Mesh, home: &Path) {
    let secret = json(&mesh.client, &["keys", "export"]).remove(0);
    import_key(home, field(&secret, "secret"));
}

fn file(mesh: &Mesh, size: u64) -> (PathBuf, Vec<u8>) {
    let path = mesh.path("file");
    Random(29).file(&path, size);
    let bytes = fs::read(&path).expect("it was written");
    (path, bytes)
}

fn answers(endpoint: &str) -> bool {
    TcpStream::connect(endpoint.strip_prefix("http://").expect("an endpoint")).is_ok()
}

#[test]
fn one_process_serves_both_and_ends_both() {
    let mut mesh = Mesh::start(2);
    let key = AccessKey::new(&mesh.client, &["*=own"]);
    let home = mesh.path("with-gateway");
    share_identity(&mesh, &home);
    let entry = mesh.nodes[0].address.clone();
    let words = ["service", "--bootstrap", &entry, "--listen", "/ip4/127.0.0.1/tcp/0", "--capacity", "20GiB"];
    let rest = ["--domain", "here/home/host-2", "--gateway", "127.0.0.1:0"];
    let node = mesh.start_node(&home, &[&words[..], &rest[..]].concat());
    let gateway = Gateway::beside(&node, key.clone());
    mesh.nodes.push(node);
    mesh.wait_for_nodes(3);
    let peers = json(&mesh.client, &["peers"]);
    assert_eq!(peers.len(), 3, "the gateway is no node of its own: {peers:?}");

    let (path, bytes) = file(&mesh, 3_000_017);
    assert_eq!(gateway.make_bucket("photos"), "200");
    assert_eq!(gateway.signed("/photos/one", Some(&path)).0, "200");
    assert!(gateway.signed("/photos/one", None) == ("200".to_owned(), bytes.clone()), "other bytes");
    let other = Gateway::start_with(&mesh.client, key);
    let seen = || other.signed("/photos/one", None) == ("200".to_owned(), bytes.clone());
    wait_until("another gateway gives it", SEEN_WITHIN, seen);
    let metrics = gateway.run("curl", &["--silent", &format!("{}/metrics", gateway.endpoint)]);
    assert!(
        metrics.contains("datamesh_store_items") && metrics.contains("datamesh_cache_lookups"),
        "{metrics}"
    );

    assert!(answers(&gateway.endpoint), "the control");
    let status = mesh.nodes.pop().expect("three").stop();
    assert!(status.success(), "{status}");
    assert!(!answers(&gateway.endpoint), "the gateway ended with its node");
}

#[test]
fn an_address_that_is_taken_is_named_and_no_node_is_started() {
    let mesh = Mesh::empty();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let home = mesh.path("node");
    let words = ["bootstrap", "--listen", "/ip4/127.0.0.1/tcp/0", "--gateway", &address];
    let error = failure(&home, &words, 1);
    assert!(field(&error, "message").contains(&address), "{error}");
    assert!(field(&error, "hint").contains("--gateway"), "{error}");
    assert!(!home.join("node").exists(), "there is a node");
}

#[test]
fn a_setting_gives_a_node_a_gateway_which_waits_for_the_mesh() {
    let mut mesh = Mesh::start(3);
    let key = AccessKey::new(&mesh.client, &["*=own"]);
    let home = mesh.nodes[0].home.clone();
    share_identity(&mesh, &home);
    assert!(mesh.nodes[0].said["gateway"].is_null(), "the control: nothing says that there be one");
    json(&home, &["config", "set", "gateway.with_node", "on"]);
    json(&home, &["config", "set", "gateway.listen", "127.0.0.1:0"]);
    assert!(mesh.nodes[0].stop().success());
    mesh.nodes[1..].iter_mut().for_each(support::Node::kill);
    // It serves as a node though nobody else is there.
    mesh.nodes[0].restart();
    let gateway = Gateway::beside(&mesh.nodes[0], key);
    mesh.nodes[1..].iter_mut().for_each(support::Node::restart);
    mesh.wait_for_nodes(3);
    let healthy = format!("{}/healthz", gateway.endpoint);
    gateway
        .run("curl", &["--silent", "--fail", "--max-time", &SERVES_WITHIN.as_secs().to_string(), &healthy]);
    wait_until("it knows the key", SEEN_WITHIN, || gateway.make_bucket("photos") == "200");
    let (path, bytes) = file(&mesh, 100_003);
    assert_eq!(gateway.signed("/photos/one", Some(&path)).0, "200");
    assert!(gateway.signed("/photos/one", None) == ("200".to_owned(), bytes), "other bytes");
}

#[test]
fn a_gateway_beside_a_node_puts_for_no_owner_whom_nodes_would_refuse() {
    let mut mesh = Mesh::start_restricted();
    let founder = mesh.nodes[0].home.clone();
    let authority = field(&json(&founder, &["init"])[0], "owner").to_owned();
    let address = mesh.nodes[0].address.clone();
    let join = |home: &Path| json(home, &["join", &address, "--authority", &authority]);
    join(&founder);
    let owner = field(&json(&mesh.client, &["init"])[0], "owner").to_owned();
    join(&mesh.client);
    json(&founder, &["admit", "owner", &owner]);

    let home = mesh.path("with-gateway");
    share_identity(&mesh, &home);
    let words = ["service", "--listen", "/ip4/127.0.0.1/tcp/0", "--bootstrap", &address];
    let rest = ["--authority", &authority, "--domain", "here/home/host-1", "--gateway", "127.0.0.1:0"];
    let words = [&words[..], &rest[..]].concat();
    // Who is refused is told how it is called.
    let refused = failure(&home, &words, 5);
    let peer = field(&refused, "hint").split([' ', ',']).find(|word| word.starts_with("12D3"));
    json(&founder, &["admit", "node", peer.expect("the hint names it")]);
    let node = mesh.start_node(&home, &words);
    mesh.nodes.push(node);
    mesh.wait_for_nodes(2);
    let key = AccessKey::new(&mesh.client, &["*=own"]);
    let gateway = Gateway::beside(&mesh.nodes[1], key);
    let (path, _) = file(&mesh, 100_003);
    let takes = || gateway.signed("/photos/one", Some(&path)).0 == "200";
    wait_until("it knows the key", SEEN_WITHIN, || gateway.make_bucket("photos") == "200");
    assert!(takes(), "the control: its owner is admitted without a quota");

    // Each of these reaches the node in a while.
    json(&founder, &["admit", "owner", &owner, "--quota", "1GB"]);
    wait_until("it takes nothing for an owner with a quota", SEEN_WITHIN, || !takes());
    json(&founder, &["admit", "owner", &owner]);
    wait_until("it takes for one without", SEEN_WITHIN, takes);
    json(&founder, &["admit", "revoke", &owner]);
    wait_until("it takes nothing for one who is admitted no more", SEEN_WITHIN, || !takes());
}
