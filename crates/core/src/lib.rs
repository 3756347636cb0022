//! The nouns: every type two nodes must agree on, and its one canonical encoding.
//!
//! Nothing here does I/O, reads a clock or draws randomness: time and entropy arrive as arguments.

pub mod admission;
pub mod bucket;
pub mod encode;
pub mod health;
pub mod id;
pub mod lease;
pub mod limits;
pub mod manifest;
pub mod placement;
pub mod receipt;
pub mod scheme;
pub mod sign;
pub mod summary;
pub mod time;
pub mod topology;
pub mod wire;
