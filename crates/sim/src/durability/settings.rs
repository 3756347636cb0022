//! What a mesh is like, how its nodes fail, and how it repairs.

use datamesh_core::limits::RING_BALANCED_RANKS;
use datamesh_core::scheme::Redundancy;

use crate::durability::lifetime::{Lifetime, LogNormal};

/// Seconds.
pub const MINUTE: f64 = 60.0;
/// Seconds.
pub const HOUR: f64 = 60.0 * MINUTE;
/// Seconds.
pub const DAY: f64 = 24.0 * HOUR;
/// Seconds.
pub const YEAR: f64 = 365.25 * DAY;
/// Nodes that a mesh may have: a seat is numbered in 32 bits, and its slots must fit memory.
pub const NODES_MAX: usize = 100_000;

/// A mesh, its faults and its repair. Times are in seconds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What all chance follows from.
    pub seed: u64,
    /// Nodes, each on a host of its own.
    pub node_count: usize,
    /// Sites, over which the nodes are spread evenly.
    pub site_count: usize,
    /// Regions, over which the sites are.
    pub region_count: usize,
    /// How every object is encoded.
    pub redundancy: Redundancy,
    /// How long the mesh is watched.
    pub span: f64,
    /// How long nodes live. One that dies takes its shards with it.
    pub lifetime: Lifetime,
    /// How they are away and come back with their shards.
    pub absences: Option<Absences>,
    /// How sites fail.
    pub site_faults: Option<SiteFaults>,
    /// From a node's silence until others have noticed.
    pub detection: f64,
    /// From there until it leaves the ring and its shards are rebuilt.
    pub grace: f64,
    /// From a dead node's leaving the ring until a newcomer is in its place.
    pub join_delay: f64,
    /// Bytes per second that a node receives and sends for the repairs that it leads.
    pub rebuild_rate: f64,
    /// Bytes of shards on a node on the mean.
    pub data_per_node: f64,
    /// How the ring follows its members.
    pub following: Following,
}

/// How nodes are away.
#[derive(Debug, Clone, Copy)]
pub struct Absences {
    /// How often in a week.
    pub per_week: f64,
    /// For how long.
    pub length: LogNormal,
}

/// How sites fail.
#[derive(Debug, Clone, Copy)]
pub struct SiteFaults {
    /// The mean time between outages of one site.
    pub outage_every: f64,
    /// How long an outage is.
    pub outage: LogNormal,
    /// The mean time until a site is lost with all its nodes.
    pub loss_every: f64,
}

/// How the ring follows its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Following {
    /// The ring is that of all seats. What a node leaves goes to the next in hand-off order, and back to whoever is in
    /// its seat next.
    HandOff,
    /// The ring is built anew from its members whenever one leaves or joins, as nodes do.
    Rebuilt,
}

/// Why settings are of no mesh.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// Too few to hold a stripe, or too many.
    #[error("{found} nodes are out of range: {least}..={NODES_MAX} for this scheme")]
    Nodes {
        /// How many.
        found: usize,
        /// A node for each shard.
        least: usize,
    },
    /// Some would be empty, or there is none.
    #[error(
        "{sites} sites in {regions} regions are out of range: 1..={nodes} sites, no more regions than sites"
    )]
    Sites {
        /// Sites.
        sites: usize,
        /// Regions.
        regions: usize,
        /// Nodes.
        nodes: usize,
    },
    /// More shards than the ring has balanced ranks.
    #[error("{0} has more than {RING_BALANCED_RANKS} shards")]
    Shards(Redundancy),
    /// A time or a rate that is none.
    #[error("{name} of {value} is out of range: above 0")]
    Amount {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f64,
    },
}

impl Settings {
    /// Ten thousand nodes with a terabyte each, that fail by themselves alone, for ten years.
    #[must_use]
    pub const fn new(seed: u64, redundancy: Redundancy, lifetime: Lifetime) -> Self {
        Self {
            seed,
            node_count: 10_000,
            site_count: 500,
            region_count: 10,
            redundancy,
            span: 10.0 * YEAR,
            lifetime,
            absences: None,
            site_faults: None,
            detection: MINUTE,
            grace: 4.0 * HOUR,
            join_delay: DAY,
            rebuild_rate: 12.5e6,
            data_per_node: 1e12,
            following: Following::HandOff,
        }
    }

    /// The same, with nodes that are away and sites that fail.
    #[must_use]
    pub const fn with_faults(self) -> Self {
        let absences = Absences { per_week: 3.0, length: LogNormal { median: 10.0 * MINUTE, spread: 1.2 } };
        let outage = LogNormal { median: 2.0 * HOUR, spread: 1.0 };
        let site_faults = SiteFaults { outage_every: YEAR, outage, loss_every: 100.0 * YEAR };
        Self { absences: Some(absences), site_faults: Some(site_faults), ..self }
    }

    /// Whether a mesh can be like this.
    ///
    /// # Errors
    /// [`SettingsError`] for what is out of range.
    pub fn check(&self) -> Result<(), SettingsError> {
        let shard_count = self.redundancy.shard_count();
        if shard_count > RING_BALANCED_RANKS {
            return Err(SettingsError::Shards(self.redundancy));
        }
        if !(shard_count..=NODES_MAX).contains(&self.node_count) {
            return Err(SettingsError::Nodes { found: self.node_count, least: shard_count });
        }
        let (sites, regions, nodes) = (self.site_count, self.region_count, self.node_count);
        if !(1..=nodes).contains(&sites) || !(1..=sites).contains(&regions) {
            return Err(SettingsError::Sites { sites, regions, nodes });
        }
        let amounts = [
            ("a span", self.span),
            ("a rebuild rate", self.rebuild_rate),
            ("data per node", self.data_per_node),
            ("a silence before a node leaves", self.silence()),
        ];
        let wrong = amounts.into_iter().find(|(_, value)| value.is_nan() || *value <= 0.0);
        wrong.map_or(Ok(()), |(name, value)| Err(SettingsError::Amount { name, value }))
    }

    /// From a node's last sign of life until it leaves the ring.
    #[must_use]
    pub fn silence(&self) -> f64 {
        self.detection + self.grace
    }
}
