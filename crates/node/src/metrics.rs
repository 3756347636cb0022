//! Metrics: what a node or a client has done and how it is, in numbers that other programs read.
//!
//! `definition` names every metric. A [`Source`] puts samples of them; a [`Registry`] asks its sources and writes the OpenMetrics text,
//! which Prometheus reads (<https://prometheus.io/docs/specs/om/open_metrics_spec/>). Nothing here counts on a path that moves bytes:
//! sources read counters that exist anyway.

pub mod definition;
mod exposition;
mod keeping;
mod network;
mod peers;
mod server;
mod totals;

use std::sync::{Arc, Mutex, PoisonError};

use datamesh_core::limits::{INLINE_SIZE_MAX, METRICS_SIZE_MAX};
use datamesh_engine::catalog::Entry;
use datamesh_engine::rings::Rings;
use datamesh_store::cache::{CacheFigures, DiskCache};

pub use self::definition::{DEFINITIONS, Definition, Kind};
pub use self::exposition::{Families, Family, ParseMetricsError, Sample, Samples, Value};
pub(crate) use self::keeping::KeepTally;
pub use self::network::{NetworkWatch, Rates, Watcher};
pub use self::peers::{Moved, PeerView, RateLimits, TrafficView};
pub(crate) use self::server::ServerSource;
pub use self::server::{RequestKind, RequestTally};
pub use self::totals::{Totals, TotalsError};

use self::definition as metric;
use crate::home::Home;
use crate::latency_file;

/// Knows some of the metrics.
pub trait Source: Send + Sync {
    /// Puts what it knows now. Cheap: it reads counters.
    fn collect(&self, samples: &mut Samples);
}

/// Everything that knows metrics of this node or client.
#[derive(Default)]
pub struct Registry {
    sources: Mutex<Vec<Arc<dyn Source>>>,
}

impl Registry {
    /// Adds a source.
    pub fn add(&self, source: Arc<dyn Source>) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    /// What all sources know now.
    #[must_use]
    pub fn collect(&self) -> Families {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut samples = Samples::default();
        for source in sources {
            source.collect(&mut samples);
        }
        samples.into_families()
    }

    /// The text that answers another participant: without what is told of single peers where it would be too long with it.
    #[must_use]
    pub fn answer(&self) -> String {
        let families = self.collect();
        let text = families.text();
        if text.len() <= METRICS_SIZE_MAX { text } else { families.without_label("peer").text() }
    }
}

/// Which program this is.
#[derive(Debug, Clone, Copy)]
pub struct Build;

impl Source for Build {
    fn collect(&self, samples: &mut Samples) {
        samples.put(&metric::BUILD, &[env!("CARGO_PKG_VERSION")], Value::Integer(1));
    }
}

/// By what a node or a client places.
#[derive(Debug, Clone)]
pub struct Placing(Option<String>);

impl Placing {
    /// By these rings.
    #[must_use]
    pub fn by(rings: &Rings) -> Self {
        Self(latency_file::digest(rings))
    }
}

impl Source for Placing {
    fn collect(&self, samples: &mut Samples) {
        samples.put(&metric::PLACEMENT, &[self.0.as_deref().unwrap_or("none")], Value::Integer(1));
    }
}

impl Source for DiskCache {
    fn collect(&self, samples: &mut Samples) {
        put_cache(samples, &self.figures());
    }
}

/// How full the cache of a home is, without opening it.
#[must_use]
pub fn cache_level(home: &Home, capacity: u64) -> CacheFigures {
    CacheFigures { capacity, ..CacheFigures::on_disk(&home.cache_path()) }
}

/// Puts the figures of a cache.
pub fn put_cache(samples: &mut Samples, figures: &CacheFigures) {
    let mut put =
        |definition, label: &[&str], value: u64| samples.put(definition, label, Value::Integer(value));
    put(&metric::CACHE_LOOKUPS, &["hit"], figures.hits);
    put(&metric::CACHE_LOOKUPS, &["miss"], figures.misses);
    put(&metric::CACHE_HIT_BYTES, &[], figures.hit_bytes);
    put(&metric::CACHE_OFFERS, &["admitted"], figures.admissions);
    put(&metric::CACHE_OFFERS, &["declined"], figures.declined);
    put(&metric::CACHE_OFFERS, &["dropped"], figures.dropped);
    put(&metric::CACHE_REMOVALS, &["evicted"], figures.evictions);
    put(&metric::CACHE_REMOVALS, &["expired"], figures.expirations);
    put(&metric::CACHE_REMOVALS, &["rotten"], figures.rotten);
    put(&metric::CACHE_BYTES, &[], figures.used);
    put(&metric::CACHE_CAPACITY_BYTES, &[], figures.capacity);
    put(&metric::CACHE_ENTRIES, &[], figures.entry_count);
    if let Some(share) = share(figures.hits, figures.hits.saturating_add(figures.misses)) {
        samples.put(&metric::CACHE_HIT_RATIO, &[], Value::Real(share));
    }
}

/// Puts what a catalog comes to.
pub fn put_catalog(samples: &mut Samples, entries: &[Entry]) {
    let sums = CatalogSums::of(entries);
    samples.put(&metric::CATALOG_OBJECTS, &[], Value::Integer(sums.object_count));
    samples.put(&metric::CATALOG_PLAINTEXT_BYTES, &[], Value::Integer(sums.size));
    samples.put(&metric::CATALOG_STORED_BYTES, &[], Value::Integer(sums.stored_size));
    if let Some(ratio) = share(sums.size, sums.sealed_size) {
        samples.put(&metric::CATALOG_COMPRESSION_RATIO, &[], Value::Real(ratio));
    }
    if let Some(ratio) = share(sums.stored_size, sums.sealed_size) {
        samples.put(&metric::CATALOG_REDUNDANCY_RATIO, &[], Value::Real(ratio));
    }
}

/// What the objects of a catalog come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CatalogSums {
    /// Objects.
    pub object_count: u64,
    /// Bytes of plaintext.
    pub size: u64,
    /// Bytes that their shards and manifest blocks take, all copies together.
    pub stored_size: u64,
    /// Bytes of that, each counted once: k of the k + m shards; one of the m + 1 replicas of what is so small that it travels
    /// inside its root block.
    pub sealed_size: u64,
}

impl CatalogSums {
    /// The sums of these entries.
    #[must_use]
    pub fn of(entries: &[Entry]) -> Self {
        entries.iter().fold(Self::default(), |sums, entry| {
            let redundancy = entry.scheme.redundancy;
            let count =
                |count: usize| u64::try_from(count).expect("it is a small constant or a count of shards");
            let inline = entry.size <= count(INLINE_SIZE_MAX);
            let (once, copies) = if inline {
                (1, count(redundancy.parity_count() + 1))
            } else {
                (count(redundancy.data_count()), count(redundancy.shard_count()))
            };
            let sealed_size = u128::from(entry.stored_size) * u128::from(once) / u128::from(copies);
            Self {
                object_count: sums.object_count + 1,
                size: sums.size.saturating_add(entry.size),
                stored_size: sums.stored_size.saturating_add(entry.stored_size),
                sealed_size: sums.sealed_size.saturating_add(u64::try_from(sealed_size).unwrap_or(u64::MAX)),
            }
        })
    }
}

/// A share of a whole; `None` where there is no whole.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a ratio for people needs three digits")]
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
