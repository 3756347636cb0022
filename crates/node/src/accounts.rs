//! What peers were served, until they have acknowledged it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datamesh_core::id::NodeId;
use datamesh_core::limits::{SERVED_PEERS_MAX, SESSIONS_PER_PEER_MAX, UNACKNOWLEDGED_ITEMS_MAX};
use datamesh_core::receipt::{Countersignature, ServedItem, Service, ServiceReceipt, SessionId};
use datamesh_core::sign::Signed;
use datamesh_core::time::Timestamp;
use datamesh_core::wire::Refusal;
use datamesh_engine::world::Receipts;
use ed25519_dalek::SigningKey;

/// A node's accounts with its peers. It countersigns what it has served to the very peer that acknowledges it, and each time
/// that it served an item but once.
pub(crate) struct Accounts {
    books: Mutex<Books>,
    receipts: Arc<dyn Receipts>,
}

#[derive(Default)]
struct Books {
    peers: BTreeMap<NodeId, Account>,
    /// Counts what happened, to know what was longest ago.
    moment: u64,
}

/// The account with one peer.
#[derive(Default)]
struct Account {
    /// What was served and not acknowledged, the oldest first.
    served: VecDeque<ServedItem>,
    sessions: BTreeMap<SessionId, Session>,
    touched: u64,
}

struct Session {
    sequence: u64,
    total: u64,
    /// What was countersigned last: asked the same again, the node says the same.
    last: Signed<Countersignature>,
    touched: u64,
}

impl Accounts {
    pub(crate) fn new(receipts: Arc<dyn Receipts>) -> Self {
        Self { books: Mutex::default(), receipts }
    }

    /// Notes that a peer was served. Of more than the limits allow, what was longest ago is forgotten.
    pub(crate) fn note(&self, peer: NodeId, served: ServedItem) {
        let mut books = self.books();
        books.moment += 1;
        let moment = books.moment;
        if !books.peers.contains_key(&peer) && books.peers.len() >= SERVED_PEERS_MAX {
            let oldest = books.peers.iter().min_by_key(|(_, account)| account.touched).map(|(peer, _)| *peer);
            if let Some(oldest) = oldest {
                books.peers.remove(&oldest);
            }
        }
        let account = books.peers.entry(peer).or_default();
        account.touched = moment;
        if account.served.len() >= UNACKNOWLEDGED_ITEMS_MAX {
            account.served.pop_front();
        }
        account.served.push_back(served);
    }

    /// Countersigns what a peer acknowledges, and keeps that, if it is what the peer was served.
    pub(crate) fn countersign(
        &self,
        peer: NodeId,
        service: Signed<Service>,
        key: &SigningKey,
        now: Timestamp,
    ) -> Result<Signed<Countersignature>, Refusal> {
        let claimed = service.unverified();
        if !claimed.bounded() {
            return Err(Refusal::OutOfBounds);
        }
        let own = claimed.server.as_bytes() == key.verifying_key().as_bytes();
        if !own || claimed.reader != peer || service.verify().is_err() {
            return Err(Refusal::NotServed);
        }
        let mut books = self.books();
        books.moment += 1;
        let moment = books.moment;
        let account = books.peers.get_mut(&peer).ok_or(Refusal::NotServed)?;
        let (sequence, total) = match account.sessions.get(&claimed.session) {
            Some(session) if session.last.unverified().is_for(&service) => return Ok(session.last.clone()),
            Some(session) => (session.sequence, session.total),
            None => (0, 0),
        };
        let follows = sequence.checked_add(1) == Some(claimed.sequence)
            && total.checked_add(claimed.size()) == Some(claimed.total);
        let rest = if follows { without(&account.served, &claimed.items) } else { None };
        account.served = rest.ok_or(Refusal::NotServed)?;
        account.touched = moment;
        let last = Signed::sign(Countersignature::of(&service, now), key);
        let session =
            Session { sequence: claimed.sequence, total: claimed.total, last: last.clone(), touched: moment };
        account.sessions.insert(claimed.session, session);
        if account.sessions.len() > SESSIONS_PER_PEER_MAX {
            let oldest = account.sessions.iter().min_by_key(|(_, session)| session.touched);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                account.sessions.remove(&oldest);
            }
        }
        drop(books);
        self.receipts.keep(ServiceReceipt { service, countersignature: last.clone() });
        Ok(last)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing that holds the lock can leave an account half changed.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was served less what is acknowledged; `None` where something is acknowledged more often than it was served.
fn without(served: &VecDeque<ServedItem>, acknowledged: &[ServedItem]) -> Option<VecDeque<ServedItem>> {
    let mut counts: BTreeMap<&ServedItem, usize> = BTreeMap::new();
    for item in acknowledged {
        *counts.entry(item).or_default() += 1;
    }
    let rest = served.iter().copied().filter(|item| match counts.get_mut(item) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    let rest = rest.collect();
    counts.values().all(|count| *count == 0).then_some(rest)
}
