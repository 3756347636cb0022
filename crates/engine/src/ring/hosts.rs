//! Which of the members on one host holds a group, whichever of the group's ranks falls to the host.
//!
//! By highest random weight (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998), weighted as by Schindelhauer
//! and Schomaker, "Weighted Distributed Hash Tables" (2005): a member that comes or goes changes only the groups that it takes or had.

use std::collections::BTreeMap;

use crate::ring::domains::Domains;
use crate::ring::{Member, index, narrow};

const CONTEXT: &str = "datamesh 2026 ring host v1";
/// Members of a host among which is chosen. On a larger host, each rank of a group walks for itself.
const HOST_MEMBERS_MAX: usize = 16;
/// Binary digits of a logarithm behind its point.
const FRACTION_BITS: u32 = 24;
/// The increment of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hosts of several members, and what each of these draws from.
pub(super) struct Hosts {
    /// By host; none where there is nothing to choose.
    members_by_host: Vec<Vec<u32>>,
    /// By member.
    seeds: Vec<u64>,
}

impl Hosts {
    pub(super) fn of(members: &[Member], domains: &Domains) -> Self {
        let mut on_hosts: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for member in 0..members.len() {
            on_hosts.entry(domains.host_of(member)).or_default().push(narrow(member));
        }
        let mut members_by_host = vec![vec![]; domains.host_count()];
        for (host, members) in on_hosts {
            if (2..=HOST_MEMBERS_MAX).contains(&members.len()) {
                members_by_host[host] = members;
            }
        }
        let seeds = members.iter().map(|member| {
            let hash = blake3::Hasher::new_derive_key(CONTEXT).update(member.node.as_bytes()).finalize();
            u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight of 32 bytes"))
        });
        Self { members_by_host, seeds: seeds.collect() }
    }

    /// The member of a host, of those that may, that has a group; `None` where there is nothing to choose.
    pub(super) fn choose(
        &self,
        members: &[Member],
        host: usize,
        group: usize,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let on_host = self.members_by_host[host].iter().map(|member| index(*member));
        let lots = on_host.filter(|member| may(*member)).map(|member| {
            let draw = mixed(self.seeds[member].wrapping_add(u64::from(narrow(group)).wrapping_mul(GOLDEN)));
            (Lot { rarity: rarity(draw), weight: members[member].weight.get() }, member)
        });
        lots.reduce(|best, next| if next.0.beats(&best.0) { next } else { best }).map(|(_, member)| member)
    }
}

/// A draw of a member of a weight: that with the least rarity for its weight wins, as often as its weight is of all weights.
#[derive(Debug, Clone, Copy)]
struct Lot {
    rarity: u64,
    weight: u64,
}

impl Lot {
    fn beats(&self, other: &Self) -> bool {
        let cross = |rarity: u64, weight: u64| u128::from(rarity) * u128::from(weight);
        cross(self.rarity, other.weight) < cross(other.rarity, self.weight)
    }
}

/// The logarithm to the base 2 of 2^64 over a number, in 2^24ths, digit by digit: the same on every machine.
fn rarity(number: u64) -> u64 {
    let number = number | 1;
    let zeros = number.leading_zeros();
    // From 1 up, below 2: 63 digits behind the point.
    let mut scaled = number << zeros;
    let mut fraction = 0;
    for _ in 0..FRACTION_BITS {
        let square = u128::from(scaled) * u128::from(scaled);
        let doubled = square >> 127;
        fraction = fraction << 1 | u64::try_from(doubled).expect("one digit");
        scaled = u64::try_from(square >> (63 + doubled)).expect("below 2 again");
    }
    ((u64::from(zeros) + 1) << FRACTION_BITS) - fraction
}

/// The output function of SplitMix64.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::{FRACTION_BITS, Lot, mixed, rarity};

    #[test]
    fn a_logarithm_is_one_to_its_last_digit() {
        for number in [1, 2, 3, 1 << 32, 0x1234_5678_9abc_def0, u64::MAX / 3, u64::MAX] {
            let wide = |number: u64| {
                let [high, low] =
                    [number >> 32, number & 0xffff_ffff].map(|half| u32::try_from(half).expect("half"));
                f64::from(high) * 4_294_967_296.0 + f64::from(low)
            };
            let expected = (64.0 - wide(number | 1).log2()) * f64::from(1_u32 << FRACTION_BITS);
            assert!((wide(rarity(number)) - expected).abs() < 2.0, "{number:x}");
        }
    }

    #[test]
    fn a_member_wins_as_often_as_its_weight_says() {
        for weights in [[1, 1], [1, 3], [10, 90]] {
            let wins = (0..20_000_u64)
                .filter(|draw| {
                    let lot = |place: usize| {
                        let seed = u64::try_from(place).expect("small") << 40;
                        Lot { rarity: rarity(mixed(seed + draw * 7_919 + 1)), weight: weights[place] }
                    };
                    lot(0).beats(&lot(1))
                })
                .count();
            let expected = 20_000 * weights[0] / (weights[0] + weights[1]);
            assert!(u64::try_from(wins).expect("few").abs_diff(expected) < 400, "{weights:?}: {wins}");
        }
    }
}
