//! Receipts: signed evidence that bytes were stored or served.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::encode::encode;
use crate::id::{ID_SIZE, ItemId, NodeId};
use crate::lease::LeaseTag;
use crate::limits::{RECEIPT_ITEMS_MAX, SERVICE_ITEMS_MAX};
use crate::sign::{Signable, SignatureError, Signed};
use crate::time::Timestamp;

/// An item that a node has on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeptItem {
    /// Which item.
    pub item: ItemId,
    /// The item's size, bytes.
    pub size: u32,
}

/// A node's word that it has these items of one put on stable storage. What was synced together is receipted together, since a
/// signature costs as much processor time as hashing a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Who holds them.
    pub node: NodeId,
    /// The put under whose leases they are held.
    pub tag: LeaseTag,
    /// What it holds, [`RECEIPT_ITEMS_MAX`] items at most.
    pub items: Vec<KeptItem>,
    /// When all of it was durable, by the node's clock.
    pub stored: Timestamp,
}

impl Receipt {
    /// Whether it is from this node, for this put, and for this item among others, as many as it may be for.
    #[must_use]
    pub fn covers(&self, node: NodeId, tag: LeaseTag, item: KeptItem) -> bool {
        self.node == node
            && self.tag == tag
            && self.items.len() <= RECEIPT_ITEMS_MAX
            && self.items.contains(&item)
    }
}

impl Signable for Receipt {
    const DOMAIN: &'static str = "datamesh receipt v2";

    fn signer(&self) -> &[u8; ID_SIZE] {
        self.node.as_bytes()
    }
}

/// What one reader acknowledges to one node is numbered within a session: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(#[serde(with = "serde_bytes")] [u8; 16]);

impl SessionId {
    /// Wraps raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SessionId({:032x})", u128::from_be_bytes(self.0))
    }
}

/// An item that was served, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServedItem {
    /// Which item.
    pub item: ItemId,
    /// How much of it, bytes.
    pub size: u32,
}

/// A reader's word that a node has served it these items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Who served them.
    pub server: NodeId,
    /// Whom: the key that the reader is known by on the network.
    pub reader: NodeId,
    /// What the sequence counts in.
    pub session: SessionId,
    /// 1, 2, and so on within the session.
    pub sequence: u64,
    /// What was served since the one before, [`SERVICE_ITEMS_MAX`] items at most.
    pub items: Vec<ServedItem>,
    /// Bytes of the session up to here.
    pub total: u64,
    /// When it was acknowledged, by the reader's clock.
    pub served: Timestamp,
}

impl Service {
    /// Whether it lists something, and no more than it may.
    #[must_use]
    pub fn bounded(&self) -> bool {
        (1..=SERVICE_ITEMS_MAX).contains(&self.items.len())
    }

    /// Bytes of its items.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.items.iter().map(|served| u64::from(served.size)).sum()
    }
}

impl Signable for Service {
    const DOMAIN: &'static str = "datamesh service v1";

    fn signer(&self) -> &[u8; ID_SIZE] {
        self.reader.as_bytes()
    }
}

/// A node's word that what a reader has acknowledged is what it served. Both keep both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Countersignature {
    /// Who served.
    pub server: NodeId,
    /// The BLAKE3 hash of the signed service, the reader's signature included.
    #[serde(with = "serde_bytes")]
    pub service: [u8; ID_SIZE],
    /// When it was countersigned, by the node's clock.
    pub signed: Timestamp,
}

impl Countersignature {
    /// A node's word to what a reader has signed.
    #[must_use]
    pub fn of(service: &Signed<Service>, signed: Timestamp) -> Self {
        Self { server: service.unverified().server, service: hash(service), signed }
    }

    /// Whether it is for this.
    #[must_use]
    pub fn is_for(&self, service: &Signed<Service>) -> bool {
        self.server == service.unverified().server && self.service == hash(service)
    }
}

fn hash(service: &Signed<Service>) -> [u8; ID_SIZE] {
    *blake3::hash(&encode(service)).as_bytes()
}

impl Signable for Countersignature {
    const DOMAIN: &'static str = "datamesh countersignature v1";

    fn signer(&self) -> &[u8; ID_SIZE] {
        self.server.as_bytes()
    }
}

/// What was served, as both have signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReceipt {
    /// The reader's word.
    pub service: Signed<Service>,
    /// The node's.
    pub countersignature: Signed<Countersignature>,
}

impl ServiceReceipt {
    /// What was served, if both signatures hold.
    ///
    /// # Errors
    /// [`SignatureError`] if one doesn't, or is for something else.
    pub fn verify(&self) -> Result<&Service, SignatureError> {
        let service = self.service.verify()?;
        let countersignature = self.countersignature.verify()?;
        if countersignature.is_for(&self.service) { Ok(service) } else { Err(SignatureError) }
    }
}
