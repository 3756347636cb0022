//! Keeps enough connections: to the bootstrap addresses until joined, then to some of the nodes known.

use std::time::{Duration, Instant};

use datamesh_core::id::NodeId;
use datamesh_core::topology::NodeState;
use futures::StreamExt;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use tokio::time::timeout_at;

use crate::identity::{node_of, peer_of};
use crate::membership::upkeep::{Hindrance, Missed};
use crate::membership::without_peer;
use crate::network::StartError;
use crate::peers::{is_other_mesh, root_cause, why_not_reached};
use crate::random;
use crate::swarm::Driver;

/// Connections to nodes that are kept up. As many as gossip wants neighbours.
const NODES_CONNECTED: usize = 6;
/// The pause before a bootstrap address is dialled again: at first, doubling up to the second.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long the system may take to begin listening.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// A bootstrap address.
pub(super) struct Seed {
    address: Multiaddr,
    /// Who is there: said by the address, or found by dialling it.
    peer: Option<PeerId>,
    dial: Option<ConnectionId>,
    pause: Duration,
    next: Instant,
}

impl Seed {
    pub(super) fn new(address: Multiaddr) -> Self {
        let peer = match address.iter().last() {
            Some(Protocol::P2p(peer)) => Some(peer),
            _ => None,
        };
        let address = without_peer(address);
        Self { address, peer, dial: None, pause: PAUSE_MIN, next: Instant::now() }
    }

    fn options(&self) -> DialOpts {
        let address = self.address.clone();
        match self.peer {
            Some(peer) => DialOpts::peer_id(peer).addresses(vec![address]).build(),
            None => DialOpts::unknown_peer_id().address(address).build(),
        }
    }
}

impl Driver {
    /// Listens on all addresses and returns once each is known as others see it.
    ///
    /// # Errors
    /// [`StartError::Listen`] for the first that can't be had.
    pub(crate) async fn listen(&mut self, addresses: &[Multiaddr]) -> Result<(), StartError> {
        let mut awaited = Vec::new();
        for address in addresses {
            let unusable = |why: String| StartError::Listen { address: address.clone(), why };
            let listener =
                self.swarm.listen_on(address.clone()).map_err(|error| unusable(root_cause(&error)))?;
            awaited.push((listener, address.clone()));
        }
        let end = Instant::now() + LISTEN_TIMEOUT;
        while let Some((_, first)) = awaited.first() {
            let Ok(event) = timeout_at(end.into(), self.swarm.select_next_some()).await else {
                let why = "the system does not say on which address".to_owned();
                return Err(StartError::Listen { address: first.clone(), why });
            };
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => {
                    awaited.retain(|(listener, _)| listener != listener_id);
                }
                SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } => {
                    let closed = awaited.into_iter().find(|(listener, _)| listener == listener_id);
                    let address = closed.map_or_else(Multiaddr::empty, |(_, address)| address);
                    return Err(StartError::Listen { address, why: error.to_string() });
                }
                _ => {}
            }
            self.handle(event);
        }
        self.tell_addresses();
        Ok(())
    }

    pub(super) fn look_after_connections(&mut self) {
        let now = Instant::now();
        for peer in self.conduct.pardon(now) {
            self.denied.remove(&peer);
            self.swarm.behaviour_mut().denied.unblock_peer(peer);
        }
        let connected = self.nodes_connected();
        if connected == 0 || !self.joining.borrow().joined {
            self.dial_seeds(now);
        }
        for _ in connected..NODES_CONNECTED {
            self.dial_any_node(now);
        }
    }

    fn nodes_connected(&self) -> usize {
        let topology = self.membership.topology();
        let known = |peer: &&PeerId| node_of(peer).is_some_and(|node| topology.record(&node).is_some());
        self.state.peers.keys().filter(known).count()
    }

    fn dial_seeds(&mut self, now: Instant) {
        let mut failed = Vec::new();
        for (index, seed) in self.state.seeds.iter_mut().enumerate() {
            let connected = seed.peer.is_some_and(|peer| self.swarm.is_connected(&peer));
            if connected || seed.dial.is_some() || now < seed.next {
                continue;
            }
            let options = seed.options();
            seed.dial = Some(options.connection_id());
            if let Err(error) = self.swarm.dial(options) {
                failed.push((index, error));
            }
        }
        for (index, error) in failed {
            self.miss_seed(index, &error);
        }
    }

    /// Dials a node drawn at random, if it is neither connected nor was missed lately. The next tick draws again.
    fn dial_any_node(&mut self, now: Instant) {
        let topology = self.membership.topology();
        let drawn = topology.records().nth(random::index(topology.len()));
        let Some(record) = drawn.filter(|record| record.state != NodeState::Gone) else { return };
        let peer = peer_of(&record.node);
        let own = peer == *self.swarm.local_peer_id();
        if !own && !self.swarm.is_connected(&peer) && self.state.absences.absent(&peer, now).is_none() {
            self.dial(peer);
        }
    }

    /// Dials a peer where the local network says it is.
    pub(super) fn dial_at(&mut self, peer: PeerId, address: Multiaddr) {
        // Whoever can't be dialled will announce itself again.
        let _ = self.swarm.dial(DialOpts::peer_id(peer).addresses(vec![address]).build());
    }

    /// Notes who answered at a bootstrap address, if this was a dial of one.
    pub(super) fn reached_seed(&mut self, connection: ConnectionId, peer: PeerId) {
        if let Some(seed) = self.state.seeds.iter_mut().find(|seed| seed.dial == Some(connection)) {
            seed.peer = Some(peer);
            seed.dial = None;
            seed.pause = PAUSE_MIN;
        }
    }

    /// Notes that a bootstrap address was not reached, if this was a dial of one.
    pub(super) fn missed_seed(&mut self, connection: ConnectionId, error: &DialError) {
        if let Some(index) = self.state.seeds.iter().position(|seed| seed.dial == Some(connection)) {
            self.miss_seed(index, error);
        }
    }

    fn miss_seed(&mut self, index: usize, error: &DialError) {
        let own = *self.swarm.local_peer_id();
        let seed = &mut self.state.seeds[index];
        seed.dial = None;
        match error {
            DialError::DialPeerConditionFalse(_) => {}
            // A list of bootstrap addresses that all nodes share has each node's own among them.
            // The swarm never dials an address that it listens on itself, which leaves none to dial.
            DialError::LocalPeerId { .. } | DialError::NoAddresses => self.drop_own_seed(index),
            DialError::WrongPeerId { obtained, .. } if *obtained == own => self.drop_own_seed(index),
            _ => {
                seed.next = Instant::now() + seed.pause;
                seed.pause = (seed.pause * 2).min(PAUSE_MAX);
                let address = seed.address.to_string();
                let hindrance = if is_other_mesh(error) { Hindrance::OtherMesh } else { Hindrance::Passing };
                let missed = Missed { why: why_not_reached(error), hindrance };
                self.joining.send_modify(|joining| joining.failed(address, missed));
            }
        }
    }

    fn drop_own_seed(&mut self, index: usize) {
        self.state.seeds.remove(index);
        self.join_alone();
    }

    /// A node that knows of no other has nobody to join: it is the mesh.
    pub(crate) fn join_alone(&self) {
        let own = node_of(self.swarm.local_peer_id());
        let topology = self.membership.topology();
        let other = |node: &NodeId| Some(*node) != own;
        if self.state.seeds.is_empty() && !topology.records().any(|record| other(&record.node)) {
            self.joining.send_modify(|joining| joining.joined = true);
        }
    }
}
