//! enrol = learn the newest rolls of a restricted mesh, and tell every node of one that is newer still.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use datamesh_core::admission::{Roll, Rolls};
use datamesh_core::id::{NodeId, OwnerId};
use datamesh_core::limits::AUTHORITIES_MAX;
use datamesh_core::sign::Signed;
use datamesh_core::wire::{Request, Response};
use futures::stream::{self, StreamExt};

use crate::survey::answer;
use crate::transfer::Failure;
use crate::world::World;

/// Nodes asked at once.
const NODES_IN_FLIGHT: usize = 16;

/// What came of telling the nodes of a roll.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enrolled {
    /// How many nodes have taken note.
    pub node_count: usize,
    /// Why the others have not.
    pub failures: BTreeMap<NodeId, Failure>,
}

/// Learns what any node that is known, or is one of these, knows better, if it answers within the deadline. One that was away may have
/// missed a revocation, and whoever signs anew what it says would undo that.
///
/// # Cancel safety
/// Nothing is left behind when dropped; the rolls are as they were, or newer.
pub async fn learn(world: &World, rolls: &mut Rolls, entries: &[NodeId], deadline: Duration) {
    let known = rolls.sequences();
    let asked = nodes(world, entries).map(|node| newer(world, node, known.clone(), deadline));
    let found: Vec<Vec<Signed<Roll>>> = asked.buffer_unordered(NODES_IN_FLIGHT).collect().await;
    let now = world.clock.now();
    for roll in found.into_iter().flatten() {
        if let Err(error) = rolls.learn(roll, now) {
            tracing::warn!(%error, "a node told of a roll that does not count");
        }
    }
}

/// Tells every node that is known, and these through which the mesh was joined: until the first roll is there, no node is known. Those
/// that are away learn it from the others.
///
/// # Cancel safety
/// When dropped, some nodes may have been told; they tell the others.
pub async fn tell(world: &World, roll: &Signed<Roll>, entries: &[NodeId], deadline: Duration) -> Enrolled {
    let told = nodes(world, entries).map(|node| async move {
        let answer = answer(world, node, Request::Enrol(roll.clone()), deadline).await;
        let outcome = answer.map_err(Failure::Call).and_then(|message| match message.header {
            Response::Learned { .. } => Ok(()),
            Response::Refused(refusal) => Err(Failure::Refused { node, refusal }),
            _ => Err(Failure::Protocol { node }),
        });
        (node, outcome)
    });
    let outcomes: Vec<_> = told.buffer_unordered(NODES_IN_FLIGHT).collect().await;
    let mut enrolled = Enrolled::default();
    for (node, outcome) in outcomes {
        match outcome {
            Ok(()) => enrolled.node_count += 1,
            Err(failure) => {
                enrolled.failures.insert(node, failure);
            }
        }
    }
    enrolled
}

fn nodes(world: &World, entries: &[NodeId]) -> impl stream::Stream<Item = NodeId> + use<> {
    let topology = world.peers.topology();
    let known = topology.records().map(|record| record.node);
    let nodes: BTreeSet<NodeId> = known.chain(entries.iter().copied()).collect();
    stream::iter(nodes)
}

/// The rolls that a node knows and whoever knows these sequences lacks.
async fn newer(
    world: &World,
    node: NodeId,
    mut known: Vec<(OwnerId, u64)>,
    deadline: Duration,
) -> Vec<Signed<Roll>> {
    let mut found = Vec::new();
    while found.len() < AUTHORITIES_MAX {
        let asked = answer(world, node, Request::Rolls(known.clone()), deadline).await;
        let Ok(Response::Roll(Some(roll))) = asked.map(|message| message.header) else { break };
        let Roll { authority, sequence, .. } = *roll.unverified();
        known.retain(|(other, _)| *other != authority);
        known.push((authority, sequence));
        found.push(roll);
    }
    found
}
