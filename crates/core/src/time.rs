//! Time as agreed on by nodes: instants and epochs, never a clock.

use serde::{Deserialize, Serialize};

const MILLISECONDS_PER_EPOCH: u64 = 60 * 60 * 1000;

/// An instant of the wall clock: milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_ms(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// The epoch that the instant lies in.
    #[must_use]
    pub const fn epoch(self) -> Epoch {
        Epoch(self.0 / MILLISECONDS_PER_EPOCH)
    }

    /// The first epoch that begins at the instant or later.
    #[must_use]
    pub const fn next_epoch(self) -> Epoch {
        Epoch(self.0.div_ceil(MILLISECONDS_PER_EPOCH))
    }
}

/// The unit in which leases are counted: hours since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(u64);

impl Epoch {
    /// Later than any epoch that will come: a lease until then ends by release only.
    pub const NEVER: Self = Self(u64::MAX);

    /// From hours since the Unix epoch.
    #[must_use]
    pub const fn from_hours(hours: u64) -> Self {
        Self(hours)
    }

    /// When it begins; `None` for one that never comes.
    #[must_use]
    pub const fn begin(self) -> Option<Timestamp> {
        match self.0.checked_mul(MILLISECONDS_PER_EPOCH) {
            Some(milliseconds) => Some(Timestamp(milliseconds)),
            None => None,
        }
    }

    /// Hours since the Unix epoch.
    #[must_use]
    pub const fn as_hours(self) -> u64 {
        self.0
    }
}
