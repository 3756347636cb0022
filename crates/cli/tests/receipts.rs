//! Receipts of what was served, on the disks of nodes and of their readers.

mod support;

use std::process::Command;

use datamesh_core::receipt::ServiceReceipt;
use datamesh_node::receipts;

use crate::support::{Mesh, Random, json};

const SIZE: u64 = 20 << 20;

#[test]
fn after_a_get_the_client_and_each_node_hold_the_same_receipts() {
    let mut mesh = Mesh::start(6);
    let (file, out) = (mesh.path("file"), mesh.path("out"));
    Random(1).file(&file, SIZE);
    let put = json(&mesh.client, &["put", &file.display().to_string()]);
    json(&mesh.client, &["get", put[0]["object"].as_str().expect("an id"), &out.display().to_string()]);
    let samples = json(&mesh.client, &["metrics"]);
    let counted = samples.iter().filter(|sample| sample["metric"] == "datamesh_receipt_item_bytes");
    let counted: u64 = counted.filter_map(|sample| sample["value"].as_u64()).sum();

    let own = receipts::read(&mesh.client.join("receipts")).expect("the client's receipts");
    let size = |receipts: &[ServiceReceipt]| -> u64 {
        receipts.iter().map(|receipt| receipt.service.unverified().size()).sum()
    };
    assert!(size(&own) >= SIZE, "{} bytes acknowledged of {SIZE}", size(&own));
    assert_eq!(counted, size(&own), "what the nodes tell");
    for node in &mut mesh.nodes {
        let mut child = node.child.take().expect("it runs");
        let stopped = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(stopped.expect("kill runs").success());
        child.wait().expect("a child can be waited for");
        let theirs = receipts::read(&node.home.join("receipts")).expect("the node's receipts");
        let of_node =
            |receipt: &&ServiceReceipt| receipt.service.unverified().server.to_string() == node.peer_id;
        let ours: Vec<ServiceReceipt> = own.iter().filter(of_node).cloned().collect();
        assert_eq!(ours, theirs);
    }
}
