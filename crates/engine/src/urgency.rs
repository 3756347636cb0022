//! Which stripe is repaired first: the one that may lose the fewest further shards. Pure.

/// How soon a stripe that is short of shards is to be repaired. The lesser, the sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It can be rebuilt, and may lose so many shards more before it can't.
    Spare(usize),
    /// It lacks so many shards to be rebuilt: nothing can be done until nodes come back, so it takes no bandwidth from
    /// stripes that can still be kept.
    Short(usize),
}

/// The urgency of a stripe of which so many shards can be read and so many are needed.
#[must_use]
pub const fn urgency(healthy_count: usize, needed_count: usize) -> Urgency {
    if healthy_count >= needed_count {
        Urgency::Spare(healthy_count - needed_count)
    } else {
        Urgency::Short(needed_count - healthy_count)
    }
}

#[cfg(test)]
mod tests {
    use super::urgency;

    #[test]
    fn the_most_endangered_comes_first_and_what_cannot_be_rebuilt_last() {
        let mut stripes = [(6, 4), (3, 4), (4, 4), (11, 10), (5, 4), (1, 4)];
        stripes.sort_by_key(|(healthy, needed)| urgency(*healthy, *needed));
        assert_eq!(stripes, [(4, 4), (11, 10), (5, 4), (6, 4), (3, 4), (1, 4)]);
    }
}
