//! The `datamesh` command.
//!
//! Translates and decides nothing: [`args`] says what may be asked, [`command`] has one file for each command, [`ui`] alone
//! prints, [`exit`] says what the program ends with. A library as well, so that tests and the reference in
//! `docs/cli.md` read the same definition that the program parses with.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod args;
pub mod command;
pub mod context;
pub mod exit;
pub mod processes;
pub mod ui;
pub mod usage;
