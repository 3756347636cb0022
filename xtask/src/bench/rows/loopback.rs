//! Rows on loopback: what a transfer costs where the network costs nothing.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::figures::{Bound, Figure, GIB, Line, MIB, Sample, number};
use crate::bench::iperf::{self, Direction};
use crate::bench::mesh::{Feed, Keeping, Mesh};
use crate::bench::others::OTHERS;
use crate::bench::process::Usage;
use crate::bench::route::Route;
use crate::bench::stream::Stream;
use crate::bench::{Bench, Measured, stream};

const SIZE: u64 = 1 << 30;
const NODE_COUNT: usize = 6;
const KILL_COUNT: usize = 2;
const SEED: u64 = 1;
/// Bytes that a get writes before it syncs them.
const SYNC_EVERY: u32 = 8 << 20;
/// Bytes that it gives to one system call.
const WRITE_SIZE: usize = 256 << 10;
const DISK_ALONE: &str = "the disk alone: a file of this size, synced";
/// What raw TCP is given for its figure.
const RAW_DURATION: Duration = Duration::from_secs(2);

/// Measures raw TCP and adds it to a sample.
fn beside_raw(mut sample: Sample, direction: Direction) -> Result<Sample, String> {
    let raw = iperf::measure(&Route::loopback(), direction, 1, RAW_DURATION)?.rate / MIB;
    if let Some(rate) = sample.get(&Figure::Rate).copied() {
        sample.insert(Figure::RawRate, raw);
        sample.insert(Figure::OfRaw, rate / raw);
    }
    Ok(sample)
}

/// The cost of raw TCP alone.
fn raw(bench: &Bench) -> Result<Line, String> {
    let mut samples = Vec::new();
    for _ in 0..bench.runs {
        let raw = iperf::measure(&Route::loopback(), Direction::ToReader, 1, RAW_DURATION)?;
        samples.push(Sample::from([(Figure::Rate, raw.rate / MIB), (Figure::Cpu, raw.cpu_per_gib)]));
    }
    Ok(Line::new("iperf3, one connection", &samples))
}

pub(super) fn one_holder(bench: &Bench) -> Result<Measured, String> {
    let (folder, size) = (bench.folder()?, bench.size(SIZE));
    let served = folder.path().join("served");
    let file = served.join("file");
    std::fs::create_dir(&served).map_err(|error| format!("{}: {error}", served.display()))?;
    stream::make_file(&file, SEED, size)?;
    let mesh = Mesh::start(bench, &Route::loopback(), folder.path(), 1)?;
    mesh.put("file", &file, &["--scheme", "1+0"], Feed::Files)?;
    let to_reader = gets(&mesh, bench.runs, size)?;
    let to_file = gets_to_files(&mesh, bench.runs, size, folder.path())?;
    drop(mesh);
    let held =
        |line: Line| line.target(Figure::OfRaw, Bound::AtLeast(0.35)).target(Figure::Cpu, Bound::AtMost(2.5));
    let mut lines = vec![
        held(Line::new("get from the only holder", &to_reader)),
        Line::new("the same, to a file, synced", &to_file),
        Line::new(DISK_ALONE, &disk_alone(bench.runs, folder.path(), size)?),
        raw(bench)?,
    ];
    for other in &OTHERS {
        if let Some(lacking) = other.lacking() {
            println!("    {} skipped: {lacking} is not installed", other.name);
            continue;
        }
        let scratch = folder.path().join(other.name.replace(' ', "-"));
        std::fs::create_dir(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
        lines.push(Line::new(other.name, &other.samples(&served, &scratch, bench.runs, size)?));
    }
    Ok(Measured::Lines(lines))
}

pub(super) fn put(bench: &Bench) -> Result<Measured, String> {
    let (folder, size) = (bench.folder()?, bench.size(SIZE));
    let file = folder.path().join("file");
    stream::make_file(&file, SEED, size)?;
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    // Nothing is removed before all is measured: a virtual machine gives the memory of its cache back to its host, and then pays
    // for the first touch of every page anew, up to 4 s/GiB.
    let mut folders = Vec::new();
    for _ in 0..bench.runs {
        for (keeping, samples) in [(Keeping::Everything, &mut kept), (Keeping::NoShards, &mut lost)] {
            // A mesh of its own each time: what was put before would fill the disk and the page cache.
            let own = bench.folder()?;
            let mesh =
                Mesh::start_keeping(keeping, &bench.program, &Route::loopback(), own.path(), NODE_COUNT)?;
            let put = mesh.put("file", &file, &["--scheme", "4+2"], Feed::Files)?;
            if put.result["acknowledged"] != "whole" {
                return Err(format!("the put was acknowledged as {}", put.result["acknowledged"]));
            }
            drop(mesh);
            samples.push(beside_raw(put.sample(size), Direction::ToHolders)?);
            folders.push(own);
        }
    }
    let line = Line::new("put, 4+2, six nodes", &kept)
        .target(Figure::OfRaw, Bound::AtLeast(0.13))
        .target(Figure::Cpu, Bound::AtMost(7.0));
    Ok(Measured::Lines(vec![
        line,
        Line::new("put into nodes that lose shards", &lost),
        Line::new(DISK_ALONE, &disk_alone(bench.runs, folder.path(), size)?),
    ]))
}

/// What the disk alone does with a file of this size that is written as a get writes its output: its rate, and the time
/// that the system takes for it.
fn disk_alone(run_count: usize, folder: &Path, size: u64) -> Result<Vec<Sample>, String> {
    let mut buffer = Vec::new();
    Stream::new(SEED).write(u64::from(SYNC_EVERY), &mut buffer).map_err(|error| error.to_string())?;
    (0..run_count).map(|run| write_alone(&folder.join(format!("disk-{run}")), &buffer, size)).collect()
}

/// The processor time of this program and of the programs that it has waited for.
fn own_cpu() -> Duration {
    Usage::of(std::process::id()).map_or(Duration::ZERO, |usage| usage.cpu)
}

fn write_alone(path: &Path, buffer: &[u8], size: u64) -> Result<Sample, String> {
    let (begun, used) = (Instant::now(), own_cpu());
    let written = File::create(path).and_then(|mut file| {
        for _ in 0..size.div_ceil(u64::from(SYNC_EVERY)) {
            buffer.chunks(WRITE_SIZE).try_for_each(|part| file.write_all(part))?;
            file.sync_data()?;
        }
        Ok(())
    });
    written.map_err(|error| format!("{}: {error}", path.display()))?;
    let (elapsed, cpu) = (begun.elapsed(), own_cpu().saturating_sub(used));
    Ok(Sample::from([
        (Figure::Rate, number(size) / MIB / elapsed.as_secs_f64()),
        (Figure::Cpu, cpu.as_secs_f64() * GIB / number(size)),
    ]))
}

/// Gets an object so many times, and lets what comes go; once more, to see that it is what was put.
fn gets(mesh: &Mesh, run_count: usize, size: u64) -> Result<Vec<Sample>, String> {
    mesh.get("file", Path::new("-"), Feed::Checked { seed: SEED, size })?;
    let get =
        |_| beside_raw(mesh.get("file", Path::new("-"), Feed::Dropped)?.sample(size), Direction::ToReader);
    (0..run_count).map(get).collect()
}

/// The same, to files, each of which is read again.
fn gets_to_files(mesh: &Mesh, run_count: usize, size: u64, folder: &Path) -> Result<Vec<Sample>, String> {
    let get = |run| {
        let out = folder.join(format!("out-{run}"));
        let got = mesh.get("file", &out, Feed::Files)?;
        stream::check_file(&out, SEED, size)?;
        beside_raw(got.sample(size), Direction::ToReader)
    };
    (0..run_count).map(get).collect()
}

pub(super) fn get(bench: &Bench) -> Result<Measured, String> {
    let (folder, size) = (bench.folder()?, bench.size(SIZE));
    let file = folder.path().join("file");
    stream::make_file(&file, SEED, size)?;
    let mut mesh = Mesh::start(bench, &Route::loopback(), folder.path(), NODE_COUNT)?;
    mesh.put("file", &file, &["--scheme", "4+2"], Feed::Files)?;
    let whole = Line::new("get, 4+2, six nodes", &gets(&mesh, bench.runs, size)?);
    let to_file =
        Line::new("the same, to a file, synced", &gets_to_files(&mesh, bench.runs, size, folder.path())?);
    mesh.kill(KILL_COUNT);
    let degraded = Line::new("get with two of the six dead", &gets(&mesh, bench.runs, size)?);
    let at_least = Bound::AtLeast(0.25);
    Ok(Measured::Lines(vec![
        whole.target(Figure::OfRaw, at_least).target(Figure::Cpu, Bound::AtMost(4.0)),
        degraded.target(Figure::OfRaw, at_least).target(Figure::Cpu, Bound::AtMost(4.5)),
        to_file,
    ]))
}
