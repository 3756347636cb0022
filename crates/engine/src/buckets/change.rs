//! What gateways change: buckets, versions, uploads, access keys.

use datamesh_core::bucket::{
    AccessKey, Bucket, BucketName, Change, Content, Extents, Key, Part, Slot, Stamp, Upload, UploadId, Value,
    Version, VersionSlot, Versioning,
};
use datamesh_core::lease::LeaseTag;
use datamesh_core::limits::UPLOAD_PARTS_MAX;
use datamesh_core::time::Timestamp;

use crate::buckets::list::ListOrder;
use crate::buckets::rows;
use crate::buckets::state::{Found, Held};
use crate::buckets::view::{View, parse};
use crate::buckets::{Buckets, ChangeError, Refused};
use crate::world::MapError;

/// The least part of an upload but the last, bytes, as S3 has it.
const PART_SIZE_MIN: u64 = 5 << 20;
/// Rows of a list of all buckets or access keys.
const NAMES_MAX: usize = 65_536;

/// What must be so for a key to be put or deleted. One gateway at a time holds to it: two may each find it so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PutCondition {
    /// Nothing.
    #[default]
    None,
    /// The key has no current version.
    Absent,
    /// Its current version has this tag.
    Etag(String),
    /// It has a current version, whatever its tag.
    Present,
}

/// What a put came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// The version that there is now.
    pub slot: VersionSlot,
    /// Whether the bucket keeps versions, so that it is worth telling.
    pub versioning: Versioning,
}

/// What a deletion came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// The version that was removed, or the mark of deletion that was made.
    pub slot: Option<VersionSlot>,
    /// Whether that is a mark of deletion.
    pub mark: bool,
}

impl Buckets {
    /// Makes a bucket.
    ///
    /// # Errors
    /// [`Refused::BucketExists`], or when it was not acknowledged.
    pub async fn create_bucket(&self, name: BucketName) -> Result<(), ChangeError> {
        let decide = move |view: &View<'_>, stamp| {
            if view.find_bucket(&name)?.is_some() {
                return Err(Refused::BucketExists(name).into());
            }
            let bucket = Bucket { created: stamp, versioning: Versioning::Off, documents: [].into() };
            Ok(vec![Change { slot: Slot::Bucket(name), stamp, value: Some(Value::Bucket(bucket)) }])
        };
        self.change(decide).await.map(drop)
    }

    /// Removes a bucket that is empty.
    ///
    /// # Errors
    /// [`Refused::NotEmpty`], [`Refused::NoBucket`], or when it was not acknowledged.
    pub async fn delete_bucket(&self, name: BucketName) -> Result<(), ChangeError> {
        let decide = move |view: &View<'_>, stamp| {
            let created = view.bucket(&name)?.created;
            let first = ListOrder { count_max: 1, ..ListOrder::default() };
            if !view.list_versions(&name, created, &first)?.entries.is_empty() {
                return Err(Refused::NotEmpty(name).into());
            }
            Ok(vec![Change { slot: Slot::Bucket(name), stamp, value: None }])
        };
        self.change(decide).await.map(drop)
    }

    /// Changes a bucket's settings.
    ///
    /// # Errors
    /// [`Refused::NoBucket`], or when it was not acknowledged.
    pub async fn set_bucket(
        &self,
        name: BucketName,
        set: impl FnOnce(&mut Bucket) + Send + 'static,
    ) -> Result<(), ChangeError> {
        let decide = move |view: &View<'_>, stamp| {
            let mut bucket = view.bucket(&name)?;
            set(&mut bucket);
            Ok(vec![Change { slot: Slot::Bucket(name), stamp, value: Some(Value::Bucket(bucket)) }])
        };
        self.change(decide).await.map(drop)
    }

    /// Puts a content under a key. Its extents are this version's from now on; where it is refused they are given back.
    ///
    /// # Errors
    /// [`Refused::Condition`], [`Refused::NoBucket`], or when it was not acknowledged.
    pub async fn put(
        &self,
        bucket: BucketName,
        key: Key,
        content: Content,
        condition: PutCondition,
    ) -> Result<Replaced, ChangeError> {
        let tags: Vec<LeaseTag> = match &content.extents {
            Extents::Listed(extents) => extents.iter().map(|extent| extent.tag).collect(),
            Extents::Uploaded { .. } => Vec::new(),
        };
        let (now, name) = (self.world().clock.now(), bucket.clone());
        let decide = move |view: &View<'_>, stamp| {
            let settings = view.bucket(&bucket)?;
            view.check(&bucket, &key, &condition)?;
            Ok(vec![put_change(&settings, bucket, key, content, stamp, now)])
        };
        let put = self.change(decide).await;
        if let Err(ChangeError::Refused(_) | ChangeError::TooLarge(_) | ChangeError::Scheme(_)) = put {
            self.give_back(tags);
        }
        self.replaced(&name, put?)
    }

    fn replaced(&self, bucket: &BucketName, stamp: Stamp) -> Result<Replaced, ChangeError> {
        let versioning = self.bucket(bucket)?.versioning;
        Ok(Replaced { slot: slot_of(versioning, stamp), versioning })
    }

    /// Changes what is noted with a version: its tags, or its headers.
    ///
    /// # Errors
    /// [`Refused::NoKey`], [`Refused::NoBucket`], or when it was not acknowledged.
    pub async fn annotate(
        &self,
        bucket: BucketName,
        key: Key,
        slot: Option<VersionSlot>,
        set: impl FnOnce(&mut Content) + Send + 'static,
    ) -> Result<VersionSlot, ChangeError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let decide = move |view: &View<'_>, _| {
            let found = view.wanted(&bucket, &key, slot)?;
            let Found { slot, stamp, mut version } = found;
            let content = version.content.as_mut().ok_or_else(|| Refused::Deleted(key.clone()))?;
            set(content);
            // Between its own stamp and any later one: what is newer stays so.
            let stamp = Stamp { count: stamp.count.saturating_add(1), ..stamp };
            let _ = sender.send(slot);
            let slot = Slot::Version(bucket, key, slot);
            Ok(vec![Change { slot, stamp, value: Some(Value::Version(version)) }])
        };
        self.change(decide).await?;
        receiver.await.map_err(|_| ChangeError::Closed)
    }

    /// Deletes a key: in a bucket with versions by a mark, or one version for good.
    ///
    /// # Errors
    /// [`Refused::NoBucket`], [`Refused::Condition`], or when it was not acknowledged. That there is no such key is none.
    pub async fn delete(
        &self,
        bucket: BucketName,
        key: Key,
        slot: Option<VersionSlot>,
        condition: PutCondition,
    ) -> Result<Deleted, ChangeError> {
        let now = self.world().clock.now();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let decide = move |view: &View<'_>, stamp| {
            let settings = view.bucket(&bucket)?;
            view.check(&bucket, &key, &condition)?;
            let (deleted, change) = view.deletion(&settings, bucket, key, slot, (stamp, now))?;
            let _ = sender.send(deleted);
            Ok(change.into_iter().collect())
        };
        self.change(decide).await?;
        receiver.await.map_err(|_| ChangeError::Closed)
    }

    /// Begins an upload in parts.
    ///
    /// # Errors
    /// [`Refused::NoBucket`], or when it was not acknowledged.
    pub async fn begin_upload(
        &self,
        bucket: BucketName,
        key: Key,
        upload: Upload,
    ) -> Result<UploadId, ChangeError> {
        let decide = move |view: &View<'_>, stamp| {
            view.bucket(&bucket)?;
            let slot = Slot::Upload(bucket, key, UploadId(stamp));
            Ok(vec![Change { slot, stamp, value: Some(Value::Upload(upload)) }])
        };
        self.change(decide).await.map(UploadId)
    }

    /// Puts a part of an upload, in the place of an earlier one of its number. Where it is refused, what it took is given back.
    ///
    /// # Errors
    /// [`Refused::NoUpload`], or when it was not acknowledged.
    pub async fn put_part(
        &self,
        bucket: BucketName,
        key: Key,
        id: UploadId,
        number: u16,
        part: Part,
    ) -> Result<(), ChangeError> {
        let tag = part.extent.tag;
        let decide = move |view: &View<'_>, stamp| {
            view.open_upload(&bucket, &key, id)?;
            let slot = Slot::Part(bucket, id, number);
            Ok(vec![Change { slot, stamp, value: Some(Value::Part(part)) }])
        };
        let put = self.change(decide).await;
        if let Err(ChangeError::Refused(_) | ChangeError::TooLarge(_) | ChangeError::Scheme(_)) = put {
            self.give_back(vec![tag]);
        }
        put.map(drop)
    }

    /// Makes the parts of an upload that are named, by number and tag, one content. `finish` is told them and completes what the upload
    /// said of it.
    ///
    /// # Errors
    /// [`Refused`] for parts that aren't there, are out of order or too short, or when it was not acknowledged.
    pub async fn complete_upload(
        &self,
        bucket: BucketName,
        key: Key,
        id: UploadId,
        named: Vec<(u16, String)>,
        condition: PutCondition,
        finish: impl FnOnce(&mut Content, &[(u16, Part)]) + Send + 'static,
    ) -> Result<Replaced, ChangeError> {
        let (now, name) = (self.world().clock.now(), bucket.clone());
        let decide = move |view: &View<'_>, stamp| {
            let settings = view.bucket(&bucket)?;
            let upload = view.open_upload(&bucket, &key, id)?;
            view.check(&bucket, &key, &condition)?;
            let parts = view.named_parts(&bucket, &id, &named)?;
            let mut content = upload.content.clone();
            content.size = parts.iter().map(|(_, part)| part.extent.size).sum();
            content.extents = Extents::Uploaded { upload: id, parts: runs(&parts) };
            finish(&mut content, &parts);
            let completed = Upload { completed: true, ..upload };
            let slot = Slot::Upload(bucket.clone(), key.clone(), id);
            let ended = Change { slot, stamp, value: Some(Value::Upload(completed)) };
            Ok(vec![ended, put_change(&settings, bucket, key, content, stamp, now)])
        };
        let stamp = self.change(decide).await?;
        self.replaced(&name, stamp)
    }

    /// Gives an upload up, and its parts.
    ///
    /// # Errors
    /// [`Refused::NoUpload`], or when it was not acknowledged.
    pub async fn abort_upload(&self, bucket: BucketName, key: Key, id: UploadId) -> Result<(), ChangeError> {
        let decide = move |view: &View<'_>, stamp| {
            view.open_upload(&bucket, &key, id)?;
            Ok(vec![Change { slot: Slot::Upload(bucket, key, id), stamp, value: None }])
        };
        self.change(decide).await.map(drop)
    }

    /// Adds or changes an access key.
    ///
    /// # Errors
    /// When it was not acknowledged.
    pub async fn set_access_key(&self, id: String, access: AccessKey) -> Result<(), ChangeError> {
        let decide = move |_: &View<'_>, stamp| {
            Ok(vec![Change { slot: Slot::Access(id), stamp, value: Some(Value::Access(access)) }])
        };
        self.change(decide).await.map(drop)
    }

    /// Removes an access key.
    ///
    /// # Errors
    /// [`Refused::NoAccessKey`], or when it was not acknowledged.
    pub async fn remove_access_key(&self, id: String) -> Result<(), ChangeError> {
        let decide = move |view: &View<'_>, stamp| {
            if view.access_key(&id)?.is_none() {
                return Err(Refused::NoAccessKey(id).into());
            }
            Ok(vec![Change { slot: Slot::Access(id), stamp, value: None }])
        };
        self.change(decide).await.map(drop)
    }
}

const fn slot_of(versioning: Versioning, stamp: Stamp) -> VersionSlot {
    match versioning {
        Versioning::Enabled => VersionSlot::At(stamp),
        Versioning::Off | Versioning::Suspended => VersionSlot::Null,
    }
}

fn put_change(
    settings: &Bucket,
    bucket: BucketName,
    key: Key,
    content: Content,
    stamp: Stamp,
    now: Timestamp,
) -> Change {
    let version = Version { modified: now, content: Some(content) };
    let slot = Slot::Version(bucket, key, slot_of(settings.versioning, stamp));
    Change { slot, stamp, value: Some(Value::Version(version)) }
}

/// The numbers of parts as runs without a gap.
fn runs(parts: &[(u16, Part)]) -> Vec<(u16, u16)> {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for (number, _) in parts {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    runs
}

impl View<'_> {
    pub(super) fn find_bucket(&self, name: &BucketName) -> Result<Option<Bucket>, MapError> {
        Ok(self.get::<Held>(&rows::bucket(name))?.and_then(|held| match held.value {
            Some(Value::Bucket(bucket)) => Some(bucket),
            _ => None,
        }))
    }

    pub(super) fn bucket(&self, name: &BucketName) -> Result<Bucket, ChangeError> {
        self.find_bucket(name)?.ok_or_else(|| Refused::NoBucket(name.clone()).into())
    }

    pub(super) fn buckets(&self) -> Result<Vec<(BucketName, Bucket)>, MapError> {
        let named = self.named(&rows::buckets(), |value| match value {
            Value::Bucket(bucket) => Some(bucket),
            _ => None,
        })?;
        let parsed = named.into_iter().map(|(name, bucket)| {
            let name = name.parse().map_err(|error| MapError(format!("a row has no bucket: {error}")))?;
            Ok((name, bucket))
        });
        parsed.collect()
    }

    pub(super) fn access_key(&self, id: &str) -> Result<Option<AccessKey>, MapError> {
        Ok(self.get::<Held>(&rows::access(id))?.and_then(|held| match held.value {
            Some(Value::Access(access)) => Some(access),
            _ => None,
        }))
    }

    pub(super) fn access_keys(&self) -> Result<Vec<(String, AccessKey)>, MapError> {
        self.named(&rows::accesses(), |value| match value {
            Value::Access(access) => Some(access),
            _ => None,
        })
    }

    /// What slots hold whose rows are named, in the order of their names.
    fn named<T>(
        &self,
        prefix: &[u8],
        take: impl Fn(Value) -> Option<T>,
    ) -> Result<Vec<(String, T)>, MapError> {
        let mut named = Vec::new();
        for (row, held) in self.rows(prefix, &rows::behind(prefix), NAMES_MAX)? {
            let name = rows::name_of(&row).ok_or_else(|| MapError("a row has no name".to_owned()))?;
            if let Some(value) = parse::<Held>(&held)?.value.and_then(&take) {
                named.push((name.to_owned(), value));
            }
        }
        Ok(named)
    }

    pub(super) fn current(&self, bucket: &BucketName, key: &Key) -> Result<Found, ChangeError> {
        let created = self.bucket(bucket)?.created;
        let found = self.newest(bucket, key)?.filter(|found| found.stamp >= created);
        match found {
            Some(found) if found.version.content.is_some() => Ok(found),
            Some(_) => Err(Refused::Deleted(key.clone()).into()),
            None => Err(Refused::NoKey(key.clone()).into()),
        }
    }

    fn wanted(
        &self,
        bucket: &BucketName,
        key: &Key,
        slot: Option<VersionSlot>,
    ) -> Result<Found, ChangeError> {
        let Some(slot) = slot else { return self.current(bucket, key) };
        let created = self.bucket(bucket)?.created;
        let found = self.version(bucket, key, slot)?.filter(|found| found.stamp >= created);
        found.ok_or_else(|| Refused::NoKey(key.clone()).into())
    }

    fn check(&self, bucket: &BucketName, key: &Key, condition: &PutCondition) -> Result<(), ChangeError> {
        if *condition == PutCondition::None {
            return Ok(());
        }
        let current = match self.current(bucket, key) {
            Ok(found) => found.version.content.map(|content| content.etag),
            Err(ChangeError::Refused(Refused::NoKey(_) | Refused::Deleted(_))) => None,
            Err(error) => return Err(error),
        };
        match (condition, current) {
            (PutCondition::Absent, None) | (PutCondition::Present, Some(_)) => Ok(()),
            (PutCondition::Etag(wanted), Some(etag)) if *wanted == etag => Ok(()),
            (PutCondition::Etag(_) | PutCondition::Present, None) => Err(Refused::NoKey(key.clone()).into()),
            _ => Err(Refused::Condition.into()),
        }
    }

    /// What a deletion comes to; no change where there is nothing to delete.
    fn deletion(
        &self,
        settings: &Bucket,
        bucket: BucketName,
        key: Key,
        slot: Option<VersionSlot>,
        (stamp, now): (Stamp, Timestamp),
    ) -> Result<(Deleted, Option<Change>), ChangeError> {
        if let Some(slot) = slot {
            let Some(found) = self.version(&bucket, &key, slot)? else {
                return Ok((Deleted { slot: Some(slot), mark: false }, None));
            };
            let deleted = Deleted { slot: Some(slot), mark: found.version.content.is_none() };
            return Ok((
                deleted,
                Some(Change { slot: Slot::Version(bucket, key, slot), stamp, value: None }),
            ));
        }
        if settings.versioning == Versioning::Off {
            let there = self.version(&bucket, &key, VersionSlot::Null)?.is_some();
            let slot = Slot::Version(bucket, key, VersionSlot::Null);
            let change = there.then_some(Change { slot, stamp, value: None });
            return Ok((Deleted { slot: None, mark: false }, change));
        }
        let slot = slot_of(settings.versioning, stamp);
        let mark = Version { modified: now, content: None };
        let change =
            Change { slot: Slot::Version(bucket, key, slot), stamp, value: Some(Value::Version(mark)) };
        Ok((Deleted { slot: Some(slot), mark: true }, Some(change)))
    }

    pub(super) fn open_upload(
        &self,
        bucket: &BucketName,
        key: &Key,
        id: UploadId,
    ) -> Result<Upload, ChangeError> {
        let created = self.bucket(bucket)?.created;
        let upload = self.upload(bucket, key, id)?.filter(|upload| !upload.completed && id.0 >= created);
        upload.ok_or_else(|| Refused::NoUpload(id).into())
    }

    fn named_parts(
        &self,
        bucket: &BucketName,
        id: &UploadId,
        named: &[(u16, String)],
    ) -> Result<Vec<(u16, Part)>, ChangeError> {
        if !named.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(Refused::PartsUnordered.into());
        }
        let mut there = self.parts(bucket, id, 0, usize::from(UPLOAD_PARTS_MAX) + 1)?.into_iter().peekable();
        let mut parts: Vec<(u16, Part)> = Vec::new();
        for (number, etag) in named {
            while there.next_if(|(other, _)| other < number).is_some() {}
            let part = there.next_if(|(other, part)| other == number && part.etag == *etag);
            if let Some((number, part)) = parts.last()
                && part.extent.size < PART_SIZE_MIN
            {
                let (number, size) = (*number, part.extent.size);
                return Err(Refused::PartTooShort { number, size, min: PART_SIZE_MIN }.into());
            }
            parts.push(part.ok_or(Refused::NoPart(*number))?);
        }
        if parts.is_empty() { Err(Refused::NoPart(1).into()) } else { Ok(parts) }
    }
}
