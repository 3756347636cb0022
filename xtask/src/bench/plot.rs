//! The bar charts of the record.

use super::figures::Figure;
use super::record::Record;
use crate::chart::{Bar, svg};

/// One plot: a figure of every line that has it.
pub(super) struct Plot {
    /// Its file's name.
    pub(super) file: &'static str,
    /// What stands above it.
    pub(super) title: &'static str,
    /// What its bars show.
    figure: Figure,
    /// The rows that it is of: others would not compare.
    rows: &'static [&'static str],
}

/// All of them.
pub(super) const PLOTS: [Plot; 4] = [
    Plot {
        file: "transfer-share.svg",
        title: "Rate as a share of iperf3 on the same path; the mark is the target, at least",
        figure: Figure::OfRaw,
        rows: &["one-holder", "put", "get"],
    },
    Plot {
        file: "transfer-cpu.svg",
        title: "Processor seconds per GiB, all processes; the mark is the target, at most",
        figure: Figure::Cpu,
        rows: &["one-holder", "put", "get"],
    },
    Plot {
        file: "transfer-link.svg",
        title: "Share of an emulated link that is used; the mark is the target, at least",
        figure: Figure::OfLink,
        rows: &["link-1g", "loss"],
    },
    Plot {
        file: "transfer-memory.svg",
        title: "Peak memory of the client, MiB; the mark is the target, at most",
        figure: Figure::ClientMemory,
        rows: &["put", "get", "memory", "terabyte"],
    },
];

impl Plot {
    fn bars(&self, record: &Record) -> Vec<Bar> {
        let bar = |(row, line): (&str, &super::figures::Line)| {
            let value = *line.figures.get(&self.figure).filter(|_| self.rows.contains(&row))?;
            let mark = line.targets.get(&self.figure).map(|bound| bound.limit());
            Some(Bar { label: line.case.clone(), value, text: self.figure.text(value), mark })
        };
        record.lines().filter_map(bar).collect()
    }

    /// Whether the record has anything to draw in it.
    pub(super) fn has_bars(&self, record: &Record) -> bool {
        !self.bars(record).is_empty()
    }
}

/// The file of every plot that has something to show, and what it is.
pub(super) fn charts(record: &Record) -> Vec<(&'static str, String)> {
    let shown = PLOTS.iter().filter(|plot| plot.has_bars(record));
    shown.map(|plot| (plot.file, svg(plot.title, &plot.bars(record)))).collect()
}

#[cfg(test)]
mod tests {
    use super::PLOTS;
    use crate::bench::rows::ROWS;

    #[test]
    fn every_plot_is_of_rows_that_there_are() {
        for name in PLOTS.iter().flat_map(|plot| plot.rows) {
            assert!(ROWS.iter().any(|row| row.name == *name), "{name}");
        }
    }
}
