//! Progress: what a put, a get or a repair tells while it runs.

use std::error::Error;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datamesh_core::id::{NodeId, ObjectId};

use crate::pace::{Pace, TransferProgress};
use crate::world::Clock;

/// The shortest time between two [`Event::Progress`].
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Something that happened while an operation ran.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The operation is about this many bytes of plaintext.
    Expected {
        /// How many.
        bytes: u64,
    },
    /// This many more bytes of plaintext are safely where they were to go.
    Advanced {
        /// How many.
        bytes: u64,
    },
    /// An earlier run had brought this many more bytes of plaintext where they were to go.
    Resumed {
        /// How many.
        bytes: u64,
    },
    /// How far it is, how fast it goes, and when it will be done. Told by [`Paced`].
    Progress(TransferProgress),
    /// A put or a get is done.
    Completed {
        /// The object, whose id is the hash of what it is made of.
        object: ObjectId,
        /// Bytes of plaintext that are where they were to go, those of earlier runs among them.
        bytes: u64,
    },
    /// A put or a get has ended before it was done.
    Broken {
        /// Whose doing it is.
        cause: Cause,
        /// What was wrong.
        why: String,
        /// When it may be worth another try; `None` where time alone mends nothing.
        retry_after: Option<Duration>,
    },
    /// A node took an item.
    Sent {
        /// Which node.
        node: NodeId,
        /// The item's size.
        bytes: u64,
    },
    /// A node gave an item, and it was the right one.
    Received {
        /// Which node.
        node: NodeId,
        /// The item's size.
        bytes: u64,
    },
    /// A node was asked in vain; another is asked instead where there is one.
    Failed {
        /// Which node.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// A shard was made again and stored.
    Repaired {
        /// Where.
        node: NodeId,
    },
}

/// Whose doing it is that a put or a get was broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// What was asked for can't be done so: it is out of bounds, no key opens it, or its source has changed.
    Order,
    /// The source, the output or the journal can't be read or written here.
    Machine,
    /// Too few nodes took or gave what they were asked for.
    Nodes,
    /// What was got is not what was put.
    Data,
}

impl Event {
    /// That an error has broken a put or a get off.
    pub(crate) fn broken(cause: Cause, error: &dyn Error, retry_after: Option<Duration>) -> Self {
        let mut why = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            write!(why, ": {error}").expect("a string takes everything");
            source = error.source();
        }
        Self::Broken { cause, why, retry_after }
    }
}

/// Sees events. Called from within the operation: it must not block.
pub trait Observer: Send + Sync {
    /// Sees one event.
    fn observe(&self, event: Event);
}

/// Looks away.
#[derive(Debug, Clone, Copy)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn observe(&self, _event: Event) {}
}

/// Passes on what it sees, and tells now and then how the operation stands: by [`Event::Progress`] once it has moved on, ten
/// times a second at most and when it is done, and by [`Paced::progress`] whenever it is asked.
pub struct Paced {
    inner: Arc<dyn Observer>,
    clock: Arc<dyn Clock>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    pace: Pace,
    told: Option<Duration>,
}

impl Paced {
    /// For one operation, of which this observer is told.
    #[must_use]
    pub fn new(inner: Arc<dyn Observer>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock, taken: Mutex::default() }
    }

    /// How the operation stands now.
    #[must_use]
    pub fn progress(&self) -> TransferProgress {
        let now = self.clock.elapsed();
        self.taken().pace.progress(now)
    }

    /// What there is to be told of this event beyond itself.
    fn take(&self, event: &Event) -> Option<TransferProgress> {
        let now = self.clock.elapsed();
        let mut taken = self.taken();
        match event {
            Event::Expected { bytes } => taken.pace.expect(*bytes),
            Event::Advanced { bytes } => taken.pace.advance(now, *bytes),
            Event::Resumed { bytes } => taken.pace.skip(*bytes),
            Event::Completed { .. } => taken.told = None,
            _ => return None,
        }
        if taken.told.is_some_and(|told| now.saturating_sub(told) < PROGRESS_INTERVAL) {
            return None;
        }
        taken.told = Some(now);
        Some(taken.pace.progress(now))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing that holds the lock can leave the pace half changed.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Paced {
    fn observe(&self, event: Event) {
        let progress = self.take(&event);
        if matches!(event, Event::Completed { .. }) {
            // That it is done is the last that is said.
            progress.into_iter().for_each(|progress| self.inner.observe(Event::Progress(progress)));
            self.inner.observe(event);
        } else {
            self.inner.observe(event);
            progress.into_iter().for_each(|progress| self.inner.observe(Event::Progress(progress)));
        }
    }
}

impl fmt::Debug for Paced {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Paced").field("progress", &self.progress()).finish_non_exhaustive()
    }
}
