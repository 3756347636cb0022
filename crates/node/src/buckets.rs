//! The buckets of an identity, wired: their index in the home, and how contents are encoded as the settings say.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datamesh_codec::keys::Identity;
use datamesh_core::scheme::Scheme;
use datamesh_core::topology::Topology;
use datamesh_engine::buckets::{Buckets, BucketsOrder, ContentSubject, OpenError, Schemes};
use datamesh_engine::transfer::Temperature;
use datamesh_store::map::{DiskMap, OpenMapError};
use tokio::task::JoinHandle;

use crate::assemble::Client;
use crate::home::Home;
use crate::scheme::{rule, scheme};
use crate::settings::{ClassRule, GatewaySettings, PutSettings, PutSubject, SchemeChoice, Settings};

/// Processes of one home that may use the buckets of one owner at once: each has an index of its own.
const INDEXES_MAX: u8 = 8;

/// Why buckets can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenBucketsError {
    /// The directory of the index can't be made.
    #[error("directory {} can't be made", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The index can't be opened.
    #[error(transparent)]
    Map(#[from] OpenMapError),
    /// What the mesh keeps of them can't be read.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Buckets in use.
pub struct OpenBuckets {
    /// The buckets.
    pub buckets: Buckets,
    upkeep: JoinHandle<()>,
}

impl OpenBuckets {
    /// Opens the buckets of an owner on a client's mesh.
    ///
    /// # Errors
    /// [`OpenBucketsError`] when the index can't be used, or the mesh doesn't tell all of them.
    ///
    /// # Cancel safety
    /// What was read until then is in the index.
    pub async fn open(
        home: &Home,
        client: &Client,
        network: &str,
        settings: &Settings,
        owner: Arc<Identity>,
    ) -> Result<Self, OpenBucketsError> {
        let directory = home.buckets_path(network, &owner.owner());
        let opened = tokio::task::spawn_blocking(move || open_map(&directory)).await;
        let map = Arc::new(opened.expect("opening an index does not panic")?);
        let schemes = SettingsSchemes { put: settings.put.clone(), gateway: settings.gateway.clone() };
        let (world, transfer) = (client.world.clone(), client.transfer);
        let order = BucketsOrder { world, transfer, owner, map, schemes: Arc::new(schemes) };
        let (buckets, upkeep) = Buckets::open(order).await?;
        Ok(Self { buckets, upkeep: tokio::spawn(upkeep.run()) })
    }

    /// Ends once what was changed is on disk. Whoever else has the buckets must have let go of them.
    ///
    /// # Cancel safety
    /// When dropped, the index may lack what the mesh has: it is read again.
    pub async fn close(self) {
        drop(self.buckets);
        if let Err(error) = self.upkeep.await {
            tracing::warn!(%error, "the upkeep of buckets has failed");
        }
    }
}

/// The first index that no other process uses.
fn open_map(directory: &Path) -> Result<DiskMap, OpenBucketsError> {
    fs::create_dir_all(directory)
        .map_err(|source| OpenBucketsError::Directory { path: directory.to_owned(), source })?;
    let mut in_use = None;
    for number in 1..=INDEXES_MAX {
        match DiskMap::open(&directory.join(format!("index-{number}"))) {
            Err(error @ OpenMapError::InUse(_)) => in_use = Some(error),
            opened => return Ok(opened?),
        }
    }
    Err(in_use.expect("at least one was tried").into())
}

/// Encodes contents as the settings say.
struct SettingsSchemes {
    put: PutSettings,
    gateway: GatewaySettings,
}

impl SettingsSchemes {
    fn rule(&self, class: Option<&str>) -> Option<&ClassRule> {
        self.gateway.classes.iter().find(|rule| Some(rule.class.as_str()) == class)
    }
}

impl Schemes for SettingsSchemes {
    fn scheme(&self, subject: &ContentSubject<'_>, topology: &Topology) -> Result<Scheme, String> {
        let ContentSubject { name, media_type, size, class } = *subject;
        let class = self.rule(class);
        if let Some(rule) = class
            && let Ok(scheme) = scheme(&self.put, rule.scheme, topology)
        {
            return Ok(scheme);
        }
        let rule = rule(&self.put, &PutSubject { name, media_type, size });
        let choice = match (class, rule) {
            (Some(_), _) => SchemeChoice::Auto,
            (None, Some((_, rule))) => rule.scheme,
            (None, None) => self.put.scheme,
        };
        scheme(&self.put, choice, topology).map_err(|error| error.to_string())
    }

    fn temperature(&self, class: Option<&str>) -> Temperature {
        self.rule(class).map_or(Temperature::Hot, |rule| rule.temperature)
    }
}
