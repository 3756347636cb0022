//! Files, folders and pipes as the engine's sources and sinks.

mod folder;
mod partial;

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::{BufMut, Bytes, BytesMut};
use datamesh_engine::world::{Sink, Source};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub use self::folder::{FolderSink, FolderSource};
pub use self::partial::{Existing, FileSink, Resumption};

/// Bytes that are read or written at once.
const STEP: usize = 1 << 20;

/// A file that is read once, and must not change meanwhile.
pub struct FileSource {
    path: PathBuf,
    file: File,
    /// `None` for what is no file on a disk, such as a named pipe.
    at_start: Option<Stamp>,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { size: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// What tells one state of a file from another over several runs: which file it is, how long, and when it changed. For what
/// is no file on a disk it is the same at all times.
#[must_use]
pub fn state(metadata: &Metadata) -> Vec<u8> {
    if !metadata.is_file() {
        return Vec::new();
    }
    let numbers = [metadata.dev(), metadata.ino(), metadata.size()];
    let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
    bytes.chain(times.iter().flat_map(|time| time.to_le_bytes())).collect()
}

impl FileSource {
    /// Opens a file.
    ///
    /// # Errors
    /// When it can't be opened, or is a folder.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path).await?;
        file.set_max_buf_size(STEP);
        let metadata = file.metadata().await?;
        if metadata.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
        }
        let at_start = metadata.is_file().then(|| Stamp::of(&metadata));
        Ok(Self { path: path.to_owned(), file, at_start })
    }

    /// Its size when it was opened; `None` for what has none, such as a named pipe.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.at_start.map(|stamp| stamp.size)
    }

    async fn check_unchanged(&self) -> io::Result<()> {
        let Some(at_start) = self.at_start else {
            return Ok(());
        };
        if Stamp::of(&tokio::fs::metadata(&self.path).await?) == at_start {
            return Ok(());
        }
        Err(io::Error::other(format!("{} changed while it was read", self.path.display())))
    }
}

impl Source for FileSource {
    fn read<'a>(&'a mut self, buffer: &'a mut BytesMut, size_max: usize) -> BoxFuture<'a, io::Result<usize>> {
        async move {
            let count = self.file.read_buf(&mut buffer.limit(size_max)).await?;
            if count == 0 && size_max > 0 {
                self.check_unchanged().await?;
            }
            Ok(count)
        }
        .boxed()
    }
}

/// A pipe that is read to its end.
pub struct PipeSource<R>(pub R);

impl<R: AsyncRead + Send + Unpin> Source for PipeSource<R> {
    fn read<'a>(&'a mut self, buffer: &'a mut BytesMut, size_max: usize) -> BoxFuture<'a, io::Result<usize>> {
        async move { self.0.read_buf(&mut buffer.limit(size_max)).await }.boxed()
    }
}

/// A pipe that is written to.
pub struct PipeSink<W>(pub W);

impl<W: AsyncWrite + Send + Unpin> Sink for PipeSink<W> {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        async move {
            self.0.write_all(&bytes).await?;
            self.0.flush().await
        }
        .boxed()
    }
}

/// Looks at bytes and lets them go.
pub struct Discard;

impl Sink for Discard {
    fn write(&mut self, _bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        async { Ok(()) }.boxed()
    }
}

/// Runs what blocks on a disk where that blocks nothing else.
async fn blocking<T: Send + 'static>(job: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(job).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use datamesh_engine::world::Source;

    use bytes::BytesMut;

    use super::FileSource;

    #[tokio::test]
    async fn a_file_that_grew_meanwhile_is_an_error_at_its_end() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        std::fs::write(&path, b"abc").expect("written");
        let mut buffer = BytesMut::new();

        let mut steady = FileSource::open(&path).await.expect("it opens");
        assert_eq!(steady.read(&mut buffer, 8).await.expect("readable"), 3);
        assert_eq!(steady.read(&mut buffer, 8).await.expect("unchanged"), 0);

        let mut growing = FileSource::open(&path).await.expect("it opens");
        assert_eq!(growing.read(&mut buffer, 8).await.expect("readable"), 3);
        let mut file = std::fs::File::options().append(true).open(&path).expect("it opens");
        file.write_all(b"d").expect("written");
        assert_eq!(growing.read(&mut buffer, 8).await.expect("readable"), 1);
        let error = growing.read(&mut buffer, 8).await.expect_err("it changed");
        assert!(error.to_string().contains("changed while it was read"), "{error}");
    }
}
