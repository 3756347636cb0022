//! What the traffic of a process is told when it is set up.

use std::fmt;
use std::num::NonZeroU64;

/// Bytes a second; never none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// This many bytes a second; `None` for 0, at which nothing would ever move.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Option<Self> {
        NonZeroU64::new(bytes_per_second).map(Self)
    }

    /// Bytes a second.
    #[must_use]
    pub const fn bytes_per_second(self) -> u64 {
        self.0.get()
    }
}

/// How much a transfer gets where there is not enough for all, most first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Somebody waits for it: eight parts.
    Interactive,
    /// Four parts.
    #[default]
    Normal,
    /// It has time: one part.
    Background,
}

impl Priority {
    /// Parts of what there is.
    #[must_use]
    pub const fn weight(self) -> u64 {
        match self {
            Self::Interactive => 8,
            Self::Normal => 4,
            Self::Background => 1,
        }
    }

    /// What so much counts for against the flow that gets it: the more, the smaller its weight.
    pub(crate) const fn cost(self, size: u64) -> u64 {
        size.saturating_mul(Self::Interactive.weight() / self.weight())
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Interactive => "interactive",
            Self::Normal => "normal",
            Self::Background => "background",
        })
    }
}

/// Which way bytes go, as this process sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To peers.
    Upload,
    /// From peers.
    Download,
}

/// One of something for each direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByDirection<T> {
    /// For bytes to peers.
    pub upload: T,
    /// For bytes from peers.
    pub download: T,
}

impl<T> ByDirection<T> {
    /// That of one direction.
    #[must_use]
    pub const fn of(&self, direction: Direction) -> &T {
        match direction {
            Direction::Upload => &self.upload,
            Direction::Download => &self.download,
        }
    }

    /// That of one direction, to be changed.
    pub const fn of_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Upload => &mut self.upload,
            Direction::Download => &mut self.download,
        }
    }
}

/// How fast bytes may move in one direction; as fast as they can where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// All together.
    pub total: Option<Rate>,
    /// To or from each peer.
    pub per_peer: Option<Rate>,
}

/// What the traffic of a process is told when it is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficSettings {
    /// Bytes of chunks and shards in memory at once, all transfers together.
    pub memory: usize,
    /// Transfers that run at once; further ones wait.
    pub concurrent_transfers: usize,
    /// How fast bytes may move.
    pub limits: ByDirection<RateLimits>,
    /// Requests for or with bytes that one peer has under way: as many as at first, and never fewer.
    pub window_min: usize,
    /// Never more of them, unless more are needed to fill the line.
    pub window_max: usize,
}

impl Default for TrafficSettings {
    fn default() -> Self {
        Self {
            memory: 48 << 20,
            concurrent_transfers: 10,
            limits: ByDirection::default(),
            window_min: 10,
            window_max: 20,
        }
    }
}
