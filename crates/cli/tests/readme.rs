//! Every command that the README shows is run, in its order, and must succeed.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use support::{datamesh, text, wait_with_output};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository is there")
}

/// The lines of the fenced `sh` blocks of a page.
fn commands(page: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut fence: Option<&str> = None;
    for line in page.lines() {
        match (fence, line.strip_prefix("```")) {
            (None, Some(language)) => fence = Some(language),
            (Some(_), Some(_)) => fence = None,
            (Some("sh"), None) => commands.push(line.to_owned()),
            _ => {}
        }
    }
    commands
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for file in support::files_below(from) {
        let target = to.join(&file);
        fs::create_dir_all(target.parent().expect("it is below")).expect("a folder can be made");
        fs::copy(from.join(&file), target).expect("a file can be copied");
    }
}

fn run(command: &str, desk: &Path) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let arguments = match words[..] {
        // This test is a part of it.
        ["cargo", "xtask", "test"] => return,
        ["cargo", "run", "--release", "--", ref arguments @ ..] => arguments.to_vec(),
        ["datamesh", ref arguments @ ..] => arguments.to_vec(),
        _ => panic!("`{command}` is shown, and this test doesn't know how to run it"),
    };
    let mut process = datamesh(&desk.join("home"));
    process.args(&arguments).current_dir(desk).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = wait_with_output(process.spawn().expect("the program starts"), &arguments);
    assert!(output.status.success(), "`{command}`: {}", text(&output.stderr));
    println!("$ {command}\n{}", text(&output.stdout));
}

#[test]
fn every_command_of_the_readme_works() {
    let desk = tempfile::tempdir().expect("a temporary directory");
    let repository = repository();
    let page = fs::read_to_string(repository.join("README.md")).expect("the README is there");
    fs::copy(repository.join("README.md"), desk.path().join("README.md")).expect("it can be copied");
    copy_folder(&repository.join("docs"), &desk.path().join("docs"));
    let commands = commands(&page);
    assert!(commands.len() > 8, "the README shows commands: {commands:?}");
    for command in commands {
        run(&command, desk.path());
    }
    let copy = fs::read(desk.path().join("copy.md")).expect("the tour gets it");
    assert_eq!(copy, page.as_bytes());
}
