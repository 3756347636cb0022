//! Servers of S3 that are measured, and the client that measures them.

use std::path::Path;

use super::process::Usage;

pub(super) mod client;
pub(super) mod garage;
pub(super) mod own;

/// The bucket that is measured in.
pub(super) const BUCKET: &str = "measured";

/// Whose all is that the gateway serves, as it tells S3 clients.
pub(crate) struct Owner {
    pub(crate) name: String,
    pub(crate) id: String,
}

/// Where a server is, and who may ask it.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// As `http://IP:PORT`.
    pub(crate) address: String,
    /// What signatures are for.
    pub(crate) region: String,
    /// Who asks.
    pub(crate) key: String,
    /// What proves it.
    pub(crate) secret: String,
}

/// A server of S3, with all processes behind it.
pub(super) trait Server {
    /// Where it is.
    fn endpoint(&self) -> &Endpoint;

    /// What the process that clients talk to has used so far.
    fn face(&self) -> Usage;

    /// What the other processes have used so far, together.
    fn behind(&self) -> Usage;

    /// Forgets the peaks of memory, so that the next ones are of what follows.
    fn forget_peaks(&self);
}

/// What a file could not be written for.
fn failed(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
