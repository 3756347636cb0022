//! What was measured of nodes while nothing happened.

use serde::{Deserialize, Serialize};

use crate::bench::Session;

/// What a line of the tests has before a row.
const MARK: &str = "idle: ";
/// Seconds between two looks of a node at its groups, unless its settings say otherwise.
const LOOK_EVERY: f64 = 300.0;

/// All of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// When it was measured, and of what.
    #[serde(flatten)]
    pub(super) session: Session,
    /// Of the machine.
    pub(super) cores: usize,
    /// Of one mesh that held more and more.
    pub(super) more_shards: Vec<Row>,
    /// Of larger and larger meshes.
    pub(super) more_nodes: Vec<Row>,
}

/// What a node of one mesh costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) nodes: u64,
    pub(super) shards_per_node: u64,
    /// Microseconds of processor time beside looks.
    pub(super) cpu_us_a_second: f64,
    /// Bytes of packets beside looks.
    pub(super) packet_bytes_a_second: f64,
    /// Microseconds of processor time.
    pub(super) cpu_us_a_look: f64,
    /// Bytes of packets, their headers included.
    pub(super) packet_bytes_a_look: f64,
    /// Bytes of the messages in those.
    pub(super) message_bytes_a_look: f64,
}

impl Record {
    #[cfg(test)]
    pub(super) fn of(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("no record: {error}"))
    }

    /// What is written of it.
    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("text and numbers are JSON") + "\n"
    }
}

impl Row {
    /// The row that a line of a test's output has, if it has one. It stands at the end: where tests run one after the other,
    /// the name of the test begins the line.
    pub(super) fn of_line(line: &str) -> Option<Result<Self, String>> {
        let (_, row) = line.split_once(MARK)?;
        Some(serde_json::from_str(row).map_err(|error| format!("`{line}` is no row: {error}")))
    }

    /// Bytes that a node sends by the second, looks included.
    pub(super) fn bytes_a_second(&self) -> f64 {
        self.packet_bytes_a_second + self.packet_bytes_a_look / LOOK_EVERY
    }

    /// Microseconds of processor time that a node takes by the second, looks included.
    pub(super) fn cpu_us_in_all(&self) -> f64 {
        self.cpu_us_a_second + self.cpu_us_a_look / LOOK_EVERY
    }
}

#[cfg(test)]
mod tests {
    use super::Row;

    const LINE: &str = r#"idle: {"cpu_us_a_look":40000.0,"cpu_us_a_second":500.0,"message_bytes_a_look":99000.0,
        "nodes":6,"packet_bytes_a_look":123000.0,"packet_bytes_a_second":2014.0,"shards_per_node":10000}"#;

    #[test]
    fn a_row_is_read_from_its_line_whatever_stands_before_it() {
        let row = Row::of_line(LINE).expect("it has one").expect("it is whole");
        assert_eq!((row.nodes, row.shards_per_node), (6, 10_000));
        assert_eq!(Row::of_line(&format!("test a_look ... {LINE}")), Some(Ok(row)));
        assert_eq!(Row::of_line("running 1 test"), None);
        assert!(Row::of_line("idle: {}").is_some_and(|row| row.is_err()));
    }

    #[test]
    fn a_second_has_its_share_of_a_look() {
        let row = Row::of_line(LINE).expect("it has one").expect("it is whole");
        assert!((row.bytes_a_second() - 2424.0).abs() < 1e-9);
        assert!((row.cpu_us_in_all() - 633.333).abs() < 1e-3);
    }
}
