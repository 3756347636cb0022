//! What the disk, its open files and the movement to the backend have in common.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datamesh_core::id::NodeId;
use datamesh_engine::world::Clock;
use datamesh_store::disk::{Disk, DiskFile};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::address::Address;
use crate::ahead::{Ahead, DIRECT_SIZE};
use crate::holding::{Holding, Holdings};
use crate::remote::{Remote, count};
use crate::secrets::Secrets;
use crate::warmth::Demand;

/// What is known of the backend, beside the segments that are still local.
const FOLDER: &str = "backend";

/// What a disk over a backend is told when it is opened.
pub struct BackendSettings {
    /// Where the backend is.
    pub address: Address,
    /// What it wants to be shown.
    pub secrets: Secrets,
    /// Whose items they are: nobody else's may lie at the same address.
    pub node: NodeId,
    /// Bytes of segments that the own disk may have while the backend doesn't take them.
    pub local_size_max: u64,
    /// Bytes of the newest closed segments that stay local: what a start may have to read again.
    pub local_size_kept: u64,
    /// How long nothing of a closed segment must have been wanted until it moves. None: all that is closed moves at once, and
    /// nothing comes back.
    pub cold_after: Duration,
    /// Bytes of the file system that the store leaves free.
    pub free_floor: u64,
    /// Tells how long ago the backend did not answer.
    pub clock: Arc<dyn Clock>,
    /// Where requests to the backend run.
    pub runtime: Handle,
}

/// How a disk over a backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackendFigures {
    /// 1 if the backend did not answer when it was last asked, else 0.
    pub away: u64,
    /// Segments that lie at the backend.
    pub segment_count: u64,
    /// Their bytes.
    pub size: u64,
    /// Segments that are local, that which is being written among them.
    pub local_count: u64,
    /// Their bytes.
    pub local_size: u64,
    /// Segments that are not wanted any more and still lie at the backend.
    pub removals_waiting: u64,
    /// Bytes of segments moved to the backend since the start.
    pub uploaded_bytes: u64,
    /// Bytes read from the backend since the start.
    pub downloaded_bytes: u64,
    /// Reads of it.
    pub read_count: u64,
    /// Segments that came back since the start, because so much of them was wanted.
    pub recalled_count: u64,
    /// Requests that it did not answer as it should.
    pub failure_count: u64,
}

/// What the disk, its open files and the movement to the backend have in common.
pub(crate) struct Shared {
    pub(crate) local: Arc<dyn Disk>,
    pub(crate) directory: PathBuf,
    pub(crate) remote: Remote,
    pub(crate) settings: BackendSettings,
    state: Mutex<State>,
    ahead: Mutex<Ahead>,
    pub(crate) recalled_count: AtomicU64,
    /// There is something to be moved.
    pub(crate) work: Notify,
    pub(crate) closing: AtomicBool,
}

/// Where each segment is.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) local: BTreeMap<u64, LocalSegment>,
    pub(crate) held: Holdings,
    /// Held, and changed since the backend was told.
    pub(crate) changed: BTreeSet<u64>,
    /// Held, and changed since the own disk was told.
    pub(crate) unsaved: BTreeSet<u64>,
    /// To be removed from the backend.
    pub(crate) removed: BTreeSet<u64>,
    /// What is wanted of those that are held.
    pub(crate) demand: Demand,
    /// Held, and to be local again.
    pub(crate) recalled: BTreeSet<u64>,
    /// Held until nobody moves anything any more.
    pub(crate) _lock: Option<Box<dyn Any + Send + Sync>>,
}

/// A segment on the own disk.
pub(crate) struct LocalSegment {
    pub(crate) file: Arc<dyn DiskFile>,
    /// Writes that are under way.
    pub(crate) writer_count: u64,
    /// Writes that were made.
    pub(crate) write_count: u64,
    /// When something of it was wanted last, or else when it came.
    pub(crate) wanted: Duration,
}

impl LocalSegment {
    pub(crate) fn new(file: Arc<dyn DiskFile>, now: Duration) -> Self {
        Self { file, writer_count: 0, write_count: 0, wanted: now }
    }
}

/// What the own disk is told of a segment, as the beginning of a file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// It lies at the backend: the file has its [`Holding`].
    Held,
    /// It is on its way: something of it may lie there.
    Moving,
    /// It is to be removed from there.
    Removed,
}

impl Mark {
    pub(crate) const ALL: [Self; 3] = [Self::Held, Self::Moving, Self::Removed];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Held => "held-",
            Self::Moving => "moving-",
            Self::Removed => "removed-",
        }
    }

    /// What a file of this name marks.
    pub(crate) fn of_name(name: &str) -> Option<(Self, u64)> {
        Self::ALL.into_iter().find_map(|mark| {
            let digits = name.strip_prefix(mark.prefix())?;
            let segment = u64::from_str_radix(digits, 16).ok()?;
            (mark.name_of(segment) == name).then_some((mark, segment))
        })
    }

    pub(crate) fn name_of(self, segment: u64) -> String {
        format!("{}{segment:016x}", self.prefix())
    }
}

/// The object that is a segment.
pub(crate) fn object_of(segment: u64) -> String {
    format!("segment-{segment:016x}")
}

/// The object that says what is known of it.
pub(crate) fn about_of(segment: u64) -> String {
    format!("about-{segment:016x}")
}

impl Shared {
    pub(crate) fn new(
        local: Arc<dyn Disk>,
        directory: PathBuf,
        remote: Remote,
        settings: BackendSettings,
        state: State,
    ) -> Self {
        Self {
            local,
            directory,
            remote,
            settings,
            state: Mutex::new(state),
            ahead: Mutex::default(),
            recalled_count: AtomicU64::new(0),
            work: Notify::new(),
            closing: AtomicBool::new(false),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(crate) fn path_of_mark(&self, mark: Mark, segment: u64) -> PathBuf {
        folder_in(&self.directory).join(mark.name_of(segment))
    }

    /// Reads a part of a segment that lies at the backend.
    pub(crate) fn read_held(&self, segment: u64, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state();
        let holding = state.held.get(&segment).ok_or(ErrorKind::NotFound)?;
        let (size, stored_size) = (holding.size, holding.stored_size);
        if offset.checked_add(count(buffer.len())).is_none_or(|end| end > size) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let head = start.checked_add(buffer.len()).and_then(|end| holding.head.get(start..end));
        if let Some(head) = head {
            buffer.copy_from_slice(head);
            holding.lay_over(offset, buffer);
            return Ok(());
        }
        // Nobody else waits while the backend is asked.
        drop(state);
        self.read_stored(segment, buffer, offset, stored_size)?;
        let state = self.state();
        let holding = state.held.get(&segment).ok_or(ErrorKind::NotFound)?;
        holding.lay_over(offset, buffer);
        Ok(())
    }

    fn read_stored(&self, segment: u64, buffer: &mut [u8], offset: u64, stored_size: u64) -> io::Result<()> {
        let read = |size| self.settings.runtime.block_on(self.remote.read(&object_of(segment), offset, size));
        if buffer.len() >= DIRECT_SIZE {
            buffer.copy_from_slice(&read(buffer.len())?);
            return Ok(());
        }
        let step = {
            let mut ahead = self.ahead();
            if ahead.find(segment, offset, buffer) {
                return Ok(());
            }
            ahead.step(segment, offset, buffer.len(), stored_size - offset)
        };
        let bytes = read(step)?;
        buffer.copy_from_slice(&bytes[..buffer.len()]);
        self.ahead().keep(segment, offset, bytes);
        Ok(())
    }

    pub(crate) fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what is known of a segment that lies at the backend.
    pub(crate) fn save(&self, segment: u64, holding: &Holding) -> io::Result<()> {
        replace(&self.path_of_mark(Mark::Held, segment), &holding.encode())
    }

    /// Marks a segment, durably.
    pub(crate) fn mark(&self, mark: Mark, segment: u64) -> io::Result<()> {
        replace(&self.path_of_mark(mark, segment), b"")
    }

    /// Marks a segment that is held as one to be removed from the backend. In one step: a power cut leaves it held or to be
    /// removed.
    pub(crate) fn let_go(&self, state: &mut State, segment: u64) -> io::Result<()> {
        let folder = folder_in(&self.directory);
        let_go(&folder, segment)?;
        state.held.remove(&segment);
        state.changed.remove(&segment);
        state.unsaved.remove(&segment);
        state.demand.forget(segment);
        state.recalled.remove(&segment);
        state.removed.insert(segment);
        Ok(())
    }

    /// Takes a mark off; fine if there is none.
    pub(crate) fn unmark(&self, mark: Mark, segment: u64) -> io::Result<()> {
        match fs::remove_file(self.path_of_mark(mark, segment)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => sync_folder(&folder_in(&self.directory)),
        }
    }

    /// Bytes of the segments that are local.
    pub(crate) fn local_size(&self) -> io::Result<u64> {
        let files: Vec<_> = self.state().local.values().map(|segment| Arc::clone(&segment.file)).collect();
        files.iter().map(|file| file.size()).sum()
    }

    pub(crate) fn figures(&self) -> BackendFigures {
        let local_size = self.local_size().unwrap_or_default();
        let state = self.state();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let tally = &self.remote.tally;
        BackendFigures {
            away: u64::from(self.remote.is_away()),
            segment_count: count(state.held.len()),
            size: state.held.values().map(|holding| holding.stored_size).sum(),
            local_count: count(state.local.len()),
            local_size,
            removals_waiting: count(state.removed.len()),
            uploaded_bytes: read(&tally.uploaded_bytes),
            downloaded_bytes: read(&tally.downloaded_bytes),
            read_count: read(&tally.read_count),
            recalled_count: read(&self.recalled_count),
            failure_count: read(&tally.failure_count),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// Marks a segment that is held as one to be removed from the backend.
pub(crate) fn let_go(folder: &Path, segment: u64) -> io::Result<()> {
    fs::rename(folder.join(Mark::Held.name_of(segment)), folder.join(Mark::Removed.name_of(segment)))?;
    sync_folder(folder)
}

/// Where marks lie.
pub(crate) fn folder_in(directory: &Path) -> PathBuf {
    directory.join(FOLDER)
}

/// Replaces a file whole: after a power cut it is the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
