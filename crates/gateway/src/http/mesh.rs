//! The mesh as its nodes tell it: who is there, how all that is stored stands, what is repaired, and what somebody should look at.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use datamesh_core::health::{Led, NodeHealth};
use datamesh_core::id::NodeId;
use datamesh_core::topology::{NodeState, Role};
use datamesh_engine::overview::{Overview, Trouble, overview, words};
use datamesh_engine::standing::outline;
use datamesh_engine::survey::{self, Surveyed};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::http::Face;
use crate::http::answer::Problem;
use crate::http::extract::InPath;
use crate::http::samples::samples;
use crate::http::text::instant;

/// How long a node may take to say how it is.
const STATUS_DEADLINE: Duration = Duration::from_secs(5);
/// How old what is told of the mesh may be, at the least.
const FRESH: Duration = Duration::from_secs(1);
/// The same for each node that is asked, so that the nodes of a large mesh are not asked all the time.
const FRESH_PER_NODE: Duration = Duration::from_millis(10);
/// How old the metrics of nodes may be: they are long.
const METRICS_FRESH: Duration = Duration::from_secs(5);
/// Nodes that are asked for their metrics at the most.
const METRICS_NODES_MAX: usize = 256;

/// The metrics of each node that tells them.
pub(super) type NodeMetrics = Arc<Vec<(NodeId, String)>>;

/// What was told last, so that however many ask, nodes are asked once.
#[derive(Default)]
pub(super) struct MeshWatch {
    overview: Mutex<Option<(Duration, Arc<Overview>)>>,
    metrics: Mutex<Option<(Duration, NodeMetrics)>>,
}

impl Face {
    /// The mesh as it was a moment ago.
    pub(super) async fn overview(&self) -> Arc<Overview> {
        let mut kept = self.0.mesh.overview.lock().await;
        let now = self.world().clock.elapsed();
        if let Some((at, known)) = &*kept {
            let count = u32::try_from(known.surveyed.len()).unwrap_or(u32::MAX);
            if now.saturating_sub(*at) < FRESH.max(FRESH_PER_NODE.saturating_mul(count)) {
                return Arc::clone(known);
            }
        }
        let fresh = Arc::new(overview(self.world(), STATUS_DEADLINE).await);
        *kept = Some((self.world().clock.elapsed(), Arc::clone(&fresh)));
        fresh
    }

    /// The metrics of nodes as they were a few moments ago.
    pub(super) async fn node_metrics(&self) -> NodeMetrics {
        let mut kept = self.0.mesh.metrics.lock().await;
        let now = self.world().clock.elapsed();
        if let Some((at, known)) = &*kept
            && now.saturating_sub(*at) < METRICS_FRESH
        {
            return Arc::clone(known);
        }
        let topology = self.world().peers.topology();
        let nodes = topology.records().map(|record| record.node).take(METRICS_NODES_MAX).collect();
        let told = survey::metrics(self.world(), nodes, STATUS_DEADLINE).await;
        let texts = told.into_iter().filter_map(|(node, text)| {
            let text = str::from_utf8(&text.ok()?).ok()?.to_owned();
            Some((node, text))
        });
        let fresh = Arc::new(texts.collect());
        *kept = Some((self.world().clock.elapsed(), Arc::clone(&fresh)));
        fresh
    }

    /// What nodes repair, as it was a few moments ago.
    pub(super) async fn repairs(&self) -> Vec<RepairsView> {
        let told = self.node_metrics().await;
        told.iter().map(|(node, text)| RepairsView::read(*node, text)).collect()
    }
}

/// What is shown of a node.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct PeerView {
    peer_id: String,
    /// `region/site/host`, and an operator behind them where one is known.
    domain: String,
    region: String,
    site: String,
    host: String,
    /// `storage`, `archival` or `cache`.
    role: &'static str,
    /// `joining`, `active`, `draining` or `gone`.
    state: &'static str,
    reachable: bool,
    capacity: u64,
    used: Option<u64>,
    item_count: Option<u64>,
    full: Option<bool>,
    software: String,
    uptime_s: Option<u64>,
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
            region: record.domain.region.clone(),
            site: record.domain.site.clone(),
            host: record.domain.host.clone(),
            role: match record.role {
                Role::Storage => "storage",
                Role::Archival => "archival",
                Role::Cache => "cache",
            },
            state: match record.state {
                NodeState::Joining => "joining",
                NodeState::Active => "active",
                NodeState::Draining => "draining",
                NodeState::Gone => "gone",
            },
            reachable: said.is_some(),
            capacity: record.capacity,
            used: said.map(|status| status.used),
            item_count: said.map(|status| status.item_count),
            full: said.map(|status| status.full),
            software: record.software.clone(),
            uptime_s: said.map(|status| status.uptime_s),
            latency_s: said.map(|_| waited.as_secs_f64()),
            addresses: record.addresses.clone(),
            error: status.as_ref().err().map(ToString::to_string),
        }
    }
}

impl PeerView {
    /// The same without what is another each time.
    pub(super) fn lasting(&self) -> Self {
        Self { latency_s: None, uptime_s: None, ..self.clone() }
    }
}

impl HealthView {
    /// The same without what is another each time.
    pub(super) fn lasting(&self) -> Self {
        let standing = StandingView { age_s: 0, ..self.standing.clone() };
        Self { standing, ..self.clone() }
    }
}

/// What is shown of one node alone.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PeerDetailView {
    #[serde(flatten)]
    peer: PeerView,
    /// Microseconds that an item took lately to be written and synced.
    write_us: Option<u64>,
    /// Placement groups that it leads.
    groups_led: Option<u64>,
    alerts: Vec<AlertView>,
    /// Bytes of items that this gateway has sent to it and received from it.
    sent: u64,
    received: u64,
}

/// What is shown of the mesh.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct HealthView {
    nodes_known: usize,
    nodes_reachable: usize,
    nodes_full: usize,
    failure_domains: usize,
    scheme: Option<String>,
    capacity: u64,
    used: u64,
    standing: StandingView,
    alerts: Vec<AlertView>,
}

/// What is shown of how all that is stored stands.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
struct StandingView {
    subjects: u64,
    whole: u64,
    lost: u64,
    doubtful: u64,
    survive: Vec<SurviveView>,
    least_score: f64,
    groups_unknown: u64,
    groups_doubled: u64,
    age_s: u64,
    words: String,
}

/// How many stripes and blocks survive the loss of so many more parts, and no more.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
struct SurviveView {
    parts: usize,
    subjects: u64,
}

/// What is shown of an alert.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct AlertView {
    /// `WARNING`, `CRITICAL` or `LOST`.
    level: &'static str,
    cause: String,
    message: String,
    action: &'static str,
    advice: &'static str,
    since: Option<String>,
    nodes: Vec<String>,
}

impl AlertView {
    fn new(trouble: &Trouble) -> Self {
        Self {
            level: trouble.level.text(),
            cause: trouble.kind(),
            message: trouble.words(),
            action: trouble.action(),
            advice: trouble.advice(),
            since: trouble.since.map(instant),
            nodes: trouble.nodes.iter().map(ToString::to_string).collect(),
        }
    }
}

pub(super) fn alert_views(overview: &Overview) -> Vec<AlertView> {
    overview.troubles().iter().map(AlertView::new).collect()
}

pub(super) fn peer_views(overview: &Overview) -> Vec<PeerView> {
    overview.surveyed.iter().map(PeerView::new).collect()
}

pub(super) fn health_view(overview: &Overview) -> HealthView {
    let reachable: Vec<_> = overview.surveyed.iter().filter_map(|node| node.status.as_ref().ok()).collect();
    let standing = overview.standing();
    let outline = outline(&standing.standing);
    HealthView {
        nodes_known: overview.surveyed.len(),
        nodes_reachable: reachable.len(),
        nodes_full: reachable.iter().filter(|status| status.full).count(),
        failure_domains: overview.failure_domains,
        scheme: overview.scheme().map(|scheme| scheme.to_string()),
        capacity: reachable.iter().map(|status| status.capacity).sum(),
        used: reachable.iter().map(|status| status.used).sum(),
        standing: StandingView {
            subjects: outline.subject_count,
            whole: outline.whole,
            lost: outline.lost,
            doubtful: standing.standing.doubtful(),
            survive: outline
                .by_spare
                .iter()
                .map(|(parts, subjects)| SurviveView { parts: *parts, subjects: *subjects })
                .collect(),
            least_score: outline.least_score,
            groups_unknown: standing.unknown_groups,
            groups_doubled: standing.doubled_groups,
            age_s: standing.age_s,
            words: words(&outline, overview.holder_count()),
        },
        alerts: alert_views(overview),
    }
}

/// What a node has repaired and has still to repair.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct RepairsView {
    peer_id: String,
    /// Stripes and blocks in the groups that it leads that are short of parts.
    short: u64,
    /// Of these, those that can't be read.
    lost: u64,
    /// Parts that belong to other nodes and could not be given to them yet.
    misplaced: u64,
    /// Parts that it has made again since it started.
    repaired: u64,
    /// Repairs that came to nothing since then.
    failed: u64,
    /// Parts that it gave to the nodes that they belong to.
    handed_over: u64,
    /// Times that it looked at all its groups.
    rounds: u64,
}

impl RepairsView {
    fn read(node: NodeId, text: &str) -> Self {
        let samples = samples(text);
        let value = |metric: &str, outcome: Option<&str>| {
            let of_this = |sample: &&crate::http::samples::Sample<'_>| {
                sample.metric == metric
                    && outcome
                        .is_none_or(|outcome| sample.labels.get("outcome").is_some_and(|of| of == outcome))
            };
            samples.iter().find(of_this).map_or(0, |sample| whole(sample.value))
        };
        Self {
            peer_id: node.to_string(),
            short: value("datamesh_keep_short", None),
            lost: value("datamesh_keep_lost", None),
            misplaced: value("datamesh_keep_misplaced", None),
            repaired: value("datamesh_keep_repairs_total", Some("succeeded")),
            failed: value("datamesh_keep_repairs_total", Some("failed")),
            handed_over: value("datamesh_keep_handed_over_total", None),
            rounds: value("datamesh_keep_rounds_total", None),
        }
    }
}

/// What a node tells as a number of things, which may be any number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is checked to be in range")]
fn whole(number: f64) -> u64 {
    if (0.0..1e18).contains(&number) { number as u64 } else { 0 }
}

pub(super) async fn peers(State(face): State<Face>) -> Json<Vec<PeerView>> {
    Json(peer_views(&*face.overview().await))
}

pub(super) async fn peer(
    State(face): State<Face>,
    InPath(id): InPath<String>,
) -> Result<Json<PeerDetailView>, Problem> {
    let node: NodeId = id.parse()?;
    let overview = face.overview().await;
    let found = overview.surveyed.iter().find(|surveyed| surveyed.record.node == node);
    let found = found.ok_or_else(|| Problem::not_found(format!("no node {node} is known")))?;
    let told: Option<&NodeHealth> = overview.told.get(&node);
    let moved = face.world().traffic.snapshot().peers.get(&node).map(|peer| peer.bytes);
    let mut alerts = overview.troubles();
    alerts.retain(|trouble| {
        trouble.nodes.contains(&node) || trouble.cause.is_some_and(|cause| cause.key().contains(&id))
    });
    Ok(Json(PeerDetailView {
        peer: PeerView::new(found),
        write_us: told.and_then(|health| health.write_us),
        groups_led: told.and_then(|health| health.led.as_ref()).map(led_count),
        alerts: alerts.iter().map(AlertView::new).collect(),
        sent: moved.map_or(0, |moved| moved.upload),
        received: moved.map_or(0, |moved| moved.download),
    }))
}

fn led_count(led: &Led) -> u64 {
    led.stand_ins.iter().fold(led.first.group_count, |sum, (_, standing)| sum + standing.group_count)
}

pub(super) async fn health(State(face): State<Face>) -> Json<HealthView> {
    Json(health_view(&*face.overview().await))
}

pub(super) async fn alerts(State(face): State<Face>) -> Json<Vec<AlertView>> {
    Json(alert_views(&*face.overview().await))
}

pub(super) async fn repairs_of_all(State(face): State<Face>) -> Json<Vec<RepairsView>> {
    Json(face.repairs().await)
}

/// What moves between this gateway and the mesh, by all its faces.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct TrafficView {
    sent: u64,
    received: u64,
    up_bytes_per_second: f64,
    down_bytes_per_second: f64,
    transfers_running: usize,
    transfers_waiting: usize,
}

pub(super) fn traffic_view(face: &Face) -> TrafficView {
    let snapshot = face.world().traffic.snapshot();
    TrafficView {
        sent: snapshot.moved.upload.bytes,
        received: snapshot.moved.download.bytes,
        up_bytes_per_second: snapshot.moved.upload.rate,
        down_bytes_per_second: snapshot.moved.download.rate,
        transfers_running: snapshot.transfers_running,
        transfers_waiting: snapshot.transfers_waiting,
    }
}

pub(super) async fn traffic(State(face): State<Face>) -> Json<TrafficView> {
    Json(traffic_view(&face))
}
