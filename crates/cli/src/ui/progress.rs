//! Progress bars with rate and time left, on stderr, where somebody sees them.

use std::fmt::Write;
use std::time::Duration;

use datamesh_engine::progress::{Event, Observer};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::ui::format::{duration, printable};
use crate::ui::{Format, Ui, Verbosity};

const REDRAW: Duration = Duration::from_millis(200);
/// Characters of a label that are shown, so that a bar fits a line.
const LABEL_LENGTH_MAX: usize = 24;
const WITH_TOTAL: &str =
    "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {left} left";
const WITHOUT_TOTAL: &str = "{msg} {binary_bytes}, {binary_bytes_per_sec}";

/// One bar. Takes what happened, shows it, and vanishes when dropped. Shows nothing where nobody sees it.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Ui {
    /// A bar for an operation.
    #[must_use]
    pub fn progress(&self, label: &str) -> Progress {
        let shown =
            self.format == Format::Human && self.verbosity > Verbosity::Quiet && !self.bars.is_hidden();
        let bar = if shown {
            let bar = self.bars.add(ProgressBar::no_length().with_style(style(WITHOUT_TOTAL)));
            bar.enable_steady_tick(REDRAW);
            bar
        } else {
            ProgressBar::hidden()
        };
        let progress = Progress { bar };
        progress.label(label);
        progress
    }
}

impl Progress {
    /// What is being done.
    pub fn label(&self, label: &str) {
        let label = printable(label);
        let shown = match label.char_indices().nth(LABEL_LENGTH_MAX) {
            Some((end, _)) => format!("{}…", &label[..end]),
            None => label.into_owned(),
        };
        self.bar.set_message(shown);
    }

    /// How much there is to do, bytes.
    pub fn expect(&self, total: u64) {
        if self.bar.length().is_none() {
            self.bar.set_style(style(WITH_TOTAL));
        }
        self.bar.set_length(total);
    }

    /// This much more is done, bytes.
    pub fn advance(&self, more: u64) {
        self.bar.inc(more);
    }
}

impl Observer for Progress {
    fn observe(&self, event: Event) {
        match event {
            Event::Expected { bytes } => self.expect(bytes),
            Event::Advanced { bytes } => self.advance(bytes),
            Event::Failed { node, why } => tracing::info!(%node, why, "a node was asked in vain"),
            Event::Sent { .. } | Event::Received { .. } | Event::Repaired { .. } => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The library writes sizes and rates as [`bytes`](crate::ui::bytes) and [`rate`](crate::ui::rate) do.
fn style(template: &str) -> ProgressStyle {
    let left = |state: &ProgressState, writer: &mut dyn Write| {
        let known = state.per_sec() > 0.0;
        let text = if known { duration(state.eta()) } else { "?".to_owned() };
        // The writer is the library's own, and takes everything.
        let _ = writer.write_str(&text);
    };
    let style = ProgressStyle::with_template(template).expect("the templates are valid");
    style.progress_chars("=> ").with_key("left", left)
}
