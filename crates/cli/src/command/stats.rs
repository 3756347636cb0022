//! `stats`: what the catalog comes to: totals, and what each part of the way adds or saves.

use std::collections::BTreeMap;

use datamesh_core::scheme::Mode;
use datamesh_engine::catalog::Entry;
use datamesh_engine::place::Wholeness;
use datamesh_node::metrics::{CatalogSums, cache_level, share};
use serde::Serialize;

use crate::command::CommandError;
use crate::command::metrics::totals;
use crate::context::Context;
use crate::ui::{Fields, Ui, bytes, count, percent};

/// What is shown of the whole catalog.
#[derive(Debug, Serialize)]
struct StatsView {
    object_count: u64,
    degraded_count: usize,
    size: u64,
    stored_size: u64,
    /// Bytes stored for each byte put.
    overhead: f64,
    /// Bytes stored, each counted once.
    unique_size: u64,
    /// Bytes stored for each of those.
    redundancy: f64,
    /// Bytes put for each of those.
    compression: f64,
    objects_by_mode: BTreeMap<&'static str, usize>,
    modes: Vec<ModeView>,
    networks: Vec<NetworkView>,
    cache: CacheView,
}

/// What is shown of the objects of one mode.
#[derive(Debug, Serialize)]
struct ModeView {
    mode: &'static str,
    object_count: u64,
    size: u64,
    stored_size: u64,
}

/// What is shown of the objects of one network.
#[derive(Debug, Serialize)]
struct NetworkView {
    network: String,
    object_count: u64,
    size: u64,
    stored_size: u64,
}

/// What is shown of the cache of this home.
#[derive(Debug, Serialize)]
struct CacheView {
    used: u64,
    capacity: u64,
    hits: u64,
    misses: u64,
    hit_ratio: Option<f64>,
}

pub(super) fn run(context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let entries = context.home().catalog().entries()?;
    let view = view(&entries, cache(context, ui)?);
    let StatsView { object_count, size, stored_size, unique_size, .. } = view;
    let mut fields = Fields::new()
        .field("objects", count(object_count))
        .field("put as degraded", view.degraded_count)
        .field("size", bytes(size))
        .field("stored", format!("{} ({:.2} bytes for each)", bytes(stored_size), view.overhead))
        .field("of that once", format!("{} ({})", bytes(unique_size), saving(size, unique_size)))
        .field("redundancy", format!("{:.2} bytes stored for each of those", view.redundancy));
    for mode in &view.modes {
        fields = fields.field(mode.mode, part(mode.object_count, mode.size, mode.stored_size));
    }
    for network in &view.networks {
        let part = part(network.object_count, network.size, network.stored_size);
        fields = fields.field("network", format!("{}: {part}", network.network));
    }
    let hits = view
        .cache
        .hit_ratio
        .map_or_else(|| "never asked".to_owned(), |share| format!("{} hits", percent(share)));
    let cache = format!("{} of {}, {hits}", bytes(view.cache.used), bytes(view.cache.capacity));
    ui.result(fields.field("cache", cache), view)
}

fn part(object_count: u64, size: u64, stored_size: u64) -> String {
    let objects = if object_count == 1 { "object" } else { "objects" };
    format!("{} {objects}, {}, stored as {}", count(object_count), bytes(size), bytes(stored_size))
}

/// What compression saved. What deduplication saves is not in the catalog: the stored size counts what an object needs,
/// whether others need it too or not.
fn saving(size: u64, unique_size: u64) -> String {
    match share(size.saturating_sub(unique_size), size) {
        Some(saved) if unique_size < size => format!("{} saved by compression", percent(saved)),
        _ => "nothing saved by compression".to_owned(),
    }
}

fn view(entries: &[Entry], cache: CacheView) -> StatsView {
    let sums = CatalogSums::of(entries);
    let by_mode = grouped(entries, |entry| mode_text(entry.scheme.mode));
    let by_network = grouped(entries, |entry| entry.network.clone());
    let degraded = entries.iter().filter(|entry| entry.acknowledged != Wholeness::Whole);
    let ratio = |part, whole| share(part, whole).unwrap_or_default();
    StatsView {
        object_count: sums.object_count,
        degraded_count: degraded.count(),
        size: sums.size,
        stored_size: sums.stored_size,
        overhead: ratio(sums.stored_size, sums.size),
        unique_size: sums.sealed_size,
        redundancy: ratio(sums.stored_size, sums.sealed_size),
        compression: ratio(sums.size, sums.sealed_size),
        objects_by_mode: by_mode.iter().map(|(mode, entries)| (*mode, entries.len())).collect(),
        modes: by_mode
            .into_iter()
            .map(|(mode, entries)| {
                let CatalogSums { object_count, size, stored_size, .. } = CatalogSums::of(&entries);
                ModeView { mode, object_count, size, stored_size }
            })
            .collect(),
        networks: by_network
            .into_iter()
            .map(|(network, entries)| {
                let CatalogSums { object_count, size, stored_size, .. } = CatalogSums::of(&entries);
                NetworkView { network, object_count, size, stored_size }
            })
            .collect(),
        cache,
    }
}

fn grouped<K: Ord>(entries: &[Entry], key: impl Fn(&Entry) -> K) -> BTreeMap<K, Vec<Entry>> {
    let mut groups: BTreeMap<K, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        groups.entry(key(entry)).or_default().push(entry.clone());
    }
    groups
}

const fn mode_text(mode: Mode) -> &'static str {
    match mode {
        Mode::Sealed => "sealed",
        Mode::Dedup => "dedup",
        Mode::Public => "public",
    }
}

fn cache(context: &Context, ui: &Ui) -> Result<CacheView, CommandError> {
    let resolved = context.settings(Vec::new())?;
    let level = cache_level(context.home(), resolved.settings().cache.capacity.bytes());
    let done = totals(context, ui).cache;
    Ok(CacheView {
        used: level.used,
        capacity: level.capacity,
        hits: done.hits,
        misses: done.misses,
        hit_ratio: share(done.hits, done.hits.saturating_add(done.misses)),
    })
}
