//! What the slots of buckets hold.

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bucket::{BucketName, Key, Stamp};
use crate::id::ObjectId;
use crate::lease::LeaseTag;
use crate::time::Timestamp;

/// One change: from its stamp on, a slot holds this, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Of what.
    pub slot: Slot,
    /// Since when.
    pub stamp: Stamp,
    /// What it holds; `None` for what was removed.
    pub value: Option<Value>,
}

/// A place that holds at most one value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slot {
    /// A bucket.
    Bucket(BucketName),
    /// A version of a key.
    Version(BucketName, Key, VersionSlot),
    /// An upload in parts.
    Upload(BucketName, Key, UploadId),
    /// A part of an upload, from 1 on.
    Part(BucketName, UploadId, u16),
    /// An access key, by its id.
    Access(String),
}

/// Which version of a key. Buckets without versioning have one for each key, which is overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionSlot {
    /// The one that is overwritten.
    Null,
    /// One of its own, never overwritten.
    At(Stamp),
}

/// Which upload: the stamp with which it was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UploadId(pub Stamp);

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// In a bucket's slot.
    Bucket(Bucket),
    /// In a version's slot.
    Version(Version),
    /// In an upload's slot.
    Upload(Upload),
    /// In a part's slot.
    Part(Part),
    /// In an access key's slot.
    Access(AccessKey),
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// When it was made. What was put into an earlier bucket of the same name is not in it.
    pub created: Stamp,
    /// Whether it keeps versions.
    pub versioning: Versioning,
    /// What faces keep with it, by what they call it: rules of lifecycle and of origins, tags.
    pub documents: BTreeMap<String, String>,
}

/// Whether a bucket keeps what is overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Versioning {
    /// It never did.
    #[default]
    Off,
    /// It does.
    Enabled,
    /// It did; what it kept then stays.
    Suspended,
}

/// A version of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// When it was put.
    pub modified: Timestamp,
    /// What it is; `None` for a mark that the key was deleted then.
    pub content: Option<Content>,
}

/// What was put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Bytes.
    pub size: u64,
    /// What tells it from other contents: the MD5 of its bytes, or of its parts' MD5s and their number.
    pub etag: String,
    /// Where its bytes are.
    pub extents: Extents,
    /// Headers that are sent with it, by their lower-case names.
    pub headers: BTreeMap<String, String>,
    /// What its owner notes.
    pub metadata: BTreeMap<String, String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its digests.
    pub digests: Digests,
    /// The class that was asked for, where that was not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
}

/// Digests of a content as clients gave or asked for them: Base64 by the algorithm's name in small letters.
pub type Digests = BTreeMap<String, String>;

/// Where the bytes of a content are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extents {
    /// One after the other in these objects.
    Listed(Vec<Extent>),
    /// In parts of an upload, by their numbers in order; their slots are kept as long as this is.
    Uploaded {
        /// Which upload.
        upload: UploadId,
        /// Runs of numbers, each from the first to the last.
        parts: Vec<(u16, u16)>,
    },
}

/// An object that is part of a content, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Which object.
    pub object: ObjectId,
    /// Its bytes.
    pub size: u64,
    /// The tag of its leases.
    pub tag: LeaseTag,
}

/// An upload that was begun and not given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// When.
    pub begun: Timestamp,
    /// What the content will be, short of its bytes.
    pub content: Content,
    /// Whether a version is made of its parts. No more are taken then.
    pub completed: bool,
    /// The algorithm of the digests that its parts have, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// A part of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// When it was put.
    pub modified: Timestamp,
    /// Its bytes.
    pub extent: Extent,
    /// The MD5 of its bytes, in hexadecimal.
    pub etag: String,
    /// Its digests.
    pub digests: Digests,
}

/// Who may do what, and by which secret that is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// What requests are signed with.
    pub secret: String,
    /// When it was made.
    pub created: Timestamp,
    /// What whoever has it may do.
    pub grants: Vec<Grant>,
    /// What its owner calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AccessKey({:?}, secret, {:?})", self.name, self.grants)
    }
}

/// What may be done where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// In which bucket; in all, and to make and remove them, if none is named.
    pub bucket: Option<BucketName>,
    /// What may be done there.
    pub access: Access,
}

/// What may be done, each with all that stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// List and read.
    Read,
    /// Write and delete.
    Write,
    /// Change the bucket's settings, and remove it.
    Own,
}

/// A text is no kind of access.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no access: it is read, write or own")]
pub struct ParseAccessError(String);

impl FromStr for Access {
    type Err = ParseAccessError;

    fn from_str(text: &str) -> Result<Self, ParseAccessError> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "own" => Ok(Self::Own),
            _ => Err(ParseAccessError(text.to_owned())),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Own => "own",
        })
    }
}

impl AccessKey {
    /// Whether it lets its holder do this in a bucket.
    #[must_use]
    pub fn allows(&self, bucket: &BucketName, access: Access) -> bool {
        let covers = |grant: &Grant| grant.bucket.as_ref().is_none_or(|granted| granted == bucket);
        self.grants.iter().any(|grant| covers(grant) && grant.access >= access)
    }

    /// Whether it lets its holder do this in all buckets, those included that are not there yet.
    #[must_use]
    pub fn allows_everywhere(&self, access: Access) -> bool {
        self.grants.iter().any(|grant| grant.bucket.is_none() && grant.access >= access)
    }
}

impl fmt::Display for VersionSlot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("null"),
            Self::At(stamp) => stamp.fmt(formatter),
        }
    }
}

impl FromStr for VersionSlot {
    type Err = crate::bucket::ParseStampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "null" { Ok(Self::Null) } else { text.parse().map(Self::At) }
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for UploadId {
    type Err = crate::bucket::ParseStampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
