//! The meshes that were joined, and which of them commands talk to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::charter::{self, Charter, CharterError};
use crate::home::stored::{self, StoredFileError};
use crate::home::{Access, Home, HomeError, HomeLock, Name, read};
use crate::settings::PeerAddress;

/// The name of the mesh that a home has without joining any.
pub const EMBEDDED_MESH: &str = "embedded";

const FORMAT_VERSION: u32 = 3;
/// Before there were private meshes; 2 was before there were restricted ones.
const FORMAT_VERSION_FIRST: u32 = 1;
const DEFAULT_NAME: &str = "mesh";
const ENTRY_ADDRESSES_MAX: usize = 64;

/// The meshes that were joined. Kept in `networks.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    current: Option<Name>,
    joined: BTreeMap<Name, Joined>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Joined {
    entries: Vec<PeerAddress>,
    charter: Charter,
}

/// The mesh that a command talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mesh {
    /// Directories of this home, in this process.
    Embedded,
    /// Other nodes.
    Joined {
        /// What the user calls it.
        name: Name,
        /// Where to find it.
        entries: Vec<PeerAddress>,
        /// What it is.
        charter: Charter,
    },
}

impl Mesh {
    /// What the user calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Embedded => EMBEDDED_MESH,
            Self::Joined { name, .. } => name.as_str(),
        }
    }

    /// What it is.
    #[must_use]
    pub fn charter(&self) -> Charter {
        match self {
            Self::Joined { charter, .. } => charter.clone(),
            Self::Embedded => Charter::default(),
        }
    }
}

/// Why the meshes that were joined can't be told, or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetworksError {
    /// The file.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The secret of a private mesh.
    #[error(transparent)]
    Secret(#[from] CharterError),
    /// The file can't be understood.
    #[error(transparent)]
    Stored(#[from] StoredFileError),
    /// No mesh of this name was joined.
    #[error("no network is called `{0}`")]
    Unknown(String),
    /// The name means the embedded mesh.
    #[error("`{EMBEDDED_MESH}` is the mesh in this home: choose another name")]
    Reserved,
    /// It has as many as are kept.
    #[error("network `{0}` has {ENTRY_ADDRESSES_MAX} addresses already")]
    TooManyAddresses(Name),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<Name>,
    #[serde(default, rename = "network", skip_serializing_if = "Vec::is_empty")]
    networks: Vec<StoredNetwork>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredNetwork {
    name: Name,
    addresses: Vec<String>,
    /// Its secret lies in a file of its own.
    #[serde(default, skip_serializing_if = "is_open")]
    private: bool,
    /// Who admits to it, where it is restricted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    authorities: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde wants")]
const fn is_open(private: &bool) -> bool {
    !*private
}

impl Networks {
    /// Reads them from a home.
    ///
    /// # Errors
    /// [`NetworksError`] when the file exists and can't be read.
    pub fn load(home: &Home) -> Result<Self, NetworksError> {
        let path = home.networks_path();
        let Some(text) = read(&path, Access::Shared)? else {
            return Ok(Self::default());
        };
        let malformed = |why: String| NetworksError::Stored(StoredFileError::malformed(&path, why));
        let known = FORMAT_VERSION_FIRST..=FORMAT_VERSION;
        let stored = stored::parse(&path, &text, known, |stored: &Stored| stored.version)?;
        let mut joined = BTreeMap::new();
        for StoredNetwork { name, addresses, private, authorities } in stored.networks {
            let entries: Result<Vec<PeerAddress>, _> = addresses.iter().map(|text| text.parse()).collect();
            let entries = entries.map_err(|error| malformed(error.to_string()))?;
            let secret = private.then(|| charter::read_secret(home.mesh_secret_path(&name))).transpose()?;
            let authorities = charter::parse_authorities(&authorities).map_err(malformed)?;
            joined.insert(name, Joined { entries, charter: Charter { secret, authorities } });
        }
        let networks = Self { current: stored.current, joined };
        match &networks.current {
            Some(current) if !networks.joined.contains_key(current) => {
                Err(malformed(format!("the current network `{current}` is not among them")))
            }
            _ => Ok(networks),
        }
    }

    /// Writes them to the home that is locked.
    ///
    /// # Errors
    /// [`NetworksError::Home`].
    ///
    /// # Panics
    /// Never: texts and lists are TOML.
    pub fn save(&self, home: &Home, lock: &HomeLock) -> Result<(), NetworksError> {
        for (name, network) in &self.joined {
            if let Some(secret) = &network.charter.secret {
                lock.write(&home.mesh_secret_path(name), &charter::line(secret), Access::Secret)?;
            }
        }
        let network = |(name, network): (&Name, &Joined)| StoredNetwork {
            name: name.clone(),
            addresses: network.entries.iter().map(ToString::to_string).collect(),
            private: network.charter.secret.is_some(),
            authorities: network.charter.authorities.iter().map(ToString::to_string).collect(),
        };
        let stored = Stored {
            version: FORMAT_VERSION,
            current: self.current.clone(),
            networks: self.joined.iter().map(network).collect(),
        };
        let text = toml_edit::ser::to_string_pretty(&stored).expect("texts and lists are TOML");
        Ok(lock.write(&home.networks_path(), text.as_bytes(), Access::Shared)?)
    }

    /// Records that a mesh can be found at this address and makes it the current one. Without a name it is the mesh that
    /// has this address already, or a new one; without a secret or authorities, those that were given before stay. Returns its name.
    ///
    /// # Errors
    /// [`NetworksError::Reserved`] and [`NetworksError::TooManyAddresses`].
    pub fn join(
        &mut self,
        name: Option<Name>,
        address: PeerAddress,
        told: Charter,
    ) -> Result<Name, NetworksError> {
        let known = || self.joined.iter().find(|(_, network)| network.entries.contains(&address));
        let name = name.or_else(|| known().map(|(name, _)| name.clone())).unwrap_or_else(|| self.free_name());
        if name.as_str() == EMBEDDED_MESH {
            return Err(NetworksError::Reserved);
        }
        let network = self.joined.entry(name.clone()).or_default();
        if !network.entries.contains(&address) {
            if network.entries.len() >= ENTRY_ADDRESSES_MAX {
                return Err(NetworksError::TooManyAddresses(name));
            }
            network.entries.push(address);
        }
        network.charter.secret = told.secret.or_else(|| network.charter.secret.take());
        if !told.authorities.is_empty() {
            network.charter.authorities = told.authorities;
        }
        self.current = Some(name.clone());
        Ok(name)
    }

    /// Forgets where a mesh can be found. Whoever talked to it talks to the embedded mesh then.
    pub fn forget(&mut self, name: &str) {
        self.joined.retain(|known, _| known.as_str() != name);
        if self.current.as_ref().is_some_and(|current| current.as_str() == name) {
            self.current = None;
        }
    }

    /// Makes a mesh the current one.
    ///
    /// # Errors
    /// [`NetworksError::Unknown`].
    pub fn select(&mut self, name: &str) -> Result<(), NetworksError> {
        self.current = match self.mesh(name)? {
            Mesh::Embedded => None,
            Mesh::Joined { name, .. } => Some(name),
        };
        Ok(())
    }

    /// The mesh of this name.
    ///
    /// # Errors
    /// [`NetworksError::Unknown`].
    pub fn mesh(&self, name: &str) -> Result<Mesh, NetworksError> {
        if name == EMBEDDED_MESH {
            return Ok(Mesh::Embedded);
        }
        let found = self.joined.iter().find(|(known, _)| known.as_str() == name);
        let (name, network) = found.ok_or_else(|| NetworksError::Unknown(name.to_owned()))?;
        Ok(network.mesh(name))
    }

    /// The mesh that commands talk to unless they are told another.
    #[must_use]
    pub fn current(&self) -> Mesh {
        let current = self.current.as_ref().and_then(|name| self.mesh(name.as_str()).ok());
        current.unwrap_or(Mesh::Embedded)
    }

    /// Every mesh, the embedded one first.
    pub fn all(&self) -> impl Iterator<Item = Mesh> + '_ {
        let joined = self.joined.iter().map(|(name, network)| network.mesh(name));
        std::iter::once(Mesh::Embedded).chain(joined)
    }

    fn free_name(&self) -> Name {
        let name: Name = DEFAULT_NAME.parse().expect("the default is a name");
        if self.joined.contains_key(&name) {
            name.numbered(|taken| self.joined.contains_key(taken))
        } else {
            name
        }
    }
}

impl Joined {
    fn mesh(&self, name: &Name) -> Mesh {
        Mesh::Joined { name: name.clone(), entries: self.entries.clone(), charter: self.charter.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use datamesh_codec::keys::MeshSecret;
    use datamesh_core::admission::Authorities;
    use datamesh_core::id::{NodeId, OwnerId};

    use super::{EMBEDDED_MESH, Mesh, Networks, NetworksError};
    use crate::charter::Charter;
    use crate::home::Home;
    use crate::settings::PeerAddress;

    fn address(byte: u8) -> PeerAddress {
        let node = NodeId::from_bytes([byte; 32]);
        format!("/ip4/10.0.0.{byte}/tcp/40871/p2p/{node}").parse().expect("valid")
    }

    #[test]
    fn what_was_joined_is_read_back_and_current() {
        let directory = tempfile::tempdir().expect("tempdir");
        let home = Home::at(directory.path().to_owned());
        let mut networks = Networks::load(&home).expect("none is fine");
        assert_eq!(networks.current(), Mesh::Embedded);
        let team = "team".parse().expect("valid");
        let authorities = Authorities::new([OwnerId::from_bytes([6; 32])]).expect("one");
        networks.join(Some(team), address(1), Charter { secret: None, authorities }).expect("joins");
        let secret = MeshSecret::from_bytes(&[7; 32]);
        let unnamed = networks
            .join(None, address(2), Charter { secret: Some(secret.clone()), ..Charter::default() })
            .expect("joins");
        assert_eq!(unnamed.as_str(), "mesh");
        assert_eq!(networks.join(None, address(3), Charter::default()).expect("joins").as_str(), "mesh-1");
        assert_eq!(
            networks.join(None, address(1), Charter::default()).expect("joins again").as_str(),
            "team"
        );
        networks.join(Some(unnamed), address(5), Charter::default()).expect("joins again");
        networks.select("team").expect("exists");
        networks.save(&home, &home.lock().expect("locks")).expect("saves");

        let mut read = Networks::load(&home).expect("loads");
        assert_eq!(read, networks);
        assert_eq!(read.current().name(), "team");
        assert_eq!(read.all().count(), 4);
        let private = read
            .all()
            .filter(|mesh| mesh.charter().secret.as_ref() == Some(&secret))
            .map(|mesh| mesh.name().to_owned());
        assert_eq!(
            private.collect::<Vec<_>>(),
            ["mesh"],
            "its secret stays though it was joined again without"
        );
        let text = fs::read_to_string(home.networks_path()).expect("reads");
        assert!(!text.contains("datamesh-mesh-1"), "secrets lie apart");
        read.select(EMBEDDED_MESH).expect("exists");
        assert_eq!(read.current(), Mesh::Embedded);
        assert!(matches!(read.select("other"), Err(NetworksError::Unknown(_))));
        let reserved = EMBEDDED_MESH.parse().ok();
        assert!(matches!(read.join(reserved, address(4), Charter::default()), Err(NetworksError::Reserved)));
    }

    #[test]
    fn a_file_that_this_program_did_not_write_is_refused() {
        let directory = tempfile::tempdir().expect("tempdir");
        let home = Home::at(directory.path().to_owned());
        for bad in ["", "version = 4", "version = 1\ncurrent = 'x'", "version = 1\nother = 1", "\0"] {
            fs::write(home.networks_path(), bad).expect("writes");
            assert!(Networks::load(&home).is_err(), "{bad}");
        }
        for before in ["version = 1", "version = 2"] {
            fs::write(home.networks_path(), before).expect("writes");
            assert!(Networks::load(&home).is_ok(), "{before}");
        }
    }
}
