//! The native API: objects, health, metrics.
//!
//! [`router`] is all of it: what is under `/api/v1`, the dashboard, metrics and probes, and manifests of public objects by the
//! conventions of the web. Every route is a row of a table (`routes`), which the router, the checks of tokens and the
//! description in OpenAPI are all made from. Beside them is WebDAV, which has a standard of its own.

mod answer;
mod assets;
mod buckets;
mod contents;
mod dav;
mod events;
mod extract;
mod info;
mod ipfs;
mod mesh;
mod metadata;
mod metrics;
mod objects;
mod openapi;
mod parts;
mod probes;
mod range;
mod routes;
mod samples;
mod stream;
mod table;
mod text;
mod token;
mod transfers;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use datamesh_engine::buckets::Buckets;
use datamesh_engine::world::World;
use tokio::sync::Semaphore;

use self::answer::Problem;
use self::mesh::MeshWatch;
use self::transfers::Transfers;
use self::uploads::UploadLocks;
use crate::Gateway;

/// How long a client may neither take nor give a byte before it is given up.
const STALL: Duration = Duration::from_secs(60);
/// Streams of events that may be open at once.
const EVENT_STREAMS_MAX: usize = 64;
/// Objects whose shards are looked up at once.
const INSPECTIONS_MAX: usize = 4;

/// What all requests share. Cheap to clone.
#[derive(Clone)]
struct Face(Arc<Shared>);

struct Shared {
    gateway: Gateway,
    transfers: Transfers,
    mesh: MeshWatch,
    locks: UploadLocks,
    event_streams: Arc<Semaphore>,
    inspections: Semaphore,
    openapi: String,
}

impl Face {
    fn buckets(&self) -> &Buckets {
        &self.0.gateway.buckets
    }

    fn world(&self) -> &World {
        self.0.gateway.buckets.world()
    }
}

/// The native face of a gateway: what it answers, by path.
pub fn router(gateway: Gateway) -> Router {
    let routes = routes::all();
    let dav = dav::add_to(Router::new(), &gateway.buckets);
    let clock = Arc::clone(&gateway.buckets.world().clock);
    let shared = Shared {
        openapi: openapi::document(&routes),
        gateway,
        transfers: Transfers::new(clock),
        mesh: MeshWatch::default(),
        locks: UploadLocks::default(),
        event_streams: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)),
        inspections: Semaphore::new(INSPECTIONS_MAX),
    };
    let face = Face(Arc::new(shared));
    let routed = routes.into_iter().fold(dav, |router, route| route.add_to(router, &face));
    let unknown = any(|| async { Problem::not_found("there is no such route".to_owned()) });
    routed.route("/api/{*rest}", unknown).with_state(face)
}
