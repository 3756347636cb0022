//! Human text or JSON; the only module that prints.
//!
//! Results go to stdout, all else to stderr. What nodes, files or objects are called may hold anything: tables, fields,
//! notes and errors show control characters instead of letting them steer the terminal.

mod format;
mod log;
mod password;
mod progress;
mod table;

use std::fmt::Display;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use clap::error::ErrorKind;
use datamesh_node::traces::Traces;
use indicatif::MultiProgress;
use serde::Serialize;
use serde_json::json;

use crate::args::GlobalArgs;
use crate::command::CommandError;
use crate::exit::Exit;

pub use format::{bytes, count, duration, instant, kept_until, percent, printable, rate};
pub use password::PasswordSource;
pub use progress::Progress;
pub use table::{Column, Fields, Table};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();
const NOTE: Style = Style::new().dimmed();
const USAGE_HINT: &str = "datamesh help COMMAND shows what it takes";

/// What results, notes and errors look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Human,
    /// For programs: one JSON object on a line.
    Json,
}

/// How much is said besides results and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Nothing.
    Quiet,
    /// Progress and notes.
    Normal,
    /// Logs too, the more the higher.
    Verbose(u8),
}

/// Where a command says what it has to say.
#[derive(Debug, Clone)]
pub struct Ui {
    format: Format,
    verbosity: Verbosity,
    bars: MultiProgress,
}

impl Ui {
    /// As the global arguments want it.
    #[must_use]
    pub fn new(arguments: &GlobalArgs) -> Self {
        let format = if arguments.json { Format::Json } else { Format::Human };
        let verbosity = match (arguments.quiet, arguments.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, times) => Verbosity::Verbose(times),
        };
        Self::with(format, verbosity)
    }

    fn with(format: Format, verbosity: Verbosity) -> Self {
        let bars = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stderr());
        Self { format, verbosity, bars }
    }

    /// What results look like.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Sends what the crates log to stderr, as much as was asked for.
    pub fn log(&self, traces: Option<&Traces>) {
        log::install(self, traces);
    }

    /// Prints a result on stdout: the text for people, or the object for programs. An empty text is not printed.
    ///
    /// # Errors
    /// When stdout can't be written, or nobody reads it any more.
    pub fn result(&self, human: impl Display, object: impl Serialize) -> Result<(), CommandError> {
        let text = match self.format {
            Format::Human => human.to_string(),
            Format::Json => serde_json::to_string(&object)
                .map_err(|error| CommandError::new(Exit::Failed, error.to_string()))?,
        };
        if text.is_empty() { Ok(()) } else { self.print(&text) }
    }

    /// Prints a result that is one text for people, and an object each for programs.
    ///
    /// # Errors
    /// As [`Ui::result`].
    pub fn results<T: Serialize>(
        &self,
        human: impl Display,
        objects: impl IntoIterator<Item = T>,
    ) -> Result<(), CommandError> {
        match self.format {
            Format::Human => self.result(human, ()),
            Format::Json => objects.into_iter().try_for_each(|object| self.result("", object)),
        }
    }

    fn print(&self, text: &str) -> Result<(), CommandError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let written = self.bars.suspend(|| match self.format {
            Format::Human => write_line(&mut anstream::stdout().lock(), text),
            Format::Json => write_line(&mut io::stdout().lock(), text),
        });
        written.map_err(CommandError::output)
    }

    /// Says on stderr what is good to know.
    pub fn note(&self, text: impl Display) {
        self.say("note", NOTE, &text.to_string());
    }

    /// Says on stderr what is not as it should be, though the command goes on.
    pub fn warn(&self, text: impl Display) {
        self.say("warning", WARNING, &text.to_string());
    }

    fn say(&self, kind: &str, style: Style, text: &str) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        match self.format {
            Format::Human => self.tell(&format!("{style}{kind}:{style:#} {}", printable(text))),
            Format::Json => self.tell(&json!({ kind: text }).to_string()),
        }
    }

    /// Says why a command ended as it did.
    pub fn error(&self, error: &CommandError) {
        if error.exit() == Exit::Done {
            return;
        }
        match self.format {
            Format::Human => self.tell(&human_error(error)),
            Format::Json => self.tell(&json_error(error).to_string()),
        }
    }

    /// Writes to stderr around the progress bars.
    fn tell(&self, text: &str) {
        self.bars.suspend(|| {
            // Where stderr is closed there is nowhere left to say so.
            let _ = match self.format {
                Format::Human => write_line(&mut anstream::stderr().lock(), text),
                Format::Json => write_line(&mut io::stderr().lock(), text),
            };
        });
    }
}

/// Says what is wrong with a command line, or prints the help or version that it asked for.
#[must_use]
pub fn command_line_error(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        // A reader of the help who has read enough is no failure.
        let _ = error.print();
        return Exit::Done;
    }
    // The command line did not parse, so whether it asks for JSON can only be told from its words.
    let words = std::env::args_os().skip(1).take_while(|word| word != "--");
    if words.into_iter().any(|word| word == "--json") {
        Ui::with(Format::Json, Verbosity::Normal).error(&usage_error(error));
    } else {
        let _ = error.print();
    }
    Exit::Usage
}

/// Clap's error without its headings: the first paragraph is what is wrong, and its tip the hint.
fn usage_error(error: &clap::Error) -> CommandError {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return CommandError::new(Exit::Usage, "a command is missing").hint(USAGE_HINT);
    }
    let text = error.render().to_string();
    let one_line = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let paragraphs: Vec<String> = text.trim().split("\n\n").map(one_line).collect();
    let message = paragraphs.first().map_or("", |first| first.strip_prefix("error: ").unwrap_or(first));
    let tip = paragraphs.iter().find_map(|paragraph| paragraph.strip_prefix("tip: "));
    CommandError::new(Exit::Usage, message).hint(tip.unwrap_or(USAGE_HINT))
}

fn human_error(error: &CommandError) -> String {
    let mut text = format!("{ERROR}error:{ERROR:#} {}", printable(error.message()));
    for cause in error.causes() {
        text.push_str(&format!("\n  because: {}", printable(&cause)));
    }
    if let Some(hint) = error.hint_text() {
        text.push_str(&format!("\n{HINT}hint:{HINT:#} {}", printable(hint)));
    }
    text
}

fn json_error(error: &CommandError) -> serde_json::Value {
    let mut message = error.message().to_owned();
    for cause in error.causes() {
        message.push_str(": ");
        message.push_str(&cause);
    }
    json!({ "error": { "kind": error.exit().kind(), "message": message, "hint": error.hint_text() } })
}

fn write_line(stream: &mut impl Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.write_all(b"\n")?;
    stream.flush()
}
