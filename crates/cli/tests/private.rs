//! A private mesh of real processes: its secret is handed on as a file, by the environment or on standard input.

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use support::{Mesh, Random, datamesh, failure, field, json, run, same_bytes, text};

const VARIABLE: &str = "DATAMESH_MESH_SECRET";

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// A command line that finds the secret in the environment.
fn succeeds_with(home: &Path, secret: &str, arguments: &[&str]) {
    let output = datamesh(home).args(arguments).env(VARIABLE, secret).output().expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
}

#[test]
fn a_private_mesh_serves_who_has_its_secret_and_refuses_everybody_else() {
    let mesh = Mesh::start_private(4);
    let secret_file = mesh.nodes[0].home.join("node/mesh-secret");
    let secret = fs::read_to_string(&secret_file).expect("the founder keeps it");
    let secret = secret.trim();
    assert!(secret.starts_with("datamesh-mesh-1"));

    let (file, out) = (mesh.path("file"), mesh.path("out"));
    Random(1).file(&file, 3 << 20);
    let put = json(&mesh.client, &["put", path_text(&file)]).remove(0);
    assert_eq!(field(&put, "acknowledged"), "whole", "{put}");
    json(&mesh.client, &["get", field(&put, "object"), path_text(&out)]);
    assert!(same_bytes(&file, &out));
    let networks = json(&mesh.client, &["networks"]);
    assert!(networks.iter().any(|network| network["kind"] == "private"), "{networks:?}");

    // Without the secret nothing is learned, with another one neither; the error says what to do.
    let stranger = mesh.path("stranger");
    json(&stranger, &["join", &mesh.nodes[0].address]);
    for arguments in [&["peers"][..], &["get", field(&put, "object"), "-"]] {
        let error = failure(&stranger, arguments, 5);
        assert!(field(&error, "message").contains("of another mesh"), "{error}");
        assert!(field(&error, "hint").contains("--mesh-secret-file"), "{error}");
    }
    let other = mesh.path("other");
    let founded = Mesh::start_private(1);
    let wrong = founded.nodes[0].home.join("node/mesh-secret");
    json(&other, &["join", &mesh.nodes[0].address, "--mesh-secret-file", path_text(&wrong)]);
    failure(&other, &["peers"], 5);
    let error = failure(
        &other,
        &["service", "--listen", "/ip4/127.0.0.1/tcp/0", "--bootstrap", &mesh.nodes[0].address],
        5,
    );
    assert!(field(&error, "hint").contains("secret"), "{error}");

    // What was refused for a wrong secret is in with the right one, by any way but an argument.
    succeeds_with(&other, secret, &["join", &mesh.nodes[0].address]);
    json(&other, &["peers"]);
    let mut piped = datamesh(&stranger);
    piped.args(["join", &mesh.nodes[0].address, "--mesh-secret-file", "-"]).stdin(Stdio::piped());
    let mut child = piped.stdout(Stdio::null()).spawn().expect("it runs");
    child.stdin.take().expect("piped").write_all(secret.as_bytes()).expect("written");
    assert!(child.wait().expect("waited for").success());
    json(&stranger, &["peers"]);
    let shown = run(&stranger, &["networks"]);
    assert!(!text(&shown.stdout).contains(secret), "a secret is not shown");
    let argument = run(&stranger, &["join", &mesh.nodes[0].address, "--mesh-secret-file", secret]);
    assert!(!argument.status.success(), "a secret is no file");
}

#[test]
fn a_node_keeps_to_its_mesh_when_it_is_restarted() {
    let mut mesh = Mesh::start_private(2);
    for node in &mut mesh.nodes {
        node.kill();
        node.restart();
    }
    mesh.wait_for_nodes(2);
    // The founder's home has a private mesh: it takes no other secret.
    mesh.nodes[0].kill();
    let home = mesh.nodes[0].home.clone();
    let founded = Mesh::start_private(1);
    let other = founded.nodes[0].home.join("node/mesh-secret");
    let words = ["bootstrap", "--listen", "/ip4/127.0.0.1/tcp/0", "--mesh-secret-file", path_text(&other)];
    let error = failure(&home, &words, 5);
    assert!(field(&error, "message").contains("one with another secret"), "{error}");

    let mut open = Mesh::start(1);
    let home = open.nodes[0].home.clone();
    open.nodes[0].kill();
    let error = failure(&home, &["bootstrap", "--private", "--listen", "/ip4/127.0.0.1/tcp/0"], 5);
    assert!(field(&error, "message").contains("an open mesh"), "{error}");
    assert!(field(&error, "hint").contains("--home"), "{error}");
}
