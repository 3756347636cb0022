//! `health`: how the mesh and what it holds stand, and what somebody should look at.

use datamesh_core::health::Level;
use datamesh_core::limits::PLACEMENT_GROUPS;
use datamesh_engine::alert::Condition;
use datamesh_engine::overview::{Overview, Trouble, overview, words};
use datamesh_engine::standing::{availability, outline};
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
    let said = overview(&session.client.world, STATUS_DEADLINE).await;
    session.client.close().await;
    let troubles = troubles(&said, watch);
    let worst = troubles.iter().map(|trouble| trouble.level).max();
    let view = view(&said, &troubles);
    ui.result(fields(&view), &view)?;
    match worst {
        Some(level) if args.check => {
            let exit = if level == Level::Warning { Exit::Failed } else { Exit::NotEnough };
            Err(CommandError::new(exit, format!("the worst alert is {level}")))
        }
        _ => Ok(()),
    }
}

/// What is wrong; also with what is stored where nobody else would tell it.
fn troubles(said: &Overview, watch: Watched) -> Vec<Trouble> {
    let mut troubles = said.troubles();
    if watch == Watched::ByNobody
        && let Some(Condition { level, cause }) = availability(&said.standing().standing)
    {
        let (cause, own_advice) = (Some(cause), Some(REPAIR_BY_HAND));
        troubles.push(Trouble { level, cause, message: None, own_advice, since: None, nodes: Vec::new() });
        troubles.sort_by_key(|trouble| std::cmp::Reverse(trouble.level));
    }
    troubles
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

fn view(said: &Overview, troubles: &[Trouble]) -> HealthView {
    let reachable: Vec<_> = said.surveyed.iter().filter_map(|node| node.status.as_ref().ok()).collect();
    let standing = said.standing();
    let outline = outline(&standing.standing);
    HealthView {
        nodes_known: said.surveyed.len(),
        nodes_reachable: reachable.len(),
        nodes_full: reachable.iter().filter(|status| status.full).count(),
        failure_domains: said.failure_domains,
        scheme: said.scheme().map(|scheme| scheme.to_string()),
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
            words: words(&outline, said.holder_count()),
        },
        alerts: troubles.iter().map(AlertView::new).collect(),
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
