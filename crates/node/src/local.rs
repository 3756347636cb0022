//! The embedded mesh: several stores in one process, no network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datamesh_core::id::NodeId;
use datamesh_core::topology::{NodeRecord, Topology};
use datamesh_core::wire::{Message, Request, Response};
use datamesh_engine::keep::{KeepSettings, Keeper, Watch};
use datamesh_engine::progress::Unobserved;
use datamesh_engine::transfer::TransferSettings;
use datamesh_engine::world::{CallError, ItemsError, Peers, World};
use datamesh_store::Store;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::serve::Server;

/// Nodes that live in this process, each with a disk of its own.
pub struct LocalPeers {
    topology: Arc<Topology>,
    servers: BTreeMap<NodeId, Server>,
}

impl LocalPeers {
    /// A mesh of these nodes.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = (NodeRecord, Server)>) -> Self {
        let mut topology = Topology::default();
        let mut servers = BTreeMap::new();
        for (record, server) in nodes {
            servers.insert(record.node, server);
            topology.learn(record);
        }
        Self { topology: Arc::new(topology), servers }
    }
}

impl Peers for LocalPeers {
    fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology)
    }

    fn call(
        &self,
        node: NodeId,
        request: Message<Request>,
    ) -> BoxFuture<'_, Result<Message<Response>, CallError>> {
        async move {
            let server = self.servers.get(&node);
            let server = server.ok_or_else(|| CallError::Unreachable {
                node,
                why: "no disk of the embedded mesh has this id".to_owned(),
            })?;
            Ok(server.answer(request).await)
        }
        .boxed()
    }
}

/// Has every node look how the placement groups stand that it leads, as one with a process of its own does again and again,
/// so that it says so when it is asked.
pub(crate) async fn look(
    world: &World,
    transfer: TransferSettings,
    nodes: impl Iterator<Item = (&Store, &Server)>,
) -> Result<(), ItemsError> {
    for (store, server) in nodes {
        let own = server.node();
        // A look repairs nothing, so nothing has to settle.
        let settings = KeepSettings {
            transfer: TransferSettings { own: Some(own), ..transfer },
            settle: Duration::ZERO,
        };
        let items = Arc::new(store.clone());
        let keeper = Keeper::new(world.clone(), own, items, settings, Arc::new(Unobserved));
        keeper.watched_by(Arc::clone(server.outlook()) as Arc<dyn Watch>).look().await?;
    }
    Ok(())
}
