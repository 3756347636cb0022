//! What no lease protects any more gives its space back, without anybody asking for it.

mod support;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use support::{Mesh, Random, field, files_below, json, run, same_bytes, text};

const MIB: u64 = 1 << 20;
const NODES: usize = 6;
/// How soon nodes that collect every second must be done.
const COLLECTED_WITHIN: Duration = Duration::from_secs(60);

/// Bytes of the files that a node's items lie in.
fn size_on_disk(home: &Path) -> u64 {
    let files = files_below(home).into_iter().filter(|file| file.to_string_lossy().contains("segment"));
    files.map(|file| fs::metadata(home.join(file)).map_or(0, |metadata| metadata.len())).sum()
}

#[test]
fn deleted_objects_give_their_space_back_and_others_stay() {
    let mut mesh = Mesh::start(NODES);
    // The last node stays as it is: it collects after an hour, and shows that nothing else does.
    for node in &mut mesh.nodes[..NODES - 1] {
        let output = run(&node.home, &["config", "set", "storage.collect_every", "1s"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        node.kill();
        node.restart();
    }
    mesh.wait_for_nodes(NODES);
    let mut random = Random(41);
    let (kept, deleted, out) = (mesh.path("kept"), mesh.path("deleted"), mesh.path("out"));
    random.file(&kept, 8 * MIB);
    random.file(&deleted, 128 * MIB);
    let put = |path: &Path| {
        let put = json(&mesh.client, &["put", "--scheme", "4+2", path.to_str().expect("UTF-8")]).remove(0);
        assert_eq!(field(&put, "acknowledged"), "whole");
        field(&put, "object").to_owned()
    };
    let (kept_object, deleted_object) = (put(&kept), put(&deleted));
    let before: Vec<u64> = mesh.nodes.iter().map(|node| size_on_disk(&node.home)).collect();
    assert!(before.iter().all(|size| *size > 34 * MIB), "a quarter of both files each: {before:?}");

    json(&mesh.client, &["delete", &deleted_object]);
    support::failure(&mesh.client, &["gc"], 2);
    let deadline = Instant::now() + COLLECTED_WITHIN;
    let after = loop {
        let sizes: Vec<u64> = mesh.nodes.iter().map(|node| size_on_disk(&node.home)).collect();
        if sizes[..NODES - 1].iter().all(|size| *size < 4 * MIB) {
            break sizes;
        }
        assert!(Instant::now() < deadline, "from {before:?} to {sizes:?}");
        thread::sleep(Duration::from_millis(200));
    };
    assert!(after[NODES - 1] >= before[NODES - 1], "a node that is not told to has collected: {after:?}");
    json(&mesh.client, &["get", &kept_object, out.to_str().expect("UTF-8")]);
    assert!(same_bytes(&kept, &out), "what was not deleted is there");
}
