//! `kill -9` at random moments of repair and at each write of a collection: nothing is lost, and both come to their end.

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use support::disks::tool;
use support::objects::{Objects, metric, wait_until};
use support::tracer::Tracer;
use support::{Mesh, Random, files_below, json, scaled};

const NODES: usize = 7;
const MIB: u64 = 1 << 20;
const HASTY: [(&str, &str); 5] = [
    ("repair.check_every", "500ms"),
    ("repair.settle", "500ms"),
    ("placement.grace", "10s"),
    ("storage.collect_every", "1s"),
    ("storage.free_floor", "0B"),
];

/// Kills of each kind.
fn kill_count() -> usize {
    scaled(5, 100)
}

fn whole_within() -> Duration {
    Duration::from_secs(scaled(120, 600))
}

fn moment(random: &mut Random, most_ms: u64) -> Duration {
    Duration::from_millis(random.below(most_ms))
}

fn any_of(random: &mut Random, count: usize) -> usize {
    usize::try_from(random.below(u64::try_from(count).expect("few"))).expect("few")
}

/// Deletes what a node's disk holds.
fn lose_disk(mesh: &mut Mesh, index: usize) {
    mesh.nodes[index].kill();
    let home = mesh.nodes[index].home.clone();
    let items = files_below(&home).into_iter().filter(|file| file.to_string_lossy().contains("items"));
    items.for_each(|file| fs::remove_file(home.join(file)).expect("it is there"));
    mesh.nodes[index].restart();
}

fn made_again(mesh: &Mesh) -> u64 {
    (0..NODES).map(|index| metric(mesh, index, "datamesh_keep_repairs", &[])).sum()
}

#[test]
fn a_repair_whose_nodes_are_killed_comes_to_its_end_and_loses_nothing() {
    let mut mesh = Mesh::start_with(NODES, &HASTY);
    let (mut objects, mut random) = (Objects::new(111), Random(112));
    objects.put_whole(&mesh, 8, 3 * MIB);
    let mut unfinished = 0;
    for round in 0..kill_count() {
        let lost = any_of(&mut random, NODES);
        lose_disk(&mut mesh, lost);
        mesh.wait_for_nodes(NODES);
        // Repair begins a second or so after the loss.
        thread::sleep(moment(&mut random, 4000));
        unfinished += usize::from(!objects.short(&mesh).is_empty());
        let victim = any_of(&mut random, NODES);
        mesh.nodes[victim].kill();
        thread::sleep(moment(&mut random, 500));
        mesh.nodes[victim].restart();
        mesh.wait_for_nodes(NODES);
        let took = objects.wait_until_whole(&mesh, &format!("round {round}"), whole_within());
        println!("round {round}: whole {:.1} s after the kill", took.as_secs_f64());
    }
    objects.read_back(&mesh);
    println!(
        "{} disks lost and {} nodes killed, {unfinished} before repair was done",
        kill_count(),
        kill_count()
    );
    assert!(made_again(&mesh) > 0 && unfinished > 0, "no kill came during a repair");
}

/// Collects no garbage unless told, and makes nothing again: what a node has lost stays missed.
const QUIET: [(&str, &str); 3] =
    [("repair.check_every", "1h"), ("storage.collect_every", "1h"), ("storage.free_floor", "0B")];
const FEW: usize = 6;
/// The node whose collections are killed.
const VICTIM: usize = 2;
/// Calls that change a disk.
const WRITES: &str =
    "openat,?unlink,unlinkat,?rename,renameat,ftruncate,write,pwrite64,pwritev,fdatasync,fsync";
/// What a node need not give back at once: a sixteenth of a segment.
const LEFT_MAX: u64 = 16 * MIB;
const COLLECTED_WITHIN: Duration = Duration::from_secs(90);
const COLLECT_EVERY_MIN: Duration = Duration::from_secs(3);
const COLLECT_EVERY_MAX: Duration = Duration::from_secs(48);

/// Kills of collections: at so many of a collection's writes, evenly spread, or at every one.
fn kills_of(writes: usize) -> Vec<usize> {
    let count = scaled(5, writes).min(writes);
    (1..=count).map(|kill| 1 + (kill - 1) * (writes - 1) / (count - 1)).collect()
}

/// A node with garbage between what stays, on a disk that can be made again as it was before a collection.
struct Littered {
    mesh: Mesh,
    objects: Objects,
    saved: PathBuf,
    /// How long after its start the node collects.
    collect_every: Duration,
}

impl Littered {
    fn new() -> Self {
        let mesh = Mesh::start_with(FEW, &QUIET);
        let mut objects = Objects::new(113);
        objects.put_whole(&mesh, 2, 6 * MIB);
        objects.put_whole(&mesh, 1, 128 * MIB);
        objects.put_whole(&mesh, 2, 6 * MIB);
        objects.put_whole(&mesh, 2, 20_000);
        objects.list.rotate_left(2);
        objects.delete_oldest(&mesh);
        let saved = mesh.path("saved");
        Self { mesh, objects, saved, collect_every: COLLECT_EVERY_MIN }
    }

    fn disk(&self) -> PathBuf {
        self.mesh.nodes[VICTIM].home.join("node/items")
    }

    /// Bytes of the files that the node's items lie in.
    fn size_on_disk(&self) -> u64 {
        let files = files_below(&self.disk()).into_iter().filter(|file| is_segment(file));
        files.map(|file| fs::metadata(self.disk().join(file)).map_or(0, |metadata| metadata.len())).sum()
    }

    /// Stops the node, keeps its disk as it is, and has it collect soon after it has started from now on.
    fn save_disk(&mut self) {
        self.mesh.nodes[VICTIM].kill();
        self.collect_every(COLLECT_EVERY_MIN);
        tool("cp", &["--archive", words(&self.disk()), words(&self.saved)]);
    }

    fn collect_every(&mut self, period: Duration) {
        let period_text = format!("{}s", period.as_secs());
        json(&self.mesh.nodes[VICTIM].home, &["config", "set", "storage.collect_every", &period_text]);
        self.collect_every = period;
    }

    /// Lets the node collect undisturbed, stops it, and says which calls that took, up to the sync of the directory that a
    /// segment was removed from.
    fn writes(&mut self, log: &Path) -> Vec<String> {
        let watching = self.begin_collection(log, &[]);
        let is_removal =
            |call: &String| call.starts_with("unlink") && call.contains("segment-") && call.ends_with("= 0");
        let mut calls = Vec::new();
        let mut end = None;
        wait_until("a segment is removed", COLLECTED_WITHIN, || {
            calls = calls_in(log);
            // The directory is opened then, and synced.
            end = calls.iter().position(is_removal).map(|at| at + 3);
            end.is_some_and(|end| calls.len() >= end)
        });
        drop(watching);
        self.mesh.nodes[VICTIM].kill();
        calls.truncate(end.expect("it was waited for"));
        calls
    }

    /// Has the node killed as its collection enters the last of these writes.
    fn kill_at_write(&mut self, log: &Path, writes: &[String]) {
        if self.mesh.nodes[VICTIM].child.is_some() {
            self.mesh.nodes[VICTIM].kill();
        }
        // Each call has a count of its own.
        let name = |call: &String| call.split('(').next().map(ToOwned::to_owned);
        let last = writes.last().and_then(name).expect("a call");
        let nth = writes.iter().filter(|call| name(call).as_deref() == Some(&last)).count();
        let inject = format!("inject={last}:signal=KILL:when={nth}");
        let watching = self.begin_collection(log, &["-e", &inject]);
        let child = &mut self.mesh.nodes[VICTIM].child;
        let mut ended = None;
        wait_until("the node is killed", COLLECTED_WITHIN, || {
            ended = child.as_mut().expect("it runs").try_wait().expect("a child can be waited for");
            ended.is_some()
        });
        *child = None;
        drop(watching);
        assert_eq!(ended.and_then(|status| status.signal()), Some(9));
        assert_eq!(calls_in(log).len(), writes.len(), "it is killed where it was to be");
    }

    /// Starts the node on the disk as it was before a collection, which is about to begin, and has strace watch the thread
    /// that does it, and nothing else, as it writes to `log`.
    fn begin_collection(&mut self, log: &Path, more: &[&str]) -> Tracer {
        loop {
            fs::remove_dir_all(self.disk()).expect("it is there");
            tool("cp", &["--archive", words(&self.saved), words(&self.disk())]);
            let begun = Instant::now();
            self.mesh.nodes[VICTIM].restart();
            let watching = self.watch_writes(log, more);
            if begun.elapsed() < self.collect_every {
                return watching;
            }
            // On a busy machine it may have begun before it was watched.
            drop(watching);
            self.mesh.nodes[VICTIM].kill();
            assert!(
                self.collect_every < COLLECT_EVERY_MAX,
                "a node doesn't start within {COLLECT_EVERY_MAX:?}"
            );
            self.collect_every(self.collect_every * 2);
        }
    }

    fn watch_writes(&self, log: &Path, more: &[&str]) -> Tracer {
        let writer = thread_of(self.mesh.nodes[VICTIM].pid(), "store-write");
        let trace = format!("trace={WRITES}");
        Tracer::attach(writer, &[&["-y", "-o", words(log), "-e", &trace], more].concat())
    }
}

fn words(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn is_segment(file: &Path) -> bool {
    file.to_string_lossy().contains("segment")
}

/// The thread of a process that has this name.
fn thread_of(pid: u32, name: &str) -> u32 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let mut threads = threads.map(|thread| thread.expect("a thread").path());
    let is_named =
        |thread: &PathBuf| fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
    let thread = threads.find(is_named).unwrap_or_else(|| panic!("process {pid} has no thread `{name}`"));
    thread.file_name().and_then(|id| id.to_str()).and_then(|id| id.parse().ok()).expect("a thread's id")
}

/// The calls that strace has noted.
fn calls_in(log: &Path) -> Vec<String> {
    let lines = fs::read_to_string(log).expect("strace writes it");
    lines.lines().filter(|line| line.contains('(')).map(ToOwned::to_owned).collect()
}

#[test]
fn a_collection_that_is_killed_at_any_write_loses_nothing_and_gives_all_back_in_the_end() {
    let mut littered = Littered::new();
    let log = littered.mesh.path("calls");
    // The control: without a collection, the thread that is watched writes nothing.
    let watching = littered.watch_writes(&log, &[]);
    thread::sleep(Duration::from_secs(3));
    drop(watching);
    assert_eq!(calls_in(&log), [""; 0], "all that it writes from here on is a collection's");
    littered.save_disk();

    let (before, writes) = (littered.size_on_disk(), littered.writes(&log));
    let after = littered.size_on_disk();
    println!("a collection that makes {before} bytes {after} takes {} writes", writes.len());
    assert!(after + LEFT_MAX < before, "{before} bytes became {after}");
    let mut unfinished = 0;
    for kill in kills_of(writes.len()) {
        littered.kill_at_write(&log, &writes[..kill]);
        unfinished += usize::from(littered.size_on_disk() > after + LEFT_MAX);
        littered.mesh.nodes[VICTIM].restart();
        littered.mesh.wait_for_nodes(FEW);
        let made_anew = metric(&littered.mesh, VICTIM, "datamesh_store_indexes_rebuilt", &[]);
        let short = littered.objects.short(&littered.mesh);
        assert_eq!((short, made_anew), (vec![], 0), "killed at write {kill}: {}", writes[kill - 1]);
        let is_given_back = || littered.size_on_disk() <= after + LEFT_MAX;
        let took = wait_until("the space is given back", COLLECTED_WITHIN, is_given_back);
        assert_eq!(littered.objects.short(&littered.mesh), [""; 0], "after another collection");
        println!("killed at write {kill}: all given back {:.1} s after its start", took.as_secs_f64());
    }
    littered.objects.read_back(&littered.mesh);
    println!("{} kills, {unfinished} before the space was given back", kills_of(writes.len()).len());
    assert!(unfinished > 0);

    // The control: a segment that goes before what counts in it has been copied is missed.
    littered.kill_at_write(&log, &writes[..writes.len() / 2]);
    let segments = files_below(&littered.saved).into_iter().filter(|file| is_segment(file));
    segments.for_each(|file| fs::remove_file(littered.disk().join(file)).expect("it is there"));
    littered.mesh.nodes[VICTIM].restart();
    littered.mesh.wait_for_nodes(FEW);
    assert_ne!(littered.objects.short(&littered.mesh), [""; 0]);
}
