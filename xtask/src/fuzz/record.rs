//! What was asked and answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::wire::Said;
use crate::bench::Session;

/// All of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// When it was, and of which state of the repository.
    #[serde(flatten)]
    pub(super) session: Session,
    pub(super) seed: u64,
    pub(super) corpora: BTreeMap<String, Counts>,
    /// What schemathesis asked, with a token and without.
    pub(super) described: Vec<Described>,
    /// Of the gateway, bytes.
    pub(super) memory_peak: u64,
    pub(super) slowest_health_ms: u64,
}

/// How the requests of a corpus were answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) cases: u64,
    pub(super) successes: u64,
    pub(super) redirections: u64,
    pub(super) refusals: u64,
    /// Of a server's fault, and meant.
    pub(super) meant_faults: u64,
    /// Broken off by the client, or by the server since it was no request.
    pub(super) silences: u64,
}

/// A run of schemathesis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Described {
    pub(super) who: String,
    pub(super) requests: u64,
    pub(super) operations: u64,
}

impl Record {
    #[cfg(test)]
    pub(super) fn of(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("no record: {error}"))
    }

    /// What is written of it.
    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("text and numbers are JSON") + "\n"
    }
}

impl Counts {
    /// Counts a case by its first answer.
    pub(super) fn count(&mut self, said: &Said) {
        self.cases += 1;
        let place = match said.answers.first().map(|answer| answer.status) {
            Some(200..300) => &mut self.successes,
            Some(300..400) => &mut self.redirections,
            Some(400..500) => &mut self.refusals,
            Some(_) => &mut self.meant_faults,
            None => &mut self.silences,
        };
        *place += 1;
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            cases: self.cases + other.cases,
            successes: self.successes + other.successes,
            redirections: self.redirections + other.redirections,
            refusals: self.refusals + other.refusals,
            meant_faults: self.meant_faults + other.meant_faults,
            silences: self.silences + other.silences,
        }
    }
}
