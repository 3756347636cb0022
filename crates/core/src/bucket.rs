//! Buckets: names for objects, and the changes by which every gateway of an owner comes to know the same ones.
//!
//! What is known of buckets is a map from [`Slot`]s to values. Each change is stamped, and in each slot the change with the latest
//! stamp counts, in whatever order changes arrive and however often: a last-writer-wins map (Shapiro et al., *A
//! comprehensive study of convergent and commutative replicated data types*, 2011). So all who know the same changes know the same
//! buckets, and of two writes of one key at once one counts as a whole.

mod log;
mod name;
mod stamp;
mod value;

pub use self::log::{ChapterId, LOG_VERSION, LogBlock};
pub use self::name::{BucketName, Key, NameError};
pub use self::stamp::{ParseStampError, Stamp, WriterId};
pub use self::value::{
    Access, AccessKey, Bucket, Change, Content, Digests, Extent, Extents, Grant, Part, Slot, Upload,
    UploadId, Value, Version, VersionSlot, Versioning,
};
