//! Gives every slot its holder, rank after rank, so that the bound holds for every number of ranks.

use std::cmp::Ordering;
use std::num::NonZeroU64;

use datamesh_core::id::PlacementGroup;

use crate::ring::domains::{Domains, OpenMembers, Spread, Uses};
use crate::ring::hosts::Hosts;
use crate::ring::latency::Distances;
use crate::ring::points::{Points, slot_starts};
use crate::ring::{Member, group_count, index, narrow};

/// Each rank goes through the groups from another place on, so that it is not always the same groups that find the
/// members of small sites full: near the golden section of the groups, whose multiples lie apart from each other.
const RANK_OFFSET: usize = 10_125;

/// Members that are not full, among which a walk looks for one of a site, region and operator used the least.
const OPEN_CHOICES_MAX: usize = 16;
/// Members, where all that come into question are full, among which a walk looks for the one with the least load. More
/// choices would even the loads little more, and move more when a node joins or leaves.
const FORCED_CHOICES_MAX: usize = 4;

/// The holders of all groups: members by their place in the list, group after group, rank after rank.
pub(super) fn assign(
    members: &[Member],
    domains: &Domains,
    points: &Points,
    distances: Option<&Distances<'_>>,
    rank_count: usize,
    load_factor_percent: u32,
) -> Vec<u32> {
    let starts: Vec<Vec<u32>> = PlacementGroup::all().map(|group| slot_starts(group, rank_count)).collect();
    let mut slots = vec![0; group_count() * rank_count];
    let mut assignment = Assignment {
        members,
        domains,
        points,
        distances,
        hosts: Hosts::of(members, domains),
        first_holder: None,
        spread: Spread::new(domains),
        loads: Loads::none(members, load_factor_percent),
        open: OpenMembers::of(domains, 0..0),
        seen: vec![0; members.len()],
        walk_count: 0,
    };
    for rank in 0..rank_count {
        assignment.begin_rank(rank);
        for step in 0..group_count() {
            let group = (step + rank * RANK_OFFSET) % group_count();
            let row = &mut slots[group * rank_count..][..=rank];
            let (slot, holders) = row.split_last_mut().expect("a row holds the slot of the rank");
            *slot = narrow(assignment.place(group, holders, starts[group][rank]));
        }
    }
    slots
}

/// ⌈c · (slots + 1) · weight / total weight⌉: the bound of the paper, for weighted bins.
pub(super) fn load_bound(
    weight: NonZeroU64,
    total_weight: u128,
    rank_count: usize,
    load_factor_percent: u32,
) -> u64 {
    let slot_count = u128::from(narrow(group_count() * rank_count));
    let share = u128::from(load_factor_percent) * (slot_count + 1) * u128::from(weight.get());
    u64::try_from(share.div_ceil(100 * total_weight)).expect("a share is within the slots times the factor")
}

struct Assignment<'a> {
    members: &'a [Member],
    domains: &'a Domains,
    points: &'a Points,
    distances: Option<&'a Distances<'a>>,
    hosts: Hosts,
    /// Whom the other holders of the group are to be near.
    first_holder: Option<usize>,
    spread: Spread<'a>,
    loads: Loads<'a>,
    open: OpenMembers,
    /// The last walk that came by a member.
    seen: Vec<u32>,
    walk_count: u32,
}

impl Assignment<'_> {
    fn begin_rank(&mut self, rank: usize) {
        self.loads.begin_rank(rank);
        let loads = &self.loads;
        self.open =
            OpenMembers::of(self.domains, (0..self.members.len()).filter(|member| !loads.full(*member)));
    }

    /// The next holder of a group that has these.
    fn place(&mut self, group: usize, holders: &[u32], start: u32) -> usize {
        self.spread.clear();
        for &holder in holders {
            self.spread.take(index(holder));
        }
        self.first_holder = holders.first().map(|holder| index(*holder));
        let found = self.walk(start);
        let member = self.on_its_host(group, found);
        if self.loads.add(member) == Filled::JustNow {
            self.open.close(self.domains, member);
        }
        member
    }

    /// The candidate of the greatest merit among those that a walk around the ring comes by.
    fn walk(&mut self, start: u32) -> usize {
        let open_count = self.spread.open_candidate_count(&self.open, |member| !self.loads.full(member));
        let forced = open_count == 0;
        let fresh_count = self.spread.fresh_operator_count(&self.open, open_count);
        let mut choices = match (forced, fresh_count) {
            (true, _) => FORCED_CHOICES_MAX.min(self.spread.candidate_count()),
            (false, 0) => OPEN_CHOICES_MAX.min(open_count),
            (false, _) => OPEN_CHOICES_MAX.min(fresh_count),
        };
        let merit_max = self.spread.uses_min(&self.open, fresh_count).map(|uses| Merit::Open(uses, 0));
        self.walk_count += 1;
        let mut best: Option<(Merit, usize)> = None;
        for member in self.points.walk_from(self.points.first_from(start)) {
            let passed = self.seen[member] == self.walk_count || !self.spread.is_candidate(member);
            if passed || (self.loads.full(member) && !forced) {
                continue;
            }
            if fresh_count > 0 && !self.spread.is_fresh_operator(member) {
                continue;
            }
            self.seen[member] = self.walk_count;
            let merit = self.merit(member);
            if Some(merit) == merit_max {
                return member;
            }
            if best.is_none_or(|(best_merit, _)| merit < best_merit) {
                best = Some((merit, member));
            }
            choices -= 1;
            if choices == 0 {
                break;
            }
        }
        best.map(|(_, member)| member).expect("ranks are no more than members, and each member has a point")
    }

    /// The member that has the group on the host that a walk has come to: another rank's walk that comes to this host, as the
    /// topology has changed, finds the same one, so that nothing moves.
    fn on_its_host(&self, group: usize, found: usize) -> usize {
        if self.loads.full(found) {
            return found;
        }
        let operator = self.domains.operator_of(found);
        let may = |member: usize| {
            let like_it = self.domains.operator_of(member) == operator;
            like_it && self.spread.is_candidate(member) && !self.loads.full(member)
        };
        self.hosts.choose(self.members, self.domains.host_of(found), group, may).unwrap_or(found)
    }

    /// 0 where distances make no difference.
    fn distance_ms(&self, member: usize) -> u32 {
        let site_of = |member| self.domains.site_of(member);
        match (self.distances, self.first_holder) {
            (Some(distances), Some(first)) => distances.between(site_of(first), site_of(member)),
            _ => 0,
        }
    }

    fn merit(&self, member: usize) -> Merit {
        if self.loads.full(member) {
            return Merit::Full(self.loads.relative(member));
        }
        Merit::Open(self.spread.uses(member), self.distance_ms(member))
    }
}

/// How well a candidate suits a slot; the lesser, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Merit {
    /// It may take more, of a site, a region and an operator used this often, so many milliseconds from the first holder.
    Open(Uses, u32),
    /// It is at its bound, and is taken only where every candidate is; the less loaded for its weight, the better.
    Full(RelativeLoad),
}

/// A load in relation to its member's weight.
#[derive(Debug, Clone, Copy)]
struct RelativeLoad {
    load: u64,
    weight: u64,
}

impl Ord for RelativeLoad {
    fn cmp(&self, other: &Self) -> Ordering {
        let cross = |load: u64, weight: u64| u128::from(load) * u128::from(weight);
        cross(self.load, other.weight).cmp(&cross(other.load, self.weight))
    }
}

impl PartialOrd for RelativeLoad {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for RelativeLoad {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for RelativeLoad {}

/// Whether a slot was the last that its holder may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    JustNow,
    NotNow,
}

/// The slots that each member has, over all ranks so far, and how many it may have.
struct Loads<'a> {
    members: &'a [Member],
    total_weight: u128,
    load_factor_percent: u32,
    loads: Vec<u64>,
    bounds: Vec<u64>,
}

impl<'a> Loads<'a> {
    fn none(members: &'a [Member], load_factor_percent: u32) -> Self {
        let total_weight = members.iter().map(|member| u128::from(member.weight.get())).sum();
        let (loads, bounds) = (vec![0; members.len()], vec![0; members.len()]);
        Self { members, total_weight, load_factor_percent, loads, bounds }
    }

    fn begin_rank(&mut self, rank: usize) {
        for (bound, member) in self.bounds.iter_mut().zip(self.members) {
            *bound = load_bound(member.weight, self.total_weight, rank + 1, self.load_factor_percent);
        }
    }

    fn full(&self, member: usize) -> bool {
        self.loads[member] >= self.bounds[member]
    }

    fn add(&mut self, member: usize) -> Filled {
        self.loads[member] += 1;
        if self.loads[member] == self.bounds[member] { Filled::JustNow } else { Filled::NotNow }
    }

    fn relative(&self, member: usize) -> RelativeLoad {
        RelativeLoad { load: self.loads[member], weight: self.members[member].weight.get() }
    }
}
