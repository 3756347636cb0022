//! A journal on disk: records one behind the other, of which a power cut takes the unsynced tail at most.
//!
//! A record is its size as a 32-bit little-endian number, a check of eight bytes, and its bytes. The check is of the check
//! before it, the size and the bytes, so that a record counts only behind the very records it was written behind. What is
//! behind the last record whose check is right was torn, and is overwritten.

use std::any::Any;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use datamesh_core::limits::JOURNAL_RECORD_SIZE_MAX;

use crate::disk::{Disk, DiskFile};

const CHECK_CONTEXT: &str = "datamesh 2026 journal file v1";
const CHECK_SIZE: usize = 8;
const HEAD_SIZE: usize = 4 + CHECK_SIZE;
const MAKE_ATTEMPTS: usize = 3;

/// A journal file, used by one process at a time. What it does blocks on the disk.
#[derive(Debug)]
pub struct JournalFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    open: Option<Open>,
    position: Position,
    /// Whether a write or a sync failed: what is on disk is not known then.
    broken: bool,
}

#[derive(Debug)]
struct Open {
    file: Arc<dyn DiskFile>,
    _claim: Box<dyn Any + Send + Sync>,
    /// Whether something that was torn may lie behind the position.
    tail: Tail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    Unknown,
    Clean,
}

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    offset: u64,
    check: [u8; CHECK_SIZE],
}

impl Position {
    const START: Self = Self { offset: 0, check: [0; CHECK_SIZE] };

    /// Bytes from the begin of the file.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.offset
    }
}

impl JournalFile {
    /// A new journal, whose file is made with its first record.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { disk, path, open: None, position: Position::START, broken: false }
    }

    /// Opens a journal that an earlier run has written, or was about to. Where there is none, an empty file is made.
    ///
    /// # Errors
    /// `WouldBlock` while another process uses it; else when the disk says so.
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf) -> io::Result<Self> {
        // Claimed first: whoever had it may have removed it by then, and what is open would be nowhere.
        let claim = disk.lock(&path)?;
        let file = disk.open(&path)?;
        let open = Open { file, _claim: claim, tail: Tail::Unknown };
        Ok(Self { disk, path, open: Some(open), position: Position::START, broken: false })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The place behind the record that was read or added last.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Forgets the records behind a place where it was before: what is added next takes theirs.
    pub fn return_to(&mut self, position: Position) {
        self.position = position;
        if let Some(open) = &mut self.open {
            open.tail = Tail::Unknown;
        }
    }

    /// The next record; `None` behind the last whole one.
    ///
    /// # Errors
    /// When the disk says so.
    pub fn read(&mut self) -> io::Result<Option<Bytes>> {
        let Some(open) = &self.open else { return Ok(None) };
        let size = open.file.size()?;
        let begin = self.position.offset + wide(HEAD_SIZE);
        if size < begin {
            return Ok(None);
        }
        let mut head = [0; HEAD_SIZE];
        open.file.read_exact_at(&mut head, self.position.offset)?;
        let (record_size, check) = head.split_at(4);
        let record_size = u32::from_le_bytes(record_size.try_into().expect("it was split off at four"));
        let end = begin + u64::from(record_size);
        let bounded = usize::try_from(record_size).ok().filter(|size| *size <= JOURNAL_RECORD_SIZE_MAX);
        let Some(record_size) = bounded.filter(|_| end <= size) else {
            return Ok(None);
        };
        let mut record = vec![0; record_size];
        open.file.read_exact_at(&mut record, begin)?;
        let expected = next_check(self.position.check, &record);
        if check != expected {
            return Ok(None);
        }
        self.position = Position { offset: end, check: expected };
        Ok(Some(record.into()))
    }

    /// Adds records behind the one that was read or added last; what was behind that is gone. A power cut may take them back until [`JournalFile::sync`].
    ///
    /// # Errors
    /// When the disk says so: then nothing can be added any more.
    ///
    /// # Panics
    /// If a record is longer than any may be.
    pub fn append(&mut self, records: &[Bytes]) -> io::Result<()> {
        self.guarded(|journal| {
            journal.make()?;
            journal.cut_tail()?;
            let mut position = journal.position;
            let mut bytes = Vec::new();
            for record in records {
                assert!(record.len() <= JOURNAL_RECORD_SIZE_MAX, "a record of {} bytes", record.len());
                let size = u32::try_from(record.len()).expect("a record is small");
                let check = next_check(position.check, record);
                bytes.extend_from_slice(&size.to_le_bytes());
                bytes.extend_from_slice(&check);
                bytes.extend_from_slice(record);
                position = Position { offset: position.offset + wide(HEAD_SIZE + record.len()), check };
            }
            let open = journal.open.as_ref().expect("it was made above");
            open.file.write_all_at(&[&bytes], journal.position.offset)?;
            journal.position = position;
            Ok(())
        })
    }

    /// Makes durable what was added.
    ///
    /// # Errors
    /// When the disk says so: then nothing can be added any more.
    pub fn sync(&mut self) -> io::Result<()> {
        self.guarded(|journal| journal.open.as_ref().map_or(Ok(()), |open| open.file.sync_data()))
    }

    /// Removes the file, durably.
    ///
    /// # Errors
    /// When the disk says so.
    pub fn remove(self) -> io::Result<()> {
        if self.open.is_none() {
            return Ok(());
        }
        self.disk.remove(&self.path)?;
        self.disk.sync_directory(directory(&self.path))
    }

    fn guarded(&mut self, act: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write or sync of the journal failed"));
        }
        let done = act(self);
        self.broken = done.is_err();
        done
    }

    /// Makes the file if it isn't there yet. Its name is durable before its first record can be.
    fn make(&mut self) -> io::Result<()> {
        if self.open.is_some() {
            return Ok(());
        }
        let directory = directory(&self.path);
        self.disk.create_directory(directory)?;
        for _ in 0..MAKE_ATTEMPTS {
            // Claiming makes it. Whoever clears empty journals away may have claimed it an instant before.
            let claim = self.disk.lock(&self.path)?;
            let file = match self.disk.open(&self.path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened?,
            };
            if file.size()? > 0 {
                return Err(ErrorKind::AlreadyExists.into());
            }
            self.disk.sync_directory(directory)?;
            self.open = Some(Open { file, _claim: claim, tail: Tail::Clean });
            return Ok(());
        }
        Err(ErrorKind::NotFound.into())
    }

    /// Cuts off what is behind the position.
    fn cut_tail(&mut self) -> io::Result<()> {
        let open = self.open.as_mut().expect("only an open journal is added to");
        if open.tail == Tail::Unknown && open.file.size()? > self.position.offset {
            open.file.set_size(self.position.offset)?;
        }
        open.tail = Tail::Clean;
        Ok(())
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn next_check(before: [u8; CHECK_SIZE], record: &[u8]) -> [u8; CHECK_SIZE] {
    let mut hasher = blake3::Hasher::new_derive_key(CHECK_CONTEXT);
    hasher.update(&before).update(&wide(record.len()).to_le_bytes()).update(record);
    *hasher.finalize().as_bytes().first_chunk().expect("a hash is longer than a check")
}

fn wide(size: usize) -> u64 {
    u64::try_from(size).expect("a size fits 64 bits")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::path::Path;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::JournalFile;
    use crate::disk::Files;

    fn open(path: &Path) -> JournalFile {
        JournalFile::open(Arc::new(Files), path.to_owned()).expect("it opens")
    }

    fn rest(journal: &mut JournalFile) -> Vec<Bytes> {
        std::iter::from_fn(|| journal.read().expect("readable")).collect()
    }

    fn records(numbers: std::ops::Range<u8>) -> Vec<Bytes> {
        numbers.map(|number| Bytes::from(vec![number; 10 + usize::from(number)])).collect()
    }

    #[test]
    fn records_come_back_in_order_and_more_follow_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("inner/journal");
        let mut journal = JournalFile::new(Arc::new(Files), path.clone());
        assert_eq!(journal.read().expect("readable"), None);
        assert!(!path.exists(), "it is made with its first record");
        journal.append(&records(0..3)).expect("writable");
        journal.sync().expect("syncs");
        let taken = JournalFile::open(Arc::new(Files), path.clone()).expect_err("it is in use");
        assert_eq!(taken.kind(), ErrorKind::WouldBlock);
        drop(journal);

        let mut journal = open(&path);
        assert_eq!(rest(&mut journal), records(0..3));
        journal.append(&records(3..5)).expect("writable");
        drop(journal);
        let mut journal = open(&path);
        assert_eq!(rest(&mut journal), records(0..5));
        journal.remove().expect("removable");
        assert!(!path.exists());
    }

    #[test]
    fn whatever_is_torn_or_rotten_ends_the_journal_and_is_written_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal");
        let mut journal = JournalFile::new(Arc::new(Files), path.clone());
        journal.append(&records(0..4)).expect("writable");
        drop(journal);
        let whole = fs::read(&path).expect("readable");
        let ends: Vec<usize> = records(0..4)
            .iter()
            .scan(0, |end, record| {
                *end += record.len() + 12;
                Some(*end)
            })
            .collect();
        for size in 0..whole.len() {
            fs::write(&path, &whole[..size]).expect("written");
            let mut journal = open(&path);
            let kept = ends.iter().filter(|end| **end <= size).count();
            assert_eq!(rest(&mut journal).len(), kept, "{size} bytes");
            journal.append(&records(7..8)).expect("writable");
            drop(journal);
            let mut journal = open(&path);
            assert_eq!(rest(&mut journal).len(), kept + 1, "{size} bytes");
        }
        for position in 0..whole.len() {
            let mut rotten = whole.clone();
            rotten[position] ^= 4;
            fs::write(&path, &rotten).expect("written");
            let kept = ends.iter().filter(|end| **end <= position).count();
            assert_eq!(rest(&mut open(&path)), records(0..4)[..kept], "byte {position}");
        }
    }

    #[test]
    fn records_can_be_taken_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal");
        let mut journal = JournalFile::new(Arc::new(Files), path.clone());
        journal.append(&records(0..4)).expect("writable");
        drop(journal);
        let mut journal = open(&path);
        journal.read().expect("readable");
        let place = journal.position();
        rest(&mut journal);
        journal.return_to(place);
        journal.append(&records(9..10)).expect("writable");
        drop(journal);
        assert_eq!(rest(&mut open(&path)), [records(0..1), records(9..10)].concat());
    }
}
