//! What is known of peers as bytes, so that the next process knows it too.
//!
//! Canonical DAG-CBOR with a version. It is knowledge and no record: whoever can't read it starts afresh.

use std::time::Duration;

use datamesh_core::encode::{DecodeError, decode, encode};
use datamesh_core::id::NodeId;
use datamesh_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Traffic;
use super::score::Reliability;
use super::settings::ByDirection;

/// Peers that are saved: those dealt with last.
pub const SAVED_PEERS_MAX: usize = 1024;
/// The longest saved value that is read, bytes.
pub const SAVED_SIZE_MAX: usize = 512 * 1024;

const VERSION: u64 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    version: u64,
    /// Milliseconds since the Unix epoch.
    saved: u64,
    peers: Vec<SavedPeer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedPeer {
    node: NodeId,
    /// How long before it was saved the peer was last dealt with, milliseconds.
    age: u64,
    /// Good and bad deeds, as faded by then.
    good: f64,
    bad: f64,
    /// Seconds.
    latency: Option<f64>,
    /// Bytes a second.
    upload_rate: Option<f64>,
    download_rate: Option<f64>,
}

/// Why saved knowledge can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It is longer than it ever gets.
    #[error("it has more than {SAVED_SIZE_MAX} bytes")]
    TooLarge,
    /// It is not what was saved.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is of another version.
    #[error("it is of version {0}, and this program knows {VERSION}")]
    Version(u64),
    /// There are more peers in it than are ever saved, or a number is none.
    #[error("it is out of bounds")]
    OutOfBounds,
}

impl Traffic {
    /// What is known of peers, of those dealt with last. `wall` is the time by the wall clock.
    #[must_use]
    pub fn save(&self, wall: Timestamp) -> Vec<u8> {
        let now = self.clock.elapsed();
        let mut peers: Vec<(Duration, SavedPeer)> = Vec::new();
        for (node, peer) in self.peers().iter() {
            let state = peer.state();
            let Reliability { good, bad, .. } = state.reliability.faded(now);
            let age = now.saturating_sub(state.seen);
            let saved = SavedPeer {
                node: *node,
                age: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
                good,
                bad,
                latency: state.latency.mean.get(),
                upload_rate: state.measures.upload.rate.get(),
                download_rate: state.measures.download.rate.get(),
            };
            peers.push((age, saved));
        }
        peers.sort_by_key(|(age, saved)| (*age, saved.node));
        let peers = peers.into_iter().take(SAVED_PEERS_MAX).map(|(_, saved)| saved).collect();
        encode(&Saved { version: VERSION, saved: wall.as_ms(), peers })
    }

    /// Learns what was saved, of peers of which nothing is known yet, and says of how many. What was known fades over the time
    /// since.
    ///
    /// # Errors
    /// [`RestoreError`]; nothing was learnt then.
    pub fn restore(&self, bytes: &[u8], wall: Timestamp) -> Result<usize, RestoreError> {
        if bytes.len() > SAVED_SIZE_MAX {
            return Err(RestoreError::TooLarge);
        }
        let Saved { version, saved, peers } = decode(bytes)?;
        if version != VERSION {
            return Err(RestoreError::Version(version));
        }
        if peers.len() > SAVED_PEERS_MAX || !peers.iter().all(SavedPeer::is_sound) {
            return Err(RestoreError::OutOfBounds);
        }
        let since = Duration::from_millis(wall.as_ms().saturating_sub(saved));
        let now = self.clock.elapsed();
        let mut learnt = 0;
        for saved in peers {
            if self.known(&saved.node).is_none() {
                self.learn(&saved, now, since);
                learnt += 1;
            }
        }
        Ok(learnt)
    }

    fn learn(&self, saved: &SavedPeer, now: Duration, since: Duration) {
        let peer = self.peer(saved.node);
        let deeds = Reliability { good: saved.good, bad: saved.bad, last: Duration::ZERO };
        // This process' clock began when the last one's had stopped already.
        let reliability = Reliability { last: now, ..deeds.faded(since) };
        let rates = ByDirection { upload: saved.upload_rate, download: saved.download_rate };
        peer.state().restore(reliability, saved.latency, rates);
    }
}

impl SavedPeer {
    fn is_sound(&self) -> bool {
        let deeds = [self.good, self.bad];
        let measures = [self.latency, self.upload_rate, self.download_rate];
        let sound = |number: f64| number.is_finite() && (0.0..=1e18).contains(&number);
        deeds.into_iter().chain(measures.into_iter().flatten()).all(sound)
    }
}
