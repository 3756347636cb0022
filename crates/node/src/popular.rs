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
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;

use crate::metrics::{Samples, Source, Value, definition as metric};

/// Stripes that are pulled at once.
const PULLS_IN_FLIGHT: usize = 4;
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
    /// Pulls what is wanted, a few stripes at once, until nobody can want anything any more.
    pub(crate) async fn pull_all(self, world: World, settings: TransferSettings) {
        let Self { mut parts, tally } = self;
        let mut pulled: VecDeque<StripeId> = VecDeque::new();
        let mut pulls = FuturesUnordered::new();
        loop {
            tokio::select! {
                part = parts.recv(), if pulls.len() < PULLS_IN_FLIGHT => {
                    let Some(part) = part else { break };
                    let Subject::Stripe(stripe) = part.subject else { continue };
                    if !pulled.contains(&stripe) {
                        pulled.truncate(PULLED_MAX - 1);
                        pulled.push_front(stripe);
                        let world = world.clone();
                        pulls.push(async move { (stripe, pull_one(world, settings, part).await) });
                    }
                }
                Some((stripe, done)) = pulls.next(), if !pulls.is_empty() => {
                    if done {
                        tally.succeeded.fetch_add(1, Ordering::Relaxed);
                    } else {
                        pulled.retain(|other| *other != stripe);
                        tally.failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }
}

/// Pulls the stripe of a part, and says whether that was done.
async fn pull_one(world: World, settings: TransferSettings, part: PartId) -> bool {
    // The mesh as it is known now, in which nothing is held against anyone.
    let transfer = Transfer::start(world, settings, Arc::new(Unobserved)).await;
    let pulled = pull(&transfer, part).await;
    pulled.inspect_err(|error| tracing::debug!(?part, %error, "what is wanted can't be pulled")).is_ok()
}

impl Source for Wishes {
    fn collect(&self, samples: &mut Samples) {
        let Tally { succeeded, failed, dropped } = &*self.tally;
        for (outcome, counter) in [("succeeded", succeeded), ("failed", failed), ("dropped", dropped)] {
            samples.put(&metric::CACHE_PULLS, &[outcome], Value::Integer(counter.load(Ordering::Relaxed)));
        }
    }
}
