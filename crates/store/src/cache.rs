//! The cache: what was got before, on disk, bounded, shared by several processes.
//!
//! A file per entry: the data shards of a stripe, or a manifest block. Its name is the id, and what is read must hash to
//! that id, so that nothing in the directory is trusted: a torn, rotten or foreign file is a miss and is removed. Nothing is
//! synced, since nothing is promised.
//!
//! - **Who gets in.** What is offered for the second time within the time to live (`doorkeeper`): a get that happens once
//!   writes nothing, and a scan of a terabyte displaces nothing.
//! - **Who leaves.** What was not used for the time to live, and when room is needed, what was not used for longest: the
//!   time of a file's last change is the time of its last use (`space`).
//! - **The bound.** One count under one lock, raised before an entry is written (`space`). A crash in between counts too much,
//!   never too little, until the next sweep counts again.
//! - **Who waits.** Nobody for long: reads run on threads of their own, writes on another (`writer`); an offer reads and writes
//!   a few blocks of 64 bytes where it is made, and one that finds the queue full is dropped.

mod doorkeeper;
mod entry;
mod shards;
mod space;
mod writer;

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, ShardId, StripeId};
use datamesh_core::manifest::Stripe;
use datamesh_engine::world::{Cache, Clock};
use futures::FutureExt;
use futures::future::BoxFuture;

use self::doorkeeper::{Doorkeeper, Sighting};
use self::entry::{Key, Subject};
use self::shards::{ShardIndex, ShardPlace};
use self::space::{Lookup, Space};
use self::writer::{Writer, WriterThread};
use crate::read::Readers;

/// Threads that read and check entries.
const READERS: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

/// What a cache is told when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// Where it lies. Nothing else may lie there.
    pub directory: PathBuf,
    /// Bytes that its entries may take on disk.
    pub capacity: u64,
    /// How long an entry stays that nobody uses, and how long an offer is remembered at least.
    pub time_to_live: Duration,
    /// Bytes of the file system that are left free: below it, nothing is taken in.
    pub free_floor: u64,
}

macro_rules! figures {
    ($($(#[doc = $about:literal])+ $name:ident,)+) => {
        /// What a cache has done since it was opened, and how full it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct CacheFigures {
            $($(#[doc = $about])+ pub $name: u64,)+
            /// Bytes that its entries may take.
            pub capacity: u64,
            /// Bytes that its entries take, whichever process wrote them.
            pub used: u64,
            /// Its entries.
            pub entry_count: u64,
        }

        #[derive(Debug, Default)]
        pub(crate) struct Tally {
            $($name: AtomicU64,)+
        }

        impl Tally {
            fn read(&self) -> CacheFigures {
                CacheFigures {
                    $($name: self.$name.load(Ordering::Relaxed),)+
                    ..CacheFigures::default()
                }
            }
        }
    };
}

figures! {
    /// Look-ups that found what they wanted.
    hits,
    /// Look-ups that didn't.
    misses,
    /// Bytes that were found.
    hit_bytes,
    /// Entries written.
    admissions,
    /// Offers declined: made for the first time, or of what would never fit.
    declined,
    /// Offers dropped because too much was waiting to be written.
    dropped,
    /// Entries removed to make room.
    evictions,
    /// Entries removed because nobody had used them for the time to live.
    expirations,
    /// Entries removed because they were not what they should be.
    rotten,
}

impl CacheFigures {
    /// How full the cache in this directory is, as it was last written down; zeros where there is none.
    #[must_use]
    pub fn on_disk(directory: &Path) -> Self {
        let level = space::level_in(directory);
        Self { used: level.used, entry_count: level.entry_count, ..Self::default() }
    }
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn size_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// A cache on disk. Cheap to clone.
#[derive(Clone)]
pub struct DiskCache {
    shared: Arc<Shared>,
}

struct Shared {
    space: Arc<Space>,
    doorkeeper: Doorkeeper,
    readers: Readers,
    writer: Writer,
    tally: Arc<Tally>,
    clock: Arc<dyn Clock>,
    shards: ShardIndex,
}

impl DiskCache {
    /// Opens a cache, made where missing. Other processes may have it open.
    ///
    /// # Errors
    /// When its directory or its own files can't be made, or threads can't be started.
    pub fn open(settings: CacheSettings, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let tally = Arc::new(Tally::default());
        let doorkeeper_path = settings.directory.join("asked");
        let time_to_live = settings.time_to_live;
        let space = Arc::new(Space::open(settings, Arc::clone(&clock), Arc::clone(&tally))?);
        let doorkeeper = Doorkeeper::open(&doorkeeper_path, time_to_live)?;
        let (readers, _) = Readers::start(READERS)?;
        let writer = WriterThread::start(Arc::clone(&space), Arc::clone(&tally))?;
        let shards = ShardIndex::default();
        let shared = Shared { space, doorkeeper, readers, writer, tally, clock, shards };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What it has done since it was opened, and how full it is.
    #[must_use]
    pub fn figures(&self) -> CacheFigures {
        let Shared { tally, space, .. } = &*self.shared;
        let level = space.level();
        CacheFigures {
            capacity: space.capacity(),
            used: level.used,
            entry_count: level.entry_count,
            ..tally.read()
        }
    }

    /// Waits until what was taken in is written. What is offered from now on is dropped.
    ///
    /// # Cancel safety
    /// When dropped, what was waiting is written nevertheless as long as the process runs.
    pub async fn close(&self) {
        self.shared.writer.close().await;
    }

    /// An item that can be made from what is kept: a block, or a data shard of a stripe. From `offset` on, `size` bytes at most.
    /// Other look-ups count as those of whoever reads here; these don't.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn item(&self, item: ItemId, offset: u32, size: Option<u32>) -> Option<Bytes> {
        let shared = Arc::clone(&self.shared);
        let whole = self.shared.readers.run(move || Ok(shared.item(item))).await.ok().flatten()?;
        let within = |position: u32| usize::try_from(position).unwrap_or(usize::MAX).min(whole.len());
        let end = size.map_or(whole.len(), |size| within(offset.saturating_add(size)));
        Some(whole.slice(within(offset)..end.max(within(offset))))
    }

    /// Notes that somebody wants a stripe, and says whether somebody did before within the time to live. Reads and writes a few
    /// blocks of 64 bytes; what is wanted again is let in when it is offered.
    #[must_use]
    pub fn is_wanted_again(&self, stripe: StripeId) -> bool {
        let now = self.shared.clock.now();
        self.shared.doorkeeper.sight(Key::Stripe(stripe), now) == Sighting::Again
    }

    /// Says for each item whether [`DiskCache::item`] would likely have it.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn has(&self, items: Vec<ItemId>) -> Vec<bool> {
        let (shared, item_count) = (Arc::clone(&self.shared), items.len());
        let answers =
            self.shared.readers.run(move || Ok(items.iter().map(|item| shared.has(item)).collect()));
        answers.await.unwrap_or_else(|_| vec![false; item_count])
    }
}

impl Shared {
    fn look_up(&self, subject: &Subject) -> Option<Vec<u8>> {
        match self.space.read(subject) {
            Lookup::Found(payload) => {
                count(&self.tally.hits, 1);
                count(&self.tally.hit_bytes, size_of(&payload));
                Some(payload)
            }
            Lookup::Missing => {
                count(&self.tally.misses, 1);
                None
            }
        }
    }

    fn offer(&self, subject: Subject, payload: &[u8]) {
        let now = self.clock.now();
        match self.doorkeeper.sight(subject.key(), now) {
            Sighting::Again => self.writer.take(subject, payload),
            Sighting::First => count(&self.tally.declined, 1),
        }
    }

    fn has(&self, item: &ItemId) -> bool {
        match item {
            ItemId::Block(block) => self.space.exists(&Key::Block(*block)),
            ItemId::Shard(shard) => self.place(shard).is_some(),
        }
    }

    fn place(&self, shard: &ShardId) -> Option<ShardPlace> {
        let written = self.tally.admissions.load(Ordering::Relaxed);
        self.shards.find(&self.space, shard, self.clock.elapsed(), written)
    }

    fn item(&self, item: ItemId) -> Option<Bytes> {
        match item {
            ItemId::Block(block) => match self.space.read(&Subject::Block(block)) {
                Lookup::Found(payload) => Some(payload.into()),
                Lookup::Missing => None,
            },
            ItemId::Shard(shard) => {
                let place = self.place(&shard)?;
                let bytes = self.space.read_shard(&place, &shard);
                if bytes.is_none() {
                    self.shards.forget(&shard);
                }
                bytes
            }
        }
    }
}

impl Cache for DiskCache {
    fn stripe(&self, stripe: &Stripe) -> BoxFuture<'_, Option<Vec<u8>>> {
        let (shared, subject) = (Arc::clone(&self.shared), Subject::Stripe(stripe.clone()));
        async move { self.shared.readers.run(move || Ok(shared.look_up(&subject))).await.ok().flatten() }
            .boxed()
    }

    fn offer_stripe(&self, stripe: &Stripe, data: &[u8]) {
        self.shared.offer(Subject::Stripe(stripe.clone()), data);
    }

    fn block(&self, block: BlockId) -> BoxFuture<'_, Option<Bytes>> {
        let shared = Arc::clone(&self.shared);
        let look_up = move || Ok(shared.look_up(&Subject::Block(block)));
        async move { self.shared.readers.run(look_up).await.ok().flatten().map(Bytes::from) }.boxed()
    }

    fn offer_block(&self, block: BlockId, bytes: &Bytes) {
        self.shared.offer(Subject::Block(block), bytes);
    }
}
