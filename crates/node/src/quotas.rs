//! Quotas: how many bytes a node keeps for one owner at most, what is on its way counted with what is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datamesh_core::id::OwnerId;
use datamesh_core::wire::Refusal;

/// What owners may have on this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Quotas {
    quota: u64,
    under_way: Arc<Mutex<BTreeMap<OwnerId, u64>>>,
}

/// Room in an owner's quota, until this is dropped: by then what it was for is counted where it is kept.
#[derive(Debug)]
pub(crate) struct Reserved {
    quotas: Quotas,
    owner: OwnerId,
    size: u64,
}

impl Quotas {
    /// So many bytes for each owner.
    #[must_use]
    pub fn new(quota: u64) -> Self {
        Self { quota, under_way: Arc::default() }
    }

    /// Room for so many more bytes of an owner, for whom `kept` tells what is there.
    pub(crate) fn reserve(
        &self,
        owner: OwnerId,
        size: u64,
        kept: impl FnOnce() -> u64,
    ) -> Result<Reserved, Refusal> {
        let mut under_way = self.under_way();
        let coming = under_way.get(&owner).copied().unwrap_or_default();
        // Asked for with the lock held: what was under way is counted there before it is no more counted here.
        let used = kept().saturating_add(coming);
        if used.saturating_add(size) > self.quota {
            return Err(Refusal::OverQuota { used, quota: self.quota });
        }
        under_way.insert(owner, coming + size);
        Ok(Reserved { quotas: self.clone(), owner, size })
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<OwnerId, u64>> {
        // Nothing that holds the lock can leave the map half changed.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut under_way = self.quotas.under_way();
        let left = under_way.get(&self.owner).map_or(0, |coming| coming.saturating_sub(self.size));
        if left == 0 {
            under_way.remove(&self.owner);
        } else {
            under_way.insert(self.owner, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use datamesh_core::id::OwnerId;
    use datamesh_core::wire::Refusal;

    use super::Quotas;

    #[test]
    fn what_is_on_its_way_counts_and_each_owner_for_itself() {
        let (one, other) = (OwnerId::from_bytes([1; 32]), OwnerId::from_bytes([2; 32]));
        let quotas = Quotas::new(100);
        let first = quotas.reserve(one, 60, || 10).expect("70 of 100");
        let refused = quotas.reserve(one, 40, || 10).expect_err("110 of 100");
        assert_eq!(refused, Refusal::OverQuota { used: 70, quota: 100 });
        let full = quotas.reserve(other, 100, || 0).expect("its own");
        let exact = quotas.reserve(one, 30, || 10).expect("100 of 100");
        drop((first, exact, full));
        assert!(quotas.under_way().is_empty());
        assert!(quotas.reserve(one, 90, || 10).is_ok() && quotas.reserve(one, 91, || 10).is_err());
    }
}
