//! `peers`: the nodes of the mesh.

use std::time::Duration;

use datamesh_engine::survey::{Surveyed, survey};
use serde::Serialize;

use crate::command::CommandError;
use crate::command::client::Session;
use crate::context::Context;
use crate::ui::{Column, Table, Ui, bytes, duration};

/// How long a node may take to say how it is.
pub(super) const STATUS_DEADLINE: Duration = Duration::from_secs(5);

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

pub(super) async fn run(context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let session = Session::open(context, Vec::new()).await?;
    let surveyed = survey(&session.client.world, STATUS_DEADLINE).await;
    session.client.close().await;
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
