//! Wires a world to an engine: a client of a mesh, or a node of one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datamesh_core::id::NodeId;
use datamesh_core::limits::MIB;
use datamesh_core::topology::{FailureDomain, NodeRecord, NodeState, Role};
use datamesh_core::wire::{Message, Refusal, Request, Response};
use datamesh_engine::progress::Observer;
use datamesh_engine::transfer::TransferSettings;
use datamesh_engine::world::{Cache, Clock, Entropy, Items, ItemsError, NoCache, Peers, World};
use datamesh_net::{
    Answer, Identity, IdentityError, JoinError, Multiaddr, Network, NetworkSettings, NodeOffer, StartError,
};
use datamesh_store::cache::{CacheFigures, CacheSettings, DiskCache};
use datamesh_store::disk::Files;
use datamesh_store::{OpenError, Recovery, Store, StoreSettings};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::cached_items::CachedItems;
use crate::home::{Home, HomeError};
use crate::local::LocalPeers;
use crate::metrics::{Meter, NetworkWatch, Source, Totals, Traffic, Watcher};
use crate::serve::Server;
use crate::settings::{MetricsShare, PeerAddress, Settings};
use crate::system::{SystemClock, SystemCompute, SystemEntropy};

/// How long a command waits for another one to be done with the embedded mesh.
const IN_USE_PATIENCE: Duration = Duration::from_secs(10);
const IN_USE_PAUSE: Duration = Duration::from_millis(50);

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
    /// A node's key can't be read or made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
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
    meter: Arc<Meter>,
    backing: Backing,
}

/// What a client's mesh is.
enum Backing {
    Embedded(Vec<Store>),
    Joined { network: Network, cache: Option<DiskCache>, watch: Arc<NetworkWatch>, watcher: Watcher },
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
        let (mut nodes, mut stores) = (Vec::new(), Vec::new());
        for (index, directory) in home.embedded_disk_paths(&settings.storage).iter().enumerate() {
            make_directory(directory)?;
            let identity = Identity::load_or_create(&directory.join("node.key"))?;
            let options = StoreSettings {
                index_cache_size: EMBEDDED_INDEX_CACHE_SIZE,
                queue_size: EMBEDDED_QUEUE_SIZE,
                ..store_settings(settings)
            };
            let store = open_patiently(&directory.join("items"), options).await?;
            let server = server(&identity, Arc::new(store.clone()));
            let domain = FailureDomain::alone(&format!("disk {index}"));
            nodes.push((record(identity.node(), domain, settings.storage.capacity.bytes()), server));
            stores.push(store);
        }
        let peers = Arc::new(LocalPeers::new(nodes));
        // What lies on the own disks already needs no copy beside it.
        let world = world(peers, Arc::new(NoCache));
        let (transfer, home, meter) = (transfer(settings), home.clone(), Arc::default());
        Ok(Self { world, transfer, home, meter, backing: Backing::Embedded(stores) })
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
    ) -> Result<Self, AssembleError> {
        let bootstrap = entries.iter().map(full_address).collect();
        let network = NetworkSettings::client(Identity::generate()?, bootstrap);
        let network = datamesh_net::start(network, Arc::new(Nothing)).await?;
        network.joined(JOIN_DEADLINE).await?;
        let cache = open_cache(home, settings);
        let kept: Arc<dyn Cache> = match &cache {
            Some(cache) => Arc::new(cache.clone()),
            None => Arc::new(NoCache),
        };
        let world = world(Arc::new(network.clone()), kept);
        let meter: Arc<Meter> = Arc::default();
        let watch = NetworkWatch::new(Arc::clone(&meter) as Arc<dyn Traffic>);
        let watcher = watch.start(network.clone(), Arc::clone(&world.clock));
        let backing = Backing::Joined { network, cache, watch, watcher };
        Ok(Self { world, transfer: transfer(settings), home: home.clone(), meter, backing })
    }

    /// An observer that counts what is moved, for the metrics, and passes on.
    #[must_use]
    pub fn observed(&self, observer: Arc<dyn Observer>) -> Arc<dyn Observer> {
        self.meter.watch(observer)
    }

    /// Who knows what is moved.
    #[must_use]
    pub fn traffic(&self) -> Arc<dyn Traffic> {
        Arc::clone(&self.meter) as Arc<dyn Traffic>
    }

    /// What the cache has done since the client came up, and how full it is; zeros where there is none.
    #[must_use]
    pub fn cache_figures(&self) -> CacheFigures {
        match &self.backing {
            Backing::Joined { cache: Some(cache), .. } => cache.figures(),
            _ => CacheFigures::default(),
        }
    }

    /// The network, unless the mesh is in this process.
    #[must_use]
    pub fn network(&self) -> Option<&Network> {
        match &self.backing {
            Backing::Embedded(_) => None,
            Backing::Joined { network, .. } => Some(network),
        }
    }

    /// Leaves in good order, and adds what was moved to the home's totals.
    ///
    /// # Cancel safety
    /// When dropped, nothing acknowledged is lost; the totals may lack what was moved.
    pub async fn close(self) {
        let now = self.world.clock.now();
        let mut totals = Totals::of(self.meter.by_peer(), now);
        match self.backing {
            Backing::Embedded(stores) => {
                for store in stores {
                    if let Err(error) = store.close().await {
                        tracing::warn!(%error, "a store was not closed in good order and will recover");
                    }
                }
            }
            Backing::Joined { network, cache, watch, watcher } => {
                drop(watcher);
                watch.note(self.world.clock.elapsed(), network.counters());
                totals.saw(&watch);
                network.shutdown().await;
                if let Some(cache) = cache {
                    cache.close().await;
                    totals.cache = cache.figures();
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
    /// What opening its store found.
    pub recovery: Recovery,
    store: Store,
    cache: Option<DiskCache>,
    watcher: Watcher,
}

/// What a node is to be.
#[derive(Debug, Clone)]
pub struct NodeOrder {
    /// What it does for the mesh.
    pub role: Role,
    /// The nodes that it joins through; none for the first of a mesh.
    pub entries: Vec<PeerAddress>,
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
        let identity = Identity::load_or_create(&home.node_key_path())?;
        let directory = home.node_disk_path();
        make_directory(&directory)?;
        let store = open_patiently(&directory.join("items"), store_settings(settings)).await?;
        let cache = if order.role == Role::Cache { open_cache(home, settings) } else { None };
        let items: Arc<dyn Items> = match &cache {
            Some(cache) => Arc::new(CachedItems { items: Arc::new(store.clone()), cache: cache.clone() }),
            None => Arc::new(store.clone()),
        };
        let server = server(&identity, items);
        let answering = Answering::new(server, settings, cache.as_ref());
        let (watch, clock) = (Arc::clone(&answering.watch), Arc::new(SystemClock::start()));
        let domain = settings.placement.domain.domain(&identity.node().to_string());
        let offer = NodeOffer {
            role: order.role,
            domain,
            capacity: settings.storage.capacity.bytes(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let bootstrap = order.entries.iter().map(full_address).collect();
        let mut network = NetworkSettings::node(identity, listen_addresses(settings), bootstrap, offer);
        network.state_directory = Some(directory);
        let network = datamesh_net::start(network, Arc::new(answering)).await?;
        let watcher = watch.start(network.clone(), clock);
        if !order.entries.is_empty() {
            network.joined(JOIN_DEADLINE).await?;
        }
        Ok(Self { network, recovery: store.recovery(), store, cache, watcher })
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
        self.network.shutdown().await;
        if let Some(cache) = self.cache {
            cache.close().await;
        }
        self.store.close().await
    }
}

/// What a node answers, and to whom.
struct Answering {
    server: Server,
    share: MetricsShare,
    watch: Arc<NetworkWatch>,
}

impl Answering {
    fn new(server: Server, settings: &Settings, cache: Option<&DiskCache>) -> Self {
        let watch = NetworkWatch::new(Arc::new(Meter::default()));
        server.metrics().add(Arc::clone(&watch) as Arc<dyn Source>);
        if let Some(cache) = cache {
            server.metrics().add(Arc::new(cache.clone()));
        }
        Self { server, share: settings.metrics.share, watch }
    }

    fn may_ask(&self, from: &NodeId, request: &Request) -> bool {
        match (request, self.share) {
            (Request::Metrics, MetricsShare::Nobody) => false,
            (Request::Metrics, MetricsShare::Nodes) => self.watch.knows(from),
            _ => true,
        }
    }
}

impl Answer for Answering {
    fn answer(&self, from: NodeId, request: Message<Request>) -> BoxFuture<'static, Message<Response>> {
        if !self.may_ask(&from, &request.header) {
            return async { Message::bare(Response::Refused(Refusal::Denied)) }.boxed();
        }
        let server = self.server.clone();
        async move { server.answer(request).await }.boxed()
    }
}

/// What a client answers when it is asked: it has nothing.
struct Nothing;

impl Answer for Nothing {
    fn answer(&self, _from: NodeId, _request: Message<Request>) -> BoxFuture<'static, Message<Response>> {
        async { Message::bare(Response::Refused(Refusal::OutOfBounds)) }.boxed()
    }
}

fn world(peers: Arc<dyn Peers>, cache: Arc<dyn Cache>) -> World {
    World {
        clock: Arc::new(SystemClock::start()),
        entropy: Arc::new(SystemEntropy),
        compute: Arc::new(SystemCompute::all()),
        peers,
        cache,
    }
}

fn server(identity: &Identity, items: Arc<dyn Items>) -> Server {
    let (clock, compute) = (Arc::new(SystemClock::start()), Arc::new(SystemCompute::all()));
    Server::new(identity.signing_key().clone(), items, clock, compute)
}

/// The home's cache; `None` where the settings want none, or it can't be used: what it is for works without it.
fn open_cache(home: &Home, settings: &Settings) -> Option<DiskCache> {
    let options = CacheSettings {
        directory: home.cache_path(),
        capacity: settings.cache.capacity.bytes(),
        time_to_live: settings.cache.time_to_live.duration(),
        free_floor: settings.storage.free_floor.bytes(),
    };
    if options.capacity == 0 {
        return None;
    }
    let opened = DiskCache::open(options, Arc::new(SystemClock::start()));
    opened.inspect_err(|error| tracing::warn!(%error, "the cache can't be used")).ok()
}

fn store_settings(settings: &Settings) -> StoreSettings {
    StoreSettings {
        free_floor: settings.storage.free_floor.bytes(),
        ..StoreSettings::new(settings.storage.capacity.bytes())
    }
}

fn transfer(settings: &Settings) -> TransferSettings {
    TransferSettings {
        fetch_deadline: settings.transfer.deadline.duration(),
        hedge_after: settings.transfer.hedge_after.duration(),
        stripes_in_flight: settings.transfer.stripes_in_flight.count(),
        ..TransferSettings::default()
    }
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
        software: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The addresses that the settings name, or the port on every interface, for TCP and for QUIC.
fn listen_addresses(settings: &Settings) -> Vec<Multiaddr> {
    if !settings.network.listen.is_empty() {
        return settings.network.listen.clone();
    }
    let port = settings.network.listen_port;
    let texts = [
        format!("/ip4/0.0.0.0/tcp/{port}"),
        format!("/ip4/0.0.0.0/udp/{port}/quic-v1"),
        format!("/ip6/::/tcp/{port}"),
        format!("/ip6/::/udp/{port}/quic-v1"),
    ];
    texts.iter().map(|text| text.parse().expect("these are multiaddresses whatever the port")).collect()
}

fn full_address(entry: &PeerAddress) -> Multiaddr {
    entry.to_string().parse().expect("a peer address is written as a multiaddress")
}

fn make_directory(path: &Path) -> Result<(), AssembleError> {
    fs::create_dir_all(path).map_err(|source| AssembleError::Directory { path: path.to_owned(), source })
}

/// Opens a store. Another command that has it open is waited for.
async fn open_patiently(path: &Path, settings: StoreSettings) -> Result<Store, AssembleError> {
    let failed = |source| AssembleError::Store { path: path.to_owned(), source };
    make_directory(path)?;
    let clock = SystemClock::start();
    loop {
        let directory = path.to_owned();
        let open = move || {
            let entropy: &dyn Entropy = &SystemEntropy;
            Store::open(&directory, settings, Arc::new(Files), entropy)
        };
        let opened = tokio::task::spawn_blocking(open).await.expect("opening a store does not panic");
        match opened {
            Err(OpenError::InUse(_)) if clock.elapsed() < IN_USE_PATIENCE => {
                clock.sleep(IN_USE_PAUSE).await;
            }
            opened => return opened.map_err(failed),
        }
    }
}
