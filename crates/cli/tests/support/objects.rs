//! Objects that a test has put, and what must be true of them as long as it runs.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Mesh, Random, field, json, same_bytes};

/// Objects that were put into a mesh, each with the file that it was put from.
pub(crate) struct Objects {
    random: Random,
    /// The files and the ids.
    pub(crate) list: Vec<(PathBuf, String)>,
    put_count: u64,
}

impl Objects {
    /// None yet; sizes and contents follow from the seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random(seed), list: Vec::new(), put_count: 0 }
    }

    /// Puts a file of this many bytes in `4+2`. Returns what the program said.
    pub(crate) fn put(&mut self, mesh: &Mesh, size: u64) -> Value {
        let path = mesh.path(&format!("file {}", self.put_count));
        self.put_count += 1;
        self.random.file(&path, size);
        let put = json(&mesh.client, &["put", "--scheme", "4+2", path.to_str().expect("UTF-8")]).remove(0);
        self.list.push((path, field(&put, "object").to_owned()));
        put
    }

    /// Puts so many files of this many bytes, each with all of its shards.
    pub(crate) fn put_whole(&mut self, mesh: &Mesh, count: usize, size: u64) {
        for _ in 0..count {
            let put = self.put(mesh, size);
            assert_eq!(field(&put, "acknowledged"), "whole", "{put}");
        }
    }

    /// Forgets the oldest, as its owner does.
    pub(crate) fn delete_oldest(&mut self, mesh: &Mesh) {
        let (file, object) = self.list.remove(0);
        json(&mesh.client, &["delete", &object]);
        fs::remove_file(file).expect("it was written");
    }

    /// Gets every object and compares it.
    pub(crate) fn read_back(&self, mesh: &Mesh) {
        let out = mesh.path("out");
        for (file, object) in &self.list {
            json(&mesh.client, &["get", "--force", object, out.to_str().expect("UTF-8")]);
            assert!(same_bytes(file, &out), "{object} has other bytes");
        }
    }

    /// Objects of which a shard or a replica is missing.
    pub(crate) fn short(&self, mesh: &Mesh) -> Vec<&str> {
        let objects = self.list.iter().map(|(_, object)| object.as_str());
        objects.filter(|object| !is_whole(mesh, object)).collect()
    }

    /// Waits until every object has all its shards and replicas, and says how long that took.
    pub(crate) fn wait_until_whole(&self, mesh: &Mesh, what: &str, within: Duration) -> Duration {
        let begun = Instant::now();
        let mut short: Vec<&str> = self.list.iter().map(|(_, object)| object.as_str()).collect();
        while !short.is_empty() {
            assert!(begun.elapsed() < within, "{what}: {} of {} not whole", short.len(), self.list.len());
            thread::sleep(Duration::from_millis(300));
            short.retain(|object| !is_whole(mesh, object));
        }
        begun.elapsed()
    }
}

fn is_whole(mesh: &Mesh, object: &str) -> bool {
    let verified = json(&mesh.client, &["verify", "--deep", object]).remove(0);
    let whole = verified["score"].as_f64().expect("a number") >= 1.0;
    if !whole {
        println!("not whole: {verified}");
    }
    whole
}

/// What a node says of itself in a number, over all labels that have these values.
pub(crate) fn metric(mesh: &Mesh, index: usize, name: &str, labels: &[&str]) -> u64 {
    let samples = json(&mesh.client, &["metrics", &mesh.nodes[index].peer_id]);
    let has = |sample: &&Value| {
        let values = sample["labels"].as_object();
        let has_value =
            |value: &&str| values.is_some_and(|values| values.values().any(|other| other == value));
        sample["metric"] == name && labels.iter().all(has_value)
    };
    let values: Vec<u64> = samples.iter().filter(has).filter_map(|sample| sample["value"].as_u64()).collect();
    assert!(!values.is_empty(), "no metric `{name}` with {labels:?}");
    values.iter().sum()
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < within, "{what}: not within {within:?}");
        thread::sleep(Duration::from_millis(200));
    }
    begun.elapsed()
}
