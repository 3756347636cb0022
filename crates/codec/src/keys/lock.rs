//! Identities under a password: Argon2id to a key, and the seed sealed under it.

use argon2::{Algorithm, Argon2, Params, Version};
use datamesh_core::encode::{DecodeError, decode, encode};
use datamesh_core::limits::{PASSWORD_LANES_MAX, PASSWORD_MEMORY_KIB_MAX, PASSWORD_PASSES_MAX};
use datamesh_core::scheme::Cipher;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::keys::{Entropy, Identity, KEY_SIZE};
use crate::seal::aead::{Key, NONCE_ZERO, TAG_SIZE};

const VERSION: u8 = 1;
const SALT_SIZE: usize = 16;
const SEALED_SIZE: usize = KEY_SIZE + TAG_SIZE;
const DOMAIN: &str = "datamesh 2026 locked identity v1";

/// An identity that only a password opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedIdentity {
    version: u8,
    cost: Cost,
    #[serde(with = "serde_bytes")]
    salt: [u8; SALT_SIZE],
    #[serde(with = "serde_bytes")]
    sealed: [u8; SEALED_SIZE],
}

/// What one guess at the password costs: the parameters of Argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Why bytes are no locked identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockedIdentityError {
    /// Not the canonical encoding of one.
    #[error(transparent)]
    Encoding(#[from] DecodeError),
    /// Written by a later version of the program.
    #[error("locked identity version {0}: this program reads version {VERSION}; a newer one is needed")]
    Version(u8),
    /// Opening it would take more memory or time than any this program writes.
    #[error("locked identity out of bounds: {what} is {found}, from {least} to {most}")]
    OutOfBounds {
        /// Which figure.
        what: &'static str,
        /// What it is.
        found: u32,
        /// What it must be.
        least: u32,
        /// What it may be.
        most: u32,
    },
}

/// An identity did not open: the password is wrong or the bytes are. It can't be told which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("password and locked identity do not match")]
pub struct UnlockError;

/// Seals an identity under a password.
pub fn lock(identity: &Identity, password: &str, entropy: Entropy<'_>) -> LockedIdentity {
    let mut salt = [0; SALT_SIZE];
    entropy(&mut salt);
    lock_at(Cost::STANDARD, identity, password, salt)
}

/// Opens an identity with its password. Takes the memory and the time that the identity says, which are bounded.
///
/// # Errors
/// [`UnlockError`] if password and identity do not match.
pub fn unlock(locked: &LockedIdentity, password: &str) -> Result<Identity, UnlockError> {
    let key = locked.cost.key(password, &locked.salt);
    let mut sealed = Zeroizing::new(locked.sealed);
    let seed = key
        .open(NONCE_ZERO, &locked.additional(), sealed.as_mut_slice())
        .ok_or(UnlockError)?
        .first_chunk::<KEY_SIZE>()
        .expect("a sealed seed less its tag is a seed");
    Ok(Identity::from_seed(seed))
}

fn lock_at(cost: Cost, identity: &Identity, password: &str, salt: [u8; SALT_SIZE]) -> LockedIdentity {
    let mut locked = LockedIdentity { version: VERSION, cost, salt, sealed: [0; SEALED_SIZE] };
    let mut seed = Vec::with_capacity(SEALED_SIZE);
    seed.extend_from_slice(identity.seed());
    // The salt is fresh, and with it the key: it seals nothing else, so the nonce need not differ.
    cost.key(password, &salt).seal(NONCE_ZERO, &locked.additional(), &mut seed);
    locked.sealed.copy_from_slice(&seed);
    locked
}

impl LockedIdentity {
    /// Reads a locked identity and refuses one that would be too costly to try.
    ///
    /// # Errors
    /// [`LockedIdentityError`] for what is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, LockedIdentityError> {
        let locked: Self = decode(bytes)?;
        if locked.version != VERSION {
            return Err(LockedIdentityError::Version(locked.version));
        }
        locked.cost.check()?;
        Ok(locked)
    }

    /// The bytes to keep.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// What the seal binds besides the seed.
    fn additional(&self) -> Vec<u8> {
        encode(&(DOMAIN, self.version, self.cost))
    }
}

impl Cost {
    /// RFC 9106, section 4, second recommendation.
    const STANDARD: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

    fn check(self) -> Result<(), LockedIdentityError> {
        let within = |what, found, least, most| {
            let out_of_bounds = LockedIdentityError::OutOfBounds { what, found, least, most };
            if (least..=most).contains(&found) { Ok(()) } else { Err(out_of_bounds) }
        };
        within("lanes", self.lanes, 1, PASSWORD_LANES_MAX)?;
        within("passes", self.passes, 1, PASSWORD_PASSES_MAX)?;
        within("memory, KiB,", self.memory_kib, 8 * self.lanes, PASSWORD_MEMORY_KIB_MAX)
    }

    fn key(self, password: &str, salt: &[u8; SALT_SIZE]) -> Key {
        let parameters = Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_SIZE))
            .expect("a cost is bounded when it is made or read");
        let mut key = Zeroizing::new([0; KEY_SIZE]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
            .hash_password_into(password.as_bytes(), salt, key.as_mut_slice())
            .expect("salt and key have lengths that Argon2 takes");
        Key::new(Cipher::Chacha20Poly1305, &key).expect("a cipher")
    }
}

#[cfg(test)]
mod tests {
    use super::{Cost, LockedIdentity, LockedIdentityError, UnlockError, lock_at, unlock};
    use crate::keys::Identity;

    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

    fn locked() -> (Identity, LockedIdentity) {
        let identity = Identity::from_seed(&[7; 32]);
        let locked = lock_at(CHEAP, &identity, "correct horse", [3; 16]);
        (identity, locked)
    }

    #[test]
    fn the_password_opens_what_it_locked_and_no_other_does() {
        let (identity, locked) = locked();
        let read = LockedIdentity::parse(&locked.to_bytes()).expect("well formed");
        assert_eq!(unlock(&read, "correct horse").map(|opened| *opened.seed()), Ok(*identity.seed()));
        for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert_eq!(unlock(&read, wrong).err(), Some(UnlockError), "{wrong}");
        }
    }

    #[test]
    fn a_changed_byte_anywhere_opens_nothing() {
        let bytes = locked().1.to_bytes();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let opened =
                LockedIdentity::parse(&changed).ok().and_then(|read| unlock(&read, "correct horse").ok());
            assert!(opened.is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_cost_beyond_all_bounds_is_refused_before_it_is_paid() {
        let (_, locked) = locked();
        let absurd = [
            Cost { memory_kib: u32::MAX, ..CHEAP },
            Cost { memory_kib: 7, ..CHEAP },
            Cost { passes: u32::MAX, ..CHEAP },
            Cost { passes: 0, ..CHEAP },
            Cost { lanes: u32::MAX, ..CHEAP },
            Cost { lanes: 0, ..CHEAP },
        ];
        for cost in absurd {
            let bytes = LockedIdentity { cost, ..locked.clone() }.to_bytes();
            let error = LockedIdentity::parse(&bytes).expect_err("absurd");
            assert!(matches!(error, LockedIdentityError::OutOfBounds { .. }), "{cost:?}: {error}");
        }
        let later = LockedIdentity { version: 2, ..locked }.to_bytes();
        assert_eq!(LockedIdentity::parse(&later), Err(LockedIdentityError::Version(2)));
    }

    #[test]
    fn the_standard_cost_is_within_its_own_bounds() {
        assert_eq!(Cost::STANDARD.check(), Ok(()));
        assert_eq!(CHEAP.check(), Ok(()));
    }
}
