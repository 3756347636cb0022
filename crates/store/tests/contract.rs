//! What every store of items promises, on a real directory.

mod support;

use datamesh_core::limits::ITEM_LEASES_MAX;
use datamesh_core::time::Epoch;
use datamesh_engine::world::{Group, Items, ItemsError};
use datamesh_store::{OpenError, StoreSettings};
use futures::executor::block_on;
use futures::future::join_all;

use crate::support::{block, bytes, id, lease, open, open_with, release, settings, shard};

const NEVER: Epoch = Epoch::NEVER;

#[test]
fn what_is_stored_is_read_back_whole_and_in_part_before_and_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let payloads: Vec<_> =
        (0..40).map(|seed| bytes(seed, 1000 * usize::try_from(seed).expect("small"))).collect();
    let items: Vec<_> = payloads.iter().zip(0..).map(|(bytes, seed)| shard(bytes, seed)).collect();
    let store = open(directory.path()).expect("opens");
    let stores = items
        .iter()
        .zip(&payloads)
        .map(|(item, payload)| store.store(item.clone(), lease(item, 1, NEVER), payload.clone()));
    assert!(block_on(join_all(stores)).into_iter().all(|stored| stored.is_ok()));
    for (item, payload) in items.iter().zip(&payloads) {
        assert_eq!(block_on(store.fetch(id(item), 0, None)), Ok(Some(payload.clone())));
    }
    let digest = block_on(store.index_digest()).expect("reads");
    drop(store);

    let store = open(directory.path()).expect("opens again");
    assert_eq!(block_on(store.index_digest()), Ok(digest));
    let (item, payload) = (id(&items[39]), &payloads[39]);
    assert_eq!(block_on(store.fetch(item, 0, None)), Ok(Some(payload.clone())));
    assert_eq!(block_on(store.fetch(item, 100, Some(50))), Ok(Some(payload.slice(100..150))));
    assert_eq!(block_on(store.fetch(item, 38_990, Some(50))), Ok(Some(payload.slice(38_990..))));
    assert_eq!(block_on(store.fetch(item, 50_000, Some(50))), Ok(Some(bytes(0, 0))));
    let other = id(&block(b"another"));
    assert_eq!(block_on(store.fetch(other, 0, None)), Ok(None));
    assert_eq!(block_on(store.has(vec![item, other])), Ok(vec![true, false]));
    let description =
        block_on(store.describe(items[39].part().expect("a part").id())).expect("reads").expect("is held");
    assert_eq!(description.item, items[39]);
    assert_eq!(description.size, 39_000);
    assert_eq!(description.leases, [lease(&items[39], 1, NEVER)]);
    assert_eq!(store.usage().item_count, 40);
    assert_eq!(block_on(store.verify_quick()).expect("reads").problems, Vec::<String>::new());
}

#[test]
fn a_group_lists_what_became_durable_together_and_for_which_put() {
    const RELEASED: u8 = 3;
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path()).expect("opens");
    assert_eq!(block_on(store.release(release(RELEASED))), Ok(0));
    let payloads: Vec<_> = (0..96).map(|seed| bytes(seed, 100_000)).collect();
    let tags = [1, 2, RELEASED].into_iter().cycle();
    let stores = payloads.iter().zip(tags.clone()).map(|(payload, tag)| {
        store.store(block(payload), lease(&block(payload), tag, NEVER), payload.clone())
    });
    let stored = block_on(join_all(stores));
    let lists = |group: &Group, tag: u8, payload: &[u8]| {
        let kept = block(payload).kept(payload).expect("it is short");
        group.of_put(lease(&block(payload), tag, NEVER).unverified().put()).any(|item| item == kept)
    };
    let groups: Vec<&Group> = stored.iter().flatten().collect();
    assert_eq!(groups.len(), 64);
    for ((stored, payload), tag) in stored.iter().zip(&payloads).zip(tags) {
        match stored {
            Ok(group) => assert!(lists(group, tag, payload) && !lists(group, 3 - tag, payload)),
            Err(error) => {
                assert_eq!((error, tag), (&ItemsError::Released, RELEASED));
                assert!(groups.iter().all(|group| !lists(group, tag, payload)), "it was not kept");
            }
        }
    }
    let group_count =
        (0..64).filter(|index| !groups[..*index].iter().any(|group| group.is(groups[*index]))).count();
    assert!(group_count < 32, "{group_count} groups of what arrived together");
}

#[test]
fn a_list_has_every_item_once_per_stripe_with_all_its_leases() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path()).expect("opens");
    let payload = bytes(1, 100);
    let (one, other) = (shard(&payload, 1), shard(&payload, 2));
    block_on(async {
        for (item, tag) in [(&one, 1), (&one, 2), (&other, 3)] {
            store.store(item.clone(), lease(item, tag, NEVER), payload.clone()).await.expect("stores");
        }
        let blocks: Vec<_> = (0..5).map(|seed| bytes(seed, 10)).collect();
        for payload in &blocks {
            store
                .store(block(payload), lease(&block(payload), 1, NEVER), payload.clone())
                .await
                .expect("stores");
        }
        let mut after = None;
        let mut listed = Vec::new();
        loop {
            let page = store.list(after, 2).await.expect("lists");
            let Some(last) = page.last() else { break };
            after = Some(id(&last.item));
            listed.extend(page);
        }
        assert_eq!(listed.len(), 7);
        let leases = |item| listed.iter().find(|found| &found.item == item).map(|found| found.leases.len());
        assert_eq!(leases(&one), Some(2));
        assert_eq!(leases(&other), Some(1));
    });
    assert_eq!(store.usage().item_count, 6);
}

#[test]
fn a_release_ends_every_lease_of_its_tag_and_is_remembered() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path()).expect("opens");
    let payloads: Vec<_> = (0..3).map(|seed| bytes(seed, 5000)).collect();
    let items: Vec<_> = payloads.iter().map(|payload| block(payload)).collect();
    block_on(async {
        for (item, payload) in items.iter().zip(&payloads) {
            store.store(item.clone(), lease(item, 1, NEVER), payload.clone()).await.expect("stores");
        }
        assert_eq!(store.lease(id(&items[0]), lease(&items[0], 2, NEVER)).await, Ok(true));
        assert_eq!(
            store.lease(id(&block(b"not held")), lease(&block(b"not held"), 2, NEVER)).await,
            Ok(false)
        );
        assert_eq!(store.release(release(1)).await, Ok(3));
        assert_eq!(store.release(release(1)).await, Ok(0));
    });
    drop(store);
    let store = open(directory.path()).expect("opens again");
    block_on(async {
        let ids: Vec<_> = items.iter().map(id).collect();
        assert_eq!(store.has(ids).await, Ok(vec![true, false, false]));
        let again = store.store(items[1].clone(), lease(&items[1], 1, NEVER), payloads[1].clone()).await;
        assert_eq!(again, Err(ItemsError::Released));
        assert_eq!(store.lease(id(&items[0]), lease(&items[0], 1, NEVER)).await, Err(ItemsError::Released));
        store.store(items[1].clone(), lease(&items[1], 3, NEVER), payloads[1].clone()).await.expect("stores");
        assert_eq!(store.fetch(id(&items[1]), 0, None).await, Ok(Some(payloads[1].clone())));
    });
}

#[test]
fn an_item_has_a_bounded_number_of_leases() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path()).expect("opens");
    let payload = bytes(1, 10);
    let item = block(&payload);
    let until = |number: usize| Epoch::from_hours(u64::try_from(number).expect("small"));
    block_on(async {
        let leases = (0..ITEM_LEASES_MAX).map(|number| lease(&item, 1, until(number)));
        let stores = leases.map(|lease| store.store(item.clone(), lease, payload.clone()));
        assert!(join_all(stores).await.into_iter().all(|stored| stored.is_ok()));
        let more = store.store(item.clone(), lease(&item, 2, NEVER), payload.clone()).await;
        assert_eq!(more, Err(ItemsError::TooManyLeases));
        let known = store.store(item.clone(), lease(&item, 1, until(7)), payload.clone()).await;
        assert_eq!(known.map(|_| ()), Ok(()), "a lease that is there already is not one more");
    });
}

#[test]
fn a_full_store_takes_no_item_but_reads_leases_and_releases() {
    let directory = tempfile::tempdir().expect("a directory");
    let small = StoreSettings { capacity: 300_000, segment_size: 100_000, ..settings() };
    let store = open_with(directory.path(), small).expect("opens");
    let payloads: Vec<_> = (0..10).map(|seed| bytes(seed, 50_000)).collect();
    let items: Vec<_> = payloads.iter().map(|payload| block(payload)).collect();
    block_on(async {
        let mut tags = 0..;
        let mut stored = Vec::new();
        for (item, payload) in items.iter().zip(&payloads) {
            let lease = lease(item, tags.next().expect("endless"), NEVER);
            stored.push(store.store(item.clone(), lease, payload.clone()).await);
        }
        let stored: Vec<_> = stored.into_iter().map(|stored| stored.map(|_| ())).collect();
        assert_eq!(stored, [vec![Ok(()); 5], vec![Err(ItemsError::Full); 5]].concat());
        assert!(store.usage().full);
        assert_eq!(store.fetch(id(&items[4]), 0, None).await, Ok(Some(payloads[4].clone())));
        assert_eq!(store.lease(id(&items[4]), lease(&items[4], 99, NEVER)).await, Ok(true));
        for tag in [0, 1, 2] {
            assert_eq!(store.release(release(tag)).await, Ok(1));
        }
        let collected = store.collect(Epoch::from_hours(1)).await.expect("collects");
        assert!(collected.segment_count >= 1, "{collected:?}");
        for index in [5, 6] {
            let lease = lease(&items[index], 50, NEVER);
            store
                .store(items[index].clone(), lease, payloads[index].clone())
                .await
                .expect("there is room again");
        }
        for index in 3..7 {
            assert_eq!(
                store.fetch(id(&items[index]), 0, None).await,
                Ok(Some(payloads[index].clone())),
                "{index}"
            );
        }
    });
}

#[test]
fn a_collection_ends_what_has_expired_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let small = StoreSettings { segment_size: 100_000, ..settings() };
    let store = open_with(directory.path(), small).expect("opens");
    let payloads: Vec<_> = (0..60).map(|seed| bytes(seed, 10_000)).collect();
    let items: Vec<_> = payloads.iter().map(|payload| block(payload)).collect();
    let until = |index: u64| if index.is_multiple_of(3) { NEVER } else { Epoch::from_hours(index) };
    block_on(async {
        for ((item, payload), index) in items.iter().zip(&payloads).zip(0..) {
            store.store(item.clone(), lease(item, 1, until(index)), payload.clone()).await.expect("stores");
        }
        // The lease that this one came with ends; it is kept under another, which is written elsewhere.
        assert_eq!(store.lease(id(&items[1]), lease(&items[1], 1, NEVER)).await, Ok(true));
        let collected = store.collect(Epoch::from_hours(50)).await.expect("collects");
        assert_eq!((collected.lease_count, collected.item_count), (34, 33));
        assert!(collected.segment_count >= 3, "{collected:?}");
    });
    let digest = block_on(store.index_digest());
    drop(store);
    std::fs::remove_file(directory.path().join("index")).expect("is there");
    let store = open_with(directory.path(), small).expect("opens again");
    assert!(store.recovery().index_rebuilt);
    assert_eq!(block_on(store.index_digest()), digest);
    for ((item, payload), index) in items.iter().zip(&payloads).zip(0..) {
        let kept = until(index) > Epoch::from_hours(50) || index == 1;
        let expected = kept.then(|| payload.clone());
        assert_eq!(block_on(store.fetch(id(item), 0, None)), Ok(expected), "{index}");
    }
    assert_eq!(block_on(store.verify_quick()).expect("reads").problems, Vec::<String>::new());
}

#[test]
fn a_store_is_open_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path()).expect("opens");
    assert!(matches!(open(directory.path()), Err(OpenError::InUse(_))));
    drop(store);
    assert!(open(directory.path()).is_ok());
}

#[test]
fn a_closed_store_says_so_and_leaves_nothing_to_replay() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path()).expect("opens");
    let payload = bytes(1, 100);
    let item = block(&payload);
    block_on(store.store(item.clone(), lease(&item, 1, NEVER), payload.clone())).expect("stores");
    block_on(store.close()).expect("closes");
    let late = block_on(store.store(item.clone(), lease(&item, 2, NEVER), payload));
    assert_eq!(late, Err(ItemsError::Closed));
    drop(store);
    assert_eq!(open(directory.path()).expect("opens again").recovery(), Default::default());
}
