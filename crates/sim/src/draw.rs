//! The one source of chance: a stream of numbers that a seed and a purpose determine.

use std::time::Duration;

/// Numbers drawn from a seed for one purpose; draws for other purposes don't disturb them.
#[derive(Debug, Clone)]
pub struct Draws {
    stream: blake3::OutputReader,
}

impl Draws {
    /// The numbers of a seed and a purpose.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("datamesh 2026 simulation draws v1");
        hasher.update(&seed.to_le_bytes()).update(purpose.as_bytes());
        Self { stream: hasher.finalize_xof() }
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        self.stream.fill(buffer);
    }

    /// A number below this bound.
    ///
    /// # Panics
    /// If the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below 0");
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        let scaled = u128::from(u64::from_le_bytes(bytes)) * u128::from(bound);
        u64::try_from(scaled >> 64).expect("the product of two 64-bit numbers has 128 bits")
    }

    /// Whether something that happens so many times in a hundred happens now.
    pub fn happens(&mut self, percent: u8) -> bool {
        self.below(100) < u64::from(percent)
    }

    /// A duration from `shortest` to `longest`, in microseconds.
    pub fn duration(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let span = longest.saturating_sub(shortest).as_micros();
        let steps = u64::try_from(span).unwrap_or(u64::MAX).saturating_add(1);
        shortest + Duration::from_micros(self.below(steps))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Draws;

    #[test]
    fn a_seed_and_a_purpose_determine_all_draws() {
        let numbers = |seed, purpose| {
            let mut draws = Draws::new(seed, purpose);
            [(); 8].map(|()| draws.below(1_000_000))
        };
        assert_eq!(numbers(1, "delay"), numbers(1, "delay"));
        assert_ne!(numbers(1, "delay"), numbers(2, "delay"));
        assert_ne!(numbers(1, "delay"), numbers(1, "loss"));
    }

    #[test]
    fn draws_stay_within_their_bounds_and_reach_them() {
        let mut draws = Draws::new(3, "bounds");
        let drawn: Vec<u64> = (0..200).map(|_| draws.below(4)).collect();
        assert!((0..4).all(|number| drawn.contains(&number)) && drawn.iter().all(|number| *number < 4));
        assert!((0..100).all(|_| draws.happens(100) && !draws.happens(0)));
        let second = Duration::from_secs(1);
        assert!((0..100).all(|_| (second..=2 * second).contains(&draws.duration(second, 2 * second))));
        assert_eq!(draws.duration(second, second), second);
    }
}
