//! How long a request for a cached chunk takes: from the own disk, and from a cache node over loopback.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamesh_codec::stripe::{Coder, EncodedStripe};
use datamesh_core::id::{ItemId, NodeId};
use datamesh_core::limits::MIB;
use datamesh_core::scheme::Redundancy;
use datamesh_core::topology::Role;
use datamesh_core::wire::{FetchRequest, Message, Request, Response};
use datamesh_engine::world::{Cache, Entropy};
use datamesh_store::cache::{CacheSettings, DiskCache};
use futures::future::join_all;

use crate::assemble::{AssembleError, Client, Node, NodeOrder};
use crate::charter::{Charter, CharterOrder};
use crate::discard::Keeping;
use crate::home::Home;
use crate::settings::{ByteSize, PeerAddress, Settings};
use crate::system::{SystemClock, SystemEntropy};

/// Chunks that are asked for in turn, 1 MiB each.
const CHUNK_COUNT: usize = 32;
const CACHE_CAPACITY: u64 = 256 << 20;
const NODE_CAPACITY: u64 = 1 << 30;

/// How long requests took.
#[derive(Debug, Clone)]
pub struct Latencies {
    /// What was asked.
    pub name: String,
    /// Bytes of each request's answer.
    pub size: u64,
    /// How long each took, ascending.
    pub times: Vec<Duration>,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum CachedError {
    /// The cache can't be written.
    #[error("cache: {0}")]
    Cache(#[from] io::Error),
    /// A node or its client did not come up.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// A chunk that was kept is not there.
    #[error("a chunk that was kept is not found")]
    Lost,
}

impl Latencies {
    /// The time within which this share of the requests was answered, in hundredths.
    ///
    /// # Panics
    /// If there was no request.
    #[must_use]
    pub fn percentile(&self, hundredths: usize) -> Duration {
        let index = (self.times.len() * hundredths).div_ceil(100).max(1) - 1;
        self.times[index.min(self.times.len() - 1)]
    }

    fn of(name: &str, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { name: name.to_owned(), size: 1 << 20, times }
    }
}

/// Asks for cached chunks of 1 MiB, one after another: in this process, then as another participant who asks a cache node on
/// loopback for the four data shards of each. What they take of the disk lies below `place`.
///
/// # Errors
/// [`CachedError`] when something of that can't be had.
///
/// # Cancel safety
/// When dropped, files are left behind.
pub async fn cached_requests(place: &Path, request_count: usize) -> Result<Vec<Latencies>, CachedError> {
    let home = Home::at(place.join("cache-node"));
    let coder = Coder::new(Redundancy::new(4, 2).expect("4 + 2 is a redundancy"));
    let chunks: Vec<EncodedStripe> = (0..CHUNK_COUNT).map(|_| chunk(&coder)).collect();
    let own = from_disk(&home, &chunks, request_count).await?;
    let over_loopback = Box::pin(from_node(&home, place, &chunks, request_count)).await?;
    Ok(vec![own, over_loopback])
}

fn chunk(coder: &Coder) -> EncodedStripe {
    let mut sealed = vec![0; MIB];
    SystemEntropy.fill(&mut sealed);
    coder.encode(sealed)
}

fn data(chunk: &EncodedStripe) -> Vec<u8> {
    chunk.shards[..chunk.stripe.redundancy.data_count()].concat()
}

async fn from_disk(
    home: &Home,
    chunks: &[EncodedStripe],
    request_count: usize,
) -> Result<Latencies, CachedError> {
    let settings = CacheSettings {
        directory: home.cache_path(),
        capacity: CACHE_CAPACITY,
        time_to_live: Duration::from_secs(3600),
        free_floor: 0,
    };
    for chunk in chunks {
        // One at a time, so that none is dropped: a closed cache has written what it took.
        let cache = DiskCache::open(settings.clone(), Arc::new(SystemClock::start()))?;
        (0..2).for_each(|_| cache.offer_stripe(&chunk.stripe, &data(chunk)));
        cache.close().await;
    }
    let cache = DiskCache::open(settings, Arc::new(SystemClock::start()))?;
    let mut times = Vec::with_capacity(request_count);
    for chunk in chunks.iter().cycle().take(request_count) {
        let started = Instant::now();
        cache.stripe(&chunk.stripe).await.ok_or(CachedError::Lost)?;
        times.push(started.elapsed());
    }
    Ok(Latencies::of("cached chunk from the own disk", times))
}

async fn from_node(
    home: &Home,
    place: &Path,
    chunks: &[EncodedStripe],
    request_count: usize,
) -> Result<Latencies, CachedError> {
    let mut settings = Settings::default();
    settings.network.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().expect("it is a multiaddress")];
    settings.storage.capacity = ByteSize::from_bytes(NODE_CAPACITY);
    settings.storage.free_floor = ByteSize::from_bytes(0);
    settings.cache.capacity = ByteSize::from_bytes(CACHE_CAPACITY);
    let order = NodeOrder {
        role: Role::Cache,
        entries: Vec::new(),
        charter: CharterOrder::default(),
        founder: None,
        keeping: Keeping::Everything,
    };
    let node = Box::pin(Node::start(home, &settings, order)).await?;
    let addresses = node.network.listen_addresses();
    let entries: Vec<PeerAddress> =
        addresses.iter().filter_map(|address| address.to_string().parse().ok()).collect();
    settings.cache.capacity = ByteSize::from_bytes(0);
    let client =
        Box::pin(Client::joined(&Home::at(place.join("client")), &settings, &entries, &Charter::default()))
            .await?;
    let mut times = Vec::with_capacity(request_count);
    let mut outcome = Ok(());
    for chunk in chunks.iter().cycle().take(request_count) {
        let started = Instant::now();
        outcome = ask(&client, node.network.node(), chunk).await;
        if outcome.is_err() {
            break;
        }
        times.push(started.elapsed());
    }
    client.close().await;
    if let Err(error) = node.stop().await {
        tracing::warn!(%error, "the cache node was not stopped in good order");
    }
    outcome.map(|()| Latencies::of("cached chunk from a cache node on loopback", times))
}

/// Asks for the data shards of a chunk, all at once, and checks them.
async fn ask(client: &Client, node: NodeId, chunk: &EncodedStripe) -> Result<(), CachedError> {
    let size = u32::try_from(chunk.stripe.shard_size()).ok();
    let shards = &chunk.stripe.shards[..chunk.stripe.redundancy.data_count()];
    let calls = shards.iter().map(|shard| async move {
        let item = ItemId::Shard(*shard);
        let request = Request::Fetch(FetchRequest::whole(item, size));
        let answer = client.world.peers.call(node, Message::bare(request)).await;
        answer.is_ok_and(|answer| answer.header == Response::Found && item.matches(&answer.payload))
    });
    if join_all(calls).await.into_iter().all(|right| right) { Ok(()) } else { Err(CachedError::Lost) }
}
