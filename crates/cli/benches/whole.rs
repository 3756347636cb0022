//! Measures each stage on one core, and a put and gets over six node processes: what `datamesh bench` prints.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let home = tempfile::tempdir().expect("a temporary directory");
    let size = std::env::var("BENCH_SIZE").unwrap_or_else(|_| "1GiB".to_owned());
    let mut bench = Command::new(env!("CARGO_BIN_EXE_datamesh"));
    bench.arg("--home").arg(home.path()).args(["bench", "--size", &size]);
    let status = bench.status().expect("the program starts");
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
