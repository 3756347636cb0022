//! One file per command, each `fn run(args, context, ui)`.

mod completions;
mod config;
mod error;
mod init;
mod join;
mod keys;
mod man;
mod networks;

use crate::args::Command;
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::Ui;

pub use error::{CommandError, exit_of};

/// How a command ends when somebody wants the program to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopping {
    /// It is dropped where it stands: what it began can be resumed or does no harm.
    Dropped,
    /// It goes on until then, and ends by itself in good order.
    Asked,
}

/// How this command ends when somebody wants the program to stop.
#[must_use]
pub const fn stopping(command: &Command) -> Stopping {
    match command {
        Command::Bootstrap(_) | Command::Service(_) | Command::Up(_) => Stopping::Asked,
        _ => Stopping::Dropped,
    }
}

/// Runs a command.
///
/// # Errors
/// Why it did not do what was asked.
///
/// # Cancel safety
/// A command whose [`stopping`] is [`Stopping::Dropped`] leaves nothing half done under a final name.
pub async fn run(command: &Command, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    match command {
        Command::Init(args) => init::run(args, context, ui),
        Command::Join(args) => join::run(args, context, ui),
        Command::Networks(args) => networks::run(args, context, ui),
        Command::Keys(args) => keys::run(args, context, ui),
        Command::Config(args) => config::run(args, context, ui),
        Command::Completions(args) => completions::run(args, ui),
        Command::Man(args) => man::run(args, ui),
        Command::Put(_)
        | Command::Get(_)
        | Command::List(_)
        | Command::Info(_)
        | Command::Stats(_)
        | Command::Verify(_)
        | Command::Repair(_)
        | Command::Delete(_)
        | Command::Bootstrap(_)
        | Command::Service(_)
        | Command::Peers(_)
        | Command::Health(_)
        | Command::Up(_)
        | Command::Demo(_)
        | Command::Bench(_) => Err(unwritten()),
    }
}

/// The one answer of the commands that have no file yet.
fn unwritten() -> CommandError {
    CommandError::new(Exit::Failed, "not built yet")
}
