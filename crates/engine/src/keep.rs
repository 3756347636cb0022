//! Keeps whole what a node's placement groups hold, with the other holders and without any owner.
//!
//! The first holder of a group leads it. It compares what the holders say they hold, in brief while nothing differs; it finds
//! the stripes and blocks that are short of parts, and makes the missing ones again, the most endangered first. A holder
//! that was left for another by the ring hands its parts over. Nothing is dropped before another holder has said that it
//! has it durably: write, verify, switch, release.

mod compare;
mod handover;
mod mend;
mod plan;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use datamesh_core::health::Standing;
use datamesh_core::id::{NodeId, PlacementGroup};
use datamesh_core::lease::Subject;
use datamesh_core::summary::Summary;

use crate::progress::Observer;
use crate::transfer::{Failure, Transfer, TransferSettings};
use crate::world::{Clock, Items, ItemsError, World};

/// Settling times until a repair is tried again that came to nothing.
const POSTPONED_SETTLES: u32 = 10;

/// How patiently and how much is kept whole at once.
#[derive(Debug, Clone)]
pub struct KeepSettings {
    /// How bytes are moved.
    pub transfer: TransferSettings,
    /// How long something must be short of parts before it is repaired: what is being put just now is short too.
    pub settle: Duration,
}

/// What one round found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// Groups that this node leads.
    pub group_count: u64,
    /// Of these, the groups whose holders differ.
    pub differing_count: u64,
    /// Stripes and blocks that were short of parts.
    pub short_count: u64,
    /// Of these, those of which fewer parts are left than make the whole.
    pub lost_count: u64,
    /// Parts that were made again and stored.
    pub repaired: u64,
    /// Parts for which no node was left.
    pub unplaced: u64,
    /// Stripes and blocks whose repair failed.
    pub failed: u64,
    /// Parts that were given to the holders that they belong to.
    pub handed_over: u64,
    /// Parts that were dropped here because their holders have them.
    pub discarded: u64,
    /// Parts that belong elsewhere and are still here.
    pub misplaced: u64,
    /// Leases that were ended because their owner had released them while their holder was away.
    pub released: u64,
    /// The nodes that failed meanwhile.
    pub failures: BTreeMap<NodeId, Failure>,
}

/// How the groups that a node leads were found, before anything was done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Every other node seems to be absent: nothing is known.
    CutOff,
    /// All of them were looked at.
    Groups {
        /// The groups whose first holder the node is.
        first: Standing,
        /// Those that it led in the stead of a silent first holder, by that holder.
        stand_ins: BTreeMap<NodeId, Standing>,
    },
}

/// Whoever wants to know what is seen in each round, before repairs begin: they may take long.
pub trait Watch: Send + Sync {
    /// Takes note. It must not block.
    fn seen(&self, seen: Seen);
}

/// Keeps one node's groups whole, round by round.
pub struct Keeper {
    world: World,
    own: NodeId,
    items: Arc<dyn Items>,
    settings: KeepSettings,
    observer: Arc<dyn Observer>,
    /// When what is short was first seen to be.
    short_since: BTreeMap<Subject, Duration>,
    /// What other holders said when they were asked last, so that they need not say it again. Not what is empty.
    told: BTreeMap<NodeId, Told>,
    /// How things stood in groups that differ, when there was nothing to be done about it.
    looked_at: BTreeMap<PlacementGroup, (Look, Standing)>,
    watch: Option<Arc<dyn Watch>>,
}

/// What a holder said of groups.
type Told = BTreeMap<PlacementGroup, Summary>;

/// How a group stood: who was to hold it and what all of them said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look([u8; 32]);

impl Keeper {
    /// Of a node that keeps these items. `world.peers` must reach the node itself too.
    #[must_use]
    pub fn new(
        world: World,
        own: NodeId,
        items: Arc<dyn Items>,
        settings: KeepSettings,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            world,
            own,
            items,
            settings,
            observer,
            short_since: BTreeMap::new(),
            told: BTreeMap::new(),
            looked_at: BTreeMap::new(),
            watch: None,
        }
    }

    /// The same, which tells what it sees.
    #[must_use]
    pub fn watched_by(self, watch: Arc<dyn Watch>) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// The clock that its rounds go by.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.world.clock)
    }

    /// Looks at all groups of the node once and repairs what has been short for long enough. Does nothing while the node
    /// seems to be cut off from all others.
    ///
    /// # Errors
    /// [`ItemsError`] when the node's own items can't be read.
    ///
    /// # Cancel safety
    /// What was repaired until it is dropped stays.
    pub async fn round(&mut self) -> Result<Round, ItemsError> {
        let transfer = self.transfer().await;
        if transfer.topology().is_isolated() {
            self.tell(Seen::CutOff);
            return Ok(Round::default());
        }
        let mut round = Round::default();
        let summaries = self.summaries().await?;
        // First what lies elsewhere than it belongs: that costs one move, and to make it again would cost k of them.
        self.hand_over(&transfer, &summaries, &mut round).await?;
        let (differing, tally) = self.compare(&transfer, summaries, &mut round).await;
        self.mend(&transfer, differing, tally, &mut round).await;
        round.failures = transfer.failures();
        Ok(round)
    }

    /// Looks at all groups of the node once, tells how they stand, and changes nothing.
    ///
    /// # Errors
    /// [`ItemsError`] when the node's own items can't be read.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn look(&mut self) -> Result<(), ItemsError> {
        let transfer = self.transfer().await;
        if transfer.topology().is_isolated() {
            self.tell(Seen::CutOff);
            return Ok(());
        }
        let summaries = self.summaries().await?;
        let (differing, tally) = self.compare(&transfer, summaries, &mut Round::default()).await;
        let (seen, _) = self.find_short(&transfer, differing, tally).await;
        self.tell(seen);
        Ok(())
    }

    async fn transfer(&self) -> Transfer {
        Transfer::start(self.world.clone(), self.settings.transfer, Arc::clone(&self.observer)).await
    }

    async fn summaries(&self) -> Result<Vec<Summary>, ItemsError> {
        self.items.summarise(PlacementGroup::all().collect()).await
    }

    fn tell(&self, seen: Seen) {
        if let Some(watch) = &self.watch {
            watch.seen(seen);
        }
    }

    /// Whether something has been short for long enough, once it has been noted that it is.
    fn has_settled(&mut self, subject: Subject) -> bool {
        let now = self.world.clock.elapsed();
        let since = *self.short_since.entry(subject).or_insert(now);
        now.saturating_sub(since) >= self.settings.settle
    }

    /// Notes that nothing can be done about what is short for a while.
    fn postpone(&mut self, subject: Subject) {
        let later = self.world.clock.elapsed() + self.settings.settle * POSTPONED_SETTLES;
        self.short_since.insert(subject, later);
    }

    /// Forgets what is short no more.
    fn keep_notes_of(&mut self, short: &BTreeSet<Subject>) {
        self.short_since.retain(|subject, _| short.contains(subject));
    }
}
