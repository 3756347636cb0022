//! Means with their 95 % intervals, and samples of long series.

use crate::durability::chance::Chance;

/// Samples that are kept of a series.
const SAMPLES_MAX: usize = 4096;
/// The 97.5 % quantile of Student's t distribution by degrees of freedom, from 1 on, and beyond: that of the normal one.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
const NORMAL: f64 = 1.960;

/// A mean and where it lies with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Estimate {
    /// From runs that don't depend on each other.
    ///
    /// # Panics
    /// If there are fewer than two.
    #[must_use]
    pub fn of(runs: &[f64]) -> Self {
        assert!(runs.len() > 1, "one run has no interval");
        let count = real(runs.len());
        let mean = runs.iter().sum::<f64>() / count;
        let variance = runs.iter().map(|run| (run - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let student = STUDENT.get(runs.len() - 2).copied().unwrap_or(NORMAL);
        let half = student * (variance / count).sqrt();
        Self { mean, low: mean - half, high: mean + half }
    }
}

/// A long series: its count, its mean, and samples that stand for all of it.
#[derive(Debug, Clone, Default)]
pub struct Series {
    count: usize,
    sum: f64,
    samples: Vec<f64>,
}

impl Series {
    /// Adds a value. Of those beyond the most that are kept, each has the same chance to be (Vitter's algorithm R).
    pub fn add(&mut self, value: f64, chance: &mut Chance) {
        self.count += 1;
        self.sum += value;
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(value);
        } else if let Some(sample) = self.samples.get_mut(chance.below(self.count)) {
            *sample = value;
        }
    }

    /// How many values there were.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Their sum.
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.sum
    }

    /// One of those kept; 0 of an empty series.
    pub fn draw(&self, chance: &mut Chance) -> f64 {
        if self.samples.is_empty() { 0.0 } else { self.samples[chance.below(self.samples.len())] }
    }
}

/// A count as a number to divide.
#[must_use]
pub fn real(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::{Estimate, SAMPLES_MAX, Series};
    use crate::durability::chance::Chance;

    #[test]
    fn the_interval_of_two_runs_is_wide_and_of_equal_ones_nothing() {
        let two = Estimate::of(&[1.0, 3.0]);
        assert!((two.mean - 2.0).abs() < 1e-12 && (two.high - 2.0 - 12.706).abs() < 1e-9, "{two:?}");
        let equal = Estimate::of(&[4.0; 5]);
        assert!(equal.low >= 4.0 && equal.high <= 4.0);
    }

    #[test]
    fn the_interval_holds_the_mean_nineteen_times_in_twenty() {
        let mut chance = Chance::new(5, "interval");
        let held = (0..2_000).filter(|_| {
            let runs: Vec<f64> = (0..10).map(|_| chance.normal_above(f64::MIN)).collect();
            let estimate = Estimate::of(&runs);
            estimate.low <= 0.0 && 0.0 <= estimate.high
        });
        let held = held.count();
        assert!((1_860..=1_940).contains(&held), "{held}");
    }

    #[test]
    fn samples_stand_for_the_whole_series() {
        let mut chance = Chance::new(1, "series");
        let mut series = Series::default();
        for value in 0..20 * SAMPLES_MAX {
            series.add(super::real(value), &mut chance);
        }
        let middle = super::real(10 * SAMPLES_MAX);
        let mean = (0..50_000).map(|_| series.draw(&mut chance)).sum::<f64>() / 50_000.0;
        assert!((mean / middle - 1.0).abs() < 0.04, "{mean} for {middle}");
        assert_eq!(series.count(), 20 * SAMPLES_MAX);
    }
}
