//! The embedded mesh: several stores in one process, no network.

use std::collections::BTreeMap;
use std::sync::Arc;

use datamesh_core::id::NodeId;
use datamesh_core::topology::{NodeRecord, Topology};
use datamesh_core::wire::{Message, Request, Response};
use datamesh_engine::world::{CallError, Peers};
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
