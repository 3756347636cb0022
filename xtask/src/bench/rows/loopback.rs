//! Rows on loopback: what a transfer costs where the network costs nothing.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bench::figures::{Bound, Figure, Line, MIB, Sample, number};
use crate::bench::iperf::{self, Direction};
use crate::bench::mesh::{Feed, Keeping, Mesh};
use crate::bench::others::OTHERS;
use crate::bench::route::Route;
use crate::bench::stream::Stream;
use crate::bench::{Bench, Measured, stream};

const SIZE: u64 = 1 << 30;
const NODE_COUNT: usize = 6;
const KILL_COUNT: usize = 2;
const SEED: u64 = 1;
/// Bytes that are written to a disk before they are synced.
const SYNC_EVERY: u32 = 8 << 20;
/// What raw TCP is given for its figure.
const RAW_DURATION: Duration = Duration::from_secs(2);

/// Where a run writes what it gets. No file is removed or written over before a row is done: a virtual machine may have given the
/// memory of its cache back to its host, and then pays for the first touch of every page anew, up to 4 s/GiB.
fn fresh(folder: &Path, run: usize) -> PathBuf {
    folder.join(format!("out-{run}"))
}

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
    let (mut to_file, mut to_pipe) = (Vec::new(), Vec::new());
    for run in 0..bench.runs {
        let out = fresh(folder.path(), run);
        let got = mesh.get("file", &out, Feed::Files)?;
        stream::check_file(&out, SEED, size)?;
        to_file.push(beside_raw(got.sample(size), Direction::ToReader)?);
        let got = mesh.get("file", Path::new("-"), Feed::Checked { seed: SEED, size })?;
        to_pipe.push(beside_raw(got.sample(size), Direction::ToReader)?);
    }
    drop(mesh);
    let held =
        |line: Line| line.target(Figure::OfRaw, Bound::AtLeast(0.35)).target(Figure::Cpu, Bound::AtMost(2.5));
    let mut lines = vec![
        held(Line::new("get from the only holder, to a file", &to_file)),
        held(Line::new("get from the only holder, to a pipe", &to_pipe)),
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
    let (mut kept, mut lost, mut disk) = (Vec::new(), Vec::new(), Vec::new());
    // Removed when all is measured: see `fresh`.
    let mut folders = Vec::new();
    for _ in 0..bench.runs {
        disk.push(disk_alone(folder.path(), size)?);
        for (keeping, samples) in [(Keeping::Everything, &mut kept), (Keeping::NoShards, &mut lost)] {
            // A mesh of its own each time: what was put before would fill the disk and the page cache.
            let own = bench.folder()?;
            let mesh = Mesh::start_keeping(keeping, bench, &Route::loopback(), own.path(), NODE_COUNT)?;
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
        Line::new("the disk alone: 1.5 times the bytes, synced", &disk),
    ]))
}

/// What the disk does with what a put of this size makes of it, as a rate of the object's bytes.
fn disk_alone(folder: &Path, size: u64) -> Result<Sample, String> {
    let path = folder.join("disk");
    let mut buffer = Vec::new();
    let made = Stream::new(SEED).write(u64::from(SYNC_EVERY), &mut buffer);
    let written = made.and_then(|()| File::create(&path)).and_then(|mut file| {
        let begun = Instant::now();
        for _ in 0..(size / 2 * 3).div_ceil(u64::from(SYNC_EVERY)) {
            file.write_all(&buffer)?;
            file.sync_data()?;
        }
        Ok(begun.elapsed())
    });
    let elapsed = written.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Sample::from([(Figure::Rate, number(size) / MIB / elapsed.as_secs_f64())]))
}

pub(super) fn get(bench: &Bench) -> Result<Measured, String> {
    let (folder, size) = (bench.folder()?, bench.size(SIZE));
    let file = folder.path().join("file");
    stream::make_file(&file, SEED, size)?;
    let mut mesh = Mesh::start(bench, &Route::loopback(), folder.path(), NODE_COUNT)?;
    mesh.put("file", &file, &["--scheme", "4+2"], Feed::Files)?;
    let gets = |mesh: &Mesh, first: usize| -> Result<Vec<Sample>, String> {
        let mut samples = Vec::new();
        for run in first..first + bench.runs {
            let out = fresh(folder.path(), run);
            let got = mesh.get("file", &out, Feed::Files)?;
            stream::check_file(&out, SEED, size)?;
            samples.push(beside_raw(got.sample(size), Direction::ToReader)?);
        }
        Ok(samples)
    };
    let whole = Line::new("get, 4+2, six nodes", &gets(&mesh, 0)?);
    mesh.kill(KILL_COUNT);
    let degraded = Line::new("get with two of the six dead", &gets(&mesh, bench.runs)?);
    let at_least = Bound::AtLeast(0.25);
    Ok(Measured::Lines(vec![
        whole.target(Figure::OfRaw, at_least).target(Figure::Cpu, Bound::AtMost(4.0)),
        degraded.target(Figure::OfRaw, at_least).target(Figure::Cpu, Bound::AtMost(4.5)),
    ]))
}
