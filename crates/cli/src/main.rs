//! The `datamesh` program: parses, runs one command, and ends with its exit code.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use datamesh_cli::args::Args;
use datamesh_cli::command::{self, CommandError, Stopping};
use datamesh_cli::context::{Context, Interrupt};
use datamesh_cli::exit::Exit;
use datamesh_cli::ui::{self, Ui};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How long work that can't be dropped may go on after the command has ended.
const GRACE: Duration = Duration::from_secs(1);

/// Larger than any buffer on the path of a chunk.
const LARGEST_BLOCK: usize = 4 << 20;

fn main() -> ExitCode {
    keep_freed_memory();
    let arguments = match Args::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return ui::command_line_error(&error).code().into(),
    };
    let ui = Ui::new(&arguments.global);
    let exit = match start(&arguments, &ui) {
        Ok(()) => Exit::Done,
        Err(error) => {
            ui.error(&error);
            error.exit()
        }
    };
    exit.code().into()
}

/// Chunks and shards are allocated and freed all the time. Up to the size of the largest block that was ever freed, glibc takes
/// blocks from memory that it keeps (see `M_MMAP_THRESHOLD` in mallopt(3)); larger ones it has mapped anew, whose
/// pages the kernel zeroes one by one: a sixth of the processor time of a get. Elsewhere this does nothing.
fn keep_freed_memory() {
    drop(black_box(Vec::<u8>::with_capacity(LARGEST_BLOCK)));
}

fn start(arguments: &Args, ui: &Ui) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::io("threads can't be started", error))?;
    let ended = runtime.block_on(run(arguments, ui));
    // A thread that waits for standard input would wait on.
    runtime.shutdown_timeout(GRACE);
    ended
}

async fn run(arguments: &Args, ui: &Ui) -> Result<(), CommandError> {
    let (wish, interrupt) = Interrupt::new();
    let listen = |kind| signal(kind).map_err(|error| CommandError::io("signals can't be received", error));
    let signals = [listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?];
    tokio::spawn(forward(signals, wish));

    let context = Context::new(&arguments.global, interrupt.clone())?;
    let traces = command::traces(&arguments.command, &context)?;
    ui.log(traces.as_ref());
    let command = command::run(&arguments.command, &context, ui);
    let ended = match command::stopping(&arguments.command) {
        Stopping::Asked => command.await,
        Stopping::Dropped => tokio::select! {
            ended = command => ended,
            () = interrupt.wait() => {
                let hint = command::after_interrupt(&arguments.command);
                Err(hint.into_iter().fold(CommandError::interrupted(), CommandError::hint))
            }
        },
    };
    if let Some(traces) = traces {
        traces.close().await;
    }
    ended
}

/// The first signal is a wish, the second an order.
async fn forward(mut signals: [Signal; 2], wish: watch::Sender<bool>) {
    let [interrupt, terminate] = &mut signals;
    for first in [true, false] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if first {
            // Nobody may be waiting any more, because the command just ended.
            let _ = wish.send(true);
        }
    }
    std::process::exit(Exit::Interrupted.code().into());
}
