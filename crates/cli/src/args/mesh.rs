//! Arguments of the commands about nodes and networks.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, value_parser};
use datamesh_core::admission::{Authorities, TooManyAuthorities};
use datamesh_core::id::{NodeId, OwnerId};
use datamesh_core::topology::Role;
use datamesh_node::discard::Keeping;
use datamesh_node::home::Name;
use datamesh_node::settings::{ByteSize, Multiaddr, Override, ParsePeerAddressError, PeerAddress, Period};

use crate::args::gateway::BesideArgs;
use crate::args::json;
use crate::args::value::{Instant, role, setting, unrepeated_setting};

const ROLES: [&str; 3] = ["storage", "archival", "cache"];
const UP_NODES_MAX: u8 = 64;

/// A node that loses what it is given must not be reached from other machines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node that throws shards away listens on loopback addresses alone")]
pub struct LosingNodeError;

/// Arguments of every command that runs a node.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Port to listen on, for TCP and for QUIC; 0 takes a free one [setting: network.listen_port]
    #[arg(long, value_parser = setting("network.listen_port"))]
    pub port: Option<Override>,
    /// Address to listen on in place of every interface; may be repeated [setting: network.listen]
    #[arg(long, value_name = "MULTIADDR", conflicts_with = "port")]
    pub listen: Vec<Multiaddr>,
    /// What the node does for the mesh
    #[arg(long, default_value = "storage", value_parser = PossibleValuesParser::new(ROLES).try_map(|text| role(&text)))]
    pub role: Role,
    /// Bytes that the node offers, as in 500GB [setting: storage.capacity]
    #[arg(long, value_name = "SIZE", value_parser = setting("storage.capacity"))]
    pub capacity: Option<Override>,
    /// Where the node keeps closed segments, as in s3://bucket/prefix?region=eu-central-1 [setting: backend.url]
    #[arg(long, value_name = "URL", value_parser = unrepeated_setting("backend.url"), hide_possible_values = true)]
    pub backend: Option<Override>,
    /// Failure domain that the node stands in [setting: placement.domain]
    #[arg(long, value_name = "REGION/SITE/HOST", value_parser = setting("placement.domain"), hide_possible_values = true)]
    pub domain: Option<Override>,
    /// The gateway.
    #[command(flatten)]
    pub beside: BesideArgs,
    /// Stop when standard input ends: so a node never outlives the program that started it
    #[arg(long, hide = true)]
    pub until_stdin_ends: bool,
    /// For benchmarks only: acknowledge shards and throw them away, so that all that is put here is lost; only for a node
    /// that listens on loopback alone
    #[arg(long, hide = true, requires = "listen")]
    pub lose_shards_for_benchmark: bool,
}

impl NodeArgs {
    /// What the node keeps of what it is given.
    ///
    /// # Errors
    /// When it would lose what others put: it listens beyond this machine.
    pub fn keeping(&self) -> Result<Keeping, LosingNodeError> {
        let loopback = |address: &Multiaddr| {
            let text = address.to_string();
            text.starts_with("/ip4/127.") || text.starts_with("/ip6/::1/")
        };
        match (self.lose_shards_for_benchmark, self.listen.iter().all(loopback)) {
            (false, _) => Ok(Keeping::Everything),
            (true, true) => Ok(Keeping::BlocksForBenchmark),
            (true, false) => Err(LosingNodeError),
        }
    }

    /// The settings that its flags override.
    ///
    /// # Panics
    /// Never: what was parsed as addresses is a list of addresses.
    #[must_use]
    pub fn overrides(&self) -> Vec<Override> {
        let mut overrides: Vec<Override> = [&self.port, &self.capacity, &self.backend, &self.domain]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        if !self.listen.is_empty() {
            let addresses: Vec<String> = self.listen.iter().map(ToString::to_string).collect();
            let listen = Override::new("network.listen", &addresses.join(","));
            overrides.push(listen.expect("addresses are a list of addresses"));
        }
        overrides.extend(self.beside.overrides());
        overrides
    }
}

/// What a command is told of a private or restricted mesh.
#[derive(Debug, Args)]
pub struct MeshSecretArgs {
    /// Read the secret of a private mesh from the first line of a file, or of standard input for `-` [env:
    /// DATAMESH_MESH_SECRET holds the secret itself]
    #[arg(long = "mesh-secret-file", value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Owner id of an authority of a restricted mesh; may be repeated, and must be the same for all that are in the mesh
    #[arg(long = "authority", value_name = "OWNER")]
    pub authorities: Vec<OwnerId>,
}

impl MeshSecretArgs {
    /// The authorities that are named.
    ///
    /// # Errors
    /// [`TooManyAuthorities`].
    pub fn authorities(&self) -> Result<Authorities, TooManyAuthorities> {
        Authorities::new(self.authorities.iter().copied())
    }
}

/// Arguments of `bootstrap`.
#[derive(Debug, Args)]
#[command(after_long_help = json::NODE)]
pub struct BootstrapArgs {
    /// Found a private mesh, which only who has its secret can enter: the secret is made, and kept in the home
    #[arg(long)]
    pub private: bool,
    /// Found a restricted mesh, which only nodes and owners enter that its authorities admit: the current identity is one
    #[arg(long)]
    pub restricted: bool,
    /// The mesh.
    #[command(flatten)]
    pub mesh: MeshSecretArgs,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Arguments of `service`.
#[derive(Debug, Args)]
#[command(after_long_help = json::NODE)]
pub struct ServiceArgs {
    /// Address of a node of the mesh, with its peer id inside; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    pub bootstrap: Vec<PeerAddress>,
    /// Peer id of a node of the mesh
    #[arg(long, value_name = "PEER_ID", requires = "bootstrap_addr")]
    pub bootstrap_peer: Option<NodeId>,
    /// Address of that node
    #[arg(long, value_name = "MULTIADDR", requires = "bootstrap_peer")]
    pub bootstrap_addr: Option<Multiaddr>,
    /// The mesh.
    #[command(flatten)]
    pub mesh: MeshSecretArgs,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

impl ServiceArgs {
    /// The nodes that the mesh can be found at.
    ///
    /// # Errors
    /// [`ParsePeerAddressError::Stranger`] if the address names another peer than the one beside it.
    pub fn entries(&self) -> Result<Vec<PeerAddress>, ParsePeerAddressError> {
        let pair = self.bootstrap_peer.zip(self.bootstrap_addr.clone());
        let pair = pair.map(|(peer, address)| PeerAddress::new(peer, address)).transpose()?;
        Ok(self.bootstrap.iter().cloned().chain(pair).collect())
    }
}

/// Arguments of `node`.
#[derive(Debug, Args)]
pub struct NodeStateArgs {
    /// What it is to do.
    #[command(subcommand)]
    pub command: NodeCommand,
}

/// What the node of a home is to do.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Give away what the node holds and take nothing new, so that it can be stopped for good; it goes on serving meanwhile
    #[command(after_long_help = json::NODE_STATE)]
    Drain,
    /// Take and hold parts again
    #[command(after_long_help = json::NODE_STATE)]
    Activate,
}

/// Arguments of `admit`.
#[derive(Debug, Args)]
pub struct AdmitArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AdmitCommand,
}

/// What an authority of a restricted mesh can do.
#[derive(Debug, Subcommand)]
pub enum AdmitCommand {
    /// Let a node be part of the mesh
    #[command(after_long_help = json::ADMITTED)]
    Node {
        /// Its peer id
        #[arg(value_name = "PEER_ID")]
        key: NodeId,
        /// Until this instant in UTC, rounded up to a whole hour [default: until it is revoked]
        #[arg(long, value_name = "DATE")]
        until: Option<Instant>,
        /// Change the roll in this file and reach no mesh: for an authority whose key is kept apart. What is not there is made
        #[arg(long, value_name = "FILE")]
        roll: Option<PathBuf>,
    },
    /// Let an owner put objects
    #[command(after_long_help = json::ADMITTED)]
    Owner {
        /// Its owner id, as `datamesh keys list` shows it
        #[arg(value_name = "OWNER")]
        key: OwnerId,
        /// Bytes that it may have in the whole mesh, parity and manifests included, as in 500GB [default: no bound]
        #[arg(long, value_name = "SIZE")]
        quota: Option<ByteSize>,
        /// Until this instant in UTC, rounded up to a whole hour [default: until it is revoked]
        #[arg(long, value_name = "DATE")]
        until: Option<Instant>,
        /// Change the roll in this file and reach no mesh: for an authority whose key is kept apart. What is not there is made
        #[arg(long, value_name = "FILE")]
        roll: Option<PathBuf>,
    },
    /// Admit a node or an owner no more
    #[command(after_long_help = json::REVOCATION)]
    Revoke {
        /// Its peer id or owner id
        #[arg(value_name = "KEY")]
        key: String,
        /// Change the roll in this file and reach no mesh: for an authority whose key is kept apart. What is not there is made
        #[arg(long, value_name = "FILE")]
        roll: Option<PathBuf>,
    },
    /// List who is admitted, and by which authority
    #[command(after_long_help = json::ADMISSION)]
    List {
        /// Of the roll in this file, instead of the mesh
        #[arg(long, value_name = "FILE")]
        roll: Option<PathBuf>,
    },
    /// Tell the mesh of a roll that was made with --roll; whoever has it can
    #[command(after_long_help = json::ENROLLED)]
    Publish {
        /// The roll
        #[arg(value_name = "FILE")]
        roll: PathBuf,
    },
}

/// Arguments of `join`.
#[derive(Debug, Args)]
#[command(after_long_help = json::NETWORK)]
pub struct JoinArgs {
    /// Address of a node of the mesh, with its peer id inside
    #[arg(value_name = "MULTIADDR")]
    pub address: PeerAddress,
    /// What to call the mesh [default: mesh]
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    /// The mesh.
    #[command(flatten)]
    pub mesh: MeshSecretArgs,
}

/// Arguments of `networks`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_long_help = json::NETWORK)]
pub struct NetworksArgs {
    /// What to do; nothing lists them.
    #[command(subcommand)]
    pub command: Option<NetworksCommand>,
}

/// What to do with networks.
#[derive(Debug, Subcommand)]
pub enum NetworksCommand {
    /// Make a mesh the one that commands talk to
    #[command(after_long_help = json::NETWORK)]
    Use {
        /// Name of the mesh; `embedded` is the one in the home itself
        name: Name,
    },
}

/// Arguments of `peers`.
#[derive(Debug, Args)]
#[command(after_long_help = json::PEER)]
pub struct PeersArgs {}

/// Arguments of `health`.
#[derive(Debug, Args)]
#[command(after_long_help = json::HEALTH)]
pub struct HealthArgs {
    /// End with code 1 where the worst alert is a WARNING, and with code 4 where it is CRITICAL or LOST
    #[arg(long)]
    pub check: bool,
}

/// Arguments of `metrics`.
#[derive(Debug, Args)]
#[command(after_long_help = json::SAMPLE)]
pub struct MetricsArgs {
    /// Peer id of the one node to ask [default: every node that answers, and this client]
    #[arg(value_name = "NODE")]
    pub node: Option<NodeId>,
}

/// Arguments of `bandwidth`.
#[derive(Debug, Args)]
#[command(after_long_help = json::BANDWIDTH)]
pub struct BandwidthArgs {}

/// Arguments of `up`.
#[derive(Debug, Args)]
#[command(after_long_help = json::UP)]
pub struct UpArgs {
    /// How many nodes, 1 to 64
    #[arg(long, value_name = "COUNT", default_value_t = 6, value_parser = value_parser!(u8).range(1..=i64::from(UP_NODES_MAX)))]
    pub nodes: u8,
    /// Bytes that each node offers, as in 500GB [setting: storage.capacity]
    #[arg(long, value_name = "SIZE", value_parser = setting("storage.capacity"))]
    pub capacity: Option<Override>,
    /// The gateway, which runs unless told otherwise.
    #[command(flatten)]
    pub beside: BesideArgs,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_long_help = json::DEMO)]
pub struct DemoArgs {
    /// File to put [default: 256 MiB of random bytes]
    pub file: Option<PathBuf>,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_long_help = json::STAGE)]
pub struct BenchArgs {
    /// Bytes to measure with
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub size: ByteSize,
    /// Measure nothing but 1,000 requests for a cached chunk: from the own disk, and from a cache node on loopback
    #[arg(long)]
    pub cached: bool,
}

/// Arguments of `bench-fetch`.
#[derive(Debug, Args)]
#[command(after_long_help = json::LOAD)]
pub struct BenchFetchArgs {
    /// Id of the object, or its name in the catalog
    #[arg(value_name = "ID|NAME")]
    pub object: String,
    /// Fetch so many shards at once
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = value_parser!(u16).range(1..=1024))]
    pub at_once: u16,
    /// Go on for so long, once standard input has ended
    #[arg(long = "for", value_name = "DURATION", default_value = "10s")]
    pub duration: Period,
    /// Ask for so many whole chunks instead, one after another, each as a get does: the own cache, then cache nodes, then
    /// holders
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u16).range(1..), conflicts_with_all = ["at_once", "duration"])]
    pub chunks: Option<u16>,
}
