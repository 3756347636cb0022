//! Probes: whether the gateway lives, and whether it can put what it is given.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use datamesh_core::scheme::Redundancy;
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::Face;

/// Whether requests can be met.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ReadyView {
    ready: bool,
    /// The name of the mesh.
    mesh: String,
    nodes_known: usize,
    failure_domains: usize,
    /// What a put is encoded with at the widest; `null` where nothing can be put.
    scheme: Option<String>,
}

pub(super) async fn alive() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(face): State<Face>) -> Response {
    let topology = face.world().peers.topology();
    let failure_domains = topology.domain_count();
    let scheme = Redundancy::largest_for(failure_domains);
    let view = ReadyView {
        ready: scheme.is_some(),
        mesh: face.0.gateway.settings.mesh.clone(),
        nodes_known: topology.len(),
        failure_domains,
        scheme: scheme.map(|scheme| scheme.to_string()),
    };
    let status = if view.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(view)).into_response()
}
