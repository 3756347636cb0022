//! The engine under faults: what was put comes back, or a typed error does; never other bytes, never a hang.

mod common;

use std::time::Duration;

use datamesh_core::scheme::Redundancy;
use datamesh_engine::get::GetError;
use datamesh_engine::place::Wholeness;
use datamesh_engine::put::PutError;
use datamesh_sim::fault::{Fault, Plan, Schedule};
use datamesh_sim::network::{CallKind, Link};
use datamesh_sim::world::SimWorld;

use crate::common::{Mesh, noise};

/// Every set of at most two of six.
fn small_sets() -> Vec<Vec<usize>> {
    let pairs = (0..6).flat_map(|one| (one + 1..6).map(move |other| vec![one, other]));
    std::iter::once(vec![]).chain((0..6).map(|one| vec![one])).chain(pairs).collect()
}

#[test]
fn a_put_survives_any_m_lost_nodes_and_no_more() {
    SimWorld::run(1, Link::default(), async |sim| {
        let mesh = Mesh::new(sim, 6);
        let bytes = noise(1, 3_500_000);
        let done = mesh.put(&bytes, "4+2").await.expect("acknowledged");
        assert_eq!(done.acknowledged, Wholeness::Whole);
        for lost in small_sets() {
            for node in &lost {
                mesh.inject(*node, Fault::Down);
            }
            assert_eq!(mesh.get(done.object).await.expect("enough are left"), bytes, "{lost:?}");
            mesh.mend_all();
        }
        for node in [0, 2, 4] {
            mesh.inject(node, Fault::Down);
        }
        let error = mesh.get(done.object).await.expect_err("three of six are too many");
        let typed = matches!(error, GetError::TooFewShards { .. } | GetError::NotFound { .. });
        assert!(typed, "{error}");
    });
}

#[test]
fn liars_stallers_and_boasters_cost_their_own_work_only() {
    for fault in [Fault::Lying, Fault::Stalled, Fault::Boasting, Fault::Slow(Duration::from_secs(20))] {
        SimWorld::run(2, Link::default(), async |sim| {
            let mesh = Mesh::new(sim, 6);
            let bytes = noise(2, 2_500_000);
            let done = mesh.put(&bytes, "4+2").await.expect("acknowledged");
            for pair in [[0, 1], [2, 5], [3, 4]] {
                for node in pair {
                    mesh.inject(node, fault);
                }
                let started = mesh.world.clock.elapsed();
                assert_eq!(
                    mesh.get(done.object).await.expect("four are honest"),
                    bytes,
                    "{fault:?} {pair:?}"
                );
                let took = mesh.world.clock.elapsed() - started;
                assert!(took < Duration::from_secs(15), "{fault:?} {pair:?} held it up for {took:?}");
                mesh.mend_all();
            }
        });
    }
}

#[test]
fn an_acknowledgement_says_what_was_reached() {
    SimWorld::run(3, Link::default(), async |sim| {
        let mut mesh = Mesh::new(sim, 6);
        let bytes = noise(3, 2_500_000);
        mesh.inject(3, Fault::Down);
        let done = mesh.put(&bytes, "4+2").await.expect("five nodes are enough to be degraded");
        assert_eq!(done.acknowledged, Wholeness::Degraded);
        assert!(done.failures.contains_key(&mesh.nodes[3]), "{:?}", done.failures);

        mesh.inject(4, Fault::Down);
        let error = mesh.put(&bytes, "4+2").await.expect_err("four nodes are too few");
        let PutError::NotEnoughNodes { placed, needed, failures, .. } = error else { panic!("{error}") };
        assert_eq!((placed, needed), (4, 5));
        assert_eq!(failures.into_keys().collect::<Vec<_>>(), {
            let mut down = vec![mesh.nodes[3], mesh.nodes[4]];
            down.sort();
            down
        });

        for number in 6..9 {
            mesh.add_node(number);
        }
        let handed_on = mesh.put(&bytes, "4+2").await.expect("others step in");
        assert_eq!(handed_on.acknowledged, Wholeness::Whole);
        assert_eq!(mesh.get(handed_on.object).await.expect("found where it was handed to"), bytes);
    });
}

#[test]
fn a_full_node_is_stepped_in_for_and_a_full_mesh_is_an_error() {
    SimWorld::run(4, Link::default(), async |sim| {
        let mesh = Mesh::new(sim, 8);
        let bytes = noise(4, 1_500_000);
        mesh.inject(0, Fault::Full);
        mesh.inject(1, Fault::Full);
        let done = mesh.put(&bytes, "4+2").await.expect("six have room");
        assert_eq!(done.acknowledged, Wholeness::Whole);
        for node in 2..8 {
            mesh.inject(node, Fault::Full);
        }
        let error = mesh.put(&bytes, "4+2").await.expect_err("nobody has room");
        assert!(matches!(error, PutError::NotEnoughNodes { placed: 0, .. }), "{error}");
        assert_eq!(mesh.get(done.object).await.expect("reads go on"), bytes);
    });
}

#[test]
fn repair_makes_an_object_whole_on_new_nodes_without_a_key() {
    for redundancy in ["4+2", "1+2"] {
        SimWorld::run(5, Link::default(), async |sim| {
            let mut mesh = Mesh::new(sim, 6);
            let bytes = noise(5, 3_500_000);
            let done = mesh.put(&bytes, redundancy).await.expect("acknowledged");
            assert_eq!(mesh.score(done.object).await, 1.0);
            for node in [1, 4] {
                mesh.inject(node, Fault::Down);
            }
            assert!(mesh.score(done.object).await < 1.0);
            mesh.add_node(6);
            mesh.add_node(7);
            assert!(mesh.repair(done.object).await > 0);
            assert_eq!(mesh.score(done.object).await, 1.0, "{redundancy}");
            assert_eq!(mesh.repair(done.object).await, 0, "there is nothing left to do");
            for node in [0, 2] {
                mesh.inject(node, Fault::Down);
            }
            assert_eq!(mesh.get(done.object).await.expect("two more may fail"), bytes, "{redundancy}");
        });
    }
}

#[test]
fn a_shard_lost_or_rotten_on_a_disk_is_found_and_made_again() {
    SimWorld::run(6, Link::default(), async |sim| {
        let mesh = Mesh::new(sim, 6);
        let bytes = noise(6, 1_500_000);
        let done = mesh.put(&bytes, "4+2").await.expect("acknowledged");
        let items = &mesh.items[&mesh.nodes[2]];
        for item in items.ids() {
            items.lose(item);
        }
        assert_eq!(mesh.get(done.object).await.expect("five are whole"), bytes);
        assert!(mesh.score(done.object).await < 1.0);
        assert!(mesh.repair(done.object).await > 0);
        assert_eq!(mesh.score(done.object).await, 1.0);
    });
}

#[test]
fn what_has_not_moved_yet_is_read_where_the_ring_before_had_it() {
    SimWorld::run(11, Link::default(), async |sim| {
        let mut mesh = Mesh::new(sim, 100);
        let bytes = noise(11, 6_000_000);
        let done = mesh.put(&bytes, "4+2").await.expect("acknowledged");
        for number in 100..400 {
            mesh.add_node(number);
        }
        assert_eq!(mesh.get(done.object).await.expect("found"), bytes);
        // Who has not known the mesh before looks near the holders of now, and no farther.
        let stranger = Mesh { world: mesh.sim.world_of(mesh.nodes[0]), ..mesh };
        stranger.get(done.object).await.expect_err("most shards lie with others");
    });
}

#[test]
fn a_get_asks_for_k_shards_a_stripe_and_no_more_while_all_is_well() {
    SimWorld::run(7, Link::default(), async |sim| {
        let mesh = Mesh::new(sim, 6);
        let bytes = noise(7, 4 << 20);
        let done = mesh.put(&bytes, "4+2").await.expect("acknowledged");
        let before = mesh.sim.network().counts(CallKind::Fetch).made;
        mesh.get(done.object).await.expect("all is well");
        let fetches = mesh.sim.network().counts(CallKind::Fetch).made - before;
        assert_eq!(done.stripe_count, 4);
        // Four shards of each of four stripes, the root and the one leaf.
        assert_eq!(fetches, 4 * 4 + 2);
    });
}

#[test]
fn under_faults_that_come_and_go_every_read_is_right_or_a_typed_error() {
    let (mut acknowledged, mut refused, mut read, mut failed, mut met) = (0, 0, 0, 0, 0);
    for seed in 0..40 {
        // Slow enough that faults come and go while an operation runs.
        let delay_max = Duration::from_millis(150);
        let link = Link { loss_percent: 2, delay_max, ..Link::default() };
        SimWorld::run(seed, link, async |sim| {
            let mesh = Mesh::new(sim, 8);
            let bytes = noise(seed, 2_200_000);
            let plan = Plan {
                nodes: mesh.nodes.clone(),
                faulty_max: 3,
                faults: vec![
                    Fault::Down,
                    Fault::Stalled,
                    Fault::Lying,
                    Fault::Boasting,
                    Fault::Full,
                    Fault::Slow(Duration::from_secs(3)),
                    Fault::DiesAfter(5),
                ],
                pause_max: Duration::from_millis(400),
                change_count: 2000,
            };
            let schedule = Schedule::draw(seed, &plan);
            let network = mesh.sim.network().clone();
            let mut put_so_far = None;
            let work = async {
                mesh.world.clock.sleep(Duration::from_secs(3)).await;
                match mesh.put(&bytes, "4+2").await {
                    Ok(done) => {
                        acknowledged += 1;
                        met += done.failures.len();
                        put_so_far = Some(done.object);
                        for _ in 0..3 {
                            match mesh.get(done.object).await {
                                Ok(got) => {
                                    assert_eq!(got, bytes, "seed {seed}: wrong bytes");
                                    read += 1;
                                }
                                Err(_) => failed += 1,
                            }
                        }
                    }
                    Err(_) => refused += 1,
                }
            };
            let faults = async {
                network.carry_out(&schedule).await;
                std::future::pending::<()>().await;
            };
            futures::future::select(Box::pin(work), std::pin::pin!(faults)).await;
            mesh.mend_all();
            if let Some(object) = put_so_far {
                assert_eq!(mesh.get(object).await.expect("all nodes are back"), bytes, "seed {seed}: lost");
            }
        });
    }
    println!(
        "40 seeds: {acknowledged} puts acknowledged, {refused} refused, {met} node failures met by those acknowledged; \
         {read} reads under faults right, {failed} typed errors; all acknowledged came back once the nodes did"
    );
    assert!(acknowledged > 10 && read > 10, "{acknowledged} {read}");
    assert!(met > 20, "the faults were there while the puts ran: {met}");
}

#[test]
fn an_object_of_the_smallest_and_the_oddest_redundancy_comes_back() {
    SimWorld::run(8, Link::default(), async |sim| {
        let mesh = Mesh::new(sim, 12);
        for redundancy in ["1+1", "1+0", "2+1", "7+5", "3+9"] {
            let parsed: Redundancy = redundancy.parse().expect("a redundancy");
            for size in [0, 1, 70_000, 1_200_000] {
                let bytes = noise(8, size);
                let done = mesh.put(&bytes, redundancy).await.expect("twelve nodes hold it");
                assert_eq!(done.acknowledged, Wholeness::Whole, "{redundancy}");
                let lost = parsed.parity_count();
                for node in 0..lost.min(parsed.manifest_replica_count_min()) {
                    mesh.inject(node, Fault::Down);
                }
                assert_eq!(
                    mesh.get(done.object).await.expect("enough are left"),
                    bytes,
                    "{redundancy} {size}"
                );
                mesh.mend_all();
            }
        }
    });
}
