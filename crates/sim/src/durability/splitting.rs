//! Losses too rare to happen in a simulation: one stripe, taken level by level to where it is lost.
//!
//! Multilevel splitting with fixed effort (Garvels, "The splitting method in rare event simulation", 2000). A level is how
//! many shards a stripe lacks. From the states in which stripes came to lack the first shard, many tries begin, until
//! they lack the second or are whole again; from those that got so far the next begin; the shares that get from level to
//! level multiply. A try begins with the ages of its nodes and draws anew how long they live. The product has no bias, and
//! runs with draws of their own tell how far it is off.
//!
//! The stripe is by itself: how long its repairs take is drawn from what they took in a whole mesh, by the number of
//! shards that were missing.

use datamesh_core::scheme::Redundancy;

use crate::durability::chance::Chance;
use crate::durability::mesh::Course;
use crate::durability::settings::{Settings, YEAR};
use crate::durability::statistics::{Estimate, Series, real};

/// Delays that must have been seen at a level for it to have its own; with fewer it has those of the level before.
const DELAYS_MIN: usize = 100;

/// How much work is done.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Runs that don't depend on each other, for the interval.
    pub runs: usize,
    /// Tries at each level of a run.
    pub tries: usize,
}

/// What a stripe goes through.
#[derive(Debug, Clone)]
pub struct Trials<'a> {
    settings: &'a Settings,
    /// By the number of missing shards, the first for one.
    delays: Vec<&'a Series>,
}

impl<'a> Trials<'a> {
    /// Stripes of a mesh, whose repairs take as long as they took in its course.
    ///
    /// # Panics
    /// If nothing was repaired in the course.
    #[must_use]
    pub fn new(settings: &'a Settings, course: &'a Course) -> Self {
        let mut known = course.delays.first().filter(|delays| delays.count() > 0).expect("repairs were seen");
        let delays = course.delays.iter().map(|delays| {
            if delays.count() >= DELAYS_MIN {
                known = delays;
            }
            known
        });
        Self { settings, delays: delays.collect() }
    }

    /// The mean seconds from a shard's loss until it is repaired, by the number of missing ones.
    #[must_use]
    pub fn mean_repairs(&self) -> Vec<f64> {
        let mean = |delays: &&Series| self.settings.silence() + delays.sum() / real(delays.count());
        self.delays.iter().map(mean).collect()
    }

    /// How often, per object and year, a stripe comes to lack so many shards, for the first time since it was whole; the first
    /// is for one, the last is a loss.
    #[must_use]
    pub fn entries_a_year(&self, effort: Effort) -> Vec<Estimate> {
        let runs: Vec<Vec<f64>> = (0..effort.runs).map(|run| self.run(run, effort.tries)).collect();
        let levels = 0..=self.settings.redundancy.parity_count();
        levels.map(|level| Estimate::of(&runs.iter().map(|run| run[level]).collect::<Vec<_>>())).collect()
    }

    /// The rates of one run, level by level; 0 beyond the level that no try got to.
    fn run(&self, run: usize, tries: usize) -> Vec<f64> {
        let Settings { seed, redundancy, .. } = self.settings;
        let mut chance = Chance::new(*seed, &format!("splitting {redundancy} {run}"));
        let (mut states, seconds) = self.entrances(tries, &mut chance);
        let mut rate = real(states.len()) / seconds * YEAR;
        let mut rates = vec![rate];
        for level in 1..=redundancy.parity_count() {
            let further: Vec<Stripe> = if states.is_empty() {
                Vec::new()
            } else {
                (0..tries).filter_map(|_| self.attempt(&states, level, &mut chance)).collect()
            };
            rate *= real(further.len()) / real(tries);
            rates.push(rate);
            states = further;
        }
        rates
    }

    /// A stripe from one of these states on, if it comes to lack a shard more before it is whole again.
    fn attempt(&self, states: &[Stripe], level: usize, chance: &mut Chance) -> Option<Stripe> {
        let mut stripe: Stripe = states[chance.below(states.len())].clone();
        stripe.forget_the_future(self, chance);
        while (1..=level).contains(&stripe.missing) {
            stripe.step(self, chance);
        }
        (stripe.missing > level).then_some(stripe)
    }

    /// The states in which a stripe that was whole lacked its first shard, and the time that so many took.
    fn entrances(&self, count: usize, chance: &mut Chance) -> (Vec<Stripe>, f64) {
        let mut stripe = Stripe::whole(self, chance);
        let mut states = Vec::with_capacity(count);
        while states.len() < count {
            let before = stripe.missing;
            stripe.step(self, chance);
            if before == 0 && stripe.missing == 1 {
                states.push(stripe.clone());
            }
        }
        (states, stripe.now)
    }

    /// How long a node of this age stays: until it dies or its site is lost.
    fn stay(&self, age: f64, chance: &mut Chance) -> f64 {
        let own = self.settings.lifetime.left(age, chance);
        let site = self.settings.site_faults.map(|faults| faults.loss_every * chance.exponential());
        site.map_or(own, |site| site.min(own))
    }
}

/// A stripe and its nodes.
#[derive(Debug, Clone)]
struct Stripe {
    now: f64,
    missing: usize,
    holders: Vec<Holder>,
}

/// The holder of one shard.
#[derive(Debug, Clone, Copy)]
struct Holder {
    /// When it began to live.
    born: f64,
    /// When it dies, or, while the shard is missing, when that is repaired.
    changes: f64,
    /// When a newcomer takes its place, if one is to.
    followed: f64,
    alive: bool,
}

impl Stripe {
    fn whole(trials: &Trials<'_>, chance: &mut Chance) -> Self {
        let redundancy: Redundancy = trials.settings.redundancy;
        let mut holder = || {
            let age = trials.settings.lifetime.age_met(chance);
            let changes = trials.stay(age, chance);
            Holder { born: -age, changes, followed: f64::INFINITY, alive: true }
        };
        let holders = (0..redundancy.shard_count()).map(|_| holder()).collect();
        Self { now: 0.0, missing: 0, holders }
    }

    /// Draws anew how long nodes live that live.
    fn forget_the_future(&mut self, trials: &Trials<'_>, chance: &mut Chance) {
        for holder in self.holders.iter_mut().filter(|holder| holder.alive) {
            holder.changes = self.now + trials.stay(self.now - holder.born, chance);
        }
    }

    /// The next thing that happens.
    fn step(&mut self, trials: &Trials<'_>, chance: &mut Chance) {
        let next = |holder: &Holder| {
            if holder.alive { holder.changes.min(holder.followed) } else { holder.changes }
        };
        let holders = self.holders.iter_mut();
        let earliest = holders.min_by(|one, other| next(one).total_cmp(&next(other)));
        let holder = earliest.expect("a stripe has shards");
        self.now = next(holder);
        if !holder.alive {
            // Rebuilt, on the newcomer if it is there, else on a node that stands in for it.
            let newcomer = holder.followed <= self.now;
            let age =
                if newcomer { self.now - holder.followed } else { trials.settings.lifetime.age_met(chance) };
            let followed = if newcomer { f64::INFINITY } else { holder.followed };
            let changes = self.now + trials.stay(age, chance);
            *holder = Holder { born: self.now - age, changes, followed, alive: true };
            self.missing -= 1;
        } else if holder.followed <= holder.changes {
            let changes = self.now + trials.stay(0.0, chance);
            *holder = Holder { born: self.now, changes, followed: f64::INFINITY, alive: true };
        } else {
            let parts = self.now + trials.settings.silence();
            holder.changes = parts + trials.delays[self.missing].draw(chance);
            holder.followed = parts + trials.settings.join_delay;
            holder.alive = false;
            self.missing += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Effort, Trials};
    use crate::durability::lifetime::Lifetime;
    use crate::durability::markov::time_to_loss;
    use crate::durability::mesh::run;
    use crate::durability::settings::{DAY, HOUR, Settings, YEAR};

    fn settings(scheme: &str, grace: f64) -> Settings {
        let redundancy = scheme.parse().expect("a redundancy");
        let lifetime = Lifetime::new(30.0 * DAY, 1).expect("in range");
        let mesh = Settings {
            node_count: 60,
            site_count: 30,
            region_count: 5,
            ..Settings::new(1, redundancy, lifetime)
        };
        Settings { span: 20.0 * DAY, rebuild_rate: f64::MAX, grace, ..mesh }
    }

    #[test]
    fn a_rare_loss_is_as_rare_as_by_the_markov_model() {
        // With a constant delay: how long repairs take matters by its mean alone where they run side by side.
        let settings = settings("10+6", 4.0 * HOUR);
        let course = run(&settings).expect("a mesh");
        let trials = Trials::new(&settings, &course);
        let found = trials.entries_a_year(Effort { runs: 8, tries: 4_000 })[6];
        let model =
            YEAR / time_to_loss(settings.redundancy, settings.lifetime.mean(), &trials.mean_repairs());
        let apart = (found.mean / model).log10();
        assert!(model < 1e-4 && apart.abs() < 0.3, "{found:?}, {model} by the model");
    }

    #[test]
    fn a_frequent_loss_is_as_frequent_as_in_the_mesh() {
        let settings = Settings { span: 300.0 * DAY, ..settings("4+2", 24.0 * HOUR) };
        let course = run(&settings).expect("a mesh");
        let found = Trials::new(&settings, &course).entries_a_year(Effort { runs: 8, tries: 4_000 })[2];
        let counted = course.loss_rates().iter().sum::<f64>() / 10.0;
        assert!((found.mean / counted).log10().abs() < 0.15, "{found:?}, {counted} counted");
    }
}
