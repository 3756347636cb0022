//! Manifests: written as their stripes come, opened again block by block, a single path of the tree in memory.
//!
//! The types and their bounds are in [`datamesh_core::manifest`]; who has no key reads public halves with them alone.

mod read;
mod seek;
mod write;

pub use read::{OpenBlockError, OpenRoot, OpenRootError, StripeEntry, Subtree};
pub use seek::seek;
pub use write::{Block, FinishError, Finished, ManifestWriter, NewManifestError, fits_inline};
