//! What a handle may ask of the swarm: bounded, each with its reply.

use std::time::Duration;

use datamesh_core::id::NodeId;
use libp2p::gossipsub::{MessageAcceptance, MessageId};
use libp2p::kad::RecordKey;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use crate::directory::DirectoryError;
use crate::exchange::streams::Opening;

/// Commands that may wait for the swarm.
pub(crate) const COMMANDS_WAITING_MAX: usize = 256;

/// One thing asked of the swarm.
pub(crate) enum Command {
    /// Open a stream to a peer, dialling it if need be.
    Open { peer: PeerId, opening: Opening },
    /// Publish a message on the membership topic. There is no reply: gossip promises nothing.
    Gossip { data: Vec<u8> },
    /// Say what a gossiped message was worth, so that it is passed on or not.
    Judge { message: MessageId, source: PeerId, acceptance: MessageAcceptance },
    /// Use these addresses in the DHT.
    Route { peer: PeerId, addresses: Vec<Multiaddr> },
    /// Tell the DHT that this node has something.
    Provide { key: RecordKey, reply: oneshot::Sender<Result<(), DirectoryError>> },
    /// Tell the DHT no longer that this node has something.
    Withdraw { key: RecordKey, reply: oneshot::Sender<()> },
    /// Ask the DHT who has something.
    Providers { key: RecordKey, reply: oneshot::Sender<Result<Vec<NodeId>, DirectoryError>> },
    /// Ask the DHT for the peers closest to a key.
    Closest { key: Vec<u8>, reply: oneshot::Sender<Result<Vec<FoundNode>, DirectoryError>> },
    /// Who is connected?
    Peers { reply: oneshot::Sender<Vec<PeerInfo>> },
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Who it is.
    pub node: NodeId,
    /// The address of one of its connections.
    pub address: Multiaddr,
    /// The last round trip measured.
    pub rtt: Option<Duration>,
    /// What it says it runs.
    pub software: Option<String>,
}

/// A node found in the DHT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundNode {
    /// Who it is.
    pub node: NodeId,
    /// Where it may be dialled.
    pub addresses: Vec<Multiaddr>,
}
