//! A storage node whose backend takes what nobody wants: it moves there by policy, is read from there, and comes back.

mod support;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use support::{Mesh, Node, Random, field, json, number, same_bytes};

const PATIENCE: Duration = Duration::from_secs(60);

/// Two nodes of which each has every byte; the second one has a backend.
struct Cold {
    mesh: Mesh,
    node: Node,
}

impl Cold {
    fn start() -> Self {
        let mesh = Mesh::start(1);
        let home = mesh.path("cold");
        for (key, value) in [
            ("backend.cold_after", "4s"),
            ("backend.segment_size", "256KiB"),
            ("backend.local", "64MiB"),
            ("storage.collect_every", "1s"),
        ] {
            json(&home, &["config", "set", key, value]);
        }
        let backend = format!("file://{}", mesh.path("backend").display());
        let words = ["service", "--bootstrap", &mesh.nodes[0].address, "--backend", &backend];
        let rest = ["--listen", "/ip4/127.0.0.1/tcp/0", "--capacity", "1GiB", "--domain", "here/home/cold"];
        let node =
            Node::start(home, words.iter().chain(&rest).map(ToString::to_string).collect(), Vec::new());
        mesh.wait_for_nodes(2);
        Self { mesh, node }
    }

    fn put(&self, name: &str, seed: u64) -> (PathBuf, String) {
        let path = self.mesh.path(name);
        Random(seed).file(&path, 6 << 20);
        let put =
            json(&self.mesh.client, &["put", "--scheme", "1+1", path.to_str().expect("UTF-8")]).remove(0);
        assert_eq!(field(&put, "acknowledged"), "whole", "{put}");
        (path, field(&put, "object").to_owned())
    }

    fn get(&self, (path, object): &(PathBuf, String)) {
        let out = self.mesh.path("out");
        json(&self.mesh.client, &["get", "--force", object, out.to_str().expect("UTF-8")]);
        assert!(same_bytes(path, &out), "{object}");
    }

    fn metric(&self, name: &str, label: &str) -> u64 {
        let samples = json(&self.mesh.client, &["metrics", &self.node.peer_id]);
        let is_it = |sample: &&serde_json::Value| {
            let labels = sample["labels"].as_object().expect("labels");
            sample["metric"] == name && (label.is_empty() || labels.values().any(|value| value == label))
        };
        number(samples.iter().find(is_it).unwrap_or_else(|| panic!("no {name}: {samples:?}")), "value")
    }

    fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}");
            thread::sleep(Duration::from_millis(100));
        }
        println!("{what}: after {:.1} s", begun.elapsed().as_secs_f64());
    }
}

#[test]
fn what_nobody_wants_moves_to_the_backend_and_comes_back_when_it_is_wanted() {
    let mut cold = Cold::start();
    json(&cold.mesh.client, &["config", "set", "cache.capacity", "0B"]);
    let unwanted = cold.put("unwanted", 1);
    let filler = cold.put("filler", 2);
    let local = cold.metric("datamesh_backend_segments", "local");
    assert!(
        local >= 4 && cold.metric("datamesh_backend_segments", "backend") == 0,
        "{local} are local at first"
    );
    // What was written last stays: a start may have to read it again.
    cold.wait("it has moved", |cold| cold.metric("datamesh_backend_segments", "local") <= 2);

    // Only the node with the backend is left to read from.
    cold.mesh.nodes[0].kill();
    let asked_of_backend = |cold: &Cold| {
        let before = cold.metric("datamesh_backend_reads", "");
        cold.get(&unwanted);
        cold.metric("datamesh_backend_reads", "") - before
    };
    assert!(asked_of_backend(&cold) > 0);
    cold.wait("it has come back", |cold| asked_of_backend(cold) == 0);
    assert!(cold.metric("datamesh_backend_recalls", "") > 0);
    cold.node.kill();
    cold.mesh.nodes[0].restart();
    cold.node.restart();
    cold.mesh.wait_for_nodes(2);
    cold.mesh.nodes[0].kill();
    cold.get(&unwanted);
    cold.get(&filler);
}
