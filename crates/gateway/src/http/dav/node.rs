//! What is found at a place: folders and files, and what clients are told of them.

use std::time::{Duration, SystemTime};

use datamesh_core::bucket::{Access, AccessKey};
use datamesh_core::time::Timestamp;
use datamesh_engine::buckets::{Buckets, Found, ListOrder, Listed};
use dav_server::fs::{DavMetaData, FsError, FsResult};

use crate::http::answer::Problem;
use crate::http::dav::place::{Form, InBucket, Place};
use crate::http::text::LAST_MS;

/// What is at a place.
pub(super) enum Thing {
    Folder(Folder),
    File(Box<Found>),
}

/// What is known of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Folder {
    /// When it was made. Only buckets are: a folder is what keys have in common.
    pub(super) made: Option<Timestamp>,
}

/// What lists tell of a folder or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Facts {
    Folder(Folder),
    File { size: u64, modified: Timestamp, etag: String },
}

impl From<&Listed> for Facts {
    fn from(listed: &Listed) -> Self {
        Self::File { size: listed.size, modified: listed.modified, etag: listed.etag.clone() }
    }
}

/// Finds what is at a place, for one who has this key. Reads the index, which blocks.
///
/// # Errors
/// A problem where nothing is, where the key may not read, and where the index can't be read. Whoever may not read in a bucket
/// is not told whether there is one.
pub(super) fn find(buckets: &Buckets, key: &AccessKey, place: &Place) -> Result<Thing, Problem> {
    let inside = match place {
        Place::Root => return Ok(Thing::Folder(Folder { made: None })),
        Place::Inside(inside) => inside,
    };
    let InBucket { bucket, names, form } = inside;
    if !key.allows(bucket, Access::Read) {
        return Err(Problem::denied(format!("this access key does not allow to read in bucket {bucket}")));
    }
    let made = buckets.bucket(bucket)?.created.instant();
    if names.is_empty() {
        return Ok(Thing::Folder(Folder { made: Some(made) }));
    }
    // Before the key itself: a name that is both is a folder, as in lists.
    let order = ListOrder { prefix: inside.prefix(), count_max: 1, ..ListOrder::default() };
    if !buckets.list(bucket, &order)?.entries.is_empty() {
        return Ok(Thing::Folder(Folder { made: None }));
    }
    let absent = || Problem::not_found(format!("there is no {names} in bucket {bucket}"));
    let named = names.parse().map_err(|_| absent())?;
    match form {
        Form::Folder => Err(absent()),
        Form::Any => Ok(Thing::File(Box::new(buckets.current(bucket, &named)?))),
    }
}

impl Thing {
    /// What lists tell of it; `None` for what was deleted.
    pub(super) fn facts(&self) -> Option<Facts> {
        match self {
            Self::Folder(folder) => Some(Facts::Folder(*folder)),
            Self::File(found) => found.version.content.as_ref().map(|content| Facts::File {
                size: content.size,
                modified: found.version.modified,
                etag: content.etag.clone(),
            }),
        }
    }
}

impl DavMetaData for Facts {
    fn len(&self) -> u64 {
        match self {
            Self::Folder(_) => 0,
            Self::File { size, .. } => *size,
        }
    }

    fn modified(&self) -> FsResult<SystemTime> {
        match self {
            Self::Folder(Folder { made }) => made.map(system_time).ok_or(FsError::NotImplemented),
            Self::File { modified, .. } => Ok(system_time(*modified)),
        }
    }

    fn created(&self) -> FsResult<SystemTime> {
        self.modified()
    }

    fn is_dir(&self) -> bool {
        matches!(self, Self::Folder(_))
    }

    /// With its quotes, as it stands in headers: the library writes it into its answers as it is.
    fn etag(&self) -> Option<String> {
        match self {
            Self::Folder(_) => None,
            Self::File { etag, .. } => Some(format!("\"{etag}\"")),
        }
    }
}

/// An instant as the library wants it, which panics at years that its calendar has not.
fn system_time(instant: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(instant.as_ms().min(LAST_MS))
}
