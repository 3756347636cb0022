//! The one task that owns the swarm.

mod connect;
mod events;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::kad::RecordKey;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::behaviour::Behaviour;
use crate::command::{Command, PeerInfo};
use crate::counters::Tally;
use crate::directory::Queries;
use crate::exchange::call::Caller;
use crate::exchange::serve::Server;
use crate::exchange::streams::{OpenError, Opening};
use crate::gossip;
use crate::identity::node_of;
use crate::membership::Membership;
use crate::membership::upkeep::{Joining, Notice};
use crate::peers::{Absences, Conduct, Denied, Fault, Sentence, why_not_reached};
use crate::swarm::connect::Seed;

/// How often connections are looked after.
const TICK: Duration = Duration::from_millis(100);
/// How often idle streams are looked after.
const SWEEP: Duration = Duration::from_secs(10);

/// The task's state.
pub(crate) struct Driver {
    pub(crate) swarm: Swarm<Behaviour>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) faults: mpsc::Receiver<Fault>,
    pub(crate) notices: mpsc::Sender<Notice>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) caller: Arc<Caller>,
    /// `None` for a client.
    pub(crate) server: Option<Arc<Server>>,
    pub(crate) joining: watch::Sender<Joining>,
    pub(crate) addresses: watch::Sender<Vec<Multiaddr>>,
    pub(crate) external: Vec<Multiaddr>,
    pub(crate) conduct: Conduct,
    pub(crate) denied: Denied,
    pub(crate) tally: Arc<Tally>,
    pub(crate) closing: CancellationToken,
    pub(crate) state: State,
}

/// What the task remembers of peers and queries.
#[derive(Default)]
pub(crate) struct State {
    seeds: Vec<Seed>,
    absences: Absences,
    queries: Queries,
    peers: BTreeMap<PeerId, Peer>,
}

/// A connected peer.
struct Peer {
    connections: BTreeMap<ConnectionId, Multiaddr>,
    rtt: Option<Duration>,
    software: Option<String>,
    pings_missed: u32,
}

impl State {
    pub(crate) fn new(bootstrap: Vec<Multiaddr>) -> Self {
        Self { seeds: bootstrap.into_iter().map(Seed::new).collect(), ..Self::default() }
    }
}

impl Driver {
    /// Runs until the network closes.
    pub(crate) async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweep = interval(SWEEP);
        let closing = self.closing.clone();
        loop {
            tokio::select! {
                () = closing.cancelled() => break,
                event = self.swarm.select_next_some() => self.handle(event),
                Some(command) = self.commands.recv() => self.execute(command),
                Some(fault) = self.faults.recv() => self.judge(fault),
                _ = tick.tick() => self.look_after_connections(),
                _ = sweep.tick() => self.caller.sweep(),
            }
        }
    }

    fn execute(&mut self, command: Command) {
        let own = *self.swarm.local_peer_id();
        let behaviour = self.swarm.behaviour_mut();
        match command {
            Command::Open { peer, opening } => self.open(peer, opening),
            Command::Gossip { data } => {
                // That nobody is there to hear it is no error: they will ask.
                if let Err(error) = behaviour.gossip.publish(gossip::membership_topic(), data) {
                    tracing::debug!(%error, "not gossiped");
                }
            }
            Command::Judge { message, source, acceptance } => {
                behaviour.gossip.report_message_validation_result(&message, &source, acceptance);
            }
            Command::Route { peer, addresses } => {
                for address in addresses {
                    behaviour.kademlia.add_address(&peer, address);
                }
                self.state.absences.present(&peer);
            }
            Command::Provide { key, reply } => {
                self.state.queries.provide(&mut behaviour.kademlia, key, reply);
            }
            Command::Withdraw { key, reply } => {
                behaviour.kademlia.stop_providing(&key);
                forget_own(behaviour, &key, &own);
                // Whoever asked may have gone.
                let _ = reply.send(());
            }
            Command::Providers { key, reply } => {
                self.state.queries.providers(&mut behaviour.kademlia, key, reply);
            }
            Command::Closest { key, reply } => {
                self.state.queries.closest(&mut behaviour.kademlia, key, reply);
            }
            Command::Peers { reply } => {
                let _ = reply.send(self.peers());
            }
        }
    }

    fn peers(&self) -> Vec<PeerInfo> {
        let info = |(id, peer): (&PeerId, &Peer)| {
            Some(PeerInfo {
                node: node_of(id)?,
                address: peer.connections.values().next()?.clone(),
                rtt: peer.rtt,
                software: peer.software.clone(),
            })
        };
        self.state.peers.iter().filter_map(info).collect()
    }

    fn open(&mut self, peer: PeerId, opening: Opening) {
        let connected = self.swarm.is_connected(&peer);
        let absent = self.state.absences.absent(&peer, Instant::now()).filter(|_| !connected);
        if let Some(why) = absent {
            // The caller may have gone meanwhile.
            let _ = opening.send(Err(OpenError::Unreachable(why.to_owned())));
            return;
        }
        self.swarm.behaviour_mut().exchange.open(peer, opening);
        if !connected {
            self.dial(peer);
        }
    }

    /// Dials a peer at all addresses that any protocol knows of it.
    fn dial(&mut self, peer: PeerId) {
        match self.swarm.dial(DialOpts::peer_id(peer).build()) {
            // A dial that is under way already will do.
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => {
                let why = why_not_reached(&error);
                self.swarm.behaviour_mut().exchange.fail(&peer, &why);
            }
        }
    }

    fn judge(&mut self, fault: Fault) {
        let Fault { peer, what } = fault;
        self.tally.violations.increase();
        match self.conduct.violated(peer, Instant::now()) {
            Sentence::Disconnect => {
                tracing::info!(%peer, what, "peer broke the protocol: disconnected");
                // It may have gone by itself.
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            Sentence::Deny => {
                tracing::warn!(%peer, what, "peer broke the protocol again: denied for a while");
                self.tally.denials.increase();
                self.swarm.behaviour_mut().denied.block_peer(peer);
                self.denied.insert(&peer);
            }
        }
        if let (Some(server), Some(node)) = (&self.server, node_of(&peer)) {
            server.disconnect(&node);
        }
    }
}

fn forget_own(behaviour: &mut Behaviour, key: &RecordKey, own: &PeerId) {
    use libp2p::kad::store::RecordStore;
    behaviour.kademlia.store_mut().remove_provider(key, own);
}
