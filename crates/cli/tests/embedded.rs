//! The embedded mesh: the same commands with no network and no other process.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use support::{
    Random, datamesh, failure, field, files_below, json, json_lines, number, run, same_bytes, text,
    wait_with_output,
};

/// A home, and a folder beside it for files.
struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a file can be written");
        path_text(&path)
    }

    fn put(&self, arguments: &[&str]) -> serde_json::Value {
        let arguments: Vec<&str> = ["put"].iter().chain(arguments).copied().collect();
        json(&self.home(), &arguments).remove(0)
    }

    /// Gets an object, and says what came.
    fn get(&self, arguments: &[&str]) -> Vec<u8> {
        let out = path_text(&self.path("out"));
        let arguments: Vec<&str> =
            ["get", "--force"].iter().chain(arguments).copied().chain([out.as_str()]).collect();
        json(&self.home(), &arguments);
        fs::read(out).expect("it was written")
    }
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn objects_of_every_awkward_size_come_back() {
    let desk = Desk::new();
    let mut random = Random(1);
    for mode in ["sealed", "dedup", "public"] {
        for size in [0, 1, 65_471, 65_504, 65_536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000] {
            let bytes = random.bytes(size);
            let file = desk.file("file", &bytes);
            let put = desk.put(&["--mode", mode, &file]);
            assert_eq!(put["size"], size, "{put}");
            assert_eq!(field(&put, "acknowledged"), "whole", "{put}");
            assert_eq!(desk.get(&["--verify", field(&put, "object")]), bytes, "{mode} {size}");
        }
    }
}

#[test]
fn compressible_objects_come_back_and_take_less() {
    let desk = Desk::new();
    let bytes = b"the quick brown fox jumps over the lazy dog; ".repeat(100_000);
    let file = desk.file("text", &bytes);
    let put = desk.put(&["--compression", "zstd:3", &file]);
    assert_eq!(desk.get(&[field(&put, "object")]), bytes);
    assert!(put["stored_size"].as_u64() < put["size"].as_u64(), "{put}");
}

#[test]
fn every_chunking_mode_and_redundancy_comes_back() {
    let desk = Desk::new();
    let bytes = Random(2).bytes(3_333_333);
    let file = desk.file("file", &bytes);
    for chunking in ["fixed", "cdc"] {
        for scheme in ["1+1", "1+2", "2+2", "4+2", "3+3", "5+1"] {
            let put = desk.put(&["--chunking", chunking, "--scheme", scheme, &file]);
            assert_eq!(field(&put, "scheme"), scheme);
            assert_eq!(desk.get(&[field(&put, "object")]), bytes, "{chunking} {scheme}");
        }
    }
}

#[test]
fn a_range_is_the_bytes_of_the_range() {
    let desk = Desk::new();
    let bytes = Random(3).bytes(4_500_000);
    let file = desk.file("file", &bytes);
    for chunking in ["fixed", "cdc"] {
        let put = desk.put(&["--chunking", chunking, &file]);
        let object = field(&put, "object");
        let ranges = [
            (0, 0),
            (0, 1),
            (5, 1_048_575),
            (1_048_575, 1_048_577),
            (2_000_000, 4_499_999),
            (4_499_999, 4_499_999),
        ];
        for (first, last) in ranges {
            let range = format!("{first}-{last}");
            assert_eq!(desk.get(&["--range", &range, object]), bytes[first..=last], "{chunking} {range}");
        }
        assert_eq!(desk.get(&["--range", "4000000-", object]), bytes[4_000_000..]);
        failure(
            &desk.home(),
            &["get", "--force", "--range", "9-3", object, &path_text(&desk.path("out"))],
            2,
        );
    }
}

#[test]
fn standard_input_and_output_are_files_too() {
    let desk = Desk::new();
    let bytes = Random(4).bytes(2_000_000);
    let file = desk.file("file", &bytes);
    let mut put = datamesh(&desk.home());
    put.args(["--json", "put", "--name", "piped", "-"]).stdin(fs::File::open(file).expect("it opens"));
    let put = put.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let output = wait_with_output(put, &["put", "-"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let out = run(&desk.home(), &["get", "piped", "-"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(out.stdout, bytes);
}

#[test]
fn a_folder_comes_back_with_its_links_modes_and_empty_corners() {
    let desk = Desk::new();
    let folder = desk.path("folder");
    fs::create_dir_all(folder.join("a/b/c")).expect("made");
    fs::create_dir_all(folder.join("empty")).expect("made");
    fs::write(folder.join("a/one"), b"1").expect("written");
    fs::write(folder.join("a/b/big"), Random(5).bytes(1_500_000)).expect("written");
    fs::write(folder.join("a/b/c/none"), b"").expect("written");
    symlink("one", folder.join("a/link")).expect("linked");
    let script = folder.join("a/script");
    fs::write(&script, b"#!/bin/sh\n").expect("written");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");

    failure(&desk.home(), &["put", &path_text(&folder)], 2);
    let put = desk.put(&["-r", &path_text(&folder)]);
    let out = desk.path("out-folder");
    json(&desk.home(), &["get", field(&put, "object"), &path_text(&out)]);
    assert_eq!(files_below(&folder), files_below(&out));
    for file in files_below(&folder).iter().filter(|file| !folder.join(file).is_symlink()) {
        assert!(same_bytes(&folder.join(file), &out.join(file)), "{}", file.display());
    }
    assert_eq!(fs::read_link(out.join("a/link")).expect("a link"), Path::new("one"));
    assert_eq!(fs::metadata(out.join("a/script")).expect("there").mode() & 0o777, 0o755);
    assert!(out.join("empty").is_dir());
}

#[test]
fn an_object_is_listed_described_and_deleted() {
    let desk = Desk::new();
    let file = desk.file("file", &Random(6).bytes(2_500_000));
    let put = desk.put(&["--name", "holiday", "--type", "image/jpeg", "--meta", "place=here", &file]);
    let object = field(&put, "object");
    let home = desk.home();

    let listed = json(&home, &["list"]);
    assert_eq!(listed.len(), 1);
    assert_eq!(field(&listed[0], "name"), "holiday");
    let info = json(&home, &["info", "holiday"]).remove(0);
    assert_eq!(field(&info, "object"), object);
    assert_eq!(field(&info, "media_type"), "image/jpeg");
    assert_eq!(info["metadata"]["place"], "here");
    assert_eq!(info["score"], 1.0);
    assert_eq!(info["survives_domains"], 2);
    let stats = json(&home, &["stats"]).remove(0);
    assert_eq!(stats["object_count"], 1);
    assert_eq!(stats["size"], 2_500_000);

    json(&home, &["delete", object]);
    assert!(json(&home, &["list"]).is_empty());
    failure(&home, &["get", object, &path_text(&desk.path("gone"))], 3);
}

#[test]
fn an_object_put_twice_with_dedup_outlives_the_deletion_of_one() {
    let desk = Desk::new();
    let bytes = Random(7).bytes(2_500_000);
    let file = desk.file("file", &bytes);
    let first = desk.put(&["--mode", "dedup", "--name", "first", &file]);
    let second = desk.put(&["--mode", "dedup", "--name", "second", &file]);
    json(&desk.home(), &["delete", field(&first, "object")]);
    assert_eq!(desk.get(&[field(&second, "object")]), bytes);
}

#[test]
fn two_lost_disks_are_survived_and_repaired() {
    let desk = Desk::new();
    let bytes = Random(8).bytes(3_000_000);
    let file = desk.file("file", &bytes);
    let put = desk.put(&[&file]);
    let object = field(&put, "object");
    let disks = desk.home().join("disks");
    let mut names: Vec<PathBuf> =
        fs::read_dir(&disks).expect("disks").map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    assert_eq!(names.len(), 6);
    for lost in &names[..2] {
        for file in files_below(lost) {
            // The disk is replaced by an empty one; its identity is that of the slot it is in.
            if file.file_name().is_none_or(|name| name != "node.key") {
                fs::remove_file(lost.join(file)).expect("removed");
            }
        }
    }
    assert_eq!(desk.get(&[object]), bytes);
    let before = json(&desk.home(), &["verify", object]).remove(0);
    assert!(before["score"].as_f64().is_some_and(|score| score < 1.0), "{before}");
    json(&desk.home(), &["repair", object]);
    let after = json(&desk.home(), &["verify", "--deep", object]).remove(0);
    assert_eq!(after["score"], 1.0, "{after}");
}

#[test]
fn rot_is_found_survived_and_repaired() {
    let desk = Desk::new();
    let bytes = Random(9).bytes(1_000_000);
    let file = desk.file("file", &bytes);
    let put = desk.put(&[&file]);
    let object = field(&put, "object");
    let disk = desk.home().join("disks");
    let segment = files_below(&disk)
        .into_iter()
        .map(|file| disk.join(file))
        .filter(|file| fs::metadata(file).expect("there").len() > 200_000)
        .find(|file| !file.to_string_lossy().contains("index"))
        .expect("a segment with a shard in it");
    let mut rotten = fs::read(&segment).expect("readable");
    let middle = rotten.len() / 2;
    rotten[middle] ^= 1;
    fs::write(&segment, rotten).expect("writable");
    assert_eq!(desk.get(&[object]), bytes);
    let found = json(&desk.home(), &["verify", "--deep", object]).remove(0);
    assert!(found["score"].as_f64().is_some_and(|score| score < 1.0), "{found}");
    // The node was told, looked, and does not say any more that it has the shard.
    let forgotten = json(&desk.home(), &["verify", object]).remove(0);
    assert!(forgotten["score"].as_f64().is_some_and(|score| score < 1.0), "{forgotten}");
    json(&desk.home(), &["repair", object]);
    let after = json(&desk.home(), &["verify", "--deep", object]).remove(0);
    assert_eq!(after["score"], 1.0, "{after}");
}

#[test]
fn gc_gives_back_the_space_of_what_was_deleted_and_of_nothing_else() {
    let desk = Desk::new();
    let mut random = Random(9);
    let kept = random.bytes(3 << 20);
    let kept_object = desk.put(&[&desk.file("kept", &kept)]);
    desk.put(&["--name", "deleted", &desk.file("deleted", &random.bytes(96 << 20))]);
    let size = || -> u64 {
        let home = desk.home();
        files_below(&home).iter().map(|file| fs::metadata(home.join(file)).map_or(0, |one| one.len())).sum()
    };
    let collect = || json(&desk.home(), &["gc"]).remove(0);
    assert_eq!(collect()["size"], 0, "nothing is garbage yet");
    let before = size();
    json(&desk.home(), &["delete", "deleted"]);
    assert!(collect()["size"].as_u64().expect("a size") > 96 << 20);
    assert!(size() < before / 8, "{} of {before} bytes are left", size());
    assert_eq!(desk.get(&[field(&kept_object, "object")]), kept);
}

#[test]
fn the_first_rule_of_the_policy_that_matches_chooses_the_scheme() {
    let desk = Desk::new();
    let (small, large) = (desk.file("small.jpg", &[1; 100_000]), desk.file("large.tar", &vec![2; 3 << 20]));
    let rules = "type=image/* scheme=1+2,name=*.tar size>1MiB scheme=3+2,size>50kB scheme=2+1,scheme=1+1";
    json(&desk.home(), &["config", "set", "put.policy", rules]);
    let scheme = |arguments: &[&str]| {
        let put = desk.put(arguments);
        (field(&put, "scheme").to_owned(), put["policy"].as_str().map(str::to_owned))
    };
    let by = |scheme: &str, rule: &str| (scheme.to_owned(), Some(rule.to_owned()));
    assert_eq!(scheme(&["--type", "image/jpeg", &small]), by("1+2", "type=image/* scheme=1+2"));
    assert_eq!(scheme(&[&small]), by("2+1", "size>50KB scheme=2+1"));
    assert_eq!(scheme(&[&large]), by("3+2", "name=*.tar size>1MiB scheme=3+2"));
    assert_eq!(scheme(&["--name", "large", &large]), by("2+1", "size>50KB scheme=2+1"));
    assert_eq!(scheme(&["--scheme", "4+1", &large]), ("4+1".to_owned(), None), "who asks for one gets it");
    let output = run(&desk.home(), &["put", &large]);
    assert!(text(&output.stdout).contains("3+2, by rule 2 of put.policy"), "{}", text(&output.stdout));
    assert_eq!(desk.get(&[field(&desk.put(&[&large]), "object")]), vec![2; 3 << 20]);

    json(&desk.home(), &["config", "set", "put.policy", ""]);
    assert_eq!(scheme(&[&small]), ("4+2".to_owned(), None));
    let refused = failure(&desk.home(), &["config", "set", "put.policy", "kind=image scheme=4+2"], 2);
    assert!(field(&refused, "message").contains("kind=image"), "{refused}");
}

/// The numbers of three disks that are not all that hold some block of an object's manifest.
fn three_disks(home: &Path, object: &str) -> [String; 3] {
    let info = json(home, &["info", object]).remove(0);
    let blocks = info["manifest"].as_array().expect("blocks");
    let numbers: BTreeMap<String, String> = json(home, &["peers"])
        .iter()
        .map(|peer| {
            let number = field(peer, "domain").rsplit(' ').next().expect("a disk and its number");
            (field(peer, "peer_id").to_owned(), number.to_owned())
        })
        .collect();
    let disks: Vec<&String> = numbers.keys().collect();
    let keeps_one = |lost: &[&String; 3]| {
        blocks.iter().all(|block| {
            let mut nodes = block["nodes"].as_array().expect("nodes").iter();
            nodes.any(|node| lost.iter().all(|lost| node != lost.as_str()))
        })
    };
    let mut sets = disks[2..].iter().map(|third| [disks[0], disks[1], *third]);
    sets.find(keeps_one).expect("there are fewer blocks than sets").map(|disk| numbers[disk].clone())
}

#[test]
fn health_says_how_what_lies_in_the_home_stands() {
    let desk = Desk::new();
    let health = || json(&desk.home(), &["health"]).remove(0);
    let check = || run(&desk.home(), &["health", "--check"]).status.code();
    let shown = |field_name: &str, health: &serde_json::Value| number(&health["standing"], field_name);
    let empty = health();
    assert_eq!((shown("groups_unknown", &empty), shown("subjects", &empty)), (0, 0), "{empty}");
    assert_eq!(field(&empty["standing"], "words"), "nothing is stored, as far as is known");

    let file = desk.file("file", &Random(7).bytes(5 << 20));
    let put = desk.put(&["--scheme", "4+2", &file]);
    let whole = health();
    assert!(shown("subjects", &whole) > 3, "{whole}");
    assert_eq!(shown("whole", &whole), shown("subjects", &whole), "{whole}");
    assert_eq!(
        field(&whole["standing"], "words"),
        "every stripe and block is whole and survives the loss of any 2 more nodes"
    );
    assert_eq!((&whole["alerts"], check()), (&serde_json::json!([]), Some(0)));
    let words = text(&run(&desk.home(), &["health"]).stdout);
    assert!(!words.contains("unknown") && words.contains("survives"), "{words}");

    let disks = three_disks(&desk.home(), field(&put, "object"));
    let items = |disk: usize| desk.home().join(format!("disks/{}/items", disks[disk]));
    // What a disk held is gone, and its key is not.
    for (disk, level, code, least) in
        [(0, "WARNING", 1, 0.75), (1, "CRITICAL", 4, 0.5), (2, "LOST", 4, 0.375)]
    {
        fs::rename(items(disk), desk.path(&format!("items-{disk}"))).expect("it can be moved away");
        let short = health();
        let alert = &short["alerts"][0];
        assert_eq!((field(alert, "level"), field(alert, "cause")), (level, "availability"), "{short}");
        assert!(field(alert, "advice").contains("datamesh repair"), "{alert}");
        assert_eq!((&alert["since"], check()), (&serde_json::Value::Null, Some(code)));
        assert_eq!(short["standing"]["least_score"].as_f64(), Some(least), "{short}");
        assert!(shown("whole", &short) < shown("subjects", &short), "{short}");
        assert_eq!((shown("groups_unknown", &short), shown("doubtful", &short)), (0, 0), "{short}");
        let verified = run(&desk.home(), &["--json", "verify", field(&put, "object")]).stdout;
        let verified = json_lines(&verified).remove(0);
        assert_eq!(verified["score"].as_f64(), Some(least), "verify says the same: {verified}");
    }
    fs::remove_dir_all(items(2)).expect("what is new there can go");
    fs::rename(desk.path("items-2"), items(2)).expect("it can be moved back");
    json(&desk.home(), &["repair", field(&put, "object")]);
    let again = health();
    assert_eq!(shown("whole", &again), shown("subjects", &again), "{again}");
    assert_eq!(check(), Some(0));
}
