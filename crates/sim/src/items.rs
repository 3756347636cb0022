//! A node's items in memory, which can rot and be lost on purpose.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, OwnerId, PlacementGroup};
use datamesh_core::lease::{Lease, PutId, Release, Subject};
use datamesh_core::limits::ITEM_LEASES_MAX;
use datamesh_core::sign::Signed;
use datamesh_core::summary::{Part, PartId, Summary};
use datamesh_core::wire::{Description, StoredItem};
use datamesh_engine::world::{Group, HandedOver, Items, ItemsError, Usage};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

/// Items in memory. An item is dropped with its last lease.
#[derive(Debug)]
pub struct MemoryItems {
    capacity: u64,
    forgetful: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    items: BTreeMap<ItemId, Held>,
    released: BTreeMap<PutId, Signed<Release>>,
}

#[derive(Debug)]
struct Held {
    bytes: Bytes,
    /// What it is kept as: a shard may be of several stripes.
    parts: BTreeMap<Subject, (StoredItem, Leases)>,
}

type Leases = BTreeMap<PutId, Signed<Lease>>;

impl MemoryItems {
    /// An empty store that takes this many bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self { capacity, forgetful: AtomicBool::new(false), state: Mutex::default() }
    }

    /// From now on answers that what is held is kept under one more lease, and forgets the lease: so that a test can show what
    /// keeping it is for.
    pub fn forget_later_leases(&self) {
        self.forgetful.store(true, Ordering::Relaxed);
    }

    /// The ids of all items held.
    #[must_use]
    pub fn ids(&self) -> Vec<ItemId> {
        self.state().items.keys().copied().collect()
    }

    /// All that is held, as parts of stripes and replicas of blocks.
    #[must_use]
    pub fn all_parts(&self) -> Vec<Part> {
        let state = self.state();
        let stored = state.items.values().flat_map(|held| held.parts.values());
        stored.filter_map(|(item, _)| item.part()).collect()
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
        let subject = item.subject();
        let put = lease.unverified().put();
        if !self.items.contains_key(&id) {
            if self.used() + size_of_bytes(&bytes) > capacity {
                return Err(ItemsError::Full);
            }
            self.items.insert(id, Held { bytes, parts: BTreeMap::new() });
        }
        let held = self.items.get_mut(&id).expect("it is held now");
        held.parts.insert(subject, (item, BTreeMap::from([(put, lease)])));
        Ok(())
    }

    /// Says whether the item is held as a part of the lease's stripe, and so has the lease now.
    fn add_lease(&mut self, item: ItemId, lease: &Signed<Lease>) -> Result<bool, ItemsError> {
        let put = lease.unverified().put();
        if self.released.contains_key(&put) {
            return Err(ItemsError::Released);
        }
        let Some(held) = self.items.get_mut(&item) else {
            return Ok(false);
        };
        let lease_count: usize = held.parts.values().map(|(_, leases)| leases.len()).sum();
        let Some((_, leases)) = held.parts.get_mut(&lease.unverified().subject) else {
            return Ok(false);
        };
        if lease_count >= ITEM_LEASES_MAX && !leases.contains_key(&put) {
            return Err(ItemsError::TooManyLeases);
        }
        leases.insert(put, lease.clone());
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

    fn describe(&self, part: PartId) -> Option<Description> {
        let held = self.items.get(&part.item)?;
        let (item, leases) = held.parts.get(&part.subject)?;
        let size = u32::try_from(held.bytes.len()).expect("items are far below 4 GiB");
        let leases = leases.values().cloned().collect();
        Some(Description { item: item.clone(), size, leases })
    }

    fn release(&mut self, release: Signed<Release>) -> u64 {
        let put = release.unverified().put();
        self.released.insert(put, release);
        let mut ended = 0;
        for held in self.items.values_mut() {
            held.parts.retain(|_, (_, leases)| {
                ended += u64::from(leases.remove(&put).is_some());
                !leases.is_empty()
            });
        }
        self.items.retain(|_, held| !held.parts.is_empty());
        ended
    }

    /// The parts of a group, in their order.
    fn parts(&self, group: PlacementGroup) -> BTreeMap<PartId, Part> {
        let stored = self.items.values().flat_map(|held| held.parts.values());
        let parts = stored.filter_map(|(item, _)| item.part());
        parts.filter(|part| part.subject.group() == group).map(|part| (part.id(), part)).collect()
    }

    /// The summary of every group of which something is held.
    fn summaries(&self) -> BTreeMap<PlacementGroup, Summary> {
        let stored = self.items.values().flat_map(|held| held.parts.values());
        let parts: BTreeMap<PartId, Part> =
            stored.filter_map(|(item, _)| item.part()).map(|part| (part.id(), part)).collect();
        let mut summaries = BTreeMap::new();
        let mut last = None;
        for part in parts.values() {
            let group = part.subject.group();
            let summary = summaries.entry(group).or_insert_with(|| Summary::empty(group));
            summary.add(part, last.replace(part.subject) != Some(part.subject));
        }
        summaries.values_mut().for_each(Summary::shorten);
        summaries
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

    fn describe(&self, part: PartId) -> BoxFuture<'_, Result<Option<Description>, ItemsError>> {
        ready(Ok(self.state().describe(part))).boxed()
    }

    fn summarise(&self, groups: Vec<PlacementGroup>) -> BoxFuture<'_, Result<Vec<Summary>, ItemsError>> {
        let known = self.state().summaries();
        let summary = |group| known.get(&group).cloned().unwrap_or_else(|| Summary::empty(group));
        ready(Ok(groups.into_iter().map(summary).collect())).boxed()
    }

    fn parts(
        &self,
        group: PlacementGroup,
        after: Option<PartId>,
        count_max: usize,
    ) -> BoxFuture<'_, Result<Vec<Part>, ItemsError>> {
        let parts = self.state().parts(group);
        let behind = parts.into_iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
        ready(Ok(behind.map(|(_, part)| part).take(count_max).collect())).boxed()
    }

    fn releases(&self, puts: Vec<PutId>) -> BoxFuture<'_, Result<Vec<Signed<Release>>, ItemsError>> {
        let state = self.state();
        ready(Ok(puts.iter().filter_map(|put| state.released.get(put)).cloned().collect())).boxed()
    }

    fn blocks(&self, put: PutId, count_max: usize) -> BoxFuture<'_, Result<Vec<BlockId>, ItemsError>> {
        let state = self.state();
        let kept = state.items.iter().filter_map(|(item, held)| match item {
            ItemId::Block(block) if held.parts.values().any(|(_, leases)| leases.contains_key(&put)) => {
                Some(*block)
            }
            _ => None,
        });
        ready(Ok(kept.take(count_max).collect())).boxed()
    }

    fn discard(&self, parts: Vec<HandedOver>) -> BoxFuture<'_, Result<u64, ItemsError>> {
        let mut state = self.state();
        let discarded = parts.into_iter().filter(|HandedOver { part, leases }| {
            let only = |held: &Held| {
                let known = held
                    .parts
                    .get(&part.subject)
                    .is_some_and(|(_, kept)| kept.values().all(|lease| leases.contains(lease)));
                held.parts.len() == 1 && known
            };
            state.items.get(&part.item).is_some_and(only) && state.items.remove(&part.item).is_some()
        });
        let count = discarded.count();
        ready(Ok(u64::try_from(count).expect("counts fit 64 bits"))).boxed()
    }

    fn lease(&self, item: ItemId, lease: Signed<Lease>) -> BoxFuture<'_, Result<bool, ItemsError>> {
        let mut state = self.state();
        if self.forgetful.load(Ordering::Relaxed) {
            return ready(Ok(state.items.contains_key(&item))).boxed();
        }
        let leased = if state.items.contains_key(&item) { state.add_lease(item, &lease) } else { Ok(false) };
        ready(leased).boxed()
    }

    fn release(&self, release: Signed<Release>) -> BoxFuture<'_, Result<u64, ItemsError>> {
        ready(Ok(self.state().release(release))).boxed()
    }

    fn kept_for(&self, owner: &OwnerId) -> u64 {
        let owned = |held: &&Held| {
            held.parts.values().any(|(_, leases)| leases.keys().any(|put| put.owner == *owner))
        };
        self.state().items.values().filter(owned).map(|held| size_of_bytes(&held.bytes)).sum()
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
