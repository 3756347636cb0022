//! Background work of a node: what it does again and again without being asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datamesh_core::time::Epoch;
use datamesh_core::topology::NodeState;
use datamesh_engine::keep::{Keeper, Round, Watch};
use datamesh_engine::transfer::TransferSettings;
use datamesh_engine::world::{Clock, ItemsError, Peers, World};
use datamesh_net::Network;
use datamesh_store::{Collected, Store};
use tokio::task::JoinHandle;

use crate::home::Home;
use crate::metrics::{KeepTally, Registry, Source};
use crate::outlook::Outlook;
use crate::popular::Waiting;
use crate::scrub::{Mending, Scrub, ScrubTally};
use crate::settings::StorageSettings;
use crate::vitals::Vitals;
use crate::watch::Watching;

/// The shortest pause between two collections: each is a commit to the index at the least.
const COLLECT_EVERY_MIN: Duration = Duration::from_secs(1);
/// The shortest pause between two looks at all placement groups.
const CHECK_EVERY_MIN: Duration = Duration::from_millis(500);

/// How often a node looks what its home says that it is to do.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(5);

/// Whether a node is to give away what it holds, as its home says or as it has found itself.
pub(crate) struct Leaving {
    home: Home,
    /// Where the home could not be told: its disk may be the one that fails.
    untold: AtomicBool,
}

impl Leaving {
    pub(crate) fn new(home: &Home) -> Arc<Self> {
        Arc::new(Self { home: home.clone(), untold: AtomicBool::new(false) })
    }

    pub(crate) fn is_wished(&self) -> bool {
        self.untold.load(Ordering::Relaxed) || self.home.is_draining()
    }

    /// It is to. The home remembers that where it can.
    pub(crate) fn wish(&self) {
        if let Err(error) = self.home.set_draining(true) {
            tracing::warn!(%error, "that the node leaves is not remembered when it is started again");
            self.untold.store(true, Ordering::Relaxed);
        }
    }
}

/// The work under way. It ends when this is dropped; a collection that was begun goes on in the store.
pub(crate) struct Maintenance(Vec<JoinHandle<()>>);

impl Maintenance {
    /// The work that every store needs: its garbage is collected and its items are read again.
    pub(crate) fn start(
        store: &Store,
        world: &World,
        settings: &StorageSettings,
        (metrics, vitals): (&Registry, &Arc<Vitals>),
        home: &Home,
    ) -> Self {
        let collect_every = settings.collect_every.duration().max(COLLECT_EVERY_MIN);
        let collecting =
            collect(store.clone(), Arc::clone(&world.peers), Arc::clone(&world.clock), collect_every);
        let tally = Arc::new(ScrubTally::default());
        metrics.add(Arc::clone(&tally) as Arc<dyn Source>);
        metrics.add(Arc::new(Mending(store.clone())));
        let scrub = Scrub {
            store: store.clone(),
            clock: Arc::clone(&world.clock),
            tally,
            vitals: Arc::clone(vitals),
            period: settings.scrub_period.duration(),
            progress: home.scrubbed_path(),
        };
        Self(vec![tokio::spawn(collecting), tokio::spawn(scrub.run())])
    }

    /// Says to the mesh whether the node gives away what it holds, as its home says.
    pub(crate) fn follow(&mut self, leaving: Arc<Leaving>, network: Network, clock: Arc<dyn Clock>) {
        self.0.push(tokio::spawn(follow(leaving, network, clock)));
    }

    /// Pulls what is wanted again and again into the cache of a cache node.
    pub(crate) fn pull(&mut self, waiting: Waiting, world: World, settings: TransferSettings) {
        self.0.push(tokio::spawn(waiting.pull_all(world, settings)));
    }

    /// Keeps the node's placement groups whole: looks at them one period after the start and after each look.
    pub(crate) fn keep(
        &mut self,
        keeper: Keeper,
        (metrics, outlook): (&Registry, &Arc<Outlook>),
        check_every: Duration,
    ) {
        let tally = Arc::new(KeepTally::default());
        metrics.add(Arc::clone(&tally) as Arc<dyn Source>);
        let keeper = keeper.watched_by(Arc::clone(outlook) as Arc<dyn Watch>);
        let outlook = Arc::clone(outlook);
        self.0.push(tokio::spawn(keep(keeper, tally, outlook, check_every.max(CHECK_EVERY_MIN))));
    }

    /// Watches what may be wrong.
    pub(crate) fn watch(&mut self, watching: Watching) {
        self.0.push(tokio::spawn(watching.run()));
    }
}

/// Collects a store's garbage, one pause after the start and after each collection.
async fn collect(store: Store, peers: Arc<dyn Peers>, clock: Arc<dyn Clock>, pause: Duration) {
    loop {
        clock.sleep(pause).await;
        // Leases end by the clock. Where all others seem to be silent, it may be the clock that is wrong.
        let trusted = !peers.topology().is_isolated();
        let now = if trusted { clock.now().epoch() } else { Epoch::from_hours(0) };
        match store.collect(now).await {
            Ok(collected) => report(&collected),
            Err(ItemsError::Closed) => return,
            Err(error) => tracing::warn!(%error, "garbage was not collected, the next try is in a while"),
        }
    }
}

async fn follow(leaving: Arc<Leaving>, network: Network, clock: Arc<dyn Clock>) {
    let mut said = NodeState::Active;
    loop {
        let wanted = if leaving.is_wished() { NodeState::Draining } else { NodeState::Active };
        if wanted != said {
            match network.announce(wanted, ANNOUNCE_DEADLINE).await {
                Ok(told_count) => {
                    tracing::info!(?wanted, told_count, "the node's state has changed");
                    said = wanted;
                }
                Err(error) => tracing::warn!(%error, "the node's state could not be announced"),
            }
        }
        clock.sleep(FOLLOW_EVERY).await;
    }
}

async fn keep(mut keeper: Keeper, tally: Arc<KeepTally>, outlook: Arc<Outlook>, pause: Duration) {
    let clock = keeper.clock();
    loop {
        clock.sleep(pause).await;
        match keeper.round().await {
            Ok(round) => {
                tally.note(&round);
                outlook.note_round(&round);
                report_round(&round);
            }
            Err(ItemsError::Closed) => return,
            Err(error) => tracing::warn!(%error, "placement groups could not be looked at"),
        }
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

fn report_round(round: &Round) {
    let Round { short_count, lost_count, repaired, unplaced, failed, handed_over, .. } = round;
    let Round { discarded, misplaced, released, failures, .. } = round;
    if *lost_count > 0 {
        tracing::error!(lost_count, "stripes or blocks have too few parts left to be made whole");
    }
    if short_count + handed_over + discarded + misplaced > 0 {
        tracing::info!(
            short_count,
            repaired,
            unplaced,
            failed,
            handed_over,
            discarded,
            misplaced,
            released,
            silent = failures.len(),
            "placement groups were looked at"
        );
    }
}

fn report(collected: &Collected) {
    let Collected { lease_count, item_count, segment_count, size, rotten } = collected;
    if !rotten.is_empty() {
        tracing::warn!(?rotten, "items were rotten when they were to be kept on, and are held no more");
    }
    if *collected != Collected::default() {
        tracing::info!(lease_count, item_count, segment_count, size, "garbage was collected");
    }
}
