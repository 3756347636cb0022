//! Each kind of bad input gets its documented answer.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use support::{Random, datamesh, failure, field, json, text, wait_with_output};

fn desk() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = directory.path().join("home");
    (directory, home)
}

#[test]
fn unknown_truncated_and_mistyped_ids_are_told_apart() {
    let (directory, home) = desk();
    let file = directory.path().join("file");
    fs::write(&file, b"some bytes").expect("written");
    let put = json(&home, &["put", file.to_str().expect("UTF-8")]).remove(0);
    let id = field(&put, "object");

    let truncated = failure(&home, &["get", &id[..40], "-"], 2);
    assert_eq!(field(&truncated, "kind"), "usage");
    assert!(field(&truncated, "message").contains("truncated"), "{truncated}");
    let mistyped = failure(&home, &["get", &format!("{}1", &id[..58]), "-"], 2);
    assert!(field(&mistyped, "message").contains("mistyped"), "{mistyped}");
    let unknown = failure(&home, &["get", &("bafyr4i".to_owned() + &"b".repeat(51) + "a"), "-"], 3);
    assert_eq!(field(&unknown, "kind"), "not-found", "{unknown}");
    let name = failure(&home, &["get", "no-such-name", "-"], 3);
    assert_eq!(field(&name, "kind"), "not-found", "{name}");
    for form in [id.to_owned(), format!("datamesh://{id}")] {
        json(&home, &["get", "--force", &form, directory.path().join("out").to_str().expect("UTF-8")]);
    }
}

#[test]
fn an_output_that_exists_is_not_overwritten_unasked() {
    let (directory, home) = desk();
    let file = directory.path().join("file");
    fs::write(&file, b"new").expect("written");
    let put = json(&home, &["put", file.to_str().expect("UTF-8")]).remove(0);
    let out = directory.path().join("out");
    fs::write(&out, b"old").expect("written");
    let out_text = out.to_str().expect("UTF-8");
    failure(&home, &["get", field(&put, "object"), out_text], 1);
    assert_eq!(fs::read(&out).expect("readable"), b"old");
    json(&home, &["get", "--force", field(&put, "object"), out_text]);
    assert_eq!(fs::read(&out).expect("readable"), b"new");
}

#[test]
fn a_missing_input_and_one_that_changes_are_typed_errors() {
    let (directory, home) = desk();
    let missing = directory.path().join("missing");
    let error = failure(&home, &["put", missing.to_str().expect("UTF-8")], 1);
    assert!(field(&error, "message").contains("missing"), "{error}");

    let growing = directory.path().join("growing");
    Random(1).file(&growing, 24 << 20);
    let mut put = datamesh(&home);
    put.args(["--json", "put", growing.to_str().expect("UTF-8")]);
    let put = put.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut more = fs::File::options().append(true).open(&growing).expect("it opens");
    let appender = thread::spawn(move || {
        use std::io::Write;
        while Instant::now() < deadline && more.write_all(&[7; 4096]).is_ok() {
            thread::sleep(Duration::from_millis(1));
            if more.metadata().is_ok_and(|metadata| metadata.len() > 40 << 20) {
                break;
            }
        }
    });
    let output = wait_with_output(put, &["put", "growing"]);
    drop(appender);
    assert_eq!(output.status.code(), Some(1), "{}", support::text(&output.stderr));
    assert!(support::text(&output.stderr).contains("changed"), "{}", support::text(&output.stderr));
}

#[test]
fn a_full_disk_is_a_typed_error_and_reads_go_on() {
    let (directory, home) = desk();
    let small = directory.path().join("small");
    Random(2).file(&small, 1 << 20);
    let put = json(&home, &["put", small.to_str().expect("UTF-8")]).remove(0);
    json(&home, &["config", "set", "storage.capacity", "2MiB"]);
    let large = directory.path().join("large");
    Random(3).file(&large, 32 << 20);
    let error = failure(&home, &["put", large.to_str().expect("UTF-8")], 6);
    assert_eq!(field(&error, "kind"), "no-space", "{error}");
    let out = directory.path().join("out");
    json(&home, &["get", field(&put, "object"), out.to_str().expect("UTF-8")]);
    assert!(support::same_bytes(&small, &out));
}

fn is_under_way(directory: &std::path::Path) -> bool {
    let entries = fs::read_dir(directory).expect("listable");
    let mut names = entries.map(|entry| entry.expect("an entry").file_name());
    names.any(|name| name.to_string_lossy().contains("datamesh-partial"))
}

#[test]
fn an_interrupted_get_leaves_nothing_under_the_final_name() {
    let (directory, home) = desk();
    let file = directory.path().join("file");
    Random(4).file(&file, 64 << 20);
    let put = json(&home, &["put", file.to_str().expect("UTF-8")]).remove(0);
    let out = directory.path().join("out");
    let mut get = datamesh(&home);
    get.args(["get", field(&put, "object"), out.to_str().expect("UTF-8")]);
    let mut get = get.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // The partial file says that the transfer is under way.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_under_way(directory.path()) && get.try_wait().expect("it can be waited for").is_none() {
        assert!(Instant::now() < deadline, "nothing is written");
        thread::sleep(Duration::from_millis(1));
    }
    if get.try_wait().expect("it can be waited for").is_none() {
        let interrupted = std::process::Command::new("kill").args(["-INT", &get.id().to_string()]).status();
        assert!(interrupted.expect("kill runs").success());
    }
    let output = wait_with_output(get, &["get"]);
    // On a fast machine it may have been done before the signal came.
    match output.status.code() {
        Some(130) => {
            assert!(!out.exists(), "a half file lies under the final name");
            json(&home, &["get", field(&put, "object"), out.to_str().expect("UTF-8")]);
            assert!(support::same_bytes(&file, &out));
            assert!(!is_under_way(directory.path()), "the partial file is left behind");
        }
        code => {
            assert_eq!(code, Some(0), "{}", support::text(&output.stderr));
            assert!(support::same_bytes(&file, &out));
        }
    }
}

#[test]
fn a_scheme_out_of_range_is_a_usage_error() {
    let (directory, home) = desk();
    let file = directory.path().join("file");
    fs::write(&file, b"x").expect("written");
    for scheme in ["0+2", "200+100", "4", "4-2"] {
        failure(&home, &["put", "--scheme", scheme, file.to_str().expect("UTF-8")], 2);
    }
    let error = failure(&home, &["put", "--scheme", "10+6", file.to_str().expect("UTF-8")], 4);
    assert_eq!(field(&error, "kind"), "not-enough", "{error}");
}

#[test]
fn a_refused_address_that_may_hold_a_secret_is_not_repeated() {
    let (_directory, home) = desk();
    let told = |words: &[&str], variables: &[(&str, &str)]| {
        let mut command = datamesh(&home);
        command.args(words).envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = wait_with_output(command.spawn().expect("it starts"), words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        text(&output.stdout) + &text(&output.stderr)
    };
    let backends = [
        "redis://NOBODY:HUSH@host/0",
        "s3://NOBODY:HUSH@bucket?region=a",
        "s3://bucket?endpoint=http://NOBODY:HUSH@host",
        "s3://bucket/prefix?NOBODY=HUSH",
        "redis://NOBODY:HUSH?@host",
        "NOBODY:HUSH@host",
        "NOBODY HUSH",
    ];
    for backend in backends {
        let equals = format!("--backend={backend}");
        let mut all = vec![told(&["config", "set", "backend.url", backend], &[])];
        for command in ["service", "bootstrap"] {
            all.push(told(&[command, "--backend", backend], &[]));
            all.push(told(&["--json", command, &equals], &[]));
            all.push(told(&[command], &[("DATAMESH_BACKEND_URL", backend)]));
        }
        for said in all {
            assert!(said.contains("backend"), "it says which value is meant: {said}");
            for secret in ["nobody", "hush"] {
                assert!(!said.to_lowercase().contains(secret), "{backend}: {said}");
            }
        }
    }
    let webhook = "htps://host/HUSH";
    let said = told(&["config", "set", "alerts.webhook", webhook], &[])
        + &told(&["service"], &[("DATAMESH_ALERTS_WEBHOOK", webhook)]);
    assert!(said.contains("alerts.webhook") && !said.contains("HUSH"), "{said}");
    // The control: what holds no secret is repeated, and that is found.
    let said = told(&["service", "--domain", "HUSH"], &[]);
    assert!(said.contains("HUSH") && said.contains("--domain"), "{said}");
}
