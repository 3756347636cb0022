//! How many connections to each node carry calls: one, and a few where a line loses so much that one is held back.
//!
//! A control of congestion that takes each lost packet for congestion reaches no more than about 1.2 segments in a round trip
//! over the root of the loss (Mathis, Semke, Mahdavi and Ott 1997), however wide the line is; so many connections reach so many
//! times that. Whether a line is such is tried, and not asked: more connections that bring nothing are given up.

use std::time::{Duration, Instant};

/// Connections to each node where more bring more.
pub(crate) const WIDTH_MAX: usize = 4;
/// How long a connection that has just begun may be faster than it can stay.
const STARTED: Duration = Duration::from_secs(1);
/// Over how long the speed is measured, before and in a trial.
const MEASURED: Duration = Duration::from_secs(2);
/// What a trial's connections are given to get going at the least, beside what was under way before them.
const SETTLED: Duration = Duration::from_millis(500);
/// How much faster a trial has to be. Those who share a line with others, but lose little, come to less.
const GAIN: f64 = 1.3;
/// Connections as fast as this are not held back, bytes a second.
const FAST: f64 = 16e6;
/// How long the outcome of a trial counts: lines change. One that brought nothing counts for a minute first and for twice as
/// long each further time, since a trial costs a full line about a second.
const KEPT: Duration = Duration::from_secs(5 * 60);
const GIVEN_UP: Duration = Duration::from_secs(60);
/// Without a call for this long nothing can be said about a line.
const PAUSED: Duration = Duration::from_secs(1);

/// The width, and how far its next trial has got.
#[derive(Debug)]
pub(crate) struct Width {
    width: usize,
    phase: Phase,
    /// How long the next trial counts if it brings nothing.
    given_up: Duration,
    last: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Connections have begun to move something.
    Starting { since: Instant },
    /// One connection to each node, from a moment on at which so many bytes had moved.
    Measuring { since: Instant, bytes: u64 },
    /// More of them, which don't count until so many bytes have moved: those that were under way were asked of the others.
    Settling { since: Instant, until_bytes: u64, before: f64 },
    /// More of them.
    Trying { since: Instant, bytes: u64, before: f64 },
    /// The outcome stands.
    Decided { until: Instant },
}

/// The connections to all nodes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    pub(crate) link_count: u32,
    /// Bytes of requests and answers that are under way on them.
    pub(crate) outstanding: u64,
}

impl Width {
    pub(crate) fn new(now: Instant) -> Self {
        Self { width: 1, phase: Phase::Starting { since: now }, given_up: GIVEN_UP, last: now }
    }

    /// How many connections to each node are to carry calls. To be asked with each call, with how many bytes have moved so far.
    pub(crate) fn at(&mut self, now: Instant, bytes: u64, load: impl FnOnce() -> Load) -> usize {
        let paused = now.saturating_duration_since(self.last) >= PAUSED;
        self.last = now;
        let decided = matches!(self.phase, Phase::Decided { until } if now < until);
        if paused && !decided {
            self.narrow(Phase::Starting { since: now });
        }
        match self.phase {
            Phase::Starting { since } => {
                if now.saturating_duration_since(since) >= STARTED {
                    self.phase = Phase::Measuring { since: now, bytes };
                }
            }
            Phase::Measuring { since, bytes: begun } => {
                if let Some(before) = rate(since, now, bytes - begun) {
                    let Load { link_count, outstanding } = load();
                    if before < FAST * f64::from(link_count) {
                        let until_bytes = bytes + outstanding;
                        self.width = WIDTH_MAX;
                        self.phase = Phase::Settling { since: now, until_bytes, before };
                    } else {
                        self.phase = Phase::Measuring { since: now, bytes };
                    }
                }
            }
            Phase::Settling { since, until_bytes, before } => {
                if bytes >= until_bytes && now.saturating_duration_since(since) >= SETTLED {
                    self.phase = Phase::Trying { since: now, bytes, before };
                }
            }
            Phase::Trying { since, bytes: begun, before } => {
                if let Some(tried) = rate(since, now, bytes - begun) {
                    tracing::debug!(before, tried, "more connections to each node were tried");
                    if tried >= GAIN * before {
                        self.phase = Phase::Decided { until: now + KEPT };
                        self.given_up = GIVEN_UP;
                    } else {
                        self.narrow(Phase::Decided { until: now + self.given_up });
                        self.given_up = (self.given_up * 2).min(KEPT);
                    }
                }
            }
            Phase::Decided { until } => {
                if now >= until {
                    self.narrow(Phase::Measuring { since: now, bytes });
                }
            }
        }
        self.width
    }

    fn narrow(&mut self, phase: Phase) {
        (self.width, self.phase) = (1, phase);
    }
}

/// Bytes a second, once they have been counted for long enough.
fn rate(since: Instant, now: Instant, bytes: u64) -> Option<f64> {
    let elapsed = now.saturating_duration_since(since);
    (elapsed >= MEASURED).then(|| bytes as f64 / elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{GIVEN_UP, KEPT, Load, WIDTH_MAX, Width};

    const LOAD: Load = Load { link_count: 6, outstanding: 16 << 20 };
    const STEP: Duration = Duration::from_millis(20);
    const STEPS_PER_SECOND: u64 = 50;

    /// A line that moves so many bytes a second at each width, and what carries calls over it.
    struct Line<F> {
        width: Width,
        now: Instant,
        bytes: u64,
        rate: F,
    }

    impl<F: Fn(u64) -> u64> Line<F> {
        fn new(rate: F) -> Self {
            let now = Instant::now();
            Self { width: Width::new(now), now, bytes: 0, rate }
        }

        /// Calls all the time for so long; says how long each width was used.
        fn run(&mut self, duration: Duration) -> [Duration; WIDTH_MAX + 1] {
            let mut used = [Duration::ZERO; WIDTH_MAX + 1];
            let end = self.now + duration;
            while self.now < end {
                let width = self.width.at(self.now, self.bytes, || LOAD);
                self.now += STEP;
                used[width] += STEP;
                self.bytes += (self.rate)(u64::try_from(width).expect("few")) / STEPS_PER_SECOND;
            }
            used
        }
    }

    #[test]
    fn a_line_that_holds_each_connection_back_gets_more_of_them() {
        let mut line = Line::new(|width| 4_000_000 * width);
        let used = line.run(Duration::from_secs(60));
        assert!(used[WIDTH_MAX] >= Duration::from_secs(56), "{used:?}");
        // Tried anew after a while.
        let used = line.run(KEPT * 3);
        assert!(used[1] > Duration::ZERO && used[1] < KEPT / 40, "{used:?}");
    }

    #[test]
    fn a_line_that_is_full_keeps_one_connection_to_each_node_but_for_trials() {
        let mut line = Line::new(|width| 22_000_000 + 1_000_000 * width);
        let used = line.run(GIVEN_UP);
        assert!(
            used[WIDTH_MAX] > Duration::from_secs(2) && used[WIDTH_MAX] < Duration::from_secs(4),
            "{used:?}"
        );
        let used = line.run(KEPT * 20);
        assert!(used[1] > KEPT * 20 * 98 / 100, "{used:?}");
        assert!(used[WIDTH_MAX] > Duration::from_secs(40), "it was tried again: {used:?}");
    }

    #[test]
    fn fast_connections_are_left_alone() {
        let mut line = Line::new(|width| 100_000_000 * width);
        assert_eq!(line.run(Duration::from_secs(60))[1], Duration::from_secs(60));
    }

    #[test]
    fn a_trial_that_was_broken_off_says_nothing() {
        let mut line = Line::new(|width| 4_000_000 * width);
        let used = line.run(Duration::from_secs(4));
        assert!(used[WIDTH_MAX] > Duration::ZERO, "a trial had begun: {used:?}");
        line.now += Duration::from_secs(10);
        let used = line.run(Duration::from_millis(900));
        assert_eq!(used[1], Duration::from_millis(900));
    }
}
