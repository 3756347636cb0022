//! Reads every item of a node again within a period, so that what rots is missed before it is needed.
//!
//! How far a pass has come is kept in a file, so that a node that is restarted often comes to its end too. The file is knowledge and no
//! record: where it is lost, the pass begins anew.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datamesh_core::encode::{decode, encode};
use datamesh_core::id::ItemId;
use datamesh_engine::world::{Clock, Items, ItemsError};
use datamesh_store::{Mended, Scrubbed, Store};

use crate::metrics::{Samples, Source, Value, definition as metric};
use crate::vitals::Vitals;

/// Items that are read one after the other.
const BATCH_MAX: usize = 16;
/// The longest pause between two of them: the period may have been shortened meanwhile by a restart alone, but more may be there.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);
/// Batches after which it is noted how far the pass has come.
const NOTED_EVERY: u32 = 64;

/// What scrubbing has found since the node started.
#[derive(Debug, Default)]
pub(crate) struct ScrubTally {
    items: AtomicU64,
    bytes: AtomicU64,
    rotten: AtomicU64,
    unreadable: AtomicU64,
    passes: AtomicU64,
}

impl ScrubTally {
    fn note(&self, scrubbed: &Scrubbed) {
        let count = |list: &[ItemId]| u64::try_from(list.len()).unwrap_or(u64::MAX);
        self.items.fetch_add(scrubbed.item_count, Ordering::Relaxed);
        self.bytes.fetch_add(scrubbed.size, Ordering::Relaxed);
        self.rotten.fetch_add(count(&scrubbed.rotten), Ordering::Relaxed);
        self.unreadable.fetch_add(count(&scrubbed.unreadable), Ordering::Relaxed);
    }
}

impl Source for ScrubTally {
    fn collect(&self, samples: &mut Samples) {
        let counters = [
            (&metric::SCRUB_ITEMS, &self.items),
            (&metric::SCRUB_BYTES, &self.bytes),
            (&metric::SCRUB_ROTTEN, &self.rotten),
            (&metric::SCRUB_UNREADABLE, &self.unreadable),
            (&metric::SCRUB_PASSES, &self.passes),
        ];
        for (definition, counter) in counters {
            samples.put(definition, &[], Value::Integer(counter.load(Ordering::Relaxed)));
        }
    }
}

/// What of a store was damaged and is whole again.
pub(crate) struct Mending(pub(crate) Store);

impl Source for Mending {
    fn collect(&self, samples: &mut Samples) {
        let Mended { index_count, header_count, release_count, aside_count, rotten_count } = self.0.mended();
        let counters = [
            (&metric::STORE_INDEXES_REBUILT, index_count),
            (&metric::STORE_HEADERS_MENDED, header_count),
            (&metric::STORE_RELEASES_MENDED, release_count),
            (&metric::STORE_SEGMENTS_SET_ASIDE, aside_count),
            (&metric::STORE_ROTTEN, rotten_count),
        ];
        for (definition, count) in counters {
            samples.put(definition, &[], Value::Integer(count));
        }
    }
}

/// A scrub that never ends.
pub(crate) struct Scrub {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tally: Arc<ScrubTally>,
    pub(crate) vitals: Arc<Vitals>,
    /// How long one pass over all items may take.
    pub(crate) period: Duration,
    /// Where it is noted how far the pass has come.
    pub(crate) progress: PathBuf,
}

impl Scrub {
    /// Scrubs until the store is closed.
    pub(crate) async fn run(self) {
        let mut last = self.load();
        let mut batch_count: u32 = 0;
        loop {
            self.clock.sleep(self.pause()).await;
            match self.store.scrub(last, BATCH_MAX).await {
                Ok(scrubbed) => {
                    self.tally.note(&scrubbed);
                    let count = |list: &[ItemId]| u64::try_from(list.len()).unwrap_or(u64::MAX);
                    self.vitals.note_scrub(count(&scrubbed.rotten), count(&scrubbed.unreadable));
                    last = scrubbed.last;
                }
                Err(ItemsError::Closed) => return,
                Err(error) => tracing::warn!(%error, "items could not be scrubbed"),
            }
            if last.is_none() {
                match self.store.scrub_rest().await {
                    Ok(()) => {}
                    Err(ItemsError::Closed) => return,
                    Err(error) => tracing::warn!(%error, "index and releases could not be scrubbed"),
                }
                self.tally.passes.fetch_add(1, Ordering::Relaxed);
            }
            batch_count = batch_count.wrapping_add(1);
            if (last.is_none() || batch_count.is_multiple_of(NOTED_EVERY))
                && let Err(error) = self.save(last)
            {
                tracing::warn!(%error, "how far the scrub has come is not noted");
            }
        }
    }

    /// So long that a pass takes the period, each batch as long as the others.
    fn pause(&self) -> Duration {
        let batches = self.store.usage().item_count.div_ceil(u64::try_from(BATCH_MAX).unwrap_or(1)) + 1;
        (self.period / u32::try_from(batches).unwrap_or(u32::MAX)).min(PAUSE_MAX)
    }

    fn load(&self) -> Option<ItemId> {
        decode(&fs::read(&self.progress).ok()?).ok()
    }

    fn save(&self, last: Option<ItemId>) -> io::Result<()> {
        match last {
            Some(item) => fs::write(&self.progress, encode(&item)),
            None => match fs::remove_file(&self.progress) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }
}
