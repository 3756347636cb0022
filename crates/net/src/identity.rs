//! The node's key pair, on disk and as a peer id.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use datamesh_core::id::{ID_SIZE, NodeId};
use ed25519_dalek::SigningKey;
use libp2p::PeerId;
use libp2p::identity::{Keypair, ed25519};
use libp2p::multihash::Multihash;
use zeroize::Zeroizing;

const FILE_PREFIX: &[u8] = b"datamesh node key v1\n";
const FILE_SIZE: usize = FILE_PREFIX.len() + ID_SIZE;
/// A peer id is a multihash; that of a short key holds the key itself instead of a hash.
const IDENTITY_HASH_CODE: u64 = 0;
/// What stands before an Ed25519 key there: the tags of its protobuf message.
const DIGEST_PREFIX: [u8; 4] = [0x08, 0x01, 0x12, 0x20];

/// Why a node's key can't be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file can't be read, written or synced.
    #[error("node key {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is something else, or damaged.
    #[error("node key {} is not a node key of version 1", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// Others than its owner may read the file.
    #[error("node key {} may be read by others (mode {mode:o}): run chmod 600 on it", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The system gives no randomness.
    #[error("no randomness for a node key: {0}")]
    Entropy(String),
}

/// A participant's key pair.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
}

impl Identity {
    /// Draws a new key pair that is kept nowhere.
    ///
    /// # Errors
    /// [`IdentityError::Entropy`] when the system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut secret = Zeroizing::new([0; ID_SIZE]);
        getrandom::fill(secret.as_mut_slice()).map_err(|error| IdentityError::Entropy(error.to_string()))?;
        Ok(Self::from_secret(&secret))
    }

    /// The key pair of a secret.
    #[must_use]
    pub fn from_secret(secret: &[u8; ID_SIZE]) -> Self {
        Self { key: SigningKey::from_bytes(secret) }
    }

    /// Reads the key pair from a file, which is created with a new one if there is none.
    ///
    /// # Errors
    /// [`IdentityError`] when the file can't be read or created, is no key, or is open to others.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match Self::load(path) {
            Err(IdentityError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let created = Self::generate()?;
                match created.create(path) {
                    Ok(()) => Ok(created),
                    // Another process was faster: its key is the node's.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
                    Err(source) => Err(IdentityError::File { path: path.to_owned(), source }),
                }
            }
            loaded => loaded,
        }
    }

    /// Reads the key pair from a file.
    ///
    /// # Errors
    /// [`IdentityError`] when the file can't be read, is no key, or is open to others.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let in_file = |source| IdentityError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(in_file)?;
        refuse_exposed(path, &file)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_SIZE + 1));
        let read_size_max = u64::try_from(FILE_SIZE + 1).expect("a few bytes");
        file.take(read_size_max).read_to_end(&mut bytes).map_err(in_file)?;
        let secret =
            bytes.strip_prefix(FILE_PREFIX).and_then(|secret| <&[u8; ID_SIZE]>::try_from(secret).ok());
        secret.map(Self::from_secret).ok_or_else(|| IdentityError::Malformed { path: path.to_owned() })
    }

    /// Writes a whole and synced file beside the final name, then links it there unless the name is taken.
    fn create(&self, path: &Path) -> io::Result<()> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.new", std::process::id()));
        let beside = PathBuf::from(beside);
        let written = self.write(&beside).and_then(|()| fs::hard_link(&beside, path));
        let removed = fs::remove_file(&beside);
        written.and(removed)?;
        File::open(directory)?.sync_all()
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        // A file that a crash left here may have any content and permissions.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        file.write_all(FILE_PREFIX)?;
        file.write_all(Zeroizing::new(self.key.to_bytes()).as_slice())?;
        file.sync_all()
    }

    /// The node's id: its public key.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId::from_bytes(self.key.verifying_key().to_bytes())
    }

    /// The key that signs the node's records and receipts.
    #[must_use]
    pub const fn signing_key(&self) -> &SigningKey {
        &self.key
    }

    /// The same key pair as libp2p wants it.
    pub(crate) fn keypair(&self) -> Keypair {
        let mut secret = Zeroizing::new(self.key.to_bytes());
        let secret =
            ed25519::SecretKey::try_from_bytes(secret.as_mut_slice()).expect("32 bytes are a secret");
        ed25519::Keypair::from(secret).into()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identity({})", self.node())
    }
}

#[cfg(unix)]
fn refuse_exposed(path: &Path, file: &File) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata().map_err(|source| IdentityError::File { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(IdentityError::Exposed { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn refuse_exposed(_: &Path, _: &File) -> Result<(), IdentityError> {
    Ok(())
}

/// The libp2p peer id of a node.
///
/// # Panics
/// Never: the multihash of any key is short enough.
#[must_use]
pub fn peer_of(node: &NodeId) -> PeerId {
    let digest = [&DIGEST_PREFIX[..], node.as_bytes()].concat();
    let hash = Multihash::wrap(IDENTITY_HASH_CODE, &digest).expect("36 bytes fit a multihash of 64");
    PeerId::from_multihash(hash).expect("an identity hash of 36 bytes is a peer id")
}

/// The node whose libp2p peer id this is; `None` if its key is not Ed25519.
#[must_use]
pub fn node_of(peer: &PeerId) -> Option<NodeId> {
    let hash: &Multihash<64> = peer.as_ref();
    let digest = (hash.code() == IDENTITY_HASH_CODE).then(|| hash.digest())?;
    digest.strip_prefix(&DIGEST_PREFIX)?.try_into().ok().map(NodeId::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::{FILE_SIZE, Identity, IdentityError, node_of, peer_of};

    #[test]
    fn a_node_and_its_peer_id_name_the_same_key() {
        let identity = Identity::generate().expect("entropy");
        let peer = identity.keypair().public().to_peer_id();
        assert_eq!(peer_of(&identity.node()), peer);
        assert_eq!(node_of(&peer), Some(identity.node()));
        assert_eq!(identity.node().to_string(), peer.to_string());
        assert_eq!(node_of(&libp2p::PeerId::random()), None, "a hash is no key");
    }

    #[test]
    fn a_key_is_created_once_and_read_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("deep/node.key");
        let created = Identity::load_or_create(&path).expect("created").node();
        assert_eq!(Identity::load_or_create(&path).expect("read").node(), created);
        let names = std::fs::read_dir(path.parent().expect("a parent")).expect("listed").count();
        assert_eq!(names, 1, "nothing is left beside the key");
    }

    #[test]
    fn a_key_that_exists_is_never_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("node.key");
        let first = Identity::load_or_create(&path).expect("created");
        let error = Identity::generate().expect("entropy").create(&path).expect_err("the name is taken");
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(Identity::load(&path).expect("read").node(), first.node());
    }

    #[cfg(unix)]
    #[test]
    fn a_key_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("node.key");
        Identity::load_or_create(&path).expect("created");
        let mode = std::fs::metadata(&path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("opened up");
        assert!(matches!(Identity::load(&path), Err(IdentityError::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn a_file_of_another_length_or_kind_is_no_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("node.key");
        Identity::load_or_create(&path).expect("created");
        let whole = std::fs::read(&path).expect("read");
        assert_eq!(whole.len(), FILE_SIZE);
        let longer = [&whole[..], &[0]].concat();
        for wrong in [&whole[..FILE_SIZE - 1], &longer, &[b'x'; FILE_SIZE]] {
            std::fs::write(&path, wrong).expect("written");
            assert!(matches!(Identity::load(&path), Err(IdentityError::Malformed { .. })));
        }
    }
}
