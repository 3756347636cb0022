//! `SimWorld`: the engine's world, in memory, from a seed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use datamesh_core::id::NodeId;
use datamesh_core::time::Timestamp;
use datamesh_core::topology::{FailureDomain, NodeRecord, NodeState, Role};
use datamesh_engine::traffic::{Traffic, TrafficSettings};
use datamesh_engine::world::{Clock, Compute, Entropy, NoCache, World};
use ed25519_dalek::SigningKey;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::time::Instant;

use crate::draw::Draws;
use crate::network::{Link, SimNetwork};

/// When simulated time begins: January 2027, in milliseconds since the Unix epoch.
/// How long nodes may be silent unless a test says otherwise, seconds.
const GRACE_S: u32 = 4 * 60 * 60;
const START_MS: u64 = 1_800_000_000_000;

/// A world whose course a seed determines.
#[derive(Clone)]
pub struct SimWorld {
    seed: u64,
    clock: Arc<SimClock>,
    entropy: Arc<SimEntropy>,
    network: SimNetwork,
}

impl SimWorld {
    /// A world without nodes. It lives in the runtime that it is made in, whose clock should be paused: see
    /// [`SimWorld::run`].
    #[must_use]
    pub fn new(seed: u64, link: Link) -> Self {
        let entropy = SimEntropy { draws: Mutex::new(Draws::new(seed, "entropy")) };
        let clock = Arc::new(SimClock { start: Instant::now() });
        Self { seed, clock, entropy: Arc::new(entropy), network: SimNetwork::new(seed, link) }
    }

    /// Runs a test in a new world: on one thread, with a clock that leaps to the next thing that is waited for.
    ///
    /// # Panics
    /// If the test does, or if the system gives no thread a timer.
    pub fn run<T>(seed: u64, link: Link, test: impl AsyncFnOnce(Self) -> T) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime of one thread");
        runtime.block_on(async { test(Self::new(seed, link)).await })
    }

    /// The engine's world as one participant sees it.
    #[must_use]
    pub fn world_of(&self, caller: NodeId) -> World {
        World {
            clock: self.clock(),
            entropy: Arc::clone(&self.entropy) as Arc<dyn Entropy>,
            compute: self.compute(),
            peers: self.network.peers_of(caller),
            traffic: Arc::new(Traffic::new(self.clock(), TrafficSettings::default())),
            rings: Arc::default(),
            cache: Arc::new(NoCache),
            notary: None,
        }
    }

    /// The nodes and what lies between them.
    #[must_use]
    pub const fn network(&self) -> &SimNetwork {
        &self.network
    }

    /// The one clock of all participants.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }

    /// Runs each job at once, where it is asked for.
    #[must_use]
    pub fn compute(&self) -> Arc<dyn Compute> {
        Arc::new(InlineCompute)
    }

    /// The key of the participant with this number.
    #[must_use]
    pub fn key(&self, number: u64) -> SigningKey {
        let mut bytes = [0; 32];
        Draws::new(self.seed, &format!("key {number}")).fill(&mut bytes);
        SigningKey::from_bytes(&bytes)
    }

    /// The record of an active storage node with this key: what tests add to the network unless they need another.
    #[must_use]
    pub fn record(&self, key: &SigningKey, domain: FailureDomain, capacity: u64) -> NodeRecord {
        NodeRecord {
            node: NodeId::from_bytes(key.verifying_key().to_bytes()),
            sequence: self.clock.now().as_ms(),
            addresses: vec![],
            role: Role::Storage,
            state: NodeState::Active,
            domain,
            capacity,
            grace_s: GRACE_S,
            software: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Time as the runtime counts it, from a fixed date on.
#[derive(Debug)]
struct SimClock {
    start: Instant,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed_ms = u64::try_from(self.elapsed().as_millis()).expect("no test runs for 2^64 ms");
        Timestamp::from_ms(START_MS + elapsed_ms)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

/// What looks random and is not.
#[derive(Debug)]
struct SimEntropy {
    draws: Mutex<Draws>,
}

impl Entropy for SimEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        self.draws.lock().expect("no holder of the lock panics").fill(buffer);
    }
}

struct InlineCompute;

impl Compute for InlineCompute {
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        job();
        ready(()).boxed()
    }
}
