//! What a node notices of its own disk while it works: what is refused, what has rotted, and how long writes take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, OwnerId, PlacementGroup};
use datamesh_core::lease::{Lease, PutId, Release};
use datamesh_core::sign::Signed;
use datamesh_core::summary::{Part, PartId, Summary};
use datamesh_core::wire::{Description, StoredItem};
use datamesh_engine::world::{Clock, Group, HandedOver, Items, ItemsError, Usage};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::metrics::{Samples, Source, Value, definition as metric};

/// Counts of what was noticed since the node started.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    writes: AtomicU64,
    write_micros: AtomicU64,
    errors: AtomicU64,
    rotten: AtomicU64,
}

/// The counts at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct VitalsView {
    /// Items that were written and synced.
    pub(crate) writes: u64,
    /// Microseconds that those took, all together.
    pub(crate) write_micros: u64,
    /// Reads, writes and syncs that the disk refused.
    pub(crate) errors: u64,
    /// Items that were found rotten.
    pub(crate) rotten: u64,
}

impl Vitals {
    /// The counts by now.
    #[must_use]
    pub(crate) fn view(&self) -> VitalsView {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        VitalsView {
            writes: load(&self.writes),
            write_micros: load(&self.write_micros),
            errors: load(&self.errors),
            rotten: load(&self.rotten),
        }
    }

    /// Takes note of items that a look at the whole disk found rotten, or that the disk did not give.
    pub(crate) fn note_scrub(&self, rotten: u64, unreadable: u64) {
        self.rotten.fetch_add(rotten, Ordering::Relaxed);
        self.errors.fetch_add(unreadable, Ordering::Relaxed);
    }

    fn note<T>(&self, outcome: Result<T, ItemsError>) -> Result<T, ItemsError> {
        let counter = match &outcome {
            Err(ItemsError::Disk(_)) => &self.errors,
            Err(ItemsError::Rotten(_)) => &self.rotten,
            _ => return outcome,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }
}

impl Source for Vitals {
    fn collect(&self, samples: &mut Samples) {
        let VitalsView { writes, write_micros, errors, rotten } = self.view();
        let seconds = Value::Integer(write_micros).as_real() / 1e6;
        samples.put(&metric::DISK_WRITES, &[], Value::Integer(writes));
        samples.put(&metric::DISK_WRITE_SECONDS, &[], Value::Real(seconds));
        samples.put(&metric::DISK_ERRORS, &[], Value::Integer(errors));
        samples.put(&metric::DISK_ROTTEN, &[], Value::Integer(rotten));
    }
}

/// Items whose disk is watched.
pub(crate) struct WatchedItems {
    /// Where they are.
    pub(crate) items: Arc<dyn Items>,
    /// What is noticed.
    pub(crate) vitals: Arc<Vitals>,
    /// What writes are timed by.
    pub(crate) clock: Arc<dyn Clock>,
}

impl WatchedItems {
    fn noting<'a, T>(
        &'a self,
        work: BoxFuture<'a, Result<T, ItemsError>>,
    ) -> BoxFuture<'a, Result<T, ItemsError>>
    where
        T: Send + 'a,
    {
        async move { self.vitals.note(work.await) }.boxed()
    }
}

impl Items for WatchedItems {
    fn store(
        &self,
        item: StoredItem,
        lease: Signed<Lease>,
        bytes: Bytes,
    ) -> BoxFuture<'_, Result<Group, ItemsError>> {
        async move {
            let begun = self.clock.elapsed();
            let stored = self.vitals.note(self.items.store(item, lease, bytes).await);
            if stored.is_ok() {
                let took = self.clock.elapsed().saturating_sub(begun).as_micros();
                self.vitals.writes.fetch_add(1, Ordering::Relaxed);
                self.vitals
                    .write_micros
                    .fetch_add(u64::try_from(took).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
            stored
        }
        .boxed()
    }

    fn fetch(
        &self,
        item: ItemId,
        offset: u32,
        size: Option<u32>,
    ) -> BoxFuture<'_, Result<Option<Bytes>, ItemsError>> {
        self.noting(self.items.fetch(item, offset, size))
    }

    fn fetch_checked(&self, item: ItemId) -> BoxFuture<'_, Result<Option<Bytes>, ItemsError>> {
        self.noting(self.items.fetch_checked(item))
    }

    fn has(&self, items: Vec<ItemId>) -> BoxFuture<'_, Result<Vec<bool>, ItemsError>> {
        self.noting(self.items.has(items))
    }

    fn describe(&self, part: PartId) -> BoxFuture<'_, Result<Option<Description>, ItemsError>> {
        self.noting(self.items.describe(part))
    }

    fn summarise(&self, groups: Vec<PlacementGroup>) -> BoxFuture<'_, Result<Vec<Summary>, ItemsError>> {
        self.noting(self.items.summarise(groups))
    }

    fn parts(
        &self,
        group: PlacementGroup,
        after: Option<PartId>,
        count_max: usize,
    ) -> BoxFuture<'_, Result<Vec<Part>, ItemsError>> {
        self.noting(self.items.parts(group, after, count_max))
    }

    fn releases(&self, puts: Vec<PutId>) -> BoxFuture<'_, Result<Vec<Signed<Release>>, ItemsError>> {
        self.noting(self.items.releases(puts))
    }

    fn blocks(&self, put: PutId, count_max: usize) -> BoxFuture<'_, Result<Vec<BlockId>, ItemsError>> {
        self.noting(self.items.blocks(put, count_max))
    }

    fn discard(&self, parts: Vec<HandedOver>) -> BoxFuture<'_, Result<u64, ItemsError>> {
        self.noting(self.items.discard(parts))
    }

    fn lease(&self, item: ItemId, lease: Signed<Lease>) -> BoxFuture<'_, Result<bool, ItemsError>> {
        self.noting(self.items.lease(item, lease))
    }

    fn release(&self, release: Signed<Release>) -> BoxFuture<'_, Result<u64, ItemsError>> {
        self.noting(self.items.release(release))
    }

    fn kept_for(&self, owner: &OwnerId) -> u64 {
        self.items.kept_for(owner)
    }

    fn usage(&self) -> Usage {
        self.items.usage()
    }
}
