//! A node's items in memory, which can rot and be lost on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use datamesh_core::id::ItemId;
use datamesh_core::lease::{Lease, PutId, Release};
use datamesh_core::limits::{ITEM_LEASES_MAX, WIRE_LEASES_MAX};
use datamesh_core::sign::Signed;
use datamesh_core::wire::{Description, StoredItem};
use datamesh_engine::world::{Group, Items, ItemsError, Usage};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

/// Items in memory. An item is dropped with its last lease.
#[derive(Debug)]
pub struct MemoryItems {
    capacity: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    items: BTreeMap<ItemId, Held>,
    released: BTreeSet<PutId>,
}

#[derive(Debug)]
struct Held {
    item: StoredItem,
    bytes: Bytes,
    leases: BTreeMap<PutId, Signed<Lease>>,
}

impl MemoryItems {
    /// An empty store that takes this many bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self { capacity, state: Mutex::default() }
    }

    /// The ids of all items held.
    #[must_use]
    pub fn ids(&self) -> Vec<ItemId> {
        self.state().items.keys().copied().collect()
    }

    /// Turns a bit of an item that is held, as a disk may. Says whether it is held.
    pub fn rot(&self, item: ItemId) -> bool {
        let mut state = self.state();
        let Some(held) = state.items.get_mut(&item) else {
            return false;
        };
        held.bytes = with_wrong_bit(&held.bytes);
        true
    }

    /// Drops an item without a trace. Says whether it was held.
    pub fn lose(&self, item: ItemId) -> bool {
        self.state().items.remove(&item).is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

impl State {
    fn used(&self) -> u64 {
        self.items.values().map(|held| size_of_bytes(&held.bytes)).sum()
    }

    fn store(
        &mut self,
        item: StoredItem,
        lease: Signed<Lease>,
        bytes: Bytes,
        capacity: u64,
    ) -> Result<(), ItemsError> {
        let id = item.id().expect("the caller has checked that the stripe has the shard");
        if self.add_lease(id, &lease)? {
            return Ok(());
        }
        if self.used() + size_of_bytes(&bytes) > capacity {
            return Err(ItemsError::Full);
        }
        let leases = BTreeMap::from([(lease.unverified().put(), lease)]);
        self.items.insert(id, Held { item, bytes, leases });
        Ok(())
    }

    /// Says whether the item is held, and so has the lease now.
    fn add_lease(&mut self, item: ItemId, lease: &Signed<Lease>) -> Result<bool, ItemsError> {
        let key = lease.unverified().put();
        if self.released.contains(&key) {
            return Err(ItemsError::Released);
        }
        let Some(held) = self.items.get_mut(&item) else {
            return Ok(false);
        };
        if held.leases.len() >= ITEM_LEASES_MAX && !held.leases.contains_key(&key) {
            return Err(ItemsError::TooManyLeases);
        }
        held.leases.insert(key, lease.clone());
        Ok(true)
    }

    fn fetch(&self, item: ItemId, offset: u32, size: Option<u32>) -> Option<Bytes> {
        let Held { bytes, .. } = self.items.get(&item)?;
        let widen = |number: u32| usize::try_from(number).expect("addresses have at least 32 bits");
        let begin = widen(offset).min(bytes.len());
        let end = size.map_or(bytes.len(), |size| begin.saturating_add(widen(size)).min(bytes.len()));
        Some(bytes.slice(begin..end))
    }

    fn fetch_checked(&self, item: ItemId) -> Result<Option<Bytes>, ItemsError> {
        match self.fetch(item, 0, None) {
            Some(bytes) if !item.matches(&bytes) => Err(ItemsError::Rotten(item)),
            whole => Ok(whole),
        }
    }

    fn describe(&self, item: ItemId) -> Option<Description> {
        let held = self.items.get(&item)?;
        let size = u32::try_from(held.bytes.len()).expect("items are far below 4 GiB");
        let leases = held.leases.values().take(WIRE_LEASES_MAX).cloned().collect();
        Some(Description { item: held.item.clone(), size, leases })
    }

    fn release(&mut self, release: &Release) -> u64 {
        let key = release.put();
        self.released.insert(key);
        let ended = self.items.values_mut().filter_map(|held| held.leases.remove(&key)).count();
        self.items.retain(|_, held| !held.leases.is_empty());
        u64::try_from(ended).expect("counts fit 64 bits")
    }
}

impl Items for MemoryItems {
    fn store(
        &self,
        item: StoredItem,
        lease: Signed<Lease>,
        bytes: Bytes,
    ) -> BoxFuture<'_, Result<Group, ItemsError>> {
        let kept = item.kept(&bytes).map(|kept| (lease.unverified().put(), kept));
        let stored = self.state().store(item, lease, bytes, self.capacity);
        ready(stored.map(|()| Group::new(kept.into_iter().collect()))).boxed()
    }

    fn fetch(
        &self,
        item: ItemId,
        offset: u32,
        size: Option<u32>,
    ) -> BoxFuture<'_, Result<Option<Bytes>, ItemsError>> {
        ready(Ok(self.state().fetch(item, offset, size))).boxed()
    }

    fn fetch_checked(&self, item: ItemId) -> BoxFuture<'_, Result<Option<Bytes>, ItemsError>> {
        ready(self.state().fetch_checked(item)).boxed()
    }

    fn has(&self, items: Vec<ItemId>) -> BoxFuture<'_, Result<Vec<bool>, ItemsError>> {
        let state = self.state();
        ready(Ok(items.iter().map(|item| state.items.contains_key(item)).collect())).boxed()
    }

    fn describe(&self, item: ItemId) -> BoxFuture<'_, Result<Option<Description>, ItemsError>> {
        ready(Ok(self.state().describe(item))).boxed()
    }

    fn lease(&self, item: ItemId, lease: Signed<Lease>) -> BoxFuture<'_, Result<bool, ItemsError>> {
        ready(self.state().add_lease(item, &lease)).boxed()
    }

    fn release(&self, release: Signed<Release>) -> BoxFuture<'_, Result<u64, ItemsError>> {
        ready(Ok(self.state().release(release.unverified()))).boxed()
    }

    fn usage(&self) -> Usage {
        let state = self.state();
        let used = state.used();
        let item_count = u64::try_from(state.items.len()).expect("counts fit 64 bits");
        Usage { capacity: self.capacity, used, item_count, full: used >= self.capacity }
    }
}

/// The same bytes but for one bit in the middle; nothing remains nothing.
pub(crate) fn with_wrong_bit(bytes: &Bytes) -> Bytes {
    let mut wrong = bytes.to_vec();
    let middle = wrong.len() / 2;
    if let Some(byte) = wrong.get_mut(middle) {
        *byte ^= 1;
    }
    wrong.into()
}

fn size_of_bytes(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).expect("sizes fit 64 bits")
}
