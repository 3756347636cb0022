//! The task that keeps the records fresh: passes news on, reconciles with others, and saves what is known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datamesh_core::id::NodeId;
use datamesh_core::sign::Signed;
use datamesh_core::topology::{NodeRecord, NodeState};
use datamesh_core::wire::Refusal;
use datamesh_engine::world::CallError;
use libp2p::gossipsub::{MessageAcceptance, MessageId};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::command::Command;
use crate::exchange::call::Caller;
use crate::gossip;
use crate::identity::{node_of, peer_of};
use crate::membership::reconcile::{Direction, Reconciled, Welcome, reconcile};
use crate::membership::{Learned, Membership, disk, swarm_addresses, without_peer};
use crate::random;

/// Notices of the swarm that may wait.
pub(crate) const NOTICES_WAITING_MAX: usize = 1024;
/// Reconciliations at the same time.
const RECONCILIATIONS_MAX: usize = 8;
/// Nodes that were dialled before anything was known of them, remembered at most.
const STRANGERS_MAX: usize = 16;
/// Nodes that a client connects to once it knows them, before it calls them.
const WARMED_MAX: usize = 8;
/// Failures remembered for whoever waits to join.
const FAILURES_MAX: usize = 16;
/// The first pause between reconciliations; it doubles up to the one of the settings.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// What each known node adds to the pause, since a reconciliation costs what the mesh is large.
const PAUSE_PER_NODE: Duration = Duration::from_millis(40);
/// The pause between saves, and what each known node adds to it.
const SAVE_PAUSE: Duration = Duration::from_secs(1);
const SAVE_PAUSE_PER_NODE: Duration = Duration::from_millis(1);

/// How often it is looked who has been silent for too long.
const JUDGE_EVERY: Duration = Duration::from_secs(1);

/// What the swarm tells the upkeep.
pub(crate) enum Notice {
    /// A connection to this node was opened from here.
    Dialled(NodeId),
    /// A message was gossiped.
    Gossip { message: MessageId, source: PeerId, data: Vec<u8> },
}

/// How far this participant has got with joining the mesh.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joining {
    pub(crate) joined: bool,
    /// Nodes that have told all that they know, which is nobody else who seems alive: another one may know more. Their clocks may be
    /// wrong, so that they believe nobody.
    pub(crate) lonely: BTreeSet<NodeId>,
    /// Addresses that it joins through.
    entry_count: usize,
    /// Why whom could not be reached, by address or node.
    pub(crate) failures: BTreeMap<String, Missed>,
}

/// Why someone was not reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missed {
    /// For a person.
    pub(crate) why: String,
    /// What kind of hindrance it is.
    pub(crate) hindrance: Hindrance,
}

/// What keeps this participant from joining through someone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hindrance {
    /// It is not reached, or busy.
    Passing,
    /// It is of another mesh.
    OtherMesh,
    /// It is of a restricted mesh, to which this node is not admitted.
    NotAdmitted,
}

impl Joining {
    /// The mesh is to be joined through these addresses.
    pub(crate) fn through(entries: &[Multiaddr]) -> Self {
        let entry_count = entries.iter().cloned().map(without_peer).collect::<BTreeSet<_>>().len();
        Self { entry_count, ..Self::default() }
    }

    /// Whether more waiting can't change how it ends.
    pub(crate) fn decided(&self) -> bool {
        let all_tried = self.entry_count > 0 && self.failures.len() >= self.entry_count;
        let only_lonely =
            !self.lonely.is_empty() && self.lonely.len() + self.failures.len() >= self.entry_count;
        self.joined || only_lonely || self.is_not_admitted() || (all_tried && self.is_other_mesh())
    }

    /// Whether all that answered are of another mesh.
    pub(crate) fn is_other_mesh(&self) -> bool {
        let is_other = |missed: &Missed| missed.hindrance == Hindrance::OtherMesh;
        !self.failures.is_empty() && self.failures.values().all(is_other)
    }

    /// Whether a node of the mesh said that this one is not admitted.
    pub(crate) fn is_not_admitted(&self) -> bool {
        self.failures.values().any(|missed| missed.hindrance == Hindrance::NotAdmitted)
    }

    /// Remembers why someone could not be reached, as long as that matters.
    pub(crate) fn failed(&mut self, whom: String, missed: Missed) {
        let room = self.failures.len() < FAILURES_MAX || self.failures.contains_key(&whom);
        if !self.joined && room {
            self.failures.insert(whom, missed);
        }
    }
}

/// The task's state.
pub(crate) struct Upkeep {
    pub(crate) membership: Arc<Membership>,
    pub(crate) caller: Arc<Caller>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) notices: mpsc::Receiver<Notice>,
    pub(crate) news: mpsc::Receiver<Vec<Signed<NodeRecord>>>,
    pub(crate) addresses: watch::Receiver<Vec<Multiaddr>>,
    pub(crate) joining: watch::Sender<Joining>,
    pub(crate) own: NodeId,
    pub(crate) direction: Direction,
    pub(crate) state_directory: Option<PathBuf>,
    pub(crate) pause_max: Duration,
    pub(crate) closing: CancellationToken,
}

/// What changes from round to round.
struct Rounds {
    reconciliations: JoinSet<(NodeId, Result<Reconciled, CallError>)>,
    under_way: BTreeSet<NodeId>,
    strangers: BTreeSet<NodeId>,
    pause: Duration,
    /// How long after one that failed the next is begun: it doubles while they do.
    retry: Duration,
    next_reconciliation: Instant,
    next_save: Instant,
    next_beat: Instant,
    next_judgement: Instant,
}

impl Rounds {
    fn begin(now: Instant, beat: Duration) -> Self {
        Self {
            reconciliations: JoinSet::new(),
            under_way: BTreeSet::new(),
            strangers: BTreeSet::new(),
            pause: PAUSE_FIRST,
            retry: PAUSE_FIRST,
            next_reconciliation: now + PAUSE_FIRST,
            next_save: now,
            next_beat: now + random::around(beat),
            next_judgement: now + JUDGE_EVERY,
        }
    }

    /// What another node has to tell is not to wait for a whole pause because this one is dead.
    fn missed(&mut self, now: Instant, pause_max: Duration) {
        self.next_reconciliation = self.next_reconciliation.min(now + random::around(self.retry));
        self.retry = (self.retry * 2).min(pause_max);
    }
}

impl Upkeep {
    /// Runs until the network closes; then saves a last time.
    pub(crate) async fn run(mut self) {
        let mut rounds = Rounds::begin(Instant::now(), self.membership.beat());
        let mut unsaved = self.membership.watch();
        self.route(&self.membership.records()).await;
        let closing = self.closing.clone();
        loop {
            tokio::select! {
                () = closing.cancelled() => break,
                Some(notice) = self.notices.recv() => self.notice(notice, &mut rounds).await,
                Some(news) = self.news.recv() => self.pass_on(news).await,
                Ok(()) = self.addresses.changed() => self.readdress().await,
                Some(done) = rounds.reconciliations.join_next(), if !rounds.reconciliations.is_empty() => {
                    self.reconciled(done, &mut rounds).await;
                }
                () = sleep_until(rounds.next_reconciliation) => self.reconcile_next(&mut rounds),
                () = sleep_until(rounds.next_beat) => self.beat(&mut rounds).await,
                () = sleep_until(rounds.next_judgement) => {
                    self.membership.judge();
                    rounds.next_judgement = Instant::now() + JUDGE_EVERY;
                }
                Ok(()) = changed_after(&mut unsaved, rounds.next_save) => self.save(&mut rounds).await,
            }
        }
        rounds.reconciliations.shutdown().await;
        self.save(&mut rounds).await;
    }

    /// Connects to nodes that were just learned of. A client came to fetch or store something: each that it will call finds a
    /// connection then, and not after two round trips.
    fn hasten(&self) {
        let mut known = self.others();
        random::shuffle(&mut known);
        known.iter().take(WARMED_MAX).for_each(|node| self.caller.warm(*node));
    }

    /// Whether all that is known is a node that has answered, and others who have been silent for longer than they may.
    fn is_lonely(&self, answered: NodeId) -> bool {
        self.membership.topology().is_isolated() || self.others().iter().all(|other| *other == answered)
    }

    /// The nodes that can be asked.
    fn others(&self) -> Vec<NodeId> {
        let topology = self.membership.topology();
        let others =
            topology.records().filter(|record| record.node != self.own && record.state != NodeState::Gone);
        others.map(|record| record.node).collect()
    }

    async fn notice(&self, notice: Notice, rounds: &mut Rounds) {
        match notice {
            Notice::Dialled(node) => {
                if rounds.strangers.len() < STRANGERS_MAX
                    && self.membership.topology().record(&node).is_none()
                {
                    rounds.strangers.insert(node);
                }
                self.begin(node, rounds);
            }
            Notice::Gossip { message, source, data } => {
                let acceptance = self.overhear(&source, &data).await;
                self.ask(Command::Judge { message, source, acceptance }).await;
            }
        }
    }

    /// Learns from a gossiped message and says what it is worth: only news and what is known is worth passing on. Honest
    /// nodes look at what they pass on, so whoever passes on what is broken broke it.
    async fn overhear(&self, source: &PeerId, data: &[u8]) -> MessageAcceptance {
        let learned = match gossip::decode_records(data) {
            Ok(records) => self.membership.overhear(records).await,
            Err(error) => Learned { violation: Some(error.into()), ..Learned::default() },
        };
        self.route(&learned.news).await;
        self.correct(&learned.news).await;
        if let (Some(violation), Some(node)) = (&learned.violation, node_of(source)) {
            self.caller.report(node, violation);
        }
        match (learned.violation, learned.stale_count) {
            (Some(_), _) => MessageAcceptance::Reject,
            (None, 0) => MessageAcceptance::Accept,
            (None, _) => MessageAcceptance::Ignore,
        }
    }

    /// Tells everybody what was told to this node alone.
    async fn pass_on(&self, news: Vec<Signed<NodeRecord>>) {
        self.route(&news).await;
        self.gossip(&news).await;
        self.correct(&news).await;
    }

    async fn readdress(&mut self) {
        let addresses = self.addresses.borrow_and_update().clone();
        if let Some(record) = self.membership.set_addresses(&addresses) {
            self.gossip(&[record]).await;
        }
    }

    /// Signs the own record anew if others know a newer one than this node does.
    async fn correct(&self, news: &[Signed<NodeRecord>]) {
        if !news.iter().any(|record| record.unverified().node == self.own) {
            return;
        }
        let addresses = self.addresses.borrow().clone();
        if let Some(record) = self.membership.set_addresses(&addresses) {
            self.gossip(&[record]).await;
        }
    }

    async fn gossip(&self, records: &[Signed<NodeRecord>]) {
        for data in gossip::encode_records(records) {
            self.ask(Command::Gossip { data }).await;
        }
    }

    /// Gives the DHT the addresses of nodes.
    async fn route(&self, records: &[Signed<NodeRecord>]) {
        let staying = records.iter().map(Signed::unverified).filter(|record| record.state != NodeState::Gone);
        for record in staying.filter(|record| record.node != self.own) {
            let addresses = swarm_addresses(record);
            self.ask(Command::Route { peer: peer_of(&record.node), addresses }).await;
        }
    }

    async fn ask(&self, command: Command) {
        // The swarm is gone only when all is closing, which ends this task too.
        let _ = self.commands.send(command).await;
    }

    fn begin(&self, node: NodeId, rounds: &mut Rounds) {
        if rounds.under_way.len() >= RECONCILIATIONS_MAX || !rounds.under_way.insert(node) {
            return;
        }
        let (caller, membership) = (Arc::clone(&self.caller), Arc::clone(&self.membership));
        let direction = self.direction;
        rounds
            .reconciliations
            .spawn(async move { (node, reconcile(&caller, &membership, node, direction).await) });
    }

    async fn reconciled(
        &self,
        done: Result<(NodeId, Result<Reconciled, CallError>), tokio::task::JoinError>,
        rounds: &mut Rounds,
    ) {
        let (node, outcome) =
            done.expect("a reconciliation does not panic, and is cancelled only at the end");
        rounds.under_way.remove(&node);
        match outcome {
            Ok(Reconciled { news, welcome }) => {
                rounds.retry = PAUSE_FIRST;
                self.route(&news).await;
                self.correct(&news).await;
                if welcome == Welcome::NotAdmitted {
                    tracing::warn!(%node, "this node is not admitted to the mesh, or not any more: no node counts on it");
                    let why = Refusal::NotAdmitted.to_string();
                    let missed = Missed { why, hindrance: Hindrance::NotAdmitted };
                    self.joining.send_modify(|joining| joining.failed(node.to_string(), missed));
                    return;
                }
                let lonely = self.direction == Direction::Pull && self.is_lonely(node);
                let reached = |joining: &mut Joining| {
                    if lonely {
                        joining.lonely.insert(node)
                    } else {
                        !std::mem::replace(&mut joining.joined, true)
                    }
                };
                if self.joining.send_if_modified(reached) && !lonely && self.direction == Direction::Pull {
                    self.hasten();
                }
            }
            Err(error) => {
                tracing::debug!(%node, %error, "no reconciliation");
                let missed = Missed { why: error.to_string(), hindrance: Hindrance::Passing };
                self.joining.send_modify(|joining| joining.failed(node.to_string(), missed));
                rounds.missed(Instant::now(), self.pause_max);
            }
        }
    }

    /// Says that this participant is there, if it is a node.
    async fn beat(&self, rounds: &mut Rounds) {
        if let Some(record) = self.membership.renew() {
            self.gossip(&[record]).await;
        }
        rounds.next_beat = Instant::now() + random::around(self.membership.beat());
    }

    /// Reconciles with a node drawn at random, so that what gossip missed is found by someone soon.
    fn reconcile_next(&self, rounds: &mut Rounds) {
        let others = self.others();
        let strangers: Vec<NodeId> = rounds.strangers.iter().copied().collect();
        let drawn = random::choose(&others).or_else(|| random::choose(&strangers));
        if let Some(node) = drawn {
            self.begin(*node, rounds);
        }
        self.membership.forget_gone();
        let node_count = u32::try_from(others.len()).unwrap_or(u32::MAX);
        let pause_max = self.pause_max.max(PAUSE_PER_NODE.saturating_mul(node_count));
        rounds.pause = (rounds.pause * 2).min(pause_max);
        rounds.next_reconciliation = Instant::now() + random::around(rounds.pause);
    }

    async fn save(&self, rounds: &mut Rounds) {
        let Some(directory) = self.state_directory.clone() else {
            rounds.next_save = Instant::now() + SAVE_PAUSE * 60;
            return;
        };
        let records = self.membership.records();
        let node_count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        if let Err(error) = disk::off_thread(move || disk::save(&directory, &records)).await {
            tracing::warn!(%error, "known nodes are not saved");
        }
        rounds.next_save = Instant::now() + SAVE_PAUSE + SAVE_PAUSE_PER_NODE.saturating_mul(node_count);
    }
}

/// Completes on a change, but not before an instant.
async fn changed_after<T>(
    watched: &mut watch::Receiver<T>,
    earliest: Instant,
) -> Result<(), watch::error::RecvError> {
    sleep_until(earliest).await;
    watched.changed().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datamesh_core::id::NodeId;
    use libp2p::Multiaddr;
    use tokio::time::Instant;

    use super::{Hindrance, Joining, Missed, PAUSE_FIRST, Rounds};

    #[test]
    fn one_that_is_dead_does_not_cost_a_whole_pause_and_many_that_are_cost_ever_longer_ones() {
        let (now, pause_max) = (Instant::now(), Duration::from_secs(10));
        let mut rounds = Rounds::begin(now, Duration::from_secs(1));
        rounds.next_reconciliation = now + pause_max;
        rounds.missed(now, pause_max);
        let first = rounds.next_reconciliation - now;
        assert!(first <= PAUSE_FIRST * 2, "{first:?}");
        for _ in 0..20 {
            rounds.next_reconciliation = now + pause_max * 2;
            rounds.missed(now, pause_max);
        }
        let last = rounds.next_reconciliation - now;
        assert!(last > PAUSE_FIRST * 4 && rounds.retry == pause_max, "{last:?}");
    }

    #[test]
    fn who_heard_of_nobody_alive_waits_for_every_other_way_in() {
        let entries: Vec<Multiaddr> =
            (1..4).map(|port| format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address")).collect();
        let mut joining = Joining::through(&entries);
        joining.lonely.extend([1, 2].map(|number| NodeId::from_bytes([number; 32])));
        assert!(!joining.decided(), "the third may know more");
        let missed = Missed { why: "refused".into(), hindrance: Hindrance::Passing };
        joining.failed(entries[2].to_string(), missed);
        assert!(joining.decided() && !joining.joined);

        let mut joining = Joining::through(&entries);
        joining.joined = true;
        assert!(joining.decided(), "one who knows others is enough");
    }
}
