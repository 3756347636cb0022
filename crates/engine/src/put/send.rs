//! Sends what a put has made: the shards of stripes, and the blocks of the manifest.

use bytes::Bytes;
use datamesh_codec::manifest::{Block, Finished};
use datamesh_core::lease::{Lease, Subject};
use datamesh_core::manifest::Stripe;
use datamesh_core::placement::Placement;
use datamesh_core::scheme::{Mode, Scheme};
use datamesh_core::sign::Signed;
use datamesh_core::wire::StoredItem;

use super::tally::{Run, Stored, Tally};
use super::{PutError, PutOrder, Putting};
use crate::place::{Wholeness, wholeness};
use crate::transfer::Likelihood;

impl Putting<'_> {
    pub(super) async fn send_stripe(
        &self,
        index: u64,
        stripe: &Stripe,
        shards: Vec<Bytes>,
    ) -> Result<Stored, PutError> {
        let lease = self.lease(Subject::Stripe(stripe.id()));
        let size = stored_size(&shards);
        let items = (0..=u8::MAX).zip(shards);
        let items = items.map(|(index, shard)| (StoredItem::Shard { index, stripe: stripe.clone() }, shard));
        let holders = self.transfer.stripe_holders(stripe);
        let redundancy = stripe.redundancy;
        let needed = redundancy.acknowledged_count_min();
        let likelihood = match self.scheme().mode {
            Mode::Sealed => Likelihood::None,
            Mode::Dedup | Mode::Public => Likelihood::Low,
        };
        let spread = self.transfer.spread_missing(items.collect(), &lease, holders, needed, likelihood);
        let (placement, reused_size) = spread.await;
        let wholeness = wholeness(&placement, self.transfer.topology(), redundancy);
        if wholeness == Wholeness::NotEnough {
            return Err(self.not_enough(format!("stripe {index}"), &placement, needed));
        }
        let sent_size = sent_size(&placement, stripe.shard_size(), reused_size);
        Ok(Stored { size, reused_size, sent_size, wholeness })
    }

    pub(super) async fn send_block(&self, block: Block) -> Result<Stored, PutError> {
        let Scheme { redundancy, mode, .. } = *self.scheme();
        let lease = self.lease(Subject::Block(block.id));
        let block_size = block.bytes.len();
        let replicas = vec![block.bytes; redundancy.manifest_replica_count()];
        let size = stored_size(&replicas);
        let replicated = redundancy.of_manifest();
        let item = StoredItem::Block { block: block.id, redundancy: replicated };
        let items = replicas.into_iter().map(|bytes| (item.clone(), bytes));
        let holders = self.transfer.block_holders(&block.id, redundancy);
        let needed = redundancy.manifest_replica_count_min();
        let likelihood = match (self.run, mode) {
            // An earlier run wrote the same blocks up to where it stopped.
            (Run::Resumed, _) => Likelihood::High,
            (Run::First, Mode::Public) => Likelihood::Low,
            (Run::First, _) => Likelihood::None,
        };
        let spread = self.transfer.spread_missing(items.collect(), &lease, holders, needed, likelihood);
        let (placement, reused_size) = spread.await;
        let placed = placement.healthy_count();
        if placed < needed {
            return Err(self.not_enough(format!("manifest block {}", block.id), &placement, needed));
        }
        let whole = wholeness(&placement, self.transfer.topology(), replicated) == Wholeness::Whole;
        let wholeness = if whole { Wholeness::Whole } else { Wholeness::Degraded };
        let sent_size = sent_size(&placement, block_size, reused_size);
        // What an earlier run of this very put has sent is no saving.
        let reused_size = if self.run == Run::Resumed { 0 } else { reused_size };
        Ok(Stored { size, reused_size, sent_size, wholeness })
    }

    /// Sends the last blocks, and the root when all else is there.
    pub(super) async fn send_finished(&self, finished: Finished, tally: Tally) -> Result<Tally, PutError> {
        let object = finished.object();
        let mut tally = Tally { object: Some(object), ..tally };
        for block in finished.blocks.into_iter().chain([finished.root]) {
            tally = tally.add(self.send_block(block).await?, Run::First);
        }
        Ok(tally)
    }

    fn not_enough(&self, what: String, placement: &Placement, needed: usize) -> PutError {
        let placed = placement.healthy_count();
        PutError::NotEnoughNodes { what, placed, needed, failures: self.transfer.failures() }
    }

    fn lease(&self, subject: Subject) -> Signed<Lease> {
        let PutOrder { owner, .. } = self.order;
        let lease = Lease { owner: owner.owner(), tag: self.beginning.tag, subject, until: self.until() };
        Signed::sign(lease, owner.signing_key())
    }
}

/// Bytes of what was placed, all of one size, less what needed no sending.
fn sent_size(placement: &Placement, part_size: usize, reused_size: u64) -> u64 {
    let placed_size = placement.healthy_count() * part_size;
    u64::try_from(placed_size).unwrap_or(u64::MAX).saturating_sub(reused_size)
}

fn stored_size(parts: &[Bytes]) -> u64 {
    parts.iter().map(|part| u64::try_from(part.len()).unwrap_or(u64::MAX)).sum()
}
