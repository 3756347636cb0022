//! The index's file: given up when another index is opened in its stead, and held in memory where the disk takes no more.
//!
//! The index is derived from the segments, so that it need not be on the disk for anything to be safe. A node whose disk is full must
//! be able to start and to serve what it has; what its index would write then is kept in memory until there is room.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datamesh_core::limits::MIB;
use redb::StorageBackend;

use crate::disk::DiskFile;

/// What is kept in memory at a time.
const PAGE_SIZE: usize = 4096;
/// Most pages that are kept in memory.
const PAGES_MAX: usize = 64 * MIB / PAGE_SIZE;

/// The index's file, until it is retired.
#[derive(Debug)]
pub(super) struct IndexFile {
    file: Arc<dyn DiskFile>,
    retired: AtomicBool,
    overlay: Mutex<Option<Overlay>>,
}

/// What is in memory in place of the file: some pages, and how long it is.
#[derive(Debug)]
struct Overlay {
    size: u64,
    /// Bytes of the file that were never cut off: behind them are zeros, whatever the file has there.
    kept: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE_SIZE]>>,
}

impl IndexFile {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, retired: AtomicBool::new(false), overlay: Mutex::default() }
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether the disk lacks something that is only in memory.
    pub(super) fn is_in_memory(&self) -> bool {
        self.overlay().is_some()
    }

    fn overlay(&self) -> MutexGuard<'_, Option<Overlay>> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file and what is in memory of it.
    fn enter(&self) -> io::Result<(&dyn DiskFile, MutexGuard<'_, Option<Overlay>>)> {
        if self.retired.load(Ordering::Acquire) {
            return Err(io::Error::other("the index was given up for another"));
        }
        Ok((&*self.file, self.overlay()))
    }
}

impl Overlay {
    fn over(file: &dyn DiskFile, why: &io::Error) -> io::Result<Self> {
        tracing::error!(%why, "the index can't be written, and is kept in memory until there is room");
        let size = file.size()?;
        Ok(Self { size, kept: size, pages: BTreeMap::new() })
    }

    /// A page as it is: in memory, else on the disk, else zeros.
    fn page(&self, file: &dyn DiskFile, number: u64) -> io::Result<Box<[u8; PAGE_SIZE]>> {
        if let Some(page) = self.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = Box::new([0; PAGE_SIZE]);
        let start = number * page_size();
        let left = self.kept.saturating_sub(start).min(page_size());
        let left = usize::try_from(left).expect("a page at most");
        file.read_exact_at(&mut page[..left], start)?;
        Ok(page)
    }

    fn read(&self, file: &dyn DiskFile, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset + size_of(out) > self.size {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < out.len() {
            let (number, within) = place_of(offset + size_of(&out[..done]));
            let page = self.page(file, number)?;
            let count = (PAGE_SIZE - within).min(out.len() - done);
            out[done..done + count].copy_from_slice(&page[within..within + count]);
            done += count;
        }
        Ok(())
    }

    fn set_size(&mut self, size: u64) {
        self.pages.retain(|number, _| number * page_size() < size);
        let (number, within) = place_of(size);
        if let Some(page) = self.pages.get_mut(&number) {
            page[within..].fill(0);
        }
        self.kept = self.kept.min(size);
        self.size = size;
    }

    fn write(&mut self, file: &dyn DiskFile, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < data.len() {
            let (number, within) = place_of(offset + size_of(&data[..done]));
            let mut page = self.page(file, number)?;
            let count = (PAGE_SIZE - within).min(data.len() - done);
            page[within..within + count].copy_from_slice(&data[done..done + count]);
            if self.pages.len() >= PAGES_MAX && !self.pages.contains_key(&number) {
                return Err(ErrorKind::StorageFull.into());
            }
            self.pages.insert(number, page);
            done += count;
        }
        self.size = self.size.max(offset + size_of(data));
        Ok(())
    }
}

fn page_size() -> u64 {
    u64::try_from(PAGE_SIZE).expect("a small number")
}

fn size_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length fits 64 bits")
}

/// The page that an offset is in, and where in it.
fn place_of(offset: u64) -> (u64, usize) {
    (offset / page_size(), usize::try_from(offset % page_size()).expect("less than a page"))
}

/// Whether a disk that says this may still be read.
fn takes_no_more(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::WriteZero)
}

/// What redb sees of the disk.
#[derive(Debug)]
pub(super) struct Backend(pub(super) Arc<IndexFile>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        let (file, overlay) = self.0.enter()?;
        overlay.as_ref().map_or_else(|| file.size(), |overlay| Ok(overlay.size))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (file, overlay) = self.0.enter()?;
        match &*overlay {
            Some(overlay) => overlay.read(file, offset, out),
            None => {
                // Readers don't wait for each other.
                drop(overlay);
                file.read_exact_at(out, offset)
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (file, mut overlay) = self.0.enter()?;
        if overlay.is_none() {
            match file.set_size(len) {
                Err(error) if takes_no_more(&error) => *overlay = Some(Overlay::over(file, &error)?),
                done => return done,
            }
        }
        let overlay = overlay.as_mut().expect("made above where there was none");
        overlay.set_size(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (file, overlay) = self.0.enter()?;
        // What is in memory is not kept, and need not be: the segments say it again.
        if overlay.is_some() { Ok(()) } else { file.sync_data() }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (file, mut overlay) = self.0.enter()?;
        if overlay.is_none() {
            match file.write_all_at(&[data], offset) {
                Err(error) if takes_no_more(&error) => *overlay = Some(Overlay::over(file, &error)?),
                done => return done,
            }
        }
        overlay.as_mut().expect("made above where there was none").write(file, offset, data)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use redb::StorageBackend;

    use super::{Backend, IndexFile};
    use crate::disk::{Disk, DiskFile, Files};

    /// A file that takes nothing beyond its first bytes.
    #[derive(Debug)]
    struct Full(Arc<dyn DiskFile>, u64);

    impl DiskFile for Full {
        fn size(&self) -> io::Result<u64> {
            self.0.size()
        }
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.0.read_exact_at(buffer, offset)
        }
        fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
            let size: usize = parts.iter().map(|part| part.len()).sum();
            if offset + u64::try_from(size).expect("small") > self.1 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.write_all_at(parts, offset)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }
        fn set_size(&self, size: u64) -> io::Result<()> {
            self.0.set_size(size)
        }
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_read_from_memory() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = Files.create(&directory.path().join("index")).expect("creates");
        let backend = Backend(Arc::new(IndexFile::new(Arc::new(Full(file.clone(), 10_000)))));
        let mut expected = vec![0; 20_000];
        for (offset, size, byte) in
            [(0, 10_000, 1), (500, 20, 2), (9_990, 5_000, 3), (4_000, 300, 4), (19_000, 1_000, 5)]
        {
            expected[offset..offset + size].fill(byte);
            let at = u64::try_from(offset).expect("small");
            backend.write(at, &vec![byte; size]).expect("writes");
            let mut read = vec![9; size];
            backend.read(at, &mut read).expect("reads");
            assert_eq!(read, expected[offset..offset + size]);
        }
        assert!(backend.0.is_in_memory());
        assert_eq!(backend.len().expect("has a length"), 20_000);
        let mut read = vec![9; 20_000];
        backend.read(0, &mut read).expect("reads");
        assert!(read == expected);
        assert!(backend.read(19_999, &mut [0; 2]).is_err(), "it ends there");
        assert_eq!(file.size().expect("has a size"), 10_000, "the disk has not taken it");
        backend.set_len(4_096).expect("cut");
        backend.set_len(8_192).expect("grows");
        backend.read(4_000, &mut read[..200]).expect("reads");
        assert!(read[..96].iter().all(|byte| *byte == 4) && read[96..200].iter().all(|byte| *byte == 0));
    }
}
