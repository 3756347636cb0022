//! The mesh as one of its nodes reaches it: the others over the network, itself at once.

use std::sync::Arc;

use datamesh_core::id::NodeId;
use datamesh_core::topology::Topology;
use datamesh_core::wire::{Message, Request, Response};
use datamesh_engine::world::{CallError, Peers};
use datamesh_net::Network;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::serve::Server;

/// The other nodes, and this one.
pub(crate) struct Neighbours {
    pub(crate) own: NodeId,
    pub(crate) server: Server,
    pub(crate) network: Network,
}

impl Peers for Neighbours {
    fn topology(&self) -> Arc<Topology> {
        self.network.topology()
    }

    fn call(
        &self,
        node: NodeId,
        request: Message<Request>,
    ) -> BoxFuture<'_, Result<Message<Response>, CallError>> {
        if node == self.own {
            async move { Ok(self.server.answer(request).await) }.boxed()
        } else {
            self.network.call(node, request)
        }
    }
}
