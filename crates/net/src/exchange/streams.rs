//! The exchange behaviour: opens streams for callers and hands incoming ones to the server.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use datamesh_core::wire::PROTOCOL;
use futures::channel::oneshot;
use futures::future::{Ready, ready};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::exchange::serve::{Server, Share};
use crate::identity::node_of;
use crate::membership::Membership;

/// Where an opened stream, or why there is none, is sent to.
pub(crate) type Opening = oneshot::Sender<Result<Stream, OpenError>>;

/// Why there is no stream to a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{0}")]
    Unreachable(String),
    #[error("it answers no requests")]
    Unsupported,
}

/// Whether this participant answers requests. A client doesn't, and says so in what protocols it speaks.
#[derive(Clone)]
pub(crate) enum Inbound {
    Served(Arc<Server>),
    Refused,
}

/// The behaviour.
pub(crate) struct Behaviour {
    inbound: Inbound,
    membership: Arc<Membership>,
    connected: BTreeMap<PeerId, Connected>,
    /// Callers that wait for a connection.
    waiting: BTreeMap<PeerId, Vec<Opening>>,
    notices: VecDeque<(PeerId, ConnectionId, Opening)>,
    waker: Option<Waker>,
}

struct Connected {
    connections: Vec<ConnectionId>,
    share: Share,
}

impl Behaviour {
    pub(crate) fn new(inbound: Inbound, membership: Arc<Membership>) -> Self {
        Self {
            inbound,
            membership,
            connected: BTreeMap::new(),
            waiting: BTreeMap::new(),
            notices: VecDeque::new(),
            waker: None,
        }
    }

    /// Opens a stream as soon as there is a connection. The caller of this dials if there is none.
    pub(crate) fn open(&mut self, peer: PeerId, opening: Opening) {
        let Some(connection) = self.connected.get(&peer).and_then(|peer| peer.connections.last()) else {
            self.waiting.entry(peer).or_default().push(opening);
            return;
        };
        self.notices.push_back((peer, *connection, opening));
        self.wake();
    }

    /// Tells those who wait for a connection that there will be none.
    pub(crate) fn fail(&mut self, peer: &PeerId, why: &str) {
        for opening in self.waiting.remove(peer).unwrap_or_default() {
            // The caller may have gone meanwhile.
            let _ = opening.send(Err(OpenError::Unreachable(why.to_owned())));
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn connect(&mut self, connection: ConnectionId, peer: PeerId) -> Handler {
        let share = match &self.inbound {
            Inbound::Served(server) => node_of(&peer).map_or_else(Share::none, |node| server.share(node)),
            Inbound::Refused => Share::none(),
        };
        let connected =
            self.connected.entry(peer).or_insert_with(|| Connected { connections: Vec::new(), share });
        connected.connections.push(connection);
        let openings = self.waiting.remove(&peer).unwrap_or_default();
        Handler {
            peer,
            inbound: self.inbound.clone(),
            share: connected.share.clone(),
            asked: openings.into(),
            opening: VecDeque::new(),
            waker: None,
        }
    }

    fn disconnect(&mut self, closed: &ConnectionClosed<'_>) {
        let Some(connected) = self.connected.get_mut(&closed.peer_id) else { return };
        connected.connections.retain(|connection| *connection != closed.connection_id);
        if connected.connections.is_empty() {
            self.connected.remove(&closed.peer_id);
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.connect(connection, peer))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let node = peer.as_ref().and_then(node_of);
        Ok(node.map(|node| self.membership.addresses(&node)).unwrap_or_default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.connect(connection, peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = event {
            self.disconnect(&closed);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection, event)) = self.notices.pop_front() {
            let handler = NotifyHandler::One(connection);
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event });
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// One connection's part of the behaviour.
pub(crate) struct Handler {
    peer: PeerId,
    inbound: Inbound,
    share: Share,
    /// Streams asked for and not yet begun.
    asked: VecDeque<Opening>,
    /// Streams being negotiated, in the order in which they will be ready or fail.
    opening: VecDeque<Opening>,
    waker: Option<Waker>,
}

/// The protocols accepted on incoming streams: the exchange, or none.
pub(crate) struct Accepted(Option<StreamProtocol>);

impl UpgradeInfo for Accepted {
    type Info = StreamProtocol;
    type InfoIter = std::option::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Accepted {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl Handler {
    fn finish(&mut self, outcome: Result<Stream, OpenError>) {
        // All streams are alike, so whoever waited longest takes it; it may have gone meanwhile.
        if let Some(opening) = self.opening.pop_front() {
            let _ = opening.send(outcome);
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Opening;
    type ToBehaviour = Infallible;
    type InboundProtocol = Accepted;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        let accepted = match self.inbound {
            Inbound::Served(_) => Some(StreamProtocol::new(PROTOCOL)),
            Inbound::Refused => None,
        };
        SubstreamProtocol::new(Accepted(accepted), ())
    }

    fn on_behaviour_event(&mut self, opening: Opening) {
        self.asked.push_back(opening);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        while let Some(opening) = self.asked.pop_front() {
            if !opening.is_canceled() {
                self.opening.push_back(opening);
                let upgrade = ReadyUpgrade::new(StreamProtocol::new(PROTOCOL));
                let protocol = SubstreamProtocol::new(upgrade, ());
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                if let Inbound::Served(server) = &self.inbound {
                    server.accept(self.peer, self.share.clone(), stream);
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream, ..
            }) => {
                self.finish(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.finish(Err(match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    StreamUpgradeError::Timeout => OpenError::Unreachable("no stream in time".to_owned()),
                    StreamUpgradeError::Io(error) => OpenError::Unreachable(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                }));
            }
            _ => {}
        }
    }
}
