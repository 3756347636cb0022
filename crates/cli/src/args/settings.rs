//! Arguments of the commands about settings and the program itself.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use crate::args::json;

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
    #[command(after_long_help = json::SETTING)]
    Show,
    /// Print one setting's value
    Get(ConfigGetArgs),
    /// Write a setting into the settings file; comments there stay
    Set(ConfigSetArgs),
    /// Check the settings file and the environment
    #[command(after_long_help = json::CHECK)]
    Check,
}

/// Arguments of `config get`.
#[derive(Debug, Args)]
#[command(after_long_help = json::SETTING)]
pub struct ConfigGetArgs {
    /// The setting, as in put.mode
    pub key: String,
}

/// Arguments of `config set`.
#[derive(Debug, Args)]
#[command(after_long_help = json::SETTING)]
pub struct ConfigSetArgs {
    /// The setting, as in put.mode
    pub key: String,
    /// Its value; a list has commas between
    #[arg(allow_hyphen_values = true)]
    pub value: String,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_long_help = json::COMPLETIONS)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
#[command(after_long_help = json::MAN)]
pub struct ManArgs {
    /// Directory to write the pages to
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}
