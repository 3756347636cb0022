//! Whose a backend's address is, and what lies there: settled before the first use, so that two nodes never mix their segments.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datamesh_core::encode::{decode, encode};
use datamesh_core::id::NodeId;
use datamesh_store::disk::{Disk, DiskFile, Files};
use datamesh_store::segment_of_name;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::holding::{Holding, Holdings};
use crate::remote::{Remote, RemoteError, UploadError};
use crate::shared::{
    BackendSettings, LocalSegment, Mark, Shared, State, about_of, folder_in, let_go, object_of, replace,
};

/// The object that says whose the address is.
const OBJECT: &str = "claim";
/// The file that says that this was settled.
const FILE: &str = "claim";
/// The file that one process has locked at a time.
const LOCK: &str = "lock";
const VERSION: u64 = 1;
/// Numbers that are claimed before they are used: so often the claim is written.
const NUMBERS_AHEAD: u64 = 64;
/// Segments that are asked about at once when the own disk is lost.
const ASKED_AT_ONCE: usize = 16;

/// Why a disk over a backend can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenBackendError {
    /// The own disk.
    #[error("{}: {source}", path.display())]
    Local {
        /// What was to be read or written.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The backend.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Somebody else's segments lie there.
    #[error(
        "the segments of {0} lie there: give this node an address of its own, or bring back that node's key"
    )]
    Claimed(NodeId),
    /// This node's segments lie elsewhere.
    #[error("this node's segments lie at {0}: they would not be found at another address")]
    Moved(String),
    /// What is written down can't be read.
    #[error("{what}: {why}")]
    Damaged {
        /// Which file or object.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Whose an address is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    version: u64,
    pub(crate) node: NodeId,
    /// No segment below this number lies there any more.
    pub(crate) first: u64,
    /// No segment above this number was ever written there.
    pub(crate) last: u64,
}

impl Claim {
    pub(crate) async fn read(remote: &Remote) -> Result<Option<Self>, OpenBackendError> {
        let Some(bytes) = remote.read_small(OBJECT).await? else { return Ok(None) };
        let claim: Self = decode(&bytes).map_err(|error| damaged(OBJECT, &error))?;
        if claim.version == VERSION {
            Ok(Some(claim))
        } else {
            Err(damaged(OBJECT, &"its version is a later one"))
        }
    }

    async fn write(&self, remote: &Remote) -> Result<(), RemoteError> {
        remote.write_small(OBJECT, encode(self)).await
    }

    /// Makes sure that the address is this node's and that a segment of this number would be found there.
    pub(crate) async fn cover(
        remote: &Remote,
        node: NodeId,
        first: u64,
        segment: u64,
    ) -> Result<(), OpenBackendError> {
        match Self::read(remote).await? {
            Some(claim) if claim.node != node => Err(OpenBackendError::Claimed(claim.node)),
            Some(claim) if (claim.first..=claim.last).contains(&segment) => Ok(()),
            _ => Ok(Self { version: VERSION, node, first, last: segment + NUMBERS_AHEAD }
                .write(remote)
                .await?),
        }
    }
}

/// Finds out where each segment is. It asks the backend where the own disk knows nothing of it, and for the last segment where
/// that is not local: the last one is written to.
pub(crate) async fn settle(
    local: &Arc<dyn Disk>,
    directory: &Path,
    remote: &Remote,
    settings: &BackendSettings,
) -> Result<State, OpenBackendError> {
    let folder = folder_in(directory);
    for made in [directory, &folder] {
        Files.create_directory(made).map_err(|source| failed(made, source))?;
    }
    let lock = local.lock(&folder.join(LOCK)).map_err(|source| match source.kind() {
        ErrorKind::WouldBlock => OpenBackendError::InUse(directory.to_owned()),
        _ => failed(&folder, source),
    })?;
    let now = settings.clock.elapsed();
    let near = local_segments(local, directory, now)?;
    let mut state = State { local: near, _lock: Some(lock), ..State::default() };
    let file = folder.join(FILE);
    let address = settings.address.to_string();
    match fs::read_to_string(&file) {
        Ok(claimed) if claimed == address => read_marks(&folder, &mut state)?,
        // Another way to the same place, as after a change of the endpoint.
        Ok(claimed) => match Claim::read(remote).await? {
            Some(claim) if claim.node == settings.node => {
                replace(&file, address.as_bytes()).map_err(|source| failed(&file, source))?;
                read_marks(&folder, &mut state)?;
            }
            _ => return Err(OpenBackendError::Moved(claimed)),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            state.held = first_contact(remote, settings.node).await?;
            for (segment, holding) in &state.held {
                let path = folder.join(Mark::Held.name_of(*segment));
                replace(&path, &holding.encode()).map_err(|source| failed(&path, source))?;
            }
            replace(&file, address.as_bytes()).map_err(|source| failed(&file, source))?;
        }
        Err(source) => return Err(failed(&file, source)),
    }
    // A segment that is local as well was on its way, there or back. The own disk's counts: the other goes.
    let doubled: Vec<u64> =
        state.held.keys().filter(|segment| state.local.contains_key(segment)).copied().collect();
    for segment in doubled {
        forget_held(&folder, &mut state, segment)?;
    }
    bring_back_last(local, directory, remote, &mut state, now).await?;
    Ok(state)
}

/// Claims the address, or finds what this node has put there before its own disk was lost.
async fn first_contact(remote: &Remote, node: NodeId) -> Result<Holdings, OpenBackendError> {
    let Some(claim) = Claim::read(remote).await? else {
        Claim { version: VERSION, node, first: 0, last: NUMBERS_AHEAD }.write(remote).await?;
        return Ok(Holdings::new());
    };
    if claim.node != node {
        return Err(OpenBackendError::Claimed(claim.node));
    }
    let asked = stream::iter(claim.first..=claim.last).map(|segment| async move {
        let name = about_of(segment);
        let Some(bytes) = remote.read_small(&name).await? else { return Ok(None) };
        let holding = Holding::decode(&bytes).map_err(|error| damaged(&name, &error))?;
        Ok::<_, OpenBackendError>(Some((segment, holding)))
    });
    let found: Vec<Option<(u64, Holding)>> = asked.buffer_unordered(ASKED_AT_ONCE).try_collect().await?;
    let holdings: Holdings = found.into_iter().flatten().collect();
    tracing::info!(segment_count = holdings.len(), "this node's segments were found at its backend");
    Ok(holdings)
}

fn local_segments(
    local: &Arc<dyn Disk>,
    directory: &Path,
    now: Duration,
) -> Result<std::collections::BTreeMap<u64, LocalSegment>, OpenBackendError> {
    let names = local.list(directory).map_err(|source| failed(directory, source))?;
    let segments = names.iter().filter_map(|name| Some((segment_of_name(name)?, name)));
    segments
        .map(|(segment, name)| {
            let path = directory.join(name);
            let file = local.open(&path).map_err(|source| failed(&path, source))?;
            Ok((segment, LocalSegment::new(file, now)))
        })
        .collect()
}

fn read_marks(folder: &Path, state: &mut State) -> Result<(), OpenBackendError> {
    let mut moving = Vec::new();
    let entries = fs::read_dir(folder).map_err(|source| failed(folder, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| failed(folder, source))?;
        let mark = entry.file_name().to_str().and_then(Mark::of_name);
        match mark {
            Some((Mark::Held, segment)) => {
                let path = entry.path();
                let bytes = fs::read(&path).map_err(|source| failed(&path, source))?;
                let holding =
                    Holding::decode(&bytes).map_err(|error| damaged(&path.display().to_string(), &error))?;
                state.held.insert(segment, holding);
            }
            Some((Mark::Moving, segment)) => moving.push(segment),
            Some((Mark::Removed, segment)) => {
                state.removed.insert(segment);
            }
            None => {}
        }
    }
    // It was removed while it was on its way.
    let gone = |segment: &u64| !state.local.contains_key(segment) && !state.held.contains_key(segment);
    let gone: Vec<u64> = moving.into_iter().filter(gone).collect();
    state.removed.extend(gone);
    // What the backend was told of them is not written down: it is told again.
    let patched = state.held.iter().filter(|(_, holding)| holding.is_patched()).map(|(segment, _)| *segment);
    state.changed = patched.collect();
    Ok(())
}

/// Makes the last segment local again: the store goes on writing to it.
async fn bring_back_last(
    local: &Arc<dyn Disk>,
    directory: &Path,
    remote: &Remote,
    state: &mut State,
    now: Duration,
) -> Result<(), OpenBackendError> {
    let Some((segment, holding)) = state.held.last_key_value() else { return Ok(()) };
    let segment = *segment;
    if state.local.last_key_value().is_some_and(|(last, _)| *last > segment) {
        return Ok(());
    }
    let file = fetch_back(local, directory, remote, segment, holding).await?;
    name_fetched(local, directory, segment).map_err(|source| failed(directory, source))?;
    forget_held(&folder_in(directory), state, segment)?;
    state.local.insert(segment, LocalSegment::new(file, now));
    Ok(())
}

/// From now on the segment is the own disk's, and what lies at the backend is removed.
fn forget_held(folder: &Path, state: &mut State, segment: u64) -> Result<(), OpenBackendError> {
    let_go(folder, segment).map_err(|source| failed(folder, source))?;
    state.held.remove(&segment);
    state.changed.remove(&segment);
    state.removed.insert(segment);
    Ok(())
}

/// Where a segment is until it is whole: a name that the store doesn't know.
pub(crate) fn fetched_path(directory: &Path, segment: u64) -> PathBuf {
    directory.join(object_of(segment)).with_extension("unfinished")
}

/// Copies a segment from the backend to the own disk as it counts now, durably but for its name.
pub(crate) async fn fetch_back(
    local: &Arc<dyn Disk>,
    directory: &Path,
    remote: &Remote,
    segment: u64,
    holding: &Holding,
) -> Result<Arc<dyn DiskFile>, OpenBackendError> {
    let unfinished = fetched_path(directory, segment);
    let _ = local.remove(&unfinished);
    let file = local.create(&unfinished).map_err(|source| failed(&unfinished, source))?;
    let take = |bytes: &[u8], at: u64| {
        let mut bytes = bytes.to_vec();
        holding.lay_over(at, &mut bytes);
        file.write_all_at(&[&bytes], at)
    };
    let downloaded = remote.download(&object_of(segment), holding.stored_size, &holding.hash, take).await;
    downloaded.map_err(|error| match error {
        UploadError::Local(source) => failed(&unfinished, source),
        UploadError::Remote(error) => error.into(),
    })?;
    file.set_size(holding.size)
        .and_then(|()| file.sync_data())
        .map_err(|source| failed(&unfinished, source))?;
    Ok(file)
}

/// Gives a segment that was fetched back its name, durably: from now on a start goes by it.
pub(crate) fn name_fetched(local: &Arc<dyn Disk>, directory: &Path, segment: u64) -> io::Result<()> {
    local.rename(&fetched_path(directory, segment), &directory.join(object_of(segment)))?;
    local.sync_directory(directory)
}

fn failed(path: &Path, source: io::Error) -> OpenBackendError {
    OpenBackendError::Local { path: path.to_owned(), source }
}

fn damaged(what: &str, why: &dyn std::fmt::Display) -> OpenBackendError {
    OpenBackendError::Damaged { what: what.to_owned(), why: why.to_string() }
}

/// The lowest number of a segment that lies at the backend or may come to.
pub(crate) fn first_of(shared: &Shared) -> u64 {
    let state = shared.state();
    let firsts = [state.local.keys().next(), state.held.keys().next(), state.removed.iter().next()];
    firsts.into_iter().flatten().min().copied().unwrap_or_default()
}
