//! How long nodes live and stay away: exponential and heavier-tailed.

use crate::durability::chance::{Chance, normal_share_above};

/// The most that a lifetime may be stretched: Weibull shapes below 1/4 are of no machine.
pub const STRETCH_MAX: u32 = 4;

/// A Weibull distribution of shape 1/stretch, in seconds. Stretched once it is exponential; stretched more, many die young
/// and some get very old, and a node is the less likely to die the older it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lifetime {
    scale: f64,
    stretch: u32,
}

/// Why two numbers are no lifetime.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum LifetimeError {
    /// No length of time, or none at all.
    #[error("a mean lifetime of {0} s is out of range: it is finite and above 0")]
    Mean(f64),
    /// Not a shape between 1 and 1/4.
    #[error("a lifetime stretched {0} times is out of range: 1..={STRETCH_MAX}")]
    Stretch(u32),
}

impl Lifetime {
    /// Lifetimes of this mean.
    ///
    /// # Errors
    /// [`LifetimeError`] for what is out of range.
    pub fn new(mean: f64, stretch: u32) -> Result<Self, LifetimeError> {
        if !(mean.is_finite() && mean > 0.0) {
            return Err(LifetimeError::Mean(mean));
        }
        if !(1..=STRETCH_MAX).contains(&stretch) {
            return Err(LifetimeError::Stretch(stretch));
        }
        // The mean of a Weibull distribution of shape 1/s is its scale times s!.
        Ok(Self { scale: mean / f64::from((1..=stretch).product::<u32>()), stretch })
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.scale * f64::from((1..=self.stretch).product::<u32>())
    }

    /// How much longer a node of this age lives.
    pub fn left(&self, age: f64, chance: &mut Chance) -> f64 {
        // What a node has lived through, in units of an exponential lifetime, to which the rest adds.
        let passed = (age / self.scale).powf(f64::from(self.stretch).recip());
        let drawn = chance.exponential();
        // Written out where the two nearly cancel: a long-lived node must not be given a rest of 0.
        match self.stretch {
            1 => self.scale * drawn,
            2 => self.scale * drawn * 2.0_f64.mul_add(passed, drawn),
            stretch => self.scale * (passed + drawn).powf(f64::from(stretch)) - age,
        }
    }

    /// The age of a node met at random in a mesh that has been there for long.
    pub fn age_met(&self, chance: &mut Chance) -> f64 {
        // One meets the long-lived more often: a lifetime weighted by its length, of which a random part has passed.
        let sum: f64 = (0..=self.stretch).map(|_| chance.exponential()).sum();
        self.scale * sum.powf(f64::from(self.stretch)) * chance.unit()
    }
}

/// Log-normal lengths of time, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogNormal {
    /// Half are shorter.
    pub median: f64,
    /// The standard deviation of the logarithm.
    pub spread: f64,
}

impl LogNormal {
    /// How many of all are longer than this.
    #[must_use]
    pub fn share_above(&self, least: f64) -> f64 {
        normal_share_above(self.standard(least))
    }

    /// One that is no shorter than this.
    pub fn above(&self, least: f64, chance: &mut Chance) -> f64 {
        self.median * (self.spread * chance.normal_above(self.standard(least))).exp()
    }

    fn standard(&self, length: f64) -> f64 {
        (length / self.median).ln() / self.spread
    }
}

#[cfg(test)]
mod tests {
    use super::{Lifetime, LifetimeError, LogNormal};
    use crate::durability::chance::Chance;

    fn mean(mut draw: impl FnMut() -> f64) -> f64 {
        let count = 200_000;
        (0..count).map(|_| draw()).sum::<f64>() / f64::from(count)
    }

    #[test]
    fn lifetimes_have_their_mean_and_the_exponential_has_no_age() {
        let mut chance = Chance::new(1, "lifetimes");
        for stretch in [1, 2] {
            let lifetime = Lifetime::new(10.0, stretch).expect("in range");
            assert!((lifetime.mean() - 10.0).abs() < 1e-9);
            let drawn = mean(|| lifetime.left(0.0, &mut chance));
            assert!((drawn - 10.0).abs() < 0.3, "{stretch}: {drawn}");
        }
        let lifetime = Lifetime::new(10.0, 1).expect("in range");
        assert!((mean(|| lifetime.left(1e4, &mut chance)) - 10.0).abs() < 0.2);
    }

    #[test]
    fn a_node_met_at_random_has_as_much_behind_it_as_before_it() {
        let mut chance = Chance::new(2, "lifetimes");
        let lifetime = Lifetime::new(10.0, 2).expect("in range");
        // The mean age is E[X²] / 2 E[X]: for shape 1/2, scale 5 it is 25 · 24 / 20.
        let ages = mean(|| lifetime.age_met(&mut chance));
        assert!((ages - 30.0).abs() < 1.0, "{ages}");
        let left = mean(|| {
            let age = lifetime.age_met(&mut chance);
            lifetime.left(age, &mut chance)
        });
        assert!((left - 30.0).abs() < 1.0, "{left}");
    }

    #[test]
    fn absences_beyond_a_bound_are_drawn_as_those_that_happen_to_be() {
        let mut chance = Chance::new(3, "absences");
        let absence = LogNormal { median: 600.0, spread: 1.2 };
        let bound = 2_000.0;
        let above = |chance: &mut Chance| loop {
            let drawn = absence.above(0.0, chance);
            if drawn >= bound {
                return drawn.ln();
            }
        };
        let (by_rejection, at_once) =
            (mean(|| above(&mut chance)), mean(|| absence.above(bound, &mut chance).ln()));
        assert!((by_rejection - at_once).abs() < 0.01, "{by_rejection} {at_once}");
        assert!((absence.share_above(600.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_lifetime_is_refused_with_its_value() {
        assert_eq!(Lifetime::new(0.0, 1), Err(LifetimeError::Mean(0.0)));
        assert_eq!(Lifetime::new(1.0, 5), Err(LifetimeError::Stretch(5)));
    }
}
