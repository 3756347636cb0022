//! Looks again and again at what may be wrong with a node and its mesh, and tells it.

mod neighbours;
mod window;

use std::sync::Arc;
use std::time::Duration;

use datamesh_core::health::{Cause, Level, Sign};
use datamesh_core::id::NodeId;
use datamesh_core::topology::{NodeState, Topology};
use datamesh_engine::alert::{AlertSettings, Board, Change, Condition, News, message};
use datamesh_engine::forecast::{Forecaster, Look};
use datamesh_engine::keep::Seen;
use datamesh_engine::standing::{availability, outline};
use datamesh_engine::world::{Items, World};

use self::neighbours::Neighbourhood;
use self::window::Window;
use crate::maintain::Leaving;
use crate::outlook::Outlook;
use crate::tell::Teller;
use crate::vitals::{Vitals, VitalsView};

/// The shortest pause between two looks.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// How long what was found on the disk counts as found lately.
const LATELY: Duration = Duration::from_secs(60 * 60);
/// The share of repairs that may fail.
const FAILURE_PERCENT_MAX: u64 = 10;
/// Repairs of which a share says something.
const REPAIRS_MIN: u64 = 10;
/// How far a clock may be from most others, milliseconds.
const SKEW_WARNING_MS: u64 = 30_000;
/// The same where nodes are about to refuse what it signs: half of what they bear.
const SKEW_CRITICAL_MS: u64 = datamesh_core::limits::NODE_RECORD_AHEAD_MS_MAX / 2;

/// What is watched, and who is told.
pub(crate) struct Watching {
    pub(crate) world: World,
    pub(crate) own: NodeId,
    pub(crate) items: Arc<dyn Items>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) outlook: Arc<Outlook>,
    pub(crate) teller: Teller,
    pub(crate) alerts: AlertSettings,
    /// Where the node says that it leaves, if it is to once its own disk fails.
    pub(crate) leaving: Option<Arc<Leaving>>,
    /// How often it is looked.
    pub(crate) pause: Duration,
}

/// What is known from look to look.
struct Known {
    board: Board,
    neighbourhood: Neighbourhood,
    rotten: Window,
    errors: Window,
    forecaster: Forecaster,
    view: VitalsView,
    /// The look at the groups that was judged last.
    judged: Option<Duration>,
    /// The most parts that anything has which this node looks after.
    widest: usize,
    /// Whether it has left by itself since it started: who takes that back is not overruled.
    has_left: bool,
}

impl Watching {
    /// Watches until it is dropped.
    pub(crate) async fn run(self) {
        let mut known = Known {
            board: Board::new(self.alerts),
            neighbourhood: Neighbourhood::new(self.own),
            rotten: Window::new(LATELY),
            errors: Window::new(LATELY),
            forecaster: Forecaster::default(),
            view: VitalsView::default(),
            judged: None,
            widest: 0,
            has_left: false,
        };
        loop {
            self.world.clock.sleep(self.pause.max(PAUSE_MIN)).await;
            self.look(&mut known).await;
        }
    }

    async fn look(&self, known: &mut Known) {
        let cut_off = self.world.peers.topology().is_isolated();
        if !cut_off {
            known.neighbourhood.look(&self.world).await;
        }
        let clock = &self.world.clock;
        let (now, wall) = (clock.elapsed(), clock.now());
        self.note_vitals(known, now);
        let seen = self.outlook.seen();
        let fresh = seen.as_ref().is_some_and(|(at, _)| known.judged != Some(*at));
        known.judged = seen.as_ref().map(|(at, _)| *at);
        let mut conditions = self.of_node(known, now);
        if cut_off {
            conditions.push(Condition { level: Level::Critical, cause: Cause::CutOff });
        } else {
            conditions.extend(known.neighbourhood.conditions());
        }
        let mut judges_groups = false;
        if let Some((_, Seen::Groups { first, stand_ins })) = seen.filter(|_| fresh && !cut_off) {
            judges_groups = true;
            let mut all = first;
            stand_ins.values().for_each(|standing| all.merge(standing));
            known.widest = outline(&all).widest;
            conditions.extend(availability(&all));
        }
        // One look at the groups says no more when it is looked at twice.
        let told = known.board.observe(now, wall, &conditions, |cause| match cause {
            Cause::Availability { .. } => judges_groups,
            Cause::Silent { .. } | Cause::ClockSkew { .. } => !cut_off,
            Cause::Failing { node, .. } => *node == self.own || !cut_off,
            _ => true,
        });
        self.leave_if_failing(known);
        self.outlook.set_alerts(known.board.alerts(), known.board.left_out());
        for news in told {
            log(&news);
            self.teller.tell(&news, self.own, wall);
        }
    }

    /// Takes note of what was noticed of the own disk since the look before.
    fn note_vitals(&self, known: &mut Known, now: Duration) {
        let view = self.vitals.view();
        let writes = view.writes - known.view.writes;
        let micros = view.write_micros - known.view.write_micros;
        let mean_us = micros.checked_div(writes);
        let look = Look {
            rotten: known.rotten.note(now, view.rotten),
            errors: known.errors.note(now, view.errors),
            write: mean_us.map(|micros| Duration::from_micros(micros).as_secs_f64()),
            ..Look::default()
        };
        known.forecaster.note(&look, &known.neighbourhood.baseline());
        known.view = view;
        self.outlook.set_write_us(mean_us);
    }

    /// Has the node give away what it holds once its disk is about to fail, if it is to and the others can do without it.
    fn leave_if_failing(&self, known: &mut Known) {
        let Some(leaving) = &self.leaving else { return };
        let Some(sign) = known.forecaster.signs().next() else { return };
        let needed = known.widest.max(1);
        if !known.has_left
            && !leaving.is_wished()
            && may_leave(&self.world.peers.topology(), &self.own, needed)
        {
            tracing::error!(%sign, "the node's disk is about to fail: it gives away what it holds");
            leaving.wish();
            known.has_left = true;
        }
    }

    /// What is wrong with this node itself.
    fn of_node(&self, known: &Known, now: Duration) -> Vec<Condition> {
        let warning = |cause| Condition { level: Level::Warning, cause };
        let mut conditions = Vec::new();
        if self.items.usage().full {
            conditions.push(warning(Cause::DiskFull));
        }
        if known.rotten.sum() > 0 {
            conditions.push(warning(Cause::Rot { item_count: known.rotten.sum() }));
        }
        if known.errors.sum() > 0 {
            conditions.push(warning(Cause::DiskErrors { error_count: known.errors.sum() }));
        }
        let (failed, tried) = self.outlook.repairs(now, LATELY);
        if tried >= REPAIRS_MIN && failed * 100 > tried * FAILURE_PERCENT_MAX {
            conditions.push(warning(Cause::RepairsFail { failed, tried }));
        }
        let failing = |sign: Sign| warning(Cause::Failing { node: self.own, sign });
        conditions.extend(known.forecaster.signs().map(failing));
        conditions.extend(known.neighbourhood.ahead_ms().and_then(skew));
        conditions
    }
}

/// Whether a node may leave: nobody else does, and enough hosts are left for stripes of so many parts.
fn may_leave(topology: &Topology, own: &NodeId, parts: usize) -> bool {
    let leaving = topology.records().any(|record| record.state == NodeState::Draining && record.node != *own);
    let mut without = topology.clone();
    without.forget(own);
    !leaving && without.domain_count() >= parts
}

/// Whether the own clock is too far from those of others.
fn skew(ahead_ms: i64) -> Option<Condition> {
    let level = match ahead_ms.unsigned_abs() {
        SKEW_CRITICAL_MS.. => Level::Critical,
        SKEW_WARNING_MS.. => Level::Warning,
        _ => return None,
    };
    Some(Condition { level, cause: Cause::ClockSkew { ahead_ms } })
}

fn log(news: &News) {
    let (change, level) = (news.change, news.alert.level);
    let text = message(level, &news.alert.cause);
    match (change, level) {
        (Change::Cleared | Change::Better, _) => tracing::info!(?change, %level, "{text}"),
        (_, Level::Warning) => tracing::warn!(?change, %level, "{text}"),
        _ => tracing::error!(?change, %level, "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use datamesh_core::health::Level;

    use super::skew;

    #[test]
    fn a_clock_is_judged_in_both_directions() {
        let level = |ahead_ms| skew(ahead_ms).map(|condition| condition.level);
        assert_eq!(level(29_999), None);
        assert_eq!(level(-30_000), Some(Level::Warning));
        assert_eq!(level(300_000), Some(Level::Critical));
    }
}
