//! How much a counter has grown lately.

use std::collections::VecDeque;
use std::time::Duration;

/// Growths that are remembered: what comes later is added to the last one.
const GROWTHS_MAX: usize = 256;

/// How much a counter that only grows has grown within some time.
#[derive(Debug)]
pub(super) struct Window {
    length: Duration,
    last: Option<u64>,
    growths: VecDeque<(Duration, u64)>,
}

impl Window {
    pub(super) const fn new(length: Duration) -> Self {
        Self { length, last: None, growths: VecDeque::new() }
    }

    /// Takes note of the counter. Says by how much it has grown since it was noted last.
    pub(super) fn note(&mut self, now: Duration, counter: u64) -> u64 {
        let growth = counter.saturating_sub(self.last.unwrap_or(0));
        self.last = Some(counter);
        if growth > 0 {
            let crowded = self.growths.len() >= GROWTHS_MAX;
            match self.growths.back_mut() {
                Some(last) if crowded => *last = (now, last.1 + growth),
                _ => self.growths.push_back((now, growth)),
            }
        }
        while self.growths.front().is_some_and(|(at, _)| now.saturating_sub(*at) > self.length) {
            self.growths.pop_front();
        }
        growth
    }

    pub(super) fn sum(&self) -> u64 {
        self.growths.iter().map(|(_, growth)| growth).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{GROWTHS_MAX, Window};

    #[test]
    fn a_growth_counts_for_as_long_as_the_window_and_however_many_there_are() {
        let mut window = Window::new(Duration::from_secs(100));
        assert_eq!(window.note(Duration::from_secs(1), 5), 5);
        window.note(Duration::from_secs(60), 5);
        assert_eq!((window.note(Duration::from_secs(61), 7), window.sum()), (2, 7));
        window.note(Duration::from_secs(102), 7);
        assert_eq!(window.sum(), 2);
        for number in 0..3 * GROWTHS_MAX {
            window.note(Duration::from_secs(103), 8 + u64::try_from(number).expect("small"));
        }
        assert_eq!(window.sum(), 2 + 3 * 256);
        assert!(window.growths.len() <= GROWTHS_MAX);
    }
}
