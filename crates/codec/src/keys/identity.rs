//! Identities: one seed, and the keys for each use that follow from it.

use core::fmt;
use core::str::FromStr;

use datamesh_core::id::OwnerId;
use ed25519_dalek::SigningKey;
use hpke::kem::{Kem, X25519HkdfSha256};
use hpke::{Deserializable, Serializable};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::keys::grant::{self, PrivateKey, PublicKey};
use crate::keys::text::{self, ParseKeyError};
use crate::keys::{Entropy, KEY_SIZE, LogKey};

const SIGNING_CONTEXT: &str = "datamesh 2026 identity signing key v1";
const RECIPIENT_CONTEXT: &str = "datamesh 2026 identity recipient key v1";
const DEDUP_CONTEXT: &str = "datamesh 2026 identity dedup secret v1";
const GEAR_CONTEXT: &str = "datamesh 2026 identity gear key v1";

/// An owner's or reader's secret: signs leases, opens grants. Forgotten from memory when dropped.
///
/// Its text form is `datamesh-secret-1…`; it has no `Display`, so that none is logged by mistake.
pub struct Identity {
    seed: Zeroizing<[u8; KEY_SIZE]>,
    signing: SigningKey,
    private: PrivateKey,
    recipient: Recipient,
    dedup: DedupSecret,
    gear: Zeroizing<[u8; KEY_SIZE]>,
}

/// To whom an object can be granted: the public half of an [`Identity`]. Its text form is `datamesh-recipient-1…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient(PublicKey);

/// What one owner's chunk keys follow from in dedup mode. Forgotten from memory when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DedupSecret([u8; KEY_SIZE]);

impl Identity {
    /// The identity that follows from a seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; KEY_SIZE]) -> Self {
        let derived = |context| Zeroizing::new(blake3::derive_key(context, seed));
        let (private, public) = X25519HkdfSha256::derive_keypair(derived(RECIPIENT_CONTEXT).as_slice());
        Self {
            seed: Zeroizing::new(*seed),
            signing: SigningKey::from_bytes(&derived(SIGNING_CONTEXT)),
            private,
            recipient: Recipient(public),
            dedup: DedupSecret(*derived(DEDUP_CONTEXT)),
            gear: derived(GEAR_CONTEXT),
        }
    }

    /// Draws a new identity.
    pub fn random(entropy: Entropy<'_>) -> Self {
        let mut seed = Zeroizing::new([0; KEY_SIZE]);
        entropy(seed.as_mut_slice());
        Self::from_seed(&seed)
    }

    /// What all its keys follow from.
    #[must_use]
    pub fn seed(&self) -> &[u8; KEY_SIZE] {
        &self.seed
    }

    /// Who signs its leases.
    #[must_use]
    pub fn owner(&self) -> OwnerId {
        OwnerId::from_bytes(self.signing.verifying_key().to_bytes())
    }

    /// What signs its leases.
    #[must_use]
    pub const fn signing_key(&self) -> &SigningKey {
        &self.signing
    }

    /// To whom objects are granted that it shall open.
    #[must_use]
    pub const fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// What its chunk keys follow from in dedup mode.
    #[must_use]
    pub const fn dedup_secret(&self) -> &DedupSecret {
        &self.dedup
    }

    /// What keys the gear table of its content-defined chunks, so that chunk sizes do not betray known content.
    #[must_use]
    pub fn gear_key(&self) -> &[u8; KEY_SIZE] {
        &self.gear
    }

    /// The secret as text. Whoever has it is this identity.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(text::encode(text::SECRET, &self.seed))
    }

    /// What seals the log of its buckets.
    #[must_use]
    pub fn log_key(&self) -> LogKey {
        LogKey::of_seed(&self.seed)
    }

    pub(super) const fn private(&self) -> &PrivateKey {
        &self.private
    }
}

impl FromStr for Identity {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        text::decode(text::SECRET, text).map(|seed| Self::from_seed(&seed))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identity({})", self.recipient)
    }
}

impl Recipient {
    /// The recipient of this X25519 key; `None` for a key that any secret would agree with on the same.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; KEY_SIZE]) -> Option<Self> {
        let public = PublicKey::from_bytes(bytes).ok()?;
        grant::agrees(&public).then_some(Self(public))
    }

    /// The X25519 key.
    ///
    /// # Panics
    /// Never: an X25519 key has 32 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; KEY_SIZE] {
        self.0.to_bytes().as_slice().try_into().expect("an X25519 key has 32 bytes")
    }

    pub(super) const fn public(&self) -> &PublicKey {
        &self.0
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&text::encode(text::RECIPIENT, &self.to_bytes()))
    }
}

impl FromStr for Recipient {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let bytes = text::decode(text::RECIPIENT, text)?;
        Self::from_bytes(&bytes)
            .ok_or(ParseKeyError::Mistyped { why: "it is no usable X25519 key".to_owned() })
    }
}

impl DedupSecret {
    /// Wraps raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_SIZE]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_SIZE] {
        &self.0
    }
}

impl fmt::Debug for DedupSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DedupSecret(secret)")
    }
}
