//! `bench`: measures this machine, stage by stage and as a whole.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use datamesh_core::scheme::Redundancy;
use datamesh_node::measure::{self, Latencies, Stage};
use serde::Serialize;
use tokio::process::Command;

use crate::args::BenchArgs;
use crate::command::CommandError;
use crate::context::Context;
use crate::exit::Exit;
use crate::processes::{NodeProcess, start_mesh};
use crate::ui::{Column, Table, Ui, bytes};
use crate::usage::Usage;

/// Node processes that the whole is measured with, and how many of them are killed at last.
const NODE_COUNT: usize = 6;
const KILL_COUNT: usize = 2;
/// Bytes that one stage is measured on at the most: its figure doesn't change beyond.
const STAGE_SIZE_MAX: u64 = 1 << 30;
/// Requests for a cached chunk.
const CACHED_REQUESTS: usize = 1000;
/// How often a client is looked at while it runs.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What is shown of one stage.
#[derive(Debug, Serialize)]
struct StageView {
    stage: String,
    size: u64,
    seconds: f64,
    cpu_seconds: Option<f64>,
    mib_per_second: f64,
    cpu_seconds_per_gib: Option<f64>,
    client_memory_peak: Option<u64>,
    node_memory_peak: Option<u64>,
    /// Within which half of the requests were answered, where the stage is requests.
    p50_s: Option<f64>,
    p99_s: Option<f64>,
}

/// What an operation took of everyone who took part.
struct Whole {
    wall: Duration,
    client: Usage,
    nodes_cpu: Duration,
    node_memory_peak: u64,
}

pub(super) async fn run(args: &BenchArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let size = args.size.bytes();
    let directory = context.home().root().to_owned();
    context.home().create()?;
    let place = tempfile::Builder::new().prefix("bench-").tempdir_in(directory);
    let place = place.map_err(|error| CommandError::io("a directory can't be made", error))?;
    if args.cached {
        return cached(place.path(), ui).await;
    }
    let redundancy = Redundancy::largest_for(NODE_COUNT).expect("six domains hold a preset");

    let mut views = stages(size.min(STAGE_SIZE_MAX), redundancy, place.path()).await?;
    ui.note("stages measured; now six node processes and a client");
    views.extend(wholes(size, place.path()).await?);
    let columns = [
        Column::left("STAGE"),
        Column::right("MiB/s"),
        Column::right("CPU s/GiB"),
        Column::right("PEAK CLIENT"),
        Column::right("PEAK NODE"),
    ];
    let mut table = Table::new(columns);
    for view in &views {
        let memory = |peak: Option<u64>| peak.map_or(String::new(), bytes);
        table.row([
            view.stage.clone(),
            format!("{:.0}", view.mib_per_second),
            view.cpu_seconds_per_gib.map_or(String::new(), |seconds| format!("{seconds:.3}")),
            memory(view.client_memory_peak),
            memory(view.node_memory_peak),
        ]);
    }
    ui.results(table, &views)
}

async fn cached(place: &Path, ui: &Ui) -> Result<(), CommandError> {
    let measured = Box::pin(measure::cached_requests(place, CACHED_REQUESTS)).await;
    let measured = measured.map_err(|error| CommandError::from_error(Exit::Failed, error))?;
    let mut table = Table::new([Column::left("1,000 REQUESTS"), Column::right("P50"), Column::right("P99")]);
    let views: Vec<StageView> = measured.iter().map(latencies_view).collect();
    for (view, latencies) in views.iter().zip(&measured) {
        let time = |hundredths| format!("{:.2} ms", 1000.0 * latencies.percentile(hundredths).as_secs_f64());
        table.row([view.stage.clone(), time(50), time(99)]);
    }
    ui.results(table, &views)
}

async fn stages(size: u64, redundancy: Redundancy, place: &Path) -> Result<Vec<StageView>, CommandError> {
    let place = place.to_owned();
    let measured = tokio::task::spawn_blocking(move || {
        let mut stages = measure::stages(size, redundancy);
        stages.push(measure::disk(&place, size)?);
        stages.push(measure::loopback(size)?);
        std::io::Result::Ok(stages)
    });
    let measured = measured.await.map_err(std::io::Error::other).flatten();
    let stages = measured.map_err(|error| CommandError::io("a stage can't be measured", error))?;
    Ok(stages.iter().map(|stage| view(stage, None)).collect())
}

/// Puts a file to six node processes, gets it whole, and gets it with two of them dead; client and nodes each a process of
/// its own.
async fn wholes(size: u64, place: &Path) -> Result<Vec<StageView>, CommandError> {
    let (file, out, home) = (place.join("file"), place.join("out"), place.join("client"));
    let made = file.clone();
    let generated = tokio::task::spawn_blocking(move || super::demo::generate(&made, size)).await;
    let generated = generated.map_err(std::io::Error::other).flatten();
    generated.map_err(|error| CommandError::io("a file can't be generated", error))?;
    let mut nodes = start_mesh(place, NODE_COUNT, "1TB").await?;
    let entry = nodes[NODE_COUNT - 1].addresses[0].to_string();
    client(&home, &["join", &entry], &nodes).await?;

    let text = |path: &Path| path.display().to_string();
    let (file, out) = (text(&file), text(&out));
    let mut views = Vec::new();
    let mut add = |name: &str, whole: Whole| {
        let stage =
            Stage { name: name.to_owned(), size, wall: whole.wall, cpu: whole.client.cpu + whole.nodes_cpu };
        views.push(view(&stage, Some(&whole)));
    };
    add("put to six node processes", client(&home, &["put", "--name", "bench", &file], &nodes).await?);
    add("get from them", client(&home, &["get", "--force", "bench", &out], &nodes).await?);
    for node in nodes.drain(..KILL_COUNT) {
        node.kill().await?;
    }
    add("get with two of them dead", client(&home, &["get", "--force", "bench", &out], &nodes).await?);
    let stops = futures::future::join_all(nodes.into_iter().map(NodeProcess::stop)).await;
    stops.into_iter().collect::<Result<(), _>>()?;
    Ok(views)
}

/// Runs a client command as a process of its own, and measures it and the nodes.
async fn client(home: &Path, arguments: &[&str], nodes: &[NodeProcess]) -> Result<Whole, CommandError> {
    let unstartable = |error| CommandError::io("a client process can't be started", error);
    let before = nodes_usage(nodes);
    let mut command = Command::new(std::env::current_exe().map_err(unstartable)?);
    command.arg("--quiet").arg("--home").arg(home).args(arguments);
    // What is measured is the mesh.
    command.env("DATAMESH_CACHE_CAPACITY", "0B");
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let started = Instant::now();
    let mut child = command.spawn().map_err(unstartable)?;
    let mut usage = Usage::default();
    let status = loop {
        if let Some(now) = child.id().and_then(Usage::of) {
            usage = Usage { cpu: now.cpu, memory_peak: now.memory_peak.max(usage.memory_peak) };
        }
        if let Some(status) = child.try_wait().map_err(unstartable)? {
            break status;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let wall = started.elapsed();
    if !status.success() {
        return Err(CommandError::new(Exit::Failed, format!("the client ended with {status}")));
    }
    let after = nodes_usage(nodes);
    let nodes_cpu = after.cpu.saturating_sub(before.cpu);
    Ok(Whole { wall, client: usage, nodes_cpu, node_memory_peak: after.memory_peak })
}

/// The processor time of all nodes together, and the peak memory of the largest.
fn nodes_usage(nodes: &[NodeProcess]) -> Usage {
    let usages = nodes.iter().filter_map(|node| node.pid().and_then(Usage::of));
    usages.fold(Usage::default(), |sum, usage| Usage {
        cpu: sum.cpu + usage.cpu,
        memory_peak: sum.memory_peak.max(usage.memory_peak),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people needs three digits")]
fn view(stage: &Stage, whole: Option<&Whole>) -> StageView {
    let size = stage.size as f64;
    StageView {
        stage: stage.name.clone(),
        size: stage.size,
        seconds: stage.wall.as_secs_f64(),
        cpu_seconds: Some(stage.cpu.as_secs_f64()),
        mib_per_second: size / f64::from(1 << 20) / stage.wall.as_secs_f64(),
        cpu_seconds_per_gib: Some(stage.cpu.as_secs_f64() * f64::from(1 << 30) / size),
        client_memory_peak: whole.map(|whole| whole.client.memory_peak),
        node_memory_peak: whole.map(|whole| whole.node_memory_peak),
        p50_s: None,
        p99_s: None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people needs three digits")]
fn latencies_view(latencies: &Latencies) -> StageView {
    let size = latencies.size * u64::try_from(latencies.times.len()).expect("a count of requests");
    let seconds = latencies.times.iter().sum::<Duration>().as_secs_f64();
    StageView {
        stage: latencies.name.clone(),
        size,
        seconds,
        cpu_seconds: None,
        mib_per_second: size as f64 / f64::from(1 << 20) / seconds,
        cpu_seconds_per_gib: None,
        client_memory_peak: None,
        node_memory_peak: None,
        p50_s: Some(latencies.percentile(50).as_secs_f64()),
        p99_s: Some(latencies.percentile(99).as_secs_f64()),
    }
}
