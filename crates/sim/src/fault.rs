//! The schedule of faults a seed implies.

use std::collections::BTreeMap;
use std::time::Duration;

use datamesh_core::id::NodeId;

use crate::draw::Draws;

/// What is wrong with a node. A node can have several faults at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It can't be reached.
    Down,
    /// It takes requests and never answers.
    Stalled,
    /// It answers this much later.
    Slow(Duration),
    /// One bit of every payload that it sends is wrong.
    Lying,
    /// It says that it holds whatever it is asked about.
    Boasting,
    /// It takes no items.
    Full,
    /// It takes this many further calls and goes down with the next, and with it what it has not answered by then.
    DiesAfter(u64),
}

/// A change in a node's faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When, from the start of the schedule.
    pub at: Duration,
    /// Which node.
    pub node: NodeId,
    /// All that is wrong with it from then on.
    pub faults: Vec<Fault>,
}

/// What a schedule is drawn from.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The nodes that may have faults.
    pub nodes: Vec<NodeId>,
    /// How many of them have one at any time, at most.
    pub faulty_max: usize,
    /// Which faults they may have.
    pub faults: Vec<Fault>,
    /// The longest time between two changes.
    pub pause_max: Duration,
    /// How many changes there are.
    pub change_count: usize,
}

/// Faults that come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    changes: Vec<Change>,
}

impl Schedule {
    /// The schedule that a seed implies under a plan.
    ///
    /// # Panics
    /// If the plan has no nodes or no faults, or allows no node to be faulty.
    #[must_use]
    pub fn draw(seed: u64, plan: &Plan) -> Self {
        assert!(
            !plan.nodes.is_empty() && !plan.faults.is_empty() && plan.faulty_max > 0,
            "a plan of nothing"
        );
        let mut draws = Draws::new(seed, "fault schedule");
        let mut faulty: BTreeMap<NodeId, Fault> = BTreeMap::new();
        let mut at = Duration::ZERO;
        let mut changes = Vec::with_capacity(plan.change_count);
        for _ in 0..plan.change_count {
            at += draws.duration(Duration::ZERO, plan.pause_max);
            let recovers = faulty.len() >= plan.faulty_max.min(plan.nodes.len())
                || (!faulty.is_empty() && draws.happens(50));
            let change = if recovers {
                let node = *choose(&mut draws, &faulty.keys().copied().collect::<Vec<_>>());
                faulty.remove(&node);
                Change { at, node, faults: vec![] }
            } else {
                let healthy: Vec<_> = plan.nodes.iter().filter(|node| !faulty.contains_key(node)).collect();
                let (node, fault) = (**choose(&mut draws, &healthy), *choose(&mut draws, &plan.faults));
                faulty.insert(node, fault);
                Change { at, node, faults: vec![fault] }
            };
            changes.push(change);
        }
        Self { changes }
    }

    /// The changes, in the order of time.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

fn choose<'a, T>(draws: &mut Draws, among: &'a [T]) -> &'a T {
    let count = u64::try_from(among.len()).expect("lists are shorter than 2^64");
    &among[usize::try_from(draws.below(count)).expect("below the length of a list")]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use datamesh_core::id::NodeId;

    use super::{Fault, Plan, Schedule};

    #[test]
    fn a_schedule_keeps_to_its_plan_and_its_seed() {
        let plan = Plan {
            nodes: (0..6).map(|number| NodeId::from_bytes([number; 32])).collect(),
            faulty_max: 2,
            faults: vec![Fault::Down, Fault::Lying],
            pause_max: Duration::from_secs(1),
            change_count: 100,
        };
        let schedule = Schedule::draw(7, &plan);
        assert_eq!(schedule, Schedule::draw(7, &plan));
        assert_ne!(schedule, Schedule::draw(8, &plan));
        let mut faulty = BTreeSet::new();
        let mut most = 0;
        for change in schedule.changes() {
            let changed = if change.faults.is_empty() {
                faulty.remove(&change.node)
            } else {
                faulty.insert(change.node)
            };
            assert!(changed, "a change changes something");
            most = most.max(faulty.len());
        }
        assert_eq!(most, 2);
        assert!(schedule.changes().is_sorted_by_key(|change| change.at));
    }
}
