//! The scheme of a put: what the settings say, as far as the mesh can hold it.

use datamesh_codec::seal::preferred_cipher;
use datamesh_core::scheme::{Cipher, Mode, Redundancy, Scheme};
use datamesh_core::topology::Topology;

use crate::settings::{PolicyRule, PutSettings, PutSubject, SchemeChoice};

/// The mesh is too small.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    /// Even for the smallest preset.
    #[error("the mesh has {domain_count} failure domains, and the smallest scheme needs 2")]
    TooFewDomains {
        /// Failure domains of the mesh.
        domain_count: usize,
    },
    /// For the scheme that was asked for: not even as degraded could a put be acknowledged.
    #[error("{redundancy} needs {needed} nodes to be acknowledged, and the mesh has {node_count}")]
    TooFewNodes {
        /// What was asked for.
        redundancy: Redundancy,
        /// Nodes that it needs.
        needed: usize,
        /// Nodes of the mesh that take shards.
        node_count: usize,
    },
}

/// The rule of the policy that an object goes by, with its number from 1; `None` if none matches.
#[must_use]
pub fn rule<'a>(settings: &'a PutSettings, subject: &PutSubject<'_>) -> Option<(usize, &'a PolicyRule)> {
    (1..).zip(&settings.policy).find(|(_, rule)| rule.matches(subject))
}

/// How an object is encoded: as the settings say, with this choice of shards or as many as the mesh has failure domains for.
///
/// # Errors
/// [`SchemeError`] when the mesh is too small.
pub fn scheme(
    settings: &PutSettings,
    choice: SchemeChoice,
    topology: &Topology,
) -> Result<Scheme, SchemeError> {
    let domain_count = topology.domain_count();
    let redundancy = match choice {
        SchemeChoice::Exact(redundancy) => redundancy,
        SchemeChoice::Auto => {
            Redundancy::largest_for(domain_count).ok_or(SchemeError::TooFewDomains { domain_count })?
        }
    };
    let (needed, node_count) = (redundancy.acknowledged_count_min(), topology.holders().count());
    if node_count < needed {
        return Err(SchemeError::TooFewNodes { redundancy, needed, node_count });
    }
    let mode = settings.mode;
    let cipher = if mode == Mode::Public { Cipher::None } else { preferred_cipher() };
    let chunking = settings.chunking.chunking(mode);
    Ok(Scheme { mode, chunking, compression: settings.compression, cipher, redundancy })
}
