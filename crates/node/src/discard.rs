//! Items whose shards are acknowledged and thrown away: for measuring puts that no disk could hold, never for data.

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, OwnerId, PlacementGroup};
use datamesh_core::lease::{Lease, PutId, Release};
use datamesh_core::sign::Signed;
use datamesh_core::summary::{Part, PartId, Summary};
use datamesh_core::wire::{Description, StoredItem};
use datamesh_engine::world::{Group, HandedOver, Items, ItemsError, Usage};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

/// What a node keeps of what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// Everything.
    Everything,
    /// Manifest blocks alone: what is put to such a node is lost.
    BlocksForBenchmark,
}

/// Keeps manifest blocks where the items behind it keep them, and nothing of a shard.
pub(crate) struct Discarding<I>(pub(crate) I);

impl<I: Items> Items for Discarding<I> {
    fn store(
        &self,
        item: StoredItem,
        lease: Signed<Lease>,
        bytes: Bytes,
    ) -> BoxFuture<'_, Result<Group, ItemsError>> {
        match item {
            StoredItem::Shard { .. } => {
                let kept = item.kept(&bytes).map(|kept| (lease.unverified().put(), kept));
                ready(Ok(Group::new(kept.into_iter().collect()))).boxed()
            }
            StoredItem::Block { .. } => self.0.store(item, lease, bytes),
        }
    }

    fn fetch(
        &self,
        item: ItemId,
        offset: u32,
        size: Option<u32>,
    ) -> BoxFuture<'_, Result<Option<Bytes>, ItemsError>> {
        self.0.fetch(item, offset, size)
    }

    fn fetch_checked(&self, item: ItemId) -> BoxFuture<'_, Result<Option<Bytes>, ItemsError>> {
        self.0.fetch_checked(item)
    }

    fn has(&self, items: Vec<ItemId>) -> BoxFuture<'_, Result<Vec<bool>, ItemsError>> {
        self.0.has(items)
    }

    fn describe(&self, part: PartId) -> BoxFuture<'_, Result<Option<Description>, ItemsError>> {
        self.0.describe(part)
    }

    fn summarise(&self, groups: Vec<PlacementGroup>) -> BoxFuture<'_, Result<Vec<Summary>, ItemsError>> {
        self.0.summarise(groups)
    }

    fn parts(
        &self,
        group: PlacementGroup,
        after: Option<PartId>,
        count_max: usize,
    ) -> BoxFuture<'_, Result<Vec<Part>, ItemsError>> {
        self.0.parts(group, after, count_max)
    }

    fn releases(&self, puts: Vec<PutId>) -> BoxFuture<'_, Result<Vec<Signed<Release>>, ItemsError>> {
        self.0.releases(puts)
    }

    fn blocks(&self, put: PutId, count_max: usize) -> BoxFuture<'_, Result<Vec<BlockId>, ItemsError>> {
        self.0.blocks(put, count_max)
    }

    fn discard(&self, parts: Vec<HandedOver>) -> BoxFuture<'_, Result<u64, ItemsError>> {
        self.0.discard(parts)
    }

    fn lease(&self, item: ItemId, lease: Signed<Lease>) -> BoxFuture<'_, Result<bool, ItemsError>> {
        self.0.lease(item, lease)
    }

    fn release(&self, release: Signed<Release>) -> BoxFuture<'_, Result<u64, ItemsError>> {
        self.0.release(release)
    }

    fn kept_for(&self, owner: &OwnerId) -> u64 {
        self.0.kept_for(owner)
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }
}
