//! The composition root: settings in, a running node out.

pub mod assemble;
pub mod files;
pub mod home;
pub mod journals;
pub mod keyring;
pub mod local;
pub mod measure;
pub mod scheme;
pub mod serve;
pub mod settings;
pub mod system;
