//! Numbers of the distributions that nodes live and die by, from one stream of draws.

use std::f64::consts::TAU;

use crate::draw::Draws;

/// Bytes drawn at once: a hash gives a block of them as fast as the first eight.
const BUFFER_SIZE: usize = 1024;
/// Random bits in a number between 0 and 1: as many as it holds.
const UNIT_BITS: u32 = 53;
/// Steps of the integration of the normal tail, and how far it goes: what lies beyond is below 10^-20.
const TAIL_STEPS: u32 = 2_000;
const TAIL_WIDTH: f64 = 10.0;

/// A stream of numbers that a seed and a purpose determine.
#[derive(Debug, Clone)]
pub struct Chance {
    draws: Draws,
    buffer: [u8; BUFFER_SIZE],
    next: usize,
}

impl Chance {
    /// The numbers of a seed and a purpose.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Self {
        Self { draws: Draws::new(seed, purpose), buffer: [0; BUFFER_SIZE], next: BUFFER_SIZE }
    }

    fn bits(&mut self) -> u64 {
        if self.next == BUFFER_SIZE {
            self.draws.fill(&mut self.buffer);
            self.next = 0;
        }
        let bytes = self.buffer[self.next..].first_chunk().expect("the buffer holds whole numbers");
        self.next += size_of::<u64>();
        u64::from_le_bytes(*bytes)
    }

    /// A number in (0, 1]: its logarithm is finite.
    pub fn unit(&mut self) -> f64 {
        let steps = (self.bits() >> (u64::BITS - UNIT_BITS)) + 1;
        steps as f64 / (1_u64 << UNIT_BITS) as f64
    }

    /// A number below this bound.
    ///
    /// # Panics
    /// If the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "no number is below 0");
        let bound = u128::try_from(bound).expect("addresses have at most 128 bits");
        usize::try_from((u128::from(self.bits()) * bound) >> u64::BITS).expect("below a number of this width")
    }

    /// The waiting time for something that happens once in a unit of time on the mean.
    pub fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// A standard normal number that is no less than this (Robert, "Simulation of truncated normal variables", 1995).
    pub fn normal_above(&mut self, least: f64) -> f64 {
        if least <= 0.0 {
            loop {
                let (radius, angle) = ((2.0 * self.exponential()).sqrt(), TAU * self.unit());
                let drawn = radius * angle.cos();
                if drawn >= least {
                    return drawn;
                }
            }
        }
        let rate = f64::midpoint(least, (least * least + 4.0).sqrt());
        loop {
            let drawn = least + self.exponential() / rate;
            if self.unit() <= (-(drawn - rate).powi(2) / 2.0).exp() {
                return drawn;
            }
        }
    }
}

/// How much of a standard normal distribution lies above this.
#[must_use]
pub fn normal_share_above(least: f64) -> f64 {
    if least < 0.0 {
        return 1.0 - normal_share_above(-least);
    }
    // Simpson's rule: the weights are 1, 4, 2, 4, …, 4, 1.
    let width = TAIL_WIDTH / f64::from(TAIL_STEPS);
    let weight = |step: u32| match step {
        0 | TAIL_STEPS => 1.0,
        _ if step % 2 == 1 => 4.0,
        _ => 2.0,
    };
    let density = |at: f64| (-at * at / 2.0).exp() / TAU.sqrt();
    let sum: f64 =
        (0..=TAIL_STEPS).map(|step| weight(step) * density(f64::from(step).mul_add(width, least))).sum();
    sum * width / 3.0
}

#[cfg(test)]
mod tests {
    use super::{Chance, normal_share_above};

    #[test]
    fn a_seed_determines_the_numbers_and_they_have_their_means() {
        let mut chance = Chance::new(1, "test");
        let mut again = Chance::new(1, "test");
        let (mut sum, mut tail) = (0.0, 0.0);
        for _ in 0..100_000 {
            let drawn = chance.exponential();
            assert_eq!(drawn.to_bits(), again.exponential().to_bits());
            sum += drawn;
        }
        assert!((sum / 1e5 - 1.0).abs() < 0.02, "{sum}");
        for _ in 0..100_000 {
            let drawn = chance.normal_above(1.0);
            assert!(drawn >= 1.0);
            tail += drawn;
        }
        // The mean above a bound is the density there over the share above it.
        assert!((tail / 1e5 - 0.241_970_7 / 0.158_655_3).abs() < 0.01, "{tail}");
    }

    #[test]
    fn the_share_above_is_that_of_the_tables() {
        for (least, share) in [(0.0, 0.5), (1.0, 0.158_655_25), (-1.0, 0.841_344_75), (3.0, 0.001_349_898)] {
            assert!((normal_share_above(least) - share).abs() < 1e-8, "{least}");
        }
    }
}
