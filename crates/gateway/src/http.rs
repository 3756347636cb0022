//! The native API: objects, health, metrics.
