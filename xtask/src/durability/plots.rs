//! The plots of durability.

use super::page::GOAL;
use super::record::{Faults, Record, Row, nines};
use crate::chart::{Bar, svg};

/// Bytes of a gigabyte.
pub(super) const GB: f64 = 1e9;

/// Each plot's file, and what it is.
pub(super) fn charts(record: &Record) -> Vec<(&'static str, String)> {
    let chart = |title: &str, bar: fn(&Row) -> Bar| {
        let worldly = record.rows.iter().filter(|row| row.faults == Faults::Worldly);
        svg(title, &worldly.map(bar).collect::<Vec<_>>())
    };
    vec![
        ("durability-nines.svg", chart(NINES, nines_bar)),
        ("durability-repair.svg", chart(REPAIR, repair_bar)),
        ("durability-short.svg", chart(SHORT, short_bar)),
    ]
}

/// The titles of the plots.
pub(super) const NINES: &str =
    "Nines of a year, nodes and sites failing as in the world; the mark is the goal, at least";
pub(super) const REPAIR: &str = "GB that a node receives and sends for repair in a day";
pub(super) const SHORT: &str = "Share of objects and time with a shard missing, %";

fn label(row: &Row) -> String {
    format!("{}, nodes live {}", row.scheme, row.lifetime())
}

fn nines_bar(row: &Row) -> Bar {
    let value = nines(row.losses.mean);
    let value = if value.is_finite() { value } else { 0.0 };
    let mark = GOAL.is_of(row).then_some(GOAL.nines);
    Bar { label: label(row), value, text: format!("{value:.1}"), mark }
}

fn repair_bar(row: &Row) -> Bar {
    let value = row.repair_bytes / GB;
    Bar { label: label(row), value, text: format!("{value:.1}"), mark: None }
}

fn short_bar(row: &Row) -> Bar {
    let value = row.short_share * 100.0;
    Bar { label: label(row), value, text: format!("{value:.2}"), mark: None }
}
