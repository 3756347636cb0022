//! `delete`: releases an object's leases.

use std::sync::Arc;

use datamesh_engine::progress::Unobserved;
use datamesh_engine::release::release;
use serde::Serialize;

use crate::args::DeleteArgs;
use crate::command::CommandError;
use crate::command::client::{Session, owned, warn_of_failures};
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::{Fields, Ui};

/// What is shown of a deletion.
#[derive(Debug, Serialize)]
struct DeleteView {
    object: String,
    lease_count: u64,
    nodes_told: u64,
}

pub(super) async fn run(args: &DeleteArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let (entry, owner) = owned(context, ui, &args.object)?;
    let session = Session::open_of(context, &entry).await?;
    let client = &session.client;
    let released = release(&client.world, client.transfer, Arc::new(Unobserved), &owner, entry.tag).await;
    let Session { client, mesh, .. } = session;
    let tell_each_other = client.network().is_some();
    client.close().await;
    warn_of_failures(ui, &released.failures);
    let untold = u64::try_from(released.failures.len()).unwrap_or(u64::MAX);
    if untold > 0 && tell_each_other && released.node_count > untold {
        ui.warn(format!("{untold} nodes were away: the others tell them when they are back"));
    } else if untold > 0 {
        // The tag must be kept until so many nodes have been told that they can tell the others, or what these hold could
        // never be released.
        let exit = if released.node_count == 0 { Exit::Unreachable } else { Exit::NotEnough };
        let message = format!("{} nodes could not be told, and keep what they have", released.failures.len());
        return Err(CommandError::new(exit, message).hint("run it again when they are back"));
    }
    // A put that was killed the moment it was through would go on with what is gone.
    let forgotten = context.home().journals(&mesh).forget(entry.owner, entry.tag);
    forgotten.map_err(|error| CommandError::io("the journals of puts can't be read", error))?;
    context.home().catalog().remove(entry.object)?;
    let fields = Fields::new()
        .field("deleted", entry.object)
        .field("leases ended", released.lease_count)
        .field("nodes told", released.node_count);
    let view = DeleteView {
        object: entry.object.to_string(),
        lease_count: released.lease_count,
        nodes_told: released.node_count,
    };
    ui.result(fields, view)
}
