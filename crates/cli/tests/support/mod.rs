//! Real processes on loopback: nodes, clients, and the files they move.

#![expect(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) mod clock;
pub(crate) mod disks;
pub(crate) mod gateway;
pub(crate) mod objects;
pub(crate) mod sides;
pub(crate) mod tracer;
pub(crate) mod web;

/// How long anything here may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// Whether the long form was asked for (`cargo xtask acceptance`).
pub(crate) fn full_scale() -> bool {
    std::env::var("DATAMESH_TEST_SCALE").is_ok_and(|scale| scale == "full")
}

/// One figure for every run and another for the long form.
pub(crate) fn scaled<T>(short: T, full: T) -> T {
    if full_scale() { full } else { short }
}

/// The program under test.
pub(crate) fn datamesh(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_datamesh"));
    command
        .arg("--home")
        .arg(home)
        .env_remove("DATAMESH_HOME")
        .env_remove("DATAMESH_TEST_SCALE")
        .stdin(Stdio::null());
    command
}

/// A command that another program becomes.
pub(crate) fn wrapped(wrapper: &[String], command: Command) -> Command {
    let Some((program, arguments)) = wrapper.split_first() else { return command };
    let mut by = Command::new(program);
    by.args(arguments).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => by.env(name, value),
            None => by.env_remove(name),
        };
    }
    by
}

/// Runs a client command to its end.
pub(crate) fn run(home: &Path, arguments: &[&str]) -> Output {
    let mut command = datamesh(home);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("the program starts");
    wait_with_output(child, arguments)
}

/// Runs a client command that must succeed, and returns the JSON objects that it printed.
pub(crate) fn json(home: &Path, arguments: &[&str]) -> Vec<Value> {
    let arguments: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
    let output = run(home, &arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    json_lines(&output.stdout)
}

/// Runs a client command that must fail with this code, and returns the error that it printed.
pub(crate) fn failure(home: &Path, arguments: &[&str], code: i32) -> Value {
    let arguments: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
    let output = run(home, &arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
    let errors = json_lines(&output.stderr);
    errors.into_iter().find_map(|line| line.get("error").cloned()).expect("an error object on stderr")
}

/// The JSON objects of an output, one a line.
pub(crate) fn json_lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// An output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for a process, and kills it when it takes longer than anything here may.
pub(crate) fn wait_with_output(mut child: Child, what: &[&str]) -> Output {
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("a child can be killed");
            panic!("{what:?} did not end in {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(5));
    };
    Output { status, stdout: stdout.join().expect("read"), stderr: stderr.join().expect("read") }
}

/// Keeps an identity that was exported.
pub(crate) fn import_key(home: &Path, secret: &str) {
    let mut command = datamesh(home);
    command.args(["keys", "import", "-"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::null()).spawn().expect("the program starts");
    child.stdin.take().expect("piped").write_all(secret.as_bytes()).expect("written");
    assert!(child.wait().expect("waited for").success(), "the key was not imported");
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        }
        bytes
    })
}

/// One node process and where it keeps its things.
pub(crate) struct Node {
    /// Its home, which outlives the process.
    pub(crate) home: PathBuf,
    /// Its peer id.
    pub(crate) peer_id: String,
    /// A full multiaddress of it.
    pub(crate) address: String,
    /// All that it said once it served.
    pub(crate) said: Value,
    /// The process; `None` once killed.
    pub(crate) child: Option<Child>,
    /// What it is started by, if not directly: a program that becomes the node, and its arguments.
    pub(crate) wrapper: Vec<String>,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Node {
    /// Starts a node of its own.
    pub(crate) fn start(home: PathBuf, arguments: Vec<String>, variables: Vec<(String, String)>) -> Self {
        Self::start_by(home, Vec::new(), arguments, variables)
    }

    /// Starts a node by another program.
    pub(crate) fn start_by(
        home: PathBuf,
        wrapper: Vec<String>,
        arguments: Vec<String>,
        variables: Vec<(String, String)>,
    ) -> Self {
        let (peer_id, address) = (String::new(), String::new());
        let said = Value::Null;
        let mut node = Self { home, peer_id, address, said, child: None, wrapper, arguments, variables };
        node.restart();
        node
    }

    /// Starts the process (again) and waits until it says that it serves.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        fs::create_dir_all(&self.home).expect("a home can be made");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.home.with_extension("log"))
            .expect("a log can be opened");
        let mut command = wrapped(&self.wrapper, datamesh(&self.home));
        command
            .arg("--json")
            .args(&self.arguments)
            .envs(self.variables.clone())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = command.spawn().expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a node says where it serves");
        let serving: Value = serde_json::from_str(&line).unwrap_or_else(|error| {
            let log = fs::read_to_string(self.home.with_extension("log")).unwrap_or_default();
            panic!("node {:?} said `{line}` ({error}); its log:\n{log}", self.home)
        });
        self.peer_id = serving["peer_id"].as_str().expect("a peer id").to_owned();
        let addresses = serving["addresses"].as_array().expect("addresses");
        let tcp = addresses.iter().filter_map(Value::as_str).find(|address| address.contains("/tcp/"));
        self.address = tcp.expect("a TCP address").to_owned();
        self.said = serving;
        self.child = Some(child);
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// Ends it in good order, as an operator does, and says how it ended.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        let child = self.child.take().expect("it runs");
        let ended = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(ended.expect("kill can be run").success());
        wait_with_output(child, &["a node that is to stop"]).status
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A mesh of processes, and a client's home.
pub(crate) struct Mesh {
    /// The bootstrap node first.
    pub(crate) nodes: Vec<Node>,
    /// The client's home, which has joined the mesh.
    pub(crate) client: PathBuf,
    directory: tempfile::TempDir,
    started_count: usize,
    kind: Kind,
    variables: Vec<(String, String)>,
}

/// Who may enter a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Private,
}

impl Mesh {
    /// Starts a bootstrap node and as many more that the mesh has `node_count`, each a failure domain of its own, and waits
    /// until a client sees all of them.
    pub(crate) fn start(node_count: usize) -> Self {
        Self::start_with(node_count, &[])
    }

    /// The same, of nodes that have these settings.
    pub(crate) fn start_with(node_count: usize, settings: &[(&str, &str)]) -> Self {
        Self::start_in_domains(node_count, 1, settings)
    }

    /// The same, private: the first node makes the secret, the others and the client are given its file.
    pub(crate) fn start_private(node_count: usize) -> Self {
        Self::found(node_count, 1, &[], Kind::Private, Vec::new())
    }

    /// The same, so many nodes on each host.
    pub(crate) fn start_in_domains(node_count: usize, per_host: usize, settings: &[(&str, &str)]) -> Self {
        Self::found(node_count, per_host, settings, Kind::Open, Vec::new())
    }

    /// The same, of nodes whose processes have these variables in their environment.
    pub(crate) fn start_with_variables(
        node_count: usize,
        settings: &[(&str, &str)],
        variables: Vec<(String, String)>,
    ) -> Self {
        Self::found(node_count, 1, settings, Kind::Open, variables)
    }

    /// No node yet, and no client that has joined.
    pub(crate) fn empty() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let client = directory.path().join("client");
        let (kind, variables) = (Kind::Open, Vec::new());
        Self { nodes: Vec::new(), client, directory, started_count: 0, kind, variables }
    }

    /// A restricted mesh of one node, whose home's identity is its authority. No client has joined it.
    pub(crate) fn start_restricted() -> Self {
        let mut mesh = Self::empty();
        let words =
            ["bootstrap", "--restricted", "--listen", "/ip4/127.0.0.1/tcp/0", "--domain", "here/home/host-0"];
        let node = mesh.start_node(&mesh.path("founder"), &words);
        mesh.nodes.push(node);
        mesh
    }

    /// Starts a node of this home with this command line.
    pub(crate) fn start_node(&self, home: &Path, words: &[&str]) -> Node {
        let words = words.iter().map(ToString::to_string).collect();
        Node::start(home.to_owned(), words, self.variables.clone())
    }

    fn found(
        node_count: usize,
        per_host: usize,
        settings: &[(&str, &str)],
        kind: Kind,
        variables: Vec<(String, String)>,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let client = directory.path().join("client");
        let mut mesh = Self { nodes: Vec::new(), client, directory, started_count: 0, kind, variables };
        mesh.add_nodes(1, per_host, settings);
        let join = [vec!["join".to_owned(), mesh.nodes[0].address.clone()], mesh.secret_arguments()].concat();
        json(&mesh.client, &join.iter().map(String::as_str).collect::<Vec<_>>());
        // What comes back is to come from the nodes.
        json(&mesh.client, &["config", "set", "cache.capacity", "0B"]);
        mesh.add_nodes(node_count - 1, per_host, settings);
        mesh
    }

    /// Starts more nodes, so many on each host, and waits until a client sees them.
    pub(crate) fn add_nodes(&mut self, node_count: usize, per_host: usize, settings: &[(&str, &str)]) {
        for _ in 0..node_count {
            let number = self.started_count;
            self.started_count += 1;
            let home = self.path(&format!("node-{number}"));
            for (key, value) in settings {
                json(&home, &["config", "set", key, value]);
            }
            let domain = format!("here/home/host-{}", number / per_host);
            let own = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
            let rest = ["--listen", "/ip4/127.0.0.1/tcp/0", "--capacity", "20GiB", "--domain", &domain];
            let entry = self.nodes.last().map(|node| node.address.clone());
            let begin = match &entry {
                None if self.kind == Kind::Private => own(&["bootstrap", "--private"]),
                None => own(&["bootstrap"]),
                Some(address) => {
                    [own(&["service", "--bootstrap", address]), self.secret_arguments()].concat()
                }
            };
            let mut node = Node::start(home, [begin, own(&rest)].concat(), self.variables.clone());
            // A port that the system chose is kept for restarts, as an operator's would be.
            let address = node.address.split("/p2p/").next().expect("a multiaddress").to_owned();
            for argument in node.arguments.iter_mut().filter(|argument| *argument == "/ip4/127.0.0.1/tcp/0") {
                argument.clone_from(&address);
            }
            self.nodes.push(node);
        }
        if self.client.exists() {
            self.wait_for_nodes(self.nodes.len());
        }
    }

    /// What a command is told of a private mesh.
    fn secret_arguments(&self) -> Vec<String> {
        if self.kind == Kind::Open {
            return Vec::new();
        }
        let secret = self.nodes[0].home.join("node/mesh-secret");
        vec!["--mesh-secret-file".to_owned(), secret.to_str().expect("a path in UTF-8").to_owned()]
    }

    /// A path beside the homes.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until the client's view of the mesh has this many reachable nodes.
    pub(crate) fn wait_for_nodes(&self, node_count: usize) {
        Self::wait_for_nodes_of(&self.client, node_count);
    }

    /// Waits until a client's view of the mesh has this many reachable nodes. One that has just joined knows what the node
    /// that it joined by knows, and that one may not have met again all that were restarted.
    pub(crate) fn wait_for_nodes_of(client: &Path, node_count: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let health = json(client, &["health"]);
            let reachable = health[0]["nodes_reachable"].as_u64().expect("a count");
            if usize::try_from(reachable).expect("small") >= node_count {
                return;
            }
            assert!(Instant::now() < deadline, "only {reachable} of {node_count} nodes: {health:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A generator of test bytes and choices, the same for the same seed (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Random bytes.
    pub(crate) fn bytes(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(size);
        bytes
    }

    /// Writes a file of random bytes.
    pub(crate) fn file(&mut self, path: &Path, size: u64) {
        let mut file = fs::File::create(path).expect("a file can be made");
        let mut left = size;
        while left > 0 {
            let step = left.min(1 << 20);
            let bytes = self.bytes(usize::try_from(step).expect("small"));
            file.write_all(&bytes).expect("a file can be written");
            left -= step;
        }
    }
}

/// Whether two files have the same bytes, without holding them in memory.
pub(crate) fn same_bytes(left: &Path, right: &Path) -> bool {
    let open = |path: &Path| BufReader::with_capacity(1 << 20, fs::File::open(path).expect("it opens"));
    let (mut left, mut right) = (open(left), open(right));
    loop {
        let (ours, theirs) = (left.fill_buf().expect("readable"), right.fill_buf().expect("readable"));
        let size = ours.len().min(theirs.len());
        if size == 0 {
            return ours.is_empty() && theirs.is_empty();
        }
        if ours[..size] != theirs[..size] {
            return false;
        }
        left.consume(size);
        right.consume(size);
    }
}

/// Every file below a folder, relative to it, in order.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current).expect("a folder can be listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(folder).expect("it is below").to_owned());
            }
        }
    }
    files.sort();
    files
}

/// The text of a JSON field.
pub(crate) fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no text `{name}` in {value}"))
}

/// A whole number of an answer.
pub(crate) fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no number `{name}` in {value}"))
}
