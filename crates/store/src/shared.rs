//! What the writer and the readers of one store have in common.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use datamesh_engine::world::ItemsError;

use crate::disk::{Disk, DiskFile};
use crate::groups::Groups;
use crate::index::{Index, ItemRow};
use crate::owners::Owners;
use crate::segment::{Place, StoreKey, head_size, name_of_segment};
use crate::settings::StoreSettings;

/// Most segment files that are kept open.
const FILES_OPEN_MAX: usize = 64;

/// What the writer and the readers of one store have in common.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) directory: PathBuf,
    pub(crate) settings: StoreSettings,
    pub(crate) key: StoreKey,
    index: RwLock<Arc<Index>>,
    files: Mutex<OpenFiles>,
    fill: Mutex<Fill>,
    pub(crate) owners: Owners,
    pub(crate) groups: Groups,
    /// Whether the index has failed a reader: it must be opened again.
    doubted: AtomicBool,
    mended: Mutex<Mended>,
    /// Held until the last thread of the store has ended.
    _lock: Box<dyn Any + Send + Sync>,
}

/// What was damaged and is whole again, or out of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mended {
    /// Indexes that were damaged, or did not agree with the segments, and were made anew.
    pub index_count: u64,
    /// Headers of segments that were written anew.
    pub header_count: u64,
    /// Releases that were written anew.
    pub release_count: u64,
    /// Segments that can't be read at all, and lie beside the others under another name. Their items are missed and made again.
    pub aside_count: u64,
    /// Items that were rotten and are held no more, whoever noticed.
    pub rotten_count: u64,
}

impl Mended {
    const fn plus(self, other: Self) -> Self {
        Self {
            index_count: self.index_count + other.index_count,
            header_count: self.header_count + other.header_count,
            release_count: self.release_count + other.release_count,
            aside_count: self.aside_count + other.aside_count,
            rotten_count: self.rotten_count + other.rotten_count,
        }
    }
}

/// How full the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fill {
    /// Bytes of all segment files.
    pub(crate) size: u64,
    /// Bytes of what still counts in them.
    pub(crate) live: u64,
    pub(crate) item_count: u64,
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        settings: StoreSettings,
        key: StoreKey,
        index: Index,
        lock: Box<dyn Any + Send + Sync>,
        mended: Mended,
    ) -> Self {
        Self {
            disk,
            directory,
            settings,
            key,
            index: RwLock::new(Arc::new(index)),
            files: Mutex::default(),
            fill: Mutex::default(),
            owners: Owners::default(),
            groups: Groups::default(),
            doubted: AtomicBool::new(false),
            mended: Mutex::new(mended),
            _lock: lock,
        }
    }

    pub(crate) fn index(&self) -> Arc<Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_index(&self, index: Index) {
        let old = std::mem::replace(
            &mut *self.index.write().unwrap_or_else(PoisonError::into_inner),
            Arc::new(index),
        );
        self.doubted.store(false, Ordering::Release);
        self.groups.clear();
        // The old one may be in any state.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
    }

    /// Says of an error of the index what it was about, and has the index looked at.
    pub(crate) fn index_error(&self, error: &redb::Error) -> ItemsError {
        self.doubted.store(true, Ordering::Release);
        disk_error("index", error)
    }

    /// The same where the index has failed without an error.
    pub(crate) fn index_broke(&self) -> ItemsError {
        self.doubted.store(true, Ordering::Release);
        ItemsError::Disk("index: it is damaged, and is made anew".to_owned())
    }

    pub(crate) fn is_index_doubted(&self) -> bool {
        self.doubted.load(Ordering::Acquire)
    }

    /// What was damaged and is whole again since the store was opened, that included.
    pub(crate) fn mended(&self) -> Mended {
        *self.mended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_mended(&self, more: Mended) {
        let mut mended = self.mended.lock().unwrap_or_else(PoisonError::into_inner);
        *mended = mended.plus(more);
    }

    pub(crate) fn fill(&self) -> Fill {
        *self.fill.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_fill(&self, fill: Fill) {
        *self.fill.lock().unwrap_or_else(PoisonError::into_inner) = fill;
    }

    /// Bytes that may be written before the free-space floor is reached.
    pub(crate) fn room_above_floor(&self) -> io::Result<u64> {
        Ok(self.disk.free_space(&self.directory)?.saturating_sub(self.settings.free_floor))
    }

    pub(crate) fn path_of_segment(&self, segment: u64) -> PathBuf {
        self.directory.join(name_of_segment(segment))
    }

    /// A segment's file, opened if it isn't.
    pub(crate) fn file(&self, segment: u64) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.open_files().find(segment) {
            return Ok(file);
        }
        // Opened outside the lock: a slow disk keeps no reader of another segment waiting.
        let file = self.disk.open(&self.path_of_segment(segment))?;
        self.open_files().add(segment, file.clone());
        Ok(file)
    }

    /// Closes a segment's file: it is being removed.
    pub(crate) fn close_file(&self, segment: u64) {
        self.open_files().files.remove(&segment);
    }

    fn open_files(&self) -> std::sync::MutexGuard<'_, OpenFiles> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads bytes of an item from where the index says they are. The size is the caller's, who has checked it.
    pub(crate) fn read_payload(&self, row: &ItemRow, offset: u32, size: usize) -> io::Result<Vec<u8>> {
        read_from(&*self.file(row.place.segment)?, row, offset, size)
    }

    /// The same for somebody who wants them, which the disk is told.
    pub(crate) fn read_wanted(&self, row: &ItemRow, offset: u32, size: usize) -> io::Result<Vec<u8>> {
        let file = self.file(row.place.segment)?;
        let bytes = read_from(&*file, row, offset, size)?;
        file.note_wanted(size);
        Ok(bytes)
    }
}

fn read_from(file: &dyn DiskFile, row: &ItemRow, offset: u32, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    let start = row.place.offset + head_size(row.header_size) + u64::from(offset);
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

/// Segment files that are open, the least recently used of them closed when there are too many.
#[derive(Debug, Default)]
struct OpenFiles {
    files: BTreeMap<u64, (Arc<dyn DiskFile>, u64)>,
    uses: u64,
}

impl OpenFiles {
    fn find(&mut self, segment: u64) -> Option<Arc<dyn DiskFile>> {
        self.uses += 1;
        let (file, last_use) = self.files.get_mut(&segment)?;
        *last_use = self.uses;
        Some(file.clone())
    }

    fn add(&mut self, segment: u64, file: Arc<dyn DiskFile>) {
        if self.files.len() >= FILES_OPEN_MAX {
            let oldest =
                self.files.iter().min_by_key(|(_, (_, last_use))| *last_use).map(|(segment, _)| *segment);
            oldest.and_then(|oldest| self.files.remove(&oldest));
        }
        self.files.insert(segment, (file, self.uses));
    }
}

/// Says of a failed disk operation what it was about.
pub(crate) fn disk_error(what: &str, error: &dyn std::error::Error) -> ItemsError {
    ItemsError::Disk(format!("{what}: {error}"))
}

/// The place behind a segment's end: where its next record goes.
pub(crate) const fn end_of(segment: u64, size: u64) -> Place {
    Place { segment, offset: size }
}
