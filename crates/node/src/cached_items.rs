//! The items of a cache node: its own, and those that it can make from its cache.

use std::sync::Arc;

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, OwnerId, PlacementGroup};
use datamesh_core::lease::{Lease, PutId, Release};
use datamesh_core::sign::Signed;
use datamesh_core::summary::{Part, PartId, Summary};
use datamesh_core::wire::{Description, StoredItem};
use datamesh_engine::world::{Group, HandedOver, Items, ItemsError, Usage};
use datamesh_store::cache::DiskCache;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::popular::Wishes;

/// Fetches from the items, else from the cache. What is cached is neither described nor leased: nobody may count on it.
pub(crate) struct CachedItems {
    pub(crate) items: Arc<dyn Items>,
    pub(crate) cache: DiskCache,
    pub(crate) wishes: Wishes,
}

impl Items for CachedItems {
    fn store(
        &self,
        item: StoredItem,
        lease: Signed<Lease>,
        bytes: Bytes,
    ) -> BoxFuture<'_, Result<Group, ItemsError>> {
        self.items.store(item, lease, bytes)
    }

    fn fetch(
        &self,
        item: ItemId,
        offset: u32,
        size: Option<u32>,
    ) -> BoxFuture<'_, Result<Option<Bytes>, ItemsError>> {
        async move {
            match self.items.fetch(item, offset, size).await {
                Ok(Some(bytes)) => Ok(Some(bytes)),
                missing => match self.cache.item(item, offset, size).await {
                    Some(bytes) => Ok(Some(bytes)),
                    None => missing,
                },
            }
        }
        .boxed()
    }

    fn fetch_checked(&self, item: ItemId) -> BoxFuture<'_, Result<Option<Bytes>, ItemsError>> {
        async move {
            match self.items.fetch_checked(item).await {
                Ok(Some(bytes)) => Ok(Some(bytes)),
                missing => {
                    let cached = self.cache.item(item, 0, None).await;
                    match cached.filter(|bytes| item.matches(bytes)) {
                        Some(bytes) => Ok(Some(bytes)),
                        None => missing,
                    }
                }
            }
        }
        .boxed()
    }

    fn has(&self, items: Vec<ItemId>) -> BoxFuture<'_, Result<Vec<bool>, ItemsError>> {
        async move {
            let held = self.items.has(items.clone()).await?;
            let cached = self.cache.has(items).await;
            Ok(held.into_iter().zip(cached).map(|(held, cached)| held || cached).collect())
        }
        .boxed()
    }

    fn describe(&self, part: PartId) -> BoxFuture<'_, Result<Option<Description>, ItemsError>> {
        async move {
            let described = self.items.describe(part).await;
            // Whoever asks a cache node for what it can't describe would have liked to get it there.
            if matches!(described, Ok(None)) && self.cache.has(vec![part.item]).await == [false] {
                self.wishes.note(part);
            }
            described
        }
        .boxed()
    }

    fn summarise(&self, groups: Vec<PlacementGroup>) -> BoxFuture<'_, Result<Vec<Summary>, ItemsError>> {
        self.items.summarise(groups)
    }

    fn parts(
        &self,
        group: PlacementGroup,
        after: Option<PartId>,
        count_max: usize,
    ) -> BoxFuture<'_, Result<Vec<Part>, ItemsError>> {
        self.items.parts(group, after, count_max)
    }

    fn releases(&self, puts: Vec<PutId>) -> BoxFuture<'_, Result<Vec<Signed<Release>>, ItemsError>> {
        self.items.releases(puts)
    }

    fn blocks(&self, put: PutId, count_max: usize) -> BoxFuture<'_, Result<Vec<BlockId>, ItemsError>> {
        self.items.blocks(put, count_max)
    }

    fn discard(&self, parts: Vec<HandedOver>) -> BoxFuture<'_, Result<u64, ItemsError>> {
        self.items.discard(parts)
    }

    fn lease(&self, item: ItemId, lease: Signed<Lease>) -> BoxFuture<'_, Result<bool, ItemsError>> {
        self.items.lease(item, lease)
    }

    fn release(&self, release: Signed<Release>) -> BoxFuture<'_, Result<u64, ItemsError>> {
        self.items.release(release)
    }

    fn kept_for(&self, owner: &OwnerId) -> u64 {
        self.items.kept_for(owner)
    }

    fn usage(&self) -> Usage {
        self.items.usage()
    }
}
