//! The few file operations the store may use, so a simulator can tear them.
//!
//! What a power cut may take back: every write and every change of size until `sync_data` of that file has returned, and
//! every name made or removed until `sync_directory` of its directory has.

use std::any::Any;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Most buffers that one system call may be given (`IOV_MAX` of Linux).
const WRITE_PARTS_MAX: usize = 1024;
/// Most bytes that one system call is given. For larger ones Linux takes memory of whole megabytes for its cache, which on a
/// virtual machine is often memory that it has not touched yet: up to ten times the processor time, see docs/performance.md.
const WRITE_SIZE_MAX: usize = 256 * 1024;
/// Items are ciphertext, but whose they are is nobody else's business.
const FILE_MODE: u32 = 0o600;

/// A directory tree that keeps what is synced.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes a directory and those above it, durably; fine if it exists.
    ///
    /// # Errors
    /// When the disk says so.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;

    /// Makes an empty file that wasn't there.
    ///
    /// # Errors
    /// When the disk says so, or the file exists.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// When the disk says so, or there is no such file.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Removes a file.
    ///
    /// # Errors
    /// When the disk says so, or there is no such file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name in its directory.
    ///
    /// # Errors
    /// When the disk says so, or there is no such file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// The names in a directory, in no order.
    ///
    /// # Errors
    /// When the disk says so.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// When the disk says so: then they may not be.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Bytes that may still be written to the file system of this directory.
    ///
    /// # Errors
    /// When the disk says so.
    fn free_space(&self, directory: &Path) -> io::Result<u64>;

    /// Claims a file, made where missing, until the returned guard is dropped or the process ends.
    ///
    /// # Errors
    /// `WouldBlock` when somebody else has claimed it; else when the disk says so.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;
}

/// An open file.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Bytes in it.
    ///
    /// # Errors
    /// When the disk says so.
    fn size(&self) -> io::Result<u64>;

    /// Fills the buffer with what lies at the offset.
    ///
    /// # Errors
    /// When the disk says so, or the file ends too early (`UnexpectedEof`). `HostUnreachable` says that the bytes lie elsewhere and
    /// can't be had now: nothing is concluded from it.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Notes that so many of its bytes were read because somebody wants them, and not to look after them: a disk of several
    /// tiers keeps near what is wanted.
    fn note_wanted(&self, _size: usize) {}

    /// Writes all parts, one behind the other, from the offset on.
    ///
    /// # Errors
    /// When the disk says so: then any of it may have been written.
    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()>;

    /// Makes content and size durable.
    ///
    /// # Errors
    /// When the disk says so: then no later success covers what was written before.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts the file, or fills it up with zeros.
    ///
    /// # Errors
    /// When the disk says so.
    fn set_size(&self, size: u64) -> io::Result<()>;
}

/// Whether the bytes may well be there, and could only not be asked for.
pub(crate) fn is_away(error: &io::Error) -> bool {
    error.kind() == ErrorKind::HostUnreachable
}

/// The machine's own files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files;

impl Disk for Files {
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_directory(parent)?;
        }
        match std::fs::create_dir(directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.sync_directory(parent.unwrap_or(Path::new(".")))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(FILE_MODE).open(path)?;
        Ok(Arc::new(OpenFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(OpenFile(file)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name()));
        // A name that is no text is none of ours.
        let texts =
            names.filter_map(|name: io::Result<_>| name.map(|name| name.into_string().ok()).transpose());
        texts.collect()
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn free_space(&self, directory: &Path) -> io::Result<u64> {
        let figures = rustix::fs::statvfs(directory)?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct OpenFile(File);

impl DiskFile for OpenFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, parts: &[&[u8]], mut offset: u64) -> io::Result<()> {
        let steps = parts.iter().flat_map(|part| part.chunks(WRITE_SIZE_MAX));
        let mut slices: Vec<IoSlice<'_>> = steps.map(IoSlice::new).collect();
        let mut left = &mut slices[..];
        // Skips empty parts, so that a write of nothing means a full disk and nothing else.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let count = parts_at_once(left);
            let written = match rustix::io::pwritev(&self.0, &left[..count], offset) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            offset += u64::try_from(written).expect("a count of bytes fits 64 bits");
            IoSlice::advance_slices(&mut left, written);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }
}

/// How many parts one call writes: as many as it may and as fit its size, one at least.
fn parts_at_once(parts: &[IoSlice<'_>]) -> usize {
    let mut size = 0;
    let fits = |part: &&IoSlice<'_>| {
        size += part.len();
        size <= WRITE_SIZE_MAX
    };
    parts.iter().take(WRITE_PARTS_MAX).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::{Disk, Files};

    #[test]
    fn a_write_of_more_parts_than_one_call_takes_arrives_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = Files.create(&directory.path().join("file")).expect("creates");
        let numbers: Vec<[u8; 2]> = (0..3000_u16).map(u16::to_le_bytes).collect();
        let parts: Vec<&[u8]> = numbers.iter().flat_map(|number| [&number[..], &[]]).collect();
        file.write_all_at(&parts, 7).expect("writes");
        let mut read = vec![0; 6000];
        file.read_exact_at(&mut read, 7).expect("reads");
        assert_eq!(read, numbers.concat());
        assert_eq!(file.size().expect("has a size"), 6007);
    }

    #[test]
    fn a_lock_is_held_by_one_at_a_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let held = Files.lock(&path).expect("locks");
        assert_eq!(Files.lock(&path).map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
        drop(held);
        assert!(Files.lock(&path).is_ok());
    }
}
