//! The catalog: what an owner has put, by object and by name.

use datamesh_core::id::{ObjectId, OwnerId};
use datamesh_core::lease::LeaseTag;
use datamesh_core::manifest::Kind;
use datamesh_core::scheme::Scheme;
use datamesh_core::time::Timestamp;
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
}
