//! The rings of the mesh as it is and as it was, each built once for all operations of a process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use datamesh_core::id::ID_SIZE;
use datamesh_core::limits::RINGS_KEPT;
use datamesh_core::topology::Topology;

use crate::ring::Ring;
use crate::ring::latency::LatencyMap;
use crate::world::Compute;

/// Rings by what they were built from. A ring of thousands of nodes takes a second to build, and megabytes; operations that
/// run at once share one.
#[derive(Debug, Default)]
pub struct Rings {
    /// What all of them are built with besides their topology.
    latency: Option<Arc<LatencyMap>>,
    kept: Mutex<Kept>,
    /// Held by whoever builds. The lock above never is.
    building: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The very topology whose ring was asked for last: most who ask have the same one, and are spared its digest. What it
    /// holds may be freed; that nothing else comes to lie in its place, this reference sees to.
    last: Weak<Topology>,
    /// By [`Topology::placement_digest`], the one used last first.
    rings: Vec<([u8; ID_SIZE], Arc<Ring>)>,
}

impl Rings {
    /// Rings whose holders are near each other by a map that all participants of the mesh have agreed on.
    #[must_use]
    pub fn near(latency: Arc<LatencyMap>) -> Self {
        Self { latency: Some(latency), ..Self::default() }
    }

    /// The map that they are made by, if any.
    #[must_use]
    pub fn latency(&self) -> Option<&LatencyMap> {
        self.latency.as_deref()
    }

    /// The ring of a topology. Of those who ask at once for one that is not there, the first builds it and the others wait.
    ///
    /// # Cancel safety
    /// When dropped, what was built so far may be lost; whoever asks next builds it again.
    pub async fn current(&self, topology: &Arc<Topology>, compute: &(dyn Compute + 'static)) -> Arc<Ring> {
        if let Some(ring) = self.kept().last_of(topology) {
            return ring;
        }
        let _building = self.building.lock().await;
        // Whoever built until now may have built this one.
        if let Some(ring) = self.kept().last_of(topology) {
            return ring;
        }
        let digests = self.kept().digests();
        let (known, latency) = (Arc::clone(topology), self.latency.clone());
        let (digest, built) = compute
            .output(move || {
                let digest = known.placement_digest();
                let build = || match latency {
                    Some(latency) => Ring::of_near(&known, latency),
                    None => Ring::of(&known),
                };
                (digest, (!digests.contains(&digest)).then(build))
            })
            .await;
        self.kept().note(topology, digest, built)
    }

    /// The rings that were in use before the one used last, the latest first: at most [`RINGS_KEPT`]. What lay where
    /// one of them says and has not been moved yet still lies there.
    pub fn earlier(&self) -> impl Iterator<Item = Arc<Ring>> + use<> {
        let earlier: Vec<Arc<Ring>> =
            self.kept().rings.iter().skip(1).map(|(_, ring)| Arc::clone(ring)).collect();
        earlier.into_iter()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn last_of(&self, topology: &Arc<Topology>) -> Option<Arc<Ring>> {
        let (_, ring) = self.rings.first()?;
        std::ptr::eq(self.last.as_ptr(), Arc::as_ptr(topology)).then(|| Arc::clone(ring))
    }

    fn digests(&self) -> Vec<[u8; ID_SIZE]> {
        self.rings.iter().map(|(digest, _)| *digest).collect()
    }

    /// Takes note of the ring that is used now: one that was built, or else the one of this digest.
    fn note(&mut self, topology: &Arc<Topology>, digest: [u8; ID_SIZE], built: Option<Ring>) -> Arc<Ring> {
        let place = self.rings.iter().position(|(kept, _)| *kept == digest);
        let ring = match (place, built) {
            (Some(place), _) => self.rings.remove(place).1,
            (None, Some(built)) => Arc::new(built),
            (None, None) => unreachable!("only who builds lets a ring go, and one builds at a time"),
        };
        self.rings.insert(0, (digest, Arc::clone(&ring)));
        self.rings.truncate(1 + RINGS_KEPT);
        self.last = Arc::downgrade(topology);
        ring
    }
}
