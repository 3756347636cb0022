//! A gateway beside a node: in its process, over its network, as long as it serves.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use datamesh_engine::buckets::OpenError;
use datamesh_node::assemble::{Client, Node};
use datamesh_node::buckets::{OpenBuckets, OpenBucketsError};
use datamesh_node::keyring::Identity;
use datamesh_node::settings::Settings;

use crate::command::CommandError;
use crate::command::client::Session;
use crate::command::gateway::{Port, PortView, Running, gateway_settings};
use crate::context::Context;
use crate::ui::Ui;

/// What the mesh of a home's own node is called. No mesh that was joined can have such a name.
const MESH_OF_NODE: &str = "@node";
/// The pause before the buckets are asked for again; each further one is twice as long, up to the longest.
const OPEN_PAUSE_FIRST: Duration = Duration::from_millis(500);
const OPEN_PAUSE_MAX: Duration = Duration::from_secs(30);

/// A gateway that is to serve beside a node. Its address is taken before the node starts, so that one which is taken already is told at
/// once.
pub(super) struct Beside {
    port: Port,
    owner: Arc<Identity>,
    settings: Settings,
}

impl Beside {
    /// Takes the address and opens the identity, if the settings want a gateway.
    pub(super) async fn prepare(
        settings: &Settings,
        context: &Context,
        ui: &Ui,
    ) -> Result<Option<Self>, CommandError> {
        if !settings.gateway.with_node.is_on() {
            return Ok(None);
        }
        let port = Port::take(settings, "--gateway").await?;
        let owner = Arc::new(context.identity(ui)?);
        Ok(Some(Self { port, owner, settings: gateway_settings(settings) }))
    }

    /// What the node and the gateway go by.
    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is shown of it.
    pub(super) fn view(&self) -> PortView {
        self.port.view(&self.settings)
    }

    /// Serves the buckets of the home's identity until it is to stop. Whoever connects before the mesh has told of them waits.
    pub(super) async fn serve(
        self,
        node: &Node,
        context: &Context,
        ui: &Ui,
        stop: impl Future<Output = ()>,
    ) -> Result<(), CommandError> {
        let Self { port, owner, settings } = self;
        let client = Client::inside(node, context.home(), &settings);
        let session = Session { client, settings, mesh: MESH_OF_NODE.to_owned(), entries: Vec::new() };
        let mut stop = pin!(stop);
        let opened = tokio::select! {
            () = &mut stop => None,
            opened = open(&session, &owner, context) => Some(opened),
        };
        let open = match opened {
            Some(Ok(open)) => open,
            ended => {
                session.client.close().await;
                return ended.map_or(Ok(()), |failed| failed.map(drop).map_err(CommandError::from));
            }
        };
        let running = Running { session, open, port };
        let told = running.access_keys(ui);
        running.serve(stop).await.and(told.map(drop))
    }
}

/// Opens the buckets, as soon as the mesh tells of them: where all of it starts at once, each node is there before the others.
async fn open(
    session: &Session,
    owner: &Arc<Identity>,
    context: &Context,
) -> Result<OpenBuckets, OpenBucketsError> {
    let Session { client, settings, mesh, .. } = session;
    let mut pause = OPEN_PAUSE_FIRST;
    loop {
        match OpenBuckets::open(context.home(), client, mesh, settings, Arc::clone(owner)).await {
            Err(OpenBucketsError::Open(error)) if !matches!(error, OpenError::Index(_)) => {
                tracing::warn!(%error, "the gateway waits for the mesh");
            }
            opened => return opened,
        }
        tokio::time::sleep(pause).await;
        pause = OPEN_PAUSE_MAX.min(pause * 2);
    }
}
