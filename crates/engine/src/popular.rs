//! Pulls into the cache of a cache node what is wanted again and again.

use datamesh_codec::stripe::{Coder, DecodeError};
use datamesh_core::id::PlacementGroup;
use datamesh_core::lease::Subject;
use datamesh_core::manifest::Stripe;
use datamesh_core::summary::PartId;
use datamesh_core::wire::{Message, Request, Response, StoredItem};

use crate::transfer::{GatherError, Transfer};

/// Nodes that are asked what a stripe is.
const ASKED_MAX: usize = 24;

/// Why a stripe was not pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Only stripes are pulled: manifest blocks are small.
    #[error("it is no part of a stripe")]
    NoStripe,
    /// No holder says what the stripe is.
    #[error("no node knows the stripe")]
    Unknown,
    /// Too few shards can be had.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// The shards don't make the stripe.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Gets the stripe of a part from its holders and offers it to the cache. What is offered hashes to what the stripe's id says.
///
/// # Errors
/// [`PullError`] when it can't be had.
///
/// # Cancel safety
/// Nothing is left behind when dropped.
pub async fn pull(transfer: &Transfer, part: PartId) -> Result<Stripe, PullError> {
    let _slot = transfer.slot().await;
    let stripe = describe(transfer, part).await?;
    let _memory = transfer.memory(2 * stripe.redundancy.shard_count() * stripe.shard_size()).await;
    let shards = transfer.gather(&stripe).await?;
    let data = Coder::new(stripe.redundancy).data(&stripe, &shards)?;
    transfer.world.cache.offer_stripe(&stripe, &data);
    Ok(stripe)
}

/// What a stripe is, from whoever holds this part of it. A stripe is what its id says, so one answer that is true is enough.
async fn describe(transfer: &Transfer, part: PartId) -> Result<Stripe, PullError> {
    let Subject::Stripe(id) = part.subject else { return Err(PullError::NoStripe) };
    let group = PlacementGroup::of_stripe(&id);
    for node in transfer.group_order(group).take(ASKED_MAX) {
        let request = Message::bare(Request::Describe(part));
        let answer = transfer.ask(node, request, transfer.settings.hedge_after).await;
        if let Ok(Message { header: Response::Described(description), .. }) = answer
            && let StoredItem::Shard { stripe, .. } = description.item
            && stripe.id() == id
        {
            return Ok(stripe);
        }
    }
    Err(PullError::Unknown)
}
