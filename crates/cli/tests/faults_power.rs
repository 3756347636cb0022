//! The power of a whole mesh is cut at random moments of put, repair and gc, on a real ext4: nothing acknowledged is lost.
//!
//! The embedded mesh has all its disks, and the catalog, in a home on an ext4 of its own. While a command runs, the file system is shut down
//! hard: what is not synced is gone, and the command is killed. Then the file system is mounted again, and everything acknowledged must
//! be there with all its shards, everything deleted must stay deleted, and no index may need to be made anew.

mod support;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::disks::{Ext4, Log};
use support::{Random, datamesh, field, json_lines, same_bytes, scaled, text, wait_with_output};

const KIB: u64 = 1 << 10;
/// Objects that are held at a time.
const OBJECTS_MAX: usize = 5;
const DISKS: u64 = 6;
/// Cuts after which every object is read back whole.
const READ_BACK_EVERY: u64 = 10;

/// How many cuts: `cargo xtask power-cuts N` says so, else 1,000 in the long form.
fn cut_count() -> u64 {
    let asked = std::env::var("POWER_CUTS").map(|count| count.parse().expect("a count of cuts"));
    asked.unwrap_or(scaled(21, 1000))
}

/// What runs when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Put,
    Repair,
    Collect,
}

const WORKS: [Work; 3] = [Work::Put, Work::Repair, Work::Collect];

/// What happened, over all cuts.
#[derive(Debug, Default)]
struct Counts {
    cuts: u64,
    /// Commands that the cut came before the end of.
    cut_short: [u64; 3],
    /// Commands that were done, and said so, before the cut.
    acknowledged: [u64; 3],
    /// Objects looked at after a cut.
    checked: u64,
    read_back: u64,
}

/// A home on a disk whose power can be cut, and what it has acknowledged.
struct Desk {
    directory: tempfile::TempDir,
    disk: Ext4,
    random: Random,
    objects: Vec<(String, PathBuf)>,
    deleted: Vec<String>,
    /// How long each kind of work takes about.
    usual: [Duration; 3],
    file_count: u64,
    /// Stores that found something to recover.
    recovered_count: Cell<usize>,
}

impl Desk {
    fn new(seed: u64) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk = Ext4::new(directory.path(), "768M");
        let usual = [Duration::from_millis(150); 3];
        let (objects, deleted, file_count, recovered_count) = Default::default();
        let random = Random(seed);
        let desk = Self { directory, disk, random, objects, deleted, usual, file_count, recovered_count };
        // The disk is a small one.
        let configured = desk.run(&["config", "set", "storage.free_floor", "0B"]);
        assert!(configured.status.success(), "{}", text(&configured.stderr));
        desk
    }

    fn home(&self) -> PathBuf {
        self.disk.at.join("home")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = datamesh(&self.home());
        command.arg("--json").args(arguments).env("DATAMESH_LOG", "datamesh_store=info");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = wait_with_output(self.command(arguments).spawn().expect("it starts"), arguments);
        let recovered_count = text(&output.stderr).matches("store recovered").count();
        self.recovered_count.set(self.recovered_count.get() + recovered_count);
        output
    }

    fn new_file(&mut self) -> PathBuf {
        let file = self.directory.path().join(format!("file-{}", self.file_count));
        self.file_count += 1;
        // Some travel inside their manifest block.
        let size = if self.random.below(4) == 0 {
            self.random.below(40 * KIB)
        } else {
            self.random.below(12_000 * KIB)
        };
        self.random.file(&file, size);
        file
    }

    /// Prepares work of a kind, and says which command does it.
    fn prepare(&mut self, work: Work) -> (Vec<String>, Option<PathBuf>) {
        let own = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        match work {
            Work::Put => {
                let file = self.new_file();
                (own(&["put", file.to_str().expect("UTF-8")]), Some(file))
            }
            Work::Repair => {
                let number = self.random.below(DISKS).to_string();
                fs::remove_dir_all(self.home().join("disks").join(number).join("items"))
                    .expect("a disk is there");
                support::disks::tool("sync", &["--file-system", self.disk.at.to_str().expect("UTF-8")]);
                (own(&["repair"]), None)
            }
            Work::Collect => {
                while self.objects.len() >= OBJECTS_MAX {
                    let (object, file) = self.objects.remove(0);
                    let deleted = self.run(&["delete", &object]);
                    assert!(deleted.status.success(), "{}", text(&deleted.stderr));
                    fs::remove_file(file).expect("it was written");
                    self.deleted.push(object);
                }
                (own(&["gc"]), None)
            }
        }
    }

    /// Finds out how long a kind of work takes.
    fn time(&mut self, work: Work) {
        let (arguments, file) = self.prepare(work);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let begun = Instant::now();
        let output = self.run(&arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        self.usual[kind_of(work)] = begun.elapsed();
        if let Some(file) = file {
            self.objects.push((field(&json_lines(&output.stdout)[0], "object").to_owned(), file));
        }
    }

    /// Has the power cut during one piece of work.
    fn cut_during(&mut self, work: Work, counts: &mut Counts) {
        let (arguments, file) = self.prepare(work);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let kind = kind_of(work);
        // The first part of it goes into opening six stores.
        let share = 300 + u32::try_from(self.random.below(800)).expect("small");
        let moment = self.usual[kind].mul_f64(f64::from(share) / 1000.0);
        let log = if self.random.below(3) == 0 { Log::Flushed } else { Log::Lost };
        let begun = Instant::now();
        let mut child = self.command(&arguments).spawn().expect("it starts");
        let mut took = None;
        while begun.elapsed() < moment {
            if took.is_none() && child.try_wait().expect("a child can be waited for").is_some() {
                took = Some(begun.elapsed());
            }
            thread::sleep(Duration::from_micros(500));
        }
        self.disk.cut_power(log);
        // It may have ended by itself.
        let _ = child.kill();
        let output = wait_with_output(child, &arguments);
        self.disk.power_on();
        counts.cuts += 1;
        self.usual[kind] = match took {
            Some(took) => (self.usual[kind] + took) / 2,
            None => self.usual[kind].mul_f64(1.1),
        };
        if output.status.success() {
            counts.acknowledged[kind] += 1;
            if let (Some(put), Some(file)) = (json_lines(&output.stdout).first(), file) {
                assert_eq!(field(put, "acknowledged"), "whole", "{put}");
                self.objects.push((field(put, "object").to_owned(), file));
            }
        } else {
            counts.cut_short[kind] += 1;
            if let Some(file) = file {
                fs::remove_file(file).expect("it was written");
            }
            if work == Work::Repair {
                let repaired = self.run(&["repair"]);
                assert!(repaired.status.success(), "{}", text(&repaired.stderr));
            }
        }
    }

    /// What is wrong with what was acknowledged.
    fn check(&self, counts: &mut Counts) -> Result<(), String> {
        let listed = self.run(&["list"]);
        let log = text(&listed.stderr);
        if !listed.status.success()
            || log.contains("index is damaged")
            || log.contains("index that the segments")
        {
            return Err(format!("the mesh can't be opened as it is: {log}"));
        }
        for (object, _) in &self.objects {
            let verified = self.run(&["verify", "--deep", object]);
            let log = text(&verified.stderr);
            counts.checked += 1;
            if log.contains("index is damaged") {
                return Err(format!("an index was damaged: {log}"));
            }
            let score = json_lines(&verified.stdout).first().and_then(|found| found["score"].as_f64());
            if score.is_none_or(|score| score < 1.0) {
                return Err(format!("{object} has lost something: {score:?} {log}"));
            }
        }
        let listed = text(&listed.stdout);
        if let Some(object) = self.deleted.iter().find(|object| listed.contains(object.as_str())) {
            return Err(format!("{object} was deleted and is in the catalog"));
        }
        match self.objects.iter().find(|(object, _)| !listed.contains(object.as_str())) {
            Some((object, _)) => Err(format!("{object} is not in the catalog")),
            None => Ok(()),
        }
    }

    fn read_back(&self, counts: &mut Counts) {
        let out = self.directory.path().join("out");
        for (object, file) in &self.objects {
            let got = self.run(&["get", "--force", object, path(&out)]);
            assert!(got.status.success(), "{object}: {}", text(&got.stderr));
            assert!(same_bytes(file, &out), "{object} has other bytes");
            counts.read_back += 1;
        }
    }

    /// Puts a file, with the power on.
    fn put(&mut self) {
        let file = self.new_file();
        let put = self.run(&["put", path(&file)]);
        assert!(put.status.success(), "{}", text(&put.stderr));
        self.objects.push((field(&json_lines(&put.stdout)[0], "object").to_owned(), file));
    }
}

fn kind_of(work: Work) -> usize {
    WORKS.iter().position(|other| *other == work).expect("one of them")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn a_power_cut_of_everything_at_once_takes_nothing_back() {
    let mut desk = Desk::new(81);
    let mut counts = Counts::default();
    (0..3).for_each(|_| desk.put());
    WORKS.iter().for_each(|work| desk.time(*work));
    for cut in 0..cut_count() {
        let work = WORKS[usize::try_from(cut % 3).expect("small")];
        desk.cut_during(work, &mut counts);
        desk.check(&mut counts).unwrap_or_else(|error| panic!("cut {cut}, {work:?}: {error}"));
        if cut % READ_BACK_EVERY == 0 {
            desk.read_back(&mut counts);
        }
    }
    desk.read_back(&mut counts);
    let recovered_count = desk.recovered_count.get();
    println!("{counts:?} (put, repair, gc); {recovered_count} stores had something to recover");
    assert!(recovered_count > 0, "no cut left anything to recover");
    assert!(counts.cut_short.iter().all(|count| *count > 0), "every kind of work was cut short");
}

/// The control: were one kind of sync no sync, the check above would say so.
#[test]
fn without_the_sync_of_segments_a_power_cut_takes_what_was_acknowledged() {
    let mut desk = Desk::new(82);
    desk.put();
    assert_eq!(desk.check(&mut Counts::default()), Ok(()), "with its syncs nothing is lost");
    let file = desk.new_file();
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync",
        "-e",
        "inject=fdatasync:retval=0",
    ]);
    let put = desk.command(&["put", path(&file)]);
    command.arg(put.get_program()).args(put.get_args()).env("DATAMESH_LOG", "off");
    let put = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let put = wait_with_output(put.expect("strace starts"), &["put"]);
    assert!(put.status.success(), "{}", text(&put.stderr));
    desk.objects.push((field(&json_lines(&put.stdout)[0], "object").to_owned(), file));
    desk.disk.cut_power(Log::Lost);
    desk.disk.power_on();
    let found = desk.check(&mut Counts::default()).expect_err("what was never synced is lost");
    println!("found out: {}", found.lines().next().unwrap_or_default());
}
