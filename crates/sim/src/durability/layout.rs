//! Who is to hold each slot, by the production ring, and who steps in.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use datamesh_core::id::{NodeId, PlacementGroup};
use datamesh_core::limits::{PLACEMENT_GROUPS, RING_BALANCED_RANKS};
use datamesh_core::placement::Placement;
use datamesh_core::topology::{FailureDomain, NodeRecord, NodeState, Role, Topology};
use datamesh_engine::place::survival;
use datamesh_engine::ring::{Member, Ring, RingSettings};

use crate::durability::settings::Settings;
use crate::durability::statistics::real;

/// A place in the mesh that one node after the other takes.
pub type SeatNumber = usize;

/// The ring over seats, looked up: hashing its order again for each slot would take most of the time.
#[derive(Debug)]
pub struct Layout {
    ring: Ring,
    seats: BTreeMap<NodeId, SeatNumber>,
    /// Shards of a stripe.
    width: usize,
    /// Ranks looked up of each group.
    depth: usize,
    order: Vec<SeatNumber>,
}

impl Layout {
    /// The ring of the nodes in these seats, each with how many nodes were in the seat before.
    ///
    /// # Panics
    /// If there are fewer seats than shards in a stripe.
    #[must_use]
    pub fn of(settings: &Settings, seats: impl Iterator<Item = (SeatNumber, u64)>) -> Self {
        let members: Vec<(SeatNumber, Member)> =
            seats.map(|(seat, life)| (seat, member(settings, seat, life))).collect();
        let seats: BTreeMap<NodeId, SeatNumber> =
            members.iter().map(|(seat, member)| (member.node, *seat)).collect();
        let width = settings.redundancy.shard_count();
        assert!(members.len() >= width, "{} nodes can't hold {width} shards", members.len());
        let depth = members.len().min(RING_BALANCED_RANKS);
        let ring = Ring::build(members.into_iter().map(|(_, member)| member), RingSettings::default());
        let order = PlacementGroup::all().flat_map(|group| ring.order(group).take(depth));
        let order = order.map(|node| seats[&node]).collect();
        Self { ring, seats, width, depth, order }
    }

    /// The intended holders of a group, rank by rank.
    #[must_use]
    pub fn holders(&self, group: usize) -> &[SeatNumber] {
        &self.order[group * self.depth..][..self.width]
    }

    /// The share of groups whose stripes survive as many whole sites as they have parity shards, as production judges it.
    ///
    /// # Panics
    /// Unless every seat has its first node, as in a mesh that has just begun.
    #[must_use]
    pub fn spread_over_sites(&self, settings: &Settings) -> f64 {
        let record = |seat| {
            let Member { node, weight, domain } = member(settings, seat, 0);
            NodeRecord {
                node,
                sequence: 0,
                addresses: Vec::new(),
                role: Role::Storage,
                state: NodeState::Active,
                domain,
                capacity: weight.get(),
                grace_s: 0,
                software: String::new(),
            }
        };
        let topology = Topology::new((0..settings.node_count).map(record));
        let spread = PlacementGroup::all().filter(|group| {
            let mut placement = Placement::empty(self.width);
            for (shard, node) in self.ring.order(*group).take(self.width).enumerate() {
                assert!(topology.record(&node).is_some(), "{node} is no first node of a seat");
                placement.hold(shard, node);
            }
            let survival = survival(&placement, &topology, settings.redundancy);
            survival.any_sites == settings.redundancy.parity_count()
        });
        real(spread.count()) / f64::from(PLACEMENT_GROUPS)
    }

    /// Who steps in: the first behind the intended holders that may. Every node has a host of its own, so this is
    /// [`datamesh_engine::place::Holders::stand_in`] with all that may not in use or ruled out.
    pub fn stand_in(&self, group: usize, may: impl Fn(SeatNumber) -> bool) -> Option<SeatNumber> {
        let near = &self.order[group * self.depth..][self.width..self.depth];
        near.iter().copied().find(|seat| may(*seat)).or_else(|| {
            let group = PlacementGroup::all().nth(group)?;
            let far = self.ring.order(group).skip(self.depth).map(|node| self.seats[&node]);
            far.into_iter().find(|seat| may(*seat))
        })
    }
}

/// The site of a seat.
#[must_use]
pub const fn site_of(settings: &Settings, seat: SeatNumber) -> usize {
    seat % settings.site_count
}

/// The node in a seat, after so many before it.
#[must_use]
pub fn member(settings: &Settings, seat: SeatNumber, life: u64) -> Member {
    let mut hasher = blake3::Hasher::new_derive_key("datamesh 2026 simulated durability nodes v1");
    hasher.update(&settings.seed.to_le_bytes()).update(format!("{seat} {life}").as_bytes());
    let site = site_of(settings, seat);
    let domain = FailureDomain {
        region: format!("region {}", site % settings.region_count),
        site: format!("site {site}"),
        ..FailureDomain::alone(&format!("host {seat} {life}"))
    };
    Member { node: NodeId::from_bytes(*hasher.finalize().as_bytes()), weight: NonZeroU64::MIN, domain }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use datamesh_core::id::{NodeId, StripeId};
    use datamesh_engine::place::stripe_holders;

    use super::{Layout, member};
    use crate::durability::lifetime::Lifetime;
    use crate::durability::settings::Settings;

    #[test]
    fn holders_and_stand_ins_are_those_of_production() {
        let redundancy = "4+2".parse().expect("a redundancy");
        let lifetime = Lifetime::new(1.0, 1).expect("in range");
        let settings = Settings { node_count: 60, site_count: 60, ..Settings::new(1, redundancy, lifetime) };
        let layout = Layout::of(&settings, (0..60).map(|seat| (seat, 0)));
        let node = |seat: usize| member(&settings, seat, 0).node;
        for first in [0_u8, 77, 255] {
            let mut hash = [0; 32];
            hash[0] = first;
            let group = usize::from(first) << 6;
            let holders = stripe_holders(&layout.ring, &StripeId::from_bytes(hash), settings.redundancy);
            let intended: Vec<NodeId> = holders.intended().collect();
            let own: Vec<NodeId> = layout.holders(group).iter().map(|seat| node(*seat)).collect();
            assert_eq!(own, intended);
            // One after the other steps in until nobody is left, beyond the ranks that are looked up.
            let (mut used, mut free): (BTreeSet<NodeId>, BTreeSet<usize>) =
                (intended.into_iter().collect(), (0..60).collect());
            free.retain(|seat| !used.contains(&node(*seat)));
            while let Some(stand_in) = holders.stand_in(&used, &BTreeSet::new()) {
                let own = layout.stand_in(group, |seat| free.contains(&seat)).expect("somebody is left");
                assert_eq!(node(own), stand_in);
                free.remove(&own);
                used.insert(stand_in);
            }
            assert!(free.is_empty());
        }
    }

    #[test]
    fn stripes_spread_over_sites_where_there_are_enough_and_not_where_there_is_one() {
        let redundancy = "4+2".parse().expect("a redundancy");
        let lifetime = Lifetime::new(1.0, 1).expect("in range");
        let share = |site_count| {
            let mesh = Settings {
                node_count: 60,
                site_count,
                region_count: 1,
                ..Settings::new(1, redundancy, lifetime)
            };
            Layout::of(&mesh, (0..60).map(|seat| (seat, 0))).spread_over_sites(&mesh)
        };
        assert!(share(60) > 0.999 && share(1) < 0.001);
    }
}
