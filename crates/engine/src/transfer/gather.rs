//! Gathers enough shards of a stripe to rebuild it: k at once, one more for each that fails or is slow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, NodeId};
use datamesh_core::manifest::Stripe;
use futures::StreamExt;
use futures::future::{BoxFuture, Either, FutureExt, select};
use futures::stream::FuturesUnordered;

use super::{Failure, Transfer};
use crate::place::Holders;

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

type Fetch<'a> = BoxFuture<'a, (usize, NodeId, Result<Bytes, Failure>)>;

/// A gathering under way.
struct Gathering<'a> {
    transfer: &'a Transfer,
    stripe: &'a Stripe,
    shards: Vec<Option<Bytes>>,
    found: usize,
    /// Who is to be asked next, and for which shard.
    queue: VecDeque<(usize, NodeId)>,
    running: FuturesUnordered<Fetch<'a>>,
    running_nodes: Vec<(usize, NodeId)>,
    asked: BTreeSet<NodeId>,
    failures: BTreeMap<NodeId, Failure>,
}

impl Transfer {
    /// Any k shards of a stripe, by shard index: data shards first, from nodes that haven't failed or been slow. When the
    /// holders that the ring names don't suffice, the candidates after them are searched.
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
        let Gathering { shards, found, asked, failures, .. } = gathering;
        if found < needed { Err(GatherError { found, needed, asked, failures }) } else { Ok(shards) }
    }

    /// A manifest block, from whichever node has it: one is asked at once, another for each that fails or is slow.
    ///
    /// # Errors
    /// [`GatherError`] when none has it.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn block(&self, block: BlockId) -> Result<Bytes, GatherError> {
        let mut order = self.block_candidates(&block);
        order.sort_by_key(|node| self.reluctance(node));
        let mut queue = VecDeque::from(order);
        let mut running = FuturesUnordered::new();
        let (mut asked, mut failures) = (BTreeSet::new(), BTreeMap::new());
        loop {
            if let Some(node) = queue.pop_front() {
                asked.insert(node);
                running.push(self.fetch(node, ItemId::Block(block)).map(move |result| (node, result)));
            }
            if running.is_empty() {
                return Err(GatherError { found: 0, needed: 1, asked, failures });
            }
            match self.next_or_hedge(&mut running, queue.is_empty()).await {
                Some((node, Ok(bytes))) => {
                    self.forgive(node);
                    return Ok(bytes);
                }
                Some((node, Err(failure))) => self.fail(node, failure, &mut failures),
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

    /// The next result, or `None` when it is time to ask one more.
    async fn next_or_hedge<T>(
        &self,
        running: &mut FuturesUnordered<impl Future<Output = T>>,
        nobody_left: bool,
    ) -> Option<T> {
        if nobody_left {
            return running.next().await;
        }
        match select(running.next(), self.world.clock.sleep(self.settings.hedge_after)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => None,
        }
    }
}

impl<'a> Gathering<'a> {
    fn new(transfer: &'a Transfer, stripe: &'a Stripe, holders: Holders<'_>) -> Self {
        let shard_count = stripe.redundancy.shard_count();
        let mut holders: Vec<(usize, NodeId)> = holders.intended().enumerate().collect();
        holders.sort_by_key(|(index, node)| (transfer.reluctance(node), *index));
        Self {
            transfer,
            stripe,
            shards: vec![None; shard_count],
            found: 0,
            queue: holders.into(),
            running: FuturesUnordered::new(),
            running_nodes: Vec::new(),
            asked: BTreeSet::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Fetches until there are enough shards or nobody is left to ask.
    async fn run(&mut self, needed: usize) {
        while self.found < needed {
            while self.found + self.running.len() < needed && self.ask_next() {}
            if self.running.is_empty() {
                return;
            }
            let nobody_left = self.queue.is_empty();
            match self.transfer.next_or_hedge(&mut self.running, nobody_left).await {
                Some((index, node, result)) => self.take(index, node, result),
                None => self.hedge(),
            }
        }
    }

    fn ask_next(&mut self) -> bool {
        while let Some((index, node)) = self.queue.pop_front() {
            if self.shards[index].is_some() {
                continue;
            }
            let transfer = self.transfer;
            let item = ItemId::Shard(self.stripe.shards[index]);
            self.asked.insert(node);
            self.running_nodes.push((index, node));
            self.running.push(async move { (index, node, transfer.fetch(node, item).await) }.boxed());
            return true;
        }
        false
    }

    fn take(&mut self, index: usize, node: NodeId, result: Result<Bytes, Failure>) {
        self.running_nodes.retain(|running| *running != (index, node));
        match result {
            Ok(bytes) if self.shards[index].is_none() => {
                self.transfer.forgive(node);
                self.shards[index] = Some(bytes);
                self.found += 1;
            }
            Ok(_) => {}
            Err(failure) => self.transfer.fail(node, failure, &mut self.failures),
        }
    }

    fn hedge(&mut self) {
        for (_, node) in &self.running_nodes {
            self.transfer.note_slow(*node);
        }
        self.ask_next();
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
