//! Signed node records, gossiped and reconciled into the topology.

pub(crate) mod book;
pub(crate) mod disk;
pub(crate) mod reconcile;
pub(crate) mod rolls;
pub(crate) mod upkeep;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use datamesh_core::admission::{Admitted, Rolls};
use datamesh_core::id::NodeId;
use datamesh_core::limits::{
    NODE_ADDRESSES_MAX, NODE_GRACE_S_MAX, NODE_RECORD_AHEAD_MS_MAX, NODE_TEXT_SIZE_MAX,
};
use datamesh_core::sign::Signed;
use datamesh_core::time::Timestamp;
use datamesh_core::topology::{NodeRecord, NodeState, Topology};
use datamesh_core::wire::Response;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::sync::{mpsc, watch};

use crate::counters::Tally;
use crate::exchange::frame::Violation;
use crate::identity::Identity;
use crate::membership::book::{Book, Novelty};
use crate::plane::address::{self, HostPort};
use crate::settings::NodeOffer;

/// Batches of news that may wait to be passed on.
pub(crate) const NEWS_WAITING_MAX: usize = 256;
/// Addresses of the data plane in this node's record.
const DATA_ADDRESSES_MAX: usize = 4;
/// How often a node says within its grace that it is there: some of that may be lost.
const BEATS_PER_GRACE: u32 = 4;
const BEAT_MIN: Duration = Duration::from_millis(250);
/// The longest pause between: what a mesh of thousands gossips for it is then a few records a second.
const BEAT_MAX: Duration = Duration::from_secs(60 * 60);
/// Signatures that are verified before other tasks get their turn.
const VERIFIED_AT_ONCE: usize = 16;

/// What is known of the mesh. Shared by whoever learns or asks.
pub(crate) struct Membership {
    own: Option<Own>,
    data_port: OnceLock<u16>,
    book: Mutex<Book>,
    rolls: Mutex<Rolls>,
    /// Where rolls are kept, if anywhere; locked while one is taken.
    rolls_directory: tokio::sync::Mutex<Option<PathBuf>>,
    topology: watch::Sender<Arc<Topology>>,
    news: mpsc::Sender<Vec<Signed<NodeRecord>>>,
    tally: Arc<Tally>,
}

/// What a node says of itself; a client says nothing.
struct Own {
    identity: Identity,
    offer: NodeOffer,
    standing: Mutex<Standing>,
}

/// The parts of a node's own record that change while it runs.
#[derive(Clone)]
struct Standing {
    state: NodeState,
    addresses: Vec<Multiaddr>,
}

/// What came of records that someone sent.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    /// The records that were news.
    pub(crate) news: Vec<Signed<NodeRecord>>,
    /// Records that were older than what is known, or from the future.
    pub(crate) stale_count: usize,
    /// Why the rest was not looked at, if it was not.
    pub(crate) violation: Option<Violation>,
}

impl Membership {
    /// Knows what was saved; damaged or forged records are left out.
    pub(crate) fn new(
        own: Option<(Identity, NodeOffer)>,
        saved: Vec<Signed<NodeRecord>>,
        rolls: Rolls,
        news: mpsc::Sender<Vec<Signed<NodeRecord>>>,
        tally: Arc<Tally>,
    ) -> Self {
        let standing = Standing { state: NodeState::Active, addresses: Vec::new() };
        let own = own.map(|(identity, offer)| Own { identity, offer, standing: Mutex::new(standing) });
        let mut book = Book::default();
        let now = now_ms();
        let epoch = Timestamp::from_ms(now).epoch();
        let own_node = own.as_ref().map(|own| own.identity.node());
        let taken = |record: &Signed<NodeRecord>| {
            let node = record.unverified().node;
            Some(node) == own_node || rolls.admits(Admitted::Node(node), epoch)
        };
        // What was signed while the clock was wrong, nobody else has taken either.
        let counts =
            |record: &Signed<NodeRecord>| taken(record) && sound(record).is_ok() && !is_ahead(record, now);
        for record in saved.into_iter().filter(counts) {
            book.admit(record, now);
        }
        let topology = watch::Sender::new(Arc::new(topology_of(&book)));
        Self {
            own,
            data_port: OnceLock::new(),
            book: Mutex::new(book),
            rolls: Mutex::new(rolls),
            rolls_directory: tokio::sync::Mutex::new(None),
            topology,
            news,
            tally,
        }
    }

    /// The mesh as it is known now.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.borrow())
    }

    /// Tells of every change of the topology.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Topology>> {
        self.topology.subscribe()
    }

    /// Where a node says it can be dialled by libp2p.
    pub(crate) fn addresses(&self, node: &NodeId) -> Vec<Multiaddr> {
        let topology = self.topology();
        topology.record(node).map(swarm_addresses).unwrap_or_default()
    }

    /// Where a node says it serves the data plane.
    pub(crate) fn data_addresses(&self, node: &NodeId) -> Vec<HostPort> {
        let topology = self.topology();
        let texts = topology.record(node).map(|record| record.addresses.as_slice()).unwrap_or_default();
        texts.iter().filter_map(|text| address::host_and_port(&text.parse().ok()?)).collect()
    }

    /// Says on which port this node serves the data plane, before it first says where it is.
    pub(crate) fn set_data_port(&self, port: u16) {
        // The network is started once.
        let _ = self.data_port.set(port);
    }

    /// One page of the records known.
    pub(crate) fn page(&self, after: Option<NodeId>) -> Response {
        let (records, more) = self.book().page(after);
        Response::Records { records, more }
    }

    /// The records that someone who knows these sequences lacks.
    pub(crate) fn lacking(&self, sequences: &BTreeMap<NodeId, u64>) -> Vec<Signed<NodeRecord>> {
        self.book().lacking(sequences)
    }

    /// Every record known.
    pub(crate) fn records(&self) -> Vec<Signed<NodeRecord>> {
        self.book().records().cloned().collect()
    }

    /// Learns what someone told this node alone, and passes on what is news. Says how many were.
    ///
    /// # Errors
    /// [`Violation::ForgedRecord`] if one of them is not signed by its node; those before it are learned.
    pub(crate) async fn learn(&self, records: Vec<Signed<NodeRecord>>) -> Result<usize, Violation> {
        let learned = self.overhear(records).await;
        let news_count = learned.news.len();
        if news_count > 0 {
            // When so much news is waiting, the next reconciliation passes it on.
            let _ = self.news.try_send(learned.news);
        }
        learned.violation.map_or(Ok(news_count), Err)
    }

    /// Learns what others know already or will hear of without this node.
    pub(crate) async fn overhear(&self, records: Vec<Signed<NodeRecord>>) -> Learned {
        let now = now_ms();
        let mut learned = Learned::default();
        let mut verified = Vec::new();
        for record in records {
            let novelty = self.book().novelty(&record);
            // Not a violation: one of the two clocks is wrong, and it may be ours.
            let ahead = is_ahead(&record, now);
            match (novelty, ahead) {
                (Novelty::Known, _) => {}
                (Novelty::Stale, _) | (Novelty::News, true) => learned.stale_count += 1,
                (Novelty::News, false) => match sound(&record) {
                    Ok(()) => verified.push(record),
                    Err(violation) => {
                        learned.violation = Some(violation);
                        break;
                    }
                },
            }
            if verified.len() % VERIFIED_AT_ONCE == VERIFIED_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        learned.news = self.admit(verified, now);
        learned
    }

    fn admit(&self, verified: Vec<Signed<NodeRecord>>, now: u64) -> Vec<Signed<NodeRecord>> {
        let mut book = self.book();
        let taken = verified.into_iter().filter(|record| self.takes(&record.unverified().node));
        let admitted: Vec<_> = taken.filter(|record| book.admit(record.clone(), now)).collect();
        if !admitted.is_empty() {
            self.tally.records_learned.add_size(admitted.len());
            self.publish(&book, &admitted);
        }
        admitted
    }

    /// Makes what changed visible, with the book still locked, so that the topology never steps back.
    fn publish(&self, book: &Book, changed: &[Signed<NodeRecord>]) {
        self.topology.send_modify(|topology| {
            let topology = Arc::make_mut(topology);
            for record in changed {
                topology.learn(record.unverified().clone());
            }
            if topology.len() > book.len() {
                // The book has forgotten nodes that left.
                let forgotten = topology.records().filter(|record| book.record(&record.node).is_none());
                let forgotten: Vec<NodeId> = forgotten.map(|record| record.node).collect();
                forgotten.iter().for_each(|node| topology.forget(node));
            }
            topology.judge(self.own_node().as_ref(), Timestamp::from_ms(now_ms()));
        });
    }

    /// Finds out which nodes have been silent for longer than they may.
    pub(crate) fn judge(&self) {
        self.expel();
        self.topology.send_if_modified(|topology| {
            let (own, now) = (self.own_node(), Timestamp::from_ms(now_ms()));
            let mut judged = Topology::clone(topology);
            let changed = judged.judge(own.as_ref(), now);
            if changed {
                *topology = Arc::new(judged);
            }
            changed
        });
    }

    fn own_node(&self) -> Option<NodeId> {
        self.own.as_ref().map(|own| own.identity.node())
    }

    /// How often this participant says that it is there, if it is a node.
    pub(crate) fn beat(&self) -> Duration {
        let beat = self.own.as_ref().map(|own| own.offer.grace / BEATS_PER_GRACE);
        beat.map_or(BEAT_MAX, |beat| beat.clamp(BEAT_MIN, BEAT_MAX))
    }

    /// Forgets nodes that left long ago.
    pub(crate) fn forget_gone(&self) {
        let mut book = self.book();
        if book.forget_gone(now_ms()) {
            self.publish(&book, &[]);
        }
    }

    /// Changes the state in this node's own record; `None` for a client, which has none.
    pub(crate) fn set_state(&self, state: NodeState) -> Option<Signed<NodeRecord>> {
        self.restate(|standing| standing.state = state)
    }

    /// Says anew that this node is there; `None` for a client, which has no record.
    pub(crate) fn renew(&self) -> Option<Signed<NodeRecord>> {
        self.restate(|_| ())
    }

    /// Changes the addresses in this node's own record; `None` for a client, which has none.
    pub(crate) fn set_addresses(&self, addresses: &[Multiaddr]) -> Option<Signed<NodeRecord>> {
        let port = self.data_port.get().copied();
        self.restate(|standing| standing.addresses = dialable(addresses, port))
    }

    /// Signs this node's own record anew, later than any that is known of it.
    fn restate(&self, change: impl FnOnce(&mut Standing)) -> Option<Signed<NodeRecord>> {
        let own = self.own.as_ref()?;
        let mut standing = own.standing.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut standing);
        let mut book = self.book();
        let node = own.identity.node();
        let now = now_ms();
        if book.record(&node).is_some_and(|record| is_ahead(record, now)) {
            // The clock was wrong until now. Others have refused that record, and would refuse any that is later still.
            book.forget(&node);
            self.topology.send_modify(|topology| Arc::make_mut(topology).forget(&node));
        }
        let known = book.record(&node).map_or(0, |record| record.unverified().sequence);
        let record = own.record(&standing, now.max(known.saturating_add(1)));
        let signed = Signed::sign(record, own.identity.signing_key());
        if book.admit(signed.clone(), now) {
            self.publish(&book, std::slice::from_ref(&signed));
        }
        Some(signed)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing that holds the lock can leave the book half changed.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Own {
    fn record(&self, standing: &Standing, sequence: u64) -> NodeRecord {
        NodeRecord {
            node: self.identity.node(),
            sequence,
            addresses: standing.addresses.iter().map(ToString::to_string).collect(),
            role: self.offer.role,
            state: standing.state,
            domain: self.offer.domain.clone(),
            capacity: self.offer.capacity,
            grace_s: u32::try_from(self.offer.grace.as_secs()).unwrap_or(u32::MAX).min(NODE_GRACE_S_MAX),
            software: self.offer.software.clone(),
        }
    }
}

fn topology_of(book: &Book) -> Topology {
    Topology::new(book.records().map(|record| record.unverified().clone()))
}

/// Whether a record is from a time that this clock won't reach soon.
fn is_ahead(record: &Signed<NodeRecord>, now_ms: u64) -> bool {
    record.unverified().sequence > now_ms.saturating_add(NODE_RECORD_AHEAD_MS_MAX)
}

/// Whether a record is bounded and signed by its node.
fn sound(record: &Signed<NodeRecord>) -> Result<(), Violation> {
    let bounded = record.unverified().bounded();
    if bounded && record.verify().is_ok() { Ok(()) } else { Err(Violation::ForgedRecord) }
}

/// Where libp2p can dial a node.
pub(crate) fn swarm_addresses(record: &NodeRecord) -> Vec<Multiaddr> {
    let parsed = record.addresses.iter().filter_map(|text| text.parse().ok());
    parsed.filter(|address| !address::is_data(address)).collect()
}

/// The addresses worth telling others: without the peer id, which the record names; and where there are others, without
/// those that only this machine can dial. Those of the data plane stand last.
fn dialable(addresses: &[Multiaddr], data_port: Option<u16>) -> Vec<Multiaddr> {
    let bare = addresses.iter().cloned().map(without_peer).filter(|address| !unspecified(address));
    let short: Vec<Multiaddr> = bare.filter(|bare| bare.to_string().len() <= NODE_TEXT_SIZE_MAX).collect();
    let elsewhere: Vec<Multiaddr> = short.iter().filter(|address| !loopback(address)).cloned().collect();
    let mut chosen = if elsewhere.is_empty() { short } else { elsewhere };
    let mut data = data_port.map(|port| address::beside(&chosen, port)).unwrap_or_default();
    data.truncate(DATA_ADDRESSES_MAX);
    chosen.truncate(NODE_ADDRESSES_MAX - data.len());
    chosen.append(&mut data);
    chosen
}

/// The address without the peer id at its end.
pub(crate) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

fn loopback(address: &Multiaddr) -> bool {
    address.iter().any(|protocol| match protocol {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
}

fn unspecified(address: &Multiaddr) -> bool {
    address.iter().any(|protocol| match protocol {
        Protocol::Ip4(ip) => ip.is_unspecified(),
        Protocol::Ip6(ip) => ip.is_unspecified(),
        _ => false,
    })
}

/// Milliseconds since the Unix epoch; 0 on a clock before it.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
