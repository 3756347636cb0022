//! What the network has done since it started, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the network has done since it started.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counters while they count.
        #[derive(Debug, Default)]
        pub(crate) struct Tally {
            $(pub(crate) $name: Counter,)*
        }

        impl Tally {
            pub(crate) fn read(&self) -> Counters {
                Counters { $($name: self.$name.read(),)* }
            }
        }
    };
}

counters! {
    /// Bytes of messages received, requests and answers.
    bytes_received,
    /// Bytes of messages sent, requests and answers.
    bytes_sent,
    /// Calls to other nodes that were answered.
    calls_answered,
    /// Calls to other nodes that were not.
    calls_unanswered,
    /// Requests of others that were answered.
    requests_answered,
    /// Requests of others that were refused because too many were being answered.
    requests_refused,
    /// Dials that reached nobody.
    dials_unanswered,
    /// Connections established, by either side.
    connections_established,
    /// Connections of the data plane that this participant made.
    links_established,
    /// Calls that took the data plane.
    calls_by_link,
    /// Times a peer broke the protocol.
    violations,
    /// Times a peer was denied.
    denials,
    /// Node records that were news.
    records_learned,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increase(&self) {
        self.add(1);
    }

    pub(crate) fn add_size(&self, size: usize) {
        self.add(u64::try_from(size).unwrap_or(u64::MAX));
    }

    fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
