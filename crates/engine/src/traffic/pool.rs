//! A pool: so many units, of which whoever wants more than there are waits for its turn.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::fair::{FairQueue, FlowId, Ticket};
use super::settings::Priority;

/// Units that are taken and given back: bytes of memory, places in a window, transfers.
#[derive(Debug)]
pub(crate) struct Pool {
    order: Order,
    state: Mutex<State>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Flows get units in proportion to their priorities' weights.
    Fair,
    /// The higher priority first, then whoever came first.
    Ranked,
}

#[derive(Debug)]
struct State {
    capacity: usize,
    taken: usize,
    /// Units that only a flow which has none may take, while there are other flows.
    reserve: usize,
    /// What each flow has, of those that are entered.
    flows: BTreeMap<FlowId, usize>,
    queue: FairQueue<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    size: usize,
    sender: oneshot::Sender<Share>,
}

/// Units out of a pool, given back when dropped.
#[derive(Debug)]
pub struct Share {
    pool: Arc<Pool>,
    flow: FlowId,
    size: usize,
}

impl Pool {
    pub(crate) fn new(capacity: usize, order: Order) -> Arc<Self> {
        let capacity = capacity.max(1);
        // As much as all units count for together.
        let grace = Priority::Normal.cost(u64::try_from(capacity).unwrap_or(u64::MAX));
        let queue = FairQueue::new(grace);
        let state = State { capacity, taken: 0, reserve: 0, flows: BTreeMap::new(), queue };
        Arc::new(Self { order, state: Mutex::new(state) })
    }

    /// A pool with a quarter that only flows may take which have nothing: those which have much and give nothing back, because
    /// whoever reads from them has stopped, then don't keep the others from moving at all.
    pub(crate) fn with_reserve(capacity: usize) -> Arc<Self> {
        let pool = Self::new(capacity, Order::Fair);
        pool.state().reserve = capacity / 4;
        pool
    }

    pub(crate) fn capacity(&self) -> usize {
        self.state().capacity
    }

    /// Units taken, and requests that wait.
    pub(crate) fn usage(&self) -> (usize, usize) {
        let state = self.state();
        (state.taken, state.queue.len())
    }

    /// Whether nothing is left.
    pub(crate) fn is_exhausted(&self) -> bool {
        let state = self.state();
        state.taken >= state.capacity
    }

    /// Sets how many units there are. Where more are taken, none is given out until enough came back.
    pub(crate) fn resize(self: &Arc<Self>, capacity: usize) {
        let mut state = self.state();
        if state.capacity == capacity {
            return;
        }
        state.capacity = capacity.max(1);
        self.give_out(state);
    }

    /// A flow is there, whether it has anything or not.
    pub(crate) fn enter(&self, flow: FlowId) {
        self.state().flows.entry(flow).or_default();
    }

    /// A flow is there no longer; what it has comes back in its own time.
    pub(crate) fn leave(self: &Arc<Self>, flow: FlowId) {
        let mut state = self.state();
        state.flows.remove(&flow);
        self.give_out(state);
    }

    /// Waits until so many units are free and it is this flow's turn, and takes them; all there are where more are asked for.
    ///
    /// # Cancel safety
    /// Takes nothing when dropped; the place in the queue is lost.
    pub(crate) async fn take(self: &Arc<Self>, flow: FlowId, priority: Priority, size: usize) -> Share {
        let (ticket, receiver) = {
            let mut state = self.state();
            let size = size.min(state.capacity);
            let cost = priority.cost(u64::try_from(size).unwrap_or(u64::MAX));
            if state.queue.is_empty() && state.allows(flow, size) {
                if self.order == Order::Fair {
                    state.queue.pass(flow, cost);
                }
                return self.share(&mut state, flow, size);
            }
            let (sender, receiver) = oneshot::channel();
            let waiter = Waiter { size, sender };
            let ticket = match self.order {
                Order::Fair => state.queue.push(flow, cost, waiter),
                Order::Ranked => state.queue.push_ranked(rank(priority), flow, waiter),
            };
            self.give_out(state);
            (ticket, receiver)
        };
        let _queued = Queued { pool: self, ticket };
        receiver.await.expect("a waiter is answered before it leaves the queue, unless it leaves by itself")
    }

    fn share(self: &Arc<Self>, state: &mut State, flow: FlowId, size: usize) -> Share {
        state.taken += size;
        if let Some(held) = state.flows.get_mut(&flow) {
            *held += size;
        }
        Share { pool: Arc::clone(self), flow, size }
    }

    /// Gives units to those whose turn it is.
    fn give_out(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut given = Vec::new();
        while let Some((ticket, flow)) = state.next() {
            let Some(waiter) = state.queue.serve(ticket) else { break };
            let size = waiter.size.min(state.capacity);
            given.push((waiter.sender, self.share(&mut state, flow, size)));
        }
        drop(state);
        for (sender, share) in given {
            // Whoever no longer waits gives its share back at once.
            let _ = sender.send(share);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn free(&self) -> usize {
        self.capacity.saturating_sub(self.taken)
    }

    /// Whether so many units may go to a flow now.
    fn allows(&self, flow: FlowId, size: usize) -> bool {
        size <= self.free() && (!self.is_reserved_from(flow) || size + self.reserve <= self.free())
    }

    fn is_reserved_from(&self, flow: FlowId) -> bool {
        self.reserve > 0 && self.flows.len() > 1 && self.flows.get(&flow).is_some_and(|held| *held > 0)
    }

    /// Whose turn it is. Whoever wants more than is free is waited for, lest small requests starve large ones; only those that
    /// have nothing pass those that may not touch the reserve.
    fn next(&self) -> Option<(Ticket, FlowId)> {
        let mut only_reserve = false;
        for (ticket, flow, waiter) in self.queue.iter() {
            let size = waiter.size.min(self.capacity);
            let reserved = self.is_reserved_from(flow);
            if reserved && only_reserve {
                continue;
            }
            if self.allows(flow, size) {
                return Some((ticket, flow));
            }
            if !reserved {
                return None;
            }
            only_reserve = true;
        }
        None
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.taken -= self.size;
        if let Some(held) = state.flows.get_mut(&self.flow) {
            *held = held.saturating_sub(self.size);
        }
        self.pool.give_out(state);
    }
}

/// A place in the queue, given up when dropped.
struct Queued<'a> {
    pool: &'a Arc<Pool>,
    ticket: Ticket,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        if state.queue.cancel(self.ticket).is_some() {
            self.pool.give_out(state);
        }
    }
}

const fn rank(priority: Priority) -> u64 {
    match priority {
        Priority::Interactive => 0,
        Priority::Normal => 1,
        Priority::Background => 2,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use futures::FutureExt;
    use futures::future::BoxFuture;
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::{FlowId, Order, Pool, Share};
    use crate::traffic::Priority;

    const NORMAL: Priority = Priority::Normal;

    async fn take(pool: &Arc<Pool>, flow: u64, size: usize) -> Share {
        pool.take(FlowId(flow), NORMAL, size).await
    }

    #[test]
    fn what_does_not_fit_waits_until_a_share_is_given_back() {
        let pool = Pool::new(10, Order::Fair);
        let first = take(&pool, 1, 6).now_or_never().expect("it is free");
        assert!(take(&pool, 2, 6).now_or_never().is_none());
        assert_eq!(pool.usage(), (6, 0), "whoever was dropped waits no more");
        drop(first);
        assert!(take(&pool, 2, 6).now_or_never().is_some());
        assert!(take(&pool, 2, usize::MAX).now_or_never().is_some(), "more than all is all");
        assert_eq!(pool.usage(), (0, 0));
    }

    #[test]
    fn a_large_request_is_not_starved_by_small_ones() {
        let pool = Pool::new(10, Order::Fair);
        let held = take(&pool, 1, 5).now_or_never().expect("it is free");
        let mut large = take(&pool, 2, 8).boxed();
        assert!((&mut large).now_or_never().is_none());
        assert!(take(&pool, 3, 1).now_or_never().is_none(), "it is the large one's turn");
        drop(held);
        assert!(large.now_or_never().is_some());
    }

    #[test]
    fn those_who_take_and_give_nothing_back_leave_something_for_others() {
        let pool = Pool::with_reserve(16);
        (0..9).for_each(|flow| pool.enter(FlowId(flow)));
        // Flows 1 and 2 take what they get, and keep it for ever.
        let mut kept = Vec::new();
        let mut hoard = |flow| {
            while let Some(share) = take(&pool, flow, 2).now_or_never() {
                kept.push(share);
            }
        };
        hoard(1);
        hoard(2);
        let third = take(&pool, 3, 2).now_or_never();
        assert!(third.is_some(), "a reserve was left: {:?}", pool.usage());
        assert!(take(&pool, 1, 2).now_or_never().is_none());
        // The control: without a reserve nothing is left.
        let greedy = Pool::new(16, Order::Fair);
        let all: Vec<_> = std::iter::from_fn(|| take(&greedy, 1, 2).now_or_never()).collect();
        assert_eq!((all.len(), take(&greedy, 3, 2).now_or_never().is_some()), (8, false));
    }

    #[test]
    fn one_alone_may_have_it_all() {
        let pool = Pool::with_reserve(16);
        pool.enter(FlowId(1));
        let shares: Vec<_> = std::iter::from_fn(|| take(&pool, 1, 2).now_or_never()).collect();
        assert_eq!(shares.len(), 8);
    }

    #[test]
    fn of_those_who_wait_the_higher_priority_goes_first_where_ranked() {
        let pool = Pool::new(1, Order::Ranked);
        let running = pool.take(FlowId(0), NORMAL, 1).now_or_never().expect("it is free");
        let priorities = [Priority::Background, Priority::Normal, Priority::Interactive, Priority::Normal];
        let mut waiting: Vec<(usize, BoxFuture<'_, Share>)> = Vec::new();
        for (index, priority) in priorities.into_iter().enumerate() {
            waiting.push((index, pool.take(FlowId(1), priority, 1).boxed()));
            assert!((&mut waiting[index].1).now_or_never().is_none());
        }
        drop(running);
        let mut order = Vec::new();
        while !waiting.is_empty() {
            let ready = |(_, share): &mut (usize, BoxFuture<'_, Share>)| share.now_or_never().is_some();
            let position = waiting.iter_mut().position(ready).expect("somebody's turn");
            order.push(waiting.remove(position).0);
        }
        assert_eq!(order, [2, 1, 3, 0]);
    }

    #[test]
    fn a_window_that_shrank_gives_nothing_until_enough_came_back() {
        let pool = Pool::new(4, Order::Fair);
        let mut held: VecDeque<_> = (0..4).filter_map(|_| take(&pool, 1, 1).now_or_never()).collect();
        pool.resize(2);
        let mut next = take(&pool, 1, 1).boxed();
        for left in [3, 2] {
            held.pop_front();
            assert!((&mut next).now_or_never().is_none(), "{left} are held");
        }
        pool.resize(3);
        assert!(next.now_or_never().is_some());
    }

    /// Rounds that don't count.
    const WARM_UP: usize = 400;

    /// Runs transfers that always want more, each with some chunks under way of which the oldest is done first, and says what
    /// each got.
    fn run(pool: &Arc<Pool>, flows: &[(Priority, usize)], rounds: usize) -> Vec<usize> {
        let mut got = vec![0; flows.len()];
        let mut held = VecDeque::new();
        let id = |index: usize| FlowId(u64::try_from(index).expect("few"));
        let begin = |index: usize| pool.take(id(index), flows[index].0, flows[index].1).boxed();
        let mut waiting: Vec<_> = (0..flows.len()).map(begin).collect();
        (0..flows.len()).for_each(|index| pool.enter(id(index)));
        for round in 0..rounds {
            if round == WARM_UP {
                // Until all wait, whoever comes first takes what there is.
                got.fill(0);
            }
            for (index, waiter) in waiting.iter_mut().enumerate() {
                while let Some(share) = waiter.now_or_never() {
                    got[index] += flows[index].1;
                    held.push_back(share);
                    *waiter = begin(index);
                }
            }
            assert!(pool.usage().0 <= pool.capacity());
            held.pop_front();
        }
        got
    }

    const PRIORITIES: [Priority; 3] = [Priority::Interactive, Priority::Normal, Priority::Background];

    /// What each got, over what its weight entitles it to.
    fn shares(flows: &[(Priority, usize)], rounds: usize) -> Vec<f64> {
        let got = run(&Pool::new(48, Order::Fair), flows, rounds);
        let weights: u64 = flows.iter().map(|(priority, _)| priority.weight()).sum();
        let all = got.iter().sum::<usize>() as f64;
        let fair = |priority: Priority| all * priority.weight() as f64 / weights as f64;
        flows.iter().zip(got).map(|((priority, _), bytes)| bytes as f64 / fair(*priority)).collect()
    }

    proptest! {
        #[test]
        fn memory_is_shared_by_weight(flows in prop::collection::vec(0_usize..3, 2..8), size in 1_usize..6) {
            let flows: Vec<_> = flows.into_iter().map(|index| (PRIORITIES[index], size)).collect();
            let shares = shares(&flows, 4_000);
            prop_assert!(shares.iter().all(|share| (share - 1.0).abs() < 0.1), "{flows:?} {shares:?}");
        }

        #[test]
        fn nobody_starves_where_requests_differ(flows in prop::collection::vec((0_usize..3, 1_usize..13), 2..8)) {
            // Who waits for much has one request at a time, and those who want little take what is left over meanwhile.
            let flows: Vec<_> = flows.into_iter().map(|(index, size)| (PRIORITIES[index], size)).collect();
            let shares = shares(&flows, 4_000);
            prop_assert!(shares.iter().all(|share| *share > 0.25), "{flows:?} {shares:?}");
        }

        #[test]
        fn nothing_is_lost_or_made_up(steps in prop::collection::vec((0_u64..5, 1_usize..20, 0_usize..4), 1..200)) {
            let pool = Pool::with_reserve(32);
            let (mut held, mut waiting): (Vec<Share>, Vec<BoxFuture<'_, Share>>) = (Vec::new(), Vec::new());
            for (flow, size, step) in steps {
                match step {
                    0 => { pool.enter(FlowId(flow)); waiting.push(pool.take(FlowId(flow), NORMAL, size).boxed()); }
                    1 if !held.is_empty() => drop(held.remove(size % held.len())),
                    2 if !waiting.is_empty() => drop(waiting.remove(size % waiting.len())),
                    _ => pool.leave(FlowId(flow)),
                }
                // Twice: a flow that comes back is let by only when somebody asks next.
                for _ in 0..2 {
                let mut still = Vec::new();
                for mut waiter in waiting.drain(..) {
                    match (&mut waiter).now_or_never() {
                        Some(share) => held.push(share),
                        None => still.push(waiter),
                    }
                }
                waiting = still;
                }
                let (taken, queued) = pool.usage();
                prop_assert_eq!(taken, held.iter().map(|share| share.size).sum::<usize>());
                prop_assert!(taken <= 32 && queued == waiting.len());
                prop_assert!(held.len() + waiting.len() == 0 || !held.is_empty(), "somebody could go on");
            }
        }
    }
}
