//! Arguments: clap types and nothing else.

mod files;
mod gateway;
pub mod json;
mod keys;
mod mesh;
mod settings;
mod value;

use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use clap::builder::Styles;
use clap::{ArgAction, Parser, Subcommand};
use datamesh_node::home::Name;

use crate::exit::Exit;

pub use files::{
    DeleteArgs, GcArgs, GetArgs, InfoArgs, ListArgs, PutArgs, RenewArgs, RepairArgs, StatsArgs, TermArgs,
    VerifyArgs,
};
pub use gateway::{
    AccessArgs, AccessCommand, AccessGrantArgs, AccessNewArgs, AccessRemoveArgs, BesideArgs, GatewayArgs,
    GrantArg,
};
pub use keys::{
    InitArgs, KeysArgs, KeysCommand, KeysExportArgs, KeysImportArgs, KeysNewArgs, KeysRotateArgs, KeysUseArgs,
};
pub use mesh::{
    AdmitArgs, AdmitCommand, BandwidthArgs, BenchArgs, BenchFetchArgs, BootstrapArgs, DemoArgs, HealthArgs,
    JoinArgs, MetricsArgs, NetworksArgs, NetworksCommand, NodeArgs, NodeCommand, NodeStateArgs, PeersArgs,
    ServiceArgs, UpArgs,
};
pub use settings::{CompletionsArgs, ConfigArgs, ConfigCommand, ConfigGetArgs, ConfigSetArgs, ManArgs};
pub use value::{ByteRange, Instant, Metadata, ParseByteRangeError, ParseInstantError};

const STYLES: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(Style::new().dimmed());

/// Stores files on many machines so that losing some of them loses nothing.
#[derive(Debug, Parser)]
#[command(name = "datamesh", version, styles = STYLES, max_term_width = 100, after_help = Exit::help())]
pub struct Args {
    /// What every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Directory of identity, settings, catalog and shards [default: the platform's data directory]
    #[arg(long, global = true, value_name = "DIR", env = "DATAMESH_HOME", hide_env_values = true)]
    pub home: Option<PathBuf>,
    /// Network to talk to, in place of the current one; `embedded` is the mesh in the home itself
    #[arg(long, global = true, value_name = "NAME")]
    pub network: Option<Name>,
    /// Read the identity's password from the first line of a file
    #[arg(long, global = true, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Print one JSON object per result on stdout, and errors as JSON on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more on stderr; twice for details, three times for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Show no progress and no notes
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the home and an identity
    Init(InitArgs),
    /// Store files or folders
    Put(PutArgs),
    /// Fetch an object
    Get(GetArgs),
    /// List the objects of the catalog
    List(ListArgs),
    /// Show one object: size, scheme, where each shard is, what it survives
    Info(InfoArgs),
    /// Show totals and ratios of the catalog
    Stats(StatsArgs),
    /// Check every shard of an object where it lies
    Verify(VerifyArgs),
    /// Restore full redundancy
    Repair(RepairArgs),
    /// Keep an object for longer than it was put for
    Renew(RenewArgs),
    /// Release an object's leases, so that nodes may reclaim its space
    Delete(DeleteArgs),
    /// Give back the space of what was deleted, in the mesh of this home; nodes of other meshes do so by themselves
    Gc(GcArgs),
    /// Run the first node of a mesh
    Bootstrap(BootstrapArgs),
    /// Run a node that joins a mesh
    Service(ServiceArgs),
    /// Serve S3, HTTP and a dashboard
    Gateway(GatewayArgs),
    /// Say who may use the gateway, and for what
    Access(AccessArgs),
    /// Tell the node of this home to give away what it holds, or to hold again
    Node(NodeStateArgs),
    /// Say who may be part of a restricted mesh: for its authorities
    Admit(AdmitArgs),
    /// Make commands talk to a mesh
    Join(JoinArgs),
    /// List the meshes that were joined, or choose one
    Networks(NetworksArgs),
    /// List the nodes of the mesh
    Peers(PeersArgs),
    /// Show how the mesh is, with alerts
    Health(HealthArgs),
    /// Print metrics in Prometheus text: of every node that answers, and of this client
    Metrics(MetricsArgs),
    /// Show how fast bytes move, what limits them, and what was moved with each node
    Bandwidth(BandwidthArgs),
    /// Run a whole mesh of node processes on this machine, until Ctrl-C
    Up(UpArgs),
    /// Show in a minute what the program does: put, lose two nodes, get, repair
    Demo(DemoArgs),
    /// Measure this machine
    Bench(BenchArgs),
    /// Fetch the shards of an object over and over, to load the nodes that hold them (for benchmarks)
    #[command(hide = true)]
    BenchFetch(BenchFetchArgs),
    /// List, make and move identities
    Keys(KeysArgs),
    /// Show, change and check settings
    Config(ConfigArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Write the man pages
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Args, Command};

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_become_overrides_of_settings() {
        let words = "datamesh put --mode dedup --scheme 2+2 --chunking cdc --compression none --meta a=b=c x";
        let args = Args::try_parse_from(words.split(' ')).expect("valid");
        let Command::Put(put) = args.command else { panic!("another command") };
        assert_eq!(put.overrides().len(), 4);
        assert_eq!((put.meta[0].key.as_str(), put.meta[0].value.as_str()), ("a", "b=c"));

        let words = "datamesh service --listen /ip4/127.0.0.1/tcp/0 --listen /ip4/127.0.0.1/udp/0/quic-v1 \
                     --capacity 1GB --domain a/b/c";
        let args = Args::try_parse_from(words.split_whitespace()).expect("valid");
        let Command::Service(service) = args.command else { panic!("another command") };
        assert_eq!(service.node.overrides().len(), 3);
    }

    #[test]
    fn what_no_setting_could_be_is_refused_while_parsing() {
        for words in [
            "put --mode secret x",
            "put --scheme 0+2 x",
            "put --meta novalue x",
            "put --to nobody x",
            "put",
            "get x --range 9-3",
            "get x --range a-b",
            "service --capacity 500",
            "service --bootstrap /ip4/127.0.0.1/tcp/1",
            "service --bootstrap-addr /ip4/127.0.0.1/tcp/1",
            "bootstrap --port 65536",
            "up --nodes 0",
            "bench --size 1",
            "--network ../x list",
            "list -q -v",
            "lisst",
            "",
        ] {
            let words = ["datamesh"].into_iter().chain(words.split_whitespace());
            assert!(Args::try_parse_from(words.clone()).is_err(), "{:?}", words.collect::<Vec<_>>());
        }
    }
}
