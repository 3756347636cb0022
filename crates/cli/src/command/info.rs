//! `info`, `verify` and `repair`: how an object stands, and making it whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use datamesh_core::health::{Cause, Level};
use datamesh_core::id::{NodeId, ObjectId};
use datamesh_core::manifest::{Details, Kind};
use datamesh_core::scheme::Mode;
use datamesh_core::time::Epoch;
use datamesh_engine::alert::advice;
use datamesh_engine::get::{GetError, Reading};
use datamesh_engine::health::{Depth, ObjectHealth, StripeHealth, inspect};
use datamesh_engine::progress::Unobserved;
use datamesh_engine::repair::{Repaired, repair};
use serde::Serialize;

use crate::args::{InfoArgs, RepairArgs, VerifyArgs};
use crate::command::CommandError;
use crate::command::client::{Session, target, warn_of_failures};
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::{Fields, Ui, bytes, instant, kept_until, percent};

/// What advice goes by that is about one object.
const NO_FIGURES: Cause = Cause::Availability { short: 0, endangered: 0, lost: 0, doubtful: 0 };

/// What is shown of an object.
#[derive(Debug, Serialize)]
struct InfoView {
    #[serde(flatten)]
    health: HealthView,
    name: Option<String>,
    kind: Option<Kind>,
    media_type: Option<String>,
    metadata: BTreeMap<String, String>,
    size: Option<u64>,
    created: Option<String>,
    /// `null` for what is kept until it is deleted, and for what the catalog doesn't know.
    until: Option<String>,
    stripes: Vec<StripeView>,
    manifest: Vec<BlockView>,
}

/// What is shown of how an object stands.
#[derive(Debug, Serialize)]
struct HealthView {
    object: String,
    mode: Mode,
    scheme: String,
    score: f64,
    survives: String,
    survives_domains: usize,
    alert: Option<&'static str>,
    advice: Option<&'static str>,
    stripe_count: usize,
    shards_found: usize,
    shards_expected: usize,
    replicas_found: usize,
    replicas_expected: usize,
}

#[derive(Debug, Serialize)]
struct StripeView {
    index: u64,
    sealed_size: u32,
    shards: Vec<ShardView>,
}

#[derive(Debug, Serialize)]
struct ShardView {
    shard: String,
    node: Option<String>,
}

#[derive(Debug, Serialize)]
struct BlockView {
    block: String,
    nodes: Vec<String>,
}

pub(super) async fn run(args: &InfoArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let target = target(context, &args.object)?;
    let session = Session::open(context, Vec::new()).await?;
    let end = target.entry.map(|entry| entry.end());
    let outcome = info(target.object, end, context, ui, &session).await;
    session.client.close().await;
    outcome
}

async fn info(
    object: ObjectId,
    end: Option<Epoch>,
    context: &Context,
    ui: &Ui,
    session: &Session,
) -> Result<(), CommandError> {
    let client = &session.client;
    let readers = context.readers(ui)?;
    let unobserved = Arc::new(Unobserved);
    let opened = Reading::open(&client.world, client.transfer, unobserved.clone(), object, &readers).await;
    let details = match opened {
        Ok(reading) => Some(reading.details().clone()),
        // Where the shards lie is no secret, so whoever can't read the object is shown that much.
        Err(error @ GetError::NoKey(_)) => {
            ui.note(error);
            None
        }
        Err(error) => return Err(error.into()),
    };
    let health = inspect(&client.world, client.transfer, unobserved, object, Depth::Index).await?;
    warn_of_failures(ui, &health.failures);
    let stripes = health.stripes.iter().map(stripe_view).collect();
    let blocks = health.blocks.iter().map(|block| BlockView {
        block: block.block.to_string(),
        nodes: block.placement.holders().iter().flatten().map(ToString::to_string).collect(),
    });
    let manifest = blocks.collect();
    let fields = fields(&health, details.as_ref(), end);
    let Details { name, kind, media_type, size, metadata, created, .. } = match details.clone() {
        Some(details) => details,
        None => return ui.result(fields, closed_view(&health, stripes, manifest)),
    };
    let view = InfoView {
        name: Some(name),
        kind: Some(kind),
        media_type,
        metadata,
        size: Some(size),
        created: Some(instant(created)),
        until: end.and_then(Epoch::begin).map(instant),
        ..closed_view(&health, stripes, manifest)
    };
    ui.result(fields, view)
}

/// What is shown of an object that can't be opened.
fn closed_view(health: &ObjectHealth, stripes: Vec<StripeView>, manifest: Vec<BlockView>) -> InfoView {
    InfoView {
        health: health_view(health),
        name: None,
        kind: None,
        media_type: None,
        metadata: BTreeMap::new(),
        size: None,
        created: None,
        until: None,
        stripes,
        manifest,
    }
}

fn stripe_view(stripe: &StripeHealth) -> StripeView {
    let shard = |(shard, holder): (&datamesh_core::id::ShardId, &Option<NodeId>)| ShardView {
        shard: shard.to_string(),
        node: holder.map(|node| node.to_string()),
    };
    StripeView {
        index: stripe.index,
        sealed_size: stripe.sealed_size,
        shards: stripe.shards.iter().zip(stripe.placement.holders()).map(shard).collect(),
    }
}

fn health_view(health: &ObjectHealth) -> HealthView {
    let shards = || health.stripes.iter().map(|stripe| &stripe.placement);
    let replicas = || health.blocks.iter().map(|block| &block.placement);
    let level = health.level();
    HealthView {
        object: health.object.to_string(),
        mode: health.scheme.mode,
        scheme: health.scheme.redundancy.to_string(),
        score: health.score(),
        survives: health.survival.to_string(),
        survives_domains: health.survival.any_domains,
        alert: level.map(Level::text),
        advice: level.map(|level| advice(level, &NO_FIGURES)),
        stripe_count: health.stripes.len(),
        shards_found: shards().map(|placement| placement.healthy_count()).sum(),
        shards_expected: shards().map(|placement| placement.holders().len()).sum(),
        replicas_found: replicas().map(|placement| placement.healthy_count()).sum(),
        replicas_expected: replicas().map(|placement| placement.holders().len()).sum(),
    }
}

fn fields(health: &ObjectHealth, details: Option<&Details>, end: Option<Epoch>) -> Fields {
    let mut fields = Fields::new().field("object", health.object);
    if let Some(details) = details {
        fields = fields
            .field("name", &details.name)
            .field("size", bytes(details.size))
            .field("put", instant(details.created));
        if let Some(media_type) = &details.media_type {
            fields = fields.field("type", media_type);
        }
        for (key, value) in &details.metadata {
            fields = fields.field("note", format!("{key}={value}"));
        }
    }
    if let Some(end) = end {
        fields = fields.field("kept until", kept_until(end));
    }
    let view = health_view(health);
    fields = fields.field("scheme", format!("{} {:?}", view.scheme, view.mode).to_lowercase());
    fields = health_fields(fields, &view);
    let mut shard_counts: BTreeMap<NodeId, usize> = BTreeMap::new();
    for node in health.stripes.iter().flat_map(|stripe| stripe.placement.holders()).flatten() {
        *shard_counts.entry(*node).or_default() += 1;
    }
    for (node, shard_count) in shard_counts {
        fields = fields.field("on", format!("{node}: {shard_count} shards"));
    }
    fields
}

fn health_fields(fields: Fields, view: &HealthView) -> Fields {
    let fields = fields
        .field("stripes", view.stripe_count)
        .field("shards", format!("{} of {}", view.shards_found, view.shards_expected))
        .field("manifest replicas", format!("{} of {}", view.replicas_found, view.replicas_expected))
        .field("score", format!("{:.3}", view.score))
        .field("survival", &view.survives);
    match (view.alert, view.advice) {
        (Some(alert), Some(advice)) => fields.field(alert, advice),
        _ => fields,
    }
}

pub(super) async fn verify(args: &VerifyArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let target = target(context, &args.object)?;
    let session = Session::open(context, Vec::new()).await?;
    let depth = if args.deep { Depth::Bytes } else { Depth::Index };
    let client = &session.client;
    let progress = Arc::new(ui.progress("checking"));
    let inspected = inspect(&client.world, client.transfer, progress, target.object, depth).await;
    session.client.close().await;
    let health = inspected?;
    warn_of_failures(ui, &health.failures);
    let view = health_view(&health);
    let fields = health_fields(Fields::new().field("object", &view.object), &view);
    let lost = health.score() < 0.5;
    let degraded = !lost && health.score() < 1.0;
    ui.result(fields, &view)?;
    if lost {
        let error = CommandError::new(Exit::NotEnough, format!("{} can't be read as it stands", view.object));
        return Err(error.hint("bring nodes that hold its shards back"));
    }
    if degraded {
        ui.warn(format!(
            "redundancy is at {}; datamesh repair {} restores it",
            percent(view.score),
            view.object
        ));
    }
    Ok(())
}

/// What is shown of a repair.
#[derive(Debug, Serialize)]
struct RepairView {
    object: String,
    shards_repaired: u64,
    replicas_repaired: u64,
    unplaced: u64,
}

pub(super) async fn repair_command(
    args: &RepairArgs,
    context: &Context,
    ui: &Ui,
) -> Result<(), CommandError> {
    let wanted = args.object.as_deref().map(|text| target(context, text)).transpose()?;
    let session = Session::open(context, Vec::new()).await?;
    let objects = match wanted {
        Some(target) => vec![target.object],
        None => {
            let entries = context.home().catalog().entries()?.into_iter();
            entries.filter(|entry| entry.network == session.mesh).map(|entry| entry.object).collect()
        }
    };
    let client = &session.client;
    let mut outcome = Ok(());
    for object in objects {
        let progress = Arc::new(ui.progress("repairing"));
        let repaired = match repair(&client.world, client.transfer, progress, object).await {
            Ok(repaired) => show_repaired(ui, &repaired),
            Err(error) => Err(error.into()),
        };
        // One object that can't be repaired keeps none of the others from it.
        if let Err(error) = repaired {
            ui.warn(format!("{object}: {error}"));
            outcome = Err(error);
        }
    }
    session.client.close().await;
    outcome
}

fn show_repaired(ui: &Ui, repaired: &Repaired) -> Result<(), CommandError> {
    warn_of_failures(ui, &repaired.failures);
    let Repaired { object, shards_repaired, replicas_repaired, unplaced, .. } = repaired;
    let fields = Fields::new()
        .field("object", object)
        .field("shards repaired", shards_repaired)
        .field("manifest replicas repaired", replicas_repaired);
    let view = RepairView {
        object: object.to_string(),
        shards_repaired: *shards_repaired,
        replicas_repaired: *replicas_repaired,
        unplaced: *unplaced,
    };
    ui.result(fields, view)?;
    if *unplaced > 0 {
        let message =
            format!("{unplaced} shards or replicas found no node that has nothing else of their stripe");
        return Err(
            CommandError::new(Exit::NotEnough, message).hint("start more nodes with datamesh service")
        );
    }
    Ok(())
}
