//! Sends a gateway bad requests, many of them, and makes its part of a page of what it answered.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::bench::Session;
use crate::needs;
use crate::report::Report;
use crate::run::{release_build, target};
use corpora::ALL;
use gateway::{Gateway, MEMORY_MAX, watch_health};
use options::{Build, Options};
use record::{Counts, Record};
use scene::{Keys, Scene, keys_of};
use wire::{Patience, exchange};

mod case;
mod corpora;
mod described;
mod draw;
mod gateway;
mod options;
mod oracle;
mod page;
mod record;
mod request;
mod scene;
mod sign;
mod wire;

pub(crate) use options::HELP;

/// Where homes and logs lie, below the build folder, and what a run that is not the whole one writes.
const FOLDER: &str = "fuzz-gateway";
const DOCS: &str = "docs";
const RECORD: &str = "fuzz-gateway.json";
/// Cases that are under way at once.
const WORKERS: usize = 6;
/// Findings after which a run ends.
const FINDINGS_MAX: usize = 20;
/// How long all cases may take.
const RUN_MAX: Duration = Duration::from_secs(2 * 3600);
/// Bytes of a request that a finding shows.
const SHOWN_SIZE_MAX: usize = 1500;
/// Cases of the small form, and its seed: a run that must pass before a change lands is the same each time.
const SMALL_COUNT: u64 = 2500;
const SMALL_SEED: u64 = 1;

/// What the arguments ask for.
pub(crate) fn run(arguments: &[&str], root: &Path) -> Result<(), FuzzError> {
    let options = Options::parse(arguments).map_err(FuzzError::Usage)?;
    Ok(perform(&options, root)?)
}

/// The form that runs with the tests, with the program that they have built.
pub(crate) fn run_small(root: &Path) -> Result<(), String> {
    let (count, seed, build) = (SMALL_COUNT, Some(SMALL_SEED), Build::Dev);
    perform(&Options { count, seed, only: None, build, raw: true, whole: false }, root)
}

/// Why the command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum FuzzError {
    /// It was asked for what does not exist.
    Usage(String),
    /// It found something, or could not look.
    Failed(String),
}

impl From<String> for FuzzError {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

fn perform(options: &Options, root: &Path) -> Result<(), String> {
    let session = Session::now(root);
    if !options.raw {
        needs::provide()?;
    }
    let program = program(&options.build, root)?;
    let seed = options
        .seed
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs()));
    let folder = target(root).join(FOLDER);
    let home = folder.join("home");
    // What an earlier run left is of no use; it may be that there is nothing.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    println!("    seed {seed}");
    let keys = Keys::make(&program, &home)?;
    let keys_before = keys_of(&program, &home)?;
    let mut gateway = Gateway::start(&program, &home, &folder)?;
    let scene = Scene::make(keys, gateway.address, &home, seed)?;
    let before = scene.snapshot()?;
    let sockets = gateway.socket_count();

    let stop = AtomicBool::new(false);
    let (asked, health) = thread::scope(|scope| {
        let health = scope.spawn(|| watch_health(gateway.address, &stop));
        let asked = ask_all(&scene, options, seed);
        stop.store(true, Ordering::Relaxed);
        (asked, health.join().expect("a watcher doesn't panic"))
    });
    let (corpora, mut findings) = asked;
    let mut hold = |result: Result<(), String>| findings.extend(result.err());
    let slowest = health.as_ref().copied().unwrap_or_default();
    hold(health.map(drop));
    hold(if gateway.runs() { Ok(()) } else { Err("the gateway has ended".to_owned()) });
    hold(gateway.panic().map_or(Ok(()), |line| Err(format!("the gateway panicked: {line}"))));
    let memory_peak = gateway.memory_peak();
    let fits = memory_peak <= MEMORY_MAX;
    hold(if fits { Ok(()) } else { Err(format!("the gateway had {memory_peak} bytes resident")) });
    hold(gateway.wait_until_idle(sockets));
    hold(unchanged(&before, &scene));
    hold(gateway.stop());
    // Its home is in use until it has ended.
    let same = keys_of(&program, &home).map(|keys| keys == keys_before);
    hold(same.and_then(|same| {
        if same { Ok(()) } else { Err("the access keys are not those of the begin".to_owned()) }
    }));

    let slowest_health_ms = u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX);
    let mut described = Vec::new();
    if !options.raw {
        match described::ask(root, &program, &folder, seed) {
            Ok(runs) => described = runs,
            Err(why) => findings.push(why),
        }
    }
    let record = Record { session, seed, corpora, described, memory_peak, slowest_health_ms };
    println!("{}", page::section(&record));
    if !findings.is_empty() {
        return Err(format!("{} findings with seed {seed}:\n{}", findings.len(), findings.join("\n\n")));
    }
    let written = if options.whole { root.join(DOCS) } else { folder };
    report(&record).write(&written)
}

/// The program that is asked.
fn program(build: &Build, root: &Path) -> Result<PathBuf, String> {
    match build {
        Build::Release => release_build(root),
        // As the tests have left it: a build of this package alone would choose other features, and make all anew.
        Build::Dev => Some(target(root).join("debug/datamesh"))
            .filter(|program| program.is_file())
            .ok_or_else(|| "there is no development build: `cargo build` makes it".to_owned()),
        Build::Given(program) => Ok(program.clone()),
    }
}

/// Sends all cases, and says how each corpus was answered and what was found.
fn ask_all(scene: &Scene, options: &Options, seed: u64) -> (BTreeMap<String, Counts>, Vec<String>) {
    let (first, end) = options.only.map_or((0, options.count), |only| (only, only + 1));
    let next = AtomicU64::new(first);
    let findings = Mutex::new(Vec::new());
    let begun = Instant::now();
    let work = || {
        let mut counts = [Counts::default(); ALL.len()];
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let enough = findings.lock().is_ok_and(|found| found.len() >= FINDINGS_MAX);
            if index >= end || enough {
                return counts;
            }
            let found = if begun.elapsed() > RUN_MAX {
                Err(format!("the cases take longer than {} s", RUN_MAX.as_secs()))
            } else {
                ask(scene, seed, index, &mut counts)
            };
            if let (Err(finding), Ok(mut found)) = (found, findings.lock()) {
                found.push(finding);
            }
        }
    };
    let sums = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        let done = workers.into_iter().map(|worker| worker.join().expect("a worker doesn't panic"));
        done.reduce(|sum, counts| core::array::from_fn(|at| sum[at].and(counts[at])))
    });
    let sums = sums.unwrap_or([Counts::default(); ALL.len()]);
    let named = ALL.iter().zip(sums).map(|(corpus, counts)| (corpus.name.to_owned(), counts));
    (named.collect(), findings.into_inner().unwrap_or_default())
}

/// Sends one case and holds what is said against the rules.
fn ask(scene: &Scene, seed: u64, index: u64, counts: &mut [Counts; ALL.len()]) -> Result<(), String> {
    let (at, case) = corpora::case(scene, seed, index);
    let told = |why: String| {
        let shown = &case.bytes[..case.bytes.len().min(SHOWN_SIZE_MAX)];
        format!(
            "{}, case {index}: {why}\n    repeat: cargo xtask fuzz-gateway --seed {seed} --only {index}\n    sent {} bytes: {}",
            ALL[at].name,
            case.bytes.len(),
            shown.escape_ascii()
        )
    };
    let said = exchange(scene.address, &case.bytes, case.ending, Patience::USUAL).map_err(told)?;
    counts[at].count(&said);
    oracle::judge(&case, &said, &scene.secrets).map_err(|why| {
        let answer = &said.bytes[..said.bytes.len().min(SHOWN_SIZE_MAX)];
        format!("{}\n    answered: {}", told(why), answer.escape_ascii())
    })
}

/// Whether what nobody might change is what it was, and nothing was copied to where more may read.
fn unchanged(before: &[(String, Vec<u8>)], scene: &Scene) -> Result<(), String> {
    let after = scene.snapshot()?;
    for ((what, was), (_, is)) in before.iter().zip(&after) {
        if was != is {
            return Err(format!("{what} is not what it was: {} {}", was.escape_ascii(), is.escape_ascii()));
        }
    }
    match scene.leaked_copy()? {
        Some(path) => Err(format!("something secret lies at {path}")),
        None => Ok(()),
    }
}

/// What the record comes to.
fn report(record: &Record) -> Report {
    Report {
        command: "fuzz-gateway",
        page: "threat-model.md",
        section: page::section(record),
        charts: Vec::new(),
        record: (RECORD, record.text()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::corpora::ALL;
    use super::options::COUNT;
    use super::record::Record;
    use super::{DOCS, RECORD, report};
    use crate::report::PLOTS;
    use crate::repository;

    #[test]
    fn the_page_is_that_of_the_record() {
        let folder = repository().join(DOCS);
        let text = fs::read_to_string(folder.join(PLOTS).join(RECORD));
        let record =
            Record::of(&text.expect("`cargo xtask fuzz-gateway` has made it")).expect("it is a record");
        let cases: u64 = record.corpora.values().map(|counts| counts.cases).sum();
        assert_eq!(cases, COUNT, "the requests of the whole form");
        assert!(ALL.iter().all(|corpus| record.corpora.contains_key(corpus.name)));
        assert_eq!(record.described.len(), 2, "with a token and without");
        report(&record).assert_written(&folder);
    }
}
