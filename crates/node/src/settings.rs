//! Typed settings: every unit in the type, every unknown key an error.
//!
//! One table below defines each setting; what parses, documents and shows settings is made from it. A value comes from,
//! weakest first: its default, the settings file, the environment, a flag.

mod alert;
mod backend;
mod count;
mod file;
mod gateway;
mod peer;
mod policy;
mod quota;
mod rate;
mod unit;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use datamesh_core::scheme::{Compression, Mode};
use datamesh_engine::traffic::Priority;
pub use multiaddr::Multiaddr;
use toml_edit::Value;

pub use alert::{CommandLine, Switch, WebAddress};
pub use backend::{BackendChoice, OptionalPath};
pub use count::{ConcurrentTransfers, RetryAttempts, RetryBackoff, StripesInFlight, WindowSize};
pub use file::{SettingsFile, SettingsFileError};
pub use gateway::{ClassRule, OptionalDomain, RegionName};
pub use peer::{ParsePeerAddressError, PeerAddress};
pub use policy::{PolicyRule, PutSubject};
pub use quota::OwnerQuota;
pub use rate::RateLimit;
pub use unit::{ByteSize, ParseByteSizeError, ParsePeriodError, Period};
pub use value::{ChunkingChoice, CongestionChoice, DomainChoice, MetricsShare, SchemeChoice};

use value::SettingValue;

const ENVIRONMENT_PREFIX: &str = "DATAMESH_";

/// Environment variables of the program that are no settings, and what they are for.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    ("DATAMESH_HOME", "The directory that `--home` would name."),
    (
        "DATAMESH_LOG",
        "What to log, in place of `-v` and `-q`: a level, or `TARGET=LEVEL` with commas between.",
    ),
    ("DATAMESH_MESH_SECRET", "The secret of a private mesh, in place of `--mesh-secret-file`."),
    ("DATAMESH_BACKEND_PASSWORD", "The password of a Redis server, where `backend.secrets` names no file."),
    ("DATAMESH_BACKEND_USER", "The user of a Redis server, beside that password."),
    ("DATAMESH_PASSWORD", "The password of the identity, where nobody is there to type it."),
];

/// One setting, as the table defines it.
#[derive(Debug)]
pub struct Definition {
    /// Group and name with a dot between.
    pub key: &'static str,
    /// What its value looks like.
    pub form: &'static str,
    /// Values worth offering for completion; others may be valid too.
    pub choices: &'static [&'static str],
    /// Its value unless something sets it.
    pub default: &'static str,
    about: &'static str,
    assign: fn(&mut Settings, &str) -> Result<(), String>,
    text: fn(&Settings) -> String,
    toml: fn(&Settings) -> Value,
}

impl Definition {
    /// The definition of this key.
    #[must_use]
    pub fn of(key: &str) -> Option<&'static Self> {
        DEFINITIONS.iter().find(|definition| definition.key == key)
    }

    /// What the setting is for.
    #[must_use]
    pub fn about(&self) -> &'static str {
        self.about.trim()
    }

    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.key.replace('.', "_").to_uppercase())
    }
}

macro_rules! settings {
    ($($(#[doc = $group_about:literal])+ $group:ident: $type:ident {
        $($(#[doc = $about:literal])+ $name:ident: $value:ty = $default:literal,)+
    })+) => {
        /// Every setting of the program.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings {
            $($(#[doc = $group_about])+ pub $group: $type,)+
        }

        $(
            $(#[doc = $group_about])+
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $type {
                $($(#[doc = $about])+ pub $name: $value,)+
            }
        )+

        impl Default for Settings {
            fn default() -> Self {
                Self {
                    $($group: $type {
                        $($name: <$value>::read($default).expect("a test reads every default"),)+
                    },)+
                }
            }
        }

        /// Every setting's definition, in the order of the settings file.
        pub const DEFINITIONS: &[Definition] = &[
            $($(Definition {
                key: concat!(stringify!($group), ".", stringify!($name)),
                form: <$value>::FORM,
                choices: <$value>::CHOICES,
                default: $default,
                about: concat!($($about),+),
                assign: |settings, text| {
                    settings.$group.$name = <$value>::read(text)?;
                    Ok(())
                },
                text: |settings| settings.$group.$name.text(),
                toml: |settings| settings.$group.$name.toml(),
            },)+)+
        ];
    };
}

settings! {
    /// Where a node listens.
    network: NetworkSettings {
        /// The port that a node listens on, on every interface, for TCP and for QUIC; 0 takes a free one.
        listen_port: u16 = "40871",
        /// The addresses that a node listens on, in place of every interface.
        listen: Vec<Multiaddr> = "",
        /// The port of the data plane, by TCP on the same addresses: shards move there, over TLS, where it can be reached;
        /// 0 takes a free one.
        data_port: u16 = "0",
        /// The congestion control of the data plane's connections, those of this machine to itself aside.
        congestion_control: CongestionChoice = "bbr",
    }
    /// What a node offers of its disk.
    storage: StorageSettings {
        /// The bytes that a node offers.
        capacity: ByteSize = "100GB",
        /// The free bytes that a node leaves on its disk whatever it offers.
        free_floor: ByteSize = "1GiB",
        /// The bytes that a node keeps for each owner at most.
        owner_quota: OwnerQuota = "off",
        /// How often a node gives back the space of what no lease protects any more; once a second at most.
        collect_every: Period = "1h",
        /// How long it may take until a node has read all that it holds again, to find what has rotted.
        scrub_period: Period = "30days",
        /// The directories of the embedded mesh, relative to the home; six of them under the home if there are none.
        disks: Vec<PathBuf> = "",
    }
    /// Where an archival node keeps what it was given, and a storage node what nobody wants.
    backend: BackendSettings {
        /// Where closed segments lie: an S3-compatible store, a Redis server, or a folder; `none` for the own disk.
        url: BackendChoice = "none",
        /// A file with the backend's secrets, relative to the home, that nobody else may read; none takes them from the environment.
        secrets: OptionalPath = "none",
        /// The bytes that the own disk may have of segments; what the backend doesn't take has to wait there.
        local: ByteSize = "1GiB",
        /// How long nothing of a closed segment must have been wanted until it moves to the backend; 0s moves all that is closed at once.
        cold_after: Period = "0s",
        /// The bytes after which a segment is closed; 256 MiB at most.
        segment_size: ByteSize = "16MiB",
    }
    /// Where a node stands.
    placement: PlacementSettings {
        /// The failure domain that a node says it stands in.
        domain: DomainChoice = "auto",
        /// How long a node may be silent before what it holds is made again elsewhere; 30 days at most.
        grace: Period = "4h",
        /// A file with the latency map that all of the mesh have agreed on, relative to the home: nodes and clients that don't have
        /// the same one place differently.
        latency_map: OptionalPath = "none",
    }
    /// How objects are put.
    put: PutSettings {
        /// Who can read an object, and what deduplicates with what.
        mode: Mode = "sealed",
        /// The data and parity shards of a stripe; `auto` takes the most that the mesh's failure domains hold.
        scheme: SchemeChoice = "auto",
        /// Rules that choose another scheme by type, name or size: the first that matches counts, unless `--scheme` is given.
        policy: Vec<PolicyRule> = "",
        /// Where chunks end; `auto` is `fixed` for sealed objects and `cdc` for those that deduplicate.
        chunking: ChunkingChoice = "auto",
        /// How chunks are compressed, each only when it pays.
        compression: Compression = "zstd:1",
        /// How long a put that was broken off can be gone on with; the next put then releases what it had stored.
        resume_for: Period = "7days",
    }
    /// How shards move.
    transfer: TransferSettings {
        /// How many transfers of one process run at once; further ones wait, those of a higher priority first.
        concurrent_transfers: ConcurrentTransfers = "10",
        /// How much a transfer gets where there is not enough for all: eight, four or one parts.
        priority: Priority = "normal",
        /// The bytes of chunks and shards that one process has in memory, all transfers together.
        memory: ByteSize = "48MiB",
        /// The stripes of an object that are under way at once, where there is memory for them.
        stripes_in_flight: StripesInFlight = "32",
        /// The requests for or with bytes that one node has under way at first, and at the least.
        window_min: WindowSize = "10",
        /// The most of them, unless more are needed to fill the line.
        window_max: WindowSize = "20",
        /// How fast one process sends, all together.
        upload_rate: RateLimit = "off",
        /// How fast one process receives, all together.
        download_rate: RateLimit = "off",
        /// How fast one process sends to each peer.
        upload_rate_per_peer: RateLimit = "off",
        /// How fast one process receives from each peer.
        download_rate_per_peer: RateLimit = "off",
        /// How fast one transfer sends.
        upload_rate_per_transfer: RateLimit = "off",
        /// How fast one transfer receives.
        download_rate_per_transfer: RateLimit = "off",
        /// How long a node may stall before another one is asked.
        stall_timeout: Period = "30s",
        /// How long a node may take before a second one is asked for the same; longer where it is known to be slow.
        hedge_after: Period = "500ms",
        /// How often a node is asked when no other node is left to turn to.
        retry_attempts: RetryAttempts = "3",
        /// The pause before the second attempt.
        retry_delay: Period = "1s",
        /// By how much each further pause is longer than the one before.
        retry_backoff: RetryBackoff = "2",
        /// The longest pause.
        retry_delay_max: Period = "1m",
    }
    /// How nodes keep what they hold whole.
    repair: RepairSettings {
        /// How often a node compares what it holds with the others that hold parts of the same.
        check_every: Period = "5m",
        /// How long something must be short of parts before it is repaired: what is being put just now is short too.
        settle: Period = "1m",
        /// How fast one node moves bytes to repair, in each direction.
        rate: RateLimit = "32MiB/s",
    }
    /// How a node looks after its own health and that of its mesh.
    health: HealthSettings {
        /// How often a node looks what is wrong with itself, its neighbours, and what it looks after.
        check_every: Period = "1m",
        /// Whether a node whose own disk is about to fail gives away what it holds, as `node drain` has it do: `on` or `off`.
        drain_failing: Switch = "off",
    }
    /// Who is told when something is wrong.
    alerts: AlertsSettings {
        /// How long something must be wrong before it is told.
        raise_after: Period = "1m",
        /// How long it must be right again before it is taken to be over; twice as long each time that it comes back within
        /// an hour.
        clear_after: Period = "5m",
        /// How often what is still wrong is told again.
        remind_every: Period = "1day",
        /// A command line for `/bin/sh` that is run for each notice, with the notice as JSON on its standard input.
        command: CommandLine = "",
        /// How long the command may take before it is killed, with all that it started.
        command_timeout: Period = "30s",
        /// A web address that each notice is posted to, as JSON.
        webhook: WebAddress = "",
    }
    /// What is kept of what was got from a joined mesh.
    cache: CacheSettings {
        /// The bytes that sealed chunks and manifest blocks which were got may take under the home; `0B` keeps nothing.
        capacity: ByteSize = "10GB",
        /// How long one stays that nobody asks for again.
        time_to_live: Period = "7days",
        /// How fast a cache node gets from holders what it was asked for twice.
        pull_rate: RateLimit = "32MiB/s",
    }
    /// How a gateway serves S3, HTTP and the dashboard.
    gateway: GatewaySettings {
        /// The address that it listens on.
        listen: SocketAddr = "127.0.0.1:9000",
        /// Whether a node has a gateway beside it, as `--gateway` says: `on` or `off`.
        with_node: Switch = "off",
        /// The region that S3 clients name.
        region: RegionName = "us-east-1",
        /// The domain of which buckets are subdomains, for clients that address them so.
        domain: OptionalDomain = "none",
        /// How many transfers it has under way at once, in place of `transfer.concurrent_transfers`.
        concurrent_transfers: ConcurrentTransfers = "256",
        /// A web address that the spans of requests are posted to, by OTLP over HTTP, as in `http://127.0.0.1:4318/v1/traces`.
        traces: WebAddress = "",
        /// What storage classes mean, beside STANDARD, which goes by `put.scheme` and `put.policy`: a scheme, `auto` where the mesh is too small, and for `@cold` that no cache keeps what is read.
        classes: Vec<ClassRule> = "STANDARD_IA=auto,REDUCED_REDUNDANCY=1+1,GLACIER_IR=16+8@cold",
    }
    /// What this program tells others of its work.
    metrics: MetricsSettings {
        /// Whom a node tells its metrics when asked: `everyone`, `nodes` of its mesh, or `nobody`.
        share: MetricsShare = "everyone",
    }
}

/// A setting's value given for this run alone, by a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    key: &'static str,
    text: String,
}

impl Override {
    /// This value for this key.
    ///
    /// # Errors
    /// What is wrong with the value.
    ///
    /// # Panics
    /// If no setting has this key: keys of flags are written in the program.
    pub fn new(key: &'static str, text: &str) -> Result<Self, String> {
        let definition = Definition::of(key).expect("a flag overrides a setting that exists");
        (definition.assign)(&mut Settings::default(), text)?;
        Ok(Self { key, text: text.to_owned() })
    }
}

/// Where a setting's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing sets it.
    Default,
    /// The settings file, at this line.
    File(PathBuf, usize),
    /// This environment variable.
    Environment(String),
    /// A flag or an argument of the command.
    Argument,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(path, line) => write!(formatter, "{}:{line}", path.display()),
            Self::Environment(variable) => formatter.write_str(variable),
            Self::Argument => formatter.write_str("command line"),
        }
    }
}

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read.
    #[error(transparent)]
    File(#[from] SettingsFileError),
    /// No setting has this key.
    #[error("{origin}: unknown setting `{key}`")]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// What stands there.
        key: String,
        /// The key, or the variable, that it is most like.
        nearest: Option<String>,
    },
    /// The setting exists, but can't have this value.
    #[error("{origin}: {key}: {why}")]
    BadValue {
        /// Where it stands.
        origin: Origin,
        /// Of which setting.
        key: &'static str,
        /// What is wrong with the value.
        why: String,
    },
}

/// What settings are made from, weakest first.
#[derive(Debug, Clone)]
pub struct Layers {
    /// The settings file.
    pub file: SettingsFile,
    /// The environment, of which the variables of this program are taken.
    pub environment: Vec<(OsString, OsString)>,
    /// The command's flags.
    pub overrides: Vec<Override>,
}

/// Settings, and where each value comes from.
#[derive(Debug, Clone)]
pub struct ResolvedSettings {
    settings: Settings,
    origins: BTreeMap<&'static str, Origin>,
}

impl ResolvedSettings {
    /// Resolves the layers.
    ///
    /// # Errors
    /// The first thing that is wrong with any of them.
    pub fn load(layers: &Layers) -> Result<Self, SettingsError> {
        let (resolved, problems) = gather(layers);
        problems.into_iter().next().map_or(Ok(resolved), Err)
    }

    /// The settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A setting's value as text.
    #[must_use]
    pub fn text(&self, definition: &Definition) -> String {
        (definition.text)(&self.settings)
    }

    /// Where a setting's value comes from.
    #[must_use]
    pub fn origin(&self, definition: &Definition) -> &Origin {
        self.origins.get(definition.key).unwrap_or(&Origin::Default)
    }
}

/// Everything that is wrong with the layers.
#[must_use]
pub fn check(layers: &Layers) -> Vec<SettingsError> {
    gather(layers).1
}

/// The settings file with one value set, checked. Nothing is written.
///
/// # Errors
/// [`SettingsError`] if there is no such setting, it can't have this value, or the file is no TOML.
pub fn set(file: &SettingsFile, key: &str, text: &str) -> Result<SettingsFile, SettingsError> {
    let Some(definition) = Definition::of(key) else {
        return Err(unknown_key(Origin::Argument, key));
    };
    let mut settings = Settings::default();
    (definition.assign)(&mut settings, text).map_err(|why| SettingsError::BadValue {
        origin: Origin::Argument,
        key: definition.key,
        why,
    })?;
    Ok(file.with(key, (definition.toml)(&settings))?)
}

/// The error for a key that no setting has.
#[must_use]
pub fn unknown_key(origin: Origin, key: &str) -> SettingsError {
    let nearest = nearest(key, DEFINITIONS.iter().map(|definition| definition.key.to_owned()));
    SettingsError::UnknownKey { origin, key: key.to_owned(), nearest }
}

fn gather(layers: &Layers) -> (ResolvedSettings, Vec<SettingsError>) {
    let mut resolved = ResolvedSettings { settings: Settings::default(), origins: BTreeMap::new() };
    let mut problems = Vec::new();
    gather_file(&layers.file, &mut resolved, &mut problems);
    for (variable, text) in &layers.environment {
        let (variable, text) = (variable.to_string_lossy(), text.to_str());
        if let Some(problem) = gather_variable(&variable, text, &mut resolved) {
            problems.push(problem);
        }
    }
    for Override { key, text } in &layers.overrides {
        let definition = Definition::of(key).expect("an override's key was checked");
        problems.extend(resolved.assign(definition, text, Origin::Argument));
    }
    (resolved, problems)
}

fn gather_file(file: &SettingsFile, resolved: &mut ResolvedSettings, problems: &mut Vec<SettingsError>) {
    let entries = match file.entries() {
        Ok(entries) => entries,
        Err(error) => return problems.push(error.into()),
    };
    for entry in entries {
        let origin = Origin::File(file.path().to_owned(), entry.line);
        let problem = match (Definition::of(&entry.key), entry.value) {
            (None, _) => Some(unknown_key(origin, &entry.key)),
            (Some(definition), Ok(text)) => resolved.assign(definition, &text, origin),
            (Some(Definition { key, .. }), Err(why)) => Some(SettingsError::BadValue { origin, key, why }),
        };
        problems.extend(problem);
    }
}

fn gather_variable(
    variable: &str,
    text: Option<&str>,
    resolved: &mut ResolvedSettings,
) -> Option<SettingsError> {
    let known = ENVIRONMENT.iter().any(|(name, _)| *name == variable);
    if !variable.starts_with(ENVIRONMENT_PREFIX) || known {
        return None;
    }
    let origin = Origin::Environment(variable.to_owned());
    let definition = DEFINITIONS.iter().find(|definition| definition.variable() == variable);
    match (definition, text) {
        (Some(definition), Some(text)) => resolved.assign(definition, text, origin),
        (Some(Definition { key, .. }), None) => {
            Some(SettingsError::BadValue { origin, key, why: "is no UTF-8".to_owned() })
        }
        (None, _) => {
            let settings = DEFINITIONS.iter().map(Definition::variable);
            let others = ENVIRONMENT.iter().map(|(name, _)| (*name).to_owned());
            let nearest = nearest(variable, settings.chain(others));
            Some(SettingsError::UnknownKey { origin, key: variable.to_owned(), nearest })
        }
    }
}

impl ResolvedSettings {
    fn assign(&mut self, definition: &Definition, text: &str, origin: Origin) -> Option<SettingsError> {
        match (definition.assign)(&mut self.settings, text) {
            Ok(()) => {
                self.origins.insert(definition.key, origin);
                None
            }
            Err(why) => Some(SettingsError::BadValue { origin, key: definition.key, why }),
        }
    }
}

/// The candidate with the fewest edits, unless even that one is another word altogether.
fn nearest(word: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let distance = |candidate: &String| strsim::damerau_levenshtein(word, candidate);
    let best = candidates.min_by_key(distance)?;
    (2 * distance(&best) <= word.chars().count().max(best.chars().count())).then_some(best)
}

#[cfg(test)]
mod tests;
