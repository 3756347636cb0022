//! The journals of puts under way: found again by the same command, released when nobody goes on with them.
//!
//! Each is a file in the home, held by one process at a time. Its first record tells the state of the source when the put was
//! begun; the engine's own records follow. A journal that no command can find again, because its source was a pipe or has
//! changed, only serves to release what was stored; so does one that is too old.

use std::fs;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use datamesh_codec::keys::Identity;
use datamesh_core::id::OwnerId;
use datamesh_core::lease::LeaseTag;
use datamesh_core::time::Timestamp;
use datamesh_engine::journal::{Begun, JournalError};
use datamesh_engine::progress::Unobserved;
use datamesh_engine::release::release;
use datamesh_engine::world::{Entropy, Journal};
use datamesh_store::disk::{Disk, Files};
use datamesh_store::journal::JournalFile;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::assemble::Client;
use crate::system::SystemEntropy;

/// The names of journals that only serve to release begin so.
const LEFT: &str = "left";
/// How long a release may keep a command waiting: what is not told by then is told by the next put.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);

/// Which put it is: the same command on the same source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutIdentity {
    command: blake3::Hash,
    state: blake3::Hash,
}

impl PutIdentity {
    /// A put by this command, given in words, of a source in this state.
    #[must_use]
    pub fn new<'a>(command: impl IntoIterator<Item = &'a [u8]>, state: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for word in command {
            hasher.update(&u64::try_from(word.len()).unwrap_or(u64::MAX).to_le_bytes()).update(word);
        }
        Self { command: hasher.finalize(), state: blake3::hash(state) }
    }
}

/// The journals of puts into one mesh.
#[derive(Debug, Clone)]
pub struct Journals {
    directory: PathBuf,
}

/// What there is for a put.
#[derive(Debug)]
pub enum Found {
    /// Nothing: it begins.
    New(PutJournal),
    /// A run of it was broken off, and its source is what it was.
    Begun(PutJournal),
    /// A run of it was broken off, and its source has changed.
    Changed(PutJournal),
}

/// The journal of one put.
#[derive(Debug, Clone)]
pub struct PutJournal {
    file: Arc<Mutex<JournalFile>>,
    /// The first record, until it is written.
    cover: Arc<Mutex<Option<Bytes>>>,
}

/// What became of journals that nobody goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleared {
    /// Puts of which all nodes were told.
    pub released_count: u64,
    /// Puts of which some nodes could not be told. They are told by the next put.
    pub pending_count: u64,
}

impl Journals {
    /// The journals in this directory, which is made with the first of them.
    #[must_use]
    pub const fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Whether there is none.
    ///
    /// # Errors
    /// When the disk says so.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.names()?.is_empty())
    }

    /// The journal of a put. Where another process is just doing the same put, it is a new one.
    ///
    /// # Errors
    /// When the disk says so.
    pub fn open(&self, identity: &PutIdentity) -> io::Result<Found> {
        let command = &identity.command.to_hex()[..32];
        for name in self.names()?.into_iter().filter(|name| name.starts_with(command)) {
            let Some(mut file) = self.claim(&name)? else { continue };
            match file.read()? {
                // Nothing was begun.
                None => file.remove()?,
                Some(state) if state == identity.state.as_bytes().as_slice() => {
                    return Ok(Found::Begun(PutJournal::of(file, None)));
                }
                Some(_) => return Ok(Found::Changed(PutJournal::of(file, None))),
            }
        }
        let state = Bytes::copy_from_slice(identity.state.as_bytes());
        Ok(Found::New(self.create(command, state)))
    }

    /// A journal for a source that can be read but once.
    #[must_use]
    pub fn pipe(&self) -> PutJournal {
        self.create(LEFT, Bytes::new())
    }

    fn create(&self, prefix: &str, cover: Bytes) -> PutJournal {
        let mut tail = [0; 8];
        SystemEntropy.fill(&mut tail);
        let path = self.directory.join(format!("{prefix}-{:016x}", u64::from_be_bytes(tail)));
        PutJournal::of(JournalFile::new(Arc::new(Files), path), Some(cover))
    }

    /// Releases the puts that nobody goes on with: by pipes that ended, of sources that changed, or begun before `oldest`.
    /// What is in use, or another identity's, is left alone. `acknowledged` tells whether a put is in the catalog: then only
    /// its journal goes.
    ///
    /// # Errors
    /// When the disk says so.
    ///
    /// # Cancel safety
    /// What was not released yet is released by the next put.
    pub async fn clear(
        &self,
        client: &Client,
        owners: &[Identity],
        oldest: Timestamp,
        acknowledged: impl Fn(&Begun) -> bool,
    ) -> io::Result<Cleared> {
        let mut cleared = Cleared::default();
        for name in self.names()? {
            let Some(mut file) = self.claim(&name)? else { continue };
            let begun = match begun(&mut file)? {
                None => {
                    file.remove()?;
                    continue;
                }
                Some(Err(error)) => {
                    // A later version's, perhaps: it hinders no other put.
                    tracing::warn!(%error, journal = name, "the journal of a put can't be read");
                    continue;
                }
                Some(Ok(begun)) => begun,
            };
            let expired = begun.created < oldest;
            let Some(owner) = owners.iter().find(|owner| owner.owner() == begun.owner) else { continue };
            if !expired && !name.starts_with(LEFT) {
                continue;
            }
            if !acknowledged(&begun) {
                let observer = Arc::new(Unobserved);
                let told = in_time(release(&client.world, client.transfer, observer, owner, begun.tag));
                let all_told = told.await.is_some_and(|released| released.failures.is_empty());
                if !all_told && !expired {
                    // A node that does not answer now keeps no command waiting twice.
                    cleared.pending_count += 1;
                    break;
                }
                cleared.released_count += u64::from(all_told);
            }
            file.remove()?;
        }
        Ok(cleared)
    }

    /// Removes the journal of a put that was released.
    ///
    /// # Errors
    /// When the disk says so.
    pub fn forget(&self, owner: OwnerId, tag: LeaseTag) -> io::Result<()> {
        for name in self.names()? {
            let Some(mut file) = self.claim(&name)? else { continue };
            if let Some(Ok(begun)) = begun(&mut file)?
                && (begun.owner, begun.tag) == (owner, tag)
            {
                file.remove()?;
            }
        }
        Ok(())
    }

    /// A journal that nobody uses and that is there.
    fn claim(&self, name: &str) -> io::Result<Option<JournalFile>> {
        match JournalFile::open(Arc::new(Files), self.directory.join(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        match Files.list(&self.directory) {
            Ok(mut names) => {
                names.sort();
                Ok(names)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// What was begun, if anything was: the record behind the first.
fn begun(file: &mut JournalFile) -> io::Result<Option<Result<Begun, JournalError>>> {
    if file.read()?.is_none() {
        return Ok(None);
    }
    Ok(file.read()?.map(|head| Begun::parse(&head)))
}

async fn in_time<T>(doing: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(RELEASE_PATIENCE, doing).await.ok()
}

impl PutJournal {
    fn of(file: JournalFile, cover: Option<Bytes>) -> Self {
        Self { file: Arc::new(Mutex::new(file)), cover: Arc::new(Mutex::new(cover)) }
    }

    /// Removes it: the put is in the catalog, or released.
    ///
    /// # Errors
    /// When the disk says so.
    pub fn remove(self) -> io::Result<()> {
        match fs::remove_file(self.file().path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Nobody goes on with it: what it tells of is released by [`Journals::clear`].
    ///
    /// # Errors
    /// When the disk says so.
    pub fn leave(self) -> io::Result<()> {
        let path = self.file().path().to_owned();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (_, tail) = name.rsplit_once('-').unwrap_or_default();
        match fs::rename(&path, path.with_file_name(format!("{LEFT}-{tail}"))) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            renamed => renamed,
        }
    }

    fn file(&self) -> std::sync::MutexGuard<'_, JournalFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what blocks on the disk where that blocks nothing else.
    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let journal = self.clone();
        tokio::task::spawn_blocking(move || job(&journal)).await.map_err(io::Error::other)?
    }
}

impl Journal for PutJournal {
    fn next(&self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        self.blocking(|journal| journal.file().read()).boxed()
    }

    fn commit(&self, records: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        self.blocking(move |journal| {
            let cover = journal.cover.lock().unwrap_or_else(PoisonError::into_inner).take();
            let records: Vec<Bytes> = cover.into_iter().chain(records).collect();
            let mut file = journal.file();
            file.append(&records)?;
            file.sync()
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use datamesh_engine::world::Journal;

    use super::{Found, Journals, PutIdentity};

    fn identity(command: &str, state: &str) -> PutIdentity {
        PutIdentity::new([command.as_bytes()], state.as_bytes())
    }

    #[tokio::test]
    async fn a_journal_is_found_by_the_same_command_on_the_same_source_once_it_was_begun() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let journals = Journals::at(directory.path().join("journals"));
        let put = identity("put a", "one");
        let Found::New(journal) = journals.open(&put).expect("readable") else { panic!("there is none") };
        assert!(matches!(journals.open(&put), Ok(Found::New(_))), "nothing was begun");
        journal.commit(vec![Bytes::from_static(b"head")]).await.expect("writable");
        assert!(matches!(journals.open(&put), Ok(Found::New(_))), "it is in use");
        drop(journal);

        assert!(matches!(journals.open(&identity("put b", "one")), Ok(Found::New(_))));
        let Ok(Found::Begun(journal)) = journals.open(&put) else { panic!("it was begun") };
        assert_eq!(journal.next().await.expect("readable").as_deref(), Some(&b"head"[..]));
        drop(journal);
        let Ok(Found::Changed(journal)) = journals.open(&identity("put a", "two")) else {
            panic!("the source is another")
        };
        journal.leave().expect("renamed");
        assert!(matches!(journals.open(&put), Ok(Found::New(_))));
        assert_eq!(journals.names().expect("listable").len(), 1, "it waits to be released");

        let Ok(Found::New(journal)) = journals.open(&put) else { panic!("there is none") };
        journal.commit(vec![Bytes::from_static(b"head")]).await.expect("writable");
        journal.remove().expect("removable");
        assert!(matches!(journals.open(&put), Ok(Found::New(_))));
    }
}
