//! The log: what one writer has changed, in blocks that the mesh keeps.

use serde::{Deserialize, Serialize};

use crate::bucket::{Change, WriterId};

/// The version of the encoding of log blocks.
pub const LOG_VERSION: u8 = 1;

/// A run of blocks of one writer, which nodes keep under one tag, so that whoever knows the tag can ask them for all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChapterId {
    /// Whose.
    pub writer: WriterId,
    /// Which, from 0 on.
    pub number: u32,
}

/// Changes that were acknowledged together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBlock {
    /// [`LOG_VERSION`].
    pub version: u8,
    /// The chapter that it is of.
    pub chapter: ChapterId,
    /// Its place in the chapter.
    pub sequence: u32,
    /// The first chapter of the writer that need be read: those before it are repeated in later ones.
    pub first_chapter: u32,
    /// What was changed.
    pub changes: Vec<Change>,
}
