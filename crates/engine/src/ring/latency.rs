//! An agreed latency map: how far apart regions and sites are, the same for all who place by it. Pure.
//!
//! What one node measures it must not place by, since others measure something else. A map is an input like the topology:
//! somebody writes it down, everybody is given it, and its digest shows that they were given the same.

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeMap;

use datamesh_core::encode::{DecodeError, decode, encode};
use datamesh_core::id::ID_SIZE;
use datamesh_core::limits::{LATENCY_MAP_SIZE_MAX, LATENCY_MS_MAX, LATENCY_PAIRS_MAX, NODE_TEXT_SIZE_MAX};
use datamesh_core::topology::FailureDomain;

use crate::ring::Member;
use crate::ring::domains::Domains;

const FORMAT_VERSION: u8 = 1;
const DIGEST_CONTEXT: &str = "datamesh 2026 latency map v1";

/// A region, or a site in one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    region: String,
    site: Option<String>,
}

impl Place {
    fn of_region(domain: &FailureDomain) -> Self {
        Self { region: domain.region.clone(), site: None }
    }

    fn of_site(domain: &FailureDomain) -> Self {
        Self { site: Some(domain.site.clone()), ..Self::of_region(domain) }
    }
}

/// A text is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place: write region, or region/site")]
pub struct ParsePlaceError(String);

impl FromStr for Place {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Self, ParsePlaceError> {
        let labels: Vec<&str> = text.split('/').collect();
        let well_formed = labels.iter().all(|label| !label.is_empty() && label.len() <= NODE_TEXT_SIZE_MAX);
        match labels[..] {
            [region] if well_formed => Ok(Self { region: region.to_owned(), site: None }),
            [region, site] if well_formed => {
                Ok(Self { region: region.to_owned(), site: Some(site.to_owned()) })
            }
            _ => Err(ParsePlaceError(text.to_owned())),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.region)?;
        self.site.as_ref().map_or(Ok(()), |site| write!(formatter, "/{site}"))
    }
}

/// Milliseconds between two places, in either direction. The pair of a region with itself is for its sites among each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LatencyMap {
    /// By pairs of two regions or two sites, the lesser first.
    ms_by_pair: BTreeMap<(Place, Place), u32>,
}

/// Why pairs or bytes are no latency map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LatencyMapError {
    /// More pairs than a map has.
    #[error("{0} pairs are more than {LATENCY_PAIRS_MAX}")]
    TooManyPairs(usize),
    /// More bytes than a map has.
    #[error("{0} bytes are more than {LATENCY_MAP_SIZE_MAX}")]
    TooLarge(usize),
    /// Farther than any two places are.
    #[error("{ms} ms between `{one}` and `{other}` are more than {LATENCY_MS_MAX}")]
    TooFar {
        /// From where.
        one: Place,
        /// To where.
        other: Place,
        /// How far.
        ms: u32,
    },
    /// A region is related to a site.
    #[error("one of `{one}` and `{other}` is a region and the other a site")]
    Mixed {
        /// The one.
        one: Place,
        /// The other.
        other: Place,
    },
    /// The pair is there twice.
    #[error("`{one}` and `{other}` are there twice")]
    Twice {
        /// The one.
        one: Place,
        /// The other.
        other: Place,
    },
    /// A name in the bytes is no place.
    #[error(transparent)]
    Place(#[from] ParsePlaceError),
    /// The bytes are of a version that is not known here.
    #[error("latency map of version {0}, of which only {FORMAT_VERSION} is known")]
    Version(u8),
    /// The bytes are no map in its one encoding.
    #[error("latency map: {0}")]
    Encoding(#[from] DecodeError),
}

impl LatencyMap {
    /// The map of these pairs, in any order.
    ///
    /// # Errors
    /// [`LatencyMapError`] for a pair that no map has.
    pub fn new(pairs: impl IntoIterator<Item = (Place, Place, u32)>) -> Result<Self, LatencyMapError> {
        let mut ms_by_pair = BTreeMap::new();
        for (one, other, ms) in pairs {
            let (one, other) = if one <= other { (one, other) } else { (other, one) };
            if one.site.is_some() != other.site.is_some() {
                return Err(LatencyMapError::Mixed { one, other });
            }
            if ms > LATENCY_MS_MAX {
                return Err(LatencyMapError::TooFar { one, other, ms });
            }
            if ms_by_pair.insert((one.clone(), other.clone()), ms).is_some() {
                return Err(LatencyMapError::Twice { one, other });
            }
            if ms_by_pair.len() > LATENCY_PAIRS_MAX {
                return Err(LatencyMapError::TooManyPairs(ms_by_pair.len()));
            }
        }
        Ok(Self { ms_by_pair })
    }

    /// Reads a map, and refuses any but its one encoding.
    ///
    /// # Errors
    /// [`LatencyMapError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LatencyMapError> {
        if bytes.len() > LATENCY_MAP_SIZE_MAX {
            return Err(LatencyMapError::TooLarge(bytes.len()));
        }
        let (version, pairs): (u8, Vec<(String, String, u32)>) = decode(bytes)?;
        if version != FORMAT_VERSION {
            return Err(LatencyMapError::Version(version));
        }
        let parsed = pairs.into_iter().map(|(one, other, ms)| Ok((one.parse()?, other.parse()?, ms)));
        let map = Self::new(parsed.collect::<Result<Vec<_>, ParsePlaceError>>()?)?;
        if map.to_bytes() == bytes { Ok(map) } else { Err(DecodeError::NotCanonical.into()) }
    }

    /// The one encoding of the map: DAG-CBOR, the pairs in their order.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let pairs =
            self.ms_by_pair.iter().map(|((one, other), ms)| (one.to_string(), other.to_string(), *ms));
        encode(&(FORMAT_VERSION, pairs.collect::<Vec<_>>()))
    }

    /// A hash of the map: two participants with the same digest have the same map.
    #[must_use]
    pub fn digest(&self) -> [u8; ID_SIZE] {
        blake3::derive_key(DIGEST_CONTEXT, &self.to_bytes())
    }

    /// Milliseconds between where two nodes stand: as their sites' pair says, or else as their regions' does; 0 within a
    /// site of which nothing is said. `None` where neither is known.
    #[must_use]
    pub fn between(&self, one: &FailureDomain, other: &FailureDomain) -> Option<u32> {
        let sites = [Place::of_site(one), Place::of_site(other)];
        let near = (sites[0] == sites[1]).then_some(0);
        self.pair(sites).or(near).or_else(|| self.pair([Place::of_region(one), Place::of_region(other)]))
    }

    fn pair(&self, mut places: [Place; 2]) -> Option<u32> {
        places.sort_unstable();
        self.ms_by_pair.get(&places.into()).copied()
    }
}

/// A latency map in the numbers that a ring has for its sites and regions.
#[derive(Debug)]
pub(super) struct Distances<'a> {
    domains: &'a Domains,
    ms_by_sites: BTreeMap<(usize, usize), u32>,
    ms_by_regions: BTreeMap<(usize, usize), u32>,
}

/// Farther than any place that the map knows.
const UNKNOWN_MS: u32 = LATENCY_MS_MAX + 1;

impl<'a> Distances<'a> {
    pub(super) fn of(map: &LatencyMap, members: &[Member], domains: &'a Domains) -> Self {
        let mut numbers = BTreeMap::new();
        for (place, member) in members.iter().enumerate() {
            let site = domains.site_of(place);
            numbers.insert(Place::of_site(&member.domain), site);
            numbers.insert(Place::of_region(&member.domain), domains.region_of_site(site));
        }
        let mut distances = Self { domains, ms_by_sites: BTreeMap::new(), ms_by_regions: BTreeMap::new() };
        for ((one, other), ms) in &map.ms_by_pair {
            // A map may know more of the world than the mesh has of it.
            if let (Some(first), Some(second)) = (numbers.get(one), numbers.get(other)) {
                let pairs = if one.site.is_some() {
                    &mut distances.ms_by_sites
                } else {
                    &mut distances.ms_by_regions
                };
                pairs.insert(ordered(*first, *second), *ms);
            }
        }
        distances
    }

    /// How far two sites are from each other, by the rule of [`LatencyMap::between`].
    pub(super) fn between(&self, one: usize, other: usize) -> u32 {
        let near = (one == other).then_some(0);
        let regions = || ordered(self.domains.region_of_site(one), self.domains.region_of_site(other));
        let ms = self.ms_by_sites.get(&ordered(one, other)).copied().or(near);
        ms.or_else(|| self.ms_by_regions.get(&regions()).copied()).unwrap_or(UNKNOWN_MS)
    }
}

fn ordered(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}
