//! A mesh between network namespaces is cut in two for longer than the grace: both sides go on, nothing is lost, and one mesh comes of them again.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use datamesh_core::id::{NodeId, PlacementGroup};
use datamesh_core::lease::Subject;
use datamesh_core::summary::Part;
use datamesh_core::topology::{NodeRecord, NodeState, Role, Topology};
use datamesh_engine::ring::Ring;
use datamesh_engine::world::Items;
use datamesh_node::system::SystemEntropy;
use datamesh_store::disk::Files;
use datamesh_store::{Store, StoreSettings};
use serde_json::Value;
use support::objects::wait_until;
use support::sides::Sides;
use support::{
    Node, Random, datamesh, field, files_below, json_lines, number, same_bytes, scaled, text,
    wait_with_output, wrapped,
};

const LEFT: usize = 0;
const RIGHT: usize = 1;
/// The side of each node: on the right there are too few for a whole put in `2+2`, and just enough for a degraded one.
const NODES: [usize; 8] = [LEFT, RIGHT, LEFT, LEFT, RIGHT, LEFT, RIGHT, LEFT];
const CAPACITY: u64 = 1 << 30;
/// By turns. An object of the first is one block, of which the left puts all: three nodes can hold it whole.
const SIZES: [u64; 4] = [20_000, 300_000, 700_000, 1_500_000];
/// How soon two sides are one mesh again, each part held once: nodes dial a bootstrap node that they have lost every 30 s
/// at the least.
const HEALED_WITHIN: Duration = Duration::from_secs(90);
const WITHIN: Duration = Duration::from_secs(120);
const PAGE: usize = 1000;
/// What has not changed for so long will not: it is several times as long as a node takes from look to look.
const STILL: Duration = Duration::from_secs(4);
const HASTY: [(&str, &str); 6] = [
    ("repair.check_every", "1s"),
    ("repair.settle", "1s"),
    ("placement.grace", "5s"),
    ("storage.collect_every", "1s"),
    ("storage.free_floor", "0B"),
    ("transfer.stall_timeout", "2s"),
];

/// How often the mesh is cut in two and made one again.
fn cut_count() -> usize {
    scaled(1, 5)
}

/// What was put, and what it consists of.
struct Object {
    file: PathBuf,
    id: String,
    subjects: Vec<Subject>,
}

/// Who holds which parts of what, read from the nodes' disks.
type Holdings = BTreeMap<Subject, Vec<(usize, Part)>>;

/// A mesh over both sides, and a client on each.
struct Divided {
    // Before the sides: processes end before their namespaces go.
    nodes: Vec<Node>,
    sides: Sides,
    is_cut: bool,
    clients: [PathBuf; 2],
    directory: tempfile::TempDir,
    random: Random,
    objects: Vec<Object>,
}

impl Divided {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let clients = ["left", "right"].map(|name| directory.path().join(name));
        let (nodes, objects) = Default::default();
        let (sides, random) = (Sides::new(), Random(131));
        let mut mesh = Self { nodes, sides, is_cut: false, clients, directory, random, objects };
        for (number, side) in NODES.into_iter().enumerate() {
            let home = mesh.path(&format!("node-{number}"));
            configure(&home, &HASTY);
            let listen = format!("/ip4/{}/tcp/{}", Sides::address(side), 4100 + number);
            let domain = domain(number);
            let begin = match mesh.nodes.first() {
                None => vec!["bootstrap"],
                Some(first) => vec!["service", "--bootstrap", &first.address],
            };
            let own = ["--listen", &listen, "--capacity", "1GiB", "--domain", &domain];
            let arguments = [&begin[..], &own].concat().into_iter().map(ToOwned::to_owned).collect();
            let node = Node::start_by(home, mesh.sides.on(side), arguments, Vec::new());
            mesh.nodes.push(node);
        }
        for side in [LEFT, RIGHT] {
            // What comes back is to come from the nodes.
            configure(&mesh.clients[side], &[("cache.capacity", "0B"), ("transfer.stall_timeout", "2s")]);
            mesh.client(side, &["join", &mesh.nodes[0].address]);
            wait_until("all nodes are seen", WITHIN, || mesh.is_one(side, NODES.len()));
        }
        mesh
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a client's command on one side.
    fn attempt(&self, side: usize, arguments: &[&str]) -> Output {
        let mut command = datamesh(&self.clients[side]);
        command.arg("--json").args(arguments);
        let mut command = wrapped(&self.sides.on(side), command);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        wait_with_output(child.expect("it starts"), arguments)
    }

    /// The same of one that must succeed.
    fn client(&self, side: usize, arguments: &[&str]) -> Vec<Value> {
        let output = self.attempt(side, arguments);
        assert!(output.status.success(), "side {side}, {arguments:?}: {}", text(&output.stderr));
        json_lines(&output.stdout)
    }

    /// Whether a side sees just so many nodes, and each placement group led by one of them.
    fn is_one(&self, side: usize, node_count: usize) -> bool {
        let health = self.client(side, &["health"]).remove(0);
        let standing = &health["standing"];
        health["nodes_reachable"] == node_count
            && number(standing, "groups_unknown") == 0
            && number(standing, "groups_doubled") == 0
    }

    fn cut(&mut self) {
        self.sides.cut();
        self.is_cut = true;
    }

    fn join(&mut self) {
        self.sides.join();
        self.is_cut = false;
    }

    /// Both clients find every part of everything.
    fn assert_whole(&self) {
        thread::scope(|scope| {
            for (side, object) in
                [LEFT, RIGHT].iter().flat_map(|side| self.objects.iter().map(move |object| (*side, object)))
            {
                scope.spawn(move || {
                    // On a busy machine a node that stalls for a moment counts as one that lacks its part.
                    wait_until("an object is whole", WITHIN, || {
                        let verified = self.client(side, &["verify", "--deep", &object.id]).remove(0);
                        verified["score"].as_f64().is_some_and(|score| score >= 1.0)
                    });
                });
            }
        });
    }

    /// Puts an object that every client can read. Says how it was acknowledged.
    fn put(&mut self, side: usize) -> String {
        let file = self.path(&format!("file {}", self.objects.len()));
        self.random.file(&file, SIZES[self.objects.len() % SIZES.len()]);
        let put = self.client(side, &["put", "--mode", "public", "--scheme", "2+2", words(&file)]).remove(0);
        let known: BTreeSet<Subject> =
            self.objects.iter().flat_map(|object| &object.subjects).copied().collect();
        let subjects: Vec<Subject> =
            self.holdings().into_keys().filter(|subject| !known.contains(subject)).collect();
        assert!(!subjects.is_empty(), "its parts are on disks");
        let id = field(&put, "object").to_owned();
        self.objects.push(Object { file, id, subjects });
        field(&put, "acknowledged").to_owned()
    }

    /// Gets on both sides all that can be made there from what these holdings say, and nothing else. All at once: what can't
    /// be reached is waited for.
    fn read_back(&self, holdings: &Holdings) {
        let reachable = [LEFT, RIGHT].map(|side| self.reachable(side, holdings));
        thread::scope(|scope| {
            for (side, here) in reachable.iter().enumerate() {
                for object in &self.objects {
                    scope.spawn(move || self.read_object(side, object, here.contains(&object.id)));
                }
            }
        });
        let [left, right] = reachable.map(|here| here.len());
        println!("of {} objects {left} were read on the left, {right} on the right", self.objects.len());
    }

    fn read_object(&self, side: usize, object: &Object, is_reachable: bool) {
        let out = self.path(&format!("{side} {}", object.id));
        let got = self.attempt(side, &["get", "--force", &object.id, words(&out)]);
        let said = text(&got.stderr);
        if is_reachable {
            assert!(got.status.success(), "side {side}: {said}");
            assert!(same_bytes(&object.file, &out), "{} has other bytes", object.id);
        } else {
            // Not found, where no replica of the manifest can be asked for, or not enough shards.
            assert!(matches!(got.status.code(), Some(3 | 4)), "side {side}: {:?} {said}", got.status);
        }
    }

    /// What the nodes hold, read from a copy of their disks: from the segments, of which the index in the copy is made anew.
    fn holdings(&self) -> Holdings {
        let mut holdings = Holdings::new();
        for (number, node) in self.nodes.iter().enumerate() {
            for part in parts_in(&node.home.join("node/items")) {
                holdings.entry(part.subject).or_default().push((number, part));
            }
        }
        holdings
    }

    /// What lies otherwise than it is to in a mesh of all nodes.
    fn misplaced(&self) -> Vec<Subject> {
        misplaced(&self.nodes, &self.holdings())
    }

    /// Objects that a side can make from what is held there, or on both sides while they are one mesh.
    fn reachable(&self, side: usize, holdings: &Holdings) -> BTreeSet<String> {
        let has_enough = |subject: &Subject| {
            let here = holdings[subject].iter().filter(|(node, _)| !self.is_cut || NODES[*node] == side);
            let parts: Vec<&Part> = here.map(|(_, part)| part).collect();
            let different: BTreeSet<u8> = parts.iter().map(|part| part.index).collect();
            parts.first().is_some_and(|part| different.len() >= part.redundancy.data_count())
        };
        let objects = self.objects.iter().filter(|object| object.subjects.iter().all(has_enough));
        objects.map(|object| object.id.clone()).collect()
    }
}

fn words(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn configure(home: &Path, settings: &[(&str, &str)]) {
    for (key, value) in settings {
        support::json(home, &["config", "set", key, value]);
    }
}

/// All parts in a store, which is left as it is.
fn parts_in(store: &Path) -> Vec<Part> {
    let copy = loop {
        let copy = tempfile::tempdir().expect("a temporary directory");
        match copy_segments(store, copy.path()) {
            Ok(()) => break copy,
            // A collection has written anew what was in it.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => panic!("{}: {error}", store.display()),
        }
    };
    let settings = StoreSettings::new(CAPACITY);
    let store = Store::open(copy.path(), settings, Arc::new(Files), &SystemEntropy).expect("it opens");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let summaries = store.summarise(PlacementGroup::all().collect()).await.expect("it can be read");
        let mut all = Vec::new();
        for summary in summaries.iter().filter(|summary| !summary.classes.is_empty()) {
            let parts = store.parts(summary.group, None, PAGE).await.expect("it can be read");
            assert!(parts.len() < PAGE, "{} parts of one group", parts.len());
            all.extend(parts);
        }
        store.close().await.expect("it closes");
        all
    })
}

/// Copies what a store has, but for its index.
fn copy_segments(store: &Path, to: &Path) -> io::Result<()> {
    let files = files_below(store);
    for file in files.iter().filter(|file| file.as_path() != Path::new("index")) {
        let to = to.join(file);
        fs::create_dir_all(to.parent().expect("below the copy"))?;
        fs::copy(store.join(file), to)?;
    }
    Ok(())
}

/// What is held by others than the holders that the ring of all nodes names, or not with one part by each.
fn misplaced(nodes: &[Node], holdings: &Holdings) -> Vec<Subject> {
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.peer_id.parse().expect("a peer id")).collect();
    let ring = Ring::of(&Topology::new(ids.iter().zip(0..).map(|(node, number)| record(*node, number))));
    let in_place = |(subject, held): &(&Subject, &Vec<(usize, Part)>)| {
        let redundancy = held[0].1.redundancy;
        let holders: BTreeSet<NodeId> = ring.order(subject.group()).take(redundancy.shard_count()).collect();
        let actual: BTreeSet<NodeId> = held.iter().map(|(node, _)| ids[*node]).collect();
        let parts: BTreeSet<u8> = held.iter().map(|(_, part)| part.index).collect();
        let different = if redundancy.data_count() == 1 { 1 } else { redundancy.shard_count() };
        held.len() == redundancy.shard_count() && actual == holders && parts.len() == different
    };
    holdings.iter().filter(|held| !in_place(held)).map(|(subject, _)| *subject).collect()
}

/// What a node says of itself, as far as its place in the ring follows from it.
fn record(node: NodeId, number: usize) -> NodeRecord {
    NodeRecord {
        node,
        sequence: 1,
        addresses: vec![],
        role: Role::Storage,
        state: NodeState::Active,
        domain: domain(number).parse().expect("a domain"),
        capacity: CAPACITY,
        grace_s: 1,
        software: String::new(),
    }
}

fn domain(number: usize) -> String {
    format!("here/home/host-{number}")
}

#[test]
fn a_mesh_that_was_cut_in_two_is_one_again_and_has_lost_and_doubled_nothing() {
    let mut mesh = Divided::start();
    for number in 0..8 {
        assert_eq!(mesh.put(number % 2), "whole");
    }
    assert_eq!(mesh.misplaced(), []);
    for cut in 0..cut_count() {
        mesh.cut();
        go_on_divided(&mut mesh);
        mesh.join();
        let healed =
            wait_until("each part is with its holder, and each group led once", HEALED_WITHIN, || {
                mesh.misplaced().is_empty()
                    && [LEFT, RIGHT].iter().all(|side| mesh.is_one(*side, NODES.len()))
            });
        println!("cut {cut}: one mesh {:.1} s after it was joined", healed.as_secs_f64());
        thread::sleep(STILL);
        assert_eq!(mesh.misplaced(), [], "it stays so");
        mesh.assert_whole();
        mesh.read_back(&mesh.holdings());
    }
    let put: BTreeSet<Subject> = mesh.objects.iter().flat_map(|object| &object.subjects).copied().collect();
    assert_eq!(
        mesh.holdings().into_keys().collect::<BTreeSet<_>>(),
        put,
        "nothing is lost, and nothing else held"
    );
}

/// Both sides put, read what they can reach and keep it whole, as meshes of their own, until the others have been absent for
/// longer than the grace and what is short has been made again.
fn go_on_divided(mesh: &mut Divided) {
    // At first the others count as there, and are not heard.
    put_on_both_sides(mesh);
    mesh.read_back(&mesh.holdings());
    for side in [LEFT, RIGHT] {
        let node_count = NODES.iter().filter(|of| **of == side).count();
        wait_until("a side is a mesh of its own", WITHIN, || mesh.is_one(side, node_count));
    }
    put_on_both_sides(mesh);
    // The control: parts are held twice now, and what looks for that finds it.
    wait_until("both sides have made parts again", WITHIN, || {
        let doubled = |held: &Vec<(usize, Part)>| held.len() > held[0].1.redundancy.shard_count();
        mesh.holdings().values().any(doubled)
    });
    assert_ne!(mesh.misplaced(), []);
    mesh.read_back(&mesh.holdings());
}

fn put_on_both_sides(mesh: &mut Divided) {
    assert_eq!(mesh.put(LEFT), "whole");
    assert_eq!(mesh.put(RIGHT), "degraded");
}
