//! What the swarm reports, and what follows from it.

use std::collections::BTreeMap;
use std::time::Instant;

use libp2p::core::ConnectedPoint;
use libp2p::kad::InboundRequest;
use libp2p::kad::store::RecordStore;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, gossipsub, identify, kad, mdns, ping};
use tokio::sync::mpsc::error::TrySendError;

use crate::behaviour::{BehaviourEvent, KADEMLIA};
use crate::identity::node_of;
use crate::membership::upkeep::Notice;
use crate::peers::why_not_reached;
use crate::swarm::{Driver, Peer};

/// Addresses that a peer may tell of itself.
const ADDRESSES_IDENTIFIED_MAX: usize = 16;
/// Longest text about itself that is kept of a peer, characters.
const SOFTWARE_LENGTH_MAX: usize = 128;
/// Unanswered pings in a row after which a connection is closed.
const PINGS_MISSED_MAX: u32 = 2;

impl Driver {
    pub(super) fn handle(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.handle_protocol(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                self.disconnected(peer_id, connection_id);
            }
            SwarmEvent::OutgoingConnectionError { peer_id, connection_id, error } => {
                self.missed_seed(connection_id, &error);
                if let Some(peer) = peer_id {
                    self.missed(peer, &error);
                }
            }
            SwarmEvent::NewListenAddr { .. }
            | SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ListenerClosed { .. } => self.tell_addresses(),
            _ => {}
        }
    }

    fn handle_protocol(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.identified(peer_id, info);
            }
            BehaviourEvent::Ping(event) => self.pinged(&event),
            BehaviourEvent::Kademlia(event) => self.routed(event),
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.heard(propagation_source, message_id, message.data);
            }
            BehaviourEvent::Multicast(mdns::Event::Discovered(found)) => self.discovered(found),
            _ => {}
        }
    }

    fn connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        self.tally.connections_established.increase();
        self.state.absences.present(&peer);
        self.reached_seed(connection, peer);
        let known = self.state.peers.entry(peer).or_insert_with(|| Peer {
            connections: BTreeMap::new(),
            rtt: None,
            software: None,
            pings_missed: 0,
        });
        known.connections.insert(connection, endpoint.get_remote_address().clone());
        if endpoint.is_dialer()
            && let Some(node) = node_of(&peer)
        {
            // When so many notices are waiting, the next reconciliation does without this one.
            let _ = self.notices.try_send(Notice::Dialled(node));
        }
    }

    fn disconnected(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(known) = self.state.peers.get_mut(&peer) else { return };
        known.connections.remove(&connection);
        if known.connections.is_empty() {
            self.state.peers.remove(&peer);
        }
    }

    fn missed(&mut self, peer: PeerId, error: &DialError) {
        if matches!(error, DialError::DialPeerConditionFalse(_)) || self.swarm.is_connected(&peer) {
            return;
        }
        self.tally.dials_unanswered.increase();
        let why = why_not_reached(error);
        self.swarm.behaviour_mut().exchange.fail(&peer, &why);
        self.state.absences.missed(peer, why, Instant::now());
    }

    pub(super) fn tell_addresses(&self) {
        let mut addresses = self.external.clone();
        addresses.extend(self.swarm.listeners().cloned());
        self.addresses.send_if_modified(|told| {
            let changed = *told != addresses;
            *told = addresses;
            changed
        });
    }

    fn identified(&mut self, peer: PeerId, info: identify::Info) {
        if let Some(known) = self.state.peers.get_mut(&peer) {
            known.software = Some(info.agent_version.chars().take(SOFTWARE_LENGTH_MAX).collect());
        }
        if info.protocols.contains(&KADEMLIA) {
            for address in info.listen_addrs.into_iter().take(ADDRESSES_IDENTIFIED_MAX) {
                self.swarm.behaviour_mut().kademlia.add_address(&peer, address);
            }
        }
    }

    fn pinged(&mut self, event: &ping::Event) {
        let Some(known) = self.state.peers.get_mut(&event.peer) else { return };
        match &event.result {
            Ok(rtt) => {
                known.rtt = Some(*rtt);
                known.pings_missed = 0;
            }
            Err(ping::Failure::Unsupported) => {}
            Err(_) => {
                known.pings_missed += 1;
                if known.pings_missed >= PINGS_MISSED_MAX {
                    self.swarm.close_connection(event.connection);
                }
            }
        }
    }

    fn routed(&mut self, event: kad::Event) {
        let kademlia = &mut self.swarm.behaviour_mut().kademlia;
        match event {
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                self.state.queries.progress(kademlia, id, result, step.last);
            }
            // Values are not kept, so only provider records are looked at.
            kad::Event::InboundRequest { request: InboundRequest::AddProvider { record: Some(record) } } => {
                if let Err(error) = kademlia.store_mut().add_provider(record) {
                    tracing::debug!(%error, "provider record not kept");
                }
            }
            _ => {}
        }
    }

    fn heard(&mut self, source: PeerId, message: gossipsub::MessageId, data: Vec<u8>) {
        let notice = Notice::Gossip { message, source, data };
        if let Err(TrySendError::Full(Notice::Gossip { message, source, .. })) = self.notices.try_send(notice)
        {
            let ignore = gossipsub::MessageAcceptance::Ignore;
            self.swarm.behaviour_mut().gossip.report_message_validation_result(&message, &source, ignore);
        }
    }

    fn discovered(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        for (peer, address) in found {
            self.swarm.add_peer_address(peer, address.clone());
            if !self.swarm.is_connected(&peer) {
                self.dial_at(peer, address);
            }
        }
    }
}
