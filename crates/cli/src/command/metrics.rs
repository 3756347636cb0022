//! `metrics`: what nodes and this client have done, in numbers that other programs read.

use std::collections::BTreeMap;
use std::time::Duration;

use datamesh_core::id::NodeId;
use datamesh_core::wire::Refusal;
use datamesh_engine::survey;
use datamesh_engine::transfer::Failure;
use datamesh_node::metrics::{self, Build, Families, Placing, Samples, Source, Totals, TrafficView, Value};
use serde::Serialize;

use crate::args::MetricsArgs;
use crate::command::CommandError;
use crate::command::client::Session;
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::Ui;

/// How long a node may take to tell its metrics.
const METRICS_DEADLINE: Duration = Duration::from_secs(5);
/// Nodes that are asked at the most where all are meant, so that what they tell fits memory.
const NODES_MAX: usize = 256;
/// The label that says whose a sample is.
const NODE: &str = "node";
/// Its value for what is this client's own.
const CLIENT: &str = "client";

/// What is shown of one number.
#[derive(Debug, Serialize)]
struct SampleView<'a> {
    node: &'a str,
    metric: &'a str,
    kind: &'static str,
    labels: BTreeMap<&'a str, &'a str>,
    value: serde_json::Value,
}

pub(super) async fn run(args: &MetricsArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let session = Session::open(context, Vec::new()).await?;
    let asked = match args.node {
        Some(node) => of_nodes(&session, vec![node]).await,
        None => of_all_nodes(&session, ui).await,
    };
    let traffic = session.client.traffic();
    let placing = Placing::by(&session.client.world.rings);
    session.client.close().await;
    let mut all = Families::default();
    for (node, told) in asked {
        match told {
            Ok(families) => all.merge(families.with_label(NODE, &node.to_string())),
            Err(error) if args.node.is_some() => return Err(error),
            Err(error) => ui.warn(error.message()),
        }
    }
    if args.node.is_none() {
        all.merge(of_client(context, (&*traffic, &placing), ui)?.with_label(NODE, CLIENT));
    }
    ui.results(all.text(), views(&all))
}

/// What each node that is known tells, as far as there are not too many.
pub(super) async fn of_all_nodes(
    session: &Session,
    ui: &Ui,
) -> Vec<(NodeId, Result<Families, CommandError>)> {
    let topology = session.client.world.peers.topology();
    if topology.len() > NODES_MAX {
        ui.warn(format!(
            "{NODES_MAX} of {} nodes are asked; the others can be asked one by one",
            topology.len()
        ));
    }
    of_nodes(session, topology.records().map(|record| record.node).take(NODES_MAX).collect()).await
}

/// What these nodes tell.
async fn of_nodes(session: &Session, nodes: Vec<NodeId>) -> Vec<(NodeId, Result<Families, CommandError>)> {
    let answers = survey::metrics(&session.client.world, nodes, METRICS_DEADLINE).await;
    let told = answers.into_iter().map(|(node, answer)| {
        let told = match answer {
            Ok(bytes) => parse(node, &bytes),
            Err(failure) => Err(CommandError::from_error(exit_of(&failure), failure)),
        };
        (node, told)
    });
    told.collect()
}

fn parse(node: NodeId, bytes: &[u8]) -> Result<Families, CommandError> {
    let malformed = |why: String| CommandError::new(Exit::Failed, format!("node {node}: {why}"));
    let text = str::from_utf8(bytes).map_err(|_| malformed("its metrics are no text".to_owned()))?;
    Families::parse(text).map_err(|error| malformed(error.to_string()))
}

fn exit_of(failure: &Failure) -> Exit {
    match failure {
        Failure::Call(_) => Exit::Unreachable,
        Failure::Refused { refusal: Refusal::Denied, .. } => Exit::Denied,
        _ => Exit::Failed,
    }
}

/// What this client has moved in all its commands, and what its catalog holds.
fn of_client(
    context: &Context,
    (traffic, placing): (&dyn TrafficView, &Placing),
    ui: &Ui,
) -> Result<Families, CommandError> {
    let mut samples = Samples::default();
    Build.collect(&mut samples);
    placing.collect(&mut samples);
    let resolved = context.settings(Vec::new())?;
    let capacity = resolved.settings().cache.capacity.bytes();
    let level = metrics::cache_level(context.home(), capacity);
    totals(context, ui).put(&mut samples, &level, traffic);
    metrics::put_catalog(&mut samples, &context.home().catalog().entries()?);
    Ok(samples.into_families())
}

/// The totals of the home; a warning and none where they can't be read.
pub(super) fn totals(context: &Context, ui: &Ui) -> Totals {
    Totals::load(context.home()).unwrap_or_else(|error| {
        ui.warn(error);
        Totals::default()
    })
}

fn views(families: &Families) -> Vec<SampleView<'_>> {
    let mut views = Vec::new();
    for (metric, family) in families.iter() {
        for sample in &family.samples {
            let labels = sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let mut labels: BTreeMap<&str, &str> = labels.collect();
            let value = match sample.value {
                Value::Integer(number) => number.into(),
                Value::Real(number) => number.into(),
            };
            let node = labels.remove(NODE).unwrap_or_default();
            views.push(SampleView { node, metric, kind: family.kind.text(), labels, value });
        }
    }
    views
}
