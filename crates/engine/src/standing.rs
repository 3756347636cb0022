//! How the stripes and blocks of a mesh stand, from what its nodes say of the groups that they lead. Pure.

use std::collections::{BTreeMap, BTreeSet};

use datamesh_core::health::{Cause, Led, Level, Standing};
use datamesh_core::id::NodeId;
use datamesh_core::limits::PLACEMENT_GROUPS;
use datamesh_core::scheme::Redundancy;

use crate::alert::Condition;
use crate::health::score;
use crate::urgency::{Urgency, urgency};

/// The score below which somebody should look at it.
const SCORE_WARNING: f64 = 0.8;

/// How bad it is that so many of the parts are there; `None` while nobody need look at it.
#[must_use]
pub fn level(healthy_count: usize, redundancy: Redundancy) -> Option<Level> {
    let (data_count, shard_count) = (redundancy.data_count(), redundancy.shard_count());
    if healthy_count < data_count {
        Some(Level::Lost)
    } else if healthy_count == data_count && data_count < shard_count {
        Some(Level::Critical)
    } else {
        (score(healthy_count, data_count, shard_count) < SCORE_WARNING).then_some(Level::Warning)
    }
}

/// A standing in the figures that people ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// Stripes and blocks, all together.
    pub subject_count: u64,
    /// Those that have all their parts.
    pub whole: u64,
    /// How many survive the loss of so many more parts, and no more.
    pub by_spare: BTreeMap<usize, u64>,
    /// Those that can't be read as they stand.
    pub lost: u64,
    /// How many there are of each level.
    pub by_level: BTreeMap<Level, u64>,
    /// The least score of any; 1 where there is nothing.
    pub least_score: f64,
    /// The most parts that anything has.
    pub widest: usize,
}

/// What a standing comes to.
#[must_use]
pub fn outline(standing: &Standing) -> Outline {
    let mut outline = Outline {
        subject_count: 0,
        whole: 0,
        by_spare: BTreeMap::new(),
        lost: 0,
        by_level: BTreeMap::new(),
        least_score: 1.0,
        widest: 0,
    };
    for (redundancy, healthy, number) in standing.subjects() {
        outline.subject_count += number;
        outline.widest = outline.widest.max(redundancy.shard_count());
        if healthy >= redundancy.shard_count() {
            outline.whole += number;
        }
        match urgency(healthy, redundancy.data_count()) {
            Urgency::Spare(spare) => *outline.by_spare.entry(spare).or_default() += number,
            Urgency::Short(_) => outline.lost += number,
        }
        if let Some(level) = level(healthy, redundancy) {
            *outline.by_level.entry(level).or_default() += number;
        }
        let of_this = score(healthy, redundancy.data_count(), redundancy.shard_count());
        outline.least_score = outline.least_score.min(of_this);
    }
    outline
}

/// What is wrong with what stands like this; nothing while nobody need look at it.
#[must_use]
pub fn availability(standing: &Standing) -> Option<Condition> {
    let outline = outline(standing);
    let level = outline.by_level.last_key_value().map(|(level, _)| *level)?;
    let count = |level| outline.by_level.get(&level).copied().unwrap_or(0);
    let cause = Cause::Availability {
        short: count(Level::Warning),
        endangered: count(Level::Critical),
        lost: count(Level::Lost),
        doubtful: standing.doubtful(),
    };
    Some(Condition { level, cause })
}

/// What all nodes together know of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeshStanding {
    /// The sum of what they know.
    pub standing: Standing,
    /// Placement groups of which nobody says anything: those who lead them are silent or have not looked yet.
    pub unknown_groups: u64,
    /// Placement groups that two nodes say they lead, so that what is in them is counted twice: they don't know the same mesh.
    pub doubled_groups: u64,
    /// Seconds since the look that is longest ago.
    pub age_s: u64,
}

/// Adds up what nodes say. What one found in the stead of another counts only where that other says nothing itself.
#[must_use]
pub fn mesh<'a>(told: impl IntoIterator<Item = (NodeId, &'a Led)>) -> MeshStanding {
    let told: Vec<(NodeId, &Led)> = told.into_iter().collect();
    let tellers: BTreeSet<NodeId> = told.iter().map(|(node, _)| *node).collect();
    let mut mesh = MeshStanding::default();
    for (_, led) in told {
        mesh.standing.merge(&led.first);
        let stand_ins = led.stand_ins.iter().filter(|(first, _)| !tellers.contains(first));
        stand_ins.for_each(|(_, standing)| mesh.standing.merge(standing));
        mesh.age_s = mesh.age_s.max(led.age_s);
    }
    let (known, all) = (mesh.standing.group_count, u64::from(PLACEMENT_GROUPS));
    mesh.unknown_groups = all.saturating_sub(known);
    mesh.doubled_groups = known.saturating_sub(all);
    mesh
}

#[cfg(test)]
mod tests {
    use datamesh_core::health::{Cause, Led, Level, Standing};
    use datamesh_core::id::NodeId;
    use datamesh_core::scheme::Redundancy;

    use super::{availability, level, mesh, outline};

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn standing(group_count: u64, healthy: usize, number: u64) -> Standing {
        let mut standing = Standing { group_count, ..Standing::default() };
        standing.add("4+2".parse().expect("a redundancy"), healthy, number, 0);
        standing
    }

    #[test]
    fn each_level_begins_where_it_is_said_to() {
        let levels = |text: &str| {
            let redundancy: Redundancy = text.parse().expect("a redundancy");
            let all = (0..=redundancy.shard_count()).rev().map(|healthy| level(healthy, redundancy));
            all.collect::<Vec<_>>()
        };
        let (warning, critical, lost) = (Some(Level::Warning), Some(Level::Critical), Some(Level::Lost));
        assert_eq!(levels("4+2"), [None, warning, critical, lost, lost, lost, lost]);
        assert_eq!(levels("1+1"), [None, critical, lost]);
        let wide = levels("10+6");
        assert_eq!(wide[..8], [None, None, None, warning, warning, warning, critical, lost]);
    }

    #[test]
    fn what_is_looked_after_is_as_bad_as_its_worst_stripe() {
        let mut standing = Standing::default();
        let redundancy = "4+2".parse().expect("a redundancy");
        let level = |standing: &Standing| availability(standing).map(|condition| condition.level);
        standing.add(redundancy, 6, 1000, 0);
        assert_eq!(level(&standing), None);
        for (healthy, expected) in [(5, Level::Warning), (4, Level::Critical), (3, Level::Lost)] {
            standing.add(redundancy, healthy, 1, 1);
            assert_eq!(level(&standing), Some(expected));
        }
        let cause = availability(&standing).expect("something is wrong").cause;
        assert_eq!(cause, Cause::Availability { short: 1, endangered: 1, lost: 1, doubtful: 3 });
    }

    #[test]
    fn what_two_found_in_the_same_groups_counts_once_and_what_nobody_found_is_unknown() {
        let first = |number: u64| Led { age_s: number, first: standing(8192, 6, number), stand_ins: vec![] };
        let (one, mut other) = (first(3), first(4));
        other.stand_ins = vec![(node(1), standing(100, 4, 7))];
        let both = mesh([(node(1), &one), (node(2), &other)]);
        assert_eq!((both.unknown_groups, both.doubled_groups, both.age_s), (0, 0, 4));
        assert_eq!(
            outline(&both.standing).by_level.len(),
            0,
            "the first holder itself has told of its groups"
        );
        let alone = mesh([(node(2), &other)]);
        assert_eq!(alone.unknown_groups, 16_384 - 8192 - 100);
        assert_eq!(outline(&alone.standing).by_level[&Level::Critical], 7);
        let twice = mesh([(node(1), &one), (node(2), &other), (node(3), &one)]);
        assert_eq!(twice.doubled_groups, 8192);
    }

    #[test]
    fn an_outline_tells_how_many_survive_what() {
        let mut all = standing(1, 6, 10);
        for (healthy, number) in [(5, 3), (4, 2), (3, 1)] {
            all.merge(&standing(1, healthy, number));
        }
        let outline = outline(&all);
        assert_eq!((outline.subject_count, outline.whole, outline.lost, outline.widest), (16, 10, 1, 6));
        assert_eq!(outline.by_spare.into_iter().collect::<Vec<_>>(), [(0, 2), (1, 3), (2, 10)]);
        assert!((outline.least_score - 0.375).abs() < f64::EPSILON);
    }
}
