//! Arguments of the commands about identities.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use datamesh_node::home::Name;

use crate::args::json;

/// Arguments of `init`.
#[derive(Debug, Args)]
#[command(after_long_help = json::IDENTITY)]
pub struct InitArgs {
    /// Protect the identity with a password
    #[arg(long)]
    pub password: bool,
}

/// Arguments of `keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What to do with identities.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List the identities
    #[command(after_long_help = json::IDENTITY)]
    List,
    /// Make an identity
    New(KeysNewArgs),
    /// Make an identity the current one
    Use(KeysUseArgs),
    /// Replace the current identity by a new one, and keep the old one for reading
    Rotate(KeysRotateArgs),
    /// Print an identity's secret: whoever has it can read everything that the identity can
    Export(KeysExportArgs),
    /// Keep an identity whose secret was exported
    Import(KeysImportArgs),
}

/// Arguments of `keys new`.
#[derive(Debug, Args)]
#[command(after_long_help = json::IDENTITY)]
pub struct KeysNewArgs {
    /// What to call it
    pub name: Name,
    /// Protect it with a password
    #[arg(long)]
    pub password: bool,
}

/// Arguments of `keys use`.
#[derive(Debug, Args)]
#[command(after_long_help = json::IDENTITY)]
pub struct KeysUseArgs {
    /// Name of the identity
    pub name: Name,
}

/// Arguments of `keys rotate`.
#[derive(Debug, Args)]
#[command(after_long_help = json::IDENTITY)]
pub struct KeysRotateArgs {
    /// Protect the new identity with a password, where the old one has none
    #[arg(long)]
    pub password: bool,
}

/// Arguments of `keys export`.
#[derive(Debug, Args)]
#[command(after_long_help = json::SECRET)]
pub struct KeysExportArgs {
    /// Name of the identity [default: the current one]
    pub name: Option<Name>,
}

/// Arguments of `keys import`.
#[derive(Debug, Args)]
#[command(after_long_help = json::IDENTITY)]
pub struct KeysImportArgs {
    /// File with the secret; `-` is standard input [default: ask on the terminal]
    pub file: Option<PathBuf>,
    /// What to call it [default: main, or imported where that is taken]
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    /// Protect it with a password
    #[arg(long)]
    pub password: bool,
}
