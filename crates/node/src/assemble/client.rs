//! A client of a mesh: of the one in the home itself, or of other processes.

use std::sync::Arc;
use std::time::Duration;

use datamesh_core::limits::MIB;
use datamesh_core::topology::FailureDomain;
use datamesh_engine::transfer::TransferSettings;
use datamesh_engine::world::{Cache, Compute, Entropy, ItemsError, NoCache, Notary, Peers, Receipts, World};
use datamesh_net::{Identity, Network, NetworkSettings};
use datamesh_store::cache::DiskCache;
use datamesh_store::disk::Files;
use datamesh_store::{Collected, Store, StoreSettings};

use super::answering::Nothing;
use super::open::{open_cache, open_patiently};
use super::{
    AssembleError, JOIN_DEADLINE, Node, full_address, make_directory, receipts, record, server, world,
};
use crate::acquaintances::Acquaintances;
use crate::charter::Charter;
use crate::home::Home;
use crate::latency_file;
use crate::local::{self, LocalPeers};
use crate::metrics::{Build, NetworkWatch, Registry, Source, Totals, TrafficView, Watcher};
use crate::neighbours::Inside;
use crate::receipts::ReceiptLog;
use crate::scores::Scores;
use crate::serve::Server;
use crate::settings::{PeerAddress, Settings};
use crate::system::{SystemCompute, SystemEntropy};
use crate::tuning::{data_plane, store_settings, transfer};

/// Memory for the index of each disk of the embedded mesh, which one process opens all of, bytes.
const EMBEDDED_INDEX_CACHE_SIZE: usize = 2 * MIB;
/// Bytes that may wait to be written to each disk of the embedded mesh.
const EMBEDDED_QUEUE_SIZE: usize = 8 * MIB;

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
    /// The mesh of a node in this process.
    Inside {
        network: Network,
        /// Unless the node has it open itself.
        cache: Option<DiskCache>,
        metrics: Arc<Registry>,
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

    /// Reaches the mesh of a node as the node does: over its network and within its limits, with what it holds itself at hand. The
    /// node must go on as long as the client is used.
    #[must_use]
    pub fn inside(node: &Node, home: &Home, settings: &Settings) -> Self {
        let cache = if node.cache.is_none() { open_cache(home, settings) } else { None };
        let metrics = Arc::clone(node.server.metrics());
        cache.iter().for_each(|cache| metrics.add(Arc::new(cache.clone())));
        let kept: Arc<dyn Cache> = match cache.as_ref().or(node.cache.as_ref()) {
            Some(cache) => Arc::new(cache.clone()),
            None => Arc::new(NoCache),
        };
        let network = node.network.clone();
        let (peers, clock) = (Arc::clone(&node.world.peers), Arc::clone(&node.world.clock));
        let receipts = node.receipts.clone().map(|receipts| receipts as Arc<dyn Receipts>);
        let world = World {
            peers: Arc::new(Inside { peers, network: network.clone(), clock }),
            cache: kept,
            notary: receipts.map(|receipts| Arc::new(node.server.notary(receipts))),
            ..node.world.clone()
        };
        let transfer = TransferSettings { own: Some(network.node()), ..transfer(settings) };
        let backing = Backing::Inside { network, cache, metrics };
        Self { world, transfer, home: home.clone(), backing, scores: None }
    }

    /// The numbers of this process.
    #[must_use]
    pub fn metrics(&self) -> Arc<Registry> {
        if let Backing::Inside { metrics, .. } = &self.backing {
            return Arc::clone(metrics);
        }
        let registry = Arc::new(Registry::default());
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
            Backing::Joined { .. } | Backing::Inside { .. } => Ok(()),
        }
    }

    /// The network, unless the mesh is in this process.
    #[must_use]
    pub fn network(&self) -> Option<&Network> {
        match &self.backing {
            Backing::Embedded { .. } => None,
            Backing::Joined { network, .. } | Backing::Inside { network, .. } => Some(network),
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
            Backing::Inside { cache, .. } => {
                if let Some(cache) = cache {
                    cache.close().await;
                }
                // The rest is the node's to close, and what was moved is in its numbers.
                return;
            }
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
