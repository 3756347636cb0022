//! The mesh secret: who knows it is of a private mesh.

use core::fmt;

use zeroize::Zeroizing;

use crate::keys::text::{self, ParseKeyError};
use crate::keys::{Entropy, KEY_SIZE};

/// What all participants of a private mesh know and nobody else. Forgotten from memory when dropped.
///
/// Its text form is `datamesh-mesh-1…`; it has no `Display`, so that none is logged by mistake.
#[derive(Clone)]
pub struct MeshSecret(Zeroizing<[u8; KEY_SIZE]>);

impl MeshSecret {
    /// Draws a new secret.
    pub fn random(entropy: Entropy<'_>) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_SIZE]);
        entropy(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Wraps raw bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; KEY_SIZE]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_SIZE] {
        &self.0
    }

    /// The text form.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(text::encode(text::MESH, &self.0))
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`ParseKeyError`], which does not repeat the text.
    pub fn from_text(text: &str) -> Result<Self, ParseKeyError> {
        text::decode(text::MESH, text).map(Self)
    }
}

impl PartialEq for MeshSecret {
    fn eq(&self, other: &Self) -> bool {
        // Every byte is looked at, so that the time taken tells nothing of where they differ.
        self.0.iter().zip(other.0.iter()).fold(0, |differing, (one, two)| differing | (one ^ two)) == 0
    }
}

impl Eq for MeshSecret {}

impl fmt::Debug for MeshSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MeshSecret")
    }
}
