//! Counts what operations report: items moved, and with whom.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datamesh_core::id::NodeId;
use datamesh_engine::progress::{Event, Observer};

use super::peers::{Moved, PeerView, RateLimits, Traffic};

/// Counts what was moved with each peer.
#[derive(Debug, Default)]
pub struct Meter {
    peers: Mutex<BTreeMap<NodeId, Moved>>,
}

impl Meter {
    /// An observer that counts and passes on.
    #[must_use]
    pub fn watch(self: &Arc<Self>, inner: Arc<dyn Observer>) -> Arc<dyn Observer> {
        Arc::new(Watching { meter: Arc::clone(self), inner })
    }

    /// What was moved with each peer.
    #[must_use]
    pub fn by_peer(&self) -> BTreeMap<NodeId, Moved> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Moved>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: &Event) {
        let (node, moved) = match event {
            Event::Sent { node, bytes } => (node, Moved { sent: *bytes, succeeded: 1, ..Moved::default() }),
            Event::Received { node, bytes } => {
                (node, Moved { received: *bytes, succeeded: 1, ..Moved::default() })
            }
            Event::Failed { node, .. } => (node, Moved { failed: 1, ..Moved::default() }),
            Event::Expected { .. } | Event::Advanced { .. } | Event::Repaired { .. } => return,
        };
        let mut peers = self.lock();
        let known = peers.entry(*node).or_default();
        *known = known.and(moved);
    }
}

impl Traffic for Meter {
    fn moved(&self) -> Moved {
        self.lock().values().fold(Moved::default(), |sum, moved| sum.and(*moved))
    }

    fn peers(&self) -> BTreeMap<NodeId, PeerView> {
        self.lock().iter().map(|(node, moved)| (*node, PeerView::of(*moved))).collect()
    }

    fn limits(&self) -> RateLimits {
        RateLimits::default()
    }
}

struct Watching {
    meter: Arc<Meter>,
    inner: Arc<dyn Observer>,
}

impl Observer for Watching {
    fn observe(&self, event: Event) {
        self.meter.note(&event);
        self.inner.observe(event);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datamesh_core::id::NodeId;
    use datamesh_engine::progress::{Event, Unobserved};

    use super::{Meter, Moved, Traffic};

    #[test]
    fn what_operations_report_is_counted_by_peer_and_altogether() {
        let meter = Arc::new(Meter::default());
        let observer = meter.watch(Arc::new(Unobserved));
        let [good, bad] = [1, 2].map(|number| NodeId::from_bytes([number; 32]));
        for _ in 0..9 {
            observer.observe(Event::Sent { node: good, bytes: 10 });
        }
        observer.observe(Event::Received { node: good, bytes: 5 });
        observer.observe(Event::Failed { node: bad, why: "silence".into() });
        observer.observe(Event::Advanced { bytes: 1000 });
        assert_eq!(meter.moved(), Moved { sent: 90, received: 5, succeeded: 10, failed: 1 });
        let peers = meter.peers();
        assert_eq!(peers[&good].moved.failed, 0);
        assert!((peers[&good].reliability - 1.0).abs() < 1e-9);
        assert!((peers[&bad].reliability - 0.5).abs() < 1e-9, "one success is assumed");
    }
}
