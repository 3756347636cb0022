//! What must hold of every ring, on random meshes: the bound, distinct hosts, each node once, one ring for all.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use datamesh_core::id::{NodeId, PlacementGroup};
use datamesh_core::limits::{PLACEMENT_GROUPS, RING_BALANCED_RANKS, RING_LOAD_FACTOR_PERCENT};
use datamesh_core::topology::{FailureDomain, NodeRecord, NodeState, Role, Topology};
use datamesh_engine::ring::{Member, Ring, RingSettings, RingSettingsError};
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

fn member(node: [u8; 32], weight: u64, domain: FailureDomain) -> Member {
    let weight = NonZeroU64::new(weight).expect("a weight");
    Member { node: NodeId::from_bytes(node), weight, domain }
}

/// Nodes of equal weight, each on a host of its own.
fn equal_members(most: usize) -> impl Strategy<Value = Vec<Member>> {
    prop::collection::btree_set(any::<[u8; 32]>(), 1..=most).prop_map(|nodes| {
        let hosts = (0..).map(|host: u32| FailureDomain::alone(&host.to_string()));
        nodes.into_iter().zip(hosts).map(|(node, host)| member(node, 1000, host)).collect()
    })
}

/// Nodes of any weight, anywhere.
fn any_members(most: usize) -> impl Strategy<Value = Vec<Member>> {
    let weight = (0_u32..40, 1_u64..100).prop_map(|(shift, weight)| weight << shift);
    let operator = prop_oneof![Just("-"), prop::sample::select(vec!["ann", "bob", "cyd"])];
    let domain = (0..3_u8, 0..4_u8, 0..12_u8, operator).prop_map(|(region, site, host, operator)| {
        format!("{region}/{site}/{host}/{operator}").parse::<FailureDomain>().expect("a domain")
    });
    prop::collection::btree_map(any::<[u8; 32]>(), (weight, domain), 1..=most).prop_map(|nodes| {
        nodes.into_iter().map(|(node, (weight, domain))| member(node, weight, domain)).collect()
    })
}

fn host_of(member: &Member) -> (String, String, String) {
    let FailureDomain { region, site, host, .. } = member.domain.clone();
    (region, site, host)
}

/// The first number of ranks for which some member has more slots than its bound.
fn first_rank_over_bound(ring: &Ring, rank_count: usize) -> Option<usize> {
    (1..=rank_count).find(|&ranks| {
        let loads = ring.loads(ranks);
        ring.members().iter().any(|member| loads[&member.node] > ring.load_bound(member, ranks))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    // At most 1 / c of the nodes are full at any time, so a group that has fewer holders than the other fifth has nodes
    // finds one that is not.
    #[test]
    fn equal_nodes_keep_the_bound_for_every_number_of_ranks(members in equal_members(200)) {
        let node_count = members.len();
        let ring = Ring::build(members, RingSettings::default());
        let rank_count = (node_count / 5).clamp(1, RING_BALANCED_RANKS);
        prop_assert_eq!(first_rank_over_bound(&ring, rank_count), None);
        let keys = u64::from(PLACEMENT_GROUPS);
        let nodes = u64::try_from(node_count).expect("fits");
        let bound = (u64::from(RING_LOAD_FACTOR_PERCENT) * (keys + 1)).div_ceil(100 * nodes);
        prop_assert!(ring.loads(1).values().all(|load| *load <= bound), "{} nodes", node_count);
    }

    #[test]
    fn primaries_keep_the_bound_whatever_the_weights_and_the_factor(
        members in any_members(48),
        load_factor_percent in 100_u32..200,
    ) {
        let settings = RingSettings::new(40, load_factor_percent).expect("in range");
        prop_assert_eq!(first_rank_over_bound(&Ring::build(members, settings), 1), None);
    }

    #[test]
    fn holders_stand_on_distinct_hosts_while_hosts_last_and_repeat_them_evenly(members in any_members(48)) {
        let ring = Ring::build(members.clone(), RingSettings::default());
        let by_node: BTreeMap<NodeId, &Member> = members.iter().map(|member| (member.node, member)).collect();
        for group in PlacementGroup::all().step_by(97) {
            let mut left: BTreeMap<_, usize> = BTreeMap::new();
            for member in &members {
                *left.entry(host_of(member)).or_default() += 1;
            }
            let mut uses: BTreeMap<_, usize> = left.keys().map(|host| (host.clone(), 0)).collect();
            for node in ring.order(group) {
                let host = host_of(by_node[&node]);
                let available = uses.iter().filter(|(host, _)| left[*host] > 0);
                let fewest = available.map(|(_, uses)| *uses).min();
                prop_assert_eq!(Some(uses[&host]), fewest);
                *uses.get_mut(&host).expect("a host") += 1;
                *left.get_mut(&host).expect("a host") -= 1;
            }
            prop_assert!(left.values().all(|left| *left == 0), "every node comes up, once");
        }
    }

    // With ten equal nodes at most and a factor of ten, nobody is ever full.
    #[test]
    fn holders_are_run_by_distinct_operators_while_operators_last(
        nodes in prop::collection::btree_map(any::<[u8; 32]>(), (0..3_u8, 0..4_u8, 0..5_u8), 1..=10),
    ) {
        let members: Vec<Member> = nodes
            .into_iter()
            .map(|(node, (site, host, operator))| {
                member(node, 1, format!("r/s{site}/h{host}/o{operator}").parse().expect("a domain"))
            })
            .collect();
        let ring = Ring::build(members.clone(), RingSettings::new(150, 1000).expect("in range"));
        let by_node: BTreeMap<NodeId, &Member> = members.iter().map(|member| (member.node, member)).collect();
        for group in PlacementGroup::all().step_by(53) {
            let mut left: Vec<&Member> = members.iter().collect();
            let mut host_uses: BTreeMap<_, usize> = BTreeMap::new();
            let mut operators = BTreeSet::new();
            for node in ring.order(group) {
                let uses = |member: &Member| host_uses.get(&host_of(member)).copied().unwrap_or(0);
                let fewest = left.iter().map(|member| uses(member)).min();
                let mut candidates = left.iter().filter(|member| Some(uses(member)) == fewest);
                let fresh = candidates.any(|member| !operators.contains(&member.domain.operator));
                let taken = by_node[&node];
                prop_assert!(!fresh || !operators.contains(&taken.domain.operator), "{} of {:?}", node, members);
                operators.insert(taken.domain.operator.clone());
                *host_uses.entry(host_of(taken)).or_default() += 1;
                left.retain(|member| member.node != node);
            }
        }
    }

    // Who gives each node of a mesh the same operator has said nothing.
    #[test]
    fn an_operator_that_all_nodes_share_changes_nothing(members in any_members(24)) {
        let run_by = |operator: &str| {
            let of_one = members.iter().cloned().map(|mut member| {
                operator.clone_into(&mut member.domain.operator);
                member
            });
            Ring::build(of_one, RingSettings::default())
        };
        let (unknown, known) = (run_by("-"), run_by("ann"));
        for group in PlacementGroup::all().step_by(61) {
            prop_assert!(unknown.order(group).eq(known.order(group)));
        }
    }

    #[test]
    fn all_participants_compute_the_same_ring(members in any_members(24)) {
        let forwards = Ring::build(members.clone(), RingSettings::default());
        let mut grown = Ring::build([], RingSettings::default());
        for member in members.iter().rev().take(3) {
            grown = grown.with(member.clone());
        }
        let few = Ring::build(members.iter().rev().take(3).cloned(), RingSettings::default());
        let backwards = Ring::build(members.into_iter().rev(), RingSettings::default());
        for group in PlacementGroup::all().step_by(61) {
            prop_assert!(forwards.order(group).eq(backwards.order(group)));
            prop_assert!(few.order(group).eq(grown.order(group)));
        }
    }
}

#[test]
fn without_the_bound_nodes_would_hold_more() {
    let members = (0..100_u8).map(|number| {
        let node = *blake3::hash(&[number]).as_bytes();
        member(node, 1, FailureDomain::alone(&number.to_string()))
    });
    let bounded = Ring::build(members.clone(), RingSettings::default());
    let unbounded = Ring::build(members, RingSettings::new(150, 1000).expect("in range"));
    let most = |ring: &Ring| ring.loads(1).into_values().max();
    let bound = bounded.load_bound(&bounded.members()[0], 1);
    assert_eq!(bound, 205);
    assert!(most(&bounded) <= Some(bound));
    assert!(most(&unbounded) > Some(bound), "this mesh needs the bound: {:?}", most(&unbounded));
}

#[test]
fn a_leave_moves_no_slot_that_the_bound_did_not_touch() {
    // With a factor so large that nobody is ever full, and one rank, only the slots of the node that left move.
    let settings = RingSettings::new(150, 1000).expect("in range");
    let members: Vec<Member> = (0..50_u8)
        .map(|number| {
            let node = *blake3::hash(&[number]).as_bytes();
            member(node, 1, FailureDomain::alone(&number.to_string()))
        })
        .collect();
    let before = Ring::build(members.clone(), settings);
    let gone = members[17].node;
    let after = before.without(&gone);
    for group in PlacementGroup::all() {
        let (old, new) = (before.order(group).next(), after.order(group).next());
        assert!(old == new || old == Some(gone));
    }
}

#[test]
fn every_order_is_whole_and_as_long_as_the_mesh() {
    for node_count in [0, 1, 2, 31, 32, 33, 100_u8] {
        let hosts = node_count.div_ceil(3).max(1);
        let members = (0..node_count).map(|number| {
            let node = *blake3::hash(&[number]).as_bytes();
            member(node, 1, FailureDomain::alone(&(number % hosts).to_string()))
        });
        let ring = Ring::build(members, RingSettings::default());
        let group = PlacementGroup::of_hash(&[200; 32]);
        let order: Vec<NodeId> = ring.order(group).collect();
        assert_eq!(ring.order(group).len(), usize::from(node_count));
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), usize::from(node_count));
        assert_eq!(ring.node_of_key(b"a key").is_some(), node_count > 0);
    }
}

#[test]
fn only_active_nodes_that_keep_shards_are_on_the_ring() {
    let record = |number: u8, role, state, capacity| NodeRecord {
        node: NodeId::from_bytes([number; 32]),
        sequence: 1,
        addresses: vec![],
        role,
        state,
        domain: FailureDomain::alone(&number.to_string()),
        capacity,
        grace_s: 14_400,
        software: "test".into(),
    };
    let topology = Topology::new([
        record(1, Role::Storage, NodeState::Active, 10),
        record(2, Role::Cache, NodeState::Active, 10),
        record(3, Role::Storage, NodeState::Draining, 10),
        record(4, Role::Archival, NodeState::Active, 10),
        record(5, Role::Storage, NodeState::Active, 0),
    ]);
    let nodes: Vec<NodeId> = Ring::of(&topology).members().iter().map(|member| member.node).collect();
    assert_eq!(nodes, [NodeId::from_bytes([1; 32]), NodeId::from_bytes([4; 32])]);
}

#[test]
fn settings_out_of_range_are_refused() {
    assert_eq!(RingSettings::new(0, 125), Err(RingSettingsError::Points(0)));
    assert_eq!(RingSettings::new(1001, 125), Err(RingSettingsError::Points(1001)));
    assert_eq!(RingSettings::new(150, 99), Err(RingSettingsError::LoadFactor(99)));
    assert_eq!(RingSettings::new(150, 125), Ok(RingSettings::default()));
}

/// A mesh of 40 nodes, of the operators that it is given in turn.
fn known_mesh(operators: &[&str]) -> Vec<Member> {
    let known = (0..40_u8).zip(operators.iter().cycle()).map(|(number, operator)| {
        let node = *blake3::hash(&[number]).as_bytes();
        let domain = format!("r{}/s{}/h{}/{operator}", number % 2, number % 5, number % 20);
        member(node, 100 + u64::from(number), domain.parse().expect("a domain"))
    });
    known.collect()
}

fn order_digest(ring: &Ring) -> String {
    let mut hasher = blake3::Hasher::new();
    for group in PlacementGroup::all() {
        for node in ring.order(group) {
            hasher.update(node.as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

// What all participants compute alike is a format: another digest means that every mesh would move its shards.

#[test]
fn the_order_of_a_known_mesh_never_changes() {
    let ring = Ring::build(known_mesh(&["-"]), RingSettings::default());
    assert_eq!(order_digest(&ring), "49990af88581f9f411b164ff04ccd28db33f0ee1b834621fc1de63557ea7f2e0");
}

#[test]
fn the_order_of_a_known_mesh_of_several_operators_never_changes() {
    let ring = Ring::build(known_mesh(&["ann", "bob", "-", "ann", "cyd"]), RingSettings::default());
    assert_eq!(order_digest(&ring), "e4dd51a24b63bc38217298c3e33fe37d8c247778d77b0f4b029fcb57b6be2749");
}
