//! Progress with rate and time left, on stderr: a bar where somebody watches, a line each second where that was asked for.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use datamesh_engine::pace::TransferProgress;
use datamesh_engine::progress::{Event, Observer, Paced, Unobserved};
use datamesh_node::system::SystemClock;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use crate::ui::format::{bytes, duration, printable};
use crate::ui::{Format, Ui, Verbosity};

const REDRAW: Duration = Duration::from_millis(200);
/// How far apart lines are.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Characters of a label that are shown, so that a bar fits a line.
const LABEL_LENGTH_MAX: usize = 24;
const WITH_TOTAL: &str = "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {pace}, {left} left";
const WITHOUT_TOTAL: &str = "{msg} {binary_bytes}, {pace}";

/// Takes what happened, shows how far that is, and ends when dropped. Shows nothing where nobody sees it.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    paced: Arc<Paced>,
    lines: Option<Lines>,
}

/// Whoever says each second how far it is.
#[derive(Debug)]
struct Lines {
    /// `None` once it is to stop.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How far it is, for programs.
#[derive(Debug, Serialize)]
struct ProgressView {
    name: String,
    bytes_done: u64,
    bytes_expected: Option<u64>,
    chunks_done: u64,
    bytes_per_second: f64,
    seconds_left: Option<f64>,
}

impl Ui {
    /// The progress of an operation.
    #[must_use]
    pub fn progress(&self, label: &str) -> Progress {
        let paced = Arc::new(Paced::new(Arc::new(Unobserved), Arc::new(SystemClock::start())));
        let shown =
            self.format == Format::Human && self.verbosity > Verbosity::Quiet && !self.bars.is_hidden();
        let bar = if shown {
            let bar = ProgressBar::no_length().with_style(style(WITHOUT_TOTAL, &paced));
            let bar = self.bars.add(bar);
            bar.enable_steady_tick(REDRAW);
            bar
        } else {
            ProgressBar::hidden()
        };
        let label = printable(label);
        bar.set_message(match label.char_indices().nth(LABEL_LENGTH_MAX) {
            Some((end, _)) => format!("{}…", &label[..end]),
            None => label.into_owned(),
        });
        Progress { bar, paced, lines: None }
    }

    /// The progress of an operation, also as a line each second and one at its end.
    #[must_use]
    pub fn progress_in_lines(&self, label: &str) -> Progress {
        let mut progress = self.progress(label);
        if self.verbosity > Verbosity::Quiet && progress.bar.is_hidden() {
            progress.lines = Some(Lines::start(self.clone(), label.to_owned(), Arc::clone(&progress.paced)));
        }
        progress
    }

    fn progress_line(&self, label: &str, progress: &TransferProgress) -> String {
        match self.format {
            Format::Json => json!({ "progress": ProgressView::new(label, progress) }).to_string(),
            Format::Human => {
                let mut text = format!("{}: {}", printable(label), bytes(progress.bytes_done));
                if let Some(expected) = progress.bytes_expected {
                    text += &format!(" of {}", bytes(expected));
                }
                text += &format!(", {}", pace(progress));
                if progress.bytes_expected.is_some() {
                    text += &format!(", {} left", left(progress));
                }
                text
            }
        }
    }
}

impl Observer for Progress {
    fn observe(&self, event: Event) {
        let moved = match &event {
            Event::Expected { bytes } => {
                self.bar.set_length(*bytes);
                self.bar.set_style(style(WITH_TOTAL, &self.paced));
                true
            }
            Event::Advanced { .. } | Event::Resumed { .. } => true,
            Event::Failed { node, why } => {
                tracing::info!(%node, why, "a node was asked in vain");
                false
            }
            _ => false,
        };
        self.paced.observe(event);
        if moved && !self.bar.is_hidden() {
            self.bar.set_position(self.paced.progress().bytes_done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Lines {
    fn start(ui: Ui, label: String, paced: Arc<Paced>) -> Self {
        let (running, stopped) = channel();
        let thread = thread::spawn(move || {
            loop {
                let woken = stopped.recv_timeout(LINE_INTERVAL);
                ui.tell(&ui.progress_line(&label, &paced.progress()));
                if woken != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        });
        Self { running: Some(running), thread: Some(thread) }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.running.take();
        if let Some(thread) = self.thread.take() {
            // Had it panicked, a line would be missing and nothing else.
            let _ = thread.join();
        }
    }
}

impl ProgressView {
    fn new(name: &str, progress: &TransferProgress) -> Self {
        Self {
            name: name.to_owned(),
            bytes_done: progress.bytes_done,
            bytes_expected: progress.bytes_expected,
            chunks_done: progress.chunks_done,
            bytes_per_second: progress.rate,
            seconds_left: progress.remaining.map(|left| left.as_secs_f64()),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate in whole bytes is enough"
)]
fn pace(progress: &TransferProgress) -> String {
    if progress.rate > 0.0 { format!("{}/s", bytes(progress.rate as u64)) } else { "?/s".to_owned() }
}

fn left(progress: &TransferProgress) -> String {
    progress.remaining.map_or_else(|| "?".to_owned(), duration)
}

/// Rate and time left are the engine's: the library's own know nothing of what was there before.
fn style(template: &str, paced: &Arc<Paced>) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the templates are valid");
    let key = |show: fn(&TransferProgress) -> String| {
        let paced = Arc::clone(paced);
        move |_: &ProgressState, writer: &mut dyn Write| {
            // The writer is the library's own, and takes everything.
            let _ = writer.write_str(&show(&paced.progress()));
        }
    };
    style.progress_chars("=> ").with_key("pace", key(pace)).with_key("left", key(left))
}
