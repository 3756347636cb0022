//! The charter of a mesh, as its node keeps it: whether it is open or private, and under which secret.
//!
//! A node learns it when it first comes up, and keeps it: a home's node is of one mesh, and never of another by mistake.

use std::fmt;
use std::path::PathBuf;

pub use datamesh_codec::keys::MeshSecret;
use datamesh_codec::keys::ParseKeyError;
use datamesh_engine::world::Entropy;
use datamesh_net::MeshKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::home::stored::{self, StoredFileError};
use crate::home::{Access, Home, HomeError, read};
use crate::system::SystemEntropy;

const FORMAT_VERSION: u32 = 1;

/// What a mesh is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Charter {
    /// What its nodes and clients know and nobody else; `None` where it is open.
    pub secret: Option<MeshSecret>,
}

/// What a node is told of its mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CharterOrder {
    /// Nothing: it is what it was, and open if it was nothing.
    AsBefore,
    /// It is private, under a new secret unless there is one.
    Private,
    /// It is private under this secret.
    Secret(MeshSecret),
}

/// Why a node can't be of the mesh that it is told of.
#[derive(Debug, thiserror::Error)]
pub enum CharterError {
    /// A file of the home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The node was of another mesh before.
    #[error("the node of this home is of {before}, and can't be of {told}")]
    OtherMesh {
        /// What it was of.
        before: &'static str,
        /// What it is told.
        told: &'static str,
    },
    /// The file can't be understood.
    #[error(transparent)]
    Stored(#[from] StoredFileError),
    /// The mesh is private, and its secret is gone.
    #[error("{} is missing: the secret of the private mesh that this home's node is of", .0.display())]
    Missing(PathBuf),
    /// What is kept as the secret is none.
    #[error("{} holds no mesh secret", path.display())]
    Secret {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: ParseKeyError,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    kind: Kind,
}

/// Whether a mesh can be entered by whoever reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// By whoever reaches it.
    Open,
    /// By whoever knows its secret.
    Private,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Open => "open",
            Self::Private => "private",
        })
    }
}

impl Charter {
    /// What kind of mesh it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        if self.secret.is_some() { Kind::Private } else { Kind::Open }
    }

    /// What connections prove the mesh with.
    #[must_use]
    pub fn key(&self) -> Option<MeshKey> {
        self.secret.as_ref().map(|secret| MeshKey::of_secret(secret.as_bytes()))
    }

    /// The charter of this home's node: what was kept, or what it is told when it comes up for the first time. Nothing is
    /// kept yet.
    ///
    /// # Errors
    /// [`CharterError`] when what was kept can't be read, or is another mesh's.
    pub fn of_node(home: &Home, order: &CharterOrder) -> Result<Self, CharterError> {
        let kept = Self::kept(home)?;
        let new = |secret| Self { secret: Some(secret) };
        match (kept, order) {
            (Some(kept), CharterOrder::AsBefore) => Ok(kept),
            (None, CharterOrder::AsBefore) => Ok(Self::default()),
            (None, CharterOrder::Private) => {
                Ok(new(MeshSecret::random(&mut |bytes| SystemEntropy.fill(bytes))))
            }
            (None, CharterOrder::Secret(secret)) => Ok(new(secret.clone())),
            (Some(kept), CharterOrder::Private) if kept.secret.is_some() => Ok(kept),
            (Some(kept), CharterOrder::Secret(secret)) if kept.secret.as_ref() == Some(secret) => Ok(kept),
            (Some(Self { secret: Some(_) }), _) => {
                Err(CharterError::OtherMesh { before: "a private mesh", told: "one with another secret" })
            }
            (Some(Self { secret: None }), _) => {
                Err(CharterError::OtherMesh { before: "an open mesh", told: "a private one" })
            }
        }
    }

    /// What was kept; `None` for a node that never came up.
    fn kept(home: &Home) -> Result<Option<Self>, CharterError> {
        let path = home.charter_path();
        let Some(text) = read(&path, Access::Shared)? else {
            // Nodes that came up before there were charters were of open meshes.
            return Ok(home.node_disk_path().join("items").exists().then(Self::default));
        };
        let known = FORMAT_VERSION..=FORMAT_VERSION;
        let stored = stored::parse(&path, &text, known, |stored: &Stored| stored.version)?;
        let secret = match stored.kind {
            Kind::Open => None,
            Kind::Private => Some(read_secret(home.node_secret_path())?),
        };
        Ok(Some(Self { secret }))
    }

    /// Keeps it for the home's node. What is kept already is not written again: a node starts on a full disk too.
    ///
    /// # Errors
    /// [`CharterError`] when it can't be written, or what was kept can't be read.
    ///
    /// # Panics
    /// Never: a number and a word are TOML.
    pub fn keep(&self, home: &Home) -> Result<(), CharterError> {
        if home.charter_path().exists() && Self::kept(home)?.as_ref() == Some(self) {
            return Ok(());
        }
        let lock = home.lock()?;
        if let Some(secret) = &self.secret {
            lock.write(&home.node_secret_path(), &line(secret), Access::Secret)?;
        }
        let stored = Stored { version: FORMAT_VERSION, kind: self.kind() };
        let text = toml_edit::ser::to_string_pretty(&stored).expect("a number and a word are TOML");
        Ok(lock.write(&home.charter_path(), text.as_bytes(), Access::Shared)?)
    }
}

/// A secret as a file holds it.
pub(crate) fn line(secret: &MeshSecret) -> Zeroizing<Vec<u8>> {
    let text = secret.to_text();
    Zeroizing::new([text.as_bytes(), b"\n"].concat())
}

/// Reads a secret from a file that its user alone can read.
pub(crate) fn read_secret(path: PathBuf) -> Result<MeshSecret, CharterError> {
    let Some(text) = read(&path, Access::Secret)? else { return Err(CharterError::Missing(path)) };
    MeshSecret::from_text(text.trim()).map_err(|source| CharterError::Secret { path, source })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use datamesh_codec::keys::MeshSecret;

    use super::{Charter, CharterError, CharterOrder, Kind};
    use crate::home::Home;

    fn home() -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().expect("tempdir");
        let home = Home::at(directory.path().to_owned());
        fs::create_dir_all(home.node_disk_path()).expect("made");
        (directory, home)
    }

    #[test]
    fn a_private_node_keeps_its_secret_to_itself_and_comes_up_with_it() {
        let (_directory, home) = home();
        let made = Charter::of_node(&home, &CharterOrder::Private).expect("made");
        assert_eq!(made.kind(), Kind::Private);
        made.keep(&home).expect("kept");
        let mode = fs::metadata(home.node_secret_path()).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let secret = made.secret.clone().expect("private");
        for order in [CharterOrder::AsBefore, CharterOrder::Private, CharterOrder::Secret(secret)] {
            assert_eq!(Charter::of_node(&home, &order).expect("as before"), made);
        }
        let other = CharterOrder::Secret(MeshSecret::from_bytes(&[9; 32]));
        assert!(matches!(Charter::of_node(&home, &other), Err(CharterError::OtherMesh { .. })));

        fs::set_permissions(home.node_secret_path(), fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(matches!(Charter::of_node(&home, &CharterOrder::AsBefore), Err(CharterError::Home(_))));
        fs::remove_file(home.node_secret_path()).expect("removed");
        assert!(matches!(Charter::of_node(&home, &CharterOrder::AsBefore), Err(CharterError::Missing(_))));
    }

    #[test]
    fn a_node_of_an_open_mesh_never_becomes_private() {
        let (_directory, home) = home();
        Charter::default().keep(&home).expect("kept");
        for order in [CharterOrder::Private, CharterOrder::Secret(MeshSecret::from_bytes(&[9; 32]))] {
            assert!(matches!(Charter::of_node(&home, &order), Err(CharterError::OtherMesh { .. })));
        }
        fs::remove_file(home.charter_path()).expect("removed");
        assert!(Charter::of_node(&home, &CharterOrder::Private).is_ok(), "it was never up");
        fs::create_dir_all(home.node_disk_path().join("items")).expect("made");
        assert!(
            Charter::of_node(&home, &CharterOrder::Private).is_err(),
            "it was up before there were charters"
        );
    }

    #[test]
    fn a_charter_that_this_program_did_not_write_is_refused() {
        let (_directory, home) = home();
        for bad in ["", "version = 2\nkind = 'open'", "version = 1", "version = 1\nkind = 'closed'", "\0"] {
            fs::write(home.charter_path(), bad).expect("writes");
            assert!(Charter::of_node(&home, &CharterOrder::AsBefore).is_err(), "{bad}");
        }
    }
}
