//! Replays recorded traces: failing nodes are foreseen in time and healthy ones are left alone.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use datamesh_core::health::Sign;
use datamesh_engine::forecast::{Baseline, Forecaster, Look, median};

const BEGIN: &str = "<!-- forecast: begin -->\n";
const END: &str = "<!-- forecast: end -->";
/// What the table of what is spared supposes: a look each minute, a node that holds what it offers unless set otherwise, the
/// rate that repair has unless set otherwise, and 4 shards read for each that is made again.
const LOOK_S: f64 = 60.0;
const NODE_BYTES: f64 = 100e9;
const RATE: f64 = 32.0 * 1_048_576.0;
const DATA_SHARDS: f64 = 4.0;

/// How one node was in one tick.
#[derive(Debug, Clone, Copy)]
struct Row {
    look: Look,
}

/// One node that is worse and worse.
#[derive(Debug, Clone, Copy)]
struct Failing {
    node: usize,
    from: usize,
    failed: usize,
}

/// What was recorded of a mesh.
struct Trace {
    name: String,
    failing: Option<Failing>,
    ticks: Vec<BTreeMap<usize, Row>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces")
}

fn traces() -> Vec<Trace> {
    let entries = fs::read_dir(folder()).expect("traces are there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| read(&fs::read_to_string(path).expect("readable"))).collect()
}

fn read(text: &str) -> Trace {
    let mut trace = Trace { name: String::new(), failing: None, ticks: Vec::new() };
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# datamesh trace 1: ") {
            trace.name = name.to_owned();
        } else if let Some(failing) = line.strip_prefix("# failing ") {
            let numbers: Vec<usize> = failing.split(' ').filter_map(|word| word.parse().ok()).collect();
            let [node, from, failed] = numbers[..] else { panic!("{line}") };
            trace.failing = Some(Failing { node, from, failed });
        } else if !line.starts_with('#') {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |place: usize| words[place].parse::<u32>().ok();
            let whole = |place: usize| usize::try_from(number(place).expect("a number")).expect("small");
            let (tick, node) = (whole(0), whole(1));
            trace.ticks.resize_with(trace.ticks.len().max(tick + 1), BTreeMap::new);
            let look = match (number(2), number(3), number(4), number(5), number(6)) {
                (Some(rotten), Some(errors), Some(writes), Some(micros), Some(latency)) => Look {
                    rotten: rotten.into(),
                    errors: errors.into(),
                    write: (writes > 0).then(|| f64::from(micros) / f64::from(writes) / 1e6),
                    latency: Some(f64::from(latency) / 1e6),
                    absences: 0,
                },
                _ => Look { absences: 1, ..Look::default() },
            };
            trace.ticks[tick].insert(node, Row { look });
        }
    }
    trace
}

/// When each node was first suspected, and of what, as production follows nodes: each follows its own disk beside the writes of
/// others, and others follow its answers.
fn suspected(trace: &Trace) -> BTreeMap<usize, (usize, Sign)> {
    let mut own: BTreeMap<usize, Forecaster> = BTreeMap::new();
    let mut others: BTreeMap<usize, Forecaster> = BTreeMap::new();
    let mut first = BTreeMap::new();
    for (tick, rows) in trace.ticks.iter().enumerate() {
        for (node, Row { look }) in rows {
            let beside = |of: fn(&Look) -> Option<f64>| {
                let rest = rows.iter().filter(|(other, _)| *other != node);
                median(rest.filter_map(|(_, row)| of(&row.look)).collect())
            };
            let inside = Look { latency: None, absences: 0, ..*look };
            let baseline = Baseline { write: beside(|look| look.write), latency: None };
            own.entry(*node).or_default().note(&inside, &baseline);
            let outside = Look { latency: look.latency, absences: look.absences, ..Look::default() };
            let baseline = Baseline { latency: beside(|look| look.latency), write: None };
            others.entry(*node).or_default().note(&outside, &baseline);
            let sign = own[node].signs().chain(others[node].signs()).next();
            if let Some(sign) = sign {
                first.entry(*node).or_insert((tick, sign));
            }
        }
    }
    first
}

/// What came of one trace.
struct Outcome {
    trace: String,
    /// Looks at nodes that had nothing.
    healthy_looks: usize,
    false_alarms: usize,
    failing: Option<(Failing, Option<(usize, Sign)>)>,
}

impl Outcome {
    fn of(trace: &Trace) -> Self {
        let suspected = suspected(trace);
        let is_false = |node: usize, tick: usize| {
            trace.failing.is_none_or(|failing| failing.node != node || tick < failing.from)
        };
        let looks = trace.ticks.iter().enumerate();
        let looks = looks.flat_map(|(tick, rows)| rows.keys().map(move |node| (*node, tick)));
        Self {
            trace: trace.name.clone(),
            healthy_looks: looks.filter(|(node, tick)| is_false(*node, *tick)).count(),
            false_alarms: suspected.iter().filter(|(node, (tick, _))| is_false(**node, *tick)).count(),
            failing: trace.failing.map(|failing| (failing, suspected.get(&failing.node).copied())),
        }
    }

    /// Looks from the first sign to the end.
    fn lead(&self) -> Option<usize> {
        let (failing, seen) = self.failing?;
        Some(failing.failed - seen?.0)
    }
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/health.md")
}

fn tables(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| trace | looks at healthy nodes | false alarms | failing from look | first sign | at look | failed at look | looks ahead |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let Outcome { trace, healthy_looks, false_alarms, failing } = outcome;
        write!(text, "| `{trace}` | {healthy_looks} | {false_alarms} | ").expect("text");
        match failing {
            None => text.push_str("| | | | |\n"),
            Some((failing, None)) => {
                writeln!(text, "{} | none | | {} | 0 |", failing.from, failing.failed).expect("text");
            }
            Some((failing, Some((tick, sign)))) => {
                let ahead = failing.failed - tick;
                writeln!(text, "{} | {sign} | {tick} | {} | {ahead} |", failing.from, failing.failed)
                    .expect("text");
            }
        }
    }
    text.push_str(
        "\n| trace | minutes ahead | moved before it fails | short of a part when it fails: drained | not drained | bytes moved in all: drained | not drained |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes.iter().filter(|outcome| outcome.drains()) {
        let lead = outcome.lead().expect("it drains");
        let seconds = f64::from(u32::try_from(lead).expect("few")) * LOOK_S;
        let moved = (seconds * RATE / NODE_BYTES).min(1.0);
        let all = moved * NODE_BYTES + (1.0 - moved) * NODE_BYTES * DATA_SHARDS;
        writeln!(
            text,
            "| `{}` | {:.0} | {:.0} % | {:.0} % of its stripes | 100 % | {:.0} GB | {:.0} GB |",
            outcome.trace,
            seconds / 60.0,
            moved * 100.0,
            (1.0 - moved) * 100.0,
            all / 1e9,
            NODE_BYTES * DATA_SHARDS / 1e9,
        )
        .expect("text");
    }
    text
}

impl Outcome {
    /// Whether the node would have drained itself: what others see of it is only told.
    fn drains(&self) -> bool {
        let sign = self.failing.and_then(|(_, seen)| Some(seen?.1));
        matches!(sign, Some(Sign::Rot | Sign::Errors | Sign::SlowWrites))
    }
}

#[test]
fn failing_nodes_are_foreseen_and_healthy_ones_left_alone() {
    let outcomes: Vec<Outcome> = traces().iter().map(Outcome::of).collect();
    assert_eq!(outcomes.len(), 5, "every trace is there");
    let tables = tables(&outcomes);
    println!("{tables}");
    let text = fs::read_to_string(page()).expect("the page is there");
    let (begin, end) = (text.find(BEGIN).expect("a begin") + BEGIN.len(), text.find(END).expect("an end"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let page_text = format!("{}{tables}{}", &text[..begin], &text[end..]);
        fs::write(page(), page_text).expect("the page can be written");
    } else {
        let command = "UPDATE_DOCS=1 cargo test -p datamesh-engine --test forecast";
        assert_eq!(
            text[begin..end],
            tables,
            "docs/health.md says something else; look at it and run {command}"
        );
    }
    for outcome in &outcomes {
        assert_eq!(outcome.false_alarms, 0, "{}", outcome.trace);
        if outcome.failing.is_some() {
            assert!(outcome.lead().is_some_and(|lead| lead >= 10), "{}: {:?}", outcome.trace, outcome.lead());
        }
    }
}

#[test]
fn what_is_foreseen_is_in_the_traces_and_not_in_their_length() {
    for trace in traces() {
        let Some(failing) = trace.failing else { continue };
        // The same trace, cut off where the node begins to fail.
        let before = Trace { ticks: trace.ticks[..failing.from].to_vec(), ..trace };
        assert_eq!(suspected(&before), BTreeMap::new(), "{}", before.name);
    }
}
