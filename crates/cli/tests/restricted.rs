//! A restricted mesh of real processes: its founder admits nodes and owners, and takes that back.

mod support;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use support::{Mesh, Random, failure, field, json, same_bytes};

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// The owner id of a home's identity, which is made if there is none.
fn owner(home: &Path) -> String {
    field(&json(home, &["init"])[0], "owner").to_owned()
}

fn file(mesh: &Mesh, number: u64, size: u64) -> PathBuf {
    let path = mesh.path(&format!("file-{number}"));
    Random(number).file(&path, size);
    path
}

#[test]
fn nodes_and_owners_are_in_once_they_are_admitted_and_out_once_they_are_not() {
    let mesh = Mesh::start_restricted();
    let founder = mesh.nodes[0].home.clone();
    let authority = owner(&founder);
    let join = |home: &Path| json(home, &["join", &mesh.nodes[0].address, "--authority", &authority]);
    join(&founder);

    // A node that nobody has admitted is told which one it is and what to do.
    let second = mesh.path("second");
    let service = [
        "service",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--bootstrap",
        &mesh.nodes[0].address,
        "--authority",
        &authority,
        "--domain",
        "here/home/host-1",
    ];
    let error = failure(&second, &service, 5);
    let hint = field(&error, "hint");
    let peer = hint
        .split(' ')
        .find(|word| word.starts_with("12D3"))
        .expect("the hint names it")
        .trim_end_matches(',');
    json(&founder, &["admit", "node", peer]);
    let started = mesh.start_node(&second, &service);
    let begun = Instant::now();
    while json(&founder, &["peers"]).len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is not in");
        thread::sleep(Duration::from_millis(200));
    }

    // So is an owner; and a quota holds over the whole mesh.
    let client = mesh.path("someone");
    let someone = owner(&client);
    join(&client);
    let small = file(&mesh, 1, 1 << 20);
    let error = failure(&client, &["put", path_text(&small)], 5);
    assert!(field(&error, "message").contains("admitted"), "{error}");
    assert!(field(&error, "hint").contains("datamesh admit owner"), "{error}");
    json(&founder, &["admit", "owner", &someone, "--quota", "10MB"]);
    let put = json(&client, &["put", path_text(&small), "--keep", "30d"]).remove(0);
    let large = file(&mesh, 2, 30 << 20);
    let error = failure(&client, &["put", path_text(&large)], 6);
    assert!(field(&error, "message").contains("bytes on this node"), "{error}");
    json(&founder, &["put", path_text(&large)]);

    let listed = json(&founder, &["admit", "list"]);
    assert_eq!(listed.len(), 4, "two nodes, two owners: {listed:?}");
    json(&founder, &["admit", "revoke", &someone]);
    failure(&client, &["put", path_text(&small)], 5);
    failure(&client, &["renew", field(&put, "object"), "--keep", "60d"], 5);
    // What it put before stays, can be read by whoever has the key, and deleted.
    json(&client, &["get", field(&put, "object"), path_text(&mesh.path("out"))]);
    assert!(same_bytes(&small, &mesh.path("out")));
    json(&client, &["delete", field(&put, "object")]);
    failure(&founder, &["admit", "owner", &someone, "--until", "2020-01-01"], 2);
    let error = failure(&client, &["admit", "owner", &someone], 5);
    assert!(field(&error, "message").contains("no authority"), "{error}");
    json(&founder, &["admit", "revoke", peer]);
    let begun = Instant::now();
    while json(&founder, &["peers"]).len() > 1 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is still in");
        thread::sleep(Duration::from_millis(200));
    }
    drop(started);

    // Whoever names no authority, or another, is of another mesh.
    let stranger = mesh.path("stranger");
    json(&stranger, &["join", &mesh.nodes[0].address]);
    let error = failure(&stranger, &["peers"], 5);
    assert!(field(&error, "hint").contains("--authority"), "{error}");
}

#[test]
fn a_mesh_that_is_private_and_restricted_wants_its_secret_and_its_authorities() {
    let mut mesh = Mesh::empty();
    let home = mesh.path("founder");
    let authority = owner(&home);
    let words = ["bootstrap", "--private", "--restricted", "--listen", "/ip4/127.0.0.1/tcp/0"];
    mesh.nodes.push(mesh.start_node(&home, &words));
    let (address, secret) = (mesh.nodes[0].address.clone(), home.join("node/mesh-secret"));
    let (by, file) = (["--authority", &authority], ["--mesh-secret-file", path_text(&secret)]);
    let joined = |name: &str, told: &[&[&str]]| {
        let client = mesh.path(name);
        json(&client, &[&["join", &address][..], &told.concat()].concat());
        client
    };
    for (name, told) in [("one", vec![&by[..]]), ("other", vec![&file[..]]), ("neither", vec![])] {
        failure(&joined(name, &told), &["peers"], 5);
    }
    let client = joined("both", &[&by, &file]);
    assert_eq!(json(&client, &["peers"]).len(), 1);
    let networks = json(&client, &["networks"]);
    assert!(networks.iter().any(|network| network["kind"] == "private-restricted"), "{networks:?}");

    // Started again it is what it was, whether it is told so or not.
    for words in [&words[..], &["bootstrap", "--listen", "/ip4/127.0.0.1/tcp/0"]] {
        mesh.nodes[0].kill();
        mesh.nodes[0] = mesh.start_node(&home, words);
        let client = mesh.path("both");
        json(&client, &["join", &mesh.nodes[0].address]);
        json(&client, &[&["join", &mesh.nodes[0].address][..], &by, &file].concat());
        assert_eq!(json(&client, &["admit", "list"]).len(), 2);
    }
}

#[test]
fn an_authority_whose_key_reaches_no_mesh_admits_by_a_file() {
    let mut mesh = Mesh::empty();
    let (vault, client, roll) = (mesh.path("vault"), mesh.path("someone"), mesh.path("roll"));
    let (authority, someone, roll) = (owner(&vault), owner(&client), path_text(&roll).to_owned());
    let node = mesh.start_node(
        &mesh.path("first"),
        &["bootstrap", "--authority", &authority, "--listen", "/ip4/127.0.0.1/tcp/0"],
    );
    let address = node.address.clone();
    let peer = address.rsplit('/').next().expect("it ends in the peer id").to_owned();
    mesh.nodes.push(node);
    json(&client, &["join", &address, "--authority", &authority]);

    // Nobody is admitted yet, the first node neither. The vault signs, and reaches nobody for it.
    assert!(json(&client, &["peers"]).is_empty());
    json(&vault, &["admit", "node", &peer, "--roll", &roll]);
    let before = std::fs::read(&roll).expect("there");
    json(&vault, &["admit", "owner", &someone, "--roll", &roll, "--until", "2100-01-01"]);
    assert_eq!(json(&vault, &["admit", "list", "--roll", &roll]).len(), 2);
    let error = failure(&client, &["admit", "node", &peer, "--roll", &roll], 2);
    assert!(field(&error, "hint").contains(&authority), "{error}");

    // Whoever has the file can tell the mesh of it, and not of an older one after that.
    let published = json(&client, &["admit", "publish", &roll]).remove(0);
    assert_eq!((published["admissions"].as_u64(), published["nodes_told"].as_u64()), (Some(2), Some(1)));
    assert_eq!(json(&client, &["peers"]).len(), 1);
    assert_eq!(json(&client, &["admit", "list"]), json(&vault, &["admit", "list", "--roll", &roll]));
    json(&client, &["admit", "publish", &roll]);
    std::fs::write(&roll, before).expect("writes");
    let error = failure(&client, &["admit", "publish", &roll], 2);
    assert!(field(&error, "message").contains("newer roll"), "{error}");
    assert_eq!(json(&client, &["admit", "list"]).len(), 2);

    std::fs::write(&roll, "datamesh roll v2").expect("writes");
    failure(&client, &["admit", "publish", &roll], 2);
    failure(&client, &["admit", "publish", "/no/such/roll"], 3);
}
