//! Background work of a node: what it does again and again without being asked.

use std::sync::Arc;
use std::time::Duration;

use datamesh_engine::world::{Clock, ItemsError};
use datamesh_store::{Collected, Store};
use tokio::task::JoinHandle;

/// The shortest pause between two collections: each is a commit to the index at the least.
const COLLECT_EVERY_MIN: Duration = Duration::from_secs(1);

/// The work under way. It ends when this is dropped; a collection that was begun goes on in the store.
pub(crate) struct Maintenance(JoinHandle<()>);

impl Maintenance {
    /// Collects a store's garbage, one period after the start and after each collection.
    pub(crate) fn start(store: Store, clock: Arc<dyn Clock>, collect_every: Duration) -> Self {
        let pause = collect_every.max(COLLECT_EVERY_MIN);
        Self(tokio::spawn(async move {
            loop {
                clock.sleep(pause).await;
                match store.collect(clock.now().epoch()).await {
                    Ok(collected) => report(&collected),
                    Err(ItemsError::Closed) => return,
                    Err(error) => {
                        tracing::warn!(%error, "garbage was not collected, the next try is in a while");
                    }
                }
            }
        }))
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn report(collected: &Collected) {
    let Collected { lease_count, item_count, segment_count, size, rotten } = collected;
    if !rotten.is_empty() {
        tracing::warn!(?rotten, "items were rotten when they were to be kept on, and are held no more");
    }
    if *collected != Collected::default() {
        tracing::info!(lease_count, item_count, segment_count, size, "garbage was collected");
    }
}
