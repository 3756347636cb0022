//! How evenly batches lie on workers, in numbers.

use std::collections::BTreeMap;

use crate::ring::workers::WorkerId;

/// What one worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerLoad {
    /// Its weight.
    pub weight: u32,
    /// Batches that it has.
    pub count: u64,
    /// Batches that it has at most, as many as there are now: see [`Workers`](crate::ring::workers::Workers).
    pub bound: u64,
}

/// How the batches are distributed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadDistribution {
    /// What each worker has.
    pub by_worker: BTreeMap<WorkerId, WorkerLoad>,
}

impl LoadDistribution {
    /// Batches in all.
    #[must_use]
    pub fn batch_count(&self) -> u64 {
        self.by_worker.values().map(|load| load.count).sum()
    }

    /// Batches of the worker that has the most.
    #[must_use]
    pub fn count_max(&self) -> u64 {
        self.by_worker.values().map(|load| load.count).max().unwrap_or(0)
    }

    /// Batches of a worker in the mean, in hundredths; 0 without workers.
    #[must_use]
    pub fn mean_hundredths(&self) -> u64 {
        let worker_count = u64::try_from(self.by_worker.len()).expect("usize is at most 64 bits");
        (100 * self.batch_count()).checked_div(worker_count).unwrap_or(0)
    }

    /// The coefficient of variation, in thousandths: the root of the mean square by which workers miss their fair shares,
    /// in relation to the mean. A worker's fair share is in proportion to its weight. 0 where there is nothing to
    /// share.
    #[must_use]
    pub fn variation_thousandths(&self) -> u64 {
        let total_weight: u128 = self.by_worker.values().map(|load| u128::from(load.weight)).sum();
        let total = u128::from(self.batch_count());
        let missed = |load: &WorkerLoad| {
            (u128::from(load.count) * total_weight).abs_diff(total * u128::from(load.weight))
        };
        let squares: u128 = self.by_worker.values().map(|load| missed(load).pow(2)).sum();
        let worker_count = u128::try_from(self.by_worker.len()).expect("usize is at most 64 bits");
        // All is within WORKER_BATCHES_MAX · WORKERS_WEIGHT_MAX < 2^41, so the product is below 2^(82 + 17 + 20).
        let squared = (1_000_000 * worker_count * squares).checked_div((total_weight * total).pow(2));
        u64::try_from(squared.unwrap_or(0).isqrt()).expect("the root of a u128 fits a u64")
    }
}
