//! What is in a folder, page by page, each name once.

use std::collections::VecDeque;

use datamesh_core::bucket::{Access, AccessKey, BucketName};
use datamesh_engine::buckets::{Buckets, List, ListOrder, Listed};
use dav_server::fs::{DavDirEntry, DavMetaData, FsFuture};
use futures::future::{FutureExt, ready};

use crate::http::answer::Problem;
use crate::http::dav::node::{Facts, Folder};
use crate::http::dav::place::{InBucket, is_name};

/// Keys and folders that are read from the index at once.
const PAGE_MAX: usize = 1000;

/// A name in a folder, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) facts: Facts,
}

/// Reads a folder to its end, a page in memory at a time.
pub(super) struct Reader {
    buckets: Buckets,
    bucket: BucketName,
    order: ListOrder,
    names: Names,
    ended: bool,
}

/// Makes the names of a folder from keys and common prefixes that come in order.
#[derive(Debug, Default)]
struct Names {
    prefix: String,
    /// Files of whose names there may still be a folder: between `a` and `a/` keys such as `a-b` are listed. Each begins with all
    /// before it, so that there are no more than a key has bytes.
    held: Vec<(String, Facts)>,
    ready: VecDeque<Entry>,
}

impl Reader {
    pub(super) fn new(buckets: Buckets, place: &InBucket) -> Self {
        let prefix = place.prefix();
        let names = Names { prefix: prefix.clone(), ..Names::default() };
        let order = ListOrder { prefix, delimiter: Some("/".to_owned()), after: None, count_max: PAGE_MAX };
        Self { buckets, bucket: place.bucket.clone(), order, names, ended: false }
    }

    /// What comes next; none at the end. Reads the index, which blocks.
    ///
    /// # Errors
    /// When the index can't be read, or the bucket was removed meanwhile.
    pub(super) fn read(&mut self) -> Result<VecDeque<Entry>, Problem> {
        while self.names.ready.is_empty() && !self.ended {
            let mut list = self.buckets.list(&self.bucket, &self.order)?;
            self.order.after = list.next.take();
            self.ended = self.order.after.is_none();
            self.names.add(list);
            if self.ended {
                self.names.finish();
            }
        }
        Ok(core::mem::take(&mut self.names.ready))
    }
}

impl Names {
    fn add(&mut self, list: List<Listed>) {
        let files = list.entries.iter().map(|(key, listed)| (key.as_str().to_owned(), Facts::from(listed)));
        let folder = Facts::Folder(Folder { made: None });
        let folders = list.prefixes.into_iter().map(|prefix| (prefix, folder.clone()));
        let mut steps: Vec<(String, Facts)> = files.chain(folders).collect();
        steps.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (key, facts) in steps {
            self.settle(&key);
            match facts {
                Facts::Folder(_) => self.give(key.strip_suffix('/').unwrap_or(&key).to_owned(), facts),
                Facts::File { .. } => self.held.push((key, facts)),
            }
        }
    }

    /// Settles what was held until the list has come to this: what is at its folder is dropped, what is behind it given.
    fn settle(&mut self, step: &str) {
        while let Some((key, facts)) = self.held.pop_if(|(key, _)| step >= format!("{key}/").as_str()) {
            if step.strip_suffix('/') != Some(key.as_str()) {
                self.give(key, facts);
            }
        }
    }

    fn finish(&mut self) {
        for (key, facts) in core::mem::take(&mut self.held) {
            self.give(key, facts);
        }
    }

    fn give(&mut self, key: String, facts: Facts) {
        // Also passed over: the key that is the folder's own, with a slash at its end.
        if let Some(name) = key.strip_prefix(&self.prefix).filter(|name| is_name(name)) {
            self.ready.push_back(Entry { name: name.to_owned(), facts });
        }
    }
}

/// The buckets that the holder of a key may read. Reads the index, which blocks.
///
/// # Errors
/// When the index can't be read.
pub(super) fn shown(buckets: &Buckets, key: &AccessKey) -> Result<VecDeque<Entry>, Problem> {
    let readable = buckets.buckets()?.into_iter().filter(|(name, _)| key.allows(name, Access::Read));
    let entry = |(name, bucket): (BucketName, datamesh_core::bucket::Bucket)| Entry {
        name: name.into(),
        facts: Facts::Folder(Folder { made: Some(bucket.created.instant()) }),
    };
    Ok(readable.map(entry).collect())
}

impl DavDirEntry for Entry {
    fn name(&self) -> Vec<u8> {
        self.name.clone().into_bytes()
    }

    fn metadata(&'_ self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        let facts: Box<dyn DavMetaData> = Box::new(self.facts.clone());
        ready(Ok(facts)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use datamesh_core::bucket::{Key, Stamp, VersionSlot, WriterId};
    use datamesh_core::time::Timestamp;
    use datamesh_engine::buckets::{List, Listed};

    use super::{Facts, Names};

    fn listed() -> Listed {
        let stamp = Stamp { ms: 0, count: 0, writer: WriterId::from_bytes([0; 16]) };
        let (version, modified, etag) = (VersionSlot::Null, Timestamp::from_ms(0), "tag".to_owned());
        Listed { version, stamp, modified, size: 1, etag, class: None }
    }

    /// What a folder shows, with a slash behind folders, where the list comes in pages of so many.
    fn names(prefix: &str, steps: &[&str], page: usize) -> Vec<String> {
        let mut names = Names { prefix: prefix.to_owned(), ..Names::default() };
        let (mut shown, mut held_max) = (Vec::new(), 0);
        for steps in steps.chunks(page) {
            let is_folder = |step: &&&str| step.ends_with('/') && **step != prefix;
            let keys = steps.iter().filter(|step| !is_folder(step));
            let entries = keys.map(|key| (key.parse::<Key>().unwrap(), listed())).collect();
            let prefixes = steps.iter().filter(is_folder).map(|step| (*step).to_owned()).collect();
            names.add(List { entries, prefixes, next: None });
            held_max = held_max.max(names.held.len());
            shown.extend(names.ready.drain(..));
        }
        names.finish();
        assert!(held_max <= 4, "{held_max}");
        let entries = shown.into_iter().chain(names.ready);
        let slash = |facts: &Facts| if matches!(facts, Facts::Folder(_)) { "/" } else { "" };
        let mut shown: Vec<String> =
            entries.map(|entry| format!("{}{}", entry.name, slash(&entry.facts))).collect();
        shown.sort();
        shown
    }

    #[test]
    fn a_name_that_is_file_and_folder_is_a_folder_whichever_pages_they_are_on() {
        let steps = ["a", "a!", "a!-", "a!/", "a-b", "a-b-c", "a/", "a0", "b", "b/", "c"];
        for page in 1..=steps.len() {
            assert_eq!(names("", &steps, page), ["a!-", "a!/", "a-b", "a-b-c", "a/", "a0", "b/", "c"]);
        }
    }

    #[test]
    fn what_is_no_name_is_passed_over() {
        let steps = ["in/", "in//", "in/.", "in/..", "in/../", "in/./", "in/...", "in/x", "in/x/"];
        assert_eq!(names("in/", &steps, 3), ["...", "x/"]);
        assert_eq!(names("", &["..", "../", "/", "x"], 1), ["x"]);
    }
}
