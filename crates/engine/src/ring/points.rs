//! The points of the ring: where each member stands on it, and the walks around it.

use datamesh_core::id::PlacementGroup;

use crate::ring::{Member, index, narrow};

const POINT_CONTEXT: &str = "datamesh 2026 ring point v1";
const SLOT_CONTEXT: &str = "datamesh 2026 ring slot v1";
const PLAIN_CONTEXT: &str = "datamesh 2026 ring plain walk v1";

/// A member's place on the ring. Members at one position stand in the order of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    position: u32,
    member: u32,
}

/// All points, in the order of the ring.
#[derive(Debug, Clone)]
pub(super) struct Points {
    points: Vec<Point>,
}

impl Points {
    /// A member's points are the beginning of a sequence that depends on its id alone, as long as its weight says: another
    /// weight adds or drops points at the sequence's end and leaves the others where they are.
    pub(super) fn of(members: &[Member], points_per_node: u32) -> Self {
        let total: u128 = members.iter().map(|member| u128::from(member.weight.get())).sum();
        let member_count = u128::from(narrow(members.len()));
        let count = |member: &Member| {
            let scaled = u128::from(points_per_node) * u128::from(member.weight.get()) * member_count;
            usize::try_from(scaled / total).expect("no member has more points than all have").max(1)
        };
        Self::lay(
            POINT_CONTEXT,
            members.iter().map(|member| (member.node.as_bytes().as_slice(), count(member))),
        )
    }

    /// So many points for each of those named, the beginning of the sequence that its name draws in a context.
    pub(super) fn lay<'a>(context: &str, named: impl Iterator<Item = (&'a [u8], usize)>) -> Self {
        let mut points = vec![];
        for (place, (name, count)) in named.enumerate() {
            let mut bytes = vec![0; count * size_of::<u32>()];
            blake3::Hasher::new_derive_key(context).update(name).finalize_xof().fill(&mut bytes);
            let member = narrow(place);
            points.extend(numbers(&bytes).map(|position| Point { position, member }));
        }
        points.sort_unstable();
        // Where several points of one member follow each other, a walk that comes by any of them comes by the last: the
        // others make no difference. A member far larger than all others has little else.
        points.reverse();
        points.dedup_by_key(|point| point.member);
        points.reverse();
        Self { points }
    }

    /// The index of the first point at or behind a position.
    pub(super) fn first_from(&self, position: u32) -> usize {
        self.points.partition_point(|point| point.position < position)
    }

    /// The members of all points once around the ring, beginning with the point of this index.
    pub(super) fn walk_from(&self, start: usize) -> impl Iterator<Item = usize> + '_ {
        let (before, behind) = self.points.split_at(start % self.points.len().max(1));
        behind.iter().chain(before).map(|point| index(point.member))
    }
}

/// Where the slots of a group start their walks, by rank.
pub(super) fn slot_starts(group: PlacementGroup, rank_count: usize) -> Vec<u32> {
    let mut bytes = vec![0; rank_count * size_of::<u32>()];
    hash_of(SLOT_CONTEXT, group).fill(&mut bytes);
    numbers(&bytes).collect()
}

/// Where the walk behind a group's balanced ranks starts.
pub(super) fn plain_start(group: PlacementGroup) -> u32 {
    let mut bytes = [0; size_of::<u32>()];
    hash_of(PLAIN_CONTEXT, group).fill(&mut bytes);
    u32::from_le_bytes(bytes)
}

fn hash_of(context: &str, group: PlacementGroup) -> blake3::OutputReader {
    blake3::Hasher::new_derive_key(context).update(&group.index().to_le_bytes()).finalize_xof()
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let (numbers, _) = bytes.as_chunks();
    numbers.iter().map(|number| u32::from_le_bytes(*number))
}
