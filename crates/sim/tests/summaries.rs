//! A store on a disk and items in memory tell the same of placement groups.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, OwnerId, PlacementGroup, ShardId};
use datamesh_core::lease::{Lease, LeaseTag, PutId, Release};
use datamesh_core::manifest::Stripe;
use datamesh_core::sign::Signed;
use datamesh_core::summary::{Class, Part, PartId};
use datamesh_core::time::Epoch;
use datamesh_core::wire::StoredItem;
use datamesh_engine::world::{Entropy, HandedOver, Items};
use datamesh_sim::disk::{Honesty, SimDisk};
use datamesh_sim::draw::Draws;
use datamesh_sim::items::MemoryItems;
use datamesh_store::{Store, StoreSettings};
use ed25519_dalek::SigningKey;
use futures::executor::block_on;

const SEEDS: u64 = 8;
const TURNS: usize = 150;
const STRIPES: u64 = 12;
const TAGS: u64 = 5;
/// Parts that are asked for at once: few, so that there are pages.
const PAGE: usize = 2;

struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(9);
    }
}

fn open(disk: &SimDisk) -> Store {
    let settings = StoreSettings {
        segment_size: 8 * 1024,
        checkpoint_size: 16 * 1024,
        readers: NonZeroUsize::MIN,
        ..StoreSettings::new(1 << 40)
    };
    Store::open(Path::new("/store"), settings, Arc::new(disk.clone()), &Fixed).expect("opens")
}

fn shard_bytes(stripe: u64, index: u8) -> Bytes {
    // Two stripes have their first shard in common.
    let stripe = if index == 0 { stripe / 2 } else { stripe };
    [&stripe.to_le_bytes()[..], &[index; 24]].concat().into()
}

fn stripe(number: u64) -> Stripe {
    let redundancy = "2+1".parse().expect("a redundancy");
    let shards = (0..3).map(|index| ShardId::of(&shard_bytes(number, index))).collect();
    Stripe { redundancy, sealed_size: 64, shards }
}

fn items(number: u64) -> Vec<(StoredItem, Bytes)> {
    let shards =
        (0..3).map(|index| (StoredItem::Shard { index, stripe: stripe(number) }, shard_bytes(number, index)));
    let bytes = Bytes::from(number.to_le_bytes().to_vec());
    let redundancy = "1+1".parse().expect("a redundancy");
    let block = StoredItem::Block { block: BlockId::of(&bytes), redundancy };
    shards.chain([(block, bytes)]).collect()
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn put(tag: u64) -> PutId {
    let owner = OwnerId::from_bytes(key().verifying_key().to_bytes());
    PutId { owner, tag: LeaseTag::from_bytes([u8::try_from(tag).expect("small"); 16]) }
}

fn lease(item: &StoredItem, tag: u64) -> Signed<Lease> {
    let PutId { owner, tag } = put(tag);
    Signed::sign(Lease { owner, tag, subject: item.subject(), until: Epoch::NEVER }, &key())
}

/// All that is told of a group, page by page.
fn parts(items: &dyn Items, group: PlacementGroup) -> Vec<Part> {
    let mut all: Vec<Part> = Vec::new();
    loop {
        let after = all.last().map(Part::id);
        let page = block_on(items.parts(group, after, PAGE)).expect("readable");
        assert!(page.iter().all(|part| after.is_none_or(|after| part.id() > after)));
        let last = page.len() < PAGE;
        all.extend(page);
        if last {
            return all;
        }
    }
}

fn compare(seed: u64, memory: &MemoryItems, store: &Store) -> usize {
    let groups = |number| items(number).into_iter().map(|(item, _)| item.subject().group());
    let groups: Vec<PlacementGroup> = (0..STRIPES).flat_map(groups).collect();
    let told = block_on(store.summarise(groups.clone())).expect("readable");
    assert_eq!(told, block_on(memory.summarise(groups.clone())).expect("readable"), "seed {seed}");
    for (group, summary) in groups.iter().zip(&told) {
        let held = parts(store, *group);
        assert_eq!(held, parts(memory, *group), "seed {seed}");
        let of = |class: &Class| held.iter().filter(|part| part.redundancy == class.redundancy).count();
        assert!(summary.classes.iter().all(|class| class.subject_count > 0 && of(class) > 0));
        for part in &held {
            let described =
                |items: &dyn Items, part: PartId| block_on(items.describe(part)).expect("readable");
            let description = described(store, part.id()).expect("held");
            assert_eq!(description.item.part(), Some(*part));
            assert!(described(memory, part.id()).is_some());
        }
    }
    let puts: Vec<PutId> = (0..TAGS).map(put).collect();
    let released = block_on(store.releases(puts.clone())).expect("readable");
    assert_eq!(released, block_on(memory.releases(puts)).expect("readable"));
    told.iter().flat_map(|summary| &summary.classes).count()
}

/// Has parts forgotten with all leases that they have.
fn discard(items: &dyn Items, parts: &[PartId]) -> u64 {
    let leases = |part| block_on(items.describe(part)).expect("readable").map(|known| known.leases);
    let parts =
        parts.iter().map(|part| HandedOver { part: *part, leases: leases(*part).unwrap_or_default() });
    block_on(items.discard(parts.collect())).expect("writable")
}

#[test]
fn the_disk_and_the_memory_tell_the_same_of_every_group() {
    let (mut class_count, mut discarded_count) = (0, 0);
    for seed in 0..SEEDS {
        let mut draws = Draws::new(seed, "summaries");
        let disk = SimDisk::new(seed, Honesty::Honest);
        let memory = MemoryItems::new(1 << 40);
        let mut store = open(&disk);
        for turn in 0..TURNS {
            let (item, bytes) = {
                let mut items = items(draws.below(STRIPES));
                items.remove(usize::try_from(draws.below(4)).expect("small"))
            };
            let id = item.id().expect("a shard of its stripe");
            let tag = draws.below(TAGS);
            match draws.below(40) {
                0 => {
                    let PutId { owner, tag } = put(tag);
                    let release = Signed::sign(Release { owner, tag }, &key());
                    let ended = block_on(store.release(release.clone()));
                    assert_eq!(ended, block_on(memory.release(release)), "seed {seed} turn {turn}");
                }
                1..=4 => {
                    let subject = item.subject();
                    let absent = PartId { subject, item: ItemId::Block(BlockId::of(b"not held")) };
                    let asked = vec![PartId { subject, item: id }, absent];
                    let discarded = discard(&store, &asked);
                    assert_eq!(discarded, discard(&memory, &asked), "seed {seed} turn {turn}");
                    discarded_count += discarded;
                }
                5..=7 => {
                    let leased = block_on(store.lease(id, lease(&item, tag)));
                    assert_eq!(
                        leased,
                        block_on(memory.lease(id, lease(&item, tag))),
                        "seed {seed} turn {turn}"
                    );
                }
                8 => {
                    block_on(store.collect(Epoch::from_hours(1))).expect("collects");
                }
                9 => {
                    let digest = block_on(store.index_digest()).expect("readable");
                    drop(store);
                    // The index is made anew from the segments.
                    datamesh_store::disk::Disk::remove(&disk, Path::new("/store/index")).expect("removed");
                    store = open(&disk);
                    assert_eq!(block_on(store.index_digest()), Ok(digest), "seed {seed} turn {turn}");
                }
                _ => {
                    let stored = block_on(store.store(item.clone(), lease(&item, tag), bytes.clone()));
                    let expected = block_on(memory.store(item.clone(), lease(&item, tag), bytes));
                    assert_eq!(stored.map(|_| ()), expected.map(|_| ()), "seed {seed} turn {turn}");
                }
            }
            class_count += compare(seed, &memory, &store);
        }
    }
    assert!(class_count > 4_000 && discarded_count > 20, "{class_count} classes, {discarded_count} discards");
}
