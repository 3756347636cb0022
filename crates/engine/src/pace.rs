//! How far a transfer is, how fast it goes, and when it will be done. Pure.
//!
//! The rate is that of a window of the recent past: half of the time since the transfer began, 30 s at the most. So
//! a short transfer is judged by most of what it has done, and a long one by how it goes now. Chunks arrive in bursts, a
//! window of eight at a time, hence no average over fractions of a second.

use std::collections::VecDeque;
use std::time::Duration;

/// The longest past that the rate is taken from.
const WINDOW_MAX: Duration = Duration::from_secs(30);
/// The shortest, where the transfer has one.
const WINDOW_MIN: Duration = Duration::from_secs(2);
/// How far apart the points are that the past is remembered by.
const STEP: Duration = Duration::from_millis(100);

/// How a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransferProgress {
    /// Bytes of plaintext that are where they were to go.
    pub bytes_done: u64,
    /// Bytes of plaintext in all, where that is known.
    pub bytes_expected: Option<u64>,
    /// Chunks that this run has brought where they were to go.
    pub chunks_done: u64,
    /// Bytes a second now; zero until that can be told.
    pub rate: f64,
    /// How long it will still take, where that can be told.
    pub remaining: Option<Duration>,
}

/// Takes what is done as it is done.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    expected: Option<u64>,
    done: u64,
    chunks: u64,
    /// Bytes that were there before and took no time.
    skipped: u64,
    /// When how much had been moved, the oldest first.
    points: VecDeque<Point>,
    started: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    at: Duration,
    moved: u64,
}

impl Pace {
    /// Says how many bytes there are in all.
    pub fn expect(&mut self, bytes: u64) {
        self.expected = Some(bytes);
    }

    /// This many bytes were there before: they count as done, and say nothing of the rate.
    pub fn skip(&mut self, bytes: u64) {
        self.done += bytes;
        self.skipped += bytes;
    }

    /// A chunk of this many bytes has arrived. `now` is any clock that never goes back.
    pub fn advance(&mut self, now: Duration, bytes: u64) {
        self.done += bytes;
        self.chunks += 1;
        let moved = self.done - self.skipped;
        // What arrives first also took the time before it, of which nothing is known.
        self.started.get_or_insert(now);
        let last_but_one = self.points.len().checked_sub(2).and_then(|index| self.points.get(index));
        if last_but_one.is_some_and(|point| now.saturating_sub(point.at) < STEP) {
            // Within a step only the newest point counts.
            self.points.pop_back();
        }
        self.points.push_back(Point { at: now, moved });
        let past = self.past(now);
        while self.points.get(1).is_some_and(|second| now.saturating_sub(second.at) >= past) {
            self.points.pop_front();
        }
    }

    /// How it stands at a time.
    #[must_use]
    pub fn progress(&self, now: Duration) -> TransferProgress {
        let rate = self.rate(now);
        let left = self.expected.map(|expected| expected.saturating_sub(self.done));
        let remaining = match left {
            Some(0) => Some(Duration::ZERO),
            Some(left) if rate > 0.0 => Duration::try_from_secs_f64(float(left) / rate).ok(),
            _ => None,
        };
        TransferProgress {
            bytes_done: self.done,
            bytes_expected: self.expected,
            chunks_done: self.chunks,
            rate,
            remaining,
        }
    }

    fn past(&self, now: Duration) -> Duration {
        let since = now.saturating_sub(self.started.unwrap_or(now));
        (since / 2).clamp(WINDOW_MIN, WINDOW_MAX)
    }

    fn rate(&self, now: Duration) -> f64 {
        let (Some(first), Some(last)) = (self.points.front(), self.points.back()) else { return 0.0 };
        // Up to the last arrival; a standstill that lasts longer than the gaps before it counts as time too.
        let spanned = last.at.saturating_sub(first.at);
        let silent = now.saturating_sub(last.at);
        let steps = u32::try_from(self.points.len().saturating_sub(1)).unwrap_or(u32::MAX).max(1);
        let gap = spanned / steps;
        let time = spanned + silent.saturating_sub(gap * 2);
        if time.is_zero() { 0.0 } else { float(last.moved - first.moved) / time.as_secs_f64() }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than the 15 digits of a float")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Pace, WINDOW_MAX};

    const MIB: u64 = 1 << 20;

    /// Arrivals of a steady transfer: chunks of 1 MiB in bursts, at some rate, each a little early or late.
    fn arrivals(total: u64, rate: f64, burst: u64) -> Vec<(Duration, u64)> {
        let mut noise = 1_u64;
        let mut jitter = || {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from(u32::try_from(noise >> 33).expect("31 bits")) / f64::from(1_u32 << 31) - 0.5
        };
        let (mut done, mut found) = (0, Vec::new());
        while done < total {
            let size = MIB.min(total - done);
            done += size;
            let bursts = done.div_ceil(burst * MIB);
            let seconds = super::float(bursts * burst * MIB) / rate;
            let late = jitter() * super::float(burst * MIB) / rate * 0.5;
            found.push((Duration::from_secs_f64((seconds + late).max(0.0)), size));
        }
        found.sort();
        found
    }

    #[test]
    fn at_a_steady_rate_the_time_left_is_right_from_a_tenth_on() {
        for (total, rate, burst) in [
            (64 * MIB, 20e6, 1),
            (1024 * MIB, 150e6, 8),
            (1024 * MIB, 10e6, 8),
            (20_480 * MIB, 100e6, 32),
            (256 * MIB, 500e6, 2),
        ] {
            let arrivals = arrivals(total, rate, burst);
            let end = arrivals.last().expect("some").0;
            let (mut pace, mut asked) = (Pace::default(), 0);
            pace.expect(total);
            for (at, size) in arrivals {
                pace.advance(at, size);
                let progress = pace.progress(at);
                let left = end.saturating_sub(at).as_secs_f64();
                // In the last tenth the burst that is under way is most of what is left.
                if progress.bytes_done >= total / 10 && progress.bytes_done <= total * 9 / 10 {
                    let said = progress.remaining.expect("told from a tenth on").as_secs_f64();
                    assert!((said - left).abs() <= 0.2 * left, "{said} s said, {left} s left of {end:?}");
                    asked += 1;
                }
            }
            assert!(asked > 40);
        }
    }

    #[test]
    fn what_was_there_before_counts_as_done_and_not_as_fast() {
        let mut pace = Pace::default();
        pace.expect(1000 * MIB);
        for _ in 0..500 {
            pace.skip(MIB);
        }
        assert_eq!(pace.progress(Duration::from_secs(1)).remaining, None);
        for second in 1..=10 {
            pace.advance(Duration::from_secs(second), MIB);
        }
        let progress = pace.progress(Duration::from_secs(10));
        assert_eq!((progress.bytes_done, progress.chunks_done), (510 * MIB, 10));
        assert!((progress.rate - super::float(MIB)).abs() < 1.0, "{}", progress.rate);
        assert_eq!(progress.remaining, Some(Duration::from_secs(490)));
    }

    #[test]
    fn a_change_of_rate_is_noticed_within_a_window() {
        let mut pace = Pace::default();
        pace.expect(10_000 * MIB);
        for second in 1..=100 {
            pace.advance(Duration::from_secs(second), 10 * MIB);
        }
        let slow_from = Duration::from_secs(100);
        for second in 1..=WINDOW_MAX.as_secs() {
            pace.advance(slow_from + Duration::from_secs(second), MIB);
        }
        let rate = pace.progress(slow_from + WINDOW_MAX).rate;
        assert!((rate - super::float(MIB)).abs() < super::float(MIB) / 10.0, "{rate}");
        let stalled = pace.progress(slow_from + WINDOW_MAX * 4).rate;
        assert!(stalled < rate / 2.0, "a standstill shows: {stalled}");
    }

    #[test]
    fn memory_stays_bounded_however_long_it_takes() {
        let mut pace = Pace::default();
        for step in 0..1_000_000_u64 {
            pace.advance(Duration::from_micros(step * 997), 1000);
        }
        assert!(pace.points.len() <= 320, "{}", pace.points.len());
    }
}
