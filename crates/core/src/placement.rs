//! The placement: which node holds each shard of a stripe.

use crate::id::NodeId;

/// Who holds each shard of a stripe, by shard index; `None` where nobody was found to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    holders: Vec<Option<NodeId>>,
}

impl Placement {
    /// A stripe of this many shards that nobody holds.
    #[must_use]
    pub fn empty(shard_count: usize) -> Self {
        Self { holders: vec![None; shard_count] }
    }

    /// Records that a node holds a shard.
    ///
    /// # Panics
    /// If the stripe has no such shard.
    pub fn hold(&mut self, shard_index: usize, node: NodeId) {
        self.holders[shard_index] = Some(node);
    }

    /// The holders, by shard index.
    #[must_use]
    pub fn holders(&self) -> &[Option<NodeId>] {
        &self.holders
    }

    /// Shards that somebody holds.
    #[must_use]
    pub fn healthy_count(&self) -> usize {
        self.holders.iter().flatten().count()
    }

    /// The indices of the shards that nobody holds.
    pub fn missing(&self) -> impl Iterator<Item = usize> + '_ {
        self.holders.iter().enumerate().filter(|(_, holder)| holder.is_none()).map(|(index, _)| index)
    }
}
