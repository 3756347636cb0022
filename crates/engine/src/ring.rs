//! Consistent hashing with bounded loads: topology and placement group to holders. Pure.
//!
//! After Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads" (2016), with three additions:
//!
//! - Every *slot*, which is a placement group and a rank in its order, walks the ring from a start of its own. A node that
//!   joins or leaves so takes or gives up single slots; were a group's holders the successive nodes of one walk, each of
//!   them would shift by one, and every shard behind the change would move.
//! - The bound holds for every number of ranks: a stripe uses as many of a group's holders as it has shards.
//! - Holders of one group stand on distinct hosts while hosts last, are run by distinct operators while operators last
//!   that are not full, and spread over sites and regions.
//!
//! Integers only, and nothing depends on the order in which members are given: all participants compute the same ring.

mod assign;
mod domains;
mod hosts;
pub mod latency;
mod operators;
mod points;
pub mod workers;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use datamesh_core::id::{NodeId, PlacementGroup};
use datamesh_core::limits::{
    PLACEMENT_GROUPS, RING_BALANCED_RANKS, RING_LOAD_FACTOR_PERCENT, RING_POINTS_PER_NODE,
};
use datamesh_core::topology::{FailureDomain, Topology};

use crate::ring::assign::{assign, load_bound};
use crate::ring::domains::{Domains, Spread};
use crate::ring::latency::{Distances, LatencyMap};
use crate::ring::points::{Points, plain_start};

/// A node as the ring sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which node.
    pub node: NodeId,
    /// Its share of the load, relative to the other members': its capacity.
    pub weight: NonZeroU64,
    /// What it fails together with.
    pub domain: FailureDomain,
}

/// How evenly and how finely a ring spreads. All participants of a mesh need the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingSettings {
    points_per_node: u32,
    load_factor_percent: u32,
}

/// Why two numbers are no ring settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingSettingsError {
    /// No point, or more than pay.
    #[error("{0} points per node is out of range: 1..=1000")]
    Points(u32),
    /// Below the fair share nothing can be placed; far above it nothing is bounded.
    #[error("load factor of {0} % is out of range: 100..=1000")]
    LoadFactor(u32),
}

impl RingSettings {
    /// Points of a node of mean weight, and the load factor in hundredths.
    ///
    /// # Errors
    /// [`RingSettingsError`] for what is out of range.
    pub const fn new(points_per_node: u32, load_factor_percent: u32) -> Result<Self, RingSettingsError> {
        if points_per_node < 1 || points_per_node > 1000 {
            return Err(RingSettingsError::Points(points_per_node));
        }
        if load_factor_percent < 100 || load_factor_percent > 1000 {
            return Err(RingSettingsError::LoadFactor(load_factor_percent));
        }
        Ok(Self { points_per_node, load_factor_percent })
    }
}

impl Default for RingSettings {
    fn default() -> Self {
        Self { points_per_node: RING_POINTS_PER_NODE, load_factor_percent: RING_LOAD_FACTOR_PERCENT }
    }
}

/// Which nodes hold each placement group, in order.
#[derive(Debug, Clone)]
pub struct Ring {
    settings: RingSettings,
    latency: Option<Arc<LatencyMap>>,
    /// In the order of ids, each id once.
    members: Vec<Member>,
    domains: Domains,
    points: Points,
    /// Balanced ranks of each group: [`RING_BALANCED_RANKS`], or all members where they are fewer.
    rank_count: usize,
    /// Members by their place in `members`; group after group, rank after rank.
    slots: Vec<u32>,
}

impl Ring {
    /// The ring of the nodes that take shards, weighted by capacity.
    #[must_use]
    pub fn of(topology: &Topology) -> Self {
        Self::place(Self::members_of(topology), RingSettings::default(), None)
    }

    /// The ring of the nodes that take shards, whose holders are chosen as in [`Ring::build_near`].
    #[must_use]
    pub fn of_near(topology: &Topology, latency: Arc<LatencyMap>) -> Self {
        Self::place(Self::members_of(topology), RingSettings::default(), Some(latency))
    }

    fn members_of(topology: &Topology) -> impl Iterator<Item = Member> {
        let member = |record: &datamesh_core::topology::NodeRecord| {
            let weight = NonZeroU64::new(record.capacity)?;
            Some(Member { node: record.node, weight, domain: record.domain.clone() })
        };
        topology.holders().filter_map(member)
    }

    /// The ring of these members; of members with one id, the last counts.
    #[must_use]
    pub fn build(members: impl IntoIterator<Item = Member>, settings: RingSettings) -> Self {
        Self::place(members, settings, None)
    }

    /// The ring of these members, where of candidates that suit a slot equally well the one nearest to the group's first
    /// holder is taken. All participants need the same map: [`LatencyMap::digest`] shows whether they have.
    #[must_use]
    pub fn build_near(
        members: impl IntoIterator<Item = Member>,
        settings: RingSettings,
        latency: Arc<LatencyMap>,
    ) -> Self {
        Self::place(members, settings, Some(latency))
    }

    fn place(
        members: impl IntoIterator<Item = Member>,
        settings: RingSettings,
        latency: Option<Arc<LatencyMap>>,
    ) -> Self {
        let by_id: BTreeMap<NodeId, Member> =
            members.into_iter().map(|member| (member.node, member)).collect();
        let members: Vec<Member> = by_id.into_values().collect();
        let domains = Domains::of(&members);
        let points = Points::of(&members, settings.points_per_node);
        let rank_count = members.len().min(RING_BALANCED_RANKS);
        let distances = latency.as_ref().map(|map| Distances::of(map, &members, &domains));
        let factor = settings.load_factor_percent;
        let slots = assign(&members, &domains, &points, distances.as_ref(), rank_count, factor);
        Self { settings, latency, members, domains, points, rank_count, slots }
    }

    /// This ring with one more member, or with a member's new weight and domain.
    #[must_use]
    pub fn with(&self, member: Member) -> Self {
        let members = self.members.iter().cloned().chain([member]);
        Self::place(members, self.settings, self.latency.clone())
    }

    /// This ring without a node.
    #[must_use]
    pub fn without(&self, node: &NodeId) -> Self {
        let members = self.members.iter().filter(|member| member.node != *node).cloned();
        Self::place(members, self.settings, self.latency.clone())
    }

    /// The map by which holders are near each other, if there is one.
    #[must_use]
    pub fn latency(&self) -> Option<&LatencyMap> {
        self.latency.as_deref()
    }

    /// The members, in the order of their ids.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Hosts among the members: how many holders of a group can stand on distinct ones.
    #[must_use]
    pub fn host_count(&self) -> usize {
        self.domains.host_count()
    }

    /// The node that a key belongs to: the first holder of the key's group. `None` on an empty ring.
    #[must_use]
    pub fn node_of_key(&self, key: &[u8]) -> Option<NodeId> {
        self.order(PlacementGroup::of_hash(blake3::hash(key).as_bytes())).next()
    }

    /// All members in the order in which they hold a group. The first n hold a stripe of n shards, those that follow are
    /// its hand-off order. The first [`RING_BALANCED_RANKS`] are looked up, those behind them computed as they are asked
    /// for, unbalanced.
    #[must_use]
    pub fn order(&self, group: PlacementGroup) -> Order<'_> {
        Order { ring: self, group, rank: 0, rest: None }
    }

    /// How many slots each member has in the first ranks of all groups; beyond [`RING_BALANCED_RANKS`] nothing is counted.
    #[must_use]
    pub fn loads(&self, rank_count: usize) -> BTreeMap<NodeId, u64> {
        let mut loads = vec![0; self.members.len()];
        for group in PlacementGroup::all() {
            for member in self.balanced(group).iter().take(rank_count) {
                loads[index(*member)] += 1;
            }
        }
        self.members.iter().map(|member| member.node).zip(loads).collect()
    }

    /// The most slots that a member may have in the first ranks of all groups, unless hosts leave no other choice.
    #[must_use]
    pub fn load_bound(&self, member: &Member, rank_count: usize) -> u64 {
        let total = self.members.iter().map(|member| u128::from(member.weight.get())).sum();
        load_bound(member.weight, total, rank_count, self.settings.load_factor_percent)
    }

    fn balanced(&self, group: PlacementGroup) -> &[u32] {
        let first = usize::from(group.index()) * self.rank_count;
        &self.slots[first..first + self.rank_count]
    }

    fn position(&self, node: &NodeId) -> Option<usize> {
        self.members.binary_search_by_key(node, |member| member.node).ok()
    }

    /// A number that two nodes share exactly when they stand on one host; `None` for a node that is no member.
    pub(crate) fn host(&self, node: &NodeId) -> Option<usize> {
        self.position(node).map(|position| self.domains.host_of(position))
    }
}

/// A group's holders in order: see [`Ring::order`].
#[derive(Debug, Clone)]
pub struct Order<'a> {
    ring: &'a Ring,
    group: PlacementGroup,
    rank: usize,
    rest: Option<Rest<'a>>,
}

impl Iterator for Order<'_> {
    type Item = NodeId;

    fn next(&mut self) -> Option<NodeId> {
        let ring = self.ring;
        if self.rank >= ring.members.len() {
            return None;
        }
        let member = if let Some(&member) = ring.balanced(self.group).get(self.rank) {
            index(member)
        } else {
            self.rest.get_or_insert_with(|| Rest::behind(ring, self.group)).next()
        };
        self.rank += 1;
        Some(ring.members[member].node)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.ring.members.len() - self.rank;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Order<'_> {}

/// The part of an order behind the balanced ranks: one walk of the ring for each time that every host comes up once more.
#[derive(Debug, Clone)]
struct Rest<'a> {
    points: &'a Points,
    spread: Spread<'a>,
    at: usize,
}

impl<'a> Rest<'a> {
    fn behind(ring: &'a Ring, group: PlacementGroup) -> Self {
        let mut spread = Spread::new(&ring.domains);
        for &member in ring.balanced(group) {
            spread.take(index(member));
        }
        Self { points: &ring.points, spread, at: ring.points.first_from(plain_start(group)) }
    }

    fn next(&mut self) -> usize {
        let (steps, member) = self
            .points
            .walk_from(self.at)
            .enumerate()
            .find(|&(_, member)| self.spread.is_candidate(member))
            .expect("every member has a point, and one that was not taken is left");
        // The next walk goes on behind this point: a point that was passed now may be a candidate again only after
        // every host was used once more, and the walk comes round to it.
        self.at += steps + 1;
        self.spread.take(member);
        member
    }
}

/// Widens a member's place in the list, or a count of them.
fn index(narrow: u32) -> usize {
    usize::try_from(narrow).expect("addresses have at least 32 bits")
}

/// Narrows a member's place in the list.
fn narrow(index: usize) -> u32 {
    u32::try_from(index).expect("a topology is bounded far below 2^32 nodes")
}

const fn group_count() -> usize {
    PLACEMENT_GROUPS as usize
}
