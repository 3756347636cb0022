//! One file per command, each `fn run(args, context, ui)`.

mod access;
mod admit;
mod bandwidth;
mod bench;
mod bench_fetch;
mod beside;
mod client;
mod completions;
mod config;
mod delete;
mod demo;
mod drain;
mod engine_error;
mod error;
mod gateway;
mod gc;
mod get;
mod health;
mod info;
mod init;
mod join;
mod keys;
mod list;
mod man;
mod metrics;
mod networks;
mod node;
mod peers;
mod put;
mod renew;
mod stats;
mod up;

use std::path::Path;

use datamesh_node::traces::Traces;

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
        Command::Bootstrap(_) | Command::Service(_) | Command::Gateway(_) | Command::Up(_) => Stopping::Asked,
        _ => Stopping::Dropped,
    }
}

/// Where the spans of the requests go that this command answers, if it answers any and the settings say where.
///
/// # Errors
/// When the settings are wrong, or nothing can be sent there.
pub fn traces(command: &Command, context: &Context) -> Result<Option<Traces>, CommandError> {
    let overrides = match command {
        Command::Bootstrap(args) => args.node.overrides(),
        Command::Service(args) => args.node.overrides(),
        Command::Gateway(args) => args.overrides(),
        Command::Up(args) if !args.beside.no_gateway => args.beside.overrides(),
        _ => return Ok(None),
    };
    let resolved = context.settings(overrides)?;
    let gateway = &resolved.settings().gateway;
    let beside = matches!(command, Command::Bootstrap(_) | Command::Service(_));
    if beside && !gateway.with_node.is_on() {
        return Ok(None);
    }
    Traces::start(&gateway.traces).map_err(|error| CommandError::from_error(Exit::Failed, error))
}

/// What somebody who has stopped this command can do.
#[must_use]
pub fn after_interrupt(command: &Command) -> Option<&'static str> {
    match command {
        Command::Put(_) => Some("the same command goes on from where it stopped, unless it reads a pipe"),
        Command::Get(args) if args.out.as_deref() != Some(Path::new("-")) => {
            Some("the same command goes on from where it stopped, unless it writes a folder")
        }
        _ => None,
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
        Command::Node(args) => drain::run(args, context, ui),
        Command::Keys(args) => keys::run(args, context, ui),
        Command::Config(args) => config::run(args, context, ui),
        Command::Completions(args) => completions::run(args, ui),
        Command::Man(args) => man::run(args, ui),
        Command::Put(args) => put::run(args, context, ui).await,
        Command::Get(args) => get::run(args, context, ui).await,
        Command::List(_) => list::run(context, ui),
        Command::Stats(_) => stats::run(context, ui),
        Command::Info(args) => info::run(args, context, ui).await,
        Command::Verify(args) => info::verify(args, context, ui).await,
        Command::Repair(args) => info::repair_command(args, context, ui).await,
        Command::Renew(args) => renew::run(args, context, ui).await,
        Command::Delete(args) => delete::run(args, context, ui).await,
        Command::Bootstrap(args) => Box::pin(node::bootstrap(args, context, ui)).await,
        Command::Service(args) => Box::pin(node::service(args, context, ui)).await,
        Command::Admit(args) => admit::run(args, context, ui).await,
        Command::Gateway(args) => Box::pin(gateway::run(args, context, ui)).await,
        Command::Access(args) => Box::pin(access::run(args, context, ui)).await,
        Command::Gc(args) => gc::run(args, context, ui).await,
        Command::Peers(_) => peers::run(context, ui).await,
        Command::Health(args) => health::run(args, context, ui).await,
        Command::Metrics(args) => metrics::run(args, context, ui).await,
        Command::Bandwidth(_) => bandwidth::run(context, ui).await,
        Command::Up(args) => Box::pin(up::run(args, context, ui)).await,
        Command::Demo(args) => Box::pin(demo::run(args, context, ui)).await,
        Command::Bench(args) => bench::run(args, context, ui).await,
        Command::BenchFetch(args) => bench_fetch::run(args, context, ui).await,
    }
}
