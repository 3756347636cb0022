//! Torn writes, bit rot, full disks.
//!
//! A directory tree in memory that is as unkind as a disk may be. What is not synced may be lost by a power cut, each
//! sector of 512 bytes and each name by itself, in any combination. A sync that fails loses what it was for, though the
//! reader still sees it until the power goes, as Linux does. From one seed it does the same to the same operations.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use datamesh_store::disk::{Disk, DiskFile};

use crate::draw::Draws;

const SECTOR_SIZE: usize = 512;

/// Whether a disk does what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Honesty {
    /// What is synced is kept.
    Honest,
    /// Files are said to be synced and are not: there are such disks, and no store is safe on them.
    Lying,
}

/// What was done to a disk since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Operations {
    /// All that change something.
    pub count: u64,
    /// Files synced.
    pub sync_count: u64,
    /// Bytes written.
    pub written: u64,
}

/// A disk in memory. Clones are handles of one disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    gate: Arc<Gate>,
}

/// Where whoever uses the disk waits while it is held.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    held: bool,
    waiting: usize,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting += 1;
        self.changed.notify_all();
        while state.held {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
    }
}

#[derive(Debug, Clone)]
struct State {
    draws: Draws,
    honesty: Honesty,
    capacity: u64,
    powered: bool,
    operations: Operations,
    cut_at: Option<u64>,
    failing_syncs: u32,
    /// Bytes that may yet be written before somebody else has taken the rest.
    left: Option<u64>,
    next_file: u64,
    files: BTreeMap<u64, FileState>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    name_changes: Vec<(PathBuf, Option<u64>)>,
    locked: BTreeSet<PathBuf>,
}

/// A file: what a reader sees, and what is on the platter.
#[derive(Debug, Clone, Default)]
struct FileState {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Size(usize),
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64, honesty: Honesty) -> Self {
        Self::of(State {
            draws: Draws::new(seed, "disk"),
            honesty,
            capacity: u64::MAX,
            powered: true,
            operations: Operations::default(),
            cut_at: None,
            failing_syncs: 0,
            left: None,
            next_file: 0,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            locked: BTreeSet::new(),
        })
    }

    fn of(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)), gate: Arc::default() }
    }

    /// Cuts the power in the middle of an operation, so many from now.
    pub fn cut_power_after(&self, operation_count: u64) {
        let mut state = self.state();
        state.cut_at = Some(state.operations.count + operation_count);
    }

    /// Leaves the power on after all.
    pub fn keep_power(&self) {
        self.state().cut_at = None;
    }

    /// Whether the power is on.
    #[must_use]
    pub fn is_powered(&self) -> bool {
        self.state().powered
    }

    /// The disk after its power was cut, if it wasn't before, and came back. Handles of the old one stay dead.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut state = self.state();
        state.cut_power();
        let mut next = state.clone();
        next.powered = true;
        next.failing_syncs = 0;
        next.left = None;
        next.locked.clear();
        Self::of(next)
    }

    /// Another disk with what readers see on this one.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let mut copy = self.state().clone();
        copy.locked.clear();
        copy.cut_at = None;
        Self::of(copy)
    }

    /// Lets this many syncs of files fail, beginning with the next.
    pub fn fail_syncs(&self, sync_count: u32) {
        self.state().failing_syncs = sync_count;
    }

    /// Lets the files take so many bytes in all.
    pub fn set_capacity(&self, capacity: u64) {
        self.state().capacity = capacity;
    }

    /// Makes everybody who uses the disk wait, until [`SimDisk::let_go`].
    pub fn hold(&self) {
        self.gate.state.lock().unwrap_or_else(PoisonError::into_inner).held = true;
    }

    /// Waits until somebody waits for the disk to be let go.
    pub fn await_visitor(&self) {
        let mut state = self.gate.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.waiting == 0 {
            state = self.gate.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets those go on who wait.
    pub fn let_go(&self) {
        self.gate.state.lock().unwrap_or_else(PoisonError::into_inner).held = false;
        self.gate.changed.notify_all();
    }

    /// Lets somebody else take what is free, behind the store's back, once this much has been written.
    pub fn fill_up_after(&self, size: u64) {
        self.state().left = Some(size);
    }

    /// Lets them give it back.
    pub fn make_room(&self) {
        self.state().left = None;
    }

    /// Flips bits of a file where they lie.
    ///
    /// # Panics
    /// If there is no such file or no such byte in it.
    pub fn rot(&self, path: &Path, offset: usize, bits: u8) {
        let mut state = self.state();
        let file = state.names[path];
        let file = state.files.get_mut(&file).expect("a name leads to a file");
        file.seen[offset] ^= bits;
        if let Some(byte) = file.durable.get_mut(offset) {
            *byte ^= bits;
        }
    }

    /// The paths of all files.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// What readers see of a file.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(path).and_then(|file| state.files.get(file)).map(|file| file.seen.clone())
    }

    /// What was done to it.
    #[must_use]
    pub fn operations(&self) -> Operations {
        self.state().operations
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for those who use the disk as a disk.
    fn enter(&self) -> MutexGuard<'_, State> {
        self.gate.pass();
        self.state()
    }

    fn open_file(&self, file: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), file })
    }
}

impl State {
    /// Makes an empty file under a name that is free.
    fn make(&mut self, path: &Path) -> u64 {
        let file = self.next_file;
        self.next_file += 1;
        self.files.insert(file, FileState::default());
        self.names.insert(path.to_owned(), file);
        self.name_changes.push((path.to_owned(), Some(file)));
        file
    }

    fn powered(&self) -> io::Result<()> {
        if self.powered { Ok(()) } else { Err(io::Error::other("the power is cut")) }
    }

    /// Counts an operation; the one during which the power goes has begun and doesn't end.
    fn operate(&mut self) -> io::Result<()> {
        self.operations.count += 1;
        if self.cut_at.is_some_and(|at| self.operations.count >= at) {
            self.cut_power();
        }
        self.powered()
    }

    fn cut_power(&mut self) {
        if !self.powered {
            return;
        }
        self.powered = false;
        self.cut_at = None;
        // Sometimes nearly everything survives, sometimes nearly nothing: each tears in its own way.
        let survival = match self.draws.below(5) {
            0 => 0,
            1 => 4,
            2 => 50,
            3 => 96,
            _ => 100,
        };
        for file in self.files.values_mut() {
            file.settle(&mut self.draws, survival);
            file.seen.clone_from(&file.durable);
        }
        for (path, file) in std::mem::take(&mut self.name_changes) {
            if self.draws.happens(survival) {
                set_name(&mut self.durable_names, path, file);
            }
        }
        self.names.clone_from(&self.durable_names);
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }

    fn size(&self) -> u64 {
        let named = self.names.values().filter_map(|file| self.files.get(file));
        named.map(|file| u64::try_from(file.seen.len()).expect("memory is finite")).sum()
    }
}

impl FileState {
    fn apply(bytes: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Write { offset, bytes: written } => write(bytes, *offset, written),
            Change::Size(size) => bytes.resize(*size, 0),
        }
    }

    fn change(&mut self, change: Change) {
        Self::apply(&mut self.seen, &change);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            Self::apply(&mut self.durable, &change);
        }
    }

    /// Some of what is pending reaches the platter, sector by sector, and the rest never will.
    fn settle(&mut self, draws: &mut Draws, survival: u8) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Size(_) if draws.happens(survival) => Self::apply(&mut self.durable, &change),
                Change::Size(_) => {}
                Change::Write { offset, bytes } => {
                    let mut at = 0;
                    while at < bytes.len() {
                        let end = ((offset + at) / SECTOR_SIZE + 1) * SECTOR_SIZE - offset;
                        let end = end.min(bytes.len());
                        if draws.happens(survival) {
                            write(&mut self.durable, offset + at, &bytes[at..end]);
                        }
                        at = end;
                    }
                }
            }
        }
    }
}

fn write(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    let end = offset + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(written);
}

fn set_name(names: &mut BTreeMap<PathBuf, u64>, path: PathBuf, file: Option<u64>) {
    match file {
        Some(file) => names.insert(path, file),
        None => names.remove(&path),
    };
}

impl Disk for SimDisk {
    fn create_directory(&self, _directory: &Path) -> io::Result<()> {
        self.enter().operate()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.enter();
        state.powered()?;
        if state.names.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let file = state.make(path);
        state.operate()?;
        drop(state);
        Ok(self.open_file(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.enter();
        state.powered()?;
        let file = state.names.get(path).copied().ok_or(ErrorKind::NotFound)?;
        drop(state);
        Ok(self.open_file(file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.enter();
        state.powered()?;
        state.names.remove(path).ok_or(ErrorKind::NotFound)?;
        state.name_changes.push((path.to_owned(), None));
        state.operate()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.enter();
        state.powered()?;
        let file = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        state.name_changes.push((from.to_owned(), None));
        state.name_changes.push((to.to_owned(), Some(file)));
        state.operate()
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.enter();
        state.powered()?;
        let within = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(within.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.enter();
        state.operate()?;
        let changes = std::mem::take(&mut state.name_changes);
        let (synced, others) = changes.into_iter().partition(|(path, _)| path.parent() == Some(directory));
        state.name_changes = others;
        let synced: Vec<(PathBuf, Option<u64>)> = synced;
        for (path, file) in synced {
            set_name(&mut state.durable_names, path, file);
        }
        Ok(())
    }

    fn free_space(&self, _directory: &Path) -> io::Result<u64> {
        let state = self.enter();
        state.powered()?;
        Ok(state.capacity.saturating_sub(state.size()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut state = self.enter();
        state.powered()?;
        if !state.locked.insert(path.to_owned()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        if !state.names.contains_key(path) {
            state.make(path);
        }
        Ok(Box::new(Locked { disk: self.clone(), path: path.to_owned() }))
    }
}

struct Locked {
    disk: SimDisk,
    path: PathBuf,
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.disk.state().locked.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: u64,
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, &mut FileState) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.enter();
        state.powered()?;
        let mut file = state.files.remove(&self.file).unwrap_or_default();
        let result = act(&mut state, &mut file);
        state.files.insert(self.file, file);
        result
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.with(|_, file| Ok(u64::try_from(file.seen.len()).expect("memory is finite")))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(|_, file| {
            let start = usize::try_from(offset).map_err(|_| ErrorKind::UnexpectedEof)?;
            let end = start.checked_add(buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(file.seen.get(start..end).ok_or(ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let mut bytes = parts.concat();
        self.with(|state, file| {
            let offset = usize::try_from(offset).map_err(|_| ErrorKind::FileTooLarge)?;
            let seen = u64::try_from(file.seen.len()).expect("memory is finite");
            let free = state.capacity.saturating_sub(state.size()).saturating_sub(seen);
            let room = file.seen.len().saturating_add(usize::try_from(free).unwrap_or(usize::MAX));
            let left = state.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
            let fits = room.saturating_sub(offset).min(bytes.len()).min(left);
            let full = fits < bytes.len();
            bytes.truncate(fits);
            let written = u64::try_from(fits).expect("memory is finite");
            state.operations.written += written;
            state.left = state.left.map(|left| left - written);
            file.change(Change::Write { offset, bytes });
            if full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
        })?;
        self.disk.state().operate()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.state().operate()?;
        self.with(|state, file| {
            state.operations.sync_count += 1;
            if state.failing_syncs > 0 {
                state.failing_syncs -= 1;
                // The kernel says so once and then takes the pages for clean: no later sync writes them.
                file.settle(&mut state.draws, 50);
                return Err(io::Error::other("a sync that was made to fail"));
            }
            if state.honesty == Honesty::Honest {
                file.sync();
            }
            Ok(())
        })
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.with(|_, file| {
            file.change(Change::Size(usize::try_from(size).map_err(|_| ErrorKind::FileTooLarge)?));
            Ok(())
        })?;
        self.disk.state().operate()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use datamesh_store::disk::{Disk, DiskFile};

    use super::{Honesty, SimDisk};

    fn write_twice(disk: &SimDisk) -> std::sync::Arc<dyn DiskFile> {
        let file = disk.create(Path::new("/store/file")).expect("creates");
        file.write_all_at(&[&[1; 2000]], 0).expect("writes");
        file.sync_data().expect("syncs");
        disk.sync_directory(Path::new("/store")).expect("syncs");
        file.write_all_at(&[&[2; 2000]], 1000).expect("writes");
        file
    }

    #[test]
    fn what_is_synced_survives_a_power_cut_and_the_rest_tears_at_sectors() {
        let mut torn = 0;
        for seed in 0..50 {
            let disk = SimDisk::new(seed, Honesty::Honest);
            write_twice(&disk);
            let bytes = disk.restart().contents(Path::new("/store/file")).expect("survives");
            assert_eq!(bytes[..1000], [1; 1000]);
            assert!(bytes[1024..1536].iter().all(|byte| *byte == bytes[1024]), "one sector, one fate");
            torn += usize::from(bytes.contains(&2) && bytes[1000..2000].contains(&1));
        }
        assert!(torn > 5, "{torn} of 50 tore");
    }

    #[test]
    fn a_lying_disk_loses_what_it_says_it_synced() {
        let lost = (0..50).filter(|seed| {
            let disk = SimDisk::new(*seed, Honesty::Lying);
            write_twice(&disk);
            disk.restart().contents(Path::new("/store/file")).is_none_or(|bytes| bytes.first() != Some(&1))
        });
        assert!(lost.count() > 5);
    }

    #[test]
    fn what_a_failed_sync_was_for_is_seen_until_the_power_goes_and_never_synced() {
        let mut lost = 0;
        for seed in 0..50 {
            let disk = SimDisk::new(seed, Honesty::Honest);
            let file = write_twice(&disk);
            disk.fail_syncs(1);
            assert!(file.sync_data().is_err());
            assert!(file.sync_data().is_ok());
            assert_eq!(disk.contents(Path::new("/store/file")).expect("is there")[1000..], [2; 2000]);
            let bytes = disk.restart().contents(Path::new("/store/file")).expect("survives");
            lost += usize::from(bytes.get(1000..) != Some(&[2; 2000]));
        }
        assert!(lost > 25, "{lost} of 50 lost something");
    }
}
