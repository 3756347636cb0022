//! What was moved between here and each peer, and how a peer has proven.

use std::collections::BTreeMap;
use std::time::Duration;

use datamesh_core::id::NodeId;
use datamesh_engine::traffic::{PeerSnapshot, Rate, Traffic};

use super::definition as metric;
use super::exposition::{Samples, Value};
use super::share;

/// Items that were moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Items that were taken or given as they should.
    pub succeeded: u64,
    /// Items that were asked for, or offered, in vain.
    pub failed: u64,
}

impl Moved {
    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            sent: self.sent.saturating_add(other.sent),
            received: self.received.saturating_add(other.received),
            succeeded: self.succeeded.saturating_add(other.succeeded),
            failed: self.failed.saturating_add(other.failed),
        }
    }

    /// How far a peer with this record can be relied on, 0 to 1. One success is assumed before the first.
    #[must_use]
    pub fn reliability(&self) -> f64 {
        let succeeded = self.succeeded.saturating_add(1);
        share(succeeded, succeeded.saturating_add(self.failed)).unwrap_or(1.0)
    }

    /// The share of items that were moved as they should; `None` before the first.
    #[must_use]
    pub fn success_share(&self) -> Option<f64> {
        share(self.succeeded, self.succeeded.saturating_add(self.failed))
    }
}

/// One peer, as whoever moves bytes sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PeerView {
    /// What was moved.
    pub moved: Moved,
    /// How far it can be relied on, 0 to 1.
    pub reliability: f64,
    /// Bytes a second, where that was measured.
    pub rate: Option<f64>,
    /// How long it takes to answer, where that was measured.
    pub latency: Option<Duration>,
}

impl PeerView {
    /// A peer of which only this is known.
    #[must_use]
    pub fn of(moved: Moved) -> Self {
        Self { moved, reliability: moved.reliability(), rate: None, latency: None }
    }
}

/// What may be moved, bytes a second; `None` where there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimits {
    /// Sent.
    pub sent: Option<u64>,
    /// Received.
    pub received: Option<u64>,
}

/// Knows what is moved, and with whom.
pub trait TrafficView: Send + Sync {
    /// Everything that was moved.
    fn moved(&self) -> Moved;

    /// Each peer that something was moved with.
    fn peers(&self) -> BTreeMap<NodeId, PeerView>;

    /// What may be moved.
    fn limits(&self) -> RateLimits;
}

impl TrafficView for Traffic {
    fn moved(&self) -> Moved {
        let snapshot = self.snapshot();
        Moved {
            sent: snapshot.moved.upload.bytes,
            received: snapshot.moved.download.bytes,
            succeeded: snapshot.successes,
            failed: snapshot.failures,
        }
    }

    fn peers(&self) -> BTreeMap<NodeId, PeerView> {
        self.snapshot().peers.into_iter().map(|(node, peer)| (node, view(&peer))).collect()
    }

    fn limits(&self) -> RateLimits {
        let moved = self.snapshot().moved;
        let limit = |limits: datamesh_engine::traffic::RateLimits| limits.total.map(Rate::bytes_per_second);
        RateLimits { sent: limit(moved.upload.limits), received: limit(moved.download.limits) }
    }
}

fn view(peer: &PeerSnapshot) -> PeerView {
    PeerView {
        moved: Moved {
            sent: peer.bytes.upload,
            received: peer.bytes.download,
            succeeded: peer.successes,
            failed: peer.failures,
        },
        reliability: peer.reliability,
        rate: peer.rate.download.or(peer.rate.upload),
        latency: peer.latency,
    }
}

/// Puts what was moved altogether.
pub(super) fn put_moved(samples: &mut Samples, moved: &Moved) {
    samples.put(&metric::ITEM_BYTES, &["sent"], Value::Integer(moved.sent));
    samples.put(&metric::ITEM_BYTES, &["received"], Value::Integer(moved.received));
    samples.put(&metric::ITEM_TRANSFERS, &["succeeded"], Value::Integer(moved.succeeded));
    samples.put(&metric::ITEM_TRANSFERS, &["failed"], Value::Integer(moved.failed));
    if let Some(share) = moved.success_share() {
        samples.put(&metric::ITEM_SUCCESS, &[], Value::Real(share));
    }
}

/// Puts what is known of one peer.
pub(super) fn put_peer(samples: &mut Samples, peer: &NodeId, view: &PeerView) {
    let (peer, moved) = (peer.to_string(), &view.moved);
    samples.put(&metric::PEER_BYTES, &[&peer, "sent"], Value::Integer(moved.sent));
    samples.put(&metric::PEER_BYTES, &[&peer, "received"], Value::Integer(moved.received));
    samples.put(&metric::PEER_TRANSFERS, &[&peer, "succeeded"], Value::Integer(moved.succeeded));
    samples.put(&metric::PEER_TRANSFERS, &[&peer, "failed"], Value::Integer(moved.failed));
    samples.put(&metric::PEER_RELIABILITY, &[&peer], Value::Real(view.reliability));
    if let Some(rate) = view.rate {
        samples.put(&metric::PEER_RATE, &[&peer], Value::Real(rate));
    }
    if let Some(latency) = view.latency {
        samples.put(&metric::PEER_LATENCY, &[&peer], Value::Real(latency.as_secs_f64()));
    }
}
