//! The exchange protocol: requests and their answers, on libp2p streams or the data plane, bounded in bytes.
//!
//! One stream carries one request and its answer at a time, then the next; the data plane numbers them. On streams it is not the request-response behaviour of
//! libp2p because that neither says which peer sent a malformed request, nor lets bytes be counted before they are
//! allocated, nor gives up a call whose caller has gone. A peer that speaks request-response is understood.

pub(crate) mod budget;
pub(crate) mod call;
pub(crate) mod frame;
pub(crate) mod serve;
pub(crate) mod streams;

use datamesh_core::id::NodeId;
use datamesh_core::wire::{Message, Request, Response};
use futures::future::BoxFuture;

/// Answers requests of other nodes.
pub trait Answer: Send + Sync {
    /// Answers a request of a node. The payload of the answer is never longer than the request allows.
    ///
    /// # Cancel safety
    /// It is dropped when the network shuts down.
    fn answer(&self, from: NodeId, request: Message<Request>) -> BoxFuture<'static, Message<Response>>;
}
