//! `list`: what the catalog holds.

use datamesh_core::scheme::Mode;
use datamesh_engine::catalog::Entry;
use datamesh_engine::place::Wholeness;
use serde::Serialize;

use crate::command::CommandError;
use crate::context::Context;
use crate::ui::{Column, Table, Ui, bytes, instant};

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
    /// `null` for what is kept until it is deleted.
    until: Option<String>,
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
            until: entry.end().begin().map(instant),
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
        Column::left("KEPT UNTIL"),
        Column::left("NETWORK"),
        Column::left("OBJECT"),
    ];
    let mut table = Table::new(columns);
    let views: Vec<EntryView> = entries.iter().map(EntryView::new).collect();
    for view in &views {
        let size = bytes(view.size);
        let until = view.until.as_deref().unwrap_or("deleted");
        table.row([&view.name, &size, &view.scheme, &view.created, until, &view.network, &view.object]);
    }
    if views.is_empty() {
        ui.note("the catalog is empty; datamesh put FILE stores a file");
    }
    ui.results(table, &views)
}
