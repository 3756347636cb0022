//! Quotas: how many bytes a node keeps for one owner at most, what is on its way counted with what is there.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datamesh_core::id::OwnerId;
use datamesh_core::wire::Refusal;
use tokio::sync::Notify;

/// What owners may have on this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Quotas {
    quota: u64,
    under_way: Arc<Mutex<BTreeMap<OwnerId, u64>>>,
    /// Something is under way no more.
    arrived: Arc<Notify>,
}

/// Room in an owner's quota, until this is dropped: by then what it was for is counted where it is kept.
#[derive(Debug)]
#[must_use]
pub(crate) struct Reserved {
    quotas: Quotas,
    owner: OwnerId,
    size: u64,
}

impl Quotas {
    /// So many bytes for each owner.
    #[must_use]
    pub fn new(quota: u64) -> Self {
        Self { quota, under_way: Arc::default(), arrived: Arc::default() }
    }

    /// Room for so many more bytes of an owner, for whom `kept` tells what is there.
    ///
    /// For a moment what has just arrived counts twice, as kept and as on its way. So what has room only without that waits
    /// until it is known.
    ///
    /// # Errors
    /// [`Refusal::OverQuota`] when what is kept leaves too little room.
    ///
    /// # Cancel safety
    /// Nothing is reserved when dropped.
    pub(crate) async fn reserve(
        &self,
        owner: OwnerId,
        size: u64,
        kept: impl Fn() -> u64,
    ) -> Result<Reserved, Refusal> {
        loop {
            let mut arrived = pin!(self.arrived.notified());
            arrived.as_mut().enable();
            if let Some(reserved) = self.try_reserve(owner, size, &kept)? {
                return Ok(reserved);
            }
            arrived.await;
        }
    }

    /// `None` while only what is on its way, or has just arrived, leaves too little room.
    fn try_reserve(
        &self,
        owner: OwnerId,
        size: u64,
        kept: impl Fn() -> u64,
    ) -> Result<Option<Reserved>, Refusal> {
        let mut under_way = self.under_way();
        let coming = under_way.get(&owner).copied().unwrap_or_default();
        // Asked for with the lock held: what was under way is counted there before it is no more counted here.
        let used = kept();
        if used.saturating_add(size) > self.quota {
            return Err(Refusal::OverQuota { used, quota: self.quota });
        }
        if used.saturating_add(coming).saturating_add(size) > self.quota {
            return Ok(None);
        }
        under_way.insert(owner, coming + size);
        Ok(Some(Reserved { quotas: self.clone(), owner, size }))
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
        drop(under_way);
        self.quotas.arrived.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;

    use datamesh_core::id::OwnerId;
    use datamesh_core::wire::Refusal;
    use futures::poll;

    use super::Quotas;

    #[tokio::test]
    async fn what_is_on_its_way_counts_and_each_owner_for_itself() {
        let (one, other) = (OwnerId::from_bytes([1; 32]), OwnerId::from_bytes([2; 32]));
        let quotas = Quotas::new(100);
        let first = quotas.reserve(one, 60, || 10).await.expect("70 of 100");
        let full = quotas.reserve(other, 100, || 0).await.expect("its own");
        let exact = quotas.reserve(one, 30, || 10).await.expect("100 of 100");
        assert!(quotas.try_reserve(one, 1, || 10).expect("it may have room").is_none());
        let refused =
            quotas.reserve(one, 91, || 10).await.expect_err("101 of 100 even without what is coming");
        assert_eq!(refused, Refusal::OverQuota { used: 10, quota: 100 });
        drop((first, exact, full));
        assert!(quotas.under_way().is_empty());
        assert!(quotas.reserve(one, 90, || 10).await.is_ok());
    }

    #[tokio::test]
    async fn what_has_just_arrived_does_not_count_twice() {
        let (owner, quotas, kept) = (OwnerId::from_bytes([1; 32]), Quotas::new(100), AtomicU64::new(0));
        let first = quotas.reserve(owner, 60, || 0).await.expect("60 of 100");
        // It is kept and still said to be on its way.
        kept.store(60, Relaxed);
        let mut second = pin!(quotas.reserve(owner, 40, || kept.load(Relaxed)));
        assert!(poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.is_ok());
    }
}
