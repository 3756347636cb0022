//! Wires a world to an engine: a client of a mesh, or a node of one.

mod answering;
mod open;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datamesh_codec::keys::Identity as Owner;
use datamesh_core::admission::{Admission, Admitted, Roll};
use datamesh_core::id::NodeId;
use datamesh_core::limits::{MIB, NODE_GRACE_S_MAX};
use datamesh_core::sign::Signed;
use datamesh_core::time::Epoch;
use datamesh_core::topology::{FailureDomain, NodeRecord, NodeState, Role};
use datamesh_engine::keep::Keeper;
use datamesh_engine::progress::Unobserved;
use datamesh_engine::rings::Rings;
use datamesh_engine::traffic::Traffic;
use datamesh_engine::transfer::TransferSettings;
use datamesh_engine::world::{
    Cache, Clock, Compute, Entropy, Items, ItemsError, NoCache, Notary, Peers, Receipts, World,
};
pub use datamesh_net::JoinError;
use datamesh_net::{Identity, IdentityError, Multiaddr, Network, NetworkSettings, NodeOffer, StartError};
use datamesh_store::cache::DiskCache;
use datamesh_store::disk::Files;
use datamesh_store::{Collected, OpenError, Recovery, Store, StoreSettings};

use self::answering::{Answering, Nothing};
use self::open::{items_of, open_cache, open_patiently};
use crate::acquaintances::Acquaintances;
use crate::charter::{Charter, CharterError, CharterOrder};
use crate::discard::Keeping;
use crate::home::{Home, HomeError};
use crate::latency_file::{self, LatencyFileError};
use crate::local::{self, LocalPeers};
use crate::maintain::{Leaving, Maintenance};
use crate::metrics::{Build, NetworkWatch, Placing, Registry, Source, Totals, TrafficView, Watcher};
use crate::neighbours::Neighbours;
use crate::popular;
use crate::receipts::ReceiptLog;
use crate::scores::Scores;
use crate::serve::Server;
use crate::settings::{PeerAddress, Settings};
use crate::system::{SystemClock, SystemCompute, SystemEntropy};
use crate::tell::Teller;
use crate::tier::{self, TierError};
use crate::tuning::{
    alert_settings, data_plane, keep_settings, listen_addresses, pull_settings, store_settings, traffic,
    transfer,
};
use crate::vitals::{Vitals, WatchedItems};
use crate::watch::Watching;

/// How long a client waits for the first node of its mesh.
const JOIN_DEADLINE: Duration = Duration::from_secs(10);

/// Memory for the index of each disk of the embedded mesh, which one process opens all of, bytes.
const EMBEDDED_INDEX_CACHE_SIZE: usize = 2 * MIB;
/// Bytes that may wait to be written to each disk of the embedded mesh.
const EMBEDDED_QUEUE_SIZE: usize = 8 * MIB;

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

/// A client of a mesh, ready to put and get.
pub struct Client {
    /// Everything that the engine may touch.
    pub world: World,
    /// How patiently bytes are moved.
    pub transfer: TransferSettings,
    home: Home,
    backing: Backing,
    /// Where what is known of peers is kept, if anywhere.
    scores: Option<Scores>,
}

/// What a client's mesh is.
enum Backing {
    Embedded {
        stores: Vec<Store>,
        /// What answers for each of them.
        servers: Vec<Server>,
        collect_every: Duration,
    },
    Joined {
        network: Network,
        cache: Option<DiskCache>,
        watch: Arc<NetworkWatch>,
        watcher: Watcher,
        receipts: Option<Arc<ReceiptLog>>,
        acquaintances: Option<Acquaintances>,
    },
}

impl Client {
    /// Opens the mesh in the home itself: one store per disk, in this process.
    ///
    /// # Errors
    /// [`AssembleError`] when a disk can't be opened, or another process uses it for too long.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn embedded(home: &Home, settings: &Settings) -> Result<Self, AssembleError> {
        home.create()?;
        let compute: Arc<dyn Compute> = Arc::new(SystemCompute::all());
        let (mut nodes, mut stores, mut servers) = (Vec::new(), Vec::new(), Vec::new());
        for (index, directory) in home.embedded_disk_paths(&settings.storage).iter().enumerate() {
            make_directory(directory)?;
            let identity = Identity::load_or_create(&directory.join("node.key"))?;
            let options = StoreSettings {
                index_cache_size: EMBEDDED_INDEX_CACHE_SIZE,
                queue_size: EMBEDDED_QUEUE_SIZE,
                ..store_settings(settings)
            };
            let store = open_patiently(&directory.join("items"), options, Arc::new(Files)).await?;
            let server = server(&identity, Arc::new(store.clone()), Arc::clone(&compute));
            let domain = FailureDomain::alone(&format!("disk {index}"));
            let record = record(identity.node(), domain, settings.storage.capacity.bytes());
            nodes.push((record, server.clone()));
            servers.push(server);
            stores.push(store);
        }
        let peers = Arc::new(LocalPeers::new(nodes));
        // What lies on the own disks already needs no copy beside it.
        let rings = latency_file::rings(home, settings)?;
        let world = world(peers, compute, Arc::new(NoCache), rings, settings);
        let collect_every = settings.storage.collect_every.duration();
        let backing = Backing::Embedded { stores, servers, collect_every };
        Ok(Self { world, transfer: transfer(settings), home: home.clone(), backing, scores: None })
    }

    /// Joins a mesh of other processes. The client has no identity of its own there: its peer id is drawn for this run. What it
    /// gets twice it keeps in the home's cache.
    ///
    /// # Errors
    /// [`AssembleError`] when none of these nodes answers.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn joined(
        home: &Home,
        settings: &Settings,
        entries: &[PeerAddress],
        charter: &Charter,
    ) -> Result<Self, AssembleError> {
        let rings = latency_file::rings(home, settings)?;
        let acquaintances = Acquaintances::of(&home.met_path(), entries);
        let met = acquaintances.as_ref().map(Acquaintances::load).unwrap_or_default();
        let bootstrap = entries.iter().chain(&met).map(full_address).collect();
        let identity = Identity::generate()?;
        let key = identity.signing_key().clone();
        let mut network = NetworkSettings::client(identity, bootstrap);
        network.key = charter.key();
        network.authorities.clone_from(&charter.authorities);
        network.data_plane = data_plane(settings);
        let network = datamesh_net::start(network, Arc::new(Nothing)).await?;
        network.joined(JOIN_DEADLINE).await?;
        let cache = open_cache(home, settings);
        let kept: Arc<dyn Cache> = match &cache {
            Some(cache) => Arc::new(cache.clone()),
            None => Arc::new(NoCache),
        };
        let compute = Arc::new(SystemCompute::all());
        let mut world = world(Arc::new(network.clone()), compute, kept, rings, settings);
        let receipts = receipts(home);
        world.notary = receipts
            .clone()
            .map(|receipts| Arc::new(Notary { key, receipts: receipts as Arc<dyn Receipts> }));
        let watch = NetworkWatch::new(Arc::clone(&world.traffic) as Arc<dyn TrafficView>);
        let watcher = watch.start(network.clone(), Arc::clone(&world.clock));
        let backing = Backing::Joined { network, cache, watch, watcher, receipts, acquaintances };
        // What earlier clients of this home have found out about peers is known, and kept when this one closes.
        let scores = home.scores();
        scores.load(&world.traffic, world.clock.now());
        let (transfer, home) = (transfer(settings), home.clone());
        Ok(Self { world, transfer, home, backing, scores: Some(scores) })
    }

    /// The numbers of this process.
    #[must_use]
    pub fn metrics(&self) -> Registry {
        let registry = Registry::default();
        registry.add(Arc::new(Build));
        if let Backing::Joined { cache, watch, .. } = &self.backing {
            registry.add(Arc::clone(watch) as Arc<dyn Source>);
            cache.iter().for_each(|cache| registry.add(Arc::new(cache.clone())));
        }
        registry
    }

    /// Who knows what is moved.
    #[must_use]
    pub fn traffic(&self) -> Arc<dyn TrafficView> {
        Arc::clone(&self.world.traffic) as Arc<dyn TrafficView>
    }

    /// Gives back the space of what no lease protects, on every disk of the embedded mesh; `None` where the mesh is one of other
    /// processes, which do so by themselves.
    ///
    /// # Cancel safety
    /// A collection that was begun goes on though the future is dropped.
    pub async fn collect(&self) -> Option<Result<Collected, ItemsError>> {
        let Backing::Embedded { stores, .. } = &self.backing else { return None };
        Some(crate::collect::collect(stores, &self.home, self.world.clock.now()).await)
    }

    /// Has the nodes of the embedded mesh look how what they lead stands. Those of other meshes do so by themselves.
    ///
    /// # Errors
    /// [`ItemsError`] when a store can't be read.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn look(&self) -> Result<(), ItemsError> {
        match &self.backing {
            Backing::Embedded { stores, servers, .. } => {
                local::look(&self.world, self.transfer, stores.iter().zip(servers)).await
            }
            Backing::Joined { .. } => Ok(()),
        }
    }

    /// The network, unless the mesh is in this process.
    #[must_use]
    pub fn network(&self) -> Option<&Network> {
        match &self.backing {
            Backing::Embedded { .. } => None,
            Backing::Joined { network, .. } => Some(network),
        }
    }

    /// Leaves in good order, and adds what was moved to the home's totals.
    ///
    /// # Cancel safety
    /// When dropped, nothing acknowledged is lost; the totals may lack what was moved.
    pub async fn close(self) {
        let now = self.world.clock.now();
        if let Some(scores) = &self.scores
            && let Err(error) = scores.save(&self.world.traffic, now)
        {
            tracing::debug!(%error, "what is known of peers was not kept");
        }
        let moved = self.world.traffic.peers().into_iter().map(|(node, view)| (node, view.moved));
        let mut totals = Totals::of(moved.collect(), now);
        match self.backing {
            Backing::Embedded { stores, collect_every, .. } => {
                crate::collect::when_due(&stores, &self.home, now, collect_every).await;
                for store in stores {
                    if let Err(error) = store.close().await {
                        tracing::warn!(%error, "a store was not closed in good order and will recover");
                    }
                }
            }
            Backing::Joined { network, cache, watch, watcher, receipts, acquaintances } => {
                drop(watcher);
                let mut draw = [0; 8];
                SystemEntropy.fill(&mut draw);
                let saved = acquaintances
                    .map_or(Ok(()), |met| met.save(&network.topology(), u64::from_le_bytes(draw)));
                if let Err(error) = saved {
                    tracing::debug!(%error, "the nodes that were met are not remembered");
                }
                watch.note(self.world.clock.elapsed(), network.counters());
                totals.saw(&watch);
                network.shutdown().await;
                if let Some(cache) = cache {
                    cache.close().await;
                    totals.cache = cache.figures();
                }
                if let Some(receipts) = receipts {
                    receipts.close().await;
                }
            }
        }
        let home = self.home;
        let add = move || if totals.is_worth_it() { Totals::add(&home, &totals) } else { Ok(()) };
        let added = tokio::task::spawn_blocking(add).await.expect("adding to the totals does not panic");
        if let Err(error) = added {
            tracing::warn!(%error, "what this command moved is not in the totals");
        }
    }
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
        let first_roll = order.founder.as_ref().map(|founder| first_roll(founder, identity.node()));
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
        let domain = settings.placement.domain.domain(&identity.node().to_string());
        let offer = offer(settings, order.role, domain);
        let bootstrap = order.entries.iter().map(full_address).collect();
        let mut network =
            NetworkSettings::node(identity, listen_addresses(settings, &charter), bootstrap, offer);
        network.key = charter.key();
        network.authorities.clone_from(&charter.authorities);
        network.rolls.extend(first_roll);
        network.state_directory = Some(directory);
        network.data_plane = data_plane(settings);
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
            let keeper = Keeper::new(world, own, items, keep_settings(settings, own), Arc::new(Unobserved));
            maintenance.keep(keeper, (metrics, server.outlook()), settings.repair.check_every.duration());
        }
        if !order.entries.is_empty() {
            network.joined(JOIN_DEADLINE).await?;
        }
        // Not before it is in: a wrong secret is not to be kept.
        charter.keep(home)?;
        Ok(Self { network, charter, latency_map, traffic, store, cache, receipts, watcher, maintenance })
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
