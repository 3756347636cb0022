//! What is measured of a peer: how fast it is and how long it takes to answer.

use std::time::Duration;

/// Answers with fewer bytes than this tell of latency, those with more tell of speed.
const SMALL: u64 = 16 * 1024;
/// How much one more sample counts in a mean, and in a mean deviation, as in RFC 6298.
const MEAN_GAIN: f64 = 1.0 / 8.0;
const DEVIATION_GAIN: f64 = 1.0 / 4.0;
/// After how much time without a sample a measure counts for half, and the peers' common one for the other half.
const HALF_LIFE: Duration = Duration::from_secs(300);

/// An exponentially weighted mean of samples.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Mean(Option<f64>);

impl Mean {
    pub(crate) const fn of(value: Option<f64>) -> Self {
        Self(value)
    }

    pub(crate) const fn get(self) -> Option<f64> {
        self.0
    }

    fn add(&mut self, sample: f64, gain: f64) {
        self.0 = Some(self.0.map_or(sample, |mean| mean + gain * (sample - mean)));
    }
}

/// What is measured in one direction, of one peer or of all.
///
/// The rate is what arrived while a request was under way, over the time that it was: with several requests under way that is
/// the peer's speed and not one request's share of it (as BBR estimates delivery rates). A request that was alone is first
/// relieved of the latency. The time that some bytes take is predicted as latency + bytes under way / rate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Measure {
    /// Bytes a second.
    pub(crate) rate: Mean,
    /// Seconds by which predictions are wrong.
    deviation: Mean,
    /// When the last sample came.
    pub(crate) last: Duration,
}

/// One request that was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// When the answer was there.
    pub(crate) now: Duration,
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// Bytes that moved to or from the peer meanwhile, these included.
    pub(crate) moved: u64,
    /// Whether nothing else was under way when it began.
    pub(crate) alone: bool,
    /// How long it was predicted to take, seconds.
    pub(crate) predicted: Option<f64>,
}

impl Measure {
    /// What was measured by another process.
    pub(crate) const fn of(rate: Option<f64>, last: Duration) -> Self {
        Self { rate: Mean(rate), deviation: Mean(None), last }
    }

    pub(crate) fn add(&mut self, sample: Sample, latency: Mean) {
        let elapsed = sample.elapsed.as_secs_f64().max(1e-6);
        let latency = if sample.alone { latency.get().unwrap_or_default() } else { 0.0 };
        // However wrong the latency is, most of it is not taken for nothing.
        let busy = (elapsed - latency).max(elapsed / 4.0);
        self.rate.add(sample.moved as f64 / busy, MEAN_GAIN);
        let off = sample.predicted.map_or(elapsed / 2.0, |predicted| (elapsed - predicted).abs());
        self.deviation.add(off, DEVIATION_GAIN);
        self.last = sample.now;
    }

    /// Notes that bytes took longer than this and have not arrived: the rate is no higher than that.
    pub(crate) fn add_stall(&mut self, now: Duration, bytes: u64, waited: Duration) {
        let most = bytes as f64 / waited.as_secs_f64().max(1e-6);
        if self.rate.get().is_none_or(|rate| rate > most) {
            self.rate.add(most, MEAN_GAIN);
        }
        self.last = now;
    }

    /// The rate as far as it is fresh, and what is common among peers for the rest; geometrically between them.
    pub(crate) fn rate_now(&self, now: Duration, common: &Self) -> Option<f64> {
        let (Some(own), Some(common)) = (self.rate.get(), common.rate.get()) else {
            return self.rate.get().or(common.rate.get());
        };
        let freshness = decay(now.saturating_sub(self.last), HALF_LIFE);
        Some(own.powf(freshness) * common.powf(1.0 - freshness))
    }

    /// How far predictions are off, seconds.
    pub(crate) fn deviation(&self, common: &Self) -> f64 {
        self.deviation.get().or(common.deviation.get()).unwrap_or_default()
    }
}

/// The time until something is answered, apart from what the bytes take. Seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Latency {
    /// Of answers with hardly a byte.
    pub(crate) mean: Mean,
    /// The shortest that any answer took.
    shortest: Option<f64>,
}

impl Latency {
    pub(crate) const fn of(mean: Option<f64>) -> Self {
        Self { mean: Mean::of(mean), shortest: None }
    }

    pub(crate) fn add(&mut self, elapsed: Duration, bytes: u64) {
        let seconds = elapsed.as_secs_f64();
        if bytes < SMALL {
            self.mean.add(seconds, MEAN_GAIN);
        }
        self.shortest = Some(self.shortest.map_or(seconds, |shortest| shortest.min(seconds)));
    }

    /// For how long the line has to be filled.
    pub(crate) fn round_trip(&self) -> f64 {
        self.mean.get().or(self.shortest).unwrap_or_default()
    }
}

/// What is left of something after a time, where each half-life leaves a half.
pub(crate) fn decay(elapsed: Duration, half_life: Duration) -> f64 {
    (-elapsed.as_secs_f64() / half_life.as_secs_f64()).exp2()
}

/// Bytes of one direction: how many there were, and how fast they move now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meter {
    pub(crate) bytes: u64,
    pub(crate) most: f64,
    /// Bytes, each counting for less the longer ago it was.
    recent: f64,
    last: Duration,
    since: Duration,
}

impl Meter {
    /// The time over which the rate is averaged.
    const SPAN: Duration = Duration::from_secs(3);
    /// The shortest time of which a rate is told, and the shortest of which the highest is.
    const SHORT: Duration = Duration::from_millis(100);

    pub(crate) fn add(&mut self, now: Duration, bytes: u64) {
        if self.bytes == 0 || now.saturating_sub(self.last) > Self::SPAN * 4 {
            (self.recent, self.since) = (0.0, now);
        }
        self.recent = self.recent * self.fading(now) + bytes as f64;
        self.last = now;
        self.bytes = self.bytes.saturating_add(bytes);
        if now.saturating_sub(self.since) >= Self::SPAN / 3 {
            self.most = self.most.max(self.rate(now));
        }
    }

    /// Bytes a second, averaged over the last seconds, or over as long as they move.
    pub(crate) fn rate(&self, now: Duration) -> f64 {
        let span = Self::SPAN.as_secs_f64();
        let moving = now.saturating_sub(self.since).max(Self::SHORT).as_secs_f64();
        // What an average over all time would have seen of a stream that began only then.
        let seen = 1.0 - (-moving / span).exp();
        self.recent * self.fading(now) / (span * seen)
    }

    fn fading(&self, now: Duration) -> f64 {
        (-now.saturating_sub(self.last).as_secs_f64() / Self::SPAN.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Latency, Mean, Measure, Meter, Sample};

    const SIZE: u64 = 1 << 18;

    /// Measures a peer of this speed and latency, which always has so many requests under way.
    fn measured(rate: f64, latency: f64, depth: u32) -> (Measure, Latency) {
        let (mut measure, mut latencies) = (Measure::default(), Latency::default());
        let each = SIZE as f64 / rate;
        // What is under way waits its turn on the line; the line is idle where too little is.
        let period = each.max((latency + each) / f64::from(depth));
        let elapsed = Duration::from_secs_f64((period * f64::from(depth)).max(latency + each));
        latencies.add(Duration::from_secs_f64(latency), 0);
        for step in 0..100_u32 {
            let sample = Sample {
                now: Duration::from_secs_f64(period * f64::from(step)),
                elapsed,
                moved: SIZE * u64::from(depth),
                alone: depth == 1,
                predicted: None,
            };
            measure.add(sample, latencies.mean);
        }
        (measure, latencies)
    }

    #[test]
    fn the_speed_is_found_whether_requests_are_alone_or_many() {
        for (rate, latency) in [(1e6, 0.05), (50e6, 0.005), (100e6, 0.0001)] {
            for depth in [1, 20] {
                let found = measured(rate, latency, depth).0.rate.get().expect("measured");
                assert!((found / rate - 1.0).abs() < 0.25, "{found} for {rate} with {depth} under way");
            }
        }
    }

    #[test]
    fn what_was_measured_long_ago_gives_way_to_what_is_common() {
        let (slow, fast) = (measured(1e6, 0.0, 1).0, measured(100e6, 0.0, 1).0);
        let at = |seconds| slow.rate_now(slow.last + Duration::from_secs(seconds), &fast).expect("known");
        assert!(at(0) < 1.1e6 && at(300) > 5e6 && at(3600) > 90e6);
        assert_eq!(Measure::default().rate_now(Duration::ZERO, &Measure::default()), None);
    }

    #[test]
    fn a_stall_makes_a_peer_no_faster() {
        let mut measure = measured(1e6, 0.0, 1).0;
        let before = measure.rate.get().expect("measured");
        measure.add_stall(Duration::from_secs(60), SIZE, Duration::from_millis(1));
        assert_eq!(measure.rate.get(), Some(before));
        (0..20).for_each(|_| measure.add_stall(Duration::from_secs(60), SIZE, Duration::from_secs(30)));
        assert!(measure.rate.get().is_some_and(|rate| rate < 0.2e6));
    }

    #[test]
    fn a_meter_tells_the_rate_soon_and_forgets_it_soon() {
        let mut meter = Meter::default();
        let start = Duration::from_secs(100);
        for step in 0..200_u32 {
            meter.add(start + Duration::from_millis(10) * step, 100_000);
            let seconds = f64::from(step) * 0.01;
            let rate = meter.rate(start + Duration::from_millis(10) * step);
            assert!(seconds < 0.2 || (rate / 10e6 - 1.0).abs() < 0.1, "{rate} after {seconds} s");
        }
        assert!((meter.most / 10e6 - 1.0).abs() < 0.05, "{}", meter.most);
        assert!(meter.rate(start + Duration::from_secs(30)) < 10e3);
        assert_eq!(meter.bytes, 20_000_000);
        assert_eq!(Mean::default().get(), None);
    }
}
