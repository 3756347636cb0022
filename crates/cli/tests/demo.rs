//! The demonstration, on a file and on an empty one.

mod support;

use std::fs;

use support::{Random, field, json, scaled};

fn tell(size: u64) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    Random(5).file(&file, size);
    let home = directory.path().join("home");
    let steps = json(&home, &["demo", file.to_str().expect("UTF-8")]);
    let names: Vec<&str> = steps.iter().map(|step| field(step, "step")).collect();
    assert_eq!(names, ["start", "put", "kill", "get", "join", "repair", "kill", "get", "done"]);
    assert!(steps.iter().all(|step| step["seconds"].as_f64().is_some()), "each step has its time: {steps:?}");
    for get in steps.iter().filter(|step| field(step, "step") == "get") {
        assert_eq!((get["size"].as_u64(), get["same"].as_bool()), (Some(size), Some(true)), "{get}");
    }
    assert!(!home.join("catalog").exists(), "a demonstration leaves the home alone");
    fs::remove_file(&file).expect("the file is still there");
}

#[test]
fn a_file_survives_the_demonstration() {
    tell(scaled(20 << 20, 1 << 30));
}

#[test]
fn an_empty_file_survives_the_demonstration() {
    tell(0);
}
