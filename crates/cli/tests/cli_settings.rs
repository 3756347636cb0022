//! Settings from the file, the environment and the command line.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{datamesh, failure, field, json, json_lines, run, text};

fn desk(settings: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = directory.path().join("home");
    fs::create_dir(&home).expect("made");
    fs::write(home.join("config.toml"), settings).expect("written");
    (directory, home)
}

fn setting(home: &Path, key: &str) -> Value {
    json(home, &["config", "get", key]).remove(0)
}

#[test]
fn an_unknown_setting_is_refused_at_start_with_file_line_and_the_nearest_key() {
    let (_directory, home) = desk("# mine\n[put]\nmoed = 'dedup'\n");
    let error = failure(&home, &["config", "show"], 2);
    let expected = format!("{}:3: unknown setting `put.moed`", home.join("config.toml").display());
    assert_eq!(field(&error, "message"), expected);
    assert_eq!(field(&error, "hint"), "did you mean `put.mode`?");
}

#[test]
fn a_bad_unit_is_refused_at_start_with_file_and_line() {
    let (_directory, home) = desk("[storage]\ncapacity = \"500\"\n");
    let error = failure(&home, &["config", "get", "put.mode"], 2);
    let expected = format!("{}:2: storage.capacity: `500` is no size", home.join("config.toml").display());
    assert!(field(&error, "message").starts_with(&expected), "{error}");
}

#[test]
fn the_environment_beats_the_file_and_is_named_as_the_source() {
    let (_directory, home) = desk("[put]\nmode = 'dedup'\n");
    assert_eq!(field(&setting(&home, "put.mode"), "value"), "dedup");
    let ask = |name: &str, value: &str| {
        let mut command = datamesh(&home);
        command.args(["--json", "config", "get", "put.mode"]).env(name, value).output().expect("it runs")
    };
    let found = json_lines(&ask("DATAMESH_PUT_MODE", "public").stdout).remove(0);
    assert_eq!((field(&found, "value"), field(&found, "source")), ("public", "DATAMESH_PUT_MODE"));

    let misspelt = ask("DATAMESH_PUT_MOD", "public");
    assert_eq!(misspelt.status.code(), Some(2));
    assert!(
        text(&misspelt.stderr).contains("did you mean `DATAMESH_PUT_MODE`?"),
        "{}",
        text(&misspelt.stderr)
    );
}

#[test]
fn a_setting_is_written_checked_and_read_back_and_comments_stay() {
    let (_directory, home) = desk("# mine\n[storage]\ncapacity = \"1TB\" # all of it\n");
    let set = json(&home, &["config", "set", "storage.capacity", "500GB"]).remove(0);
    assert_eq!((field(&set, "key"), field(&set, "value")), ("storage.capacity", "500GB"));
    json(&home, &["config", "set", "network.listen", "/ip4/127.0.0.1/tcp/1,/ip4/127.0.0.1/udp/1/quic-v1"]);
    json(&home, &["config", "set", "put.compression", "zstd:-3"]);
    let file = fs::read_to_string(home.join("config.toml")).expect("readable");
    assert!(file.starts_with("# mine\n[storage]\ncapacity = \"500GB\" # all of it\n"), "{file}");
    assert_eq!(
        field(&setting(&home, "storage.capacity"), "source"),
        format!("{}:3", home.join("config.toml").display())
    );
    assert_eq!(field(&setting(&home, "put.compression"), "value"), "zstd:-3");

    for (key, value) in
        [("storage.capacity", "500"), ("put.mode", "secret"), ("transfer.stripes_in_flight", "0")]
    {
        let error = failure(&home, &["config", "set", key, value], 2);
        assert!(field(&error, "message").contains(key), "{error}");
    }
    let error = failure(&home, &["config", "set", "storage.capasity", "1GB"], 2);
    assert_eq!(field(&error, "hint"), "did you mean `storage.capacity`?");
    assert_eq!(fs::read_to_string(home.join("config.toml")).expect("readable"), file, "nothing was written");
}

#[test]
fn a_check_names_everything_that_is_wrong() {
    let (_directory, home) = desk("[put]\nmode = 'secret'\nmoed = 'dedup'\n");
    let output = run(&home, &["--json", "config", "check"]);
    assert_eq!(output.status.code(), Some(2));
    let result = json_lines(&output.stdout).remove(0);
    assert_eq!(result["valid"], false);
    assert_eq!(result["problems"].as_array().map(Vec::len), Some(2), "{result}");
    fs::write(home.join("config.toml"), "").expect("written");
    assert_eq!(json(&home, &["config", "check"])[0]["valid"], true);
}

#[test]
fn what_is_no_toml_is_refused_with_its_line_and_not_overwritten() {
    let (_directory, home) = desk("[put]\nmode = \n");
    for words in [&["config", "show"][..], &["config", "set", "put.mode", "dedup"]] {
        let error = failure(&home, words, 2);
        assert!(field(&error, "message").contains("config.toml:2: "), "{error}");
    }
    assert_eq!(fs::read_to_string(home.join("config.toml")).expect("readable"), "[put]\nmode = \n");
}
