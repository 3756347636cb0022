//! A browser of its own: Chromium without a window, and the driver that steers it; both end with the test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::error::CmdError;
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use url::{ParseError, Url};

/// How long the driver may take to start, and to do any one thing.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);
/// How long what was done may take to show on the page.
pub(crate) const SHOWN_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at the page.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What the driver says when it listens, before the number of its port.
const LISTENING: &str = "started successfully on port ";

/// Chromium, its driver, and the folder that both keep their things in.
pub(crate) struct Browser {
    runtime: Runtime,
    client: Option<Client>,
    driver: Child,
    folder: tempfile::TempDir,
}

/// What the page is shown on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Screen {
    Desk,
    Phone,
}

impl Screen {
    const fn size(self) -> (u32, u32) {
        match self {
            Self::Desk => (1280, 900),
            Self::Phone => (390, 844),
        }
    }
}

/// The colours that the reader's system asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Colours {
    Light,
    Dark,
}

impl Browser {
    /// Starts a browser that knows nothing, with an empty page.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(folder.path().join("downloads")).expect("a folder for what is saved");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .env("XDG_CONFIG_HOME", folder.path().join("config"))
            .env("XDG_CACHE_HOME", folder.path().join("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let lines = BufReader::new(driver.stdout.take().expect("piped")).lines();
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut browser = Self { runtime, client: None, driver, folder };
        let port = port(lines);
        let capabilities = browser.capabilities();
        let connecting = async {
            ClientBuilder::new(HttpConnector::new())
                .capabilities(capabilities)
                .connect(&format!("http://127.0.0.1:{port}"))
                .await
        };
        let client = browser.runtime.block_on(async { timeout(COMMAND_WITHIN, connecting).await });
        browser.client = Some(client.expect("Chromium starts in time").expect("Chromium starts"));
        browser.show_on(Screen::Desk);
        browser.prefer(Colours::Light);
        // The browser's own first page asks the browser for its parts.
        browser.open("about:blank");
        browser.requests();
        browser
    }

    fn capabilities(&self) -> Capabilities {
        let profile = self.folder.path().join("profile");
        let capabilities = json!({
            "goog:chromeOptions": {
                "args": [
                    "--headless=new",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--disable-background-networking",
                    "--no-first-run",
                    "--lang=en-GB",
                    // Nothing but this machine can be reached.
                    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                    format!("--user-data-dir={}", profile.display()),
                ],
                "prefs": {
                    "download.default_directory": self.downloads(),
                    "download.prompt_for_download": false,
                },
            },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        });
        capabilities.as_object().expect("an object").clone()
    }

    /// Where files are saved.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.folder.path().join("downloads")
    }

    fn wait<T>(&self, what: &str, work: impl Future<Output = Result<T, CmdError>>) -> T {
        let done = self.runtime.block_on(async { timeout(COMMAND_WITHIN, work).await });
        done.unwrap_or_else(|_| panic!("{what}: not within {COMMAND_WITHIN:?}"))
            .unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("it is connected from the start to the end")
    }

    pub(crate) fn open(&self, address: &str) {
        self.wait(address, self.client().goto(address));
    }

    /// What the body of a function returns on the page. Promises are waited for.
    pub(crate) fn run(&self, body: &str, arguments: &[&str]) -> Value {
        let arguments = arguments.iter().map(|argument| json!(argument)).collect();
        self.wait(body, self.client().execute(body, arguments))
    }

    /// The same, as text.
    pub(crate) fn read(&self, expression: &str) -> String {
        let value = self.run(&format!("return {expression}"), &[]);
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    /// Whether an expression holds on the page.
    pub(crate) fn holds(&self, condition: &str) -> bool {
        self.run(&format!("return Boolean({condition})"), &[]) == json!(true)
    }

    /// Waits until an expression holds on the page, and says how long that took.
    pub(crate) fn wait_until(&self, what: &str, condition: &str) -> Duration {
        self.wait_for(what, SHOWN_WITHIN, || self.holds(condition))
    }

    /// Waits until something is so, and shows the page if it never is.
    pub(crate) fn wait_for(&self, what: &str, within: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
        let begun = Instant::now();
        while !is_so() {
            if begun.elapsed() > within {
                self.shoot("failed");
                panic!(
                    "{what}: not within {within:?}; the page says:\n{}",
                    self.read("document.body.innerText")
                );
            }
            thread::sleep(LOOK_EVERY);
        }
        begun.elapsed()
    }

    /// Clicks on the first element that a selector finds, with the mouse, as soon as it is there.
    pub(crate) fn click(&self, selector: &str) {
        self.wait_for(&format!("{selector} is there"), SHOWN_WITHIN, || {
            let clicking = async {
                match self.client().find(Locator::Css(selector)).await?.click().await {
                    Err(error) if error.is_stale_element_reference() => Ok(false),
                    clicked => clicked.map(|()| true),
                }
            };
            // What is drawn anew between being found and being clicked on is found again.
            self.holds(&format!("document.querySelector('{selector}')")) && self.wait(selector, clicking)
        });
    }

    /// Types into an element; into one for files, their paths.
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        self.wait(selector, async {
            self.client().find(Locator::Css(selector)).await?.send_keys(text).await
        });
    }

    /// Presses keys on whatever has the focus.
    pub(crate) fn press(&self, keys: &str) {
        let pressed = keys.chars().fold(KeyActions::new("keyboard".to_owned()), |actions, value| {
            actions.then(KeyAction::Down { value }).then(KeyAction::Up { value })
        });
        self.wait("keys", self.client().perform_actions(pressed));
    }

    /// Shows the page on a screen of this size.
    pub(crate) fn show_on(&self, screen: Screen) {
        let (width, height) = screen.size();
        self.show_at(screen, width, height);
    }

    fn show_at(&self, screen: Screen, width: u32, height: u32) {
        let mobile = matches!(screen, Screen::Phone);
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Has the reader's system ask for these colours.
    pub(crate) fn prefer(&self, colours: Colours) {
        let value = match colours {
            Colours::Light => "light",
            Colours::Dark => "dark",
        };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// Keeps a picture of the page as it is on the screen.
    pub(crate) fn shoot(&self, name: &str) {
        let picture = self.wait("a picture", self.client().screenshot());
        fs::write(pictures().join(name).with_extension("png"), picture).expect("a picture is kept");
    }

    /// Keeps a picture of the whole page, however long, on a screen of this width.
    pub(crate) fn shoot_whole(&self, name: &str, screen: Screen) {
        self.show_on(screen);
        let (width, height) = screen.size();
        let long = self.run("return document.documentElement.scrollHeight", &[]);
        let long = long.as_u64().and_then(|long| u32::try_from(long).ok()).expect("a height");
        self.show_at(screen, width, long.max(height));
        self.shoot(name);
        self.show_on(screen);
    }

    /// What the browser complains about: errors of scripts, what `console.error` was told, what was not found or refused.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let entries = self.log("browser");
        let grave = entries.iter().filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        grave.map(|entry| entry["message"].to_string()).collect()
    }

    /// The addresses that have been asked for since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        let entries = self.log("performance");
        let requests = entries.iter().filter_map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let sent = event["message"]["method"] == "Network.requestWillBeSent";
            let address = event["message"]["params"]["request"]["url"].as_str()?;
            sent.then(|| address.to_owned())
        });
        requests.collect()
    }

    fn log(&self, kind: &'static str) -> Vec<Value> {
        let entries = self.command("se/log", &json!({ "type": kind }));
        entries.as_array().expect("a list").clone()
    }

    /// A command of Chromium's own protocol for developers.
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    fn command(&self, path: &'static str, body: &Value) -> Value {
        let command = OwnCommand { path, body: body.to_string() };
        self.wait(path, self.client().issue_cmd(command))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            // What does not end by itself is killed below.
            let _ = self.runtime.block_on(async { timeout(Duration::from_secs(5), client.close()).await });
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        for process in processes_of(self.folder.path()) {
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

/// A command that drivers of Chromium know beside those of the standard.
#[derive(Debug)]
struct OwnCommand {
    path: &'static str,
    body: String,
}

impl WebDriverCompatibleCommand for OwnCommand {
    fn endpoint(&self, base_url: &Url, session_id: Option<&str>) -> Result<Url, ParseError> {
        base_url.join(&format!("session/{}/{}", session_id.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.clone()))
    }
}

/// Where pictures of the pages are kept, of each run the last.
pub(crate) fn pictures() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard");
    fs::create_dir_all(&folder).expect("a folder for pictures");
    folder
}

/// The port that the driver says it listens on.
fn port(mut lines: impl Iterator<Item = std::io::Result<String>> + Send + 'static) -> u16 {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    thread::spawn(move || {
        let found = lines.by_ref().map_while(Result::ok).find_map(|line| {
            line.split_once(LISTENING).map(|(_, port)| port.trim_end_matches('.').to_owned())
        });
        // Whoever waited may have given up.
        let _ = tell.send(found);
        lines.for_each(drop);
    });
    let found = told.recv_timeout(COMMAND_WITHIN).expect("chromedriver says where it listens in time");
    found.expect("chromedriver says where it listens").parse().expect("a port")
}

/// The processes whose command line names a folder that only one browser has.
fn processes_of(folder: &Path) -> Vec<Pid> {
    let folder = folder.to_str().expect("UTF-8");
    let found = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        let entry = entry.ok()?;
        let number = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(folder).then(|| Pid::from_raw(number))?
    });
    found.collect()
}
