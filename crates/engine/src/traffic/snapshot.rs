//! What the traffic of a process is at one moment, for whoever shows it.

use std::collections::BTreeMap;
use std::time::Duration;

use datamesh_core::id::NodeId;

use super::settings::{ByDirection, RateLimits};

/// The traffic of a process at one moment. Made in one pass over the peers, without waiting for anyone.
#[derive(Debug, Clone, PartialEq)]
pub struct TrafficSnapshot {
    /// Every peer that something is known of, at most [`PEERS_MAX`](super::PEERS_MAX).
    pub peers: BTreeMap<NodeId, PeerSnapshot>,
    /// What moved in each direction.
    pub moved: ByDirection<MovedSnapshot>,
    /// Items that were taken or given by a peer, and right.
    pub successes: u64,
    /// Items that a peer was asked to take or to give in vain.
    pub failures: u64,
    /// Transfers under way.
    pub transfers_running: usize,
    /// Transfers that wait because too many are under way.
    pub transfers_waiting: usize,
    /// The memory budget, bytes.
    pub memory: usize,
    /// What is taken of it, bytes.
    pub memory_taken: usize,
}

/// What moved in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MovedSnapshot {
    /// Bytes of items since the process started.
    pub bytes: u64,
    /// Bytes a second, averaged over the last few seconds.
    pub rate: f64,
    /// The highest that rate ever was, bytes a second.
    pub rate_most: f64,
    /// How fast bytes may move.
    pub limits: RateLimits,
}

/// What is known of one peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PeerSnapshot {
    /// Bytes of items since the process started.
    pub bytes: ByDirection<u64>,
    /// Its measured speed, bytes a second; `None` while nothing moved.
    pub rate: ByDirection<Option<f64>>,
    /// How long it takes to answer, apart from what the bytes take; `None` while that is unknown.
    pub latency: Option<Duration>,
    /// How much it can be relied on: 1 where nothing speaks against it, near 0 for one that lied.
    pub reliability: f64,
    /// Items that it took or gave, and right.
    pub successes: u64,
    /// Items that it was asked to take or to give in vain.
    pub failures: u64,
    /// Requests for or with bytes that it may have under way.
    pub window: usize,
    /// Those that it has under way.
    pub outstanding: usize,
    /// Those that wait for a place in the window.
    pub waiting: usize,
}
