//! The store: a node's own items on its own disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, OwnerId, PlacementGroup};
use datamesh_core::lease::{Lease, PutId, Release};
use datamesh_core::limits::{KIB, SHARD_SIZE_MAX};
use datamesh_core::sign::Signed;
use datamesh_core::summary::{Part, PartId, Summary};
use datamesh_core::time::Epoch;
use datamesh_core::wire::{Description, StoredItem};
use datamesh_engine::world::{Entropy, Group, HandedOver, Items, ItemsError, Usage};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::compact::Collected;
use crate::disk::Disk;
use crate::read::{self, Readers};
use crate::recover::{OpenError, Recovered, Recovery, recover};
use crate::scrub::{Doubt, Scrubbed, scrub, scrub_releases};
use crate::settings::StoreSettings;
use crate::shared::{Mended, Shared};
use crate::verify::{Findings, verify_quick};
use crate::write::{Command, Reply, Writer};

/// Commands that may wait for the writer.
const COMMANDS_MAX: usize = 1024;
/// Releases that are looked at one after the other.
const RELEASES_AT_ONCE: usize = 1024;
/// The queue's unit, bytes: what a semaphore counts must fit 32 bits.
const QUEUE_UNIT: usize = KIB;

/// A node's own items on its own disk. Cheap to clone; the last clone's drop waits for the writer to end.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    recovery: Recovery,
    queue: Arc<Semaphore>,
    queue_units: usize,
    /// Taken when the store is dropped, so that its threads end.
    handles: Option<Handles>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Handles {
    commands: mpsc::Sender<Command>,
    readers: Readers,
}

impl Store {
    /// Opens the store in a directory, or makes it there. After a crash, this makes disk and index agree again.
    ///
    /// It blocks; so does the drop of the last clone.
    ///
    /// # Errors
    /// [`OpenError`] when somebody else has it open, or it can't be read or written.
    pub fn open(
        directory: &Path,
        settings: StoreSettings,
        disk: Arc<dyn Disk>,
        entropy: &dyn Entropy,
    ) -> Result<Self, OpenError> {
        let Recovered { shared, resume, recovery } = recover(disk, directory, settings, entropy)?;
        let shared = Arc::new(shared);
        let failed = |source| OpenError::Disk { what: "start a thread".to_owned(), source };
        let (readers, mut threads) = Readers::start(settings.readers).map_err(failed)?;
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let mut writer = Writer::new(shared.clone(), resume);
        writer.publish_fill(None);
        let writer =
            thread::Builder::new().name("store-write".to_owned()).spawn(move || writer.run(receiver));
        threads.push(writer.map_err(failed)?);
        // A single item may be larger than the queue is meant to be: then it waits for the queue to be empty.
        let queue_units = settings.queue_size.max(SHARD_SIZE_MAX).div_ceil(QUEUE_UNIT);
        let inner = Inner {
            shared,
            recovery,
            queue: Arc::new(Semaphore::new(queue_units)),
            queue_units,
            handles: Some(Handles { commands, readers }),
            threads: Mutex::new(threads),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What was found and done when the store was opened.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.inner.recovery
    }

    /// Ends the leases that have expired and gives back the space of what is kept under none. One at a time.
    ///
    /// # Errors
    /// [`ItemsError`] when the disk failed, or a collection is under way; what was done by then stays done.
    ///
    /// # Cancel safety
    /// The collection goes on though the future is dropped.
    pub async fn collect(&self, now: Epoch) -> Result<Collected, ItemsError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Collect { now, reply }).await?;
        answer.await.map_err(|_| self.unanswered())?
    }

    /// What is known of the items behind another one, in a fixed order: those of at most `item_count_max` items, one
    /// description for each stripe that an item is of, with every lease. Empty behind the last item.
    ///
    /// # Errors
    /// [`ItemsError`] when it can't be read.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn list(
        &self,
        after: Option<ItemId>,
        item_count_max: usize,
    ) -> Result<Vec<Description>, ItemsError> {
        self.read(move |shared| read::list(shared, after, item_count_max)).await
    }

    /// Reads items behind another one whole, in the order of the index, at most so many: bytes, records and leases. What is
    /// rotten is forgotten, so that it is missed and made again.
    ///
    /// # Errors
    /// [`ItemsError`] when the index can't be read.
    ///
    /// # Cancel safety
    /// What was found rotten until it is dropped may or may not be forgotten.
    pub async fn scrub(&self, after: Option<ItemId>, count_max: usize) -> Result<Scrubbed, ItemsError> {
        let scrubbed = self.read(move |shared| scrub(shared, after, count_max)).await?;
        for item in &scrubbed.rotten {
            self.send(Command::Condemn { item: *item, doubt: Doubt::Rotten }).await?;
        }
        if scrubbed.is_mostly_readable() {
            for item in &scrubbed.unreadable {
                self.send(Command::Condemn { item: *item, doubt: Doubt::Unreadable }).await?;
            }
        }
        Ok(scrubbed)
    }

    /// Looks at all that [`Store::scrub`] does not, once: the index, headers of segments and releases. What is damaged is made anew from
    /// what says the same. Writes wait while the index is read.
    ///
    /// # Errors
    /// [`ItemsError`] when the disk failed.
    ///
    /// # Cancel safety
    /// What was begun is done though the future is dropped.
    pub async fn scrub_rest(&self) -> Result<(), ItemsError> {
        self.ask(|reply| Command::Check { reply: Some(reply) }).await?;
        let mut after = None;
        loop {
            let (last, rotten) =
                self.read(move |shared| scrub_releases(shared, after.as_ref(), RELEASES_AT_ONCE)).await?;
            for put in rotten {
                self.send(Command::MendRelease { put }).await?;
            }
            match last {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// What was damaged and is whole again since the store was opened, that included.
    #[must_use]
    pub fn mended(&self) -> Mended {
        self.inner.shared.mended()
    }

    /// Compares the index with the segments' headers and sizes, without reading what is between.
    ///
    /// # Errors
    /// [`ItemsError`] when the index can't be read.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn verify_quick(&self) -> Result<Findings, ItemsError> {
        self.read(verify_quick).await
    }

    /// A hash over everything in the index that the segments determine: equal before and after it is made anew.
    ///
    /// # Errors
    /// [`ItemsError`] when the index can't be read.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn index_digest(&self) -> Result<[u8; 32], ItemsError> {
        self.read(move |shared| shared.index().digest().map_err(|error| shared.index_error(&error))).await
    }

    /// Makes the index durable as it is and ends the writer, so that the next start has nothing to replay. Everything
    /// acknowledged is durable without it.
    ///
    /// # Errors
    /// [`ItemsError`] when that failed, or the store is closed already.
    ///
    /// # Cancel safety
    /// The store is closed though the future is dropped.
    pub async fn close(&self) -> Result<(), ItemsError> {
        self.ask(|reply| Command::Close { reply }).await.map(|_| ())
    }

    fn handles(&self) -> &Handles {
        self.inner.handles.as_ref().expect("taken only when the store is dropped")
    }

    fn readers(&self) -> &Readers {
        &self.handles().readers
    }

    async fn send(&self, command: Command) -> Result<(), ItemsError> {
        self.handles().commands.send(command).await.map_err(|_| ItemsError::Closed)
    }

    /// Runs a read. Where the index fails it, the writer opens the index again.
    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Shared) -> Result<T, ItemsError> + Send + 'static,
    ) -> Result<T, ItemsError> {
        let shared = self.inner.shared.clone();
        // redb asserts more of its files than it checks, so that a rotten page may end a read in any way.
        let caught = move || {
            catch_unwind(AssertUnwindSafe(|| job(&shared))).unwrap_or_else(|_| Err(shared.index_broke()))
        };
        let read = self.readers().run(caught).await;
        if self.inner.shared.is_index_doubted() {
            // Where the writer is busy, it looks before its next group.
            let _ = self.handles().commands.try_send(Command::Check { reply: None });
        }
        read
    }

    /// Why the writer gave no answer.
    fn unanswered(&self) -> ItemsError {
        if self.handles().commands.is_closed() { ItemsError::Closed } else { self.inner.shared.index_broke() }
    }

    async fn ask(&self, command: impl FnOnce(Reply) -> Command) -> Result<u64, ItemsError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| self.unanswered())?
    }

    async fn store_item(
        &self,
        item: StoredItem,
        lease: Signed<Lease>,
        bytes: Bytes,
    ) -> Result<Group, ItemsError> {
        let units = bytes.len().div_ceil(QUEUE_UNIT).min(self.inner.queue_units);
        let units = u32::try_from(units).expect("a queue is far smaller than 4 TiB");
        let permit =
            self.inner.queue.clone().acquire_many_owned(units).await.map_err(|_| ItemsError::Closed)?;
        let (reply, stored) = oneshot::channel();
        self.send(Command::Store { item, lease, bytes, permit, reply }).await?;
        stored.await.map_err(|_| self.unanswered())?
    }

    async fn fetch_item(
        &self,
        item: ItemId,
        offset: u32,
        size: Option<u32>,
    ) -> Result<Option<Bytes>, ItemsError> {
        self.read(move |shared| read::fetch(shared, item, offset, size)).await
    }

    async fn fetch_checked_item(&self, item: ItemId) -> Result<Option<Bytes>, ItemsError> {
        let fetched = self.read(move |shared| read::fetch_checked(shared, item)).await;
        if let Err(ItemsError::Rotten(_)) = fetched {
            // Looked at again by the writer, who forgets it. If the writer is busy, the next reader says it again.
            let _ = self.handles().commands.try_send(Command::Condemn { item, doubt: Doubt::Rotten });
        }
        fetched
    }
}

impl Items for Store {
    fn store(
        &self,
        item: StoredItem,
        lease: Signed<Lease>,
        bytes: Bytes,
    ) -> BoxFuture<'_, Result<Group, ItemsError>> {
        self.store_item(item, lease, bytes).boxed()
    }

    fn fetch(
        &self,
        item: ItemId,
        offset: u32,
        size: Option<u32>,
    ) -> BoxFuture<'_, Result<Option<Bytes>, ItemsError>> {
        self.fetch_item(item, offset, size).boxed()
    }

    fn fetch_checked(&self, item: ItemId) -> BoxFuture<'_, Result<Option<Bytes>, ItemsError>> {
        self.fetch_checked_item(item).boxed()
    }

    fn has(&self, items: Vec<ItemId>) -> BoxFuture<'_, Result<Vec<bool>, ItemsError>> {
        self.read(move |shared| read::has(shared, &items)).boxed()
    }

    fn describe(&self, part: PartId) -> BoxFuture<'_, Result<Option<Description>, ItemsError>> {
        self.read(move |shared| read::describe(shared, &part)).boxed()
    }

    fn summarise(&self, groups: Vec<PlacementGroup>) -> BoxFuture<'_, Result<Vec<Summary>, ItemsError>> {
        self.read(move |shared| read::summarise(shared, &groups)).boxed()
    }

    fn parts(
        &self,
        group: PlacementGroup,
        after: Option<PartId>,
        count_max: usize,
    ) -> BoxFuture<'_, Result<Vec<Part>, ItemsError>> {
        self.read(move |shared| read::parts(shared, group, after.as_ref(), count_max)).boxed()
    }

    fn releases(&self, puts: Vec<PutId>) -> BoxFuture<'_, Result<Vec<Signed<Release>>, ItemsError>> {
        self.read(move |shared| read::releases(shared, &puts)).boxed()
    }

    fn blocks(&self, put: PutId, count_max: usize) -> BoxFuture<'_, Result<Vec<BlockId>, ItemsError>> {
        self.read(move |shared| read::blocks(shared, &put, count_max)).boxed()
    }

    fn discard(&self, parts: Vec<HandedOver>) -> BoxFuture<'_, Result<u64, ItemsError>> {
        self.ask(|reply| Command::Discard { parts, reply }).boxed()
    }

    fn lease(&self, item: ItemId, lease: Signed<Lease>) -> BoxFuture<'_, Result<bool, ItemsError>> {
        async move { Ok(self.ask(|reply| Command::Lease { item, lease, reply }).await? == 1) }.boxed()
    }

    fn release(&self, release: Signed<Release>) -> BoxFuture<'_, Result<u64, ItemsError>> {
        self.ask(|reply| Command::Release { release, reply }).boxed()
    }

    fn kept_for(&self, owner: &OwnerId) -> u64 {
        self.inner.shared.owners.kept_for(owner)
    }

    fn usage(&self) -> Usage {
        let shared = &self.inner.shared;
        let fill = shared.fill();
        let longest = u64::try_from(SHARD_SIZE_MAX).expect("a small number");
        let quota_reached = fill.size.saturating_add(longest) > shared.settings.capacity;
        let floor_reached = shared.room_above_floor().map_or(true, |room| room < longest);
        Usage {
            capacity: shared.settings.capacity,
            used: fill.live,
            item_count: fill.item_count,
            full: quota_reached || floor_reached,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The threads end when nobody can ask them for anything any more. They hold the lock, so that whoever opens the
        // store next must not be let in before they are gone.
        drop(self.handles.take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store has panicked");
            }
        }
    }
}
