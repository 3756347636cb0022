//! The world: every trait the engine needs from outside, and nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use datamesh_core::id::{BlockId, ItemId, NodeId, OwnerId, PlacementGroup};
use datamesh_core::lease::{Lease, PutId, Release};
use datamesh_core::manifest::Stripe;
use datamesh_core::receipt::{KeptItem, ServiceReceipt};
use datamesh_core::sign::Signed;
use datamesh_core::summary::{Part, PartId, Summary};
use datamesh_core::time::Timestamp;
use datamesh_core::topology::Topology;
use datamesh_core::wire::{Description, Message, Request, Response, StoredItem};
use ed25519_dalek::SigningKey;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{BoxFuture, ready};

use crate::rings::Rings;
use crate::traffic::Traffic;

/// Bytes that are hashed without being handed over: some 100 µs.
const HASHED_HERE_SIZE_MAX: usize = 512 * 1024;

/// Everything nondeterministic that the engine may touch. Cheap to clone.
#[derive(Clone)]
pub struct World {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Processor time.
    pub compute: Arc<dyn Compute>,
    /// Other nodes.
    pub peers: Arc<dyn Peers>,
    /// What all operations of this process share, and know of other nodes.
    pub traffic: Arc<Traffic>,
    /// Who holds what, as the mesh is and was: [`Rings::default`] where the process begins.
    pub rings: Arc<Rings>,
    /// What was got before; [`NoCache`] where nothing is kept.
    pub cache: Arc<dyn Cache>,
    /// Who acknowledges what nodes serve; `None` where nobody does.
    pub notary: Option<Arc<Notary>>,
}

/// Acknowledges what nodes serve.
pub struct Notary {
    /// The key by which the network knows this participant: signing with it tells a node no more than its connection does.
    pub key: SigningKey,
    /// Where that is kept.
    pub receipts: Arc<dyn Receipts>,
}

/// Keeps what both ends have signed of what was served.
pub trait Receipts: Send + Sync {
    /// Keeps one receipt, whose signatures are right. It must not block.
    fn keep(&self, receipt: ServiceReceipt);
}

/// Tells and awaits time.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Time since some fixed instant; never goes back.
    fn elapsed(&self) -> Duration;

    /// Completes once this much time has passed.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Draws randomness fit for keys.
pub trait Entropy: Send + Sync {
    /// Fills a buffer with random bytes.
    fn fill(&self, buffer: &mut [u8]);
}

/// Runs work that keeps a processor busy where it blocks no I/O.
pub trait Compute: Send + Sync {
    /// Completes once the job has run.
    ///
    /// # Cancel safety
    /// A job that has started runs to its end though the future is dropped.
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

/// Knows the mesh and speaks to its nodes.
pub trait Peers: Send + Sync {
    /// The mesh as it is known here now.
    fn topology(&self) -> Arc<Topology>;

    /// Asks a node and awaits its answer. Backpressure: waits while too many bytes are under way.
    ///
    /// It ends by itself when the transport says that the node can't be reached or has stalled; callers that can't wait
    /// that long set a deadline of their own.
    ///
    /// # Errors
    /// [`CallError`] when there is no answer.
    ///
    /// # Cancel safety
    /// When dropped, the node may or may not have seen the request.
    fn call(
        &self,
        node: NodeId,
        request: Message<Request>,
    ) -> BoxFuture<'_, Result<Message<Response>, CallError>>;
}

/// Why a node did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It can't be dialled, or the connection broke.
    #[error("node {node} can't be reached: {why}")]
    Unreachable {
        /// Whom.
        node: NodeId,
        /// What the transport said.
        why: String,
    },
    /// It didn't answer in time.
    #[error("node {node} did not answer in {waited_ms} ms")]
    TimedOut {
        /// Whom.
        node: NodeId,
        /// How long it was given, milliseconds.
        waited_ms: u64,
    },
    /// It answered with what is no message.
    #[error("node {node} broke the protocol: {why}")]
    Protocol {
        /// Whom.
        node: NodeId,
        /// What is wrong with the answer.
        why: String,
    },
    /// This side is stopping.
    #[error("the network is shut down")]
    Closed,
}

/// A node's own items on its own disk.
pub trait Items: Send + Sync {
    /// Keeps an item under a lease. Done when a power cut can't take it back, and says what became durable with it. The caller
    /// has checked that the bytes are the item's and that the lease is valid for it; an item that is held already only gains
    /// the lease.
    ///
    /// # Errors
    /// [`ItemsError`] when it is not kept.
    ///
    /// # Cancel safety
    /// When dropped, the item may or may not be kept.
    fn store(
        &self,
        item: StoredItem,
        lease: Signed<Lease>,
        bytes: Bytes,
    ) -> BoxFuture<'_, Result<Group, ItemsError>>;

    /// Reads an item from `offset` on, `size` bytes at most; `None` if it isn't held. What is read is not held to the id:
    /// whoever asked does that in any case, and to do it twice would take a tenth of the processor time of a get.
    ///
    /// # Errors
    /// [`ItemsError`] when it is held but can't be read.
    fn fetch(
        &self,
        item: ItemId,
        offset: u32,
        size: Option<u32>,
    ) -> BoxFuture<'_, Result<Option<Bytes>, ItemsError>>;

    /// Reads a whole item and holds it to its id; `None` if it isn't held. One that is rotten is forgotten.
    ///
    /// # Errors
    /// [`ItemsError`] when it is held but can't be read, or is rotten.
    fn fetch_checked(&self, item: ItemId) -> BoxFuture<'_, Result<Option<Bytes>, ItemsError>>;

    /// Says for each item whether it is held, from the index alone.
    ///
    /// # Errors
    /// [`ItemsError`] when the index can't be read.
    fn has(&self, items: Vec<ItemId>) -> BoxFuture<'_, Result<Vec<bool>, ItemsError>>;

    /// What is known of an item as a part of a stripe, short of its bytes, with every lease; `None` if it isn't held as one.
    ///
    /// # Errors
    /// [`ItemsError`] when the index can't be read.
    fn describe(&self, part: PartId) -> BoxFuture<'_, Result<Option<Description>, ItemsError>>;

    /// What is held of each of these groups, in brief; of no more than
    /// [`SUMMARY_CLASSES_MAX`](datamesh_core::limits::SUMMARY_CLASSES_MAX) redundancies each, those with the most stripes.
    ///
    /// # Errors
    /// [`ItemsError`] when the index can't be read.
    fn summarise(&self, groups: Vec<PlacementGroup>) -> BoxFuture<'_, Result<Vec<Summary>, ItemsError>>;

    /// The parts held of a group behind another one, in their order, at most so many.
    ///
    /// # Errors
    /// [`ItemsError`] when the index can't be read.
    fn parts(
        &self,
        group: PlacementGroup,
        after: Option<PartId>,
        count_max: usize,
    ) -> BoxFuture<'_, Result<Vec<Part>, ItemsError>>;

    /// The releases of those of these puts that were released.
    ///
    /// # Errors
    /// [`ItemsError`] when they can't be read.
    fn releases(&self, puts: Vec<PutId>) -> BoxFuture<'_, Result<Vec<Signed<Release>>, ItemsError>>;

    /// The manifest blocks that are kept under a put, in their order, at most so many.
    ///
    /// # Errors
    /// [`ItemsError`] when the index can't be read.
    fn blocks(&self, put: PutId, count_max: usize) -> BoxFuture<'_, Result<Vec<BlockId>, ItemsError>>;

    /// Forgets parts that others hold in this node's stead, durably, and says how many that were. An item that is a part of
    /// something else too is kept, and so is one that has got a lease since, of which the others don't know.
    ///
    /// # Errors
    /// [`ItemsError`] when that could not be made durable.
    fn discard(&self, parts: Vec<HandedOver>) -> BoxFuture<'_, Result<u64, ItemsError>>;

    /// Keeps an item that is held already under one more lease, durably, and says whether it is held. The caller has
    /// checked that the lease is valid for it.
    ///
    /// # Errors
    /// [`ItemsError`] when that could not be made durable.
    fn lease(&self, item: ItemId, lease: Signed<Lease>) -> BoxFuture<'_, Result<bool, ItemsError>>;

    /// Ends every lease under the release's tag, durably, and says how many there were. Items without a lease are garbage.
    ///
    /// # Errors
    /// [`ItemsError`] when that could not be made durable.
    fn release(&self, release: Signed<Release>) -> BoxFuture<'_, Result<u64, ItemsError>>;

    /// Bytes of the items that an owner's leases keep, each item counted once.
    fn kept_for(&self, owner: &OwnerId) -> u64;

    /// How full it is.
    fn usage(&self) -> Usage;
}

/// A part that others hold in a node's stead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOver {
    /// The part.
    pub part: PartId,
    /// The leases of it that the others know.
    pub leases: Vec<Signed<Lease>>,
}

/// Items that became durable together, each with the put that it is kept for. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(Arc<[(PutId, KeptItem)]>);

impl Group {
    /// A group of these.
    #[must_use]
    pub fn new(items: Vec<(PutId, KeptItem)>) -> Self {
        Self(items.into())
    }

    /// Whether it is the very same group, and not only one of the same items.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Those that are kept for a put.
    pub fn of_put(&self, put: PutId) -> impl Iterator<Item = KeptItem> {
        self.0.iter().filter(move |(of, _)| *of == put).map(|(_, kept)| *kept)
    }
}

/// How full a node's disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes offered.
    pub capacity: u64,
    /// Bytes taken.
    pub used: u64,
    /// Items held.
    pub item_count: u64,
    /// Whether no more is taken.
    pub full: bool,
}

/// Why an item was not kept, read or released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemsError {
    /// The quota or the free-space floor is reached.
    #[error("store is full")]
    Full,
    /// The lease's tag was released before.
    #[error("lease was released")]
    Released,
    /// The item is kept under as many leases as one may be.
    #[error("item has too many leases")]
    TooManyLeases,
    /// The bytes on disk are not the item's any more.
    #[error("{0} is rotten on disk")]
    Rotten(ItemId),
    /// The disk can't be read, written or synced.
    #[error("disk: {0}")]
    Disk(String),
    /// The store is stopping.
    #[error("store is closed")]
    Closed,
}

/// What was got before, kept for the next time. It owes nothing: what it is offered it may decline, and what it kept may be
/// gone. What it gives has been checked against the ids that it was asked for.
pub trait Cache: Send + Sync {
    /// The k data shards of a stripe, one after another: the sealed chunk and its padding. `None` if they are not kept.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    fn stripe(&self, stripe: &Stripe) -> BoxFuture<'_, Option<Vec<u8>>>;

    /// Offers the k data shards of a stripe, one after another. Whoever offers them has checked them, and is not made to
    /// wait: what is kept is copied.
    fn offer_stripe(&self, stripe: &Stripe, data: &[u8]);

    /// A manifest block. `None` if it is not kept.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    fn block(&self, block: BlockId) -> BoxFuture<'_, Option<Bytes>>;

    /// Offers a manifest block, under the same terms as a stripe.
    fn offer_block(&self, block: BlockId, bytes: &Bytes);
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCache;

impl Cache for NoCache {
    fn stripe(&self, _stripe: &Stripe) -> BoxFuture<'_, Option<Vec<u8>>> {
        ready(None).boxed()
    }

    fn offer_stripe(&self, _stripe: &Stripe, _data: &[u8]) {}

    fn block(&self, _block: BlockId) -> BoxFuture<'_, Option<Bytes>> {
        ready(None).boxed()
    }

    fn offer_block(&self, _block: BlockId, _bytes: &Bytes) {}
}

/// Where a put reads its bytes.
pub trait Source: Send {
    /// Reads up to so many bytes, behind those that the buffer holds, and says how many; 0 at the end.
    ///
    /// # Errors
    /// When the source can't be read or changed under the reader.
    fn read<'a>(&'a mut self, buffer: &'a mut BytesMut, size_max: usize) -> BoxFuture<'a, io::Result<usize>>;
}

/// Where a get writes its bytes, in their order.
pub trait Sink: Send {
    /// Writes all of it after what was written before.
    ///
    /// # Errors
    /// When it can't be written.
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>>;
}

/// Keeps records of something long that may be broken off, where a crash of this machine can't take them, so that a later
/// run can go on from there.
pub trait Journal: Send + Sync {
    /// The next record of earlier runs, in order; `None` behind the last one that is whole.
    ///
    /// # Errors
    /// When the records can't be read.
    ///
    /// # Cancel safety
    /// The record may be passed over when dropped.
    fn next(&self) -> BoxFuture<'_, io::Result<Option<Bytes>>>;

    /// Adds records behind those of earlier runs, all of which have been read. Done when a power cut can't take them back.
    ///
    /// # Errors
    /// When they can't be written or synced.
    ///
    /// # Cancel safety
    /// When dropped, the first of the records may be kept, or all, or none.
    fn commit(&self, records: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>>;
}

/// An ordered map on this machine's disk, of what could be made anew at some cost. Calls block, for as long as a disk takes where the
/// row is not in memory.
pub trait Map: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// When the map can't be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError>;

    /// The rows from one key on and before another, in order, at most so many.
    ///
    /// # Errors
    /// When the map can't be read.
    fn rows(&self, from: &[u8], before: &[u8], count_max: usize) -> Result<Vec<MapRow>, MapError>;

    /// Sets the values of keys, or removes them, all or none. A power cut may take it back, together with all that came later.
    ///
    /// # Errors
    /// When the map can't be written.
    fn write(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), MapError>;

    /// Done when a power cut can't take back what was written before.
    ///
    /// # Errors
    /// When the map can't be synced.
    fn sync(&self) -> Result<(), MapError>;
}

/// A key and its value.
pub type MapRow = (Vec<u8>, Vec<u8>);

/// A map can't be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("index on this machine: {0}")]
pub struct MapError(pub String);

impl dyn Compute {
    /// Runs a job and returns what it returns.
    ///
    /// # Panics
    /// If the job panics.
    pub async fn output<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = oneshot::channel();
        self.run(Box::new(move || {
            // The receiver is gone only when nobody waits for the result any more.
            let _ = sender.send(job());
        }))
        .await;
        receiver.await.expect("a job that was run to its end has sent its result")
    }

    /// Whether these bytes are the item's: found out here and now where that takes less time than handing it over.
    pub async fn matches(&self, item: ItemId, bytes: &Bytes) -> bool {
        if bytes.len() <= HASHED_HERE_SIZE_MAX {
            return item.matches(bytes);
        }
        let bytes = bytes.clone();
        self.output(move || item.matches(&bytes)).await
    }
}
