//! How an object stands: who has each of its shards, and what it survives.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use datamesh_core::health::{Cause, Level};
use datamesh_core::id::{NodeId, ObjectId, ShardId};
use datamesh_core::manifest::Kind;
use datamesh_core::scheme::Mode;
use datamesh_engine::alert::advice;
use datamesh_engine::get::{GetError, Reading};
use datamesh_engine::health::{BlockHealth, Depth, ObjectHealth, StripeHealth, inspect};
use datamesh_engine::progress::Unobserved;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::http::Face;
use crate::http::answer::Problem;
use crate::http::extract::{InPath, InQuery};
use crate::http::text::instant;

/// Stripes and manifest blocks that are listed one by one.
const LISTED_MAX: usize = 1000;

/// What advice goes by that is about one object.
const NO_FIGURES: Cause = Cause::Availability { short: 0, endangered: 0, lost: 0, doubtful: 0 };

/// What is shown of an object.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct InfoView {
    object: String,
    /// `sealed`, `dedup` or `public`.
    mode: &'static str,
    /// Data and parity shards of a stripe, as `4+2`.
    scheme: String,
    /// 1 whole, 0.5 where no part can be lost any more, less where it can't be read.
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
    name: Option<String>,
    /// `file` or `folder`.
    kind: Option<&'static str>,
    media_type: Option<String>,
    metadata: BTreeMap<String, String>,
    size: Option<u64>,
    created: Option<String>,
    /// Shards on each node.
    shards_on: BTreeMap<String, usize>,
    stripes: Vec<StripeView>,
    manifest: Vec<BlockView>,
    /// Stripes and blocks that are not listed, since there are too many.
    left_out: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
struct StripeView {
    index: u64,
    sealed_size: u32,
    survives: String,
    shards: Vec<ShardView>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ShardView {
    shard: String,
    /// `null` where nobody has it.
    node: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct BlockView {
    block: String,
    nodes: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct InfoQuery {
    limit: Option<usize>,
}

pub(super) async fn info(
    State(face): State<Face>,
    InPath(id): InPath<String>,
    InQuery(query): InQuery<InfoQuery>,
) -> Result<Json<InfoView>, Problem> {
    let object: ObjectId = id.parse()?;
    let Ok(_permit) = face.0.inspections.try_acquire() else {
        return Err(Problem::busy("too many objects are looked at already".to_owned()));
    };
    let (world, transfer) = (face.world(), face.buckets().transfer());
    let identities = std::slice::from_ref(&**face.buckets().owner());
    let opened = Reading::open(world, transfer, Arc::new(Unobserved), object, identities).await;
    let details = match opened {
        Ok(reading) => Some(reading.details().clone()),
        // Where the shards lie is no secret, so whoever can't read the object is shown that much.
        Err(GetError::NoKey(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let health = inspect(world, transfer, Arc::new(Unobserved), object, Depth::Index).await?;
    let mut view = view(&health, query.limit.unwrap_or(LISTED_MAX).min(LISTED_MAX));
    if let Some(details) = details {
        view.name = Some(details.name);
        view.kind = Some(match details.kind {
            Kind::File => "file",
            Kind::Folder => "folder",
        });
        view.media_type = details.media_type;
        view.metadata = details.metadata;
        view.size = Some(details.size);
        view.created = Some(instant(details.created));
    }
    Ok(Json(view))
}

fn view(health: &ObjectHealth, listed_max: usize) -> InfoView {
    let shards = || health.stripes.iter().map(|stripe| &stripe.placement);
    let replicas = || health.blocks.iter().map(|block| &block.placement);
    let level = health.level();
    let mut shards_on: BTreeMap<String, usize> = BTreeMap::new();
    for node in shards().flat_map(|placement| placement.holders()).flatten() {
        *shards_on.entry(node.to_string()).or_default() += 1;
    }
    let left_out = |count: usize| count.saturating_sub(listed_max);
    InfoView {
        object: health.object.to_string(),
        mode: match health.scheme.mode {
            Mode::Sealed => "sealed",
            Mode::Dedup => "dedup",
            Mode::Public => "public",
        },
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
        name: None,
        kind: None,
        media_type: None,
        metadata: BTreeMap::new(),
        size: None,
        created: None,
        shards_on,
        stripes: health.stripes.iter().take(listed_max).map(stripe_view).collect(),
        manifest: health.blocks.iter().take(listed_max).map(block_view).collect(),
        left_out: left_out(health.stripes.len()) + left_out(health.blocks.len()),
    }
}

fn stripe_view(stripe: &StripeHealth) -> StripeView {
    let shard = |(shard, holder): (&ShardId, &Option<NodeId>)| ShardView {
        shard: shard.to_string(),
        node: holder.map(|node| node.to_string()),
    };
    StripeView {
        index: stripe.index,
        sealed_size: stripe.sealed_size,
        survives: stripe.survival.to_string(),
        shards: stripe.shards.iter().zip(stripe.placement.holders()).map(shard).collect(),
    }
}

fn block_view(block: &BlockHealth) -> BlockView {
    BlockView {
        block: block.block.to_string(),
        nodes: block.placement.holders().iter().flatten().map(ToString::to_string).collect(),
    }
}
