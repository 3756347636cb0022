//! Moves closed segments to the backend, and removes there what is not wanted any more.
//!
//! A segment is removed locally only once the backend has it whole, read back and compared, and the own disk has that written
//! down. What fails is tried again after a pause; meanwhile all stays where it is.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::claim::{Claim, OpenBackendError, first_of};
use crate::holding::{HEAD_SIZE, Holding};
use crate::remote::{RemoteError, UploadError};
use crate::shared::{Mark, Shared, about_of, object_of};

const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long somebody may write to a closed segment until it is looked at again.
const WRITERS_PAUSE: Duration = Duration::from_millis(20);

/// Why something was not moved.
#[derive(Debug, thiserror::Error)]
enum MoveError {
    #[error("own disk: {0}")]
    Local(#[from] io::Error),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Claim(#[from] OpenBackendError),
}

impl From<UploadError> for MoveError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Local(error) => Self::Local(error),
            UploadError::Remote(error) => Self::Remote(error),
        }
    }
}

/// Starts the thread that moves. It ends soon after the disk is closing.
pub(crate) fn start(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let runtime = shared.settings.runtime.clone();
    let work = move || runtime.block_on(run(&shared));
    thread::Builder::new().name("backend-move".to_owned()).spawn(work)
}

async fn run(shared: &Shared) {
    let mut pause = PAUSE_MIN;
    while !shared.is_closing() {
        // What is dropped half done is begun anew by the next start.
        let round = tokio::select! {
            biased;
            round = round(shared) => round,
            () = closing(shared) => return,
        };
        match round {
            Ok(()) => {
                pause = PAUSE_MIN;
                shared.work.notified().await;
            }
            Err(error) => {
                tracing::warn!(%error, pause_s = pause.as_secs(), "segments wait to be moved to the backend");
                tokio::select! {
                    () = shared.settings.clock.sleep(pause) => {}
                    () = closing(shared) => return,
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// Completes when the disk is closing.
async fn closing(shared: &Shared) {
    while !shared.is_closing() {
        shared.work.notified().await;
    }
}

/// Does all that there is to do.
async fn round(shared: &Shared) -> Result<(), MoveError> {
    loop {
        let (removed, changed) = {
            let state = shared.state();
            (state.removed.first().copied(), state.changed.first().copied())
        };
        if let Some(segment) = removed {
            remove(shared, segment).await?;
        } else if let Some(segment) = changed {
            tell(shared, segment).await?;
        } else if let Some(segment) = next_closed(shared)? {
            move_segment(shared, segment).await?;
        } else {
            return Ok(());
        }
    }
}

/// The first local segment that is closed and has enough behind it.
fn next_closed(shared: &Shared) -> io::Result<Option<u64>> {
    let files: Vec<_> =
        shared.state().local.iter().map(|(segment, local)| (*segment, Arc::clone(&local.file))).collect();
    let Some((_, closed)) = files.split_last() else { return Ok(None) };
    // The newest closed one stays in any case: a start that finds the last one torn goes on with it.
    let kept = shared.settings.local_size_kept.max(1);
    let mut newer = 0;
    let mut next = None;
    for (segment, file) in closed.iter().rev() {
        if newer >= kept {
            next = Some(*segment);
        }
        newer += file.size()?;
    }
    Ok(next)
}

async fn remove(shared: &Shared, segment: u64) -> Result<(), MoveError> {
    // What is known of it goes first: without that nobody looks for it.
    shared.remote.remove(&about_of(segment)).await?;
    shared.remote.remove(&object_of(segment)).await?;
    shared.unmark(Mark::Moving, segment)?;
    shared.unmark(Mark::Removed, segment)?;
    shared.state().removed.remove(&segment);
    Ok(())
}

/// Tells the backend what is known of a segment, which has changed.
async fn tell(shared: &Shared, segment: u64) -> Result<(), MoveError> {
    let holding = {
        let mut state = shared.state();
        state.changed.remove(&segment);
        state.held.get(&segment).cloned()
    };
    let Some(holding) = holding else { return Ok(()) };
    let told = shared.remote.write_small(&about_of(segment), holding.encode()).await;
    if told.is_err() {
        shared.state().changed.insert(segment);
    }
    Ok(told?)
}

async fn move_segment(shared: &Shared, segment: u64) -> Result<(), MoveError> {
    Claim::cover(&shared.remote, shared.settings.node, first_of(shared), segment).await?;
    let Some((file, write_count)) = at_rest(shared, segment) else {
        shared.settings.clock.sleep(WRITERS_PAUSE).await;
        return Ok(());
    };
    shared.mark(Mark::Moving, segment)?;
    let size = file.size()?;
    let part = |bytes: &mut [u8], at: u64| file.read_exact_at(bytes, at);
    let hash = shared.remote.upload(&object_of(segment), size, part).await?;
    let mut head = vec![0; HEAD_SIZE.min(usize::try_from(size).unwrap_or(HEAD_SIZE))];
    file.read_exact_at(&mut head, 0)?;
    let holding = Holding::new(size, hash, head);
    shared.remote.write_small(&about_of(segment), holding.encode()).await?;
    switch(shared, segment, write_count, holding)?;
    Ok(())
}

/// A local segment and how often it was written, if nobody is writing to it.
fn at_rest(shared: &Shared, segment: u64) -> Option<(Arc<dyn datamesh_store::disk::DiskFile>, u64)> {
    let state = shared.state();
    let local = state.local.get(&segment)?;
    (local.writer_count == 0).then(|| (Arc::clone(&local.file), local.write_count))
}

/// From now on the segment is read from the backend, if it is still what was moved.
fn switch(shared: &Shared, segment: u64, write_count: u64, holding: Holding) -> Result<(), MoveError> {
    let mut state = shared.state();
    match state.local.get(&segment) {
        // It was removed meanwhile.
        None => {
            shared.mark(Mark::Removed, segment)?;
            state.removed.insert(segment);
            return Ok(());
        }
        // It was written to meanwhile: it goes again.
        Some(local) if local.writer_count > 0 || local.write_count != write_count => return Ok(()),
        Some(_) => {}
    }
    shared.save(segment, &holding)?;
    shared.unmark(Mark::Moving, segment)?;
    state.local.remove(&segment);
    state.held.insert(segment, holding);
    let path = shared.directory.join(object_of(segment));
    shared.local.remove(&path)?;
    shared.local.sync_directory(&shared.directory)?;
    Ok(())
}
