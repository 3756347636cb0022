//! The disk over a backend: closed segments are read from there, all else is local.

use std::any::Any;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use datamesh_store::disk::{Disk, DiskFile};
use datamesh_store::segment_of_name;

use crate::claim::{OpenBackendError, settle};
use crate::holding::Holding;
use crate::movement;
use crate::remote::{Remote, count};
use crate::shared::{BackendFigures, BackendSettings, LocalSegment, Mark, Shared, State, object_of};

/// A disk of which closed segments lie at a backend. One store opens one directory of it.
pub struct BackendDisk {
    shared: Arc<Shared>,
    mover: Mutex<Option<JoinHandle<()>>>,
}

impl BackendDisk {
    /// Opens the disk for the store in this directory, over another disk. It blocks; so does the drop, for a moment.
    ///
    /// # Errors
    /// [`OpenBackendError`] when the address is somebody else's, the own disk can't be used, or the backend must be asked and
    /// doesn't answer: the first time, and after the own disk was lost.
    pub fn open(
        directory: &Path,
        settings: BackendSettings,
        local: Arc<dyn Disk>,
    ) -> Result<Self, OpenBackendError> {
        let remote = Remote::new(&settings.address, &settings.secrets, Arc::clone(&settings.clock))?;
        let runtime = settings.runtime.clone();
        let state = runtime.block_on(settle(&local, directory, &remote, &settings))?;
        let shared = Arc::new(Shared::new(local, directory.to_owned(), remote, settings, state));
        let mover = movement::start(Arc::clone(&shared))
            .map_err(|source| OpenBackendError::Local { path: directory.to_owned(), source })?;
        Ok(Self { shared, mover: Mutex::new(Some(mover)) })
    }

    /// How it is.
    #[must_use]
    pub fn figures(&self) -> BackendFigures {
        self.shared.figures()
    }

    /// The segment that a path of the directory names.
    fn segment(&self, path: &Path) -> Option<u64> {
        let name = path.file_name()?.to_str()?;
        if path.parent() == Some(&self.shared.directory) { segment_of_name(name) } else { None }
    }

    fn file(&self, segment: u64) -> Arc<dyn DiskFile> {
        Arc::new(SegmentFile { shared: Arc::clone(&self.shared), segment })
    }

    fn remove_segment(&self, segment: u64, path: &Path) -> io::Result<()> {
        let shared = &self.shared;
        let mut state = shared.state();
        if state.held.contains_key(&segment) {
            shared.let_go(&mut state, segment)?;
            drop(state);
            shared.ahead().forget(segment);
            shared.work.notify_one();
            return Ok(());
        }
        // Something of one that was on its way may lie at the backend.
        if shared.path_of_mark(Mark::Moving, segment).exists() {
            shared.mark(Mark::Removed, segment)?;
            state.removed.insert(segment);
            shared.work.notify_one();
        }
        state.local.remove(&segment);
        shared.local.remove(path)
    }
}

impl Disk for BackendDisk {
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        self.shared.local.create_directory(directory)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let Some(segment) = self.segment(path) else { return self.shared.local.create(path) };
        let mut state = self.shared.state();
        if state.held.contains_key(&segment) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let file = self.shared.local.create(path)?;
        state.local.insert(segment, LocalSegment::new(file, self.shared.settings.clock.elapsed()));
        // The one before it is closed now.
        self.shared.work.notify_one();
        Ok(self.file(segment))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let Some(segment) = self.segment(path) else { return self.shared.local.open(path) };
        let state = self.shared.state();
        let there = state.local.contains_key(&segment) || state.held.contains_key(&segment);
        if there { Ok(self.file(segment)) } else { Err(ErrorKind::NotFound.into()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.segment(path) {
            Some(segment) => self.remove_segment(segment, path),
            None => self.shared.local.remove(path),
        }
    }

    /// A segment that lies at the backend keeps its name: it is read there, and no local file is in anybody's way.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let Some(segment) = self.segment(from) else { return self.shared.local.rename(from, to) };
        let mut state = self.shared.state();
        if state.held.contains_key(&segment) {
            return Err(ErrorKind::Unsupported.into());
        }
        self.shared.local.rename(from, to)?;
        state.local.remove(&segment);
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = self.shared.local.list(directory)?;
        if directory == self.shared.directory {
            let held: Vec<String> =
                self.shared.state().held.keys().map(|segment| object_of(*segment)).collect();
            names.retain(|name| !held.contains(name));
            names.extend(held);
        }
        Ok(names)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.shared.local.sync_directory(directory)
    }

    /// What the own disk has, and no more than the bound of what may wait there for the backend.
    fn free_space(&self, directory: &Path) -> io::Result<u64> {
        let settings = &self.shared.settings;
        let room = settings.local_size_max.saturating_sub(self.shared.local_size()?);
        Ok(self.shared.local.free_space(directory)?.min(settings.free_floor.saturating_add(room)))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.shared.local.lock(path)
    }
}

impl fmt::Debug for BackendDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("BackendDisk").field(&self.shared).finish()
    }
}

impl Drop for BackendDisk {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        self.shared.work.notify_one();
        let mover = self.mover.lock().unwrap_or_else(PoisonError::into_inner).take();
        if mover.is_some_and(|mover| mover.join().is_err()) {
            tracing::error!("the thread that moves segments has panicked");
        }
    }
}

/// A segment, wherever it is when it is read or written.
#[derive(Debug)]
struct SegmentFile {
    shared: Arc<Shared>,
    segment: u64,
}

impl SegmentFile {
    /// Its file, while it is local.
    fn local(&self) -> Option<Arc<dyn DiskFile>> {
        self.shared.state().local.get(&self.segment).map(|local| Arc::clone(&local.file))
    }

    /// Writes to its file while it is local; so long it doesn't move.
    fn write_local(&self, write: impl FnOnce(&dyn DiskFile) -> io::Result<()>) -> Option<io::Result<()>> {
        let file = {
            let mut state = self.shared.state();
            let local = state.local.get_mut(&self.segment)?;
            local.writer_count += 1;
            Arc::clone(&local.file)
        };
        let written = write(&*file);
        if let Some(local) = self.shared.state().local.get_mut(&self.segment) {
            local.writer_count = local.writer_count.saturating_sub(1);
            local.write_count += 1;
        }
        Some(written)
    }
}

impl SegmentFile {
    /// What is held of it, or `None` if it is local by now.
    fn held<'a>(&self, state: &'a mut State) -> io::Result<Option<&'a mut Holding>> {
        match state.held.get_mut(&self.segment) {
            Some(held) => Ok(Some(held)),
            None if state.local.contains_key(&self.segment) => Ok(None),
            None => Err(ErrorKind::NotFound.into()),
        }
    }
}

/// Where a segment is may change between two looks. It does so once in a long time, so that trying again comes to an end.
impl DiskFile for SegmentFile {
    fn size(&self) -> io::Result<u64> {
        loop {
            if let Some(file) = self.local() {
                return file.size();
            }
            if let Some(held) = self.held(&mut self.shared.state())? {
                return Ok(held.size);
            }
        }
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if let Some(file) = self.local() {
            return file.read_exact_at(buffer, offset);
        }
        let read = self.shared.read_held(self.segment, buffer, offset);
        match self.local() {
            // It has come back while the backend was asked.
            Some(file) if read.is_err() => file.read_exact_at(buffer, offset),
            _ => read,
        }
    }

    fn note_wanted(&self, size: usize) {
        let Shared { settings, work, .. } = &*self.shared;
        let now = settings.clock.elapsed();
        let mut state = self.shared.state();
        if let Some(local) = state.local.get_mut(&self.segment) {
            local.wanted = now;
            return;
        }
        let Some(segment_size) = state.held.get(&self.segment).map(|held| held.stored_size) else { return };
        if state.demand.note(self.segment, count(size), segment_size, now, settings.cold_after)
            && state.recalled.insert(self.segment)
        {
            work.notify_one();
        }
    }

    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        loop {
            if let Some(written) = self.write_local(|file| file.write_all_at(parts, offset)) {
                return written;
            }
            let mut state = self.shared.state();
            let Some(held) = self.held(&mut state)? else { continue };
            if !held.patch(offset, parts.concat()) {
                return Err(io::Error::new(
                    ErrorKind::ReadOnlyFilesystem,
                    "a segment that has moved takes no records",
                ));
            }
            state.unsaved.insert(self.segment);
            return Ok(());
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        loop {
            if let Some(file) = self.local() {
                return file.sync_data();
            }
            let mut state = self.shared.state();
            if !state.unsaved.contains(&self.segment) {
                return Ok(());
            }
            let Some(held) = self.held(&mut state)? else { continue };
            self.shared.save(self.segment, held)?;
            state.unsaved.remove(&self.segment);
            state.changed.insert(self.segment);
            drop(state);
            self.shared.work.notify_one();
            return Ok(());
        }
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        loop {
            if let Some(set) = self.write_local(|file| file.set_size(size)) {
                return set;
            }
            let mut state = self.shared.state();
            let Some(held) = self.held(&mut state)? else { continue };
            if size > held.size {
                return Err(io::Error::new(
                    ErrorKind::ReadOnlyFilesystem,
                    "a segment that has moved doesn't grow",
                ));
            }
            if size < held.size {
                held.cut(size);
                state.unsaved.insert(self.segment);
            }
            return Ok(());
        }
    }
}
