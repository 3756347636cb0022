//! `bootstrap` and `service`: a node that serves until it is told to stop.

use datamesh_node::assemble::{Node, NodeOrder};
use datamesh_node::discard::Keeping;
use datamesh_node::settings::PeerAddress;
use serde::Serialize;

use crate::args::{BootstrapArgs, NodeArgs, ServiceArgs};
use crate::command::CommandError;
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::{Fields, Ui, bytes};

/// What a node says once it serves.
#[derive(Debug, Serialize)]
struct NodeView {
    peer_id: String,
    addresses: Vec<String>,
}

pub(super) async fn bootstrap(args: &BootstrapArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    serve(&args.node, Vec::new(), context, ui).await
}

pub(super) async fn service(args: &ServiceArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let entries = args.entries().map_err(|error| CommandError::from_error(Exit::Usage, error))?;
    serve(&args.node, entries, context, ui).await
}

async fn serve(
    args: &NodeArgs,
    entries: Vec<PeerAddress>,
    context: &Context,
    ui: &Ui,
) -> Result<(), CommandError> {
    let keeping = args.keeping().map_err(|error| CommandError::from_error(Exit::Usage, error))?;
    if keeping != Keeping::Everything {
        ui.warn("this node is for benchmarks: it throws away every shard that it is given");
    }
    let order = NodeOrder { role: args.role, entries, keeping };
    let resolved = context.settings(args.overrides())?;
    let settings = resolved.settings();
    let node = Node::start(context.home(), settings, order).await?;
    let recovery = node.recovery;
    if recovery.replayed_count + recovery.skipped_count > 0 || recovery.index_rebuilt {
        ui.note(format!(
            "recovered: {} records replayed, {} torn or rotten",
            recovery.replayed_count, recovery.skipped_count
        ));
    }
    let peer_id = node.network.node().to_string();
    let addresses: Vec<String> = node.network.listen_addresses().iter().map(ToString::to_string).collect();
    let mut fields = Fields::new().field("peer id", &peer_id);
    for address in &addresses {
        fields = fields.field("address", address);
    }
    fields = fields.field("offers", bytes(settings.storage.capacity.bytes()));
    ui.result(fields, NodeView { peer_id, addresses })?;
    tokio::select! {
        () = context.interrupt().wait() => {}
        () = stdin_ended(args) => {}
    }
    ui.note("stopping");
    node.stop().await.map_err(|error| CommandError::from_error(Exit::Failed, error))
}

/// Completes when standard input ends, if the node is to stop then.
async fn stdin_ended(args: &NodeArgs) {
    if !args.until_stdin_ends {
        return std::future::pending().await;
    }
    // An input that can't be read has ended as well.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
}
