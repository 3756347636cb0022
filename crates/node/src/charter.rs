//! The charter of a mesh, as its node keeps it: whether it is open, private under a secret, or restricted by authorities.
//!
//! A node learns it when it first comes up, and keeps it: a home's node is of one mesh, and never of another by mistake.

use std::fmt;
use std::path::PathBuf;

pub use datamesh_codec::keys::MeshSecret;
use datamesh_codec::keys::ParseKeyError;
use datamesh_core::admission::Authorities;
use datamesh_core::id::{OwnerId, ParseIdError};
use datamesh_engine::world::Entropy;
use datamesh_net::MeshKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::home::stored::{self, StoredFileError};
use crate::home::{Access, Home, HomeError, read};
use crate::system::SystemEntropy;

const FORMAT_VERSION: u32 = 2;
/// Before there were restricted meshes.
const FORMAT_VERSION_FIRST: u32 = 1;

/// What a mesh is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Charter {
    /// What its nodes and clients know and nobody else; `None` where it is not private.
    pub secret: Option<MeshSecret>,
    /// Who admits nodes and owners.
    pub authorities: Authorities,
}

/// What a node is told of its mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CharterOrder {
    /// Of its secret.
    pub secret: SecretOrder,
    /// Of who admits to it; nothing if nobody.
    pub authorities: Authorities,
}

/// What a node is told of the secret of its mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SecretOrder {
    /// Nothing: it is what it was, and none if it was nothing.
    #[default]
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    authorities: Vec<String>,
}

/// Who can enter a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Whoever reaches it.
    Open,
    /// Whoever knows its secret.
    Private,
    /// Whoever reaches it, to read; nodes and owners, whom an authority has admitted.
    Restricted,
    /// Whoever knows its secret, and of these only nodes and owners whom an authority has admitted.
    PrivateRestricted,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Open => "open",
            Self::Private => "private",
            Self::Restricted => "restricted",
            Self::PrivateRestricted => "private, restricted",
        })
    }
}

impl Charter {
    /// What kind of mesh it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match (self.secret.is_some(), self.authorities.is_empty()) {
            (false, true) => Kind::Open,
            (true, true) => Kind::Private,
            (false, false) => Kind::Restricted,
            (true, false) => Kind::PrivateRestricted,
        }
    }

    /// What connections prove the mesh with.
    #[must_use]
    pub fn key(&self) -> Option<MeshKey> {
        let secret = self.secret.as_ref().map(MeshSecret::as_bytes);
        (self.kind() != Kind::Open).then(|| MeshKey::of_charter(secret, &self.authorities))
    }

    /// The charter of this home's node: what was kept, or what it is told when it comes up for the first time. Nothing is
    /// kept yet.
    ///
    /// # Errors
    /// [`CharterError`] when what was kept can't be read, or is another mesh's.
    pub fn of_node(home: &Home, order: &CharterOrder) -> Result<Self, CharterError> {
        let CharterOrder { secret, authorities } = order;
        let Some(kept) = Self::kept(home)? else {
            let secret = match secret {
                SecretOrder::AsBefore => None,
                SecretOrder::Private => Some(MeshSecret::random(&mut |bytes| SystemEntropy.fill(bytes))),
                SecretOrder::Secret(secret) => Some(secret.clone()),
            };
            return Ok(Self { secret, authorities: authorities.clone() });
        };
        let other = |before, told| Err(CharterError::OtherMesh { before, told });
        if !authorities.is_empty() && *authorities != kept.authorities {
            let before =
                if kept.authorities.is_empty() { "a mesh without authorities" } else { "another mesh" };
            return other(before, "one that these authorities restrict");
        }
        match (&kept.secret, secret) {
            (_, SecretOrder::AsBefore) | (Some(_), SecretOrder::Private) => Ok(kept),
            (Some(known), SecretOrder::Secret(told)) if known == told => Ok(kept),
            (Some(_), _) => other("a private mesh", "one with another secret"),
            (None, _) => other("an open mesh", "a private one"),
        }
    }

    /// What was kept; `None` for a node that never came up.
    fn kept(home: &Home) -> Result<Option<Self>, CharterError> {
        let path = home.charter_path();
        // Where there is none, no mesh has taken the node yet, though its disk may be there.
        let Some(text) = read(&path, Access::Shared)? else { return Ok(None) };
        let known = FORMAT_VERSION_FIRST..=FORMAT_VERSION;
        let stored = stored::parse(&path, &text, known, |stored: &Stored| stored.version)?;
        let secret = match stored.kind {
            Kind::Open | Kind::Restricted => None,
            Kind::Private | Kind::PrivateRestricted => Some(read_secret(home.node_secret_path())?),
        };
        let authorities =
            parse_authorities(&stored.authorities).map_err(|why| StoredFileError::malformed(&path, why))?;
        let charter = Self { secret, authorities };
        if charter.kind() != stored.kind {
            // A restricted mesh whose authorities were lost must not come up as an open one.
            let why = format!("a mesh with what it says would be {}, not {}", charter.kind(), stored.kind);
            return Err(StoredFileError::malformed(&path, why).into());
        }
        Ok(Some(charter))
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
        let authorities = self.authorities.iter().map(ToString::to_string).collect();
        let stored = Stored { version: FORMAT_VERSION, kind: self.kind(), authorities };
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

/// Authorities as they are written in a file.
///
/// # Errors
/// What is wrong with them, for a person.
pub(crate) fn parse_authorities(texts: &[String]) -> Result<Authorities, String> {
    let owners: Result<Vec<OwnerId>, ParseIdError> = texts.iter().map(|text| text.parse()).collect();
    Authorities::new(owners.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use datamesh_codec::keys::MeshSecret;
    use datamesh_core::admission::Authorities;
    use datamesh_core::id::OwnerId;

    use super::{Charter, CharterError, CharterOrder, Kind, SecretOrder};
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
        let made = Charter::of_node(&home, &order(SecretOrder::Private)).expect("made");
        assert_eq!(made.kind(), Kind::Private);
        made.keep(&home).expect("kept");
        let mode = fs::metadata(home.node_secret_path()).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let secret = made.secret.clone().expect("private");
        for told in [SecretOrder::AsBefore, SecretOrder::Private, SecretOrder::Secret(secret)] {
            assert_eq!(Charter::of_node(&home, &order(told)).expect("as before"), made);
        }
        let other = order(SecretOrder::Secret(MeshSecret::from_bytes(&[9; 32])));
        assert!(matches!(Charter::of_node(&home, &other), Err(CharterError::OtherMesh { .. })));

        fs::set_permissions(home.node_secret_path(), fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(matches!(Charter::of_node(&home, &order(SecretOrder::AsBefore)), Err(CharterError::Home(_))));
        fs::remove_file(home.node_secret_path()).expect("removed");
        assert!(matches!(
            Charter::of_node(&home, &order(SecretOrder::AsBefore)),
            Err(CharterError::Missing(_))
        ));
    }

    fn order(secret: SecretOrder) -> CharterOrder {
        CharterOrder { secret, ..CharterOrder::default() }
    }

    #[test]
    fn a_node_keeps_to_its_authorities() {
        let (_directory, home) = home();
        let by = |numbers: &[u8]| CharterOrder {
            secret: SecretOrder::AsBefore,
            authorities: Authorities::new(numbers.iter().map(|number| OwnerId::from_bytes([*number; 32])))
                .expect("few"),
        };
        let made = Charter::of_node(&home, &by(&[2, 1, 2])).expect("made");
        assert_eq!((made.kind(), made.authorities.iter().count()), (Kind::Restricted, 2));
        made.keep(&home).expect("kept");
        for told in [by(&[]), by(&[1, 2])] {
            assert_eq!(Charter::of_node(&home, &told).expect("as before"), made);
        }
        assert!(matches!(Charter::of_node(&home, &by(&[1])), Err(CharterError::OtherMesh { .. })));
        assert!(Charter::of_node(&home, &order(SecretOrder::Private)).is_err(), "it was not private");
        let text = fs::read_to_string(home.charter_path()).expect("there");
        let first = text.find("authorities").expect("it names them");
        fs::write(home.charter_path(), &text[..first]).expect("writes");
        assert!(Charter::of_node(&home, &by(&[])).is_err(), "it does not come up as an open mesh's");
        fs::write(home.charter_path(), "version = 1\nkind = 'open'").expect("writes");
        assert_eq!(Charter::of_node(&home, &by(&[])).expect("the version before").kind(), Kind::Open);
    }

    #[test]
    fn a_node_of_an_open_mesh_never_becomes_private() {
        let (_directory, home) = home();
        Charter::default().keep(&home).expect("kept");
        for told in [SecretOrder::Private, SecretOrder::Secret(MeshSecret::from_bytes(&[9; 32]))] {
            assert!(matches!(Charter::of_node(&home, &order(told)), Err(CharterError::OtherMesh { .. })));
        }
        fs::remove_file(home.charter_path()).expect("removed");
        fs::create_dir_all(home.node_disk_path().join("items")).expect("made");
        assert!(Charter::of_node(&home, &order(SecretOrder::Private)).is_ok(), "no mesh has taken it yet");
    }

    #[test]
    fn a_charter_that_this_program_did_not_write_is_refused() {
        let (_directory, home) = home();
        for bad in ["", "version = 3\nkind = 'open'", "version = 1", "version = 1\nkind = 'closed'", "\0"] {
            fs::write(home.charter_path(), bad).expect("writes");
            assert!(Charter::of_node(&home, &order(SecretOrder::AsBefore)).is_err(), "{bad}");
        }
    }
}
