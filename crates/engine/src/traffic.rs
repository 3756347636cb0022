//! The traffic of a process: what all its transfers share of memory, lines and peers, and what is known of those.
//!
//! Every bound here is waited for in a fair queue, and whoever waits must go on being polled, as must whoever holds something
//! that others wait for.

mod fair;
mod flow;
#[cfg(test)]
mod hand;
mod measure;
mod peer;
mod pool;
mod rate;
mod saved;
mod score;
mod settings;
mod snapshot;
mod window;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datamesh_core::id::NodeId;

use self::fair::FlowId;
pub(crate) use self::flow::{Flow, FlowSettings, Patience};
use self::measure::{Measure, Meter, Sample};
use self::peer::Peer;
pub use self::pool::Share;
use self::pool::{Order, Pool};
use self::rate::Gate;
pub use self::saved::{RestoreError, SAVED_PEERS_MAX, SAVED_SIZE_MAX};
pub(crate) use self::score::Offence;
pub use self::settings::{ByDirection, Direction, Priority, Rate, RateLimits, TrafficSettings};
pub use self::snapshot::{MovedSnapshot, PeerSnapshot, TrafficSnapshot};
use crate::world::Clock;

/// Peers that something is known of. Those that were not dealt with for longest are forgotten for others.
pub const PEERS_MAX: usize = 4096;

/// How long a peer's request may wait for a rate limit; one that would wait longer is refused, and the peer comes back.
const SERVE_WAIT_MAX: Duration = Duration::from_secs(20);

/// The longest time for which a request may have to wait for the others before its peer counts as slow.
const QUEUE_MAX: Duration = Duration::from_secs(5);

/// Of the memory of transfers, so much more is for what is read of sources and waits for its part of that memory: one in so many.
const INTAKE_PART: usize = 4;

/// The traffic of a process.
pub struct Traffic {
    clock: Arc<dyn Clock>,
    settings: TrafficSettings,
    memory: Arc<Pool>,
    intake: Arc<Pool>,
    slots: Arc<Pool>,
    gates: ByDirection<Option<Gate>>,
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    totals: Mutex<Totals>,
    flows: AtomicU64,
}

/// What all peers have in common.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    meters: ByDirection<Meter>,
    /// What is measured of all peers together: what is presumed of one that is not known.
    common: ByDirection<Measure>,
    /// Bytes that are under way to or from any peer, or wait to be.
    expected: ByDirection<u64>,
    successes: u64,
    failures: u64,
}

/// More is asked of this node than the rate limits let through in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more is asked for than the rate limits let through in {} s", SERVE_WAIT_MAX.as_secs())]
pub struct Overloaded;

impl Traffic {
    /// The traffic of a process in which nothing has moved and no peer is known.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, settings: TrafficSettings) -> Self {
        let limits = &settings.limits;
        Self {
            clock,
            settings,
            memory: Pool::with_reserve(settings.memory),
            intake: Pool::new(settings.memory / INTAKE_PART, Order::Fair),
            slots: Pool::new(settings.concurrent_transfers, Order::Ranked),
            gates: ByDirection {
                upload: limits.upload.total.map(Gate::new),
                download: limits.download.total.map(Gate::new),
            },
            peers: Mutex::default(),
            totals: Mutex::default(),
            flows: AtomicU64::new(0),
        }
    }

    /// What it was set up with.
    #[must_use]
    pub const fn settings(&self) -> &TrafficSettings {
        &self.settings
    }

    /// The traffic at this moment.
    #[must_use]
    pub fn snapshot(&self) -> TrafficSnapshot {
        let now = self.clock.elapsed();
        let peers: Vec<(NodeId, Arc<Peer>)> =
            self.peers().iter().map(|(node, peer)| (*node, Arc::clone(peer))).collect();
        let peers = peers.into_iter().map(|(node, peer)| (node, peer.snapshot(now))).collect();
        let totals = *self.totals();
        let moved = |direction: Direction| {
            let meter = totals.meters.of(direction);
            let limits = *self.settings.limits.of(direction);
            MovedSnapshot { bytes: meter.bytes, rate: meter.rate(now), rate_most: meter.most, limits }
        };
        let (transfers_running, transfers_waiting) = self.slots.usage();
        TrafficSnapshot {
            peers,
            moved: ByDirection { upload: moved(Direction::Upload), download: moved(Direction::Download) },
            successes: totals.successes,
            failures: totals.failures,
            transfers_running,
            transfers_waiting,
            memory: self.memory.capacity(),
            memory_taken: self.memory.usage().0,
        }
    }

    /// Waits until the rate limits let bytes of an item move because a peer asked for that, and counts them.
    ///
    /// # Errors
    /// [`Overloaded`] when that would take too long. Nothing is counted then.
    ///
    /// # Cancel safety
    /// Nothing is counted when dropped.
    pub async fn serve(&self, node: NodeId, direction: Direction, bytes: u64) -> Result<(), Overloaded> {
        let peer = self.peer(node);
        let gates = [peer.gates.of(direction), self.gates.of(direction)];
        let now = self.clock.elapsed();
        if gates.into_iter().flatten().any(|gate| gate.backlog(now) > SERVE_WAIT_MAX) {
            return Err(Overloaded);
        }
        for gate in gates.into_iter().flatten() {
            gate.pass(&*self.clock, peer.flow, Priority::Normal, bytes).await;
        }
        let now = self.clock.elapsed();
        self.moved(now, direction, bytes, None);
        let mut state = peer.state();
        state.seen = now;
        let served = state.served.of_mut(direction);
        *served = served.saturating_add(bytes);
        Ok(())
    }

    /// Notes that a peer took or gave an item, and that it was right.
    pub(crate) fn credit(&self, node: NodeId) {
        let now = self.clock.elapsed();
        let peer = self.peer(node);
        let mut state = peer.state();
        state.seen = now;
        state.successes += 1;
        state.reliability.credit(now);
        drop(state);
        self.totals().successes += 1;
    }

    /// Notes that a peer was asked in vain, and what is held against it for that, if anything.
    pub(crate) fn debit(&self, node: NodeId, offence: Option<Offence>) {
        self.peer(node).debit(self.clock.elapsed(), offence);
        self.totals().failures += 1;
    }

    /// Holds it against a peer that others had to be asked in its place.
    fn debit_slow(&self, peer: &Peer) {
        let now = self.clock.elapsed();
        peer.state().reliability.debit(now, Offence::Silent);
    }

    /// Notes how long a peer took to answer a request without bytes.
    pub(crate) fn answered(&self, node: NodeId, elapsed: Duration) {
        let peer = self.peer(node);
        let mut state = peer.state();
        state.latency.add(elapsed, 0);
        state.seen = self.clock.elapsed();
    }

    fn moved(&self, now: Duration, direction: Direction, bytes: u64, sample: Option<Sample>) {
        let mut totals = self.totals();
        totals.meters.of_mut(direction).add(now, bytes);
        if let Some(sample) = sample.filter(|_| bytes > 0) {
            totals.common.of_mut(direction).add(sample, measure::Mean::default());
        }
    }

    fn common(&self, direction: Direction) -> Measure {
        *self.totals().common.of(direction)
    }

    /// How long all that is under way takes at the highest rate there was. No time, where that is not known yet.
    fn queue(&self, direction: Direction) -> Duration {
        let totals = self.totals();
        let rate = totals.meters.of(direction).most;
        let seconds = if rate > 0.0 { *totals.expected.of(direction) as f64 / rate } else { 0.0 };
        drop(totals);
        Duration::try_from_secs_f64(seconds).map_or(QUEUE_MAX, |queue| queue.min(QUEUE_MAX))
    }

    fn next_flow(&self) -> FlowId {
        FlowId(self.flows.fetch_add(1, Ordering::Relaxed))
    }

    fn known(&self, node: &NodeId) -> Option<Arc<Peer>> {
        self.peers().get(node).cloned()
    }

    fn peer(&self, node: NodeId) -> Arc<Peer> {
        let mut peers = self.peers();
        if let Some(peer) = peers.get(&node) {
            return Arc::clone(peer);
        }
        if peers.len() >= PEERS_MAX {
            forget_some(&mut peers);
        }
        let peer = Arc::new(Peer::new(self.next_flow(), &self.settings));
        peers.insert(node, Arc::clone(&peer));
        peer
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Peer>>> {
        // Nothing that holds the lock can leave the map half changed.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        // Nothing that holds the lock can leave the totals half changed.
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a quarter of the peers: those that were not dealt with for longest, and with which nothing is under way.
fn forget_some(peers: &mut BTreeMap<NodeId, Arc<Peer>>) {
    let mut idle: Vec<(Duration, NodeId)> = peers
        .iter()
        .filter(|(_, peer)| Arc::strong_count(peer) == 1)
        .map(|(node, peer)| (peer.state().seen, *node))
        .collect();
    idle.sort_unstable();
    for (_, node) in idle.into_iter().take(PEERS_MAX / 4) {
        peers.remove(&node);
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Traffic").field("settings", &self.settings).finish_non_exhaustive()
    }
}
