//! What is to be done in a group, from what its holders hold. Pure.

use std::collections::{BTreeMap, BTreeSet};

use datamesh_core::id::{ItemId, NodeId};
use datamesh_core::lease::Subject;
use datamesh_core::scheme::Redundancy;
use datamesh_core::summary::Part;

use crate::urgency::{Urgency, urgency};

/// A stripe or a block, as its holders have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) subject: Subject,
    pub(super) redundancy: Redundancy,
    /// Who has which part.
    pub(super) parts: Vec<(NodeId, u8, ItemId)>,
}

impl Held {
    /// Different parts that are held; where one part is the whole, different holders.
    pub(super) fn healthy_count(&self) -> usize {
        if self.redundancy.data_count() == 1 {
            return self.parts.iter().map(|(node, ..)| node).collect::<BTreeSet<_>>().len();
        }
        self.parts.iter().map(|(_, index, _)| index).collect::<BTreeSet<_>>().len()
    }

    /// How soon it is to be repaired.
    fn urgency(&self) -> Urgency {
        urgency(self.healthy_count(), self.redundancy.data_count())
    }

    /// Whether a part is short beyond those that unreached holders may have.
    pub(super) fn is_short(&self, unreached_count: usize) -> bool {
        self.healthy_count() + unreached_count < self.redundancy.shard_count()
    }

    /// A node that has a part which another one has too.
    pub(super) fn spare_holder(&self) -> Option<NodeId> {
        let mut first: BTreeMap<u8, NodeId> = BTreeMap::new();
        let mut parts = self.parts.iter();
        parts.find(|(node, index, _)| *first.entry(*index).or_insert(*node) != *node).map(|(node, ..)| *node)
    }

    /// Who of these has no part.
    pub(super) fn lacking<'a>(&'a self, holders: &'a [NodeId]) -> impl Iterator<Item = NodeId> + 'a {
        let has = |holder: &NodeId| self.parts.iter().any(|(node, ..)| node == holder);
        holders.iter().copied().filter(move |holder| !has(holder))
    }
}

/// Sorts the parts of a group's holders by what they are parts of.
pub(super) fn gather(parts: impl IntoIterator<Item = (NodeId, Part)>) -> BTreeMap<Subject, Held> {
    let mut all: BTreeMap<Subject, Held> = BTreeMap::new();
    for (node, Part { subject, item, index, redundancy }) in parts {
        let held = all.entry(subject).or_insert_with(|| Held { subject, redundancy, parts: Vec::new() });
        // Of a block, holders may have been told different redundancies: the greater counts.
        held.redundancy = held.redundancy.max(redundancy);
        held.parts.push((node, index, item));
    }
    all
}

/// Sorts what is short: the most endangered first, then those of the fewest parts.
pub(super) fn most_endangered_first(short: &mut [Held]) {
    short.sort_by_key(|held| (held.urgency(), held.healthy_count(), held.subject));
}

#[cfg(test)]
mod tests {
    use datamesh_core::id::{BlockId, ItemId, NodeId, ShardId, StripeId};
    use datamesh_core::lease::Subject;
    use datamesh_core::summary::Part;

    use super::{gather, most_endangered_first};
    use crate::urgency::Urgency;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn part(stripe: u8, index: u8, redundancy: &str) -> Part {
        Part {
            subject: Subject::Stripe(StripeId::from_bytes([stripe; 32])),
            item: ItemId::Shard(ShardId::of(&[stripe, index])),
            index,
            redundancy: redundancy.parse().expect("a redundancy"),
        }
    }

    #[test]
    fn a_part_counts_once_and_an_unreached_holder_is_given_the_benefit_of_the_doubt() {
        let parts = [(1, 0), (2, 1), (3, 1), (4, 2), (5, 3)];
        let held = gather(parts.map(|(holder, index)| (node(holder), part(1, index, "4+2"))));
        let held = held.into_values().next().expect("one stripe");
        assert_eq!((held.healthy_count(), held.urgency()), (4, Urgency::Spare(0)));
        assert!(held.is_short(1) && !held.is_short(2));
        let holders = [1, 2, 3, 4, 5, 6].map(node);
        assert_eq!(held.lacking(&holders).collect::<Vec<_>>(), [node(6)]);
    }

    #[test]
    fn a_part_that_two_have_is_to_spare_with_one_of_them() {
        let spare = |parts: [(u8, u8); 3]| {
            let held = gather(parts.map(|(holder, index)| (node(holder), part(1, index, "4+2"))));
            held.into_values().next().and_then(|held| held.spare_holder())
        };
        assert_eq!(spare([(1, 0), (2, 1), (3, 0)]), Some(node(3)));
        assert_eq!(spare([(1, 0), (2, 1), (3, 2)]), None);
    }

    #[test]
    fn replicas_count_by_their_holders() {
        let block = BlockId::of(b"block");
        let replica =
            Part { subject: Subject::Block(block), item: ItemId::Block(block), ..part(1, 0, "1+2") };
        let held = gather([(node(1), replica), (node(2), replica), (node(2), replica)]);
        assert_eq!(held.into_values().next().map(|held| held.healthy_count()), Some(2));
    }

    #[test]
    fn what_can_lose_the_fewest_parts_comes_first() {
        let stripe = |number: u8, count: u8, redundancy: &'static str| {
            (0..count).map(move |index| (node(index), part(number, index, redundancy)))
        };
        let parts = stripe(1, 5, "4+2").chain(stripe(2, 4, "4+2")).chain(stripe(3, 2, "2+2"));
        let mut short: Vec<_> = gather(parts.chain(stripe(4, 3, "4+2"))).into_values().collect();
        most_endangered_first(&mut short);
        let order: Vec<_> = short.iter().map(|held| held.urgency()).collect();
        assert_eq!(order, [Urgency::Spare(0), Urgency::Spare(0), Urgency::Spare(1), Urgency::Short(1)]);
        assert_eq!(short[0].healthy_count(), 2, "of two that can lose nothing, the one of fewer parts");
    }
}
