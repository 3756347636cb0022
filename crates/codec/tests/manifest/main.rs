//! Manifests: what is written is read back, and what was not written is refused.

mod hostile;
mod round_trip;
mod support;
