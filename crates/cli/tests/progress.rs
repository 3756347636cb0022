//! What a put says of itself while it runs, in lines for programs.

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use crate::support::{Random, datamesh};

const SIZE: u64 = 48 << 20;

/// Says of each line of progress when it came, and when the last one did.
fn lines(arguments: &[&str], size: u64) -> Vec<(f64, Value)> {
    let home = tempfile::tempdir().expect("a temporary directory");
    let file = home.path().join("file");
    Random(1).file(&file, size);
    let mut command = datamesh(&home.path().join("home"));
    command.args(["--json", "put"]).arg(&file).args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().expect("the program starts");
    let mut found = Vec::new();
    for line in BufReader::new(child.stderr.take().expect("it is piped")).lines() {
        let line: Value = serde_json::from_str(&line.expect("text")).expect("JSON alone");
        found
            .extend(line.get("progress").map(|progress| (started.elapsed().as_secs_f64(), progress.clone())));
    }
    assert!(child.wait().expect("a child can be waited for").success());
    found
}

/// How right the time left is, the simulator's clock says (`crates/sim/tests/progress.rs`); this machine's may stand still.
#[test]
fn what_is_done_and_the_time_left_are_said_each_second() {
    // A stripe is half as large again as its chunk.
    let lines = lines(&["--scheme", "4+2", "--limit", "6MiB/s", "--progress"], SIZE);
    let (end, last) = lines.last().expect("a line at the end at least");
    assert_eq!(
        (last["bytes_done"].as_u64(), last["seconds_left"].as_f64()),
        (Some(SIZE), Some(0.0)),
        "{last}"
    );
    // 12 s, less what may move at once.
    assert!(*end > 10.0, "{end} s for 72 MiB at 6 MiB/s");
    assert!(lines.len() >= 10, "a line each second: {lines:?}");
    let mut before = 0;
    for (at, progress) in &lines {
        assert_eq!(
            (&progress["name"], progress["bytes_expected"].as_u64()),
            (&Value::from("file"), Some(SIZE))
        );
        let done = progress["bytes_done"].as_u64().expect("a number");
        assert!((before..=SIZE).contains(&done), "{done} bytes after {before}");
        before = done;
        if (SIZE / 10..SIZE).contains(&done) {
            let number = |name: &str| progress[name].as_f64().expect("told from a tenth on");
            let (rate, left) = (number("bytes_per_second"), number("seconds_left"));
            println!("{at:.2} s: {done} bytes, {rate:.0} bytes/s, {left:.2} s left");
            assert!(rate > 0.0, "{progress}");
            let bytes_left = u32::try_from(SIZE - done).expect("48 MiB at most");
            assert!((left * rate - f64::from(bytes_left)).abs() < 1024.0, "{progress}");
        }
    }
}

#[test]
fn nothing_is_said_that_was_not_asked_for() {
    assert!(lines(&[], 100_000).is_empty());
    let asked = lines(&["--progress"], 100_000);
    assert_eq!(asked.last().map(|(_, last)| last["bytes_done"].as_u64()), Some(Some(100_000)));
}
