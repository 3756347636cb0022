//! Buckets: keys to objects, in a log that the mesh keeps and every gateway of an owner reads.
//!
//! Each gateway appends what it changes to a log of its own, in sealed blocks that the mesh keeps as it keeps manifests; a change is
//! acknowledged once enough nodes have synced its block. All gateways of an owner read the logs of all, and lay what they say into
//! an index on their own disk. The index can be made anew from the logs, so that a gateway whose machine is lost is replaced by
//! another with the same identity.

mod change;
mod content;
mod follow;
mod list;
mod log;
mod rows;
mod state;
mod upkeep;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use datamesh_codec::keys::Identity;
use datamesh_core::bucket::{
    AccessKey, Bucket, BucketName, Change, Key, Part, Stamp, Upload, UploadId, VersionSlot, WriterId,
};
use datamesh_core::id::NodeId;
use datamesh_core::scheme::Scheme;
use datamesh_core::topology::Topology;
use tokio::sync::{mpsc, oneshot};

pub use self::change::{Deleted, PutCondition, Replaced};
pub use self::content::{ReadError, StoreError};
pub use self::list::{List, ListOrder};
pub use self::state::{Found, Listed};
pub use self::upkeep::{OpenError, Upkeep};
use self::view::View;
use crate::transfer::{Failure, Temperature, TransferSettings};
use crate::world::{Map, MapError, World};

/// Changes that may wait to be written.
const PROPOSALS_MAX: usize = 1024;

/// What buckets are opened with.
#[derive(Clone)]
pub struct BucketsOrder {
    /// Everything that the engine may touch.
    pub world: World,
    /// How patiently bytes are moved.
    pub transfer: TransferSettings,
    /// Whose buckets.
    pub owner: Arc<Identity>,
    /// Where the index is.
    pub map: Arc<dyn Map>,
    /// How contents are encoded.
    pub schemes: Arc<dyn Schemes>,
}

/// Chooses how a content is encoded, and who keeps what is read of it.
pub trait Schemes: Send + Sync {
    /// The scheme of a content that is put now.
    ///
    /// # Errors
    /// Why there is none: the mesh is too small for it.
    fn scheme(&self, subject: &ContentSubject<'_>, topology: &Topology) -> Result<Scheme, String>;

    /// Who keeps what is read of a content, by the class that was asked for when it was put. All is hot where nothing else is said.
    fn temperature(&self, _class: Option<&str>) -> Temperature {
        Temperature::Hot
    }
}

/// What is known of a content before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContentSubject<'a> {
    /// Its key.
    pub name: &'a str,
    /// Its media type.
    pub media_type: Option<&'a str>,
    /// Its bytes.
    pub size: Option<u64>,
    /// The class that was asked for.
    pub class: Option<&'a str>,
}

/// The buckets of one owner. Cheap to clone.
#[derive(Clone)]
pub struct Buckets {
    order: BucketsOrder,
    writer: WriterId,
    proposals: mpsc::Sender<Proposal>,
}

/// Finds out what is to be changed, given all that was changed before, and with which stamp.
type Decide = Box<dyn FnOnce(&View<'_>, Stamp) -> Result<Vec<Change>, ChangeError> + Send>;

/// A change that waits to be made.
struct Proposal {
    decide: Decide,
    reply: oneshot::Sender<Result<Stamp, ChangeError>>,
}

/// Why a request can't be met as things are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such bucket.
    #[error("there is no bucket {0}")]
    NoBucket(BucketName),
    /// There is one already.
    #[error("there is a bucket {0} already")]
    BucketExists(BucketName),
    /// Something is in it.
    #[error("bucket {0} is not empty")]
    NotEmpty(BucketName),
    /// There is no such key in the bucket, or no such version of it.
    #[error("there is no {0} in the bucket")]
    NoKey(Key),
    /// What is deleted last is a mark of deletion.
    #[error("{0} was deleted")]
    Deleted(Key),
    /// There is no such upload, or it was completed or given up.
    #[error("there is no upload {0}")]
    NoUpload(UploadId),
    /// A part that was named is not there, or is another.
    #[error("part {0} is not there, or is another one")]
    NoPart(u16),
    /// Parts were not named in their order.
    #[error("parts are not in order")]
    PartsUnordered,
    /// A part other than the last is too short.
    #[error("part {number} has {size} bytes; all but the last have {min} at least")]
    PartTooShort {
        /// Which.
        number: u16,
        /// Its bytes.
        size: u64,
        /// The least.
        min: u64,
    },
    /// What is there is not what the condition says.
    #[error("what is there is not what the condition says")]
    Condition,
    /// There is no such access key.
    #[error("there is no access key {0}")]
    NoAccessKey(String),
}

/// Why something was not changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangeError {
    /// As things are, it can't be.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The index on this machine can't be read or written.
    #[error(transparent)]
    Index(#[from] MapError),
    /// Too few nodes took it. It may have become known all the same.
    #[error("bucket log: taken by {placed} nodes, at least {needed} are needed{}", describe(failures))]
    NotEnoughNodes {
        /// Nodes that took it.
        placed: usize,
        /// Nodes that must.
        needed: usize,
        /// The nodes that didn't, and why.
        failures: BTreeMap<NodeId, Failure>,
    },
    /// The mesh holds no scheme that may be used.
    #[error("{0}")]
    Scheme(String),
    /// It takes more room than a block of the log has.
    #[error("a change of {0} bytes is larger than a block of the log")]
    TooLarge(usize),
    /// The gateway is stopping.
    #[error("the gateway is stopping")]
    Closed,
}

fn describe(failures: &BTreeMap<NodeId, Failure>) -> String {
    failures.values().map(|failure| format!("; {failure}")).collect()
}

impl Buckets {
    /// Whose buckets they are.
    #[must_use]
    pub fn owner(&self) -> &Arc<Identity> {
        &self.order.owner
    }

    /// Everything that the engine may touch.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.order.world
    }

    /// How patiently bytes are moved.
    #[must_use]
    pub const fn transfer(&self) -> TransferSettings {
        self.order.transfer
    }

    /// Who writes here.
    #[must_use]
    pub const fn writer(&self) -> WriterId {
        self.writer
    }

    fn view(&self) -> View<'_> {
        View::of(&*self.order.map)
    }

    /// Makes a change and says with which stamp, once it is acknowledged.
    async fn change(
        &self,
        decide: impl FnOnce(&View<'_>, Stamp) -> Result<Vec<Change>, ChangeError> + Send + 'static,
    ) -> Result<Stamp, ChangeError> {
        let (reply, answer) = oneshot::channel();
        let proposal = Proposal { decide: Box::new(decide), reply };
        self.proposals.send(proposal).await.map_err(|_| ChangeError::Closed)?;
        answer.await.map_err(|_| ChangeError::Closed)?
    }

    /// A bucket.
    ///
    /// # Errors
    /// [`Refused::NoBucket`], or when the index can't be read.
    pub fn bucket(&self, name: &BucketName) -> Result<Bucket, ChangeError> {
        self.view().bucket(name)
    }

    /// All buckets, in the order of their names.
    ///
    /// # Errors
    /// When the index can't be read.
    pub fn buckets(&self) -> Result<Vec<(BucketName, Bucket)>, MapError> {
        self.view().buckets()
    }

    /// An access key, by its id.
    ///
    /// # Errors
    /// When the index can't be read.
    pub fn access_key(&self, id: &str) -> Result<Option<AccessKey>, MapError> {
        self.view().access_key(id)
    }

    /// All access keys, in the order of their ids.
    ///
    /// # Errors
    /// When the index can't be read.
    pub fn access_keys(&self) -> Result<Vec<(String, AccessKey)>, MapError> {
        self.view().access_keys()
    }

    /// The current version of a key.
    ///
    /// # Errors
    /// [`Refused::NoKey`] where there is none, [`Refused::Deleted`] where the last one is a mark of deletion.
    pub fn current(&self, bucket: &BucketName, key: &Key) -> Result<Found, ChangeError> {
        self.view().current(bucket, key)
    }

    /// One version of a key, be it a mark of deletion.
    ///
    /// # Errors
    /// [`Refused::NoKey`] where there is none.
    pub fn version(&self, bucket: &BucketName, key: &Key, slot: VersionSlot) -> Result<Found, ChangeError> {
        let view = self.view();
        let created = view.bucket(bucket)?.created;
        let found = view.version(bucket, key, slot)?.filter(|found| found.stamp >= created);
        found.ok_or_else(|| Refused::NoKey(key.clone()).into())
    }

    /// The current versions of a bucket's keys.
    ///
    /// # Errors
    /// [`Refused::NoBucket`], or when the index can't be read.
    pub fn list(&self, bucket: &BucketName, order: &ListOrder) -> Result<List<Listed>, ChangeError> {
        let view = self.view();
        let created = view.bucket(bucket)?.created;
        Ok(view.list(bucket, created, order)?)
    }

    /// All versions of a bucket's keys, those of a key from the latest on. A page ends with a whole key.
    ///
    /// # Errors
    /// [`Refused::NoBucket`], or when the index can't be read.
    pub fn list_versions(&self, bucket: &BucketName, order: &ListOrder) -> Result<List<Found>, ChangeError> {
        let view = self.view();
        let created = view.bucket(bucket)?.created;
        Ok(view.list_versions(bucket, created, order)?)
    }

    /// The uploads into a bucket that are under way. A page ends with a whole key.
    ///
    /// # Errors
    /// [`Refused::NoBucket`], or when the index can't be read.
    pub fn list_uploads(
        &self,
        bucket: &BucketName,
        order: &ListOrder,
    ) -> Result<List<(UploadId, Upload)>, ChangeError> {
        let view = self.view();
        let created = view.bucket(bucket)?.created;
        Ok(view.list_uploads(bucket, created, order)?)
    }

    /// An upload that is under way.
    ///
    /// # Errors
    /// [`Refused::NoUpload`] where there is none.
    pub fn upload(&self, bucket: &BucketName, key: &Key, id: UploadId) -> Result<Upload, ChangeError> {
        self.view().open_upload(bucket, key, id)
    }

    /// The parts of an upload from a number on, in order, at most so many.
    ///
    /// # Errors
    /// When the index can't be read.
    pub fn parts(
        &self,
        bucket: &BucketName,
        id: &UploadId,
        from: u16,
        count_max: usize,
    ) -> Result<Vec<(u16, Part)>, MapError> {
        self.view().parts(bucket, id, from, count_max)
    }
}
