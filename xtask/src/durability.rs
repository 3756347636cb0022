//! Has durability simulated, and makes the page and the plots of what was found.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

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
const PLOTS: &str = "plots";
const RECORD: &str = "plots/durability.json";
const PAGE: &str = "durability.md";

/// Runs the simulation with these arguments and writes what it found.
pub(crate) fn run(arguments: &[&str], root: &Path) -> Result<(), String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
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
    let folder = root.join(if quick { QUICK_FOLDER } else { FOLDER });
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    fs::create_dir_all(folder.join(PLOTS)).map_err(|error| format!("{}: {error}", folder.display()))?;
    let record = Record::of(&text)?;
    write(&folder.join(RECORD), &text)?;
    for (file, chart) in plots::charts(&record) {
        write(&folder.join(PLOTS).join(file), &chart)?;
    }
    let path = folder.join(PAGE);
    let page = fs::read_to_string(&path).unwrap_or_else(|_| page::empty());
    write(&path, &page::with(&page, &record)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{FOLDER, PAGE, PLOTS, RECORD, page, plots};
    use crate::durability::record::Record;
    use crate::repository;

    #[test]
    fn the_page_and_its_plots_are_those_of_the_record() {
        let folder = repository().join(FOLDER);
        let read = |file: &str| fs::read_to_string(folder.join(file)).expect("it is there");
        let record = Record::of(&read(RECORD)).expect("it was written by the simulation");
        assert_eq!(record.rows.len(), 16, "four schemes at two lifetimes with two kinds of faults");
        let page = read(PAGE);
        assert_eq!(page::with(&page, &record).as_ref(), Ok(&page));
        for (file, chart) in plots::charts(&record) {
            assert_eq!(read(&format!("{PLOTS}/{file}")), chart, "{file}");
            assert!(page.contains(&format!("({PLOTS}/{file})")), "{file}");
        }
    }
}
