//! Nodes, their roles, capacity, and failure domains at one epoch.

use core::fmt;
use core::str::FromStr;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::encode::encode;
use crate::id::{ID_SIZE, NodeId};
use crate::limits::{NODE_ADDRESSES_MAX, NODE_GRACE_S_MAX, NODE_TEXT_SIZE_MAX};
use crate::sign::Signable;
use crate::time::Timestamp;

/// What a node does for the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Keeps shards and serves them.
    Storage,
    /// Keeps shards that are rarely read.
    Archival,
    /// Serves popular shards; owes no durability.
    Cache,
}

/// Where a node stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Known, takes no shards yet.
    Joining,
    /// Takes and serves shards.
    Active,
    /// Serves shards, takes no new ones.
    Draining,
    /// Left for good.
    Gone,
}

/// Where a node stands, coarse to fine: what shares a label at some level fails together there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FailureDomain {
    /// The part of the world.
    pub region: String,
    /// The building.
    pub site: String,
    /// The machine.
    pub host: String,
    /// Who runs it.
    pub operator: String,
}

impl FailureDomain {
    /// The domain of a node about which nothing is known but that it is a machine of its own.
    #[must_use]
    pub fn alone(host: &str) -> Self {
        let unknown = || "-".to_owned();
        Self { region: unknown(), site: unknown(), host: host.to_owned(), operator: unknown() }
    }

    fn labels(&self) -> [&str; 4] {
        [&self.region, &self.site, &self.host, &self.operator]
    }
}

impl fmt::Display for FailureDomain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.region, self.site, self.host)?;
        if self.operator == "-" { Ok(()) } else { write!(formatter, "/{}", self.operator) }
    }
}

/// A text is no failure domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no failure domain: write region/site/host, or region/site/host/operator")]
pub struct ParseDomainError(String);

impl FromStr for FailureDomain {
    type Err = ParseDomainError;

    fn from_str(text: &str) -> Result<Self, ParseDomainError> {
        let malformed = || ParseDomainError(text.to_owned());
        let labels: Vec<&str> = text.split('/').collect();
        let well_formed = labels.iter().all(|label| !label.is_empty() && label.len() <= NODE_TEXT_SIZE_MAX);
        let (region, site, host, operator) = match labels[..] {
            [region, site, host] if well_formed => (region, site, host, "-"),
            [region, site, host, operator] if well_formed => (region, site, host, operator),
            _ => return Err(malformed()),
        };
        let own = str::to_owned;
        Ok(Self { region: own(region), site: own(site), host: own(host), operator: own(operator) })
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Who says it.
    pub node: NodeId,
    /// The record with the higher sequence replaces the other: milliseconds since the Unix epoch at its making.
    pub sequence: u64,
    /// Multiaddresses at which it can be dialled.
    pub addresses: Vec<String>,
    /// What it does.
    pub role: Role,
    /// Where it stands in its life.
    pub state: NodeState,
    /// Where it stands in the world.
    pub domain: FailureDomain,
    /// Bytes that it offers.
    pub capacity: u64,
    /// How long it may be silent before it counts as absent, seconds: then what it holds is made again elsewhere. It says so
    /// itself, so that all who know the record judge alike.
    pub grace_s: u32,
    /// The version that it runs.
    pub software: String,
}

impl NodeRecord {
    /// Whether every text and list of the record is within its bound.
    #[must_use]
    pub fn bounded(&self) -> bool {
        let mut texts = self.addresses.iter().map(String::as_str).chain(self.domain.labels());
        self.addresses.len() <= NODE_ADDRESSES_MAX
            && self.grace_s <= NODE_GRACE_S_MAX
            && self.software.len() <= NODE_TEXT_SIZE_MAX
            && texts.all(|text| text.len() <= NODE_TEXT_SIZE_MAX)
    }

    /// Whether it may be asked for what it holds.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.state != NodeState::Gone
    }

    /// Whether the ring may give it new shards.
    #[must_use]
    pub fn takes_shards(&self) -> bool {
        self.state == NodeState::Active
            && matches!(self.role, Role::Storage | Role::Archival)
            && self.capacity > 0
    }
}

impl NodeRecord {
    /// Whether the node has been silent for longer than it may.
    #[must_use]
    pub fn is_absent(&self, now: Timestamp) -> bool {
        let until = self.sequence.saturating_add(u64::from(self.grace_s) * 1000);
        self.state != NodeState::Gone && until < now.as_ms()
    }
}

impl Signable for NodeRecord {
    const DOMAIN: &'static str = "datamesh node record v2";

    fn signer(&self) -> &[u8; ID_SIZE] {
        self.node.as_bytes()
    }
}

/// The nodes of a mesh as one participant knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    nodes: BTreeMap<NodeId, NodeRecord>,
    /// Nodes that have been silent for longer than they may.
    absent: BTreeSet<NodeId>,
    isolated: bool,
}

impl Topology {
    /// A topology of these nodes.
    pub fn new(records: impl IntoIterator<Item = NodeRecord>) -> Self {
        let mut topology = Self::default();
        for record in records {
            topology.learn(record);
        }
        topology
    }

    /// Takes a record over if it is newer than what was known. Says whether it was.
    pub fn learn(&mut self, record: NodeRecord) -> bool {
        let known = self.nodes.get(&record.node);
        let newer = known.is_none_or(|known| known.sequence < record.sequence);
        if newer {
            self.absent.remove(&record.node);
            self.nodes.insert(record.node, record);
        }
        newer
    }

    /// Finds out who is absent, as seen by `own`, who is not. Says whether that has changed.
    ///
    /// If nobody else is left, nobody counts as absent: then it is this participant that is cut off, or whose clock is wrong,
    /// and what it holds is not to be moved for that.
    pub fn judge(&mut self, own: Option<&NodeId>, now: Timestamp) -> bool {
        let others: Vec<&NodeRecord> =
            self.records().filter(|record| Some(&record.node) != own && record.serves()).collect();
        let silent = || others.iter().filter(|record| record.is_absent(now)).map(|record| record.node);
        let isolated = !others.is_empty() && silent().count() == others.len();
        let absent: BTreeSet<NodeId> = if isolated { BTreeSet::new() } else { silent().collect() };
        let changed = absent != self.absent || isolated != self.isolated;
        (self.absent, self.isolated) = (absent, isolated);
        changed
    }

    /// Whether a node has been silent for longer than it may.
    #[must_use]
    pub fn is_absent(&self, node: &NodeId) -> bool {
        self.absent.contains(node)
    }

    /// Whether every other node seems to be absent: what is known is then no ground to move data.
    #[must_use]
    pub const fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// Drops a node, as if it had never been known.
    pub fn forget(&mut self, node: &NodeId) {
        self.nodes.remove(node);
        self.absent.remove(node);
    }

    /// What a node last said of itself.
    #[must_use]
    pub fn record(&self, node: &NodeId) -> Option<&NodeRecord> {
        self.nodes.get(node)
    }

    /// Every node, in the order of ids.
    pub fn records(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.values()
    }

    /// The nodes that the ring may give shards to, in the order of ids.
    pub fn holders(&self) -> impl Iterator<Item = &NodeRecord> {
        self.records().filter(|record| record.takes_shards() && !self.absent.contains(&record.node))
    }

    /// Distinct hosts among the nodes that take shards: the failure domains that a scheme counts.
    #[must_use]
    pub fn domain_count(&self) -> usize {
        let host = |record: &NodeRecord| {
            let FailureDomain { region, site, host, .. } = record.domain.clone();
            (region, site, host)
        };
        self.holders().map(host).collect::<BTreeSet<_>>().len()
    }

    /// Nodes known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no node is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A hash of all that placement depends on: two participants with the same digest place alike.
    #[must_use]
    pub fn placement_digest(&self) -> [u8; ID_SIZE] {
        let mut hasher = blake3::Hasher::new_derive_key("datamesh 2026 placement topology v1");
        for record in self.holders() {
            hasher.update(&encode(&(record.node, &record.domain, record.capacity)));
        }
        *hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::{FailureDomain, NodeRecord, NodeState, Role, Topology};
    use crate::id::NodeId;
    use crate::time::Timestamp;

    fn record(number: u8, sequence: u64, domain: &str) -> NodeRecord {
        NodeRecord {
            node: NodeId::from_bytes([number; 32]),
            sequence,
            addresses: vec![],
            role: Role::Storage,
            state: NodeState::Active,
            domain: domain.parse().expect("a domain"),
            capacity: 1,
            grace_s: 10,
            software: "test".into(),
        }
    }

    #[test]
    fn the_newer_record_stays_whatever_the_order_of_arrival() {
        let (old, new) = (record(1, 1, "a/b/old"), record(1, 2, "a/b/new"));
        let forwards = Topology::new([old.clone(), new.clone()]);
        let backwards = Topology::new([new, old]);
        assert_eq!(forwards, backwards);
        assert_eq!(forwards.records().next().map(|kept| kept.domain.host.as_str()), Some("new"));
    }

    #[test]
    fn who_is_silent_for_longer_than_it_may_holds_nothing_until_it_is_heard_again() {
        let (own, now) = (NodeId::from_bytes([1; 32]), Timestamp::from_ms(100_000));
        let silent_for = |number: u8, silence: u64| record(number, 100_000 - silence, "a/b/c");
        let mut topology =
            Topology::new([silent_for(1, 99_000), silent_for(2, 10_000), silent_for(3, 10_001)]);
        assert!(topology.judge(Some(&own), now) && !topology.judge(Some(&own), now));
        let holders =
            |topology: &Topology| topology.holders().map(|record| record.sequence).collect::<Vec<_>>();
        assert_eq!(holders(&topology), [1_000, 90_000], "whoever judges is not absent");
        topology.learn(silent_for(3, 0));
        assert_eq!(holders(&topology), [1_000, 90_000, 100_000]);
        assert!(!topology.is_isolated());
    }

    #[test]
    fn who_hears_of_nobody_takes_itself_for_cut_off() {
        let own = NodeId::from_bytes([1; 32]);
        let mut topology =
            Topology::new([record(1, 1, "a/b/c"), record(2, 1, "a/b/c"), record(3, 1, "a/b/c")]);
        for judge in [Some(&own), None] {
            topology.judge(judge, Timestamp::from_ms(u64::MAX));
            assert!(topology.is_isolated() && topology.holders().count() == 3);
        }
        let mut alone = Topology::new([record(1, 1, "a/b/c")]);
        alone.judge(Some(&own), Timestamp::from_ms(u64::MAX));
        assert!(!alone.is_isolated(), "there is nobody to be cut off from");
    }

    #[test]
    fn hosts_are_what_a_scheme_counts() {
        let topology = Topology::new([record(1, 1, "a/b/c"), record(2, 1, "a/b/c"), record(3, 1, "a/x/c")]);
        assert_eq!(topology.domain_count(), 2);
    }

    #[test]
    fn a_domain_is_read_back_as_written() {
        for text in ["eu/basement/left", "eu/basement/left/ann"] {
            assert_eq!(text.parse::<FailureDomain>().expect("a domain").to_string(), text);
        }
        for wrong in ["", "eu", "eu/a", "eu//c", "a/b/c/d/e"] {
            assert!(wrong.parse::<FailureDomain>().is_err(), "{wrong}");
        }
    }
}
