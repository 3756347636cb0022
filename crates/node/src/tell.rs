//! Tells a command and a web address of alerts, and never holds the node up for it.

mod command;
mod web;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use datamesh_core::id::NodeId;
use datamesh_core::time::Timestamp;
use datamesh_engine::alert::{Change, News, action, advice, message};
use datamesh_engine::world::Clock;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::metrics::{Samples, Source, Value, definition as metric};
use crate::settings::AlertsSettings;

/// Notices that may wait for one way; the oldest gives way to a newer one.
const WAITING_MAX: usize = 64;

/// What is told of one alert, as a JSON object.
#[derive(Debug, Serialize)]
struct Notice {
    /// `raised`, `worse`, `better`, `still-on` or `cleared`.
    change: &'static str,
    /// `WARNING`, `CRITICAL` or `LOST`.
    level: &'static str,
    /// The same for one trouble however it develops, and from every node that sees it.
    key: String,
    message: String,
    action: &'static str,
    advice: &'static str,
    /// Who tells it.
    node: String,
    /// When it was raised, milliseconds since the Unix epoch.
    since_ms: u64,
    /// When this was told.
    at_ms: u64,
}

impl Notice {
    fn new(news: &News, node: NodeId, now: Timestamp) -> Self {
        let alert = &news.alert;
        Self {
            change: match news.change {
                Change::Raised => "raised",
                Change::Worse => "worse",
                Change::Better => "better",
                Change::StillOn => "still-on",
                Change::Cleared => "cleared",
            },
            level: alert.level.text(),
            key: alert.cause.key(),
            message: message(alert.level, &alert.cause),
            action: action(alert.level, &alert.cause).text(),
            advice: advice(alert.level, &alert.cause),
            node: node.to_string(),
            since_ms: alert.since.as_ms(),
            at_ms: now.as_ms(),
        }
    }
}

/// What has become of notices on one way.
#[derive(Debug, Default)]
struct Tally {
    told: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// Notices that wait for one way.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<VecDeque<Bytes>>,
    news: Notify,
    tally: Tally,
}

impl Queue {
    fn add(&self, notice: Bytes) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX {
            waiting.pop_front();
            self.tally.dropped.fetch_add(1, Ordering::Relaxed);
        }
        waiting.push_back(notice);
        self.news.notify_one();
    }

    async fn next(&self) -> Bytes {
        loop {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match next {
                Some(notice) => return notice,
                None => self.news.notified().await,
            }
        }
    }

    fn note<E: std::fmt::Display>(&self, outcome: Result<(), E>, way: &str) {
        let counter = match outcome {
            Ok(()) => &self.tally.told,
            Err(error) => {
                tracing::warn!(%error, way, "an alert could not be told");
                &self.tally.failed
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The ways by which alerts are told. They end when this is dropped, and a command that runs is killed.
pub(crate) struct Teller {
    ways: Vec<(&'static str, Arc<Queue>)>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Teller {
    /// Starts the ways that the settings name.
    #[must_use]
    pub(crate) fn start(settings: &AlertsSettings, clock: &Arc<dyn Clock>) -> Self {
        let (mut ways, mut tasks) = (Vec::new(), Vec::new());
        if let Some(line) = settings.command.get() {
            let queue = Arc::new(Queue::default());
            ways.push(("command", Arc::clone(&queue)));
            let (line, timeout) = (line.to_owned(), settings.command_timeout.duration());
            tasks.push(tokio::spawn(run_commands(queue, line, timeout)));
        }
        if let Some(address) = settings.webhook.get() {
            let queue = Arc::new(Queue::default());
            ways.push(("webhook", Arc::clone(&queue)));
            let web = web::Web::new(address.to_owned(), Arc::clone(clock));
            tasks.push(tokio::spawn(post_all(queue, web)));
        }
        Self { ways, tasks }
    }

    /// Tells news on every way, in order on each. It does not wait for any.
    ///
    /// # Panics
    /// Never: a notice is made of texts and numbers.
    pub(crate) fn tell(&self, news: &News, node: NodeId, now: Timestamp) {
        let notice = Notice::new(news, node, now);
        let json = serde_json::to_vec(&notice).expect("texts and numbers can be written as JSON");
        let json = Bytes::from(json);
        self.ways.iter().for_each(|(_, queue)| queue.add(json.clone()));
    }

    /// What counts its notices.
    #[must_use]
    pub(crate) fn source(&self) -> Arc<dyn Source> {
        Arc::new(Tallies(self.ways.clone()))
    }
}

struct Tallies(Vec<(&'static str, Arc<Queue>)>);

impl Source for Tallies {
    fn collect(&self, samples: &mut Samples) {
        for (way, queue) in &self.0 {
            let Tally { told, failed, dropped } = &queue.tally;
            for (outcome, counter) in [("told", told), ("failed", failed), ("dropped", dropped)] {
                let value = Value::Integer(counter.load(Ordering::Relaxed));
                samples.put(&metric::ALERT_NOTICES, &[way, outcome], value);
            }
        }
    }
}

async fn run_commands(queue: Arc<Queue>, line: String, timeout: Duration) {
    loop {
        let notice = queue.next().await;
        queue.note(command::run(&line, &notice, timeout).await, "command");
    }
}

async fn post_all(queue: Arc<Queue>, web: web::Web) {
    loop {
        let notice = queue.next().await;
        queue.note(web.post(notice).await, "webhook");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use bytes::Bytes;

    use super::{Queue, WAITING_MAX};

    #[tokio::test]
    async fn only_so_many_notices_wait_and_the_newest_stay() {
        let queue = Queue::default();
        for number in 0..WAITING_MAX + 3 {
            queue.add(Bytes::from(number.to_string()));
        }
        assert_eq!(queue.next().await, "3");
        assert_eq!(queue.tally.dropped.load(Ordering::Relaxed), 3);
    }
}
