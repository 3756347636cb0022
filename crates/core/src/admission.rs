//! Admission: which nodes and owners a restricted mesh takes, as its authorities have signed it.
//!
//! Each authority signs one roll of all that it admits; the newest counts. Whoever stands on the roll of any authority is
//! admitted, and to revoke an admission is to sign a roll without it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{ID_SIZE, NodeId, OwnerId};
use crate::limits::{AUTHORITIES_MAX, NODE_RECORD_AHEAD_MS_MAX, ROLL_ADMISSIONS_MAX};
use crate::sign::{Signable, Signed};
use crate::time::{Epoch, Timestamp};

/// Whose word admits: in order, each once. Nobody's where a mesh is not restricted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorities(BTreeSet<OwnerId>);

/// More authorities than a mesh can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} authorities are too many: a mesh has {AUTHORITIES_MAX} at most")]
pub struct TooManyAuthorities(usize);

impl Authorities {
    /// These, however often they are named.
    ///
    /// # Errors
    /// [`TooManyAuthorities`] when there are more than [`AUTHORITIES_MAX`].
    pub fn new(owners: impl IntoIterator<Item = OwnerId>) -> Result<Self, TooManyAuthorities> {
        let owners: BTreeSet<OwnerId> = owners.into_iter().collect();
        if owners.len() > AUTHORITIES_MAX {
            return Err(TooManyAuthorities(owners.len()));
        }
        Ok(Self(owners))
    }

    /// Whether there are none, so that everybody is admitted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether someone is one of them.
    #[must_use]
    pub fn contains(&self, owner: &OwnerId) -> bool {
        self.0.contains(owner)
    }

    /// Them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &OwnerId> {
        self.0.iter()
    }
}

/// Who is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admitted {
    /// A node, which is then part of the mesh and may keep items.
    Node(NodeId),
    /// An owner, who may then put objects.
    Owner(OwnerId),
}

/// One admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// Whose.
    pub who: Admitted,
    /// The first epoch in which it does not count any more.
    pub until: Epoch,
    /// Bytes that an owner may have in the whole mesh, parity and manifests included; `None` for no bound, and for nodes.
    pub quota: Option<u64>,
}

/// All that one authority admits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roll {
    /// Who admits.
    pub authority: OwnerId,
    /// The roll with the higher sequence replaces the other: milliseconds since the Unix epoch at its making.
    pub sequence: u64,
    /// The admissions, in the order of who is admitted, each once.
    pub admissions: Vec<Admission>,
}

impl Roll {
    /// Whether it is within its bound and in its order.
    #[must_use]
    pub fn bounded(&self) -> bool {
        self.admissions.len() <= ROLL_ADMISSIONS_MAX
            && self.admissions.is_sorted_by(|left, right| left.who < right.who)
    }

    /// The same with one more admission, in place of one that it has for the same; `None` where there is no room.
    #[must_use]
    pub fn with(mut self, admission: Admission) -> Option<Self> {
        match self.admissions.binary_search_by_key(&admission.who, |known| known.who) {
            Ok(index) => self.admissions[index] = admission,
            Err(index) => self.admissions.insert(index, admission),
        }
        self.bounded().then_some(self)
    }

    /// The same without the admission that it has for someone; `None` where it has none.
    #[must_use]
    pub fn without(mut self, who: Admitted) -> Option<Self> {
        let index = self.admissions.binary_search_by_key(&who, |known| known.who).ok()?;
        self.admissions.remove(index);
        Some(self)
    }
}

impl Signable for Roll {
    const DOMAIN: &'static str = "datamesh roll v1";

    fn signer(&self) -> &[u8; ID_SIZE] {
        self.authority.as_bytes()
    }
}

/// Why a roll is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RollError {
    /// Its signer has no say in this mesh.
    #[error("roll is not of an authority of this mesh")]
    Stranger,
    /// It is not signed by whom it names, or out of bounds.
    #[error("roll is forged or out of bounds")]
    Forged,
    /// It is from far in the future of whoever reads it.
    #[error("roll is from the future")]
    Ahead,
}

/// The newest roll of each authority, as one participant knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rolls {
    authorities: Authorities,
    rolls: BTreeMap<OwnerId, Signed<Roll>>,
}

impl Rolls {
    /// Of a mesh with these authorities; without any it is not restricted.
    #[must_use]
    pub const fn new(authorities: Authorities) -> Self {
        Self { authorities, rolls: BTreeMap::new() }
    }

    /// Whether it matters who is admitted.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        !self.authorities.is_empty()
    }

    /// Whether someone's rolls count here.
    #[must_use]
    pub fn is_authority(&self, owner: &OwnerId) -> bool {
        self.authorities.contains(owner)
    }

    /// The roll that this authority is to sign next, before anything is changed in it: what the last one says, under a later sequence.
    #[must_use]
    pub fn next(&self, authority: OwnerId, now: Timestamp) -> Roll {
        let last = self.rolls.get(&authority).map(Signed::unverified);
        let sequence = last.map_or(0, |roll| roll.sequence.saturating_add(1)).max(now.as_ms());
        Roll { authority, sequence, admissions: last.map(|roll| roll.admissions.clone()).unwrap_or_default() }
    }

    /// Takes a roll over if it is newer than what is known of its authority. Says whether it was.
    ///
    /// # Errors
    /// [`RollError`] when it is none that counts here.
    pub fn learn(&mut self, roll: Signed<Roll>, now: Timestamp) -> Result<bool, RollError> {
        let Roll { authority, sequence, .. } = *roll.unverified();
        if !self.authorities.contains(&authority) {
            return Err(RollError::Stranger);
        }
        if self.rolls.get(&authority).is_some_and(|known| known.unverified().sequence >= sequence) {
            return Ok(false);
        }
        if sequence > now.as_ms().saturating_add(NODE_RECORD_AHEAD_MS_MAX) {
            return Err(RollError::Ahead);
        }
        if !roll.unverified().bounded() || roll.verify().is_err() {
            return Err(RollError::Forged);
        }
        self.rolls.insert(authority, roll);
        Ok(true)
    }

    /// Whether someone is taken: everybody where the mesh is not restricted.
    #[must_use]
    pub fn admits(&self, who: Admitted, now: Epoch) -> bool {
        !self.is_restricted() || self.admission(who, now).is_some()
    }

    /// The admission that counts: the widest, where several authorities have given one.
    #[must_use]
    pub fn admission(&self, who: Admitted, now: Epoch) -> Option<Admission> {
        let of_roll = |roll: &Signed<Roll>| {
            let admissions = &roll.unverified().admissions;
            let index = admissions.binary_search_by_key(&who, |known| known.who).ok()?;
            Some(admissions[index]).filter(|admission| now < admission.until)
        };
        let width = |admission: &Admission| (admission.quota.unwrap_or(u64::MAX), admission.until);
        self.rolls.values().filter_map(of_roll).max_by_key(width)
    }

    /// A roll that someone who knows these sequences lacks.
    #[must_use]
    pub fn lacking(&self, known: &[(OwnerId, u64)]) -> Option<&Signed<Roll>> {
        self.rolls.values().find(|roll| {
            let roll = roll.unverified();
            !known
                .iter()
                .any(|(authority, sequence)| *authority == roll.authority && *sequence >= roll.sequence)
        })
    }

    /// What is known of each authority.
    #[must_use]
    pub fn sequences(&self) -> Vec<(OwnerId, u64)> {
        self.rolls.iter().map(|(authority, roll)| (*authority, roll.unverified().sequence)).collect()
    }

    /// The rolls, in the order of their authorities.
    pub fn rolls(&self) -> impl Iterator<Item = &Signed<Roll>> {
        self.rolls.values()
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::{Admission, Admitted, Authorities, Roll, RollError, Rolls, TooManyAuthorities};
    use crate::encode::{decode, encode};
    use crate::id::{NodeId, OwnerId};
    use crate::limits::{AUTHORITIES_MAX, ROLL_ADMISSIONS_MAX, WIRE_HEADER_SIZE_MAX};
    use crate::sign::Signed;
    use crate::time::{Epoch, Timestamp};

    const NOW: Timestamp = Timestamp::from_ms(10_000_000);

    fn key(number: u8) -> SigningKey {
        SigningKey::from_bytes(&[number; 32])
    }

    fn authority(number: u8) -> OwnerId {
        OwnerId::from_bytes(key(number).verifying_key().to_bytes())
    }

    fn rolls(numbers: &[u8]) -> Rolls {
        Rolls::new(Authorities::new(numbers.iter().copied().map(authority)).expect("few"))
    }

    fn node(number: u8) -> Admitted {
        Admitted::Node(NodeId::from_bytes([number; 32]))
    }

    fn admission(who: Admitted, until: u64, quota: Option<u64>) -> Admission {
        Admission { who, until: Epoch::from_hours(until), quota }
    }

    fn roll(number: u8, sequence: u64, admissions: Vec<Admission>) -> Signed<Roll> {
        Signed::sign(Roll { authority: authority(number), sequence, admissions }, &key(number))
    }

    #[test]
    fn the_newest_roll_of_each_authority_counts_and_revokes_what_it_leaves_out() {
        let mut known = rolls(&[1, 2]);
        let now = NOW.epoch();
        assert!(!known.admits(node(5), now), "nobody is admitted yet");
        assert_eq!(known.learn(roll(1, 5, vec![admission(node(5), 100, None)]), NOW), Ok(true));
        assert!(known.admits(node(5), now) && !known.admits(node(6), now));
        assert!(!known.admits(node(5), Epoch::from_hours(100)), "it has ended");
        assert_eq!(known.learn(roll(2, 1, vec![admission(node(6), 100, None)]), NOW), Ok(true));
        assert_eq!(known.learn(roll(1, 6, vec![]), NOW), Ok(true));
        assert!(!known.admits(node(5), now) && known.admits(node(6), now));
        assert_eq!(known.learn(roll(1, 5, vec![admission(node(5), 100, None)]), NOW), Ok(false), "replayed");
        assert!(!known.admits(node(5), now));
    }

    #[test]
    fn who_is_no_authority_admits_nobody() {
        let mut known = rolls(&[1]);
        let admitting = vec![admission(node(5), 100, None)];
        assert_eq!(known.learn(roll(3, 5, admitting.clone()), NOW), Err(RollError::Stranger));
        // A sound roll of somebody, with the authority's key in place of theirs.
        let sound = encode(&roll(3, 5, admitting));
        let at = sound.windows(32).position(|bytes| bytes == authority(3).as_bytes()).expect("it names them");
        let bytes = [&sound[..at], authority(1).as_bytes(), &sound[at + 32..]].concat();
        let forged = decode(&bytes).expect("still a roll");
        assert_eq!(known.learn(forged, NOW), Err(RollError::Forged));
        let twice = vec![admission(node(5), 1, None), admission(node(5), 2, None)];
        assert_eq!(known.learn(roll(1, 5, twice), NOW), Err(RollError::Forged));
        assert_eq!(known.learn(roll(1, u64::MAX, vec![]), NOW), Err(RollError::Ahead));
        assert!(Rolls::default().admits(node(5), NOW.epoch()), "an open mesh takes everybody");
    }

    #[test]
    fn of_several_admissions_the_widest_counts() {
        let owner = Admitted::Owner(authority(9));
        let mut known = rolls(&[1, 2]);
        known.learn(roll(1, 5, vec![admission(owner, 100, Some(7))]), NOW).expect("sound");
        known.learn(roll(2, 5, vec![admission(owner, 50, Some(9))]), NOW).expect("sound");
        let quota = |hours| known.admission(owner, Epoch::from_hours(hours)).map(|found| found.quota);
        assert_eq!([quota(10), quota(60), quota(100)], [Some(Some(9)), Some(Some(7)), None]);
        let sequences = known.sequences();
        assert!(known.lacking(&sequences).is_none() && known.lacking(&sequences[1..]).is_some());
    }

    #[test]
    fn a_roll_is_bounded_and_keeps_its_order() {
        let mut full = Roll { authority: authority(1), sequence: 1, admissions: Vec::new() };
        for number in (0..ROLL_ADMISSIONS_MAX).rev() {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&u64::try_from(number).expect("small").to_be_bytes());
            full = full.with(admission(Admitted::Node(NodeId::from_bytes(id)), 1, None)).expect("room");
        }
        let again = full.admissions[0];
        let signed = Signed::sign(full.clone(), &key(1));
        assert!(encode(&signed).len() < WIRE_HEADER_SIZE_MAX / 2, "a full roll fits a message");
        assert!(full.clone().with(Admission { until: Epoch::NEVER, ..again }).is_some(), "it has that one");
        assert!(full.with(admission(Admitted::Owner(authority(1)), 1, None)).is_none(), "one too many");
    }

    #[test]
    fn the_next_roll_of_an_authority_says_what_the_last_did_under_a_later_sequence() {
        let mut known = rolls(&[1]);
        let first = known.next(authority(1), NOW);
        assert_eq!((first.sequence, first.admissions.len()), (NOW.as_ms(), 0));
        let first = first.with(admission(node(5), 100, None)).expect("room");
        assert_eq!(known.learn(Signed::sign(first, &key(1)), NOW), Ok(true));
        let early = Timestamp::from_ms(5);
        let second = known.next(authority(1), early);
        assert_eq!(
            (second.sequence, second.admissions.len()),
            (NOW.as_ms() + 1, 1),
            "its clock was set back"
        );
        assert!(second.clone().without(node(6)).is_none());
        let second = second.without(node(5)).expect("it has it");
        assert_eq!(known.learn(Signed::sign(second, &key(1)), NOW), Ok(true));
        assert!(!known.admits(node(5), NOW.epoch()));
    }

    #[test]
    fn a_mesh_has_few_authorities_each_once() {
        let most = u8::try_from(AUTHORITIES_MAX).expect("few");
        assert!(Authorities::new((0..most).chain(0..most).map(authority)).is_ok());
        assert_eq!(Authorities::new((0..=most).map(authority)), Err(TooManyAuthorities(AUTHORITIES_MAX + 1)));
    }
}
