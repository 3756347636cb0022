//! A budget of bytes: what is under way is reserved first, so that memory stays bounded whatever peers send.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that may be under way at the same time.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    bytes: Arc<Semaphore>,
    size: u32,
}

/// Bytes taken out of a budget until this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    _bytes: OwnedSemaphorePermit,
}

impl Budget {
    pub(crate) fn new(size: usize) -> Self {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let permits = usize::try_from(size).expect("32 bits fit").min(Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(permits)), size }
    }

    /// Waits until so many bytes are free. More than there are at all counts as all of them.
    pub(crate) async fn reserve(&self, size: usize) -> Reservation {
        let size = u32::try_from(size).unwrap_or(u32::MAX).min(self.size);
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(size).await;
        Reservation { _bytes: bytes.expect("the budget is never closed") }
    }

    pub(crate) fn free(&self) -> usize {
        self.bytes.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::Budget;

    #[tokio::test]
    async fn what_is_not_free_is_waited_for() {
        let budget = Budget::new(10);
        let first = budget.reserve(6).await;
        assert!(budget.reserve(5).now_or_never().is_none(), "4 are free");
        assert_eq!(budget.free(), 4);
        drop(first);
        assert!(budget.reserve(5).now_or_never().is_some());
        assert!(budget.reserve(11).now_or_never().is_some(), "never more than there are");
    }
}
