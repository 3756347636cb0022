//! How many requests one peer has under way: as many as fill the line to it, and fewer when it stalls.

use std::time::Duration;

/// Never more requests than this, however long the line.
pub(crate) const WINDOW_REQUESTS_MAX: usize = 100;
/// How much more than what the line holds as measured may be under way: were it no more, the measure could never grow.
const PROBE: f64 = 1.25;
/// Stalls within this time after one that made the window smaller are the same trouble.
const SAME_TROUBLE: Duration = Duration::from_millis(500);

/// Parts of a request in which a window is counted.
const PARTS: u32 = 1024;

/// A window of requests, which grows by one in each round trip that fills it, and is halved by a stall: additive increase,
/// multiplicative decrease (Chiu and Jain 1989), so that those who share a line come to share it equally.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// In parts of a request, as are the bounds.
    size: u32,
    min: u32,
    max: u32,
    shrunk: Option<Duration>,
}

impl Window {
    /// A window that starts with the least there may be.
    pub(crate) fn new(min: usize, max: usize) -> Self {
        let parts = |count: usize| parts(count.clamp(1, WINDOW_REQUESTS_MAX));
        let (min, max) = (parts(min), parts(max.max(min)));
        Self { size: min, min, max, shrunk: None }
    }

    /// How many requests may be under way.
    pub(crate) fn size(&self) -> usize {
        usize::try_from(self.size / PARTS).expect("a window fits memory")
    }

    /// Notes a request that went well while the window was full. `line` is what the line holds, counted in such requests.
    pub(crate) fn grow(&mut self, line: f64) {
        let fills =
            self.size < parts(WINDOW_REQUESTS_MAX) && f64::from(self.size) < line * PROBE * f64::from(PARTS);
        if self.size < self.max || fills {
            // One whole request for as many as there are.
            self.size = (self.size + PARTS * PARTS / self.size).min(parts(WINDOW_REQUESTS_MAX));
            if !fills {
                self.size = self.size.min(self.max);
            }
        }
    }

    /// Notes that the peer stalled or has too much to do.
    pub(crate) fn shrink(&mut self, now: Duration) {
        if self.shrunk.is_none_or(|before| now.saturating_sub(before) >= SAME_TROUBLE) {
            self.size = (self.size / 2).max(self.min);
            self.shrunk = Some(now);
        }
    }
}

fn parts(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX).saturating_mul(PARTS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{any, prop, prop_assert, proptest};

    use super::{WINDOW_REQUESTS_MAX, Window};

    #[test]
    fn a_window_grows_by_one_in_each_round_trip_and_is_halved_once_for_one_trouble() {
        let mut window = Window::new(10, 20);
        assert_eq!(window.size(), 10);
        for size in 10..20 {
            assert_eq!(window.size(), size);
            (0..=size).for_each(|_| window.grow(0.0));
        }
        (0..100).for_each(|_| window.grow(0.0));
        assert_eq!(window.size(), 20, "no more unless the line holds more");
        let now = Duration::from_secs(1);
        (0..20).for_each(|_| window.shrink(now));
        assert_eq!(window.size(), 10);
    }

    #[test]
    fn a_long_line_is_filled_and_then_no_more() {
        let mut window = Window::new(10, 20);
        (0..100_000).for_each(|_| window.grow(40.0));
        assert_eq!(window.size(), 50, "what the line holds, and a quarter to find out whether it holds more");
        (0..100_000).for_each(|_| window.grow(4_000.0));
        assert_eq!(window.size(), WINDOW_REQUESTS_MAX);
    }

    proptest! {
        #[test]
        fn a_window_keeps_to_its_bounds(
            min in 0_usize..200,
            max in 0_usize..200,
            steps in prop::collection::vec((any::<bool>(), 0.0_f64..200.0), 0..500),
        ) {
            let mut window = Window::new(min, max);
            let least = min.clamp(1, WINDOW_REQUESTS_MAX);
            for (step, (grows, line)) in steps.into_iter().enumerate() {
                let before = window.size();
                if grows { window.grow(line) } else { window.shrink(Duration::from_secs(u64::try_from(step).unwrap())) }
                prop_assert!((least..=WINDOW_REQUESTS_MAX).contains(&window.size()));
                let unneeded = max.max(least).min(WINDOW_REQUESTS_MAX);
                prop_assert!(window.size() <= before.max(unneeded) || window.size() as f64 <= line * 1.25 + 2.0);
            }
        }
    }
}
