//! The part of the page that the record makes: a table of figures, and one of their targets.

use core::fmt::Write;

use super::figures::{Bound, Figure};
use super::plot::PLOTS;
use super::record::Record;

/// Figures that most lines have, and so a column of their own.
const COLUMNS: [Figure; 6] =
    [Figure::Rate, Figure::RawRate, Figure::OfRaw, Figure::Cpu, Figure::ClientMemory, Figure::NodeMemory];

/// The record's section of the page.
pub(super) fn section(record: &Record) -> String {
    let mut text = String::new();
    let mut line = |cells: &[String]| {
        writeln!(text, "| {} |", cells.join(" | ")).expect("a string takes any text");
    };
    let heads = COLUMNS.map(|column| column.name().to_owned());
    line(&[&["row".to_owned(), "what".to_owned()], heads.as_slice()].concat());
    line(&vec!["---".to_owned(); COLUMNS.len() + 2]);
    for (row, found) in record.lines() {
        let cell =
            |figure: &Figure| found.figures.get(figure).map_or(String::new(), |value| figure.text(*value));
        let what = if found.note.is_empty() {
            found.case.clone()
        } else {
            format!("{} ({})", found.case, found.note)
        };
        line(&[&[row.to_owned(), what][..], &COLUMNS.iter().map(cell).collect::<Vec<_>>()].concat());
    }
    text.push('\n');
    targets(record, &mut text);
    for plot in PLOTS.iter().filter(|plot| plot.has_bars(record)) {
        write!(text, "\n![{}](plots/{})\n", plot.title, plot.file).expect("a string takes any text");
    }
    text.push('\n');
    for (row, entry) in record.entries() {
        let runs = if entry.runs == 1 { "one run".to_owned() } else { format!("{} runs", entry.runs) };
        writeln!(
            text,
            "- {row}: {}, commit {}, {runs}, load before {:.1}",
            entry.date, entry.commit, entry.load
        )
        .expect("a string takes any text");
    }
    text
}

/// The table of targets, and whether they are met.
fn targets(record: &Record, text: &mut String) {
    text.push_str("| row | what | figure | measured | target | |\n|---|---|---|---|---|---|\n");
    for (row, line) in record.lines() {
        let others = line.figures.keys().filter(|figure| !COLUMNS.contains(figure));
        let mut figures: Vec<Figure> = line.targets.keys().chain(others).copied().collect();
        figures.sort_unstable();
        figures.dedup();
        for figure in figures {
            let value = line.figures.get(&figure).copied();
            let measured = value.map_or_else(|| "not measured".to_owned(), |value| figure.text(value));
            let (target, outcome) = match line.targets.get(&figure) {
                None => (String::new(), ""),
                Some(bound) => {
                    let sign = if matches!(bound, Bound::AtLeast(_)) { "≥" } else { "≤" };
                    let met = value.is_some_and(|value| bound.met(value));
                    (
                        format!("{sign} {}", figure.text(bound.limit())),
                        if met { "met" } else { "**not met**" },
                    )
                }
            };
            let cells = [row, &line.case, figure.name(), &measured, &target, outcome];
            writeln!(text, "| {} |", cells.join(" | ")).expect("a string takes any text");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::section;
    use crate::bench::figures::{Bound, Figure, Line, Sample};
    use crate::bench::record::{Entry, Record};
    use crate::bench::rows::ROWS;

    #[test]
    fn a_target_that_is_missed_is_said_to_be() {
        let line = |rate: f64| {
            let sample = Sample::from([(Figure::OfRaw, rate)]);
            Line::new("case", &[sample]).target(Figure::OfRaw, Bound::AtLeast(0.5))
        };
        let text = |rate: f64| {
            let mut record = Record::default();
            let (date, commit) = ("2026-01-01".to_owned(), "abc".to_owned());
            record.put(ROWS[0].name, Entry { date, commit, runs: 1, load: 0.0, lines: vec![line(rate)] });
            section(&record)
        };
        assert!(text(0.49).contains("| ≥ 0.50 | **not met** |"), "{}", text(0.49));
        assert!(text(0.5).contains("| ≥ 0.50 | met |"), "{}", text(0.5));
    }
}
