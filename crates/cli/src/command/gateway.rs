//! `gateway`: serves S3, HTTP and the dashboard until it is told to stop, by itself or beside a node.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use datamesh_gateway::{Gateway, GatewaySettings, serve};
use datamesh_node::buckets::OpenBuckets;
use datamesh_node::home::{Home, Mesh};
use datamesh_node::settings::Settings;
use datamesh_node::traces;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::args::GatewayArgs;
use crate::command::CommandError;
use crate::command::client::Session;
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::{Fields, Ui};

/// What is shown of where a gateway is.
#[derive(Debug, Serialize)]
pub(super) struct PortView {
    pub(super) endpoint: String,
    pub(super) dashboard: String,
    region: String,
}

/// What is shown of a gateway once it serves.
#[derive(Debug, Serialize)]
struct GatewayView {
    #[serde(flatten)]
    port: PortView,
    network: String,
    owner: String,
    access_keys: usize,
}

pub(super) async fn run(args: &GatewayArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let resolved = context.settings(args.overrides())?;
    let mesh = context.mesh()?;
    let port = Port::take(resolved.settings(), "--listen").await?;
    let running = Running::open(context, ui, resolved.settings(), &mesh, port).await?;
    running.show(ui)?;
    running.serve(context.interrupt().wait()).await
}

/// The address of a gateway, taken: who connects waits until it serves.
pub(super) struct Port {
    listener: TcpListener,
    address: SocketAddr,
}

impl Port {
    /// Takes the one that the settings name. The flag is what the user can choose another with.
    pub(super) async fn take(settings: &Settings, flag: &str) -> Result<Self, CommandError> {
        let address = settings.gateway.listen;
        let taken = |error| {
            CommandError::io(format!("{address} can't be listened on"), error)
                .hint(format!("choose another with {flag} IP:PORT"))
        };
        let listener = TcpListener::bind(address).await.map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        Ok(Self { listener, address })
    }

    /// What is shown of it.
    pub(super) fn view(&self, settings: &Settings) -> PortView {
        PortView {
            endpoint: format!("http://{}", self.address),
            dashboard: format!("http://{}/dashboard", self.address),
            region: settings.gateway.region.as_str().to_owned(),
        }
    }
}

/// A gateway that is ready to serve.
pub(super) struct Running {
    pub(super) session: Session,
    pub(super) open: OpenBuckets,
    pub(super) port: Port,
}

impl Running {
    /// Reaches the mesh and reads the buckets.
    pub(super) async fn open(
        context: &Context,
        ui: &Ui,
        settings: &Settings,
        mesh: &Mesh,
        port: Port,
    ) -> Result<Self, CommandError> {
        let owner = Arc::new(context.identity(ui)?);
        let session = Session::open_with(context, gateway_settings(settings), mesh).await?;
        let home: &Home = context.home();
        let opened = OpenBuckets::open(home, &session.client, &session.mesh, &session.settings, owner).await;
        match opened {
            Ok(open) => Ok(Self { session, open, port }),
            Err(error) => {
                session.client.close().await;
                Err(error.into())
            }
        }
    }

    /// How many access keys there are; tells where nobody has one.
    pub(super) fn access_keys(&self, ui: &Ui) -> Result<usize, CommandError> {
        let keys = self.open.buckets.access_keys();
        let count = keys.map_err(|error| CommandError::from_error(Exit::Failed, error))?.len();
        if count == 0 {
            ui.note("nobody may use it yet: datamesh access new --grant '*=own' makes an access key");
        }
        Ok(count)
    }

    fn show(&self, ui: &Ui) -> Result<(), CommandError> {
        let view = GatewayView {
            port: self.port.view(&self.session.settings),
            network: self.session.mesh.clone(),
            owner: self.open.buckets.owner().owner().to_string(),
            access_keys: self.access_keys(ui)?,
        };
        let fields = Fields::new()
            .field("S3 endpoint", &view.port.endpoint)
            .field("region", &view.port.region)
            .field("dashboard", &view.port.dashboard)
            .field("network", &view.network)
            .field("access keys", view.access_keys);
        ui.result(fields, &view)
    }

    /// Serves until it is to stop.
    pub(super) async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), CommandError> {
        let Self { session, open, port } = self;
        let settings = GatewaySettings {
            region: session.settings.gateway.region.as_str().to_owned(),
            domain: session.settings.gateway.domain.domain().map(str::to_owned),
            mesh: session.mesh.clone(),
        };
        let registry = session.client.metrics();
        let metrics = move || registry.answer();
        let gateway = Gateway {
            buckets: open.buckets.clone(),
            settings: Arc::new(settings),
            metrics: Arc::new(metrics),
            adopt: traces::adopt,
        };
        let served = serve::serve(gateway, port.listener, stop).await;
        open.close().await;
        session.client.close().await;
        served.map_err(|error| CommandError::io("the gateway can't serve", error))
    }
}

/// The settings of what a gateway moves with: many transfers at once, of which most wait for those who asked.
pub(super) fn gateway_settings(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    settings.transfer.concurrent_transfers = settings.gateway.concurrent_transfers;
    settings
}
