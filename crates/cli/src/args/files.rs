//! Arguments of the commands about objects.

use std::path::PathBuf;

use clap::Args;
use datamesh_core::lease::Term;
use datamesh_core::time::{Epoch, Timestamp};
use datamesh_node::keyring::Recipient;
use datamesh_node::settings::{Override, Period};

use crate::args::json;
use crate::args::value::{ByteRange, Instant, Metadata, setting};

/// How long something is to be kept.
#[derive(Debug, Args)]
pub struct TermArgs {
    /// Keep it for so long, as in 30d, rounded up to whole hours [default: until it is deleted]
    #[arg(long, value_name = "TIME")]
    pub keep: Option<Period>,
    /// Keep it until this instant in UTC, rounded up to a whole hour, as in 2027-03-01 or 2027-03-01T12:00:00Z
    #[arg(long, value_name = "DATE", conflicts_with = "keep")]
    pub until: Option<Instant>,
}

impl TermArgs {
    /// The term that they say.
    #[must_use]
    pub fn term(&self) -> Term {
        match (self.keep, self.until) {
            (Some(period), _) => Term::For(period.duration()),
            (None, Some(Instant(instant))) => Term::Until(instant.next_epoch()),
            (None, None) => Term::UntilReleased,
        }
    }

    /// When the term ended, if that was before this instant.
    #[must_use]
    pub fn ended(&self, now: Timestamp) -> Option<Epoch> {
        let end = self.term().end(now);
        (end <= now.epoch()).then_some(end)
    }
}

/// Arguments of `put`.
#[derive(Debug, Args)]
#[command(after_long_help = json::PUT)]
pub struct PutArgs {
    /// Files, or with -r folders; `-` is standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Store folders, each as one object
    #[arg(short, long)]
    pub recursive: bool,
    /// Let this recipient read it too; may be repeated
    #[arg(long, value_name = "RECIPIENT")]
    pub to: Vec<Recipient>,
    /// Who can read it, and what deduplicates with what [setting: put.mode]
    #[arg(long, value_parser = setting("put.mode"))]
    pub mode: Option<Override>,
    /// Data and parity shards as K+M, `archive` for 16+8, or `auto` [setting: put.scheme]
    #[arg(long, value_parser = setting("put.scheme"), hide_possible_values = true)]
    pub scheme: Option<Override>,
    /// Where chunks end [setting: put.chunking]
    #[arg(long, value_parser = setting("put.chunking"))]
    pub chunking: Option<Override>,
    /// `none`, `zstd` or `zstd:LEVEL` [setting: put.compression]
    #[arg(long, value_parser = setting("put.compression"), hide_possible_values = true)]
    pub compression: Option<Override>,
    /// How much it gets where there is not enough for all [setting: transfer.priority]
    #[arg(long, value_parser = setting("transfer.priority"))]
    pub priority: Option<Override>,
    /// Send no faster than this, as in 10MB/s [setting: transfer.upload_rate_per_transfer]
    #[arg(long, value_name = "RATE", value_parser = setting("transfer.upload_rate_per_transfer"), hide_possible_values = true)]
    pub limit: Option<Override>,
    /// Say each second on stderr how far it is, where no bar is shown
    #[arg(long)]
    pub progress: bool,
    /// How long it is kept.
    #[command(flatten)]
    pub term: TermArgs,
    /// Name in the catalog [default: the file's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Media type, as in image/jpeg
    #[arg(long = "type", value_name = "MEDIA_TYPE")]
    pub media_type: Option<String>,
    /// Metadata; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub meta: Vec<Metadata>,
    /// Start anew though the same put was broken off before, and release what it had stored
    #[arg(long)]
    pub restart: bool,
}

impl PutArgs {
    /// The settings that its flags override.
    #[must_use]
    pub fn overrides(&self) -> Vec<Override> {
        let how = [&self.mode, &self.scheme, &self.chunking, &self.compression];
        how.into_iter().chain([&self.priority, &self.limit]).flatten().cloned().collect()
    }
}

/// Arguments of `get`.
#[derive(Debug, Args)]
#[command(after_long_help = json::GET)]
pub struct GetArgs {
    /// Id of the object, or its name in the catalog
    #[arg(value_name = "ID|NAME")]
    pub object: String,
    /// Where to write it, `-` for standard output [default: its name, in the current directory]
    #[arg(value_name = "OUT")]
    pub out: Option<PathBuf>,
    /// Only the bytes from A to B, counted from 0, B included; `A-` for the rest
    #[arg(long, value_name = "A-B")]
    pub range: Option<ByteRange>,
    /// Check the digest of the whole after writing it
    #[arg(long, conflicts_with = "range")]
    pub verify: bool,
    /// Replace OUT if it exists
    #[arg(long)]
    pub force: bool,
    /// How much it gets where there is not enough for all [setting: transfer.priority]
    #[arg(long, value_parser = setting("transfer.priority"))]
    pub priority: Option<Override>,
    /// Receive no faster than this, as in 10MB/s [setting: transfer.download_rate_per_transfer]
    #[arg(long, value_name = "RATE", value_parser = setting("transfer.download_rate_per_transfer"), hide_possible_values = true)]
    pub limit: Option<Override>,
    /// Say each second on stderr how far it is, where no bar is shown
    #[arg(long)]
    pub progress: bool,
}

impl GetArgs {
    /// The settings that its flags override.
    #[must_use]
    pub fn overrides(&self) -> Vec<Override> {
        [&self.priority, &self.limit].into_iter().flatten().cloned().collect()
    }
}

/// Arguments of `list`.
#[derive(Debug, Args)]
#[command(after_long_help = json::ENTRY)]
pub struct ListArgs {}

/// Arguments of `info`.
#[derive(Debug, Args)]
#[command(after_long_help = json::INFO)]
pub struct InfoArgs {
    /// Id of the object, or its name in the catalog
    #[arg(value_name = "ID|NAME")]
    pub object: String,
}

/// Arguments of `stats`.
#[derive(Debug, Args)]
#[command(after_long_help = json::STATS)]
pub struct StatsArgs {}

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_long_help = json::HEALTH_OF_OBJECT)]
pub struct VerifyArgs {
    /// Id of the object, or its name in the catalog
    #[arg(value_name = "ID|NAME")]
    pub object: String,
    /// Read every shard back in place of asking whether it is there
    #[arg(long)]
    pub deep: bool,
}

/// Arguments of `repair`.
#[derive(Debug, Args)]
#[command(after_long_help = json::REPAIR)]
pub struct RepairArgs {
    /// Id of the object, or its name in the catalog [default: every object of the catalog]
    #[arg(value_name = "ID|NAME")]
    pub object: Option<String>,
}

/// Arguments of `renew`.
#[derive(Debug, Args)]
#[command(after_long_help = json::RENEW)]
pub struct RenewArgs {
    /// Id of the object, or its name in the catalog
    #[arg(value_name = "ID|NAME")]
    pub object: String,
    /// How long it is kept from now on; without either, until it is deleted.
    #[command(flatten)]
    pub term: TermArgs,
}

/// Arguments of `gc`.
#[derive(Debug, Args)]
#[command(after_long_help = json::GC)]
pub struct GcArgs {}

/// Arguments of `delete`.
#[derive(Debug, Args)]
#[command(after_long_help = json::DELETE)]
pub struct DeleteArgs {
    /// Id of the object, or its name in the catalog
    #[arg(value_name = "ID|NAME")]
    pub object: String,
}
