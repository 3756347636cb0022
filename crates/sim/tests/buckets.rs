//! Buckets over a simulated mesh: what several gateways of one owner write, and what another finds when one of them is lost.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datamesh_core::bucket::{BucketName, Content, Extents, Key};
use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Scheme};
use datamesh_core::topology::Topology;
use datamesh_engine::buckets::{
    Buckets, BucketsOrder, ChangeError, ContentSubject, ListOrder, OpenError, PutCondition, Refused, Schemes,
};
use datamesh_engine::progress::Unobserved;
use datamesh_engine::transfer::{Temperature, TransferSettings};
use datamesh_engine::world::{Map, MapError, MapRow};
use datamesh_sim::fault::Fault;
use datamesh_sim::network::Link;
use datamesh_sim::world::SimWorld;
use futures::future::join_all;

use crate::common::{Kept, Memory, Mesh, noise};

const NODES: u64 = 8;
/// Twice the time after which a gateway knows what another has written.
const KNOWN_AFTER: Duration = Duration::from_secs(3);

/// An index in memory, of which a crash takes what was not synced.
#[derive(Debug, Default)]
struct Index(Mutex<(Rows, Rows)>);

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

impl Index {
    /// As it is after a power cut.
    fn crashed(&self) -> Self {
        let synced = self.0.lock().expect("not poisoned").1.clone();
        Self(Mutex::new((synced.clone(), synced)))
    }
}

impl Map for Index {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        Ok(self.0.lock().expect("not poisoned").0.get(key).cloned())
    }

    fn rows(&self, from: &[u8], before: &[u8], count_max: usize) -> Result<Vec<MapRow>, MapError> {
        let state = self.0.lock().expect("not poisoned");
        let rows = state.0.range(from.to_vec()..before.to_vec()).take(count_max);
        Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn write(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), MapError> {
        let mut state = self.0.lock().expect("not poisoned");
        for (key, value) in changes {
            match value {
                Some(value) => drop(state.0.insert(key, value)),
                None => drop(state.0.remove(&key)),
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), MapError> {
        let mut state = self.0.lock().expect("not poisoned");
        state.1 = state.0.clone();
        Ok(())
    }
}

struct Fixed;

impl Schemes for Fixed {
    fn scheme(&self, _: &ContentSubject<'_>, _: &Topology) -> Result<Scheme, String> {
        Ok(Scheme {
            mode: Mode::Sealed,
            chunking: Chunking::Fixed,
            compression: Compression::None,
            cipher: Cipher::Aes256Gcm,
            redundancy: "4+2".parse().expect("a redundancy"),
        })
    }
}

fn name() -> BucketName {
    "bucket".parse().expect("a name")
}

fn key(text: &str) -> Key {
    text.parse().expect("a key")
}

/// A gateway whose upkeep runs as long as it is used.
async fn gateway(mesh: &Mesh, index: &Arc<Index>) -> Result<Buckets, OpenError> {
    let order = BucketsOrder {
        world: mesh.world.clone(),
        transfer: TransferSettings::default(),
        owner: Arc::clone(&mesh.owner),
        map: Arc::clone(index) as Arc<dyn Map>,
        schemes: Arc::new(Fixed),
    };
    let (buckets, upkeep) = Buckets::open(order).await?;
    drop(tokio::spawn(upkeep.run()));
    Ok(buckets)
}

async fn put(
    buckets: &Buckets,
    at: &str,
    bytes: Vec<u8>,
    condition: PutCondition,
) -> Result<(), ChangeError> {
    let mut source = Memory(bytes.clone().into());
    let subject = ContentSubject { name: at, ..ContentSubject::default() };
    let extent = buckets.store(&mut source, &subject, Arc::new(Unobserved)).await.expect("it is stored");
    let content = Content {
        size: extent.size,
        etag: blake3::hash(&bytes).to_string(),
        extents: Extents::Listed(vec![extent]),
        headers: BTreeMap::new(),
        metadata: BTreeMap::new(),
        tags: BTreeMap::new(),
        digests: BTreeMap::new(),
        class: None,
    };
    buckets.put(name(), key(at), content, condition).await.map(drop)
}

async fn get(buckets: &Buckets, at: &str) -> Option<Vec<u8>> {
    let found = match buckets.current(&name(), &key(at)) {
        Ok(found) => found,
        Err(ChangeError::Refused(_)) => return None,
        Err(error) => panic!("{error}"),
    };
    let content = found.version.content.expect("a current version has a content");
    let extents = buckets.extents(&name(), &content).expect("listed");
    let mut sink = Kept(Vec::new());
    buckets.copy(&extents, Temperature::Hot, 0..content.size, &mut sink).await.expect("it is there");
    assert_eq!(blake3::hash(&sink.0).to_string(), content.etag, "another content than the one of the tag");
    Some(sink.0)
}

fn keys(buckets: &Buckets) -> Vec<String> {
    let order = ListOrder { count_max: 10_000, ..ListOrder::default() };
    let list = buckets.list(&name(), &order).expect("listed");
    list.entries.into_iter().map(|(key, _)| key.to_string()).collect()
}

#[test]
fn gateways_of_one_owner_see_each_others_writes_and_of_two_at_once_one_counts() {
    SimWorld::run(1, Link::default(), async |sim| {
        let mesh = Mesh::new(sim, NODES);
        let (one, two) = (Arc::new(Index::default()), Arc::new(Index::default()));
        let (one, two) =
            (gateway(&mesh, &one).await.expect("opens"), gateway(&mesh, &two).await.expect("opens"));
        one.create_bucket(name()).await.expect("made");
        mesh.world.clock.sleep(KNOWN_AFTER).await;
        assert!(matches!(
            two.create_bucket(name()).await,
            Err(ChangeError::Refused(Refused::BucketExists(_)))
        ));
        for round in 0..20_u64 {
            let (first, second) = (noise(2 * round, 3_000), noise(2 * round + 1, 200_000));
            let puts = [
                put(&one, "same", first.clone(), PutCondition::None),
                put(&two, "same", second.clone(), PutCondition::None),
            ];
            join_all(puts).await.into_iter().for_each(|put| put.expect("acknowledged"));
            mesh.world.clock.sleep(KNOWN_AFTER).await;
            let (here, there) = (get(&one, "same").await, get(&two, "same").await);
            assert_eq!(here, there, "round {round}");
            assert!(here == Some(first) || here == Some(second), "round {round}: a mixture");
        }
        let absent = put(&one, "same", noise(1, 10), PutCondition::Absent).await;
        assert!(matches!(absent, Err(ChangeError::Refused(Refused::Condition))), "{absent:?}");
        one.delete(name(), key("same"), None, PutCondition::None).await.expect("deleted");
        assert_eq!(get(&one, "same").await, None, "whoever deleted it knows at once");
        mesh.world.clock.sleep(KNOWN_AFTER).await;
        assert_eq!(get(&two, "same").await, None);
    });
}

#[test]
fn what_a_lost_gateway_had_acknowledged_another_finds_though_two_nodes_are_dead() {
    SimWorld::run(2, Link::default(), async |sim| {
        let mesh = Mesh::new(sim, NODES);
        let first = gateway(&mesh, &Arc::default()).await.expect("opens");
        first.create_bucket(name()).await.expect("made");
        // More blocks than a chapter has.
        for number in 0..300_u64 {
            put(&first, &format!("key {number:03}"), noise(number, 100), PutCondition::None)
                .await
                .expect("put");
        }
        drop(first);
        mesh.inject(3, Fault::Down);
        mesh.inject(6, Fault::Stalled);
        let second = gateway(&mesh, &Arc::default()).await.expect("opens with two nodes silent");
        assert_eq!(keys(&second).len(), 300);
        for number in [0, 123, 255, 256, 299] {
            assert_eq!(get(&second, &format!("key {number:03}")).await, Some(noise(number, 100)), "{number}");
        }
        drop(second);
        // With so many silent a block may be at those alone: it is not guessed.
        mesh.inject(4, Fault::Down);
        let silent = gateway(&mesh, &Arc::default()).await;
        assert!(matches!(silent, Err(OpenError::Silent { .. })), "it opened though parts may be missing");
    });
}

#[test]
fn what_was_acknowledged_survives_a_crash_that_takes_what_the_index_had_not_synced() {
    SimWorld::run(3, Link::default(), async |sim| {
        let mesh = Mesh::new(sim, NODES);
        let mut index = Arc::new(Index::default());
        let mut expected = Vec::new();
        for life in 0..12_u64 {
            let buckets = gateway(&mesh, &index).await.expect("opens");
            if life == 0 {
                buckets.create_bucket(name()).await.expect("made");
            }
            for number in 0..life + 1 {
                let at = format!("{life:02} {number:02}");
                put(&buckets, &at, noise(life, 50), PutCondition::None).await.expect("put");
                expected.push(at);
            }
            if life % 3 == 0 {
                mesh.world.clock.sleep(KNOWN_AFTER).await;
            }
            index = Arc::new(index.crashed());
        }
        let buckets = gateway(&mesh, &index).await.expect("opens");
        assert_eq!(keys(&buckets), expected);
    });
}

#[test]
fn what_is_overwritten_and_deleted_takes_no_room_for_long() {
    SimWorld::run(4, Link::default(), async |sim| {
        let mesh = Mesh::new(sim, NODES);
        let buckets = gateway(&mesh, &Arc::default()).await.expect("opens");
        buckets.create_bucket(name()).await.expect("made");
        let used = || {
            mesh.items.values().map(|items| datamesh_engine::world::Items::usage(&**items).used).sum::<u64>()
        };
        for round in 0..5 {
            put(&buckets, "key", noise(round, 400_000), PutCondition::None).await.expect("put");
        }
        assert!(used() > 2_400_000, "five contents at 1.5 times their size: {}", used());
        mesh.world.clock.sleep(Duration::from_secs(90)).await;
        assert!((600_000..700_000).contains(&used()), "one of them: {}", used());
        buckets.delete(name(), key("key"), None, PutCondition::None).await.expect("deleted");
        mesh.world.clock.sleep(Duration::from_secs(90)).await;
        assert!(used() < 50_000, "none of them: {}", used());
    });
}
