//! The space of the cache: what lies in its directory, who may write there, and who has to leave.
//!
//! The file `space` holds how many bytes and entries there are. Whoever writes an entry holds its lock, so that one process
//! writes at a time, and raises the count before the entry gets its name. Whoever only reads takes no lock: a file that is removed
//! meanwhile stays readable, and a name appears with all of its bytes behind it.

use std::collections::BinaryHeap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use datamesh_core::id::{ID_SIZE, ShardId, StripeId};
use datamesh_core::limits::SHARD_SIZE_MAX;
use datamesh_engine::world::Clock;

use super::entry::{BLOCKS, FOLD_LENGTH, Key, STRIPES, Subject};
use super::shards::ShardPlace;
use super::{CacheSettings, Tally, count};

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The file that says how full the cache is.
const STATE: &str = "space";
const MAGIC: &[u8; 8] = b"dmspace1";
const STATE_SIZE: usize = 32;
/// What file systems give space in, bytes.
const PAGE_SIZE: u64 = 4096;
/// Entries that one sweep remembers at most, the longest unused: what bounds its memory.
const CANDIDATES_MAX: usize = 4096;
/// A sweep makes room down to this share of the capacity, in percent, so that it pays.
const SWEPT_PERCENT: u64 = 90;
/// A use that follows another one so soon is not noted.
const USE_GRAIN_MS: u64 = 1000;
/// A folder that changed so lately may change again without its time changing.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// The longest that nobody counts again and removes what expired.
const SWEEP_EVERY_MAX: Duration = Duration::from_secs(24 * 3600);

/// How full the cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Level {
    pub(super) used: u64,
    pub(super) entry_count: u64,
    swept_ms: u64,
}

/// What a look-up came to.
pub(super) enum Lookup {
    Found(Vec<u8>),
    Missing,
}

/// What became of an entry that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Insertion {
    Written,
    /// Another process wrote it meanwhile.
    Known,
    /// It doesn't fit, or the disk is too full for a cache.
    NoRoom,
}

pub(super) struct Space {
    settings: CacheSettings,
    clock: Arc<dyn Clock>,
    tally: Arc<Tally>,
    state: File,
}

/// An entry that may have to leave; the largest of them is the one used last.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    used_ms: u64,
    path: PathBuf,
    charge: u64,
}

impl Space {
    pub(super) fn open(
        settings: CacheSettings,
        clock: Arc<dyn Clock>,
        tally: Arc<Tally>,
    ) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&settings.directory)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let state = options.open(settings.directory.join(STATE))?;
        Ok(Self { settings, clock, tally, state })
    }

    pub(super) const fn capacity(&self) -> u64 {
        self.settings.capacity
    }

    /// How full it is, as it was last written down.
    pub(super) fn level(&self) -> Level {
        read_level(&self.state).ok().flatten().unwrap_or_default()
    }

    pub(super) fn exists(&self, key: &Key) -> bool {
        key.path(&self.settings.directory).exists()
    }

    /// Reads an entry and checks it, and notes that it was used. One that is rotten or has expired is removed.
    pub(super) fn read(&self, subject: &Subject) -> Lookup {
        let path = subject.key().path(&self.settings.directory);
        let Some(file) = self.open_fresh(&path) else { return Lookup::Missing };
        match subject.read(&file) {
            Ok(Some(payload)) => Lookup::Found(payload),
            Ok(None) => {
                count(&self.tally.rotten, 1);
                self.remove(&path);
                Lookup::Missing
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "an entry of the cache can't be read");
                Lookup::Missing
            }
        }
    }

    /// Reads one data shard out of the entry of a stripe, and checks it.
    pub(super) fn read_shard(&self, place: &ShardPlace, shard: &ShardId) -> Option<Bytes> {
        let path = Key::Stripe(place.stripe).path(&self.settings.directory);
        let file = self.open_fresh(&path)?;
        let size = usize::try_from(place.size).ok().filter(|size| *size <= SHARD_SIZE_MAX)?;
        let mut bytes = vec![0; size];
        let read = file.read_exact_at(&mut bytes, place.offset);
        if read.is_ok() && ShardId::of(&bytes) == *shard {
            return Some(bytes.into());
        }
        count(&self.tally.rotten, 1);
        self.remove(&path);
        None
    }

    /// Opens the entry of a stripe to see what it is of.
    pub(super) fn open_stripe(&self, stripe: &StripeId) -> Option<File> {
        File::open(Key::Stripe(*stripe).path(&self.settings.directory)).ok()
    }

    /// The stripes that have entries in one of the 256 folders, or `None` if the folder hasn't changed since.
    pub(super) fn stripes_in(
        &self,
        fold: u8,
        since: Option<SystemTime>,
    ) -> Option<(SystemTime, Vec<StripeId>)> {
        let directory = self.settings.directory.join(STRIPES).join(format!("{fold:02x}"));
        let changed = fs::metadata(&directory).and_then(|metadata| metadata.modified()).ok()?;
        if since.is_some_and(|since| since >= changed) {
            return None;
        }
        let names =
            fs::read_dir(directory).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let ids = names.filter_map(|name| Some(StripeId::from_bytes(id_of(&name)?)));
        Some((changed.min(SystemTime::now() - SETTLED_AFTER), ids.collect()))
    }

    fn open_fresh(&self, path: &Path) -> Option<File> {
        let file = File::open(path).ok()?;
        let used_ms = millis(file.metadata().and_then(|metadata| metadata.modified()).ok()?);
        let now_ms = self.clock.now().as_ms();
        if self.is_expired(used_ms, now_ms) {
            count(&self.tally.expirations, 1);
            self.remove(path);
            return None;
        }
        if now_ms.abs_diff(used_ms) >= USE_GRAIN_MS {
            // Without it the entry only leaves earlier.
            let _ = file.set_modified(instant(now_ms));
        }
        Some(file)
    }

    fn is_expired(&self, used_ms: u64, now_ms: u64) -> bool {
        let life_ms = u64::try_from(self.settings.time_to_live.as_millis()).unwrap_or(u64::MAX);
        now_ms.saturating_sub(used_ms) >= life_ms
    }

    /// Removes an entry, whose bytes stay counted until the next sweep: too much rather than too little.
    fn remove(&self, path: &Path) {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::debug!(path = %path.display(), %error, "an entry of the cache can't be removed");
        }
    }

    /// Writes an entry, after making room for it.
    pub(super) fn insert(&self, subject: &Subject, payload: &[u8]) -> io::Result<Insertion> {
        let path = subject.key().path(&self.settings.directory);
        let head = subject.head();
        let size = u64::try_from(head.len() + payload.len()).expect("an entry is a few mebibytes");
        let charge = charge(size);
        if charge > self.settings.capacity {
            return Ok(Insertion::NoRoom);
        }
        let _lock = self.lock()?;
        if path.exists() {
            return Ok(Insertion::Known);
        }
        let mut level = match read_level(&self.state)? {
            Some(level) => level,
            None => self.sweep_to(self.settings.capacity)?,
        };
        while level.used.saturating_add(charge) > self.settings.capacity {
            let swept = self.settings.capacity / 100 * SWEPT_PERCENT;
            let before = level.used;
            level = self.sweep_to(swept.min(self.settings.capacity - charge))?;
            if level.used >= before && level.used.saturating_add(charge) > self.settings.capacity {
                return Ok(Insertion::NoRoom);
            }
        }
        let free = rustix::fs::statvfs(&self.settings.directory)?;
        if free.f_bavail.saturating_mul(free.f_frsize) < self.settings.free_floor.saturating_add(charge) {
            return Ok(Insertion::NoRoom);
        }
        level = Level { used: level.used + charge, entry_count: level.entry_count + 1, ..level };
        self.write_level(level)?;
        self.write(&path, &head, payload)?;
        Ok(Insertion::Written)
    }

    /// One process writes at a time, so one name is enough for what isn't finished.
    fn write(&self, path: &Path, head: &[u8], payload: &[u8]) -> io::Result<()> {
        let folder = path.parent().expect("an entry lies in a folder");
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(folder)?;
        let new = self.settings.directory.join("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&new)?;
        file.write_all(head)?;
        file.write_all(payload)?;
        file.set_modified(instant(self.clock.now().as_ms()))?;
        drop(file);
        fs::rename(new, path)
    }

    /// Sweeps if nobody has for long.
    pub(super) fn sweep_if_due(&self) -> io::Result<()> {
        let every = SWEEP_EVERY_MAX.min(self.settings.time_to_live / 4);
        let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        let now_ms = self.clock.now().as_ms();
        let due =
            |level: Option<Level>| level.is_none_or(|level| now_ms.abs_diff(level.swept_ms) >= every_ms);
        if !due(read_level(&self.state)?) {
            return Ok(());
        }
        let _lock = self.lock()?;
        if due(read_level(&self.state)?) {
            self.sweep_to(self.settings.capacity)?;
        }
        Ok(())
    }

    /// Counts what there is, removes what has expired, and then what was not used for longest, until no more than `goal` bytes
    /// are left or it has no candidates any more. The caller holds the lock.
    fn sweep_to(&self, goal: u64) -> io::Result<Level> {
        let now_ms = self.clock.now().as_ms();
        let mut level = Level { swept_ms: now_ms, ..Level::default() };
        let mut candidates = BinaryHeap::new();
        for folder in self.folders() {
            for candidate in entries_of(&folder) {
                if self.is_expired(candidate.used_ms, now_ms) {
                    count(&self.tally.expirations, 1);
                    self.remove(&candidate.path);
                    continue;
                }
                level.used += candidate.charge;
                level.entry_count += 1;
                candidates.push(candidate);
                if candidates.len() > CANDIDATES_MAX {
                    candidates.pop();
                }
            }
        }
        for candidate in candidates.into_sorted_vec() {
            if level.used <= goal {
                break;
            }
            // What was used while the others were looked at stays.
            if used_ms(&candidate.path) == Some(candidate.used_ms) {
                self.remove(&candidate.path);
                count(&self.tally.evictions, 1);
                level.used -= candidate.charge;
                level.entry_count -= 1;
            }
        }
        self.write_level(level)?;
        Ok(level)
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let kinds = [STRIPES, BLOCKS].map(|kind| self.settings.directory.join(kind));
        let entries = kinds.into_iter().filter_map(|kind| fs::read_dir(kind).ok()).flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.len() == FOLD_LENGTH)
        })
    }

    fn lock(&self) -> io::Result<StateLock<'_>> {
        self.state.lock()?;
        Ok(StateLock(&self.state))
    }

    fn write_level(&self, level: Level) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        for number in [level.used, level.entry_count, level.swept_ms] {
            bytes.extend(number.to_le_bytes());
        }
        self.state.write_all_at(&bytes, 0)
    }
}

/// The right to write entries. Held by one process at a time.
struct StateLock<'a>(&'a File);

impl Drop for StateLock<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "the cache can't be unlocked");
        }
    }
}

/// `None` if it was never written, or is not what this program writes.
fn read_level(state: &File) -> io::Result<Option<Level>> {
    let mut bytes = [0; STATE_SIZE];
    match state.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let number = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("it is that long"));
    let level = Level { used: number(8), entry_count: number(16), swept_ms: number(24) };
    Ok(bytes.starts_with(MAGIC).then_some(level))
}

/// How full the cache in a directory is; empty where there is none.
pub(super) fn level_in(directory: &Path) -> Level {
    let state = File::open(directory.join(STATE)).and_then(|state| read_level(&state));
    state.ok().flatten().unwrap_or_default()
}

/// What an entry of this size takes on disk.
const fn charge(size: u64) -> u64 {
    size.next_multiple_of(PAGE_SIZE)
}

fn entries_of(folder: &Path) -> impl Iterator<Item = Candidate> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| {
        let entry = entry.ok()?;
        id_of(entry.file_name().to_str()?)?;
        let metadata = entry.metadata().ok()?;
        let used_ms = millis(metadata.modified().ok()?);
        Some(Candidate { used_ms, path: entry.path(), charge: charge(metadata.len()) })
    })
}

/// The id that a file is called after.
fn id_of(name: &str) -> Option<[u8; ID_SIZE]> {
    Some(*blake3::Hash::from_hex(name).ok()?.as_bytes())
}

fn used_ms(path: &Path) -> Option<u64> {
    Some(millis(fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?))
}

fn millis(instant: SystemTime) -> u64 {
    let since_1970 = instant.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

fn instant(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}
