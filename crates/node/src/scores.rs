//! What is known of peers, kept in the home from one process to the next.
//!
//! It is knowledge and no record: where it is lost or damaged, peers are got to know again. So it is not synced to disk.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use datamesh_core::time::Timestamp;
use datamesh_engine::traffic::{RestoreError, SAVED_SIZE_MAX, Traffic};

/// Why nothing is known of peers.
#[derive(Debug, thiserror::Error)]
enum ScoresError {
    /// The file can't be read.
    #[error("it can't be read: {0}")]
    Read(#[from] io::Error),
    /// It is not what was saved.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

/// The file that it is kept in.
#[derive(Debug, Clone)]
pub struct Scores {
    path: PathBuf,
}

impl Scores {
    /// Kept in this file, whether it exists or not.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Lets the traffic know what was known. Whatever is wrong with the file is a warning, and it starts afresh.
    pub fn load(&self, traffic: &Traffic, now: Timestamp) {
        match read(&self.path)
            .and_then(|bytes| Ok(bytes.map(|bytes| traffic.restore(&bytes, now)).transpose()?))
        {
            Ok(learnt) => tracing::debug!(peers = learnt.unwrap_or_default(), "peers that are known"),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "what was known of peers is lost");
            }
        }
    }

    /// Keeps what the traffic knows. The file is replaced whole; of several processes the last one counts.
    ///
    /// # Errors
    /// When it can't be written. The file is as it was then.
    pub fn save(&self, traffic: &Traffic, now: Timestamp) -> io::Result<()> {
        let mut name = self.path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".{}", std::process::id()));
        let new = self.path.with_file_name(name);
        let written = fs::write(&new, traffic.save(now)).and_then(|()| fs::rename(&new, &self.path));
        if written.is_err() {
            // Where it is gone already, nothing is left to remove.
            let _ = fs::remove_file(&new);
        }
        written
    }
}

/// The file's bytes, one more than there may be at the most; `None` if there is no file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, ScoresError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    let most = u64::try_from(SAVED_SIZE_MAX).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use datamesh_core::id::NodeId;
    use datamesh_core::time::Timestamp;
    use datamesh_engine::traffic::{Direction, Traffic, TrafficSettings};

    use super::Scores;
    use crate::system::SystemClock;

    fn traffic() -> Traffic {
        Traffic::new(Arc::new(SystemClock::start()), TrafficSettings::default())
    }

    #[tokio::test]
    async fn what_is_known_of_peers_outlives_the_process_and_a_damaged_file_is_none() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("peers.scores");
        let (scores, now) = (Scores::at(path.clone()), Timestamp::from_ms(1_800_000_000_000));
        let first = traffic();
        scores.load(&first, now);
        assert!(first.snapshot().peers.is_empty(), "there is no file yet");
        let node = NodeId::from_bytes([7; 32]);
        first.serve(node, Direction::Upload, 5).await.expect("there are no limits");
        scores.save(&first, now).expect("written");

        let second = traffic();
        scores.load(&second, Timestamp::from_ms(now.as_ms() + 1000));
        assert_eq!(second.snapshot().peers.into_keys().collect::<Vec<_>>(), [node]);
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1, "nothing else is left");

        let sound = fs::read(&path).expect("readable");
        let long = vec![0; super::SAVED_SIZE_MAX + 1];
        for damaged in [&[][..], &sound[..sound.len() - 1], &[0xff; 100], &long] {
            fs::write(&path, damaged).expect("written");
            let third = traffic();
            scores.load(&third, now);
            assert!(third.snapshot().peers.is_empty());
        }
    }
}
