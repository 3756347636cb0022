//! Rows about many at once, and about little that changed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench::figures::{Bound, Figure, GIB, Line, MIB, Sample, fairness, number};
use crate::bench::link::{Link, Namespace, received};
use crate::bench::mesh::{Feed, Mesh};
use crate::bench::process::{Running, wait_until, with_log};
use crate::bench::route::Route;
use crate::bench::stream::{self, Stream};
use crate::bench::{Bench, Measured};

const NODE_COUNT: usize = 6;
const SEED: u64 = 5;

/// Clients that fetch from one node, and what each has outstanding: a thousand chunks together.
const CLIENT_COUNT: usize = 40;
const AT_ONCE: usize = 25;
/// What the node holds: little enough to lie in the page cache, so that the network is what is measured.
const LOAD_SIZE: u64 = 64 << 20;
const LOAD_DURATION: Duration = Duration::from_secs(20);
const LOAD_DURATION_SMALL: Duration = Duration::from_secs(5);
const READY_DEADLINE: Duration = Duration::from_secs(60);

pub(super) fn concurrent(bench: &Bench) -> Result<Measured, String> {
    let folder = bench.folder()?;
    let file = folder.path().join("file");
    stream::make_file(&file, SEED, LOAD_SIZE)?;
    let mesh = Mesh::start(bench, &Route::loopback(), folder.path(), 1)?;
    mesh.put("file", &file, &["--scheme", "1+0"], Feed::Files)?;
    let mut samples = Vec::new();
    for _ in 0..bench.runs {
        samples.push(fetch_all(bench, &mesh, folder.path())?);
    }
    let line = Line::new(
        format!("{CLIENT_COUNT} clients with {AT_ONCE} chunks of 1 MiB outstanding each"),
        &samples,
    );
    Ok(Measured::Lines(vec![
        line.target(Figure::Failures, Bound::AtMost(0.0))
            .target(Figure::NodeMemory, Bound::AtMost(143.0))
            .target(Figure::Fairness, Bound::AtLeast(0.9)),
    ]))
}

/// A client process that loads the node, and where it prints.
struct Loader {
    running: Running,
    folder: std::path::PathBuf,
}

/// Lets all clients fetch from the node at the same time.
fn fetch_all(bench: &Bench, mesh: &Mesh, folder: &Path) -> Result<Sample, String> {
    let duration = if bench.is_small() { LOAD_DURATION_SMALL } else { LOAD_DURATION };
    let (at_once, seconds) = (AT_ONCE.to_string(), format!("{}s", duration.as_secs()));
    let arguments = ["bench-fetch", "file", "--at-once", &at_once, "--for", &seconds];
    let mut loaders = Vec::new();
    for number in 0..CLIENT_COUNT {
        let folder = folder.join(format!("loader-{number}"));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let running = mesh.beside(&arguments, &folder)?;
        loaders.push(Loader { running, folder });
    }
    for loader in &loaders {
        let log = loader.folder.join("log");
        let ready = || fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"));
        wait_until("a client is ready", READY_DEADLINE, ready).map_err(|why| with_log(&why, &log))?;
    }
    mesh.forget_peaks();
    let (before, begun) = (mesh.usage(), Instant::now());
    for loader in &mut loaders {
        // They begin when their input ends.
        drop(loader.running.child().stdin.take());
    }
    let (mut rates, mut size, mut failures) = (Vec::new(), 0.0, 0.0);
    let (mut memory, mut cpu, mut late) = (0, Duration::ZERO, Vec::new());
    for Loader { running, folder } in loaders {
        let log = folder.join("log");
        let ended = running.finish(begun, || ()).map_err(|why| with_log(&why, &log))?;
        let printed = fs::read_to_string(folder.join("printed")).unwrap_or_default();
        let view: Value =
            serde_json::from_str(&printed).map_err(|error| format!("what a client said: {error}"))?;
        let field = |name: &str| view[name].as_f64().ok_or_else(|| format!("a client said no {name}"));
        rates.push(field("size")? / field("seconds")?);
        late.push(field("latency_p99_s")? * 1000.0);
        size += field("size")?;
        failures += field("failure_count")?;
        cpu += ended.usage.cpu;
        memory = ended.usage.memory_peak.max(memory);
    }
    let nodes = mesh.usage();
    cpu += nodes.cpu.saturating_sub(before.cpu);
    Ok(Sample::from([
        (Figure::Rate, rates.iter().sum::<f64>() / MIB),
        (Figure::Cpu, cpu.as_secs_f64() * GIB / size.max(1.0)),
        (Figure::ClientMemory, number(memory) / MIB),
        (Figure::NodeMemory, number(nodes.memory_peak) / MIB),
        (Figure::Failures, failures),
        (Figure::Fairness, fairness(&rates)),
        (Figure::Late, late.into_iter().fold(0.0, f64::max)),
    ]))
}

const VERSION_SIZE: u64 = 1 << 30;
/// Smaller files have so few chunks that two at the edges of each change count for too much.
const VERSION_SIZE_MIN: u64 = 256 << 20;
/// One byte of so many changes, and lies with others like it: so many changes in a GiB.
const CHANGED_OF: u64 = 100;
const CHANGES_PER_GIB: u64 = 10;
const INSERTED_SIZE: u64 = 1_000_000;

pub(super) fn second_version(bench: &Bench) -> Result<Measured, String> {
    if let Some(obstacle) = Link::obstacle() {
        return Ok(Measured::Skipped(obstacle));
    }
    let size = bench.size(VERSION_SIZE).max(VERSION_SIZE_MIN);
    let (mut samples, mut again) = (Vec::new(), Vec::new());
    for run in 0..bench.runs {
        let seed = SEED + 100 * u64::try_from(run).expect("runs are few");
        let folder = bench.folder()?;
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        stream::make_file(&first, seed, size)?;
        change(&first, &second, seed, size)?;
        // A network of its own: then what its loopback device carries is what this mesh sends.
        let network = Namespace::new()?;
        let side = network.side();
        let route = Route { holders: side.clone(), reader: side };
        let mesh = Mesh::start(bench, &route, folder.path(), NODE_COUNT)?;
        let mut sent = Vec::new();
        for (name, file) in [("first", &first), ("second", &second), ("again", &second)] {
            let (before, stored) = (received(network.pid(), "lo")?, stored(&mesh)?);
            let put = mesh.put(name, file, &["--mode", "dedup", "--scheme", "4+2"], Feed::Files)?;
            let size =
                fs::metadata(file).map(|file| file.len()).map_err(|error| format!("{name}: {error}"))?;
            let wire = number(received(network.pid(), "lo")? - before);
            sent.push((wire, self::stored(&mesh)? - stored, put.sample(size)));
        }
        let share = |at: usize| -> Sample {
            let mut sample = sent[at].2.clone();
            sample.insert(Figure::Sent, sent[at].0 / sent[0].0);
            sample.insert(Figure::Stored, sent[at].1 / sent[0].1);
            sample
        };
        samples.push(share(1));
        again.push(share(2));
    }
    let name =
        format!("second version: 1 % changed in {} places, 1 MB inserted", (CHANGES_PER_GIB * size) >> 30);
    Ok(Measured::Lines(vec![
        Line::new(name, &samples).target(Figure::Sent, Bound::AtMost(0.05)),
        Line::new("the second version once more", &again),
    ]))
}

/// Bytes that all nodes together say they hold.
fn stored(mesh: &Mesh) -> Result<f64, String> {
    let used = |peer: &Value| peer["used"].as_f64().ok_or("a node did not say what it holds");
    Ok(mesh.peers()?.iter().map(used).sum::<Result<f64, _>>()?)
}

/// Makes a second version of a file: some of it changed where it stands, and something inserted in the middle.
fn change(first: &Path, second: &Path, seed: u64, size: u64) -> Result<(), String> {
    let made =
        File::options().read(true).write(true).create(true).truncate(true).open(second).and_then(|file| {
            let (mut original, mut new, half) = (Stream::new(seed), Stream::new(seed + 1), size / 2);
            original.write(half, &mut &file)?;
            new.write(INSERTED_SIZE, &mut &file)?;
            original.write(size - half, &mut &file)?;
            let count = ((CHANGES_PER_GIB * size) >> 30).max(1);
            let mut changed = Vec::new();
            for number in 0..count {
                changed.clear();
                new.write(size / CHANGED_OF / count, &mut changed)?;
                // In the middle of each of as many parts.
                file.write_all_at(&changed, size / count * number + size / count / 3)?;
            }
            file.sync_all()
        });
    made.map_err(|error| format!("{} of {}: {error}", second.display(), first.display()))
}
