//! Two machines of one owner put the same file while one of them deletes it: the other's bytes stay.

mod support;

use std::path::Path;
use std::thread;
use std::time::Duration;

use support::{Mesh, Random, failure, field, import_key, json, number, same_bytes, scaled, text};

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn deleting_one_of_two_puts_of_the_same_content_takes_nothing_from_the_other() {
    let mesh = Mesh::start(4);
    json(&mesh.client, &["init"]);
    let secret = json(&mesh.client, &["keys", "export"]);
    let other = mesh.path("other-client");
    import_key(&other, field(&secret[0], "secret"));
    json(&other, &["join", &mesh.nodes[0].address]);
    json(&other, &["config", "set", "cache.capacity", "0B"]);
    let (file, out) = (mesh.path("file"), mesh.path("out"));
    let mut random = Random(11);
    let mut reused_count = 0;
    for round in 0..scaled(8, 100) {
        Random(1000 + round).file(&file, 6 << 20);
        let first = json(&mesh.client, &["put", "--mode", "dedup", path_text(&file)]).remove(0);
        let putting = {
            let (other, file) = (other.clone(), file.clone());
            thread::spawn(move || json(&other, &["put", "--mode", "dedup", path_text(&file)]).remove(0))
        };
        thread::sleep(Duration::from_millis(random.below(500)));
        json(&mesh.client, &["delete", field(&first, "object")]);
        let second = putting.join().expect("acknowledged");
        reused_count += u64::from(number(&second, "reused_size") > 0);
        let object = field(&second, "object");
        let verified = json(&other, &["verify", "--deep", object]).remove(0);
        assert_eq!(verified["score"], 1.0, "round {round}: {verified}");
        json(&other, &["get", object, path_text(&out), "--force"]);
        assert!(same_bytes(&file, &out), "round {round}");
        // The control: once it is deleted too, there is nothing to be had.
        json(&other, &["delete", object]);
        let error = failure(&other, &["get", object, "-"], 3);
        assert!(!text(field(&error, "message").as_bytes()).is_empty());
    }
    assert!(reused_count > 0, "the two never shared anything: nothing was shown");
    let left: u64 = json(&mesh.client, &["peers"]).iter().map(|peer| number(peer, "item_count")).sum();
    assert_eq!(left, 0, "nothing is kept for nobody");
}
