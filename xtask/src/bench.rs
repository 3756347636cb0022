//! Measures transfers beside raw TCP on the same path, holds them to their targets, and draws them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::needs;
use crate::report::Report;
use crate::run::{release_build, target};

use figures::Line;
use record::{Entry, Record};
use rows::ROWS;

mod figures;
mod iperf;
mod link;
mod mesh;
mod others;
mod packet;
mod page;
mod plot;
pub(crate) mod process;
mod record;
mod route;
mod rows;
mod s3;
mod stream;
mod wire;

pub(crate) use link::Namespace;
pub(crate) use process::{command, output};

/// A mesh behind a gateway, for those who ask it things.
pub(crate) struct S3Server(s3::own::Own);

impl S3Server {
    /// Starts it below a folder: so many nodes of this program, and a gateway that codes by this scheme.
    pub(crate) fn start(program: &Path, folder: &Path, count: usize, scheme: &str) -> Result<Self, String> {
        s3::own::Own::start(mesh::Keeping::Everything, program, folder, count, scheme).map(Self)
    }

    /// Where it is and who may do everything.
    pub(crate) fn endpoint(&self) -> &s3::Endpoint {
        s3::Server::endpoint(&self.0)
    }

    /// Whose all is that it serves.
    pub(crate) const fn owner(&self) -> &s3::Owner {
        self.0.owner()
    }

    /// Another key, and its secret, with this grant.
    pub(crate) fn access_key(&self, grant: &str) -> Result<(String, String), String> {
        self.0.access_key(grant)
    }
}

/// What the command takes.
pub(crate) const HELP: &str = "\
cargo xtask bench-transfer [OPTION]...

  --row NAME      only this row; may be repeated; `--list` shows them
  --runs N        runs of each figure, of which the median counts; 5 unless told
  --small         with a sixteenth of the bytes: to see that everything works
  --program FILE  measures this program; otherwise the release build, which is made first
  --place DIR     where meshes and files lie while they are measured; below `target` unless told
  --list          shows the rows

Figures go to docs/plots/transfer.json, from which docs/performance.md and the plots beside it are made; what other
rows measured before stays. With --small all of it goes to target/bench-transfer instead.";

/// What the folders of rows begin with, before the id of the process that made them.
const FOLDER_PREFIX: &str = "row-";
const RUNS: usize = 5;
/// Above this, something else runs too: a warning is printed.
const LOAD_MAX: f64 = 1.0;
const RUNS_MAX: usize = 100;
const SMALL_DIVISOR: u64 = 16;

/// One row of the table: something that is measured by itself.
pub(crate) struct Row {
    /// What `--row` calls it.
    name: &'static str,
    /// What it measures.
    about: &'static str,
    /// Whether it runs where no row is named.
    chosen: Chosen,
    /// Measures it.
    measure: fn(&Bench) -> Result<Measured, String>,
}

/// When a row runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chosen {
    /// Always, unless others are named.
    ByDefault,
    /// Only where it is named: it takes hours.
    ByName,
}

/// What came of a row.
enum Measured {
    /// Its figures.
    Lines(Vec<Line>),
    /// It can't be measured here, and why.
    Skipped(String),
}

/// How to measure.
pub(crate) struct Bench {
    program: PathBuf,
    place: PathBuf,
    runs: usize,
    size_divisor: u64,
}

impl Bench {
    /// The bytes that a row moves, where it moves so many at full size.
    fn size(&self, full: u64) -> u64 {
        full / self.size_divisor
    }

    /// Whether fewer bytes are moved than the row says.
    fn is_small(&self) -> bool {
        self.size_divisor > 1
    }

    /// A folder of a row's own, removed when it is dropped.
    fn folder(&self) -> Result<tempfile::TempDir, String> {
        let prefix = format!("{FOLDER_PREFIX}{}-", std::process::id());
        let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(&self.place);
        made.map_err(|error| format!("a folder in {} can't be made: {error}", self.place.display()))
    }
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    rows: Vec<String>,
    runs: usize,
    small: bool,
    program: Option<PathBuf>,
    place: Option<PathBuf>,
    list: bool,
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Self, String> {
        let mut options =
            Self { rows: Vec::new(), runs: RUNS, small: false, program: None, place: None, list: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match *argument {
                "--row" => options.rows.push((*value()?).to_owned()),
                "--runs" => {
                    let text = value()?;
                    let count = text.parse().ok().filter(|count| (1..=RUNS_MAX).contains(count));
                    options.runs = count.ok_or_else(|| format!("`{text}` is no number of runs"))?;
                }
                "--small" => options.small = true,
                "--program" => options.program = Some(value()?.into()),
                "--place" => options.place = Some(value()?.into()),
                "--list" => options.list = true,
                other => return Err(format!("there is no option `{other}`")),
            }
        }
        if let Some(unknown) = options.rows.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
            return Err(format!("there is no row `{unknown}`; --list shows them"));
        }
        Ok(options)
    }

    fn wants(&self, row: &Row) -> bool {
        if self.rows.is_empty() {
            row.chosen == Chosen::ByDefault
        } else {
            self.rows.iter().any(|name| name == row.name)
        }
    }
}

/// Why the command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum BenchError {
    /// It was asked for what does not exist.
    Usage(String),
    /// It could not do it.
    Failed(String),
}

impl From<String> for BenchError {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Measures the rows that the arguments name, prints and records their figures.
pub(crate) fn run(arguments: &[&str], repository: &Path) -> Result<(), BenchError> {
    let options = Options::parse(arguments).map_err(BenchError::Usage)?;
    if options.list {
        for row in &ROWS {
            println!("{:<16}{}", row.name, row.about);
        }
        return Ok(());
    }
    let session = Session::now(repository);
    if session.load > LOAD_MAX {
        println!("the machine is busy (load {:.1}): rates will be low, over a link above all", session.load);
    }
    needs::provide_for_bench()?;
    let target = target(repository);
    let own = target.join("bench-transfer");
    let place = options.place.clone().unwrap_or_else(|| own.clone());
    for folder in [&own, &place] {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    sweep(&place)?;
    let program = match &options.program {
        Some(program) => absolute(program)?,
        None => release_build(repository)?,
    };
    let size_divisor = if options.small { SMALL_DIVISOR } else { 1 };
    let bench = Bench { program, place: absolute(&place)?, runs: options.runs, size_divisor };
    let docs = if options.small { own } else { repository.join("docs") };
    let mut record = Record::load(&docs)?;
    let failed = measure(&bench, &options, &mut record, &session);
    let report = report(&record);
    report.write(&docs)?;
    println!("\n{}", report.section);
    println!("written to {}", docs.display());
    if failed.is_empty() {
        Ok(())
    } else {
        Err(BenchError::Failed(format!("not measured: {}", failed.join(", "))))
    }
}

/// What the record comes to.
fn report(record: &Record) -> Report {
    Report {
        command: "bench-transfer",
        page: "performance.md",
        section: page::section(record),
        charts: plot::charts(record),
        record: (record::FILE, record.text()),
    }
}

/// Removes what runs that were killed have left in a folder: it can be many gigabytes.
fn sweep(place: &Path) -> Result<(), String> {
    let failed = |error| format!("{}: {error}", place.display());
    for entry in fs::read_dir(place).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let owner =
            name.strip_prefix(FOLDER_PREFIX).and_then(|rest| rest.split_once('-')?.0.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            fs::remove_dir_all(&path).map_err(failed)?;
        }
    }
    Ok(())
}

/// When something is measured, and of which state of the repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) date: String,
    pub(crate) commit: String,
    /// Of the machine, before this program gave it work.
    pub(crate) load: f64,
}

impl Session {
    pub(crate) fn now(repository: &Path) -> Self {
        let git = |arguments: &[&str]| {
            let mut command = process::command("git");
            command.args(arguments).current_dir(repository);
            process::output(&mut command).ok().map(|text| text.trim().to_owned())
        };
        let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
        let clean =
            git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| text.is_empty());
        let date = process::output(process::command("date").args(["-u", "+%F"])).unwrap_or_default();
        let commit = if clean { commit } else { format!("{commit} with changes") };
        Self { date: date.trim().to_owned(), commit, load: load() }
    }
}

/// How many processes wanted a processor in the last minute, on average.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|mean| mean.parse().ok()).unwrap_or_default()
}

/// Measures every row that is wanted into the record, and names those that failed.
fn measure(bench: &Bench, options: &Options, record: &mut Record, session: &Session) -> Vec<String> {
    let mut failed = Vec::new();
    for row in ROWS.iter().filter(|row| options.wants(row)) {
        println!("==> {}: {}", row.name, row.about);
        match (row.measure)(bench) {
            Ok(Measured::Lines(lines)) => {
                for line in &lines {
                    println!("    {line}");
                }
                let Session { date, commit, load } = session.clone();
                record.put(row.name, Entry { date, commit, runs: bench.runs, load, lines });
            }
            Ok(Measured::Skipped(why)) => println!("    skipped: {why}"),
            Err(why) => {
                println!("    FAILED: {why}");
                failed.push(row.name.to_owned());
            }
        }
    }
    failed
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::record::Record;
    use super::{Options, ROWS, report, sweep};
    use crate::repository;

    #[test]
    fn options_are_read_and_strange_ones_refused() {
        let options = Options::parse(&["--row", "put", "--row", "get", "--runs", "3", "--small"]);
        let options = options.expect("they are valid");
        assert_eq!((options.rows.len(), options.runs, options.small), (2, 3, true));
        for bad in [&["--row", "nothing"][..], &["--runs", "0"], &["--runs"], &["--fast"], &["put"]] {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_folders_of_runs_that_are_gone_are_swept() {
        let place = tempfile::tempdir().expect("there is room");
        let mine = format!("row-{}-a", std::process::id());
        // No process has an id above the kernel's limit of 2^22.
        for name in [mine.as_str(), "row-4194305-b", "row-x", "plots"] {
            std::fs::create_dir(place.path().join(name)).expect("there is room");
        }
        sweep(place.path()).expect("it can be read");
        let mut left: Vec<_> = std::fs::read_dir(place.path())
            .expect("it can be read")
            .map(|entry| entry.expect("it can be read").file_name().into_string().expect("plain names"))
            .collect();
        left.sort();
        assert_eq!(left, ["plots", mine.as_str(), "row-x"]);
    }

    #[test]
    fn the_page_and_its_plots_are_those_of_the_record() {
        let docs = repository().join("docs");
        report(&Record::load(&docs).expect("it was measured")).assert_written(&docs);
    }

    #[test]
    fn a_row_is_named_once() {
        for (at, row) in ROWS.iter().enumerate() {
            assert!(ROWS[at + 1..].iter().all(|other| other.name != row.name), "{}", row.name);
        }
    }
}
