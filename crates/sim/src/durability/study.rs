//! The study: each scheme at each lifetime, simulated and computed, with the checks that the simulation stands on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use datamesh_core::scheme::Redundancy;
use serde::Serialize;

use crate::durability::lifetime::Lifetime;
use crate::durability::markov::{nines, time_to_loss};
use crate::durability::mesh::{Course, run};
use crate::durability::settings::{DAY, Following, HOUR, Settings, SettingsError, YEAR};
use crate::durability::splitting::{Effort, Trials};
use crate::durability::statistics::{Estimate, real};

/// The schemes of the study, as data and parity shards.
pub const SCHEMES: [(usize, usize); 4] = [(4, 2), (8, 4), (10, 6), (16, 8)];
/// Mean lifetimes of nodes, in seconds.
pub const LIFETIMES: [f64; 2] = [YEAR, 30.0 * DAY];
/// Loss moments from which on losses are counted: with fewer, their number says too little.
const LOSS_MOMENTS_MIN: usize = 100;
/// How lifetimes are stretched where faults are as in the world: Weibull of shape 1/2.
const WORLDLY_STRETCH: u32 = 2;

/// How much is simulated, and of what.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What all chance follows from.
    pub seed: u64,
    /// Nodes of the mesh.
    pub node_count: usize,
    /// Years for which meshes with faults as in the world are watched.
    pub years: f64,
    /// The same where nodes live for less than a year: as many die in a tenth of the time.
    pub short_lived_years: f64,
    /// Years for which meshes whose nodes fail by themselves are.
    pub independent_years: f64,
    /// Seconds until others notice that a node is silent.
    pub detection: f64,
    /// Seconds from there until it leaves the ring.
    pub grace: f64,
    /// Bytes per second that a node may spend on repairs.
    pub rebuild_rate: f64,
    /// Bytes of shards on a node.
    pub data_per_node: f64,
    /// How rare losses are reached.
    pub effort: Effort,
    /// Days for which the meshes of the checks are watched.
    pub check_days: f64,
    /// Nodes of those meshes.
    pub check_nodes: usize,
}

/// How nodes fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Faults {
    /// Each by itself, at an age that doesn't matter.
    Independent,
    /// Many young, some late; nodes are away, sites fail.
    Worldly,
}

/// How the losses of a row are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// They happened.
    Counted,
    /// By splitting.
    Split,
}

/// One scheme at one lifetime.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The scheme.
    pub scheme: String,
    /// The mean lifetime of a node, in days.
    pub lifetime_days: f64,
    /// How nodes fail.
    pub faults: Faults,
    /// For how many years the mesh was watched.
    pub years: f64,
    /// How losses are known.
    pub method: Method,
    /// Losses per object and year.
    pub losses: Estimate,
    /// The same by the Markov model, with the mean times to repair that were simulated.
    pub model: f64,
    /// Mean hours from a shard's loss until it is repaired, by how many the stripe lacked; the first is for one.
    pub repair_hours: Vec<f64>,
    /// Mean hours over all repairs.
    pub mean_repair_hours: f64,
    /// Bytes received and sent for repair, per node and day.
    pub repair_bytes: f64,
    /// Bytes handed over to newcomers, per node and day.
    pub moved_bytes: f64,
    /// The share of objects and time with a shard missing.
    pub short_share: f64,
    /// The share of stripes that survive as many whole sites as they have parity shards.
    pub spread_share: f64,
    /// The share with a score that calls for a warning.
    pub warned_share: f64,
    /// Objects times years that were watched.
    pub object_years: f64,
    /// Nodes that died.
    pub deaths: usize,
    /// Objects that were lost meanwhile.
    pub lost: usize,
    /// How often objects came to lack so many shards, per object and year, as counted.
    pub counted_entries: Vec<f64>,
    /// And by splitting.
    pub split_entries: Vec<Estimate>,
}

/// One check, in a small mesh whose repair is slow enough for losses to be many.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What is checked.
    pub what: String,
    /// Losses per object and year, as counted.
    pub counted: Estimate,
    /// By splitting.
    pub split: Estimate,
    /// By the Markov model.
    pub model: f64,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Study {
    /// The seed.
    pub seed: u64,
    /// Nodes.
    pub node_count: usize,
    /// Seconds of detection.
    pub detection: f64,
    /// Seconds of grace.
    pub grace: f64,
    /// Bytes per second for repairs.
    pub rebuild_rate: f64,
    /// Bytes per node.
    pub data_per_node: f64,
    /// Runs of splitting.
    pub runs: usize,
    /// Tries at each level of a run.
    pub tries: usize,
    /// Nodes of the checks.
    pub check_nodes: usize,
    /// Days of the checks.
    pub check_days: f64,
    /// The rows.
    pub rows: Vec<Row>,
    /// The checks.
    pub checks: Vec<Check>,
}

/// A part of the study that depends on no other.
#[derive(Debug, Clone, Copy)]
enum Task {
    Row(Redundancy, f64, Faults),
    Check(Following),
}

/// What came of one.
enum Done {
    Row(Row),
    Check(Check),
}

/// Simulates and computes all of it, on so many threads. `tell` hears what is done.
///
/// # Errors
/// [`SettingsError`] when the plan is of no mesh.
///
/// # Panics
/// If `tell` does.
pub fn study(plan: &Plan, threads: usize, tell: impl Fn(&str) + Sync) -> Result<Study, SettingsError> {
    let tasks: Vec<Task> = tasks().collect();
    let done: Mutex<BTreeMap<usize, Done>> = Mutex::default();
    // The longest come last in the tables and first in the work, so that no thread is left with one at the end.
    let left = AtomicUsize::new(tasks.len());
    let work = || -> Result<(), SettingsError> {
        while let Ok(after) =
            left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        {
            let found = perform(plan, tasks[after - 1])?;
            tell(&found.to_string());
            done.lock().expect("nobody panics with the lock").insert(after - 1, found);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })?;
    let (mut rows, mut checks) = (Vec::new(), Vec::new());
    for found in done.into_inner().expect("nobody panics with the lock").into_values() {
        match found {
            Done::Row(row) => rows.push(row),
            Done::Check(check) => checks.push(check),
        }
    }
    Ok(Study {
        seed: plan.seed,
        node_count: plan.node_count,
        detection: plan.detection,
        grace: plan.grace,
        rebuild_rate: plan.rebuild_rate,
        data_per_node: plan.data_per_node,
        runs: plan.effort.runs,
        tries: plan.effort.tries,
        check_nodes: plan.check_nodes,
        check_days: plan.check_days,
        rows,
        checks,
    })
}

fn tasks() -> impl Iterator<Item = Task> {
    let schemes = SCHEMES.into_iter();
    let schemes = schemes.map(|(data, parity)| Redundancy::new(data, parity).expect("within bounds"));
    let rows = schemes.flat_map(|scheme| {
        LIFETIMES.into_iter().flat_map(move |lifetime| {
            [Faults::Independent, Faults::Worldly].map(|faults| Task::Row(scheme, lifetime, faults))
        })
    });
    rows.chain([Following::HandOff, Following::Rebuilt].map(Task::Check))
}

fn perform(plan: &Plan, task: Task) -> Result<Done, SettingsError> {
    Ok(match task {
        Task::Row(scheme, lifetime, faults) => Done::Row(row(plan, scheme, lifetime, faults)?),
        Task::Check(following) => Done::Check(check(plan, following)?),
    })
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, counted, model) = match self {
            Self::Row(row) => {
                let what =
                    format!("{}, nodes live {:.0} days, {:?}", row.scheme, row.lifetime_days, row.faults);
                (what, row.losses, row.model)
            }
            Self::Check(check) => (check.what.clone(), check.counted, check.model),
        };
        let (found, model) = (nines(counted.mean), nines(model));
        write!(formatter, "{what}: {found:.2} nines, {model:.2} by the model")
    }
}

fn row(plan: &Plan, scheme: Redundancy, lifetime: f64, faults: Faults) -> Result<Row, SettingsError> {
    let settings = settings(plan, scheme, lifetime, faults);
    let course = run(&settings)?;
    let trials = Trials::new(&settings, &course);
    let split = trials.entries_a_year(plan.effort);
    let counted = course.loss_moments >= LOSS_MOMENTS_MIN;
    let (method, losses) = if counted {
        (Method::Counted, Estimate::of(&course.loss_rates()))
    } else {
        (Method::Split, *split.last().expect("a stripe has levels"))
    };
    let repairs = trials.mean_repairs();
    let node_days = real(settings.node_count) * settings.span / DAY;
    Ok(Row {
        scheme: scheme.to_string(),
        lifetime_days: lifetime / DAY,
        faults,
        years: settings.span / YEAR,
        method,
        losses,
        model: YEAR / time_to_loss(scheme, lifetime, &repairs),
        repair_hours: repairs.iter().map(|seconds| seconds / HOUR).collect(),
        mean_repair_hours: (settings.silence() + course.mean_delay()) / HOUR,
        repair_bytes: course.repair_bytes / node_days,
        moved_bytes: course.moved_bytes / node_days,
        short_share: course.short_share,
        warned_share: course.warned_share,
        spread_share: course.spread_share,
        object_years: course.object_years,
        deaths: course.deaths,
        lost: course.lost.iter().sum(),
        counted_entries: entries(&course, scheme),
        split_entries: split,
    })
}

fn check(plan: &Plan, following: Following) -> Result<Check, SettingsError> {
    let scheme = Redundancy::new(4, 2).expect("within bounds");
    let lifetime = LIFETIMES[1];
    let settings = Settings {
        node_count: plan.check_nodes,
        site_count: plan.check_nodes / 4,
        span: plan.check_days * DAY,
        grace: DAY,
        // The same objects on fewer nodes: each has more, and repairs them as fast.
        rebuild_rate: f64::MAX,
        following,
        ..settings(plan, scheme, lifetime, Faults::Independent)
    };
    let course = run(&settings)?;
    let trials = Trials::new(&settings, &course);
    Ok(Check {
        what: match following {
            Following::HandOff => "slots handed off on one ring".to_owned(),
            Following::Rebuilt => "the ring built anew at each change".to_owned(),
        },
        counted: Estimate::of(&course.loss_rates()),
        split: *trials.entries_a_year(plan.effort).last().expect("a stripe has levels"),
        model: YEAR / time_to_loss(scheme, lifetime, &trials.mean_repairs()),
    })
}

fn settings(plan: &Plan, scheme: Redundancy, lifetime: f64, faults: Faults) -> Settings {
    let (stretch, years) = match faults {
        Faults::Independent => (1, plan.independent_years),
        Faults::Worldly if lifetime < YEAR => (WORLDLY_STRETCH, plan.short_lived_years),
        Faults::Worldly => (WORLDLY_STRETCH, plan.years),
    };
    let lifetime = Lifetime::new(lifetime, stretch).expect("within bounds");
    let default = Settings::new(plan.seed, scheme, lifetime);
    let site_count = default.site_count.min(plan.node_count / 2);
    let settings = Settings {
        node_count: plan.node_count,
        site_count,
        span: years * YEAR,
        detection: plan.detection,
        grace: plan.grace,
        rebuild_rate: plan.rebuild_rate,
        data_per_node: plan.data_per_node,
        ..default
    };
    if faults == Faults::Worldly { settings.with_faults() } else { settings }
}

fn entries(course: &Course, scheme: Redundancy) -> Vec<f64> {
    let levels = course.entries.iter().take(scheme.parity_count() + 1);
    levels.map(|count| real(*count) / course.object_years).collect()
}
