//! Which peers may connect, and how much each may ask.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datamesh_core::id::NodeId;
use libp2p::PeerId;
use libp2p::allow_block_list::Blocked;
use libp2p::swarm::DialError;

use crate::identity::node_of;

/// Peers whose conduct or absence is remembered, each.
const REMEMBERED_MAX: usize = 16 * 1024;
/// A violation is forgiven after this.
const FORGIVEN: Duration = Duration::from_secs(10 * 60);
/// How long a node that was not reached is not dialled again: at first, doubling up to the second.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Longest text about a failed dial, characters.
const WHY_LENGTH_MAX: usize = 256;

/// What Noise says when the two ends have hashed different things into their handshake. The tests of private meshes hold it to that.
const NOISE_MISMATCH: &str = "decrypt error";
/// What that says to a person.
const OTHER_MESH: &str = "it is of another mesh";

/// A peer broke the protocol.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) peer: PeerId,
    pub(crate) what: String,
}

/// What follows a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sentence {
    /// Close its connections.
    Disconnect,
    /// Close its connections and accept none for a while.
    Deny,
}

/// The conduct of peers: who broke the protocol how often, and who is denied until when.
#[derive(Debug)]
pub(crate) struct Conduct {
    violations_max: u32,
    denial: Duration,
    violations: BTreeMap<PeerId, (u32, Instant)>,
    denied: BTreeMap<PeerId, Instant>,
}

impl Conduct {
    pub(crate) const fn new(violations_max: u32, denial: Duration) -> Self {
        Self { violations_max, denial, violations: BTreeMap::new(), denied: BTreeMap::new() }
    }

    /// Remembers a violation and says what follows from it.
    pub(crate) fn violated(&mut self, peer: PeerId, now: Instant) -> Sentence {
        self.violations.retain(|_, (_, last)| now.duration_since(*last) < FORGIVEN);
        if self.violations.len() >= REMEMBERED_MAX && !self.violations.contains_key(&peer) {
            return Sentence::Disconnect;
        }
        let (count, last) = self.violations.entry(peer).or_insert((0, now));
        (*count, *last) = (*count + 1, now);
        if *count < self.violations_max || self.denied.len() >= REMEMBERED_MAX {
            return Sentence::Disconnect;
        }
        self.violations.remove(&peer);
        self.denied.insert(peer, now + self.denial);
        Sentence::Deny
    }

    /// The peers whose denial has ended.
    pub(crate) fn pardon(&mut self, now: Instant) -> Vec<PeerId> {
        let ended = |(peer, until): (&PeerId, &Instant)| (*until <= now).then_some(*peer);
        let pardoned: Vec<PeerId> = self.denied.iter().filter_map(ended).collect();
        for peer in &pardoned {
            self.denied.remove(peer);
        }
        pardoned
    }
}

/// The peers that are denied now, for whoever accepts or dials beside the swarm. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Denied(Arc<Mutex<BTreeSet<NodeId>>>);

impl Denied {
    pub(crate) fn contains(&self, node: &NodeId) -> bool {
        self.nodes().contains(node)
    }

    pub(crate) fn insert(&self, peer: &PeerId) {
        self.nodes().extend(node_of(peer));
    }

    pub(crate) fn remove(&self, peer: &PeerId) {
        if let Some(node) = node_of(peer) {
            self.nodes().remove(&node);
        }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        // Nothing that holds the lock can leave the set half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Peers that could not be reached, so that a dead one isn't dialled anew for each call.
#[derive(Debug, Default)]
pub(crate) struct Absences {
    absences: BTreeMap<PeerId, Absence>,
}

#[derive(Debug)]
struct Absence {
    pause: Duration,
    until: Instant,
    why: String,
}

impl Absences {
    /// Remembers that a peer was not reached; each time in a row doubles the pause.
    pub(crate) fn missed(&mut self, peer: PeerId, why: String, now: Instant) {
        // One dial that fails for several reasons at once counts once.
        if self.absences.get(&peer).is_some_and(|absence| now < absence.until) {
            return;
        }
        if self.absences.len() >= REMEMBERED_MAX {
            self.absences.retain(|_, absence| now < absence.until);
        }
        let before = self.absences.get(&peer).map(|absence| absence.pause);
        let pause = before.map_or(PAUSE_MIN, |pause| (pause * 2).min(PAUSE_MAX));
        self.absences.insert(peer, Absence { pause, until: now + pause, why });
    }

    /// Forgets that a peer was not reached: it is here, or has new addresses.
    pub(crate) fn present(&mut self, peer: &PeerId) {
        self.absences.remove(peer);
    }

    /// Why a peer should not be dialled now, if it should not.
    pub(crate) fn absent(&self, peer: &PeerId, now: Instant) -> Option<&str> {
        let absence = self.absences.get(peer)?;
        (now < absence.until).then_some(absence.why.as_str())
    }
}

/// What a failed dial says to a person: the root cause at each address.
pub(crate) fn why_not_reached(error: &DialError) -> String {
    let text = match error {
        DialError::Transport(attempts) if !attempts.is_empty() => {
            let causes = attempts.iter().map(|(address, error)| {
                let why = if fails_handshake(error) { OTHER_MESH.to_owned() } else { root_cause(error) };
                format!("{address}: {why}")
            });
            causes.collect::<Vec<_>>().join(", ")
        }
        DialError::NoAddresses => "no address of it is known".to_owned(),
        DialError::WrongPeerId { obtained, address } => format!("{obtained} answers at {address}"),
        DialError::Denied { cause } if cause.downcast_ref::<Blocked>().is_some() => {
            "it broke the protocol and is denied for a while".to_owned()
        }
        other => root_cause(other),
    };
    text.chars().take(WHY_LENGTH_MAX).collect()
}

/// Whether whoever was dialled answered, and could not show to be of this mesh: then all who answered were such.
pub(crate) fn is_other_mesh(error: &DialError) -> bool {
    match error {
        DialError::Transport(attempts) => {
            !attempts.is_empty() && attempts.iter().all(|(_, error)| fails_handshake(error))
        }
        _ => false,
    }
}

/// Whether the two ends of a Noise handshake could not agree on what it is bound to. Errors of the carriers hide those that they
/// are made of, all but the text of the last one.
fn fails_handshake(error: &(dyn Error + 'static)) -> bool {
    root_cause(error) == NOISE_MISMATCH
}

/// What is at the bottom of an error.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use libp2p::PeerId;

    use super::{Absences, Conduct, FORGIVEN, PAUSE_MAX, PAUSE_MIN, Sentence};

    const DENIAL: Duration = Duration::from_secs(60);

    #[test]
    fn the_last_violation_allowed_denies_and_time_pardons() {
        let (peer, start) = (PeerId::random(), Instant::now());
        let mut conduct = Conduct::new(3, DENIAL);
        assert_eq!(conduct.violated(peer, start), Sentence::Disconnect);
        assert_eq!(conduct.violated(peer, start), Sentence::Disconnect);
        assert_eq!(conduct.violated(PeerId::random(), start), Sentence::Disconnect, "another peer");
        assert_eq!(conduct.violated(peer, start), Sentence::Deny);
        assert!(conduct.pardon(start).is_empty());
        assert_eq!(conduct.pardon(start + DENIAL), [peer]);
        assert!(conduct.pardon(start + DENIAL).is_empty());
    }

    #[test]
    fn violations_long_ago_are_forgiven() {
        let (peer, start) = (PeerId::random(), Instant::now());
        let mut conduct = Conduct::new(2, DENIAL);
        assert_eq!(conduct.violated(peer, start), Sentence::Disconnect);
        assert_eq!(conduct.violated(peer, start + FORGIVEN), Sentence::Disconnect);
        assert_eq!(conduct.violated(peer, start + FORGIVEN), Sentence::Deny);
    }

    #[test]
    fn the_pause_after_a_failed_dial_doubles_up_to_its_maximum() {
        let (peer, mut now) = (PeerId::random(), Instant::now());
        let mut absences = Absences::default();
        let mut expected = PAUSE_MIN;
        for _ in 0..8 {
            absences.missed(peer, "refused".into(), now);
            absences.missed(peer, "refused at another address".into(), now);
            assert_eq!(absences.absent(&peer, now), Some("refused"));
            now += expected;
            assert_eq!(absences.absent(&peer, now), None, "after {expected:?}");
            expected = (expected * 2).min(PAUSE_MAX);
        }
        absences.missed(peer, "refused".into(), now);
        absences.present(&peer);
        assert_eq!(absences.absent(&peer, now), None);
    }
}
