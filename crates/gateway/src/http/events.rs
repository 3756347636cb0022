//! Server-sent events: what changes in the mesh and how transfers go, a second after it does.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use crate::http::Face;
use crate::http::answer::Problem;
use crate::http::extract::InPath;
use crate::http::mesh::{
    HealthView, PeerView, RepairsView, TrafficView, health_view, peer_views, traffic_view,
};
use crate::http::transfers::TransferView;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// How long nothing may be said, so that nobody between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What an event `mesh` tells.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct MeshEvent {
    health: HealthView,
    peers: Vec<PeerView>,
    repairs: Vec<RepairsView>,
}

/// What an event `transfers` tells.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(super) struct TransfersEvent {
    traffic: TrafficView,
    transfers: Vec<TransferView>,
}

/// What one listener was told last, and what it is yet to be told.
struct Listener {
    face: Face,
    _permit: OwnedSemaphorePermit,
    mesh: Option<MeshEvent>,
    transfers: Option<TransfersEvent>,
    pending: VecDeque<Event>,
    looks: u64,
}

impl Listener {
    /// The next news, however long there are none.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some((Ok(event), self));
            }
            // The first two looks are at once: nodes that do not answer keep nobody from being told of transfers.
            if self.looks > 1 {
                sleep(EVERY).await;
            }
            self.look_at_transfers();
            if self.looks > 0 {
                self.look_at_mesh().await;
            }
            self.looks += 1;
        }
    }

    fn look_at_transfers(&mut self) {
        let (traffic, transfers) = (traffic_view(&self.face), self.face.0.transfers.views());
        let found = TransfersEvent { traffic, transfers };
        if self.transfers.as_ref() != Some(&found) {
            self.pending.push_back(event("transfers", &found));
            self.transfers = Some(found);
        }
    }

    async fn look_at_mesh(&mut self) {
        let overview = self.face.overview().await;
        let repairs = self.face.repairs().await;
        let found = MeshEvent { health: health_view(&overview), peers: peer_views(&overview), repairs };
        if self.mesh.as_ref().is_none_or(|known| known.differs(&found)) {
            self.pending.push_back(event("mesh", &found));
            self.mesh = Some(found);
        }
    }
}

impl MeshEvent {
    /// Whether anything but how long nodes take and have been up is another.
    fn differs(&self, other: &Self) -> bool {
        let peers = |event: &Self| event.peers.iter().map(PeerView::lasting).collect::<Vec<_>>();
        self.health.lasting() != other.health.lasting()
            || self.repairs != other.repairs
            || peers(self) != peers(other)
    }
}

fn event<T: Serialize>(name: &str, value: &T) -> Event {
    // Serialising a view of plain values to memory can't fail.
    let text = serde_json::to_string(value).unwrap_or_default();
    Event::default().event(name).data(text)
}

fn answer(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let unbuffered = [(CACHE_CONTROL, "no-store"), (HeaderName::from_static("x-accel-buffering"), "no")];
    (unbuffered, Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))).into_response()
}

fn permit(face: &Face) -> Result<OwnedSemaphorePermit, Problem> {
    let permit = face.0.event_streams.clone().try_acquire_owned();
    permit.map_err(|_| Problem::busy("too many streams of events are open".to_owned()))
}

pub(super) async fn all(State(face): State<Face>) -> Result<Response, Problem> {
    let permit = permit(&face)?;
    let pending = VecDeque::new();
    let listener = Listener { face, _permit: permit, mesh: None, transfers: None, pending, looks: 0 };
    Ok(answer(stream::unfold(listener, Listener::next)))
}

/// What is told of one transfer, up to its end.
struct Following {
    face: Face,
    _permit: OwnedSemaphorePermit,
    id: u64,
    last: Option<TransferView>,
}

impl Following {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if self.last.as_ref().is_some_and(TransferView::is_over) {
                return None;
            }
            let view = self.face.0.transfers.view(self.id)?;
            if self.last.as_ref() != Some(&view) {
                let event = event("transfer", &view);
                self.last = Some(view);
                return Some((Ok(event), self));
            }
            sleep(EVERY).await;
        }
    }
}

pub(super) async fn of_transfer(
    State(face): State<Face>,
    InPath(id): InPath<u64>,
) -> Result<Response, Problem> {
    let permit = permit(&face)?;
    if face.0.transfers.view(id).is_none() {
        return Err(Problem::not_found(format!("there is no transfer {id}, or it ended long ago")));
    }
    Ok(answer(stream::unfold(Following { face, _permit: permit, id, last: None }, Following::next)))
}
