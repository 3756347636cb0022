//! Holders of a stripe, spread over failure domains, from the ring. Pure.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use datamesh_core::id::{BlockId, NodeId, PlacementGroup, StripeId};
use datamesh_core::placement::Placement;
use datamesh_core::scheme::Redundancy;
use datamesh_core::topology::{FailureDomain, Topology};
use serde::{Deserialize, Serialize};

use crate::ring::{Order, Ring};

/// Who is to hold what a stripe or a block consists of.
#[derive(Debug, Clone, Copy)]
pub struct Holders<'a> {
    ring: &'a Ring,
    group: PlacementGroup,
    count: usize,
}

/// The holders of a stripe: shard i belongs to the i-th.
#[must_use]
pub fn stripe_holders<'a>(ring: &'a Ring, stripe: &StripeId, redundancy: Redundancy) -> Holders<'a> {
    Holders { ring, group: PlacementGroup::of_stripe(stripe), count: redundancy.shard_count() }
}

/// The holders of a manifest block: a replica belongs to each.
#[must_use]
pub fn block_holders<'a>(ring: &'a Ring, block: &BlockId, redundancy: Redundancy) -> Holders<'a> {
    Holders { ring, group: PlacementGroup::of_block(block), count: redundancy.manifest_replica_count() }
}

impl<'a> Holders<'a> {
    /// The placement group that it belongs to.
    #[must_use]
    pub const fn group(&self) -> PlacementGroup {
        self.group
    }

    /// How many there are to be. A small mesh has fewer nodes.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The nodes that are to hold it, in order: fewer than [`Holders::count`] if the mesh has no more.
    pub fn intended(&self) -> impl Iterator<Item = NodeId> + use<'a> {
        self.order().take(self.count)
    }

    /// All nodes in order: the intended holders first, then those that step in for them.
    #[must_use]
    pub fn order(&self) -> Order<'a> {
        self.ring.order(self.group)
    }

    /// Who steps in for a holder that does not answer: the first node in order, behind the intended holders, that is
    /// neither in use nor ruled out, on a host where nothing is in use; if there is none, on the host with the least in
    /// use. `in_use` are the nodes that hold or are being sent a part.
    #[must_use]
    pub fn stand_in(&self, in_use: &BTreeSet<NodeId>, ruled_out: &BTreeSet<NodeId>) -> Option<NodeId> {
        let mut uses: BTreeMap<usize, usize> = BTreeMap::new();
        for host in in_use.iter().filter_map(|node| self.ring.host(node)) {
            *uses.entry(host).or_default() += 1;
        }
        let mut best: Option<(usize, NodeId)> = None;
        let spares = self.order().skip(self.count);
        for node in spares.filter(|node| !in_use.contains(node) && !ruled_out.contains(node)) {
            let host = self.ring.host(&node).expect("a ring orders its own members");
            let host_uses = uses.get(&host).copied().unwrap_or(0);
            if host_uses == 0 {
                return Some(node);
            }
            if best.is_none_or(|(fewest, _)| host_uses < fewest) {
                best = Some((host_uses, node));
            }
        }
        best.map(|(_, node)| node)
    }
}

/// What an acknowledgement may say of a stripe, by where its shards are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wholeness {
    /// Too few shards are held to acknowledge anything.
    NotEnough,
    /// At least k + ⌈m/2⌉ distinct nodes hold shards: acknowledged as degraded, for repair to complete.
    Degraded,
    /// All k + m shards are held, each on a host of its own.
    Whole,
}

/// Judges where the shards of a stripe are.
#[must_use]
pub fn wholeness(placement: &Placement, topology: &Topology, redundancy: Redundancy) -> Wholeness {
    let count = |level| shards_by_domain(placement, topology, level).len();
    if count(Level::Host) >= redundancy.shard_count() {
        Wholeness::Whole
    } else if count(Level::Node) >= redundancy.acknowledged_count_min() {
        Wholeness::Degraded
    } else {
        Wholeness::NotEnough
    }
}

/// How much of what a stripe lies on may fail before it is lost, in the worst case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survival {
    /// Shards that are held.
    pub healthy_count: usize,
    /// Shards that are needed.
    pub needed_count: usize,
    /// Any so many nodes.
    pub any_nodes: usize,
    /// Any so many hosts: the failure domains of the promise.
    pub any_domains: usize,
    /// Any so many sites.
    pub any_sites: usize,
}

/// What the stripe survives, judged by where its shards are. Nodes that the topology doesn't know count as one host: of
/// them nothing can be promised.
#[must_use]
pub fn survival(placement: &Placement, topology: &Topology, redundancy: Redundancy) -> Survival {
    let healthy_count = placement.healthy_count();
    let needed_count = redundancy.data_count();
    let any = |level| {
        let mut sizes: Vec<usize> = shards_by_domain(placement, topology, level).into_values().collect();
        sizes.sort_unstable_by_key(|size| std::cmp::Reverse(*size));
        let mut left = healthy_count;
        let survived = |size: &&usize| {
            left = left.saturating_sub(**size);
            left >= needed_count
        };
        sizes.iter().take_while(survived).count()
    };
    Survival {
        healthy_count,
        needed_count,
        any_nodes: any(Level::Node),
        any_domains: any(Level::Host),
        any_sites: any(Level::Site),
    }
}

impl Survival {
    /// The survival of an object: that of its weakest stripe, level by level. `None` for an object without stripes.
    pub fn weakest(stripes: impl IntoIterator<Item = Self>) -> Option<Self> {
        stripes.into_iter().reduce(|weakest, next| {
            let spare = |survival: &Self| survival.healthy_count.checked_sub(survival.needed_count);
            let fewest = if spare(&next) < spare(&weakest) { next } else { weakest };
            Self {
                any_nodes: weakest.any_nodes.min(next.any_nodes),
                any_domains: weakest.any_domains.min(next.any_domains),
                any_sites: weakest.any_sites.min(next.any_sites),
                ..fewest
            }
        })
    }
}

impl fmt::Display for Survival {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { healthy_count, needed_count, any_nodes, any_domains, any_sites } = *self;
        if healthy_count < needed_count {
            return write!(formatter, "lost: {healthy_count} of the {needed_count} shards needed");
        }
        if any_nodes == 0 {
            return write!(formatter, "survives no loss: {healthy_count} shards, all of them needed");
        }
        // A site contains its hosts and a host its nodes, so a coarser level is worth a word only where it adds one.
        write!(formatter, "survives the loss of ")?;
        match (any_domains, any_sites) {
            (0, _) => write!(formatter, "{}, but not of a host", any(any_nodes, "node")),
            (_, 0) if any_nodes > any_domains => {
                write!(formatter, "{} or {}", any(any_nodes, "node"), any(any_domains, "host"))
            }
            (_, 0) => write!(formatter, "{}", any(any_domains, "host")),
            _ => write!(formatter, "{} or {}", any(any_domains, "host"), any(any_sites, "site")),
        }
    }
}

fn any(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("any {count} {noun}{plural}")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Node,
    Host,
    Site,
}

/// Shards in each domain of a level.
fn shards_by_domain(placement: &Placement, topology: &Topology, level: Level) -> BTreeMap<DomainKey, usize> {
    let mut counts = BTreeMap::new();
    for node in placement.holders().iter().flatten() {
        *counts.entry(DomainKey::of(node, topology, level)).or_default() += 1;
    }
    counts
}

/// A domain of any level.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum DomainKey {
    Node(NodeId),
    Host(String, String, String),
    Site(String, String),
    Unknown,
}

impl DomainKey {
    fn of(node: &NodeId, topology: &Topology, level: Level) -> Self {
        if level == Level::Node {
            return Self::Node(*node);
        }
        let Some(record) = topology.record(node) else {
            return Self::Unknown;
        };
        let FailureDomain { region, site, host, .. } = record.domain.clone();
        if level == Level::Host { Self::Host(region, site, host) } else { Self::Site(region, site) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use datamesh_core::id::{BlockId, NodeId, StripeId};
    use datamesh_core::placement::Placement;
    use datamesh_core::scheme::Redundancy;
    use datamesh_core::topology::{NodeRecord, NodeState, Role, Topology};

    use super::{Survival, Wholeness, block_holders, stripe_holders, survival, wholeness};
    use crate::ring::Ring;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn mesh(domains: &[&str]) -> Topology {
        Topology::new((1..).zip(domains).map(|(number, domain)| NodeRecord {
            node: node(number),
            sequence: 1,
            addresses: vec![],
            role: Role::Storage,
            state: NodeState::Active,
            domain: domain.parse().expect("a domain"),
            capacity: 1,
            grace_s: 14_400,
            software: "test".into(),
        }))
    }

    fn held_by(numbers: &[u8]) -> Placement {
        let mut placement = Placement::empty(numbers.len());
        for (index, number) in numbers.iter().enumerate().filter(|(_, number)| **number > 0) {
            placement.hold(index, node(*number));
        }
        placement
    }

    fn redundancy(text: &str) -> Redundancy {
        text.parse().expect("a redundancy")
    }

    const SIX_HOSTS: [&str; 6] = ["a/a/1", "a/a/2", "a/b/1", "a/b/2", "a/c/1", "a/c/2"];
    const ONE_HOST: [&str; 6] = ["a/a/1"; 6];
    const THREE_HOSTS: [&str; 6] = ["a/a/1", "a/a/1", "a/a/2", "a/a/2", "a/a/3", "a/a/3"];

    #[test]
    fn a_stripe_is_whole_on_distinct_hosts_alone() {
        let judged =
            |domains: &[&str], nodes: &[u8]| wholeness(&held_by(nodes), &mesh(domains), redundancy("4+2"));
        assert_eq!(judged(&SIX_HOSTS, &[1, 2, 3, 4, 5, 6]), Wholeness::Whole);
        assert_eq!(judged(&SIX_HOSTS, &[1, 2, 3, 4, 5, 0]), Wholeness::Degraded);
        assert_eq!(judged(&SIX_HOSTS, &[1, 2, 3, 4, 0, 0]), Wholeness::NotEnough);
        assert_eq!(judged(&SIX_HOSTS, &[1, 2, 3, 4, 5, 5]), Wholeness::Degraded, "one node twice");
        assert_eq!(judged(&SIX_HOSTS, &[1, 2, 3, 4, 4, 4]), Wholeness::NotEnough, "four nodes");
        assert_eq!(judged(&ONE_HOST, &[1, 2, 3, 4, 5, 6]), Wholeness::Degraded);
        assert_eq!(judged(&SIX_HOSTS[..4], &[1, 2, 3, 4, 5, 6]), Wholeness::Degraded, "two unknown nodes");
    }

    #[test]
    fn what_a_stripe_survives_is_said_in_words() {
        let said = |domains: &[&str], nodes: &[u8]| {
            survival(&held_by(nodes), &mesh(domains), redundancy("4+2")).to_string()
        };
        let all = [1, 2, 3, 4, 5, 6];
        assert_eq!(said(&SIX_HOSTS, &all), "survives the loss of any 2 hosts or any 1 site");
        assert_eq!(said(&SIX_HOSTS, &[1, 2, 3, 4, 5, 0]), "survives the loss of any 1 host");
        assert_eq!(said(&THREE_HOSTS, &all), "survives the loss of any 2 nodes or any 1 host");
        assert_eq!(said(&ONE_HOST, &all), "survives the loss of any 2 nodes, but not of a host");
        assert_eq!(said(&SIX_HOSTS, &[1, 2, 3, 4, 0, 0]), "survives no loss: 4 shards, all of them needed");
        assert_eq!(said(&SIX_HOSTS, &[1, 2, 3, 0, 0, 0]), "lost: 3 of the 4 shards needed");
    }

    #[test]
    fn no_choice_of_failed_hosts_is_worse_than_what_is_said() {
        let topology = mesh(&["a/a/1", "a/a/1", "a/a/1", "a/a/2", "a/a/2", "a/a/3", "a/a/4", "a/a/5"]);
        let hosts = [1, 1, 1, 2, 2, 3, 4, 5_u32];
        for parity in 0..8 {
            let redundancy = Redundancy::new(8 - parity, parity).expect("a redundancy");
            let said = survival(&held_by(&[1, 2, 3, 4, 5, 6, 7, 8]), &topology, redundancy).any_domains;
            let readable = |failed: u32| {
                let left = hosts.iter().filter(|host| failed & (1 << **host) == 0).count();
                left >= redundancy.data_count()
            };
            let fatal_min = (0..64_u32).filter(|failed| failed & 1 == 0 && !readable(*failed));
            let fatal_min = fatal_min.map(u32::count_ones).min().map(usize::try_from);
            assert_eq!(fatal_min, Some(Ok(said + 1)), "8 shards, {parity} of them parity");
        }
    }

    #[test]
    fn an_object_survives_what_each_of_its_stripes_does() {
        let of = |nodes: &[u8]| survival(&held_by(nodes), &mesh(&SIX_HOSTS), redundancy("4+2"));
        let (whole, short) = (of(&[1, 2, 3, 4, 5, 6]), of(&[1, 2, 3, 4, 5, 0]));
        assert_eq!(Survival::weakest([whole, short, whole]), Some(short));
        assert_eq!(Survival::weakest([]), None);
    }

    #[test]
    fn a_stand_in_brings_a_fresh_host_while_there_is_one() {
        let topology = mesh(&["a/a/1", "a/a/1", "a/a/2", "a/a/2", "a/a/3", "a/a/3"]);
        let ring = Ring::of(&topology);
        for number in 0..=255 {
            let holders = stripe_holders(&ring, &StripeId::from_bytes([number; 32]), redundancy("2+1"));
            let intended: Vec<NodeId> = holders.intended().collect();
            let failed = intended[usize::from(number) % 3];
            let in_use: BTreeSet<NodeId> = intended.iter().copied().filter(|node| *node != failed).collect();
            let mut ruled_out = BTreeSet::from([failed]);
            let stand_in = holders.stand_in(&in_use, &ruled_out).expect("three nodes are spare");
            assert_eq!(ring.host(&stand_in), ring.host(&failed), "only the failed node's host is not in use");
            ruled_out.insert(stand_in);
            let next = holders.stand_in(&in_use, &ruled_out).expect("two nodes are spare");
            assert_ne!(ring.host(&next), ring.host(&failed));
            let everyone = topology.records().map(|record| record.node).collect();
            assert_eq!(holders.stand_in(&in_use, &everyone), None);
        }
    }

    #[test]
    fn a_block_has_one_replica_more_than_its_stripes_have_parity() {
        let ring = Ring::of(&mesh(&SIX_HOSTS));
        let holders = block_holders(&ring, &BlockId::of(b"a block"), redundancy("4+2"));
        assert_eq!((holders.count(), holders.intended().count(), holders.order().count()), (3, 3, 6));
    }
}
