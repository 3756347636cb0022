//! The gateway's own metrics, as Prometheus and as programs read them.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::Face;
use crate::http::samples::{Sample, escape, samples};

/// What OpenMetrics text is called.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The label that says whose a sample is.
const NODE: &str = "node";

/// What is shown of one number.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SampleView {
    /// Whose it is; empty for the gateway's own.
    node: String,
    metric: String,
    kind: String,
    labels: BTreeMap<String, String>,
    /// `null` for what is no number.
    value: Option<f64>,
}

pub(super) async fn text(State(face): State<Face>) -> impl IntoResponse {
    let text = (face.0.gateway.metrics)();
    let media_type = if text.trim_end().ends_with("# EOF") { OPEN_METRICS } else { PROMETHEUS };
    ([(CONTENT_TYPE, media_type)], text)
}

pub(super) async fn json(State(face): State<Face>) -> Json<Vec<SampleView>> {
    let text = (face.0.gateway.metrics)();
    let view = |sample: Sample<'_>| {
        let labels = sample.labels.into_iter().map(|(name, value)| (name.to_owned(), value));
        let mut labels: BTreeMap<String, String> = labels.collect();
        SampleView {
            node: labels.remove(NODE).unwrap_or_default(),
            metric: sample.metric.to_owned(),
            kind: sample.kind.to_owned(),
            labels,
            value: Some(sample.value).filter(|value| value.is_finite()),
        }
    };
    Json(samples(&text).into_iter().map(view).collect())
}

/// The metrics of all nodes that tell them, each sample with whose it is: for a Prometheus that reaches no node by HTTP.
pub(super) async fn of_nodes(State(face): State<Face>) -> impl IntoResponse {
    let told = face.node_metrics().await;
    let mut families: BTreeMap<&str, (&str, String)> = BTreeMap::new();
    for (node, text) in told.iter() {
        let node = node.to_string();
        for sample in samples(text) {
            let (_, lines) = families.entry(sample.family).or_insert((sample.kind, String::new()));
            lines.push_str(&line(&sample, &node));
        }
    }
    let mut text = String::new();
    for (family, (kind, lines)) in families {
        let kind = if kind == "unknown" { "untyped" } else { kind };
        // In this form of the text a counter's type is told with its suffix.
        let suffix = if kind == "counter" { "_total" } else { "" };
        let _ = writeln!(text, "# TYPE {family}{suffix} {kind}");
        text.push_str(&lines);
    }
    ([(CONTENT_TYPE, PROMETHEUS)], text)
}

fn line(sample: &Sample<'_>, node: &str) -> String {
    let mut labels = format!("{NODE}=\"{}\"", escape(node));
    for (name, value) in sample.labels.iter().filter(|(name, _)| **name != NODE) {
        let _ = write!(labels, ",{name}=\"{}\"", escape(value));
    }
    format!("{}{{{labels}}} {}\n", sample.metric, sample.value)
}
