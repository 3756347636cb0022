//! Rate limits: how long bytes wait so that no more move in a second than may.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::select;
use tokio::sync::Notify;

use super::fair::{FairQueue, FlowId, Ticket};
use super::settings::{Priority, Rate};
use crate::world::Clock;

/// A bucket of tokens that is never fuller than one item needs: the first item goes at once, and each further one when the bytes
/// before it have had their time. It counts virtual departure times in place of tokens (the generic cell rate algorithm, ITU-T
/// I.371), which is the same and needs no refilling: however late somebody wakes up, the next one's time stays where it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    rate: Rate,
    /// When the next item may go.
    next: Duration,
}

impl Bucket {
    pub(crate) const fn new(rate: Rate) -> Self {
        Self { rate, next: Duration::ZERO }
    }

    /// How long from now on an item waits.
    pub(crate) const fn delay(&self, now: Duration) -> Duration {
        self.next.saturating_sub(now)
    }

    /// Takes the tokens of an item and says how long it waits.
    pub(crate) fn reserve(&mut self, now: Duration, bytes: u64) -> Duration {
        let delay = self.delay(now);
        self.next = self.next.max(now).saturating_add(self.time(bytes));
        delay
    }

    /// Puts back the tokens of bytes that did not move after all.
    pub(crate) fn refund(&mut self, bytes: u64) {
        self.next = self.next.saturating_sub(self.time(bytes));
    }

    fn time(&self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.bytes_per_second());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// A rate limit that many flows pass, each in its fair turn.
#[derive(Debug)]
pub(crate) struct Gate {
    rate: Rate,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bucket: Bucket,
    queue: FairQueue<Waiter>,
    queued_bytes: u64,
    /// Who watches the clock for all that wait. Nobody else sets a timer.
    watch: Option<Ticket>,
}

#[derive(Debug)]
struct Waiter {
    bytes: u64,
    turn: Arc<Notify>,
}

/// What a waiter has to do.
enum Step {
    Go,
    Watch(Duration),
    Wait,
}

impl Gate {
    pub(crate) fn new(rate: Rate) -> Self {
        // As much as the bytes of a second count for.
        let queue = FairQueue::new(Priority::Normal.cost(rate.bytes_per_second()));
        let state = State { bucket: Bucket::new(rate), queue, queued_bytes: 0, watch: None };
        Self { rate, state: Mutex::new(state) }
    }

    /// How long an item would wait that came now.
    pub(crate) fn backlog(&self, now: Duration) -> Duration {
        let state = self.state();
        state.bucket.delay(now).saturating_add(Bucket::new(self.rate).time(state.queued_bytes))
    }

    /// Waits until so many bytes may move.
    ///
    /// # Cancel safety
    /// Nothing is counted when dropped.
    pub(crate) async fn pass(&self, clock: &dyn Clock, flow: FlowId, priority: Priority, bytes: u64) {
        let turn = {
            let mut state = self.state();
            let now = clock.elapsed();
            if state.queue.is_empty() && state.bucket.delay(now).is_zero() {
                state.queue.pass(flow, priority.cost(bytes));
                state.bucket.reserve(now, bytes);
                return;
            }
            let turn = Arc::new(Notify::new());
            let waiter = Waiter { bytes, turn: Arc::clone(&turn) };
            state.queued_bytes = state.queued_bytes.saturating_add(bytes);
            let ticket = state.queue.push(flow, priority.cost(bytes), waiter);
            Queued { gate: self, ticket, bytes, turn, gone: false }
        };
        turn.wait(clock).await;
    }

    /// Counts bytes that moved before anybody could say how many they would be: those after them wait for it.
    pub(crate) fn charge(&self, now: Duration, bytes: u64) {
        self.state().bucket.reserve(now, bytes);
    }

    /// Takes back what was counted for bytes that did not move.
    pub(crate) fn refund(&self, bytes: u64) {
        self.state().bucket.refund(bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Lets all go whose time has come, and says what one of those that wait has to do.
    fn step(&mut self, now: Duration, ticket: Ticket) -> Step {
        while self.bucket.delay(now).is_zero() {
            let Some(first) = self.queue.iter().next().map(|(first, ..)| first) else { break };
            let waiter = self.queue.serve(first).expect("the first one waits");
            self.queued_bytes = self.queued_bytes.saturating_sub(waiter.bytes);
            self.bucket.reserve(now, waiter.bytes);
            if self.watch == Some(first) {
                self.watch = None;
            }
            waiter.turn.notify_one();
        }
        if !self.queue.contains(ticket) {
            self.hand_over();
            return Step::Go;
        }
        if *self.watch.get_or_insert(ticket) == ticket {
            Step::Watch(self.bucket.delay(now))
        } else {
            Step::Wait
        }
    }

    /// Wakes whoever is next, where nobody watches the clock.
    fn hand_over(&self) {
        if self.watch.is_none()
            && let Some((_, _, waiter)) = self.queue.iter().next()
        {
            waiter.turn.notify_one();
        }
    }
}

/// A place in a gate's queue, given up when dropped.
struct Queued<'a> {
    gate: &'a Gate,
    ticket: Ticket,
    bytes: u64,
    turn: Arc<Notify>,
    gone: bool,
}

impl Queued<'_> {
    async fn wait(mut self, clock: &dyn Clock) {
        loop {
            let step = self.gate.state().step(clock.elapsed(), self.ticket);
            match step {
                Step::Go => {
                    self.gone = true;
                    return;
                }
                Step::Watch(delay) => {
                    select(clock.sleep(delay), std::pin::pin!(self.turn.notified())).await;
                }
                Step::Wait => self.turn.notified().await,
            }
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        let mut state = self.gate.state();
        if let Some(waiter) = state.queue.cancel(self.ticket) {
            state.queued_bytes = state.queued_bytes.saturating_sub(waiter.bytes);
        } else {
            state.bucket.refund(self.bytes);
        }
        if state.watch == Some(self.ticket) {
            state.watch = None;
        }
        state.hand_over();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{prop, prop_assert, proptest};

    use super::{Bucket, Rate};

    proptest! {
        #[test]
        fn in_no_span_more_bytes_go_than_the_rate_and_one_item(
            rate in 1_000_u64..1_000_000_000,
            items in prop::collection::vec((0_u64..2_000_000, 1_u64..1_000_000), 1..200),
        ) {
            let mut bucket = Bucket::new(Rate::new(rate).expect("a rate"));
            let (mut now, mut departures) = (Duration::ZERO, Vec::new());
            for (pause_us, bytes) in items {
                now += Duration::from_micros(pause_us);
                departures.push((now + bucket.reserve(now, bytes), bytes));
            }
            prop_assert!(departures.is_sorted_by_key(|(at, _)| *at), "first come, first gone");
            for first in 0..departures.len() {
                let mut sent = 0;
                for (at, bytes) in &departures[first..] {
                    let allowed = (*at - departures[first].0).as_secs_f64() * rate as f64;
                    // All before this one have had their time: only this one is over.
                    prop_assert!(sent as f64 <= allowed * 1.001 + 1.0, "{sent} of {allowed}");
                    sent += bytes;
                }
            }
        }

        #[test]
        fn whoever_always_wants_more_gets_the_rate_though_it_wakes_late(
            rate in 100_000_u64..1_000_000_000,
            sizes in prop::collection::vec(1_u64..1_000_000, 1..20),
            late_us in 0_u64..2_000,
        ) {
            let mut bucket = Bucket::new(Rate::new(rate).expect("a rate"));
            let (mut now, mut sent) = (Duration::ZERO, 0);
            let late = Duration::from_micros(late_us);
            for size in sizes.iter().cycle().take(2_000) {
                let delay = bucket.reserve(now, *size);
                // Timers fire late, but the next time is counted from when it should have been.
                now += if delay.is_zero() { Duration::ZERO } else { delay + late };
                sent += size;
            }
            let end = bucket.next.max(now).as_secs_f64();
            let most = sent as f64 / rate as f64;
            let slack = late.as_secs_f64() * 2_000.0;
            prop_assert!(end >= most * 0.999 && end <= most * 1.001 + slack, "{end} s for {most} s");
            let shortest = sizes.iter().min().expect("some").saturating_mul(1_000_000) / rate;
            if shortest > late_us {
                prop_assert!(end <= most * 1.001 + late.as_secs_f64(), "{end} s for {most} s");
            }
        }
    }

    #[test]
    fn what_did_not_move_is_taken_back() {
        let mut bucket = Bucket::new(Rate::new(1000).expect("a rate"));
        let now = Duration::from_secs(5);
        assert_eq!(bucket.reserve(now, 500), Duration::ZERO);
        assert_eq!(bucket.reserve(now, 500), Duration::from_millis(500));
        bucket.refund(500);
        assert_eq!(bucket.delay(now), Duration::from_millis(500));
    }
}
