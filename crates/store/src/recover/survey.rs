//! Which segments there are, and how much of each is to be believed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use datamesh_engine::world::Entropy;

use crate::disk::{Disk, DiskFile};
use crate::index::{Index, IndexResult, SegmentUsage};
use crate::recover::{OpenError, disk_error};
use crate::segment::{
    ALIGNMENT, Place, SEGMENT_HEADER_SIZE, SegmentHeader, SegmentHeaderError, StoreKey, name_of_segment,
    segment_of_name,
};
use crate::settings::StoreSettings;
use crate::shared::end_of;
use crate::write::Resume;

/// What the name of a segment that is set aside begins with.
const ASIDE_PREFIX: &str = "unreadable-";

/// A segment file as it is found.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) file: Arc<dyn DiskFile>,
    /// Bytes of it that are to be believed.
    pub(crate) end: u64,
    /// What it begins with; `None` where that is damaged.
    pub(crate) header: Option<SegmentHeader>,
}

/// The segment files of a store.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) files: BTreeMap<u64, SegmentFile>,
    /// The greatest number of those that are set aside.
    last_number: u64,
    /// Segments that were set aside just now.
    pub(crate) aside_count: u64,
}

impl SegmentFile {
    fn look(disk: &dyn Disk, path: &Path, segment: u64) -> Result<Self, OpenError> {
        let file = disk.open(path).map_err(|source| disk_error("open", path, source))?;
        let end = file.size().map_err(|source| disk_error("read", path, source))?;
        let mut bytes = [0; SEGMENT_HEADER_SIZE];
        // Zeros, which are no header, where it is too short or can't be read: its records may still be good.
        if let Err(error) = file.read_exact_at(&mut bytes, 0) {
            tracing::warn!(segment, %error, "segment's header can't be read");
            bytes = [0; SEGMENT_HEADER_SIZE];
        }
        let header = match SegmentHeader::decode(&bytes) {
            Ok(header) => Some(header).filter(|header| header.segment == segment),
            Err(SegmentHeaderError::Damaged) => None,
            Err(SegmentHeaderError::Version(version)) => {
                return Err(OpenError::Version { path: path.to_owned(), version });
            }
        };
        Ok(Self { file, end, header })
    }
}

/// Whether an error is about what lies on the disk, and no want of rights, room or file handles.
fn is_of_the_medium(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    const EUCLEAN: i32 = 117;
    matches!(error.raw_os_error(), Some(EIO | EUCLEAN))
}

/// The number of a segment that is set aside under this name.
fn number_aside(name: &str) -> Option<u64> {
    segment_of_name(name.strip_prefix(ASIDE_PREFIX)?)
}

impl Survey {
    /// Looks at every segment's header and size. What the disk does not give at all is set aside.
    pub(crate) fn take(disk: &dyn Disk, directory: &Path) -> Result<Self, OpenError> {
        let names = disk.list(directory).map_err(|source| disk_error("list", directory, source))?;
        let mut survey = Self {
            files: BTreeMap::new(),
            last_number: names.iter().filter_map(|name| number_aside(name)).max().unwrap_or_default(),
            aside_count: 0,
        };
        for segment in names.iter().filter_map(|name| segment_of_name(name)) {
            let path = directory.join(name_of_segment(segment));
            match SegmentFile::look(disk, &path, segment) {
                Ok(file) => {
                    survey.files.insert(segment, file);
                }
                Err(OpenError::Disk { source, .. }) if is_of_the_medium(&source) => {
                    survey.set_aside(disk, directory, segment, &source.to_string())?;
                }
                Err(error) => return Err(error),
            }
        }
        survey.believe_successors();
        Ok(survey)
    }

    /// Gives a segment another name, so that it is in nobody's way and can be looked at.
    fn set_aside(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        segment: u64,
        why: &str,
    ) -> Result<(), OpenError> {
        let path = directory.join(name_of_segment(segment));
        let aside = directory.join(format!("{ASIDE_PREFIX}{}", name_of_segment(segment)));
        tracing::error!(segment, why, aside = %aside.display(), "segment can't be read and is set aside; what it held is made again by the mesh");
        let renamed = disk.rename(&path, &aside).and_then(|()| disk.sync_directory(directory));
        renamed.map_err(|source| disk_error("set aside", &path, source))?;
        self.files.remove(&segment);
        self.aside_count += 1;
        self.last_number = self.last_number.max(segment);
        Ok(())
    }

    /// Each segment says how much of the one before it was synced; what lies behind that was refused when it was written.
    fn believe_successors(&mut self) {
        let synced: Vec<Place> = self.files.values().filter_map(|file| Some(file.header?.previous)).collect();
        for previous in synced {
            if let Some(file) = self.files.get_mut(&previous.segment) {
                file.end = file.end.min(previous.offset);
            }
        }
    }

    /// Believes of the last segment no more than up to this place.
    pub(crate) fn end_at(&mut self, place: Place) {
        if let Some(file) = self.files.get_mut(&place.segment) {
            file.end = file.end.min(place.offset);
        }
    }

    /// The key of the store: the one that its segments have, or its index, or a fresh one. Removes segments that were never
    /// finished being made, and sets those aside that nothing is left to read with.
    pub(crate) fn settle_key(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        index: Option<&Index>,
        entropy: &dyn Entropy,
    ) -> Result<StoreKey, OpenError> {
        // The header is synced before the first record is written: without one there is nothing behind it either.
        let unfinished = |file: &SegmentFile| file.header.is_none() && file.end <= header_size();
        let begun: Vec<u64> =
            self.files.iter().filter(|(_, file)| unfinished(file)).map(|(id, _)| *id).collect();
        for segment in begun {
            let path = directory.join(name_of_segment(segment));
            disk.remove(&path).map_err(|source| disk_error("remove", &path, source))?;
            self.files.remove(&segment);
        }
        if let Some(header) = self.files.values().find_map(|file| file.header) {
            return Ok(header.key);
        }
        if let Some(key) = index.map(Index::key).transpose()?.flatten() {
            return Ok(key);
        }
        let segments: Vec<u64> = self.files.keys().copied().collect();
        for segment in segments {
            let why = "its header is damaged, and neither another segment nor the index has the store's key";
            self.set_aside(disk, directory, segment, why)?;
        }
        let mut key = [0; 32];
        entropy.fill(&mut key);
        Ok(StoreKey(key))
    }

    /// Writes headers anew that are damaged, and says how many. What the header said of the segment before is what the index knows of
    /// that one, or its size: it was cut to what was synced.
    pub(crate) fn mend_headers(&mut self, key: StoreKey, index: Option<&Index>) -> IndexResult<u64> {
        let known: BTreeMap<u64, SegmentUsage> = match index {
            Some(index) => index.segments()?.into_iter().collect(),
            None => BTreeMap::new(),
        };
        let damaged = self.files.iter().filter(|(_, file)| file.header.is_none() && file.end > header_size());
        let damaged: Vec<u64> = damaged.map(|(segment, _)| *segment).collect();
        let mut mended_count = 0;
        for segment in damaged {
            let before = self.files.range(..segment).next_back().map(|(before, file)| {
                end_of(*before, known.get(before).map_or(file.end, |usage| usage.size.min(file.end)))
            });
            let header = SegmentHeader { segment, previous: before.unwrap_or(end_of(0, 0)), key };
            let file = self.files.get_mut(&segment).expect("it is one of them");
            match file.file.write_all_at(&[&header.encode()], 0).and_then(|()| file.file.sync_data()) {
                Ok(()) => {
                    tracing::error!(segment, "segment's header was damaged, and is written again");
                    file.header = Some(header);
                    mended_count += 1;
                }
                Err(error) => {
                    tracing::error!(segment, %error, "segment's header is damaged; its records are not");
                }
            }
        }
        self.believe_successors();
        Ok(mended_count)
    }

    /// Whether everything that the index refers to is there.
    pub(crate) fn agrees_with(&self, index: &Index, key: &StoreKey) -> IndexResult<bool> {
        let applied = index.applied()?;
        let has = |segment: u64, size: u64| self.files.get(&segment).is_some_and(|file| file.end >= size);
        let applied_is_there = applied == end_of(0, 0) || has(applied.segment, applied.offset);
        let segments = index.segments()?;
        let missing = segments.iter().find(|(segment, usage)| usage.live > 0 && !has(*segment, usage.size));
        if let Some((segment, _)) = missing {
            tracing::error!(segment, "segment that the index refers to is missing or too short");
        }
        Ok(applied_is_there && missing.is_none() && index.key()?.as_ref() == Some(key))
    }

    /// Cuts off what lies behind the last good record, so that the next one is written there. What can't be read is left
    /// alone. Says how much was cut.
    pub(crate) fn cut_last(&mut self, end: Place, unreadable_count: u64) -> Result<u64, OpenError> {
        let Some((segment, last)) = self.files.iter_mut().next_back() else { return Ok(0) };
        if *segment != end.segment || unreadable_count > 0 {
            return Ok(0);
        }
        let failed = |source| OpenError::Disk { what: "cut off a torn tail".to_owned(), source };
        let size = last.file.size().map_err(failed)?;
        if size > end.offset {
            last.file.set_size(end.offset).and_then(|()| last.file.sync_data()).map_err(failed)?;
        }
        last.end = end.offset;
        Ok(size.saturating_sub(end.offset))
    }

    /// What the writer goes on with: the last segment where there is room in it.
    pub(crate) fn resume(&self, settings: &StoreSettings, segments: BTreeMap<u64, SegmentUsage>) -> Resume {
        let Some((segment, last)) = self.files.last_key_value() else {
            return Resume { active: None, sealed: end_of(0, 0), last_number: self.last_number, segments };
        };
        let sealed = end_of(*segment, last.end);
        let goes_on =
            last.header.is_some() && last.end < settings.segment_size && last.end.is_multiple_of(ALIGNMENT);
        let active = goes_on.then(|| last.active(*segment));
        Resume { active, sealed, last_number: self.last_number, segments }
    }
}

fn header_size() -> u64 {
    u64::try_from(SEGMENT_HEADER_SIZE).expect("a small number")
}
