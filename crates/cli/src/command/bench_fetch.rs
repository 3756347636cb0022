//! `bench-fetch`: fetches the shards of an object over and over, many at once, to load the nodes that hold them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datamesh_core::id::{ItemId, NodeId};
use datamesh_core::manifest::Stripe;
use datamesh_core::wire::{FetchRequest, Message, Request, Response};
use datamesh_engine::cached::{self, CacheNodes};
use datamesh_engine::health::{Depth, ObjectHealth, inspect};
use datamesh_engine::progress::Unobserved;
use datamesh_engine::transfer::Transfer;
use datamesh_engine::world::World;
use datamesh_node::assemble::Client;
use futures::future::join_all;
use serde::Serialize;

use crate::args::BenchFetchArgs;
use crate::command::CommandError;
use crate::command::client::{Session, target};
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::{Fields, Ui, bytes, duration, rate};

/// What is said once everything is known that will be fetched.
const READY: &str = "ready";

/// What is shown of the load.
#[derive(Debug, Serialize)]
struct LoadView {
    transfer_count: u64,
    failure_count: u64,
    size: u64,
    seconds: f64,
    latency_p50_s: f64,
    latency_p99_s: f64,
}

/// What one of the loops that fetch has seen.
#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    failures: Vec<String>,
    size: u64,
}

pub(super) async fn run(args: &BenchFetchArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let target = target(context, &args.object)?;
    let session = Session::open(context, Vec::new()).await?;
    let client = &session.client;
    let observer = Arc::new(Unobserved);
    let health = inspect(&client.world, client.transfer, observer, target.object, Depth::Index).await?;
    let held = held(&health);
    if held.is_empty() {
        return Err(CommandError::new(Exit::Failed, "no node holds a shard of it"));
    }
    ui.note(READY);
    // An input that can't be read has ended as well.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;

    let begun = Instant::now();
    let seen = match args.chunks {
        Some(count) => vec![Box::pin(ask_for_chunks(client, &stripes(health), usize::from(count))).await],
        None => {
            let until = begun + args.duration.duration();
            let loops = 0..usize::from(args.at_once);
            join_all(loops.map(|first| fetch_until(&client.world, &held, first, until))).await
        }
    };
    let elapsed = begun.elapsed();
    session.client.close().await;
    show(ui, seen, elapsed)
}

/// The shards of an object, each with a node that holds it.
fn held(health: &ObjectHealth) -> Vec<(NodeId, ItemId)> {
    let shards =
        health.stripes.iter().flat_map(|stripe| stripe.shards.iter().zip(stripe.placement.holders()));
    shards.filter_map(|(shard, holder)| Some(((*holder)?, ItemId::Shard(*shard)))).collect()
}

/// The stripes of an object, as its manifest has them.
fn stripes(health: ObjectHealth) -> Vec<Stripe> {
    let redundancy = health.scheme.redundancy;
    let stripes = health.stripes.into_iter();
    stripes.map(|found| Stripe { redundancy, sealed_size: found.sealed_size, shards: found.shards }).collect()
}

/// Asks for so many chunks, one after another, from wherever a get would have them.
async fn ask_for_chunks(client: &Client, stripes: &[Stripe], count: usize) -> Seen {
    let transfer = Transfer::start(client.world.clone(), client.transfer, Arc::new(Unobserved)).await;
    let caches = CacheNodes::of(&transfer);
    let asking = async {
        let mut seen = Seen::default();
        for stripe in stripes.iter().cycle().take(count) {
            let begun = Instant::now();
            match cached::stripe(&transfer, &caches, stripe).await {
                Ok(_) => {
                    seen.latencies.push(begun.elapsed());
                    seen.size += u64::from(stripe.sealed_size);
                }
                Err(error) => seen.failures.push(error.to_string()),
            }
        }
        seen
    };
    transfer.acknowledging(asking).await
}

/// Fetches one shard after another, from the `first` on, until it is time.
async fn fetch_until(world: &World, held: &[(NodeId, ItemId)], first: usize, until: Instant) -> Seen {
    let mut seen = Seen::default();
    for (node, item) in held.iter().cycle().skip(first % held.len()) {
        let begun = Instant::now();
        if begun >= until {
            break;
        }
        let request = Request::Fetch(FetchRequest::whole(*item, None));
        match world.peers.call(*node, Message::bare(request)).await {
            Ok(Message { header: Response::Found, payload }) if item.matches(&payload) => {
                seen.latencies.push(begun.elapsed());
                seen.size += u64::try_from(payload.len()).expect("a shard is short");
            }
            Ok(answer) => seen.failures.push(format!("{item} was not found: {:?}", answer.header)),
            Err(error) => seen.failures.push(error.to_string()),
        }
    }
    seen
}

fn show(ui: &Ui, seen: Vec<Seen>, elapsed: Duration) -> Result<(), CommandError> {
    let size = seen.iter().map(|seen| seen.size).sum();
    let failures: Vec<&String> = seen.iter().flat_map(|seen| &seen.failures).collect();
    if let Some(first) = failures.first() {
        ui.warn(format!("{} transfers failed, the first one: {first}", failures.len()));
    }
    let mut latencies: Vec<Duration> = seen.iter().flat_map(|seen| &seen.latencies).copied().collect();
    latencies.sort_unstable();
    let late = |percent: usize| {
        let at = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
        latencies.get(at).copied().unwrap_or_default()
    };
    let count = |count: usize| u64::try_from(count).expect("what was counted one by one");
    let view = LoadView {
        transfer_count: count(latencies.len()),
        failure_count: count(failures.len()),
        size,
        seconds: elapsed.as_secs_f64(),
        latency_p50_s: late(50).as_secs_f64(),
        latency_p99_s: late(99).as_secs_f64(),
    };
    let fields = Fields::new()
        .field("transfers", view.transfer_count)
        .field("failed", view.failure_count)
        .field("fetched", format!("{} ({})", bytes(size), rate(size, elapsed)))
        .field("half within", duration(late(50)))
        .field("99 % within", duration(late(99)));
    ui.result(fields, view)
}
