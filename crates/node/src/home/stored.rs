//! Files of the home that say their version: read by a program that knows it, or refused.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a file of the home can't be understood.
#[derive(Debug, thiserror::Error)]
pub enum StoredFileError {
    /// The file is not what this program writes.
    #[error("{} is malformed: {why}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A later version of the program wrote the file.
    #[error("{} has version {version}; this program knows {known}", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The latest version that is known.
        known: u32,
    },
}

impl StoredFileError {
    pub(crate) fn malformed(path: &Path, why: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), why: why.into() }
    }
}

/// Reads what such a file says, of one of the versions from the earliest known to the latest. The parser's own text would quote the
/// line, which may be a secret.
pub(crate) fn parse<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    known: std::ops::RangeInclusive<u32>,
    version: impl Fn(&T) -> u32,
) -> Result<T, StoredFileError> {
    let stored: T = toml_edit::de::from_str(text)
        .map_err(|error: toml_edit::de::Error| StoredFileError::malformed(path, error.message()))?;
    let version = version(&stored);
    if known.contains(&version) {
        return Ok(stored);
    }
    Err(StoredFileError::Version { path: path.to_owned(), version, known: *known.end() })
}
