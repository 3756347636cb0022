//! Progress: what a put, a get or a repair tells while it runs.

use datamesh_core::id::NodeId;

/// Something that happened while an operation ran.
#[derive(Debug, Clone, PartialEq, Eq)]
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
