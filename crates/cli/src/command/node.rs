//! `bootstrap` and `service`: a node that serves until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use datamesh_core::admission::Authorities;
use datamesh_node::assemble::{Node, NodeOrder};
use datamesh_node::charter::{CharterOrder, Kind, SecretOrder};
use datamesh_node::discard::Keeping;
use datamesh_node::keyring::Identity;
use datamesh_node::settings::{PeerAddress, Settings};
use serde::Serialize;

use crate::args::{BootstrapArgs, NodeArgs, ServiceArgs};
use crate::command::CommandError;
use crate::command::beside::Beside;
use crate::command::gateway::PortView;
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::{Fields, Ui, bytes};

/// What a node says once it serves.
#[derive(Debug, Serialize)]
struct NodeView {
    peer_id: String,
    addresses: Vec<String>,
    kind: Kind,
    /// Where the secret of a private mesh lies.
    secret_file: Option<PathBuf>,
    /// Who admits to a restricted mesh.
    authorities: Vec<String>,
    /// The digest of the latency map that it places by.
    latency_map: Option<String>,
    /// Where the gateway beside it is, if there is one.
    gateway: Option<PortView>,
}

pub(super) async fn bootstrap(args: &BootstrapArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let secret = match context.mesh_secret(args.mesh.secret_file.as_deref(), ui)? {
        Some(secret) => SecretOrder::Secret(secret),
        None if args.private => SecretOrder::Private,
        None => SecretOrder::AsBefore,
    };
    let founder = if args.restricted { Some(Arc::new(context.identity(ui)?)) } else { None };
    let own = founder.iter().map(|founder| founder.owner());
    let authorities = Authorities::new(own.chain(args.mesh.authorities.iter().copied()))
        .map_err(|error| CommandError::from_error(Exit::Usage, error))?;
    serve(&args.node, Vec::new(), CharterOrder { secret, authorities }, founder, context, ui).await
}

pub(super) async fn service(args: &ServiceArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let entries = args.entries().map_err(|error| CommandError::from_error(Exit::Usage, error))?;
    let secret = context.mesh_secret(args.mesh.secret_file.as_deref(), ui)?;
    let secret = secret.map_or(SecretOrder::AsBefore, SecretOrder::Secret);
    let authorities =
        args.mesh.authorities().map_err(|error| CommandError::from_error(Exit::Usage, error))?;
    let order = CharterOrder { secret, authorities };
    serve(&args.node, entries, order, None, context, ui).await
}

async fn serve(
    args: &NodeArgs,
    entries: Vec<PeerAddress>,
    charter: CharterOrder,
    founder: Option<Arc<Identity>>,
    context: &Context,
    ui: &Ui,
) -> Result<(), CommandError> {
    let keeping = args.keeping().map_err(|error| CommandError::from_error(Exit::Usage, error))?;
    if keeping != Keeping::Everything {
        ui.warn("this node is for benchmarks: it throws away every shard that it is given");
    }
    let order = NodeOrder { role: args.role, entries, charter, founder, keeping };
    let resolved = context.settings(args.overrides())?;
    let beside = Beside::prepare(resolved.settings(), context, ui).await?;
    let settings = beside.as_ref().map_or(resolved.settings(), Beside::settings);
    let node = Node::start(context.home(), settings, order).await?;
    if let Err(error) = show(&node, settings, beside.as_ref(), context, ui) {
        // Nobody was told of the node: that it does not stop in good order either adds nothing.
        let _ = node.stop().await;
        return Err(error);
    }
    let stop = async {
        tokio::select! {
            () = context.interrupt().wait() => {}
            () = stdin_ended(args) => {}
        }
        ui.note("stopping");
    };
    let served = match beside {
        Some(beside) => Box::pin(beside.serve(&node, context, ui, stop)).await,
        None => {
            stop.await;
            Ok(())
        }
    };
    let stopped = node.stop().await.map_err(|error| CommandError::from_error(Exit::Failed, error));
    served.and(stopped)
}

/// Says where the node serves, and what whoever runs it should know.
fn show(
    node: &Node,
    settings: &Settings,
    beside: Option<&Beside>,
    context: &Context,
    ui: &Ui,
) -> Result<(), CommandError> {
    let recovery = node.recovery();
    if recovery.replayed_count + recovery.skipped_count > 0 || recovery.index_rebuilt {
        ui.note(format!(
            "recovered: {} records replayed, {} torn or rotten",
            recovery.replayed_count, recovery.skipped_count
        ));
    }
    let peer_id = node.network.node().to_string();
    let addresses: Vec<String> = node.network.listen_addresses().iter().map(ToString::to_string).collect();
    let kind = node.charter.kind();
    let secret_file = node.charter.secret.as_ref().map(|_| context.home().node_secret_path());
    let authorities: Vec<String> = node.charter.authorities.iter().map(ToString::to_string).collect();
    let mut fields = Fields::new().field("peer id", &peer_id).field("mesh", kind);
    for address in &addresses {
        fields = fields.field("address", address);
    }
    fields = fields.field("offers", bytes(settings.storage.capacity.bytes()));
    for authority in &authorities {
        fields = fields.field("authority", authority);
    }
    let latency_map = node.latency_map.clone();
    if let Some(digest) = &latency_map {
        fields = fields.field("latency map", digest);
    }
    if let Some(path) = &secret_file {
        fields = fields.field("mesh secret", path.display());
    }
    let gateway = beside.map(Beside::view);
    if let Some(gateway) = &gateway {
        fields = fields.field("S3 endpoint", &gateway.endpoint).field("dashboard", &gateway.dashboard);
    }
    let secret_path = secret_file.clone();
    ui.result(fields, NodeView { peer_id, addresses, kind, secret_file, authorities, latency_map, gateway })?;
    if let Some(path) = &secret_path {
        ui.note(format!(
            "only who has the mesh secret gets in: copy {} to them by a way that you trust; they name the copy with \
             --mesh-secret-file in datamesh join and datamesh service",
            path.display()
        ));
    }
    Ok(())
}

/// Completes when standard input ends, if the node is to stop then.
async fn stdin_ended(args: &NodeArgs) {
    if !args.until_stdin_ends {
        return std::future::pending().await;
    }
    // An input that can't be read has ended as well.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
}
