//! Which segments stay near: what is wanted is local, and what nobody has wanted for long lies at the backend.

use std::collections::BTreeMap;
use std::time::Duration;

/// Of the bytes that may be local, so many quarters are taken before what is still wanted has to move.
const TAKEN_QUARTERS_MAX: u64 = 3;

/// A closed segment on the own disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Near {
    pub(crate) segment: u64,
    /// When something of it was wanted last, or else when it came.
    pub(crate) wanted: Duration,
}

/// What is to be moved to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// This segment, now.
    Now(u64),
    /// Nothing before this time.
    Later(Duration),
    Nothing,
}

/// The one of these segments that goes next: the one that has not been wanted for longest.
pub(crate) fn next_to_go(
    near: impl Iterator<Item = Near>,
    now: Duration,
    cold_after: Duration,
    is_full: bool,
) -> Next {
    let Some(coldest) = near.min_by_key(|near| (near.wanted, near.segment)) else { return Next::Nothing };
    let due = coldest.wanted.saturating_add(cold_after);
    if is_full || due <= now { Next::Now(coldest.segment) } else { Next::Later(due) }
}

/// Whether so many local bytes leave too little room for what comes.
pub(crate) fn is_full(size: u64, size_max: u64) -> bool {
    size > size_max / 4 * TAKEN_QUARTERS_MAX
}

/// What is wanted of the segments that lie at the backend.
///
/// One comes back once as many of its bytes were wanted within the time after which it would be cold as bringing it back
/// costs: the rule for renting or buying skis (Karlin et al., Competitive snoopy caching, 1988).
#[derive(Debug, Default)]
pub(crate) struct Demand(BTreeMap<u64, Wanted>);

#[derive(Debug, Clone, Copy)]
struct Wanted {
    since: Duration,
    size: u64,
}

impl Demand {
    /// Notes that so many bytes of a segment are wanted, and says whether it should come back.
    pub(crate) fn note(
        &mut self,
        segment: u64,
        size: u64,
        segment_size: u64,
        now: Duration,
        cold_after: Duration,
    ) -> bool {
        if cold_after.is_zero() {
            return false;
        }
        let wanted = self.0.entry(segment).or_insert(Wanted { since: now, size: 0 });
        if now.saturating_sub(wanted.since) > cold_after {
            *wanted = Wanted { since: now, size: 0 };
        }
        wanted.size = wanted.size.saturating_add(size);
        wanted.size >= segment_size
    }

    /// Forgets what was wanted of a segment: it is here, or nowhere any more.
    pub(crate) fn forget(&mut self, segment: u64) {
        self.0.remove(&segment);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Demand, Near, Next, is_full, next_to_go};

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn what_has_not_been_wanted_for_longest_goes_first_and_not_before_it_is_cold() {
        let near = [(3, 10), (4, 2), (5, 2)].map(|(segment, days)| Near { segment, wanted: DAY * days });
        let next = |now, full| next_to_go(near.into_iter(), DAY * now, DAY * 7, full);
        assert_eq!(next(8, false), Next::Later(DAY * 9));
        assert_eq!(next(9, false), Next::Now(4));
        assert_eq!(next(3, true), Next::Now(4), "there is no room for what is warm");
        assert_eq!(next_to_go(std::iter::empty(), DAY, DAY, true), Next::Nothing);
        assert_eq!(next_to_go(near.into_iter(), DAY * 10, Duration::ZERO, false), Next::Now(4));
        assert!(is_full(76, 100) && !is_full(75, 100));
    }

    #[test]
    fn what_is_wanted_as_often_as_it_would_cost_comes_back() {
        let mut demand = Demand::default();
        let mut note = |size, now| demand.note(1, size, 100, DAY * now, DAY * 7);
        assert!(!note(60, 0) && !note(39, 1));
        assert!(note(1, 2));
        assert!(!note(99, 10), "what was wanted long ago counts no more");
        demand.forget(1);
        assert!(!demand.note(1, 99, 100, DAY * 11, DAY * 7));
        assert!(!demand.note(1, 1000, 100, DAY, Duration::ZERO), "where all moves nothing comes back");
    }
}
