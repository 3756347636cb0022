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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use datamesh_core::encode::encode;
    use datamesh_core::id::NodeId;
    use datamesh_core::time::Timestamp;
    use proptest::prelude::{any, prop, proptest};

    use super::{RestoreError, SAVED_PEERS_MAX, SAVED_SIZE_MAX, Saved, VERSION};
    use crate::traffic::hand::Hand;
    use crate::traffic::{Offence, PEERS_MAX, Traffic, TrafficSettings};

    fn traffic() -> (Arc<Hand>, Traffic) {
        let clock = Arc::new(Hand::default());
        (Arc::clone(&clock), Traffic::new(clock, TrafficSettings::default()))
    }

    fn node(number: u16) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_le_bytes());
        NodeId::from_bytes(bytes)
    }

    const WALL: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    #[test]
    fn a_liar_is_known_to_the_next_process_and_forgiven_in_time() {
        let (_, first) = traffic();
        first.debit(node(1), Some(Offence::Lie));
        first.answered(node(2), Duration::from_millis(80));
        let saved = first.save(WALL);
        let (_, second) = traffic();
        assert_eq!(second.restore(&saved, WALL), Ok(2));
        assert_eq!(second.restore(&saved, WALL), Ok(0), "nothing is learnt twice");
        let peers = second.snapshot().peers;
        assert!(peers[&node(1)].reliability < 0.2);
        assert_eq!(peers[&node(2)].latency, Some(Duration::from_millis(80)));
        let (_, third) = traffic();
        let next_day = Timestamp::from_ms(WALL.as_ms() + 86_400_000);
        assert_eq!(third.restore(&saved, next_day), Ok(2));
        assert!(third.snapshot().peers[&node(1)].reliability > 0.99);
    }

    #[test]
    fn peers_are_bounded_in_memory_and_on_disk() {
        let (clock, traffic) = traffic();
        for number in 0..10_000 {
            clock.advance(Duration::from_millis(1));
            traffic.answered(node(number), Duration::from_millis(1));
        }
        let known = traffic.snapshot().peers;
        assert!(known.len() <= PEERS_MAX && known.contains_key(&node(9_999)), "{}", known.len());
        let saved = traffic.save(WALL);
        assert!(saved.len() <= SAVED_SIZE_MAX, "{}", saved.len());
        let (_, next) = super::tests::traffic();
        assert_eq!(next.restore(&saved, WALL), Ok(SAVED_PEERS_MAX));
        assert!(next.snapshot().peers.contains_key(&node(9_999)), "those dealt with last are kept");
    }

    #[test]
    fn what_is_damaged_or_of_another_version_is_refused() {
        let (_, traffic) = traffic();
        let later = encode(&Saved { version: VERSION + 1, saved: 0, peers: vec![] });
        assert_eq!(traffic.restore(&later, WALL), Err(RestoreError::Version(2)));
        assert_eq!(traffic.restore(&vec![0; SAVED_SIZE_MAX + 1], WALL), Err(RestoreError::TooLarge));
        traffic.debit(node(1), Some(Offence::Lie));
        let sound = traffic.save(WALL);
        let bad = sound.windows(8).position(|bytes| bytes == 64.0_f64.to_be_bytes()).expect("the lie");
        let mut absurd = sound.clone();
        absurd[bad..bad + 8].copy_from_slice(&(-1.0_f64).to_be_bytes());
        assert_eq!(super::tests::traffic().1.restore(&absurd, WALL), Err(RestoreError::OutOfBounds));
        assert!(super::tests::traffic().1.restore(&sound[..sound.len() - 1], WALL).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_are_more_than_refused(bytes in prop::collection::vec(any::<u8>(), 0..500), at in any::<usize>(), bit in 0..8_u32) {
            let (_, traffic) = traffic();
            let _ = traffic.restore(&bytes, WALL);
            traffic.debit(node(1), Some(Offence::Silent));
            let mut saved = traffic.save(WALL);
            let at = at % saved.len();
            saved[at] ^= 1_u8 << bit;
            let next = super::tests::traffic().1;
            let _ = next.restore(&saved, WALL);
            let sound = next.snapshot().peers.values().all(|peer| (0.0..=1.0).contains(&peer.reliability));
            assert!(sound);
        }
    }
}
