//! The dashboard in a browser, over six node processes and a gateway: what it says, how it is used, and what it looks like.

mod support;

#[path = "support/browser.rs"]
mod browser;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use browser::{Browser, Colours, SHOWN_WITHIN, Screen};
use fantoccini::key::Key;
use serde_json::{Value, json};
use support::gateway::Gateway;
use support::{Mesh, Random, field, number, same_bytes};

/// Where the nodes are.
const DOMAINS: [&str; 6] = [
    "europe/cellar/left",
    "europe/cellar/right",
    "europe/office/rack",
    "europe/office/shelf",
    "america/garage/new",
    "america/garage/old",
];
/// How long nodes may take to have looked at all that is stored.
const KNOWN_WITHIN: Duration = Duration::from_secs(60);
/// How soon the page must show that a node has died, or that one is back.
const LIVE_WITHIN: Duration = Duration::from_secs(30);
/// How often the key may be pressed that goes from one thing to the next, before what is looked for must have come.
const TABS_MAX: usize = 60;
/// Into how many stripes what is put by the command line is cut.
const STRIPES: u64 = 33;
/// What is put through the page: long enough that it is seen to move.
const UPLOAD_SIZE: u64 = 48_000_000;
/// What is dropped onto the page.
const DROPPED_SIZE: usize = 300_000;

/// A mesh, its gateway, and a browser that looks at it.
struct Stage {
    browser: Browser,
    gateway: Gateway,
    mesh: Mesh,
}

impl Stage {
    fn start() -> Self {
        let mut mesh = Mesh::empty();
        let settings = [
            // So long a grace that nothing is repaired meanwhile.
            ("placement.grace", "1h"),
            ("repair.check_every", "1s"),
            ("repair.settle", "2s"),
            ("health.check_every", "500ms"),
            ("alerts.raise_after", "1s"),
        ];
        for (number, domain) in DOMAINS.into_iter().enumerate() {
            let home = mesh.path(&format!("node-{number}"));
            for (key, value) in settings {
                support::json(&home, &["config", "set", key, value]);
            }
            let place = ["--listen", "/ip4/127.0.0.1/tcp/0", "--capacity", "128MiB", "--domain", domain];
            let entry = mesh.nodes.first().map(|node| node.address.clone());
            let begin = match &entry {
                None => vec!["bootstrap"],
                Some(address) => vec!["service", "--bootstrap", address],
            };
            let node = mesh.start_node(&home, &[begin, place.to_vec()].concat());
            mesh.nodes.push(node);
        }
        support::json(&mesh.client, &["join", &mesh.nodes[0].address]);
        mesh.wait_for_nodes(DOMAINS.len());
        let gateway = Gateway::start(&mesh.client);
        Self { browser: Browser::start(), gateway, mesh }
    }

    fn address(&self, view: &str) -> String {
        format!("{}/dashboard#/{view}", self.gateway.endpoint)
    }

    fn token(&self) -> String {
        format!("{}.{}", self.gateway.key.id, self.gateway.key.secret)
    }

    /// Opens the page and gets in as a person does.
    fn enter(&self) {
        self.browser.open(&self.address(""));
        self.browser.type_into("#token", &self.token());
        self.browser.click("button[type=submit]");
        self.browser
            .wait_until("all nodes are shown", "document.querySelectorAll('.tile.good').length === 6");
    }

    /// Goes to a view as a link does.
    fn go(&self, view: &str, shown: &str) {
        self.browser.run("location.hash = `#/${arguments[0]}`", &[view]);
        self.browser.wait_until(view, shown);
    }

    /// Puts objects by the command line, waits until the nodes know how they stand, and returns their ids.
    fn put(&self) -> Vec<String> {
        let mut random = Random(29);
        let objects = (0..3_u64).map(|index| {
            let path = self.mesh.path(&format!("object {index}"));
            random.file(&path, (2 << 20) + index * 9_000_001);
            let put =
                support::json(&self.mesh.client, &["put", "--scheme", "4+2", path.to_str().expect("UTF-8")]);
            field(&put[0], "object").to_owned()
        });
        let objects = objects.collect();
        self.browser.wait_for("all that is stored is known", KNOWN_WITHIN, || {
            let standing = &self.health()["standing"];
            number(standing, "groups_unknown") == 0
                && number(standing, "groups_doubled") == 0
                && number(standing, "subjects") > STRIPES
                && number(standing, "whole") == number(standing, "subjects")
        });
        objects
    }

    fn health(&self) -> Value {
        support::json(&self.mesh.client, &["health"]).remove(0)
    }

    /// What the command line says of the mesh and the page does not.
    fn unsaid(&self) -> Vec<String> {
        let peers = Value::from(support::json(&self.mesh.client, &["peers"]));
        let arguments = [self.health().to_string(), peers.to_string()];
        let found =
            self.browser.run(include_str!("dashboard/figures.js"), &arguments.each_ref().map(String::as_str));
        texts(&found)
    }

    /// Waits until the page says all that the command line says.
    fn wait_until_said(&self) {
        let begun = Instant::now();
        loop {
            let unsaid = self.unsaid();
            if unsaid.is_empty() {
                return;
            }
            assert!(begun.elapsed() < SHOWN_WITHIN, "the page does not say {unsaid:#?}");
        }
    }

    /// Nothing was complained about, and nobody else was asked for anything.
    fn assert_quiet(&self) {
        let complaints = self.browser.complaints();
        assert_eq!(complaints, [""; 0], "the browser complains");
        let requests = self.browser.requests();
        assert!(requests.iter().any(|address| address.ends_with("/api/v1/events")), "{requests:?}");
        let ours = |address: &&String| {
            address.starts_with(&self.gateway.endpoint)
                || ["blob:", "data:"].iter().any(|own| address.starts_with(own))
        };
        let others: Vec<&String> = requests.iter().filter(|address| !ours(address)).collect();
        assert!(others.is_empty(), "others were asked: {others:?}");
    }
}

/// The texts of a list.
fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().unwrap_or_else(|| panic!("no list: {value}"));
    list.iter().map(|text| text.as_str().map_or_else(|| text.to_string(), str::to_owned)).collect()
}

#[test]
fn the_page_says_what_the_command_line_says() {
    let stage = Stage::start();
    let browser = &stage.browser;
    browser.open(&stage.address(""));
    browser.type_into("#token", "someone.else");
    browser.click("button[type=submit]");
    browser.wait_until(
        "a wrong token is refused",
        "document.querySelector('[role=alert]').innerText.includes('token')",
    );
    assert!(!browser.complaints().is_empty(), "the control: a refused request is complained about");
    browser.shoot("sign-in");
    stage.enter();
    stage.put();
    let put = "return fetch('/api/v1/objects?name=report.pdf', { method: 'POST', body: Uint8Array.from({ length: 7e6 }, () => Math.random() * 256), \
               headers: { Authorization: `Bearer ${arguments[0]}` } }).then((response) => response.status)";
    assert_eq!(browser.run(put, &[&stage.token()]), 201);
    browser.wait_until("it is among the transfers", "document.querySelector('.transfer.completed')");
    stage.wait_until_said();
    assert_eq!(browser.read("document.querySelector('h1').innerText"), "All is well");
    let shown = browser.run("return import('/assets/dom.js').then(({ bytes }) => bytes(21474836480))", &[]);
    assert_eq!(shown, "21.5 GB", "the page's numbers are those of people");
    stage.assert_quiet();
    browser.shoot_whole("overview-light", Screen::Desk);
    browser.prefer(Colours::Dark);
    browser.shoot_whole("overview-dark", Screen::Desk);
}

/// The heading of the view.
const HEADING: &str = "document.querySelector('h1')?.innerText";

/// Goes from thing to thing by the keyboard until the focus is on what a selector finds. Where it is must always be seen.
fn tab_to(browser: &Browser, selector: &str) -> usize {
    for count in 1..=TABS_MAX {
        browser.press(&Key::Tab);
        let trouble = browser.run(include_str!("dashboard/focus.js"), &[]);
        assert_eq!(trouble, Value::Null, "where the focus is must be seen");
        if browser.holds(&format!("document.activeElement.matches('{selector}')")) {
            return count;
        }
    }
    panic!("{selector} is not reached by {TABS_MAX} steps");
}

#[test]
fn nodes_and_objects_are_reached_by_the_mouse_and_by_the_keyboard_alone() {
    let stage = Stage::start();
    let browser = &stage.browser;
    stage.enter();
    let objects = stage.put();
    by_mouse(&stage, &objects[0]);

    browser.open("about:blank");
    browser.open(&stage.address(""));
    browser.wait_until("it is drawn", "document.querySelectorAll('.tile.good').length === 6");
    let peer = &stage.mesh.nodes[3].peer_id;
    let tile = format!(".tile[href=\"#/node/{peer}\"]");
    assert_eq!(tab_to(browser, "*"), 1);
    assert!(browser.holds("document.activeElement.id === 'skip'"), "the way past the menu comes first");
    tab_to(browser, &tile);
    browser.shoot("focus");
    browser.press(&Key::Enter);
    let title = format!("Node …{}", &peer[peer.len() - 8..]);
    browser.wait_until("the node is shown", &format!("{HEADING} === '{title}'"));
    assert!(browser.holds("document.activeElement.id === 'main'"), "reading goes on in the view");
    browser.press(&Key::Escape);
    browser
        .wait_until("the focus is back where it was", &format!("document.activeElement.matches('{tile}')"));

    stage.go("find", "document.activeElement.name === 'id'");
    browser.press(&objects[1]);
    browser.press(&Key::Enter);
    browser.wait_until("the object is shown", &format!("{HEADING} === 'object 1'"));
    tab_to(browser, ".shard");
    browser.shoot("object-focus");
    browser.press(&Key::Enter);
    browser.wait_until("the node of a shard is shown", &format!("{HEADING}.startsWith('Node')"));
    browser.press(&Key::Escape);
    browser.wait_until("the focus is on the shard again", "document.activeElement.matches('.shard')");
    browser.press(&Key::Escape);
    browser.wait_until("one can look for another", &format!("{HEADING} === 'Find an object'"));
    stage.assert_quiet();
}

fn by_mouse(stage: &Stage, object: &str) {
    let browser = &stage.browser;
    let peer = &stage.mesh.nodes[1].peer_id;
    browser.click(&format!(".tile[href=\"#/node/{peer}\"]"));
    browser.wait_until(
        "the node is shown",
        &format!("document.querySelector('.whole')?.innerText === '{peer}'"),
    );
    browser.wait_for("what the command line says of it is there", SHOWN_WITHIN, || {
        let peers = support::json(&stage.mesh.client, &["peers"]);
        let told = peers.iter().find(|told| field(told, "peer_id") == peer).expect("it is listed");
        let page = browser.read("document.getElementById('main').innerText");
        let items = number(told, "item_count").to_string();
        let texts = field(told, "domain").split('/').chain([field(told, "software"), &items]);
        texts.into_iter().all(|text| page.contains(text))
    });
    browser.shoot_whole("node", Screen::Desk);
    browser.click(".back a");
    browser.wait_until("the mesh is shown", "document.querySelectorAll('.tile').length === 6");

    browser.click("a[data-view=find]");
    browser.wait_until("there is a place for the id", "document.activeElement.name === 'id'");
    browser.type_into("input[name=id]", object);
    browser.click("form.find button");
    browser.wait_until(
        "the object is shown",
        &format!("document.querySelector('.whole')?.innerText === '{object}'"),
    );
    let info = support::json(&stage.mesh.client, &["info", object]).remove(0);
    let page = browser.read("document.getElementById('main').innerText");
    for text in ["object 0", "4+2", "1.00", field(&info, "survives"), "● whole"] {
        assert!(page.contains(text), "no {text} in {page}, and the command line says {info}");
    }
    let squares = browser.read("document.querySelectorAll('.shard').length");
    let found = browser.read("[...document.querySelectorAll('dd')].map((one) => one.innerText).join()");
    assert!(found.contains(&format!("{squares} of {squares}")), "{found}");
    browser.shoot_whole("object", Screen::Desk);
    browser.click("a[data-view=overview]");
    browser.wait_until("the mesh is shown", "document.querySelectorAll('.tile').length === 6");
}

#[test]
fn files_are_put_by_choice_and_by_drop_and_saved_byte_for_byte() {
    let stage = Stage::start();
    let browser = &stage.browser;
    stage.enter();
    browser.click("a[data-view=files]");
    browser.wait_until("buckets are listed", "document.querySelector('input[name=bucket]')");
    browser.type_into("input[name=bucket]", "holidays");
    browser.click("form.find button");
    browser.wait_until("the bucket is open", "document.getElementById('pick')");

    let file = stage.mesh.path("beach.bin");
    Random(31).file(&file, UPLOAD_SIZE);
    browser.run(include_str!("dashboard/watch.js"), &["#uploads", "[role=img]"]);
    browser.type_into("#pick", file.to_str().expect("UTF-8"));
    browser.wait_until("it is seen to move", "window.seen.length > 1");
    browser.shoot("upload");
    browser.wait_until(
        "it is put",
        "document.querySelector('#uploads .done') && document.querySelector('[data-key=\"Save beach.bin\"]')",
    );
    let steps: Vec<f64> =
        texts(&browser.run("return window.seen", &[])).iter().filter_map(|text| share(text)).collect();
    assert!(steps.iter().any(|step| (0.1..100.0).contains(step)), "progress was shown: {steps:?}");
    assert!(steps.is_sorted(), "and it went on: {steps:?}");
    assert_eq!(steps.last(), Some(&100.0));

    let listed = support::json(&stage.mesh.client, &["health"]);
    assert!(number(&listed[0], "used") > UPLOAD_SIZE, "the mesh has it: {listed:?}");
    browser.run(include_str!("dashboard/drop.js"), &["dropped one.bin", &DROPPED_SIZE.to_string()]);
    browser.wait_until(
        "what was dropped is put",
        "document.querySelector('[data-key=\"Save dropped one.bin\"]')",
    );
    browser.shoot_whole("files", Screen::Desk);

    save(&stage, "beach.bin", &file);
    let dropped = stage.mesh.path("dropped");
    let pattern = (0..DROPPED_SIZE).map(|index| u8::try_from(index * index % 251).expect("below 256"));
    fs::write(&dropped, pattern.collect::<Vec<u8>>()).expect("written");
    save(&stage, "dropped one.bin", &dropped);
    let same =
        browser.run(include_str!("dashboard/save_as.js"), &["dropped one.bin", &DROPPED_SIZE.to_string()]);
    assert_eq!(same, json!(true), "and where the browser lets a page write to a file");
    leave_by_keyboard(browser);
    stage.assert_quiet();
}

/// The percentage that a bar tells.
fn share(label: &str) -> Option<f64> {
    let number = label.split(" %").next()?.trim_start_matches(['<', '>', ' ']);
    number.parse().ok()
}

/// Saves a key by its button, and compares what is saved with what was put.
fn save(stage: &Stage, key: &str, put: &Path) {
    let browser = &stage.browser;
    // Only people can say where a file is to go: so that it goes where the browser's settings say, the page is not to ask.
    browser.run("window.showSaveFilePicker = undefined", &[]);
    browser.click(&format!("[data-key=\"Save {key}\"]"));
    let saved: PathBuf = browser.downloads().join(key);
    browser.wait_for(&format!("{key} is saved"), SHOWN_WITHIN, || saved.exists());
    assert!(same_bytes(put, &saved), "{key} has other bytes");
}

/// What is asked before something is deleted can be declined with a key.
fn leave_by_keyboard(browser: &Browser) {
    let delete = "[data-key=\"Delete beach.bin\"]";
    browser.click(delete);
    browser.wait_until("it is asked", "document.querySelector('dialog[open]')");
    browser.shoot("delete");
    assert!(browser.holds("document.activeElement.value === 'no'"), "what keeps it is the first choice");
    browser.press(&Key::Escape);
    browser.wait_until("the focus is back", &format!("document.activeElement.matches('{delete}')"));
    assert!(browser.holds("document.querySelector('[data-key=\"Save beach.bin\"]')"), "it is still there");
    browser.click("[data-key=\"Delete dropped one.bin\"]");
    browser.click("dialog[open] .danger");
    browser.wait_until("it is deleted", "!document.querySelector('[data-key=\"Save dropped one.bin\"]')");
    browser.click("[data-key=\"Info beach.bin\"]");
    browser.wait_until("where its shards are is shown", &format!("{HEADING} === 'beach.bin'"));
}

#[test]
fn a_node_that_dies_and_comes_back_is_shown_without_a_reload() {
    let mut stage = Stage::start();
    stage.enter();
    let object = stage.put().remove(0);
    let peer = stage.mesh.nodes[5].peer_id.clone();
    let browser = &stage.browser;
    browser.run("window.never = 'loaded again'", &[]);
    browser.run(include_str!("dashboard/watch.js"), &["#announcer", ""]);
    stage.mesh.nodes[5].kill();
    let silent = format!(".tile.bad[href=\"#/node/{peer}\"]");
    let browser = &stage.browser;
    let shown = format!("document.querySelector('{silent}')?.getAttribute('aria-label').includes('silent')");
    let after = browser.wait_for("the node is silent", LIVE_WITHIN, || browser.holds(&shown));
    println!("a node that was killed was shown as silent after {:.1} s", after.as_secs_f64());
    let worse = "document.querySelector('section[aria-label^=Stored]').innerText.includes('survive the loss of 1 more')";
    let after = browser.wait_for("what is stored stands worse", LIVE_WITHIN, || browser.holds(worse));
    println!("what that means for what is stored {:.1} s later", after.as_secs_f64());
    browser.wait_until("it is an alert", "document.querySelectorAll('.alert').length > 0");
    browser.wait_until("it is said", "window.seen.some((text) => text.startsWith('Alerts: '))");
    stage.wait_until_said();
    browser.shoot_whole("dead-node", Screen::Desk);
    for screen in [Screen::Desk, Screen::Phone] {
        browser.show_on(screen);
        assert_fits(browser, "with alerts");
    }
    browser.show_on(Screen::Desk);

    let badge = "document.querySelector('.badge')?.innerText";
    stage.go(
        &format!("object/{object}"),
        &format!("{badge} && document.querySelectorAll('.shard.bad').length > 0"),
    );
    let before = browser.read("document.querySelector('.words').innerText");
    assert!(before.contains("survives the loss of any 1 host"), "{before}");
    stage.mesh.nodes[4].kill();
    let browser = &stage.browser;
    let endangered = format!("{badge} === 'CRITICAL'");
    browser.wait_for("the object stands worse", LIVE_WITHIN, || browser.holds(&endangered));
    browser.shoot_whole("object-endangered", Screen::Desk);
    stage.mesh.nodes[4].restart();
    stage.mesh.nodes[5].restart();
    let browser = &stage.browser;
    let whole = format!("{badge} === '● whole'");
    let after = browser.wait_for("the object is whole again", LIVE_WITHIN, || browser.holds(&whole));
    println!("two nodes that came back were seen in an object {:.1} s later", after.as_secs_f64());
    stage.go("", "document.querySelectorAll('.tile.good').length === 6");
    assert!(browser.holds("window.never === 'loaded again'"), "the page was loaded once");
}

#[test]
fn it_is_readable_in_light_and_dark_and_on_a_phone() {
    let stage = Stage::start();
    let browser = &stage.browser;
    stage.enter();
    let object = stage.put().remove(0);
    stage.go("files/pictures", "document.querySelector('[role=alert]')");
    // There was none: made as the page makes it, it has one file with a name that does not fit a phone.
    stage.go("files", "document.querySelector('input[name=bucket]')");
    browser.type_into("input[name=bucket]", "pictures");
    browser.click("form.find button");
    browser.wait_until("the bucket is open", "document.getElementById('pick')");
    let name = format!("{}.jpeg", "a-long-name-".repeat(12));
    browser.run(include_str!("dashboard/drop.js"), &[&name, "1000"]);
    browser.wait_until("it is put", "document.querySelector('.actions')");
    let views = [
        ("overview", String::new(), "document.querySelectorAll('.tile.good').length === 6"),
        ("node", format!("node/{}", stage.mesh.nodes[2].peer_id), "document.querySelector('.columns')"),
        ("object", format!("object/{object}"), "document.querySelector('.shard')"),
        ("buckets", "files".to_owned(), "document.querySelector('.buckets')"),
        ("files", "files/pictures".to_owned(), "document.querySelector('.actions')"),
        ("find", "find".to_owned(), "document.querySelector('input[name=id]')"),
    ];
    for (name, view, shown) in views {
        stage.go(&view, shown);
        browser.show_on(Screen::Desk);
        assert_named(browser, name);
        assert_eq!(texts(&browser.run(include_str!("dashboard/structure.js"), &[])), [""; 0], "{name}");
        let [light, dark] = [Colours::Light, Colours::Dark].map(|colours| ground(browser, name, colours));
        assert!(light > 0.7 && dark < 0.1, "{name}: the ground is {light} in light and {dark} in dark");
        browser.prefer(Colours::Light);
        browser.show_on(Screen::Phone);
        assert_fits(browser, name);
        browser.shoot_whole(&format!("phone-{name}"), Screen::Phone);
        browser.show_on(Screen::Phone);
        for way in ["overview", "files", "find"] {
            let link = format!("#views a[data-view={way}]");
            assert!(browser.holds(&format!("document.querySelector('{link}').checkVisibility()")), "{way}");
        }
    }
    browser.click("#views a[data-view=overview]");
    browser.wait_until("the menu works on a phone", "document.querySelector('.hero')");
    browser.click("#theme");
    browser.click("#theme");
    let [chosen, _] = [Colours::Light, Colours::Dark].map(|colours| ground(browser, "overview", colours));
    assert!(chosen < 0.1, "who chose dark has it whatever the system says: {chosen}");
    browser.shoot_whole("phone-dark", Screen::Phone);
}

/// Nothing is wider than the screen, or too small to be hit.
fn assert_fits(browser: &Browser, view: &str) {
    assert_eq!(texts(&browser.run(include_str!("dashboard/fits.js"), &[])), [""; 0], "{view}");
}

/// How light the ground is, from 0 to 1, in these colours; all texts can be read on it.
fn ground(browser: &Browser, view: &str, colours: Colours) -> f64 {
    browser.prefer(colours);
    let found = browser.run(include_str!("dashboard/contrast.js"), &[]);
    assert_eq!(texts(&found["poor"]), [""; 0], "{view} in {colours:?}");
    assert!(number(&found, "looked") > 10, "{view}: {found}");
    found["ground"].as_f64().expect("a number")
}

/// All that can be used has a name, as the browser itself tells those who can't see the page.
fn assert_named(browser: &Browser, view: &str) {
    let tree = browser.devtools("Accessibility.getFullAXTree", &json!({}));
    let nodes = tree["nodes"].as_array().expect("nodes");
    let mut named = 0;
    for node in nodes.iter().filter(|node| node["ignored"] == json!(false)) {
        let role = &node["role"]["value"];
        let focusable = node["properties"].as_array().is_some_and(|properties| {
            properties
                .iter()
                .any(|property| property["name"] == "focusable" && property["value"]["value"] == json!(true))
        });
        let container = ["RootWebArea", "main"].iter().any(|own| role == own);
        if focusable && !container {
            let name = node["name"]["value"].as_str().unwrap_or_default().trim();
            assert!(!name.is_empty(), "{view}: a {role} has no name: {node}");
            named += 1;
        }
    }
    assert!(named > 5, "{view}: {named} can be used");
}
