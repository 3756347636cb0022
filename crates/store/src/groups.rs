//! Summaries of placement groups, each kept until something of its group changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use datamesh_core::id::PlacementGroup;
use datamesh_core::summary::Summary;

/// The summaries that are known.
#[derive(Debug, Default)]
pub(crate) struct Groups(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    summaries: BTreeMap<PlacementGroup, Summary>,
    /// How often each group has changed, and all of them together.
    changes: BTreeMap<PlacementGroup, u64>,
    changes_of_all: u64,
}

/// How things stood when a summary was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    changes: u64,
    changes_of_all: u64,
}

impl Groups {
    /// The summary of a group; what to remember one with where there is none.
    pub(crate) fn find(&self, group: PlacementGroup) -> Result<Summary, Stamp> {
        let known = self.known();
        known.summaries.get(&group).cloned().ok_or_else(|| known.stamp(group))
    }

    /// Remembers a summary, unless the group has changed since the index was read for it.
    pub(crate) fn remember(&self, stamp: Stamp, summary: &Summary) {
        let mut known = self.known();
        if known.stamp(summary.group) == stamp {
            known.summaries.insert(summary.group, summary.clone());
        }
    }

    /// Forgets what has changed, once the index says so to whoever reads it.
    pub(crate) fn changed(&self, groups: &BTreeSet<PlacementGroup>) {
        let mut known = self.known();
        for group in groups {
            known.summaries.remove(group);
            *known.changes.entry(*group).or_default() += 1;
        }
    }

    /// Forgets everything: there is another index.
    pub(crate) fn clear(&self) {
        let mut known = self.known();
        known.summaries.clear();
        known.changes_of_all += 1;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn stamp(&self, group: PlacementGroup) -> Stamp {
        let changes = self.changes.get(&group).copied().unwrap_or_default();
        Stamp { changes, changes_of_all: self.changes_of_all }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use datamesh_core::id::PlacementGroup;
    use datamesh_core::summary::Summary;

    use super::Groups;

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let groups = Groups::default();
        let mut all = PlacementGroup::all();
        let (one, other) = (all.next().expect("a group"), all.next().expect("a group"));
        let stamp = groups.find(one).expect_err("nothing is known");
        groups.changed(&BTreeSet::from([other]));
        groups.remember(stamp, &Summary::empty(one));
        assert_eq!(groups.find(one), Ok(Summary::empty(one)));

        groups.changed(&BTreeSet::from([one]));
        let stamp = groups.find(one).expect_err("it has changed");
        groups.changed(&BTreeSet::from([one]));
        groups.remember(stamp, &Summary::empty(one));
        let stamp = groups.find(one).expect_err("it has changed meanwhile");
        groups.clear();
        groups.remember(stamp, &Summary::empty(one));
        assert!(groups.find(one).is_err());
    }
}
