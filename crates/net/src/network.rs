//! The handle on a running network: what the rest of the program asks of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datamesh_core::admission::{Admission, Admitted, Rolls};
use datamesh_core::id::{NodeId, ObjectId, OwnerId};
use datamesh_core::sign::Signed;
use datamesh_core::time::Epoch;
use datamesh_core::topology::{NodeRecord, NodeState, Topology};
use datamesh_core::wire::{Message, Request, Response};
use datamesh_engine::world::{CallError, Peers};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use libp2p::{Multiaddr, Swarm};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::behaviour::Behaviour;
use crate::buffers::Buffers;
use crate::command::{COMMANDS_WAITING_MAX, Command, FoundNode, PeerInfo};
use crate::counters::{Counters, Tally};
use crate::directory::{DirectoryError, object_key};
use crate::exchange::Answer;
use crate::exchange::call::Caller;
use crate::exchange::serve::Server;
use crate::exchange::streams::Inbound;
use crate::gossip;
use crate::identity::peer_of;
use crate::membership::reconcile::Direction;
use crate::membership::upkeep::{Joining, NOTICES_WAITING_MAX, Upkeep};
use crate::membership::{Membership, NEWS_WAITING_MAX, disk};
use crate::peers::{Conduct, Denied, Fault};
use crate::plane::accept::{self, Acceptor};
use crate::plane::dial::Plane;
use crate::plane::handshake::Credentials;
use crate::random;
use crate::settings::{DataPlane, NetworkLimits, NetworkSettings};
use crate::swarm::{Driver, State};
use crate::transport;

/// Faults of peers that may wait to be judged.
const FAULTS_WAITING_MAX: usize = 256;
/// How long a connection may lie unused.
const IDLE: Duration = Duration::from_secs(5 * 60);
/// Nodes told of a change of state before it counts as told.
const NODES_TOLD: usize = 8;

/// Why a network did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be listened on.
    #[error("can't listen on {address}: {why}")]
    Listen {
        /// Which address.
        address: Multiaddr,
        /// What the system says.
        why: String,
    },
    /// The directory for known nodes can't be used.
    #[error("state directory {}: {source}", path.display())]
    State {
        /// Which directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The port of the data plane can't be had.
    #[error("data port {port} can't be listened on: {why}")]
    DataPort {
        /// Which; 0 for any.
        port: u16,
        /// What the system says.
        why: String,
    },
    /// A protocol can't be set up.
    #[error("protocol: {0}")]
    Protocol(String),
}

/// Why the mesh was not joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// No node was reached in time.
    #[error("no node of the mesh was reached in {waited_ms} ms{}", tried(failures))]
    Unreachable {
        /// How long it was tried, milliseconds.
        waited_ms: u64,
        /// Why whom could not be reached: address or node, and reason.
        failures: Vec<(String, String)>,
    },
    /// Whoever was reached is of another mesh: the secrets differ, or one of both has none.
    #[error(
        "the nodes at these addresses are of another mesh: its secret or its authorities are not those that were given \
             here{}",
        tried(failures)
    )]
    OtherMesh {
        /// Whom, by address, and what it came to.
        failures: Vec<(String, String)>,
    },
    /// The mesh is restricted, and this node is not admitted.
    #[error("node {node} is not admitted to this restricted mesh")]
    NotAdmitted {
        /// This node.
        node: NodeId,
    },
    /// The network is shut down.
    #[error("the network is shut down")]
    Closed,
}

fn tried(failures: &[(String, String)]) -> String {
    failures.iter().map(|(whom, why)| format!("; {whom}: {why}")).collect()
}

/// Why nobody was told of a change of state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceError {
    /// A client has no record to change.
    #[error("a client has no node record")]
    Client,
    /// The network is shut down.
    #[error("the network is shut down")]
    Closed,
}

/// A running network. Cheap to clone; the last one dropped ends it.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    own: NodeId,
    commands: mpsc::Sender<Command>,
    caller: Arc<Caller>,
    membership: Arc<Membership>,
    server: Option<Arc<Server>>,
    addresses: watch::Receiver<Vec<Multiaddr>>,
    joining: watch::Receiver<Joining>,
    tally: Arc<Tally>,
    closing: CancellationToken,
    tasks: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// Starts a network and returns once it listens. It joins the mesh in the background: see [`Network::joined`].
///
/// # Errors
/// [`StartError`] when it can't listen, or its settings can't be used.
///
/// # Cancel safety
/// When dropped, nothing is left running.
pub async fn start(settings: NetworkSettings, answerer: Arc<dyn Answer>) -> Result<Network, StartError> {
    let (commands, commands_waiting) = mpsc::channel(COMMANDS_WAITING_MAX);
    let (notices, notices_waiting) = mpsc::channel(NOTICES_WAITING_MAX);
    let (faults, faults_waiting) = mpsc::channel(FAULTS_WAITING_MAX);
    let (news, news_waiting) = mpsc::channel(NEWS_WAITING_MAX);
    let (addresses, joining) =
        (watch::Sender::default(), watch::Sender::new(Joining::through(&settings.bootstrap)));

    let tally = Arc::new(Tally::default());
    let basis = Basis {
        limits: settings.limits.clone().sufficient(),
        membership: Arc::new(membership(&settings, news, Arc::clone(&tally)).await?),
        tally,
        closing: CancellationToken::new(),
    };
    let carriers = carriers(&settings, &basis, commands.clone(), faults, answerer)?;
    let Basis { limits, membership, tally, closing } = &basis;
    let mut driver = Driver {
        swarm: swarm(&settings, limits, carriers.server.clone(), Arc::clone(membership))?,
        commands: commands_waiting,
        faults: faults_waiting,
        notices,
        membership: Arc::clone(membership),
        caller: Arc::clone(&carriers.caller),
        server: carriers.server.clone(),
        joining: joining.clone(),
        addresses: addresses.clone(),
        external: settings.external.clone(),
        conduct: Conduct::new(limits.violations, limits.denial),
        denied: carriers.denied.clone(),
        tally: Arc::clone(tally),
        closing: closing.clone(),
        state: State::new(settings.bootstrap.clone()),
    };
    driver.listen(&settings.listen).await?;
    let mut tasks = serve_data(&settings, &basis, &carriers)?;
    let Carriers { caller, server, .. } = carriers;
    let Basis { limits, membership, tally, closing } = basis;
    driver.join_alone();
    membership.set_addresses(&addresses.borrow());
    let upkeep = Upkeep {
        membership: Arc::clone(&membership),
        caller: Arc::clone(&caller),
        commands: commands.clone(),
        notices: notices_waiting,
        news: news_waiting,
        addresses: addresses.subscribe(),
        joining: joining.clone(),
        own: settings.identity.node(),
        direction: if server.is_some() { Direction::Both } else { Direction::Pull },
        state_directory: settings.state_directory,
        pause_max: limits.reconcile,
        closing: closing.clone(),
    };
    tasks.extend([tokio::spawn(driver.run()), tokio::spawn(upkeep.run())]);
    let shared = Shared {
        own: settings.identity.node(),
        commands,
        caller,
        membership,
        server,
        addresses: addresses.subscribe(),
        joining: joining.subscribe(),
        tally,
        closing,
        tasks: tokio::sync::Mutex::new(tasks),
    };
    Ok(Network { shared: Arc::new(shared) })
}

/// What all parts of a network stand on.
struct Basis {
    limits: NetworkLimits,
    membership: Arc<Membership>,
    tally: Arc<Tally>,
    closing: CancellationToken,
}

/// Who calls and who answers, over both carriers.
struct Carriers {
    caller: Arc<Caller>,
    /// `None` for a client.
    server: Option<Arc<Server>>,
    /// What the data plane shakes hands with; `None` where there is no data plane.
    credentials: Option<Credentials>,
    denied: Denied,
}

fn carriers(
    settings: &NetworkSettings,
    basis: &Basis,
    commands: mpsc::Sender<Command>,
    faults: mpsc::Sender<Fault>,
    answerer: Arc<dyn Answer>,
) -> Result<Carriers, StartError> {
    let Basis { limits, membership, tally, closing } = basis;
    let (denied, buffers) = (Denied::default(), Buffers::default());
    let credentials = match &settings.data_plane {
        DataPlane::Off => None,
        DataPlane::On { congestion, .. } => {
            let credentials =
                Credentials::new(&settings.identity.keypair(), settings.key.clone(), congestion.clone());
            Some(credentials.map_err(StartError::Protocol)?)
        }
    };
    let plane = credentials.clone().map(|credentials| {
        let (membership, tally, closing) = (Arc::clone(membership), Arc::clone(tally), closing.child_token());
        Plane::new(credentials, membership, denied.clone(), limits, buffers.clone(), tally, closing)
    });
    let caller = Caller::new(commands, faults.clone(), plane, buffers.clone(), limits, Arc::clone(tally));
    let server = settings.record.as_ref().map(|_| {
        let (membership, tally) = (Arc::clone(membership), Arc::clone(tally));
        Arc::new(Server::new(answerer, membership, limits, buffers, faults, tally, closing.clone()))
    });
    Ok(Carriers { caller: Arc::new(caller), server, credentials, denied })
}

/// Serves the data plane beside every TCP address, and says so in this node's record. Nothing to do for a client.
fn serve_data(
    settings: &NetworkSettings,
    basis: &Basis,
    carriers: &Carriers,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let Carriers { server: Some(server), credentials: Some(credentials), denied, .. } = carriers else {
        return Ok(Vec::new());
    };
    let DataPlane::On { port, .. } = &settings.data_plane else { return Ok(Vec::new()) };
    let port = *port;
    let place_count = usize::try_from(basis.limits.connections_incoming).unwrap_or(usize::MAX);
    let acceptor = Arc::new(Acceptor {
        credentials: credentials.clone(),
        server: Arc::clone(server),
        denied: denied.clone(),
        places: Arc::new(Semaphore::new(place_count)),
        dial: basis.limits.dial,
        closing: basis.closing.clone(),
    });
    let unusable = |error: std::io::Error| StartError::DataPort { port, why: error.to_string() };
    let listeners = accept::listen(&settings.listen, port).map_err(unusable)?;
    if let Some(listener) = listeners.first() {
        basis.membership.set_data_port(listener.local_addr().map_err(unusable)?.port());
    }
    Ok(listeners.into_iter().map(|listener| tokio::spawn(Arc::clone(&acceptor).run(listener))).collect())
}

/// What is known of the mesh before anybody is reached.
async fn membership(
    settings: &NetworkSettings,
    news: mpsc::Sender<Vec<Signed<NodeRecord>>>,
    tally: Arc<Tally>,
) -> Result<Membership, StartError> {
    let (records, rolls) = disk::known(settings).await?;
    let own = settings.record.clone().map(|offer| (settings.identity.clone(), offer));
    Ok(Membership::new(own, records, rolls, news, tally).keeping_rolls(settings.state_directory.clone()))
}

fn swarm(
    settings: &NetworkSettings,
    limits: &NetworkLimits,
    server: Option<Arc<Server>>,
    membership: Arc<Membership>,
) -> Result<Swarm<Behaviour>, StartError> {
    if settings.key.is_some() {
        transport::refuse_quic(&settings.listen)?;
    }
    let keypair = settings.identity.keypair();
    let inbound = server.map_or(Inbound::Refused, Inbound::Served);
    let carrier = transport::carrier(&keypair, settings.key.as_ref(), limits.dial);
    let carrier = carrier.map_err(|error| StartError::Protocol(error.to_string()))?;
    let behaviour = Behaviour::new(&keypair, inbound, membership, settings.local_discovery, limits);
    let config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE);
    let own = keypair.public().to_peer_id();
    let mut swarm = Swarm::new(carrier, behaviour.map_err(StartError::Protocol)?, own, config);
    for address in &settings.external {
        swarm.add_external_address(address.clone());
    }
    Ok(swarm)
}

impl Network {
    /// This participant.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.shared.own
    }

    /// Where this node can be dialled, each with its peer id at the end.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        let own = peer_of(&self.shared.own);
        let addresses = self.shared.addresses.borrow();
        addresses
            .iter()
            .map(|address| address.clone().with_p2p(own).unwrap_or_else(|address| address))
            .collect()
    }

    /// Tells of every change of the topology.
    #[must_use]
    pub fn topology_changes(&self) -> watch::Receiver<Arc<Topology>> {
        self.shared.membership.watch()
    }

    /// Who is connected; nobody once the network is shut down.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        self.ask(|reply| Command::Peers { reply }).await.unwrap_or_default()
    }

    /// Waits until a node was reached and has told all nodes that it knows. A node that knows of no other is joined. A client that was
    /// told of nobody else who seems alive waits for those that it may yet hear of more from.
    ///
    /// # Errors
    /// [`JoinError`] when the deadline passes first.
    ///
    /// # Cancel safety
    /// It may be called again.
    pub async fn joined(&self, deadline: Duration) -> Result<(), JoinError> {
        let mut joining = self.shared.joining.clone();
        tokio::select! {
            () = self.shared.closing.cancelled() => return Err(JoinError::Closed),
            // However it ended, what is known by now decides.
            _ = timeout(deadline, joining.wait_for(Joining::decided)) => {}
        }
        let joining = self.shared.joining.borrow().clone();
        if joining.joined || !joining.lonely.is_empty() {
            return Ok(());
        }
        let (is_other, is_not_admitted) = (joining.is_other_mesh(), joining.is_not_admitted());
        let failures = joining.failures.into_iter().map(|(whom, missed)| (whom, missed.why)).collect();
        if is_not_admitted {
            return Err(JoinError::NotAdmitted { node: self.shared.own });
        }
        if is_other {
            return Err(JoinError::OtherMesh { failures });
        }
        let waited_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        Err(JoinError::Unreachable { waited_ms, failures })
    }

    /// Tells the DHT that this node can be asked about an object; it is told again from time to time.
    ///
    /// # Errors
    /// [`DirectoryError`] when it was not told.
    ///
    /// # Cancel safety
    /// When dropped, it may or may not be told.
    pub async fn provide(&self, object: ObjectId) -> Result<(), DirectoryError> {
        let key = object_key(object);
        self.ask(|reply| Command::Provide { key, reply }).await.unwrap_or(Err(DirectoryError::Closed))
    }

    /// Tells the DHT about an object no longer. What was told expires.
    ///
    /// # Errors
    /// [`DirectoryError::Closed`] when the network is shut down.
    ///
    /// # Cancel safety
    /// When dropped, it may or may not be told.
    pub async fn withdraw(&self, object: ObjectId) -> Result<(), DirectoryError> {
        let key = object_key(object);
        self.ask(|reply| Command::Withdraw { key, reply }).await.ok_or(DirectoryError::Closed)
    }

    /// Asks the DHT which nodes can be asked about an object.
    ///
    /// # Errors
    /// [`DirectoryError`] when nobody answered.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn find_providers(&self, object: ObjectId) -> Result<Vec<NodeId>, DirectoryError> {
        let key = object_key(object);
        self.ask(|reply| Command::Providers { key, reply }).await.unwrap_or(Err(DirectoryError::Closed))
    }

    /// Asks the DHT where a node can be dialled; `None` if nobody knows.
    ///
    /// # Errors
    /// [`DirectoryError`] when nobody answered.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn find_node(&self, node: NodeId) -> Result<Option<FoundNode>, DirectoryError> {
        let found = self.closest(peer_of(&node).to_bytes()).await?;
        Ok(found.into_iter().find(|found| found.node == node))
    }

    /// Walks the DHT towards a random key and returns the nodes met there.
    ///
    /// # Errors
    /// [`DirectoryError`] when nobody answered.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn discover(&self) -> Result<Vec<FoundNode>, DirectoryError> {
        self.closest(random::key().to_vec()).await
    }

    async fn closest(&self, key: Vec<u8>) -> Result<Vec<FoundNode>, DirectoryError> {
        self.ask(|reply| Command::Closest { key, reply }).await.unwrap_or(Err(DirectoryError::Closed))
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, replied) = oneshot::channel();
        self.shared.commands.send(command(reply)).await.ok()?;
        replied.await.ok()
    }

    /// Changes this node's state and tells the mesh: by gossip, and some nodes directly. Returns how many of those have
    /// taken note before the deadline; with none, the mesh learns of it when it next hears from this node.
    ///
    /// # Errors
    /// [`AnnounceError`] when there is nothing to tell or nobody will be told.
    ///
    /// # Cancel safety
    /// When dropped, the state is changed, and some nodes may not have been told.
    pub async fn announce(&self, state: NodeState, deadline: Duration) -> Result<usize, AnnounceError> {
        let record = self.shared.membership.set_state(state).ok_or(AnnounceError::Client)?;
        for data in gossip::encode_records(std::slice::from_ref(&record)) {
            self.shared.commands.send(Command::Gossip { data }).await.map_err(|_| AnnounceError::Closed)?;
        }
        let connected: Vec<NodeId> = self.peers().await.into_iter().map(|peer| peer.node).collect();
        let topology = self.topology();
        let told = connected.into_iter().filter(|node| topology.record(node).is_some()).take(NODES_TOLD);
        let announcement = Message::bare(Request::Announce(vec![record]));
        let mut calls: FuturesUnordered<_> =
            told.map(|node| self.shared.caller.call(node, &announcement)).collect();
        let end = Instant::now() + deadline;
        let mut told_count = 0;
        while let Ok(Some(outcome)) = timeout_at(end, calls.next()).await {
            told_count += usize::from(outcome.is_ok());
        }
        Ok(told_count)
    }

    /// How an owner is admitted: `None` where it is not.
    #[must_use]
    pub fn admission(&self, owner: OwnerId, now: Epoch) -> Option<Admission> {
        let who = Admitted::Owner(owner);
        let rolls = self.shared.membership.rolls();
        let open = Admission { who, until: Epoch::NEVER, quota: None };
        if rolls.is_restricted() { rolls.admission(who, now) } else { Some(open) }
    }

    /// The rolls that are known.
    #[must_use]
    pub fn rolls(&self) -> Rolls {
        self.shared.membership.rolls().clone()
    }

    /// What the network has done since it started.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.tally.read()
    }

    /// Bytes that calls to other nodes may still have under way, of those in the settings.
    #[must_use]
    pub fn outbound_bytes_free(&self) -> usize {
        self.shared.caller.free()
    }

    /// Bytes that calls of other nodes may still have under way, of those in the settings; 0 for a client.
    #[must_use]
    pub fn inbound_bytes_free(&self) -> usize {
        self.shared.server.as_ref().map_or(0, |server| server.free())
    }

    /// Stops answering, saves what is known of the mesh and closes every connection.
    ///
    /// # Cancel safety
    /// When dropped, it goes on by itself.
    pub async fn shutdown(&self) {
        self.shared.closing.cancel();
        if let Some(server) = &self.shared.server {
            server.closed().await;
        }
        self.shared.caller.close();
        for task in self.shared.tasks.lock().await.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the network ended badly");
            }
        }
    }
}

impl Peers for Network {
    fn topology(&self) -> Arc<Topology> {
        self.shared.membership.topology()
    }

    fn call(
        &self,
        node: NodeId,
        request: Message<Request>,
    ) -> BoxFuture<'_, Result<Message<Response>, CallError>> {
        Box::pin(async move {
            let called = async {
                if node == self.shared.own {
                    return self.call_self(request).await;
                }
                let _reserved = self.shared.caller.reserve(&request).await;
                self.shared.caller.call(node, &request).await
            };
            let answered = self.shared.closing.run_until_cancelled(called).await;
            answered.unwrap_or(Err(CallError::Closed))
        })
    }
}

impl Network {
    async fn call_self(&self, request: Message<Request>) -> Result<Message<Response>, CallError> {
        let node = self.shared.own;
        let Some(server) = &self.shared.server else {
            return Err(CallError::Unreachable { node, why: "a client answers no requests".to_owned() });
        };
        let answer = server.answer(node, request).await;
        answer.map_err(|violation| CallError::Protocol { node, why: violation.to_string() })
    }
}
