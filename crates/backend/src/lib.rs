//! The disk of a node with a backend: closed segments lie at an S3-compatible store, a Redis server or a folder, one object each.
//!
//! [`BackendDisk`] is a [`datamesh_store::disk::Disk`] over the machine's own. The index and the segment that is being
//! written stay local, so that an item is acknowledged when the own disk has it; a segment that is full moves to the backend
//! afterwards, at once or when nobody has wanted anything of it for long, and comes back when much of it is wanted. All that a store does, it does as over any other disk. `docs/tiers.md` says why and what follows from it.

mod address;
mod ahead;
mod claim;
mod disk;
mod holding;
mod movement;
mod remote;
mod secrets;
mod shared;
mod warmth;

pub use crate::address::{Address, ParseAddressError, RedisTransport};
pub use crate::claim::OpenBackendError;
pub use crate::disk::BackendDisk;
pub use crate::remote::RemoteError;
pub use crate::secrets::Secrets;
pub use crate::shared::{BackendFigures, BackendSettings};
