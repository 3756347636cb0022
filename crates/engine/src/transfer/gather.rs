//! Gathers enough shards of a stripe to rebuild it: k at once, one more for each that fails or is slow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, NodeId};
use datamesh_core::limits::BLOCK_SIZE_MAX;
use datamesh_core::manifest::Stripe;
use futures::StreamExt;
use futures::future::{BoxFuture, Either, FutureExt, select};
use futures::stream::FuturesUnordered;

use super::{Failure, Transfer, count};
use crate::place::Holders;
use crate::traffic::Patience;

/// Too few nodes had what was needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found} of {needed}; asked {} nodes{}", asked.len(), list(failures))]
pub struct GatherError {
    /// Shards or replicas found.
    pub found: usize,
    /// As many as would have been enough.
    pub needed: usize,
    /// The nodes that were asked.
    pub asked: BTreeSet<NodeId>,
    /// Those that did something else than answer that they don't hold it.
    pub failures: BTreeMap<NodeId, Failure>,
}

fn list(failures: &BTreeMap<NodeId, Failure>) -> String {
    failures.values().map(|failure| format!("; {failure}")).collect()
}

type Fetch<'a, T> = BoxFuture<'a, (T, NodeId, Result<Bytes, Failure>)>;

/// How much sooner a parity shard must be expected than a data shard to be worth its decoding: by a quarter, and by this.
const PARITY_HANDICAP_SECONDS: f64 = 0.01;

/// Seconds up to which candidates for a block are as good as each other, and by how much each further class is slower.
const CLASS_SECONDS: f64 = 0.02;
const CLASS_FACTOR: f64 = 4.0;

/// Fetches under way: each of a node, for one of those that were asked for.
struct Fetches<'a, T> {
    transfer: &'a Transfer,
    running: FuturesUnordered<Fetch<'a, T>>,
    watched: Vec<Watched<T>>,
}

/// When somebody else is asked in place of a node.
struct Watched<T> {
    target: T,
    node: NodeId,
    patience: Arc<Patience>,
    /// Somebody was asked in its place already.
    hedged: bool,
}

/// A gathering under way.
struct Gathering<'a> {
    transfer: &'a Transfer,
    stripe: &'a Stripe,
    shards: Vec<Option<Bytes>>,
    found: usize,
    /// Who is to be asked next, and for which shard.
    queue: VecDeque<(usize, NodeId)>,
    fetches: Fetches<'a, usize>,
    asked: BTreeSet<NodeId>,
    failures: BTreeMap<NodeId, Failure>,
    /// Who failed in a way that may pass.
    recoverable: Vec<(usize, NodeId)>,
}

impl Transfer {
    /// Any k shards of a stripe, by shard index, from those nodes which are expected to be done first: by their measured speed
    /// and latency, by what is under way from them already, and by how much they can be relied on. Data shards are preferred,
    /// since they need no decoding. A node that is slower than it should be costs one more request, to another. When the
    /// holders that the ring names don't suffice, the candidates after them are searched; when those don't either, the ones
    /// that could not be reached are tried again a few times.
    ///
    /// # Errors
    /// [`GatherError`] when fewer than k shards can be had.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn gather(&self, stripe: &Stripe) -> Result<Vec<Option<Bytes>>, GatherError> {
        let needed = stripe.redundancy.data_count();
        let holders = self.stripe_holders(stripe);
        let mut gathering = Gathering::new(self, stripe, holders);
        gathering.run(needed).await;
        if gathering.found < needed {
            gathering.search(holders).await;
            gathering.run(needed).await;
        }
        let mut pause = self.settings.retry_delay;
        for _ in 1..self.settings.attempts {
            if gathering.found >= needed || gathering.recoverable.is_empty() {
                break;
            }
            self.world.clock.sleep(pause).await;
            pause = self.settings.next_pause(pause);
            gathering.queue.extend(std::mem::take(&mut gathering.recoverable));
            gathering.run(needed).await;
        }
        let Gathering { shards, found, asked, failures, .. } = gathering;
        if found < needed { Err(GatherError { found, needed, asked, failures }) } else { Ok(shards) }
    }

    /// A manifest block, from whichever node has it: one is asked at once, another for each that fails or is slow. When nobody
    /// has it, those that could not be reached are tried again a few times.
    ///
    /// # Errors
    /// [`GatherError`] when none has it.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn block(&self, block: BlockId) -> Result<Bytes, GatherError> {
        let mut order = self.block_candidates(&block);
        // The likeliest first, but those last from which it would take far longer.
        order.sort_by_cached_key(|node| class(self.flow.cost(node, count(BLOCK_SIZE_MAX))));
        let (mut asked, mut failures) = (BTreeSet::new(), BTreeMap::new());
        let mut pause = self.settings.retry_delay;
        for attempt in 1..=self.settings.attempts.max(1) {
            let mut recoverable = Vec::new();
            let found = self.block_from(block, order, &mut asked, &mut failures, &mut recoverable).await;
            if let Some(bytes) = found {
                return Ok(bytes);
            }
            if recoverable.is_empty() || attempt == self.settings.attempts {
                break;
            }
            order = recoverable;
            self.world.clock.sleep(pause).await;
            pause = self.settings.next_pause(pause);
        }
        Err(GatherError { found: 0, needed: 1, asked, failures })
    }

    async fn block_from(
        &self,
        block: BlockId,
        order: Vec<NodeId>,
        asked: &mut BTreeSet<NodeId>,
        failures: &mut BTreeMap<NodeId, Failure>,
        recoverable: &mut Vec<NodeId>,
    ) -> Option<Bytes> {
        let mut queue = VecDeque::from(order);
        let mut fetches = Fetches::new(self);
        loop {
            if let Some(node) = queue.pop_front() {
                asked.insert(node);
                fetches.begin((), node, ItemId::Block(block), BLOCK_SIZE_MAX);
            }
            if fetches.running.is_empty() {
                return None;
            }
            match fetches.next_or_hedge(queue.is_empty()).await {
                Some(((), node, Ok(bytes))) => {
                    self.forgive(node);
                    return Some(bytes);
                }
                Some(((), node, Err(failure))) => {
                    if failure.may_pass() {
                        recoverable.push(node);
                    }
                    self.fail(node, failure, failures);
                }
                None => {}
            }
        }
    }

    fn fail(&self, node: NodeId, failure: Failure, failures: &mut BTreeMap<NodeId, Failure>) {
        self.blame(node, &failure);
        if !matches!(failure, Failure::Absent { .. }) {
            failures.insert(node, failure);
        }
    }
}

impl<'a, T: Copy + PartialEq + Send + 'a> Fetches<'a, T> {
    fn new(transfer: &'a Transfer) -> Self {
        Self { transfer, running: FuturesUnordered::new(), watched: Vec::new() }
    }

    fn begin(&mut self, target: T, node: NodeId, item: ItemId, size_max: usize) {
        let patience = Arc::new(Patience::default());
        let (transfer, watched) = (self.transfer, Arc::clone(&patience));
        self.watched.push(Watched { target, node, patience, hedged: false });
        let fetch = async move { (target, node, transfer.fetch_with(node, item, size_max, &watched).await) };
        self.running.push(fetch.boxed());
    }

    /// The next result, or `None` when it is time to ask one more in place of one that is slow.
    async fn next_or_hedge(&mut self, nobody_left: bool) -> Option<(T, NodeId, Result<Bytes, Failure>)> {
        let clock = Arc::clone(&self.transfer.world.clock);
        let done = loop {
            let now = clock.elapsed();
            let overdue = |watched: &&mut Watched<T>| {
                !watched.hedged && watched.patience.end().is_some_and(|end| end <= now)
            };
            if !nobody_left && let Some(watched) = self.watched.iter_mut().find(overdue) {
                watched.hedged = true;
                return None;
            }
            let ends = self.watched.iter().filter(|watched| !watched.hedged).map(|watched| {
                // Whoever has not been asked yet is looked at again later.
                watched.patience.end().unwrap_or(now + self.transfer.settings.hedge_after)
            });
            match ends.min().filter(|_| !nobody_left) {
                None => break self.running.next().await,
                Some(end) => match select(self.running.next(), clock.sleep(end.saturating_sub(now))).await {
                    Either::Left((result, _)) => break result,
                    Either::Right(((), _)) => {}
                },
            }
        };
        if let Some((target, node, _)) = &done {
            self.watched.retain(|watched| (watched.target, watched.node) != (*target, *node));
        }
        done
    }
}

impl<'a> Gathering<'a> {
    fn new(transfer: &'a Transfer, stripe: &'a Stripe, holders: Holders<'_>) -> Self {
        let redundancy = stripe.redundancy;
        let size = count(stripe.shard_size());
        let cost = |index: usize, node: &NodeId| {
            if transfer.settings.own == Some(*node) {
                return f64::NEG_INFINITY;
            }
            let cost = transfer.flow.cost(node, size);
            let is_data = index < redundancy.data_count();
            if is_data { cost } else { cost * 1.25 + PARITY_HANDICAP_SECONDS }
        };
        let mut holders: Vec<(f64, usize, NodeId)> =
            holders.intended().enumerate().map(|(index, node)| (cost(index, &node), index, node)).collect();
        holders.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        Self {
            transfer,
            stripe,
            shards: vec![None; redundancy.shard_count()],
            found: 0,
            queue: holders.into_iter().map(|(_, index, node)| (index, node)).collect(),
            fetches: Fetches::new(transfer),
            asked: BTreeSet::new(),
            failures: BTreeMap::new(),
            recoverable: Vec::new(),
        }
    }

    /// Fetches until there are enough shards or nobody is left to ask.
    async fn run(&mut self, needed: usize) {
        while self.found < needed {
            while self.found + self.fetches.running.len() < needed && self.ask_next() {}
            if self.fetches.running.is_empty() {
                return;
            }
            match self.fetches.next_or_hedge(self.queue.is_empty()).await {
                Some((index, node, result)) => self.take(index, node, result),
                None => {
                    self.ask_next();
                }
            }
        }
    }

    fn ask_next(&mut self) -> bool {
        while let Some((index, node)) = self.queue.pop_front() {
            if self.shards[index].is_none() {
                let item = ItemId::Shard(self.stripe.shards[index]);
                self.asked.insert(node);
                self.fetches.begin(index, node, item, self.stripe.shard_size());
                return true;
            }
        }
        false
    }

    fn take(&mut self, index: usize, node: NodeId, result: Result<Bytes, Failure>) {
        match result {
            Ok(bytes) if self.shards[index].is_none() => {
                self.transfer.forgive(node);
                self.shards[index] = Some(bytes);
                self.found += 1;
            }
            Ok(_) => {}
            Err(failure) => {
                if failure.may_pass() {
                    self.recoverable.push((index, node));
                }
                self.transfer.fail(node, failure, &mut self.failures);
            }
        }
    }

    /// Asks everyone near who has the shards that are still missing.
    async fn search(&mut self, holders: Holders<'_>) {
        let located = self.transfer.locate(self.stripe, holders).await;
        self.asked.extend(located.asked.iter().copied());
        for (index, holders) in located.holders.iter().enumerate() {
            if self.shards[index].is_none() {
                self.queue.extend(holders.iter().map(|node| (index, *node)));
            }
        }
    }
}

/// How much longer than a moment something takes, in powers of [`CLASS_FACTOR`].
fn class(seconds: f64) -> u32 {
    let mut bound = CLASS_SECONDS;
    let mut class = 0;
    while seconds > bound && bound.is_finite() {
        bound *= CLASS_FACTOR;
        class += 1;
    }
    class
}
