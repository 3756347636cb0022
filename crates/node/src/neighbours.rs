//! The mesh as one of its nodes reaches it: the others over the network, itself at once.

use std::sync::Arc;

use datamesh_core::id::NodeId;
use datamesh_core::topology::Topology;
use datamesh_core::wire::{Message, Refusal, Request, Response};
use datamesh_engine::world::{CallError, Clock, Peers};
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

/// The same for a client inside the node. The others believe a node that an owner may have what it stores, so that it is asked here.
pub(crate) struct Inside {
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) network: Network,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Inside {
    /// Why an owner may not have kept what is asked for, if so. A quota is a client's: nodes count what clients store, not what they
    /// store for each other, so that an owner who has one is served by a gateway apart.
    fn refusal(&self, request: &Request) -> Option<Refusal> {
        let lease = match request {
            Request::Store(store) => &store.lease,
            Request::Lease { lease, .. } => lease,
            _ => return None,
        };
        let admission = self.network.admission(lease.unverified().owner, self.clock.now().epoch());
        match admission {
            None => Some(Refusal::NotAdmitted),
            Some(admission) => admission.quota.map(|_| Refusal::OverQuota { used: 0, quota: 0 }),
        }
    }
}

impl Peers for Inside {
    fn topology(&self) -> Arc<Topology> {
        self.peers.topology()
    }

    fn call(
        &self,
        node: NodeId,
        request: Message<Request>,
    ) -> BoxFuture<'_, Result<Message<Response>, CallError>> {
        match self.refusal(&request.header) {
            Some(refusal) => async move { Ok(Message::bare(Response::Refused(refusal))) }.boxed(),
            None => self.peers.call(node, request),
        }
    }
}
