//! What must hold of batches shared by workers after every join, leave, assignment and release.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use datamesh_core::limits::WORKERS_WEIGHT_MAX;
use datamesh_engine::ring::RingSettings;
use datamesh_engine::ring::workers::{
    BatchId, Move, ParseWorkerIdError, WorkerId, WorkerLoad, Workers, WorkersError,
};
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

#[derive(Debug, Clone)]
enum Change {
    Join { worker: u8, weight: u32 },
    Leave { worker: u8 },
    Assign { first: u16, count: u16 },
    Release { batch: u16 },
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let weight = prop_oneof![3 => Just(1_u32), 1 => 1..20_u32];
    let change = prop_oneof![
        2 => (0..16_u8, weight).prop_map(|(worker, weight)| Change::Join { worker, weight }),
        1 => (0..16_u8).prop_map(|worker| Change::Leave { worker }),
        4 => (0..400_u16, prop_oneof![1..3_u16, 1..120_u16])
            .prop_map(|(first, count)| Change::Assign { first, count }),
        4 => (0..400_u16).prop_map(|batch| Change::Release { batch }),
    ];
    prop::collection::vec(change, 1..60)
}

fn worker(number: impl Into<u32>) -> WorkerId {
    format!("worker {}", number.into()).parse().expect("a worker's id")
}

fn batch(number: impl Into<u32>) -> BatchId {
    format!("batch {}", number.into()).parse().expect("a batch's id")
}

fn weight(weight: u32) -> NonZeroU32 {
    NonZeroU32::new(weight).expect("a weight")
}

fn settings(points: u32, load_factor_percent: u32) -> RingSettings {
    RingSettings::new(points, load_factor_percent).expect("in range")
}

/// The workers that have more than ⌈c · (batches + 1) · weight / total weight⌉ batches, computed from who has what.
fn over_bound(workers: &Workers, load_factor_percent: u64) -> Vec<WorkerId> {
    let mut counts: BTreeMap<&WorkerId, u64> = BTreeMap::new();
    let mut batch_count = 0;
    for (_, worker) in workers.assignments() {
        *counts.entry(worker).or_default() += 1;
        batch_count += 1;
    }
    let weights: BTreeMap<WorkerId, u64> = workers
        .load_distribution()
        .by_worker
        .into_iter()
        .map(|(worker, load)| (worker, u64::from(load.weight)))
        .collect();
    let total: u64 = weights.values().sum();
    let bound =
        |worker: &WorkerId| (load_factor_percent * (batch_count + 1) * weights[worker]).div_ceil(100 * total);
    counts
        .into_iter()
        .filter(|(worker, count)| *count > bound(worker))
        .map(|(worker, _)| worker.clone())
        .collect()
}

/// What the workers and batches should be, kept beside them.
#[derive(Default)]
struct Known {
    weights: BTreeMap<WorkerId, u32>,
    batches: BTreeMap<BatchId, WorkerId>,
}

impl Known {
    /// Makes a change and says what moved; `None` where it is refused, as it should be.
    fn change(&mut self, workers: &mut Workers, change: &Change) -> Option<Vec<Move>> {
        let done = match change {
            Change::Join { worker: number, weight: much } => {
                self.weights.insert(worker(*number), *much);
                workers.add(worker(*number), weight(*much))
            }
            Change::Leave { worker: number } => {
                let done = workers.remove(&worker(*number));
                if done.is_ok() {
                    self.weights.remove(&worker(*number));
                }
                done
            }
            Change::Assign { first, count } => workers.assign((*first..first + count).map(batch)),
            Change::Release { batch: number } => {
                self.batches.remove(&batch(*number));
                workers.release(&batch(*number))
            }
        };
        done.ok()
    }

    /// Carries out the moves, as someone would who has the batches' data.
    fn follow(&mut self, moves: Vec<Move>) -> Result<(), String> {
        for Move { batch, from, to } in moves {
            let had = self.batches.insert(batch.clone(), to);
            if had != from {
                return Err(format!("{batch} was said to be with {from:?} and was with {had:?}"));
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_changes_no_worker_is_above_the_bound_and_every_batch_has_one_worker(
        changes in changes(),
        load_factor_percent in prop_oneof![Just(125_u32), 100..105_u32, 100..200_u32],
        points in prop_oneof![Just(150_u32), 1..20_u32],
    ) {
        let settings = settings(points, load_factor_percent);
        let mut workers = Workers::new([], settings).expect("no weight");
        let mut known = Known::default();
        for change in &changes {
            let moves = known.change(&mut workers, change);
            prop_assert_eq!(known.follow(moves.unwrap_or_default()), Ok(()));
            prop_assert_eq!(over_bound(&workers, u64::from(load_factor_percent)), vec![]);
            let assigned: BTreeMap<BatchId, WorkerId> =
                workers.assignments().map(|(batch, worker)| (batch.clone(), worker.clone())).collect();
            prop_assert_eq!(&assigned, &known.batches, "who follows the moves knows who has what");
            let loads = workers.load_distribution();
            prop_assert!(loads.by_worker.values().all(|load| load.count <= load.bound));
            prop_assert_eq!(loads.batch_count(), u64::try_from(assigned.len()).expect("fits"));
            let weights: BTreeMap<WorkerId, u32> =
                loads.by_worker.into_iter().map(|(worker, load)| (worker, load.weight)).collect();
            prop_assert_eq!(&weights, &known.weights);
        }
        // The same workers and batches, in another order and all at once.
        let mut again = Workers::new([], settings).expect("no weight");
        for (worker, much) in known.weights.iter().rev() {
            again.add(worker.clone(), weight(*much)).expect("few workers");
        }
        again.assign(known.batches.keys().cloned()).expect("few batches");
        prop_assert!(again.assignments().eq(workers.assignments()), "it depends on what is there alone");
    }

    #[test]
    fn a_worker_that_joins_or_leaves_does_not_move_what_the_bound_leaves_alone(
        worker_count in 2..10_u32,
        batch_count in 1..200_u32,
        gone in any::<prop::sample::Index>(),
    ) {
        // With a factor of as many as there are workers nobody is ever full, and only the batches of the one that left or joined move.
        let mut workers = with(worker_count, settings(150, 1000));
        workers.assign((0..batch_count).map(batch)).expect("there are workers");
        let gone = worker(u32::try_from(gone.index(usize::try_from(worker_count).expect("fits"))).expect("fits"));
        let left = workers.remove(&gone).expect("another one is there");
        prop_assert!(left.iter().all(|moved| moved.from.as_ref() == Some(&gone)));
        let joined = workers.add(gone.clone(), weight(1)).expect("few workers");
        prop_assert!(joined.iter().all(|moved| moved.to == gone));
        prop_assert_eq!(left.len(), joined.len());
    }
}

fn with(worker_count: u32, settings: RingSettings) -> Workers {
    let workers = (0..worker_count).map(|number| (worker(number), weight(1)));
    Workers::new(workers, settings).expect("few workers")
}

#[test]
fn without_the_bound_the_check_finds_workers_above_it() {
    // Shows that the check can fail: the same batches, given out as if nothing bounded them.
    let shared = |load_factor_percent| {
        let mut workers = with(20, settings(5, load_factor_percent));
        workers.assign((0..1000_u32).map(batch)).expect("there are workers");
        workers
    };
    assert_eq!(over_bound(&shared(125), 125), vec![]);
    assert!(!over_bound(&shared(1000), 125).is_empty());
    assert!(shared(1000).load_distribution().count_max() > 63, "⌈1.25 · 1001 / 20⌉");
    assert_eq!(shared(125).load_distribution().count_max(), 63);
}

#[test]
fn what_is_not_there_is_refused_and_nothing_changes() {
    let mut workers = Workers::new([], RingSettings::default()).expect("no weight");
    assert_eq!(workers.assign([batch(1_u32)]), Err(WorkersError::NoWorker { batch_count: 1 }));
    assert_eq!(workers.assign([]), Ok(vec![]));
    assert_eq!(workers.remove(&worker(1_u32)), Err(WorkersError::UnknownWorker(worker(1_u32))));
    let too_much = WORKERS_WEIGHT_MAX + 1;
    let refused = workers.add(worker(1_u32), weight(too_much));
    assert_eq!(refused, Err(WorkersError::TooMuchWeight(u64::from(too_much))));
    workers.add(worker(1_u32), weight(1)).expect("a worker");
    workers.assign([batch(1_u32)]).expect("a worker is there");
    assert_eq!(workers.assign([batch(1_u32)]), Ok(vec![]), "it is assigned already");
    assert_eq!(workers.release(&batch(2_u32)), Err(WorkersError::UnknownBatch(batch(2_u32))));
    assert_eq!(workers.remove(&worker(1_u32)), Err(WorkersError::NoWorker { batch_count: 1 }));
    assert_eq!(workers.worker_of(&batch(1_u32)), Some(&worker(1_u32)));
    assert_eq!("".parse::<WorkerId>(), Err(ParseWorkerIdError::Empty));
    assert_eq!("x".repeat(257).parse::<BatchId>(), Err(ParseWorkerIdError::TooLong(257)));
}

#[test]
fn the_distribution_says_how_even_it_is() {
    let mut workers = with(4, RingSettings::default());
    let none = workers.load_distribution();
    assert_eq!((none.mean_hundredths(), none.count_max(), none.variation_thousandths()), (0, 0, 0));
    workers.assign((0..10_u32).map(batch)).expect("workers");
    let mut loads = workers.load_distribution();
    assert_eq!(loads.mean_hundredths(), 250);
    let bound = loads.by_worker[&worker(0_u32)].bound;
    assert_eq!(bound, 4, "⌈1.25 · 11 / 4⌉");
    for (load, count) in loads.by_worker.values_mut().zip([1, 2, 3, 4]) {
        *load = WorkerLoad { weight: 1, count, bound };
    }
    assert_eq!((loads.count_max(), loads.variation_thousandths()), (4, 447), "√1.25 of 2.5");
    for (load, count) in loads.by_worker.values_mut().zip([1, 2, 3, 4_u32]) {
        *load = WorkerLoad { weight: count, count: u64::from(count), bound };
    }
    assert_eq!(loads.variation_thousandths(), 0, "each has its fair share");
}

#[test]
fn who_has_what_never_changes() {
    // Two versions of the program that know the same workers and batches must not each take another batch for its own.
    let ten = (0..10_u32).map(|number| (worker(number), weight(1 + number % 3)));
    let mut workers = Workers::new(ten, RingSettings::default()).expect("few workers");
    workers.assign((0..500_u32).map(batch)).expect("workers");
    let mut hasher = blake3::Hasher::new();
    for (batch, worker) in workers.assignments() {
        hasher.update(format!("{batch}: {worker}\n").as_bytes());
    }
    let owners: BTreeSet<&WorkerId> = workers.assignments().map(|(_, worker)| worker).collect();
    assert_eq!(owners.len(), 10);
    assert_eq!(
        hasher.finalize().to_hex().as_str(),
        "4ac4cb72bc53b0363c67859820c402999e3e5ebb29f062d1eb0ba053b4329d06"
    );
}
