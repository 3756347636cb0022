//! What a node did to keep its placement groups whole, added up over its rounds.

use std::sync::{Mutex, PoisonError};

use datamesh_engine::keep::Round;

use super::{Samples, Source, Value, metric};

/// The last round, and what all of them did together.
#[derive(Debug, Default)]
pub(crate) struct KeepTally(Mutex<Tally>);

#[derive(Debug, Default)]
struct Tally {
    round_count: u64,
    last: Round,
    repaired: u64,
    failed: u64,
    handed_over: u64,
    discarded: u64,
}

impl KeepTally {
    /// Adds a round.
    pub(crate) fn note(&self, round: &Round) {
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tally.round_count += 1;
        tally.repaired += round.repaired;
        tally.failed += round.failed + round.unplaced;
        tally.handed_over += round.handed_over;
        tally.discarded += round.discarded;
        tally.last = round.clone();
    }
}

impl Source for KeepTally {
    fn collect(&self, samples: &mut Samples) {
        let tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut put =
            |definition, labels: &[&str], value| samples.put(definition, labels, Value::Integer(value));
        put(&metric::KEEP_ROUNDS, &[], tally.round_count);
        put(&metric::KEEP_SHORT, &[], tally.last.short_count);
        put(&metric::KEEP_LOST, &[], tally.last.lost_count);
        put(&metric::KEEP_MISPLACED, &[], tally.last.misplaced);
        put(&metric::KEEP_REPAIRS, &["succeeded"], tally.repaired);
        put(&metric::KEEP_REPAIRS, &["failed"], tally.failed);
        put(&metric::KEEP_HANDED_OVER, &[], tally.handed_over);
        put(&metric::KEEP_DISCARDED, &[], tally.discarded);
    }
}
