//! The storage engine: put, get, and repair over an abstract world.
//!
//! Async over the traits of [`world`]; it has no runtime, no network and no disk of its own, so that a simulator runs the
//! code that production runs.

pub mod alert;
pub mod buckets;
pub mod cached;
pub mod catalog;
pub mod enrol;
pub mod forecast;
pub mod get;
pub mod health;
pub mod journal;
pub mod keep;
pub mod overview;
pub mod pace;
pub mod place;
pub mod popular;
pub mod progress;
pub mod put;
pub mod release;
pub mod renew;
pub mod repair;
pub mod ring;
pub mod rings;
mod source;
pub mod standing;
pub mod survey;
pub mod traffic;
pub mod transfer;
pub mod urgency;
pub mod walk;
pub mod world;

pub use walk::WalkError;
