//! Garage, three nodes with three copies: what a mesh behind S3 is measured beside.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{BUCKET, Endpoint, Server, failed};
use crate::bench::process::{Running, Usage, bound, command, forget_peak, output, wait_until, with_log};
use crate::bench::route::{Route, free_port};

/// What is called, and what says where else it is.
const PROGRAM: &str = "garage";
const PROGRAM_VARIABLE: &str = "GARAGE";
/// How it can be had.
const INSTALLED_BY: &str = "cargo install garage --version 2.5.0 --locked";
const NODES: usize = 3;
const START_DEADLINE: Duration = Duration::from_secs(30);
const REGION: &str = "garage";
/// Nobody else reaches these nodes: they listen on loopback, as long as a row runs.
const RPC_SECRET: &str = "4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d";
const KEY: &str = "GK4d4d4d4d4d4d4d4d4d4d4d4d";
const SECRET: &str = RPC_SECRET;

/// Three nodes, of which clients talk to the first.
pub(crate) struct Garage {
    nodes: Vec<Running>,
    endpoint: Endpoint,
}

/// One node's settings.
struct Node {
    settings: PathBuf,
    log: PathBuf,
    rpc_port: u16,
    s3_port: u16,
}

/// The program; `None` where it is not installed.
pub(crate) fn program() -> Option<String> {
    let named = std::env::var(PROGRAM_VARIABLE).unwrap_or_else(|_| PROGRAM.to_owned());
    output(command(&named).arg("--version")).is_ok().then_some(named)
}

/// What a reader is told where it lacks.
pub(crate) fn lacking() -> String {
    format!("no `{PROGRAM}` on the search path, nor in ${PROGRAM_VARIABLE}: `{INSTALLED_BY}`")
}

/// Which one it is.
pub(crate) fn version(program: &str) -> Result<String, String> {
    let text = output(command(program).arg("--version"))?;
    // As in `garage cargo:2.5.0 [features: …]`.
    let words = text.split_whitespace().skip(1).map(|word| word.trim_start_matches("cargo:"));
    let numbered =
        |word: &&str| word.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit());
    let found = words.into_iter().find(numbered).map(str::to_owned);
    found.ok_or_else(|| format!("{program} says no version: {text}"))
}

impl Garage {
    /// Starts it, with a bucket and a key.
    pub(crate) fn start(program: &str, folder: &Path) -> Result<Self, String> {
        let nodes: Vec<Node> = (0..NODES).map(|number| node(folder, number)).collect::<Result<_, _>>()?;
        let mut running = Vec::new();
        for node in &nodes {
            let log = File::create(&node.log).map_err(|error| failed(&node.log, &error))?;
            let mut command = bound(program);
            command.arg("-c").arg(&node.settings).arg("server").stderr(log);
            running.push(Running::start(&mut command)?);
            let side = Route::loopback().holders;
            let listens = || side.listens(node.s3_port) && side.listens(node.rpc_port);
            wait_until("a node of Garage listens", START_DEADLINE, listens)
                .map_err(|why| with_log(&why, &node.log))?;
        }
        let ask = |node: &Node, words: &[&str]| {
            let mut command: Command = command(program);
            output(command.arg("-c").arg(&node.settings).args(words))
        };
        let first = &nodes[0];
        for (number, node) in nodes.iter().enumerate() {
            let id = ask(node, &["node", "id", "-q"])?;
            let id = id.trim();
            if number > 0 {
                ask(first, &["node", "connect", id])?;
            }
            let name = id.split('@').next().unwrap_or(id);
            ask(
                first,
                &["layout", "assign", "--zone", &format!("zone-{number}"), "--capacity", "100G", name],
            )?;
        }
        ask(first, &["layout", "apply", "--version", "1"])?;
        ask(first, &["key", "import", "--yes", "-n", "measuring", KEY, SECRET])?;
        wait_until("Garage makes a bucket", START_DEADLINE, || {
            ask(first, &["bucket", "create", BUCKET]).is_ok()
        })?;
        ask(first, &["bucket", "allow", "--read", "--write", "--owner", BUCKET, "--key", KEY])?;
        let endpoint = Endpoint {
            address: format!("http://127.0.0.1:{}", first.s3_port),
            region: REGION.to_owned(),
            key: KEY.to_owned(),
            secret: SECRET.to_owned(),
        };
        Ok(Self { nodes: running, endpoint })
    }
}

/// Writes the settings of one node. What they don't say is as Garage has it.
fn node(folder: &Path, number: usize) -> Result<Node, String> {
    let home = folder.join(format!("garage-{number}"));
    fs::create_dir_all(&home).map_err(|error| failed(&home, &error))?;
    let (rpc_port, s3_port) = (free_port()?, free_port()?);
    let settings = home.join("garage.toml");
    let text = format!(
        "metadata_dir = \"{home}/meta\"\ndata_dir = \"{home}/data\"\nreplication_factor = {NODES}\n\
         rpc_bind_addr = \"127.0.0.1:{rpc_port}\"\nrpc_public_addr = \"127.0.0.1:{rpc_port}\"\n\
         rpc_secret = \"{RPC_SECRET}\"\n\n[s3_api]\ns3_region = \"{REGION}\"\n\
         api_bind_addr = \"127.0.0.1:{s3_port}\"\n",
        home = home.display()
    );
    fs::write(&settings, text).map_err(|error| failed(&settings, &error))?;
    Ok(Node { settings, log: home.join("log"), rpc_port, s3_port })
}

impl Server for Garage {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn face(&self) -> Usage {
        self.nodes[0].usage()
    }

    fn behind(&self) -> Usage {
        self.nodes[1..].iter().fold(Usage::default(), |sum, node| sum.and(node.usage()))
    }

    fn forget_peaks(&self) {
        for node in &self.nodes {
            forget_peak(node.pid());
        }
    }
}
