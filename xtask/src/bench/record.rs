//! The record of what was measured, from which the page and its plots are made.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::figures::Line;
use super::rows::ROWS;
use crate::report::PLOTS;

/// Its file.
pub(super) const FILE: &str = "transfer.json";

/// What is known of every row that was ever measured.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    rows: BTreeMap<String, Entry>,
}

/// What is known of one row.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// When it was measured.
    pub(super) date: String,
    /// Of which state of the repository.
    pub(super) commit: String,
    /// How often.
    pub(super) runs: usize,
    /// What else ran on the machine: processes that wanted a processor before, by the kernel's mean of a minute.
    pub(super) load: f64,
    /// What came out.
    pub(super) lines: Vec<Line>,
}

impl Record {
    /// Reads the record below a folder; an empty one if there is none.
    pub(super) fn load(folder: &Path) -> Result<Self, String> {
        let path = folder.join(PLOTS).join(FILE);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{}: {error}", path.display())),
            Ok(text) => serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display())),
        }
    }

    /// What is written of it.
    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("text and numbers are JSON") + "\n"
    }

    /// Keeps what a row came to, in place of what it came to before.
    pub(super) fn put(&mut self, row: &str, entry: Entry) {
        self.rows.insert(row.to_owned(), entry);
    }

    /// Every row that was measured, in the order of the rows.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'static str, &Entry)> {
        ROWS.iter().filter_map(|row| Some((row.name, self.rows.get(row.name)?)))
    }

    /// Every line that was measured, with its row.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&'static str, &Line)> {
        self.entries().flat_map(|(row, entry)| entry.lines.iter().map(move |line| (row, line)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Entry, FILE, Record};
    use crate::bench::figures::{Bound, Figure, Line, Sample};
    use crate::bench::rows::ROWS;
    use crate::report::PLOTS;

    #[test]
    fn a_record_comes_back_as_it_was_written_and_a_row_replaces_only_itself() {
        let folder = tempfile::tempdir().expect("there is room");
        let line = |case: &str| {
            Line::new(case, &[Sample::from([(Figure::Rate, 1.5)])]).target(Figure::Rate, Bound::AtLeast(1.0))
        };
        let entry = |case: &str| Entry {
            date: "2026-01-01".to_owned(),
            commit: "abc".to_owned(),
            runs: 5,
            load: 0.25,
            lines: vec![line(case)],
        };
        let mut record = Record::default();
        record.put(ROWS[0].name, entry("a"));
        record.put(ROWS[1].name, entry("b"));
        let plots = folder.path().join(PLOTS);
        fs::create_dir(&plots).expect("there is room");
        fs::write(plots.join(FILE), record.text()).expect("there is room");
        let mut read = Record::load(folder.path()).expect("it was written");
        assert_eq!(read, record);
        read.put(ROWS[0].name, entry("c"));
        let cases: Vec<&str> = read.lines().map(|(_, line)| line.case.as_str()).collect();
        assert_eq!(cases, ["c", "b"]);
    }
}
