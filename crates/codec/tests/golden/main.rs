//! The format, byte for byte: what this program writes and reads must never drift from the fixtures.
//!
//! A test that fails here says that objects, keys or messages of other versions will not be understood any more. The
//! fixtures are written anew only by hand, see "Fixtures" in docs/format.md.

mod buckets;
mod fixture;
mod keys;
mod manifest;
mod messages;
