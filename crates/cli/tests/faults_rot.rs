//! Bits turn, files are cut short and headers are lost, on nodes that run and on nodes that don't: all is found, all is made whole.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use support::objects::{Objects, metric, wait_until};
use support::{Mesh, Random, field, files_below, json, run, same_bytes, scaled, text};

const NODES: usize = 6;
const MIB: u64 = 1 << 20;
const HASTY: [(&str, &str); 4] = [
    ("repair.check_every", "1s"),
    ("repair.settle", "1s"),
    ("repair.rate", "off"),
    ("storage.free_floor", "0B"),
];
/// The nodes whose disks rot: as many as an object may lose.
const ROTTING: [usize; 2] = [1, 4];
/// Two bytes or more are records' own; what fills up to the next record is not.
const ALIGNMENT: usize = 32;
const FRAME_SIZE: usize = 32;
const HEADER_SIZE: usize = 96;

/// Bits that turn: each in another shard.
fn flip_count() -> usize {
    scaled(300, 10_000)
}

fn whole_within() -> Duration {
    Duration::from_secs(scaled(90, 1800))
}

fn segments_of(home: &Path) -> Vec<PathBuf> {
    let files = files_below(home)
        .into_iter()
        .filter(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-")));
    files.map(|file| home.join(file)).collect()
}

fn index_of(home: &Path) -> PathBuf {
    let index = files_below(home).into_iter().find(|file| file.ends_with("items/index"));
    home.join(index.expect("a node has an index"))
}

/// Where the records of a segment are: the bytes from their beginning to the end of their payload.
fn records(segment: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut records, mut at) = (Vec::new(), HEADER_SIZE);
    while segment.get(at..at + FRAME_SIZE).is_some_and(|frame| frame.starts_with(b"dmrc")) {
        let size = |offset: usize| {
            let bytes = segment[at + offset..at + offset + 4].try_into().expect("four bytes");
            usize::try_from(u32::from_le_bytes(bytes)).expect("it fits")
        };
        let end = at + FRAME_SIZE + size(8) + size(12);
        records.push(at..end);
        at = end.next_multiple_of(ALIGNMENT);
    }
    records
}

/// Turns one bit in each of so many records of a node.
fn flip_bits(home: &Path, count: usize, random: &mut Random) {
    let mut left = count;
    for path in segments_of(home) {
        let content = fs::read(&path).expect("readable");
        let file = fs::File::options().write(true).open(&path).expect("it opens");
        for record in records(&content).into_iter().take(left) {
            let size = u64::try_from(record.len()).expect("it fits");
            // Frame, header and payload alike, though one is much longer than the others.
            let within = if random.below(3) == 0 { size.min(200) } else { size };
            let at = record.start + usize::try_from(random.below(within)).expect("it fits");
            let wrong = content[at] ^ (1 << random.below(8));
            file.write_all_at(&[wrong], u64::try_from(at).expect("it fits")).expect("written");
            left -= 1;
        }
    }
    assert_eq!(left, 0, "the node holds too little for so many bits to turn, each in another record");
}

/// Puts an object of so many small stripes: each chunk is text that packs well, and no two are the same.
fn put_many_stripes(mesh: &Mesh, stripe_count: usize, random: &mut Random) -> (PathBuf, String) {
    let path = mesh.path("text");
    let mut file = std::io::BufWriter::new(fs::File::create(&path).expect("a file can be made"));
    for _ in 0..stripe_count {
        let mut chunk = vec![b'.'; usize::try_from(MIB).expect("it fits")];
        chunk[..600].copy_from_slice(&random.bytes(600));
        std::io::Write::write_all(&mut file, &chunk).expect("written");
    }
    drop(file);
    let put = json(&mesh.client, &["put", "--scheme", "4+2", path.to_str().expect("UTF-8")]).remove(0);
    assert_eq!(field(&put, "acknowledged"), "whole", "{put}");
    (path, field(&put, "object").to_owned())
}

fn score(mesh: &Mesh, object: &str) -> f64 {
    json(&mesh.client, &["verify", "--deep", object])[0]["score"].as_f64().expect("a number")
}

#[test]
fn every_bit_that_turns_is_found_by_the_node_itself_and_all_is_made_whole() {
    let mut mesh = Mesh::start_with(NODES, &HASTY);
    let mut random = Random(101);
    let each = flip_count() / ROTTING.len();
    let (file, object) = put_many_stripes(&mesh, each + 10, &mut random);
    // The bits turn while the nodes run.
    for index in ROTTING {
        restart_gently(&mut mesh, index);
        let before = metric(&mesh, index, "datamesh_store_items", &[]);
        assert!(before >= u64::try_from(each).expect("it fits"), "{before} items");
        flip_bits(&mesh.nodes[index].home, each, &mut random);
    }
    let rotten = |mesh: &Mesh, index: usize| metric(mesh, index, "datamesh_store_rotten", &[]);
    // The control: a node that reads its items within a month has not come to these.
    thread::sleep(Duration::from_secs(4));
    assert_eq!(ROTTING.map(|index| rotten(&mesh, index)), [0, 0]);
    let begun = Instant::now();
    // Both at once: what one of them finds while it repairs what the other has found counts too.
    for index in ROTTING {
        json(&mesh.nodes[index].home, &["config", "set", "storage.scrub_period", "3s"]);
        stop_gently(&mut mesh, index);
    }
    ROTTING.iter().for_each(|index| mesh.nodes[*index].restart());
    mesh.wait_for_nodes(NODES);
    // Some are found by those who read them to repair the others.
    let expected = [u64::try_from(each).expect("it fits"); 2];
    wait_until("all rot is found", whole_within(), || ROTTING.map(|index| rotten(&mesh, index)) == expected);
    println!(
        "{} bits turned on two nodes, each in another record: all found in {:.1} s",
        2 * each,
        begun.elapsed().as_secs_f64()
    );
    wait_until("all is whole", whole_within(), || score(&mesh, &object) >= 1.0);
    println!("all made whole after {:.1} s", begun.elapsed().as_secs_f64());
    for index in ROTTING {
        let passes = metric(&mesh, index, "datamesh_scrub_passes", &[]);
        wait_until("another pass", whole_within(), || {
            metric(&mesh, index, "datamesh_scrub_passes", &[]) > passes + 1
        });
    }
    assert_eq!(ROTTING.map(|index| rotten(&mesh, index)), expected, "further passes find nothing more");
    let out = mesh.path("out");
    json(&mesh.client, &["get", "--force", &object, out.to_str().expect("UTF-8")]);
    assert!(same_bytes(&file, &out));
}

/// Stops a node in good order, so that it has nothing to recover when it starts and reads nothing again.
fn stop_gently(mesh: &mut Mesh, index: usize) {
    let mut child = mesh.nodes[index].child.take().expect("it runs");
    let interrupted = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.expect("kill can be run").success());
    child.wait().expect("a child can be waited for");
}

fn restart_gently(mesh: &mut Mesh, index: usize) {
    stop_gently(mesh, index);
    mesh.nodes[index].restart();
    mesh.wait_for_nodes(NODES);
}

/// What can happen to the files of a node that does not run.
#[derive(Debug, Clone, Copy)]
enum Damage {
    HeaderOfEverySegment,
    HeadersAndIndex,
    SegmentCut,
    SegmentEmptied,
    SegmentRemoved,
    IndexTurned,
    IndexCut,
    IndexEmptied,
}

const DAMAGES: [Damage; 8] = [
    Damage::HeaderOfEverySegment,
    Damage::HeadersAndIndex,
    Damage::SegmentCut,
    Damage::SegmentEmptied,
    Damage::SegmentRemoved,
    Damage::IndexTurned,
    Damage::IndexCut,
    Damage::IndexEmptied,
];

impl Damage {
    fn done_to(self, home: &Path, random: &mut Random) {
        let segment = segments_of(home).remove(0);
        let cut = |path: &Path, percent: u64| {
            let file = fs::File::options().write(true).open(path).expect("it opens");
            let size = file.metadata().expect("there").len();
            file.set_len(size * percent / 100).expect("cut");
        };
        match self {
            Self::HeaderOfEverySegment => segments_of(home).iter().for_each(|path| turn(path, 8, 80, random)),
            Self::HeadersAndIndex => {
                segments_of(home).iter().for_each(|path| turn(path, 8, 80, random));
                cut(&index_of(home), 0);
            }
            Self::SegmentCut => cut(&segment, 50),
            Self::SegmentEmptied => cut(&segment, 0),
            Self::SegmentRemoved => fs::remove_file(&segment).expect("it is there"),
            Self::IndexTurned => turn_used(&index_of(home), 40, random),
            Self::IndexCut => cut(&index_of(home), 50),
            Self::IndexEmptied => cut(&index_of(home), 0),
        }
    }
}

/// Turns a bit somewhere in a range of a file.
fn turn(path: &Path, from: u64, to: u64, random: &mut Random) {
    let file = fs::File::options().read(true).write(true).open(path).expect("it opens");
    let at = from + random.below(to - from);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("readable");
    byte[0] ^= 1 << random.below(8);
    file.write_all_at(&byte, at).expect("written");
}

/// Longer than a node of these tests takes for a scrub.
const SCRUB_PASS: Duration = Duration::from_secs(5);

/// Turns bits of bytes that are not zero.
fn turn_used(path: &Path, count: usize, random: &mut Random) {
    let content = fs::read(path).expect("readable");
    let used: Vec<usize> = (0..content.len()).filter(|at| content[*at] != 0).collect();
    for _ in 0..count {
        let place =
            usize::try_from(random.below(u64::try_from(used.len()).expect("it fits"))).expect("it fits");
        let at = u64::try_from(used[place]).expect("it fits");
        turn(path, at, at + 1, random);
    }
}

#[test]
fn a_node_starts_whatever_has_happened_to_its_files_and_what_it_lost_is_made_again() {
    let mut mesh = Mesh::start_with(NODES, &HASTY);
    let mut objects = Objects::new(102);
    let mut random = Random(103);
    objects.put_whole(&mesh, 3, 3 * MIB);
    objects.put_whole(&mesh, 3, 20_000);
    let mut told = BTreeMap::new();
    for (round, damage) in DAMAGES.into_iter().enumerate() {
        let index = 1 + round % (NODES - 1);
        stop_gently(&mut mesh, index);
        damage.done_to(&mesh.nodes[index].home, &mut random);
        mesh.nodes[index].restart();
        mesh.wait_for_nodes(NODES);
        let of = |name: &str| metric(&mesh, index, name, &[]);
        let names = ["indexes_rebuilt", "headers_mended", "segments_set_aside"];
        let counts: Vec<u64> = names.iter().map(|name| of(&format!("datamesh_store_{name}"))).collect();
        // Nobody looks from outside before the nodes have noticed by themselves; then everything is read.
        let took = objects.wait_until_whole(&mesh, &format!("{damage:?}"), whole_within());
        println!("{damage:?}: whole after {:.1} s; {names:?} {counts:?}", took.as_secs_f64());
        assert!(counts.iter().sum::<u64>() > 0, "{damage:?}: the node says what it found");
        told.insert(format!("{damage:?}"), counts);
    }
    assert_eq!(told["HeaderOfEverySegment"], [0, 1, 0], "the index knows the key, and nothing is lost");
    assert_eq!(told["HeadersAndIndex"][2], 1, "nothing is left to read them with");
    objects.read_back(&mesh);
    mesh.nodes[0].kill();
    mesh.nodes[0].restart();
    mesh.wait_for_nodes(NODES);
    let untouched = metric(&mesh, 0, "datamesh_store_indexes_rebuilt", &[]);
    assert_eq!(untouched, 0, "a node whose files are as they were has nothing to tell");
}

#[test]
fn an_index_and_a_release_that_rot_under_a_running_node_are_made_anew() {
    let mut mesh = Mesh::start_with(NODES, &HASTY);
    let mut objects = Objects::new(104);
    let mut random = Random(105);
    objects.put_whole(&mesh, 3, 2 * MIB);
    objects.put_whole(&mesh, 4, 20_000);
    let deleted = objects.list.remove(0).1;
    json(&mesh.client, &["delete", &deleted]);
    let (sick, control) = (3, 2);
    json(&mesh.nodes[sick].home, &["config", "set", "storage.scrub_period", "3s"]);
    restart_gently(&mut mesh, sick);
    restart_gently(&mut mesh, control);
    let of =
        |mesh: &Mesh, index: usize, name: &str| metric(mesh, index, &format!("datamesh_store_{name}"), &[]);
    assert_eq!(of(&mesh, sick, "indexes_rebuilt"), 0);
    // The release is the last record: nothing was stored since.
    for index in [sick, control] {
        let home = mesh.nodes[index].home.clone();
        let segment = segments_of(&home).pop().expect("it has items");
        let content = fs::read(&segment).expect("readable");
        let release = records(&content).into_iter().rev().find(|record| content[record.start + 4] == 3);
        let release = release.expect("the node was told of the release");
        let from = u64::try_from(release.start).expect("it fits");
        turn(&segment, from, from + 100, &mut random);
    }
    wait_until("the release is written again", whole_within(), || of(&mesh, sick, "releases_mended") > 0);
    assert_eq!(of(&mesh, control, "releases_mended"), 0, "a node that looks within a month has not looked");
    for index in [sick, control] {
        turn_used(&index_of(&mesh.nodes[index].home), 40, &mut random);
    }
    // Most of a small index are pages that nothing is read from any more: then a pass rightly finds nothing.
    let mut turned = Instant::now();
    wait_until("the index is made anew", whole_within(), || {
        let found = of(&mesh, sick, "indexes_rebuilt") > 0;
        if !found && turned.elapsed() > SCRUB_PASS {
            turn_used(&index_of(&mesh.nodes[sick].home), 40, &mut random);
            turned = Instant::now();
        }
        found
    });
    assert_eq!(of(&mesh, control, "indexes_rebuilt"), 0, "a node that looks within a month has not looked");
    objects.wait_until_whole(&mesh, "a rotten index", whole_within());
    objects.read_back(&mesh);
    // Without its index, and with the release turned: what was deleted is not held again.
    mesh.nodes[sick].kill();
    fs::remove_file(index_of(&mesh.nodes[sick].home)).expect("it is there");
    mesh.nodes[sick].restart();
    mesh.wait_for_nodes(NODES);
    let got = run(&mesh.client, &["get", &deleted, mesh.path("gone").to_str().expect("UTF-8")]);
    assert!(!got.status.success(), "{}", text(&got.stdout));
    objects.wait_until_whole(&mesh, "without the index", whole_within());
}
