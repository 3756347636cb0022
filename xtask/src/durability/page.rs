//! The part of the page that the record makes.

use core::fmt::Write;

use super::plots::{GB, NINES, REPAIR, SHORT};
use super::record::{Estimate, Faults, Record, Row, nines, nines_text};

/// How far simulation and model may lie apart where failures are independent, in nines.
const APART_MAX: f64 = 0.3;
/// Events from which on a counted rate is set beside the one by splitting.
const EVENTS_MIN: f64 = 100.0;
const BITS: f64 = 8.0;

/// What durability should at least be.
pub(super) struct Goal {
    scheme: &'static str,
    lifetime_days_min: f64,
    pub(super) nines: f64,
}

/// The goal.
pub(super) const GOAL: Goal = Goal { scheme: "10+6", lifetime_days_min: 365.0, nines: 11.0 };

impl Goal {
    pub(super) fn is_of(&self, row: &Row) -> bool {
        row.scheme == self.scheme && row.lifetime_days >= self.lifetime_days_min
    }
}

/// The record's section of the page.
pub(super) fn section(record: &Record) -> String {
    let mut text = inputs(record);
    text.push_str(&durability(record));
    text.push_str(&goals(record));
    for (title, file) in
        [(NINES, "durability-nines"), (REPAIR, "durability-repair"), (SHORT, "durability-short")]
    {
        line(&mut text, &format!("\n![{title}](plots/{file}.svg)"));
    }
    text.push_str(&levels(record));
    text.push_str(&checks(record));
    text
}

fn line(text: &mut String, what: &str) {
    writeln!(text, "{what}").expect("a string takes any text");
}

fn inputs(record: &Record) -> String {
    let Record { seed, node_count, runs, tries, .. } = record;
    let (minutes, hours) = (record.detection / 60.0, record.grace / 3600.0);
    let (rate, data) = (record.rebuild_rate * BITS / 1e6, record.data_per_node / GB);
    let spread = record.rows.iter().map(|row| row.spread_share).fold(1.0, f64::min) * 100.0;
    format!(
        "Seed {seed}; {node_count} nodes with {data:.0} GB each; a silent node is noticed after {minutes:.1} min and has {hours:.1} h \
         of grace; {rate:.0} Mbit/s of each node for the repairs it leads; splitting by {runs} runs of \
         {tries} tries a level. Of the stripes of every scheme, {spread:.1} % or more survive \
         as many whole sites \
         as they have parity shards.\n\n"
    )
}

/// The table of all rows.
fn durability(record: &Record) -> String {
    let mut text = String::from(
        "| scheme | nodes live | failures | nines simulated (95 %) | how | nines by the model | repaired after, h | \
         repair, GB per node and day | handed over, GB per node and day | a shard missing, % | warned, % |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in &record.rows {
        let cells = [
            row.scheme.clone(),
            row.lifetime(),
            row.faults.name().to_owned(),
            nines_text(row.losses),
            row.method.name().to_owned(),
            format!("{:.2}", nines(row.model)),
            format!("{:.1}", row.mean_repair_hours),
            format!("{:.1}", row.repair_bytes / GB),
            format!("{:.1}", row.moved_bytes / GB),
            format!("{:.3}", row.short_share * 100.0),
            format!("{:.4}", row.warned_share * 100.0),
        ];
        line(&mut text, &format!("| {} |", cells.join(" | ")));
    }
    text
}

/// Whether the goals are met.
fn goals(record: &Record) -> String {
    let mut text = String::from("\n| goal | found | |\n|---|---|---|\n");
    for row in record.rows.iter().filter(|row| GOAL.is_of(row)) {
        let met = row.losses.mean > 0.0 && nines(row.losses.high) >= GOAL.nines;
        let what = format!("{}, {}, failures {}", row.scheme, row.lifetime(), row.faults.name());
        let found = nines_text(row.losses);
        line(&mut text, &format!("| {what}: ≥ {} nines | {found} | {} |", GOAL.nines, outcome(met)));
    }
    let apart = record
        .rows
        .iter()
        .filter(|row| row.faults == Faults::Independent)
        .map(|row| (nines(row.losses.mean) - nines(row.model)).abs())
        .fold(0.0, f64::max);
    let what = format!("independent failures: simulation and model ≤ {APART_MAX} nines apart");
    line(&mut text, &format!("| {what} | {apart:.2} at most | {} |", outcome(apart <= APART_MAX)));
    text
}

const fn outcome(met: bool) -> &'static str {
    if met { "met" } else { "**not met**" }
}

/// The deepest level of each row that the mesh saw often enough, beside splitting.
fn levels(record: &Record) -> String {
    let mut text = String::from(
        "\n| scheme | nodes live | failures | years | objects × years | nodes that died | objects lost | shards missing | times, per \
         object and year, counted | by splitting (95 %) |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in &record.rows {
        let often = |rate: &&f64| **rate * row.object_years >= EVENTS_MIN;
        let Some(level) = row.counted_entries.iter().take_while(often).count().checked_sub(1) else {
            continue;
        };
        let (counted, Estimate { mean, low, high }) = (row.counted_entries[level], row.split_entries[level]);
        let (lifetime, faults, missing) = (row.lifetime(), row.faults.name(), level + 1);
        line(
            &mut text,
            &format!(
                "| {} | {lifetime} | {faults} | {} | {:.0} | {} | {} | {missing} | {counted:.2e} | {mean:.2e} ({low:.2e} to {high:.2e}) |",
                row.scheme, row.years, row.object_years, row.deaths, row.lost
            ),
        );
    }
    text
}

fn checks(record: &Record) -> String {
    let mut text = format!(
        "\nA mesh of {} nodes that live 30 days, `4+2`, a day of grace, repairs at once then, {} days; nines of a year:\n\n\
         | holders follow the members by | counted (95 %) | by splitting (95 %) | by the model |\n|---|---|---|---|\n",
        record.check_nodes, record.check_days
    );
    for check in &record.checks {
        let (counted, split) = (nines_text(check.counted), nines_text(check.split));
        line(&mut text, &format!("| {} | {counted} | {split} | {:.2} |", check.what, nines(check.model)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::section;
    use crate::durability::record::Record;

    fn record(losses: f64) -> Record {
        let estimate = format!(r#"{{"mean": {losses:e}, "low": {losses:e}, "high": {losses:e}}}"#);
        let text = format!(
            r#"{{"seed": 1, "node_count": 10, "detection": 60, "grace": 3600,
            "rebuild_rate": 125000, "data_per_node": 1e12, "runs": 2, "tries": 9, "check_nodes": 6, "check_days": 1, "checks": [],
            "rows": [{{"scheme": "10+6", "lifetime_days": 365.25, "faults": "independent", "years": 1, "method": "split",
            "losses": {estimate}, "model": 1e-12, "mean_repair_hours": 5, "repair_bytes": 0, "moved_bytes": 0,
            "short_share": 0, "warned_share": 0, "spread_share": 1, "object_years": 1000, "deaths": 1, "lost": 0,
            "counted_entries": [1.0, 0.01], "split_entries": [{estimate}, {estimate}]}}]}}"#
        );
        Record::of(&text).expect("a record")
    }

    #[test]
    fn a_goal_that_is_missed_is_said_to_be() {
        let page = |losses| section(&record(losses));
        assert!(page(1e-12).contains("| 12.00 (12.00 to 12.00) | met |"), "{}", page(1e-12));
        assert!(page(1e-12).contains("| 0.00 at most | met |"));
        assert!(page(1e-10).contains("| 10.00 (10.00 to 10.00) | **not met** |"));
        assert!(page(1e-10).contains("| 2.00 at most | **not met** |"));
        assert!(page(0.0).contains("| none seen | **not met** |"));
    }

    #[test]
    fn a_level_that_was_seen_too_seldom_is_not_compared() {
        let page = section(&record(1e-12));
        assert!(page.contains("| 1 | 1.00e0 |") && !page.contains("| 2 | 1.00e-2 |"), "{page}");
    }
}
