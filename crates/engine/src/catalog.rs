//! The catalog: what an owner has put, by object and by name.

use datamesh_core::id::{ObjectId, OwnerId};
use datamesh_core::lease::LeaseTag;
use datamesh_core::manifest::Kind;
use datamesh_core::scheme::Scheme;
use datamesh_core::time::{Epoch, Timestamp};
use serde::{Deserialize, Serialize};

use crate::place::Wholeness;

/// One object that was put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The object.
    pub object: ObjectId,
    /// The name under which it was put.
    pub name: String,
    /// What its bytes are.
    pub kind: Kind,
    /// Bytes of plaintext.
    pub size: u64,
    /// Bytes that its shards and manifest blocks take, all copies together.
    pub stored_size: u64,
    /// How it is encoded.
    pub scheme: Scheme,
    /// When it was put.
    pub created: Timestamp,
    /// Who may release it.
    pub owner: OwnerId,
    /// The tag of its leases.
    pub tag: LeaseTag,
    /// The network that it was put into.
    pub network: String,
    /// How it was acknowledged.
    pub acknowledged: Wholeness,
    /// What compression and deduplication have saved; not known of what earlier versions have put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savings: Option<Savings>,
    /// The first epoch in which it need not be kept any more; none for what is kept until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Epoch>,
}

impl Entry {
    /// When its leases end by themselves.
    #[must_use]
    pub fn end(&self) -> Epoch {
        self.until.unwrap_or(Epoch::NEVER)
    }
}

/// What compression and deduplication have saved of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Savings {
    /// Bytes that its chunks take once they are packed and sealed.
    pub packed_size: u64,
    /// Of the bytes stored for it, those that nodes had already.
    pub reused_size: u64,
    /// Stripes.
    pub stripe_count: u64,
    /// Of these, those that nodes had already.
    pub reused_count: u64,
}
