//! The rolls of a restricted mesh, as this participant knows them: on its disk before it acknowledges them.

use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};

use datamesh_core::admission::{Admitted, Roll, RollError, Rolls};
use datamesh_core::id::NodeId;
use datamesh_core::sign::Signed;
use datamesh_core::time::Timestamp;

use crate::membership::{Membership, disk, now_ms};

/// Why a roll is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    #[error(transparent)]
    Roll(#[from] RollError),
    /// It counts, and is forgotten when this participant stops.
    #[error("roll can't be kept: {0}")]
    Disk(std::io::Error),
}

impl Membership {
    /// The same, which keeps rolls in this directory, where those that it knows lie already.
    pub(crate) fn keeping_rolls(mut self, directory: Option<PathBuf>) -> Self {
        *self.rolls_directory.get_mut() = directory;
        self
    }

    /// Whether a node may be of this mesh. This one always knows itself.
    pub(crate) fn takes(&self, node: &NodeId) -> bool {
        self.own_node().as_ref() == Some(node) || self.admits(Admitted::Node(*node))
    }

    fn admits(&self, who: Admitted) -> bool {
        self.rolls().admits(who, Timestamp::from_ms(now_ms()).epoch())
    }

    /// The rolls that are known.
    pub(crate) fn rolls(&self) -> MutexGuard<'_, Rolls> {
        // Nothing that holds the lock can leave the rolls half changed.
        self.rolls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns a roll, forgets the nodes that are not admitted any more, and keeps it. Says whether it was news.
    ///
    /// # Errors
    /// [`EnrolError`] when it does not count here, or can't be kept.
    ///
    /// # Cancel safety
    /// When dropped, the roll counts and may not be on disk.
    pub(crate) async fn enrol(&self, roll: Signed<Roll>) -> Result<bool, EnrolError> {
        // Held until it is kept, so that whoever is told the same at the same time waits for that.
        let directory = self.rolls_directory.lock().await;
        if !self.rolls().learn(roll, Timestamp::from_ms(now_ms()))? {
            return Ok(false);
        }
        self.expel();
        if let Some(directory) = directory.clone() {
            let rolls = self.rolls().clone();
            let save = move || disk::save_rolls(&directory, &rolls);
            disk::off_thread(save).await.map_err(EnrolError::Disk)?;
        }
        Ok(true)
    }

    /// Forgets the nodes that are not admitted, or not any more.
    pub(super) fn expel(&self) {
        if !self.rolls().is_restricted() {
            return;
        }
        let mut book = self.book();
        if book.expel(|node| !self.takes(node)) {
            self.publish(&book, &[]);
        }
    }
}
