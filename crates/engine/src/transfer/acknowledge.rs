//! Acknowledges to nodes what they have served: in batches beside the fetches, and what is left when those are done.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datamesh_core::id::{ItemId, NodeId};
use datamesh_core::limits::SERVICE_ITEMS_MAX;
use datamesh_core::receipt::{Countersignature, ServedItem, Service, ServiceReceipt, SessionId};
use datamesh_core::sign::Signed;
use datamesh_core::wire::{Message, Request, Response};
use futures::future::{Either, join_all, select};
use tokio::sync::Notify;

use super::Transfer;
use crate::world::{CallError, Notary};

/// How long a node may take to countersign.
const DEADLINE: Duration = Duration::from_secs(1);
/// How long the last of it may take, all nodes and batches together: who has got what it asked for does not wait for receipts.
const END_DEADLINE: Duration = Duration::from_secs(2);
/// How often it is asked the same when the connection breaks: it may have signed what did not arrive.
const ATTEMPTS: usize = 2;
/// Items of one node that may wait to be acknowledged; of those beyond them nothing is said.
const WAITING_ITEMS_MAX: usize = 16 * SERVICE_ITEMS_MAX;

/// What nodes have served in one transfer.
#[derive(Default)]
pub(super) struct Served {
    accounts: Mutex<BTreeMap<NodeId, Account>>,
    /// Told when there is a whole batch of some node.
    full: Notify,
}

/// What one node has served.
struct Account {
    session: SessionId,
    sequence: u64,
    total: u64,
    /// What is to be acknowledged.
    waiting: Vec<ServedItem>,
    /// What was acknowledged and has no answer yet.
    unanswered: Option<Signed<Service>>,
    /// Whether it has failed to countersign: then it is left in peace.
    silent: bool,
}

impl Served {
    fn accounts(&self) -> MutexGuard<'_, BTreeMap<NodeId, Account>> {
        // Nothing that holds the lock can leave an account half changed.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transfer {
    /// Notes that a node has served an item. What this very process has is no service.
    pub(super) fn note_served(&self, node: NodeId, item: ItemId, size: usize) {
        let Ok(size) = u32::try_from(size) else { return };
        if self.world.notary.is_none() || self.settings.own == Some(node) {
            return;
        }
        let mut accounts = self.served.accounts();
        let account = accounts.entry(node).or_insert_with(|| {
            let mut session = [0; 16];
            self.world.entropy.fill(&mut session);
            let session = SessionId::from_bytes(session);
            Account { session, sequence: 0, total: 0, waiting: vec![], unanswered: None, silent: false }
        });
        if account.silent || account.waiting.len() >= WAITING_ITEMS_MAX {
            return;
        }
        account.waiting.push(ServedItem { item, size });
        if account.waiting.len() >= SERVICE_ITEMS_MAX {
            self.served.full.notify_one();
        }
    }

    /// Does something, acknowledges beside it what nodes serve for it, and the rest at its end.
    ///
    /// # Cancel safety
    /// When dropped, what was served last is not acknowledged; else as the work itself.
    pub async fn acknowledging<T>(&self, work: impl Future<Output = T>) -> T {
        let Some(notary) = &self.world.notary else { return work.await };
        let output = {
            let beside = pin!(async {
                loop {
                    self.served.full.notified().await;
                    self.acknowledge_all(notary, SERVICE_ITEMS_MAX).await;
                }
            });
            match select(pin!(work), beside).await {
                Either::Left((output, _)) => output,
                Either::Right((never, _)) => never,
            }
        };
        select(pin!(self.acknowledge_all(notary, 1)), self.world.clock.sleep(END_DEADLINE)).await;
        output
    }

    /// Acknowledges what each node has served, where there are at least so many items.
    async fn acknowledge_all(&self, notary: &Notary, least: usize) {
        let nodes: Vec<NodeId> = self.served.accounts().keys().copied().collect();
        join_all(nodes.into_iter().map(|node| self.acknowledge(notary, node, least))).await;
    }

    async fn acknowledge(&self, notary: &Notary, node: NodeId, least: usize) {
        while let Some(service) = self.next_service(notary, node, least) {
            let countersignature = self.countersigned(node, &service).await;
            if let Some(account) = self.served.accounts().get_mut(&node) {
                account.unanswered = None;
                if countersignature.is_none() {
                    account.silent = true;
                    account.waiting = vec![];
                }
            }
            match countersignature {
                Some(countersignature) => notary.receipts.keep(ServiceReceipt { service, countersignature }),
                None => return,
            }
        }
    }

    /// What is to be acknowledged next: what has no answer yet, else a new batch.
    fn next_service(&self, notary: &Notary, node: NodeId, least: usize) -> Option<Signed<Service>> {
        let mut accounts = self.served.accounts();
        let account = accounts.get_mut(&node)?;
        if account.unanswered.is_none() && account.waiting.len() >= least {
            let batch_size = account.waiting.len().min(SERVICE_ITEMS_MAX);
            let items: Vec<ServedItem> = account.waiting.drain(..batch_size).collect();
            account.sequence += 1;
            account.total += items.iter().map(|served| u64::from(served.size)).sum::<u64>();
            let service = Service {
                server: node,
                reader: NodeId::from_bytes(notary.key.verifying_key().to_bytes()),
                session: account.session,
                sequence: account.sequence,
                items,
                total: account.total,
                served: self.world.clock.now(),
            };
            account.unanswered = Some(Signed::sign(service, &notary.key));
        }
        account.unanswered.clone()
    }

    /// A node's signature under what it has served. That there is none is nobody's loss but the node's.
    async fn countersigned(
        &self,
        node: NodeId,
        service: &Signed<Service>,
    ) -> Option<Signed<Countersignature>> {
        for _ in 0..ATTEMPTS {
            let request = Message::bare(Request::Acknowledge(service.clone()));
            match self.call(node, request, DEADLINE).await {
                Ok(Message { header: Response::Countersigned(signed), .. }) => {
                    let holds = signed.verify().is_ok_and(|signature| signature.is_for(service));
                    if !holds {
                        tracing::debug!(%node, "countersignature is not right");
                    }
                    return holds.then_some(signed);
                }
                Ok(Message { header, .. }) => {
                    tracing::debug!(%node, ?header, "node does not countersign what it served");
                    return None;
                }
                Err(error) => {
                    tracing::debug!(%error, "node does not countersign what it served");
                    if matches!(error, CallError::TimedOut { .. }) {
                        return None;
                    }
                }
            }
        }
        None
    }
}
