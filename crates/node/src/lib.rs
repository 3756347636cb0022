//! The composition root: settings in, a running node out.

pub mod home;
pub mod keyring;
pub mod settings;
