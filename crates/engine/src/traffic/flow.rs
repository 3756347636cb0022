//! A flow: what one transfer takes of the traffic, and one call of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datamesh_core::id::NodeId;

use super::Traffic;
use super::fair::FlowId;
use super::measure::Sample;
use super::peer::Peer;
use super::pool::Share;
use super::rate::Gate;
use super::settings::{ByDirection, Direction, Priority, Rate};

/// How many mean deviations a prediction may be wrong before a peer counts as slow, as in RFC 6298.
const DEVIATIONS: f64 = 4.0;

/// What a flow is told when it starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlowSettings {
    pub(crate) priority: Priority,
    pub(crate) limits: ByDirection<Option<Rate>>,
    /// How long a peer may take at the least before it counts as slow.
    pub(crate) hedge_after: Duration,
}

/// What one transfer takes of the traffic.
#[derive(Debug)]
pub(crate) struct Flow {
    traffic: Arc<Traffic>,
    id: FlowId,
    settings: FlowSettings,
    gates: ByDirection<Option<Gate>>,
}

/// When somebody else should be asked, since a peer has taken too long. Unknown while a call waits for this process itself.
#[derive(Debug, Default)]
pub(crate) struct Patience(AtomicU64);

/// A call for or with bytes, and its place in the peer's window.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    flow: &'a Flow,
    expected: Expected,
    _place: Share,
    started: Duration,
    moved_before: u64,
    alone: bool,
    predicted: Option<f64>,
    patience: Duration,
    ended: bool,
}

/// Bytes that are under way to or from a peer, or wait to be.
#[derive(Debug)]
struct Expected {
    traffic: Arc<Traffic>,
    peer: Arc<Peer>,
    direction: Direction,
    bytes: u64,
}

impl Flow {
    pub(crate) fn start(traffic: Arc<Traffic>, settings: FlowSettings) -> Self {
        let id = traffic.next_flow();
        traffic.memory.enter(id);
        let gates = ByDirection {
            upload: settings.limits.upload.map(Gate::new),
            download: settings.limits.download.map(Gate::new),
        };
        Self { traffic, id, settings, gates }
    }

    /// Waits until the transfer may run: not too many do.
    ///
    /// # Cancel safety
    /// Takes nothing when dropped; the place in the queue is lost.
    pub(crate) async fn slot(&self) -> Share {
        self.traffic.slots.take(self.id, self.settings.priority, 1).await
    }

    /// Waits until this many bytes of memory are free and it is the transfer's turn. Whoever has a share must be able to finish
    /// with it: one that waited for another share while it holds one could wait for itself.
    ///
    /// # Cancel safety
    /// Takes nothing when dropped; the place in the queue is lost.
    pub(crate) async fn memory(&self, bytes: usize) -> Share {
        self.traffic.memory.take(self.id, self.settings.priority, bytes).await
    }

    /// Waits until so many bytes of a source may be read and wait for memory, since not too many do.
    ///
    /// # Cancel safety
    /// Takes nothing when dropped; the place in the queue is lost.
    pub(crate) async fn intake(&self, bytes: usize) -> Share {
        self.traffic.intake.take(self.id, self.settings.priority, bytes).await
    }

    /// Seconds that so many bytes are expected to take from a peer, with what it costs if it fails: at a reliability of r it is
    /// asked in vain (1 - r) / r times, and each time costs the patience with it and the time that another one takes.
    pub(crate) fn cost(&self, node: &NodeId, bytes: u64) -> f64 {
        let now = self.traffic.clock.elapsed();
        let common = self.traffic.common(Direction::Download);
        let Some(peer) = self.traffic.known(node) else {
            return bytes as f64 / common.rate.get().unwrap_or(f64::INFINITY).max(1.0);
        };
        let state = peer.state();
        let time = state.predict(now, Direction::Download, bytes, &common).unwrap_or_default();
        let reliability = state.reliability.score(now);
        time + (1.0 - reliability) / reliability * (self.settings.hedge_after.as_secs_f64() + time)
    }

    /// Waits for a place in the peer's window, then until the rate limits let so many bytes move.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub(crate) async fn begin(
        &self,
        node: NodeId,
        direction: Direction,
        bytes: u64,
        patience: &Patience,
    ) -> Call<'_> {
        let traffic = &self.traffic;
        let peer = traffic.peer(node);
        let (predicted, tolerance) = self.expectation(&peer, direction, bytes);
        let expected = Expected::begin(Arc::clone(traffic), Arc::clone(&peer), direction, bytes);
        // Who waits for a place waits for the peer.
        patience.set(traffic.clock.elapsed() + tolerance);
        let place = peer.places.take(self.id, self.settings.priority, 1).await;
        if self.is_limited(&peer, direction) {
            patience.suspend();
            // The narrowest first, so that what passed all of them moves at once.
            let gates = [peer.gates.of(direction), self.gates.of(direction), traffic.gates.of(direction)];
            for gate in gates.into_iter().flatten() {
                gate.pass(&*traffic.clock, self.id, self.settings.priority, bytes).await;
            }
        }
        let started = traffic.clock.elapsed();
        patience.set(started + tolerance);
        let mut state = peer.state();
        let alone = state.outstanding == 0;
        state.outstanding += 1;
        state.seen = started;
        let moved_before = *state.moved.of(direction);
        drop(state);
        Call {
            flow: self,
            expected,
            _place: place,
            started,
            moved_before,
            alone,
            predicted,
            patience: tolerance,
            ended: false,
        }
    }

    fn is_limited(&self, peer: &Peer, direction: Direction) -> bool {
        let gates = [peer.gates.of(direction), self.gates.of(direction), self.traffic.gates.of(direction)];
        gates.into_iter().any(Option::is_some)
    }

    /// How long something is predicted to take, and after how long the peer counts as slow: not before the line could have
    /// carried all that is under way from every peer, for on a line that is full nobody else would be faster.
    fn expectation(&self, peer: &Peer, direction: Direction, bytes: u64) -> (Option<f64>, Duration) {
        let now = self.traffic.clock.elapsed();
        let common = self.traffic.common(direction);
        let state = peer.state();
        let predicted = state.predict(now, direction, bytes, &common);
        let deviation = state.measures.of(direction).deviation(&common);
        drop(state);
        let tolerable = predicted.map_or(0.0, |seconds| seconds + DEVIATIONS * deviation);
        let tolerable = Duration::try_from_secs_f64(tolerable).unwrap_or(Duration::MAX);
        let queue = self.traffic.queue(direction);
        (predicted, tolerable.max(self.settings.hedge_after + queue))
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.traffic.memory.leave(self.id);
    }
}

impl Patience {
    /// When it ends, on the world's clock; `None` while the peer has not been asked.
    pub(crate) fn end(&self) -> Option<Duration> {
        let microseconds = self.0.load(Ordering::Relaxed);
        (microseconds > 0).then(|| Duration::from_micros(microseconds))
    }

    fn set(&self, end: Duration) {
        let microseconds = u64::try_from(end.as_micros()).unwrap_or(u64::MAX);
        self.0.store(microseconds.max(1), Ordering::Relaxed);
    }

    fn suspend(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Call<'_> {
    /// Notes that the peer answered, and how many bytes of the item moved.
    pub(crate) fn answered(mut self, bytes: u64) {
        self.ended = true;
        let Self { flow: Flow { traffic, .. }, expected, .. } = &self;
        let (peer, direction) = (&expected.peer, expected.direction);
        let now = traffic.clock.elapsed();
        let mut state = peer.state();
        let moved = state.moved.of_mut(direction);
        *moved = moved.saturating_add(bytes);
        let sample = Sample {
            now,
            elapsed: now.saturating_sub(self.started),
            moved: moved.saturating_sub(self.moved_before),
            alone: self.alone,
            predicted: self.predicted,
        };
        drop(state);
        peer.answered(direction, bytes, sample);
        traffic.moved(now, direction, bytes, Some(sample));
        self.settle(bytes);
    }

    /// Notes that there was no answer.
    pub(crate) fn failed(mut self) {
        self.ended = true;
        self.note_stall();
        self.settle(0);
    }

    /// Notes that the peer answered without doing what it was asked, of which nothing is to be learnt about its speed.
    pub(crate) fn dismissed(mut self) {
        self.ended = true;
        self.settle(0);
    }

    /// Makes the rate limits count what moved, and not what was expected to.
    fn settle(&self, bytes: u64) {
        let Self { flow, expected: Expected { peer, direction, bytes: expected, .. }, .. } = self;
        let now = flow.traffic.clock.elapsed();
        let gates = [peer.gates.of(*direction), flow.gates.of(*direction), flow.traffic.gates.of(*direction)];
        for gate in gates.into_iter().flatten() {
            if bytes > *expected {
                gate.charge(now, bytes - expected);
            } else {
                gate.refund(expected - bytes);
            }
        }
    }

    /// Notes that the peer was waited for until others had to be asked. Says whether that was so.
    fn note_stall(&self) -> bool {
        let Expected { peer, direction, bytes, .. } = &self.expected;
        let now = self.flow.traffic.clock.elapsed();
        let waited = now.saturating_sub(self.started);
        let slow = waited >= self.patience;
        if slow {
            peer.stalled(now, *direction, *bytes, waited);
        }
        slow
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let peer = &self.expected.peer;
        let mut state = peer.state();
        state.outstanding = state.outstanding.saturating_sub(1);
        drop(state);
        if !self.ended && self.note_stall() {
            self.flow.traffic.debit_slow(peer);
        }
    }
}

impl Expected {
    fn begin(traffic: Arc<Traffic>, peer: Arc<Peer>, direction: Direction, bytes: u64) -> Self {
        for expected in [peer.state().expected.of_mut(direction), traffic.totals().expected.of_mut(direction)]
        {
            *expected = expected.saturating_add(bytes);
        }
        Self { traffic, peer, direction, bytes }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let Self { traffic, peer, direction, bytes } = self;
        for expected in
            [peer.state().expected.of_mut(*direction), traffic.totals().expected.of_mut(*direction)]
        {
            *expected = expected.saturating_sub(*bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use datamesh_core::id::NodeId;
    use futures::FutureExt;

    use super::{Call, Flow, FlowSettings, Patience};
    use crate::traffic::hand::Hand;
    use crate::traffic::{ByDirection, Direction, Priority, Traffic, TrafficSettings};
    use crate::world::Clock;

    const SIZE: u64 = 1 << 18;
    const HEDGE_AFTER: Duration = Duration::from_millis(500);

    fn begin(flow: &Flow, node: u8) -> (Call<'_>, Duration) {
        let patience = Patience::default();
        let call = flow.begin(NodeId::from_bytes([node; 32]), Direction::Download, SIZE, &patience);
        let call = call.now_or_never().expect("there is a place");
        let end = patience.end().expect("it is asked");
        (call, end.saturating_sub(flow.traffic.clock.elapsed()))
    }

    #[test]
    fn nobody_is_slow_before_the_line_could_have_carried_all_that_is_under_way() {
        let clock = Arc::new(Hand::default());
        let traffic = Traffic::new(Arc::clone(&clock) as Arc<dyn Clock>, TrafficSettings::default());
        let settings = FlowSettings {
            priority: Priority::Normal,
            limits: ByDirection::default(),
            hedge_after: HEDGE_AFTER,
        };
        let flow = Flow::start(Arc::new(traffic), settings);
        assert_eq!(begin(&flow, 1).1, HEDGE_AFTER, "nothing is known of the line");
        for _ in 0..60 {
            let (call, _) = begin(&flow, 1);
            clock.advance(Duration::from_millis(25));
            call.answered(SIZE);
        }
        let (_call, alone) = begin(&flow, 2);
        assert!(alone < HEDGE_AFTER + Duration::from_millis(50), "{alone:?}");
        let _others: Vec<_> = (3..23).map(|node| begin(&flow, node).0).collect();
        let (_call, beside) = begin(&flow, 23);
        assert!(beside > HEDGE_AFTER + Duration::from_millis(25 * 20), "{beside:?}");
    }
}
