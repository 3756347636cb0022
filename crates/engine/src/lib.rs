//! The storage engine: put, get, audit, and repair over an abstract world.
//!
//! Async over the traits of [`world`]; it has no runtime, no network and no disk of its own, so that a simulator runs the
//! code that production runs.

pub mod place;
pub mod ring;
pub mod world;
