//! What a network is started with: identity, addresses, offer, and limits.

use std::path::PathBuf;
use std::time::Duration;

use datamesh_core::admission::{Authorities, Roll};
use datamesh_core::limits::{MIB, SHARD_SIZE_MAX, WIRE_HEADER_SIZE_MAX};
use datamesh_core::sign::Signed;
use datamesh_core::topology::{FailureDomain, Role};
use libp2p::Multiaddr;

use crate::identity::Identity;
use crate::mesh_key::MeshKey;

/// What a participant offers to the mesh. Who offers nothing is a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeOffer {
    /// What it does.
    pub role: Role,
    /// Where it stands.
    pub domain: FailureDomain,
    /// Bytes that it offers.
    pub capacity: u64,
    /// How long it may be silent before what it holds is made again elsewhere; whole seconds count.
    pub grace: Duration,
    /// The version that it runs.
    pub software: String,
}

/// Whether nodes are looked for on the local network by multicast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LocalDiscovery {
    /// Nothing is sent to the local network.
    #[default]
    Off,
    /// Multicast DNS announces this node and dials those that answer.
    Multicast,
}

/// Whether shards move over TLS connections of their own, beside libp2p.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataPlane {
    /// All goes over libp2p streams.
    Off,
    /// Nodes are dialled at their data addresses; a node serves its own.
    On {
        /// The port that a node serves on, of every address that it listens on by TCP; 0 for a free one.
        port: u16,
        /// The congestion control to ask the kernel for, connections to this machine itself aside; `None` for the system's.
        congestion: Option<String>,
    },
}

impl Default for DataPlane {
    fn default() -> Self {
        Self::On { port: 0, congestion: None }
    }
}

/// Everything that a network needs to start.
#[derive(Debug, Clone)]
pub struct NetworkSettings {
    /// Who this participant is.
    pub identity: Identity,
    /// What it proves to be of its mesh with; `None` in a mesh that is not private. A private mesh speaks no QUIC.
    pub key: Option<MeshKey>,
    /// Who admits nodes and owners; nobody where the mesh is not restricted.
    pub authorities: Authorities,
    /// Rolls that are known beforehand.
    pub rolls: Vec<Signed<Roll>>,
    /// Where it listens; empty for a client.
    pub listen: Vec<Multiaddr>,
    /// Addresses under which others reach it, beyond those it listens on.
    pub external: Vec<Multiaddr>,
    /// Nodes to join through, with or without `/p2p/ID` at the end.
    pub bootstrap: Vec<Multiaddr>,
    /// What it offers; `None` for a client, which only uses the mesh.
    pub record: Option<NodeOffer>,
    /// Where known node records are kept, so that a restarted node rejoins without its bootstrap address.
    pub state_directory: Option<PathBuf>,
    /// Whether to look for nodes on the local network.
    pub local_discovery: LocalDiscovery,
    /// Whether shards move over connections of their own.
    pub data_plane: DataPlane,
    /// How much of everything.
    pub limits: NetworkLimits,
}

impl NetworkSettings {
    /// A client that joins through these nodes.
    #[must_use]
    pub fn client(identity: Identity, bootstrap: Vec<Multiaddr>) -> Self {
        Self {
            identity,
            key: None,
            authorities: Authorities::default(),
            rolls: Vec::new(),
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap,
            record: None,
            state_directory: None,
            local_discovery: LocalDiscovery::Off,
            data_plane: DataPlane::default(),
            limits: NetworkLimits::default(),
        }
    }

    /// A node that listens and offers something; the first of a mesh has no bootstrap addresses.
    #[must_use]
    pub fn node(
        identity: Identity,
        listen: Vec<Multiaddr>,
        bootstrap: Vec<Multiaddr>,
        offer: NodeOffer,
    ) -> Self {
        Self { listen, record: Some(offer), ..Self::client(identity, bootstrap) }
    }
}

/// How much of everything a network takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkLimits {
    /// How long a stream may go without moving a byte.
    pub stall: Duration,
    /// How long a dial may take, handshakes included.
    pub dial: Duration,
    /// Bytes of requests and answers that own calls may have under way.
    pub outbound_bytes: usize,
    /// Bytes of requests and answers that calls of others may have under way.
    pub inbound_bytes: usize,
    /// The part of `inbound_bytes` that one peer may have.
    pub inbound_bytes_per_peer: usize,
    /// Requests that are answered at the same time, a quarter of them for one peer; those beyond are refused as busy.
    pub answers: usize,
    /// Established connections that others opened.
    pub connections_incoming: u32,
    /// Established connections with one peer.
    pub connections_per_peer: u32,
    /// How often records are compared with a random node.
    pub reconcile: Duration,
    /// Violations after which a peer is denied.
    pub violations: u32,
    /// How long a denied peer stays denied.
    pub denial: Duration,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(30),
            dial: Duration::from_secs(5),
            outbound_bytes: 32 * MIB,
            inbound_bytes: 32 * MIB,
            inbound_bytes_per_peer: 16 * MIB,
            answers: 1024,
            connections_incoming: 1024,
            connections_per_peer: 4,
            reconcile: Duration::from_secs(10),
            violations: 3,
            denial: Duration::from_secs(10 * 60),
        }
    }
}

impl NetworkLimits {
    /// The same limits, raised where the longest message would never fit.
    #[must_use]
    pub(crate) fn sufficient(mut self) -> Self {
        let message_size_max = SHARD_SIZE_MAX + WIRE_HEADER_SIZE_MAX;
        self.outbound_bytes = self.outbound_bytes.max(message_size_max);
        self.inbound_bytes_per_peer = self.inbound_bytes_per_peer.max(message_size_max);
        self.inbound_bytes = self.inbound_bytes.max(self.inbound_bytes_per_peer);
        self.answers = self.answers.max(1);
        self.connections_per_peer = self.connections_per_peer.max(1);
        self.violations = self.violations.max(1);
        self.reconcile = self.reconcile.max(Duration::from_millis(100));
        self
    }
}
