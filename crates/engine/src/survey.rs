//! How each node of the mesh is, as it says itself.

use std::time::Duration;

use datamesh_core::id::NodeId;
use datamesh_core::topology::NodeRecord;
use datamesh_core::wire::{Message, NodeStatus, Request, Response};
use futures::stream::{self, StreamExt};

use crate::transfer::Failure;
use crate::world::{CallError, World};

/// Nodes asked at once.
const NODES_IN_FLIGHT: usize = 32;

/// One node, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    /// What it says to the whole mesh.
    pub record: NodeRecord,
    /// How it is, or why it doesn't say.
    pub status: Result<NodeStatus, Failure>,
    /// How long the answer took.
    pub waited: Duration,
}

/// Asks every node that is known how it is, and waits for none longer than the deadline. In the order of ids.
///
/// # Cancel safety
/// Nothing is left behind when dropped.
pub async fn survey(world: &World, deadline: Duration) -> Vec<Surveyed> {
    let topology = world.peers.topology();
    let records: Vec<NodeRecord> = topology.records().cloned().collect();
    stream::iter(records).map(|record| ask(world, record, deadline)).buffered(NODES_IN_FLIGHT).collect().await
}

async fn ask(world: &World, record: NodeRecord, deadline: Duration) -> Surveyed {
    let started = world.clock.elapsed();
    let node = record.node;
    let call = world.peers.call(node, Message::bare(Request::Status));
    let answer = futures::future::select(call, world.clock.sleep(deadline)).await;
    let status = match answer {
        futures::future::Either::Left((Ok(message), _)) => judge(node, message.header),
        futures::future::Either::Left((Err(error), _)) => Err(Failure::Call(error)),
        futures::future::Either::Right(((), _)) => {
            let waited_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
            Err(Failure::Call(CallError::TimedOut { node, waited_ms }))
        }
    };
    Surveyed { record, status, waited: world.clock.elapsed().saturating_sub(started) }
}

fn judge(node: NodeId, answer: Response) -> Result<NodeStatus, Failure> {
    match answer {
        Response::Status(status) if status.node == node => Ok(status),
        Response::Refused(refusal) => Err(Failure::Refused { node, refusal }),
        _ => Err(Failure::Protocol { node }),
    }
}
