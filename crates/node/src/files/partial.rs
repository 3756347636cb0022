//! A file that has its final name only once it is whole and on stable storage.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use datamesh_engine::world::{Entropy, Sink};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::blocking;
use crate::system::SystemEntropy;

/// Most bytes that one system call is given. For larger ones Linux fills its cache with pages of megabytes, which on a virtual
/// machine are often memory that it has not touched yet: ten times the processor time was measured.
const WRITE_SIZE_MAX: usize = 256 * 1024;

/// What becomes of something that has the final name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and opening the sink fails.
    Keep,
    /// It is replaced, once the new one is whole.
    Replace,
}

/// A file under way. Removed when dropped before [`FileSink::finish`].
pub struct FileSink {
    path: PathBuf,
    partial: PathBuf,
    file: Option<File>,
    existing: Existing,
}

impl FileSink {
    /// Begins a file beside its final place.
    ///
    /// # Errors
    /// When the final name is taken and to be kept, or the partial file can't be made.
    pub fn create(path: &Path, existing: Existing) -> io::Result<Self> {
        refuse_taken(path, existing)?;
        if path.is_dir() {
            let what = format!("{} is a folder, which a file never replaces", path.display());
            return Err(io::Error::new(io::ErrorKind::IsADirectory, what));
        }
        let partial = partial_path(path)?;
        let file = File::create_new(&partial).map_err(|error| in_the_way(&partial, &error))?;
        Ok(Self { path: path.to_owned(), partial, file: Some(file), existing })
    }

    /// Syncs the file and gives it its final name.
    ///
    /// # Errors
    /// When it can't be synced or renamed, or the final name was taken meanwhile.
    ///
    /// # Cancel safety
    /// When dropped, the file is under its final name or gone.
    pub async fn finish(mut self) -> io::Result<()> {
        let file = self.file.take().expect("a sink is finished once, and not while it is written");
        let (partial, path, existing) = (self.partial.clone(), self.path.clone(), self.existing);
        blocking(move || {
            file.sync_all()?;
            settle(&partial, &path, existing)
        })
        .await
    }
}

impl Sink for FileSink {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        async move {
            let mut file = self.file.take().ok_or_else(|| io::Error::other("an earlier write failed"))?;
            let written = blocking(move || {
                for step in bytes.chunks(WRITE_SIZE_MAX) {
                    file.write_all(step)?;
                }
                Ok(file)
            });
            self.file = Some(written.await?);
            Ok(())
        }
        .boxed()
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        // After `finish` it is not there any more, and a partial file that can't be removed harms nobody.
        let _ = fs::remove_file(&self.partial);
    }
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
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{} names no file", path.display()))
    })?;
    let mut partial = std::ffi::OsString::from(".");
    partial.push(name);
    let mut tail = [0; 8];
    SystemEntropy.fill(&mut tail);
    partial.push(format!(".datamesh-partial-{:016x}", u64::from_be_bytes(tail)));
    Ok(path.with_file_name(partial))
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
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytes::Bytes;
    use datamesh_engine::world::Sink;

    use super::{Existing, FileSink};

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
    fn a_file_never_replaces_a_folder() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let folder = directory.path().join("precious");
        fs::create_dir(&folder).expect("made");
        fs::write(folder.join("letter"), b"kept").expect("written");
        assert!(FileSink::create(&folder, Existing::Replace).is_err());
        assert_eq!(fs::read(folder.join("letter")).expect("readable"), b"kept");
    }
}
