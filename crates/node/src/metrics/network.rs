//! Watches the network's counters: how fast they grow now, and how fast they ever grew.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datamesh_core::admission::Admission;
use datamesh_core::id::{NodeId, OwnerId};
use datamesh_core::topology::Topology;
use datamesh_core::wire::Refusal;
use datamesh_engine::world::{Clock, Peers};
use datamesh_net::{Counters, Network};
use tokio::task::JoinHandle;

use super::definition as metric;
use super::exposition::{Samples, Value};
use super::peers::RateLimits;
use super::{Source, TrafficView};
use crate::system::SystemClock;

/// How often the counters are read.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How far back a rate looks.
const WINDOW: Duration = Duration::from_secs(10);

/// Bytes a second, both ways.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    /// Sent.
    pub sent: f64,
    /// Received.
    pub received: f64,
}

/// What is known of a network that is watched.
pub struct NetworkWatch {
    seen: Mutex<Seen>,
    /// As long as it is watched. The network holds what answers its requests, which holds this: the watcher parts them.
    network: Mutex<Option<Network>>,
    traffic: Arc<dyn TrafficView>,
}

#[derive(Default)]
struct Seen {
    counters: Counters,
    looks: VecDeque<Look>,
    best: Rates,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Duration,
    sent: u64,
    received: u64,
}

/// Reads the counters once a second until it is dropped.
pub struct Watcher {
    watch: Arc<NetworkWatch>,
    task: JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
        *self.watch.network.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl NetworkWatch {
    /// Nothing seen yet. The limits are those of this traffic.
    #[must_use]
    pub fn new(traffic: Arc<dyn TrafficView>) -> Arc<Self> {
        Arc::new(Self { seen: Mutex::default(), network: Mutex::default(), traffic })
    }

    /// Watches a network.
    #[must_use]
    pub fn start(self: &Arc<Self>, network: Network, clock: Arc<dyn Clock>) -> Watcher {
        *self.network.lock().unwrap_or_else(PoisonError::into_inner) = Some(network.clone());
        let watch = Arc::clone(self);
        let task = tokio::spawn(async move {
            loop {
                watch.note(clock.elapsed(), network.counters());
                clock.sleep(LOOK_EVERY).await;
            }
        });
        Watcher { watch: Arc::clone(self), task }
    }

    /// Takes note of the counters at some time.
    pub fn note(&self, at: Duration, counters: Counters) {
        let mut seen = self.lock();
        seen.counters = counters;
        seen.looks.push_back(Look { at, sent: counters.bytes_sent, received: counters.bytes_received });
        while seen.looks.len() > 2 && at.saturating_sub(seen.looks[1].at) >= WINDOW {
            seen.looks.pop_front();
        }
        let rates = seen.rates();
        seen.best.sent = seen.best.sent.max(rates.sent);
        seen.best.received = seen.best.received.max(rates.received);
    }

    /// How fast bytes move now: over the last ten seconds, or since the start where that is less long ago.
    #[must_use]
    pub fn rates(&self) -> Rates {
        self.lock().rates()
    }

    /// The fastest that they moved so far.
    #[must_use]
    pub fn best(&self) -> Rates {
        self.lock().best
    }

    /// What the network has counted: by now as long as it is watched, else by then.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let network = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        network.as_ref().map_or_else(|| self.lock().counters, Network::counters)
    }

    /// Whether this is a node of the mesh.
    #[must_use]
    pub fn knows(&self, node: &NodeId) -> bool {
        self.topology().record(node).is_some()
    }

    /// How an owner is admitted to the mesh now.
    ///
    /// # Errors
    /// [`Refusal`] where it is not, or where nothing is known yet.
    pub fn admission(&self, owner: OwnerId) -> Result<Admission, Refusal> {
        let network = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network.as_ref().ok_or(Refusal::Busy)?;
        network.admission(owner, SystemClock::start().now().epoch()).ok_or(Refusal::NotAdmitted)
    }

    /// The mesh as it is known now.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        let network = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        network.as_ref().map(Network::topology).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people needs three digits")]
    fn rates(&self) -> Rates {
        let (Some(first), Some(last)) = (self.looks.front(), self.looks.back()) else {
            return Rates::default();
        };
        let seconds = last.at.saturating_sub(first.at).as_secs_f64();
        if seconds <= 0.0 {
            return Rates::default();
        }
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
        Rates { sent: rate(first.sent, last.sent), received: rate(first.received, last.received) }
    }
}

impl Source for NetworkWatch {
    fn collect(&self, samples: &mut Samples) {
        let (counters, rates, best) = (self.counters(), self.rates(), self.best());
        let mut count =
            |definition, labels: &[&str], value| samples.put(definition, labels, Value::Integer(value));
        count(&metric::NETWORK_CALLS, &["answered"], counters.calls_answered);
        count(&metric::NETWORK_CALLS, &["unanswered"], counters.calls_unanswered);
        count(&metric::NETWORK_REQUESTS, &["answered"], counters.requests_answered);
        count(&metric::NETWORK_REQUESTS, &["refused"], counters.requests_refused);
        count(&metric::NETWORK_DIALS_UNANSWERED, &[], counters.dials_unanswered);
        count(&metric::NETWORK_CONNECTIONS, &[], counters.connections_established);
        count(&metric::NETWORK_VIOLATIONS, &[], counters.violations);
        count(&metric::NETWORK_DENIALS, &[], counters.denials);
        count(&metric::NETWORK_RECORDS, &[], counters.records_learned);
        let node_count = u64::try_from(self.topology().len()).unwrap_or(u64::MAX);
        count(&metric::NODES_KNOWN, &[], node_count);
        let RateLimits { sent, received } = self.traffic.limits();
        put_direction(samples, "sent", counters.bytes_sent, (rates.sent, best.sent), sent);
        put_direction(
            samples,
            "received",
            counters.bytes_received,
            (rates.received, best.received),
            received,
        );
    }
}

/// Puts what is known of one direction: bytes, the rate now and the best one, and the limit.
pub(super) fn put_direction(
    samples: &mut Samples,
    direction: &str,
    bytes: u64,
    (rate, best): (f64, f64),
    limit: Option<u64>,
) {
    samples.put(&metric::NETWORK_BYTES, &[direction], Value::Integer(bytes));
    samples.put(&metric::NETWORK_RATE, &[direction], Value::Real(rate));
    samples.put(&metric::NETWORK_BEST_RATE, &[direction], Value::Real(best));
    if let Some(limit) = limit {
        samples.put(&metric::NETWORK_RATE_LIMIT, &[direction], Value::Integer(limit));
    }
    let most = limit.map_or(best, |limit| Value::Integer(limit).as_real());
    if most > 0.0 {
        samples.put(&metric::NETWORK_UTILIZATION, &[direction], Value::Real(rate / most));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use datamesh_engine::traffic::{Traffic, TrafficSettings};
    use datamesh_net::Counters;

    use crate::system::SystemClock;

    use super::super::Source;
    use super::super::definition as metric;
    use super::super::exposition::Samples;
    use super::NetworkWatch;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    #[test]
    fn a_rate_looks_back_ten_seconds_and_the_best_one_stays() {
        let watch = NetworkWatch::new(Arc::new(Traffic::new(
            Arc::new(SystemClock::start()),
            TrafficSettings::default(),
        )));
        let mut sent = 0;
        let mut second = |number: u64, bytes: u64| {
            sent += bytes;
            let counters = Counters { bytes_sent: sent, ..Counters::default() };
            watch.note(Duration::from_secs(number), counters);
        };
        (0..20).for_each(|number| second(number, 1000));
        near(watch.rates().sent, 1000.0);
        (20..30).for_each(|number| second(number, 100));
        near(watch.rates().sent, 100.0);
        near(watch.best().sent, 1000.0);
        let mut samples = Samples::default();
        watch.collect(&mut samples);
        let families = samples.into_families();
        near(families.value(&metric::NETWORK_UTILIZATION, &["sent"]).expect("it is known"), 0.1);
        near(families.value(&metric::NETWORK_BYTES, &["sent"]).expect("it is known"), 21_000.0);
        assert_eq!(families.value(&metric::NETWORK_UTILIZATION, &["received"]), None);
    }
}
