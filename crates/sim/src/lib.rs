//! A deterministic world: simulated network, disk, clock, and faults from one seed.
//!
//! One thread, a clock that stands still while anything can run, and one seed for all chance: a test that fails, fails
//! again under the same seed. Code under test must not draw on its own: `tokio::select!` and `futures::select!` choose
//! at random, their biased forms do not.

pub mod disk;
pub mod draw;
pub mod durability;
pub mod fault;
pub mod items;
pub mod network;
pub mod world;
