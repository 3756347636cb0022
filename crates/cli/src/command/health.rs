//! `health`: how the mesh and what it holds stand, and what somebody should look at.

use std::collections::BTreeMap;

use datamesh_core::health::{Alert, Cause, Level, NodeHealth};
use datamesh_core::id::NodeId;
use datamesh_core::limits::PLACEMENT_GROUPS;
use datamesh_core::scheme::Redundancy;
use datamesh_core::time::Timestamp;
use datamesh_engine::alert::{Condition, action, advice, message};
use datamesh_engine::standing::{MeshStanding, Outline, availability, mesh, outline};
use datamesh_engine::survey::{self, Surveyed};
use serde::Serialize;

use crate::args::HealthArgs;
use crate::command::CommandError;
use crate::command::client::Session;
use crate::command::peers::STATUS_DEADLINE;
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::{Fields, Ui, bytes, instant};

/// What can be done where nobody repairs unasked.
const REPAIR_BY_HAND: &str = "nothing repairs this mesh by itself: `datamesh verify ID` shows whether an object is meant, and \
                              `datamesh repair ID` makes it whole; what can't be read needs its disks back";

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
    standing: StandingView,
    alerts: Vec<AlertView>,
}

/// What is shown of how all that is stored stands.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
struct SurviveView {
    parts: usize,
    subjects: u64,
}

impl SurviveView {
    fn new((parts, subjects): (&usize, &u64)) -> Self {
        Self { parts: *parts, subjects: *subjects }
    }
}

/// What is shown of an alert.
#[derive(Debug, Serialize)]
struct AlertView {
    level: &'static str,
    cause: String,
    message: String,
    action: &'static str,
    advice: &'static str,
    since: Option<String>,
    nodes: Vec<String>,
}

/// What all nodes have said.
struct Said {
    surveyed: Vec<Surveyed>,
    told: BTreeMap<NodeId, NodeHealth>,
    failure_domains: usize,
    watch: Watched,
}

/// Who looks what is wrong with a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    /// Its nodes do, all the time.
    ByItsNodes,
    /// Nobody but this command: it is in the home itself.
    ByNobody,
}

pub(super) async fn run(args: &HealthArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let session = Session::open(context, Vec::new()).await?;
    let looked = session.client.look().await;
    looked.map_err(|error| CommandError::from_error(Exit::Failed, error))?;
    let watch = if session.client.network().is_some() { Watched::ByItsNodes } else { Watched::ByNobody };
    let world = &session.client.world;
    let surveyed = survey::survey(world, STATUS_DEADLINE).await;
    let answering = surveyed.iter().filter(|node| node.status.is_ok()).map(|node| node.record.node);
    let told = survey::health(world, answering.collect(), STATUS_DEADLINE).await;
    let told = told.into_iter().filter_map(|told| Some((told.node, told.health.ok()?))).collect();
    let failure_domains = world.peers.topology().domain_count();
    session.client.close().await;
    let said = Said { surveyed, told, failure_domains, watch };
    let alerts = said.alerts();
    let worst = alerts.iter().map(|told| told.level).max();
    let view = said.view(&alerts);
    ui.result(fields(&view), &view)?;
    match worst {
        Some(level) if args.check => {
            let exit = if level == Level::Warning { Exit::Failed } else { Exit::NotEnough };
            Err(CommandError::new(exit, format!("the worst alert is {level}")))
        }
        _ => Ok(()),
    }
}

/// An alert, and who tells it.
struct Told {
    level: Level,
    /// `None` for what only this client sees.
    cause: Option<Cause>,
    message: Option<String>,
    /// Other advice than the cause's.
    advice: Option<&'static str>,
    since: Option<Timestamp>,
    nodes: Vec<NodeId>,
}

impl Told {
    fn view(&self) -> AlertView {
        let Self { level, cause, since, nodes, advice: own_advice, .. } = self;
        let own = self.message.clone();
        AlertView {
            level: level.text(),
            cause: cause.map_or("too-few-nodes".to_owned(), |cause| kind(&cause)),
            message: own.or_else(|| cause.map(|cause| message(*level, &cause))).unwrap_or_default(),
            action: cause.map_or("add_nodes", |cause| action(*level, &cause).text()),
            advice: own_advice.unwrap_or_else(|| {
                cause.map_or("start more nodes with datamesh service", |cause| advice(*level, &cause))
            }),
            since: since.map(instant),
            nodes: nodes.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The first word of what the causes of one trouble have in common.
fn kind(cause: &Cause) -> String {
    let key = cause.key();
    key.split(' ').next().unwrap_or_default().to_owned()
}

impl Said {
    fn standing(&self) -> MeshStanding {
        mesh(self.told.iter().filter_map(|(node, health)| Some((*node, health.led.as_ref()?))))
    }

    fn view(&self, alerts: &[Told]) -> HealthView {
        let reachable: Vec<_> = self.surveyed.iter().filter_map(|node| node.status.as_ref().ok()).collect();
        let standing = self.standing();
        let outline = outline(&standing.standing);
        HealthView {
            nodes_known: self.surveyed.len(),
            nodes_reachable: reachable.len(),
            nodes_full: reachable.iter().filter(|status| status.full).count(),
            failure_domains: self.failure_domains,
            scheme: Redundancy::largest_for(self.failure_domains).map(|scheme| scheme.to_string()),
            capacity: reachable.iter().map(|status| status.capacity).sum(),
            used: reachable.iter().map(|status| status.used).sum(),
            standing: StandingView {
                subjects: outline.subject_count,
                whole: outline.whole,
                lost: outline.lost,
                doubtful: standing.standing.doubtful(),
                survive: outline.by_spare.iter().map(SurviveView::new).collect(),
                least_score: outline.least_score,
                groups_unknown: standing.unknown_groups,
                groups_doubled: standing.doubled_groups,
                age_s: standing.age_s,
                words: words(&outline, self.holder_count()),
            },
            alerts: alerts.iter().map(Told::view).collect(),
        }
    }

    /// Nodes that hold parts, whether they answer or not.
    fn holder_count(&self) -> usize {
        self.surveyed.iter().filter(|node| node.record.takes_shards()).count()
    }

    /// What nodes tell and what this client sees, each trouble once, the worst first.
    fn alerts(&self) -> Vec<Told> {
        let mut all: BTreeMap<String, Told> = BTreeMap::new();
        for (node, health) in &self.told {
            for Alert { level, cause, since } in &health.alerts {
                add(&mut all, *node, *level, *cause, Some(*since));
            }
        }
        for node in &self.surveyed {
            match &node.status {
                Err(failure) => {
                    let cause = Cause::Silent { node: node.record.node };
                    add(&mut all, node.record.node, Level::Warning, cause, None);
                    if let Some(told) = all.get_mut(&cause.key()) {
                        told.nodes.retain(|teller| *teller != node.record.node);
                        told.message = Some(failure.to_string());
                    }
                }
                Ok(status) if status.full => {
                    add(&mut all, node.record.node, Level::Warning, Cause::DiskFull, None);
                }
                Ok(_) => {}
            }
        }
        let own = self.too_few().into_iter().chain(self.unwatched());
        let mut alerts: Vec<Told> = own.chain(all.into_values()).collect();
        alerts.sort_by_key(|told| std::cmp::Reverse(told.level));
        alerts
    }

    /// What is wrong with what is stored, where nobody else would tell it.
    fn unwatched(&self) -> Option<Told> {
        if self.watch == Watched::ByItsNodes {
            return None;
        }
        let Condition { level, cause } = availability(&self.standing().standing)?;
        let advice = Some(REPAIR_BY_HAND);
        Some(Told { level, cause: Some(cause), message: None, advice, since: None, nodes: Vec::new() })
    }

    /// What this client alone sees: that there are too few nodes.
    fn too_few(&self) -> Vec<Told> {
        let scheme = Redundancy::largest_for(self.failure_domains);
        let critical = |message: String| Told {
            level: Level::Critical,
            cause: None,
            message: Some(message),
            advice: None,
            since: None,
            nodes: Vec::new(),
        };
        let mut found = Vec::new();
        if scheme.is_none() {
            found.push(critical("there are fewer than two failure domains: nothing can be put".to_owned()));
        }
        let silent = self.surveyed.iter().filter(|node| node.status.is_err()).count();
        let bearable = scheme.map_or(0, Redundancy::parity_count);
        if silent > bearable {
            found.push(critical(format!(
                "{silent} nodes do not answer, more than a put survives ({bearable})"
            )));
        }
        found
    }
}

/// Adds an alert that a node tells to those of the mesh: what several tell of the same thing is one.
fn add(all: &mut BTreeMap<String, Told>, node: NodeId, level: Level, cause: Cause, since: Option<Timestamp>) {
    let of_one_node = match cause {
        Cause::Availability { .. }
        | Cause::RepairsFail { .. }
        | Cause::Silent { .. }
        | Cause::Failing { .. } => String::new(),
        Cause::DiskFull
        | Cause::Rot { .. }
        | Cause::DiskErrors { .. }
        | Cause::CutOff
        | Cause::ClockSkew { .. } => format!(" of {node}"),
    };
    let key = format!("{}{of_one_node}", cause.key());
    let fresh = Told { level, cause: None, message: None, advice: None, since, nodes: Vec::new() };
    let told = all.entry(key).or_insert(fresh);
    told.level = told.level.max(level);
    told.cause = Some(told.cause.map_or(cause, |known| together(known, cause)));
    told.since = told.since.into_iter().chain(since).min();
    if !told.nodes.contains(&node) {
        told.nodes.push(node);
    }
}

/// What two nodes tell of the groups that each of them leads.
fn together(one: Cause, other: Cause) -> Cause {
    match (one, other) {
        (
            Cause::Availability { short, endangered, lost, doubtful },
            Cause::Availability { short: s, endangered: e, lost: l, doubtful: d },
        ) => Cause::Availability {
            short: short.saturating_add(s),
            endangered: endangered.saturating_add(e),
            lost: lost.saturating_add(l),
            doubtful: doubtful.saturating_add(d),
        },
        (Cause::RepairsFail { failed, tried }, Cause::RepairsFail { failed: f, tried: t }) => {
            Cause::RepairsFail { failed: failed.saturating_add(f), tried: tried.saturating_add(t) }
        }
        (known, _) => known,
    }
}

/// What all that is stored survives, in words.
fn words(outline: &Outline, holder_count: usize) -> String {
    let Outline { subject_count, whole, by_spare, lost, .. } = outline;
    // In a mesh of fewer nodes than parts a node holds several of one stripe.
    let noun = if holder_count >= outline.widest { "node" } else { "part" };
    let survive = |spare: usize| match spare {
        0 => "no further loss".to_owned(),
        1 => format!("the loss of any 1 more {noun}"),
        more => format!("the loss of any {more} more {noun}s"),
    };
    match by_spare.first_key_value() {
        None if *lost == 0 => "nothing is stored, as far as is known".to_owned(),
        None => format!("none of {lost} stripes and blocks can be read"),
        Some((least, _)) if *lost == 0 && whole == subject_count => {
            format!("every stripe and block is whole and survives {}", survive(*least))
        }
        Some(_) => {
            let mut parts: Vec<String> = by_spare
                .iter()
                .map(|(spare, number)| format!("{number} survive {}", survive(*spare)))
                .collect();
            if *lost > 0 {
                parts.insert(0, format!("{lost} can't be read"));
            }
            format!(
                "{} of {subject_count} stripes and blocks lack parts: {}",
                subject_count - whole,
                parts.join(", ")
            )
        }
    }
}

fn fields(view: &HealthView) -> Fields {
    let standing = &view.standing;
    let mut fields = Fields::new()
        .field("nodes", format!("{} of {} answer", view.nodes_reachable, view.nodes_known))
        .field("failure domains", view.failure_domains)
        .field("scheme of a put", view.scheme.as_deref().unwrap_or("none"))
        .field("used", format!("{} of {}", bytes(view.used), bytes(view.capacity)))
        .field("survival", &standing.words)
        .field("least score", format!("{:.3}", standing.least_score));
    if standing.doubtful > 0 {
        fields = fields.field(
            "doubtful",
            format!("{} of these may have further parts at nodes that are silent", standing.doubtful),
        );
    }
    if standing.groups_unknown > 0 {
        let text = format!(
            "of {} of {PLACEMENT_GROUPS} placement groups nothing is known: who leads them is silent or has not looked yet",
            standing.groups_unknown
        );
        fields = fields.field("unknown", text);
    }
    if standing.groups_doubled > 0 {
        let text = format!(
            "{} placement groups were counted twice: nodes don't agree on who is there",
            standing.groups_doubled
        );
        fields = fields.field("doubled", text);
    }
    for alert in &view.alerts {
        fields = fields.field(alert.level, format!("{}: {}", alert.message, alert.advice));
    }
    fields
}
