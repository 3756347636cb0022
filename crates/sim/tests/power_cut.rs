//! No power cut takes back what the store has acknowledged.
//!
//! A store lives on a disk that tears whatever isn't synced. Clients store, lease, release, discard and collect, many at once;
//! at a random operation of the disk the power goes, sometimes while the store is recovering from the last cut. After
//! each recovery everything acknowledged must be there and everything released must be gone, and the index must be the
//! one that the segments alone determine. Now and then a sync fails, or the disk is suddenly full.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, OwnerId};
use datamesh_core::lease::{Lease, LeaseTag, Release};
use datamesh_core::sign::Signed;
use datamesh_core::time::Epoch;
use datamesh_core::wire::StoredItem;
use datamesh_engine::world::{Entropy, HandedOver, Items, ItemsError};
use datamesh_sim::disk::{Honesty, SimDisk};
use datamesh_sim::draw::Draws;
use datamesh_store::{OpenError, Store, StoreSettings};
use ed25519_dalek::SigningKey;
use futures::executor::block_on;
use futures::future::join_all;
use futures::poll;

const DIRECTORY: &str = "/store";
const INDEX: &str = "/store/index";
const SEEDS: u64 = 300;
const LIVES_PER_SEED: u64 = 4;
const TURNS_PER_LIFE: u64 = 40;
const OPERATIONS_PER_LIFE_MAX: u64 = 400;
const TAGS: u64 = 16;
const COMMANDS_PER_TURN_MAX: u64 = 8;
const ITEM_SIZE_MAX: u64 = 6000;

/// What happened, over all seeds.
#[derive(Debug, Default)]
struct Counts {
    cuts: u64,
    cuts_while_opening: u64,
    acknowledged: u64,
    released: u64,
    collected_segments: u64,
    discarded: u64,
    replayed: u64,
    skipped: u64,
    indexes_rebuilt: u64,
    checked: u64,
    refused: u64,
    refused_full: u64,
}

/// What a client knows that the store has promised.
#[derive(Debug, Default)]
struct Promises {
    payloads: BTreeMap<ItemId, Bytes>,
    /// Leases acknowledged, and not released or expired since, not even perhaps.
    leases: BTreeMap<(ItemId, u8, u64), Signed<Lease>>,
    /// Tags whose release was acknowledged.
    released: BTreeSet<u8>,
    /// Tags whose release was asked for.
    released_perhaps: BTreeSet<u8>,
    /// Items that are asked to be discarded in this turn.
    discarding: BTreeSet<ItemId>,
    /// Items that are asked to be stored or leased in this turn.
    storing: BTreeSet<ItemId>,
    /// Items that were discarded and not asked for since.
    gone: BTreeSet<ItemId>,
    now: u64,
    next_payload: u64,
}

/// One thing asked of the store.
#[derive(Debug, Clone)]
enum Ask {
    Store { item: ItemId, payload: Bytes, tag: u8, until: u64 },
    Lease { item: ItemId, tag: u8, until: u64 },
    Release { tag: u8 },
    Collect { now: u64 },
    Discard { item: ItemId },
}

struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(9);
    }
}

fn settings() -> StoreSettings {
    StoreSettings {
        segment_size: 24 * 1024,
        checkpoint_size: 30 * 1024,
        index_cache_size: 1 << 20,
        readers: NonZeroUsize::MIN,
        ..StoreSettings::new(1 << 40)
    }
}

fn open(disk: &SimDisk) -> Result<Store, OpenError> {
    Store::open(Path::new(DIRECTORY), settings(), Arc::new(disk.clone()), &Fixed)
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn owner() -> OwnerId {
    OwnerId::from_bytes(key().verifying_key().to_bytes())
}

fn lease(item: ItemId, tag: u8, until: u64) -> (StoredItem, Signed<Lease>) {
    let ItemId::Block(block) = item else { unreachable!("only blocks are stored here") };
    let item = StoredItem::Block { block, redundancy: "1+2".parse().expect("a redundancy") };
    let tag = LeaseTag::from_bytes([tag; 16]);
    let lease = Lease { owner: owner(), tag, subject: item.subject(), until: Epoch::from_hours(until) };
    (item, Signed::sign(lease, &key()))
}

impl Promises {
    fn draw(&mut self, draws: &mut Draws) -> Ask {
        let tag = u8::try_from(draws.below(TAGS)).expect("small");
        let until = if draws.happens(60) { u64::MAX } else { self.now + 1 + draws.below(6) };
        let known = u64::try_from(self.payloads.len()).expect("small");
        let pick = |draws: &mut Draws| {
            let index = usize::try_from(draws.below(known.max(1))).expect("small");
            self.payloads.iter().nth(index).map(|(item, payload)| (*item, payload.clone()))
        };
        match (draws.below(20), pick(draws)) {
            (0, _) => Ask::Release { tag },
            (1 | 2, _) => Ask::Collect { now: self.now + draws.below(3) },
            (3 | 4, Some((item, _))) => Ask::Lease { item, tag, until },
            (8 | 9, Some((item, _))) => Ask::Discard { item },
            (5..=7, Some((item, payload))) => Ask::Store { item, payload, tag, until },
            _ => {
                self.next_payload += 1;
                let size = usize::try_from(draws.below(ITEM_SIZE_MAX)).expect("small");
                let mut payload = vec![0; size + 8];
                draws.fill(&mut payload);
                payload[..8].copy_from_slice(&self.next_payload.to_le_bytes());
                let item = ItemId::Block(BlockId::of(&payload));
                self.payloads.insert(item, payload.clone().into());
                Ask::Store { item, payload: payload.into(), tag, until }
            }
        }
    }

    /// Before an answer: what is asked for may happen.
    fn asked(&mut self, ask: &Ask) {
        match ask {
            Ask::Release { tag } => {
                self.released_perhaps.insert(*tag);
                self.leases.retain(|(_, other, _), _| other != tag);
            }
            Ask::Collect { now } => {
                self.now = self.now.max(*now);
                self.leases.retain(|(_, _, until), _| until > now);
            }
            Ask::Discard { item } => {
                self.discarding.insert(*item);
                self.leases.retain(|(other, ..), _| other != item);
            }
            Ask::Store { item, .. } | Ask::Lease { item, .. } => {
                self.storing.insert(*item);
                self.gone.remove(item);
            }
        }
    }

    /// After an answer that says it is done.
    fn done(&mut self, ask: &Ask) {
        match ask {
            Ask::Store { item, tag, until, .. } | Ask::Lease { item, tag, until } => {
                // Asked for in one breath with a release, a discard or a collection, either may have come first.
                let may_be_gone = self.released_perhaps.contains(tag) || self.discarding.contains(item);
                if !may_be_gone && *until > self.now {
                    self.leases.insert((*item, *tag, *until), lease(*item, *tag, *until).1);
                }
            }
            Ask::Release { tag } => {
                self.released.insert(*tag);
            }
            Ask::Discard { item } => {
                if !self.storing.contains(item) {
                    self.gone.insert(*item);
                }
            }
            Ask::Collect { .. } => {}
        }
    }

    fn check(&self, store: &Store, counts: &mut Counts) -> Result<(), String> {
        let mut listed = BTreeMap::new();
        let mut after = None;
        loop {
            let page = block_on(store.list(after, 64)).map_err(|error| format!("list: {error}"))?;
            let Some(last) = page.last() else { break };
            after = last.item.id();
            listed.extend(page.into_iter().map(|found| (found.item.id().expect("an item"), found.leases)));
        }
        for ((item, tag, until), lease) in &self.leases {
            counts.checked += 1;
            let leases =
                listed.get(item).ok_or_else(|| format!("{item} is lost: tag {tag}, until {until}"))?;
            if !leases.contains(lease) {
                return Err(format!("{item} is not held under tag {tag} until {until} any more"));
            }
        }
        if let Some(item) = self.gone.iter().find(|item| listed.contains_key(item)) {
            return Err(format!("{item} was discarded and is there"));
        }
        for (item, leases) in &listed {
            let fetched = block_on(store.fetch(*item, 0, None)).map_err(|error| format!("fetch: {error}"))?;
            if fetched.as_ref() != self.payloads.get(item) {
                return Err(format!("{item} has other bytes"));
            }
            let released =
                |lease: &Signed<Lease>| self.released.contains(&lease.unverified().tag.as_bytes()[0]);
            if leases.iter().any(released) {
                return Err(format!("{item} is held under a tag that was released"));
            }
        }
        Ok(())
    }
}

async fn ask_store(store: &Store, ask: &Ask, counts: &RefCell<&mut Counts>) -> Result<bool, ItemsError> {
    match ask {
        Ask::Store { item, payload, tag, until } => {
            let (item, lease) = lease(*item, *tag, *until);
            store.store(item, lease, payload.clone()).await?;
        }
        Ask::Lease { item, tag, until } => return store.lease(*item, lease(*item, *tag, *until).1).await,
        Ask::Release { tag } => {
            let release = Release { owner: owner(), tag: LeaseTag::from_bytes([*tag; 16]) };
            store.release(Signed::sign(release, &key())).await?;
            counts.borrow_mut().released += 1;
        }
        Ask::Discard { item } => {
            let (stored, _) = lease(*item, 0, u64::MAX);
            let part = stored.part().expect("a block is a part").id();
            let leases = store.describe(part).await?.map(|known| known.leases).unwrap_or_default();
            let discarded = store.discard(vec![HandedOver { part, leases }]).await? == 1;
            counts.borrow_mut().discarded += u64::from(discarded);
            return Ok(discarded);
        }
        Ask::Collect { now } => {
            let collected = store.collect(Epoch::from_hours(*now)).await?;
            counts.borrow_mut().collected_segments += collected.segment_count;
        }
    }
    Ok(true)
}

/// Lets clients work until the power goes or they have done enough.
fn live(disk: &SimDisk, store: &Store, promises: &mut Promises, draws: &mut Draws, counts: &mut Counts) {
    for _ in 0..TURNS_PER_LIFE {
        if !disk.is_powered() {
            return;
        }
        match draws.below(20) {
            0 => disk.fail_syncs(1),
            1 => disk.fill_up_after(draws.below(30_000)),
            _ => {}
        }
        let count = 1 + draws.below(COMMANDS_PER_TURN_MAX);
        let asks: Vec<Ask> = (0..count).map(|_| promises.draw(draws)).collect();
        promises.discarding.clear();
        promises.storing.clear();
        asks.iter().for_each(|ask| promises.asked(ask));
        let answers = ask_at_once(disk, store, &asks, counts);
        for (ask, answer) in asks.iter().zip(answers) {
            match answer {
                Ok(true) => {
                    counts.acknowledged += 1;
                    promises.done(ask);
                }
                Err(ItemsError::Full) => counts.refused_full += 1,
                Err(ItemsError::Disk(_)) if disk.is_powered() => counts.refused += 1,
                Ok(false) | Err(_) => {}
            }
        }
        disk.make_room();
    }
}

/// Asks all of it in one group: while the disk is held, the writer is kept busy with a question of no consequence, until
/// all that is asked waits behind it. So a seed does the same every time, though the store has threads.
fn ask_at_once(
    disk: &SimDisk,
    store: &Store,
    asks: &[Ask],
    counts: &mut Counts,
) -> Vec<Result<bool, ItemsError>> {
    let counts = RefCell::new(counts);
    let unknown = ItemId::Block(BlockId::from_bytes([0; 32]));
    block_on(async {
        disk.hold();
        let mut first = pin!(store.lease(unknown, lease(unknown, 0, u64::MAX).1));
        assert!(poll!(&mut first).is_pending(), "the disk is held");
        disk.await_visitor();
        let mut answers = pin!(join_all(asks.iter().map(|ask| ask_store(store, ask, &counts))));
        assert!(poll!(&mut answers).is_pending(), "the disk is held");
        disk.let_go();
        // It has no answer when the power is gone.
        let _ = first.await;
        answers.await
    })
}

/// The index as the segments alone determine it.
fn digest_of_rebuilt(disk: &SimDisk) -> Result<[u8; 32], String> {
    let copy = disk.duplicate();
    datamesh_store::disk::Disk::remove(&copy, Path::new(INDEX)).map_err(|error| error.to_string())?;
    let store = open(&copy).map_err(|error| error.to_string())?;
    block_on(store.index_digest()).map_err(|error| error.to_string())
}

/// Opens the store, though the power may go meanwhile. Says which disk it is on in the end.
fn open_through_cuts(
    mut disk: SimDisk,
    draws: &mut Draws,
    counts: &mut Counts,
) -> Result<(SimDisk, Store), String> {
    loop {
        if draws.happens(30) {
            disk.cut_power_after(1 + draws.below(40));
        }
        match open(&disk) {
            Ok(store) if disk.is_powered() => {
                disk.keep_power();
                counts.replayed += store.recovery().replayed_count;
                counts.skipped += store.recovery().skipped_count;
                counts.indexes_rebuilt += u64::from(store.recovery().index_rebuilt);
                return Ok((disk, store));
            }
            Err(error) if disk.is_powered() => return Err(format!("open: {error}")),
            Ok(_) | Err(_) => {}
        }
        counts.cuts_while_opening += 1;
        disk = disk.restart();
    }
}

/// One disk through several lives.
fn run(seed: u64, honesty: Honesty, counts: &mut Counts) -> Result<(), String> {
    let mut draws = Draws::new(seed, "power cut");
    let mut promises = Promises::default();
    let mut disk = SimDisk::new(seed, honesty);
    for life in 0..LIVES_PER_SEED {
        let store;
        (disk, store) = open_through_cuts(disk, &mut draws, counts)?;
        promises.check(&store, counts).map_err(|error| format!("life {life}: {error}"))?;
        let digest = block_on(store.index_digest()).map_err(|error| error.to_string())?;
        if digest != digest_of_rebuilt(&disk)? {
            return Err(format!("life {life}: the index is not the one that the segments determine"));
        }
        disk.cut_power_after(1 + draws.below(OPERATIONS_PER_LIFE_MAX));
        live(&disk, &store, &mut promises, &mut draws, counts);
        drop(store);
        disk = disk.restart();
        counts.cuts += 1;
    }
    let (disk, store) = open_through_cuts(disk, &mut draws, counts)?;
    promises.check(&store, counts).map_err(|error| format!("at the end: {error}"))?;
    drop(store);
    let again = open(&disk).map_err(|error| error.to_string())?;
    promises.check(&again, counts).map_err(|error| format!("after a clean restart: {error}"))
}

#[test]
fn no_power_cut_takes_back_what_was_acknowledged() {
    let mut counts = Counts::default();
    for seed in 0..SEEDS {
        run(seed, Honesty::Honest, &mut counts).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    println!("{counts:?}");
    // Were it lost more often, each start would read all that is stored.
    assert!(
        counts.indexes_rebuilt * 50 < counts.cuts,
        "a power cut costs the index only where its own sync failed"
    );
    let Counts { cuts_while_opening, discarded, skipped, collected_segments, refused, refused_full, .. } =
        counts;
    let happened = [cuts_while_opening, discarded, skipped, collected_segments, refused, refused_full];
    assert!(
        happened.iter().all(|count| *count > 20),
        "{happened:?}: the seeds don't reach what they are to test"
    );
}

/// The control: a disk that only says that it has synced must be found out, or the test above proves nothing.
#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let mut counts = Counts::default();
    let errors = (0..40).filter_map(|seed| run(seed, Honesty::Lying, &mut counts).err());
    let lost = errors.filter(|error| error.contains("is lost")).count();
    println!("{lost} of 40 lost an item");
    assert!(lost > 10, "{lost} of 40");
}
