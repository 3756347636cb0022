//! What leaders say of the groups that they lead adds up to what is true of the mesh.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datamesh_core::health::{Led, Standing};
use datamesh_core::id::NodeId;
use datamesh_core::summary::Part;
use datamesh_core::topology::NodeState;
use datamesh_engine::keep::{KeepSettings, Keeper, Seen, Watch};
use datamesh_engine::progress::Unobserved;
use datamesh_engine::ring::Ring;
use datamesh_engine::standing::{MeshStanding, mesh, outline};
use datamesh_engine::transfer::TransferSettings;
use datamesh_engine::world::Items;
use datamesh_sim::fault::Fault;
use datamesh_sim::network::Link;
use datamesh_sim::world::SimWorld;
use futures::future::join_all;

use crate::common::{Mesh, noise};

/// Keeps what a keeper has seen last.
#[derive(Default)]
struct Eye(Mutex<Option<Seen>>);

impl Watch for Eye {
    fn seen(&self, seen: Seen) {
        *self.0.lock().expect("nobody panicked with it") = Some(seen);
    }
}

/// A mesh, and a keeper with an eye for each node that lives.
struct Watched {
    mesh: Mesh,
    keepers: BTreeMap<NodeId, (Keeper, Arc<Eye>)>,
}

impl Watched {
    fn new(sim: SimWorld, node_count: u64) -> Self {
        let mut watched = Self { mesh: Mesh::new(sim, node_count), keepers: BTreeMap::new() };
        watched.mesh.nodes.clone().into_iter().for_each(|node| watched.start(node));
        watched
    }

    fn start(&mut self, node: NodeId) {
        let transfer = TransferSettings { own: Some(node), ..TransferSettings::default() };
        // Nothing is repaired: what is seen is what there was before.
        let settings = KeepSettings { transfer, settle: Duration::from_secs(1_000_000) };
        let items: Arc<dyn Items> = self.mesh.items[&node].clone();
        let eye = Arc::new(Eye::default());
        let keeper = Keeper::new(self.mesh.sim.world_of(node), node, items, settings, Arc::new(Unobserved));
        self.keepers.insert(node, (keeper.watched_by(Arc::clone(&eye) as Arc<dyn Watch>), eye));
    }

    fn kill(&mut self, node: NodeId) {
        self.mesh.sim.network().set_faults(&node, vec![Fault::Down]);
        self.keepers.remove(&node);
    }

    /// What all that live say after a round of each.
    async fn look(&mut self) -> MeshStanding {
        self.mesh.sim.clock().sleep(Duration::from_secs(60)).await;
        let rounds = join_all(self.keepers.values_mut().map(|(keeper, _)| keeper.round())).await;
        rounds.into_iter().for_each(|round| assert!(round.is_ok(), "{round:?}"));
        let led: Vec<(NodeId, Led)> = self.keepers.iter().map(|(node, (_, eye))| (*node, led(eye))).collect();
        mesh(led.iter().map(|(node, led)| (*node, led)))
    }

    /// What is true of all that is held by nodes that live, by whether anybody that lives is to look after it.
    fn truth(&self) -> Standing {
        let ring = Ring::of(&self.mesh.sim.network().topology());
        let mut held: BTreeMap<_, (Part, BTreeSet<(NodeId, u8)>)> = BTreeMap::new();
        for node in self.keepers.keys() {
            for part in self.mesh.items[node].all_parts() {
                held.entry(part.subject).or_insert((part, BTreeSet::new())).1.insert((*node, part.index));
            }
        }
        let mut truth = Standing::default();
        for (subject, (part, holders)) in held {
            if !ring.order(subject.group()).take(2).any(|leader| self.keepers.contains_key(&leader)) {
                continue;
            }
            let indices: BTreeSet<u8> = holders.iter().map(|(_, index)| *index).collect();
            let replicated = part.redundancy.data_count() == 1;
            let healthy = if replicated { holders.len() } else { indices.len() };
            truth.add(part.redundancy, healthy, 1, 0);
        }
        truth
    }
}

fn led(eye: &Eye) -> Led {
    match eye.0.lock().expect("nobody panicked with it").clone() {
        Some(Seen::Groups { first, stand_ins }) => {
            Led { age_s: 0, first, stand_ins: stand_ins.into_iter().collect() }
        }
        other => panic!("nothing was seen: {other:?}"),
    }
}

fn subjects(standing: &Standing) -> Vec<(String, usize, u64)> {
    standing
        .subjects()
        .map(|(redundancy, healthy, number)| (redundancy.to_string(), healthy, number))
        .collect()
}

#[test]
fn the_sum_is_the_truth_whoever_is_silent() {
    SimWorld::run(11, Link::default(), async |sim| {
        let mut watched = Watched::new(sim, 10);
        watched.mesh.put(&noise(11, 24 << 20), "4+2").await.expect("acknowledged");
        watched.mesh.put(&noise(12, 6 << 20), "2+2").await.expect("acknowledged");
        let all = watched.look().await;
        assert_eq!((all.unknown_groups, all.doubled_groups, all.standing.doubtful()), (0, 0, 0));
        assert_eq!(subjects(&all.standing), subjects(&watched.truth()));
        assert_eq!(outline(&all.standing).whole, outline(&all.standing).subject_count);

        for (silent_count, index) in [(1, 3), (2, 8), (3, 5)] {
            watched.kill(watched.mesh.nodes[index]);
            let seen = watched.look().await;
            let truth = watched.truth();
            assert_eq!(subjects(&seen.standing), subjects(&truth), "{silent_count} silent");
            assert_eq!(seen.doubled_groups, 0);
            // Groups whose first two holders are silent are led by nobody, and that is said.
            assert_eq!(seen.unknown_groups > 0, silent_count > 1);
            let outline = outline(&seen.standing);
            assert_eq!(seen.standing.doubtful(), outline.subject_count - outline.whole);
        }
    });
}

#[test]
fn what_is_yet_to_be_handed_over_is_no_loss() {
    SimWorld::run(12, Link::default(), async |sim| {
        let mut watched = Watched::new(sim, 10);
        watched.mesh.put(&noise(13, 24 << 20), "4+2").await.expect("acknowledged");
        let before = outline(&watched.look().await.standing);
        // Four more nodes come and one is to go: much lies where it does not belong, and nobody has moved anything yet.
        for number in 10..14 {
            watched.mesh.add_node(number);
            let node = *watched.mesh.nodes.last().expect("one was added");
            watched.start(node);
        }
        let leaving = watched.mesh.nodes[4];
        watched.mesh.sim.network().change_topology(|topology| {
            let mut record = topology.record(&leaving).expect("it is known").clone();
            record.sequence += 1;
            record.state = NodeState::Draining;
            topology.learn(record);
        });
        // They take nothing, so that nothing moves while it is looked.
        for node in watched.mesh.nodes.clone() {
            watched.mesh.sim.network().inject(&node, Fault::Full);
        }
        let after = watched.look().await;
        assert_eq!((after.unknown_groups, after.doubled_groups), (0, 0));
        let after = outline(&after.standing);
        assert_eq!(after.whole, after.subject_count, "{after:?}");
        // What none of the first holders has heard of yet is not counted before it is handed over.
        assert!(after.subject_count * 10 >= before.subject_count * 9, "{after:?} of {before:?}");
    });
}
