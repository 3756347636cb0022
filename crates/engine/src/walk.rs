//! Walks a manifest from its root down, block by block, with one path of it in memory.

use std::sync::Arc;

use bytes::Bytes;
use datamesh_core::id::{BlockId, ObjectId};
use datamesh_core::manifest::{Leaf, Link, ManifestError, Root};
use tokio::sync::mpsc;

use crate::progress::Unobserved;
use crate::transfer::{GatherError, Transfer, TransferSettings};
use crate::world::World;

/// Why a manifest can't be walked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// No node has a block.
    #[error("manifest block {block}: {source}")]
    Missing {
        /// Which block.
        block: BlockId,
        /// Who was asked.
        source: GatherError,
    },
    /// A block is not what the one above it says.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Fetches one manifest block, whatever object it is of. Its bytes are those that its id names.
///
/// # Errors
/// [`GatherError`] when no node gives it.
///
/// # Cancel safety
/// Nothing is left behind when dropped.
pub async fn block(world: &World, settings: TransferSettings, block: BlockId) -> Result<Bytes, GatherError> {
    let transfer = Transfer::start(world.clone(), settings, Arc::new(Unobserved)).await;
    transfer.acknowledging(Box::pin(transfer.block(block))).await
}

/// Gives all blocks of an object's manifest to a channel, the root first and from the left down, no faster than they are taken. Ends
/// early where nobody takes them any more.
///
/// # Errors
/// [`WalkError`] when a block is missing or malformed; those before it were given by then.
///
/// # Cancel safety
/// When dropped, the channel was given a part.
pub async fn blocks(
    world: &World,
    settings: TransferSettings,
    object: ObjectId,
    taker: &mpsc::Sender<(BlockId, Bytes)>,
) -> Result<(), WalkError> {
    let transfer = Transfer::start(world.clone(), settings, Arc::new(Unobserved)).await;
    let walking = async {
        let (mut walk, _, root) = Walk::start(&transfer, object).await?;
        let mut next = Some(root);
        while let Some(Passed { block, bytes, .. }) = next {
            if taker.send((block, bytes)).await.is_err() {
                break;
            }
            next = walk.next().await?;
        }
        Ok(())
    };
    transfer.acknowledging(Box::pin(walking)).await
}

/// A block that was passed on the way.
pub(crate) struct Passed {
    pub(crate) block: BlockId,
    pub(crate) bytes: Bytes,
    /// Its stripes, with the index of the first; `None` for a root or a branch.
    pub(crate) leaf: Option<(u64, Leaf)>,
}

/// A walk over the public half of a manifest: it needs no key.
pub(crate) struct Walk<'a> {
    transfer: &'a Transfer,
    /// The blocks to pass next, the very next one last.
    pending: Vec<Link>,
}

impl<'a> Walk<'a> {
    /// Fetches the root, which is passed with it.
    pub(crate) async fn start(
        transfer: &'a Transfer,
        object: ObjectId,
    ) -> Result<(Self, Root, Passed), WalkError> {
        let block = object.root();
        let bytes = fetch(transfer, block).await?;
        let root = Root::parse(&bytes)?;
        let walk = Self { transfer, pending: root.top().into_iter().collect() };
        Ok((walk, root, Passed { block, bytes, leaf: None }))
    }

    /// The next block, from the left down.
    pub(crate) async fn next(&mut self) -> Result<Option<Passed>, WalkError> {
        let Some(link) = self.pending.pop() else {
            return Ok(None);
        };
        let block = link.child.block;
        let bytes = fetch(self.transfer, block).await?;
        if link.place.level == 0 {
            let leaf = Some((link.first_stripe(), link.leaf(&bytes)?));
            return Ok(Some(Passed { block, bytes, leaf }));
        }
        let branch = link.branch(&bytes)?;
        let children: Vec<Link> = link.children(&branch).collect();
        self.pending.extend(children.into_iter().rev());
        Ok(Some(Passed { block, bytes, leaf: None }))
    }
}

async fn fetch(transfer: &Transfer, block: BlockId) -> Result<Bytes, WalkError> {
    transfer.block(block).await.map_err(|source| WalkError::Missing { block, source })
}
