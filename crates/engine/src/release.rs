//! release = tell every node that nothing of a put need be kept any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use datamesh_codec::keys::Identity;
use datamesh_core::id::NodeId;
use datamesh_core::lease::{LeaseTag, Release};
use datamesh_core::sign::Signed;
use datamesh_core::wire::{Message, Request, Response};
use futures::stream::{self, StreamExt};

use crate::progress::Observer;
use crate::transfer::{Failure, Transfer, TransferSettings};
use crate::world::World;

/// Nodes told at once.
const NODES_IN_FLIGHT: usize = 32;

/// What a release reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// Leases that ended.
    pub lease_count: u64,
    /// Nodes that were told.
    pub node_count: u64,
    /// Nodes that could not be told: what they hold stays until they are, or until the lease ends.
    pub failures: BTreeMap<NodeId, Failure>,
}

/// Ends all leases under a tag, on every node that is known.
///
/// # Cancel safety
/// Nodes that were told until it is dropped have released.
pub async fn release(
    world: &World,
    settings: TransferSettings,
    observer: Arc<dyn Observer>,
    owner: &Identity,
    tag: LeaseTag,
) -> Released {
    let transfer = Transfer::start(world.clone(), settings, observer).await;
    let release = Signed::sign(Release { owner: owner.owner(), tag }, owner.signing_key());
    let nodes: Vec<NodeId> = transfer.topology().records().map(|record| record.node).collect();
    let (transfer, release) = (&transfer, &release);
    let told: Vec<Option<u64>> = stream::iter(nodes)
        .map(|node| tell(transfer, node, release))
        .buffer_unordered(NODES_IN_FLIGHT)
        .collect()
        .await;
    Released {
        lease_count: told.iter().flatten().sum(),
        node_count: u64::try_from(told.iter().flatten().count()).unwrap_or(u64::MAX),
        failures: transfer.failures(),
    }
}

/// Leases that ended on a node; `None` if it could not be told.
async fn tell(transfer: &Transfer, node: NodeId, release: &Signed<Release>) -> Option<u64> {
    let request = Message::bare(Request::Release(release.clone()));
    let failure = match transfer.ask(node, request, transfer.settings.store_deadline).await {
        Ok(Message { header: Response::Released { lease_count }, .. }) => return Some(lease_count),
        Ok(Message { header: Response::Refused(refusal), .. }) => Failure::Refused { node, refusal },
        Ok(_) => Failure::Protocol { node },
        Err(error) => Failure::Call(error),
    };
    transfer.blame(node, &failure);
    None
}
