//! The plots of what a look costs: its bytes above its processor time.

use super::page::{grouped, kilobytes, milliseconds};
use super::record::{Record, Row};
use crate::chart::{Bar, stacked};

/// What stands above the bars of both plots.
const BYTES: &str = "Bytes of one look of a node at its groups, headers of packets included";
const CPU: &str = "Processor time of one look of a node at its groups";

/// One plot.
pub(super) struct Plot {
    /// Its file's name.
    pub(super) file: &'static str,
    /// What it shows.
    pub(super) title: &'static str,
}

/// Of one mesh that holds more and more.
pub(super) const SHARDS: Plot =
    Plot { file: "idle-shards.svg", title: "Bytes and processor time of one look, by shards on each node" };
/// Of larger and larger meshes.
pub(super) const NODES: Plot =
    Plot { file: "idle-nodes.svg", title: "Bytes and processor time of one look, by nodes" };

/// Each plot's file, and what it is.
pub(super) fn charts(record: &Record) -> Vec<(&'static str, String)> {
    vec![(SHARDS.file, chart(&record.more_shards)), (NODES.file, chart(&record.more_nodes))]
}

fn chart(rows: &[Row]) -> String {
    let bars = |figure: fn(&Row) -> f64, text: fn(f64) -> String| {
        let bar =
            |row: &Row| Bar { label: label(row), value: figure(row), text: text(figure(row)), mark: None };
        rows.iter().map(bar).collect::<Vec<_>>()
    };
    let bytes = bars(|row| row.packet_bytes_a_look, kilobytes);
    let cpu = bars(|row| row.cpu_us_a_look, milliseconds);
    stacked(&[(BYTES, &bytes), (CPU, &cpu)])
}

fn label(row: &Row) -> String {
    format!("{} nodes, {} shards on each", row.nodes, grouped(row.shards_per_node))
}
