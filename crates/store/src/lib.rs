//! The local disk: shards and manifest blocks, their index, and the client's catalog.
//!
//! [`Store`] keeps items so that a power cut can't take back what was acknowledged. Its parts: [`disk`] is what it may
//! ask of the machine; `segment` is the format on disk; `write` is the order of append, sync, index and acknowledge;
//! `recover` makes disk and index agree after a crash; `compact` gives space back; `read` reads.

pub mod cache;
pub mod catalog;
mod compact;
pub mod disk;
mod groups;
mod index;
pub mod journal;
pub mod map;
mod owners;
mod read;
mod recover;
mod scrub;
mod segment;
mod settings;
mod shared;
mod store;
mod verify;
mod write;

pub use crate::compact::Collected;
pub use crate::recover::{OpenError, Recovery};
pub use crate::scrub::Scrubbed;
pub use crate::segment::segment_of_name;
pub use crate::settings::StoreSettings;
pub use crate::shared::Mended;
pub use crate::store::Store;
pub use crate::verify::Findings;
