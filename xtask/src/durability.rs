//! Has durability simulated, and makes the page and the plots of what was found.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::report::Report;
use crate::run::cargo_program;
use record::Record;

mod page;
mod plots;
mod record;

/// What is built and run; what the user adds is for it.
const SIMULATION: [&str; 8] =
    ["run", "--locked", "--release", "--quiet", "--package", "datamesh-sim", "--bin", "durability"];
/// Where the page and its plots are, and where a quick run leaves its own: its figures are of no use.
const FOLDER: &str = "docs";
const QUICK_FOLDER: &str = "target/durability";
const RECORD: &str = "durability.json";

/// Runs the simulation with these arguments and writes what it found.
pub(crate) fn run(arguments: &[&str], root: &Path) -> Result<(), String> {
    let mut command = Command::new(cargo_program());
    command.args(SIMULATION).arg("--").args(arguments).current_dir(root).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("cargo can't be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("the simulation ended with {}", output.status));
    }
    if arguments.iter().any(|argument| matches!(*argument, "--help" | "-h")) {
        println!("{text}");
        return Ok(());
    }
    let quick = arguments.contains(&"--quick");
    report(&text)?.write(&root.join(if quick { QUICK_FOLDER } else { FOLDER }))
}

/// What the simulation's output comes to.
fn report(text: &str) -> Result<Report, String> {
    let record = Record::of(text)?;
    Ok(Report {
        command: "durability",
        page: "durability.md",
        section: page::section(&record),
        charts: plots::charts(&record),
        record: (RECORD, text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{FOLDER, RECORD, report};
    use crate::durability::record::Record;
    use crate::report::PLOTS;
    use crate::repository;

    #[test]
    fn the_page_and_its_plots_are_those_of_the_record() {
        let folder = repository().join(FOLDER);
        let text = fs::read_to_string(folder.join(PLOTS).join(RECORD)).expect("it is there");
        let record = Record::of(&text).expect("it was written by the simulation");
        assert_eq!(record.rows.len(), 16, "four schemes at two lifetimes with two kinds of faults");
        report(&text).expect("it is a record").assert_written(&folder);
    }
}
