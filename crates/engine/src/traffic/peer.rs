//! One peer: what is under way to it and from it, and what is known of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::fair::FlowId;
use super::measure::{Latency, Measure, Sample};
use super::pool::{Order, Pool};
use super::rate::Gate;
use super::score::{Offence, Reliability};
use super::settings::{ByDirection, Direction, TrafficSettings};
use super::snapshot::PeerSnapshot;
use super::window::Window;

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    /// What it is in the queues of those that are served.
    pub(super) flow: FlowId,
    /// Places for requests for or with bytes.
    pub(super) places: Arc<Pool>,
    pub(super) gates: ByDirection<Option<Gate>>,
    state: Mutex<State>,
}

/// What is known of a peer.
#[derive(Debug)]
pub(super) struct State {
    pub(super) window: Window,
    pub(super) reliability: Reliability,
    pub(super) latency: Latency,
    pub(super) measures: ByDirection<Measure>,
    /// Bytes of items that moved because this process asked.
    pub(super) moved: ByDirection<u64>,
    /// Bytes of items that moved because the peer asked.
    pub(super) served: ByDirection<u64>,
    /// Bytes that are under way or wait to be.
    pub(super) expected: ByDirection<u64>,
    /// Requests for or with bytes under way.
    pub(super) outstanding: usize,
    pub(super) successes: u64,
    pub(super) failures: u64,
    /// When it was last dealt with.
    pub(super) seen: Duration,
}

impl Peer {
    pub(super) fn new(flow: FlowId, settings: &TrafficSettings) -> Self {
        let window = Window::new(settings.window_min, settings.window_max);
        let limits = &settings.limits;
        let state = State {
            window,
            reliability: Reliability::default(),
            latency: Latency::default(),
            measures: ByDirection::default(),
            moved: ByDirection::default(),
            served: ByDirection::default(),
            expected: ByDirection::default(),
            outstanding: 0,
            successes: 0,
            failures: 0,
            seen: Duration::ZERO,
        };
        Self {
            flow,
            places: Pool::new(window.size(), Order::Fair),
            gates: ByDirection {
                upload: limits.upload.per_peer.map(Gate::new),
                download: limits.download.per_peer.map(Gate::new),
            },
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an answer. The window grows if it was full.
    pub(super) fn answered(&self, direction: Direction, bytes: u64, sample: Sample) {
        let full = self.places.is_exhausted();
        let mut state = self.state();
        state.seen = sample.now;
        state.latency.add(sample.elapsed, bytes);
        let mut window = None;
        if bytes > 0 {
            let latency = state.latency.mean;
            let round_trip = state.latency.round_trip();
            let measure = state.measures.of_mut(direction);
            measure.add(sample, latency);
            if full {
                let line = measure.rate.get().unwrap_or_default() * round_trip / bytes as f64;
                state.window.grow(line);
                window = Some(state.window.size());
            }
        }
        drop(state);
        if let Some(size) = window {
            self.places.resize(size);
        }
    }

    /// Notes that bytes have been waited for in vain for so long.
    pub(super) fn stalled(&self, now: Duration, direction: Direction, bytes: u64, waited: Duration) {
        let mut state = self.state();
        state.measures.of_mut(direction).add_stall(now, bytes, waited);
        state.window.shrink(now);
        let size = state.window.size();
        drop(state);
        self.places.resize(size);
    }

    pub(super) fn debit(&self, now: Duration, offence: Option<Offence>) {
        let mut state = self.state();
        state.seen = now;
        state.failures += 1;
        let Some(offence) = offence else { return };
        state.reliability.debit(now, offence);
        if offence != Offence::Lie {
            state.window.shrink(now);
        }
        let size = state.window.size();
        drop(state);
        self.places.resize(size);
    }

    pub(super) fn snapshot(&self, now: Duration) -> PeerSnapshot {
        let (_, waiting) = self.places.usage();
        let state = self.state();
        let (moved, served) = (state.moved, state.served);
        PeerSnapshot {
            bytes: ByDirection {
                upload: moved.upload.saturating_add(served.upload),
                download: moved.download.saturating_add(served.download),
            },
            rate: ByDirection {
                upload: state.measures.upload.rate.get(),
                download: state.measures.download.rate.get(),
            },
            latency: state.latency.mean.get().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            reliability: state.reliability.score(now),
            successes: state.successes,
            failures: state.failures,
            window: state.window.size(),
            outstanding: state.outstanding,
            waiting,
        }
    }
}

impl State {
    /// Seconds until so many bytes are there, behind those that are under way already. `None` while nobody's speed is known.
    pub(super) fn predict(
        &self,
        now: Duration,
        direction: Direction,
        bytes: u64,
        common: &Measure,
    ) -> Option<f64> {
        let rate = self.measures.of(direction).rate_now(now, common)?;
        let ahead = self.expected.of(direction).saturating_add(bytes);
        Some(self.latency.mean.get().unwrap_or_default() + ahead as f64 / rate.max(1.0))
    }

    /// What was known of it when it was last dealt with.
    pub(super) fn restore(
        &mut self,
        reliability: Reliability,
        latency: Option<f64>,
        rates: ByDirection<Option<f64>>,
    ) {
        let last = reliability.last;
        self.reliability = reliability;
        self.latency = Latency::of(latency);
        self.measures = ByDirection {
            upload: Measure::of(rates.upload, last),
            download: Measure::of(rates.download, last),
        };
        self.seen = last;
    }
}
