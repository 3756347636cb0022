//! The verbs on bytes: chunk, compress, seal, stripe, and the four inverses.
//!
//! Pure and synchronous: time and entropy arrive as arguments, so that the same inputs give the same bytes everywhere.

pub mod chunk;
pub mod compress;
pub mod keys;
pub mod manifest;
pub mod seal;
pub mod stripe;
pub mod tree;
