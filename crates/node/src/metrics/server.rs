//! Counts what a node was asked, and tells how full it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datamesh_core::wire::{Message, Request, Response};
use datamesh_engine::world::{Clock, Items};

use super::Source;
use super::definition as metric;
use super::exposition::{Samples, Value};

macro_rules! kinds {
    ($($kind:ident $name:literal,)+) => {
        /// What a node can be asked.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum RequestKind {
            $(#[doc = concat!("`", $name, "`.")] $kind,)+
        }

        impl RequestKind {
            const ALL: &[(Self, &str)] = &[$((Self::$kind, $name)),+];

            /// The kind of a request.
            #[must_use]
            pub const fn of(request: &Request) -> Self {
                match request {
                    $(Request::$kind { .. } => Self::$kind,)+
                }
            }
        }
    };
}

kinds! {
    Store "store",
    Fetch "fetch",
    Has "has",
    Describe "describe",
    Summarise "summarise",
    Parts "parts",
    Releases "releases",
    Blocks "blocks",
    Lease "lease",
    Release "release",
    Records "records",
    Announce "announce",
    Rolls "rolls",
    Enrol "enrol",
    Status "status",
    Metrics "metrics",
    Health "health",
    Acknowledge "acknowledge",
}

/// What a node was asked so far.
#[derive(Debug, Default)]
pub struct RequestTally {
    answered: [AtomicU64; RequestKind::ALL.len()],
    refused: [AtomicU64; RequestKind::ALL.len()],
    received: AtomicU64,
    sent: AtomicU64,
}

impl RequestTally {
    /// Counts a request with this many bytes of an item, and its answer.
    pub fn note(&self, kind: RequestKind, size: usize, answer: &Message<Response>) {
        let place =
            RequestKind::ALL.iter().position(|(known, _)| *known == kind).expect("all kinds are there");
        let refused = matches!(answer.header, Response::Refused(_));
        let outcomes = if refused { &self.refused } else { &self.answered };
        outcomes[place].fetch_add(1, Ordering::Relaxed);
        let bytes = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
        if !refused {
            self.received.fetch_add(bytes(size), Ordering::Relaxed);
        }
        if matches!(answer.header, Response::Found) {
            self.sent.fetch_add(bytes(answer.payload.len()), Ordering::Relaxed);
        }
    }
}

/// Tells what a node was asked, how full it is, and how long it has run.
pub(crate) struct ServerSource {
    pub(crate) tally: Arc<RequestTally>,
    pub(crate) items: Arc<dyn Items>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started: Duration,
}

impl Source for ServerSource {
    fn collect(&self, samples: &mut Samples) {
        let mut put =
            |definition, labels: &[&str], value| samples.put(definition, labels, Value::Integer(value));
        let usage = self.items.usage();
        put(&metric::STORE_ITEMS, &[], usage.item_count);
        put(&metric::STORE_USED_BYTES, &[], usage.used);
        put(&metric::STORE_CAPACITY_BYTES, &[], usage.capacity);
        put(&metric::STORE_FULL, &[], u64::from(usage.full));
        put(&metric::UPTIME_SECONDS, &[], self.clock.elapsed().saturating_sub(self.started).as_secs());
        let outcomes = [("answered", &self.tally.answered), ("refused", &self.tally.refused)];
        for (outcome, counters) in outcomes {
            for ((_, request), counter) in RequestKind::ALL.iter().zip(counters) {
                put(&metric::REQUESTS, &[request, outcome], counter.load(Ordering::Relaxed));
            }
        }
        put(&metric::REQUEST_BYTES, &["received"], self.tally.received.load(Ordering::Relaxed));
        put(&metric::REQUEST_BYTES, &["sent"], self.tally.sent.load(Ordering::Relaxed));
    }
}
