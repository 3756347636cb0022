//! Quotas: nodes keep no more for an owner than they are set to, and say so in words that help.

mod support;

use std::path::{Path, PathBuf};

use support::{Mesh, Random, failure, field, json, number};

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn an_owner_above_its_quota_is_refused_until_something_is_deleted() {
    // Of a file of 4 MiB in 2+2 each of four nodes keeps 2 MiB, and its manifest.
    let mut mesh = Mesh::start_with(4, &[("storage.owner_quota", "3MiB")]);
    let files: Vec<PathBuf> = (0..2).map(|number| mesh.path(&format!("file-{number}"))).collect();
    for (seed, file) in (1..).zip(&files) {
        Random(seed).file(file, 4 << 20);
    }
    let first = json(&mesh.client, &["put", path_text(&files[0])]).remove(0);
    assert_eq!(field(&first, "acknowledged"), "whole", "{first}");
    let refused = |mesh: &Mesh| {
        let error = failure(&mesh.client, &["put", path_text(&files[1])], 6);
        assert!(field(&error, "message").contains("of its 3145728 bytes"), "{error}");
        assert!(field(&error, "hint").contains("storage.owner_quota"), "{error}");
    };
    refused(&mesh);
    // What was refused leaves nothing behind, and the count is the same right after a crash.
    let items = |mesh: &Mesh| -> u64 {
        json(&mesh.client, &["peers"]).iter().map(|peer| number(peer, "item_count")).sum()
    };
    let kept = items(&mesh);
    for node in &mut mesh.nodes {
        node.kill();
        node.restart();
    }
    mesh.wait_for_nodes(4);
    refused(&mesh);
    assert_eq!(items(&mesh), kept);

    // Each owner has a quota of its own; and what is kept already may be kept for longer.
    let other = mesh.path("other-client");
    json(&other, &["join", &mesh.nodes[0].address]);
    Mesh::wait_for_nodes_of(&other, 4);
    let others = json(&other, &["put", path_text(&files[1])]).remove(0);
    assert_eq!(field(&others, "acknowledged"), "whole", "{others}");
    json(&mesh.client, &["renew", field(&first, "object")]);

    json(&mesh.client, &["delete", field(&first, "object")]);
    let second = json(&mesh.client, &["put", path_text(&files[1])]).remove(0);
    assert_eq!(field(&second, "acknowledged"), "whole", "right after the release: {second}");
}
