//! Meshes that repair at once, never, and in between, beside what is known of them.

use super::{Course, run};
use crate::durability::lifetime::Lifetime;
use crate::durability::markov::{nines, time_to_loss};
use crate::durability::mesh::objects::OBJECTS_PER_GROUP;
use crate::durability::settings::{DAY, Following, HOUR, Settings, SettingsError, YEAR};
use crate::durability::statistics::{Estimate, real};

fn small(node_count: usize, days: f64) -> Settings {
    let redundancy = "4+2".parse().expect("a redundancy");
    let lifetime = Lifetime::new(30.0 * DAY, 1).expect("in range");
    let site_count = node_count / 4;
    Settings {
        node_count,
        site_count,
        region_count: 5,
        span: days * DAY,
        ..Settings::new(1, redundancy, lifetime)
    }
}

fn course(settings: &Settings) -> Course {
    run(settings).expect("a mesh")
}

fn lost(course: &Course) -> usize {
    course.lost.iter().sum()
}

#[test]
fn a_seed_determines_the_course() {
    let settings = Settings { rebuild_rate: 1e9, ..small(60, 20.0).with_faults() };
    let text = |settings: &Settings| format!("{:?}", course(settings));
    let first = text(&settings);
    assert_eq!(first, text(&settings));
    assert_ne!(first, text(&Settings { seed: 2, ..settings }));
}

#[test]
fn nothing_is_lost_where_repair_takes_no_time() {
    let settings = Settings { rebuild_rate: f64::MAX, detection: 1e-3, grace: 0.0, ..small(60, 60.0) };
    let course = course(&settings);
    assert!(course.deaths > 60, "{}", course.deaths);
    assert!(course.repair_bytes > 0.0);
    assert_eq!(lost(&course), 0);
}

#[test]
fn everything_is_lost_where_nothing_is_repaired() {
    let settings = Settings { grace: YEAR * 1e3, ..small(60, 720.0) };
    let course = course(&settings);
    assert_eq!(course.deaths, 60);
    assert!(lost(&course) >= 16_384 * OBJECTS_PER_GROUP, "{}", lost(&course));
    assert!(course.repair_bytes < 1.0);
}

#[test]
fn losses_are_those_of_the_markov_model_where_failures_are_independent() {
    let settings = Settings { rebuild_rate: f64::MAX, grace: 36.0 * HOUR, ..small(100, 150.0) };
    let course = course(&settings);
    let counted = Estimate::of(&course.loss_rates());
    let model = YEAR
        / time_to_loss(
            settings.redundancy,
            settings.lifetime.mean(),
            &[settings.silence() + course.mean_delay()],
        );
    let difference = (counted.mean / model).log10().abs();
    assert!(difference < 0.3, "{counted:?} counted, {model} by the model: {difference} nines apart");
    assert!(nines(model) < 1.0 && lost(&course) > 10_000, "the case is no rare one");
}

#[test]
fn a_ring_that_hands_off_loses_as_much_as_one_built_anew_at_each_change() {
    let hand_off = Settings { rebuild_rate: 1e9, grace: 48.0 * HOUR, ..small(60, 4.0) };
    let rebuilt = Settings { following: Following::Rebuilt, ..hand_off };
    let level = |settings: &Settings| {
        let course = course(settings);
        real(course.entries[1]) / course.object_years
    };
    let ratio = level(&hand_off) / level(&rebuilt);
    assert!((0.8..1.25).contains(&ratio), "{ratio}");
}

#[test]
fn a_node_that_comes_back_within_its_grace_costs_nothing_and_later_no_shard() {
    let away = Settings { lifetime: Lifetime::new(YEAR * 1e6, 1).expect("in range"), ..small(60, 60.0) };
    let away = Settings { site_faults: None, rebuild_rate: 1e9, ..away.with_faults() };
    let patient = Settings { grace: 30.0 * DAY, ..away };
    let quiet = course(&patient);
    assert!(quiet.repair_bytes < 1.0 && quiet.long_absences == 0, "{quiet:?}");
    let hasty = course(&Settings { grace: HOUR, ..away });
    assert!(hasty.long_absences > 50 && hasty.repair_bytes > 1e9, "{}", hasty.long_absences);
    assert_eq!(lost(&hasty) + hasty.entries.iter().sum::<usize>(), 0);
}

#[test]
fn slow_repair_leaves_more_objects_short_and_the_most_endangered_wait_least() {
    let fast = course(&Settings { rebuild_rate: 1e9, ..small(100, 20.0) });
    let slow = course(&Settings { rebuild_rate: 4e6, ..small(100, 20.0) });
    assert!(slow.short_share > 1.1 * fast.short_share, "{} {}", slow.short_share, fast.short_share);
    // Of 4+2, one shard less is a score of 0.75 already.
    assert!((slow.warned_share - slow.short_share).abs() < 1e-9);
    let mean = |level: usize| slow.delays[level].sum() / real(slow.delays[level].count());
    assert!(mean(1) < mean(0), "{} {}", mean(1), mean(0));
}

#[test]
fn what_is_no_mesh_is_refused_with_its_value() {
    let refused = |settings: &Settings| run(settings).expect_err("refused").to_string();
    let few = Settings { node_count: 5, ..small(60, 1.0) };
    assert_eq!(refused(&few), "5 nodes are out of range: 6..=100000 for this scheme");
    let still = Settings { rebuild_rate: 0.0, ..small(60, 1.0) };
    assert_eq!(
        run(&still).expect_err("refused"),
        SettingsError::Amount { name: "a rebuild rate", value: 0.0 }
    );
}
