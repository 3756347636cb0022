//! Runs steps one after another, each with its duration, up to the first that fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One step of a run.
pub(crate) struct Step {
    /// What the run says it does.
    pub(crate) name: String,
    /// What it does.
    pub(crate) action: Action,
}

/// What a step does.
pub(crate) enum Action {
    /// Calls a function of this program.
    Call(fn() -> Result<(), String>),
    /// Runs cargo.
    Cargo {
        /// Its arguments.
        arguments: &'static [&'static str],
        /// Variables to set for it.
        variables: &'static [(&'static str, &'static str)],
    },
}

impl Step {
    /// A step that calls a function.
    pub(crate) fn call(name: &str, function: fn() -> Result<(), String>) -> Self {
        Self { name: name.to_owned(), action: Action::Call(function) }
    }

    /// A step that runs cargo.
    pub(crate) fn cargo(
        arguments: &'static [&'static str],
        variables: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self {
            name: format!("cargo {}", arguments.join(" ")),
            action: Action::Cargo { arguments, variables },
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As it should.
    Passed(Duration),
    /// With an error.
    Failed(Duration, String),
    /// It was not begun, since one before it failed.
    Skipped,
}

/// Runs the steps in a folder, prints how each went, and says whether all passed.
pub(crate) fn run(steps: &[Step], folder: &Path) -> bool {
    let outcomes = run_each(steps, |step| perform(&step.action, folder));
    println!("\n{}", summary(steps, &outcomes));
    outcomes.iter().all(|outcome| matches!(outcome, Outcome::Passed(_)))
}

fn run_each(steps: &[Step], perform: impl Fn(&Step) -> Result<(), String>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(steps.len());
    for step in steps {
        if outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Passed(_))) {
            outcomes.push(Outcome::Skipped);
            continue;
        }
        println!("==> {}", step.name);
        let begun = Instant::now();
        let result = perform(step);
        let duration = begun.elapsed();
        match &result {
            Ok(()) => println!("    passed in {:.1} s", duration.as_secs_f64()),
            Err(why) => println!("    failed after {:.1} s: {why}", duration.as_secs_f64()),
        }
        outcomes
            .push(result.map_or_else(|why| Outcome::Failed(duration, why), |()| Outcome::Passed(duration)));
    }
    outcomes
}

fn perform(action: &Action, folder: &Path) -> Result<(), String> {
    match action {
        Action::Call(function) => function(),
        Action::Cargo { arguments, variables } => cargo(arguments, variables, folder),
    }
}

/// Runs cargo in a folder.
pub(crate) fn cargo(arguments: &[&str], variables: &[(&str, &str)], folder: &Path) -> Result<(), String> {
    let mut command = Command::new(cargo_program());
    command.args(arguments).envs(variables.iter().copied()).current_dir(folder).stdin(Stdio::null());
    forget_own_package(&mut command);
    let status = command.status().map_err(|error| format!("cargo can't be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo ended with {status}; its own words are above")) }
}

/// Where cargo builds.
pub(crate) fn target(repository: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository.join("target"), PathBuf::from)
}

/// Builds the program as it is released.
pub(crate) fn release_build(repository: &Path) -> Result<PathBuf, String> {
    cargo(&["build", "--locked", "--release", "--package", "datamesh"], &[], repository)?;
    Ok(target(repository).join("release/datamesh"))
}

/// The cargo that runs this program, or the one on the search path.
pub(crate) fn cargo_program() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Takes from a cargo's environment what another has told this program about its own package. Build scripts that watch those
/// variables would run again each time somebody changes between `cargo xtask` and plain cargo.
pub(crate) fn forget_own_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let own = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if own {
            command.env_remove(name);
        }
    }
}

fn summary(steps: &[Step], outcomes: &[Outcome]) -> String {
    let mut lines = Vec::new();
    let mut counts = [0_usize; 3];
    for (step, outcome) in steps.iter().zip(outcomes) {
        let (kind, word, seconds) = match outcome {
            Outcome::Passed(duration) => (0, "passed", Some(duration.as_secs_f64())),
            Outcome::Failed(duration, _) => (1, "FAILED", Some(duration.as_secs_f64())),
            Outcome::Skipped => (2, "skipped", None),
        };
        counts[kind] += 1;
        let duration = seconds.map_or_else(String::new, |seconds| format!("{seconds:.1} s"));
        lines.push(format!("    {word:<8}{duration:>9}  {}", step.name));
    }
    let [passed, failed, skipped] = counts;
    lines.push(format!("steps: {passed} passed, {failed} failed, {skipped} skipped"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Outcome, Step, run_each, summary};

    fn steps() -> Vec<Step> {
        let wrong = || Err("it broke".to_owned());
        vec![Step::call("first", || Ok(())), Step::call("second", wrong), Step::call("third", || Ok(()))]
    }

    #[test]
    fn the_first_failure_ends_the_run() {
        let outcomes =
            run_each(&steps(), |step| if step.name == "second" { Err("it broke".into()) } else { Ok(()) });
        assert!(matches!(outcomes[0], Outcome::Passed(_)));
        assert!(matches!(&outcomes[1], Outcome::Failed(_, why) if why == "it broke"));
        assert_eq!(outcomes[2], Outcome::Skipped);
    }

    #[test]
    fn steps_that_pass_all_run() {
        let outcomes = run_each(&steps(), |_| Ok(()));
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Passed(_))));
    }

    #[test]
    fn the_summary_counts_what_passed_failed_and_was_skipped() {
        let second = Duration::from_secs(1);
        let outcomes =
            [Outcome::Passed(second), Outcome::Failed(second, "it broke".into()), Outcome::Skipped];
        let text = summary(&steps(), &outcomes);
        assert!(text.ends_with("steps: 1 passed, 1 failed, 1 skipped"), "{text}");
        assert!(text.contains("FAILED      1.0 s  second"), "{text}");
    }
}
