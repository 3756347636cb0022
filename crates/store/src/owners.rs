//! What is kept for each owner: counted in memory, from the index when the store is opened and from each change of it since.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use datamesh_core::id::OwnerId;

use crate::index::rows::OwnerKey;

/// Bytes of the items that each owner's leases keep.
#[derive(Debug, Default)]
pub(crate) struct Owners(Mutex<BTreeMap<OwnerKey, u64>>);

impl Owners {
    /// Begins anew with what the index says.
    pub(crate) fn set(&self, kept: BTreeMap<OwnerKey, u64>) {
        *self.kept() = kept;
    }

    /// Enters what a change of the index, which is durable, has done.
    pub(crate) fn change(&self, changes: &BTreeMap<OwnerKey, i64>) {
        let mut kept = self.kept();
        for (owner, change) in changes {
            let size = kept.entry(*owner).or_default();
            *size = size.saturating_add_signed(*change);
            if *size == 0 {
                kept.remove(owner);
            }
        }
    }

    pub(crate) fn kept_for(&self, owner: &OwnerId) -> u64 {
        self.kept().get(owner.as_bytes()).copied().unwrap_or_default()
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<OwnerKey, u64>> {
        // Nothing that holds the lock can leave the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
