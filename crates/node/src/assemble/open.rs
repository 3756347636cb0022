//! Opens what a node or a client keeps things in.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datamesh_engine::world::{Clock, Entropy, Items};
use datamesh_store::cache::{CacheSettings, DiskCache};
use datamesh_store::disk::Disk;
use datamesh_store::{OpenError, Store, StoreSettings};

use super::{AssembleError, make_directory};
use crate::cached_items::CachedItems;
use crate::discard::{Discarding, Keeping};
use crate::home::Home;
use crate::popular::Wishes;
use crate::settings::Settings;
use crate::system::{SystemClock, SystemEntropy};

/// How long a command waits for another one to be done with the embedded mesh.
const IN_USE_PATIENCE: Duration = Duration::from_secs(10);
const IN_USE_PAUSE: Duration = Duration::from_millis(50);

/// What a node serves: what it keeps, and for a cache node what it can make from its cache.
pub(super) fn items_of(
    keeping: Keeping,
    store: &Store,
    cache: Option<(&DiskCache, &Wishes)>,
) -> Arc<dyn Items> {
    let store = store.clone();
    match (keeping, cache) {
        (Keeping::BlocksForBenchmark, _) => Arc::new(Discarding(store)),
        (Keeping::Everything, Some((cache, wishes))) => {
            Arc::new(CachedItems { items: Arc::new(store), cache: cache.clone(), wishes: wishes.clone() })
        }
        (Keeping::Everything, None) => Arc::new(store),
    }
}

/// The home's cache; `None` where the settings want none, or it can't be used: what it is for works without it.
pub(super) fn open_cache(home: &Home, settings: &Settings) -> Option<DiskCache> {
    let options = CacheSettings {
        directory: home.cache_path(),
        capacity: settings.cache.capacity.bytes(),
        time_to_live: settings.cache.time_to_live.duration(),
        free_floor: settings.storage.free_floor.bytes(),
    };
    if options.capacity == 0 {
        return None;
    }
    let opened = DiskCache::open(options, Arc::new(SystemClock::start()));
    opened.inspect_err(|error| tracing::warn!(%error, "the cache can't be used")).ok()
}

/// Opens a store. Another command that has it open is waited for.
pub(super) async fn open_patiently(
    path: &Path,
    settings: StoreSettings,
    disk: Arc<dyn Disk>,
) -> Result<Store, AssembleError> {
    let failed = |source| AssembleError::Store { path: path.to_owned(), source };
    make_directory(path)?;
    let clock = SystemClock::start();
    loop {
        let (directory, disk) = (path.to_owned(), Arc::clone(&disk));
        let open = move || {
            let entropy: &dyn Entropy = &SystemEntropy;
            Store::open(&directory, settings, disk, entropy)
        };
        let opened = tokio::task::spawn_blocking(open).await.expect("opening a store does not panic");
        match opened {
            Err(OpenError::InUse(_)) if clock.elapsed() < IN_USE_PATIENCE => {
                clock.sleep(IN_USE_PAUSE).await;
            }
            opened => return opened.map_err(failed),
        }
    }
}
