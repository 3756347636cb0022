//! The roll of an authority in a file: for one whose key is on a machine that reaches no mesh.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use datamesh_core::admission::Roll;
use datamesh_core::encode::{decode, encode};
use datamesh_core::limits::WIRE_HEADER_SIZE_MAX;
use datamesh_core::sign::Signed;

use crate::home::{Access, replace};

const PREFIX: &[u8] = b"datamesh roll v1\n";

/// Why a file can't be read or written as a roll.
#[derive(Debug, thiserror::Error)]
pub enum RollFileError {
    /// The file can't be read or written.
    #[error("{} can't be read or written", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else, or a roll that its authority has not signed.
    #[error("{} holds no roll: {why}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The roll in a file; `None` where there is no file.
///
/// # Errors
/// [`RollFileError`] when it can't be read, or is not signed by whom it names.
pub fn read(path: &Path) -> Result<Option<Signed<Roll>>, RollFileError> {
    let malformed = |why: String| RollFileError::Malformed { path: path.to_owned(), why };
    let failed = |source| RollFileError::File { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let size_max = u64::try_from(PREFIX.len() + WIRE_HEADER_SIZE_MAX).expect("a small number");
    let mut bytes = Vec::new();
    file.take(size_max).read_to_end(&mut bytes).map_err(failed)?;
    let body = bytes.strip_prefix(PREFIX).ok_or_else(|| malformed("it is something else".to_owned()))?;
    let roll: Signed<Roll> = decode(body).map_err(|error| malformed(error.to_string()))?;
    roll.verify().map_err(|error| malformed(error.to_string()))?;
    if !roll.unverified().bounded() {
        return Err(malformed("it is too long, or out of order".to_owned()));
    }
    Ok(Some(roll))
}

/// Replaces the file, all or nothing, also when the power fails.
///
/// # Errors
/// [`RollFileError::File`].
pub fn write(path: &Path, roll: &Signed<Roll>) -> Result<(), RollFileError> {
    let bytes = [PREFIX, &encode(roll)].concat();
    replace(path, &bytes, Access::Shared)
        .map_err(|source| RollFileError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use datamesh_core::admission::{Admission, Admitted, Roll};
    use datamesh_core::encode::encode;
    use datamesh_core::id::{NodeId, OwnerId};
    use datamesh_core::limits::WIRE_HEADER_SIZE_MAX;
    use datamesh_core::sign::Signed;
    use datamesh_core::time::Epoch;
    use ed25519_dalek::SigningKey;

    use super::{PREFIX, read, write};

    #[test]
    fn a_roll_is_read_as_it_was_written_and_nothing_else_is() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("roll");
        assert_eq!(read(&path).expect("no file is fine"), None);
        let key = SigningKey::from_bytes(&[1; 32]);
        let authority = OwnerId::from_bytes(key.verifying_key().to_bytes());
        let who = Admitted::Node(NodeId::from_bytes([5; 32]));
        let admissions = vec![Admission { who, until: Epoch::NEVER, quota: None }];
        let roll = Roll { authority, sequence: 7, admissions };
        let signed = Signed::sign(roll.clone(), &key);
        write(&path, &signed).expect("writes");
        write(&path, &signed).expect("replaces");
        assert_eq!(read(&path).expect("reads"), Some(signed.clone()));

        let twice = Roll { admissions: [roll.admissions.clone(), roll.admissions.clone()].concat(), ..roll };
        let twice = Signed::sign(twice, &key);
        let whole = [PREFIX, &encode(&signed)].concat();
        let mut changed = whole.clone();
        *changed.last_mut().expect("not empty") ^= 1;
        let bad = [
            Vec::new(),
            encode(&signed),
            [PREFIX, &encode(&twice)].concat(),
            whole[..whole.len() - 1].to_vec(),
            changed,
            [PREFIX, &vec![0; 2 * WIRE_HEADER_SIZE_MAX]].concat(),
        ];
        for bytes in bad {
            std::fs::write(&path, bytes).expect("writes");
            assert!(read(&path).is_err());
        }
    }
}
