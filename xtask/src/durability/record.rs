//! What the simulation found.

use serde::Deserialize;

/// All of it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Record {
    pub(super) seed: u64,
    pub(super) node_count: u64,
    /// Seconds.
    pub(super) detection: f64,
    /// Seconds.
    pub(super) grace: f64,
    /// Bytes per second.
    pub(super) rebuild_rate: f64,
    /// Bytes.
    pub(super) data_per_node: f64,
    /// Runs of splitting, and tries at each level of one.
    pub(super) runs: u64,
    pub(super) tries: u64,
    pub(super) check_nodes: u64,
    pub(super) check_days: f64,
    pub(super) rows: Vec<Row>,
    pub(super) checks: Vec<Check>,
}

/// One scheme at one lifetime; rates are per object and year, shares of objects and time.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Row {
    pub(super) scheme: String,
    pub(super) lifetime_days: f64,
    pub(super) faults: Faults,
    pub(super) years: f64,
    pub(super) method: Method,
    pub(super) losses: Estimate,
    pub(super) model: f64,
    pub(super) mean_repair_hours: f64,
    /// Per node and day.
    pub(super) repair_bytes: f64,
    /// Per node and day.
    pub(super) moved_bytes: f64,
    pub(super) short_share: f64,
    pub(super) warned_share: f64,
    pub(super) spread_share: f64,
    pub(super) object_years: f64,
    pub(super) deaths: u64,
    pub(super) lost: u64,
    pub(super) counted_entries: Vec<f64>,
    pub(super) split_entries: Vec<Estimate>,
}

/// Losses in a small mesh, as three ways know them.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Check {
    pub(super) what: String,
    pub(super) counted: Estimate,
    pub(super) split: Estimate,
    pub(super) model: f64,
}

/// How nodes fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Faults {
    Independent,
    Worldly,
}

/// How losses are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Method {
    Counted,
    Split,
}

/// A mean and its 95 % interval.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Record {
    pub(super) fn of(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("the simulation's output is no record: {error}"))
    }
}

impl Row {
    /// The lifetime as people say it.
    pub(super) fn lifetime(&self) -> String {
        const YEAR_DAYS: f64 = 365.0;
        if self.lifetime_days < YEAR_DAYS {
            format!("{:.0} days", self.lifetime_days)
        } else {
            format!("{:.0} year", self.lifetime_days / YEAR_DAYS)
        }
    }
}

impl Faults {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Independent => "independent",
            Self::Worldly => "as in the world",
        }
    }
}

impl Method {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Split => "splitting",
        }
    }
}

/// Nines of a year's survival at so many losses a year; infinite where there are none.
pub(super) fn nines(losses_a_year: f64) -> f64 {
    -(-(-losses_a_year).exp_m1()).log10()
}

/// Nines with their 95 % interval, as people read them.
pub(super) fn nines_text(losses: Estimate) -> String {
    if losses.mean <= 0.0 {
        return "none seen".to_owned();
    }
    let least = nines(losses.high);
    let most = if losses.low > 0.0 { format!("{:.2}", nines(losses.low)) } else { "…".to_owned() };
    format!("{:.2} ({least:.2} to {most})", nines(losses.mean))
}

#[cfg(test)]
mod tests {
    use super::{Estimate, nines_text};

    #[test]
    fn nines_have_their_interval_the_fewest_first() {
        let text = |mean, low, high| nines_text(Estimate { mean, low, high });
        assert_eq!(text(1e-11, 1e-12, 1e-10), "11.00 (10.00 to 12.00)");
        assert_eq!(text(1e-11, -1e-12, 1e-10), "11.00 (10.00 to …)");
        assert_eq!(text(0.0, 0.0, 0.0), "none seen");
    }
}
