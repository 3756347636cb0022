//! The calling side of the data plane: a few connections to each node, made when needed and kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datamesh_core::id::NodeId;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
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
use crate::plane::width::{Load, Width};
use crate::settings::NetworkLimits;

/// Connections to one node that is crowded.
const LINKS_PER_NODE: usize = 3;
/// Bytes under way on each connection to a node from which on another one is made: one processor can't protect more. Fewer
/// connections share a line better, and cost less.
const CROWDED: usize = 4 * 1024 * 1024;
/// How long a connection is kept for the next call.
const IDLE: Duration = Duration::from_secs(45);
/// How long a data address that was not reached is left alone: at first, doubling up to the second.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long one address of a node is tried alone before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

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
    width: Mutex<Width>,
    closing: CancellationToken,
}

/// What there is between this participant and one node.
#[derive(Default)]
struct Lane {
    /// Held by the task that dials, so that nobody dials twice; who needs the outcome waits for it here.
    dialing: Arc<tokio::sync::Mutex<()>>,
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

    /// The connection with the least under way: one of the first so many, or of all where those are crowded.
    fn best(&self, width: usize) -> Option<Arc<Link>> {
        let mut state = self.state();
        state.links.retain(|link| !link.ended());
        let least = |links: &[Arc<Link>]| links.iter().min_by_key(|link| link.outstanding()).cloned();
        let best = least(&state.links[..width.min(state.links.len())])?;
        if best.outstanding() < CROWDED { Some(best) } else { least(&state.links) }
    }

    /// Whether one more connection may be made, where there are fewer than so many.
    fn lacks(&self, link_count: usize) -> bool {
        !self.shunned() && self.state().links.iter().filter(|link| !link.ended()).count() < link_count
    }

    fn shunned(&self) -> bool {
        self.state().shunned_until.is_some_and(|until| Instant::now() < until)
    }

    /// Closes connections that nobody used for long, and says whether anything is left to remember: after a failure for so long
    /// that the next one still counts for more.
    fn sweep(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.links.retain(|link| !link.ended() && !link.idle_for(IDLE));
        !state.links.is_empty() || state.shunned_until.is_some_and(|until| now < until + PAUSE_MAX)
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
            width: Mutex::new(Width::new(Instant::now())),
            closing,
        }
    }

    /// A connection to a node; `None` where there is none to be had, so that the call takes another way.
    ///
    /// # Cancel safety
    /// A dial that was begun goes on, and what comes of it is remembered for the next call.
    pub(crate) async fn link(self: &Arc<Self>, node: NodeId) -> Option<Arc<Link>> {
        if self.denied.contains(&node) {
            return None;
        }
        let lane = Arc::clone(self.lanes().entry(node).or_default());
        let width = self.width();
        if let Some(link) = lane.best(width) {
            let crowded = link.outstanding() >= CROWDED;
            self.begin(node, &lane, if crowded { width.max(LINKS_PER_NODE) } else { width });
            return Some(link);
        }
        self.begin(node, &lane, 1);
        let _dialed = lane.dialing.lock().await;
        lane.best(width)
    }

    /// How many connections to each node are to carry calls now.
    fn width(&self) -> usize {
        let moved = self.tally.read();
        // Nothing that holds the lock can leave the width half changed.
        let mut width = self.width.lock().unwrap_or_else(PoisonError::into_inner);
        width.at(Instant::now(), moved.bytes_received + moved.bytes_sent, || self.load())
    }

    fn load(&self) -> Load {
        let lanes = self.lanes();
        let links = lanes.values().flat_map(|lane| lane.state().links.clone());
        links.filter(|link| !link.ended()).fold(Load::default(), |load, link| Load {
            link_count: load.link_count + 1,
            outstanding: load.outstanding + u64::try_from(link.outstanding()).unwrap_or(u64::MAX),
        })
    }

    /// Dials a node that will be called soon, so that the call finds a connection.
    pub(crate) fn warm(self: &Arc<Self>, node: NodeId) {
        if !self.denied.contains(&node) {
            let lane = Arc::clone(self.lanes().entry(node).or_default());
            self.begin(node, &lane, 1);
        }
    }

    /// Dials a node in the background, unless that is being done or there are so many connections to it already. Not within the
    /// call that needs it: a call that is given up, as one of two that race is, must not take the dial with it.
    fn begin(self: &Arc<Self>, node: NodeId, lane: &Arc<Lane>, link_count: usize) {
        if !lane.lacks(link_count) {
            return;
        }
        let Ok(dialing) = Arc::clone(&lane.dialing).try_lock_owned() else { return };
        // Somebody else may just have dialled it.
        if !lane.lacks(link_count) {
            return;
        }
        // Looked up here and not for each call, since they have to be parsed.
        let addresses = self.membership.data_addresses(&node);
        if addresses.is_empty() {
            return;
        }
        let (plane, lane) = (Arc::clone(self), Arc::clone(lane));
        tokio::spawn(async move {
            let dialed = plane.closing.run_until_cancelled(plane.dial(node, &addresses)).await;
            match dialed {
                Some(Some(link)) => lane.reached(Arc::new(link)),
                Some(None) => lane.missed(),
                None => {}
            }
            drop(dialing);
        });
    }

    async fn dial(&self, node: NodeId, addresses: &[HostPort]) -> Option<Link> {
        timeout(self.dial, self.first_reached(node, addresses)).await.unwrap_or_else(|_| {
            tracing::debug!(%node, "no data address reached in time");
            None
        })
    }

    /// The first connection that any of the addresses gives, so that one that swallows what it is sent holds up no other.
    async fn first_reached(&self, node: NodeId, addresses: &[HostPort]) -> Option<Link> {
        let mut untried = addresses.iter();
        let mut attempts = FuturesUnordered::new();
        loop {
            attempts.extend(untried.next().map(|address| self.attempt(node, address)));
            match timeout(STAGGER, attempts.next()).await {
                Ok(Some(None)) | Err(_) => {}
                Ok(Some(reached)) => return reached,
                Ok(None) => return None,
            }
        }
    }

    async fn attempt(&self, node: NodeId, (host, port): &HostPort) -> Option<Link> {
        let connecting = self.connect(node, host, *port).await;
        connecting
            .inspect_err(|error| tracing::debug!(%node, host, port, %error, "data address not reached"))
            .ok()
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
        Ok(Link::start(node, halves(secured), self.stall, buffers, tally, closing))
    }

    /// Closes connections that nobody used for long, and forgets nodes that nobody calls.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        // A lane that somebody else holds is dialled or waited for.
        self.lanes().retain(|_, lane| lane.sweep(now) || Arc::strong_count(lane) > 1);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use datamesh_core::admission::Rolls;
    use datamesh_core::id::NodeId;
    use futures::FutureExt;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio::time::{sleep, timeout};
    use tokio_util::sync::CancellationToken;

    use super::{Lane, PAUSE_MAX, PAUSE_MIN, Plane};
    use crate::buffers::Buffers;
    use crate::counters::Tally;
    use crate::identity::Identity;
    use crate::membership::Membership;
    use crate::membership::book::tests::signed;
    use crate::peers::Denied;
    use crate::plane::handshake::Credentials;
    use crate::settings::NetworkLimits;

    const DIAL: Duration = Duration::from_millis(400);

    /// A participant who knows one node by this data address.
    fn plane(port: u16) -> (Arc<Plane>, NodeId) {
        let record = signed(1, 1, |record| record.addresses = vec![format!("/ip4/127.0.0.1/tcp/{port}/tls")]);
        let node = record.unverified().node;
        let tally = Arc::new(Tally::default());
        let membership =
            Membership::new(None, vec![record], Rolls::default(), mpsc::channel(1).0, Arc::clone(&tally));
        let identity = Identity::generate().expect("entropy");
        let credentials = Credentials::new(&identity.keypair(), None, None).expect("a certificate");
        let limits = NetworkLimits { dial: DIAL, ..NetworkLimits::default() };
        let plane = Plane::new(
            credentials,
            Arc::new(membership),
            Denied::default(),
            &limits,
            Buffers::default(),
            tally,
            CancellationToken::new(),
        );
        (Arc::new(plane), node)
    }

    #[tokio::test]
    async fn a_dial_outlives_the_call_that_began_it() {
        // It connects, since the system accepts, and nobody shakes hands.
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (plane, node) = plane(silent.local_addr().expect("bound").port());
        assert!(timeout(DIAL / 4, plane.link(node)).await.is_err(), "given up while it dials");
        sleep(DIAL).await;
        let outcome = plane.link(node).now_or_never();
        assert!(matches!(outcome, Some(None)), "what came of it is known");
    }

    #[test]
    fn a_failure_is_remembered_until_the_next_one_would_not_count_for_more() {
        let lane = Lane::default();
        assert!(!lane.sweep(Instant::now()), "nothing to remember");
        lane.missed();
        assert!(!lane.lacks(1));
        let pause_over = Instant::now() + PAUSE_MIN;
        assert!(lane.sweep(pause_over) && lane.sweep(pause_over + PAUSE_MAX - Duration::from_secs(1)));
        assert!(!lane.sweep(pause_over + PAUSE_MAX));
        lane.missed();
        assert_eq!(lane.state().pause, PAUSE_MIN * 2);
    }
}
