//! What is wrong with a mesh is told to a command, to a web address and by `health`, and told again when it is over.

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::clock::clock_off;
use support::web::WebServer;
use support::{Mesh, Node, Random, field, json, json_lines, number, run, text};

/// How soon what is wrong must be told, and how soon that it is over.
const TOLD_WITHIN: Duration = Duration::from_secs(90);

/// What the notices of one node say of one trouble: change and level, in order.
fn history(notices: &[Value], node: &str, key: &str) -> Vec<String> {
    let of_it = notices.iter().filter(|notice| field(notice, "node") == node && field(notice, "key") == key);
    of_it.map(|notice| format!("{} {}", field(notice, "change"), field(notice, "level"))).collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < TOLD_WITHIN, "not in time: {what}");
        thread::sleep(Duration::from_millis(200));
    }
    println!("{what}: after {:.1} s", begun.elapsed().as_secs_f64());
}

/// A mesh that notices within seconds and tells this server, and what its commands write.
fn mesh(node_count: usize, grace: &str, server: &WebServer, told: &Path) -> Mesh {
    let command = format!("cat >> {0}; echo >> {0}; sleep 600", told.display());
    let settings = [
        ("placement.grace", grace),
        ("repair.check_every", "1s"),
        ("repair.settle", "2s"),
        ("health.check_every", "500ms"),
        ("alerts.raise_after", "1s"),
        ("alerts.clear_after", "3s"),
        ("alerts.command", &command),
        // It hangs each time, and is killed: the next notice finds the way free again.
        ("alerts.command_timeout", "300ms"),
        ("alerts.webhook", &server.address),
    ];
    Mesh::start_with(node_count, &settings)
}

fn put(mesh: &Mesh, count: u64) -> Vec<String> {
    let mut random = Random(83);
    let files = (0..count).map(|index| {
        let path = mesh.path(&format!("file {index}"));
        random.file(&path, (2 << 20) + 17 * index);
        let put = json(&mesh.client, &["put", "--scheme", "4+2", path.to_str().expect("UTF-8")]).remove(0);
        assert_eq!(field(&put, "acknowledged"), "whole");
        field(&put, "object").to_owned()
    });
    files.collect()
}

fn health(mesh: &Mesh) -> Value {
    json(&mesh.client, &["health"]).remove(0)
}

fn check(mesh: &Mesh) -> Option<i32> {
    run(&mesh.client, &["health", "--check"]).status.code()
}

/// The notices that commands have written.
fn commanded(told: &PathBuf) -> Vec<Value> {
    fs::read(told).map(|bytes| json_lines(&bytes)).unwrap_or_default()
}

#[test]
fn losses_are_told_as_they_grow_and_as_they_are_made_good() {
    let server = WebServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let told = folder.path().join("told");
    // So long a grace that nothing is repaired meanwhile.
    let mut mesh = mesh(6, "1h", &server, &told);
    let objects = put(&mesh, 6);
    wait_until("all groups are known, and all is whole", || {
        let health = health(&mesh);
        let standing = &health["standing"];
        number(standing, "groups_unknown") == 0
            && number(standing, "groups_doubled") == 0
            && number(standing, "subjects") > 12
            && number(standing, "whole") == number(standing, "subjects")
    });
    let words = field(&health(&mesh)["standing"], "words").to_owned();
    assert_eq!(words, "every stripe and block is whole and survives the loss of any 2 more nodes");
    assert_eq!(check(&mesh), Some(0), "the control: nothing is wrong yet");
    assert_eq!(server.notices(), Vec::<Value>::new());

    let survivors: Vec<String> = mesh.nodes[..3].iter().map(|node| node.peer_id.clone()).collect();
    let mut expected = Vec::new();
    for (level, code) in [("raised WARNING", 1), ("worse CRITICAL", 4), ("worse LOST", 4)] {
        mesh.nodes.iter_mut().rev().find(|node| node.child.is_some()).expect("one is left").kill();
        expected.push(level.to_owned());
        let by_all = |notices: &[Value]| {
            survivors.iter().all(|node| history(notices, node, "availability") == expected)
        };
        wait_until(&format!("{level} by the web address"), || by_all(&server.notices()));
        wait_until(&format!("{level} by the command"), || by_all(&commanded(&told)));
        assert_eq!(check(&mesh), Some(code));
    }
    let shown = health(&mesh);
    let alerts = shown["alerts"].as_array().expect("alerts");
    let lost = alerts.iter().find(|alert| field(alert, "cause") == "availability").expect("it is shown");
    assert_eq!((field(lost, "level"), field(lost, "action")), ("LOST", "bring_nodes_back"));
    assert_eq!(lost["nodes"].as_array().map(Vec::len), Some(3), "one alert, told by three");
    assert!(number(&shown["standing"], "lost") > 0 && number(&shown["standing"], "doubtful") > 0);
    assert_eq!(alerts.iter().filter(|alert| field(alert, "cause") == "silent").count(), 3, "{shown}");
    assert_eq!(server.refused(), 1, "what was refused once was posted again");

    let info = run(&mesh.client, &["info", &objects[0]]);
    assert!(text(&info.stdout).contains("LOST") || !info.status.success(), "{}", text(&info.stdout));
    for node in &mut mesh.nodes[3..] {
        node.restart();
    }
    let over = |notices: &[Value], node: &str| {
        history(notices, node, "availability").last().is_some_and(|last| last.starts_with("cleared"))
    };
    wait_until("it is over", || survivors.iter().all(|node| over(&server.notices(), node)));
    wait_until("nothing is wrong any more", || check(&mesh) == Some(0));
}

#[test]
fn what_repair_makes_good_is_over_without_anyone_coming_back() {
    let server = WebServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let told = folder.path().join("told");
    let mut mesh = mesh(8, "8s", &server, &told);
    put(&mesh, 6);
    for _ in 0..2 {
        let mut lost = mesh.nodes.pop().expect("eight");
        lost.kill();
        fs::remove_dir_all(&lost.home).expect("its disk is gone");
    }
    let some = |wanted: &str| {
        let notices = server.notices();
        mesh.nodes.iter().any(|node| {
            history(&notices, &node.peer_id, "availability").iter().any(|told| told.ends_with(wanted))
        })
    };
    wait_until("CRITICAL", || some("CRITICAL"));
    wait_until("all is whole again", || {
        let standing = &health(&mesh)["standing"];
        number(standing, "groups_unknown") == 0 && number(standing, "whole") == number(standing, "subjects")
    });
    wait_until("each node that told of it tells that it is over", || {
        let notices = server.notices();
        let histories = mesh.nodes.iter().map(|node| history(&notices, &node.peer_id, "availability"));
        histories
            .filter(|told| !told.is_empty())
            .all(|told| told.last().is_some_and(|last| last.starts_with("cleared")))
    });
    assert!(!server.notices().iter().any(|notice| field(notice, "level") == "LOST"), "nothing was lost");
}

#[test]
fn a_node_that_hears_nobody_for_longer_than_the_grace_says_that_it_is_cut_off() {
    let server = WebServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let mut mesh = mesh(4, "6s", &server, &folder.path().join("told"));
    let alone = mesh.nodes[0].peer_id.clone();
    let last = |key: &str| history(&server.notices(), &alone, key).pop();
    mesh.nodes[3].kill();
    wait_until("one that is silent is told of", || {
        last(&format!("silent {}", mesh.nodes[3].peer_id)).is_some_and(|told| told == "raised WARNING")
    });
    assert_eq!(last("cut-off"), None, "the control: it hears the others");
    mesh.nodes[1..3].iter_mut().for_each(Node::kill);
    wait_until("it says that it is cut off", || {
        last("cut-off").is_some_and(|told| told == "raised CRITICAL")
    });
    mesh.nodes[1..].iter_mut().for_each(Node::restart);
    wait_until("and that it is no more", || last("cut-off").is_some_and(|told| told == "cleared CRITICAL"));
}

#[test]
fn a_node_whose_clock_is_off_says_so() {
    let server = WebServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let mut mesh = mesh(4, "1h", &server, &folder.path().join("told"));
    let skewed = |mesh: &Mesh| {
        let alerts = health(mesh)["alerts"].as_array().expect("alerts").clone();
        let skews = alerts.into_iter().filter(|alert| field(alert, "cause") == "clock-skew");
        skews.map(|alert| (alert["level"].clone(), alert["nodes"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(skewed(&mesh), [], "the control: all clocks agree");
    let off = mesh.nodes[2].peer_id.clone();
    for (by, level) in [("+2m", "WARNING"), ("-7m", "CRITICAL")] {
        mesh.nodes[2].kill();
        mesh.nodes[2].wrapper = clock_off(by);
        mesh.nodes[2].restart();
        let expected = [(Value::from(level), Value::from(vec![off.clone()]))];
        wait_until(&format!("{by} is {level}"), || skewed(&mesh) == expected);
        let raised = format!("raised {level}");
        wait_until("it is told", || history(&server.notices(), &off, "clock-skew").contains(&raised));
    }
    mesh.nodes[2].kill();
    mesh.nodes[2].wrapper = Vec::new();
    mesh.nodes[2].restart();
    mesh.wait_for_nodes(4);
    wait_until("its clock is right", || skewed(&mesh).is_empty());
    let told = history(&server.notices(), &off, "clock-skew");
    assert_eq!(told, ["raised WARNING", "raised CRITICAL"], "each of its lives tells once");
    let others = server.notices();
    assert!(others.iter().all(|notice| field(notice, "key") != "clock-skew" || field(notice, "node") == off));
}

#[test]
fn repairs_for_which_no_node_is_left_are_told_of() {
    let server = WebServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let mut mesh = mesh(6, "6s", &server, &folder.path().join("told"));
    put(&mesh, 10);
    let told = |mesh: &Mesh| {
        let notices = server.notices();
        mesh.nodes.iter().any(|node| history(&notices, &node.peer_id, "repairs-fail") == ["raised WARNING"])
    };
    assert!(!told(&mesh), "the control: nothing is to be repaired");
    // Five nodes are left for stripes of six shards.
    mesh.nodes.pop().expect("six").kill();
    wait_until("repairs fail", || told(&mesh));
}

/// Turns bits in the segments of a node, some each second, until something holds.
fn rot_until(what: &str, mesh: &Mesh, index: usize, mut holds: impl FnMut() -> bool) {
    let mut random = Random(89);
    wait_until(what, || {
        let home = &mesh.nodes[index].home;
        let segments = support::files_below(home).into_iter();
        for segment in segments.filter(|file| file.to_string_lossy().contains("segment-")) {
            let file = fs::File::options().read(true).write(true).open(home.join(segment)).expect("it opens");
            let size = file.metadata().expect("there").len();
            let at = 4096 + random.below(size.saturating_sub(4096).max(1));
            let mut byte = [0];
            if file.read_exact_at(&mut byte, at).is_ok() {
                byte[0] ^= 16;
                file.write_all_at(&byte, at).expect("written");
            }
        }
        holds()
    });
}

#[test]
fn a_node_whose_disk_rots_more_and_more_is_told_of_and_drains_itself_where_it_is_to() {
    let settings = [
        ("placement.grace", "1h"),
        ("repair.check_every", "1s"),
        ("repair.settle", "2s"),
        ("storage.scrub_period", "2s"),
        ("health.check_every", "500ms"),
        ("alerts.raise_after", "500ms"),
        ("health.drain_failing", "on"),
    ];
    let mut mesh = Mesh::start_with(8, &settings);
    let (control, failing) = (5, 3);
    json(&mesh.nodes[control].home, &["config", "set", "health.drain_failing", "off"]);
    mesh.nodes[control].kill();
    mesh.nodes[control].restart();
    mesh.wait_for_nodes(8);
    let objects = put(&mesh, 8);
    let told = |index: usize| {
        let health = health(&mesh);
        let alerts = health["alerts"].as_array().expect("alerts").clone();
        let words = format!("node {} is about to fail: more and more rotten", mesh.nodes[index].peer_id);
        alerts.iter().any(|alert| field(alert, "message").starts_with(&words))
    };
    let state = |index: usize| {
        let peers = json(&mesh.client, &["peers"]);
        let peer = peers.into_iter().find(|peer| field(peer, "peer_id") == mesh.nodes[index].peer_id);
        let peer = peer.expect("it is known");
        (field(&peer, "state").to_owned(), peer["item_count"].as_u64())
    };
    rot_until("told of one that is not to drain", &mesh, control, || told(control));
    assert_eq!(state(control).0, "active", "the control: it is not to drain");
    rot_until("told of one that is to drain", &mesh, failing, || told(failing));
    wait_until("it has given all away", || state(failing) == ("draining".to_owned(), Some(0)));
    assert_eq!(state(control).0, "active");
    let whole = |object: &String| {
        let verified = json(&mesh.client, &["verify", "--deep", object]).remove(0);
        verified["score"].as_f64().is_some_and(|score| score >= 1.0)
    };
    wait_until("all is whole without it", || objects.iter().all(whole));
}
