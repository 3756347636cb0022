//! Start-time fair queueing: whose turn it is among flows that want the same.
//!
//! After Goyal, Vin and Cheng, "Start-time Fair Queueing", SIGCOMM 1996. Each request is tagged with the virtual time at which
//! it may start: when the flow's request before it finishes, or now if that is past. The least tag is served first, and virtual
//! time is the tag that was served last. A request lasts as long as it is large, and the longer the smaller its flow's weight.
//! So a flow alone is held up by nothing, flows that all want more get it in proportion to their weights whatever the sizes of
//! their requests, and a flow that pauses saves up nothing.

use std::collections::BTreeMap;

/// Flows whose last tag is remembered before those that no longer matter are looked for.
const TAGS_KEPT: usize = 64;

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
}

#[derive(Debug)]
struct Request<T> {
    flow: FlowId,
    finish: u64,
    item: T,
}

impl<T> FairQueue<T> {
    pub(crate) const fn new() -> Self {
        Self { virtual_time: 0, finishes: BTreeMap::new(), waiting: BTreeMap::new(), arrivals: 0 }
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
        self.virtual_time = start;
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
        if self.finishes.len() >= TAGS_KEPT {
            // A tag in the past says the same as none.
            let now = self.virtual_time;
            self.finishes.retain(|_, finish| *finish > now);
        }
        let start = self.finishes.get(&flow).copied().unwrap_or_default().max(self.virtual_time);
        let finish = start.saturating_add(cost);
        self.finishes.insert(flow, finish);
        (start, finish)
    }

    fn insert(&mut self, start: u64, request: Request<T>) -> Ticket {
        let ticket = Ticket { start, arrival: self.arrivals };
        self.arrivals += 1;
        self.waiting.insert(ticket, request);
        ticket
    }
}
