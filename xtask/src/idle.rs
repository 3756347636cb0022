//! Measures what a node costs while nothing happens, and makes its part of a page and the plots beside it.

use std::io::{BufRead, BufReader};
use std::num::NonZero;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use crate::bench::{Namespace, Session};
use crate::needs;
use crate::report::Report;
use crate::run::{cargo, cargo_program, forget_own_package};
use record::{Record, Row};

mod page;
mod plots;
mod record;

/// What is built, and then run once for each test.
const BUILD: [&str; 7] = ["test", "--locked", "--release", "--package", "datamesh", "--test", "idle"];
/// The tests that print rows: of a mesh that holds more and more, and of larger and larger meshes.
const MORE_SHARDS: &str = "a_look_at_all_groups_costs_the_same_bytes_however_much_is_stored";
const MORE_NODES: &str = "a_look_at_all_groups_costs_no_more_bytes_the_more_nodes_there_are";
/// Where the page and its plots are, and where a small run leaves its own: its figures are of no use.
const FOLDER: &str = "docs";
const SMALL_FOLDER: &str = "target/bench-idle";
const RECORD: &str = "idle.json";

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// What the page is made of.
    Full,
    /// A little, to see that it works.
    Small,
}

impl Form {
    /// The one that was asked for.
    pub(crate) fn of(arguments: &[&str]) -> Result<Self, String> {
        match arguments {
            [] => Ok(Self::Full),
            ["--small"] => Ok(Self::Small),
            _ => Err(format!("`--small` or nothing, not `{}`", arguments.join(" "))),
        }
    }

    /// What tells the tests of it.
    fn variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Full => &[("DATAMESH_TEST_SCALE", "full")],
            Self::Small => &[],
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Full => FOLDER,
            Self::Small => SMALL_FOLDER,
        }
    }
}

/// Runs the tests and writes what they measured.
pub(crate) fn run(form: Form, root: &Path) -> Result<(), String> {
    needs::provide()?;
    needs::privileged()?;
    let session = Session::now(root);
    cargo(&[BUILD.as_slice(), &["--no-run"]].concat(), &[], root)?;
    let record = Record {
        session,
        cores: thread::available_parallelism().map_or(1, NonZero::get),
        more_shards: measured(MORE_SHARDS, form, root)?,
        more_nodes: measured(MORE_NODES, form, root)?,
    };
    let report = report(&record);
    let folder = root.join(form.folder());
    report.write(&folder)?;
    println!("\n{}", report.section);
    println!("written to {}", folder.display());
    Ok(())
}

/// The rows that one of the tests prints.
fn measured(test: &str, form: Form, root: &Path) -> Result<Vec<Row>, String> {
    // A network of its own: then what its loopback device carries is what these nodes send.
    let network = Namespace::new()?;
    let mut command = network.command(&cargo_program());
    forget_own_package(&mut command);
    command.args(BUILD).args(["--", "--exact", test, "--nocapture"]).envs(form.variables().iter().copied());
    command.current_dir(root).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut running = command.spawn().map_err(|error| format!("cargo can't be started: {error}"))?;
    let printed = BufReader::new(running.stdout.take().expect("its output is piped"));
    let mut lines = Vec::new();
    // Whatever can't be read any more ends the output; how the test ended says whether that was all.
    for line in printed.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        println!("{line}");
        lines.push(line);
    }
    let status = running.wait().map_err(|error| format!("cargo can't be waited for: {error}"))?;
    if !status.success() {
        return Err(format!("{test} ended with {status}; its own words are above"));
    }
    let rows: Vec<Row> = lines.iter().filter_map(|line| Row::of_line(line)).collect::<Result<_, _>>()?;
    if rows.is_empty() { Err(format!("{test} printed no figures")) } else { Ok(rows) }
}

/// What the record comes to.
fn report(record: &Record) -> Report {
    Report {
        command: "bench-idle",
        page: "repair.md",
        section: page::section(record),
        charts: plots::charts(record),
        record: (RECORD, record.text()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{FOLDER, Form, MORE_NODES, MORE_SHARDS, RECORD, report};
    use crate::bench::Namespace;
    use crate::idle::record::Record;
    use crate::report::PLOTS;
    use crate::repository;

    #[test]
    fn the_page_and_its_plots_are_those_of_the_record() {
        let folder = repository().join(FOLDER);
        let text = fs::read_to_string(folder.join(PLOTS).join(RECORD));
        let record =
            Record::of(&text.expect("`cargo xtask bench-idle` has made it")).expect("it is a record");
        let (shards, nodes) = (record.more_shards.len(), record.more_nodes.len());
        assert_eq!((shards, nodes), (3, 4), "the rows of the long form");
        report(&record).assert_written(&folder);
    }

    #[test]
    fn the_tests_that_print_the_rows_are_there() {
        let source = fs::read_to_string(repository().join("crates/cli/tests/idle.rs")).expect("it is there");
        for test in [MORE_SHARDS, MORE_NODES] {
            assert!(source.contains(&format!("#[test]\nfn {test}()")), "{test}");
        }
    }

    #[test]
    fn a_small_form_is_asked_for_by_its_name() {
        assert_eq!(Form::of(&[]), Ok(Form::Full));
        assert_eq!(Form::of(&["--small"]), Ok(Form::Small));
        assert!(Form::of(&["--quick"]).is_err() && Form::of(&["--small", "--small"]).is_err());
    }

    #[test]
    fn what_runs_in_a_network_of_its_own_sees_a_loopback_device_that_has_carried_nothing() {
        let network = Namespace::new().expect("the tests run as root");
        let mut command = network.command("cat");
        let shown = command.arg("/proc/self/net/dev").stdout(std::process::Stdio::piped()).output();
        let shown = String::from_utf8(shown.expect("it runs").stdout).expect("it is text");
        let devices: Vec<&str> = shown.lines().skip(2).map(str::trim).collect();
        assert!(matches!(devices[..], [own] if own.starts_with("lo: ")), "{shown}");
        assert_eq!(devices[0].split_whitespace().nth(1), Some("0"), "{shown}");
    }
}
