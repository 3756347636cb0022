//! Batches of a dataset assigned to workers with bounded loads: the ring by itself, without a mesh. Pure.
//!
//! No worker ever has more than ⌈c · (batches + 1) · weight / total weight⌉ batches, where c is the load factor: with equal
//! weights ⌈c · (batches + 1) / workers⌉, the bound of "Consistent Hashing with Bounded Loads".
//!
//! Who has what follows from the settings, the workers with their weights, and the batches: not from the order in which
//! they came, nor from those that have gone. Two processes that know the same need not tell each other who has what.
//!
//! ```
//! use std::num::NonZeroU32;
//! use datamesh_engine::ring::RingSettings;
//! use datamesh_engine::ring::workers::{BatchId, Workers};
//!
//! let equal = NonZeroU32::MIN;
//! let names = [("ann".parse()?, equal), ("bob".parse()?, equal), ("cyd".parse()?, equal)];
//! let mut workers = Workers::new(names, RingSettings::default())?;
//! let batches: Vec<BatchId> = (0..30).map(|number| format!("batch {number}").parse()).collect::<Result<_, _>>()?;
//! workers.assign(batches)?;
//! let loads = workers.load_distribution();
//! assert_eq!(loads.batch_count(), 30);
//! assert!(loads.count_max() <= 13, "1.25 · 31 / 3, rounded up");
//! let moves = workers.remove(&"bob".parse()?)?;
//! assert!(moves.iter().all(|moved| moved.to.as_str() != "bob"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod distribution;
mod id;
mod share;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use datamesh_core::limits::{WORKER_BATCHES_MAX, WORKERS_WEIGHT_MAX};

pub use self::distribution::{LoadDistribution, WorkerLoad};
pub use self::id::{BatchId, ParseWorkerIdError, WorkerId};
use self::share::Share;
use crate::ring::RingSettings;

/// Why workers or batches were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkersError {
    /// Nobody is there to give batches to.
    #[error("{batch_count} batches have no worker")]
    NoWorker {
        /// How many batches would have none.
        batch_count: usize,
    },
    /// The worker is not there.
    #[error("worker `{0}` is unknown")]
    UnknownWorker(WorkerId),
    /// The batch was not assigned.
    #[error("batch `{0}` is unknown")]
    UnknownBatch(BatchId),
    /// The ring would have more points than pay.
    #[error("workers of weight {0} in all are more than {WORKERS_WEIGHT_MAX}")]
    TooMuchWeight(u64),
    /// There would be more batches than are kept.
    #[error("{0} batches are more than {WORKER_BATCHES_MAX}")]
    TooManyBatches(usize),
}

/// A batch that has another worker than before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// Which batch.
    pub batch: BatchId,
    /// Who had it; `None` for one that was just assigned.
    pub from: Option<WorkerId>,
    /// Who has it now.
    pub to: WorkerId,
}

/// Workers and the batches that they share.
#[derive(Debug, Clone)]
pub struct Workers {
    settings: RingSettings,
    weights: BTreeMap<WorkerId, u32>,
    /// The workers' ids by their place in the share.
    ids: Vec<WorkerId>,
    share: Share,
}

impl Workers {
    /// These workers, with nothing to share yet. One of weight 1 has so many points as the settings say, one of weight 2
    /// twice as many. Of workers with one id, the last counts.
    ///
    /// # Errors
    /// [`WorkersError::TooMuchWeight`].
    pub fn new(
        workers: impl IntoIterator<Item = (WorkerId, NonZeroU32)>,
        settings: RingSettings,
    ) -> Result<Self, WorkersError> {
        let weights = workers.into_iter().map(|(worker, weight)| (worker, weight.get())).collect();
        check_weight(&weights)?;
        Ok(Self::sharing_nothing(weights, settings))
    }

    /// Adds a worker, or gives it another weight, and says what moved. Takes as long as assigning all batches anew.
    ///
    /// # Errors
    /// [`WorkersError::TooMuchWeight`], and nothing is changed.
    pub fn add(&mut self, worker: WorkerId, weight: NonZeroU32) -> Result<Vec<Move>, WorkersError> {
        let mut weights = self.weights.clone();
        weights.insert(worker, weight.get());
        check_weight(&weights)?;
        Ok(self.replace(weights))
    }

    /// Removes a worker, and says what moved. Takes as long as assigning all batches anew.
    ///
    /// # Errors
    /// [`WorkersError::UnknownWorker`] for one that is not there, [`WorkersError::NoWorker`] if it is the last and has
    /// batches; nothing is changed.
    pub fn remove(&mut self, worker: &WorkerId) -> Result<Vec<Move>, WorkersError> {
        let mut weights = self.weights.clone();
        if weights.remove(worker).is_none() {
            return Err(WorkersError::UnknownWorker(worker.clone()));
        }
        let batch_count = self.share.batch_count();
        if weights.is_empty() && batch_count > 0 {
            return Err(WorkersError::NoWorker { batch_count });
        }
        Ok(self.replace(weights))
    }

    /// Gives batches to workers, and says what moved: the batches themselves, and those that had to make room. Batches that
    /// are assigned already stay so.
    ///
    /// # Errors
    /// [`WorkersError::NoWorker`] and [`WorkersError::TooManyBatches`]; nothing is changed.
    pub fn assign(&mut self, batches: impl IntoIterator<Item = BatchId>) -> Result<Vec<Move>, WorkersError> {
        let fresh: BTreeSet<BatchId> =
            batches.into_iter().filter(|batch| self.share.worker_of(batch).is_none()).collect();
        let batch_count = self.share.batch_count() + fresh.len();
        if self.ids.is_empty() && batch_count > 0 {
            return Err(WorkersError::NoWorker { batch_count });
        }
        if batch_count > WORKER_BATCHES_MAX {
            return Err(WorkersError::TooManyBatches(batch_count));
        }
        self.share.add(fresh);
        Ok(self.moves())
    }

    /// Forgets a batch, and says which others moved.
    ///
    /// # Errors
    /// [`WorkersError::UnknownBatch`] for one that is not assigned; nothing is changed.
    pub fn release(&mut self, batch: &BatchId) -> Result<Vec<Move>, WorkersError> {
        if self.share.worker_of(batch).is_none() {
            return Err(WorkersError::UnknownBatch(batch.clone()));
        }
        self.share.remove(batch);
        Ok(self.moves())
    }

    /// Who has a batch; `None` if it is not assigned.
    #[must_use]
    pub fn worker_of(&self, batch: &BatchId) -> Option<&WorkerId> {
        self.share.worker_of(batch).map(|worker| &self.ids[worker])
    }

    /// Every batch and who has it, in the order of the batches' ids.
    pub fn assignments(&self) -> impl Iterator<Item = (&BatchId, &WorkerId)> {
        self.share.workers_by_batch().iter().map(|(batch, worker)| (batch, &self.ids[*worker]))
    }

    /// How many batches each worker has and may have.
    #[must_use]
    pub fn load_distribution(&self) -> LoadDistribution {
        let wide = |count: usize| u64::try_from(count).expect("usize is at most 64 bits");
        let load = |(place, (worker, weight)): (usize, (&WorkerId, &u32))| {
            let (count, bound) = (wide(self.share.load_of(place)), wide(self.share.bound_of(place)));
            (worker.clone(), WorkerLoad { weight: *weight, count, bound })
        };
        LoadDistribution { by_worker: self.weights.iter().enumerate().map(load).collect() }
    }

    fn sharing_nothing(weights: BTreeMap<WorkerId, u32>, settings: RingSettings) -> Self {
        let share = Share::of(&weights, settings.points_per_node, settings.load_factor_percent);
        let ids = weights.keys().cloned().collect();
        Self { settings, weights, ids, share }
    }

    /// Shares the batches among other workers.
    fn replace(&mut self, weights: BTreeMap<WorkerId, u32>) -> Vec<Move> {
        let mut after = Self::sharing_nothing(weights, self.settings);
        after.share.add(self.share.workers_by_batch().keys().cloned());
        // To the new share all of them are new.
        after.share.take_moved().for_each(drop);
        let moved = |((batch, from), (_, to)): ((&BatchId, &WorkerId), (&BatchId, &WorkerId))| {
            (from != to).then(|| Move { batch: batch.clone(), from: Some(from.clone()), to: to.clone() })
        };
        // Both have the same batches, in the order of their ids.
        let moves = self.assignments().zip(after.assignments()).filter_map(moved).collect();
        *self = after;
        moves
    }

    fn moves(&mut self) -> Vec<Move> {
        let ids = &self.ids;
        let moved = |(batch, from, to): (BatchId, Option<usize>, usize)| Move {
            batch,
            from: from.map(|worker| ids[worker].clone()),
            to: ids[to].clone(),
        };
        self.share.take_moved().map(moved).collect()
    }
}

fn check_weight(weights: &BTreeMap<WorkerId, u32>) -> Result<(), WorkersError> {
    let total = weights.values().copied().map(u64::from).sum();
    if total > u64::from(WORKERS_WEIGHT_MAX) { Err(WorkersError::TooMuchWeight(total)) } else { Ok(()) }
}

/// ⌈c · (batches + 1) · weight / total weight⌉.
fn bound(batch_count: usize, weight: u32, total_weight: u64, load_factor_percent: u32) -> usize {
    let batches = u64::try_from(batch_count).expect("usize is at most 64 bits");
    let share = u64::from(load_factor_percent) * (batches + 1) * u64::from(weight);
    usize::try_from(share.div_ceil(100 * total_weight))
        .expect("a share is within the batches times the factor")
}
