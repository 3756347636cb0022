//! Identifiers: one newtype per noun, a hash where the noun is content.

use core::fmt;
use core::str::FromStr;

use cid::Cid;
use cid::multihash::Multihash;
use serde::{Deserialize, Serialize};

use crate::limits::PLACEMENT_GROUPS;

/// The length of every hash and public key here, bytes.
pub const ID_SIZE: usize = 32;

const BLAKE3_MULTIHASH_CODE: u64 = 0x1e;
const DAG_CBOR_CODEC: u64 = 0x71;
const ED25519_PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
const OBJECT_ID_SCHEME: &str = "datamesh://";
const OBJECT_ID_TEXT_PREFIX: &str = "bafyr4i";
const OBJECT_ID_TEXT_LENGTH: usize = 59;
const OBJECT_ID_HEX_LENGTH: usize = 64;

/// Why a text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// The text ends too early.
    #[error("id `{text}` is truncated: {found} of {expected} characters")]
    Truncated {
        /// What was given.
        text: String,
        /// Characters found.
        found: usize,
        /// Characters that a whole id has.
        expected: usize,
    },
    /// The text has a character that no id has, too many of them, or names another kind of thing.
    #[error("id `{text}` is mistyped: {why}")]
    Mistyped {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; ID_SIZE]);

        impl $name {
            /// Wraps raw bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; ID_SIZE]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; ID_SIZE] {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde_bytes::serialize(&self.0, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                serde_bytes::deserialize::<[u8; ID_SIZE], D>(deserializer).map(Self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({self})", stringify!($name))
            }
        }
    };
}

macro_rules! hex_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(formatter, &self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }
    };
}

id! {
    /// A shard: the BLAKE3 hash of its bytes.
    ShardId
}
id! {
    /// A stripe: the hash of its shard ids and lengths.
    StripeId
}
id! {
    /// A manifest block: the BLAKE3 hash of its bytes. Its text is a CIDv1.
    BlockId
}
id! {
    /// An object: the id of its manifest's root block.
    ObjectId
}
id! {
    /// A node: its Ed25519 public key. Its text is the libp2p peer id of that key.
    NodeId
}
id! {
    /// An owner: the Ed25519 public key that signs leases.
    OwnerId
}
hex_text!(ShardId);
hex_text!(StripeId);
hex_text!(OwnerId);

impl ShardId {
    /// The id of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl BlockId {
    /// The id of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The CIDv1 (dag-cbor, BLAKE3-256) of the block.
    #[must_use]
    pub fn cid(&self) -> Cid {
        cid(&self.0)
    }

    /// The block that a CID names, if it is of the one kind used here.
    #[must_use]
    pub fn from_cid(cid: &Cid) -> Option<Self> {
        let hash = cid.hash();
        let dag_cbor_blake3 = cid.codec() == DAG_CBOR_CODEC && hash.code() == BLAKE3_MULTIHASH_CODE;
        if !dag_cbor_blake3 {
            return None;
        }
        hash.digest().try_into().ok().map(Self)
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cid().fmt(formatter)
    }
}

impl ObjectId {
    /// The root block of the object's manifest.
    #[must_use]
    pub const fn root(self) -> BlockId {
        BlockId(self.0)
    }

    /// Whether a text was meant as an object's id, well-formed or not, rather than as a name.
    #[must_use]
    pub fn resembles(text: &str) -> bool {
        let bare = text.strip_prefix(OBJECT_ID_SCHEME).unwrap_or(text);
        let hexadecimal =
            bare.len() > OBJECT_ID_HEX_LENGTH / 2 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        text.starts_with(OBJECT_ID_SCHEME) || bare.starts_with(OBJECT_ID_TEXT_PREFIX) || hexadecimal
    }

    /// The object whose manifest this block is the root of.
    #[must_use]
    pub const fn of_root(root: BlockId) -> Self {
        Self(root.0)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root().fmt(formatter)
    }
}

impl FromStr for ObjectId {
    type Err = ParseIdError;

    /// Accepts the CIDv1, `datamesh://` before it, and the hash in hexadecimal.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bare = text.strip_prefix(OBJECT_ID_SCHEME).unwrap_or(text);
        if bare.len() == OBJECT_ID_HEX_LENGTH && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return parse_hex(bare).map(Self);
        }
        let mistyped = |why: &str| ParseIdError::Mistyped { text: text.to_owned(), why: why.to_owned() };
        let found = bare.chars().count();
        if found < OBJECT_ID_TEXT_LENGTH && OBJECT_ID_TEXT_PREFIX.starts_with(prefix_of(bare)) {
            return Err(ParseIdError::Truncated {
                text: text.to_owned(),
                found,
                expected: OBJECT_ID_TEXT_LENGTH,
            });
        }
        if found > OBJECT_ID_TEXT_LENGTH {
            return Err(mistyped(&format!("{found} characters where an id has {OBJECT_ID_TEXT_LENGTH}")));
        }
        let cid = Cid::try_from(bare).map_err(|error| mistyped(&error.to_string()))?;
        let root = BlockId::from_cid(&cid).ok_or_else(|| mistyped("a CID, but not of a manifest block"))?;
        Ok(Self::of_root(root))
    }
}

fn prefix_of(text: &str) -> &str {
    let end = text.char_indices().nth(OBJECT_ID_TEXT_PREFIX.len()).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = ED25519_PEER_ID_PREFIX.to_vec();
        bytes.extend_from_slice(&self.0);
        formatter.write_str(&bs58::encode(bytes).into_string())
    }
}

impl FromStr for NodeId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let mistyped = |why: &str| ParseIdError::Mistyped { text: text.to_owned(), why: why.to_owned() };
        let bytes = bs58::decode(text).into_vec().map_err(|error| mistyped(&error.to_string()))?;
        let key = bytes
            .strip_prefix(&ED25519_PEER_ID_PREFIX)
            .ok_or_else(|| mistyped("not the peer id of an Ed25519 key"))?;
        key.try_into().map(Self).map_err(|_| mistyped("not the peer id of an Ed25519 key"))
    }
}

/// What a node keeps under one hash: a shard or a manifest block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemId {
    /// A shard.
    Shard(ShardId),
    /// A manifest block.
    Block(BlockId),
}

impl ItemId {
    /// The hash that the item's bytes must have.
    #[must_use]
    pub const fn hash(&self) -> &[u8; ID_SIZE] {
        match self {
            Self::Shard(id) => id.as_bytes(),
            Self::Block(id) => id.as_bytes(),
        }
    }

    /// Whether these are the item's bytes.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        blake3::hash(bytes).as_bytes() == self.hash()
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shard(id) => write!(formatter, "shard {id}"),
            Self::Block(id) => write!(formatter, "block {id}"),
        }
    }
}

/// A placement group: what the ring places. Many stripes share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16")]
pub struct PlacementGroup(u16);

/// A number is no placement group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no placement group: there are {PLACEMENT_GROUPS}, counted from 0")]
pub struct PlacementGroupError(u16);

impl TryFrom<u16> for PlacementGroup {
    type Error = PlacementGroupError;

    fn try_from(index: u16) -> Result<Self, PlacementGroupError> {
        if index < PLACEMENT_GROUPS { Ok(Self(index)) } else { Err(PlacementGroupError(index)) }
    }
}

impl PlacementGroup {
    /// Every group, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PLACEMENT_GROUPS).map(Self)
    }

    /// The group of a stripe: the first 14 bits of its id.
    #[must_use]
    pub const fn of_stripe(stripe: &StripeId) -> Self {
        Self::of_hash(&stripe.0)
    }

    /// The group of a manifest block: the first 14 bits of its id.
    #[must_use]
    pub const fn of_block(block: &BlockId) -> Self {
        Self::of_hash(&block.0)
    }

    /// The group of anything with a hash: its first 14 bits.
    #[must_use]
    pub const fn of_hash(hash: &[u8; ID_SIZE]) -> Self {
        Self(u16::from_be_bytes([hash[0], hash[1]]) >> 2)
    }

    /// The first 16 bits of the hashes that belong to the group.
    #[must_use]
    pub const fn hash_prefixes(self) -> core::ops::RangeInclusive<u16> {
        (self.0 << 2)..=(self.0 << 2 | 3)
    }

    /// The group's number, below [`PLACEMENT_GROUPS`].
    #[must_use]
    pub const fn index(self) -> u16 {
        self.0
    }
}

fn cid(hash: &[u8; ID_SIZE]) -> Cid {
    let multihash = Multihash::wrap(BLAKE3_MULTIHASH_CODE, hash).expect("32 bytes fit a 64-byte multihash");
    Cid::new_v1(DAG_CBOR_CODEC, multihash)
}

fn write_hex(formatter: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
}

fn parse_hex(text: &str) -> Result<[u8; ID_SIZE], ParseIdError> {
    let mistyped = |why: String| ParseIdError::Mistyped { text: text.to_owned(), why };
    if let Some(wrong) = text.chars().find(|character| !character.is_ascii_hexdigit()) {
        return Err(mistyped(format!("`{wrong}` is no hexadecimal digit")));
    }
    if text.len() < OBJECT_ID_HEX_LENGTH {
        let found = text.len();
        return Err(ParseIdError::Truncated { text: text.to_owned(), found, expected: OBJECT_ID_HEX_LENGTH });
    }
    if text.len() > OBJECT_ID_HEX_LENGTH {
        return Err(mistyped(format!("{} digits where an id has {OBJECT_ID_HEX_LENGTH}", text.len())));
    }
    let mut bytes = [0; ID_SIZE];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let digits = &text[2 * index..2 * index + 2];
        *byte = u8::from_str_radix(digits, 16).expect("all characters are hexadecimal digits");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{BlockId, NodeId, ObjectId, ParseIdError, PlacementGroup};

    fn object() -> ObjectId {
        ObjectId::of_root(BlockId::of(b"a manifest"))
    }

    #[test]
    fn an_object_id_is_read_back_from_each_of_its_forms() {
        let id = object();
        let text = id.to_string();
        let hex: String = id.root().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        for form in [text.clone(), format!("datamesh://{text}"), hex.clone(), format!("datamesh://{hex}")] {
            assert_eq!(form.parse(), Ok(id), "{form}");
        }
    }

    #[test]
    fn a_truncated_and_a_mistyped_id_are_told_apart() {
        let text = object().to_string();
        for end in 1..text.len() {
            let error = text[..end].parse::<ObjectId>().expect_err("truncated");
            assert!(matches!(error, ParseIdError::Truncated { .. }), "{end}: {error}");
        }
        for wrong in ["1".repeat(59), text.replace("bafyr", "bafkr"), format!("{text}a"), "café".to_owned()]
        {
            let error = wrong.parse::<ObjectId>().expect_err("mistyped");
            assert!(matches!(error, ParseIdError::Mistyped { .. }), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_node_id_is_written_as_a_peer_id() {
        let id = NodeId::from_bytes([7; 32]);
        let text = id.to_string();
        assert!(text.starts_with("12D3KooW"), "{text}");
        assert_eq!(text.parse(), Ok(id));
        assert!(text[..20].parse::<NodeId>().is_err());
    }

    #[test]
    fn the_first_and_last_hash_fall_into_the_first_and_last_group() {
        assert_eq!(PlacementGroup::of_block(&BlockId::from_bytes([0; 32])).index(), 0);
        assert_eq!(PlacementGroup::of_block(&BlockId::from_bytes([255; 32])).index(), 16_383);
        assert_eq!(PlacementGroup::all().count(), 16_384);
    }
}
