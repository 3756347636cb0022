//! What the crates log, on stderr beside the progress bars.

use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use datamesh_node::traces::Traces;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::ui::{Format, Ui, Verbosity};

const VARIABLE: &str = "DATAMESH_LOG";

pub(super) fn install(ui: &Ui, traces: Option<&Traces>) {
    let filter = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = filter.unwrap_or_else(|| default_filter(ui).to_owned());
    let colours = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(colours)
        .with_writer(LogWriter(ui.clone()))
        .with_filter(EnvFilter::new(filter));
    let subscriber = tracing_subscriber::registry().with(lines).with(traces.map(Traces::layer));
    // Somebody who embeds this library may have one already.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// What the user did not ask for is not logged into JSON.
const fn default_filter(ui: &Ui) -> &'static str {
    match (ui.verbosity, ui.format) {
        (Verbosity::Quiet, _) | (Verbosity::Normal, Format::Json) => "off",
        (Verbosity::Normal, Format::Human) => "off,datamesh=warn",
        (Verbosity::Verbose(1), _) => "warn,datamesh=info",
        (Verbosity::Verbose(2), _) => "info,datamesh=debug",
        (Verbosity::Verbose(_), _) => "debug,datamesh=trace",
    }
}

struct LogWriter(Ui);

/// One event, written at once when it is complete.
struct Line<'a> {
    ui: &'a Ui,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { ui: &self.0, text: Vec::new() }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.ui.bars.suspend(|| {
            // Where stderr is closed there is nowhere left to say so.
            let _ = io::stderr().lock().write_all(&self.text);
        });
    }
}
