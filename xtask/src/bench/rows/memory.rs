//! Rows about size: memory must not grow with it.

use std::path::Path;

use crate::bench::figures::{Bound, Figure, Line};
use crate::bench::mesh::{Feed, Keeping, Mesh};
use crate::bench::process::{command, output};
use crate::bench::route::Route;
use crate::bench::{Bench, Measured};

/// The sizes, bytes, and what the table calls each.
const SIZES: [(u64, &str); 2] = [(1 << 30, "1 GiB"), (20 << 30, "20 GiB")];
const NODE_COUNT: usize = 6;
const SEED: u64 = 2;
/// The promise for each process: 100 MB, in MiB.
const MEMORY_MAX: f64 = 95.3;
/// Bytes that stay free on the disk beside what is put.
const FREE_MIN: u64 = 4 << 30;

pub(super) fn memory(bench: &Bench) -> Result<Measured, String> {
    let mut lines = Vec::new();
    for (full, name) in SIZES {
        if full > SIZES[0].0 && bench.is_small() {
            continue;
        }
        let size = bench.size(full);
        // 4+2 stores one and a half times the bytes.
        let needed = size / 2 * 3 + FREE_MIN;
        let free = free_bytes(&bench.place)?;
        if free < needed {
            println!("    {name} skipped: {} GiB are free, and {} GiB needed", free >> 30, needed >> 30);
            continue;
        }
        let folder = bench.folder()?;
        let mesh = Mesh::start(bench, &Route::loopback(), folder.path(), NODE_COUNT)?;
        let input = Path::new("-");
        let put = mesh.put("stream", input, &["--scheme", "4+2"], Feed::Made { seed: SEED, size })?;
        let got = mesh.get("stream", input, Feed::Checked { seed: SEED, size })?;
        for (what, operation) in [("put", put), ("get", got)] {
            let case = format!("{what} of {}", if bench.is_small() { "64 MiB" } else { name });
            lines.push(held(Line::new(case, &[operation.sample(size)])));
        }
    }
    if lines.is_empty() {
        return Ok(Measured::Skipped("the disk has no room".to_owned()));
    }
    Ok(Measured::Lines(lines))
}

const TERABYTE: u64 = 1_000_000_000_000;
const TERABYTE_SMALL: u64 = 1_000_000_000;

pub(super) fn terabyte(bench: &Bench) -> Result<Measured, String> {
    let (folder, size) = (bench.folder()?, if bench.is_small() { TERABYTE_SMALL } else { TERABYTE });
    let route = Route::loopback();
    let mesh = Mesh::start_keeping(Keeping::NoShards, &bench.program, &route, folder.path(), NODE_COUNT)?;
    let options = ["--scheme", "4+2"];
    let put = mesh.put("stream", Path::new("-"), &options, Feed::Made { seed: SEED, size })?;
    let case = format!("put of {} GB into nodes that lose it", size / 1_000_000_000);
    Ok(Measured::Lines(vec![held(Line::new(case, &[put.sample(size)]))]))
}

/// A line with the promise about memory.
fn held(line: Line) -> Line {
    let at_most = Bound::AtMost(MEMORY_MAX);
    line.target(Figure::ClientMemory, at_most).target(Figure::NodeMemory, at_most)
}

/// The bytes that are free on the disk of a folder.
fn free_bytes(folder: &Path) -> Result<u64, String> {
    let text = output(command("df").args(["--output=avail", "--block-size=1"]).arg(folder))?;
    let free = text.lines().nth(1).and_then(|line| line.trim().parse().ok());
    free.ok_or_else(|| format!("what df said: {text}"))
}
