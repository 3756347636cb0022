//! Wires a world to an engine: a client of a mesh, or a node of one.

mod answering;
mod client;
mod open;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datamesh_codec::keys::Identity as Owner;
use datamesh_core::admission::{Admission, Admitted, Roll};
use datamesh_core::id::NodeId;
use datamesh_core::limits::NODE_GRACE_S_MAX;
use datamesh_core::sign::Signed;
use datamesh_core::time::Epoch;
use datamesh_core::topology::{FailureDomain, NodeRecord, NodeState, Role};
use datamesh_engine::keep::Keeper;
use datamesh_engine::progress::Unobserved;
use datamesh_engine::rings::Rings;
use datamesh_engine::traffic::Traffic;
use datamesh_engine::world::{Cache, Clock, Compute, Items, ItemsError, NoCache, Peers, Receipts, World};
pub use datamesh_net::JoinError;
use datamesh_net::{Identity, IdentityError, Multiaddr, Network, NetworkSettings, NodeOffer, StartError};
use datamesh_store::cache::DiskCache;
use datamesh_store::{OpenError, Recovery, Store};

use self::answering::Answering;
pub use self::client::Client;
use self::open::{items_of, open_cache, open_patiently};
use crate::charter::{Charter, CharterError, CharterOrder};
use crate::discard::Keeping;
use crate::home::{Home, HomeError};
use crate::latency_file::{self, LatencyFileError};
use crate::maintain::{Leaving, Maintenance};
use crate::metrics::{Placing, Source, Watcher};
use crate::neighbours::Neighbours;
use crate::popular;
use crate::receipts::ReceiptLog;
use crate::serve::Server;
use crate::settings::{PeerAddress, Settings};
use crate::system::{SystemClock, SystemCompute, SystemEntropy};
use crate::tell::Teller;
use crate::tier::{self, TierError};
use crate::tuning::{alert_settings, data_plane, keep_settings, listen_addresses, pull_settings, traffic};
use crate::vitals::{Vitals, WatchedItems};
use crate::watch::Watching;

/// How long a client or a node waits for the first node of its mesh.
const JOIN_DEADLINE: Duration = Duration::from_secs(10);

/// Why a client or a node did not come up.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// A directory can't be made.
    #[error("directory {} can't be made", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The home can't be made.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The node can't be of the mesh that it is told of.
    #[error(transparent)]
    Charter(#[from] CharterError),
    /// The latency map can't be used.
    #[error(transparent)]
    LatencyMap(#[from] LatencyFileError),
    /// A node's key can't be read or made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The node's disk can't be used as its settings say.
    #[error(transparent)]
    Tier(#[from] TierError),
    /// A store can't be opened.
    #[error("store {} can't be opened", path.display())]
    Store {
        /// Which.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The network can't be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The mesh does not answer.
    #[error(transparent)]
    Join(#[from] JoinError),
}

/// A node of a mesh, serving.
pub struct Node {
    /// Its network.
    pub network: Network,
    /// What its mesh is.
    pub charter: Charter,
    /// The digest of the latency map that it places by, if any.
    pub latency_map: Option<String>,
    /// What it sends to peers and receives from them.
    pub traffic: Arc<Traffic>,
    server: Server,
    world: World,
    store: Store,
    cache: Option<DiskCache>,
    receipts: Option<Arc<ReceiptLog>>,
    watcher: Watcher,
    maintenance: Maintenance,
}

/// What a node is to be.
#[derive(Clone)]
pub struct NodeOrder {
    /// What it does for the mesh.
    pub role: Role,
    /// The nodes that it joins through; none for the first of a mesh.
    pub entries: Vec<PeerAddress>,
    /// What it is told of its mesh.
    pub charter: CharterOrder,
    /// Who founds the mesh with it, if it is restricted: admits it and itself.
    pub founder: Option<Arc<Owner>>,
    /// What it keeps of what it is given.
    pub keeping: Keeping,
}

impl Node {
    /// Opens the node's store and serves it.
    ///
    /// # Errors
    /// [`AssembleError`] when its disk or an address can't be used, or no node of its mesh answers.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn start(home: &Home, settings: &Settings, order: NodeOrder) -> Result<Self, AssembleError> {
        home.create()?;
        let rings = latency_file::rings(home, settings)?;
        let charter = Charter::of_node(home, &order.charter)?;
        let identity = Identity::load_or_create(&home.node_key_path())?;
        let directory = home.node_disk_path();
        make_directory(&directory)?;
        let path = directory.join("items");
        let tier = tier::open(home, settings, order.role, identity.node(), &path).await?;
        let store = open_patiently(&path, tier.settings, tier.disk).await?;
        let cache = if order.role == Role::Cache { open_cache(home, settings) } else { None };
        let popular = cache.clone().map(popular::wishes);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let vitals = Arc::new(Vitals::default());
        let pulled = cache.as_ref().zip(popular.as_ref().map(|(wishes, _)| wishes));
        let items = items_of(order.keeping, &store, pulled);
        let items: Arc<dyn Items> =
            Arc::new(WatchedItems { items, vitals: Arc::clone(&vitals), clock: Arc::clone(&clock) });
        let traffic = Arc::new(Traffic::new(Arc::clone(&clock), traffic(settings)));
        let compute: Arc<dyn Compute> = Arc::new(SystemCompute::all());
        let server = server(&identity, Arc::clone(&items), Arc::clone(&compute)).within(Arc::clone(&traffic));
        let receipts = receipts(home);
        let server = with_receipts(server, receipts.as_ref());
        let own = identity.node();
        let latency_map = latency_file::digest(&rings);
        let answering = Answering::new(&server, settings, cache.as_ref(), &traffic, (&compute, &rings));
        let watch = Arc::clone(&answering.watch);
        let network = network_settings(identity, settings, &order, &charter, directory);
        let network = datamesh_net::start(network, Arc::new(answering)).await?;
        let watcher = watch.start(network.clone(), Arc::clone(&clock));
        let peers = Arc::new(Neighbours { own, server: server.clone(), network: network.clone() });
        let world = world_of_node(peers, clock, compute, Arc::clone(&traffic), rings);
        let metrics = server.metrics();
        metrics.add(Arc::clone(&vitals) as Arc<dyn Source>);
        metrics.add(Arc::new(Placing::by(&world.rings)));
        if let Some(backend) = tier.backend {
            metrics.add(backend);
        }
        let mut maintenance = Maintenance::start(&store, &world, &settings.storage, (metrics, &vitals), home);
        let leaving = Leaving::new(home);
        maintenance.follow(Arc::clone(&leaving), network.clone(), Arc::clone(&world.clock));
        maintenance.watch(watching(&server, settings, &world, (own, &items), (vitals, leaving)));
        if let (Some((wishes, waiting)), Some(cache)) = (popular, &cache) {
            metrics.add(Arc::new(wishes));
            let world = World { cache: Arc::new(cache.clone()), ..world.clone() };
            maintenance.pull(waiting, world, pull_settings(settings));
        }
        if matches!(order.role, Role::Storage | Role::Archival) {
            let keeper =
                Keeper::new(world.clone(), own, items, keep_settings(settings, own), Arc::new(Unobserved));
            maintenance.keep(keeper, (metrics, server.outlook()), settings.repair.check_every.duration());
        }
        if !order.entries.is_empty() {
            network.joined(JOIN_DEADLINE).await?;
        }
        // Not before it is in: a wrong secret is not to be kept.
        charter.keep(home)?;
        Ok(Self {
            network,
            charter,
            latency_map,
            traffic,
            server,
            world,
            store,
            cache,
            receipts,
            watcher,
            maintenance,
        })
    }

    /// What opening its store found.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.store.recovery()
    }

    /// Stops serving, in good order.
    ///
    /// # Errors
    /// [`ItemsError`] when the index can't be made durable; nothing acknowledged is lost by that.
    ///
    /// # Cancel safety
    /// When dropped, nothing acknowledged is lost.
    pub async fn stop(self) -> Result<(), ItemsError> {
        drop(self.watcher);
        drop(self.maintenance);
        self.network.shutdown().await;
        if let Some(cache) = self.cache {
            cache.close().await;
        }
        if let Some(receipts) = self.receipts {
            receipts.close().await;
        }
        self.store.close().await
    }
}

/// The world of a node: what it gets it keeps nowhere, and it acknowledges nothing.
fn world_of_node(
    peers: Arc<dyn Peers>,
    clock: Arc<dyn Clock>,
    compute: Arc<dyn Compute>,
    traffic: Arc<Traffic>,
    rings: Arc<Rings>,
) -> World {
    World {
        traffic,
        rings,
        clock,
        entropy: Arc::new(SystemEntropy),
        compute,
        peers,
        cache: Arc::new(NoCache),
        notary: None,
    }
}

/// What watches a node, and tells of what is wrong.
fn watching(
    server: &Server,
    settings: &Settings,
    world: &World,
    (own, items): (NodeId, &Arc<dyn Items>),
    (vitals, leaving): (Arc<Vitals>, Arc<Leaving>),
) -> Watching {
    let teller = Teller::start(&settings.alerts, &world.clock);
    server.metrics().add(teller.source());
    Watching {
        world: world.clone(),
        own,
        items: Arc::clone(items),
        vitals,
        outlook: Arc::clone(server.outlook()),
        teller,
        alerts: alert_settings(settings),
        leaving: settings.health.drain_failing.is_on().then_some(leaving),
        pause: settings.health.check_every.duration(),
    }
}

/// How a node is part of its mesh.
fn network_settings(
    identity: Identity,
    settings: &Settings,
    order: &NodeOrder,
    charter: &Charter,
    directory: PathBuf,
) -> NetworkSettings {
    let own = identity.node();
    let domain = settings.placement.domain.domain(&own.to_string());
    let offer = offer(settings, order.role, domain);
    let bootstrap = order.entries.iter().map(full_address).collect();
    let mut network = NetworkSettings::node(identity, listen_addresses(settings, charter), bootstrap, offer);
    network.key = charter.key();
    network.authorities.clone_from(&charter.authorities);
    network.rolls.extend(order.founder.as_ref().map(|founder| first_roll(founder, own)));
    network.state_directory = Some(directory);
    network.data_plane = data_plane(settings);
    network
}

/// What a node says of itself to the mesh.
fn offer(settings: &Settings, role: Role, domain: FailureDomain) -> NodeOffer {
    NodeOffer {
        role,
        domain,
        capacity: settings.storage.capacity.bytes(),
        grace: settings.placement.grace.duration(),
        software: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn world(
    peers: Arc<dyn Peers>,
    compute: Arc<dyn Compute>,
    cache: Arc<dyn Cache>,
    rings: Arc<Rings>,
    settings: &Settings,
) -> World {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    World {
        traffic: Arc::new(Traffic::new(Arc::clone(&clock), traffic(settings))),
        rings,
        clock,
        entropy: Arc::new(SystemEntropy),
        compute,
        peers,
        cache,
        notary: None,
    }
}

fn server(identity: &Identity, items: Arc<dyn Items>, compute: Arc<dyn Compute>) -> Server {
    let clock = Arc::new(SystemClock::start());
    Server::new(identity.signing_key().clone(), items, clock, compute)
}

/// The roll that a restricted mesh begins with: its first node, and who founds it. Any other of this authority is newer, so that it
/// does no harm when the node is started again.
fn first_roll(founder: &Owner, node: NodeId) -> Signed<Roll> {
    let admission = |who| Admission { who, until: Epoch::NEVER, quota: None };
    let admissions = vec![admission(Admitted::Node(node)), admission(Admitted::Owner(founder.owner()))];
    Signed::sign(Roll { authority: founder.owner(), sequence: 0, admissions }, founder.signing_key())
}

/// The home's receipts; `None` where they can't be kept: what they are for is no reason not to serve or be served.
fn receipts(home: &Home) -> Option<Arc<ReceiptLog>> {
    let started = ReceiptLog::start(home.receipts_path());
    started.inspect_err(|error| tracing::warn!(%error, "receipts can't be kept")).ok()
}

fn with_receipts(server: Server, receipts: Option<&Arc<ReceiptLog>>) -> Server {
    let Some(receipts) = receipts else { return server };
    server.metrics().add(Arc::clone(receipts) as Arc<dyn Source>);
    server.countersigning(Arc::clone(receipts) as Arc<dyn Receipts>)
}

fn record(node: NodeId, domain: FailureDomain, capacity: u64) -> NodeRecord {
    NodeRecord {
        node,
        sequence: SystemClock::start().now().as_ms(),
        addresses: Vec::new(),
        role: Role::Storage,
        state: NodeState::Active,
        domain,
        capacity,
        grace_s: NODE_GRACE_S_MAX,
        software: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn full_address(entry: &PeerAddress) -> Multiaddr {
    entry.to_string().parse().expect("a peer address is written as a multiaddress")
}

fn make_directory(path: &Path) -> Result<(), AssembleError> {
    fs::create_dir_all(path).map_err(|source| AssembleError::Directory { path: path.to_owned(), source })
}
