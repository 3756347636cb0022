//! Makes disk and index agree after a crash.
//!
//! Before the store serves: what a crash tore off the last segment is cut away, records that are torn in its middle are
//! made void, what the segments have and the index hasn't is entered, and the index is made durable. Only the last
//! segment can have been torn: a new one is begun only once the one before is synced.

mod survey;

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datamesh_engine::world::Entropy;

use crate::disk::{Disk, DiskFile, is_away};
use crate::index::apply::apply;
use crate::index::tables::{Tables, Unleased};
use crate::index::{Commit, Index, SegmentUsage, commit};
use crate::recover::survey::{SegmentFile, Survey};
use crate::segment::{FRAME_SIZE, Found, Frame, Kind, Place, Record, SEGMENT_HEADER_SIZE, Scan, StoreKey};
use crate::settings::StoreSettings;
use crate::shared::{Fill, Mended, Shared, end_of};
use crate::write::{Active, GroupError, Resume};

const INDEX_NAME: &str = "index";
const LOCK_NAME: &str = "lock";
/// Records entered in one transaction of the index.
const BATCH_RECORDS: u64 = 8192;

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has it open.
    #[error("store {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The disk can't be read or written.
    #[error("{what}: {source}")]
    Disk {
        /// What was to be done.
        what: String,
        /// What the disk said.
        source: io::Error,
    },
    /// Written by a later version of the program.
    #[error("{} has format {version}: another version of the program wrote it, and is needed to read it", path.display())]
    Version {
        /// The segment file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The index can't be written.
    #[error("index: {0}")]
    Index(#[from] redb::Error),
}

/// What was found and done when a store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Whether the index was missing or damaged and made anew.
    pub index_rebuilt: bool,
    /// Records that the index did not have.
    pub replayed_count: u64,
    /// Records that were torn or rotten, and are void now.
    pub skipped_count: u64,
    /// Bytes between records that are none.
    pub gap_size: u64,
    /// Bytes cut off the last segment.
    pub cut_size: u64,
    /// Reads that the disk refused. What couldn't be read was left as it is.
    pub unreadable_count: u64,
}

/// A store whose disk and index agree.
pub(crate) struct Recovered {
    pub(crate) shared: Shared,
    pub(crate) resume: Resume,
    pub(crate) recovery: Recovery,
}

/// Opens the files of a store, or makes them.
pub(crate) fn recover(
    disk: Arc<dyn Disk>,
    directory: &Path,
    settings: StoreSettings,
    entropy: &dyn Entropy,
) -> Result<Recovered, OpenError> {
    disk.create_directory(directory).map_err(|source| disk_error("create", directory, source))?;
    let lock = lock(&*disk, directory)?;
    let mut survey = Survey::take(&*disk, directory)?;
    let mut recovery = Recovery::default();
    let mut mended = Mended::default();
    let path = directory.join(INDEX_NAME);
    let found = open_index(&*disk, &path, &settings)?;
    let key = survey.settle_key(&*disk, directory, found.as_ref(), entropy)?;
    mended.header_count = survey.mend_headers(key, found.as_ref())?;
    mended.aside_count = survey.aside_count;
    let index = match found {
        Some(index) if survey.agrees_with(&index, &key)? => index,
        other => {
            recovery.index_rebuilt = other.is_some() || !survey.files.is_empty();
            drop(other);
            renew_index(&*disk, directory, &path, &settings, &key)?
        }
    };
    mended.index_count = u64::from(recovery.index_rebuilt);
    if let Some((segment, last)) = survey.files.last_key_value() {
        // A process that was killed leaves writes that are not synced yet: what is read back must be on the disk first.
        let synced = last.file.sync_data().and_then(|()| disk.sync_directory(directory));
        synced.map_err(|source| {
            disk_error("sync", &directory.join(crate::segment::name_of_segment(*segment)), source)
        })?;
    }
    note_segments(&index, &survey)?;
    let mut replay = Replay { key, files: &survey.files, recovery, check_last: true };
    let end = replay.run(&index)?;
    recovery = replay.recovery;
    recovery.cut_size = survey.cut_last(end, recovery.unreadable_count)?;
    let segments = settle(&index, &survey, end)?;
    let resume = survey.resume(&settings, segments);
    if recovery != Recovery::default() {
        tracing::info!(?recovery, directory = %directory.display(), "store recovered");
    }
    let fill = Fill { item_count: index.item_count()?, ..Fill::default() };
    let shared = Shared::new(disk, directory.to_owned(), settings, key, index, lock, mended);
    shared.set_fill(fill);
    shared.owners.set(shared.index().kept_by_owner()?);
    Ok(Recovered { shared, resume, recovery })
}

fn lock(disk: &dyn Disk, directory: &Path) -> Result<Box<dyn Any + Send + Sync>, OpenError> {
    disk.lock(&directory.join(LOCK_NAME)).map_err(|source| match source.kind() {
        ErrorKind::WouldBlock => OpenError::InUse(directory.to_owned()),
        _ => disk_error("lock", directory, source),
    })
}

/// The index, if there is one that can be used.
fn open_index(disk: &dyn Disk, path: &Path, settings: &StoreSettings) -> Result<Option<Index>, OpenError> {
    match Index::open(disk, path, settings.index_cache_size) {
        Ok(index) => Ok(index),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(disk_error("open", path, source)),
    }
}

/// An empty index in the place of what is there.
fn renew_index(
    disk: &dyn Disk,
    directory: &Path,
    path: &Path,
    settings: &StoreSettings,
    key: &StoreKey,
) -> Result<Index, OpenError> {
    match disk.remove(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            return Err(disk_error("remove", path, source));
        }
        _ => {}
    }
    let index = Index::create(disk, path, settings.index_cache_size, key)?;
    disk.sync_directory(directory).map_err(|source| disk_error("sync", directory, source))?;
    Ok(index)
}

/// Opens the index again after it failed while the store was open, and enters what it lacks. `end` is where the last
/// segment's synced records end.
pub(crate) fn reopen_index(shared: &Shared, end: Place) -> Result<(), GroupError> {
    let opened = try_reopen_index(shared, end);
    opened.map_err(|error| match error {
        OpenError::Index(error) => GroupError::Index(error),
        other => GroupError::Read(io::Error::other(other)),
    })
}

fn try_reopen_index(shared: &Shared, end: Place) -> Result<(), OpenError> {
    shared.index().retire();
    let disk = &*shared.disk;
    let mut survey = Survey::take(disk, &shared.directory)?;
    survey.end_at(end);
    let path = shared.directory.join(INDEX_NAME);
    let found = open_index(disk, &path, &shared.settings)?;
    let mut mended = Mended {
        header_count: survey.mend_headers(shared.key, found.as_ref())?,
        aside_count: survey.aside_count,
        ..Mended::default()
    };
    let index = match found {
        Some(index) if survey.agrees_with(&index, &shared.key)? => index,
        other => {
            drop(other);
            mended.index_count = 1;
            renew_index(disk, &shared.directory, &path, &shared.settings, &shared.key)?
        }
    };
    shared.note_mended(mended);
    note_segments(&index, &survey)?;
    let mut replay =
        Replay { key: shared.key, files: &survey.files, recovery: Recovery::default(), check_last: false };
    let replayed = replay.run(&index)?;
    settle(&index, &survey, replayed.max(end))?;
    shared.owners.set(index.kept_by_owner()?);
    shared.set_index(index);
    Ok(())
}

/// Notes which segments there are: what a lapse means depends on it.
fn note_segments(index: &Index, survey: &Survey) -> Result<(), OpenError> {
    let known = index.segments()?;
    let applied = index.applied()?;
    let transaction = index.begin()?;
    let mut tables = Tables::open(&transaction)?;
    for (segment, _) in known.iter().filter(|(segment, _)| !survey.files.contains_key(segment)) {
        tables.drop_segment(*segment);
    }
    for (segment, file) in &survey.files {
        tables.set_segment_size(*segment, file.end)?;
    }
    tables.finish(applied)?;
    Ok(commit(transaction, Commit::Cheap)?)
}

/// Drops from the index what has turned out garbage once everything is replayed, and makes it durable.
fn settle(index: &Index, survey: &Survey, end: Place) -> Result<BTreeMap<u64, SegmentUsage>, OpenError> {
    let transaction = index.begin()?;
    let mut tables = Tables::open(&transaction)?;
    if let Some((segment, last)) = survey.files.last_key_value() {
        tables.set_segment_size(*segment, last.end)?;
    }
    if index.is_unswept()? {
        tables.sweep()?;
    }
    tables.finish(end)?;
    commit(transaction, Commit::Checkpoint)?;
    Ok(index.segments()?.into_iter().collect())
}

/// Enters into the index what the segments have behind the place up to which it knows them.
struct Replay<'a> {
    key: StoreKey,
    files: &'a BTreeMap<u64, SegmentFile>,
    recovery: Recovery,
    /// Whether payloads of the last segment are checked: they may be torn.
    check_last: bool,
}

impl Replay<'_> {
    /// Says where the last good record ends.
    fn run(&mut self, index: &Index) -> Result<Place, OpenError> {
        let mut end = index.applied()?;
        let header_size = u64::try_from(SEGMENT_HEADER_SIZE).expect("a small number");
        let last = self.files.keys().next_back().copied();
        for (segment, file) in self.files.range(end.segment..) {
            let from = if *segment == end.segment { end.offset.max(header_size) } else { header_size };
            let mut scan = Scan::new(&*file.file, self.key, end_of(*segment, from), file.end);
            end = end_of(*segment, from);
            let check = self.check_last && Some(*segment) == last;
            while let Some(reached) = self.batch(index, &file.file, &mut scan, check)? {
                end = end.max(reached);
            }
            self.recovery.unreadable_count += scan.unreadable();
        }
        Ok(end)
    }

    /// Enters the next records of a segment. Says where the last of them ends, or `None` behind the segment's end.
    fn batch(
        &mut self,
        index: &Index,
        file: &Arc<dyn DiskFile>,
        scan: &mut Scan<'_>,
        check: bool,
    ) -> Result<Option<Place>, OpenError> {
        let begin = scan.at();
        let mut reached = None;
        let transaction = index.begin()?;
        let mut tables = Tables::open(&transaction)?;
        for _ in 0..BATCH_RECORDS {
            let Some(found) = scan.next() else { break };
            reached = reached.or(Some(begin));
            match found {
                Found::Gap { size } => self.recovery.gap_size += size,
                Found::Record { frame, .. } if frame.kind == Kind::Void => reached = Some(scan.at()),
                Found::Record { record: None, .. } => self.recovery.skipped_count += 1,
                Found::Record { place, frame, record: Some(record) } => {
                    reached = Some(scan.at());
                    if check && !self.is_whole(&**file, place, &frame, &record)? {
                        self.recovery.skipped_count += 1;
                        continue;
                    }
                    self.recovery.replayed_count += 1;
                    apply(&mut tables, place, &frame, &record, Unleased::Await)?;
                }
            }
        }
        // The index would lack for good what could only not be asked for.
        if scan.is_away() {
            return Err(away(ErrorKind::HostUnreachable.into()));
        }
        if reached.is_some() {
            tables.need_sweep()?;
        }
        tables.finish(scan.at())?;
        commit(transaction, Commit::Cheap)?;
        Ok(reached)
    }

    /// Whether a record's payload is all there. One that isn't is made void, so that it is none for whoever replays it
    /// without reading payloads.
    fn is_whole(
        &mut self,
        file: &dyn DiskFile,
        place: Place,
        frame: &Frame,
        record: &Record,
    ) -> Result<bool, OpenError> {
        let Record::Item(keeping) = record else { return Ok(true) };
        let mut payload = vec![0; frame.payload_len()];
        if let Err(error) = file.read_exact_at(&mut payload, place.offset + frame.head_size()) {
            if is_away(&error) {
                return Err(away(error));
            }
            tracing::warn!(segment = place.segment, offset = place.offset, %error, "item can't be read");
            self.recovery.unreadable_count += 1;
            // The bytes may well be there: the item stays, and a reader is told if they are not.
            return Ok(true);
        }
        if keeping.id().is_some_and(|id| id.matches(&payload)) {
            return Ok(true);
        }
        let voided = make_void(file, &self.key, place).and_then(|()| file.sync_data());
        voided.map_err(|source| OpenError::Disk { what: "make a torn record void".to_owned(), source })?;
        Ok(false)
    }
}

fn away(source: io::Error) -> OpenError {
    OpenError::Disk { what: "read segments that the index lacks".to_owned(), source }
}

/// Makes a record void where it lies. The caller syncs the file.
///
/// A frame lies within one sector, so that a power cut leaves the old frame or the new one.
fn make_void(file: &dyn DiskFile, key: &StoreKey, place: Place) -> io::Result<()> {
    let mut bytes = [0; FRAME_SIZE];
    file.read_exact_at(&mut bytes, place.offset)?;
    let Some(frame) = Frame::decode(&bytes, key, place) else { return Ok(()) };
    file.write_all_at(&[&frame.voided().encode(key, place)], place.offset)
}

fn disk_error(what: &str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Disk { what: format!("{what} {}", path.display()), source }
}

impl SegmentFile {
    fn active(&self, segment: u64) -> Active {
        Active { segment, file: self.file.clone(), size: self.end }
    }
}
