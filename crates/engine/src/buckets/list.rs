//! Lists: the keys of a bucket, its versions and its uploads, page by page.

use std::collections::VecDeque;

use datamesh_core::bucket::{BucketName, Key, Stamp, Upload, UploadId, Value};

use crate::buckets::rows;
use crate::buckets::state::{Found, Held, Listed};
use crate::buckets::view::{View, parse};
use crate::world::{MapError, MapRow};

/// Rows read at once.
const PAGE: usize = 1024;

/// What is to be listed of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListOrder {
    /// Only what begins with this.
    pub prefix: String,
    /// What ends the part of a key behind the prefix that is listed in the stead of all keys that begin so.
    pub delimiter: Option<String>,
    /// Only what comes behind this.
    pub after: Option<String>,
    /// So many keys and common prefixes at most.
    pub count_max: usize,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T> {
    /// What was found, in the order of keys.
    pub entries: Vec<(Key, T)>,
    /// What keys that are not listed one by one have in common, in order.
    pub prefixes: Vec<String>,
    /// The last key or prefix of the page, if another page follows: what [`ListOrder::after`] is for that.
    pub next: Option<String>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), prefixes: Vec::new(), next: None }
    }
}

/// One key in a row, and what it lists.
struct Step<T> {
    key: String,
    entries: Vec<T>,
}

impl ListOrder {
    /// The key or prefix that stands for a key in the list.
    fn group<'a>(&self, key: &'a str) -> Option<&'a str> {
        let delimiter = self.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
        let behind = key.get(self.prefix.len()..)?;
        let end = behind.find(delimiter)? + delimiter.len();
        key.get(..self.prefix.len() + end)
    }

    /// Goes through what begins with the prefix, in order. `next` finds the first key from some bytes on, with all that it lists;
    /// the bytes are those of a key or of what lies between keys.
    fn walk<T>(
        &self,
        mut next: impl FnMut(&[u8]) -> Result<Option<Step<T>>, MapError>,
    ) -> Result<List<T>, MapError> {
        let mut list = List::default();
        let mut from = self.prefix.clone().into_bytes();
        if let Some(after) = &self.after {
            let in_group = self.group(after).is_some_and(|group| group == after);
            let behind = if in_group { rows::behind(after.as_bytes()) } else { just_behind(after) };
            from = from.max(behind);
        }
        let (mut count, mut last) = (0, None);
        while let Some(Step { key, entries }) = next(&from)? {
            if !key.starts_with(&self.prefix) {
                break;
            }
            if count >= self.count_max {
                list.next = last;
                break;
            }
            if let Some(group) = self.group(&key) {
                from = rows::behind(group.as_bytes());
                list.prefixes.push(group.to_owned());
                count += 1;
                last = Some(group.to_owned());
                continue;
            }
            from = just_behind(&key);
            last = Some(key.clone());
            let key: Key = key.try_into().map_err(|error| MapError(format!("a row has no key: {error}")))?;
            count += entries.len();
            list.entries.extend(entries.into_iter().map(|entry| (key.clone(), entry)));
        }
        Ok(list)
    }
}

/// Where the next key may be: none has a NUL, and in rows one ends a key that something follows.
fn just_behind(key: &str) -> Vec<u8> {
    [key.as_bytes(), &[1]].concat()
}

/// Rows from a place on, read in pages and given one by one.
struct Pages<'a> {
    view: &'a View<'a>,
    prefix: Vec<u8>,
    page: VecDeque<MapRow>,
    /// Whether rows may follow the page.
    more: bool,
}

impl<'a> Pages<'a> {
    const fn new(view: &'a View<'a>, prefix: Vec<u8>) -> Self {
        Self { view, prefix, page: VecDeque::new(), more: true }
    }

    /// The first row whose key, behind the prefix, is not before these bytes. It stays.
    fn seek(&mut self, from: &[u8]) -> Result<Option<&MapRow>, MapError> {
        let from = [&self.prefix[..], from].concat();
        while self.page.front().is_some_and(|(row, _)| *row < from) {
            self.page.pop_front();
        }
        if self.page.is_empty() && self.more {
            let page = self.view.rows(&from, &rows::behind(&self.prefix), PAGE)?;
            self.more = page.len() == PAGE;
            self.page = page.into();
        }
        Ok(self.page.front())
    }
}

impl View<'_> {
    /// The current versions of a bucket's keys that were put since it was made.
    pub(crate) fn list(
        &self,
        bucket: &BucketName,
        created: Stamp,
        order: &ListOrder,
    ) -> Result<List<Listed>, MapError> {
        let prefix = rows::currents(bucket);
        let mut pages = Pages::new(self, prefix.clone());
        order.walk(|from| {
            let mut from = from.to_vec();
            loop {
                let Some((row, listed)) = pages.seek(&from)? else { return Ok(None) };
                let key =
                    rows::key_behind(row, &prefix).ok_or_else(|| malformed("current version"))?.to_owned();
                let listed: Listed = parse(listed)?;
                if listed.stamp >= created {
                    return Ok(Some(Step { key, entries: vec![listed] }));
                }
                from = just_behind(&key);
            }
        })
    }

    /// All versions of a bucket's keys, those of a key from the latest on. The pages end with whole keys, so that a page may have more
    /// than [`ListOrder::count_max`].
    pub(crate) fn list_versions(
        &self,
        bucket: &BucketName,
        created: Stamp,
        order: &ListOrder,
    ) -> Result<List<Found>, MapError> {
        let prefix = rows::versions_of(bucket);
        let mut pages = Pages::new(self, prefix.clone());
        order.walk(|from| {
            let mut from = from.to_vec();
            loop {
                let Some((row, _)) = pages.seek(&from)? else { return Ok(None) };
                let (key, _) = rows::key_and_rest(row, &prefix).ok_or_else(|| malformed("version"))?;
                let key = key.to_owned();
                let parsed: Key = key.parse().map_err(|_| malformed("version"))?;
                let mut found = Vec::new();
                self.visit_versions(bucket, &parsed, |version| found.push(version))?;
                found.retain(|version| version.stamp >= created);
                if !found.is_empty() {
                    found.sort_by_key(|version| core::cmp::Reverse(version.stamp));
                    return Ok(Some(Step { key, entries: found }));
                }
                from = just_behind(&key);
            }
        })
    }

    /// The uploads into a bucket that are under way.
    pub(crate) fn list_uploads(
        &self,
        bucket: &BucketName,
        created: Stamp,
        order: &ListOrder,
    ) -> Result<List<(UploadId, Upload)>, MapError> {
        let prefix = rows::uploads(bucket);
        let mut pages = Pages::new(self, prefix.clone());
        order.walk(|from| {
            let mut from = from.to_vec();
            loop {
                let Some((row, _)) = pages.seek(&from)? else { return Ok(None) };
                let (key, _) = rows::key_and_rest(row, &prefix).ok_or_else(|| malformed("upload"))?;
                let key = key.to_owned();
                let uploads = self.uploads_of(bucket, &key, created)?;
                if !uploads.is_empty() {
                    return Ok(Some(Step { key, entries: uploads }));
                }
                from = just_behind(&key);
            }
        })
    }

    fn uploads_of(
        &self,
        bucket: &BucketName,
        key: &str,
        created: Stamp,
    ) -> Result<Vec<(UploadId, Upload)>, MapError> {
        let prefix = [&rows::uploads(bucket)[..], key.as_bytes(), &[0]].concat();
        let mut uploads = Vec::new();
        for (row, held) in self.rows(&prefix, &rows::behind(&prefix), PAGE)? {
            let stamp = rows::stamp_of(&row[prefix.len()..]).ok_or_else(|| malformed("upload"))?;
            match parse::<Held>(&held)?.value {
                Some(Value::Upload(upload)) if !upload.completed && stamp >= created => {
                    uploads.push((UploadId(stamp), upload));
                }
                _ => {}
            }
        }
        Ok(uploads)
    }
}

fn malformed(what: &str) -> MapError {
    MapError(format!("the row of a {what} is malformed"))
}
