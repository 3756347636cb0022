//! Arguments of the commands about settings and the program itself.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

/// Arguments of `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every setting, its value and where that comes from
    Show,
    /// Print one setting's value
    Get(ConfigGetArgs),
    /// Write a setting into the settings file; comments there stay
    Set(ConfigSetArgs),
    /// Check the settings file and the environment
    Check,
}

/// Arguments of `config get`.
#[derive(Debug, Args)]
pub struct ConfigGetArgs {
    /// The setting, as in put.mode
    pub key: String,
}

/// Arguments of `config set`.
#[derive(Debug, Args)]
pub struct ConfigSetArgs {
    /// The setting, as in put.mode
    pub key: String,
    /// Its value; a list has commas between
    #[arg(allow_hyphen_values = true)]
    pub value: String,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Directory to write the pages to
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}
