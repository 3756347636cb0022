//! Writes entries off the path of whoever offers them: a short queue and one thread.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use datamesh_core::limits::MIB;
use tokio::sync::watch;

use super::entry::Subject;
use super::space::{Insertion, Space};
use super::{Tally, count};

/// Bytes that may wait to be written; what doesn't fit is dropped.
const QUEUE_SIZE: usize = 8 * MIB;
/// How often the thread looks whether a sweep is due while there is nothing else to do.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// Takes what is to be written. Dropped, it lets the thread end.
pub(super) struct Writer {
    queue: Arc<Queue>,
    ended: watch::Receiver<bool>,
    tally: Arc<Tally>,
}

/// The thread that writes.
pub(super) struct WriterThread {
    queue: Arc<Queue>,
    space: Arc<Space>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<(Subject, Vec<u8>)>,
    /// Bytes of the entries, and of those that are being copied to become some.
    size: usize,
    closing: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that holds the lock can leave it half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Takes an entry to be written, or drops it when too much is waiting.
    pub(super) fn take(&self, subject: Subject, payload: &[u8]) {
        {
            let mut waiting = self.queue.lock();
            if waiting.closing || waiting.size + payload.len() > QUEUE_SIZE {
                count(&self.tally.dropped, 1);
                return;
            }
            waiting.size += payload.len();
        }
        let copy = payload.to_vec();
        self.queue.lock().entries.push_back((subject, copy));
        self.queue.changed.notify_one();
    }

    /// Takes nothing more, and waits until all that was taken is written.
    ///
    /// # Cancel safety
    /// When dropped, writing goes on.
    pub(super) async fn close(&self) {
        let all_written = {
            let mut waiting = self.queue.lock();
            waiting.closing = true;
            waiting.size == 0
        };
        self.queue.changed.notify_one();
        // What else the thread may be at, a sweep, does no harm when it is cut short.
        if all_written {
            return;
        }
        // The sender is gone only when the thread has ended.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.lock().closing = true;
        self.queue.changed.notify_one();
    }
}

impl WriterThread {
    pub(super) fn start(space: Arc<Space>, tally: Arc<Tally>) -> io::Result<Writer> {
        let queue = Arc::new(Queue::default());
        let (sender, ended) = watch::channel(false);
        let writer = Writer { queue: Arc::clone(&queue), ended, tally: Arc::clone(&tally) };
        let work = Self { queue, space, tally };
        thread::Builder::new().name("cache-write".to_owned()).spawn(move || {
            work.run();
            // Nobody may be waiting for it.
            let _ = sender.send(true);
        })?;
        Ok(writer)
    }

    fn run(&self) {
        loop {
            if let Err(error) = self.space.sweep_if_due() {
                tracing::warn!(%error, "the cache can't be swept");
            }
            while let Some((subject, payload)) = self.next() {
                self.write(&subject, &payload);
                self.queue.lock().size -= payload.len();
            }
            if self.queue.lock().closing {
                return;
            }
        }
    }

    /// The next entry, as soon as there is one; `None` when none came for long, or none will any more.
    fn next(&self) -> Option<(Subject, Vec<u8>)> {
        let waiting = self.queue.lock();
        // Bytes without an entry are being copied, and will be one.
        let idle =
            |waiting: &mut Waiting| waiting.entries.is_empty() && !(waiting.closing && waiting.size == 0);
        let waited = self.queue.changed.wait_timeout_while(waiting, LOOK_EVERY, idle);
        waited.unwrap_or_else(PoisonError::into_inner).0.entries.pop_front()
    }

    fn write(&self, subject: &Subject, payload: &[u8]) {
        match self.space.insert(subject, payload) {
            Ok(Insertion::Written) => count(&self.tally.admissions, 1),
            Ok(Insertion::Known) => {}
            Ok(Insertion::NoRoom) => count(&self.tally.declined, 1),
            Err(error) => {
                let dropped = self.tally.dropped.fetch_add(1, Ordering::Relaxed);
                // A disk that fails fails often: once is enough.
                if dropped == 0 {
                    tracing::warn!(%error, "the cache can't be written");
                }
            }
        }
    }
}
