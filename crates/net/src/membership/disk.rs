//! The node records and rolls known, on disk, so that a restarted node finds its mesh again.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use datamesh_core::admission::{Roll, Rolls};
use datamesh_core::encode::{decode, encode};
use datamesh_core::sign::Signed;
use datamesh_core::time::Timestamp;
use datamesh_core::topology::NodeRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::membership::now_ms;
use crate::network::StartError;
use crate::settings::NetworkSettings;

const FILE_NAME: &str = "nodes";
const FILE_PREFIX: &[u8] = b"datamesh nodes v1\n";
const ROLLS_NAME: &str = "rolls";
const ROLLS_PREFIX: &[u8] = b"datamesh rolls v1\n";
/// The longest file that is read, bytes: room for every node a topology keeps.
const FILE_SIZE_MAX: u64 = 256 * 1024 * 1024;

/// Reads the records that were saved; none where nothing was. They are verified by whoever uses them.
pub(crate) fn load(directory: &Path) -> io::Result<Vec<Signed<NodeRecord>>> {
    load_list(&directory.join(FILE_NAME), FILE_PREFIX)
}

/// Replaces the saved records, all or nothing, also when the power fails.
pub(crate) fn save(directory: &Path, records: &[Signed<NodeRecord>]) -> io::Result<()> {
    save_list(directory, FILE_NAME, FILE_PREFIX, &encode(&records))
}

/// Replaces the saved rolls, under the same terms.
pub(crate) fn save_rolls(directory: &Path, rolls: &Rolls) -> io::Result<()> {
    let rolls: Vec<&Signed<Roll>> = rolls.rolls().collect();
    save_list(directory, ROLLS_NAME, ROLLS_PREFIX, &encode(&rolls))
}

/// What was known of the mesh before, and the rolls that a network is started with, which are kept with those. Damage is no reason not
/// to start: others will tell again.
pub(crate) async fn known(
    settings: &NetworkSettings,
) -> Result<(Vec<Signed<NodeRecord>>, Rolls), StartError> {
    let (mut rolls, given) = (Rolls::new(settings.authorities.clone()), settings.rolls.clone());
    let Some(path) = settings.state_directory.clone() else {
        learn(&mut rolls, given);
        return Ok((Vec::new(), rolls));
    };
    let load = move || {
        let failed = |source| StartError::State { path: path.clone(), source };
        fs::create_dir_all(&path).map_err(failed)?;
        let unread = |error: &io::Error| {
            tracing::warn!(%error, path = %path.display(), "what was known of the mesh can't be read");
        };
        let records = load(&path).inspect_err(unread).unwrap_or_default();
        let saved = load_list(&path.join(ROLLS_NAME), ROLLS_PREFIX).inspect_err(unread).unwrap_or_default();
        learn(&mut rolls, saved);
        if learn(&mut rolls, given) {
            save_rolls(&path, &rolls).map_err(failed)?;
        }
        Ok((records, rolls))
    };
    tokio::task::spawn_blocking(load).await.expect("loading does not panic")
}

/// Does work on files off the threads that must not wait. At the end of the process it may not be done: what was saved before
/// counts.
///
/// # Errors
/// What the work says, or `Interrupted` where the process ends.
pub(crate) async fn off_thread(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_cancelled() => Err(io::ErrorKind::Interrupted.into()),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Whether any of these was news.
fn learn(rolls: &mut Rolls, told: Vec<Signed<Roll>>) -> bool {
    let now = Timestamp::from_ms(now_ms());
    let mut any = false;
    for roll in told {
        let news = rolls.learn(roll, now);
        any |= news.inspect_err(|error| tracing::warn!(%error, "a roll does not count")).unwrap_or(false);
    }
    any
}

fn load_list<T: DeserializeOwned + Serialize>(path: &Path, prefix: &[u8]) -> io::Result<Vec<T>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_SIZE_MAX).read_to_end(&mut bytes)?;
    let malformed = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let body = bytes.strip_prefix(prefix).ok_or_else(|| malformed("it is something else".to_owned()))?;
    decode(body).map_err(|error| malformed(error.to_string()))
}

fn save_list(directory: &Path, name: &str, prefix: &[u8], encoded: &[u8]) -> io::Result<()> {
    let beside = directory.join(format!("{name}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(prefix)?;
    file.write_all(encoded)?;
    file.sync_all()?;
    fs::rename(&beside, directory.join(name))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{FILE_NAME, load, save};
    use crate::membership::book::tests::signed;

    #[test]
    fn records_are_read_back_as_saved_and_damage_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(load(directory.path()).expect("nothing is no error").is_empty());
        for count in [1, 3] {
            let records: Vec<_> = (0..count).map(|number| signed(number, 1, |_| ())).collect();
            save(directory.path(), &records).expect("saved");
            assert_eq!(load(directory.path()).expect("loaded"), records);
        }
        let path = directory.path().join(FILE_NAME);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes.pop();
        std::fs::write(&path, bytes).expect("written");
        assert!(load(directory.path()).is_err());
    }
}
