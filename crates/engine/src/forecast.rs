//! Foresees that a node is about to fail, from how its errors, delays and absences grow. Pure.
//!
//! Each sign is followed by a one-sided cumulative sum, which adds up how far each look is above what is to be expected and
//! falls back to nothing while all is as it should be: E. S. Page, "Continuous Inspection Schemes", Biometrika 41 (1954). For
//! counts of rare events it is the sum of their log-likelihood ratios under two Poisson rates: J. M. Lucas, "Counted Data
//! CUSUM's", Technometrics 27 (1985). What one look can add is bounded, so that no single burst is taken for growth.

use std::collections::BTreeMap;

use datamesh_core::health::Sign;

/// The rate of events in one look that nobody need worry about.
const CALM_RATE: f64 = 0.01;
/// How many times the calm rate is alarming.
const ALARMING_RATIO: f64 = 10.0;
/// Events that one look can count for.
const EVENTS_MAX: f64 = 3.0;
/// The sum of log-likelihood ratios at which growth is beyond doubt.
const COUNT_LIMIT: f64 = 7.0;
/// Looks with events that it takes.
const COUNT_LOOKS_MIN: u32 = 3;

/// Seconds below which a write is as good as any other.
const WRITE_FLOOR: f64 = 0.02;
/// Seconds below which an answer is as good as any other.
const LATENCY_FLOOR: f64 = 0.05;
/// Looks from which a delay's usual level is learned.
const LEARNED_LOOKS: u32 = 20;
/// The weight of a look in the usual level, once that is learned.
const LEARNING_RATE: f64 = 0.01;
/// The least spread of the logarithm of a delay that is taken to be usual: delays vary by half on any machine.
const SPREAD_MIN: f64 = 0.4;
/// Spreads above the usual level that are no sign of anything.
const SLACK: f64 = 1.0;
/// Spreads that one look can count for.
const SPREADS_MAX: f64 = 4.0;
/// The sum of spreads at which growth is beyond doubt.
const LEVEL_LIMIT: f64 = 20.0;
/// The share of a limit below which a sign is no longer seen.
const FORGOTTEN: f64 = 0.25;

/// What one look at a node found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Look {
    /// Items that were found rotten since the look before.
    pub rotten: u64,
    /// Reads, writes and syncs that its disk refused since then.
    pub errors: u64,
    /// Seconds that an item took to be written, on average; `None` where none was.
    pub write: Option<f64>,
    /// Seconds that it took to answer; `None` where it was not asked, or did not.
    pub latency: Option<f64>,
    /// Times that it did not answer.
    pub absences: u64,
}

/// What delays are in the mesh at the same time: what slows all of them down is no sign of one that fails.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Baseline {
    /// Seconds that an item takes to be written at the node in the middle.
    pub write: Option<f64>,
    /// Seconds that the node in the middle takes to answer.
    pub latency: Option<f64>,
}

/// Follows one node.
#[derive(Debug, Clone, Default)]
pub struct Forecaster {
    counts: BTreeMap<Sign, CountSum>,
    levels: BTreeMap<Sign, LevelSum>,
}

impl Forecaster {
    /// Takes note of a look.
    pub fn note(&mut self, look: &Look, baseline: &Baseline) {
        let counts = [(Sign::Rot, look.rotten), (Sign::Errors, look.errors), (Sign::Absences, look.absences)];
        for (sign, events) in counts {
            self.counts.entry(sign).or_default().note(events);
        }
        let levels = [
            (Sign::SlowWrites, look.write, baseline.write, WRITE_FLOOR),
            (Sign::Latency, look.latency, baseline.latency, LATENCY_FLOOR),
        ];
        for (sign, delay, usual, floor) in levels {
            if let Some(delay) = delay {
                self.levels
                    .entry(sign)
                    .or_default()
                    .note(delay.max(floor), usual.unwrap_or(floor).max(floor));
            }
        }
    }

    /// The signs that the node is about to fail.
    pub fn signs(&self) -> impl Iterator<Item = Sign> {
        let counts = self.counts.iter().filter(|(_, sum)| sum.alarming).map(|(sign, _)| *sign);
        counts.chain(self.levels.iter().filter(|(_, sum)| sum.alarming).map(|(sign, _)| *sign))
    }
}

/// How far events are more frequent than they may be.
#[derive(Debug, Clone, Default)]
struct CountSum {
    sum: f64,
    /// Looks with events since the sum was nothing.
    looks: u32,
    alarming: bool,
}

impl CountSum {
    fn note(&mut self, events: u64) {
        let counted = f64::from(u32::try_from(events).unwrap_or(u32::MAX)).min(EVENTS_MAX);
        let drift = CALM_RATE * (ALARMING_RATIO - 1.0);
        self.sum = (self.sum + counted * ALARMING_RATIO.ln() - drift).clamp(0.0, 2.0 * COUNT_LIMIT);
        self.looks = match (events, self.sum > 0.0) {
            (_, false) => 0,
            (0, true) => self.looks,
            (_, true) => self.looks.saturating_add(1),
        };
        let grown = self.sum >= COUNT_LIMIT && self.looks >= COUNT_LOOKS_MIN;
        self.alarming = grown || (self.alarming && self.sum >= FORGOTTEN * COUNT_LIMIT);
    }
}

/// How far a delay is longer than it is used to be, and than those of others have become.
#[derive(Debug, Clone, Default)]
struct LevelSum {
    learned: u32,
    mean: f64,
    variance: f64,
    sum: f64,
    alarming: bool,
}

impl LevelSum {
    fn note(&mut self, delay: f64, usual: f64) {
        let level = delay.ln() - usual.ln();
        if self.learned < LEARNED_LOOKS {
            self.learned += 1;
            self.learn(level, 1.0 / f64::from(self.learned));
            return;
        }
        let spread = self.variance.sqrt().max(SPREAD_MIN);
        let above = ((level - self.mean) / spread).clamp(-SPREADS_MAX, SPREADS_MAX);
        self.sum = (self.sum + above - SLACK).clamp(0.0, 2.0 * LEVEL_LIMIT);
        self.alarming = self.sum >= LEVEL_LIMIT || (self.alarming && self.sum >= FORGOTTEN * LEVEL_LIMIT);
        if self.sum <= 0.0 {
            // What is suspicious is not learned: else a slow decline would pass for usual.
            self.learn(level, LEARNING_RATE);
        }
    }

    /// An exponentially weighted mean and variance; with weights of 1, 1/2, 1/3 … the plain ones.
    fn learn(&mut self, level: f64, weight: f64) {
        let difference = level - self.mean;
        self.mean += weight * difference;
        self.variance = (1.0 - weight) * (self.variance + weight * difference * difference);
    }
}

/// The middle of some delays; `None` of none.
#[must_use]
pub fn median(mut delays: Vec<f64>) -> Option<f64> {
    delays.sort_by(f64::total_cmp);
    delays.get(delays.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use datamesh_core::health::Sign;

    use super::{Baseline, Forecaster, Look};

    /// The look at which a node is first suspected, and of what.
    fn first(looks: impl IntoIterator<Item = (Look, Baseline)>) -> Option<(usize, Sign)> {
        let mut forecaster = Forecaster::default();
        looks.into_iter().enumerate().find_map(|(index, (look, baseline))| {
            forecaster.note(&look, &baseline);
            let sign = forecaster.signs().next()?;
            Some((index, sign))
        })
    }

    /// A delay that varies by a third, in no order.
    fn noisy(index: u32, seconds: f64) -> f64 {
        let noise = f64::from(index.wrapping_mul(2_654_435_761) >> 16) / 65_536.0;
        seconds * (0.75 + 0.6 * noise)
    }

    fn writing(index: u32, seconds: f64) -> Look {
        Look { write: Some(noisy(index, seconds)), ..Look::default() }
    }

    #[test]
    fn a_node_like_any_other_is_never_suspected() {
        let calm = (0..100_000).map(|index: u32| {
            // An error and a rotten item now and then, as disks have them.
            let errors = u64::from(index % 500 == 3);
            let look = Look { errors, rotten: u64::from(index % 900 == 7), ..writing(index, 0.05) };
            (Look { latency: Some(noisy(index + 7, 0.2)), ..look }, Baseline::default())
        });
        assert_eq!(first(calm), None);
    }

    #[test]
    fn what_grows_is_seen_and_a_single_burst_is_not() {
        let events = |at: &'static [usize], each: u64| {
            (0..200).map(move |index| {
                let rotten = if at.contains(&index) { each } else { 0 };
                (Look { rotten, ..Look::default() }, Baseline::default())
            })
        };
        assert_eq!(first(events(&[50, 70, 80, 85, 88], 1)), Some((88, Sign::Rot)));
        assert_eq!(first(events(&[50, 60, 65], 2)), Some((65, Sign::Rot)));
        assert_eq!(first(events(&[50], 1000)), None);
        assert_eq!(first(events(&[50, 51], 1000)), None);
    }

    #[test]
    fn slower_and_slower_writes_are_seen_unless_all_nodes_are_slow() {
        let slowing = |index: u32| {
            if index < 100 { 0.05 } else { 0.05 * 1.05_f64.powi(i32::try_from(index - 100).expect("small")) }
        };
        let alone = first((0..300).map(|index| {
            let baseline = Baseline { write: Some(noisy(index + 31, 0.05)), latency: None };
            (writing(index, slowing(index)), baseline)
        }));
        let (seen, sign) = alone.expect("it is five times as slow after 33 looks");
        assert!(sign == Sign::SlowWrites && (110..145).contains(&seen), "seen at {seen}");
        let together = first((0..300).map(|index| {
            let baseline = Baseline { write: Some(noisy(index + 31, slowing(index))), latency: None };
            (writing(index, slowing(index)), baseline)
        }));
        assert_eq!(together, None, "the mesh is busy");
    }

    #[test]
    fn who_is_away_more_and_more_often_is_seen() {
        let away = |index: usize| u64::from(index > 100 && index.is_multiple_of(7));
        let looks =
            (0..300).map(|index| (Look { absences: away(index), ..Look::default() }, Baseline::default()));
        let (seen, sign) = first(looks).expect("one look in seven is one too many");
        assert!(sign == Sign::Absences && seen < 140, "seen at {seen}");
    }
}
