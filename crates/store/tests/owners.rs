//! What is kept for each owner is counted as the leases say: after every change, after restarts, and when the index is lost.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use datamesh_core::id::OwnerId;
use datamesh_core::time::Epoch;
use datamesh_core::wire::StoredItem;
use datamesh_engine::world::Items;
use datamesh_store::Store;
use futures::executor::block_on;

use crate::support::{block, bytes, handed_over, id, lease_of, open, owner, release_of, shard};

const OWNERS: [u8; 3] = [1, 2, 3];

fn owner_id(number: u8) -> OwnerId {
    OwnerId::from_bytes(owner(number).verifying_key().to_bytes())
}

/// What the leases of all items that are held come to, each item counted once for each owner.
fn as_leased(store: &Store) -> BTreeMap<OwnerId, u64> {
    let mut kept = BTreeMap::new();
    let mut counted = BTreeSet::new();
    let mut after = None;
    loop {
        let page = block_on(store.list(after, 16)).expect("lists");
        let Some(last) = page.last() else { return kept };
        after = last.item.id();
        for description in &page {
            for lease in &description.leases {
                let owner = lease.unverified().owner;
                if counted.insert((id(&description.item), owner)) {
                    *kept.entry(owner).or_default() += u64::from(description.size);
                }
            }
        }
    }
}

fn check(store: &Store, when: &str) {
    let leased = as_leased(store);
    for number in OWNERS {
        let owner = owner_id(number);
        assert_eq!(
            store.kept_for(&owner),
            leased.get(&owner).copied().unwrap_or_default(),
            "{when}: owner {number}"
        );
    }
}

/// A generator of choices, the same for the same seed (SplitMix64).
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn byte(&mut self, bound: u64) -> u8 {
        u8::try_from(self.below(bound)).expect("a small bound")
    }
}

fn item(number: u64) -> (StoredItem, bytes::Bytes) {
    let size = 100 + 64 * usize::try_from(number).expect("small");
    let payload = bytes(number, size);
    if number.is_multiple_of(3) { (block(&payload), payload) } else { (shard(&payload, number), payload) }
}

fn change(store: &Store, choices: &mut Choices) {
    let (item, payload) = item(choices.below(12));
    let (owner, tag) = (1 + choices.byte(3), choices.byte(20));
    let until = Epoch::from_hours(choices.below(40));
    match choices.below(10) {
        // A refusal, as of a tag that was released, changes nothing.
        0..=4 => drop(block_on(store.store(item.clone(), lease_of(owner, &item, tag, until), payload))),
        5 | 6 => drop(block_on(store.lease(id(&item), lease_of(owner, &item, tag, until)))),
        7 => drop(block_on(store.release(release_of(owner, tag)))),
        8 => drop(block_on(store.collect(Epoch::from_hours(choices.below(40)))).expect("collects")),
        _ => drop(
            block_on(store.discard(vec![handed_over(store, item.part().expect("a part").id())]))
                .expect("discards"),
        ),
    }
}

fn indices(directory: &Path) -> Vec<std::path::PathBuf> {
    let files = fs::read_dir(directory).expect("lists").map(|entry| entry.expect("an entry").path());
    files
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("index")))
        .collect()
}

#[test]
fn the_count_is_what_the_leases_come_to_whatever_happens() {
    let mut was_something = false;
    for seed in 0..8 {
        let directory = tempfile::tempdir().expect("a directory");
        let mut choices = Choices(seed);
        for round in 0..6 {
            let store = open(directory.path()).expect("opens");
            check(&store, "opened");
            for step in 0..40 {
                change(&store, &mut choices);
                check(&store, &format!("seed {seed}, round {round}, step {step}"));
                was_something |= store.kept_for(&owner_id(1)) > 0;
            }
            drop(store);
            if round % 2 == 0 {
                let lost = indices(directory.path());
                assert_eq!(lost.len(), 1, "the index is a file: {lost:?}");
                lost.iter().for_each(|path| fs::remove_file(path).expect("removed"));
            }
        }
    }
    assert!(was_something);
}
