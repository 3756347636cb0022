//! The part of the page that the record makes: how many requests of each corpus were answered how.

use core::fmt::Write;

use super::corpora::ALL;
use super::gateway::{HEALTH_MAX, MEMORY_MAX};
use super::oracle::MEANT;
use super::record::{Counts, Record};

const MIB: u64 = 1 << 20;

/// The record's section of the page.
pub(super) fn section(record: &Record) -> String {
    let Record { session, seed, corpora, described, memory_peak, slowest_health_ms } = record;
    let all = corpora.values().fold(Counts::default(), |sum, counts| sum.and(*counts));
    let mut text = format!(
        "Run on {}, commit {}, seed {seed}. {} requests over raw sockets, by keys that own one bucket, may read one bucket, and may do \
         nothing, by nobody, and by the canary's key with its signature spoiled:\n\n{}",
        session.date,
        session.commit,
        all.cases,
        table(record)
    );
    text.push_str("\nAnswers of a server's fault that are meant, and no others:\n\n");
    for (status, told, why) in MEANT {
        writeln!(text, "- {status} with `{told}`: {why}").expect("a string takes any text");
    }
    if !described.is_empty() {
        text.push_str("\nRequests made by schemathesis from the description in OpenAPI:\n\n| by | requests | operations |\n|---|---|---|\n");
        for run in described {
            writeln!(text, "| {} | {} | {} |", run.who, run.requests, run.operations)
                .expect("a string takes any text");
        }
    }
    write!(
        text,
        "\nThe gateway had {} MiB resident at most, of {} that it may have, and `/healthz` took {slowest_health_ms} ms at worst, of {} \
         that it may take.\n",
        memory_peak / MIB,
        MEMORY_MAX / MIB,
        HEALTH_MAX.as_millis()
    )
    .expect("a string takes any text");
    text
}

/// The counts of each corpus, and of all.
pub(super) fn table(record: &Record) -> String {
    let mut text =
        "| corpus | made of | requests | 2xx | 3xx | 4xx | 5xx that are meant | no answer |\n|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    let mut sum = Counts::default();
    for corpus in &ALL {
        let counts = record.corpora.get(corpus.name).copied().unwrap_or_default();
        sum = sum.and(counts);
        row(&mut text, corpus.name, corpus.about, counts);
    }
    row(&mut text, "all", "", sum);
    text
}

fn row(text: &mut String, name: &str, about: &str, counts: Counts) {
    let Counts { cases, successes, redirections, refusals, meant_faults, silences } = counts;
    writeln!(
        text,
        "| {name} | {about} | {cases} | {successes} | {redirections} | {refusals} | {meant_faults} | {silences} |"
    )
    .expect("a string takes any text");
}
