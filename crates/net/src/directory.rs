//! Provider records of objects in the DHT: who can be asked about what.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datamesh_core::id::{NodeId, ObjectId};
use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result as StoreResult};
use libp2p::kad::{
    Behaviour, GetClosestPeersError, GetClosestPeersOk, GetProvidersOk, ProviderRecord, QueryId, QueryResult,
    Record, RecordKey,
};
use tokio::sync::oneshot;

use crate::command::FoundNode;
use crate::identity::node_of;

/// Keys that have providers here.
const KEYS_MAX: usize = 16 * 1024;
/// Providers of one key.
const PROVIDERS_PER_KEY_MAX: usize = 8;
/// Keys that one other node may provide, so that none fills the store alone.
const KEYS_PER_PROVIDER_MAX: usize = 2048;
/// Addresses kept of a provider, and the longest of them, bytes.
const ADDRESSES_MAX: usize = 4;
const ADDRESS_SIZE_MAX: usize = 128;
/// Longest key, bytes.
const KEY_SIZE_MAX: usize = 64;
/// Queries under way at the same time.
const QUERIES_MAX: usize = 64;
/// Providers after which a query is content.
const PROVIDERS_WANTED: usize = 20;

/// How long a query may take.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(15);

/// Why the DHT did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// This node provides as much as it may.
    #[error("this node provides as many objects as it may")]
    Full,
    /// Too many queries are under way.
    #[error("too many queries are under way")]
    Busy,
    /// Nobody answered in time.
    #[error("the directory did not answer in time")]
    TimedOut,
    /// The network is shut down.
    #[error("the network is shut down")]
    Closed,
}

/// The key under which the providers of an object are kept.
pub(crate) fn object_key(object: ObjectId) -> RecordKey {
    RecordKey::new(object.root().as_bytes())
}

/// The queries under way and who waits for them.
#[derive(Default)]
pub(crate) struct Queries {
    pending: Vec<(QueryId, Pending)>,
}

/// What a query was begun for.
pub(crate) enum Pending {
    Provide(oneshot::Sender<Result<(), DirectoryError>>),
    Providers { found: Vec<NodeId>, reply: oneshot::Sender<Result<Vec<NodeId>, DirectoryError>> },
    Closest(oneshot::Sender<Result<Vec<FoundNode>, DirectoryError>>),
}

type Kademlia = Behaviour<ProviderStore>;

impl Queries {
    pub(crate) fn provide(
        &mut self,
        kademlia: &mut Kademlia,
        key: RecordKey,
        reply: oneshot::Sender<Result<(), DirectoryError>>,
    ) {
        let begun = if self.full() {
            Err(DirectoryError::Busy)
        } else {
            kademlia.start_providing(key).map_err(|_| DirectoryError::Full)
        };
        match begun {
            Ok(query) => self.pending.push((query, Pending::Provide(reply))),
            // Whoever asked may have gone.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    pub(crate) fn providers(
        &mut self,
        kademlia: &mut Kademlia,
        key: RecordKey,
        reply: oneshot::Sender<Result<Vec<NodeId>, DirectoryError>>,
    ) {
        if self.full() {
            drop(reply.send(Err(DirectoryError::Busy)));
            return;
        }
        let query = kademlia.get_providers(key);
        self.pending.push((query, Pending::Providers { found: Vec::new(), reply }));
    }

    pub(crate) fn closest(
        &mut self,
        kademlia: &mut Kademlia,
        key: Vec<u8>,
        reply: oneshot::Sender<Result<Vec<FoundNode>, DirectoryError>>,
    ) {
        if self.full() {
            drop(reply.send(Err(DirectoryError::Busy)));
            return;
        }
        let query = kademlia.get_closest_peers(key);
        self.pending.push((query, Pending::Closest(reply)));
    }

    const fn full(&self) -> bool {
        self.pending.len() >= QUERIES_MAX
    }

    /// Takes in what a query found; at its last step whoever waits is told.
    pub(crate) fn progress(
        &mut self,
        kademlia: &mut Kademlia,
        query: QueryId,
        result: QueryResult,
        last: bool,
    ) {
        let Some(index) = self.pending.iter().position(|(pending, _)| *pending == query) else { return };
        if let (Pending::Providers { found, .. }, QueryResult::GetProviders(Ok(progress))) =
            (&mut self.pending[index].1, &result)
        {
            collect(found, progress);
            if found.len() >= PROVIDERS_WANTED
                && let Some(mut query) = kademlia.query_mut(&query)
            {
                query.finish();
            }
        }
        if last {
            let (_, pending) = self.pending.swap_remove(index);
            finish(pending, result);
        }
    }
}

fn collect(found: &mut Vec<NodeId>, progress: &GetProvidersOk) {
    let GetProvidersOk::FoundProviders { providers, .. } = progress else { return };
    let mut nodes: Vec<NodeId> = providers.iter().filter_map(node_of).collect();
    nodes.sort_unstable();
    for node in nodes {
        if !found.contains(&node) {
            found.push(node);
        }
    }
}

fn finish(pending: Pending, result: QueryResult) {
    // Whoever asked may have gone.
    match (pending, result) {
        (Pending::Provide(reply), QueryResult::StartProviding(outcome)) => {
            drop(reply.send(outcome.map(drop).map_err(|_| DirectoryError::TimedOut)));
        }
        (Pending::Providers { found, reply }, QueryResult::GetProviders(outcome)) => {
            let nothing = found.is_empty() && outcome.is_err();
            drop(reply.send(if nothing { Err(DirectoryError::TimedOut) } else { Ok(found) }));
        }
        (Pending::Closest(reply), QueryResult::GetClosestPeers(outcome)) => {
            let peers = match outcome {
                Ok(GetClosestPeersOk { peers, .. }) => peers,
                Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
            };
            let found = |peer: libp2p::kad::PeerInfo| {
                Some(FoundNode { node: node_of(&peer.peer_id)?, addresses: peer.addrs })
            };
            drop(reply.send(Ok(peers.into_iter().filter_map(found).collect())));
        }
        // A query only yields results of its own kind; dropping the reply tells whoever waits.
        _ => {}
    }
}

/// Provider records in memory, bounded in all ways. Values are not kept: no protocol of ours puts any.
pub(crate) struct ProviderStore {
    own: PeerId,
    providers: BTreeMap<Vec<u8>, Vec<ProviderRecord>>,
    key_counts: BTreeMap<PeerId, usize>,
}

impl ProviderStore {
    pub(crate) const fn new(own: PeerId) -> Self {
        Self { own, providers: BTreeMap::new(), key_counts: BTreeMap::new() }
    }

    fn forget_expired(&mut self) {
        let now = Instant::now();
        let (own, counts) = (self.own, &mut self.key_counts);
        self.providers.retain(|_, providers| {
            providers.retain(|record| {
                let keep = record.provider == own || !record.is_expired(now);
                if !keep {
                    decrease(counts, &record.provider);
                }
                keep
            });
            !providers.is_empty()
        });
    }

    fn within_share(&self, provider: &PeerId) -> bool {
        *provider == self.own
            || self.key_counts.get(provider).is_none_or(|count| *count < KEYS_PER_PROVIDER_MAX)
    }
}

fn decrease(counts: &mut BTreeMap<PeerId, usize>, provider: &PeerId) {
    if let Some(count) = counts.get_mut(provider) {
        *count -= 1;
        if *count == 0 {
            counts.remove(provider);
        }
    }
}

impl RecordStore for ProviderStore {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = Box<dyn Iterator<Item = Cow<'a, ProviderRecord>> + 'a>;

    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        None
    }

    fn put(&mut self, _: Record) -> StoreResult<()> {
        Err(Error::MaxRecords)
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    fn add_provider(&mut self, mut record: ProviderRecord) -> StoreResult<()> {
        let key = record.key.to_vec();
        if key.len() > KEY_SIZE_MAX {
            return Err(Error::ValueTooLarge);
        }
        record.addresses.retain(|address| address.len() <= ADDRESS_SIZE_MAX);
        record.addresses.truncate(ADDRESSES_MAX);
        if let Some(known) = self
            .providers
            .get_mut(&key)
            .and_then(|providers| providers.iter_mut().find(|known| known.provider == record.provider))
        {
            *known = record;
            return Ok(());
        }
        if self.providers.len() >= KEYS_MAX && !self.providers.contains_key(&key) {
            self.forget_expired();
        }
        let room = self.providers.len() < KEYS_MAX || self.providers.contains_key(&key);
        if !room || !self.within_share(&record.provider) {
            return Err(Error::MaxProvidedKeys);
        }
        let providers = self.providers.entry(key).or_default();
        // This node's own record always has a place; of others, the first to come stay.
        if providers.len() >= PROVIDERS_PER_KEY_MAX && record.provider != self.own {
            return Err(Error::MaxProvidedKeys);
        }
        *self.key_counts.entry(record.provider).or_default() += 1;
        providers.push(record);
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        self.providers.get(key.as_ref()).cloned().unwrap_or_default()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        let own = self.own;
        Box::new(
            self.providers.values().flatten().filter(move |record| record.provider == own).map(Cow::Borrowed),
        )
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        let Some(providers) = self.providers.get_mut(key.as_ref()) else { return };
        let before = providers.len();
        providers.retain(|record| record.provider != *provider);
        if providers.len() < before {
            decrease(&mut self.key_counts, provider);
        }
        if providers.is_empty() {
            self.providers.remove(key.as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use libp2p::PeerId;
    use libp2p::kad::store::RecordStore;
    use libp2p::kad::{ProviderRecord, RecordKey};

    use super::{KEY_SIZE_MAX, KEYS_MAX, KEYS_PER_PROVIDER_MAX, PROVIDERS_PER_KEY_MAX, ProviderStore};

    fn key(number: usize) -> RecordKey {
        RecordKey::new(&number.to_le_bytes())
    }

    #[test]
    fn a_provider_is_found_until_it_is_removed() {
        let (own, other) = (PeerId::random(), PeerId::random());
        let mut store = ProviderStore::new(own);
        for provider in [own, other, other] {
            store.add_provider(ProviderRecord::new(key(1), provider, vec![])).expect("room");
        }
        assert_eq!(store.providers(&key(1)).len(), 2);
        assert_eq!(store.provided().count(), 1);
        store.remove_provider(&key(1), &own);
        store.remove_provider(&key(1), &other);
        assert!(store.providers.is_empty() && store.key_counts.is_empty());
    }

    #[test]
    fn no_provider_fills_the_store_alone_and_all_together_do_not_overfill_it() {
        let mut store = ProviderStore::new(PeerId::random());
        let greedy = PeerId::random();
        let taken = (0..KEYS_PER_PROVIDER_MAX + 10)
            .filter(|number| store.add_provider(ProviderRecord::new(key(*number), greedy, vec![])).is_ok());
        assert_eq!(taken.count(), KEYS_PER_PROVIDER_MAX);
        for number in 0..KEYS_MAX + 10 {
            let _ = store.add_provider(ProviderRecord::new(key(number), PeerId::random(), vec![]));
        }
        assert_eq!(store.providers.len(), KEYS_MAX);
        let crowd = (0..20)
            .filter(|_| store.add_provider(ProviderRecord::new(key(0), PeerId::random(), vec![])).is_ok());
        assert!(crowd.count() < PROVIDERS_PER_KEY_MAX);
        let long = RecordKey::new(&[0; KEY_SIZE_MAX + 1]);
        assert!(store.add_provider(ProviderRecord::new(long, greedy, vec![])).is_err());
    }

    #[test]
    fn a_full_store_makes_room_by_forgetting_what_expired() {
        let mut store = ProviderStore::new(PeerId::random());
        let past = Instant::now().checked_sub(Duration::from_secs(1)).expect("a second ago");
        for number in 0..KEYS_MAX {
            let mut record = ProviderRecord::new(key(number), PeerId::random(), vec![]);
            record.expires = Some(past);
            store.add_provider(record).expect("room");
        }
        let fresh = ProviderRecord::new(key(KEYS_MAX), PeerId::random(), vec![]);
        store.add_provider(fresh).expect("room after forgetting");
        assert_eq!((store.providers.len(), store.key_counts.len()), (1, 1));
    }
}
