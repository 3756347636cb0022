//! The keyring: one user's named identities, of which one is current.
//!
//! Kept in `keys.toml`, readable by the user alone. An identity with a password is kept locked; one without is kept as
//! its secret text. Rotation makes a new current identity and keeps the old one, which still opens what was put for it.

use std::collections::BTreeMap;

use datamesh_codec::keys::{LockedIdentity, lock, unlock};
use datamesh_core::id::OwnerId;
use datamesh_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

pub use datamesh_codec::keys::{Entropy, Identity, ParseKeyError, Recipient, UnlockError};

use crate::home::stored::{self, StoredFileError};
use crate::home::{Access, Home, HomeError, HomeLock, Name, read};

/// What the first identity is called unless the user says.
pub const DEFAULT_IDENTITY: &str = "main";

const FORMAT_VERSION: u32 = 1;

/// One user's identities.
#[derive(Debug, Default)]
pub struct Keyring {
    current: Option<Name>,
    entries: BTreeMap<Name, Entry>,
}

/// An identity as it is kept.
#[derive(Debug)]
pub struct Entry {
    owner: OwnerId,
    recipient: Recipient,
    created: Timestamp,
    retired: Option<Timestamp>,
    secret: Secret,
}

enum Secret {
    Plain(Box<Identity>),
    Locked(LockedIdentity),
}

/// Why the keyring can't be read, opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The file can't be understood.
    #[error(transparent)]
    Stored(#[from] StoredFileError),
    /// There is no identity at all.
    #[error("there is no identity yet")]
    Empty,
    /// No identity has this name.
    #[error("no identity is called `{0}`")]
    Unknown(Name),
    /// Another identity has this name.
    #[error("an identity is called `{0}` already")]
    Taken(Name),
    /// The same identity is kept under another name.
    #[error("this identity is kept already, as `{0}`")]
    Known(Name),
    /// The identity is locked, and no password was given.
    #[error("the identity needs its password")]
    PasswordNeeded,
    /// The password, or what it should open, is wrong.
    #[error(transparent)]
    Unlock(#[from] UnlockError),
}

/// What protects an identity at rest.
#[derive(Clone, Copy)]
pub enum Protection<'a> {
    /// The file's permissions alone.
    Permissions,
    /// A password too.
    Password(&'a str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<Name>,
    #[serde(default, rename = "identity", skip_serializing_if = "Vec::is_empty")]
    identities: Vec<StoredIdentity>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredIdentity {
    name: Name,
    owner: String,
    recipient: String,
    created_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    retired_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locked: Option<String>,
}

impl Drop for StoredIdentity {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl Keyring {
    /// Reads the keyring of a home; without a file it is empty.
    ///
    /// # Errors
    /// [`KeyringError`] when the file exists and can't be read.
    pub fn load(home: &Home) -> Result<Self, KeyringError> {
        let path = home.keyring_path();
        let Some(text) = read(&path, Access::Secret)? else {
            return Ok(Self::default());
        };
        let malformed = |why: String| KeyringError::Stored(StoredFileError::malformed(&path, why));
        let known = FORMAT_VERSION..=FORMAT_VERSION;
        let stored = stored::parse(&path, &text, known, |stored: &Stored| stored.version)?;
        let mut keyring = Self { current: stored.current, entries: BTreeMap::new() };
        for identity in &stored.identities {
            let entry = Entry::from_stored(identity)
                .map_err(|why| malformed(format!("identity `{}`: {why}", identity.name)))?;
            keyring.entries.insert(identity.name.clone(), entry);
        }
        match &keyring.current {
            Some(current) if !keyring.entries.contains_key(current) => {
                Err(malformed(format!("the current identity `{current}` is not in it")))
            }
            None if !keyring.entries.is_empty() => Err(malformed("no identity is current".to_owned())),
            _ => Ok(keyring),
        }
    }

    /// Writes the keyring to the home that is locked.
    ///
    /// # Errors
    /// [`KeyringError::Home`].
    ///
    /// # Panics
    /// Never: texts and numbers are TOML.
    pub fn save(&self, home: &Home, lock: &HomeLock) -> Result<(), KeyringError> {
        let stored = Stored {
            version: FORMAT_VERSION,
            current: self.current.clone(),
            identities: self.entries.iter().map(|(name, entry)| entry.to_stored(name)).collect(),
        };
        let text = toml_edit::ser::to_string_pretty(&stored).expect("texts and numbers are TOML");
        let text = Zeroizing::new(text);
        Ok(lock.write(&home.keyring_path(), text.as_bytes(), Access::Secret)?)
    }

    /// Every identity, by name.
    pub fn entries(&self) -> impl Iterator<Item = (&Name, &Entry)> {
        self.entries.iter()
    }

    /// Whether there is no identity.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The identity that puts are made as.
    ///
    /// # Errors
    /// [`KeyringError::Empty`].
    pub fn current(&self) -> Result<(&Name, &Entry), KeyringError> {
        let current = self.current.as_ref().ok_or(KeyringError::Empty)?;
        self.entry(current).map(|entry| (current, entry))
    }

    /// The identity of this name.
    ///
    /// # Errors
    /// [`KeyringError::Unknown`].
    pub fn entry(&self, name: &Name) -> Result<&Entry, KeyringError> {
        self.entries.get(name).ok_or_else(|| KeyringError::Unknown(name.clone()))
    }

    /// Makes an identity the current one.
    ///
    /// # Errors
    /// [`KeyringError::Unknown`].
    pub fn select(&mut self, name: &Name) -> Result<(), KeyringError> {
        self.entry(name)?;
        self.current = Some(name.clone());
        Ok(())
    }

    /// Keeps an identity. The first one becomes the current one.
    ///
    /// # Errors
    /// [`KeyringError::Taken`] and [`KeyringError::Known`].
    pub fn add(
        &mut self,
        name: &Name,
        identity: Identity,
        protection: Protection<'_>,
        now: Timestamp,
        entropy: Entropy<'_>,
    ) -> Result<(), KeyringError> {
        if self.entries.contains_key(name) {
            return Err(KeyringError::Taken(name.clone()));
        }
        let same = |entry: &Entry| entry.recipient == *identity.recipient();
        if let Some((known, _)) = self.entries.iter().find(|(_, entry)| same(entry)) {
            return Err(KeyringError::Known(known.clone()));
        }
        self.entries.insert(name.clone(), Entry::new(identity, protection, now, entropy));
        self.current.get_or_insert_with(|| name.clone());
        Ok(())
    }

    /// Puts a new identity in the place and under the name of the current one, which is kept under a numbered name.
    /// Returns that name.
    ///
    /// # Errors
    /// [`KeyringError::Empty`].
    ///
    /// # Panics
    /// Never: the current identity is in the keyring.
    pub fn rotate(
        &mut self,
        identity: Identity,
        protection: Protection<'_>,
        now: Timestamp,
        entropy: Entropy<'_>,
    ) -> Result<Name, KeyringError> {
        let current = self.current.clone().ok_or(KeyringError::Empty)?;
        let kept = current.numbered(|taken| self.entries.contains_key(taken));
        let new = Entry::new(identity, protection, now, entropy);
        let old = self.entries.insert(current, new).expect("the current identity is in the keyring");
        self.entries.insert(kept.clone(), Entry { retired: Some(now), ..old });
        Ok(kept)
    }
}

impl Entry {
    fn new(identity: Identity, protection: Protection<'_>, created: Timestamp, entropy: Entropy<'_>) -> Self {
        let (owner, recipient) = (identity.owner(), identity.recipient().clone());
        let secret = match protection {
            Protection::Permissions => Secret::Plain(Box::new(identity)),
            Protection::Password(password) => Secret::Locked(lock(&identity, password, entropy)),
        };
        Self { owner, recipient, created, retired: None, secret }
    }

    /// Who signs its leases.
    #[must_use]
    pub const fn owner(&self) -> OwnerId {
        self.owner
    }

    /// To whom objects are granted that it shall open.
    #[must_use]
    pub const fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// When it came into the keyring.
    #[must_use]
    pub const fn created(&self) -> Timestamp {
        self.created
    }

    /// When another identity took its place.
    #[must_use]
    pub const fn retired(&self) -> Option<Timestamp> {
        self.retired
    }

    /// Whether it takes a password to open it.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        matches!(self.secret, Secret::Locked(_))
    }

    /// Opens it. The password is not looked at where none is needed.
    ///
    /// # Errors
    /// [`KeyringError::PasswordNeeded`] and [`KeyringError::Unlock`].
    pub fn open(&self, password: Option<&str>) -> Result<Identity, KeyringError> {
        let identity = match (&self.secret, password) {
            (Secret::Plain(identity), _) => Identity::from_seed(identity.seed()),
            (Secret::Locked(_), None) => return Err(KeyringError::PasswordNeeded),
            (Secret::Locked(locked), Some(password)) => unlock(locked, password)?,
        };
        // Whoever swaps one locked secret for another must not make this name speak for it.
        if identity.owner() == self.owner { Ok(identity) } else { Err(UnlockError.into()) }
    }

    fn from_stored(stored: &StoredIdentity) -> Result<Self, String> {
        let secret = match (&stored.secret, &stored.locked) {
            (Some(text), None) => {
                let identity: Identity = text.parse().map_err(|error: ParseKeyError| error.to_string())?;
                Secret::Plain(Box::new(identity))
            }
            (None, Some(text)) => {
                let bytes = bs58::decode(text).into_vec().map_err(|error| error.to_string())?;
                Secret::Locked(LockedIdentity::parse(&bytes).map_err(|error| error.to_string())?)
            }
            _ => return Err("has not exactly one of secret and locked".to_owned()),
        };
        let entry = Self {
            owner: stored.owner.parse().map_err(|error| format!("{error}"))?,
            recipient: stored.recipient.parse().map_err(|error: ParseKeyError| error.to_string())?,
            created: Timestamp::from_ms(stored.created_ms),
            retired: stored.retired_ms.map(Timestamp::from_ms),
            secret,
        };
        match &entry.secret {
            Secret::Plain(identity) if identity.owner() != entry.owner => {
                Err("its secret is another identity's".to_owned())
            }
            _ => Ok(entry),
        }
    }

    fn to_stored(&self, name: &Name) -> StoredIdentity {
        let (secret, locked) = match &self.secret {
            Secret::Plain(identity) => (Some(identity.to_text().to_string()), None),
            Secret::Locked(locked) => (None, Some(bs58::encode(locked.to_bytes()).into_string())),
        };
        StoredIdentity {
            name: name.clone(),
            owner: self.owner.to_string(),
            recipient: self.recipient.to_string(),
            created_ms: self.created.as_ms(),
            retired_ms: self.retired.map(Timestamp::as_ms),
            secret,
            locked,
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Locked(_) => "Locked",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use datamesh_core::time::Timestamp;

    use super::{Identity, Keyring, KeyringError, Protection};
    use crate::home::{Home, Name};

    const NOW: Timestamp = Timestamp::from_ms(1_000);
    const LATER: Timestamp = Timestamp::from_ms(2_000);

    fn identity(byte: u8) -> Identity {
        Identity::from_seed(&[byte; 32])
    }

    fn name(text: &str) -> Name {
        text.parse().expect("valid")
    }

    fn zeros(buffer: &mut [u8]) {
        buffer.fill(0);
    }

    fn add(keyring: &mut Keyring, text: &str, byte: u8) -> Result<(), KeyringError> {
        keyring.add(&name(text), identity(byte), Protection::Permissions, NOW, &mut zeros)
    }

    #[test]
    fn a_keyring_is_read_as_it_was_saved() {
        let directory = tempfile::tempdir().expect("tempdir");
        let home = Home::at(directory.path().to_owned());
        let mut keyring = Keyring::load(&home).expect("none is fine");
        assert!(keyring.is_empty() && matches!(keyring.current(), Err(KeyringError::Empty)));
        add(&mut keyring, "main", 1).expect("adds");
        let locked = Protection::Password("correct horse");
        keyring.add(&name("work"), identity(2), locked, NOW, &mut zeros).expect("adds");
        keyring.save(&home, &home.lock().expect("locks")).expect("saves");

        let keyring = Keyring::load(&home).expect("loads");
        let (current, plain) = keyring.current().expect("there is one");
        assert_eq!((current.as_str(), plain.is_locked()), ("main", false));
        assert_eq!(plain.open(None).expect("opens").owner(), identity(1).owner());
        let work = keyring.entry(&name("work")).expect("there is one");
        assert!(work.is_locked());
        assert_eq!(work.open(Some("correct horse")).expect("opens").seed(), identity(2).seed());
        assert!(matches!(work.open(Some("wrong")), Err(KeyringError::Unlock(_))));
        assert!(matches!(work.open(None), Err(KeyringError::PasswordNeeded)));
        let text = fs::read_to_string(home.keyring_path()).expect("reads");
        assert_eq!(text.matches("datamesh-secret-1").count(), 1, "a locked secret is not written");
    }

    #[test]
    fn rotation_keeps_the_name_current_and_the_old_identity_readable() {
        let mut keyring = Keyring::default();
        assert!(keyring.rotate(identity(9), Protection::Permissions, NOW, &mut zeros).is_err());
        add(&mut keyring, "main", 1).expect("adds");
        for byte in 2..4 {
            keyring.rotate(identity(byte), Protection::Permissions, LATER, &mut zeros).expect("rotates");
        }
        let owner = |text| keyring.entry(&name(text)).expect("kept").open(None).expect("opens").owner();
        assert_eq!(keyring.current().expect("there is one").0.as_str(), "main");
        assert_eq!(owner("main"), identity(3).owner());
        assert_eq!(owner("main-1"), identity(1).owner());
        assert_eq!(owner("main-2"), identity(2).owner());
        assert_eq!(keyring.entry(&name("main-1")).expect("kept").retired(), Some(LATER));
        assert_eq!(keyring.entry(&name("main")).expect("kept").retired(), None);
    }

    #[test]
    fn no_name_and_no_identity_is_kept_twice() {
        let mut keyring = Keyring::default();
        add(&mut keyring, "main", 1).expect("adds");
        assert!(matches!(add(&mut keyring, "main", 2), Err(KeyringError::Taken(_))));
        assert!(matches!(add(&mut keyring, "other", 1), Err(KeyringError::Known(_))));
        assert!(matches!(keyring.select(&name("other")), Err(KeyringError::Unknown(_))));
        add(&mut keyring, "other", 2).expect("adds");
        keyring.select(&name("other")).expect("exists");
        assert_eq!(keyring.current().expect("there is one").0.as_str(), "other");
    }

    #[test]
    fn a_file_that_was_tampered_with_is_refused_without_repeating_a_secret() {
        let directory = tempfile::tempdir().expect("tempdir");
        let home = Home::at(directory.path().to_owned());
        let mut keyring = Keyring::default();
        add(&mut keyring, "main", 1).expect("adds");
        keyring.save(&home, &home.lock().expect("locks")).expect("saves");
        let good = fs::read_to_string(home.keyring_path()).expect("reads");
        let secret = identity(1).to_text();
        let tampered = [
            good.replace("version = 1", "version = 2"),
            good.replace("current = \"main\"", "current = \"other\""),
            good.replace("current = \"main\"", ""),
            good.replace("secret =", "locked ="),
            good.replace("secret =", "sercet ="),
            good.replace("secret = \"", "secret = "),
            good.replace(secret.as_str(), &identity(2).to_text()),
            good.replace(secret.as_str(), &secret[..40]),
        ];
        for text in tampered {
            assert_ne!(text, good);
            fs::write(home.keyring_path(), &text).expect("writes");
            let error = format!("{:?}", Keyring::load(&home).expect_err("refused"));
            assert!(!error.contains(&secret[18..40]), "{error}");
        }
        fs::write(home.keyring_path(), &good).expect("writes");
        assert!(Keyring::load(&home).is_ok());
    }
}
