//! Alerts: raised when something has been wrong for long enough, told once, and cleared when it has been right for long enough. Pure.

mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use datamesh_core::health::{Alert, Cause, Level};
use datamesh_core::limits::HEALTH_ALERTS_MAX;
use datamesh_core::time::Timestamp;

pub use self::text::{Action, action, advice, message};

/// How long a trouble that is over is remembered, so that one that comes back is told from a new one.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// How often the time until a trouble is taken to be over may double because it came back.
const DOUBLINGS_MAX: u32 = 5;

/// How patient a board is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertSettings {
    /// How long something must be wrong before it is told.
    pub raise_after: Duration,
    /// How long it must be right before it is taken to be over; twice as long each time that it comes back within an hour.
    pub clear_after: Duration,
    /// How often what is still wrong is told again.
    pub remind_every: Duration,
}

/// Something that is wrong now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// How bad it is.
    pub level: Level,
    /// What is wrong.
    pub cause: Cause,
}

/// What has become of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Raised,
    /// It was less bad.
    Worse,
    /// It was worse.
    Better,
    /// It is as bad as when it was last told, and that was long ago.
    StillOn,
    /// It is over; the alert is as it was last.
    Cleared,
}

/// What is to be told of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// What has become of it.
    pub change: Change,
    /// The alert.
    pub alert: Alert,
}

/// All that is wrong on one node, or was lately.
#[derive(Debug)]
pub struct Board {
    settings: AlertSettings,
    troubles: BTreeMap<String, Trouble>,
    left_out: u64,
}

/// One trouble, however it develops.
#[derive(Debug)]
struct Trouble {
    cause: Cause,
    /// One for each level: whether it is at least as bad.
    switches: [Switch; LEVELS.len()],
    /// What was told of it last, and when.
    told: Option<(Alert, Duration)>,
    cleared: Option<Duration>,
    doublings: u32,
}

const LEVELS: [Level; 3] = [Level::Warning, Level::Critical, Level::Lost];

/// Turns on when something has been so for long enough, and off when it has not been so for long enough.
#[derive(Debug, Clone, Copy, Default)]
struct Switch {
    on: bool,
    since: Option<Duration>,
    last: Duration,
}

impl Switch {
    fn note(&mut self, holds: Option<Duration>, now: Duration, raise_after: Duration, clear_after: Duration) {
        match holds {
            Some(at) => {
                let since = *self.since.get_or_insert(at);
                self.last = now;
                self.on |= now.saturating_sub(since) >= raise_after;
            }
            None => {
                self.since = None;
                self.on &= now.saturating_sub(self.last) < clear_after;
            }
        }
    }
}

impl Trouble {
    fn new(cause: Cause) -> Self {
        Self { cause, switches: [Switch::default(); LEVELS.len()], told: None, cleared: None, doublings: 0 }
    }

    fn note(&mut self, condition: Option<&Condition>, now: Duration, settings: &AlertSettings) {
        let clear_after = settings.clear_after * 2_u32.pow(self.doublings);
        for (level, switch) in LEVELS.iter().zip(&mut self.switches) {
            let holds = condition.filter(|condition| condition.level >= *level).map(|_| now);
            switch.note(holds, now, settings.raise_after, clear_after);
        }
        if let Some(condition) = condition {
            self.cause = condition.cause;
        }
    }

    fn level(&self) -> Option<Level> {
        LEVELS.into_iter().zip(&self.switches).filter(|(_, switch)| switch.on).map(|(level, _)| level).max()
    }

    /// What is to be told now, if anything.
    fn news(&mut self, now: Duration, wall: Timestamp, settings: &AlertSettings) -> Option<News> {
        match (self.told.clone(), self.level()) {
            (None, None) => None,
            (None, Some(level)) => {
                if self.cleared.take().is_some() {
                    self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
                }
                Some(self.tell(Change::Raised, Alert { level, cause: self.cause, since: wall }, now))
            }
            (Some((alert, _)), None) => {
                self.told = None;
                self.cleared = Some(now);
                Some(News { change: Change::Cleared, alert })
            }
            (Some((alert, at)), Some(level)) => {
                let current = Alert { level, cause: self.cause, since: alert.since };
                let change = if level > alert.level {
                    Change::Worse
                } else if level < alert.level {
                    Change::Better
                } else if now.saturating_sub(at) >= settings.remind_every {
                    Change::StillOn
                } else {
                    // Its figures change without being told again.
                    self.told = Some((current, at));
                    return None;
                };
                Some(self.tell(change, current, now))
            }
        }
    }

    fn tell(&mut self, change: Change, alert: Alert, now: Duration) -> News {
        self.told = Some((alert.clone(), now));
        News { change, alert }
    }

    /// Whether nothing need be remembered of it any more.
    fn is_past(&self, now: Duration) -> bool {
        let seen = self.switches.iter().any(|switch| switch.since.is_some());
        let remembered = self.cleared.is_some_and(|cleared| now.saturating_sub(cleared) < REMEMBERED);
        self.told.is_none() && !seen && !remembered
    }
}

impl Board {
    /// Nothing is wrong yet.
    #[must_use]
    pub const fn new(settings: AlertSettings) -> Self {
        Self { settings, troubles: BTreeMap::new(), left_out: 0 }
    }

    /// Takes note of all that is wrong at some time, and says what is to be told. Of causes that `known` refuses nothing is
    /// known now: they stay as they are.
    pub fn observe(
        &mut self,
        now: Duration,
        wall: Timestamp,
        conditions: &[Condition],
        known: impl Fn(&Cause) -> bool,
    ) -> Vec<News> {
        let mut worst: BTreeMap<String, &Condition> = BTreeMap::new();
        for condition in conditions {
            let entry = worst.entry(condition.cause.key()).or_insert(condition);
            if condition.level > entry.level {
                *entry = condition;
            }
        }
        self.left_out = 0;
        let mut by_level: Vec<_> = worst.iter().collect();
        by_level.sort_by_key(|(_, condition)| std::cmp::Reverse(condition.level));
        for (key, condition) in by_level {
            if self.troubles.contains_key(key) {
                continue;
            }
            if self.troubles.len() < HEALTH_ALERTS_MAX {
                self.troubles.insert(key.clone(), Trouble::new(condition.cause));
            } else {
                self.left_out += 1;
            }
        }
        let mut news = Vec::new();
        for (key, trouble) in &mut self.troubles {
            let condition = worst.get(key).copied();
            if condition.is_none() && !known(&trouble.cause) {
                continue;
            }
            trouble.note(condition, now, &self.settings);
            news.extend(trouble.news(now, wall, &self.settings));
        }
        self.troubles.retain(|_, trouble| !trouble.is_past(now));
        news.sort_by_key(|news| std::cmp::Reverse(news.alert.level));
        news
    }

    /// The alerts that are on, the worst first.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        let told = self.troubles.values().filter_map(|trouble| trouble.told.as_ref());
        let mut alerts: Vec<Alert> = told.map(|(alert, _)| alert.clone()).collect();
        alerts.sort_by_key(|alert| std::cmp::Reverse(alert.level));
        alerts
    }

    /// Things that are wrong and found no room when it was last looked.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests;
