//! Moves closed segments to the backend, brings back what is wanted much, and removes there what is not wanted any more.
//!
//! A segment is removed locally only once the backend has it whole, read back and compared, and the own disk has that written
//! down. What fails is tried again after a pause; meanwhile all stays where it is.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::claim::{Claim, OpenBackendError, fetch_back, fetched_path, first_of, name_fetched};
use crate::holding::{HEAD_SIZE, Holding};
use crate::remote::{RemoteError, UploadError, add};
use crate::shared::{BackendSettings, LocalSegment, Mark, Shared, about_of, object_of};
use crate::warmth::{Near, Next, is_full, next_to_go};

const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long somebody may write to a closed segment until it is looked at again.
const WRITERS_PAUSE: Duration = Duration::from_millis(20);
/// How long nothing is looked at where nothing is due.
const REST_MAX: Duration = Duration::from_secs(60 * 60);

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
            Ok(due) => {
                pause = PAUSE_MIN;
                let now = shared.settings.clock.elapsed();
                let rest = due.map_or(Duration::MAX, |due| due.saturating_sub(now)).min(REST_MAX);
                tokio::select! {
                    () = shared.settings.clock.sleep(rest) => {}
                    () = shared.work.notified() => {}
                }
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

/// Does all that there is to do now, and says when there will be more.
async fn round(shared: &Shared) -> Result<Option<Duration>, MoveError> {
    loop {
        let (removed, changed, recalled) = {
            let state = shared.state();
            (state.removed.first().copied(), state.changed.first().copied(), state.recalled.first().copied())
        };
        if let Some(segment) = removed {
            remove(shared, segment).await?;
        } else if let Some(segment) = changed {
            tell(shared, segment).await?;
        } else if let Some(segment) = recalled {
            recall(shared, segment).await?;
        } else {
            match next_closed(shared)? {
                Next::Now(segment) => move_segment(shared, segment).await?,
                Next::Later(due) => return Ok(Some(due)),
                Next::Nothing => return Ok(None),
            }
        }
    }
}

/// Which local segment goes next, of those that are closed and have enough behind them.
fn next_closed(shared: &Shared) -> io::Result<Next> {
    let locals: Vec<_> = {
        let state = shared.state();
        let locals = state.local.iter();
        locals.map(|(segment, local)| (*segment, local.wanted, Arc::clone(&local.file))).collect()
    };
    let Some(((.., written), closed)) = locals.split_last() else { return Ok(Next::Nothing) };
    // The newest closed one stays in any case: a start that finds the last one torn goes on with it.
    let kept = shared.settings.local_size_kept.max(1);
    let (mut newer, mut near) = (0, Vec::new());
    for (segment, wanted, file) in closed.iter().rev() {
        if newer >= kept {
            near.push(Near { segment: *segment, wanted: *wanted });
        }
        newer += file.size()?;
    }
    let BackendSettings { clock, cold_after, local_size_max, .. } = &shared.settings;
    let is_full = is_full(newer + written.size()?, *local_size_max);
    Ok(next_to_go(near.into_iter(), clock.elapsed(), *cold_after, is_full))
}

/// Makes a segment local again that is wanted much, if there is room. What can't be had now stays where it is.
async fn recall(shared: &Shared, segment: u64) -> Result<(), MoveError> {
    let holding = {
        let mut state = shared.state();
        state.recalled.remove(&segment);
        state.demand.forget(segment);
        state.held.get(&segment).cloned()
    };
    let Some(holding) = holding else { return Ok(()) };
    if is_full(shared.local_size()? + holding.size, shared.settings.local_size_max) {
        return Ok(());
    }
    let file = fetch_back(&shared.local, &shared.directory, &shared.remote, segment, &holding).await?;
    let mut state = shared.state();
    if state.held.get(&segment) != Some(&holding) {
        // It was removed or changed meanwhile: when it is wanted again it is tried again.
        shared.local.remove(&fetched_path(&shared.directory, segment))?;
        return Ok(());
    }
    name_fetched(&shared.local, &shared.directory, segment)?;
    shared.let_go(&mut state, segment)?;
    state.local.insert(segment, LocalSegment::new(file, shared.settings.clock.elapsed()));
    drop(state);
    shared.ahead().forget(segment);
    add(&shared.recalled_count, 1);
    Ok(())
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
