//! Start-time fair queueing: whose turn it is among flows that want the same.
//!
//! After Goyal, Vin and Cheng, "Start-time Fair Queueing", SIGCOMM 1996. Each request is tagged with the virtual time at which
//! it may start: when the flow's request before it finishes, or now if that is past. The least tag is served first, and virtual
//! time is the tag that was served last. A request lasts as long as it is large, and the longer the smaller its flow's weight.
//! So a flow alone is held up by nothing, flows that all want more get it in proportion to their weights whatever the sizes of
//! their requests, and a flow that pauses saves up nothing. One that comes back soon goes on where it was: between being served and
//! asking again it is away for a moment only because it has to be polled, and must not lose its turn by that.

use std::collections::BTreeMap;

/// Flows whose last tag is remembered before those that no longer matter are looked for.
const TAGS_KEPT: usize = 64;
/// Flows whose last tag is remembered at all.
const TAGS_MAX: usize = 1024;

/// Whoever shares a queue: a transfer, or a peer that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlowId(pub(crate) u64);

/// A request's place in a queue: by its start tag, then by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    start: u64,
    arrival: u64,
}

/// Requests that wait, in the order in which it is their turn.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    virtual_time: u64,
    finishes: BTreeMap<FlowId, u64>,
    waiting: BTreeMap<Ticket, Request<T>>,
    arrivals: u64,
    /// By how much virtual time may have passed for a flow to go on where it was.
    grace: u64,
}

#[derive(Debug)]
struct Request<T> {
    flow: FlowId,
    finish: u64,
    item: T,
}

impl<T> FairQueue<T> {
    /// An empty queue. A flow that is away while others are served less than `grace` goes on where it was.
    pub(crate) const fn new(grace: u64) -> Self {
        Self { virtual_time: 0, finishes: BTreeMap::new(), waiting: BTreeMap::new(), arrivals: 0, grace }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A flow's request of this cost waits.
    pub(crate) fn push(&mut self, flow: FlowId, cost: u64, item: T) -> Ticket {
        let (start, finish) = self.tag(flow, cost);
        self.insert(start, Request { flow, finish, item })
    }

    /// A request waits by its rank, lowest first, and by nothing else: no mixture with [`FairQueue::push`].
    pub(crate) fn push_ranked(&mut self, rank: u64, flow: FlowId, item: T) -> Ticket {
        self.insert(rank, Request { flow, finish: rank, item })
    }

    /// A flow's request of this cost is served at once.
    pub(crate) fn pass(&mut self, flow: FlowId, cost: u64) {
        let (start, _) = self.tag(flow, cost);
        self.virtual_time = self.virtual_time.max(start);
    }

    /// Those that wait, in the order in which it is their turn.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ticket, FlowId, &T)> {
        self.waiting.iter().map(|(ticket, request)| (*ticket, request.flow, &request.item))
    }

    /// Serves one that waits.
    pub(crate) fn serve(&mut self, ticket: Ticket) -> Option<T> {
        let request = self.waiting.remove(&ticket)?;
        self.virtual_time = self.virtual_time.max(ticket.start);
        Some(request.item)
    }

    /// Whether it waits still.
    pub(crate) fn contains(&self, ticket: Ticket) -> bool {
        self.waiting.contains_key(&ticket)
    }

    /// Takes one out that is no longer wanted. Where it was its flow's last, it counts for nothing.
    pub(crate) fn cancel(&mut self, ticket: Ticket) -> Option<T> {
        let request = self.waiting.remove(&ticket)?;
        if self.finishes.get(&request.flow) == Some(&request.finish) {
            self.finishes.insert(request.flow, ticket.start);
        }
        Some(request.item)
    }

    fn tag(&mut self, flow: FlowId, cost: u64) -> (u64, u64) {
        let (now, earliest) = (self.virtual_time, self.virtual_time.saturating_sub(self.grace));
        if self.finishes.len() >= TAGS_KEPT {
            // A tag that is no longer gone on from says the same as none.
            self.finishes.retain(|_, finish| *finish >= earliest);
        }
        let start = self.finishes.get(&flow).copied().filter(|finish| *finish >= earliest).unwrap_or(now);
        if self.finishes.len() >= TAGS_MAX && !self.finishes.contains_key(&flow) {
            self.forget_least();
        }
        let finish = start.saturating_add(cost);
        self.finishes.insert(flow, finish);
        (start, finish)
    }

    /// Forgets the flow whose requests finish first: it has the least to lose by being taken for a new one.
    fn forget_least(&mut self) {
        let least = self.finishes.iter().min_by_key(|(_, finish)| **finish).map(|(flow, _)| *flow);
        if let Some(flow) = least {
            self.finishes.remove(&flow);
        }
    }

    fn insert(&mut self, start: u64, request: Request<T>) -> Ticket {
        let ticket = Ticket { start, arrival: self.arrivals };
        self.arrivals += 1;
        self.waiting.insert(ticket, request);
        ticket
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, prop, prop_assert, proptest};

    use super::{FairQueue, FlowId};
    use crate::traffic::Priority;

    const PRIORITIES: [Priority; 3] = [Priority::Interactive, Priority::Normal, Priority::Background];

    /// What each of some flows, all of which always want more, gets of so much.
    fn served(flows: &[(Priority, Vec<u64>)], total: u64) -> Vec<u64> {
        let mut queue = FairQueue::new(0);
        let mut got = vec![0; flows.len()];
        let mut asked = vec![0; flows.len()];
        let mut ask = |queue: &mut FairQueue<(usize, u64)>, index: usize| {
            let (priority, sizes) = &flows[index];
            let size = sizes[asked[index] % sizes.len()];
            asked[index] += 1;
            let flow = FlowId(u64::try_from(index).expect("few"));
            queue.push(flow, priority.cost(size), (index, size));
        };
        (0..flows.len()).for_each(|index| ask(&mut queue, index));
        while got.iter().sum::<u64>() < total {
            let first = queue.iter().next().expect("all want more").0;
            let (index, size) = queue.serve(first).expect("it waits");
            got[index] += size;
            ask(&mut queue, index);
        }
        got
    }

    /// Jain, Chiu and Hawe's index: 1 where all get the same, 1/n where one gets all.
    fn jain(shares: &[f64]) -> f64 {
        let sum: f64 = shares.iter().sum();
        let squares: f64 = shares.iter().map(|share| share * share).sum();
        sum * sum / (shares.len() as f64 * squares)
    }

    fn sizes() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(1_u64..4_000_000, 1..8)
    }

    proptest! {
        #[test]
        fn equals_get_equal_shares_whatever_their_sizes(flows in prop::collection::vec((Just(Priority::Normal), sizes()), 2..12)) {
            let got = served(&flows, 2_000_000_000);
            let shares: Vec<f64> = got.iter().map(|bytes| *bytes as f64).collect();
            prop_assert!(jain(&shares) >= 0.95, "{got:?}");
        }

        #[test]
        fn shares_are_in_proportion_to_weights(flows in prop::collection::vec((0_usize..3, sizes()), 2..8)) {
            let flows: Vec<_> = flows.into_iter().map(|(index, sizes)| (PRIORITIES[index], sizes)).collect();
            let got = served(&flows, 4_000_000_000);
            let weights: u64 = flows.iter().map(|(priority, _)| priority.weight()).sum();
            for ((priority, _), bytes) in flows.iter().zip(&got) {
                let fair = 4_000_000_000.0 * priority.weight() as f64 / weights as f64;
                prop_assert!((*bytes as f64 / fair - 1.0).abs() < 0.1, "{flows:?} {got:?}");
            }
        }
    }

    #[test]
    fn without_tags_the_larger_requests_would_take_more() {
        // The control for the two claims above: first come, first served, gives each flow one request in each round.
        let flows = [(Priority::Normal, vec![1_000_000]), (Priority::Normal, vec![100_000])];
        let got = served(&flows, 100_000_000);
        let in_turns = [1_000_000.0 * 90.0, 100_000.0 * 90.0];
        assert!(jain(&in_turns) < 0.7);
        assert!(jain(&[got[0] as f64, got[1] as f64]) > 0.99, "{got:?}");
    }

    #[test]
    fn a_flow_that_was_away_has_saved_up_nothing() {
        let mut queue = FairQueue::new(0);
        for _ in 0..1000 {
            queue.pass(FlowId(1), 10);
        }
        let old = queue.push(FlowId(1), 10, "old");
        let new: Vec<_> = (0..3).map(|_| queue.push(FlowId(2), 10, "new")).collect();
        let order: Vec<_> = queue.iter().map(|(ticket, ..)| ticket).collect();
        assert_eq!(order, [new[0], old, new[1], new[2]]);
    }

    #[test]
    fn what_was_cancelled_counts_for_nothing() {
        let mut queue = FairQueue::new(0);
        let first = queue.push(FlowId(1), 1000, "cancelled");
        assert_eq!(queue.cancel(first), Some("cancelled"));
        queue.push(FlowId(2), 10, "other");
        let again = queue.push(FlowId(1), 10, "again");
        assert_eq!(queue.iter().map(|(ticket, ..)| ticket).last(), Some(again));
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.cancel(first), None);
    }

    #[test]
    fn tags_of_flows_that_are_gone_are_not_kept() {
        let mut queue: FairQueue<()> = FairQueue::new(100);
        for flow in 0..10_000 {
            queue.pass(FlowId(flow), 10);
            queue.pass(FlowId(flow), 10);
        }
        assert!(queue.finishes.len() <= super::TAGS_KEPT, "{}", queue.finishes.len());
    }

    #[test]
    fn tags_of_flows_that_ask_once_and_all_wait_stay_within_their_maximum() {
        let mut queue = FairQueue::new(0);
        for flow in 0..10_000 {
            queue.push(FlowId(flow), 1000 + flow, ());
        }
        assert_eq!(queue.len(), 10_000);
        assert_eq!(queue.finishes.len(), super::TAGS_MAX);
        assert!(queue.finishes.contains_key(&FlowId(9_999)) && !queue.finishes.contains_key(&FlowId(0)));
    }
}
