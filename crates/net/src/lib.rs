//! The network: peers and discovery over libp2p, and the exchange of shards, over a data plane of its own where it can.
//!
//! [`start`] gives a [`Network`], which is the engine's [`Peers`](datamesh_engine::world::Peers). One task owns the swarm,
//! one keeps what is known of the mesh fresh, and one per stream or connection of the data plane answers requests; they speak
//! over bounded channels.

mod behaviour;
mod buffers;
mod command;
mod counters;
mod directory;
mod exchange;
mod gossip;
mod identity;
mod membership;
mod mesh_key;
mod network;
mod peers;
mod plane;
mod random;
mod settings;
mod swarm;
mod transport;

pub use command::{FoundNode, PeerInfo};
pub use counters::Counters;
pub use directory::DirectoryError;
pub use exchange::Answer;
pub use identity::{Identity, IdentityError, node_of, peer_of};
pub use libp2p::{Multiaddr, PeerId};
pub use mesh_key::MeshKey;
pub use network::{AnnounceError, JoinError, Network, StartError, start};
pub use settings::{DataPlane, LocalDiscovery, NetworkLimits, NetworkSettings, NodeOffer};
