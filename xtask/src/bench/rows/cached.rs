//! A row about chunks that a cache node has: how long one takes that asks for nothing else.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench::figures::{Bound, Figure, Line, Sample};
use crate::bench::link::Link;
use crate::bench::mesh::{Feed, Mesh};
use crate::bench::process::{Running, wait_until, with_log};
use crate::bench::route::Route;
use crate::bench::stream;
use crate::bench::wire::Shape;
use crate::bench::{Bench, Measured};

const NODE_COUNT: usize = 6;
const SEED: u64 = 6;
/// The object: some dozens of chunks, so that none is asked for again at once.
const SIZE: u64 = 64 << 20;
/// A cache keeps what it is offered a second time, unless it has too much to write just then.
const GETS_MAX: usize = 12;
/// Requests of one run.
const REQUESTS: usize = 400;
const REQUESTS_SMALL: usize = 100;
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// What 99 of 100 requests may take, milliseconds.
const LATE_ON_LOOPBACK: f64 = 20.0;
const LATE_ON_LINK: f64 = 100.0;
const LINK: Shape =
    Shape { bits_per_second: 1_000_000_000, round_trip: Duration::from_millis(20), lost_per_mille: 0 };

pub(super) fn cached(bench: &Bench) -> Result<Measured, String> {
    let loopback = samples(bench, &Route::loopback())?;
    let mut lines = vec![line("chunk from a cache node, loopback", &loopback, LATE_ON_LOOPBACK)];
    if let Some(obstacle) = Link::obstacle() {
        println!("    the link is left out: {obstacle}");
    } else {
        let link = Link::new(LINK)?;
        let samples = samples(bench, link.route())?;
        lines.push(line("chunk from a cache node, 1 Gbit/s and 20 ms", &samples, LATE_ON_LINK));
    }
    Ok(Measured::Lines(lines))
}

fn line(name: &str, samples: &[Sample], late: f64) -> Line {
    let line = Line::new(name, samples).target(Figure::Failures, Bound::AtMost(0.0));
    line.target(Figure::Late, Bound::AtMost(late))
}

/// Asks for chunks, one after another, when only a cache node is left that has them.
fn samples(bench: &Bench, route: &Route) -> Result<Vec<Sample>, String> {
    let (folder, size) = (bench.folder()?, bench.size(SIZE));
    let (file, out) = (folder.path().join("file"), Path::new("-"));
    stream::make_file(&file, SEED, size)?;
    let mut mesh = Mesh::start(bench, route, folder.path(), NODE_COUNT)?;
    mesh.put("file", &file, &["--scheme", "4+2"], Feed::Files)?;
    for gets in 0.. {
        if gets == GETS_MAX {
            return Err(format!("the cache has not kept the object after {GETS_MAX} gets"));
        }
        mesh.get_through_cache("file", out, Feed::Dropped)?;
        if mesh.cached_bytes()? >= size {
            break;
        }
    }
    let _cache_node = mesh.serve_cache(&folder.path().join("cache-node"))?;
    let count = if bench.is_small() { REQUESTS_SMALL } else { REQUESTS }.to_string();
    let readers = (0..bench.runs)
        .map(|number| Reader::start(&mesh, &folder.path().join(format!("reader-{number}")), &count))
        .collect::<Result<Vec<_>, _>>()?;
    // They know what to ask for. From now on nobody else can answer.
    mesh.kill(NODE_COUNT);
    readers.into_iter().map(Reader::finish).collect()
}

/// A client that asks for chunks once its input ends.
struct Reader {
    running: Running,
    folder: std::path::PathBuf,
}

impl Reader {
    fn start(mesh: &Mesh, folder: &Path, count: &str) -> Result<Self, String> {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let running = mesh.beside(&["bench-fetch", "file", "--chunks", count], folder)?;
        let log = folder.join("log");
        let ready = || fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"));
        wait_until("a client is ready", READY_DEADLINE, ready).map_err(|why| with_log(&why, &log))?;
        Ok(Self { running, folder: folder.to_owned() })
    }

    fn finish(mut self) -> Result<Sample, String> {
        drop(self.running.child().stdin.take());
        let log = self.folder.join("log");
        self.running.finish(Instant::now(), || ()).map_err(|why| with_log(&why, &log))?;
        let printed = fs::read_to_string(self.folder.join("printed")).unwrap_or_default();
        let view: Value =
            serde_json::from_str(&printed).map_err(|error| format!("what a client said: {error}"))?;
        let field = |name: &str| view[name].as_f64().ok_or_else(|| format!("a client said no {name}"));
        Ok(Sample::from([
            (Figure::Failures, field("failure_count")?),
            (Figure::Half, field("latency_p50_s")? * 1000.0),
            (Figure::Late, field("latency_p99_s")? * 1000.0),
        ]))
    }
}
