//! The program's manners: exit codes, errors, colours, pipes, completions, man pages.

mod support;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use clap::{Command, CommandFactory};
use datamesh_cli::args::{Args, json as examples};
use serde_json::Value;
use support::{datamesh, failure, field, json, json_lines, run, text};

fn desk() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = directory.path().join("home");
    (directory, home)
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

#[test]
fn a_wrong_command_line_is_a_usage_error_and_help_is_none() {
    let (_directory, home) = desk();
    for wrong in
        [&["lisst"][..], &[], &["put"], &["get", "x", "--range", "9-3"], &["keys"], &["config", "get"]]
    {
        assert_eq!(code(&run(&home, wrong)), 2, "{wrong:?}");
        let error = failure(&home, wrong, 2);
        assert_eq!(field(&error, "kind"), "usage");
        assert!(!field(&error, "message").is_empty() && !field(&error, "hint").is_empty(), "{error}");
    }
    let error = failure(&home, &["lisst"], 2);
    assert!(field(&error, "message").contains("lisst") && field(&error, "hint").contains("list"), "{error}");
    for right in [&["--help"][..], &["help"], &["--version"], &["put", "--help"], &["keys", "-h"]] {
        let output = run(&home, right);
        assert_eq!(code(&output), 0, "{right:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{right:?}");
    }
    assert!(!home.exists(), "none of these makes a home");
}

#[test]
fn errors_go_to_stderr_as_one_object_with_kind_message_and_hint() {
    let (_directory, home) = desk();
    let output = run(&home, &["--json", "networks", "use", "nowhere"]);
    assert_eq!(code(&output), 3);
    assert!(output.stdout.is_empty());
    let lines = json_lines(&output.stderr);
    assert_eq!(lines.len(), 1, "{}", text(&output.stderr));
    let error = lines[0].as_object().expect("an object");
    assert_eq!(error.keys().collect::<Vec<_>>(), ["error"]);
    let keys: Vec<&String> = error["error"].as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["hint", "kind", "message"]);
    assert_eq!(field(&error["error"], "kind"), "not-found");
    assert_eq!(field(&error["error"], "message"), "no network is called `nowhere`");

    let human = run(&home, &["networks", "use", "nowhere"]);
    let expected =
        "error: no network is called `nowhere`\nhint: datamesh networks shows those that were joined\n";
    assert_eq!(text(&human.stderr), expected);
}

#[test]
fn colours_are_for_terminals_and_never_with_no_color() {
    let (_directory, home) = desk();
    let coloured = |variables: &[(&str, &str)]| {
        let mut command = datamesh(&home);
        command.args(["networks", "use", "nowhere"]).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        let output = command.envs(variables.iter().copied()).output().expect("it runs");
        output.stderr.contains(&0x1b)
    };
    assert!(!coloured(&[]), "a pipe is no terminal");
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]), "the search for colours works");
    assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

#[test]
fn a_reader_who_has_read_enough_is_no_failure() {
    let (_directory, home) = desk();
    for words in [&["completions", "bash"][..], &["--help"], &["--json", "completions", "zsh"]] {
        let mut command = datamesh(&home);
        let child = command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("it starts");
        drop(child.stdout.take());
        let mut errors = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut errors).expect("readable");
        assert_eq!((child.wait().expect("it ends").code(), errors.as_str()), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn completions_are_made_for_each_shell() {
    let (_directory, home) = desk();
    for (shell, sign) in
        [("bash", "complete -F"), ("zsh", "#compdef datamesh"), ("fish", "complete -c datamesh")]
    {
        let script = text(&run(&home, &["completions", shell]).stdout);
        assert!(script.contains(sign) && script.contains("bootstrap-peer"), "{shell}");
    }
    assert_eq!(code(&run(&home, &["completions", "csh"])), 2);
}

#[test]
fn there_is_a_man_page_for_each_command() {
    let (directory, home) = desk();
    let pages = directory.path().join("man");
    let written = json(&home, &["man", pages.to_str().expect("UTF-8")]).remove(0);
    let names: Vec<&str> =
        written["pages"].as_array().expect("pages").iter().filter_map(Value::as_str).collect();
    for name in ["datamesh.1", "datamesh-put.1", "datamesh-keys-rotate.1", "datamesh-networks-use.1"] {
        assert!(names.contains(&name), "{names:?}");
        let page = fs::read_to_string(pages.join(name)).expect("it was written");
        assert!(page.contains(".TH") && page.contains(".SH SYNOPSIS"), "{name}");
    }
    let blocked = directory.path().join("file");
    fs::write(&blocked, "").expect("written");
    failure(&home, &["man", blocked.to_str().expect("UTF-8")], 1);
}

#[test]
fn joined_networks_are_kept_listed_and_chosen() {
    let (_directory, home) = desk();
    let peer = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
    let address = format!("/ip4/10.0.0.1/tcp/40871/p2p/{peer}");
    let bare = failure(&home, &["join", "/ip4/10.0.0.1/tcp/40871"], 2);
    assert!(field(&bare, "message").contains("/p2p/"), "{bare}");
    failure(&home, &["join", &address, "--name", "../x"], 2);
    fs::create_dir_all(&home).expect("made");
    fs::write(
        home.join("networks.toml"),
        format!(
            "version = 1\ncurrent = \"team\"\n\n[[network]]\nname = \"team\"\naddresses = [\"{address}\"]\n"
        ),
    )
    .expect("written");

    let listed = json(&home, &["networks"]);
    let shown: Vec<(&str, bool)> =
        listed.iter().map(|network| (field(network, "name"), network["current"] == true)).collect();
    assert_eq!(shown, [("embedded", false), ("team", true)]);
    assert_eq!(listed[1]["addresses"][0], address);
    assert_eq!(field(&json(&home, &["networks", "use", "embedded"])[0], "name"), "embedded");
    assert!(json(&home, &["networks"])[0]["current"] == true);
    failure(&home, &["networks", "use", "other"], 3);
}

/// The example in a command's help.
fn example(path: &[&str]) -> Value {
    let mut command: Command = Args::command();
    for name in path {
        command = command.find_subcommand(name).unwrap_or_else(|| panic!("no command {path:?}")).clone();
    }
    let help = command.get_after_long_help().unwrap_or_else(|| panic!("{path:?} has no example")).to_string();
    let example = help.strip_prefix(examples::HEAD).unwrap_or_else(|| panic!("{path:?} has no example"));
    serde_json::from_str(example.trim()).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// Whether both have the same fields of the same kinds, as deep as the example goes. What may be `null`, or a list without
/// entries, shows its fields elsewhere.
fn same_shape(found: &Value, example: &Value, what: &str) {
    match (found, example) {
        (Value::Object(found), Value::Object(example))
            if what.ends_with("metadata") || what.ends_with("labels") =>
        {
            assert!(found.values().chain(example.values()).all(Value::is_string), "{what}");
        }
        (Value::Object(found), Value::Object(example)) => {
            let names = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(found), names(example), "{what}");
            for (name, value) in example {
                same_shape(&found[name], value, &format!("{what}.{name}"));
            }
        }
        (Value::Array(found), Value::Array(example)) => {
            for entry in found {
                same_shape(entry, &example[0], what);
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        _ => assert_eq!(std::mem::discriminant(found), std::mem::discriminant(example), "{what} is {found}"),
    }
}

#[test]
fn json_results_have_the_shape_that_the_help_shows() {
    let (directory, home) = desk();
    let man = directory.path().join("man");
    let man = man.to_str().expect("UTF-8");
    let commands: [(&[&str], &[&str]); 12] = [
        (&["init"], &[]),
        (&["keys", "list"], &[]),
        (&["keys", "new"], &["work"]),
        (&["keys", "use"], &["work"]),
        (&["keys", "rotate"], &[]),
        (&["keys", "export"], &[]),
        (&["networks"], &[]),
        (&["networks", "use"], &["embedded"]),
        (&["config", "show"], &[]),
        (&["config", "get"], &["put.mode"]),
        (&["config", "check"], &[]),
        (&["man"], &[man]),
    ];
    for (command, arguments) in commands {
        let words: Vec<&str> = command.iter().chain(arguments).copied().collect();
        let results = json(&home, &words);
        assert!(!results.is_empty(), "{words:?}");
        for result in &results {
            same_shape(result, &example(command), &words.join(" "));
        }
    }
    same_shape(
        &json(&home, &["config", "set", "put.mode", "dedup"])[0],
        &example(&["config", "set"]),
        "config set",
    );
    same_shape(&json(&home, &["completions", "bash"])[0], &example(&["completions"]), "completions");
}

#[test]
fn json_results_about_objects_have_the_shape_that_the_help_shows() {
    let (directory, home) = desk();
    let file = directory.path().join("file");
    fs::write(&file, vec![7; 300_000]).expect("written");
    let (file, out) = (file.to_str().expect("UTF-8"), directory.path().join("out"));
    let out = out.to_str().expect("UTF-8");
    let commands: [&[&str]; 13] = [
        &["put", "--name", "x", "--type", "text/plain", "--meta", "a=b", "--compression", "none", file],
        &["list"],
        &["stats"],
        &["info", "x"],
        &["get", "x", out],
        &["verify", "x"],
        &["repair", "x"],
        &["renew", "x"],
        &["peers"],
        &["health"],
        &["metrics"],
        &["bandwidth"],
        &["delete", "x"],
    ];
    for words in commands {
        let results = json(&home, words);
        assert!(!results.is_empty(), "{words:?}");
        for result in &results {
            same_shape(result, &example(&words[..1]), words[0]);
        }
    }
}

#[test]
fn every_command_shows_its_json() {
    fn check(command: &Command, path: &str) {
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            let path = format!("{path} {}", below.get_name());
            if below.get_subcommands().next().is_none() {
                let help = below.get_after_long_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.starts_with(examples::HEAD), "{path} has no example");
            }
            check(below, &path);
        }
    }
    check(&Args::command(), "datamesh");
}

#[test]
fn the_home_is_where_it_is_said_to_be() {
    let (directory, home) = desk();
    let made = |variables: &[(&str, &Path)], arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_datamesh"));
        for name in ["DATAMESH_HOME", "XDG_DATA_HOME", "HOME", "DATAMESH_TEST_SCALE"] {
            command.env_remove(name);
        }
        let output = command.envs(variables.iter().copied()).args(arguments).args(["init"]).output();
        assert!(output.expect("it runs").status.success());
    };
    let path = |name: &str| directory.path().join(name);
    let home_text = home.to_str().expect("UTF-8");
    made(&[("DATAMESH_HOME", &path("ignored"))], &["--home", home_text]);
    assert!(home.join("keys.toml").exists() && !path("ignored").exists());
    made(&[("DATAMESH_HOME", &path("variable")), ("XDG_DATA_HOME", &path("ignored"))], &[]);
    assert!(path("variable/keys.toml").exists());
    made(&[("XDG_DATA_HOME", &path("data"))], &[]);
    assert!(path("data/datamesh/keys.toml").exists());
    made(&[("HOME", &path("user"))], &[]);
    assert!(path("user/.local/share/datamesh/keys.toml").exists());
}
