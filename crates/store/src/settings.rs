//! What a store is told when it is opened.

use std::num::NonZeroUsize;

use datamesh_core::limits::{MIB, SEGMENT_SIZE_MAX};

const QUEUE_SIZE: usize = 32 * MIB;
const INDEX_CACHE_SIZE: usize = 24 * MIB;
const CHECKPOINT_SIZE: u64 = 64 * MIB as u64;
const READERS: NonZeroUsize = NonZeroUsize::new(4).expect("four is not zero");
const COMPACT_BELOW_PERCENT: u8 = 50;

/// What a store is told when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSettings {
    /// Bytes that the segment files may take. Compaction may take up to two segments more for a while; leases and
    /// releases of what is held are taken beyond it.
    pub capacity: u64,
    /// Bytes of the file system that are left free: below it, no item and no lease is taken.
    pub free_floor: u64,
    /// Bytes after which a new segment is begun, [`SEGMENT_SIZE_MAX`] at most.
    pub segment_size: u64,
    /// Bytes of items that may wait to be written; more make their senders wait.
    pub queue_size: usize,
    /// Bytes of memory for the index's pages.
    pub index_cache_size: usize,
    /// Bytes written between two checkpoints of the index: what recovery may have to read again.
    pub checkpoint_size: u64,
    /// Threads that read.
    pub readers: NonZeroUsize,
    /// Segments of which less than this share still counts are compacted, in percent.
    pub compact_below_percent: u8,
}

impl StoreSettings {
    /// The defaults, with this capacity and no free-space floor.
    #[must_use]
    pub const fn new(capacity: u64) -> Self {
        Self {
            capacity,
            free_floor: 0,
            segment_size: SEGMENT_SIZE_MAX,
            queue_size: QUEUE_SIZE,
            index_cache_size: INDEX_CACHE_SIZE,
            checkpoint_size: CHECKPOINT_SIZE,
            readers: READERS,
            compact_below_percent: COMPACT_BELOW_PERCENT,
        }
    }
}
