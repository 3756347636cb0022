//! `up`: a whole mesh of node processes on this machine.

use datamesh_core::bucket::{Access, Grant};
use datamesh_node::charter::Charter;
use datamesh_node::home::{Home, Mesh, Networks};
use datamesh_node::settings::Definition;
use serde::Serialize;

use crate::args::UpArgs;
use crate::command::gateway::{Port, PortView, Running};
use crate::command::{CommandError, access};
use crate::context::Context;
use crate::exit::Exit;
use crate::processes::{NodeProcess, start_mesh};
use crate::ui::{Column, Table, Ui};

/// What `--network` calls the mesh.
const NETWORK: &str = "up";

/// Nodes through which the mesh is entered: any one of them is enough.
const ENTRY_NODES: usize = 4;

/// What is shown of a node.
#[derive(Debug, Serialize)]
struct NodeView {
    peer_id: String,
    address: String,
    pid: Option<u32>,
    home: String,
}

pub(super) async fn run(args: &UpArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let resolved = context.settings(args.capacity.iter().cloned().collect())?;
    let capacity = Definition::of("storage.capacity").expect("the setting exists");
    let capacity = resolved.text(capacity);
    let directory = context.home().root().join(NETWORK);
    let nodes = tokio::select! {
        started = start_mesh(&directory, usize::from(args.nodes), &capacity) => started?,
        () = context.interrupt().wait() => return Ok(()),
    };
    remember(context.home(), &nodes)?;
    show(ui, &nodes)?;
    ui.note(format!(
        "datamesh --network {NETWORK} put FILE talks to it; Ctrl-C stops it, and its data stays"
    ));
    let served = if args.beside.no_gateway {
        context.interrupt().wait().await;
        Ok(())
    } else {
        Box::pin(serve(args, context, ui)).await
    };
    ui.note("stopping");
    let stops = futures::future::join_all(nodes.into_iter().map(NodeProcess::stop)).await;
    [served].into_iter().chain(stops).collect()
}

/// Serves the mesh by S3 and HTTP until somebody wishes that the program stop.
async fn serve(args: &UpArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let resolved = context.settings(args.beside.overrides())?;
    let mesh = Networks::load(context.home())?.mesh(NETWORK)?;
    let port = Port::take(resolved.settings(), "--gateway").await?;
    let gateway = Running::open(context, ui, resolved.settings(), &mesh, port).await?;
    let keys = gateway.open.buckets.access_keys();
    if keys.map_err(|error| CommandError::from_error(Exit::Failed, error))?.is_empty() {
        let everything = vec![Grant { bucket: None, access: Access::Own }];
        let (id, access) = access::make(&gateway.open.buckets, Some(NETWORK.to_owned()), everything).await?;
        ui.note(format!(
            "made an access key, whose secret is not shown again:\n  export AWS_ACCESS_KEY_ID={id} \
             AWS_SECRET_ACCESS_KEY={}",
            access.secret
        ));
    }
    let PortView { endpoint, dashboard, .. } = gateway.port.view(resolved.settings());
    ui.note(format!("S3 and HTTP at {endpoint}, the dashboard at {dashboard}"));
    gateway.serve(context.interrupt().wait()).await
}

/// Keeps the mesh under its name, without making it the current one.
fn remember(home: &Home, nodes: &[NodeProcess]) -> Result<(), CommandError> {
    let lock = home.lock()?;
    let mut networks = Networks::load(home)?;
    let current: Mesh = networks.current();
    networks.forget(NETWORK);
    let name: datamesh_node::home::Name = NETWORK.parse().expect("it is a name");
    for address in nodes.iter().take(ENTRY_NODES).flat_map(|node| &node.addresses) {
        networks.join(Some(name.clone()), address.clone(), Charter::default())?;
    }
    networks.select(current.name())?;
    Ok(networks.save(home, &lock)?)
}

fn show(ui: &Ui, nodes: &[NodeProcess]) -> Result<(), CommandError> {
    let mut table = Table::new(["PEER ID", "PROCESS", "ADDRESS"].map(Column::left));
    let views: Vec<NodeView> = nodes
        .iter()
        .map(|node| NodeView {
            peer_id: node.peer_id.clone(),
            address: node.addresses.first().map(ToString::to_string).unwrap_or_default(),
            pid: node.pid(),
            home: node.home.display().to_string(),
        })
        .collect();
    for view in &views {
        table.row([view.peer_id.clone(), view.pid.unwrap_or_default().to_string(), view.address.clone()]);
    }
    ui.results(table, &views)
}
