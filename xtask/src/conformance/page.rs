//! The part of the page that the record makes.

use core::fmt::Write;

use super::reasons;
use super::record::{Area, Record};

/// The record's section of the page.
pub(super) fn section(record: &Record) -> String {
    let Record { date, commit, suite, areas } = record;
    let sum = |count: fn(&Area) -> usize| areas.values().map(count).sum::<usize>();
    let (passed, differs) = (sum(|area| area.passed), sum(|area| area.differs.len()));
    let mut text = format!(
        "`{suite}`, Ceph's tests of S3 as a package, run on {date}, commit {commit}: of the {} tests of what is there, {passed} \
         pass. Not run are {} that need a server whose day has ten seconds.\n\n\
         | area | pass | end otherwise | of what is not there | left out by the suite |\n|---|---|---|---|---|\n",
        passed + differs,
        reasons::NOT_RUN.len(),
    );
    let mut row = |name: &str, counts: [usize; 4]| {
        let [passed, differs, not_there, left_out] = counts;
        writeln!(text, "| {name} | {passed} | {differs} | {not_there} | {left_out} |")
            .expect("a string takes any text");
    };
    for (name, area) in areas {
        row(name, [area.passed, area.differs.len(), area.not_there.len(), area.left_out]);
    }
    row("all", [passed, differs, sum(|area| area.not_there.len()), sum(|area| area.left_out)]);
    text.push_str("\nThose that end otherwise:\n\n| test | what it says | why |\n|---|---|---|\n");
    for (name, said) in areas.values().flat_map(|area| &area.differs) {
        let said = said.replace('|', "\\|").replace('`', "'");
        writeln!(text, "| `{name}` | `{said}` | {} |", reasons::why(name)).expect("a string takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::section;
    use crate::conformance::record::{Area, Record};

    #[test]
    fn a_test_that_ends_otherwise_is_shown_with_what_it_says() {
        let differs = BTreeMap::from([("test_odd".to_owned(), "1 | 2".to_owned())]);
        let area = Area { passed: 3, left_out: 1, not_there: vec!["test_acl".to_owned()], differs };
        let record = Record {
            date: "2026-01-01".to_owned(),
            commit: "abc".to_owned(),
            suite: "suite".to_owned(),
            areas: BTreeMap::from([("bucket".to_owned(), area)]),
        };
        let text = section(&record);
        assert!(text.contains("of the 4 tests of what is there, 3 pass"), "{text}");
        assert!(text.contains("| bucket | 3 | 1 | 1 | 1 |\n| all | 3 | 1 | 1 | 1 |"), "{text}");
        assert!(text.contains("| `test_odd` | `1 \\| 2` | not looked into |"), "{text}");
    }
}
