//! Measures how evenly workers share batches and how many move, prints the figures of docs/placement.md and pins them.

use std::num::NonZeroU32;
use std::time::Instant;

use datamesh_engine::ring::RingSettings;
use datamesh_engine::ring::workers::{BatchId, Move, WorkerId, Workers};

/// Workers, and batches for each.
const CASES: [(u32, u32); 6] = [(5, 20), (10, 10), (10, 100), (100, 10), (100, 100), (1000, 10)];

/// How many workers join and leave in each case, one after the other.
const CHANGES: u32 = 5;

fn worker(number: u32) -> WorkerId {
    format!("worker {number}").parse().expect("a worker's id")
}

fn batch(number: u32) -> BatchId {
    format!("batch {number}").parse().expect("a batch's id")
}

fn shared(worker_count: u32, batch_count: u32, weight: fn(u32) -> u32) -> Workers {
    let named =
        (0..worker_count).map(|number| (worker(number), NonZeroU32::new(weight(number)).expect("a weight")));
    let mut workers = Workers::new(named, RingSettings::default()).expect("few workers");
    workers.assign((0..batch_count).map(batch)).expect("there are workers");
    workers
}

fn add(workers: &mut Workers, number: u32, weight: u32) -> Vec<Move> {
    workers.add(worker(number), NonZeroU32::new(weight).expect("a weight")).expect("few workers")
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).expect("fits")
}

#[test]
fn no_worker_has_more_than_a_quarter_over_the_mean() {
    println!("load of workers                most, % of the mean   variation, thousandths");
    for (worker_count, each) in CASES {
        let loads = shared(worker_count, worker_count * each, |_| 1).load_distribution();
        let most = 10_000 * loads.count_max() / loads.mean_hundredths();
        let variation = loads.variation_thousandths();
        println!("  {worker_count:5} workers, {each:4} batches each {most:8} {variation:12}");
        // The bound counts one batch more than there are, and is rounded up.
        let bound = (125 * u64::from(worker_count * each + 1)).div_ceil(100 * u64::from(worker_count));
        assert!(loads.count_max() <= bound, "{worker_count} workers, {each} each: {most} %");
        assert!(variation <= 300, "{worker_count} workers, {each} each: {variation}");
    }
}

/// What moved, in % of the least that could have: those that must leave the worker that goes, or come to the one that comes.
struct Movement {
    moved: u64,
    least: u64,
}

impl Movement {
    fn percent(&self) -> u64 {
        100 * self.moved / self.least
    }
}

fn joins(workers: &Workers, worker_count: u32, weight: fn(u32) -> u32) -> Movement {
    let mut movement = Movement { moved: 0, least: 0 };
    for number in worker_count..worker_count + CHANGES {
        let moves = add(&mut workers.clone(), number, weight(number));
        movement.moved += wide(moves.len());
        movement.least += wide(moves.iter().filter(|moved| moved.to == worker(number)).count());
    }
    movement
}

fn leaves(workers: &Workers) -> Movement {
    let mut movement = Movement { moved: 0, least: 0 };
    for number in 0..CHANGES - 1 {
        let moves = workers.clone().remove(&worker(number)).expect("others are there");
        movement.moved += wide(moves.len());
        movement.least += workers.load_distribution().by_worker[&worker(number)].count;
    }
    movement
}

#[test]
fn a_worker_that_joins_or_leaves_moves_little_more_than_it_must() {
    println!("moved by one worker, % of what it has when it is there; mean of several");
    println!("                                            joins   leaves");
    for (worker_count, each) in CASES {
        let workers = shared(worker_count, worker_count * each, |_| 1);
        let (joins, leaves) = (joins(&workers, worker_count, |_| 1), leaves(&workers));
        let (joins, leaves) = (joins.percent(), leaves.percent());
        println!("  {worker_count:5} workers, {each:4} batches each {joins:12} {leaves:8}");
        assert!((100..=MOVED_PERCENT_MAX).contains(&joins), "{worker_count} workers, {each} each: {joins}");
        assert!((100..=MOVED_PERCENT_MAX).contains(&leaves), "{worker_count} workers, {each} each: {leaves}");
    }
}

/// What a join or a leave moves is within this of the least.
const MOVED_PERCENT_MAX: u64 = 150;

#[test]
fn a_worker_of_any_weight_moves_little_more_than_it_must() {
    let weight = |number| 1_u32 << (number % 4);
    let workers = shared(100, 10_000, weight);
    let (joins, leaves) = (joins(&workers, 100, weight).percent(), leaves(&workers).percent());
    println!(
        "100 workers of weights 1, 2, 4 and 8, 10,000 batches: {joins} % by a join, {leaves} % by a leave"
    );
    assert!((100..=MOVED_PERCENT_MAX).contains(&joins), "{joins}");
    assert!((100..=MOVED_PERCENT_MAX).contains(&leaves), "{leaves}");
}

#[test]
fn a_batch_that_comes_or_goes_moves_few_others() {
    println!("others moved by one batch, hundredths, in the mean; most at once");
    for (worker_count, each) in CASES {
        let mut workers = shared(worker_count, worker_count * each, |_| 1);
        let batch_count = worker_count * each;
        // As many as raise the bound of all workers by one several times.
        let count = worker_count * 4;
        let mut moved = vec![];
        for number in batch_count..batch_count + count {
            // The batch itself does not count.
            moved.push(workers.assign([batch(number)]).expect("workers").len() - 1);
        }
        for number in batch_count..batch_count + count {
            moved.push(workers.release(&batch(number)).expect("it is there").len());
        }
        let mean = 100 * moved.iter().sum::<usize>() / moved.len();
        let most = moved.iter().max().expect("batches came");
        println!("  {worker_count:5} workers, {each:4} batches each {mean:8} {most:8}");
        assert!(mean <= 100, "{worker_count} workers, {each} each: {mean}");
    }
}

#[test]
fn a_hundred_thousand_batches_are_shared_in_a_moment() {
    let started = Instant::now();
    let mut workers = shared(100, 100_000, |_| 1);
    println!("100,000 batches to 100 workers: {} ms", started.elapsed().as_millis());
    let started = Instant::now();
    add(&mut workers, 100, 1);
    println!("  one more worker: {} ms", started.elapsed().as_millis());
    let started = Instant::now();
    for number in 100_000..101_000 {
        workers.assign([batch(number)]).expect("workers");
    }
    println!("  1,000 more batches, one by one: {} ms", started.elapsed().as_millis());
    assert_eq!(workers.load_distribution().batch_count(), 101_000);
}
