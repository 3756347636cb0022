//! `peers` and `health`: the nodes of the mesh, and how it is.

use std::time::Duration;

use datamesh_core::scheme::Redundancy;
use datamesh_engine::survey::{Surveyed, survey};
use serde::Serialize;

use crate::command::CommandError;
use crate::command::client::Session;
use crate::context::Context;
use crate::ui::{Column, Fields, Table, Ui, bytes, duration};

/// How long a node may take to say how it is.
const STATUS_DEADLINE: Duration = Duration::from_secs(5);

/// What is shown of a node.
#[derive(Debug, Serialize)]
struct PeerView {
    peer_id: String,
    domain: String,
    role: datamesh_core::topology::Role,
    state: datamesh_core::topology::NodeState,
    reachable: bool,
    capacity: u64,
    used: Option<u64>,
    item_count: Option<u64>,
    full: Option<bool>,
    software: String,
    latency_s: Option<f64>,
    addresses: Vec<String>,
    error: Option<String>,
}

impl PeerView {
    fn new(surveyed: &Surveyed) -> Self {
        let Surveyed { record, status, waited } = surveyed;
        let said = status.as_ref().ok();
        Self {
            peer_id: record.node.to_string(),
            domain: record.domain.to_string(),
            role: record.role,
            state: record.state,
            reachable: said.is_some(),
            capacity: record.capacity,
            used: said.map(|status| status.used),
            item_count: said.map(|status| status.item_count),
            full: said.map(|status| status.full),
            software: record.software.clone(),
            latency_s: said.map(|_| waited.as_secs_f64()),
            addresses: record.addresses.clone(),
            error: status.as_ref().err().map(ToString::to_string),
        }
    }
}

async fn ask_all(context: &Context) -> Result<(Vec<Surveyed>, usize), CommandError> {
    let session = Session::open(context, Vec::new()).await?;
    let surveyed = survey(&session.client.world, STATUS_DEADLINE).await;
    let domain_count = session.client.world.peers.topology().domain_count();
    session.client.close().await;
    Ok((surveyed, domain_count))
}

pub(super) async fn run(context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let (surveyed, _) = ask_all(context).await?;
    let columns = [
        Column::left("PEER ID"),
        Column::left("DOMAIN"),
        Column::right("USED"),
        Column::right("OF"),
        Column::right("ITEMS"),
        Column::left("ANSWERS"),
    ];
    let mut table = Table::new(columns);
    let views: Vec<PeerView> = surveyed.iter().map(PeerView::new).collect();
    for (view, surveyed) in views.iter().zip(&surveyed) {
        let answers =
            if view.reachable { format!("in {}", duration(surveyed.waited)) } else { "no".to_owned() };
        let unknown = || "?".to_owned();
        table.row([
            view.peer_id.clone(),
            view.domain.clone(),
            view.used.map_or_else(unknown, bytes),
            bytes(view.capacity),
            view.item_count.map_or_else(unknown, |count| count.to_string()),
            answers,
        ]);
    }
    ui.results(table, &views)
}

/// What is shown of the mesh.
#[derive(Debug, Serialize)]
struct HealthView {
    nodes_known: usize,
    nodes_reachable: usize,
    nodes_full: usize,
    failure_domains: usize,
    scheme: Option<String>,
    capacity: u64,
    used: u64,
    alerts: Vec<Alert>,
}

/// Something that somebody should look at.
#[derive(Debug, Serialize)]
struct Alert {
    level: &'static str,
    message: String,
}

pub(super) async fn health(context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let (surveyed, failure_domains) = ask_all(context).await?;
    let reachable: Vec<_> = surveyed.iter().filter_map(|node| node.status.as_ref().ok()).collect();
    let scheme = Redundancy::largest_for(failure_domains);
    let view = HealthView {
        nodes_known: surveyed.len(),
        nodes_reachable: reachable.len(),
        nodes_full: reachable.iter().filter(|status| status.full).count(),
        failure_domains,
        scheme: scheme.map(|scheme| scheme.to_string()),
        capacity: reachable.iter().map(|status| status.capacity).sum(),
        used: reachable.iter().map(|status| status.used).sum(),
        alerts: alerts(&surveyed, scheme),
    };
    let mut fields = Fields::new()
        .field("nodes", format!("{} of {} answer", view.nodes_reachable, view.nodes_known))
        .field("failure domains", view.failure_domains)
        .field("scheme of a put", scheme.map_or("none".to_owned(), |scheme| scheme.to_string()))
        .field("used", format!("{} of {}", bytes(view.used), bytes(view.capacity)));
    for alert in &view.alerts {
        fields = fields.field(alert.level, &alert.message);
    }
    ui.result(fields, &view)
}

fn alerts(surveyed: &[Surveyed], scheme: Option<Redundancy>) -> Vec<Alert> {
    let mut alerts = Vec::new();
    if scheme.is_none() {
        let message = "there are fewer than two failure domains: nothing can be put".to_owned();
        alerts.push(Alert { level: "CRITICAL", message });
    }
    let silent = surveyed.iter().filter(|node| node.status.is_err()).count();
    let bearable = scheme.map_or(0, Redundancy::parity_count);
    if silent > bearable {
        let message = format!("{silent} nodes do not answer, more than a put survives ({bearable})");
        alerts.push(Alert { level: "CRITICAL", message });
    }
    for node in surveyed {
        let message = match &node.status {
            Err(failure) => failure.to_string(),
            Ok(status) if status.full => format!("node {} is full", node.record.node),
            Ok(_) => continue,
        };
        alerts.push(Alert { level: "WARNING", message });
    }
    alerts
}
