//! What changes do to the index: the same, in whatever order they come.

use core::cmp::Ordering;
use core::time::Duration;

use datamesh_core::bucket::{
    BucketName, Change, Content, Extents, Key, Part, Slot, Stamp, Upload, UploadId, Value, Version,
    VersionSlot,
};
use datamesh_core::lease::LeaseTag;
use datamesh_core::limits::UPLOAD_PARTS_MAX;
use datamesh_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::buckets::rows;
use crate::buckets::view::{View, parse};
use crate::world::MapError;

/// How long after something is overwritten or given up its space is given back: other gateways read from what they know for so long,
/// and may still complete an upload that this one has given up.
pub(crate) const RELEASE_AFTER: Duration = Duration::from_secs(60);

/// Rows read at once.
const PAGE: usize = 256;

/// A slot as the index has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) stamp: Stamp,
    /// What beats a stamp: an upload that was completed is not given up by a later change.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) rank: u8,
    pub(crate) value: Option<Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde wants")]
fn is_zero(rank: &u8) -> bool {
    *rank == 0
}

const OPEN: u8 = 0;
const GIVEN_UP: u8 = 1;
const COMPLETED: u8 = 2;
/// The version that an upload had become is gone: nothing brings it back.
const GONE: u8 = 3;

impl Held {
    fn of(change: &Change) -> Self {
        let rank = match (&change.slot, &change.value) {
            (Slot::Upload(..), None) => GIVEN_UP,
            (_, Some(Value::Upload(upload))) if upload.completed => COMPLETED,
            _ => OPEN,
        };
        Self { stamp: change.stamp, rank, value: change.value.clone() }
    }

    fn order(&self) -> (u8, Stamp) {
        (self.rank, self.stamp)
    }
}

/// What a list shows of the current version of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Which version.
    pub version: VersionSlot,
    /// When it was put.
    pub stamp: Stamp,
    /// The same as the clock of its writer had it.
    pub modified: Timestamp,
    /// Bytes.
    pub size: u64,
    /// What tells it from other contents.
    pub etag: String,
    /// The class that was asked for, where that was not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
}

/// A version of a key, and since when it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub slot: VersionSlot,
    /// Since when.
    pub stamp: Stamp,
    /// What it is.
    pub version: Version,
}

impl View<'_> {
    /// Makes a change, unless the slot has had a later one. Another time it does nothing.
    pub(crate) fn apply(&mut self, change: &Change, now: Timestamp) -> Result<(), MapError> {
        let row = rows::slot(&change.slot);
        let (old, new) = (self.get::<Held>(&row)?, Held::of(change));
        let order = old.as_ref().map_or(Ordering::Greater, |old| new.order().cmp(&old.order()));
        match order {
            Ordering::Equal => Ok(()),
            Ordering::Less => {
                let kept = old.and_then(|old| old.value);
                self.discard(&change.slot, change.value.as_ref(), kept.as_ref(), now)
            }
            Ordering::Greater => {
                self.set(row, &new);
                let old = old.and_then(|old| old.value);
                self.discard(&change.slot, old.as_ref(), change.value.as_ref(), now)?;
                self.follow_up(change, now)
            }
        }
    }

    /// What follows from a change that counts.
    fn follow_up(&mut self, change: &Change, now: Timestamp) -> Result<(), MapError> {
        match (&change.slot, &change.value) {
            (Slot::Version(bucket, key, _), _) => self.refresh(bucket, key),
            (Slot::Part(bucket, upload, _), Some(Value::Part(part))) if !self.takes(bucket, upload)? => {
                self.remove(rows::slot(&change.slot));
                self.release(part.extent.tag, now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether parts of an upload are kept. One that is not known yet may be told of later. An upload that was given up keeps
    /// its parts until [`View::sweep`].
    fn takes(&self, bucket: &BucketName, upload: &UploadId) -> Result<bool, MapError> {
        Ok(self.get::<Stamp>(&rows::ended(bucket, upload))?.is_none())
    }

    /// Lets go of what a slot held, but for what of it is kept.
    fn discard(
        &mut self,
        slot: &Slot,
        old: Option<&Value>,
        kept: Option<&Value>,
        now: Timestamp,
    ) -> Result<(), MapError> {
        match (slot, old) {
            (Slot::Version(bucket, key, _), Some(Value::Version(version))) => {
                let kept = match kept {
                    Some(Value::Version(version)) => version.content.as_ref(),
                    _ => None,
                };
                let dropped = version.content.iter();
                dropped.for_each(|content| self.drop_content(bucket, key, content, kept, now));
                Ok(())
            }
            (Slot::Part(..), Some(Value::Part(part))) => {
                let same = matches!(kept, Some(Value::Part(kept)) if kept.extent.tag == part.extent.tag);
                if !same {
                    self.release(part.extent.tag, now);
                }
                Ok(())
            }
            (Slot::Upload(bucket, key, upload), Some(Value::Upload(_))) if kept.is_none() => {
                self.look_at_later(bucket, key, upload, now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn drop_content(
        &mut self,
        bucket: &BucketName,
        key: &Key,
        content: &Content,
        kept: Option<&Content>,
        now: Timestamp,
    ) {
        match &content.extents {
            Extents::Listed(extents) => {
                let kept: &[_] = match kept.map(|kept| &kept.extents) {
                    Some(Extents::Listed(kept)) => kept,
                    _ => &[],
                };
                let dropped = extents.iter().filter(|extent| !kept.iter().any(|kept| kept.tag == extent.tag));
                dropped.for_each(|extent| self.release(extent.tag, now));
            }
            Extents::Uploaded { upload, .. } => self.look_at_later(bucket, key, upload, now),
        }
    }

    /// Has an upload looked at once all that gateways do at this moment is known here: one may complete what another gives up.
    fn look_at_later(&mut self, bucket: &BucketName, key: &Key, upload: &UploadId, now: Timestamp) {
        let row = rows::sweep(later(now, RELEASE_AFTER), bucket, upload);
        self.set(row, &Slot::Upload(bucket.clone(), key.clone(), *upload));
    }

    /// Lets go of an upload and its parts for good.
    fn end_upload(
        &mut self,
        bucket: &BucketName,
        key: &Key,
        upload: &UploadId,
        now: Timestamp,
    ) -> Result<(), MapError> {
        let row = rows::slot(&Slot::Upload(bucket.clone(), key.clone(), *upload));
        self.set(row, &Held { stamp: upload.0, rank: GONE, value: None });
        self.set(rows::ended(bucket, upload), &upload.0);
        let prefix = rows::parts(bucket, upload);
        for (row, part) in self.rows(&prefix, &rows::behind(&prefix), usize::from(UPLOAD_PARTS_MAX))? {
            if let Some(Value::Part(part)) = parse::<Held>(&part)?.value {
                self.release(part.extent.tag, now);
            }
            self.remove(row);
        }
        Ok(())
    }

    /// Lets go of the uploads that were given up, or whose version was, long enough ago. Says how many were looked at.
    pub(crate) fn sweep(&mut self, now: Timestamp) -> Result<usize, MapError> {
        let due = self.rows(&rows::sweeps(), &rows::sweeps_until(now), PAGE)?;
        for (row, slot) in &due {
            self.remove(row.clone());
            let Slot::Upload(bucket, key, upload) = parse::<Slot>(slot)? else { continue };
            let held = self.get::<Held>(&rows::slot(&Slot::Upload(bucket.clone(), key.clone(), upload)))?;
            let is_done = held.is_some_and(|held| matches!(held.rank, GIVEN_UP | COMPLETED));
            if is_done && !self.is_wanted(&bucket, &key, &upload)? {
                self.end_upload(&bucket, &key, &upload, now)?;
            }
        }
        Ok(due.len())
    }

    /// Whether a version is made of an upload's parts.
    fn is_wanted(&self, bucket: &BucketName, key: &Key, wanted: &UploadId) -> Result<bool, MapError> {
        let mut found = false;
        self.visit_versions(bucket, key, |version| {
            let extents = version.version.content.map(|content| content.extents);
            found |= matches!(extents, Some(Extents::Uploaded { upload, .. }) if upload == *wanted);
        })?;
        Ok(found)
    }

    /// Has what is kept under a tag released in a while.
    pub(crate) fn release(&mut self, tag: LeaseTag, now: Timestamp) {
        self.set(rows::release(later(now, RELEASE_AFTER), &tag), &());
    }

    /// Tags that are to be released by now, with their rows; at most so many.
    pub(crate) fn due(&self, now: Timestamp, count_max: usize) -> Result<Vec<(Vec<u8>, LeaseTag)>, MapError> {
        let rows = self.rows(&rows::releases(), &rows::releases_until(now), count_max)?;
        Ok(rows.into_iter().filter_map(|(row, _)| rows::released_tag(&row).map(|tag| (row, tag))).collect())
    }

    /// Finds out anew which version of a key is current.
    fn refresh(&mut self, bucket: &BucketName, key: &Key) -> Result<(), MapError> {
        let row = rows::current(bucket, key);
        match self.newest(bucket, key)? {
            Some(Found { slot, stamp, version: Version { modified, content: Some(content) } }) => {
                let Content { size, etag, class, .. } = content;
                self.set(row, &Listed { version: slot, stamp, modified, size, etag, class });
            }
            _ => self.remove(row),
        }
        Ok(())
    }

    /// The version of a key that was put last, be it a mark that it was deleted.
    pub(crate) fn newest(&self, bucket: &BucketName, key: &Key) -> Result<Option<Found>, MapError> {
        let mut newest: Option<Found> = None;
        self.visit_versions(bucket, key, |found| {
            if newest.as_ref().is_none_or(|newest| newest.stamp < found.stamp) {
                newest = Some(found);
            }
        })?;
        Ok(newest)
    }

    /// Visits every version of a key.
    pub(crate) fn visit_versions(
        &self,
        bucket: &BucketName,
        key: &Key,
        mut visit: impl FnMut(Found),
    ) -> Result<(), MapError> {
        let prefix = rows::versions(bucket, key);
        let (mut from, before) = (prefix.clone(), rows::behind(&prefix));
        loop {
            let page = self.rows(&from, &before, PAGE)?;
            for (row, held) in &page {
                let slot = rows::version_of(&row[prefix.len()..]);
                let slot = slot.ok_or_else(|| MapError("the row of a version has no version".to_owned()))?;
                if let Held { stamp, value: Some(Value::Version(version)), .. } = parse(held)? {
                    visit(Found { slot, stamp, version });
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => from = [&last[..], &[0]].concat(),
                _ => return Ok(()),
            }
        }
    }

    /// One version of a key.
    pub(crate) fn version(
        &self,
        bucket: &BucketName,
        key: &Key,
        slot: VersionSlot,
    ) -> Result<Option<Found>, MapError> {
        let held = self.get::<Held>(&rows::slot(&Slot::Version(bucket.clone(), key.clone(), slot)))?;
        Ok(held.and_then(|held| match held.value {
            Some(Value::Version(version)) => Some(Found { slot, stamp: held.stamp, version }),
            _ => None,
        }))
    }

    /// An upload that is under way, or was completed.
    pub(crate) fn upload(
        &self,
        bucket: &BucketName,
        key: &Key,
        upload: UploadId,
    ) -> Result<Option<Upload>, MapError> {
        let held = self.get::<Held>(&rows::slot(&Slot::Upload(bucket.clone(), key.clone(), upload)))?;
        Ok(held.and_then(|held| match held.value {
            Some(Value::Upload(upload)) => Some(upload),
            _ => None,
        }))
    }

    /// The parts of an upload from a number on, in order, at most so many.
    pub(crate) fn parts(
        &self,
        bucket: &BucketName,
        upload: &UploadId,
        from: u16,
        count_max: usize,
    ) -> Result<Vec<(u16, Part)>, MapError> {
        let prefix = rows::parts(bucket, upload);
        let from = [&prefix[..], &from.to_be_bytes()].concat();
        let mut parts = Vec::new();
        for (row, held) in self.rows(&from, &rows::behind(&prefix), count_max)? {
            if let (Some(number), Some(Value::Part(part))) =
                (rows::part_number(&row), parse::<Held>(&held)?.value)
            {
                parts.push((number, part));
            }
        }
        Ok(parts)
    }
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_ms(now.as_ms().saturating_add(by))
}

#[cfg(test)]
mod tests;
