//! How long objects live: a mesh of thousands of nodes over years, event by event, and the rare losses behind it.
//!
//! Messages are not simulated, decisions are, by the code that takes them in production: who holds what and who steps in
//! ([`datamesh_engine::ring`]), what is repaired first ([`datamesh_engine::urgency`]), how an object stands
//! ([`datamesh_engine::health::score`], [`datamesh_engine::place::survival`]).
//!
//! [`mesh`] runs the whole mesh and counts. Losses that ten years of ten thousand nodes don't show are reached by
//! [`splitting`] over one stripe, whose repairs take as long as they took in the mesh. [`markov`] is what textbooks
//! compute, [`study`] all of it for a table.

pub mod agenda;
pub mod chance;
pub mod layout;
pub mod lifetime;
pub mod markov;
pub mod mesh;
pub mod settings;
pub mod splitting;
pub mod statistics;
pub mod study;
