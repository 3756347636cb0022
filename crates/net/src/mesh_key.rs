//! What proves on each connection that its other end is of the same private or restricted mesh.
//!
//! Both carriers bind it to the connection, so that it can't be replayed or passed on: Noise hashes it into its handshake, and
//! the data plane sends a keyed hash of what the TLS connection alone exports. Neither shows a stranger anything of the secret.

use std::fmt;

use blake3::Hash;
use datamesh_core::admission::Authorities;
use zeroize::Zeroizing;

/// Bytes of a mesh secret, and of a proof.
pub(crate) const PROOF_SIZE: usize = 32;

const NOISE_CONTEXT: &str = "datamesh 2026 private mesh noise prologue v1";
const PLANE_CONTEXT: &str = "datamesh 2026 private mesh data plane proof v1";

/// What a charter comes to on connections: the mesh secret, and the authorities.
#[derive(Clone)]
pub struct MeshKey {
    noise: Zeroizing<[u8; PROOF_SIZE]>,
    plane: Zeroizing<[u8; PROOF_SIZE]>,
}

/// Which end of a connection proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Dialler,
    Acceptor,
}

impl End {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }

    const fn tag(self) -> &'static [u8] {
        match self {
            Self::Dialler => b"dialler",
            Self::Acceptor => b"acceptor",
        }
    }
}

impl MeshKey {
    /// The key of the private mesh with this secret.
    #[must_use]
    pub fn of_secret(secret: &[u8; PROOF_SIZE]) -> Self {
        Self::of_charter(Some(secret), &Authorities::default())
    }

    /// The key of the mesh with this secret, where it is private, and these authorities, where it is restricted. The latter are no
    /// secret: who names others is of another mesh.
    #[must_use]
    pub fn of_charter(secret: Option<&[u8; PROOF_SIZE]>, authorities: &Authorities) -> Self {
        let mut material =
            Zeroizing::new(secret.map_or_else(|| vec![0; PROOF_SIZE], |secret| secret.to_vec()));
        authorities.iter().for_each(|authority| material.extend_from_slice(authority.as_bytes()));
        let derive = |context| Zeroizing::new(blake3::derive_key(context, &material));
        Self { noise: derive(NOISE_CONTEXT), plane: derive(PLANE_CONTEXT) }
    }

    /// What both ends of a Noise handshake must hash into it alike.
    pub(crate) fn prologue(&self) -> Vec<u8> {
        self.noise.to_vec()
    }

    /// What one end of a TLS connection shows, given what that connection alone exports. Compared in constant time.
    pub(crate) fn proof(&self, exported: &[u8; PROOF_SIZE], end: End) -> Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.plane);
        hasher.update(exported).update(end.tag());
        hasher.finalize()
    }
}

impl fmt::Debug for MeshKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MeshKey")
    }
}

#[cfg(test)]
mod tests {
    use super::{End, MeshKey};

    #[test]
    fn a_proof_is_of_one_secret_one_connection_and_one_end() {
        let proof =
            |secret: u8, connection: u8, end| MeshKey::of_secret(&[secret; 32]).proof(&[connection; 32], end);
        let proofs = [
            proof(1, 1, End::Dialler),
            proof(2, 1, End::Dialler),
            proof(1, 2, End::Dialler),
            proof(1, 1, End::Acceptor),
        ];
        assert_eq!(proofs[0], proof(1, 1, End::Acceptor.other()));
        for (index, one) in proofs.iter().enumerate() {
            assert!(proofs[index + 1..].iter().all(|other| other != one), "{index}");
        }
        assert_ne!(MeshKey::of_secret(&[1; 32]).prologue(), MeshKey::of_secret(&[2; 32]).prologue());
    }
}
