//! The record of a run of the suite, from which the page is made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::outcome::{Found, Outcome};
use crate::bench::Session;

/// Its file.
pub(super) const FILE: &str = "conformance.json";

/// What a run found.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// When, and of which state of the repository.
    pub(super) date: String,
    pub(super) commit: String,
    /// The suite, with its version.
    pub(super) suite: String,
    /// By area.
    pub(super) areas: BTreeMap<String, Area>,
}

/// What was found in one area.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Area {
    pub(super) passed: usize,
    pub(super) left_out: usize,
    /// The names of tests of what is not there.
    pub(super) not_there: Vec<String>,
    /// Those that ended otherwise, and what they say.
    pub(super) differs: BTreeMap<String, String>,
}

impl Record {
    /// Of what was found.
    pub(super) fn new(session: Session, suite: &str, found: &[Found]) -> Self {
        let mut areas: BTreeMap<String, Area> = BTreeMap::new();
        for Found { area, name, outcome } in found {
            let area = areas.entry(area.clone()).or_default();
            match outcome {
                Outcome::Passed => area.passed += 1,
                Outcome::LeftOut => area.left_out += 1,
                Outcome::NotThere => area.not_there.push(name.clone()),
                Outcome::Differs(said) => drop(area.differs.insert(name.clone(), said.clone())),
            }
        }
        Self { date: session.date, commit: session.commit, suite: suite.to_owned(), areas }
    }

    /// Reads one.
    #[cfg(test)]
    pub(super) fn of(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// What is written of it.
    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("text and numbers are JSON") + "\n"
    }
}
