//! What is wanted of a cache node that hasn't got it: counted, and what is wanted again is pulled from its holders.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datamesh_core::id::StripeId;
use datamesh_core::lease::Subject;
use datamesh_core::summary::PartId;
use datamesh_engine::popular::pull;
use datamesh_engine::progress::Unobserved;
use datamesh_engine::transfer::{Transfer, TransferSettings};
use datamesh_engine::world::World;
use datamesh_store::cache::DiskCache;
use tokio::sync::mpsc;

use crate::metrics::{Samples, Source, Value, definition as metric};

/// Stripes that may wait to be pulled; what is wanted beyond that has to be wanted once more.
const WAITING_MAX: usize = 1024;
/// Stripes that were pulled last: until an entry is seen in the cache, it is wanted by others who don't know.
const PULLED_MAX: usize = 1024;

/// What was wanted, and what came of it.
#[derive(Debug, Default)]
struct Tally {
    succeeded: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// Where it is said what is wanted.
#[derive(Clone)]
pub(crate) struct Wishes {
    cache: DiskCache,
    waiting: mpsc::Sender<PartId>,
    tally: Arc<Tally>,
}

/// What is wanted and not pulled yet.
pub(crate) struct Waiting {
    parts: mpsc::Receiver<PartId>,
    tally: Arc<Tally>,
}

/// The wishes for what this cache lacks.
pub(crate) fn wishes(cache: DiskCache) -> (Wishes, Waiting) {
    let (waiting, parts) = mpsc::channel(WAITING_MAX);
    let tally = Arc::new(Tally::default());
    (Wishes { cache, waiting, tally: Arc::clone(&tally) }, Waiting { parts, tally })
}

impl Wishes {
    /// Somebody wants the stripe of this part, which the node hasn't got.
    pub(crate) fn note(&self, part: PartId) {
        let Subject::Stripe(stripe) = part.subject else { return };
        if self.cache.is_wanted_again(stripe) && self.waiting.try_send(part).is_err() {
            self.tally.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Waiting {
    /// Pulls what is wanted, one stripe after another, until nobody can want anything any more.
    pub(crate) async fn pull_all(mut self, world: World, settings: TransferSettings) {
        let mut pulled: VecDeque<StripeId> = VecDeque::new();
        while let Some(part) = self.parts.recv().await {
            let Subject::Stripe(stripe) = part.subject else { continue };
            if pulled.contains(&stripe) {
                continue;
            }
            // The mesh as it is known now, in which nothing is held against anyone.
            let transfer = Transfer::start(world.clone(), settings, Arc::new(Unobserved)).await;
            let counter = match pull(&transfer, part).await {
                Ok(_) => {
                    pulled.truncate(PULLED_MAX - 1);
                    pulled.push_front(stripe);
                    &self.tally.succeeded
                }
                Err(error) => {
                    tracing::debug!(%stripe, %error, "what is wanted can't be pulled");
                    &self.tally.failed
                }
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Source for Wishes {
    fn collect(&self, samples: &mut Samples) {
        let Tally { succeeded, failed, dropped } = &*self.tally;
        for (outcome, counter) in [("succeeded", succeeded), ("failed", failed), ("dropped", dropped)] {
            samples.put(&metric::CACHE_PULLS, &[outcome], Value::Integer(counter.load(Ordering::Relaxed)));
        }
    }
}
