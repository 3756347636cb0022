//! The house's own commands: everything that must pass before a change lands, and the checks of the pages.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::run::Step;
use crate::tree::Tree;

#[cfg(target_os = "linux")]
mod bench;
mod chart;
mod check;
#[cfg(target_os = "linux")]
mod conformance;
mod crate_file;
mod durability;
#[cfg(target_os = "linux")]
mod fuzz;
#[cfg(target_os = "linux")]
mod idle;
mod needs;
mod page;
mod power_cuts;
#[cfg(target_os = "linux")]
mod python;
mod report;
mod run;
mod source;
mod tree;

const HELP: &str = "\
cargo xtask COMMAND

  test            everything that must pass before a change lands, up to the first failure
  architecture    only the checks that the crates are as ARCHITECTURE.md and the other pages say
  acceptance      the long form of the tests of whole meshes, built for release
  breaks          of these, transfers that are killed and gone on with, and second versions of objects
  bench-transfer  measures transfers beside iperf3; `cargo xtask bench-transfer --help` says more
  bench-idle      measures what a node costs while nothing happens and writes its part of docs/repair.md; as root;
                  with `--small` a little, into target/bench-idle, to see that it works
  conformance     runs a public suite of tests of S3 against a gateway and writes its part of docs/s3.md;
                  against another program than the release build by `--program FILE`
  fuzz-gateway    sends a gateway 100,000 bad requests and writes their part of docs/threat-model.md;
                  `cargo xtask fuzz-gateway --help` says more
  power-cuts [N]  cuts the power of an ext4 N times, 1,000 unless told, during put, repair and gc; as root
  durability      simulates ten years of meshes and writes docs/durability.md; `cargo xtask durability --help` says more
  help            this text

Exit codes: 0 done, 1 failed, 2 usage.";

const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let passed = match words[..] {
        ["test"] => run::run(&test_steps(), &repository()),
        ["architecture"] => run::run(&[Step::call("architecture", architecture)], &repository()),
        ["acceptance"] => run::run(&acceptance_steps(), &repository()),
        ["bench-transfer", ref rest @ ..] => return bench_transfer(rest),
        ["bench-idle", ref rest @ ..] => return bench_idle(rest),
        ["conformance", ref rest @ ..] => return conformance(rest),
        ["breaks"] => run::run(&breaks_steps(), &repository()),
        ["durability", ref rest @ ..] => return durability(rest),
        ["fuzz-gateway", ref rest @ ..] => return fuzz_gateway(rest),
        ["power-cuts", ref rest @ ..] => return power_cuts(rest),
        ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            true
        }
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(USAGE);
        }
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

#[cfg(target_os = "linux")]
fn bench_transfer(arguments: &[&str]) -> ExitCode {
    use bench::BenchError;

    if arguments.iter().any(|argument| matches!(*argument, "--help" | "-h")) {
        println!("{}", bench::HELP);
        return ExitCode::SUCCESS;
    }
    match bench::run(arguments, &repository()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(BenchError::Usage(why)) => {
            eprintln!("{why}\n\n{}", bench::HELP);
            ExitCode::from(USAGE)
        }
        Err(BenchError::Failed(why)) => {
            eprintln!("{why}");
            ExitCode::from(FAILED)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn bench_transfer(_: &[&str]) -> ExitCode {
    eprintln!("bench-transfer reads what processes used from Linux's /proc");
    ExitCode::from(FAILED)
}

#[cfg(target_os = "linux")]
fn bench_idle(arguments: &[&str]) -> ExitCode {
    match idle::Form::of(arguments) {
        Ok(form) => ended(idle::run(form, &repository())),
        Err(why) => misused(&why),
    }
}

#[cfg(not(target_os = "linux"))]
fn bench_idle(_: &[&str]) -> ExitCode {
    ended(Err("bench-idle counts packets in a network namespace of Linux".to_owned()))
}

#[cfg(target_os = "linux")]
fn conformance(arguments: &[&str]) -> ExitCode {
    match conformance::program(arguments) {
        Ok(program) => ended(conformance::run(program, &repository())),
        Err(why) => misused(&why),
    }
}

#[cfg(not(target_os = "linux"))]
fn conformance(_: &[&str]) -> ExitCode {
    ended(Err("the mesh that is asked runs on Linux".to_owned()))
}

#[cfg(target_os = "linux")]
fn fuzz_gateway(arguments: &[&str]) -> ExitCode {
    use fuzz::FuzzError;

    if arguments.iter().any(|argument| matches!(*argument, "--help" | "-h")) {
        println!("{}", fuzz::HELP);
        return ExitCode::SUCCESS;
    }
    match fuzz::run(arguments, &repository()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(FuzzError::Usage(why)) => {
            eprintln!("{why}\n\n{}", fuzz::HELP);
            ExitCode::from(USAGE)
        }
        Err(FuzzError::Failed(why)) => ended(Err(why)),
    }
}

#[cfg(not(target_os = "linux"))]
fn fuzz_gateway(_: &[&str]) -> ExitCode {
    ended(Err("fuzz-gateway reads what a gateway uses from Linux's /proc".to_owned()))
}

/// The small form, of the development build, which the tests before have made.
#[cfg(target_os = "linux")]
fn fuzz_a_little() -> Result<(), String> {
    fuzz::run_small(&repository())
}

#[cfg(not(target_os = "linux"))]
fn fuzz_a_little() -> Result<(), String> {
    println!("    on Linux alone");
    Ok(())
}

fn durability(arguments: &[&str]) -> ExitCode {
    ended(durability::run(arguments, &repository()))
}

fn power_cuts(arguments: &[&str]) -> ExitCode {
    match power_cuts::count(arguments) {
        Ok(count) => ended(power_cuts::run(count, &repository())),
        Err(why) => misused(&why),
    }
}

/// The exit code of a command that was asked for what does not exist.
fn misused(why: &str) -> ExitCode {
    eprintln!("{why}\n\n{HELP}");
    ExitCode::from(USAGE)
}

/// The exit code of a command that ended so.
fn ended(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(FAILED)
        }
    }
}

fn test_steps() -> Vec<Step> {
    vec![
        Step::call("prerequisites", needs::provide),
        Step::call("rights", needs::privileged),
        Step::cargo(&["fmt", "--all", "--check"], &[]),
        Step::cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"], &[]),
        Step::cargo(&["doc", "--locked", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")]),
        // Some tests count what they survived: a run shows it.
        Step::cargo(&["test", "--locked", "--workspace", "--", "--show-output"], &[]),
        Step::call("fuzz-gateway, 2,500 requests", fuzz_a_little),
        Step::call("architecture", architecture),
    ]
}

fn acceptance_steps() -> Vec<Step> {
    vec![
        Step::call("prerequisites", needs::provide),
        Step::call("rights", needs::privileged),
        Step::cargo(
            &["test", "--locked", "--release", "--package", "datamesh", "--test", "*", "--", "--show-output"],
            &[("DATAMESH_TEST_SCALE", "full")],
        ),
    ]
}

fn breaks_steps() -> Vec<Step> {
    let test = &[
        "test",
        "--locked",
        "--release",
        "--package",
        "datamesh",
        "--test",
        "resume",
        "--test",
        "kills",
        "--",
        "--show-output",
    ];
    vec![Step::call("prerequisites", needs::provide), Step::cargo(test, &[("DATAMESH_TEST_SCALE", "full")])]
}

fn architecture() -> Result<(), String> {
    let root = repository();
    let tree = Tree::read(&root).map_err(|error| format!("{} can't be read: {error}", root.display()))?;
    let found = check::violations(&tree);
    for violation in &found {
        println!("    {violation}");
    }
    if found.is_empty() { Ok(()) } else { Err(format!("{} violations, listed above", found.len())) }
}

/// The root of the repository: the folder above this crate's, which cargo tells; else the current one.
fn repository() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    own.as_deref().and_then(Path::parent).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}
