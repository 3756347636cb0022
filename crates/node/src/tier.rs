//! The disk of a node: the machine's own, or one of which closed segments lie at a backend.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datamesh_backend::{Address, BackendDisk, BackendSettings, Secrets};
pub use datamesh_backend::{OpenBackendError, RemoteError};
use datamesh_core::id::NodeId;
use datamesh_core::limits::SEGMENT_SIZE_MAX;
use datamesh_core::topology::Role;
use datamesh_store::StoreSettings;
use datamesh_store::disk::{Disk, Files};
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use crate::home::{self, Access, Home, HomeError};
use crate::metrics::{Samples, Source, Value, definition as metric};
use crate::settings::{BackendChoice, Settings};
use crate::system::SystemClock;
use crate::tuning::store_settings;

/// What a disk over a backend keeps beside the segments.
const BACKEND_FOLDER: &str = "backend";
/// Segments that the own disk must have room for: one that is written, one that moves, and those a start may read again.
const LOCAL_SEGMENTS_MIN: u64 = 4;
/// The shortest segments: each is an object at the backend.
const SEGMENT_SIZE_MIN: u64 = 256 << 10;

/// Why a node's disk can't be used as its settings say.
#[derive(Debug, thiserror::Error)]
pub enum TierError {
    /// A role that a backend is not for.
    #[error(
        "backend.url is set, and a node of the role cache owes its items to nobody: unset it, or choose another role"
    )]
    Role,
    /// Items lie at a backend that the settings don't name.
    #[error("segments of this node lie at {0}, and backend.url is none: set it to that")]
    Forgotten(String),
    /// A size that can't work.
    #[error("{key} is {size} bytes: {why}")]
    Size {
        /// Which setting.
        key: &'static str,
        /// What it says.
        size: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The file with the secrets can't be used.
    #[error(transparent)]
    Secrets(#[from] HomeError),
    /// What is in the file with the secrets is none.
    #[error("{}:{line}: no `NAME = \"TEXT\"` with access_key, secret_key, session_token, user or password", path.display())]
    NoSecrets {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        line: usize,
    },
    /// An S3-compatible store without keys.
    #[error(
        "no keys for the S3-compatible store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or backend.secrets"
    )]
    NoKeys,
    /// The backend or what is known of it can't be used.
    #[error(transparent)]
    Open(#[from] OpenBackendError),
}

/// A disk for a node's store, and how that store is to be opened on it.
pub(crate) struct Tier {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) settings: StoreSettings,
    /// The same disk, if it is one over a backend.
    pub(crate) backend: Option<Arc<BackendDisk>>,
}

/// The disk of a node of this role for the store in this directory.
///
/// # Errors
/// [`TierError`] when the settings say what can't be, or the backend can't be used.
///
/// # Panics
/// Outside of a runtime.
pub(crate) async fn open(
    home: &Home,
    settings: &Settings,
    role: Role,
    node: NodeId,
    directory: &Path,
) -> Result<Tier, TierError> {
    let address = match (&settings.backend.url, role) {
        (BackendChoice::Own, _) => {
            let claim = directory.join(BACKEND_FOLDER).join("claim");
            return match std::fs::read_to_string(claim) {
                Ok(address) => Err(TierError::Forgotten(address)),
                Err(_) => {
                    Ok(Tier { disk: Arc::new(Files), settings: store_settings(settings), backend: None })
                }
            };
        }
        (BackendChoice::At(address), Role::Archival | Role::Storage) => address.clone(),
        (BackendChoice::At(_), _) => return Err(TierError::Role),
    };
    let options = sizes(settings)?;
    let backend = BackendSettings {
        secrets: secrets(home, settings, &address)?,
        address,
        node,
        local_size_max: settings.backend.local.bytes(),
        local_size_kept: options.checkpoint_size,
        cold_after: settings.backend.cold_after.duration(),
        free_floor: options.free_floor,
        clock: Arc::new(SystemClock::start()),
        runtime: Handle::current(),
    };
    let directory = directory.to_owned();
    let open = move || BackendDisk::open(&directory, backend, Arc::new(Files));
    let disk = tokio::task::spawn_blocking(open).await.expect("opening a disk does not panic")?;
    let disk = Arc::new(disk);
    Ok(Tier { disk: Arc::clone(&disk) as Arc<dyn Disk>, settings: options, backend: Some(disk) })
}

/// How a store is opened on a disk over a backend.
fn sizes(settings: &Settings) -> Result<StoreSettings, TierError> {
    let (segment_size, local) = (settings.backend.segment_size.bytes(), settings.backend.local.bytes());
    if !(SEGMENT_SIZE_MIN..=SEGMENT_SIZE_MAX).contains(&segment_size) {
        let why = format!("{SEGMENT_SIZE_MIN} to {SEGMENT_SIZE_MAX} are possible");
        return Err(TierError::Size { key: "backend.segment_size", size: segment_size, why });
    }
    let least = LOCAL_SEGMENTS_MIN * segment_size;
    if local < least {
        let why = format!("{LOCAL_SEGMENTS_MIN} segments need {least}");
        return Err(TierError::Size { key: "backend.local", size: local, why });
    }
    // What a start may have to read again stays local, so that it needs no backend.
    Ok(StoreSettings { segment_size, checkpoint_size: segment_size, ..store_settings(settings) })
}

/// What the backend wants to be shown: from the file that the settings name, else from the environment.
fn secrets(home: &Home, settings: &Settings, address: &Address) -> Result<Secrets, TierError> {
    let secrets = match settings.backend.secrets.path() {
        Some(path) => read_secrets(&home.root().join(path))?,
        None => {
            let variable = |name| std::env::var(name).ok().map(Zeroizing::new);
            Secrets {
                access_key: variable("AWS_ACCESS_KEY_ID"),
                secret_key: variable("AWS_SECRET_ACCESS_KEY"),
                session_token: variable("AWS_SESSION_TOKEN"),
                user: variable("DATAMESH_BACKEND_USER"),
                password: variable("DATAMESH_BACKEND_PASSWORD"),
            }
        }
    };
    let lacks_keys = secrets.access_key.is_none() || secrets.secret_key.is_none();
    if lacks_keys && matches!(address, Address::S3 { .. }) { Err(TierError::NoKeys) } else { Ok(secrets) }
}

fn read_secrets(path: &Path) -> Result<Secrets, TierError> {
    let text = home::read(path, Access::Secret)?;
    let missing = || HomeError::Read { path: path.to_owned(), source: std::io::ErrorKind::NotFound.into() };
    let text = text.ok_or_else(missing)?;
    let mut secrets = Secrets::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let known = line.split_once('=').and_then(|(name, value)| {
            let value = value.trim().strip_prefix('"')?.strip_suffix('"')?;
            let secret = match name.trim() {
                "access_key" => &mut secrets.access_key,
                "secret_key" => &mut secrets.secret_key,
                "session_token" => &mut secrets.session_token,
                "user" => &mut secrets.user,
                "password" => &mut secrets.password,
                _ => return None,
            };
            *secret = Some(Zeroizing::new(value.to_owned()));
            Some(())
        });
        known.ok_or_else(|| TierError::NoSecrets { path: path.to_owned(), line: index + 1 })?;
    }
    Ok(secrets)
}

impl Source for BackendDisk {
    fn collect(&self, samples: &mut Samples) {
        let figures = self.figures();
        let mut put =
            |definition, labels: &[&str], value| samples.put(definition, labels, Value::Integer(value));
        put(&metric::BACKEND_AWAY, &[], figures.away);
        put(&metric::BACKEND_SEGMENTS, &["backend"], figures.segment_count);
        put(&metric::BACKEND_SEGMENTS, &["local"], figures.local_count);
        put(&metric::BACKEND_SEGMENT_BYTES, &["backend"], figures.size);
        put(&metric::BACKEND_SEGMENT_BYTES, &["local"], figures.local_size);
        put(&metric::BACKEND_REMOVALS_WAITING, &[], figures.removals_waiting);
        put(&metric::BACKEND_BYTES, &["sent"], figures.uploaded_bytes);
        put(&metric::BACKEND_BYTES, &["received"], figures.downloaded_bytes);
        put(&metric::BACKEND_READS, &[], figures.read_count);
        put(&metric::BACKEND_RECALLS, &[], figures.recalled_count);
        put(&metric::BACKEND_FAILURES, &[], figures.failure_count);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::{TierError, read_secrets};
    use crate::home::HomeError;

    #[test]
    fn secrets_are_read_from_a_file_that_nobody_else_can_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("secrets");
        fs::write(&path, "# of the bucket\naccess_key = \"A\"\nsecret_key=\"b=c\"\n").expect("written");
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        mode(0o640);
        assert!(matches!(read_secrets(&path), Err(TierError::Secrets(HomeError::Exposed { .. }))));
        mode(0o600);
        let secrets = read_secrets(&path).expect("read");
        assert_eq!(secrets.access_key.as_ref().map(|text| text.as_str()), Some("A"));
        assert_eq!(secrets.secret_key.as_ref().map(|text| text.as_str()), Some("b=c"));
        assert_eq!(format!("{secrets:?}"), "Secrets(..)");

        fs::write(&path, "access_key = \"A\"\nsecret = \"hush\"\n").expect("written");
        let refused = read_secrets(&path).expect_err("an unknown name");
        assert!(matches!(&refused, TierError::NoSecrets { line: 2, .. }), "{refused}");
        assert!(!refused.to_string().contains("hush"));
    }
}
