//! A file that has its final name only once it is whole and on stable storage.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use datamesh_engine::world::{Entropy, Sink};
use datamesh_store::disk::Files;
use datamesh_store::journal::JournalFile;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::JoinHandle;

use super::{STEP, blocking};
use crate::system::SystemEntropy;

/// Most bytes that one system call is given. For larger ones Linux takes memory of whole megabytes for its cache, which on a
/// virtual machine is often memory that it has not touched yet: up to ten times the processor time, see docs/performance.md.
const WRITE_SIZE_MAX: usize = 256 * 1024;

/// What becomes of something that has the final name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and opening the sink fails.
    Keep,
    /// It is replaced, once the new one is whole.
    Replace,
}

/// Bytes that are written before those before them must be on stable storage.
const SYNC_INTERVAL: u64 = 8 << 20;
/// How old a journal of a get must be before it is cleared away, and its partial file with it.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A file under way. Unless it can be resumed, it is removed when dropped before [`FileSink::finish`].
pub struct FileSink {
    path: PathBuf,
    partial: PathBuf,
    existing: Existing,
    /// `None` while something is written, and after a write has failed.
    writing: Option<Writing>,
    syncing: Option<JoinHandle<io::Result<()>>>,
    /// Whether somebody may go on with it.
    lasting: Lasting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasting {
    Kept,
    Removed,
}

/// Where a partial file can be gone on with.
#[derive(Debug, Clone)]
pub struct Resumption {
    /// The folder with the journals of gets.
    pub journals: PathBuf,
    /// What is written: the object and the range of it, in any form that tells one from another.
    pub content: Vec<u8>,
}

/// What is written so far, and what is known of it.
struct Writing {
    file: File,
    hasher: blake3::Hasher,
    written: u64,
    /// Bytes that were written when the last sync began.
    syncing_to: u64,
    journal: Option<Arc<Mutex<JournalFile>>>,
}

impl FileSink {
    /// Begins a file beside its final place, which nobody can go on with.
    ///
    /// # Errors
    /// When the final name is taken and to be kept, or the partial file can't be made.
    pub fn create(path: &Path, existing: Existing) -> io::Result<Self> {
        refuse_target(path, existing)?;
        let partial = partial_path(path)?;
        let file = File::create_new(&partial).map_err(|error| in_the_way(&partial, &error))?;
        Ok(Self::new(path, existing, partial, Writing::fresh(file, None), Lasting::Removed))
    }

    /// Goes on with a partial file that the same get has begun, behind the bytes of it that are certainly right; else begins
    /// one that can be gone on with. Where another process is just writing it, begins one that can't.
    ///
    /// # Errors
    /// As [`FileSink::create`], or when a journal can't be read.
    ///
    /// # Cancel safety
    /// When dropped, what was there is there.
    pub async fn resume(path: &Path, existing: Existing, resumption: Resumption) -> io::Result<Self> {
        let path = path.to_owned();
        blocking(move || Self::resume_now(&path, existing, &resumption)).await
    }

    fn resume_now(path: &Path, existing: Existing, resumption: &Resumption) -> io::Result<Self> {
        refuse_target(path, existing)?;
        clear_old(&resumption.journals)?;
        let name = path.file_name().ok_or_else(|| no_file(path))?;
        let target = parent(path).canonicalize()?.join(name);
        let mut hasher = blake3::Hasher::new();
        hasher.update(target.as_os_str().as_encoded_bytes()).update(&[0]).update(&resumption.content);
        let content = hasher.finalize().to_hex();
        let partial = partial_name(path, &content[..16])?;
        let (disk, journal) = (Arc::new(Files), resumption.journals.join(&content[..32]));
        let journal = if journal.exists() {
            match JournalFile::open(disk, journal) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Self::create(path, existing);
                }
                opened => opened?,
            }
        } else {
            JournalFile::new(disk, journal)
        };
        let writing = match Writing::read(&partial, journal)? {
            Ok(writing) => writing,
            Err(mut journal) => {
                let full = parent(&partial).canonicalize()?.join(partial.file_name().expect("it has one"));
                let cover = Bytes::copy_from_slice(full.as_os_str().as_encoded_bytes());
                // Claimed before the partial file is touched: whoever has the journal has the file.
                match journal.append(&[cover]) {
                    // Somebody else has just begun the same.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Self::create(path, existing);
                    }
                    added => added?,
                }
                // A file that is in the way all the same is an error below.
                let _ = fs::remove_file(&partial);
                let file = File::create_new(&partial).map_err(|error| in_the_way(&partial, &error))?;
                Writing::fresh(file, Some(journal))
            }
        };
        Ok(Self::new(path, existing, partial, writing, Lasting::Kept))
    }

    fn new(path: &Path, existing: Existing, partial: PathBuf, writing: Writing, lasting: Lasting) -> Self {
        Self { path: path.to_owned(), partial, existing, writing: Some(writing), syncing: None, lasting }
    }

    /// Bytes that are written, and the BLAKE3 digest of them all. `None` after a write has failed.
    #[must_use]
    pub fn written(&self) -> Option<(u64, [u8; 32])> {
        let writing = self.writing.as_ref()?;
        Some((writing.written, *writing.hasher.finalize().as_bytes()))
    }

    /// Whatever was written is wrong: it is removed.
    pub fn discard(mut self) {
        self.lasting = Lasting::Removed;
    }

    /// Syncs the file and gives it its final name.
    ///
    /// # Errors
    /// When it can't be synced or renamed, or the final name was taken meanwhile.
    ///
    /// # Cancel safety
    /// When dropped, the file is under its final name, or can be resumed, or is gone.
    pub async fn finish(mut self) -> io::Result<()> {
        self.synced().await?;
        let writing = self.writing.take().ok_or_else(|| io::Error::other("an earlier write failed"))?;
        let (partial, path, existing) = (self.partial.clone(), self.path.clone(), self.existing);
        blocking(move || {
            writing.file.sync_all()?;
            settle(&partial, &path, existing)?;
            // The journal goes last: without its partial file it is worth nothing, and says so.
            writing.remove_journal()
        })
        .await
    }

    /// Waits for the sync under way.
    async fn synced(&mut self) -> io::Result<()> {
        match self.syncing.take() {
            Some(syncing) => syncing.await.map_err(io::Error::other)?,
            None => Ok(()),
        }
    }

    /// Begins to sync what is written, once it is enough and all before it is synced.
    async fn sync_in_time(&mut self) -> io::Result<()> {
        let due = |writing: &Writing| writing.written - writing.syncing_to >= SYNC_INTERVAL;
        if !self.writing.as_ref().is_some_and(|writing| writing.journal.is_some() && due(writing)) {
            return Ok(());
        }
        self.synced().await?;
        let writing = self.writing.as_mut().expect("it was there above");
        writing.syncing_to = writing.written;
        let (file, journal) = (writing.file.try_clone()?, writing.journal.clone());
        self.syncing = Some(tokio::task::spawn_blocking(move || {
            file.sync_data()?;
            journal.map_or(Ok(()), |journal| lock(&journal).sync())
        }));
        Ok(())
    }
}

impl Writing {
    fn fresh(file: File, journal: Option<JournalFile>) -> Self {
        let journal = journal.map(|journal| Arc::new(Mutex::new(journal)));
        Self { file, hasher: blake3::Hasher::new(), written: 0, syncing_to: 0, journal }
    }

    /// Reads a partial file up to the last place where it has the digest that the journal tells; gives the journal back if
    /// there is nothing to go on with.
    fn read(partial: &Path, mut journal: JournalFile) -> io::Result<Result<Self, JournalFile>> {
        let start = journal.position();
        let Some(_cover) = journal.read()? else { return Ok(Err(journal)) };
        let Some(file) = open_own(partial)? else {
            journal.return_to(start);
            return Ok(Err(journal));
        };
        let mut good = (journal.position(), 0, blake3::Hasher::new());
        let mut hasher = blake3::Hasher::new();
        let mut reader = io::BufReader::with_capacity(STEP, &file);
        while let Some((end, digest)) = journal.read()?.as_deref().and_then(parse_record) {
            let Some(size) = end.checked_sub(good.1) else { break };
            let read = io::copy(&mut (&mut reader).take(size), &mut hasher)?;
            if read < size || hasher.finalize().as_bytes() != &digest {
                break;
            }
            good = (journal.position(), end, hasher.clone());
        }
        let (position, written, hasher) = good;
        journal.return_to(position);
        file.set_len(written)?;
        (&file).seek(io::SeekFrom::Start(written))?;
        let journal = Some(Arc::new(Mutex::new(journal)));
        Ok(Ok(Self { file, hasher, written, syncing_to: written, journal }))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.written += u64::try_from(bytes.len()).expect("a size fits 64 bits");
        if let Some(journal) = &self.journal {
            // Noted first, so that all that is there is known to be right; of what is not there, the digest tells.
            lock(journal).append(&[record(self.written, &self.hasher)])?;
        }
        for step in bytes.chunks(WRITE_SIZE_MAX) {
            self.file.write_all(step)?;
        }
        Ok(())
    }

    fn remove_journal(self) -> io::Result<()> {
        let journal = self.journal.and_then(Arc::into_inner);
        journal
            .map_or(Ok(()), |journal| journal.into_inner().unwrap_or_else(PoisonError::into_inner).remove())
    }
}

/// What the journal of a get says of its partial file: how long it is, and the digest of all that.
fn record(written: u64, hasher: &blake3::Hasher) -> Bytes {
    [&written.to_le_bytes()[..], hasher.finalize().as_bytes()].concat().into()
}

fn parse_record(record: &[u8]) -> Option<(u64, [u8; 32])> {
    let (written, digest) = record.split_first_chunk()?;
    Some((u64::from_le_bytes(*written), digest.try_into().ok()?))
}

fn lock(journal: &Mutex<JournalFile>) -> std::sync::MutexGuard<'_, JournalFile> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a partial file, unless somebody has put something else in its place.
fn open_own(partial: &Path) -> io::Result<Option<File>> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let opened = File::options().read(true).write(true).custom_flags(no_follow).open(partial);
    let Ok(file) = opened else { return Ok(None) };
    let metadata = file.metadata()?;
    Ok((metadata.is_file() && metadata.nlink() == 1).then_some(file))
}

/// Removes the journals that nobody has gone on with for long, and the partial files that they are about.
fn clear_old(journals: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(journals) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let modified = match entry.metadata() {
            // Another get has just come to its end.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?.modified()?,
        };
        if modified.elapsed().is_ok_and(|age| age > KEPT_FOR)
            && let Ok(mut journal) = JournalFile::open(Arc::new(Files), entry.path())
        {
            let cover = journal.read()?;
            let partial = cover.as_deref().map(|path| Path::new(OsStr::from_bytes(path)));
            if let Some(partial) =
                partial.filter(|partial| open_own(partial).is_ok_and(|file| file.is_some()))
            {
                fs::remove_file(partial)?;
            }
            journal.remove()?;
        }
    }
    Ok(())
}

impl Sink for FileSink {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        async move {
            let writing = self.writing.take();
            let mut writing = writing.ok_or_else(|| io::Error::other("an earlier write failed"))?;
            let written = blocking(move || {
                writing.write(&bytes)?;
                Ok(writing)
            });
            self.writing = Some(written.await?);
            self.sync_in_time().await
        }
        .boxed()
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        let nothing = self.writing.as_ref().is_some_and(|writing| writing.written == 0);
        if self.lasting == Lasting::Kept && !nothing {
            return;
        }
        // After `finish` it is not there any more, and a partial file that can't be removed harms nobody.
        let _ = fs::remove_file(&self.partial);
        if let Some(writing) = self.writing.take() {
            let _ = writing.remove_journal();
        }
    }
}

/// Refuses a final name that a file can't have.
fn refuse_target(path: &Path, existing: Existing) -> io::Result<()> {
    refuse_taken(path, existing)?;
    if path.is_dir() {
        let what = format!("{} is a folder, which a file never replaces", path.display());
        return Err(io::Error::new(io::ErrorKind::IsADirectory, what));
    }
    Ok(())
}

/// Refuses a final name that is taken and to be kept.
pub(super) fn refuse_taken(path: &Path, existing: Existing) -> io::Result<()> {
    if existing == Existing::Keep && path.symlink_metadata().is_ok() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", path.display())));
    }
    Ok(())
}

/// Where something under way lies until it is whole: beside its final place, so that a rename moves it there.
pub(super) fn partial_path(path: &Path) -> io::Result<PathBuf> {
    let mut tail = [0; 8];
    SystemEntropy.fill(&mut tail);
    partial_name(path, &format!("{:016x}", u64::from_be_bytes(tail)))
}

fn partial_name(path: &Path, tail: &str) -> io::Result<PathBuf> {
    let mut partial = OsString::from(".");
    partial.push(path.file_name().ok_or_else(|| no_file(path))?);
    partial.push(format!(".datamesh-partial-{tail}"));
    Ok(path.with_file_name(partial))
}

fn no_file(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{} names no file", path.display()))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// An error about the partial file, which must not be taken for one about the final name.
pub(super) fn in_the_way(partial: &Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("{} can't be made: {error}", partial.display()))
}

/// Gives what is whole its final name, and makes that durable. A folder is replaced by a folder alone, and is there until
/// the new one has its name.
pub(super) fn settle(partial: &Path, path: &Path, existing: Existing) -> io::Result<()> {
    refuse_taken(path, existing)?;
    if path.is_dir() && !path.is_symlink() {
        let aside = partial_path(path)?;
        fs::rename(path, &aside)?;
        if let Err(error) = fs::rename(partial, path) {
            fs::rename(&aside, path)?;
            return Err(error);
        }
        fs::remove_dir_all(&aside)?;
    } else {
        fs::rename(partial, path)?;
    }
    File::open(parent(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use bytes::Bytes;
    use datamesh_engine::world::Sink;

    use super::{Existing, FileSink, Resumption, clear_old};

    #[tokio::test]
    async fn the_final_name_appears_only_when_the_file_is_whole() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("out");
        let mut sink = FileSink::create(&path, Existing::Keep).expect("it can be made");
        sink.write(Bytes::from_static(b"half")).await.expect("writable");
        assert!(!path.exists());
        drop(sink);
        assert_eq!(fs::read_dir(directory.path()).expect("listable").count(), 0, "nothing is left behind");

        let mut sink = FileSink::create(&path, Existing::Keep).expect("it can be made");
        sink.write(Bytes::from_static(b"whole")).await.expect("writable");
        sink.finish().await.expect("it can be finished");
        assert_eq!(fs::read(&path).expect("readable"), b"whole");
        assert!(FileSink::create(&path, Existing::Keep).is_err());
        assert!(FileSink::create(&path, Existing::Replace).is_ok());
    }

    #[test]
    fn gets_that_end_meanwhile_are_in_nobodys_way() {
        let directory = tempfile::tempdir().expect("a directory");
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in (0..64).cycle().take_while(|_| !ended.load(Ordering::Relaxed)) {
                    let journal = directory.path().join(format!("journal {number}"));
                    fs::write(&journal, b"").expect("writable");
                    fs::remove_file(&journal).expect("removable");
                }
            });
            let cleared: Result<(), _> = (0..5000).try_for_each(|_| clear_old(directory.path()));
            ended.store(true, Ordering::Relaxed);
            cleared.expect("what is gone need not be cleared");
        });
    }

    fn resumption(directory: &Path, content: &str) -> Resumption {
        Resumption { journals: directory.join("journals"), content: content.into() }
    }

    /// Writes five chunks, of 1000 bytes each, and is broken off; then tells how many bytes a second run finds.
    async fn found(directory: &Path, content: &str, damage: impl FnOnce(&Path)) -> u64 {
        let out = directory.join("out");
        let mut sink = resume(directory, content).await;
        for number in 0..5 {
            sink.write(vec![number; 1000].into()).await.expect("writable");
        }
        drop(sink);
        let mut entries =
            fs::read_dir(directory).expect("listable").map(|entry| entry.expect("an entry").path());
        let partial = entries.find(|path| path.is_file()).expect("the partial file is kept");
        damage(&partial);
        let mut sink = resume(directory, content).await;
        let (written, _) = sink.written().expect("nothing failed");
        for at in (written..5000).step_by(1000) {
            sink.write(vec![u8::try_from(at / 1000).expect("small"); 1000].into()).await.expect("writable");
        }
        let whole: Vec<u8> = (0..5).flat_map(|number| [number; 1000]).collect();
        assert_eq!(sink.written(), Some((5000, *blake3::hash(&whole).as_bytes())));
        sink.finish().await.expect("it can be finished");
        assert_eq!(fs::read(&out).expect("readable"), whole);
        fs::remove_file(&out).expect("removable");
        assert_eq!(fs::read_dir(directory.join("journals")).expect("listable").count(), 0);
        written
    }

    async fn resume(directory: &Path, content: &str) -> FileSink {
        let out = directory.join("out");
        FileSink::resume(&out, Existing::Keep, resumption(directory, content)).await.expect("it begins")
    }

    #[tokio::test]
    async fn what_is_right_of_a_partial_file_is_gone_on_with_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let with = |damage: fn(&mut Vec<u8>)| {
            move |partial: &Path| {
                let mut bytes = fs::read(partial).expect("readable");
                damage(&mut bytes);
                fs::write(partial, bytes).expect("written");
            }
        };
        let folder = directory.path();
        assert_eq!(found(folder, "a", |_| {}).await, 5000);
        assert_eq!(found(folder, "a", with(|bytes| bytes.truncate(3999))).await, 3000);
        assert_eq!(found(folder, "a", with(|bytes| bytes.push(1))).await, 5000);
        assert_eq!(found(folder, "a", with(|bytes| bytes[2500] = 9)).await, 2000);
        assert_eq!(found(folder, "a", with(|bytes| bytes[0] = 9)).await, 0);
        assert_eq!(found(folder, "a", |partial| fs::remove_file(partial).expect("removable")).await, 0);
        let linked = |partial: &Path| {
            fs::rename(partial, partial.with_file_name("elsewhere")).expect("renamed");
            std::os::unix::fs::symlink("elsewhere", partial).expect("linked");
        };
        assert_eq!(found(folder, "a", linked).await, 0, "a link is not followed");
    }

    #[tokio::test]
    async fn another_content_and_a_second_process_begin_their_own() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut first = resume(directory.path(), "a").await;
        first.write(Bytes::from_static(b"bytes")).await.expect("writable");
        let second = resume(directory.path(), "a").await;
        assert_eq!(second.written().expect("nothing failed").0, 0);
        drop((first, second));
        assert_eq!(resume(directory.path(), "b").await.written().expect("nothing failed").0, 0);
        assert_eq!(resume(directory.path(), "a").await.written().expect("nothing failed").0, 5);
        resume(directory.path(), "a").await.discard();
        assert_eq!(resume(directory.path(), "a").await.written().expect("nothing failed").0, 0);
    }

    #[test]
    fn a_file_never_replaces_a_folder() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let folder = directory.path().join("precious");
        fs::create_dir(&folder).expect("made");
        fs::write(folder.join("letter"), b"kept").expect("written");
        assert!(FileSink::create(&folder, Existing::Replace).is_err());
        assert_eq!(fs::read(folder.join("letter")).expect("readable"), b"kept");
    }
}
