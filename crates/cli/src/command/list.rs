//! `list` and `stats`: what the catalog holds.

use std::collections::BTreeMap;

use datamesh_core::scheme::Mode;
use datamesh_engine::catalog::Entry;
use datamesh_engine::place::Wholeness;
use serde::Serialize;

use crate::command::CommandError;
use crate::context::Context;
use crate::ui::{Column, Fields, Table, Ui, bytes, count, instant};

/// What is shown of one object.
#[derive(Debug, Serialize)]
struct EntryView {
    object: String,
    name: String,
    size: u64,
    stored_size: u64,
    mode: Mode,
    scheme: String,
    created: String,
    network: String,
    acknowledged: Wholeness,
}

impl EntryView {
    fn new(entry: &Entry) -> Self {
        Self {
            object: entry.object.to_string(),
            name: entry.name.clone(),
            size: entry.size,
            stored_size: entry.stored_size,
            mode: entry.scheme.mode,
            scheme: entry.scheme.redundancy.to_string(),
            created: instant(entry.created),
            network: entry.network.clone(),
            acknowledged: entry.acknowledged,
        }
    }
}

pub(super) fn run(context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let mut entries = context.home().catalog().entries()?;
    entries.sort_by_key(|entry| entry.created);
    let columns = [
        Column::left("NAME"),
        Column::right("SIZE"),
        Column::left("SCHEME"),
        Column::left("PUT"),
        Column::left("NETWORK"),
        Column::left("OBJECT"),
    ];
    let mut table = Table::new(columns);
    let views: Vec<EntryView> = entries.iter().map(EntryView::new).collect();
    for view in &views {
        table.row([&view.name, &bytes(view.size), &view.scheme, &view.created, &view.network, &view.object]);
    }
    if views.is_empty() {
        ui.note("the catalog is empty; datamesh put FILE stores a file");
    }
    ui.results(table, &views)
}

/// What is shown of the whole catalog.
#[derive(Debug, Serialize)]
struct StatsView {
    object_count: usize,
    degraded_count: usize,
    size: u64,
    stored_size: u64,
    overhead: f64,
    objects_by_mode: BTreeMap<String, usize>,
}

pub(super) fn stats(context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let entries = context.home().catalog().entries()?;
    let size: u64 = entries.iter().map(|entry| entry.size).sum();
    let stored_size: u64 = entries.iter().map(|entry| entry.stored_size).sum();
    let degraded = entries.iter().filter(|entry| entry.acknowledged != Wholeness::Whole);
    let mut objects_by_mode = BTreeMap::new();
    for entry in &entries {
        let mode = match entry.scheme.mode {
            Mode::Sealed => "sealed",
            Mode::Dedup => "dedup",
            Mode::Public => "public",
        };
        *objects_by_mode.entry(mode.to_owned()).or_insert(0) += 1;
    }
    let view = StatsView {
        object_count: entries.len(),
        degraded_count: degraded.count(),
        size,
        stored_size,
        overhead: ratio(stored_size, size),
        objects_by_mode,
    };
    let object_count = u64::try_from(view.object_count).unwrap_or(u64::MAX);
    let fields = Fields::new()
        .field("objects", count(object_count))
        .field("put as degraded", view.degraded_count)
        .field("size", bytes(size))
        .field("stored", format!("{} ({:.2} bytes for each)", bytes(stored_size), view.overhead));
    ui.result(fields, view)
}

/// Bytes stored for each byte put; 0 where nothing was put.
#[expect(clippy::cast_precision_loss, reason = "a ratio for people needs three digits")]
fn ratio(stored_size: u64, size: u64) -> f64 {
    if size == 0 { 0.0 } else { stored_size as f64 / size as f64 }
}
