//! Nodes keep what they hold whole by themselves: no client, no key.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datamesh_codec::keys::Identity;
use datamesh_core::id::{ItemId, NodeId};
use datamesh_core::lease::{Lease, LeaseTag};
use datamesh_core::sign::Signed;
use datamesh_core::summary::Part;
use datamesh_core::time::Epoch;
use datamesh_core::topology::{NodeState, Topology};
use datamesh_engine::keep::{KeepSettings, Keeper, Round};
use datamesh_engine::progress::Unobserved;
use datamesh_engine::release::release;
use datamesh_engine::ring::Ring;
use datamesh_engine::transfer::TransferSettings;
use datamesh_engine::world::Items;
use datamesh_sim::fault::Fault;
use datamesh_sim::network::{CallCount, CallKind, Link};
use datamesh_sim::world::SimWorld;
use futures::future::{join, join_all};

use crate::common::{Mesh, noise};

const SETTLE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_secs(5);
/// Longer than the grace of a node.
const LONG: Duration = Duration::from_secs(5 * 60 * 60);
const ROUNDS_MAX: usize = 40;

/// A mesh whose nodes keep it whole.
struct Kept {
    mesh: Mesh,
    keepers: BTreeMap<NodeId, Keeper>,
    /// Who hears whom, while the mesh is cut into sides.
    sides: Vec<Vec<NodeId>>,
}

impl Kept {
    fn new(sim: SimWorld, node_count: u64) -> Self {
        let mut kept = Self { mesh: Mesh::new(sim, node_count), keepers: BTreeMap::new(), sides: Vec::new() };
        kept.mesh.nodes.clone().into_iter().for_each(|node| kept.start(node));
        kept
    }

    fn start(&mut self, node: NodeId) {
        let transfer = TransferSettings { own: Some(node), ..TransferSettings::default() };
        let settings = KeepSettings { transfer, settle: SETTLE };
        let items: Arc<dyn Items> = self.mesh.items[&node].clone();
        let keeper = Keeper::new(self.mesh.sim.world_of(node), node, items, settings, Arc::new(Unobserved));
        self.keepers.insert(node, keeper);
    }

    fn add_node(&mut self, number: u64) -> NodeId {
        self.mesh.add_node(number);
        let node = *self.mesh.nodes.last().expect("one was added");
        self.start(node);
        node
    }

    /// It never comes back.
    fn kill(&mut self, node: NodeId) {
        self.mesh.sim.network().set_faults(&node, vec![Fault::Down]);
        self.keepers.remove(&node);
    }

    /// Lets time pass in which all that live are heard, by all or on their own side.
    async fn wait(&self, time: Duration) {
        self.mesh.sim.clock().sleep(time).await;
        if self.sides.is_empty() {
            let all: Vec<NodeId> = self.keepers.keys().copied().collect();
            self.mesh.sim.network().change_topology(|topology| self.hear(&all, topology));
        }
        for side in &self.sides {
            let mut view = (*self.mesh.sim.network().topology()).clone();
            self.hear(side, &mut view);
            let view = Arc::new(view);
            side.iter().for_each(|of| self.mesh.sim.network().set_view(*of, Arc::clone(&view)));
        }
    }

    /// The records of these nodes are as of now, and those of others as old as they are.
    fn hear(&self, nodes: &[NodeId], topology: &mut Topology) {
        let now = self.mesh.sim.clock().now();
        let records: Vec<_> = topology.records().cloned().collect();
        for mut record in records.into_iter().filter(|record| nodes.contains(&record.node)) {
            record.sequence = now.as_ms();
            topology.learn(record);
        }
        topology.judge(None, now);
    }

    /// Nobody of one side reaches anybody of the other. At first each counts all as there.
    fn cut(&mut self, sides: [Vec<NodeId>; 2]) {
        let network = self.mesh.sim.network();
        for (one, other) in pairs(&sides) {
            network.cut(one, other);
        }
        self.sides = sides.to_vec();
    }

    /// All reach each other again, and know it.
    async fn join(&mut self) {
        let network = self.mesh.sim.network().clone();
        let [left, right] = [&self.sides[0], &self.sides[1]].map(Clone::clone);
        for (one, other) in pairs(&[left, right]) {
            network.mend(one, other);
        }
        network.clear_views();
        self.sides.clear();
        self.wait(PAUSE).await;
    }

    /// One round of every node, one after the other, or all at the same time.
    async fn round(&mut self) -> Vec<Round> {
        self.wait(PAUSE).await;
        let rounds = join_all(self.keepers.values_mut().map(Keeper::round)).await;
        rounds.into_iter().map(|round| round.expect("its own items can be read")).collect()
    }

    /// Rounds until nothing is short or misplaced any more. Says how many parts were made again and handed over.
    async fn settle(&mut self) -> (u64, u64) {
        let (mut repaired, mut handed_over) = (0, 0);
        for _ in 0..ROUNDS_MAX {
            let rounds = self.round().await;
            let sum = |of: fn(&Round) -> u64| rounds.iter().map(of).sum::<u64>();
            repaired += sum(|round| round.repaired);
            handed_over += sum(|round| round.handed_over);
            let to_do =
                sum(|round| round.short_count + round.misplaced + round.handed_over + round.discarded);
            if to_do == 0 {
                return (repaired, handed_over);
            }
        }
        panic!("not settled in {ROUNDS_MAX} rounds: {:?}", self.round().await);
    }

    fn parts(&self, node: &NodeId) -> Vec<Part> {
        self.mesh.items[node].all_parts()
    }

    /// Every part is with a holder of its own among those that the ring names, and nowhere else.
    fn assert_in_place(&self) {
        let ring = Ring::of(&self.mesh.sim.network().topology());
        let mut holders: BTreeMap<_, Vec<(NodeId, Part)>> = BTreeMap::new();
        for node in self.keepers.keys() {
            for part in self.parts(node) {
                holders.entry(part.subject).or_default().push((*node, part));
            }
        }
        assert!(!holders.is_empty());
        for (subject, parts) in holders {
            let redundancy = parts[0].1.redundancy;
            let mut intended: Vec<NodeId> =
                ring.order(subject.group()).take(redundancy.shard_count()).collect();
            let mut actual: Vec<NodeId> = parts.iter().map(|(node, _)| *node).collect();
            intended.sort_unstable();
            actual.sort_unstable();
            assert_eq!(actual, intended, "{subject:?}");
            let mut indices: Vec<u8> = parts.iter().map(|(_, part)| part.index).collect();
            indices.sort_unstable();
            indices.dedup();
            let different = if redundancy.data_count() == 1 { 1 } else { redundancy.shard_count() };
            assert_eq!(indices.len(), different, "{subject:?}");
        }
    }

    /// Whether a part is held somewhere under the lease of the later put.
    async fn has_later_lease(&self, part: &Part) -> bool {
        for node in self.keepers.keys() {
            let known = self.mesh.items[node].describe(part.id()).await.expect("readable");
            if known.is_some_and(|known| known.leases.contains(&later_lease(&self.mesh.owner, part))) {
                return true;
            }
        }
        false
    }

    /// Stripes and blocks of which more parts are held than there are to be.
    fn doubled_count(&self) -> usize {
        let mut counts: BTreeMap<_, (usize, usize)> = BTreeMap::new();
        for part in self.keepers.keys().flat_map(|node| self.parts(node)) {
            counts.entry(part.subject).or_insert((0, part.redundancy.shard_count())).0 += 1;
        }
        counts.values().filter(|(held, wanted)| held > wanted).count()
    }

    fn counts(&self) -> [CallCount; 2] {
        [CallKind::Store, CallKind::Fetch].map(|kind| self.mesh.sim.network().counts(kind))
    }
}

/// The wish of a later put that a part be kept.
fn later_lease(owner: &Identity, part: &Part) -> Signed<Lease> {
    let tag = LeaseTag::from_bytes([77; 16]);
    let lease = Lease { owner: owner.owner(), tag, subject: part.subject, until: Epoch::NEVER };
    Signed::sign(lease, owner.signing_key())
}

fn pairs(sides: &[Vec<NodeId>; 2]) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
    sides[0].iter().flat_map(|one| sides[1].iter().map(|other| (*one, *other)))
}

#[test]
fn nodes_lost_for_good_are_made_up_for_by_the_others_at_the_least_cost() {
    SimWorld::run(1, Link::default(), async |sim| {
        let mut kept = Kept::new(sim, 10);
        let bytes = noise(1, 24 << 20);
        let done = kept.mesh.put(&bytes, "4+2").await.expect("acknowledged");
        kept.settle().await;
        let [stored_before, fetched_before] = kept.counts();
        let lost = [kept.mesh.nodes[2], kept.mesh.nodes[7]];
        let lost_parts: Vec<Part> = lost.iter().flat_map(|node| kept.parts(node)).collect();
        lost.into_iter().for_each(|node| kept.kill(node));

        kept.wait(Duration::from_secs(3600)).await;
        assert_eq!(kept.settle().await, (0, 0), "within the grace nothing moves");
        kept.wait(LONG).await;
        let (repaired, _) = kept.settle().await;
        let [stored, fetched] = kept.counts();
        kept.assert_in_place();
        assert!((kept.mesh.score(done.object).await - 1.0).abs() < f64::EPSILON);

        // Each stripe that lost j shards needs k shards read and j written, wherever that is done.
        let mut lost_of: BTreeMap<_, u64> = BTreeMap::new();
        let shards = lost_parts.iter().filter(|part| matches!(part.item, ItemId::Shard(_)));
        shards.for_each(|part| *lost_of.entry(part.subject).or_default() += 1);
        let shard_size = 262_208;
        let least: u64 = lost_of.values().map(|lost| (4 + lost) * shard_size).sum();
        let moved = stored.sent - stored_before.sent + fetched.received - fetched_before.received;
        println!("{repaired} parts made again, {moved} bytes moved of {least} at the least");
        assert_eq!(repaired, u64::try_from(lost_parts.len()).expect("few"));
        assert!(moved * 10 <= least * 11, "{moved} bytes moved of {least}");
        for node in [0, 4] {
            kept.mesh.inject(node, Fault::Down);
        }
        assert_eq!(kept.mesh.get(done.object).await.expect("any two more may be lost"), bytes);
    });
}

#[test]
fn a_node_that_is_back_in_time_costs_nothing_and_one_that_is_late_gets_back_what_is_its_own() {
    SimWorld::run(2, Link::default(), async |sim| {
        let mut kept = Kept::new(sim, 8);
        let bytes = noise(2, 12 << 20);
        let done = kept.mesh.put(&bytes, "4+2").await.expect("acknowledged");
        let away = kept.mesh.nodes[3];
        kept.kill(away);
        for _ in 0..3 {
            kept.wait(Duration::from_secs(3600)).await;
            assert_eq!(kept.settle().await, (0, 0));
        }
        kept.mesh.mend_all();
        kept.start(away);
        let [stored, _] = kept.counts();
        assert_eq!(kept.settle().await, (0, 0));
        assert_eq!(kept.counts()[0].made, stored.made, "nothing was stored anywhere");

        kept.kill(away);
        kept.wait(LONG).await;
        assert!(kept.settle().await.0 > 0);
        kept.assert_in_place();
        kept.mesh.mend_all();
        kept.start(away);
        kept.settle().await;
        kept.assert_in_place();
        assert_eq!(kept.mesh.get(done.object).await.expect("whole"), bytes);
    });
}

#[test]
fn what_holders_have_said_before_they_do_not_say_again() {
    SimWorld::run(8, Link::default(), async |sim| {
        let mut kept = Kept::new(sim.clone(), 8);
        for number in 0..20 {
            kept.mesh.put(&noise(number, 3_000_000), "4+2").await.expect("all nodes are there");
        }
        let mut told = Vec::new();
        for _ in 0..3 {
            let before = sim.network().counts(CallKind::Summarise);
            assert_eq!(kept.round().await.iter().map(|round| round.short_count).sum::<u64>(), 0);
            let after = sim.network().counts(CallKind::Summarise);
            told.push((after.told - before.told, after.answered - before.answered));
        }
        assert!(told[0].0 > 20_000, "what is held is told once: {told:?}");
        assert_eq!(told[1], told[2]);
        let (size, answers) = told[1];
        assert!(size < 64 * answers, "{size} bytes in {answers} answers that nothing has changed");
    });
}

#[test]
fn what_joins_is_given_its_share_and_no_more() {
    SimWorld::run(3, Link::default(), async |sim| {
        let mut kept = Kept::new(sim, 12);
        let bytes = noise(3, 40 << 20);
        let done = kept.mesh.put(&bytes, "4+2").await.expect("acknowledged");
        kept.settle().await;
        let before: BTreeMap<NodeId, Vec<Part>> =
            kept.keepers.keys().map(|node| (*node, kept.parts(node))).collect();
        let [stored_before, fetched_before] = kept.counts();
        for number in 12..18 {
            kept.add_node(number);
        }
        let (repaired, handed_over) = kept.settle().await;
        kept.assert_in_place();
        let [stored, fetched] = kept.counts();
        assert_eq!(repaired, 0, "what is held somewhere is moved, not made again");
        assert_eq!(fetched.received, fetched_before.received);
        // The least that could be moved: what each node has beyond what it had.
        let gained: usize = kept
            .keepers
            .keys()
            .map(|node| {
                let had = before.get(node);
                let parts = kept.parts(node);
                parts.iter().filter(|part| !had.is_some_and(|had| had.contains(part))).count()
            })
            .sum();
        println!(
            "{handed_over} parts handed over, {gained} gained, {} bytes",
            stored.sent - stored_before.sent
        );
        let gained = u64::try_from(gained).expect("few");
        assert!(handed_over * 10 <= gained * 11, "{handed_over} handed over, {gained} gained");
        assert_eq!(kept.mesh.get(done.object).await.expect("whole"), bytes);
    });
}

#[test]
fn a_lease_that_comes_while_a_part_is_handed_over_goes_with_it() {
    SimWorld::run(11, Link::default(), async |sim| {
        let mut kept = Kept::new(sim, 8);
        kept.mesh.put(&noise(11, 40 << 20), "4+2").await.expect("acknowledged");
        kept.settle().await;
        let mut parts: Vec<(NodeId, Part)> = Vec::new();
        for node in kept.keepers.keys() {
            parts.extend(kept.parts(node).into_iter().map(|part| (*node, part)));
        }
        for number in 8..14 {
            kept.add_node(number);
        }
        // Another put, which knows of none of the new nodes yet, has the old holders keep what they hold.
        let (items, owner, clock) = (kept.mesh.items.clone(), kept.mesh.owner.clone(), kept.mesh.sim.clock());
        let putting = async {
            clock.sleep(PAUSE).await;
            let mut leased = Vec::new();
            for (node, part) in &parts {
                clock.sleep(Duration::from_millis(1)).await;
                if items[node].lease(part.item, later_lease(&owner, part)).await == Ok(true) {
                    leased.push(*part);
                }
            }
            leased
        };
        let (leased, _) = join(putting, kept.round()).await;
        let (_, handed_over) = kept.settle().await;
        println!("{} of {} parts leased, {handed_over} handed over after that", leased.len(), parts.len());
        assert!(leased.len() > 10 && leased.len() < parts.len(), "both before and after: {}", leased.len());
        kept.assert_in_place();
        for part in leased {
            assert!(kept.has_later_lease(&part).await, "{part:?}");
        }
    });
}

#[test]
fn a_part_that_two_have_is_dropped_by_one_when_the_other_knows_all_its_leases() {
    SimWorld::run(12, Link::default(), async |sim| {
        let mut kept = Kept::new(sim, 12);
        kept.mesh.put(&noise(12, 4 << 20), "4+2").await.expect("acknowledged");
        kept.settle().await;
        let mut doubled = Vec::new();
        for node in kept.keepers.keys() {
            let is_new = |part: &Part| doubled.iter().all(|other: &Part| other.subject != part.subject);
            let Some(part) = kept.parts(node).into_iter().find(is_new) else { continue };
            let known = kept.mesh.items[node].describe(part.id()).await.expect("readable").expect("held");
            let bytes =
                kept.mesh.items[node].fetch_checked(part.item).await.expect("readable").expect("held");
            let has = |other: &NodeId| kept.parts(other).iter().any(|held| held.subject == part.subject);
            let other = kept.keepers.keys().find(|other| !has(other)).expect("a node that is no holder");
            let stored =
                kept.mesh.items[other].store(known.item, later_lease(&kept.mesh.owner, &part), bytes);
            stored.await.expect("room");
            doubled.push(part);
        }
        assert!(doubled.len() >= 4, "{doubled:?}");
        kept.settle().await;
        kept.assert_in_place();
        for part in doubled {
            assert!(kept.has_later_lease(&part).await, "{part:?}");
        }
    });
}

#[test]
fn a_draining_node_gives_all_away() {
    SimWorld::run(4, Link::default(), async |sim| {
        let mut kept = Kept::new(sim, 8);
        let bytes = noise(4, 12 << 20);
        let done = kept.mesh.put(&bytes, "4+2").await.expect("acknowledged");
        let leaving = kept.mesh.nodes[5];
        kept.mesh.sim.network().change_topology(|topology| {
            let mut record = topology.record(&leaving).expect("known").clone();
            record.state = NodeState::Draining;
            record.sequence += 1;
            topology.learn(record);
        });
        let (repaired, handed_over) = kept.settle().await;
        assert!(repaired == 0 && handed_over > 0);
        assert_eq!(kept.parts(&leaving), []);
        kept.kill(leaving);
        kept.assert_in_place();
        assert_eq!(kept.mesh.get(done.object).await.expect("whole"), bytes);
    });
}

#[test]
fn what_is_lost_rotten_or_doubled_is_found_and_made_whole() {
    SimWorld::run(5, Link::default(), async |sim| {
        let mut kept = Kept::new(sim, 8);
        let bytes = noise(5, 12 << 20);
        let done = kept.mesh.put(&bytes, "4+2").await.expect("acknowledged");
        kept.settle().await;
        let (one, other) = (kept.mesh.nodes[0], kept.mesh.nodes[1]);
        let lost = kept.parts(&one);
        assert!(lost.iter().all(|part| kept.mesh.items[&one].lose(part.item)));
        // One shard lies where another of its stripe should.
        let doubled = kept.parts(&other).into_iter().find(|part| matches!(part.item, ItemId::Shard(_)));
        let doubled = doubled.expect("it holds shards");
        let holder = kept.mesh.nodes.iter().skip(2).find_map(|node| {
            let parts = kept.parts(node);
            let same = parts.into_iter().find(|part| part.subject == doubled.subject);
            same.map(|part| (*node, part))
        });
        let (holder, in_its_place) = holder.expect("others hold shards of the stripe");
        let items = &kept.mesh.items;
        let description = items[&other].describe(doubled.id()).await.expect("readable").expect("held");
        let copy = items[&other].fetch(doubled.item, 0, None).await.expect("readable").expect("held");
        assert!(items[&holder].lose(in_its_place.item));
        let lease = description.leases[0].clone();
        items[&holder].store(description.item, lease, copy).await.expect("stored");

        let (repaired, _) = kept.settle().await;
        assert!(repaired > u64::try_from(lost.len()).expect("few"), "{repaired}");
        kept.assert_in_place();
        assert_eq!(kept.mesh.get(done.object).await.expect("whole"), bytes);
    });
}

#[test]
fn what_was_released_while_a_node_was_away_is_not_made_again_but_ended_there_too() {
    SimWorld::run(6, Link::default(), async |sim| {
        let mut kept = Kept::new(sim, 8);
        let kept_bytes = noise(6, 4 << 20);
        let stays = kept.mesh.put(&kept_bytes, "4+2").await.expect("acknowledged");
        let goes = kept.mesh.put(&noise(7, 4 << 20), "4+2").await.expect("acknowledged");
        let away = kept.mesh.nodes[3];
        kept.mesh.inject(3, Fault::Down);
        let settings = TransferSettings::default();
        let owner = Arc::clone(&kept.mesh.owner);
        release(
            &kept.mesh.world,
            settings,
            Arc::new(datamesh_engine::progress::Unobserved),
            &owner,
            goes.tag,
        )
        .await;
        kept.mesh.mend_all();
        let held = kept.parts(&away).len();
        let (repaired, _) = kept.settle().await;
        assert_eq!(repaired, 0);
        assert!(kept.parts(&away).len() < held, "what was released is gone");
        kept.assert_in_place();
        assert_eq!(kept.mesh.get(stays.object).await.expect("whole"), kept_bytes);
    });
}

#[test]
fn what_is_just_being_put_is_left_alone() {
    SimWorld::run(7, Link::default(), async |sim| {
        let mut kept = Kept::new(sim, 8);
        let bytes = noise(8, 4 << 20);
        let done = kept.mesh.put(&bytes, "4+2").await.expect("acknowledged");
        kept.settle().await;
        // As it is before the last shard has arrived.
        let slow = kept.mesh.nodes[2];
        let items = Arc::clone(&kept.mesh.items[&slow]);
        let late = items.all_parts().remove(0);
        let description = items.describe(late.id()).await.expect("readable").expect("held");
        let payload = items.fetch(late.item, 0, None).await.expect("readable").expect("held");
        assert!(items.lose(late.item));
        let rounds = kept.round().await;
        assert_eq!(rounds.iter().map(|round| (round.short_count, round.repaired)).max(), Some((1, 0)));
        items.store(description.item, description.leases[0].clone(), payload).await.expect("stored");
        assert_eq!(kept.settle().await, (0, 0));
        assert_eq!(kept.mesh.get(done.object).await.expect("whole"), bytes);
    });
}

#[test]
fn where_the_first_holder_is_silent_the_second_leads() {
    SimWorld::run(8, Link::default(), async |sim| {
        let mut kept = Kept::new(sim, 8);
        let bytes = noise(9, 12 << 20);
        let done = kept.mesh.put(&bytes, "4+2").await.expect("acknowledged");
        kept.settle().await;
        let ring = Ring::of(&kept.mesh.sim.network().topology());
        let led_by = |part: &Part| ring.order(part.subject.group()).next().expect("a node");
        // All that another node holds of the groups that one node leads.
        let (away, robbed, lost) = kept
            .mesh
            .nodes
            .iter()
            .flat_map(|away| kept.mesh.nodes.iter().map(move |robbed| (*away, *robbed)))
            .filter(|(away, robbed)| away != robbed)
            .map(|(away, robbed)| {
                let parts = kept.mesh.items[&robbed].all_parts();
                (away, robbed, parts.into_iter().filter(|part| led_by(part) == away).collect::<Vec<Part>>())
            })
            .max_by_key(|(.., lost)| lost.len())
            .expect("there are nodes");
        assert!(!lost.is_empty());
        kept.kill(away);
        assert!(lost.iter().all(|part| kept.mesh.items[&robbed].lose(part.item)));
        let (repaired, _) = kept.settle().await;
        assert_eq!(
            repaired,
            u64::try_from(lost.len()).expect("few"),
            "what the silent node has is left to it"
        );
        kept.mesh.mend_all();
        kept.start(away);
        assert_eq!(kept.settle().await, (0, 0));
        kept.assert_in_place();
        assert_eq!(kept.mesh.get(done.object).await.expect("whole"), bytes);
    });
}

#[test]
fn two_sides_that_each_went_on_alone_are_one_mesh_again_with_each_part_held_once() {
    for seed in 40..44 {
        SimWorld::run(seed, Link::default(), async move |sim| {
            let mut kept = Kept::new(sim.clone(), 8);
            let clients =
                [2000, 2001].map(|number| NodeId::from_bytes(sim.key(number).verifying_key().to_bytes()));
            let meshes =
                clients.map(|client| common::Mesh { world: sim.world_of(client), ..kept.mesh.clone() });
            let mut put = Vec::new();
            for (number, scheme) in (0..).zip(["2+2", "4+2", "2+1", "2+2"]) {
                let bytes = noise(number, 4 << 20);
                put.push((kept.mesh.put(&bytes, scheme).await.expect("acknowledged"), bytes));
            }
            kept.settle().await;
            kept.assert_in_place();

            let (left, right) = kept.mesh.nodes.split_at(5);
            kept.cut([[left, &clients[..1]].concat(), [right, &clients[1..]].concat()]);
            for passed in [PAUSE, LONG] {
                kept.wait(passed).await;
                for (mesh, number) in meshes.iter().zip([10, 11]) {
                    let bytes = noise(seed * 100 + number, 2 << 20);
                    put.push((mesh.put(&bytes, "2+2").await.expect("each side has three nodes"), bytes));
                }
                // The smaller side stays short: it has fewer nodes than a stripe has shards.
                for _ in 0..6 {
                    kept.round().await;
                }
            }
            assert!(kept.doubled_count() > 0, "the control: both sides have made parts that the other has");

            kept.join().await;
            let (repaired, handed_over) = kept.settle().await;
            println!("seed {seed}: {handed_over} parts handed over, {repaired} made again");
            kept.assert_in_place();
            for (done, bytes) in put {
                for mesh in &meshes {
                    assert_eq!(mesh.get(done.object).await.expect("nothing acknowledged is lost"), bytes);
                }
            }
        });
    }
}
