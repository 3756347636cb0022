//! The transfers of this face: those under way, and the last that ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::State;
use datamesh_engine::progress::{Event, Observer, Paced, Unobserved};
use datamesh_engine::world::Clock;
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::Face;
use crate::http::answer::Problem;
use crate::http::extract::InPath;

/// Transfers that are remembered after their end.
const ENDED_MAX: usize = 64;
/// Transfers that are told of.
const SHOWN_MAX: usize = 512;

/// Where bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    /// Into the mesh.
    Put,
    /// Out of it.
    Get,
}

/// How a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    Running,
    Completed,
    Broken,
}

/// What is shown of a transfer.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct TransferView {
    transfer: u64,
    way: Way,
    name: String,
    phase: Phase,
    bytes_done: u64,
    /// `null` where that is not known yet.
    bytes_expected: Option<u64>,
    chunks_done: u64,
    bytes_per_second: f64,
    /// `null` where that can't be told.
    seconds_left: Option<f64>,
    /// Why it broke off.
    error: Option<String>,
}

/// All transfers of a face. Cheap to clone.
#[derive(Clone)]
pub(super) struct Transfers {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<Lists>>,
}

#[derive(Default)]
struct Lists {
    next: u64,
    running: BTreeMap<u64, Arc<Running>>,
    ended: VecDeque<TransferView>,
}

struct Running {
    id: u64,
    way: Way,
    name: String,
    paced: Paced,
    /// Once it has ended: why, if it broke off.
    end: Mutex<Option<Option<String>>>,
    transfers: Transfers,
}

/// One transfer, told of until the last copy of this is dropped.
#[derive(Clone)]
pub(super) struct Tracked(Arc<Holder>);

/// Ends a transfer when it is dropped. Apart from [`Running`], which the list of transfers holds too.
struct Holder(Arc<Running>);

impl Transfers {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Arc::default() }
    }

    /// Begins to tell of a transfer.
    pub(super) fn begin(&self, way: Way, name: &str, bytes_expected: Option<u64>) -> Tracked {
        let paced = Paced::new(Arc::new(Unobserved), Arc::clone(&self.clock));
        if let Some(bytes) = bytes_expected {
            paced.observe(Event::Expected { bytes });
        }
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        let running =
            Running { id, way, name: name.to_owned(), paced, end: Mutex::default(), transfers: self.clone() };
        let running = Arc::new(running);
        state.running.insert(id, Arc::clone(&running));
        Tracked(Arc::new(Holder(running)))
    }

    /// Those under way, then those that ended last.
    pub(super) fn views(&self) -> Vec<TransferView> {
        let state = self.state();
        let running: Vec<Arc<Running>> = state.running.values().take(SHOWN_MAX).map(Arc::clone).collect();
        let ended: Vec<TransferView> = state.ended.iter().rev().cloned().collect();
        drop(state);
        running.iter().map(|running| running.view()).chain(ended).collect()
    }

    pub(super) fn view(&self, id: u64) -> Option<TransferView> {
        let state = self.state();
        let running = state.running.get(&id).map(Arc::clone);
        let ended = state.ended.iter().find(|view| view.transfer == id).cloned();
        drop(state);
        running.map(|running| running.view()).or(ended)
    }

    fn state(&self) -> MutexGuard<'_, Lists> {
        // Nothing that holds the lock can leave the lists half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn view(&self) -> TransferView {
        let progress = self.paced.progress();
        let end = self.end().clone();
        let phase = match &end {
            None => Phase::Running,
            Some(None) => Phase::Completed,
            Some(Some(_)) => Phase::Broken,
        };
        TransferView {
            transfer: self.id,
            way: self.way,
            name: self.name.clone(),
            phase,
            bytes_done: progress.bytes_done,
            bytes_expected: progress.bytes_expected,
            chunks_done: progress.chunks_done,
            bytes_per_second: progress.rate,
            seconds_left: progress.remaining.map(|left| left.as_secs_f64()),
            error: end.flatten(),
        }
    }

    fn end(&self) -> MutexGuard<'_, Option<Option<String>>> {
        // Nothing that holds the lock can leave it half changed.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracked {
    /// More bytes are where they were to go.
    pub(super) fn advance(&self, bytes: u64) {
        self.0.0.paced.observe(Event::Advanced { bytes });
    }

    /// Bytes that were there before.
    pub(super) fn resume(&self, bytes: u64) {
        self.0.0.paced.observe(Event::Resumed { bytes });
    }

    /// It has ended; with why, if it broke off.
    pub(super) fn ended(&self, why: Option<&str>) {
        *self.0.0.end() = Some(why.map(str::to_owned));
    }
}

impl Observer for Tracked {
    fn observe(&self, event: Event) {
        if let Event::Advanced { bytes } = event {
            self.advance(bytes);
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let running = &self.0;
        running.end().get_or_insert_with(|| Some("it was given up".to_owned()));
        let view = running.view();
        let mut state = running.transfers.state();
        state.running.remove(&running.id);
        state.ended.push_back(view);
        if state.ended.len() > ENDED_MAX {
            state.ended.pop_front();
        }
    }
}

pub(super) async fn list(State(face): State<Face>) -> Json<Vec<TransferView>> {
    Json(face.0.transfers.views())
}

pub(super) async fn one(
    State(face): State<Face>,
    InPath(id): InPath<u64>,
) -> Result<Json<TransferView>, Problem> {
    let view = face.0.transfers.view(id);
    view.map(Json)
        .ok_or_else(|| Problem::not_found(format!("there is no transfer {id}, or it ended long ago")))
}

impl TransferView {
    /// Whether nothing more will become of it.
    pub(super) fn is_over(&self) -> bool {
        self.phase != Phase::Running
    }
}
