//! Disks that are full, read-only or don't sync: the node says so, keeps serving, loses nothing, and goes on once it can.

mod support;

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::disks::{Ext4, Tmpfs};
use support::objects::{Objects, metric, wait_until};
use support::tracer::Tracer;
use support::{Mesh, field, json, run, text};

const MIB: u64 = 1 << 20;
const NODES: usize = 6;
/// The node whose disk fails.
const SICK: usize = 2;
/// Others, which are killed to show that it serves what it has.
const KILLED: [usize; 2] = [3, 4];
const WITHIN: Duration = Duration::from_secs(60);

/// A mesh that leaves no room free, holds some objects, and takes its time to repair: what is seen is what the nodes do at once.
fn mesh_with_objects(seed: u64) -> (Mesh, Objects) {
    let mut mesh = Mesh::start_with(NODES, &[("storage.free_floor", "0B")]);
    mesh.nodes[SICK].wrapper = ["/usr/bin/env", "DATAMESH_LOG=warn"].map(ToOwned::to_owned).to_vec();
    mesh.nodes[SICK].kill();
    mesh.nodes[SICK].restart();
    mesh.wait_for_nodes(NODES);
    let mut objects = Objects::new(seed);
    objects.put_whole(&mesh, 3, 2 * MIB);
    objects.put_whole(&mesh, 2, 20_000);
    (mesh, objects)
}

fn refused(mesh: &Mesh) -> u64 {
    metric(mesh, SICK, "datamesh_requests", &["store", "refused"])
}

/// Puts an object while the node takes none: it is acknowledged short of that node's shards, and the node says so.
fn put_past_the_sick_node(mesh: &Mesh, objects: &mut Objects) {
    let before = refused(mesh);
    let put = objects.put(mesh, 8 * MIB);
    assert_eq!(field(&put, "acknowledged"), "degraded", "{put}");
    assert!(refused(mesh) > before, "the node says to whoever asks that it did not take it");
}

/// Shows that the node serves what it had before: with two others gone there are just as many shards left as are needed.
fn read_through_the_sick_node(mesh: &mut Mesh, objects: &Objects) {
    KILLED.iter().for_each(|index| mesh.nodes[*index].kill());
    objects.read_back(mesh);
    KILLED.iter().for_each(|index| mesh.nodes[*index].restart());
    mesh.wait_for_nodes(NODES);
}

fn log_of(mesh: &Mesh) -> String {
    fs::read_to_string(mesh.nodes[SICK].home.with_extension("log")).unwrap_or_default()
}

/// Fills a file system to its last byte.
fn fill(at: &Path) -> PathBuf {
    let path = at.join("ballast");
    let mut file = fs::File::create(&path).expect("a file can be made");
    let mut step = vec![0; 1 << 20];
    loop {
        match file.write(&step) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull && step.len() > 1 => {
                step.truncate(step.len() / 2);
            }
            Err(error) if error.kind() == ErrorKind::StorageFull => return path,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_full_disk_takes_nothing_more_serves_what_it_has_and_takes_more_once_there_is_room() {
    let (mut mesh, mut objects) = mesh_with_objects(91);
    mesh.nodes[SICK].kill();
    let disk = Tmpfs::over(&mesh.nodes[SICK].home.clone(), "24m");
    mesh.nodes[SICK].restart();
    mesh.wait_for_nodes(NODES);
    objects.put_whole(&mesh, 1, 2 * MIB);
    assert_eq!(refused(&mesh), 0, "a node with room refuses nothing");

    let ballast = fill(&disk.at);
    let whole = objects.list.len();
    put_past_the_sick_node(&mesh, &mut objects);
    assert_eq!(metric(&mesh, SICK, "datamesh_store_full", &[]), 1);
    let degraded = objects.list.split_off(whole);
    read_through_the_sick_node(&mut mesh, &objects);
    // Not even a restart needs room.
    mesh.nodes[SICK].kill();
    mesh.nodes[SICK].restart();
    mesh.wait_for_nodes(NODES);
    assert_eq!(objects.short(&mesh), [""; 0]);
    read_through_the_sick_node(&mut mesh, &objects);

    fs::remove_file(ballast).expect("it was written");
    wait_until("the node has room", WITHIN, || metric(&mesh, SICK, "datamesh_store_full", &[]) == 0);
    objects.put_whole(&mesh, 1, 2 * MIB);
    objects.list.extend(degraded);
    objects.read_back(&mesh);
}

#[test]
fn a_disk_that_becomes_read_only_is_served_from_and_refuses_what_is_new() {
    let (mut mesh, mut objects) = mesh_with_objects(92);
    mesh.nodes[SICK].kill();
    let disk = Ext4::over(&mesh.nodes[SICK].home.clone(), "256M");
    mesh.nodes[SICK].restart();
    mesh.wait_for_nodes(NODES);
    objects.put_whole(&mesh, 1, 2 * MIB);
    assert_eq!(refused(&mesh), 0, "a disk that can be written refuses nothing");
    // The kernel gives what it has read before of a file system that it has given up, and no more.
    assert_eq!(objects.short(&mesh), [""; 0]);

    disk.abort();
    let whole = objects.list.len();
    put_past_the_sick_node(&mesh, &mut objects);
    let degraded = objects.list.split_off(whole);
    assert_eq!(objects.short(&mesh), [""; 0], "{}", log_of(&mesh));
    read_through_the_sick_node(&mut mesh, &objects);
    assert!(log_of(&mesh).contains("Read-only file system"), "the log says why");

    // A node does not start on a disk that it can't write: it says which and why.
    mesh.nodes[SICK].kill();
    let home = mesh.nodes[SICK].home.clone();
    let started = run(&home, &["--json", "service", "--bootstrap", &mesh.nodes[0].address]);
    let error = text(&started.stderr);
    assert!(!started.status.success() && error.contains("Read-only file system"), "{error}");

    disk.power_on();
    mesh.nodes[SICK].restart();
    mesh.wait_for_nodes(NODES);
    objects.put_whole(&mesh, 1, 2 * MIB);
    assert_eq!(objects.short(&mesh), [""; 0]);
    objects.list.extend(degraded);
    objects.read_back(&mesh);
}

/// Lets every sync of a process fail until it is dropped.
fn failing_syncs(pid: u32) -> Tracer {
    let calls = "fdatasync,fsync";
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:error=EIO"));
    Tracer::attach(pid, &["-f", "-o", "/dev/null", "-e", &trace, "-e", &inject])
}

#[test]
fn a_sync_that_fails_is_not_acknowledged_and_nothing_that_it_was_for_is_trusted() {
    let (mut mesh, mut objects) = mesh_with_objects(93);
    assert_eq!(refused(&mesh), 0, "a node whose syncs succeed refuses nothing");
    let failing = failing_syncs(mesh.nodes[SICK].pid());
    let whole = objects.list.len();
    put_past_the_sick_node(&mesh, &mut objects);
    let degraded = objects.list.split_off(whole);
    assert!(log_of(&mesh).contains("group was not stored"), "the log says why");
    assert_eq!(objects.short(&mesh), [""; 0]);
    read_through_the_sick_node(&mut mesh, &objects);
    drop(failing);
    objects.put_whole(&mesh, 2, 2 * MIB);

    // What it has taken since does not rest on what failed: after a crash the segments alone say what is there.
    mesh.nodes[SICK].kill();
    let index = mesh.nodes[SICK].home.clone();
    let files = support::files_below(&index).into_iter().filter(|file| file.ends_with("items/index"));
    files.for_each(|file| fs::remove_file(index.join(file)).expect("it is there"));
    mesh.nodes[SICK].restart();
    mesh.wait_for_nodes(NODES);
    assert_eq!(objects.short(&mesh), [""; 0]);
    objects.list.extend(degraded);
    objects.read_back(&mesh);
    let health = json(&mesh.client, &["health"]);
    assert_eq!(health[0]["nodes_reachable"], NODES, "{health:?}");
}
