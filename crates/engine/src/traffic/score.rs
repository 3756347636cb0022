//! How much a peer can be relied on: the share of what it did that was right, the newer the weightier.

use std::time::Duration;

use super::measure::decay;

/// After how long an old deed counts for half.
const HALF_LIFE: Duration = Duration::from_secs(300);
/// Good deeds that anybody is given in advance: one bad one is then not all that is known.
const ADVANCE: f64 = 8.0;
/// The most good deeds that count: a long good past does not hide what is wrong now.
const GOOD_MAX: f64 = 56.0;
/// The most that bad ones count together, so that everybody is asked again some day.
const BAD_MAX: f64 = 512.0;

/// What a peer has done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offence {
    /// It has too much to do.
    Busy,
    /// It was not there, did not answer, or answered when others had been asked long since.
    Silent,
    /// It sent what is not the item, a receipt that proves nothing, or no message at all. Nobody does that by mistake often.
    Lie,
}

impl Offence {
    /// Bad deeds that it counts for.
    const fn weight(self) -> f64 {
        match self {
            Self::Busy => 0.25,
            Self::Silent => 1.0,
            Self::Lie => 64.0,
        }
    }
}

/// Good and bad deeds, fading with time.
///
/// The score is (good + 8) / (good + bad + 8). A good deed counts 1, silence counts 1 bad one, a lie counts 64 and takes away
/// every good one. Both fade by half in five minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Reliability {
    pub(crate) good: f64,
    pub(crate) bad: f64,
    pub(crate) last: Duration,
}

impl Reliability {
    pub(crate) fn credit(&mut self, now: Duration) {
        *self = self.faded(now);
        self.good = (self.good + 1.0).min(GOOD_MAX);
    }

    pub(crate) fn debit(&mut self, now: Duration, offence: Offence) {
        *self = self.faded(now);
        if offence == Offence::Lie {
            self.good = 0.0;
        }
        self.bad = (self.bad + offence.weight()).min(BAD_MAX);
    }

    /// From near 0, for one that lied, to 1 where nothing speaks against it.
    pub(crate) fn score(&self, now: Duration) -> f64 {
        let Self { good, bad, .. } = self.faded(now);
        (good + ADVANCE) / (good + bad + ADVANCE)
    }

    /// What is left of the deeds by now.
    pub(crate) fn faded(&self, now: Duration) -> Self {
        let left = decay(now.saturating_sub(self.last), HALF_LIFE);
        Self { good: self.good * left, bad: self.bad * left, last: now }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{prop, prop_assert, proptest};

    use super::{Offence, Reliability};

    #[test]
    fn a_lie_costs_far_more_than_silence_and_both_are_forgotten() {
        let (mut silent, mut liar) = (Reliability::default(), Reliability::default());
        let now = Duration::from_secs(10);
        for _ in 0..100 {
            silent.credit(now);
            liar.credit(now);
        }
        silent.debit(now, Offence::Silent);
        liar.debit(now, Offence::Lie);
        assert!(silent.score(now) > 0.98, "{}", silent.score(now));
        assert!(liar.score(now) < 0.15, "{}", liar.score(now));
        for _ in 0..8 {
            silent.debit(now, Offence::Silent);
        }
        assert!(liar.score(now) < silent.score(now));
        let hour = now + Duration::from_secs(3600);
        assert!(liar.score(hour) > 0.99, "{}", liar.score(hour));
    }

    proptest! {
        #[test]
        fn a_score_is_above_nothing_and_one_at_most(deeds in prop::collection::vec((0_u8..4, 0_u64..1_000_000), 0..200)) {
            let (mut reliability, mut now) = (Reliability::default(), Duration::ZERO);
            for (deed, pause_ms) in deeds {
                now += Duration::from_millis(pause_ms);
                let before = reliability.score(now);
                match deed {
                    0 => reliability.credit(now),
                    1 => reliability.debit(now, Offence::Busy),
                    2 => reliability.debit(now, Offence::Silent),
                    _ => reliability.debit(now, Offence::Lie),
                }
                let after = reliability.score(now);
                prop_assert!(after > 0.0 && after <= 1.0);
                let right = if deed == 0 { after >= before } else { after <= before };
                prop_assert!(right);
            }
        }
    }
}
