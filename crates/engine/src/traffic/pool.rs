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
        let state = State { capacity, taken: 0, reserve: 0, flows: BTreeMap::new(), queue: FairQueue::new() };
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
