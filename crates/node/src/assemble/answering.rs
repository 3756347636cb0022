//! What a node answers, to whom, and how much of what it is brought it keeps.

use std::sync::Arc;

use datamesh_core::id::NodeId;
use datamesh_core::wire::{Message, Refusal, Request, Response};
use datamesh_engine::rings::Rings;
use datamesh_engine::traffic::Traffic;
use datamesh_engine::world::Compute;
use datamesh_net::Answer;
use datamesh_store::cache::DiskCache;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::metrics::{NetworkWatch, Source, TrafficView};
use crate::quotas::Shares;
use crate::serve::{Asker, Server};
use crate::settings::{MetricsShare, Settings};

/// What a node answers, and to whom.
pub(super) struct Answering {
    pub(super) watch: Arc<NetworkWatch>,
    rings: Arc<Rings>,
    server: Server,
    share: MetricsShare,
    /// What each owner may have here, whatever it was admitted for.
    owner_quota: Option<u64>,
    shares: Arc<Shares>,
    compute: Arc<dyn Compute>,
}

/// Who asks, before it is known what part of a quota is this node's.
enum Caller {
    Node,
    Client,
    /// Its owner has a quota for the whole mesh, and wants an item kept that so many nodes are to hold.
    Limited {
        quota: u64,
        holder_count: usize,
    },
}

impl Answering {
    pub(super) fn new(
        server: &Server,
        settings: &Settings,
        cache: Option<&DiskCache>,
        traffic: &Arc<Traffic>,
        (compute, rings): (&Arc<dyn Compute>, &Arc<Rings>),
    ) -> Self {
        let watch = NetworkWatch::new(Arc::clone(traffic) as Arc<dyn TrafficView>);
        server.metrics().add(Arc::clone(&watch) as Arc<dyn Source>);
        if let Some(cache) = cache {
            server.metrics().add(Arc::new(cache.clone()));
        }
        Self {
            watch,
            rings: Arc::clone(rings),
            server: server.clone(),
            share: settings.metrics.share,
            owner_quota: settings.storage.owner_quota.bytes(),
            shares: Arc::new(Shares::new(server.node())),
            compute: Arc::clone(compute),
        }
    }

    fn caller(&self, from: &NodeId, request: &Request) -> Result<Caller, Refusal> {
        if self.watch.knows(from) {
            return Ok(Caller::Node);
        }
        let (item, lease) = match request {
            Request::Store(store) => (&store.item, &store.lease),
            Request::Lease { item, lease } => (item, lease),
            _ => return Ok(Caller::Client),
        };
        // Whether the lease is the owner's is found out before anything is kept under it.
        let admission = self.watch.admission(lease.unverified().owner)?;
        Ok(match admission.quota {
            Some(quota) => Caller::Limited { quota, holder_count: item.redundancy().shard_count() },
            None => Caller::Client,
        })
    }

    fn may_ask(&self, from: &NodeId, request: &Request) -> bool {
        match (request, self.share) {
            (Request::Metrics, MetricsShare::Nobody) => false,
            (Request::Metrics, MetricsShare::Nodes)
            | (Request::Summarise(_) | Request::Parts { .. } | Request::Releases(_), _) => {
                self.watch.knows(from)
            }
            _ => true,
        }
    }
}

impl Answer for Answering {
    fn answer(&self, from: NodeId, request: Message<Request>) -> BoxFuture<'static, Message<Response>> {
        let refused = |refusal| async move { Message::bare(Response::Refused(refusal)) }.boxed();
        if !self.may_ask(&from, &request.header) {
            return refused(Refusal::Denied);
        }
        let caller = match self.caller(&from, &request.header) {
            Ok(caller) => caller,
            Err(refusal) => return refused(refusal),
        };
        let (server, owner_quota) = (self.server.clone(), self.owner_quota);
        let (quota, holder_count) = match caller {
            Caller::Node => {
                return async move { server.answer_asker(Asker::Node(from), request).await }.boxed();
            }
            Caller::Client => {
                let asker = Asker::Client { id: from, quota: owner_quota };
                return async move { server.answer_asker(asker, request).await }.boxed();
            }
            Caller::Limited { quota, holder_count } => (quota, holder_count),
        };
        let (rings, shares, compute) =
            (Arc::clone(&self.rings), Arc::clone(&self.shares), Arc::clone(&self.compute));
        let topology = self.watch.topology();
        async move {
            let ring = rings.current(&topology, &*compute).await;
            let share = shares.of(quota, &ring, holder_count);
            let quota = owner_quota.map_or(share, |own| own.min(share));
            server.answer_asker(Asker::Client { id: from, quota: Some(quota) }, request).await
        }
        .boxed()
    }
}

/// What a client answers when it is asked: it has nothing.
pub(super) struct Nothing;

impl Answer for Nothing {
    fn answer(&self, _from: NodeId, _request: Message<Request>) -> BoxFuture<'static, Message<Response>> {
        async { Message::bare(Response::Refused(Refusal::OutOfBounds)) }.boxed()
    }
}
