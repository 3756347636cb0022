//! What the suite says of its tests.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::reasons;

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As it should.
    Passed,
    /// The suite itself leaves it out, or expects no server to pass it.
    LeftOut,
    /// It needs what the gateway answers with 501, or lacks by intent.
    NotThere,
    /// Otherwise, and how.
    Differs(String),
}

/// A test, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its file, short.
    pub(super) area: String,
    /// Its name.
    pub(super) name: String,
    /// How it ended.
    pub(super) outcome: Outcome,
}

/// A line of the suite's report.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "$report_type")]
    kind: String,
    #[serde(default)]
    nodeid: String,
    #[serde(default)]
    when: String,
    #[serde(default)]
    outcome: String,
    #[serde(default)]
    longrepr: serde_json::Value,
}

/// The suite says so where a test passes that it expects to fail, as it does with Ceph.
const PASSED_UNEXPECTEDLY: &str = "[XPASS(strict)]";
/// Characters of what a test says that are shown.
const SHOWN: usize = 160;

/// Every test of a report, once.
pub(super) fn found(report: &str) -> Result<Vec<Found>, String> {
    let mut tests: BTreeMap<(String, String), Outcome> = BTreeMap::new();
    for line in report.lines() {
        let line: Line = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        if line.kind != "TestReport" {
            continue;
        }
        let mut names = line.nodeid.split("::");
        let area = names.next().and_then(|file| file.rsplit('/').next()).unwrap_or_default();
        let area = area.trim_start_matches("test_s3_").trim_end_matches(".py");
        // The files' names end in what the suite's authors keep track of.
        let area = area.trim_end_matches("_v").trim_end_matches("_x").replace('_', " ");
        let name = names.last().unwrap_or_default().to_owned();
        let outcome = outcome(&line, &name);
        let Some(outcome) = outcome else { continue };
        // What goes wrong while a test is made ready or cleared away goes wrong with the test.
        let kept = tests.entry((area, name)).or_insert_with(|| outcome.clone());
        if matches!(outcome, Outcome::Differs(_) | Outcome::NotThere) {
            *kept = outcome;
        }
    }
    Ok(tests.into_iter().map(|((area, name), outcome)| Found { area, name, outcome }).collect())
}

fn outcome(line: &Line, name: &str) -> Option<Outcome> {
    match line.outcome.as_str() {
        "passed" => (line.when == "call").then_some(Outcome::Passed),
        "skipped" => Some(Outcome::LeftOut),
        _ => {
            let said = said(&line.longrepr);
            Some(if said.contains(PASSED_UNEXPECTEDLY) {
                Outcome::Passed
            } else if reasons::is_not_there(name, &said) {
                Outcome::NotThere
            } else {
                Outcome::Differs(said)
            })
        }
    }
}

/// The first line of what a test that failed says.
fn said(longrepr: &serde_json::Value) -> String {
    let text = longrepr.as_str().or_else(|| longrepr["reprcrash"]["message"].as_str()).unwrap_or_default();
    text.lines().next().unwrap_or_default().chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::{Found, Outcome, found};

    fn line(name: &str, when: &str, outcome: &str, said: &str) -> String {
        let longrepr = serde_json::json!({ "reprcrash": { "message": said } });
        let nodeid = format!("x/tests/test_s3_bucket_v.py::TestBucket::{name}");
        serde_json::json!({ "$report_type": "TestReport", "nodeid": nodeid, "when": when, "outcome": outcome,
            "longrepr": longrepr })
        .to_string()
    }

    #[test]
    fn each_test_is_counted_once_by_how_it_ended() {
        let report = [
            r#"{"$report_type": "SessionStart"}"#.to_owned(),
            line("a", "setup", "passed", ""),
            line("a", "call", "passed", ""),
            line("a", "teardown", "failed", "could not clear away\nmore"),
            line("b", "call", "skipped", ""),
            line("c", "call", "failed", "An error occurred (NotImplemented) when calling"),
            line("d", "call", "failed", "[XPASS(strict)] Ceph is wrong"),
            line("e", "call", "failed", "AssertionError: 501 != 400"),
        ];
        let found: Vec<(String, Outcome)> = found(&report.join("\n"))
            .unwrap()
            .into_iter()
            .map(|Found { name, outcome, .. }| (name, outcome))
            .collect();
        let differs = Outcome::Differs("could not clear away".to_owned());
        let expected = [
            ("a", differs),
            ("b", Outcome::LeftOut),
            ("c", Outcome::NotThere),
            ("d", Outcome::Passed),
            ("e", Outcome::NotThere),
        ];
        assert_eq!(found, expected.map(|(name, outcome)| (name.to_owned(), outcome)));
    }

    #[test]
    fn what_is_no_report_is_an_error() {
        assert!(found("not JSON").is_err());
    }
}
