//! The end of the log: where the own writer goes on.

use std::sync::Arc;

use bytes::Bytes;
use datamesh_codec::keys::{Identity, LogKey};
use datamesh_core::bucket::{Change, ChapterId, LOG_VERSION, LogBlock, WriterId};
use datamesh_core::id::BlockId;
use datamesh_core::lease::{Lease, LeaseTag, Subject};
use datamesh_core::limits::CHAPTER_BLOCKS_MAX;
use datamesh_core::scheme::Redundancy;
use datamesh_core::sign::Signed;
use datamesh_core::time::Epoch;
use datamesh_core::wire::StoredItem;

use crate::buckets::ChangeError;
use crate::progress::Unobserved;
use crate::transfer::{Likelihood, Transfer, TransferSettings};
use crate::world::World;

/// Where a writer's next block goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogEnd {
    pub(super) chapter: ChapterId,
    pub(super) sequence: u32,
    /// The first chapter that need be read.
    pub(super) first_chapter: u32,
}

/// The nodes that must keep a block before it counts: every replica, where contents could not be acknowledged with fewer nodes either.
/// So whoever hears from all nodes but one less than that misses nothing.
pub(super) fn acknowledged_by(redundancy: Redundancy) -> usize {
    redundancy.manifest_replica_count().min(redundancy.acknowledged_count_min())
}

/// A block that the mesh keeps.
pub(super) struct Appended {
    pub(super) id: BlockId,
    pub(super) chapter: ChapterId,
    pub(super) sequence: u32,
}

impl LogEnd {
    /// The place behind so many blocks of a chapter.
    pub(super) const fn behind(writer: WriterId, number: u32, block_count: u32, first_chapter: u32) -> Self {
        if block_count < CHAPTER_BLOCKS_MAX {
            let chapter = ChapterId { writer, number };
            return Self { chapter, sequence: block_count, first_chapter };
        }
        Self { chapter: ChapterId { writer, number: number + 1 }, sequence: 0, first_chapter }
    }

    const fn next(self) -> Self {
        let Self { chapter: ChapterId { writer, number }, sequence, first_chapter } = self;
        Self::behind(writer, number, sequence + 1, first_chapter)
    }
}

/// Appends to the own log.
pub(super) struct Appender {
    pub(super) world: World,
    pub(super) transfer: TransferSettings,
    pub(super) owner: Arc<Identity>,
    pub(super) key: LogKey,
    pub(super) end: LogEnd,
}

impl Appender {
    /// Has the mesh keep a block of changes, and goes on behind it once it does.
    ///
    /// # Errors
    /// When too few nodes keep it. Some may, and then whoever reads them will know the changes.
    pub(super) async fn append(
        &mut self,
        changes: Vec<Change>,
        redundancy: Redundancy,
    ) -> Result<Appended, ChangeError> {
        let LogEnd { chapter, sequence, first_chapter } = self.end;
        let block = LogBlock { version: LOG_VERSION, chapter, sequence, first_chapter, changes };
        let id = self.store(self.key.seal(&block), self.key.chapter_tag(chapter), redundancy).await?;
        self.end = self.end.next();
        Ok(Appended { id, chapter, sequence })
    }

    /// Says to all who know the owner's secret that there is this writer.
    ///
    /// # Errors
    /// As [`Appender::append`].
    pub(super) async fn register(&self, redundancy: Redundancy) -> Result<BlockId, ChangeError> {
        let LogEnd { chapter, first_chapter, .. } = self.end;
        let block =
            LogBlock { version: LOG_VERSION, chapter, sequence: 0, first_chapter, changes: Vec::new() };
        self.store(self.key.seal(&block), self.key.register_tag(), redundancy).await
    }

    async fn store(
        &self,
        sealed: Bytes,
        tag: LeaseTag,
        redundancy: Redundancy,
    ) -> Result<BlockId, ChangeError> {
        let transfer = Transfer::start(self.world.clone(), self.transfer, Arc::new(Unobserved)).await;
        let block = BlockId::of(&sealed);
        let lease =
            Lease { owner: self.owner.owner(), tag, subject: Subject::Block(block), until: Epoch::NEVER };
        let lease = Signed::sign(lease, self.owner.signing_key());
        let item = StoredItem::Block { block, redundancy: redundancy.of_manifest() };
        let items = vec![(item, sealed); redundancy.manifest_replica_count()];
        let needed = acknowledged_by(redundancy);
        let holders = transfer.block_holders(&block, redundancy);
        let (placement, _) = transfer.spread_missing(items, &lease, holders, needed, Likelihood::None).await;
        let placed = placement.healthy_count();
        if placed >= needed {
            return Ok(block);
        }
        Err(ChangeError::NotEnoughNodes { placed, needed, failures: transfer.failures() })
    }
}
