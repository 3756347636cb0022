//! The protocols this node speaks.

use std::sync::Arc;
use std::time::Duration;

use libp2p::allow_block_list::{self, BlockedPeers};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::kad::{self, StoreInserts};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, StreamProtocol, gossipsub, identify, mdns, ping};

use crate::directory::{ProviderStore, QUERY_TIMEOUT};
use crate::exchange::streams::{self, Inbound};
use crate::gossip;
use crate::membership::Membership;
use crate::settings::{LocalDiscovery, NetworkLimits};

/// What identifies the family of protocols to other libp2p programs.
const FAMILY: &str = "/datamesh/1";
const AGENT: &str = concat!("datamesh/", env!("CARGO_PKG_VERSION"));
pub(crate) const KADEMLIA: StreamProtocol = StreamProtocol::new("/datamesh/kad/1");
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTIONS_PENDING_MAX: u32 = 128;
const CONNECTIONS_OUTGOING_MAX: u32 = 1024;

/// All protocols together. Those that refuse connections come first, so that no other learns of what they refuse.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) denied: allow_block_list::Behaviour<BlockedPeers>,
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) kademlia: kad::Behaviour<ProviderStore>,
    pub(crate) gossip: gossipsub::Behaviour,
    pub(crate) multicast: Toggle<mdns::tokio::Behaviour>,
    pub(crate) exchange: streams::Behaviour,
}

impl Behaviour {
    /// # Errors
    /// What a protocol finds wrong, or why there is no multicast.
    pub(crate) fn new(
        keypair: &Keypair,
        inbound: Inbound,
        membership: Arc<Membership>,
        discovery: LocalDiscovery,
        limits: &NetworkLimits,
    ) -> Result<Self, String> {
        let own = keypair.public().to_peer_id();
        let served = matches!(inbound, Inbound::Served(_));
        Ok(Self {
            denied: allow_block_list::Behaviour::default(),
            limits: connection_limits::Behaviour::new(connection_limits(limits)),
            identify: identify::Behaviour::new(
                identify::Config::new(FAMILY.to_owned(), keypair.public())
                    .with_agent_version(AGENT.to_owned()),
            ),
            ping: ping::Behaviour::new(
                ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT),
            ),
            kademlia: kademlia(own, if served { kad::Mode::Server } else { kad::Mode::Client }),
            gossip: gossip(served)?,
            multicast: multicast(own, discovery)?.into(),
            exchange: streams::Behaviour::new(inbound, membership),
        })
    }
}

fn connection_limits(limits: &NetworkLimits) -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(CONNECTIONS_PENDING_MAX))
        .with_max_pending_outgoing(Some(CONNECTIONS_PENDING_MAX))
        .with_max_established_incoming(Some(limits.connections_incoming))
        .with_max_established_outgoing(Some(CONNECTIONS_OUTGOING_MAX))
        .with_max_established_per_peer(Some(limits.connections_per_peer))
}

fn kademlia(own: PeerId, mode: kad::Mode) -> kad::Behaviour<ProviderStore> {
    let mut config = kad::Config::new(KADEMLIA);
    // What others would store is looked at first.
    config.set_record_filtering(StoreInserts::FilterBoth).set_query_timeout(QUERY_TIMEOUT);
    let mut kademlia = kad::Behaviour::with_config(own, ProviderStore::new(own), config);
    kademlia.set_mode(Some(mode));
    kademlia
}

/// A client is subscribed to nothing: it comes and goes, and asks for the records it needs.
fn gossip(served: bool) -> Result<gossipsub::Behaviour, String> {
    let mut behaviour = gossip::behaviour()?;
    if served {
        behaviour.subscribe(&gossip::membership_topic()).map_err(|error| error.to_string())?;
    }
    Ok(behaviour)
}

fn multicast(own: PeerId, discovery: LocalDiscovery) -> Result<Option<mdns::tokio::Behaviour>, String> {
    match discovery {
        LocalDiscovery::Off => Ok(None),
        LocalDiscovery::Multicast => {
            let behaviour = mdns::tokio::Behaviour::new(mdns::Config::default(), own);
            behaviour.map(Some).map_err(|error| format!("multicast: {error}"))
        }
    }
}
