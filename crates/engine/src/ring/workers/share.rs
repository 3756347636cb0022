//! Gives every batch its worker, so that who has what follows from the workers and the batches alone.
//!
//! Each batch would rather have a worker that its walk comes by earlier, and each worker would rather have a batch of an
//! earlier rank. Were the batches given out in the order of their ranks, each to the first worker on its walk that is not
//! full, then no batch and no worker would both rather have each other. There is one such distribution only, and all that
//! is done here keeps to it: whoever comes pushes out the last of those that a full worker has, and whoever goes leaves room
//! for the first of those that were turned away.

use std::collections::{BTreeMap, BTreeSet};

use crate::ring::index;
use crate::ring::points::Points;
use crate::ring::workers::{BatchId, WorkerId, bound};

const POINT_CONTEXT: &str = "datamesh 2026 worker point v1";
const BATCH_CONTEXT: &str = "datamesh 2026 batch v1";

/// A batch as the ring sees it. Lesser ones come first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    rank: u64,
    position: u32,
    batch: BatchId,
}

impl Key {
    fn of(batch: BatchId) -> Self {
        let mut rank = [0; size_of::<u64>()];
        let mut position = [0; size_of::<u32>()];
        let mut drawn =
            blake3::Hasher::new_derive_key(BATCH_CONTEXT).update(batch.as_str().as_bytes()).finalize_xof();
        drawn.fill(&mut rank);
        drawn.fill(&mut position);
        Self { rank: u64::from_le_bytes(rank), position: u32::from_le_bytes(position), batch }
    }
}

/// What one worker has and might have.
#[derive(Debug, Clone, Default)]
struct Load {
    room: usize,
    held: BTreeSet<Key>,
    /// The batches that would rather have this worker than the one that they have.
    turned_away: BTreeSet<Key>,
}

impl Load {
    fn is_full(&self) -> bool {
        self.held.len() >= self.room
    }

    fn would_take(&self, key: &Key) -> bool {
        !self.is_full() || self.held.last().is_some_and(|last| key < last)
    }

    /// Turns away the last of what it has.
    fn push_out(&mut self) -> Key {
        let last = self.held.pop_last().expect("a worker that is over its bound has a batch");
        self.turned_away.insert(last.clone());
        last
    }
}

/// Which worker has which batch. Workers are known by their place in a list.
#[derive(Debug, Clone)]
pub(super) struct Share {
    weights: Vec<u32>,
    total_weight: u64,
    load_factor_percent: u32,
    points: Points,
    loads: Vec<Load>,
    worker_by_batch: BTreeMap<BatchId, usize>,
    /// Who had the batches that have moved since that was asked last.
    moved_from: BTreeMap<BatchId, Option<usize>>,
}

impl Share {
    /// Workers with their weights, none of which has a batch.
    pub(super) fn of(
        workers: &BTreeMap<WorkerId, u32>,
        points_per_worker: u32,
        load_factor_percent: u32,
    ) -> Self {
        let points_of = |weight: u32| index(weight) * index(points_per_worker);
        let named = workers.iter().map(|(worker, weight)| (worker.as_str().as_bytes(), points_of(*weight)));
        let weights: Vec<u32> = workers.values().copied().collect();
        Self {
            total_weight: weights.iter().copied().map(u64::from).sum(),
            load_factor_percent,
            points: Points::lay(POINT_CONTEXT, named),
            loads: vec![Load::default(); weights.len()],
            weights,
            worker_by_batch: BTreeMap::new(),
            moved_from: BTreeMap::new(),
        }
    }

    pub(super) fn batch_count(&self) -> usize {
        self.worker_by_batch.len()
    }

    pub(super) fn worker_of(&self, batch: &BatchId) -> Option<usize> {
        self.worker_by_batch.get(batch).copied()
    }

    pub(super) fn workers_by_batch(&self) -> &BTreeMap<BatchId, usize> {
        &self.worker_by_batch
    }

    pub(super) fn load_of(&self, worker: usize) -> usize {
        self.loads[worker].held.len()
    }

    pub(super) fn bound_of(&self, worker: usize) -> usize {
        bound(self.batch_count(), self.weights[worker], self.total_weight, self.load_factor_percent)
    }

    /// Who has each batch that has moved since the last call, and who had it.
    pub(super) fn take_moved(&mut self) -> impl Iterator<Item = (BatchId, Option<usize>, usize)> + '_ {
        std::mem::take(&mut self.moved_from).into_iter().filter_map(|(batch, from)| {
            let to = self.worker_of(&batch)?;
            (from != Some(to)).then_some((batch, from, to))
        })
    }

    /// Adds batches. There must be a worker, and none of the batches may be known.
    pub(super) fn add(&mut self, batches: impl IntoIterator<Item = BatchId>) {
        let mut keys: Vec<Key> = batches.into_iter().map(Key::of).collect();
        // In the order of ranks, those that are added push out none of each other.
        keys.sort_unstable();
        self.make_room_for(self.batch_count() + keys.len());
        for worker in 0..self.loads.len() {
            self.fill(worker);
        }
        for key in keys {
            self.settle(key);
        }
    }

    /// Removes a batch, which must be known.
    pub(super) fn remove(&mut self, batch: &BatchId) {
        let worker = self.worker_by_batch.remove(batch).expect("the caller knows that the batch is there");
        let key = Key::of(batch.clone());
        for passed in self.walk(&key).take_while(|passed| *passed != worker).collect::<Vec<_>>() {
            self.loads[passed].turned_away.remove(&key);
        }
        self.loads[worker].held.remove(&key);
        self.fill(worker);
        self.make_room_for(self.batch_count());
        for worker in 0..self.loads.len() {
            while self.loads[worker].held.len() > self.loads[worker].room {
                let pushed_out = self.loads[worker].push_out();
                self.settle(pushed_out);
            }
        }
    }

    fn make_room_for(&mut self, batch_count: usize) {
        for (load, weight) in self.loads.iter_mut().zip(&self.weights) {
            load.room = bound(batch_count, *weight, self.total_weight, self.load_factor_percent);
        }
    }

    /// Each worker once, in the order in which the batch would have it.
    fn walk(&self, key: &Key) -> impl Iterator<Item = usize> + '_ {
        let mut passed = BTreeSet::new();
        let first = self.points.first_from(key.position);
        self.points.walk_from(first).filter(move |worker| passed.insert(*worker))
    }

    /// Finds a worker for a batch that has none, and for those that are pushed out by it and by each other. Each of them is
    /// of a later rank than the one before, so that there is a last one.
    fn settle(&mut self, key: Key) {
        let mut homeless = Some(key);
        while let Some(key) = homeless.take() {
            let mut turned_away_by = vec![];
            let mut walk = self.walk(&key);
            let worker = loop {
                // The bounds of all workers together are more than there are batches.
                let worker = walk.next().expect("a worker is not full");
                if self.loads[worker].would_take(&key) {
                    break worker;
                }
                turned_away_by.push(worker);
            };
            drop(walk);
            for worker in turned_away_by {
                self.loads[worker].turned_away.insert(key.clone());
            }
            if self.loads[worker].is_full() {
                homeless = Some(self.loads[worker].push_out());
            }
            self.give(key, worker);
        }
    }

    /// Gives the room that a worker has to the first of those that it turned away, and so on with the room that these leave.
    fn fill(&mut self, worker: usize) {
        let mut with_room = vec![worker];
        while let Some(worker) = with_room.pop() {
            while !self.loads[worker].is_full() {
                let Some(key) = self.loads[worker].turned_away.pop_first() else { break };
                let left = self.worker_by_batch[&key.batch];
                let between: Vec<usize> = self
                    .walk(&key)
                    .skip_while(|passed| *passed != worker)
                    .take_while(|passed| *passed != left)
                    .collect();
                for passed in between {
                    self.loads[passed].turned_away.remove(&key);
                }
                self.loads[left].held.remove(&key);
                self.give(key, worker);
                with_room.push(left);
            }
        }
    }

    fn give(&mut self, key: Key, worker: usize) {
        let before = self.worker_by_batch.insert(key.batch.clone(), worker);
        self.moved_from.entry(key.batch.clone()).or_insert(before);
        self.loads[worker].held.insert(key);
    }
}
