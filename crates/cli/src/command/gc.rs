//! `gc`: gives back the space of what no lease protects, on the disks of the embedded mesh.

use serde::Serialize;

use crate::args::GcArgs;
use crate::command::CommandError;
use crate::command::client::Session;
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::{Fields, Ui, bytes};

/// What is shown of a collection.
#[derive(Debug, Serialize)]
struct GcView {
    leases_expired: u64,
    items_dropped: u64,
    segments_removed: u64,
    size: u64,
}

pub(super) async fn run(_: &GcArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let session = Session::open(context, Vec::new()).await?;
    let collected = session.client.collect().await;
    session.client.close().await;
    let Some(collected) = collected else {
        let message = format!("the nodes of {} collect their garbage themselves", session.mesh);
        return Err(CommandError::new(Exit::Usage, message)
            .hint("each does every storage.collect_every; --network embedded is the mesh in this home"));
    };
    let collected = collected.map_err(|error| CommandError::from_error(Exit::Failed, error))?;
    let view = GcView {
        leases_expired: collected.lease_count,
        items_dropped: collected.item_count,
        segments_removed: collected.segment_count,
        size: collected.size,
    };
    let fields = Fields::new()
        .field("leases expired", view.leases_expired)
        .field("segments removed", view.segments_removed)
        .field("given back", bytes(view.size));
    ui.result(fields, &view)
}
