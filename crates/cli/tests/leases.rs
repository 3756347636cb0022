//! Terms: what is put for a while is kept for that long, renewed, and gone thereafter, by clocks that the test moves.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Mesh, Random, datamesh, failure, field, json, json_lines, number, same_bytes, text};

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// A clock that is moved by writing a file.
struct Clock {
    library: String,
    file: PathBuf,
}

impl Clock {
    fn new(file: PathBuf) -> Self {
        let shown = Command::new("faketime").args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]).output();
        let library = text(&shown.expect("faketime is there").stdout).trim().to_owned();
        let clock = Self { library, file };
        clock.set("+0");
        clock
    }

    /// Replaced whole: it is read at any moment.
    fn set(&self, offset: &str) {
        let beside = self.file.with_extension("new");
        fs::write(&beside, format!("{offset}\n")).expect("written");
        fs::rename(&beside, &self.file).expect("renamed");
    }

    fn variables(&self) -> Vec<(String, String)> {
        let file = path_text(&self.file).to_owned();
        [
            ("LD_PRELOAD", self.library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    fn run(&self, home: &Path, arguments: &[&str]) -> std::process::Output {
        datamesh(home).arg("--json").args(arguments).envs(self.variables()).output().expect("it runs")
    }

    fn json(&self, home: &Path, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(home, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        json_lines(&output.stdout)
    }

    fn code(&self, home: &Path, arguments: &[&str]) -> Option<i32> {
        self.run(home, arguments).status.code()
    }
}

/// A folder with some files of one MiB, and a clock.
fn scene() -> (tempfile::TempDir, Clock, Vec<PathBuf>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let clock = Clock::new(directory.path().join("clock"));
    let files: Vec<PathBuf> = (0..3).map(|number| directory.path().join(format!("file-{number}"))).collect();
    for (seed, file) in (1..).zip(&files) {
        Random(seed).file(file, 1 << 20);
    }
    (directory, clock, files)
}

#[test]
fn what_is_put_for_a_while_ends_and_what_was_renewed_stays() {
    let (directory, clock, files) = scene();
    let home = directory.path().join("home");
    let put = |arguments: &[&str], file: &PathBuf| {
        let arguments: Vec<&str> =
            ["put"].iter().chain(arguments).copied().chain([path_text(file)]).collect();
        clock.json(&home, &arguments).remove(0)
    };
    let brief = put(&["--keep", "1h"], &files[0]);
    let renewed = put(&["--keep", "1h"], &files[1]);
    let lasting = put(&[], &files[2]);
    assert!(brief["until"].is_string() && lasting["until"].is_null(), "{brief} {lasting}");
    let (brief, renewed, lasting) =
        (field(&brief, "object"), field(&renewed, "object"), field(&lasting, "object"));
    let done = clock.json(&home, &["renew", renewed, "--keep", "10d"]).remove(0);
    assert_eq!(number(&done, "missed_count"), 0, "{done}");
    assert!(number(&done, "lease_count") > 0, "{done}");
    let info = clock.json(&home, &["info", renewed]).remove(0);
    assert_eq!(info["until"], done["until"], "{info}");
    let listed = clock.json(&home, &["list"]);
    assert_eq!(listed.iter().filter(|entry| entry["until"].is_null()).count(), 1, "{listed:?}");

    // Not sooner, and not before anything is collected by a command.
    clock.set("+50m");
    clock.json(&home, &["get", brief, "-", "--force"]);
    clock.set("+3h");
    let out = directory.path().join("out");
    clock.json(&home, &["get", lasting, path_text(&out)]);
    assert!(same_bytes(&files[2], &out));
    assert_eq!(clock.code(&home, &["get", brief, "-"]), Some(3), "it was collected by the get before");
    let gc = clock.json(&home, &["gc"]).remove(0);
    assert_eq!(number(&gc, "leases_expired"), 0, "nothing was left to collect: {gc}");
    for (object, file) in [(renewed, &files[1]), (lasting, &files[2])] {
        clock.json(&home, &["get", object, path_text(&out), "--force"]);
        assert!(same_bytes(file, &out));
    }
    clock.set("+12d");
    let gc = clock.json(&home, &["gc"]).remove(0);
    assert!(number(&gc, "leases_expired") > 0, "{gc}");
    assert_eq!(clock.code(&home, &["get", renewed, "-"]), Some(3));
    clock.json(&home, &["get", lasting, path_text(&out), "--force"]);
}

#[test]
fn a_term_that_can_not_be_is_refused_with_what_to_do() {
    let (directory, _, files) = scene();
    let home = directory.path().join("home");
    let file = path_text(&files[0]);
    let error = failure(&home, &["put", "--until", "2020-01-01", file], 2);
    assert!(field(&error, "message").contains("over already"), "{error}");
    let put = json(&home, &["put", "--keep", "10d", file]).remove(0);
    let object = field(&put, "object");
    let error = failure(&home, &["renew", object, "--keep", "1d"], 2);
    assert!(field(&error, "message").contains("already"), "{error}");
    assert!(field(&error, "hint").contains("put it anew"), "{error}");
    let done = json(&home, &["renew", object]).remove(0);
    assert!(done["until"].is_null(), "{done}");
    json(&home, &["delete", object]);
    let error = failure(&home, &["renew", object], 3);
    assert!(field(&error, "hint").contains("catalog"), "{error}");
}

#[test]
fn a_renewal_never_brings_back_what_was_deleted_meanwhile() {
    let mesh = Mesh::start(4);
    let file = mesh.path("file");
    Random(7).file(&file, 4 << 20);
    for round in 0..4_u64 {
        let put = json(&mesh.client, &["put", "--keep", "1d", path_text(&file)]).remove(0);
        let object = field(&put, "object").to_owned();
        let client = mesh.client.clone();
        let renewing = {
            let object = object.clone();
            thread::spawn(move || support::run(&client, &["renew", &object, "--keep", "9d"]))
        };
        thread::sleep(Duration::from_millis(40 * round));
        json(&mesh.client, &["delete", &object]);
        let renewed = renewing.join().expect("no panic");
        assert!(matches!(renewed.status.code(), Some(0 | 3 | 4)), "{}", text(&renewed.stderr));
        assert!(json(&mesh.client, &["list"]).is_empty(), "it is in the catalog again: round {round}");
        failure(&mesh.client, &["get", &object, "-"], 3);
    }
    let left: u64 = json(&mesh.client, &["peers"]).iter().map(|peer| number(peer, "item_count")).sum();
    assert_eq!(left, 0, "no node keeps anything of it");
}

#[test]
fn nodes_drop_what_has_ended_and_do_not_make_it_again() {
    let (directory, clock, files) = scene();
    let settings =
        [("storage.collect_every", "1s"), ("repair.check_every", "500ms"), ("repair.settle", "100ms")];
    let mesh = Mesh::start_with_variables(4, &settings, clock.variables());
    let items = || -> u64 {
        clock.json(&mesh.client, &["peers"]).iter().map(|peer| number(peer, "item_count")).sum()
    };
    let lasting = clock.json(&mesh.client, &["put", path_text(&files[0])]).remove(0);
    let kept = items();
    clock.json(&mesh.client, &["put", "--keep", "1h", path_text(&files[1])]);
    assert!(items() > kept, "it is there");
    thread::sleep(Duration::from_secs(3));
    assert!(items() > kept, "it is not dropped sooner");
    clock.set("+3h");
    let begun = Instant::now();
    while items() > kept {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is still there");
        thread::sleep(Duration::from_millis(200));
    }
    for _ in 0..10 {
        assert_eq!(items(), kept, "it was made again");
        thread::sleep(Duration::from_millis(300));
    }
    let out = directory.path().join("out");
    clock.json(&mesh.client, &["get", field(&lasting, "object"), path_text(&out)]);
    assert!(same_bytes(&files[0], &out));
}
