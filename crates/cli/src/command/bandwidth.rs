//! `bandwidth`: how fast bytes move, what limits them, and what was moved with each node.

use datamesh_core::id::NodeId;
use datamesh_node::metrics::{Definition, Families, PeerView, RateLimits, Totals, definition as metric};
use serde::Serialize;

use crate::command::CommandError;
use crate::command::client::Session;
use crate::command::metrics::{of_all_nodes, totals};
use crate::context::Context;
use crate::ui::{Column, Table, Ui, bytes, percent};

/// What is shown of a node, or of all of them together.
#[derive(Debug, Serialize)]
struct BandwidthView {
    /// `null` for the total.
    peer_id: Option<String>,
    up_bytes_per_second: Option<f64>,
    down_bytes_per_second: Option<f64>,
    up_limit: Option<u64>,
    down_limit: Option<u64>,
    up_utilization: Option<f64>,
    down_utilization: Option<f64>,
    sent: u64,
    received: u64,
    reliability: Option<f64>,
    latency_s: Option<f64>,
}

pub(super) async fn run(context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let session = Session::open(context, Vec::new()).await?;
    let asked = of_all_nodes(&session, ui).await;
    let traffic = session.client.traffic();
    session.client.close().await;
    let totals = totals(context, ui);
    let peers = totals.views(&*traffic);
    let mut views = Vec::new();
    for (node, told) in asked {
        match told {
            Ok(families) => views.push(of_node(node, Some(&families), peers.get(&node))),
            Err(error) => {
                ui.warn(error.message());
                views.push(of_node(node, None, peers.get(&node)));
            }
        }
    }
    views.push(total(&views, &totals, traffic.limits()));
    ui.results(table(&views), &views)
}

/// The rates are the node's own, with everyone; what was moved is what it moved with this client.
fn of_node(node: NodeId, told: Option<&Families>, view: Option<&PeerView>) -> BandwidthView {
    let value = |definition: &Definition, direction: &str| told?.value(definition, &[direction]);
    BandwidthView {
        peer_id: Some(node.to_string()),
        up_bytes_per_second: value(&metric::NETWORK_RATE, "sent"),
        down_bytes_per_second: value(&metric::NETWORK_RATE, "received"),
        up_limit: value(&metric::NETWORK_RATE_LIMIT, "sent").and_then(whole),
        down_limit: value(&metric::NETWORK_RATE_LIMIT, "received").and_then(whole),
        up_utilization: value(&metric::NETWORK_UTILIZATION, "sent"),
        down_utilization: value(&metric::NETWORK_UTILIZATION, "received"),
        sent: view.map_or(0, |view| view.moved.sent),
        received: view.map_or(0, |view| view.moved.received),
        reliability: view.map(|view| view.reliability),
        latency_s: view.and_then(|view| view.latency).map(|latency| latency.as_secs_f64()),
    }
}

/// All nodes together; the limits are this client's.
fn total(views: &[BandwidthView], totals: &Totals, limits: RateLimits) -> BandwidthView {
    let sum = |rate: fn(&BandwidthView) -> Option<f64>| {
        views.iter().filter_map(rate).reduce(|sum, rate| sum + rate)
    };
    BandwidthView {
        peer_id: None,
        up_bytes_per_second: sum(|view| view.up_bytes_per_second),
        down_bytes_per_second: sum(|view| view.down_bytes_per_second),
        up_limit: limits.sent,
        down_limit: limits.received,
        up_utilization: None,
        down_utilization: None,
        sent: totals.moved.sent,
        received: totals.moved.received,
        reliability: totals.moved.success_share(),
        latency_s: None,
    }
}

fn table(views: &[BandwidthView]) -> Table {
    let columns = [
        Column::left("PEER ID"),
        Column::right("UP NOW"),
        Column::right("DOWN NOW"),
        Column::right("UP LIMIT"),
        Column::right("DOWN LIMIT"),
        Column::right("SENT TO IT"),
        Column::right("GOT FROM IT"),
        Column::right("RELIABLE"),
    ];
    let mut table = Table::new(columns);
    for view in views {
        table.row([
            view.peer_id.clone().unwrap_or_else(|| "all together".to_owned()),
            view.up_bytes_per_second.map_or_else(unknown, per_second),
            view.down_bytes_per_second.map_or_else(unknown, per_second),
            limit(view.up_limit),
            limit(view.down_limit),
            bytes(view.sent),
            bytes(view.received),
            view.reliability.map_or_else(unknown, percent),
        ]);
    }
    table
}

fn unknown() -> String {
    "?".to_owned()
}

fn limit(limit: Option<u64>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| format!("{}/s", bytes(limit)))
}

fn per_second(rate: f64) -> String {
    whole(rate).map_or_else(unknown, |rate| format!("{}/s", bytes(rate)))
}

/// A rate as a whole number. What a node tells may be any number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is checked to be in range")]
fn whole(rate: f64) -> Option<u64> {
    (0.0..1e18).contains(&rate).then_some(rate as u64)
}
