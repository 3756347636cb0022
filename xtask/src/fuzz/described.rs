//! Requests that schemathesis makes from the description in OpenAPI, with a token and without.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use super::gateway::Gateway;
use super::record::Described;
use super::scene::Keys;
use crate::bench::process::{Running, command, with_log};
use crate::python;
use crate::run::target;

const PACKAGE: &str = "schemathesis==4.32.5";
/// What must hold of every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance";
/// Of what needs a token besides: that it isn't there without.
const MORE_CHECKS: &str = ",unsupported_method,ignored_auth";
/// Requests of each operation that are drawn, beside those that cover its parameters.
const EXAMPLES_MAX: &str = "40";
/// Streams of events have no end that it would wait for; the corpora ask for them.
const NOT_ASKED: &str = "events$";
/// Seconds that a run may take before it is killed, and an answer.
const RUN_MAX: &str = "1800";
const ANSWER_MAX: &str = "20";
/// How bodies are written that it does not know.
const HOOKS: &str = "xtask/src/fuzz/hooks.py";

/// Asks a gateway of its own, since what is described may be done with a token that may do everything.
pub(super) fn ask(root: &Path, program: &Path, folder: &Path, seed: u64) -> Result<Vec<Described>, String> {
    let programs = python::install(&target(root).join("schemathesis"), &[PACKAGE])?;
    let schemathesis = programs.join("schemathesis");
    let home = folder.join("described");
    fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    let keys = Keys::make(program, &home)?;
    let mut gateway = Gateway::start(program, &home, &home)?;
    let mut runs = Vec::new();
    for (who, token) in [("a token that owns every bucket", Some(keys.token())), ("nobody", None)] {
        println!("    schemathesis asks as {who}");
        let report = home.join(if token.is_some() { "with.json" } else { "without.json" });
        let log = report.with_extension("log");
        // Told of a time itself, it goes on until that is over.
        let mut asking = command("timeout");
        asking.args(["--kill-after=10", RUN_MAX]).arg(&schemathesis).args(["--no-color", "run"]);
        asking.arg(format!("http://{}/api/v1/openapi.json", gateway.address));
        let more = if token.is_some() { MORE_CHECKS } else { "" };
        asking.args(["--checks", &format!("{CHECKS}{more}"), "--phases", "coverage,fuzzing", "--no-shrink"]);
        asking.args(["--exclude-path-regex", NOT_ASKED, "--max-examples", EXAMPLES_MAX]);
        asking.args(["--request-timeout", ANSWER_MAX, "--suppress-health-check", "all", "--warnings", "off"]);
        // Several workers trip over each other in the compiler of Python 3.11.
        asking.args(["--continue-on-failure", "--workers", "1", "--seed", &seed.to_string()]);
        asking.args(["--report", "json", "--report-json-path"]).arg(&report);
        if let Some(token) = token {
            asking.args(["--header", &format!("Authorization: {token}")]);
        }
        // It keeps examples that failed below the folder where it is run.
        asking.current_dir(&home).env("SCHEMATHESIS_HOOKS", root.join(HOOKS));
        let create = |path: &Path| File::create(path).map_err(|error| format!("{}: {error}", path.display()));
        let told = create(&log)?;
        let said = told.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
        let running = Running::start(asking.stdout(told).stderr(Stdio::from(said)))?;
        running
            .finish(Instant::now(), || ())
            .map_err(|why| with_log(&format!("schemathesis: {why}"), &log))?;
        runs.push(counted(who, &report)?);
    }
    if let Some(line) = gateway.panic() {
        return Err(format!("the gateway panicked: {line}"));
    }
    gateway.stop()?;
    Ok(runs)
}

/// How many requests a report tells of.
fn counted(who: &str, report: &Path) -> Result<Described, String> {
    let text = fs::read_to_string(report).map_err(|error| format!("{}: {error}", report.display()))?;
    let told: Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", report.display()))?;
    let number = |group: &str, name: &str| {
        told[group][name].as_u64().ok_or_else(|| format!("{} has no {group}.{name}", report.display()))
    };
    let (requests, operations) = (number("test_cases", "generated")?, number("operations", "tested")?);
    if requests == 0 {
        return Err("schemathesis asked nothing".to_owned());
    }
    Ok(Described { who: who.to_owned(), requests, operations })
}
