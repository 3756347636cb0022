//! Randomness for what needs no secrecy: whom to ask next, and when.

use std::time::Duration;

/// A random number. A system without randomness gets the same one each time, which only makes choices less even.
fn number() -> u64 {
    getrandom::u64().unwrap_or(0)
}

/// An index below a count; 0 if there is none.
pub(crate) fn index(count: usize) -> usize {
    let count = u64::try_from(count).expect("a count fits 64 bits");
    usize::try_from(number() % count.max(1)).expect("less than a count")
}

/// One of them, if there are any.
pub(crate) fn choose<T>(choices: &[T]) -> Option<&T> {
    choices.get(index(choices.len()))
}

/// Puts them in a random order.
pub(crate) fn shuffle<T>(items: &mut [T]) {
    // Fisher and Yates.
    for last in (1..items.len()).rev() {
        items.swap(last, index(last + 1));
    }
}

/// A duration up to a quarter shorter or longer, so that nodes started together don't act together.
pub(crate) fn around(duration: Duration) -> Duration {
    let percent = 75 + u32::try_from(number() % 51).expect("at most 50");
    duration.saturating_mul(percent) / 100
}

/// Random bytes to look up in the DHT.
pub(crate) fn key() -> [u8; 32] {
    let mut key = [0; 32];
    for part in key.chunks_exact_mut(size_of::<u64>()) {
        part.copy_from_slice(&number().to_le_bytes());
    }
    key
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::{around, choose, shuffle};

    #[test]
    fn every_choice_is_made_at_some_time_and_none_of_nothing() {
        let choices = [1, 2, 3];
        let chosen: BTreeSet<_> = (0..200).filter_map(|_| choose(&choices)).collect();
        assert_eq!(chosen.len(), 3);
        assert_eq!(choose::<u8>(&[]), None);
    }

    #[test]
    fn every_order_comes_at_some_time_and_nothing_is_lost() {
        let orders: BTreeSet<[u8; 3]> = (0..400)
            .map(|_| {
                let mut items = [1, 2, 3];
                shuffle(&mut items);
                items
            })
            .collect();
        assert_eq!(orders.len(), 6);
        assert!(orders.iter().all(|order| order.iter().sum::<u8>() == 6));
    }

    #[test]
    fn a_duration_is_moved_by_a_quarter_at_most() {
        let second = Duration::from_secs(1);
        assert!(
            (0..100).map(|_| around(second)).all(|moved| (second * 3 / 4..=second * 5 / 4).contains(&moved))
        );
    }
}
