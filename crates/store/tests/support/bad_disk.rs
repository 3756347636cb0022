//! A disk that refuses to read what it is told to refuse.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use datamesh_store::disk::{Disk, DiskFile, Files};

type Refused = BTreeMap<PathBuf, Range<u64>>;

/// The machine's files, of some of which bytes can't be read (`EIO`). Those of which none can be can't be opened either.
#[derive(Debug, Default)]
pub(crate) struct BadDisk(Arc<Mutex<Refused>>);

#[derive(Debug)]
struct BadFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    refused: Arc<Mutex<Refused>>,
}

fn input_output_error() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl BadDisk {
    /// From now on these bytes of a file can't be read.
    pub(crate) fn refuse(&self, path: &Path, bytes: Range<u64>) {
        self.refused().insert(path.to_owned(), bytes);
    }

    fn refused(&self) -> MutexGuard<'_, Refused> {
        self.0.lock().expect("nobody panics with it")
    }

    fn bad(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(BadFile { path: path.to_owned(), file, refused: Arc::clone(&self.0) })
    }
}

impl Disk for BadDisk {
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        Files.create_directory(directory)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.bad(path, Files.create(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if self.refused().get(path).is_some_and(|bytes| *bytes == (0..u64::MAX)) {
            return Err(input_output_error());
        }
        Ok(self.bad(path, Files.open(path)?))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Files.remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Files.rename(from, to)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        Files.list(directory)
    }
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        Files.sync_directory(directory)
    }
    fn free_space(&self, directory: &Path) -> io::Result<u64> {
        Files.free_space(directory)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        Files.lock(path)
    }
}

impl DiskFile for BadFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset + u64::try_from(buffer.len()).expect("a length fits 64 bits");
        let refused = self.refused.lock().expect("nobody panics with it").get(&self.path).cloned();
        if refused.is_some_and(|bytes| bytes.start < end && offset < bytes.end) {
            return Err(input_output_error());
        }
        self.file.read_exact_at(buffer, offset)
    }
    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.file.write_all_at(parts, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_size(size)
    }
}
