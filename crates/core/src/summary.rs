//! Summaries: what a node holds of a placement group in brief, so that holders find what differs without telling all.

use core::cmp::{Ordering, Reverse};

use serde::{Deserialize, Serialize};

use crate::encode::encode;
use crate::id::{BlockId, ItemId, PlacementGroup};
use crate::lease::{PutId, Subject};
use crate::limits::SUMMARY_CLASSES_MAX;
use crate::scheme::Redundancy;

/// One item as a part of a stripe, or as a replica of a manifest block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The stripe, or the block.
    pub subject: Subject,
    /// The shard, or the block.
    pub item: ItemId,
    /// The shard's place in the stripe; 0 for a block.
    pub index: u8,
    /// The parts there are to be, and how many of them make the whole.
    pub redundancy: Redundancy,
}

impl Part {
    /// What parts are told apart and sorted by.
    #[must_use]
    pub const fn id(&self) -> PartId {
        PartId { subject: self.subject, item: self.item }
    }
}

/// What parts are told apart and sorted by: an item may be a part of several stripes. Sorted by hash, so that the parts of a
/// group lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartId {
    /// The stripe, or the block.
    pub subject: Subject,
    /// The shard, or the block.
    pub item: ItemId,
}

impl Ord for PartId {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.subject.hash(), self.item, self.subject).cmp(&(other.subject.hash(), other.item, other.subject))
    }
}

impl PartialOrd for PartId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A summary in eight bytes: what tells a node whether another one knows what it would say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryDigest(#[serde(with = "serde_bytes")] [u8; 8]);

/// The manifest blocks that a node keeps under one put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBlocks {
    /// Which put.
    pub put: PutId,
    /// Its blocks, in their order.
    pub blocks: Vec<BlockId>,
}

impl KeptBlocks {
    /// The first bytes of the BLAKE3 hash of the list's encoding.
    #[must_use]
    pub fn digest(&self) -> SummaryDigest {
        SummaryDigest::of(self)
    }
}

impl SummaryDigest {
    fn of<T: Serialize>(told: &T) -> Self {
        let hash = blake3::hash(&encode(told));
        Self(hash.as_bytes()[..8].try_into().expect("eight of 32 bytes"))
    }
}

/// What a node holds of one placement group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Which group.
    pub group: PlacementGroup,
    /// Its parts, by redundancy, each redundancy once and in order.
    pub classes: Vec<Class>,
}

impl Summary {
    /// The summary of nothing.
    #[must_use]
    pub const fn empty(group: PlacementGroup) -> Self {
        Self { group, classes: Vec::new() }
    }

    /// The first bytes of the BLAKE3 hash of the summary's encoding.
    #[must_use]
    pub fn digest(&self) -> SummaryDigest {
        SummaryDigest::of(self)
    }

    /// Counts one more part in. Parts of one subject are added one after the other.
    pub fn add(&mut self, part: &Part, first_of_subject: bool) {
        let at = self.classes.partition_point(|class| class.redundancy < part.redundancy);
        if self.classes.get(at).is_none_or(|class| class.redundancy != part.redundancy) {
            self.classes.insert(at, Class::empty(part.redundancy));
        }
        self.classes[at].add(part, first_of_subject);
    }

    /// Leaves out the classes of the fewest subjects where there are more than
    /// [`SUMMARY_CLASSES_MAX`].
    pub fn shorten(&mut self) {
        if self.classes.len() > SUMMARY_CLASSES_MAX {
            self.classes.sort_by_key(|class| (Reverse(class.subject_count), class.redundancy));
            self.classes.truncate(SUMMARY_CLASSES_MAX);
            self.classes.sort_by_key(|class| class.redundancy);
        }
    }

    /// The class of a redundancy; an empty one if there is none.
    #[must_use]
    pub fn class(&self, redundancy: Redundancy) -> Class {
        let at = self.classes.binary_search_by_key(&redundancy, |class| class.redundancy);
        at.map_or_else(|_| Class::empty(redundancy), |at| self.classes[at])
    }
}

/// The parts of one group and one redundancy that a node holds, as sums that don't depend on the order. Two nodes with the
/// same subjects have the same first sum; and of holders that have one part of each, all different, the second sums add up
/// to a multiple of the first. Either is so by chance once in 2^64 times.
///
/// Sums of hashes, as in Bellare and Micciancio, "A New Paradigm for Collision-Free Hashing" (1997), and as short as these
/// they can be forged: by an owner who would hide from repair what is missing of that owner's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Of what redundancy.
    pub redundancy: Redundancy,
    /// Stripes or blocks of which there is a part.
    pub subject_count: u64,
    /// Parts of them: as many, unless there are several of one.
    pub part_count: u64,
    /// The sum of their hashes.
    pub subjects: u64,
    /// The sum of their hashes, each as many times as the part's place in the stripe says, counted from 1.
    pub parts: u64,
}

impl Class {
    /// The class of nothing.
    #[must_use]
    pub const fn empty(redundancy: Redundancy) -> Self {
        Self { redundancy, subject_count: 0, part_count: 0, subjects: 0, parts: 0 }
    }

    fn add(&mut self, part: &Part, first_of_subject: bool) {
        let hash = short_hash(&part.subject);
        if first_of_subject {
            self.subject_count += 1;
            self.subjects = self.subjects.wrapping_add(hash);
        }
        self.part_count += 1;
        self.parts = self.parts.wrapping_add(hash.wrapping_mul(u64::from(part.index) + 1));
    }

    /// Whether these are of the same subjects.
    #[must_use]
    pub const fn same_subjects(&self, other: &Self) -> bool {
        self.subject_count == other.subject_count && self.subjects == other.subjects
    }

    /// Whether the classes of all holders say that every part there is to be is held, and each once.
    #[must_use]
    pub fn complete(classes: &[Self]) -> bool {
        let Some(first) = classes.first() else { return true };
        let shard_count = u64::try_from(first.redundancy.shard_count()).expect("at most 255");
        if classes.iter().any(|class| !class.same_subjects(first)) {
            return false;
        }
        // Where one part is the whole, all parts are alike.
        if first.redundancy.data_count() == 1 {
            return true;
        }
        let sum = classes.iter().fold(0_u64, |sum, class| sum.wrapping_add(class.parts));
        sum == first.subjects.wrapping_mul(shard_count * (shard_count + 1) / 2)
    }
}

/// 64 bits of a subject's hash, behind those that its group has in common.
fn short_hash(subject: &Subject) -> u64 {
    u64::from_le_bytes(subject.hash()[8..16].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::{Class, Part, Summary};
    use crate::id::{ItemId, PlacementGroup, ShardId, StripeId};
    use crate::lease::Subject;
    use crate::scheme::Redundancy;

    fn part(stripe: u8, index: u8) -> Part {
        let redundancy = "4+2".parse().expect("a redundancy");
        let subject = Subject::Stripe(StripeId::from_bytes(*blake3::hash(&[stripe]).as_bytes()));
        Part { subject, item: ItemId::Shard(ShardId::of(&[stripe, index])), index, redundancy }
    }

    fn class(parts: &[Part]) -> Class {
        let mut summary = Summary::empty(PlacementGroup::all().next().expect("a group"));
        let mut last = None;
        for part in parts {
            summary.add(part, last.replace(part.subject) != Some(part.subject));
        }
        summary.class("4+2".parse().expect("a redundancy"))
    }

    /// The classes of six holders that have a part of each of three stripes, rotated by the stripe's number.
    fn holders() -> Vec<Vec<Part>> {
        (0..6).map(|rank| (0..3).map(|stripe| part(stripe, (rank + stripe) % 6)).collect()).collect()
    }

    fn complete(holders: &[Vec<Part>]) -> bool {
        Class::complete(&holders.iter().map(|parts| class(parts)).collect::<Vec<_>>())
    }

    #[test]
    fn holders_of_all_parts_are_told_from_those_that_lack_one() {
        assert!(complete(&holders()));
        for (rank, stripe) in [(0, 0), (5, 2)] {
            let mut lacking = holders();
            lacking[rank].remove(stripe);
            assert!(!complete(&lacking));
        }
    }

    #[test]
    fn a_part_that_two_have_in_the_place_of_another_is_noticed() {
        let mut doubled = holders();
        doubled[0][1] = part(1, 2);
        assert!(!complete(&doubled), "the part of rank 1 twice");
        let mut swapped = holders();
        swapped[0][1] = part(1, 2);
        swapped[1][1] = part(1, 1);
        assert!(complete(&swapped), "who of them has which part is all the same");
    }

    #[test]
    fn replicas_are_alike() {
        let replicated: Redundancy = "1+2".parse().expect("a redundancy");
        let replica = Part { redundancy: replicated, index: 0, ..part(1, 0) };
        let mut summary = Summary::empty(PlacementGroup::all().next().expect("a group"));
        summary.add(&replica, true);
        assert!(Class::complete(&[summary.class(replicated); 3]));
        assert!(!Class::complete(&[summary.class(replicated), Class::empty(replicated)]));
        assert_eq!(summary.class("4+2".parse().expect("a redundancy")).subject_count, 0);
    }
}
