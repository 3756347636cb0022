//! What a node knows of how it and the groups that it leads stand, for whoever asks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datamesh_core::health::{Alert, Led, Level, NodeHealth, Standing};
use datamesh_core::id::NodeId;
use datamesh_core::limits::HEALTH_STAND_INS_MAX;
use datamesh_engine::keep::{Round, Seen, Watch};
use datamesh_engine::standing::outline;
use datamesh_engine::world::Clock;

use crate::metrics::{Samples, Source, Value, definition as metric};

/// Rounds of repair that are remembered.
const ROUNDS_MAX: usize = 256;

/// What is known by now.
pub struct Outlook {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seen: Option<(Duration, Seen)>,
    /// When a round ended that repaired something: how many repairs failed in it, and how many there were.
    rounds: VecDeque<(Duration, u64, u64)>,
    write_us: Option<u64>,
    alerts: Vec<Alert>,
    alerts_left_out: u64,
}

impl Outlook {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// What the last look at the node's groups found, and when.
    #[must_use]
    pub fn seen(&self) -> Option<(Duration, Seen)> {
        self.lock().seen.clone()
    }

    /// Takes note of what came of repairs.
    pub fn note_round(&self, round: &Round) {
        let failed = round.failed + round.unplaced;
        let tried = failed + round.repaired;
        if tried == 0 {
            return;
        }
        let now = self.clock.elapsed();
        let mut state = self.lock();
        state.rounds.push_back((now, failed, tried));
        if state.rounds.len() > ROUNDS_MAX {
            state.rounds.pop_front();
        }
    }

    /// How many repairs failed within some time, and how many there were.
    #[must_use]
    pub fn repairs(&self, now: Duration, lately: Duration) -> (u64, u64) {
        let state = self.lock();
        let rounds = state.rounds.iter().filter(|(at, ..)| now.saturating_sub(*at) <= lately);
        rounds.fold((0, 0), |(failed, tried), (_, more, all)| (failed + more, tried + all))
    }

    /// Takes note of how long an item took lately to be written, microseconds.
    pub fn set_write_us(&self, write_us: Option<u64>) {
        self.lock().write_us = write_us;
    }

    /// Takes note of the alerts that are on.
    pub fn set_alerts(&self, alerts: Vec<Alert>, left_out: u64) {
        let mut state = self.lock();
        (state.alerts, state.alerts_left_out) = (alerts, left_out);
    }

    /// All of it, as the node says it to others.
    #[must_use]
    pub fn health(&self, node: NodeId) -> NodeHealth {
        let state = self.lock();
        let led = state.seen.as_ref().and_then(|(at, seen)| {
            let Seen::Groups { first, stand_ins } = seen else { return None };
            let mut first = first.clone();
            first.shorten();
            let short = |(of, standing): (&NodeId, &Standing)| {
                let mut standing = standing.clone();
                standing.shorten();
                (*of, standing)
            };
            let stand_ins = stand_ins.iter().take(HEALTH_STAND_INS_MAX).map(short).collect();
            Some(Led { age_s: self.clock.elapsed().saturating_sub(*at).as_secs(), first, stand_ins })
        });
        NodeHealth {
            node,
            now: self.clock.now(),
            led,
            write_us: state.write_us,
            alerts: state.alerts.clone(),
            alerts_left_out: state.alerts_left_out,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Outlook {
    fn seen(&self, seen: Seen) {
        let now = self.clock.elapsed();
        self.lock().seen = Some((now, seen));
    }
}

impl Source for Outlook {
    fn collect(&self, samples: &mut Samples) {
        let state = self.lock();
        if let Some((_, Seen::Groups { first, stand_ins })) = &state.seen {
            let mut all = first.clone();
            stand_ins.values().for_each(|standing| all.merge(standing));
            let outline = outline(&all);
            samples.put(&metric::STANDING_GROUPS, &[], Value::Integer(all.group_count));
            samples.put(&metric::STANDING_SUBJECTS, &["lost"], Value::Integer(outline.lost));
            for (spare, number) in outline.by_spare {
                samples.put(&metric::STANDING_SUBJECTS, &[&spare.to_string()], Value::Integer(number));
            }
            samples.put(&metric::STANDING_DOUBTFUL, &[], Value::Integer(all.doubtful()));
            samples.put(&metric::STANDING_LEAST_SCORE, &[], Value::Real(outline.least_score));
        }
        for level in [Level::Warning, Level::Critical, Level::Lost] {
            let number = state.alerts.iter().filter(|alert| alert.level == level).count();
            let number = u64::try_from(number).unwrap_or(u64::MAX);
            samples.put(&metric::ALERTS, &[&level.text().to_lowercase()], Value::Integer(number));
        }
    }
}
