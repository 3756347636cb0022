//! Receipts: signed evidence that bytes were stored.

use serde::{Deserialize, Serialize};

use crate::id::{ID_SIZE, ItemId, NodeId};
use crate::lease::LeaseTag;
use crate::sign::Signable;
use crate::time::Timestamp;

/// A node's word that it has an item on stable storage, under a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Who holds it.
    pub node: NodeId,
    /// What it holds.
    pub item: ItemId,
    /// The item's size, bytes.
    pub size: u32,
    /// The put whose lease it is held under.
    pub tag: LeaseTag,
    /// When it was durable, by the node's clock.
    pub stored: Timestamp,
}

impl Signable for Receipt {
    const DOMAIN: &'static str = "datamesh receipt v1";

    fn signer(&self) -> &[u8; ID_SIZE] {
        self.node.as_bytes()
    }
}
