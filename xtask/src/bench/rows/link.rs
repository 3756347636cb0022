//! Rows over an emulated link: how much of it a transfer uses.

use std::path::Path;
use std::time::Duration;

use crate::bench::figures::{Bound, Figure, Line, MIB, Sample, number};
use crate::bench::iperf::{self, Direction};
use crate::bench::link::Link;
use crate::bench::mesh::{Feed, Mesh};
use crate::bench::wire::Shape;
use crate::bench::{Bench, Measured, stream};

/// So much that the start of a client, about half a second of round trips, is not what is measured.
const SIZE: u64 = 2 << 30;
/// The same over a link that loses packets.
const LOSS_SIZE: u64 = 1 << 30;
const NODE_COUNT: usize = 6;
const SEED: u64 = 4;
/// Fewer bytes than this show the start of a client, not the link.
const SIZE_MIN: u64 = 256 << 20;
const RAW_DURATION: Duration = Duration::from_secs(10);
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// What a row gets over a link, and how.
struct Case {
    shape: Shape,
    node_count: usize,
    scheme: &'static str,
    /// `None` leaves the system's.
    congestion: Option<&'static str>,
    size: u64,
}

impl Case {
    /// Gets an object so many times, each beside iperf3 with as many connections as the get had.
    fn samples(&self, bench: &Bench) -> Result<(Vec<Sample>, usize), String> {
        let folder = bench.folder()?;
        let (file, out) = (folder.path().join("file"), Path::new("-"));
        stream::make_file(&file, SEED, self.size)?;
        let link = Link::new(self.shape)?;
        if let Some(algorithm) = self.congestion {
            link.control_congestion(algorithm)?;
        }
        let mesh = Mesh::start(bench, link.route(), folder.path(), self.node_count)?;
        mesh.put("file", &file, &["--scheme", self.scheme], Feed::Files)?;
        mesh.get("file", out, Feed::Checked { seed: SEED, size: self.size })?;
        let (mut samples, mut connection_count) = (Vec::new(), 1);
        for _ in 0..bench.runs {
            let before = link.received_by_reader();
            let got = mesh.get("file", out, Feed::Dropped)?;
            let received = link.received_by_reader() - before;
            connection_count = got.connection_count.max(1);
            let raw = iperf::measure(link.route(), Direction::ToReader, connection_count, RAW_DURATION)?;
            let mut sample = got.sample(self.size);
            let rate = number(self.size) / got.wall.as_secs_f64();
            sample.insert(Figure::OfLink, rate / self.shape.bytes_per_second());
            sample.insert(Figure::WireOverhead, number(received) / number(self.size) - 1.0);
            sample.insert(Figure::RawRate, raw.rate / MIB);
            sample.insert(Figure::OfRaw, rate / raw.rate);
            samples.push(sample);
        }
        Ok((samples, connection_count))
    }
}

/// What iperf3 alone makes of a link.
fn raw(bench: &Bench, shape: Shape, name: &str, congestion: Option<&str>) -> Result<Line, String> {
    let link = Link::new(shape)?;
    if let Some(algorithm) = congestion {
        link.control_congestion(algorithm)?;
    }
    let mut samples = Vec::new();
    for _ in 0..bench.runs {
        let raw = iperf::measure(link.route(), Direction::ToReader, 1, RAW_DURATION)?;
        let of_link = raw.rate / shape.bytes_per_second();
        samples.push(Sample::from([(Figure::Rate, raw.rate / MIB), (Figure::OfLink, of_link)]));
    }
    Ok(Line::new(name, &samples))
}

pub(super) fn gigabit(bench: &Bench) -> Result<Measured, String> {
    if let Some(obstacle) = Link::obstacle() {
        return Ok(Measured::Skipped(obstacle));
    }
    let shape = Shape { bits_per_second: 1_000_000_000, round_trip: ROUND_TRIP, lost_per_mille: 0 };
    let mut lines = vec![raw(bench, shape, "iperf3, one connection, no loss", None)?];
    for (node_count, scheme, name) in
        [(1, "1+0", "get from one node"), (NODE_COUNT, "4+2", "get from six nodes")]
    {
        let case = Case { shape, node_count, scheme, congestion: None, size: bench.size(SIZE).max(SIZE_MIN) };
        let (samples, connection_count) = case.samples(bench)?;
        let line = Line::new(name, &samples).note(connections(connection_count));
        let line = line.target(Figure::OfLink, Bound::AtLeast(0.9));
        lines.push(line.target(Figure::WireOverhead, Bound::AtMost(0.05)));
    }
    Ok(Measured::Lines(lines))
}

pub(super) fn loss(bench: &Bench) -> Result<Measured, String> {
    if let Some(obstacle) = Link::obstacle() {
        return Ok(Measured::Skipped(obstacle));
    }
    let shape = Shape { bits_per_second: 200_000_000, round_trip: ROUND_TRIP, lost_per_mille: 10 };
    let mut lines = Vec::new();
    for algorithm in ["bbr", "cubic"] {
        lines.push(raw(bench, shape, &format!("iperf3, one connection, {algorithm}"), Some(algorithm))?);
        let case = Case {
            shape,
            node_count: NODE_COUNT,
            scheme: "4+2",
            congestion: Some(algorithm),
            size: bench.size(LOSS_SIZE),
        };
        let (samples, connection_count) = case.samples(bench)?;
        let name = format!("get from six nodes, {algorithm}");
        let line = Line::new(name, &samples).note(connections(connection_count));
        lines.push(if algorithm == "bbr" {
            line.target(Figure::OfLink, Bound::AtLeast(0.9))
        } else {
            line.target(Figure::OfRaw, Bound::AtLeast(1.0))
        });
    }
    Ok(Measured::Lines(lines))
}

fn connections(count: usize) -> String {
    if count == 1 { "1 connection".to_owned() } else { format!("{count} connections, iperf3 as many") }
}
