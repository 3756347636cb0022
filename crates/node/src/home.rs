//! The home: where one user's identities, settings, catalog and shards lie, and how they are changed safely.
//!
//! Directories are the user's alone (0700), secrets too (0600). A file is replaced whole, synced before and after, by
//! one process at a time.

mod name;
mod networks;
pub(crate) mod stored;

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use datamesh_core::id::OwnerId;
use datamesh_store::catalog::Catalog;
use zeroize::Zeroizing;

use crate::journals::Journals;
use crate::scores::Scores;
use crate::settings::StorageSettings;

pub use datamesh_store::catalog::CatalogError;
pub use name::{Name, ParseNameError};
pub use networks::{EMBEDDED_MESH, Mesh, Networks, NetworksError};
pub use stored::StoredFileError;

const HOME_FILE_SIZE_MAX: u64 = 16 * 1024 * 1024;
const EMBEDDED_DISK_COUNT: usize = 6;
const DIRECTORY_MODE: u32 = 0o700;
const SECRET_MODE: u32 = 0o600;
const SHARED_MODE: u32 = 0o644;
const OTHERS_MODE_MASK: u32 = 0o077;

/// The directory of one user's files. Nothing is created before [`Home::create`] or [`Home::lock`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

/// Why the home can't be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// A directory can't be made.
    #[error("directory {} can't be created", path.display())]
    Create {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The lock can't be had.
    #[error("{} can't be locked", path.display())]
    Lock {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file can't be read.
    #[error("{} can't be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is far larger than it ever gets.
    #[error("{} has more than {HOME_FILE_SIZE_MAX} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// A secret that others can read is none.
    #[error("{} can be read by others (mode {mode:03o}): run chmod 600 on it", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file can't be written.
    #[error("{} can't be written", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The user alone.
    Secret,
    /// Whoever may enter the home.
    Shared,
}

impl Home {
    /// The home at this directory, whether it exists or not.
    #[must_use]
    pub const fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The home that this platform's users expect: `$XDG_DATA_HOME/datamesh`, else `~/.local/share/datamesh`. `None`
    /// where the user has no home directory.
    #[must_use]
    pub fn of_platform() -> Option<Self> {
        let data = env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let data = data.or_else(|| env::home_dir().map(|home| home.join(".local/share")))?;
        Some(Self::at(data.join("datamesh")))
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The settings file.
    #[must_use]
    pub fn settings_path(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The user's identities.
    #[must_use]
    pub fn keyring_path(&self) -> PathBuf {
        self.root.join("keys.toml")
    }

    /// The key of the node that runs from this home.
    #[must_use]
    pub fn node_key_path(&self) -> PathBuf {
        self.root.join("node.key")
    }

    /// What was put from here.
    #[must_use]
    pub fn catalog(&self) -> Catalog {
        Catalog::at(self.root.join("catalog"))
    }

    /// The journals of puts into this mesh that are under way or were broken off.
    #[must_use]
    pub fn journals(&self, mesh: &str) -> Journals {
        Journals::at(self.root.join("journals").join(mesh))
    }

    /// The journals of gets that are under way or were broken off.
    #[must_use]
    pub fn get_journals_path(&self) -> PathBuf {
        self.root.join("journals-of-gets")
    }

    /// Receipts of what this home's processes were served, or have served.
    #[must_use]
    pub fn receipts_path(&self) -> PathBuf {
        self.root.join("receipts")
    }

    /// The meshes that were joined.
    #[must_use]
    pub fn networks_path(&self) -> PathBuf {
        self.root.join("networks.toml")
    }

    /// The secret of a private mesh that was joined under this name.
    #[must_use]
    pub fn mesh_secret_path(&self, name: &Name) -> PathBuf {
        self.root.join("mesh-secrets").join(name.as_str())
    }

    /// What the mesh of this home's node is.
    #[must_use]
    pub fn charter_path(&self) -> PathBuf {
        self.node_disk_path().join("charter.toml")
    }

    /// The secret of the private mesh that this home's node is of.
    #[must_use]
    pub fn node_secret_path(&self) -> PathBuf {
        self.node_disk_path().join("mesh-secret")
    }

    /// The nodes that were met of each mesh.
    #[must_use]
    pub fn met_path(&self) -> PathBuf {
        self.root.join("met")
    }

    /// What is known of peers.
    #[must_use]
    pub fn scores(&self) -> Scores {
        Scores::at(self.root.join("peers.scores"))
    }

    /// Whether the node of this home is to give away what it holds.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining_path().exists()
    }

    /// Says whether it is to. A running node sees it within seconds; one that is not, when it starts.
    ///
    /// # Errors
    /// [`HomeError::Write`].
    pub fn set_draining(&self, draining: bool) -> Result<(), HomeError> {
        let path = self.draining_path();
        let written = if draining {
            fs::create_dir_all(self.node_disk_path()).and_then(|()| fs::write(&path, ""))
        } else {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        written.map_err(|source| HomeError::Write { path, source })
    }

    fn draining_path(&self) -> PathBuf {
        self.node_disk_path().join("draining")
    }

    /// Where the node notes how far it has read its items again.
    #[must_use]
    pub fn scrubbed_path(&self) -> PathBuf {
        self.node_disk_path().join("scrubbed")
    }

    /// The disk of the node that runs from this home.
    #[must_use]
    pub fn node_disk_path(&self) -> PathBuf {
        self.root.join("node")
    }

    /// Where the indexes of an owner's buckets on one mesh lie.
    #[must_use]
    pub fn buckets_path(&self, network: &str, owner: &OwnerId) -> PathBuf {
        self.root.join("buckets").join(network).join(owner.to_string())
    }

    /// What is kept of what was got.
    #[must_use]
    pub fn cache_path(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// What commands from here have moved, all together.
    #[must_use]
    pub fn totals_path(&self) -> PathBuf {
        self.root.join("totals")
    }

    /// When the garbage of the embedded mesh was collected last.
    #[must_use]
    pub fn collected_path(&self) -> PathBuf {
        self.root.join("collected")
    }

    /// The disks of the embedded mesh.
    #[must_use]
    pub fn embedded_disk_paths(&self, settings: &StorageSettings) -> Vec<PathBuf> {
        if settings.disks.is_empty() {
            let disk = |index: usize| self.root.join("disks").join(index.to_string());
            return (0..EMBEDDED_DISK_COUNT).map(disk).collect();
        }
        settings.disks.iter().map(|disk| self.root.join(disk)).collect()
    }

    /// Creates the directory.
    ///
    /// # Errors
    /// [`HomeError::Create`].
    pub fn create(&self) -> Result<(), HomeError> {
        let created = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&self.root);
        created.map_err(|source| HomeError::Create { path: self.root.clone(), source })
    }

    /// Creates the directory and waits until no other process changes its files.
    ///
    /// # Errors
    /// [`HomeError::Create`] and [`HomeError::Lock`].
    pub fn lock(&self) -> Result<HomeLock, HomeError> {
        self.create()?;
        let path = self.root.join("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(SECRET_MODE);
        let locked = options.open(&path).and_then(|file| file.lock().map(|()| file));
        locked.map(|file| HomeLock { _file: file }).map_err(|source| HomeError::Lock { path, source })
    }
}

/// Reads a text file of the home; `None` if there is none. A secret that others can read is refused.
///
/// # Errors
/// [`HomeError::Read`], [`HomeError::TooLarge`] and [`HomeError::Exposed`].
pub fn read(path: &Path, access: Access) -> Result<Option<Zeroizing<String>>, HomeError> {
    let failed = |source| HomeError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if access == Access::Secret && mode & OTHERS_MODE_MASK != 0 {
        return Err(HomeError::Exposed { path: path.to_owned(), mode });
    }
    if metadata.len() > HOME_FILE_SIZE_MAX {
        return Err(HomeError::TooLarge { path: path.to_owned() });
    }
    // Room for all of it at once: a text that grows leaves copies of a secret behind.
    let size = usize::try_from(metadata.len()).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(size + 1));
    file.take(HOME_FILE_SIZE_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// The right to change the home's files. Held by one process at a time, released when dropped.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

impl HomeLock {
    /// Replaces a file whole, in a directory that is made if it is missing: after a crash it is the old one or the new one. Done
    /// when a power cut can't take it back.
    ///
    /// # Errors
    /// [`HomeError::Create`] and [`HomeError::Write`].
    pub fn write(&self, path: &Path, bytes: &[u8], access: Access) -> Result<(), HomeError> {
        if let Some(directory) = path.parent() {
            let created = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
            created.map_err(|source| HomeError::Create { path: directory.to_owned(), source })?;
        }
        replace(path, bytes, access).map_err(|source| HomeError::Write { path: path.to_owned(), source })
    }
}

/// Replaces a file whole: after a power cut it is the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let mode = if access == Access::Secret { SECRET_MODE } else { SHARED_MODE };
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let new = directory.join(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::{Access, Home, HomeError, read};
    use crate::settings::Settings;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o777
    }

    #[test]
    fn a_home_and_its_secrets_are_the_users_alone() {
        let directory = tempfile::tempdir().expect("tempdir");
        let home = Home::at(directory.path().join("a/b"));
        let lock = home.lock().expect("locks");
        assert_eq!(mode(home.root()), 0o700);

        let path = home.keyring_path();
        assert!(read(&path, Access::Secret).expect("no file is fine").is_none());
        lock.write(&path, b"secret", Access::Secret).expect("writes");
        assert_eq!(mode(&path), 0o600);
        let text = read(&path, Access::Secret).expect("reads").expect("exists");
        assert_eq!(text.as_str(), "secret");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(read(&path, Access::Secret), Err(HomeError::Exposed { mode: 0o640, .. })));
        assert!(read(&path, Access::Shared).is_ok());
    }

    #[test]
    fn a_file_is_replaced_though_an_earlier_write_was_cut_off() {
        let directory = tempfile::tempdir().expect("tempdir");
        let home = Home::at(directory.path().to_owned());
        let lock = home.lock().expect("locks");
        let path = home.networks_path();
        fs::write(directory.path().join("networks.toml.new"), "half of something long").expect("writes");
        lock.write(&path, b"new", Access::Shared).expect("writes");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "new");
        assert!(!directory.path().join("networks.toml.new").exists());
    }

    #[test]
    fn the_lock_is_held_by_one_at_a_time() {
        let directory = tempfile::tempdir().expect("tempdir");
        let home = Home::at(directory.path().to_owned());
        let lock = home.lock().expect("locks");
        let file = fs::File::open(directory.path().join("lock")).expect("opens");
        assert!(file.try_lock().is_err());
        drop(lock);
        assert!(file.try_lock().is_ok());
    }

    #[test]
    fn the_embedded_mesh_has_six_disks_unless_the_settings_say_which() {
        let home = Home::at("/h".into());
        let mut storage = Settings::default().storage;
        assert_eq!(home.embedded_disk_paths(&storage).len(), 6);
        storage.disks = vec!["a".into(), "/mnt/b".into()];
        assert_eq!(home.embedded_disk_paths(&storage), [Path::new("/h/a"), Path::new("/mnt/b")]);
    }
}
