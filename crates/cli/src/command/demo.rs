//! `demo`: the main job in a minute, on real processes.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamesh_core::id::ObjectId;
use datamesh_core::lease::Term;
use datamesh_core::manifest::Kind;
use datamesh_engine::get::{DigestCheck, Reading};
use datamesh_engine::place::Wholeness;
use datamesh_engine::put::{Put, PutOrder, put};
use datamesh_engine::repair::repair;
use datamesh_engine::world::Entropy;
use datamesh_node::assemble::Client;
use datamesh_node::charter::Charter;
use datamesh_node::files::{Existing, FileSink, FileSource};
use datamesh_node::home::Home;
use datamesh_node::keyring::Identity;
use datamesh_node::scheme::scheme;
use datamesh_node::settings::{ByteSize, PeerAddress, Settings};
use datamesh_node::system::SystemEntropy;
use serde_json::{Value, json};

use crate::args::DemoArgs;
use crate::command::CommandError;
use crate::context::Context;
use crate::exit::Exit;
use crate::processes::{NodeProcess, start_mesh};
use crate::ui::{Ui, bytes, duration, rate};

/// Nodes of the mesh.
const NODE_COUNT: usize = 6;
/// Nodes that are killed at a time: what the scheme of six nodes survives.
const KILL_COUNT: usize = 2;
/// Bytes of the file that is made where none is given.
const GENERATED_SIZE: u64 = 256 << 20;
/// Bytes that are compared at once.
const COMPARE_SIZE: usize = 1 << 20;

/// A demonstration under way.
struct Demo<'a> {
    ui: &'a Ui,
    /// Where its client keeps things: below the directory.
    home: Home,
    settings: Settings,
    /// Before the directory, so that they have stopped writing to it when it is removed.
    nodes: Vec<NodeProcess>,
    directory: tempfile::TempDir,
    owner: Arc<Identity>,
    started: Instant,
}

pub(super) async fn run(args: &DemoArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let resolved = context.settings(Vec::new())?;
    let directory = tempfile::Builder::new().prefix("datamesh-demo-").tempdir();
    let directory =
        directory.map_err(|error| CommandError::io("a temporary directory can't be made", error))?;
    let owner = Arc::new(Identity::random(&mut |buffer| SystemEntropy.fill(buffer)));
    let home = Home::at(directory.path().join("client"));
    let mut settings = resolved.settings().clone();
    // What comes back is to come from the nodes.
    settings.cache.capacity = ByteSize::from_bytes(0);
    let mut demo = Demo { ui, home, settings, directory, nodes: Vec::new(), owner, started: Instant::now() };
    let file = match &args.file {
        Some(file) => file.clone(),
        None => demo.generate().await?,
    };
    demo.tell_story(&file).await?;
    let Demo { nodes, directory, .. } = demo;
    let stops = futures::future::join_all(nodes.into_iter().map(NodeProcess::stop)).await;
    stops.into_iter().collect::<Result<(), _>>()?;
    directory.close().map_err(|error| CommandError::io("the temporary directory can't be removed", error))
}

impl Demo<'_> {
    async fn tell_story(&mut self, file: &Path) -> Result<(), CommandError> {
        self.start_nodes().await?;
        let done = self.put(file).await?;
        self.kill_nodes().await?;
        self.get_and_compare(file, done.object, "two nodes short").await?;
        self.replace_nodes().await?;
        self.repair(done.object).await?;
        self.kill_nodes().await?;
        self.get_and_compare(file, done.object, "four of the six first nodes gone").await?;
        let total = self.started.elapsed();
        self.step("done", total, format!("every byte came back, twice, in {}", duration(total)), json!({}))
    }

    async fn generate(&self) -> Result<PathBuf, CommandError> {
        let started = Instant::now();
        let path = self.directory.path().join("file");
        let target = path.clone();
        let made = tokio::task::spawn_blocking(move || generate(&target, GENERATED_SIZE)).await;
        let made = made.map_err(io::Error::other).flatten();
        made.map_err(|error| CommandError::io("a file can't be generated", error))?;
        let text = format!("made a file of {} of random bytes", bytes(GENERATED_SIZE));
        self.step("file", started.elapsed(), text, json!({ "size": GENERATED_SIZE }))?;
        Ok(path)
    }

    async fn start_nodes(&mut self) -> Result<(), CommandError> {
        let started = Instant::now();
        self.nodes = start_mesh(self.directory.path(), NODE_COUNT, "1TB").await?;
        self.wait_until_known(NODE_COUNT).await?;
        let pids: Vec<String> =
            self.nodes.iter().filter_map(NodeProcess::pid).map(|pid| pid.to_string()).collect();
        let text = format!("started {NODE_COUNT} nodes: processes {}", pids.join(", "));
        self.step("start", started.elapsed(), text, json!({ "pids": pids }))
    }

    async fn put(&self, file: &Path) -> Result<Put, CommandError> {
        let started = Instant::now();
        let unreadable = |error| CommandError::io(format!("{} can't be read", file.display()), error);
        let mut source = FileSource::open(file).await.map_err(unreadable)?;
        let client = self.client().await?;
        let order = PutOrder {
            scheme: scheme(&self.settings.put, self.settings.put.scheme, &client.world.peers.topology())?,
            name: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            kind: Kind::File,
            media_type: None,
            metadata: std::collections::BTreeMap::new(),
            expected_size: source.size(),
            owner: Arc::clone(&self.owner),
            recipients: Vec::new(),
            term: Term::UntilReleased,
        };
        let progress = Arc::new(self.ui.progress("putting"));
        let done = put(&client.world, client.transfer, progress, &mut source, &order).await?;
        client.close().await;
        let elapsed = started.elapsed();
        let whole = if done.acknowledged == Wholeness::Whole { "whole" } else { "degraded" };
        let text = format!(
            "put {}: {} in {} stripes of {}, {} stored, acknowledged {whole}, {}",
            order.name,
            bytes(done.size),
            done.stripe_count,
            order.scheme.redundancy,
            bytes(done.stored_size),
            rate(done.size, elapsed),
        );
        let object = json!({ "object": done.object.to_string(), "size": done.size, "acknowledged": done.acknowledged });
        self.step("put", elapsed, text, object)?;
        Ok(done)
    }

    /// Kills nodes as a crash would, and deletes their disks.
    async fn kill_nodes(&mut self) -> Result<(), CommandError> {
        let started = Instant::now();
        let mut killed = Vec::new();
        for node in self.nodes.drain(..KILL_COUNT) {
            let home = node.home.clone();
            killed.push(node.peer_id.clone());
            node.kill().await?;
            std::fs::remove_dir_all(&home)
                .map_err(|error| CommandError::io(format!("{} can't be removed", home.display()), error))?;
        }
        let text = format!(
            "killed {KILL_COUNT} nodes for good (kill -9) and deleted their disks: {}",
            killed.iter().map(|id| short(id)).collect::<Vec<_>>().join(", ")
        );
        self.step("kill", started.elapsed(), text, json!({ "killed": killed }))
    }

    async fn get_and_compare(&self, file: &Path, object: ObjectId, how: &str) -> Result<(), CommandError> {
        let started = Instant::now();
        let out = self.directory.path().join("out");
        let client = self.client().await?;
        let identities = [Identity::from_seed(self.owner.seed())];
        let progress = Arc::new(self.ui.progress("getting"));
        let reading = Reading::open(&client.world, client.transfer, progress, object, &identities).await?;
        let unwritable = |error| CommandError::io("the output can't be written", error);
        let mut sink = FileSink::create(&out, Existing::Replace).map_err(unwritable)?;
        let size = reading.copy(None, DigestCheck::Check, &mut sink).await?;
        sink.finish().await.map_err(unwritable)?;
        client.close().await;
        let elapsed = started.elapsed();
        let (left, right) = (file.to_owned(), out);
        let compared = tokio::task::spawn_blocking(move || same_bytes(&left, &right)).await;
        let same = compared.map_err(io::Error::other).flatten();
        if !same.map_err(|error| CommandError::io("the files can't be compared", error))? {
            return Err(CommandError::new(Exit::Failed, "the file that came back is another one"));
        }
        let text =
            format!("got {} back with {how}, byte for byte the same, {}", bytes(size), rate(size, elapsed));
        self.step("get", elapsed, text, json!({ "size": size, "same": true }))
    }

    async fn replace_nodes(&mut self) -> Result<(), CommandError> {
        let started = Instant::now();
        let entries = self.entries();
        for number in NODE_COUNT..NODE_COUNT + KILL_COUNT {
            let home = self.directory.path().join(format!("node-{number}"));
            self.nodes.push(NodeProcess::start(&home, &entries, "1TB").await?);
        }
        self.wait_until_known(NODE_COUNT + KILL_COUNT).await?;
        self.step("join", started.elapsed(), format!("{KILL_COUNT} new nodes joined, empty"), json!({}))
    }

    async fn repair(&self, object: ObjectId) -> Result<(), CommandError> {
        let started = Instant::now();
        let client = self.client().await?;
        let progress = Arc::new(self.ui.progress("repairing"));
        let repaired = repair(&client.world, client.transfer, progress, object).await?;
        client.close().await;
        if repaired.unplaced > 0 {
            let message = format!("{} shards found no node", repaired.unplaced);
            return Err(CommandError::new(Exit::NotEnough, message));
        }
        let text = format!(
            "repaired without any key: {} shards and {} manifest replicas made again on the new nodes",
            repaired.shards_repaired, repaired.replicas_repaired
        );
        let shown = json!({ "shards": repaired.shards_repaired, "replicas": repaired.replicas_repaired });
        self.step("repair", started.elapsed(), text, shown)
    }

    async fn client(&self) -> Result<Client, CommandError> {
        Ok(Client::joined(&self.home, &self.settings, &self.entries(), &Charter::default()).await?)
    }

    fn entries(&self) -> Vec<PeerAddress> {
        self.nodes.iter().flat_map(|node| node.addresses.clone()).collect()
    }

    /// Waits until a client that joins knows this many nodes.
    async fn wait_until_known(&self, node_count: usize) -> Result<(), CommandError> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let client = self.client().await?;
            let known = client.world.peers.topology().len();
            client.close().await;
            if known >= node_count {
                return Ok(());
            }
            if Instant::now() > deadline {
                let message = format!("only {known} of {node_count} nodes know each other");
                return Err(CommandError::new(Exit::Failed, message));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Tells one step: a line for people, an object for programs.
    fn step(
        &self,
        step: &str,
        took: Duration,
        text: impl Display,
        details: Value,
    ) -> Result<(), CommandError> {
        let mut object = json!({ "step": step, "seconds": took.as_secs_f64() });
        if let (Value::Object(object), Value::Object(details)) = (&mut object, details) {
            object.extend(details);
        }
        let at = format!("{:>6.1} s", self.started.elapsed().as_secs_f64());
        self.ui.result(format!("{at}  {text} ({})", duration(took)), object)
    }
}

/// The end of a peer id, which tells six nodes apart.
fn short(peer_id: &str) -> String {
    let tail: String = peer_id.chars().skip(peer_id.chars().count().saturating_sub(8)).collect();
    format!("…{tail}")
}

pub(super) fn generate(path: &Path, size: u64) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    let mut buffer = vec![0; COMPARE_SIZE];
    let mut left = size;
    while left > 0 {
        let step = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        SystemEntropy.fill(&mut buffer[..step]);
        file.write_all(&buffer[..step])?;
        left -= u64::try_from(step).expect("a step is small");
    }
    Ok(())
}

/// Whether two files have the same bytes.
fn same_bytes(left: &Path, right: &Path) -> io::Result<bool> {
    let (mut left, mut right) = (std::fs::File::open(left)?, std::fs::File::open(right)?);
    if left.metadata()?.len() != right.metadata()?.len() {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (vec![0; COMPARE_SIZE], vec![0; COMPARE_SIZE]);
    loop {
        let count = left.read(&mut ours)?;
        if count == 0 {
            return Ok(true);
        }
        right.read_exact(&mut theirs[..count])?;
        if ours[..count] != theirs[..count] {
            return Ok(false);
        }
    }
}
