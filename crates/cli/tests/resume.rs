//! Transfers that are broken off at random moments, by `kill -9` or by Ctrl-C, and gone on with by the same command.

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use datamesh_node::keyring::Identity;
use serde_json::Value;
use support::{
    Mesh, Random, datamesh, field, import_key, json, json_lines, number, run, same_bytes, scaled, text,
    wait_with_output,
};

/// Breaks of each kind: a thousand in the long form.
fn break_count() -> u64 {
    scaled(8, 500)
}

/// Breaks after which a mesh is begun anew, so that what was deleted need not fit a disk.
const MESH_BREAKS: u64 = 50;

const MIB: u64 = 1 << 20;
const FILE_SIZE: u64 = 24 * MIB;
/// Stripes under way at once where breaks are tested: a small file has several windows. Each is 1.5 MiB in 4+2.
const STRIPES: u64 = 8;
const WINDOW: u64 = STRIPES * (MIB + MIB / 2);
/// Bytes of the journal of a put of such a file, about.
const JOURNAL_SIZE: u64 = 12_000;
/// What frames and manifest blocks add.
const SLACK: u64 = 256 << 10;

fn start(home: &Path, arguments: &[&str]) -> Child {
    let mut command = datamesh(home);
    command.arg("--json").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

/// Kills a command once it is due. Its result, if it was done by then.
fn killed(home: &Path, arguments: &[&str], mut due: impl FnMut() -> bool) -> Option<Value> {
    let mut child = start(home, arguments);
    while !due() && child.try_wait().expect("waitable").is_none() {
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("a child can be killed");
    let output = wait_with_output(child, arguments);
    json_lines(&output.stdout).into_iter().next()
}

fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// Bytes of all items of all nodes.
fn used(mesh: &Mesh) -> u64 {
    number(&json(&mesh.client, &["health"])[0], "used")
}

fn wait_until_used(mesh: &Mesh, most: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while used(mesh) > most {
        assert!(Instant::now() < deadline, "{} bytes are kept, {most} should be", used(mesh));
        thread::sleep(Duration::from_millis(50));
    }
}

/// Deletes an object and waits until it is gone. Nodes keep what was released in mind, which takes a little.
fn delete(mesh: &Mesh, put: &Value) {
    json(&mesh.client, &["delete", field(put, "object")]);
    wait_until_used(mesh, 2 * MIB);
}

/// The files of the journals of puts.
fn journals(mesh: &Mesh) -> Vec<PathBuf> {
    let Ok(networks) = fs::read_dir(mesh.client.join("journals")) else { return Vec::new() };
    let files =
        networks.flat_map(|network| fs::read_dir(network.expect("an entry").path()).expect("listable"));
    files.map(|file| file.expect("an entry").path()).collect()
}

fn journals_size(mesh: &Mesh) -> u64 {
    // One that is done with vanishes at any moment.
    let sizes = journals(mesh).into_iter().filter_map(|journal| fs::metadata(journal).ok());
    sizes.map(|metadata| metadata.len()).sum()
}

/// Whether a stripe was noted: head and first record take less.
fn has_stripes(journal: &Path) -> bool {
    fs::metadata(journal).expect("it is there").len() > 1000
}

fn usual_duration(home: &Path, arguments: &[&str]) -> (Duration, Value) {
    let started = Instant::now();
    let done = json(home, arguments).remove(0);
    (started.elapsed(), done)
}

fn moment(random: &mut Random, usual: Duration) -> Duration {
    usual.mul_f64(f64::from(u32::try_from(random.below(1000)).expect("small")) / 1000.0)
}

#[derive(Default)]
struct PutBreaks {
    /// Kills when a stripe had been noted.
    begun: u64,
    /// Those of them after which the put went on.
    resumed: u64,
    most_again: u64,
    wrong: u64,
}

/// Makes the client's window that of these tests.
fn narrow(mesh: &Mesh) {
    let output = run(&mesh.client, &["config", "set", "transfer.stripes_in_flight", &STRIPES.to_string()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn break_puts(count: u64, random: &mut Random, seen: &mut PutBreaks) {
    let mesh = Mesh::start(6);
    narrow(&mesh);
    let (path, out) = (mesh.path("file"), mesh.path("out"));
    let (file, out_text) = (path.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
    random.file(&path, FILE_SIZE);
    let (usual, first) = usual_duration(&mesh.client, &["put", file]);
    delete(&mesh, &first);
    for round in 0..count {
        let before = used(&mesh);
        // By the clock, or by what is noted: see the test of gets.
        let (begun_at, after) = (Instant::now(), moment(random, usual));
        let size = random.below(JOURNAL_SIZE);
        let due = || {
            if round % 2 == 0 { begun_at.elapsed() >= after } else { journals_size(&mesh) > size }
        };
        if let Some(done) = killed(&mesh.client, &["put", file], due) {
            delete(&mesh, &done);
            continue;
        }
        // Killed after it was through, it goes on with nothing and tells the same.
        let listed = json(&mesh.client, &["list"]);
        let begun = journals(&mesh);
        if let Some(listed) = listed.first().filter(|_| begun.is_empty()) {
            delete(&mesh, listed);
            continue;
        }
        let has_begun = begun.iter().any(|journal| has_stripes(journal));
        let done = json(&mesh.client, &["put", file]).remove(0);
        if let Some(listed) = listed.first() {
            assert_eq!(field(listed, "object"), field(&done, "object"), "it was put twice");
            assert_eq!(number(&done, "sent_size"), 0, "{done}");
        }
        seen.begun += u64::from(has_begun);
        seen.resumed += u64::from(has_begun && number(&done, "stripes_resumed") > 0);
        let again = used(&mesh).saturating_sub(before + number(&done, "stored_size"));
        seen.most_again = seen.most_again.max(again);
        json(&mesh.client, &["get", "--force", field(&done, "object"), out_text]);
        seen.wrong += u64::from(!same_bytes(&path, &out));
        assert_eq!(journals(&mesh), Vec::<PathBuf>::new(), "a put that is done leaves no journal");
        delete(&mesh, &done);
    }
}

#[test]
fn a_put_killed_at_any_moment_goes_on_and_sends_no_more_than_a_window_again() {
    let mut random = Random(21);
    let mut seen = PutBreaks::default();
    for begin in (0..break_count()).step_by(usize::try_from(MESH_BREAKS).expect("small")) {
        break_puts(MESH_BREAKS.min(break_count() - begin), &mut random, &mut seen);
    }
    let PutBreaks { begun, resumed, most_again, wrong } = seen;
    println!(
        "{} kills of a put: {begun} had stored something, {resumed} of them went on; {wrong} with wrong bytes; \
         at most {most_again} bytes were sent again, of a window of {WINDOW}",
        break_count()
    );
    assert!(begun > 0, "no kill came in time");
    assert_eq!((resumed, wrong), (begun, 0));
    assert!(most_again <= WINDOW + SLACK);
}

#[test]
fn a_get_killed_at_any_moment_goes_on_behind_what_it_had_written() {
    let mut mesh = Mesh::start(6);
    narrow(&mesh);
    let mut random = Random(22);
    let (path, out) = (mesh.path("file"), mesh.path("folder/out"));
    fs::create_dir(out.parent().expect("a folder")).expect("made");
    random.file(&path, FILE_SIZE);
    let put = json(&mesh.client, &["put", path.to_str().expect("UTF-8")]).remove(0);
    let arguments = ["get", "--verify", field(&put, "object"), out.to_str().expect("UTF-8")];
    let (usual, _) = usual_duration(&mesh.client, &arguments);
    let (mut begun, mut resumed, mut most_again, mut wrong) = (0, 0, 0, 0);
    for round in 0..break_count() {
        fs::remove_file(&out).expect("it was written");
        // By the clock, or by what is written: a get may be over before the clock says so, and then no kill would count.
        let (begun_at, after) = (Instant::now(), moment(&mut random, usual));
        let size = random.below(FILE_SIZE);
        let done = killed(&mesh.client, &arguments, || {
            if round % 2 == 0 { begun_at.elapsed() >= after } else { partial_size(&out) > size }
        });
        assert!(
            done.is_some() || !out.exists() || same_bytes(&path, &out),
            "half a file under the final name"
        );
        if out.exists() {
            // It was killed between the file's last sync and its report.
            continue;
        }
        let written = partial_size(&out);
        // A holder goes away now and then, and comes back. Not the one by whose address the client knows the mesh.
        let victim = 1 + usize::try_from(random.below(5)).expect("small");
        let child = start(&mesh.client, &arguments);
        if round % 3 == 0 {
            thread::sleep(moment(&mut random, usual / 2));
            mesh.nodes[victim].kill();
        }
        let output = wait_with_output(child, &arguments);
        if round % 3 == 0 {
            mesh.nodes[victim].restart();
        }
        assert!(output.status.success(), "{}", text(&output.stderr));
        let done = json_lines(&output.stdout).remove(0);
        let resumed_size = number(&done, "resumed_size");
        begun += u64::from(written >= MIB);
        resumed += u64::from(written >= MIB && resumed_size > 0);
        most_again = most_again.max(written.saturating_sub(resumed_size));
        wrong += u64::from(!same_bytes(&path, &out));
        assert_eq!(partial_size(&out), 0, "a get that is done leaves nothing else");
    }
    println!(
        "{} kills of a get: {begun} had written something, {resumed} of them went on; {wrong} with wrong bytes; \
         at most {most_again} bytes that were written were got again",
        break_count()
    );
    assert!(begun > 0, "no kill came in time");
    assert_eq!((resumed, wrong), (begun, 0));
    assert!(most_again <= MIB, "no more than what was just being written");
}

/// Bytes of what is under way for this path.
fn partial_size(out: &Path) -> u64 {
    // It gets its final name at any moment.
    partial(out).and_then(|partial| fs::metadata(partial).ok()).map_or(0, |metadata| metadata.len())
}

fn partial(out: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(out.parent().expect("a folder")).expect("listable");
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    paths.find(|path| path.to_string_lossy().contains(".datamesh-partial-"))
}

#[test]
fn a_partial_file_that_was_damaged_or_swapped_is_noticed() {
    let mesh = Mesh::start(2);
    let mut random = Random(23);
    let (path, out) = (mesh.path("file"), mesh.path("folder/out"));
    fs::create_dir(out.parent().expect("a folder")).expect("made");
    random.file(&path, 64 * MIB);
    let put = json(&mesh.client, &["put", path.to_str().expect("UTF-8")]).remove(0);
    let arguments = ["get", field(&put, "object"), out.to_str().expect("UTF-8")];
    let damages: [fn(&Path); 4] = [
        |partial| {
            let mut bytes = fs::read(partial).expect("readable");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(partial, bytes).expect("written");
        },
        |partial| {
            let file = fs::File::options().write(true).open(partial).expect("it opens");
            file.set_len(file.metadata().expect("it is there").len() / 2).expect("cut");
        },
        |partial| {
            let mut file = fs::File::options().append(true).open(partial).expect("it opens");
            file.write_all(b"more").expect("written");
        },
        |partial| {
            fs::remove_file(partial).expect("removable");
            std::os::unix::fs::symlink("/dev/null", partial).expect("linked");
        },
    ];
    for (index, damage) in damages.into_iter().enumerate() {
        let mut child = start(&mesh.client, &arguments);
        let deadline = Instant::now() + Duration::from_secs(60);
        while partial_size(&out) < 4 * MIB {
            assert!(Instant::now() < deadline && child.try_wait().expect("waitable").is_none(), "too fast");
            thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("a child can be killed");
        wait_with_output(child, &arguments);
        let partial = partial(&out).expect("it was begun");
        let written = partial_size(&out);
        damage(&partial);
        let done = json(&mesh.client, &arguments).remove(0);
        assert!(same_bytes(&path, &out), "damage {index}");
        let resumed_size = number(&done, "resumed_size");
        assert!(resumed_size <= written, "damage {index}");
        match index {
            0 | 1 => assert!(resumed_size > 0 && resumed_size <= written / 2, "{resumed_size} of {written}"),
            3 => assert_eq!(resumed_size, 0),
            _ => assert!(resumed_size > 0),
        }
        fs::remove_file(&out).expect("it was written");
    }
}

#[test]
fn whoever_stops_a_transfer_is_told_that_the_same_command_goes_on() {
    let mesh = Mesh::start(2);
    let (path, out) = (mesh.path("file"), mesh.path("folder/out"));
    fs::create_dir(out.parent().expect("a folder")).expect("made");
    Random(24).file(&path, 64 * MIB);
    let put = ["put", path.to_str().expect("UTF-8")];
    let child = start(&mesh.client, &put);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !journals(&mesh).iter().any(|journal| has_stripes(journal)) {
        assert!(Instant::now() < deadline, "nothing was begun");
        thread::sleep(Duration::from_millis(1));
    }
    interrupt(&child);
    let output = wait_with_output(child, &put);
    assert_eq!(output.status.code(), Some(130));
    assert!(text(&output.stderr).contains("the same command goes on"), "{}", text(&output.stderr));
    let done = json(&mesh.client, &put).remove(0);
    assert!(number(&done, "stripes_resumed") > 0);

    let get = ["get", field(&done, "object"), out.to_str().expect("UTF-8")];
    let child = start(&mesh.client, &get);
    while partial_size(&out) < MIB {
        assert!(Instant::now() < deadline, "nothing was begun");
        thread::sleep(Duration::from_millis(1));
    }
    interrupt(&child);
    let output = wait_with_output(child, &get);
    assert_eq!(output.status.code(), Some(130));
    assert!(text(&output.stderr).contains("the same command goes on"), "{}", text(&output.stderr));
    assert!(!out.exists());
    assert!(number(&json(&mesh.client, &get)[0], "resumed_size") > 0);
    assert!(same_bytes(&path, &out));
}

#[test]
fn what_nobody_goes_on_with_is_released() {
    let mesh = Mesh::start(2);
    let (path, small) = (mesh.path("file"), mesh.path("small"));
    let mut random = Random(25);
    random.file(&path, 48 * MIB);
    fs::write(&small, "small").expect("written");
    let (file, small) = (path.to_str().expect("UTF-8"), small.to_str().expect("UTF-8"));
    let break_off = |arguments: &[&str], input: Stdio| {
        let mut command = datamesh(&mesh.client);
        let mut child = command.arg("--json").args(arguments).stdin(input).spawn().expect("it starts");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !journals(&mesh).iter().any(|journal| has_stripes(journal)) {
            assert!(Instant::now() < deadline, "nothing was begun");
            thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    };
    let kept = |put: &Value| number(put, "stored_size") + SLACK;

    break_off(&["put", "-"], fs::File::open(&path).expect("it opens").into());
    assert!(used(&mesh) > 2 * MIB);
    let done = json(&mesh.client, &["put", small]).remove(0);
    wait_until_used(&mesh, kept(&done));
    delete(&mesh, &done);

    break_off(&["put", file], Stdio::null());
    random.file(&path, 48 * MIB);
    let output = support::run(&mesh.client, &["--json", "put", file]);
    let notes = text(&output.stderr);
    assert!(output.status.success() && notes.contains("has changed since"), "{notes}");
    let done = json_lines(&output.stdout).remove(0);
    assert_eq!(number(&done, "stripes_resumed"), 0);
    wait_until_used(&mesh, kept(&done));
    delete(&mesh, &done);

    break_off(&["put", file], Stdio::null());
    let done = json(&mesh.client, &["put", "--restart", file]).remove(0);
    assert_eq!(number(&done, "stripes_resumed"), 0);
    wait_until_used(&mesh, kept(&done));
    delete(&mesh, &done);

    break_off(&["put", file], Stdio::null());
    json(&mesh.client, &["config", "set", "put.resume_for", "1ms"]);
    let done = json(&mesh.client, &["put", small]).remove(0);
    wait_until_used(&mesh, kept(&done));
    assert_eq!(journals(&mesh), Vec::<PathBuf>::new());
}

/// The second version has 1 % of the bytes changed, in five runs spread evenly, and 1 MiB inserted; in the short form a
/// hundredth of 64 MiB in one run, and 64 KiB.
///
/// Where an owner's chunks end follows from the owner's key. Of the few chunks of the short form that is much: of eight
/// owners, one sent 3.9 % and another 12.8 %. So the owner is always the same one.
#[test]
fn of_a_second_version_little_is_sent() {
    let mesh = Mesh::start(6);
    import_key(&mesh.client, &Identity::from_seed(&[26; 32]).to_text());
    let mut random = Random(26);
    let (size, run_count, inserted): (u64, u64, usize) =
        scaled((64 * MIB, 1, 64 << 10), (1024 * MIB, 5, 1 << 20));
    let (one, two) = (mesh.path("one"), mesh.path("two"));
    random.file(&one, size);
    let mut bytes = fs::read(&one).expect("readable");
    let run_size = usize::try_from(size / 100 / run_count).expect("it fits memory");
    for run in 0..run_count {
        let begin = usize::try_from(size / run_count * run + size / run_count / 2).expect("it fits memory");
        bytes[begin..begin + run_size].copy_from_slice(&random.bytes(run_size));
    }
    let middle = bytes.len() / 3;
    bytes.splice(middle..middle, random.bytes(inserted));
    fs::write(&two, &bytes).expect("written");
    for mode in ["dedup", "public"] {
        let put = |file: &Path| {
            json(&mesh.client, &["put", "--mode", mode, file.to_str().expect("UTF-8")]).remove(0)
        };
        let (first, second) = (put(&one), put(&two));
        assert_eq!(number(&first, "reused_size"), 0);
        let (sent, stored) = (number(&second, "sent_size"), number(&second, "stored_size"));
        assert_eq!(sent + number(&second, "reused_size"), stored);
        println!(
            "{mode}: a second version of {size} bytes, {run_count} runs of {run_size} bytes changed and {inserted} inserted: \
             {sent} of {stored} bytes sent ({} per thousand), {} of {} stripes were there",
            1000 * sent / stored,
            number(&second, "stripes_reused"),
            number(&second, "stripe_count")
        );
        let most_percent = scaled(12, 5);
        assert!(100 * sent <= most_percent * stored, "{second}");
        let out = mesh.path("out");
        json(
            &mesh.client,
            &["get", "--force", "--verify", field(&second, "object"), out.to_str().expect("UTF-8")],
        );
        assert!(same_bytes(&two, &out));
    }
}
