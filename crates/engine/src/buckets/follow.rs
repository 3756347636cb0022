//! Follows the log: which blocks of it nodes keep, and what is in those that are new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use datamesh_codec::keys::LogKey;
use datamesh_core::bucket::{ChapterId, LogBlock, WriterId};
use datamesh_core::id::{BlockId, NodeId, OwnerId};
use datamesh_core::lease::PutId;
use datamesh_core::limits::WIRE_BLOCKS_PUTS_MAX;
use datamesh_core::summary::{KeptBlocks, SummaryDigest};
use datamesh_core::topology::NodeRecord;
use datamesh_core::wire::{Request, Response};
use futures::stream::{self, StreamExt};

use crate::progress::Unobserved;
use crate::survey::answer;
use crate::transfer::{Transfer, TransferSettings};
use crate::world::World;

/// Nodes asked, and blocks fetched, at once.
const IN_FLIGHT: usize = 32;
/// How long one node is waited for.
const DEADLINE: Duration = Duration::from_secs(5);

/// The chapter that says who writes. No writer draws this id.
pub(super) const REGISTER: ChapterId = ChapterId { writer: WriterId::from_bytes([0; 16]), number: 0 };

/// Asks nodes what they keep of a log.
pub(super) struct Follower {
    world: World,
    transfer: TransferSettings,
    owner: OwnerId,
    key: LogKey,
    /// What each node has said before, so that it needs not say it again.
    heard: BTreeMap<(NodeId, PutId), SummaryDigest>,
}

/// What nodes said.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Blocks by their chapters: those of nodes that have others than the last time.
    pub(super) blocks: BTreeSet<(ChapterId, BlockId)>,
    /// Nodes that keep blocks and did not answer.
    pub(super) silent: BTreeSet<NodeId>,
}

/// A block that was read.
pub(super) struct Read {
    pub(super) chapter: ChapterId,
    pub(super) id: BlockId,
    pub(super) block: LogBlock,
}

impl Follower {
    pub(super) const fn new(world: World, transfer: TransferSettings, owner: OwnerId, key: LogKey) -> Self {
        Self { world, transfer, owner, key, heard: BTreeMap::new() }
    }

    /// The put under which nodes keep a chapter.
    pub(super) fn put(&self, chapter: ChapterId) -> PutId {
        let tag = if chapter == REGISTER { self.key.register_tag() } else { self.key.chapter_tag(chapter) };
        PutId { owner: self.owner, tag }
    }

    /// Asks every node which blocks it keeps of these chapters.
    pub(super) async fn ask(&mut self, chapters: &[ChapterId]) -> Heard {
        let topology = self.world.peers.topology();
        let keeps = |record: &&NodeRecord| record.serves() && !topology.is_absent(&record.node);
        let nodes: Vec<NodeId> = topology.records().filter(keeps).map(|record| record.node).collect();
        let by_put: BTreeMap<PutId, ChapterId> =
            chapters.iter().map(|chapter| (self.put(*chapter), *chapter)).collect();
        let this = &*self;
        let asked = stream::iter(nodes).map(|node| this.ask_node(node, by_put.keys().copied()));
        let told: Vec<(NodeId, Option<Vec<KeptBlocks>>)> = asked.buffer_unordered(IN_FLIGHT).collect().await;
        let mut heard = Heard::default();
        for (node, told) in told {
            let Some(told) = told else {
                heard.silent.insert(node);
                continue;
            };
            for kept in told {
                let chapter = by_put[&kept.put];
                self.heard.insert((node, kept.put), kept.digest());
                heard.blocks.extend(kept.blocks.into_iter().map(|block| (chapter, block)));
            }
        }
        heard
    }

    /// What a node keeps that it has not said before; `None` if it does not say.
    async fn ask_node(
        &self,
        node: NodeId,
        puts: impl Iterator<Item = PutId>,
    ) -> (NodeId, Option<Vec<KeptBlocks>>) {
        let known = |put: PutId| {
            let nothing = || KeptBlocks { put, blocks: Vec::new() }.digest();
            (put, self.heard.get(&(node, put)).copied().unwrap_or_else(nothing))
        };
        let mut asked: Vec<(PutId, SummaryDigest)> = puts.map(known).collect();
        let mut told = Vec::new();
        while !asked.is_empty() {
            let page: Vec<_> = asked.iter().copied().take(WIRE_BLOCKS_PUTS_MAX).collect();
            let answered = answer(&self.world, node, Request::Blocks(page), DEADLINE).await;
            let Ok(Response::Blocks { put_count, changed }) = answered.map(|message| message.header) else {
                return (node, None);
            };
            told.extend(changed);
            asked.drain(..usize::try_from(put_count).unwrap_or(usize::MAX).clamp(1, asked.len()));
        }
        (node, Some(told))
    }

    /// Forgets what a node has said, so that it says all of it again.
    pub(super) fn forget(&mut self) {
        self.heard.clear();
    }

    /// Reads blocks. Those that can't be read are told by themselves.
    pub(super) async fn read(&self, blocks: Vec<(ChapterId, BlockId)>) -> (Vec<Read>, usize) {
        if blocks.is_empty() {
            return (Vec::new(), 0);
        }
        let transfer = Transfer::start(self.world.clone(), self.transfer, Arc::new(Unobserved)).await;
        let (transfer, key, count) = (&transfer, &self.key, blocks.len());
        let reads = stream::iter(blocks).map(|(chapter, id)| async move {
            let fetched = transfer.block(id).await;
            let bytes = fetched.inspect_err(|error| tracing::warn!(block = %id, %error, "log block")).ok()?;
            let block =
                key.open(&bytes).inspect_err(|error| tracing::error!(block = %id, %error, "log block"));
            Some(Read { chapter, id, block: block.ok()? })
        });
        let read: Vec<Read> =
            reads.buffer_unordered(IN_FLIGHT).filter_map(|read| async move { read }).collect().await;
        let missing = count - read.len();
        (read, missing)
    }
}
