//! Answers peers: store, fetch, describe, lease, release.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use datamesh_core::id::{ItemId, NodeId, OwnerId, PlacementGroup};
use datamesh_core::lease::{Lease, PutId, Release, Subject};
use datamesh_core::limits::{
    BLOCK_SIZE_MAX, WIRE_BLOCKS_MAX, WIRE_BLOCKS_PUTS_MAX, WIRE_CLASSES_MAX, WIRE_GROUPS_MAX, WIRE_ITEMS_MAX,
    WIRE_LEASES_MAX, WIRE_PARTS_MAX, WIRE_PUTS_MAX,
};
use datamesh_core::receipt::{KeptItem, Receipt, ServedItem, Service};
use datamesh_core::sign::Signed;
use datamesh_core::summary::{KeptBlocks, PartId, SummaryDigest};
use datamesh_core::wire::{
    Description, FetchRequest, Message, NodeStatus, Refusal, Request, Response, StoreRequest, StoredItem,
};
use datamesh_engine::traffic::{Direction, Overloaded, Traffic};
use datamesh_engine::world::{Clock, Compute, Group, Items, ItemsError, Notary, Receipts};
use ed25519_dalek::SigningKey;

use crate::accounts::Accounts;
use crate::metrics::{Build, Registry, RequestKind, RequestTally, ServerSource, Source};
use crate::outlook::Outlook;
use crate::quotas::{Quotas, Reserved};
use crate::receipting::Receipting;

/// Answers what peers ask about this node's items. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
    /// The rate limits that peers are served within; none where the mesh is in one process.
    traffic: Option<Arc<Traffic>>,
    /// What peers were served; none where nobody acknowledges that.
    accounts: Option<Arc<Accounts>>,
    /// What is on its way of each owner.
    quotas: Quotas,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Whoever uses the mesh.
    Client {
        /// Who.
        id: NodeId,
        /// Bytes that the owner whose lease it brings may have here; all that there is room for if none.
        quota: Option<u64>,
    },
    /// A node of the mesh: what it stores was accepted for its owner before, and is being kept whole.
    Node(NodeId),
}

impl Asker {
    const fn id(self) -> NodeId {
        match self {
            Self::Client { id, .. } | Self::Node(id) => id,
        }
    }
}

struct Shared {
    node: NodeId,
    key: SigningKey,
    items: Arc<dyn Items>,
    clock: Arc<dyn Clock>,
    compute: Arc<dyn Compute>,
    started: Duration,
    tally: Arc<RequestTally>,
    metrics: Arc<Registry>,
    outlook: Arc<Outlook>,
    receipting: Receipting,
}

impl Server {
    /// A server of these items, which signs its receipts with the node's key.
    #[must_use]
    pub fn new(
        key: SigningKey,
        items: Arc<dyn Items>,
        clock: Arc<dyn Clock>,
        compute: Arc<dyn Compute>,
    ) -> Self {
        let node = NodeId::from_bytes(key.verifying_key().to_bytes());
        let started = clock.elapsed();
        let (tally, metrics) = (Arc::new(RequestTally::default()), Arc::new(Registry::default()));
        metrics.add(Arc::new(Build));
        metrics.add(Arc::new(ServerSource {
            tally: Arc::clone(&tally),
            items: Arc::clone(&items),
            clock: Arc::clone(&clock),
            started,
        }));
        let outlook = Arc::new(Outlook::new(Arc::clone(&clock)));
        metrics.add(Arc::clone(&outlook) as Arc<dyn Source>);
        let receipting = Receipting::default();
        let shared =
            Shared { node, key, items, clock, compute, started, tally, metrics, outlook, receipting };
        Self { shared: Arc::new(shared), traffic: None, accounts: None, quotas: Quotas::default() }
    }

    /// Which node it answers for.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.shared.node
    }

    /// What the node's metrics come from; more can be added.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Registry> {
        &self.shared.metrics
    }

    /// What acknowledges, with the node's key, what others serve to it.
    pub(crate) fn notary(&self, receipts: Arc<dyn Receipts>) -> Notary {
        Notary { key: self.shared.key.clone(), receipts }
    }

    /// What is known of how the node and its groups stand.
    #[must_use]
    pub fn outlook(&self) -> &Arc<Outlook> {
        &self.shared.outlook
    }

    /// The same, within the rate limits of a process: what peers fetch counts as its uploads, what they store as its downloads.
    #[must_use]
    pub fn within(self, traffic: Arc<Traffic>) -> Self {
        Self { traffic: Some(traffic), ..self }
    }

    /// The same, which countersigns what peers acknowledge that they were served, and keeps that.
    #[must_use]
    pub fn countersigning(self, receipts: Arc<dyn Receipts>) -> Self {
        Self { accounts: Some(Arc::new(Accounts::new(receipts))), ..self }
    }

    /// Answers a client's request as [`Self::answer_asker`] does, whose owner has no quota.
    ///
    /// # Cancel safety
    /// When dropped, the request may or may not have been carried out.
    pub async fn answer_to(&self, from: NodeId, request: Message<Request>) -> Message<Response> {
        self.answer_asker(Asker::Client { id: from, quota: None }, request).await
    }

    /// Answers a peer's request, as fast as the rate limits let its bytes move. One that would have to wait for too long is
    /// refused as busy.
    ///
    /// # Cancel safety
    /// When dropped, the request may or may not have been carried out.
    pub async fn answer_asker(&self, asker: Asker, request: Message<Request>) -> Message<Response> {
        let from = asker.id();
        if let Request::Acknowledge(service) = request.header {
            return self.countersign(from, service);
        }
        let fetched = match &request.header {
            Request::Fetch(fetch) => Some(fetch.item),
            _ => None,
        };
        let answer = self.answer_within_limits(asker, request).await;
        if let (Some(accounts), Some(item), Response::Found) = (&self.accounts, fetched, &answer.header)
            && let Ok(size) = u32::try_from(answer.payload.len())
        {
            accounts.note(from, ServedItem { item, size });
        }
        answer
    }

    async fn answer_within_limits(&self, asker: Asker, request: Message<Request>) -> Message<Response> {
        let quota = if let Asker::Client { quota, .. } = asker { quota } else { None };
        let Some(traffic) = &self.traffic else { return self.answer_within(quota, request).await };
        let from = asker.id();
        let busy = |_: Overloaded| Message::bare(Response::Refused(Refusal::Busy));
        let size = |payload: &Bytes| u64::try_from(payload.len()).unwrap_or(u64::MAX);
        let received = size(&request.payload);
        if received > 0
            && let Err(overloaded) = traffic.serve(from, Direction::Download, received).await
        {
            return busy(overloaded);
        }
        let answer = self.answer_within(quota, request).await;
        let sent = size(&answer.payload);
        if sent > 0
            && let Err(overloaded) = traffic.serve(from, Direction::Upload, sent).await
        {
            return busy(overloaded);
        }
        answer
    }

    /// Answers a request. What membership answers (`Records`, `Announce`, `Rolls`, `Enrol`) is out of bounds here, and so is what depends on
    /// who asks (`Acknowledge`).
    ///
    /// # Cancel safety
    /// When dropped, the request may or may not have been carried out.
    pub async fn answer(&self, request: Message<Request>) -> Message<Response> {
        self.answer_within(None, request).await
    }

    async fn answer_within(&self, quota: Option<u64>, request: Message<Request>) -> Message<Response> {
        let (kind, size) = (RequestKind::of(&request.header), request.payload.len());
        let answer = self.carry_out(quota, request).await;
        let answer = answer.unwrap_or_else(|refusal| Message::bare(Response::Refused(refusal)));
        self.shared.tally.note(kind, size, &answer);
        answer
    }

    async fn carry_out(
        &self,
        quota: Option<u64>,
        request: Message<Request>,
    ) -> Result<Message<Response>, Refusal> {
        let Message { header, payload } = request;
        match header {
            Request::Store(store) => self.store(quota, store, payload).await.map(Message::bare),
            Request::Fetch(fetch) => self.fetch(fetch).await,
            Request::Has(items) => self.has(items).await.map(Message::bare),
            Request::Describe(part) => self.describe(part).await.map(Message::bare),
            Request::Summarise(asked) => self.summarise(asked).await.map(Message::bare),
            Request::Parts { group, after } => self.parts(group, after).await.map(Message::bare),
            Request::Releases(puts) => self.releases(puts).await.map(Message::bare),
            Request::Blocks(asked) => self.blocks(asked).await.map(Message::bare),
            Request::Lease { item, lease } => self.lease(quota, item, lease).await.map(Message::bare),
            Request::Release(release) => self.release(release).await.map(Message::bare),
            Request::Status => Ok(Message::bare(Response::Status(self.status()))),
            Request::Metrics => Ok(self.tell_metrics()),
            Request::Health => {
                Ok(Message::bare(Response::Health(self.shared.outlook.health(self.shared.node))))
            }
            Request::Records { .. }
            | Request::Announce(_)
            | Request::Rolls(_)
            | Request::Enrol(_)
            | Request::Acknowledge(_) => Err(Refusal::OutOfBounds),
        }
    }

    async fn store(
        &self,
        quota: Option<u64>,
        request: StoreRequest,
        bytes: Bytes,
    ) -> Result<Response, Refusal> {
        let StoreRequest { item, lease } = request;
        let id = item.id().ok_or(Refusal::OutOfBounds)?;
        if !has_its_size(&item, bytes.len()) {
            return Err(Refusal::WrongBytes);
        }
        let put = self.check_lease(&lease, item.subject())?.put();
        if !self.shared.compute.matches(id, &bytes).await {
            return Err(Refusal::WrongBytes);
        }
        let kept = item.kept(&bytes).ok_or(Refusal::OutOfBounds)?;
        let part = PartId { subject: item.subject(), item: id };
        let _reserved = self.reserve(quota, put.owner, part, kept.size).await?;
        let group = self.shared.items.store(item, lease, bytes).await.map_err(refusal)?;
        Ok(self.receipt(&group, put, kept))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<Message<Response>, Refusal> {
        let FetchRequest { item, offset, size, checked } = request;
        let items = &self.shared.items;
        let found = if checked {
            let whole = items.fetch_checked(item).await;
            whole.map(|whole| whole.map(|bytes| part(&bytes, offset, size)))
        } else {
            items.fetch(item, offset, size).await
        };
        let found = found.map_err(refusal)?;
        Ok(match found {
            Some(payload) => Message { header: Response::Found, payload },
            None => Message::bare(Response::Absent),
        })
    }

    async fn has(&self, items: Vec<ItemId>) -> Result<Response, Refusal> {
        if items.len() > WIRE_ITEMS_MAX {
            return Err(Refusal::OutOfBounds);
        }
        self.shared.items.has(items).await.map(Response::Holds).map_err(refusal)
    }

    async fn describe(&self, part: PartId) -> Result<Response, Refusal> {
        let mut description = self.shared.items.describe(part).await.map_err(refusal)?;
        if let Some(description) = &mut description {
            description.leases.truncate(WIRE_LEASES_MAX);
        }
        Ok(description.map_or(Response::Absent, Response::Described))
    }

    async fn summarise(&self, asked: Vec<(PlacementGroup, SummaryDigest)>) -> Result<Response, Refusal> {
        if asked.len() > WIRE_GROUPS_MAX {
            return Err(Refusal::OutOfBounds);
        }
        let groups = asked.iter().map(|(group, _)| *group).collect();
        let summaries = self.shared.items.summarise(groups).await.map_err(refusal)?;
        let (mut group_count, mut class_count, mut changed) = (0, 0, Vec::new());
        for (summary, (_, known)) in summaries.into_iter().zip(asked) {
            if summary.digest() != known {
                class_count += summary.classes.len();
                if class_count > WIRE_CLASSES_MAX {
                    break;
                }
                changed.push(summary);
            }
            group_count += 1;
        }
        Ok(Response::Summaries { group_count, changed })
    }

    async fn parts(&self, group: PlacementGroup, after: Option<PartId>) -> Result<Response, Refusal> {
        let parts = self.shared.items.parts(group, after, WIRE_PARTS_MAX).await.map_err(refusal)?;
        let more = parts.len() == WIRE_PARTS_MAX;
        Ok(Response::Parts { parts, more })
    }

    async fn releases(&self, puts: Vec<PutId>) -> Result<Response, Refusal> {
        if puts.len() > WIRE_PUTS_MAX {
            return Err(Refusal::OutOfBounds);
        }
        self.shared.items.releases(puts).await.map(Response::Releases).map_err(refusal)
    }

    async fn blocks(&self, asked: Vec<(PutId, SummaryDigest)>) -> Result<Response, Refusal> {
        if asked.len() > WIRE_BLOCKS_PUTS_MAX {
            return Err(Refusal::OutOfBounds);
        }
        let (mut put_count, mut block_count, mut changed) = (0, 0, Vec::new());
        for (put, known) in asked {
            let blocks = self.shared.items.blocks(put, WIRE_BLOCKS_MAX).await.map_err(refusal)?;
            let kept = KeptBlocks { put, blocks };
            if kept.digest() != known {
                block_count += kept.blocks.len();
                if block_count > WIRE_BLOCKS_MAX {
                    break;
                }
                changed.push(kept);
            }
            put_count += 1;
        }
        Ok(Response::Blocks { put_count, changed })
    }

    async fn lease(
        &self,
        quota: Option<u64>,
        item: StoredItem,
        lease: Signed<Lease>,
    ) -> Result<Response, Refusal> {
        let id = item.id().ok_or(Refusal::OutOfBounds)?;
        let put = self.check_lease(&lease, item.subject())?.put();
        let part = PartId { subject: item.subject(), item: id };
        let Some(description) = self.shared.items.describe(part).await.map_err(refusal)? else {
            return Ok(Response::Absent);
        };
        let _reserved = self.reserve(quota, put.owner, part, description.size).await?;
        if !self.shared.items.lease(id, lease).await.map_err(refusal)? {
            return Ok(Response::Absent);
        }
        let kept = KeptItem { item: id, size: description.size };
        Ok(self.receipt(&Group::new(vec![(put, kept)]), put, kept))
    }

    /// Room in an owner's quota. What is kept for it already takes no more of it by another lease.
    async fn reserve(
        &self,
        quota: Option<u64>,
        owner: OwnerId,
        part: PartId,
        size: u32,
    ) -> Result<Option<Reserved>, Refusal> {
        let Some(quota) = quota else { return Ok(None) };
        let items = &self.shared.items;
        let kept = || items.kept_for(&owner);
        let refused = match self.quotas.reserve(owner, u64::from(size), quota, kept).await {
            Ok(reserved) => return Ok(Some(reserved)),
            Err(refused) => refused,
        };
        let known = items.describe(part).await.map_err(refusal)?;
        let is_kept = |description: Description| {
            description.leases.iter().any(|lease| lease.unverified().owner == owner)
        };
        if known.is_some_and(is_kept) { Ok(None) } else { Err(refused) }
    }

    async fn release(&self, release: Signed<Release>) -> Result<Response, Refusal> {
        release.verify().map_err(|_| Refusal::InvalidLease)?;
        let lease_count = self.shared.items.release(release).await.map_err(refusal)?;
        Ok(Response::Released { lease_count })
    }

    fn countersign(&self, from: NodeId, service: Signed<Service>) -> Message<Response> {
        let Shared { key, clock, tally, .. } = &*self.shared;
        let signed = match &self.accounts {
            Some(accounts) => accounts.countersign(from, service, key, clock.now()),
            None => Err(Refusal::OutOfBounds),
        };
        let answer = Message::bare(signed.map_or_else(Response::Refused, Response::Countersigned));
        tally.note(RequestKind::Acknowledge, 0, &answer);
        answer
    }

    fn tell_metrics(&self) -> Message<Response> {
        Message { header: Response::Metrics, payload: self.shared.metrics.answer().into() }
    }

    fn status(&self) -> NodeStatus {
        let usage = self.shared.items.usage();
        NodeStatus {
            node: self.shared.node,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            capacity: usage.capacity,
            used: usage.used,
            item_count: usage.item_count,
            node_count: 0,
            uptime_s: self.shared.clock.elapsed().saturating_sub(self.shared.started).as_secs(),
            full: usage.full,
        }
    }

    fn check_lease<'a>(&self, lease: &'a Signed<Lease>, subject: Subject) -> Result<&'a Lease, Refusal> {
        let lease = lease.verify().map_err(|_| Refusal::InvalidLease)?;
        let current = !lease.expired(self.shared.clock.now().epoch());
        if lease.subject == subject && current { Ok(lease) } else { Err(Refusal::InvalidLease) }
    }

    fn receipt(&self, group: &Group, put: PutId, kept: KeptItem) -> Response {
        let Shared { node, key, clock, receipting, .. } = &*self.shared;
        let sign =
            |items| Signed::sign(Receipt { node: *node, tag: put.tag, items, stored: clock.now() }, key);
        Response::Stored(receipting.receipt(group, put, kept, sign))
    }
}

/// `size` bytes at most, from `offset` on.
fn part(bytes: &Bytes, offset: u32, size: Option<u32>) -> Bytes {
    let widen = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let begin = widen(offset).min(bytes.len());
    let end = size.map_or(bytes.len(), |size| begin.saturating_add(widen(size)).min(bytes.len()));
    bytes.slice(begin..end)
}

fn has_its_size(item: &StoredItem, size: usize) -> bool {
    match item {
        StoredItem::Shard { stripe, .. } => size == stripe.shard_size(),
        StoredItem::Block { .. } => size <= BLOCK_SIZE_MAX,
    }
}

fn refusal(error: ItemsError) -> Refusal {
    match error {
        ItemsError::Full => Refusal::Full,
        ItemsError::Released => Refusal::Released,
        ItemsError::TooManyLeases => Refusal::TooManyLeases,
        ItemsError::Closed => Refusal::Busy,
        ItemsError::Rotten(_) | ItemsError::Disk(_) => {
            tracing::warn!(%error, "an item could not be kept or read");
            Refusal::DiskFailed
        }
    }
}
