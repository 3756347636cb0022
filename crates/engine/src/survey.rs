//! How each node of the mesh is, as it says itself.

use std::time::Duration;

use bytes::Bytes;
use datamesh_core::health::NodeHealth;
use datamesh_core::id::NodeId;
use datamesh_core::topology::NodeRecord;
use datamesh_core::wire::{Message, NodeStatus, Request, Response};
use futures::future::{Either, select};
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

/// Asks these nodes for their metrics, and waits for none longer than the deadline. In the order given.
///
/// # Cancel safety
/// Nothing is left behind when dropped.
pub async fn metrics(
    world: &World,
    nodes: Vec<NodeId>,
    deadline: Duration,
) -> Vec<(NodeId, Result<Bytes, Failure>)> {
    let answers = stream::iter(nodes).map(|node| async move {
        let answer = answer(world, node, Request::Metrics, deadline).await;
        let text = answer.map_err(Failure::Call).and_then(|message| match message.header {
            Response::Metrics => Ok(message.payload),
            Response::Refused(refusal) => Err(Failure::Refused { node, refusal }),
            _ => Err(Failure::Protocol { node }),
        });
        (node, text)
    });
    answers.buffered(NODES_IN_FLIGHT).collect().await
}

/// What one node says of its health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Who was asked.
    pub node: NodeId,
    /// What it says, or why it doesn't.
    pub health: Result<NodeHealth, Failure>,
    /// How long the answer took.
    pub waited: Duration,
}

/// Asks these nodes how what they look after stands, and waits for none longer than the deadline. In the order given.
///
/// # Cancel safety
/// Nothing is left behind when dropped.
pub async fn health(world: &World, nodes: Vec<NodeId>, deadline: Duration) -> Vec<Told> {
    let answers = stream::iter(nodes).map(|node| async move {
        let started = world.clock.elapsed();
        let answer = answer(world, node, Request::Health, deadline).await;
        let health = answer.map_err(Failure::Call).and_then(|message| match message.header {
            Response::Health(health) if health.node == node => Ok(health),
            Response::Refused(refusal) => Err(Failure::Refused { node, refusal }),
            _ => Err(Failure::Protocol { node }),
        });
        Told { node, health, waited: world.clock.elapsed().saturating_sub(started) }
    });
    answers.buffered(NODES_IN_FLIGHT).collect().await
}

async fn ask(world: &World, record: NodeRecord, deadline: Duration) -> Surveyed {
    let started = world.clock.elapsed();
    let node = record.node;
    let answer = answer(world, node, Request::Status, deadline).await;
    let status = answer.map_err(Failure::Call).and_then(|message| judge(node, message.header));
    Surveyed { record, status, waited: world.clock.elapsed().saturating_sub(started) }
}

pub(crate) async fn answer(
    world: &World,
    node: NodeId,
    request: Request,
    deadline: Duration,
) -> Result<Message<Response>, CallError> {
    let call = world.peers.call(node, Message::bare(request));
    match select(call, world.clock.sleep(deadline)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(((), _)) => {
            let waited_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
            Err(CallError::TimedOut { node, waited_ms })
        }
    }
}

fn judge(node: NodeId, answer: Response) -> Result<NodeStatus, Failure> {
    match answer {
        Response::Status(status) if status.node == node => Ok(status),
        Response::Refused(refusal) => Err(Failure::Refused { node, refusal }),
        _ => Err(Failure::Protocol { node }),
    }
}
