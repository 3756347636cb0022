//! What the store's tests make items, leases and stores of.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod bad_disk;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, OwnerId, ShardId};
use datamesh_core::lease::{Lease, LeaseTag, Release};
use datamesh_core::manifest::Stripe;
use datamesh_core::scheme::Redundancy;
use datamesh_core::sign::Signed;
use datamesh_core::summary::PartId;
use datamesh_core::time::Epoch;
use datamesh_core::wire::StoredItem;
use datamesh_engine::world::{Entropy, HandedOver, Items};
use datamesh_store::disk::Files;
use datamesh_store::{OpenError, Store, StoreSettings};
use ed25519_dalek::SigningKey;
use futures::executor::block_on;

/// No entropy at all: tests replay.
pub(crate) struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(42);
    }
}

pub(crate) fn open(directory: &Path) -> Result<Store, OpenError> {
    open_with(directory, settings())
}

pub(crate) fn open_with(directory: &Path, settings: StoreSettings) -> Result<Store, OpenError> {
    Store::open(directory, settings, Arc::new(Files), &Fixed)
}

pub(crate) fn settings() -> StoreSettings {
    StoreSettings::new(1 << 40)
}

/// A part, handed over with all leases that it has.
pub(crate) fn handed_over(store: &Store, part: PartId) -> HandedOver {
    let known = block_on(store.describe(part)).expect("readable");
    HandedOver { part, leases: known.map(|known| known.leases).unwrap_or_default() }
}

/// Bytes that no other seed gives.
pub(crate) fn bytes(seed: u64, size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// A manifest block of these bytes.
pub(crate) fn block(bytes: &[u8]) -> StoredItem {
    let redundancy = "1+2".parse().expect("a redundancy");
    StoredItem::Block { block: BlockId::of(bytes), redundancy }
}

/// The first shard of a stripe that no other seed gives.
pub(crate) fn shard(bytes: &[u8], seed: u64) -> StoredItem {
    let redundancy: Redundancy = "2+1".parse().expect("a redundancy");
    let other = ShardId::of(&seed.to_le_bytes());
    let sealed_size = u32::try_from(2 * bytes.len()).expect("small");
    let stripe = Stripe { redundancy, sealed_size, shards: vec![ShardId::of(bytes), other, other] };
    StoredItem::Shard { index: 0, stripe }
}

pub(crate) fn id(item: &StoredItem) -> ItemId {
    item.id().expect("an item")
}

pub(crate) fn owner(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

pub(crate) fn lease(item: &StoredItem, tag: u8, until: Epoch) -> Signed<Lease> {
    lease_of(1, item, tag, until)
}

pub(crate) fn lease_of(number: u8, item: &StoredItem, tag: u8, until: Epoch) -> Signed<Lease> {
    let key = owner(number);
    let owner = OwnerId::from_bytes(key.verifying_key().to_bytes());
    let tag = LeaseTag::from_bytes([tag; 16]);
    Signed::sign(Lease { owner, tag, subject: item.subject(), until }, &key)
}

pub(crate) fn release(tag: u8) -> Signed<Release> {
    release_of(1, tag)
}

pub(crate) fn release_of(number: u8, tag: u8) -> Signed<Release> {
    let key = owner(number);
    let owner = OwnerId::from_bytes(key.verifying_key().to_bytes());
    Signed::sign(Release { owner, tag: LeaseTag::from_bytes([tag; 16]) }, &key)
}
