//! Adds up how the groups stand that a node leads, those of silent first holders apart.

use std::collections::BTreeMap;

use datamesh_core::health::Standing;
use datamesh_core::id::NodeId;

use super::Seen;

/// How the groups stand that were looked at so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    first: Standing,
    stand_ins: BTreeMap<NodeId, Standing>,
}

impl Tally {
    /// Adds a group: one of the node's own, or one that it leads in the stead of this first holder.
    pub(super) fn add(&mut self, stands_in_for: Option<NodeId>, standing: &Standing) {
        let sum = match stands_in_for {
            None => &mut self.first,
            Some(first) => self.stand_ins.entry(first).or_default(),
        };
        sum.merge(standing);
    }

    pub(super) fn seen(self) -> Seen {
        Seen::Groups { first: self.first, stand_ins: self.stand_ins }
    }
}
