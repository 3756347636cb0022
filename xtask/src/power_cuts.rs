//! Cuts the power of a real file system under a mesh, many times.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::needs;
use crate::run::cargo_program;

const COUNT: u64 = 1000;
/// The test, and its negative control.
const TEST: [&str; 8] =
    ["test", "--locked", "--package", "datamesh", "--test", "faults_power", "--", "--show-output"];
/// Tells the test how often.
const VARIABLE: &str = "POWER_CUTS";

/// How many cuts were asked for.
pub(crate) fn count(arguments: &[&str]) -> Result<u64, String> {
    match arguments {
        [] => Ok(COUNT),
        [count] => count.parse().map_err(|_| format!("`{count}` is no number of power cuts")),
        more => Err(format!("one number of power cuts, not {}", more.len())),
    }
}

/// Runs the test with so many cuts.
pub(crate) fn run(count: u64, root: &Path) -> Result<(), String> {
    needs::provide()?;
    needs::privileged()?;
    let mut command = Command::new(cargo_program());
    command.args(TEST).env(VARIABLE, count.to_string()).current_dir(root).stdin(Stdio::null());
    let status = command.status().map_err(|error| format!("cargo can't be run: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the test ended with {status}")) }
}

#[cfg(test)]
mod tests {
    use super::{COUNT, count};

    #[test]
    fn a_number_is_taken_and_nothing_else() {
        assert_eq!(count(&[]), Ok(COUNT));
        assert_eq!(count(&["20"]), Ok(20));
        assert!(count(&["many"]).is_err());
        assert!(count(&["1", "2"]).is_err());
    }
}
