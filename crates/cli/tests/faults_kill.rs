//! `kill -9` at random moments of repair: nothing is lost, and it comes to its end.

mod support;

use std::fs;
use std::thread;
use std::time::Duration;

use support::objects::{Objects, metric};
use support::{Mesh, Random, files_below, scaled};

const NODES: usize = 7;
const MIB: u64 = 1 << 20;
const HASTY: [(&str, &str); 4] = [
    ("repair.check_every", "500ms"),
    ("repair.settle", "500ms"),
    ("placement.grace", "10s"),
    ("storage.free_floor", "0B"),
];

/// Kills.
fn kill_count() -> usize {
    scaled(5, 100)
}

fn whole_within() -> Duration {
    Duration::from_secs(scaled(120, 600))
}

fn moment(random: &mut Random, most_ms: u64) -> Duration {
    Duration::from_millis(random.below(most_ms))
}

fn any_of(random: &mut Random, count: usize) -> usize {
    usize::try_from(random.below(u64::try_from(count).expect("few"))).expect("few")
}

/// Deletes what a node's disk holds.
fn lose_disk(mesh: &mut Mesh, index: usize) {
    mesh.nodes[index].kill();
    let home = mesh.nodes[index].home.clone();
    let items = files_below(&home).into_iter().filter(|file| file.to_string_lossy().contains("items"));
    items.for_each(|file| fs::remove_file(home.join(file)).expect("it is there"));
    mesh.nodes[index].restart();
}

fn made_again(mesh: &Mesh) -> u64 {
    (0..NODES).map(|index| metric(mesh, index, "datamesh_keep_repairs", &[])).sum()
}

#[test]
fn a_repair_whose_nodes_are_killed_comes_to_its_end_and_loses_nothing() {
    let mut mesh = Mesh::start_with(NODES, &HASTY);
    let (mut objects, mut random) = (Objects::new(111), Random(112));
    objects.put_whole(&mesh, 8, 3 * MIB);
    let mut unfinished = 0;
    for round in 0..kill_count() {
        let lost = any_of(&mut random, NODES);
        lose_disk(&mut mesh, lost);
        mesh.wait_for_nodes(NODES);
        // Repair begins a second or so after the loss.
        thread::sleep(moment(&mut random, 4000));
        unfinished += usize::from(!objects.short(&mesh).is_empty());
        let victim = any_of(&mut random, NODES);
        mesh.nodes[victim].kill();
        thread::sleep(moment(&mut random, 500));
        mesh.nodes[victim].restart();
        mesh.wait_for_nodes(NODES);
        let took = objects.wait_until_whole(&mesh, &format!("round {round}"), whole_within());
        println!("round {round}: whole {:.1} s after the kill", took.as_secs_f64());
    }
    objects.read_back(&mesh);
    println!(
        "{} disks lost and {} nodes killed, {unfinished} before repair was done",
        kill_count(),
        kill_count()
    );
    assert!(made_again(&mesh) > 0 && unfinished > 0, "no kill came during a repair");
}
