//! Archival nodes over real servers: an S3-compatible one and Redis, each killed and started again under them.

mod support;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::{Mesh, Node, Random, failure, field, files_below, json, run, same_bytes, text};

const STORAGE_NODES: usize = 5;
const FILES: usize = 6;
const FILE_SIZE: u64 = 3 << 20;
/// Files behind those that are looked at: what was stored last stays on the own disk.
const FILLERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(120);
const SECRET: &str = "a-secret-that-nobody-sees";

/// Which server a backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    S3,
    Redis,
}

/// A backend's server, which the test starts, kills and starts again.
struct Server {
    kind: Kind,
    port: u16,
    folder: PathBuf,
    child: Option<Child>,
}

impl Server {
    fn start(kind: Kind, folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("it has one").port();
        drop(free);
        let mut server = Self { kind, port, folder: folder.to_owned(), child: None };
        server.begin();
        server
    }

    fn begin(&mut self) {
        let port = self.port.to_string();
        let mut command = match self.kind {
            Kind::S3 => {
                let mut command = Command::new(s3_server());
                command.arg(&port).arg(&self.folder).args(["key", SECRET, "bucket"]);
                command
            }
            Kind::Redis => {
                let mut command = Command::new("redis-server");
                command.args(["--port", &port, "--bind", "127.0.0.1", "--requirepass", SECRET, "--dir"]);
                // It answers once the disk has it.
                command.arg(&self.folder).args([
                    "--save",
                    "",
                    "--appendonly",
                    "yes",
                    "--appendfsync",
                    "always",
                ]);
                command
            }
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("the {:?} server: {error}", self.kind)));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the {:?} server does not answer", self.kind);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// `kill -9`.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
    }

    fn url(&self) -> String {
        match self.kind {
            Kind::S3 => format!("s3://bucket/archive/one?endpoint=http://127.0.0.1:{}", self.port),
            Kind::Redis => format!("redis://127.0.0.1:{}/0", self.port),
        }
    }

    fn secrets(&self) -> String {
        match self.kind {
            Kind::S3 => format!("access_key = \"key\"\nsecret_key = \"{SECRET}\"\n"),
            Kind::Redis => format!("password = \"{SECRET}\"\n"),
        }
    }

    /// Objects that are segments, counted at the server itself.
    fn segment_count(&self) -> usize {
        match self.kind {
            Kind::S3 => {
                let files = files_below(&self.folder.join("bucket"));
                let name = |file: &PathBuf| file.file_name().map(|name| name.to_string_lossy().into_owned());
                files.iter().filter_map(name).filter(|name| name.starts_with("segment-")).count()
            }
            Kind::Redis => {
                let output = Command::new("redis-cli")
                    .args([
                        "-p",
                        &self.port.to_string(),
                        "-a",
                        SECRET,
                        "--no-auth-warning",
                        "keys",
                        "*segment-*",
                    ])
                    .output()
                    .expect("redis-cli runs");
                text(&output.stdout).lines().filter(|line| !line.is_empty()).count()
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Built with the tests, beside them.
fn s3_server() -> PathBuf {
    let test = std::env::current_exe().expect("it has a path");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    folder.join("examples").join("s3_server")
}

/// A metric of a node.
fn metric(mesh: &Mesh, node: &str, name: &str, label: Option<&str>) -> u64 {
    let samples = json(&mesh.client, &["metrics", node]);
    let labelled = |sample: &serde_json::Value| {
        label.is_none_or(|label| {
            sample["labels"].as_object().is_some_and(|all| all.values().any(|value| value == label))
        })
    };
    let found = samples.iter().find(|sample| sample["metric"] == name && labelled(sample));
    found.unwrap_or_else(|| panic!("{name} is not told: {samples:?}"))["value"].as_u64().expect("a count")
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// A mesh of storage nodes and one archival node over a server.
struct Tiers {
    mesh: Mesh,
    server: Server,
    archival: Node,
    files: Vec<(PathBuf, String)>,
}

impl Tiers {
    fn start(kind: Kind) -> Self {
        let mesh = Mesh::start_with(STORAGE_NODES, &[("storage.collect_every", "1s")]);
        let server = Server::start(kind, &mesh.path("server"));
        let home = mesh.path("archival");
        let secrets = home.join("secrets");
        for (key, value) in [
            ("backend.secrets", "secrets"),
            ("backend.segment_size", "256KiB"),
            ("backend.local", "16MiB"),
            ("storage.collect_every", "1s"),
        ] {
            json(&home, &["config", "set", key, value]);
        }
        fs::write(&secrets, server.secrets()).expect("written");
        fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).expect("nobody else reads it");
        let url = server.url();
        let words =
            ["service", "--bootstrap", &mesh.nodes[0].address, "--role", "archival", "--backend", &url];
        let rest = [
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--capacity",
            "20GiB",
            "--domain",
            "here/home/archive",
            "-vv",
        ];
        let arguments = words.iter().chain(&rest).map(ToString::to_string).collect();
        let archival = Node::start(home, arguments, Vec::new());
        mesh.wait_for_nodes(STORAGE_NODES + 1);
        Self { mesh, server, archival, files: Vec::new() }
    }

    /// Puts files one after another, so that each closes segments.
    fn put_files(&mut self) {
        let mut random = Random(91);
        for index in 0..FILES + FILLERS {
            let path = self.mesh.path(&format!("file {index}"));
            random.file(&path, FILE_SIZE);
            let put =
                json(&self.mesh.client, &["put", "--scheme", "4+2", path.to_str().expect("UTF-8")]).remove(0);
            assert_eq!(field(&put, "acknowledged"), "whole");
            self.files.push((path, field(&put, "object").to_owned()));
        }
    }

    fn metric(&self, name: &str, label: Option<&str>) -> u64 {
        metric(&self.mesh, &self.archival.peer_id, name, label)
    }

    fn wait_for_moves(&self) {
        wait("segments don't move", || self.metric("datamesh_backend_segments", Some("local")) <= 3);
        assert!(self.metric("datamesh_backend_segments", Some("backend")) >= 6);
    }

    /// Takes two storage nodes away or brings them back: without them each stripe needs the archival node.
    fn kill_two(&mut self) {
        self.mesh.nodes[3..].iter_mut().for_each(Node::kill);
    }

    fn restart_two(&mut self) {
        self.mesh.nodes[3..].iter_mut().for_each(Node::restart);
        self.mesh.wait_for_nodes(STORAGE_NODES + 1);
    }

    fn get_files(&self, what: &str) {
        for (path, object) in &self.files[..FILES] {
            let out = self.mesh.path("out");
            json(&self.mesh.client, &["get", "--force", object, out.to_str().expect("UTF-8")]);
            assert!(same_bytes(path, &out), "{what}: {object}");
        }
    }

    fn restart_archival(&mut self) {
        self.archival.kill();
        self.archival.restart();
        wait("the archival node is not seen", || {
            json(&self.mesh.client, &["metrics"])
                .iter()
                .any(|sample| sample["node"] == self.archival.peer_id.as_str())
        });
    }
}

/// Stores, serves, restarts, loses its server for a while and its disk for good, and gives space back.
fn a_life_of_an_archival_node(kind: Kind) {
    let mut tiers = Tiers::start(kind);
    tiers.put_files();
    tiers.wait_for_moves();
    let moved = tiers.server.segment_count();
    assert!(moved >= 6, "{moved} segments are at the server");

    tiers.kill_two();
    let before = tiers.metric("datamesh_backend_bytes", Some("received"));
    tiers.get_files("from the server");
    let read = tiers.metric("datamesh_backend_bytes", Some("received")) - before;
    assert!(read > FILE_SIZE / 4, "{read} bytes were read from the server");
    tiers.restart_archival();
    tiers.get_files("after a restart");

    tiers.server.kill();
    let object = tiers.files[0].1.clone();
    let out = tiers.mesh.path("out");
    failure(&tiers.mesh.client, &["get", "--force", &object, out.to_str().expect("UTF-8")], 4);
    assert_eq!(tiers.metric("datamesh_backend_away", None), 1, "it says so");
    tiers.restart_two();
    tiers.get_files("from the others, the server away");
    tiers.restart_archival();
    tiers.get_files("the node started without its server");
    tiers.server.begin();
    tiers.kill_two();
    wait("the node does not find its server again", || {
        let output = run(&tiers.mesh.client, &["get", "--force", &object, out.to_str().expect("UTF-8")]);
        output.status.success()
    });
    tiers.get_files("the server is back");

    tiers.archival.kill();
    fs::remove_dir_all(tiers.archival.home.join("node").join("items")).expect("its disk is lost");
    tiers.restart_archival();
    tiers.get_files("the own disk was lost");

    tiers.restart_two();
    for (_, object) in &tiers.files {
        json(&tiers.mesh.client, &["delete", object]);
    }
    wait("the server keeps what nobody wants", || tiers.server.segment_count() <= 1);

    let log = fs::read_to_string(tiers.archival.home.with_extension("log")).expect("it logs");
    assert!(!log.is_empty() && !log.contains(SECRET), "the secret is in the log");
}

#[test]
fn an_archival_node_keeps_its_items_on_an_s3_compatible_server() {
    a_life_of_an_archival_node(Kind::S3);
}

#[test]
fn an_archival_node_keeps_its_items_on_a_redis_server() {
    a_life_of_an_archival_node(Kind::Redis);
}

#[test]
fn a_backend_is_refused_that_can_not_be_used() {
    let directory = tempfile::tempdir().expect("a directory");
    let home = directory.path().join("home");
    let start = |words: &[&str]| {
        let listen = ["--listen", "/ip4/127.0.0.1/tcp/0"];
        let words: Vec<&str> = ["bootstrap"].iter().chain(&listen).chain(words).copied().collect();
        let output = run(&home, &words);
        (output.status.code(), text(&output.stderr))
    };
    let folder = format!("file://{}", directory.path().join("backend").display());
    let (code, said) = start(&["--role", "cache", "--backend", &folder]);
    assert!(code == Some(2) && said.contains("role cache"), "{said}");
    let (code, said) = start(&["--role", "archival", "--backend", "s3://bucket/prefix"]);
    assert!(code == Some(2) && said.contains("region"), "{said}");
    let (code, said) = start(&["--role", "archival", "--backend", "redis://:hush@127.0.0.1/0"]);
    assert!(code == Some(2) && said.contains("environment"), "{said}");
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = format!("redis://127.0.0.1:{}/0", free.local_addr().expect("it has one").port());
    drop(free);
    let (code, said) = start(&["--role", "archival", "--backend", &nobody]);
    assert!(code == Some(7) && said.contains("backend"), "{said}");
}
