//! What is to happen, in the order of time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Events yet to come. What is due at the same time comes in the order in which it was put down.
#[derive(Debug)]
pub struct Agenda<T> {
    due: BinaryHeap<Reverse<Due<T>>>,
    next: u64,
}

#[derive(Debug)]
struct Due<T> {
    at: f64,
    number: u64,
    event: T,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { due: BinaryHeap::new(), next: 0 }
    }
}

impl<T> Agenda<T> {
    /// Puts an event down for this time.
    pub fn put(&mut self, at: f64, event: T) {
        self.due.push(Reverse(Due { at, number: self.next, event }));
        self.next += 1;
    }

    /// The next event and its time, if there is one before the end.
    pub fn next_before(&mut self, end: f64) -> Option<(f64, T)> {
        if self.due.peek().is_none_or(|Reverse(due)| due.at >= end) {
            return None;
        }
        self.due.pop().map(|Reverse(due)| (due.at, due.event))
    }
}

impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.total_cmp(&other.at).then(self.number.cmp(&other.number))
    }
}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Due<T> {}

#[cfg(test)]
mod tests {
    use super::Agenda;

    #[test]
    fn events_come_by_time_and_then_as_they_were_put_down() {
        let mut agenda = Agenda::default();
        for (at, event) in [(2.0, 'c'), (1.0, 'a'), (1.0, 'b'), (3.0, 'd')] {
            agenda.put(at, event);
        }
        let order: String = std::iter::from_fn(|| agenda.next_before(3.0)).map(|(_, event)| event).collect();
        assert_eq!(order, "abc");
    }
}
