//! Health: how stripes and blocks stand and what somebody should look at, as nodes tell it.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::limits::{HEALTH_ALERTS_MAX, HEALTH_STAND_INS_MAX, STANDING_COUNTS_MAX};
use crate::scheme::Redundancy;
use crate::time::Timestamp;

/// How many stripes and blocks of one redundancy have how many parts at nodes that answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Of what redundancy.
    pub redundancy: Redundancy,
    /// At place v: those of which v parts answer, from none to all.
    pub by_healthy: Vec<u64>,
    /// Of those that are not whole: those whose other parts may be at nodes that are silent.
    pub doubtful: u64,
}

/// How the stripes and blocks of some placement groups stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Groups that were looked at.
    pub group_count: u64,
    /// One count for each redundancy, in order.
    pub counts: Vec<Count>,
    /// Stripes and blocks of further redundancies than are counted apart.
    pub left_out: u64,
}

impl Standing {
    /// Counts some subjects of a redundancy in, each of which has so many parts at nodes that answer; `doubtful` of them
    /// may have more at nodes that are silent.
    pub fn add(&mut self, redundancy: Redundancy, healthy_count: usize, subject_count: u64, doubtful: u64) {
        if subject_count == 0 {
            return;
        }
        let count = self.count_mut(redundancy);
        let place = healthy_count.min(redundancy.shard_count());
        count.by_healthy[place] = count.by_healthy[place].saturating_add(subject_count);
        count.doubtful = count.doubtful.saturating_add(doubtful);
    }

    /// Adds another standing, of other groups.
    pub fn merge(&mut self, other: &Self) {
        self.group_count = self.group_count.saturating_add(other.group_count);
        self.left_out = self.left_out.saturating_add(other.left_out);
        for Count { redundancy, by_healthy, doubtful } in &other.counts {
            let own = self.count_mut(*redundancy);
            for (sum, more) in own.by_healthy.iter_mut().zip(by_healthy) {
                *sum = sum.saturating_add(*more);
            }
            own.doubtful = own.doubtful.saturating_add(*doubtful);
        }
    }

    /// The numbers of subjects by redundancy and healthy parts, those of which there are any.
    pub fn subjects(&self) -> impl Iterator<Item = (Redundancy, usize, u64)> {
        self.counts.iter().flat_map(|count| {
            let numbered = count.by_healthy.iter().enumerate();
            numbered
                .filter(|(_, number)| **number > 0)
                .map(|(place, number)| (count.redundancy, place, *number))
        })
    }

    /// Stripes and blocks whose missing parts may be at nodes that are silent.
    #[must_use]
    pub fn doubtful(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(count.doubtful))
    }

    /// Whether every list has the length that it must have and no redundancy stands there twice.
    #[must_use]
    pub fn bounded(&self) -> bool {
        let whole = |count: &Count| count.by_healthy.len() == count.redundancy.shard_count() + 1;
        self.counts.len() <= STANDING_COUNTS_MAX
            && self.counts.iter().all(whole)
            && self.counts.windows(2).all(|pair| pair[0].redundancy < pair[1].redundancy)
    }

    /// Leaves out the counts of the fewest subjects where there are more than [`STANDING_COUNTS_MAX`].
    pub fn shorten(&mut self) {
        if self.counts.len() > STANDING_COUNTS_MAX {
            let subjects =
                |count: &Count| count.by_healthy.iter().fold(0_u64, |sum, more| sum.saturating_add(*more));
            self.counts.sort_by_key(|count| (core::cmp::Reverse(subjects(count)), count.redundancy));
            let left_out = self.counts.drain(STANDING_COUNTS_MAX..).map(|count| subjects(&count));
            self.left_out = left_out.fold(self.left_out, u64::saturating_add);
            self.counts.sort_by_key(|count| count.redundancy);
        }
    }

    fn count_mut(&mut self, redundancy: Redundancy) -> &mut Count {
        let at = self.counts.partition_point(|count| count.redundancy < redundancy);
        if self.counts.get(at).is_none_or(|count| count.redundancy != redundancy) {
            let by_healthy = vec![0; redundancy.shard_count() + 1];
            self.counts.insert(at, Count { redundancy, by_healthy, doubtful: 0 });
        }
        &mut self.counts[at]
    }
}

/// What a node found when it last looked at the groups that it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Led {
    /// Seconds since.
    pub age_s: u64,
    /// The groups whose first holder it is.
    pub first: Standing,
    /// The groups that it led in the stead of a first holder that was silent, by that holder.
    pub stand_ins: Vec<(NodeId, Standing)>,
}

/// What a node says of its own health and of what it looks after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// Who says it.
    pub node: NodeId,
    /// What its clock says.
    pub now: Timestamp,
    /// What it found in its groups; `None` while it has not looked, seems to be cut off, or leads none.
    pub led: Option<Led>,
    /// Microseconds that an item took lately to be written and synced, on average; `None` where none was.
    pub write_us: Option<u64>,
    /// What somebody should look at, the worst first.
    pub alerts: Vec<Alert>,
    /// Alerts that found no place among them.
    pub alerts_left_out: u64,
}

impl NodeHealth {
    /// Whether every list is within its bound.
    #[must_use]
    pub fn bounded(&self) -> bool {
        let led = self.led.as_ref().is_none_or(|led| {
            let stand_ins = led.stand_ins.iter().map(|(_, standing)| standing);
            led.stand_ins.len() <= HEALTH_STAND_INS_MAX
                && stand_ins.chain([&led.first]).all(Standing::bounded)
        });
        led && self.alerts.len() <= HEALTH_ALERTS_MAX
    }
}

/// How bad it is. The greater, the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Somebody should look at it some day.
    Warning,
    /// Somebody should look at it now.
    Critical,
    /// Something can't be read as it stands.
    Lost,
}

impl Level {
    /// How it is shown.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Lost => "LOST",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.text())
    }
}

/// What grows on a node that is about to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    /// Items that have rotted.
    Rot,
    /// Reads, writes and syncs that the disk refused.
    Errors,
    /// How long items take to be written and synced.
    SlowWrites,
    /// How long it takes to answer.
    Latency,
    /// How often it does not answer.
    Absences,
}

impl fmt::Display for Sign {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Rot => "rotten items",
            Self::Errors => "disk errors",
            Self::SlowWrites => "slow writes",
            Self::Latency => "slow answers",
            Self::Absences => "absences",
        })
    }
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Stripes or blocks lack parts.
    Availability {
        /// Those with a score below 0.8 that can lose more.
        short: u64,
        /// Those that can lose none.
        endangered: u64,
        /// Those that can't be read.
        lost: u64,
        /// Of all these, those whose other parts may be at nodes that are silent.
        doubtful: u64,
    },
    /// Too many repairs come to nothing.
    RepairsFail {
        /// Those that did.
        failed: u64,
        /// All of the last while.
        tried: u64,
    },
    /// The node takes no more items.
    DiskFull,
    /// Items on the node's disk have rotted.
    Rot {
        /// How many in the last while.
        item_count: u64,
    },
    /// The node's disk refuses to read, write or sync.
    DiskErrors {
        /// How often in the last while.
        error_count: u64,
    },
    /// Every other node seems to be absent.
    CutOff,
    /// The node's clock is not that of the others.
    ClockSkew {
        /// By how much it is ahead of most others, milliseconds; less than 0 where it is behind.
        ahead_ms: i64,
    },
    /// Another node does not answer.
    Silent {
        /// Which.
        node: NodeId,
    },
    /// A node, this one or another, is about to fail.
    Failing {
        /// Which.
        node: NodeId,
        /// What grows.
        sign: Sign,
    },
}

impl Cause {
    /// What the causes of one trouble have in common, however it develops: the same from every node that sees it.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Availability { .. } => "availability".to_owned(),
            Self::RepairsFail { .. } => "repairs-fail".to_owned(),
            Self::DiskFull => "disk-full".to_owned(),
            Self::Rot { .. } => "rot".to_owned(),
            Self::DiskErrors { .. } => "disk-errors".to_owned(),
            Self::CutOff => "cut-off".to_owned(),
            Self::ClockSkew { .. } => "clock-skew".to_owned(),
            Self::Silent { node } => format!("silent {node}"),
            Self::Failing { node, sign } => format!("failing {node} {}", sign.to_string().replace(' ', "-")),
        }
    }
}

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// How bad it is.
    pub level: Level,
    /// What is wrong.
    pub cause: Cause,
    /// Since when it has been told.
    pub since: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::Standing;

    #[test]
    fn standings_of_different_groups_add_up() {
        let (wide, narrow) = ("4+2".parse().expect("a redundancy"), "1+2".parse().expect("a redundancy"));
        let (mut one, mut other) = (Standing::default(), Standing::default());
        one.add(wide, 6, 10, 0);
        one.add(narrow, 1, 2, 2);
        one.group_count = 5;
        other.add(wide, 9, 1, 0);
        other.add(wide, 4, 3, 1);
        other.group_count = 7;
        one.merge(&other);
        assert_eq!(one.group_count, 12);
        assert_eq!(one.doubtful(), 3);
        let subjects: Vec<_> = one.subjects().map(|(_, healthy, number)| (healthy, number)).collect();
        assert_eq!(subjects, [(1, 2), (4, 3), (6, 11)], "no more than all parts count");
        assert!(one.bounded());
        one.counts[0].by_healthy.pop();
        assert!(!one.bounded());
    }
}
