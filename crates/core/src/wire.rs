//! Transfer-protocol messages and their versions.
//!
//! A message is a header in canonical DAG-CBOR and a payload of raw bytes, each behind its length as a 32-bit
//! little-endian number. Lengths are checked before anything is allocated for them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::admission::Roll;
use crate::health::NodeHealth;
use crate::id::{BlockId, ItemId, NodeId, OwnerId, PlacementGroup};
use crate::lease::{Lease, PutId, Release, Subject};
use crate::manifest::Stripe;
use crate::receipt::{Countersignature, KeptItem, Receipt, Service};
use crate::scheme::Redundancy;
use crate::sign::Signed;
use crate::summary::{KeptBlocks, Part, PartId, Summary, SummaryDigest};
use crate::topology::NodeRecord;

/// The libp2p protocol name of version 6, in which nodes tell which blocks they keep under a put.
pub const PROTOCOL: &str = "/datamesh/exchange/6";

/// A message: what is meant, and the bytes it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<H> {
    /// What is meant.
    pub header: H,
    /// The bytes of an item; empty for messages that carry none.
    pub payload: Bytes,
}

impl<H> Message<H> {
    /// A message without bytes.
    pub const fn bare(header: H) -> Self {
        Self { header, payload: Bytes::new() }
    }
}

/// What a peer is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Keep the payload. Answered by [`Response::Stored`] once a power cut can't take it back.
    Store(StoreRequest),
    /// Send an item, or a part of it. Answered by [`Response::Found`] or [`Response::Absent`].
    Fetch(FetchRequest),
    /// Which of these items are held? Answered by [`Response::Holds`].
    Has(Vec<ItemId>),
    /// What is known of an item as a part of a stripe, short of its bytes? Answered by [`Response::Described`] or
    /// [`Response::Absent`].
    Describe(PartId),
    /// What is held of these placement groups, in brief, unless the summary is the one with this digest? Answered by
    /// [`Response::Summaries`].
    Summarise(Vec<(PlacementGroup, SummaryDigest)>),
    /// Which parts are held of a group, behind this one in their order? Answered by [`Response::Parts`].
    Parts {
        /// The group.
        group: PlacementGroup,
        /// The last part of the page before; `None` for the first page.
        after: Option<PartId>,
    },
    /// Which of these puts were released? Answered by [`Response::Releases`].
    Releases(Vec<PutId>),
    /// Which manifest blocks are kept under these puts, unless they are those of this digest? Answered by [`Response::Blocks`].
    Blocks(Vec<(PutId, SummaryDigest)>),
    /// Keep an item that is held already under one more lease. Answered by [`Response::Stored`] or [`Response::Absent`].
    Lease {
        /// The item, and the stripe that it is leased as a shard of.
        item: StoredItem,
        /// The lease.
        lease: Signed<Lease>,
    },
    /// Drop every lease under a tag. Answered by [`Response::Released`].
    Release(Signed<Release>),
    /// Which node records are known, after this node in the order of ids? Answered by [`Response::Records`].
    Records {
        /// The last node of the page before; `None` for the first page.
        after: Option<NodeId>,
    },
    /// Learn these node records. Answered by [`Response::Learned`].
    Announce(Vec<Signed<NodeRecord>>),
    /// Which roll of an authority is newer than what is known? Answered by [`Response::Roll`].
    Rolls(Vec<(OwnerId, u64)>),
    /// Learn this roll. Answered by [`Response::Learned`].
    Enrol(Signed<Roll>),
    /// How is the node? Answered by [`Response::Status`].
    Status,
    /// What has the node done, in numbers? Answered by [`Response::Metrics`].
    Metrics,
    /// How does what the node looks after stand? Answered by [`Response::Health`].
    Health,
    /// These items were served to whoever asks. Answered by [`Response::Countersigned`].
    Acknowledge(Signed<Service>),
}

/// An item to keep; its bytes are the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreRequest {
    /// What the bytes are.
    pub item: StoredItem,
    /// Why they are to be kept.
    pub lease: Signed<Lease>,
}

/// What is stored, with all that repair needs to know about it later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoredItem {
    /// A shard and the stripe it is of.
    Shard {
        /// Its place in the stripe.
        index: u8,
        /// The stripe.
        stripe: Stripe,
    },
    /// A manifest block.
    Block {
        /// Which block.
        block: BlockId,
        /// The replicas that there are to be: 1 + m.
        redundancy: Redundancy,
    },
}

impl StoredItem {
    /// The item's id, unless it names a shard that its stripe doesn't have, or replicas that are not all of the block.
    #[must_use]
    pub fn id(&self) -> Option<ItemId> {
        match self {
            Self::Shard { index, stripe } => {
                stripe.shards.get(usize::from(*index)).copied().map(ItemId::Shard)
            }
            Self::Block { block, redundancy } => {
                (redundancy.data_count() == 1).then_some(ItemId::Block(*block))
            }
        }
    }

    /// What a receipt must list for it and its bytes, unless it names a shard that its stripe doesn't have.
    #[must_use]
    pub fn kept(&self, bytes: &[u8]) -> Option<KeptItem> {
        Some(KeptItem { item: self.id()?, size: u32::try_from(bytes.len()).ok()? })
    }

    /// Which part it is, unless it has no id.
    #[must_use]
    pub fn part(&self) -> Option<Part> {
        let index = match self {
            Self::Shard { index, .. } => *index,
            Self::Block { .. } => 0,
        };
        Some(Part { subject: self.subject(), item: self.id()?, index, redundancy: self.redundancy() })
    }

    /// Among how many nodes it is spread, all parts together.
    #[must_use]
    pub const fn redundancy(&self) -> Redundancy {
        match self {
            Self::Shard { stripe, .. } => stripe.redundancy,
            Self::Block { redundancy, .. } => *redundancy,
        }
    }

    /// What a lease for it must be for.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match self {
            Self::Shard { stripe, .. } => Subject::Stripe(stripe.id()),
            Self::Block { block, .. } => Subject::Block(*block),
        }
    }
}

/// What a node knows of an item that it holds, short of its bytes: what repair needs to store it elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// What the item is.
    pub item: StoredItem,
    /// Its size, bytes.
    pub size: u32,
    /// Why it is kept, up to [`WIRE_LEASES_MAX`](crate::limits::WIRE_LEASES_MAX) leases.
    pub leases: Vec<Signed<Lease>>,
}

/// An item to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRequest {
    /// Which item.
    pub item: ItemId,
    /// The first byte wanted.
    pub offset: u32,
    /// Bytes wanted at most; `None` for all that follow.
    pub size: Option<u32>,
    /// Whether the node is to hold the item to its id before it sends it: whoever was sent other bytes asks so.
    #[serde(default, skip_serializing_if = "is_false")]
    pub checked: bool,
}

impl FetchRequest {
    /// A request for a whole item of at most so many bytes, as the node has it.
    #[must_use]
    pub const fn whole(item: ItemId, size: Option<u32>) -> Self {
        Self { item, offset: 0, size, checked: false }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde wants")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A node's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// The item is on stable storage, and whatever else the receipt lists.
    Stored(Signed<Receipt>),
    /// The payload is what was asked for.
    Found,
    /// The node does not hold the item.
    Absent,
    /// For each item asked about, whether it is held.
    Holds(Vec<bool>),
    /// What is known of the item.
    Described(Description),
    /// The summaries of the first groups of the question.
    Summaries {
        /// How many groups: one at least, and as many as fit.
        group_count: u32,
        /// Those whose digest is another than in the question, in its order.
        changed: Vec<Summary>,
    },
    /// One page of parts, in their order; the last one where `more` is false.
    Parts {
        /// The page.
        parts: Vec<Part>,
        /// Whether another page follows.
        more: bool,
    },
    /// The releases of those puts that were released.
    Releases(Vec<Signed<Release>>),
    /// The blocks that are kept under the first puts of the question.
    Blocks {
        /// How many puts: one at least, and as many as fit.
        put_count: u32,
        /// Those whose digest is another than in the question, in its order.
        changed: Vec<KeptBlocks>,
    },
    /// Leases that ended.
    Released {
        /// How many.
        lease_count: u64,
    },
    /// One page of node records; the last one where `more` is false.
    Records {
        /// The page.
        records: Vec<Signed<NodeRecord>>,
        /// Whether another page follows.
        more: bool,
    },
    /// Records that were news.
    Learned {
        /// How many.
        record_count: u64,
    },
    /// The first roll that is; none where all are known.
    Roll(Option<Signed<Roll>>),
    /// How the node is.
    Status(NodeStatus),
    /// The payload is the node's metrics as OpenMetrics text,
    /// [`METRICS_SIZE_MAX`](crate::limits::METRICS_SIZE_MAX) bytes at most.
    Metrics,
    /// How what the node looks after stands.
    Health(NodeHealth),
    /// What was acknowledged is what the node has served.
    Countersigned(Signed<Countersignature>),
    /// The node will not do it.
    Refused(Refusal),
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Who answers.
    pub node: NodeId,
    /// The version that it runs.
    pub software: String,
    /// Bytes that it offers.
    pub capacity: u64,
    /// Bytes that its items take.
    pub used: u64,
    /// Items that it holds.
    pub item_count: u64,
    /// Nodes that it knows, itself included.
    pub node_count: u64,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Whether it takes no more items because it is full.
    pub full: bool,
}

/// Why a node will not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The quota or the free-space floor is reached.
    #[error("node is full")]
    Full,
    /// The owner has as much here as it may.
    #[error("owner has {used} of its {quota} bytes on this node")]
    OverQuota {
        /// Bytes that its leases keep here, each item counted once, and that are on their way.
        used: u64,
        /// Bytes that it may have here.
        quota: u64,
    },
    /// The bytes don't hash to the item's id, or have another length than its stripe says.
    #[error("bytes are not those of the item")]
    WrongBytes,
    /// The lease is not signed by its owner, is for something else, or has ended.
    #[error("lease is not valid for the item")]
    InvalidLease,
    /// The owner released this tag before.
    #[error("lease was released")]
    Released,
    /// The item is kept under as many leases as one may be.
    #[error("item has too many leases")]
    TooManyLeases,
    /// A bound of the protocol was passed.
    #[error("request is out of bounds")]
    OutOfBounds,
    /// The node's disk can't be read or written.
    #[error("node's disk failed")]
    DiskFailed,
    /// The node is stopping or overloaded.
    #[error("node is busy")]
    Busy,
    /// The mesh is restricted, and none of its authorities has admitted the node or the owner, or not for so long.
    #[error("none of the authorities of this restricted mesh has admitted it")]
    NotAdmitted,
    /// The node does not tell this to everyone, and not to who asked.
    #[error("node does not tell this to whoever asks")]
    Denied,
    /// What is acknowledged is not what the node has served to who acknowledges it, or was acknowledged before.
    #[error("node has not served what is acknowledged, or not in this order")]
    NotServed,
}
