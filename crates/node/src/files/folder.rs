//! A folder as one stream: a tar archive, packed as it is read and unpacked as it is written.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use bytes::{Buf, Bytes, BytesMut};
use datamesh_engine::world::{Sink, Source};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::partial::{in_the_way, partial_path, refuse_taken, settle};
use super::{Existing, STEP, Stamp, blocking};

/// Steps that may wait between the archive and the engine.
const STEPS_WAITING_MAX: usize = 4;

/// A folder that is read as an archive: entries in the order of their names, links as links.
pub struct FolderSource {
    steps: mpsc::Receiver<Bytes>,
    step: Bytes,
    packing: Option<JoinHandle<io::Result<()>>>,
}

impl FolderSource {
    /// Begins to pack a folder. Call it within the runtime.
    ///
    /// # Errors
    /// When it isn't a folder that can be read.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::read_dir(folder)?;
        let (sender, steps) = mpsc::channel(STEPS_WAITING_MAX);
        let folder = folder.to_owned();
        let packing = tokio::task::spawn_blocking(move || pack(&folder, sender));
        Ok(Self { steps, step: Bytes::new(), packing: Some(packing) })
    }
}

impl Source for FolderSource {
    fn read<'a>(&'a mut self, buffer: &'a mut BytesMut, size_max: usize) -> BoxFuture<'a, io::Result<usize>> {
        async move {
            if self.step.is_empty() {
                self.step = self.steps.recv().await.unwrap_or_default();
            }
            if self.step.is_empty() {
                if let Some(packing) = self.packing.take() {
                    packing.await.map_err(io::Error::other)??;
                }
                return Ok(0);
            }
            let count = size_max.min(self.step.len());
            buffer.extend_from_slice(&self.step.split_to(count));
            Ok(count)
        }
        .boxed()
    }
}

fn pack(folder: &Path, sender: mpsc::Sender<Bytes>) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(STEP, StepWriter(sender)));
    archive.follow_symlinks(false);
    append_sorted(&mut archive, folder, Path::new(""))?;
    archive.into_inner()?.flush()
}

/// Appends what is in a folder, sorted, so that the same folder gives the same archive.
fn append_sorted(archive: &mut tar::Builder<impl Write>, folder: &Path, within: &Path) -> io::Result<()> {
    let mut names: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let (path, inside) = (folder.join(&name), within.join(&name));
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            archive.append_dir(&inside, &path)?;
            append_sorted(archive, &path, &inside)?;
        } else if kind.is_file() {
            append_file(archive, &path, &inside)?;
        } else if kind.is_symlink() {
            archive.append_path_with_name(&path, &inside)?;
        } else {
            let what = format!("{} is neither a file, a folder nor a link", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
    }
    Ok(())
}

/// Appends a file, which must not change meanwhile: the archive says how long it is before its bytes follow.
fn append_file(archive: &mut tar::Builder<impl Write>, path: &Path, inside: &Path) -> io::Result<()> {
    let before = Stamp::of(&fs::symlink_metadata(path)?);
    archive.append_path_with_name(path, inside)?;
    if Stamp::of(&fs::symlink_metadata(path)?) == before {
        return Ok(());
    }
    Err(io::Error::other(format!("{} changed while it was read", path.display())))
}

/// Hands on what the archive writes.
struct StepWriter(mpsc::Sender<Bytes>);

impl Write for StepWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let step = &bytes[..bytes.len().min(STEP)];
        let sent = self.0.blocking_send(Bytes::copy_from_slice(step));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads the archive any more"))?;
        Ok(step.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A folder that is written as an archive. It has its final name only when all of it is there.
pub struct FolderSink {
    path: PathBuf,
    partial: PathBuf,
    existing: Existing,
    steps: Option<mpsc::Sender<Bytes>>,
    unpacking: Option<thread::JoinHandle<io::Result<()>>>,
}

impl FolderSink {
    /// Begins a folder beside its final place.
    ///
    /// # Errors
    /// When the final name is taken and to be kept, or the partial folder can't be made.
    pub fn create(path: &Path, existing: Existing) -> io::Result<Self> {
        refuse_taken(path, existing)?;
        let partial = partial_path(path)?;
        fs::create_dir(&partial).map_err(|error| in_the_way(&partial, &error))?;
        let (sender, steps) = mpsc::channel(STEPS_WAITING_MAX);
        let target = partial.clone();
        let unpacking = thread::spawn(move || unpack(steps, &target));
        let path = path.to_owned();
        Ok(Self { path, partial, existing, steps: Some(sender), unpacking: Some(unpacking) })
    }

    /// Waits until all is unpacked and gives the folder its final name.
    ///
    /// # Errors
    /// When the archive is malformed or the folder can't be written or renamed.
    ///
    /// # Cancel safety
    /// When dropped, the folder is under its final name or gone.
    pub async fn finish(mut self) -> io::Result<()> {
        self.unpacked().await?;
        let (partial, path, existing) = (self.partial.clone(), self.path.clone(), self.existing);
        blocking(move || settle(&partial, &path, existing)).await
    }

    /// Waits until what was written is unpacked, and says whether that went well.
    async fn unpacked(&mut self) -> io::Result<()> {
        self.steps = None;
        match self.unpacking.take() {
            Some(unpacking) => blocking(move || unpacking.join().map_err(|_| panicked())?).await,
            None => Err(io::Error::other("an earlier write failed")),
        }
    }
}

fn panicked() -> io::Error {
    io::Error::other("the archive's reader panicked")
}

impl Sink for FolderSink {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        async move {
            let Some(steps) = &self.steps else {
                return Err(io::Error::other("an earlier write failed"));
            };
            if bytes.is_empty() || steps.send(bytes).await.is_ok() {
                return Ok(());
            }
            // The unpacking reads to the end unless it fails.
            self.unpacked().await?;
            Err(io::Error::other("the unpacking ended early"))
        }
        .boxed()
    }
}

impl Drop for FolderSink {
    fn drop(&mut self) {
        self.steps = None;
        if let Some(unpacking) = self.unpacking.take() {
            // It ends at once, with an archive that breaks off; were it left alone, it would go on in a removed folder.
            let _ = unpacking.join();
        }
        // After `finish` it is not there any more, and a partial folder that can't be removed harms nobody.
        let _ = fs::remove_dir_all(&self.partial);
    }
}

fn unpack(steps: mpsc::Receiver<Bytes>, target: &Path) -> io::Result<()> {
    let mut reader = StepReader { steps, step: Bytes::new() };
    let mut archive = tar::Archive::new(&mut reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    // Refuses entries that would lie outside of the target.
    archive.unpack(target)?;
    io::copy(&mut reader, &mut io::sink())?;
    Ok(())
}

/// Reads what was handed on.
struct StepReader {
    steps: mpsc::Receiver<Bytes>,
    step: Bytes,
}

impl Read for StepReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.step.is_empty() {
            self.step = self.steps.blocking_recv().unwrap_or_default();
        }
        let count = buffer.len().min(self.step.len());
        self.step.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytes::{Bytes, BytesMut};
    use datamesh_engine::world::{Sink, Source};

    use super::{Existing, FolderSink, FolderSource};

    #[tokio::test]
    async fn an_archive_that_reaches_outside_its_folder_writes_nothing_there() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        header.as_gnu_mut().expect("a GNU header").name[..9].copy_from_slice(b"../escape");
        header.set_cksum();
        let mut archive = header.as_bytes().to_vec();
        archive.extend_from_slice(b"evil");
        archive.resize(2048, 0);

        let mut sink = FolderSink::create(&directory.path().join("out"), Existing::Keep).expect("it begins");
        sink.write(Bytes::from(archive)).await.expect("taken");
        // Whether it is refused or passed over, nothing may lie outside.
        let _ = sink.finish().await;
        assert!(!directory.path().join("escape").exists());
    }

    #[tokio::test]
    async fn a_folder_under_way_has_no_final_name_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let folder = directory.path().join("folder");
        fs::create_dir_all(folder.join("inner")).expect("made");
        fs::write(folder.join("inner/file"), b"bytes").expect("written");
        let mut archive = BytesMut::new();
        let mut source = FolderSource::open(&folder).expect("a folder");
        while source.read(&mut archive, 4096).await.expect("readable") > 0 {}
        let out = directory.path().join("out");
        let mut sink = FolderSink::create(&out, Existing::Keep).expect("it begins");
        sink.write(Bytes::from(archive[..archive.len() / 2].to_vec())).await.expect("taken");
        assert!(!out.exists());
        drop(sink);
        let mut sink = FolderSink::create(&out, Existing::Keep).expect("it begins");
        sink.write(archive.freeze()).await.expect("taken");
        sink.finish().await.expect("whole");
        assert_eq!(fs::read(out.join("inner/file")).expect("readable"), b"bytes");
    }
}
