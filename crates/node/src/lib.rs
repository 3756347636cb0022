//! The composition root: settings in, a running node out.

mod accounts;
mod acquaintances;
pub mod assemble;
mod cached_items;
pub mod charter;
mod collect;
pub mod discard;
pub mod files;
pub mod home;
pub mod journals;
pub mod keyring;
pub mod local;
mod maintain;
pub mod measure;
pub mod metrics;
mod neighbours;
pub mod quotas;
mod receipting;
pub mod receipts;
pub mod scheme;
pub mod scores;
mod scrub;
pub mod serve;
pub mod settings;
pub mod system;
mod tuning;
