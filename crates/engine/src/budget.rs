//! The memory budget: the engine's only queue.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counted in kibibytes, so that the count of a large budget fits the semaphore everywhere.
const UNIT: usize = 1024;

/// Bytes that may be in memory at once; whoever wants more waits. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    units: Arc<Semaphore>,
    unit_count: u32,
}

/// A share of a budget, given back when dropped.
#[derive(Debug)]
pub struct Share {
    _permit: OwnedSemaphorePermit,
}

impl MemoryBudget {
    /// A budget of this many bytes, rounded up to a kibibyte.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let unit_count = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1);
        let units = usize::try_from(unit_count).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)), unit_count }
    }

    /// Waits until this many bytes are free and takes them; all there are, where more are asked for.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    ///
    /// # Cancel safety
    /// Takes nothing when dropped; the place in the queue is lost.
    pub async fn take(&self, bytes: usize) -> Share {
        let wanted = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.unit_count);
        let permit = Arc::clone(&self.units).acquire_many_owned(wanted).await;
        Share { _permit: permit.expect("nobody closes the semaphore") }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::MemoryBudget;

    #[test]
    fn what_does_not_fit_waits_until_a_share_is_given_back() {
        let budget = MemoryBudget::new(10 * 1024);
        let first = budget.take(6 * 1024).now_or_never().expect("it is free");
        assert!(budget.take(6 * 1024).now_or_never().is_none());
        drop(first);
        assert!(budget.take(6 * 1024).now_or_never().is_some());
    }

    #[test]
    fn more_than_all_is_all() {
        let budget = MemoryBudget::new(1024);
        assert!(budget.take(usize::MAX).now_or_never().is_some());
    }
}
