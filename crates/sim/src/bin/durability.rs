//! Runs the study of durability and prints what it found as JSON; `cargo xtask durability` makes the page of it.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Instant;

use datamesh_sim::durability::settings::{HOUR, MINUTE};
use datamesh_sim::durability::splitting::Effort;
use datamesh_sim::durability::study::{Plan, study};

const HELP: &str = "\
durability [OPTIONS]: simulates meshes over years and prints what was lost as JSON, on as many threads as there are processors

  --quick                a small mesh for a short time: to see that it works, not for its figures
  --seed NUMBER          what all chance follows from (default 1)
  --nodes NUMBER         nodes of the mesh (default 10000)
  --years NUMBER         years that meshes with worldly faults are watched (default 10)
  --short-years NUMBER   the same where nodes live for less than a year (default 10)
  --independent-years NUMBER
                         the same where nodes fail by themselves alone (default 1)
  --tries NUMBER         tries at each level of a run of splitting (default 20000)
  --check-nodes NUMBER   nodes of the mesh in which two ways to follow the ring are compared (default 300)
  --check-days NUMBER    days for which it is watched (default 20)
  --detection SECONDS    until others notice that a node is silent (default 60)
  --grace HOURS          from there until it leaves the ring (default 4)
  --rebuild-rate MBIT    megabits per second that a node spends on the repairs it leads (default 100)
  --data GB              gigabytes of shards on a node (default 1000)";

/// Megabits per second in bytes per second.
const MBIT: f64 = 125_000.0;
const GB: f64 = 1e9;
const USAGE: u8 = 2;

const FULL: Plan = Plan {
    seed: 1,
    node_count: 10_000,
    years: 10.0,
    short_lived_years: 10.0,
    independent_years: 1.0,
    detection: MINUTE,
    grace: 4.0 * HOUR,
    rebuild_rate: 100.0 * MBIT,
    data_per_node: 1000.0 * GB,
    effort: Effort { runs: 20, tries: 20_000 },
    check_days: 20.0,
    check_nodes: 300,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| matches!(argument.as_str(), "--help" | "-h")) {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let plan = match plan(&arguments) {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("{why}\n\n{HELP}");
            return ExitCode::from(USAGE);
        }
    };
    let start = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    match study(&plan, threads, |line| eprintln!("{:6.0} s  {line}", start.elapsed().as_secs_f64())) {
        Ok(study) => {
            println!("{}", serde_json::to_string_pretty(&study).expect("text and numbers are JSON"));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}\n\n{HELP}");
            ExitCode::from(USAGE)
        }
    }
}

fn plan(arguments: &[String]) -> Result<Plan, String> {
    let mut plan = FULL;
    if arguments.iter().any(|argument| argument == "--quick") {
        plan = Plan {
            node_count: 200,
            years: 0.1,
            short_lived_years: 0.1,
            independent_years: 0.1,
            // As many bytes for each object as in the whole mesh.
            data_per_node: FULL.data_per_node * 50.0,
            rebuild_rate: FULL.rebuild_rate * 50.0,
            effort: Effort { runs: 4, tries: 500 },
            check_days: 4.0,
            check_nodes: 60,
            ..FULL
        };
    }
    let mut rest = arguments.iter().filter(|argument| *argument != "--quick");
    while let Some(name) = rest.next() {
        let text = rest.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || text.parse::<f64>().map_err(|_| format!("{name} {text}: no number"));
        let count = || text.parse::<usize>().map_err(|_| format!("{name} {text}: no whole number"));
        match name.as_str() {
            "--seed" => plan.seed = text.parse().map_err(|_| format!("{name} {text}: no whole number"))?,
            "--nodes" => plan.node_count = count()?,
            "--years" => plan.years = number()?,
            "--short-years" => plan.short_lived_years = number()?,
            "--independent-years" => plan.independent_years = number()?,
            "--tries" => plan.effort.tries = count()?,
            "--check-nodes" => plan.check_nodes = count()?,
            "--check-days" => plan.check_days = number()?,
            "--detection" => plan.detection = number()?,
            "--grace" => plan.grace = number()? * HOUR,
            "--rebuild-rate" => plan.rebuild_rate = number()? * MBIT,
            "--data" => plan.data_per_node = number()? * GB,
            _ => return Err(format!("{name} is no option")),
        }
    }
    Ok(plan)
}
