//! Records how nodes are before one of them fails, from real processes, for the replay in `crates/engine/tests/forecast.rs`.
//!
//! `cargo test -p datamesh --test traces -- --ignored --test-threads 1` records all of them anew; it needs strace. docs/health.md has
//! the format.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Mesh, Random, field, json_lines, run};

const NODES: usize = 6;
const TICKS: u64 = 110;
const TICK: Duration = Duration::from_secs(1);
/// From when on the one node is worse and worse.
const FAILING_FROM: u64 = 40;
/// Ticks after which it becomes worse.
const STAGE: u64 = 7;
/// Which node it is.
const FAILING: usize = 2;

/// What a node said of itself: rotten items, errors, writes, microseconds of writes.
type Counters = [u64; 4];

/// A mesh that is written to and read from all the time, and what is recorded of it.
struct Recording {
    mesh: Mesh,
    last: BTreeMap<usize, Counters>,
    text: String,
}

impl Recording {
    fn start(name: &str) -> Self {
        let settings = [
            ("storage.scrub_period", "4s"),
            ("health.check_every", "1s"),
            ("repair.check_every", "2s"),
            ("repair.settle", "2s"),
        ];
        let mesh = Mesh::start_with(NODES, &settings);
        let mut text = format!("# datamesh trace 1: {name}\n# tick_ms {}\n", TICK.as_millis());
        if name != "healthy" {
            writeln!(text, "# failing {FAILING} from {FAILING_FROM} failed {TICKS}").expect("text");
        }
        text.push_str("# tick node rotten errors writes write_us latency_us\n");
        Self { mesh, last: BTreeMap::new(), text }
    }

    /// Asks all nodes and writes down how each is.
    fn tick(&mut self, tick: u64) {
        let client = self.mesh.client.clone();
        let peers = thread::spawn(move || json_lines(&run(&client, &["--json", "peers"]).stdout));
        let samples = json_lines(&run(&self.mesh.client, &["--json", "metrics"]).stdout);
        let peers = peers.join().expect("asked");
        for (index, node) in self.mesh.nodes.iter().enumerate() {
            let latency = peers.iter().find(|peer| field(peer, "peer_id") == node.peer_id);
            let latency = latency.and_then(|peer| peer["latency_s"].as_f64());
            let counters = counters(&samples, &node.peer_id);
            let (Some(latency), Some(counters)) = (latency, counters) else {
                writeln!(self.text, "{tick} {index} - - - - -").expect("text");
                continue;
            };
            let last = self.last.insert(index, counters).unwrap_or(counters);
            let grown: Vec<String> = counters
                .iter()
                .zip(last)
                .map(|(now, before)| (now.saturating_sub(before)).to_string())
                .collect();
            writeln!(self.text, "{tick} {index} {} {:.0}", grown.join(" "), latency * 1e6).expect("text");
        }
    }

    /// Records all ticks, and has something done before each.
    fn record(mut self, name: &str, mut before: impl FnMut(&Mesh, u64)) {
        let stop = Arc::new(AtomicBool::new(false));
        let load = load(&self.mesh, &stop);
        for tick in 0..TICKS {
            let begun = Instant::now();
            before(&self.mesh, tick);
            self.tick(tick);
            thread::sleep(TICK.saturating_sub(begun.elapsed()));
        }
        stop.store(true, Ordering::Relaxed);
        load.join().expect("the load ends");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../engine/tests/traces/{name}.trace"));
        fs::write(path, self.text).expect("written");
    }
}

fn counters(samples: &[Value], node: &str) -> Option<Counters> {
    let value = |metric: &str| {
        let of_it = |sample: &&Value| sample["node"] == node && sample["metric"] == metric;
        samples.iter().find(of_it).and_then(|sample| sample["value"].as_f64())
    };
    let whole = |number: f64| format!("{number:.0}").parse().expect("a number");
    Some([
        whole(value("datamesh_disk_rotten_items")?),
        whole(value("datamesh_disk_errors")?),
        whole(value("datamesh_disk_item_writes")?),
        whole(value("datamesh_disk_item_write_seconds")? * 1e6),
    ])
}

/// Puts and gets one small object after another until it is told to stop. What fails is tried no second time.
fn load(mesh: &Mesh, stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (client, file, out) = (mesh.client.clone(), mesh.path("load"), mesh.path("load out"));
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut random = Random(91);
        let mut earlier = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            random.file(&file, 1 << 20);
            let put = run(&client, &["--json", "put", "--scheme", "4+2", file.to_str().expect("UTF-8")]);
            earlier.extend(json_lines(&put.stdout).first().map(|put| field(put, "object").to_owned()));
            let among = u64::try_from(earlier.len()).expect("few");
            let place = usize::try_from(random.below(among.max(1))).expect("few");
            if let Some(object) = earlier.get(place) {
                run(&client, &["get", "--force", object, out.to_str().expect("UTF-8")]);
            }
        }
    })
}

/// A node whose system calls are tampered with until this is dropped.
struct Tampering(Child);

impl Tampering {
    fn start(pid: u32, calls: &str, injection: &str) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-p", &pid.to_string()]);
        strace.arg("-e").arg(format!("trace={calls}"));
        strace.arg("-e").arg(format!("inject={calls}:{injection}"));
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(strace.spawn().expect("strace starts"))
    }
}

impl Drop for Tampering {
    fn drop(&mut self) {
        // Asked to end, it lets the node go on; killed, it would take it along.
        let id = self.0.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
        self.0.wait().expect("strace ends");
    }
}

/// The stage that begins at this tick, if one does.
fn stage(tick: u64) -> Option<u32> {
    let stage = tick.checked_sub(FAILING_FROM)?;
    stage.is_multiple_of(STAGE).then(|| u32::try_from(stage / STAGE).expect("few"))
}

#[test]
#[ignore = "records anew what the replay reads"]
fn healthy() {
    Recording::start("healthy").record("healthy", |_, _| {});
}

#[test]
#[ignore = "records anew what the replay reads"]
fn slow_writes() {
    let mut tampering = None;
    Recording::start("slow-writes").record("slow-writes", |mesh, tick| {
        if let Some(stage) = stage(tick) {
            drop(tampering.take());
            // 5 ms, 10 ms, 20 ms … for each sync.
            let delay = format!("delay_enter={}", 5000 * 2_u32.pow(stage));
            tampering = Some(Tampering::start(mesh.nodes[FAILING].pid(), "fsync,fdatasync", &delay));
        }
    });
}

#[test]
#[ignore = "records anew what the replay reads"]
fn errors() {
    let mut tampering = None;
    Recording::start("errors").record("errors", |mesh, tick| {
        if let Some(stage) = stage(tick) {
            drop(tampering.take());
            // One read of 512 fails in each thread, of 256, of 128 …
            let every = (512_u32 >> stage).max(2);
            let failing = format!("error=EIO:when={every}+{every}");
            tampering = Some(Tampering::start(mesh.nodes[FAILING].pid(), "pread64", &failing));
        }
    });
}

#[test]
#[ignore = "records anew what the replay reads"]
fn rot() {
    let mut random = Random(97);
    Recording::start("rot").record("rot", |mesh, tick| {
        if let Some(stage) = stage(tick) {
            // One bit, two, four …
            let home = mesh.nodes[FAILING].home.clone();
            let files = support::files_below(&home).into_iter();
            let segments: Vec<_> = files.filter(|file| file.to_string_lossy().contains("segment-")).collect();
            for _ in 0..2_u32.pow(stage) {
                let place = random.below(u64::try_from(segments.len()).expect("few"));
                flip_bit(&home.join(&segments[usize::try_from(place).expect("few")]), &mut random);
            }
        }
    });
}

#[test]
#[ignore = "records anew what the replay reads"]
fn stalls() {
    Recording::start("stalls").record("stalls", |mesh, tick| {
        let stage = tick.checked_sub(FAILING_FROM).map_or(0, |since| since / STAGE);
        // Every fourth tick it stands still: for a second, two, three …
        if stage > 0 && tick.is_multiple_of(4) {
            let pid = mesh.nodes[FAILING].pid().to_string();
            let line = format!("kill -STOP {pid}; sleep {stage}; kill -CONT {pid}");
            let mut stall = Command::new("/bin/sh").arg("-c").arg(line).spawn().expect("it starts");
            thread::spawn(move || stall.wait());
        }
    });
}

fn flip_bit(path: &Path, random: &mut Random) {
    let file = fs::File::options().read(true).write(true).open(path).expect("it opens");
    let at = 96 + random.below(file.metadata().expect("there").len() - 96);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("readable");
    byte[0] ^= 1 << random.below(8);
    file.write_all_at(&byte, at).expect("written");
}
