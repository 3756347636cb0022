//! A mesh of node processes and its client processes, measured together.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Bench;
use super::figures::{Figure, GIB, MIB, Sample, number};
use super::process::{Running, Usage, command, forget_peak, output, wait_until, with_log};
use super::route::Route;
use super::stream::Stream;

const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long the nodes may take until they know each other.
const MEET_DEADLINE: Duration = Duration::from_secs(60);
/// Bytes that each node offers: more than any row puts.
const CAPACITY: &str = "4TB";

/// Nodes, and the home of the clients that talk to them.
pub(super) struct Mesh {
    program: String,
    route: Route,
    folder: PathBuf,
    nodes: Vec<Node>,
    keeping: Keeping,
}

/// What the nodes keep of what they are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// Everything.
    Everything,
    /// No shards: for puts that no disk could hold.
    NoShards,
}

/// A node process.
pub(super) struct Node {
    running: Running,
    address: String,
    /// Where libp2p listens; what connects elsewhere carries data.
    port: u16,
    /// The node stops when this closes, also when this program is killed.
    _lifeline: ChildStdin,
}

/// What a client that keeps nothing is told.
const CACHE_CAPACITY: &str = "DATAMESH_CACHE_CAPACITY";
const NO_CACHE: &str = "0B";

/// Where a client's bytes come from or go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Feed {
    /// Nowhere: it reads and writes files, and prints its result.
    Files,
    /// Its input is so much of the stream of this seed.
    Made { seed: u64, size: u64 },
    /// Its output is thrown away by the system.
    Dropped,
    /// Its output must be so much of the stream of this seed.
    Checked { seed: u64, size: u64 },
}

/// What one client command took, of itself and of all nodes.
pub(super) struct Operation {
    /// From the start of its process to its end.
    pub(super) wall: Duration,
    /// What the client used.
    pub(super) client: Usage,
    /// Processor time of all nodes together, and the largest peak meanwhile.
    pub(super) nodes: Usage,
    /// The result that it printed, where it printed one.
    pub(super) result: Value,
    /// The most TCP connections of the data plane that the reader's side had at once; 0 on loopback, where others have some too.
    pub(super) connection_count: usize,
}

impl Operation {
    /// Its figures for an object of this size.
    pub(super) fn sample(&self, size: u64) -> Sample {
        let cpu = (self.client.cpu + self.nodes.cpu).as_secs_f64();
        Sample::from([
            (Figure::Rate, number(size) / MIB / self.wall.as_secs_f64()),
            (Figure::Cpu, cpu * GIB / number(size)),
            (Figure::ClientMemory, number(self.client.memory_peak) / MIB),
            (Figure::NodeMemory, number(self.nodes.memory_peak) / MIB),
        ])
    }
}

impl Mesh {
    /// Starts so many nodes on the holders' side of a route, with their homes below a folder, and makes a client know
    /// them.
    ///
    /// # Errors
    /// When one of them doesn't start, or they don't find each other in time.
    pub(super) fn start(bench: &Bench, route: &Route, folder: &Path, count: usize) -> Result<Self, String> {
        Self::start_keeping(Keeping::Everything, &bench.program, route, folder, count)
    }

    /// The same, with nodes that keep no more than this.
    pub(super) fn start_keeping(
        keeping: Keeping,
        program: &Path,
        route: &Route,
        folder: &Path,
        count: usize,
    ) -> Result<Self, String> {
        let (program, nodes) = (program.display().to_string(), Vec::new());
        let mut mesh = Self { program, route: route.clone(), folder: folder.to_owned(), nodes, keeping };
        for number in 0..count {
            let entry = mesh.nodes.first().map(|node| node.address.clone());
            let home = folder.join(format!("node-{number}"));
            mesh.nodes.push(mesh.start_node(&home, entry.as_deref())?);
        }
        let entry = mesh.nodes.last().ok_or("a mesh has a node at least")?.address.clone();
        output(mesh.command(&["join", &entry]).stdin(Stdio::null()))?;
        wait_until("every node is known", MEET_DEADLINE, || {
            let peers = mesh.peers().unwrap_or_default();
            peers.iter().filter(|peer| peer["reachable"] == true).count() == count
        })?;
        Ok(mesh)
    }

    /// Bytes of the client's cache.
    pub(super) fn cached_bytes(&self) -> Result<u64, String> {
        let text = output(command("du").args(["--summarize", "--bytes"]).arg(self.cache()))?;
        let size = text.split_whitespace().next().and_then(|size| size.parse().ok());
        size.ok_or_else(|| format!("what du said: {text}"))
    }

    fn cache(&self) -> PathBuf {
        self.folder.join("client").join("cache")
    }

    /// Starts a cache node in a new home, which serves what the client's cache holds; the client begins a new one.
    pub(super) fn serve_cache(&self, home: &Path) -> Result<Node, String> {
        let (kept, served) = (self.cache(), home.join("cache"));
        fs::create_dir_all(home)
            .and_then(|()| fs::rename(&kept, &served))
            .map_err(|error| format!("{} as {}: {error}", kept.display(), served.display()))?;
        let entry = self.nodes.first().map(|node| node.address.clone());
        let node = self.start_node_as(&["--role", "cache"], home, entry.as_deref())?;
        let known = self.nodes.len() + 1;
        wait_until("the cache node is known", MEET_DEADLINE, || {
            let peers = self.peers().unwrap_or_default();
            peers.iter().filter(|peer| peer["reachable"] == true).count() == known
        })?;
        Ok(node)
    }

    fn start_node(&self, home: &Path, entry: Option<&str>) -> Result<Node, String> {
        self.start_node_as(&[], home, entry)
    }

    fn start_node_as(&self, role: &[&str], home: &Path, entry: Option<&str>) -> Result<Node, String> {
        let made = fs::create_dir_all(home)
            .and_then(|()| Ok((File::create(home.join("printed"))?, File::create(home.join("log"))?)));
        let (printed, log) = made.map_err(|error| format!("{}: {error}", home.display()))?;
        let mut command = self.route.holders.command(&self.program);
        command
            .arg("--home")
            .arg(home)
            .args(["--json", if entry.is_some() { "service" } else { "bootstrap" }]);
        if let Some(entry) = entry {
            command.args(["--bootstrap", entry]);
        }
        let listen = format!("/ip4/{}/tcp/0", self.route.holders.address);
        command.args(["--listen", &listen, "--capacity", CAPACITY, "--until-stdin-ends"]).args(role);
        if self.keeping == Keeping::NoShards {
            command.arg("--lose-shards-for-benchmark");
        }
        let mut running = Running::start(command.stdin(Stdio::piped()).stdout(printed).stderr(log))?;
        let lifeline = running.child().stdin.take().expect("its input is piped");
        let said = || fs::read_to_string(home.join("printed")).unwrap_or_default();
        let started = wait_until("a node serves", START_DEADLINE, || said().contains('\n'));
        started.map_err(|why| with_log(&why, &home.join("log")))?;
        let serving: Value = serde_json::from_str(said().lines().next().unwrap_or_default())
            .map_err(|error| format!("what a node said: {error}"))?;
        let address = serving["addresses"][0].as_str().ok_or("a node said no address")?.to_owned();
        let port = address.split('/').skip_while(|part| *part != "tcp").nth(1);
        let port = port.and_then(|port| port.parse().ok()).ok_or("a node said no TCP address")?;
        Ok(Node { running, address, port, _lifeline: lifeline })
    }

    /// Kills so many nodes, as a crash would.
    pub(super) fn kill(&mut self, count: usize) {
        self.nodes.drain(..count);
    }

    /// What the client is told of each node.
    pub(super) fn peers(&self) -> Result<Vec<Value>, String> {
        let text = output(&mut self.command(&["peers"]))?;
        let lines = text.lines().map(serde_json::from_str::<Value>);
        lines.collect::<Result<_, _>>().map_err(|error| format!("what `peers` said: {error}"))
    }

    /// Puts a file or, where `feed` makes the bytes, the input, under a name.
    pub(super) fn put(
        &self,
        name: &str,
        source: &Path,
        options: &[&str],
        feed: Feed,
    ) -> Result<Operation, String> {
        let source = source.display().to_string();
        self.client(&[&["put", "--name", name], options, &[&source]].concat(), feed)
    }

    /// Gets an object into a file or, where `feed` checks the bytes, to the output.
    pub(super) fn get(&self, name: &str, out: &Path, feed: Feed) -> Result<Operation, String> {
        let out = out.display().to_string();
        self.client(&["get", "--force", name, &out], feed)
    }

    /// The same, by a client that keeps what it got in its cache.
    pub(super) fn get_through_cache(&self, name: &str, out: &Path, feed: Feed) -> Result<Operation, String> {
        let out = out.display().to_string();
        self.run(self.command(&["get", "--force", name, &out]), "get", feed)
    }

    /// Runs a client command as a process of its own, and measures it and the nodes.
    pub(super) fn client(&self, arguments: &[&str], feed: Feed) -> Result<Operation, String> {
        // What was got before must come from the nodes again.
        self.run(self.command_without_cache(arguments), arguments[0], feed)
    }

    fn run(&self, mut command: Command, name: &str, feed: Feed) -> Result<Operation, String> {
        let (log, printed) = (self.folder.join("client.log"), self.folder.join("client.printed"));
        let create = |path: &Path| File::create(path).map_err(|error| format!("{}: {error}", path.display()));
        command.stderr(create(&log)?).stdout(create(&printed)?);
        match feed {
            Feed::Files => {}
            Feed::Dropped => drop(command.stdout(Stdio::null())),
            Feed::Made { .. } => drop(command.stdin(Stdio::piped())),
            Feed::Checked { .. } => drop(command.stdout(Stdio::piped())),
        }
        self.forget_peaks();
        let before = self.usage();
        let begun = Instant::now();
        let mut running = Running::start(&mut command)?;
        let mut connection_count = 0;
        let ports: Vec<u16> = self.nodes.iter().map(|node| node.port).collect();
        let (ended, fed) = thread::scope(|scope| {
            let (input, out) = (running.child().stdin.take(), running.child().stdout.take());
            let feeder = scope.spawn(move || match (feed, input, out) {
                (Feed::Made { seed, size }, Some(mut input), _) => {
                    Stream::new(seed).write(size, &mut input).map(|()| true)
                }
                (Feed::Checked { seed, size }, _, Some(out)) => Stream::new(seed).is(size, out),
                _ => Ok(true),
            });
            let ended = running.finish(begun, || {
                if self.route.reader.namespace.is_some() {
                    connection_count = connection_count.max(self.route.reader.connection_count_but(&ports));
                }
            });
            (ended, feeder.join().expect("a feeder doesn't panic"))
        });
        let ended = ended.map_err(|why| with_log(&format!("`{name}`: {why}"), &log))?;
        if !fed.map_err(|error| format!("the client's pipe: {error}"))? {
            return Err("what came back is not what was put".to_owned());
        }
        let after = self.usage();
        let nodes = Usage { cpu: after.cpu.saturating_sub(before.cpu), memory_peak: after.memory_peak };
        let printed = fs::read_to_string(&printed).unwrap_or_default();
        let result = serde_json::from_str(&printed).unwrap_or_default();
        Ok(Operation { wall: ended.wall, client: ended.usage, nodes, result, connection_count })
    }

    /// Starts a client command that goes on beside others, with a folder for what it prints and logs.
    pub(super) fn beside(&self, arguments: &[&str], folder: &Path) -> Result<Running, String> {
        let create = |name: &str| {
            let path = folder.join(name);
            File::create(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let mut command = self.route.reader.bound(&self.program);
        command.args(["--json", "--home"]).arg(self.folder.join("client")).args(arguments);
        command.env(CACHE_CAPACITY, NO_CACHE);
        Running::start(command.stdin(Stdio::piped()).stdout(create("printed")?).stderr(create("log")?))
    }

    /// Forgets the nodes' peak memory, so that the next ones are of what follows.
    pub(super) fn forget_peaks(&self) {
        for node in &self.nodes {
            forget_peak(node.running.pid());
        }
    }

    /// What all nodes have used so far.
    pub(super) fn usage(&self) -> Usage {
        self.nodes.iter().fold(Usage::default(), |sum, node| sum.and(node.running.usage()))
    }

    /// A client command that keeps nothing of what it gets.
    pub(super) fn command_without_cache(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.env(CACHE_CAPACITY, NO_CACHE);
        command
    }

    /// A client command.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.route.reader.bound(&self.program);
        let home = self.folder.join("client");
        command.args(["--quiet", "--json", "--home"]).arg(home).args(arguments);
        command
    }
}
