//! What an agreed latency map may change of placement, and what it may not.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;

use datamesh_core::encode::{DecodeError, encode};
use datamesh_core::id::{NodeId, PlacementGroup};
use datamesh_core::limits::{LATENCY_MS_MAX, LATENCY_PAIRS_MAX};
use datamesh_core::topology::FailureDomain;
use datamesh_engine::ring::latency::{LatencyMap, LatencyMapError, Place};
use datamesh_engine::ring::{Member, Ring, RingSettings};
use proptest::prelude::{ProptestConfig, Strategy, prop, prop_assert, prop_assert_eq, proptest};

fn place(text: &str) -> Place {
    text.parse().expect("a place")
}

fn domain(text: &str) -> FailureDomain {
    text.parse().expect("a domain")
}

fn map(pairs: &[(&str, &str, u32)]) -> LatencyMap {
    LatencyMap::new(pairs.iter().map(|(one, other, ms)| (place(one), place(other), *ms))).expect("a map")
}

/// Nodes of equal weight, each on a host of its own, in these sites in turn.
fn members(count: u32, sites: &[&str]) -> Vec<Member> {
    let members = (0..count).zip(sites.iter().cycle()).map(|(number, site)| Member {
        node: NodeId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes()),
        weight: NonZeroU64::MIN,
        domain: domain(&format!("{site}/h{number}")),
    });
    members.collect()
}

/// Any map of three regions with three sites each, and of some that no mesh has.
fn any_map() -> impl Strategy<Value = LatencyMap> {
    let regions = prop::collection::btree_map((0..4_u8, 0..4_u8), 0..300_u32, 0..10);
    let site = || (0..4_u8, 0..4_u8);
    let sites = prop::collection::btree_map((site(), site()), 0..300_u32, 0..30);
    (regions, sites).prop_map(|(regions, sites)| {
        let mut pairs = BTreeMap::new();
        for ((one, other), ms) in regions {
            pairs.insert((format!("r{}", one.min(other)), format!("r{}", one.max(other))), ms);
        }
        for ((one, other), ms) in sites {
            let name = |(region, site): (u8, u8)| format!("r{region}/s{site}");
            pairs.insert((name(one.min(other)), name(one.max(other))), ms);
        }
        LatencyMap::new(pairs.into_iter().map(|((one, other), ms)| (place(&one), place(&other), ms)))
            .expect("a map")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_map_says_the_bound_and_distinct_hosts_and_even_sites_hold(
        latency in any_map(),
        node_count in 40..80_u32,
    ) {
        let sites = ["r0/s0", "r0/s1", "r1/s0", "r1/s1", "r2/s0", "r2/s2"];
        let near = Ring::build_near(members(node_count, &sites), RingSettings::default(), Arc::new(latency));
        for ranks in [1, 2, 6] {
            let loads = near.loads(ranks);
            let over = near.members().iter().find(|member| loads[&member.node] > near.load_bound(member, ranks));
            prop_assert_eq!(over, None);
        }
        let by_node: BTreeMap<NodeId, &Member> = near.members().iter().map(|member| (member.node, member)).collect();
        let mut uneven_count = 0;
        for group in PlacementGroup::all().step_by(SAMPLED) {
            let holders: Vec<&Member> = near.order(group).take(6).map(|node| by_node[&node]).collect();
            let hosts: BTreeSet<&str> = holders.iter().map(|holder| holder.domain.host.as_str()).collect();
            prop_assert_eq!(hosts.len(), 6);
            let sites: BTreeSet<_> = holders.iter().map(|holder| (&holder.domain.region, &holder.domain.site)).collect();
            uneven_count += u32::from(sites.len() < 6);
        }
        let plain = Ring::build(near.members().iter().cloned(), RingSettings::default());
        prop_assert!(uneven_count <= uneven(&plain) + 50, "{} groups", uneven_count);
    }

    #[test]
    fn a_map_is_read_back_as_it_was_written(latency in any_map()) {
        let bytes = latency.to_bytes();
        let read = LatencyMap::from_bytes(&bytes).expect("what was written");
        prop_assert_eq!(read.digest(), latency.digest());
        prop_assert_eq!(read, latency);
    }

    #[test]
    fn a_map_of_another_world_changes_nothing(latency in any_map()) {
        let nodes = members(30, &["x/s0", "y/s1", "z/s2"]);
        let plain = Ring::build(nodes.clone(), RingSettings::default());
        let near = Ring::build_near(nodes, RingSettings::default(), Arc::new(latency));
        // All are equally far where nothing is known, but for those of one site, which are no choice while sites last.
        for group in PlacementGroup::all().step_by(61) {
            prop_assert!(plain.order(group).take(3).eq(near.order(group).take(3)));
        }
    }
}

/// One group of so many is looked at, about a thousand in all.
const SAMPLED: usize = 16;

/// Sampled groups whose six holders do not stand in six sites.
fn uneven(ring: &Ring) -> u32 {
    let by_node: BTreeMap<NodeId, &Member> =
        ring.members().iter().map(|member| (member.node, member)).collect();
    let sites = |group| -> BTreeSet<(String, String)> {
        let domains = ring.order(group).take(6).map(|node| by_node[&node].domain.clone());
        domains.map(|domain| (domain.region, domain.site)).collect()
    };
    PlacementGroup::all().step_by(SAMPLED).map(|group| u32::from(sites(group).len() < 6)).sum()
}

/// Milliseconds from the first holder to the others of four, in the mean of all groups.
fn mean_ms(ring: &Ring, latency: &LatencyMap) -> u64 {
    let by_node: BTreeMap<NodeId, &Member> =
        ring.members().iter().map(|member| (member.node, member)).collect();
    let mut total = 0;
    for group in PlacementGroup::all() {
        let holders: Vec<&Member> = ring.order(group).take(4).map(|node| by_node[&node]).collect();
        let ms = |holder: &&Member| latency.between(&holders[0].domain, &holder.domain);
        total += holders[1..].iter().filter_map(ms).map(u64::from).sum::<u64>();
    }
    total / (3 * 16_384)
}

#[test]
fn holders_are_nearer_to_the_first_one_with_a_map() {
    // Twelve sites of one region, on a line.
    let sites: Vec<String> = (0..12).map(|site| format!("r/s{site}")).collect();
    let names: Vec<&str> = sites.iter().map(String::as_str).collect();
    let line = (0..12_u32).flat_map(|one| (one + 1..12).map(move |other| (one, other, 10 * (other - one))));
    let pairs: Vec<_> = line
        .map(|(one, other, ms)| (place(&format!("r/s{one}")), place(&format!("r/s{other}")), ms))
        .collect();
    let latency = Arc::new(LatencyMap::new(pairs).expect("a map"));
    let nodes = members(96, &names);
    let plain = Ring::build(nodes.clone(), RingSettings::default());
    let near = Ring::build_near(nodes, RingSettings::default(), Arc::clone(&latency));
    let (without, with) = (mean_ms(&plain, &latency), mean_ms(&near, &latency));
    println!(
        "96 nodes at 12 sites on a line, from the first holder to the next three: {without} ms, with a map {with} ms"
    );
    assert!(3 * with < 2 * without, "{with} ms instead of {without}");
    assert_eq!(near.latency().map(LatencyMap::digest), Some(latency.digest()));
    assert_eq!(plain.latency(), None);
    let (joined, left) = (near.with(members(97, &names)[96].clone()), near.without(&near.members()[0].node));
    assert!([joined, left].iter().all(|ring| ring.latency() == Some(&*latency)), "a change keeps the map");
}

#[test]
fn sites_count_before_regions_and_what_is_unknown_is_far() {
    let map = map(&[("eu", "us", 90), ("eu", "eu", 20), ("eu/a", "eu/b", 5), ("us/a", "us/a", 1)]);
    let ms = |one: &str, other: &str| map.between(&domain(one), &domain(other));
    assert_eq!(ms("eu/a/1", "eu/b/2"), Some(5));
    assert_eq!(ms("eu/b/1", "eu/a/2"), Some(5), "in either direction");
    assert_eq!(ms("eu/a/1", "eu/c/2"), Some(20));
    assert_eq!(ms("us/x/1", "eu/a/2"), Some(90));
    assert_eq!(ms("eu/c/1", "eu/c/2"), Some(0));
    assert_eq!(ms("us/a/1", "us/a/2"), Some(1));
    assert_eq!(ms("us/a/1", "us/b/2"), None);
    assert_eq!(ms("af/a/1", "eu/a/2"), None);
}

#[test]
fn what_is_no_map_is_refused() {
    let new = |pairs: &[(&str, &str, u32)]| {
        LatencyMap::new(pairs.iter().map(|(one, other, ms)| (place(one), place(other), *ms)))
    };
    assert!(matches!(new(&[("eu", "us", LATENCY_MS_MAX + 1)]), Err(LatencyMapError::TooFar { .. })));
    assert!(matches!(new(&[("eu", "us/a", 1)]), Err(LatencyMapError::Mixed { .. })));
    assert!(matches!(new(&[("eu", "us", 1), ("us", "eu", 2)]), Err(LatencyMapError::Twice { .. })));
    let many = (0..=LATENCY_PAIRS_MAX).map(|number| (place("eu"), place(&number.to_string()), 1));
    assert_eq!(LatencyMap::new(many), Err(LatencyMapError::TooManyPairs(LATENCY_PAIRS_MAX + 1)));
    assert!("eu/a/host".parse::<Place>().is_err() && "".parse::<Place>().is_err());
    let read = |version: u8, pairs: &[(&str, &str, u32)]| LatencyMap::from_bytes(&encode(&(version, pairs)));
    assert!(read(1, &[("eu", "us", 9)]).is_ok());
    assert_eq!(read(2, &[]), Err(LatencyMapError::Version(2)));
    let not_canonical = Err(LatencyMapError::Encoding(DecodeError::NotCanonical));
    assert_eq!(read(1, &[("us", "eu", 9)]), not_canonical, "the lesser place comes first");
    assert_eq!(read(1, &[("us", "us", 9), ("eu", "us", 9)]), not_canonical, "pairs have an order");
    assert!(matches!(LatencyMap::from_bytes(&[0; 5_000_000]), Err(LatencyMapError::TooLarge(5_000_000))));
}

#[test]
fn the_bytes_and_the_digest_of_a_known_map_never_change() {
    let map = map(&[("us", "eu", 90), ("eu/a", "eu/b", 5)]);
    assert_eq!(map.to_bytes(), b"\x82\x01\x82\x83\x62eu\x62us\x18\x5a\x83\x64eu/a\x64eu/b\x05");
    let digest: String = map.digest().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "8345e3e350f1065f5f0e649701abdd0d38dc4cb9ff1ab1331e9698cd8a47b039");
}
