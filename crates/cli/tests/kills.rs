//! `kill -9` at random moments, of a storage node and of the client, while objects are put.

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use support::{Mesh, Random, datamesh, field, json, json_lines, same_bytes, scaled, wait_with_output};

/// Kills of each kind: 200 in the long form.
fn kill_count() -> u64 {
    scaled(20, 200)
}

/// Bytes of the file that is being put when the kill comes.
const FILE_SIZE: u64 = 6 << 20;

/// Files that were put, and what each was acknowledged as.
struct Acknowledged {
    objects: Vec<(String, PathBuf)>,
}

impl Acknowledged {
    /// Gets every object and compares it.
    fn check(&self, mesh: &Mesh) {
        let out = mesh.path("out");
        for (object, file) in &self.objects {
            json(&mesh.client, &["get", "--force", object, out.to_str().expect("UTF-8")]);
            assert!(same_bytes(file, &out), "{object} has wrong bytes");
        }
    }
}

/// A few files to put in turn: fresh random bytes each time would only slow the test.
fn files(mesh: &Mesh, random: &mut Random) -> Vec<PathBuf> {
    let files: Vec<PathBuf> = (0..4).map(|number| mesh.path(&format!("file-{number}"))).collect();
    for file in &files {
        random.file(file, FILE_SIZE);
    }
    files
}

fn usual_duration(mesh: &Mesh, file: &Path) -> Duration {
    let started = Instant::now();
    json(&mesh.client, &["put", file.to_str().expect("UTF-8")]);
    started.elapsed()
}

fn moment(random: &mut Random, usual: Duration) -> Duration {
    usual.mul_f64(f64::from(u32::try_from(random.below(1100)).expect("small")) / 1000.0)
}

#[test]
fn no_acknowledged_object_is_lost_when_storage_nodes_are_killed() {
    let mut mesh = Mesh::start(6);
    let mut random = Random(11);
    let files = files(&mesh, &mut random);
    let usual = usual_duration(&mesh, &files[0]);
    let mut acknowledged = Acknowledged { objects: Vec::new() };
    let (mut whole, mut degraded, mut refused) = (0, 0, 0);
    for round in 0..kill_count() {
        let file = &files[usize::try_from(round % 4).expect("small")];
        let mut command = datamesh(&mesh.client);
        command.args(["--json", "put", file.to_str().expect("UTF-8")]);
        let put = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        thread::sleep(moment(&mut random, usual));
        let victim = usize::try_from(random.below(6)).expect("small");
        mesh.nodes[victim].kill();
        let output = wait_with_output(put, &["put"]);
        mesh.nodes[victim].restart();
        if !output.status.success() {
            refused += 1;
            continue;
        }
        let put = json_lines(&output.stdout).remove(0);
        if field(&put, "acknowledged") == "whole" {
            whole += 1;
        } else {
            degraded += 1;
        }
        acknowledged.objects.push((field(&put, "object").to_owned(), file.clone()));
    }
    mesh.wait_for_nodes(6);
    acknowledged.check(&mesh);
    println!(
        "{} kills of a storage node: {whole} puts whole, {degraded} degraded, {refused} refused; \
         all {} acknowledged came back byte for byte; every restart served",
        kill_count(),
        acknowledged.objects.len()
    );
    assert!(whole + degraded > 0, "nothing was put");
}

#[test]
fn no_acknowledged_object_is_lost_when_the_client_is_killed() {
    let mesh = Mesh::start(6);
    let mut random = Random(12);
    let files = files(&mesh, &mut random);
    let usual = usual_duration(&mesh, &files[0]);
    let mut acknowledged = Acknowledged { objects: Vec::new() };
    let mut cut_short = 0;
    for round in 0..kill_count() {
        let file = &files[usize::try_from(round % 4).expect("small")];
        let mut command = datamesh(&mesh.client);
        command.args(["--json", "put", file.to_str().expect("UTF-8")]);
        let mut put = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        thread::sleep(moment(&mut random, usual));
        put.kill().expect("a child can be killed");
        let output = wait_with_output(put, &["put"]);
        match json_lines(&output.stdout).first() {
            Some(put) => acknowledged.objects.push((field(put, "object").to_owned(), file.clone())),
            None => cut_short += 1,
        }
    }
    acknowledged.check(&mesh);
    // Whatever the catalog names is there too, though nobody saw it acknowledged.
    let listed = json(&mesh.client, &["list"]);
    let listed_count = listed.len();
    for entry in listed {
        let verified = json(&mesh.client, &["verify", field(&entry, "object")]);
        assert_eq!(verified[0]["score"], 1.0, "{verified:?}");
    }
    println!(
        "{} kills of the client: {} puts had been acknowledged and came back byte for byte, {cut_short} were cut short; \
         all {listed_count} objects of the catalog are whole",
        kill_count(),
        acknowledged.objects.len()
    );
    assert!(cut_short > 0, "no kill came in time");
}
