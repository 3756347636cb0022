//! Node processes on this machine, started from this very program and stopped with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use datamesh_node::settings::PeerAddress;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::command::CommandError;
use crate::exit::Exit;

/// How long a node may take until it serves.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long a node may take to stop in good order.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of a failed node's log that are shown.
const LOG_TAIL_SIZE: usize = 2000;

/// A node process. Killed when dropped; it stops by itself when this process ends in whatever way.
#[derive(Debug)]
pub struct NodeProcess {
    /// Its home.
    pub home: PathBuf,
    /// Its peer id.
    pub peer_id: String,
    /// Where it can be dialled, loopback TCP first.
    pub addresses: Vec<PeerAddress>,
    child: Child,
    /// The node stops when this closes.
    _lifeline: ChildStdin,
}

/// What a node says once it serves.
#[derive(Deserialize)]
struct Serving {
    peer_id: String,
    addresses: Vec<String>,
}

impl NodeProcess {
    /// Starts a node on a free loopback port: the first of a mesh, or one that joins through these.
    ///
    /// # Errors
    /// When it can't be started or doesn't serve in time.
    ///
    /// # Cancel safety
    /// When dropped, the process is killed.
    pub async fn start(home: &Path, entries: &[PeerAddress], capacity: &str) -> Result<Self, CommandError> {
        let failed = |what: &str| CommandError::new(Exit::Failed, format!("node {}: {what}", home.display()));
        let unstartable = |error| CommandError::io("a node process can't be started", error);
        fs::create_dir_all(home).map_err(unstartable)?;
        let log_path = home.join("log");
        let log = File::create(&log_path).map_err(unstartable)?;
        let mut command = Command::new(std::env::current_exe().map_err(unstartable)?);
        command.arg("--home").arg(home).arg("--json");
        command.arg(if entries.is_empty() { "bootstrap" } else { "service" });
        for entry in entries {
            command.arg("--bootstrap").arg(entry.to_string());
        }
        command.args(["--listen", "/ip4/127.0.0.1/tcp/0", "--capacity", capacity, "--until-stdin-ends"]);
        // Settings from the environment are those of every node: only one of them could have the address.
        command.arg("--no-gateway");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().map_err(unstartable)?;
        let lifeline = child.stdin.take().expect("its input is piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("its output is piped"));
        let mut line = String::new();
        let read = timeout(START_DEADLINE, stdout.read_line(&mut line)).await;
        read.map_err(|_| failed("does not serve in time"))?.map_err(unstartable)?;
        let serving: Serving = serde_json::from_str(&line)
            .map_err(|_| failed(&format!("did not start: {}", tail(&log_path))))?;
        let addresses = serving.addresses.iter().map(|address| address.parse::<PeerAddress>());
        let addresses = addresses.collect::<Result<_, _>>().map_err(|error| failed(&error.to_string()))?;
        Ok(Self { home: home.to_owned(), peer_id: serving.peer_id, addresses, child, _lifeline: lifeline })
    }

    /// Its process id; `None` once it has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it at once, as a crash would.
    ///
    /// # Errors
    /// When the system refuses.
    ///
    /// # Cancel safety
    /// When dropped, the process is killed.
    pub async fn kill(mut self) -> Result<(), CommandError> {
        self.child.kill().await.map_err(|error| CommandError::io("a node process can't be killed", error))
    }

    /// Stops it in good order.
    ///
    /// # Errors
    /// When it does not stop in time; it is killed then.
    ///
    /// # Cancel safety
    /// When dropped, the process is killed.
    pub async fn stop(self) -> Result<(), CommandError> {
        let Self { home, mut child, _lifeline: lifeline, .. } = self;
        drop(lifeline);
        match timeout(STOP_DEADLINE, child.wait()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(CommandError::io("a node process can't be waited for", error)),
            Err(_) => {
                let message = format!("node {} did not stop in time and is killed", home.display());
                Err(CommandError::new(Exit::Failed, message))
            }
        }
    }
}

/// Starts a mesh of so many nodes, one home each below a directory.
///
/// # Errors
/// When one of them doesn't start.
///
/// # Cancel safety
/// When dropped, the processes are killed.
pub async fn start_mesh(
    directory: &Path,
    node_count: usize,
    capacity: &str,
) -> Result<Vec<NodeProcess>, CommandError> {
    let first = NodeProcess::start(&directory.join("node-0"), &[], capacity).await?;
    let entries = first.addresses.clone();
    let homes: Vec<PathBuf> =
        (1..node_count).map(|number| directory.join(format!("node-{number}"))).collect();
    let others = homes.iter().map(|home| NodeProcess::start(home, &entries, capacity));
    let mut nodes = vec![first];
    for node in futures::future::join_all(others).await {
        nodes.push(node?);
    }
    Ok(nodes)
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_else(|error| error.to_string());
    let start = text.len().saturating_sub(LOG_TAIL_SIZE);
    let start = (start..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[start..].trim().to_owned()
}
