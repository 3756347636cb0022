//! The calling side of the data plane: a few connections to each node, made when needed and kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datamesh_core::id::NodeId;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::buffers::Buffers;
use crate::counters::Tally;
use crate::membership::Membership;
use crate::peers::Denied;
use crate::plane::address::HostPort;
use crate::plane::half::halves;
use crate::plane::handshake::{Credentials, HandshakeError};
use crate::plane::link::Link;
use crate::settings::NetworkLimits;

/// Connections to one node.
const LINKS_PER_NODE: usize = 3;
/// Bytes under way on each connection to a node from which on another one is made: one processor can't protect more.
const CROWDED: usize = 1024 * 1024;
/// How long a connection is kept for the next call.
const IDLE: Duration = Duration::from_secs(45);
/// How long a data address that was not reached is left alone: at first, doubling up to the second.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Connects to nodes.
pub(crate) struct Plane {
    credentials: Credentials,
    membership: Arc<Membership>,
    denied: Denied,
    stall: Duration,
    dial: Duration,
    buffers: Buffers,
    tally: Arc<Tally>,
    lanes: Mutex<BTreeMap<NodeId, Arc<Lane>>>,
    closing: CancellationToken,
}

/// What there is between this participant and one node.
#[derive(Default)]
struct Lane {
    /// Held by whoever dials, so that nobody dials twice.
    dialing: tokio::sync::Mutex<()>,
    state: Mutex<LaneState>,
}

#[derive(Default)]
struct LaneState {
    links: Vec<Arc<Link>>,
    /// How long the next failure counts, and until when the last one does.
    pause: Duration,
    shunned_until: Option<Instant>,
}

impl Lane {
    fn state(&self) -> MutexGuard<'_, LaneState> {
        // Nothing that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection with the least under way.
    fn best(&self) -> Option<(Arc<Link>, usize)> {
        let mut state = self.state();
        state.links.retain(|link| !link.ended());
        let best = state.links.iter().min_by_key(|link| link.outstanding()).cloned();
        best.map(|link| (link, state.links.len()))
    }

    fn shunned(&self) -> bool {
        self.state().shunned_until.is_some_and(|until| Instant::now() < until)
    }

    fn missed(&self) {
        let mut state = self.state();
        state.pause = (state.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        state.shunned_until = Some(Instant::now() + state.pause);
    }

    fn reached(&self, link: Arc<Link>) {
        let mut state = self.state();
        state.links.push(link);
        state.pause = Duration::ZERO;
        state.shunned_until = None;
    }
}

impl Plane {
    pub(crate) fn new(
        credentials: Credentials,
        membership: Arc<Membership>,
        denied: Denied,
        limits: &NetworkLimits,
        buffers: Buffers,
        tally: Arc<Tally>,
        closing: CancellationToken,
    ) -> Self {
        let (stall, dial) = (limits.stall, limits.dial);
        Self {
            credentials,
            membership,
            denied,
            stall,
            dial,
            buffers,
            tally,
            lanes: Mutex::default(),
            closing,
        }
    }

    /// A connection to a node; `None` where there is none to be had, so that the call takes another way.
    ///
    /// # Cancel safety
    /// A dial that was begun is given up.
    pub(crate) async fn link(self: &Arc<Self>, node: NodeId) -> Option<Arc<Link>> {
        let addresses = self.membership.data_addresses(&node);
        if addresses.is_empty() || self.denied.contains(&node) {
            return None;
        }
        let lane = Arc::clone(self.lanes().entry(node).or_default());
        if let Some((link, link_count)) = lane.best() {
            if link.outstanding() >= CROWDED && link_count < LINKS_PER_NODE && !lane.shunned() {
                self.widen(node, lane, addresses);
            }
            return Some(link);
        }
        if lane.shunned() {
            return None;
        }
        let _dialing = lane.dialing.lock().await;
        match lane.best() {
            Some((link, _)) => Some(link),
            None if lane.shunned() => None,
            None => self.dial(node, &lane, &addresses).await,
        }
    }

    /// Makes one more connection in the background, unless that is being done.
    fn widen(self: &Arc<Self>, node: NodeId, lane: Arc<Lane>, addresses: Vec<HostPort>) {
        let plane = Arc::clone(self);
        tokio::spawn(async move {
            let Ok(_dialing) = lane.dialing.try_lock() else { return };
            if lane.best().is_some_and(|(_, link_count)| link_count < LINKS_PER_NODE) {
                plane.dial(node, &lane, &addresses).await;
            }
        });
    }

    async fn dial(&self, node: NodeId, lane: &Lane, addresses: &[HostPort]) -> Option<Arc<Link>> {
        for (host, port) in addresses {
            let connecting = timeout(self.dial, self.connect(node, host, *port));
            let why = match connecting.await {
                Ok(Ok(link)) => {
                    let link = Arc::new(link);
                    lane.reached(Arc::clone(&link));
                    return Some(link);
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no connection in time".to_owned(),
            };
            tracing::debug!(%node, host, port, why, "data address not reached");
        }
        lane.missed();
        None
    }

    async fn connect(&self, node: NodeId, host: &str, port: u16) -> Result<Link, HandshakeError> {
        let socket = TcpStream::connect((host, port)).await?;
        let secured = self.credentials.greet(socket).await?;
        if secured.node != node {
            return Err(HandshakeError::Identity);
        }
        self.tally.links_established.increase();
        let closing = self.closing.child_token();
        let (buffers, tally) = (self.buffers.clone(), Arc::clone(&self.tally));
        Ok(Link::start(halves(secured), self.stall, buffers, tally, closing))
    }

    /// Closes connections that nobody used for long, and forgets nodes that nobody calls.
    pub(crate) fn sweep(&self) {
        self.lanes().retain(|_, lane| {
            let mut state = lane.state();
            state.links.retain(|link| !link.ended() && !link.idle_for(IDLE));
            !state.links.is_empty() || state.shunned_until.is_some_and(|until| Instant::now() < until)
        });
    }

    /// Closes every connection.
    pub(crate) fn close(&self) {
        self.closing.cancel();
        self.lanes().clear();
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Lane>>> {
        // Nothing that holds the lock can leave the map half changed.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
