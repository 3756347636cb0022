//! HTTP and S3 over an engine.
//!
//! One port serves all: what S3 clients ask, the native API under `/api/v1`, the dashboard, metrics, and public objects by the web's
//! conventions. Nothing is decided here: requests are translated to what `datamesh_engine` does, and back.

pub mod auth;
pub mod body;
mod escape;
pub mod http;
pub mod s3;
pub mod serve;
pub mod spans;

use std::sync::Arc;

use datamesh_engine::buckets::Buckets;

use crate::spans::Adopt;

/// Names of buckets that are not given, since other faces answer there.
pub const RESERVED_NAMES: [&str; 8] =
    ["api", "assets", "dashboard", "dav", "healthz", "ipfs", "metrics", "readyz"];

/// What a gateway serves. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    /// The buckets, and through them the engine's world.
    pub buckets: Buckets,
    /// How it presents itself.
    pub settings: Arc<GatewaySettings>,
    /// The numbers of this process, as Prometheus reads them.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Makes the span of a request part of its caller's trace.
    pub adopt: Adopt,
}

/// How a gateway presents itself.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// The region that clients sign for.
    pub region: String,
    /// The domain of which buckets are subdomains, for clients that address them so.
    pub domain: Option<String>,
    /// The name of the mesh.
    pub mesh: String,
}
