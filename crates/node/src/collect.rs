//! Collects the garbage of the embedded mesh, which has no process of its own that could: at the end of commands that use it.

use std::fs;
use std::time::Duration;

use datamesh_core::time::Timestamp;
use datamesh_engine::world::ItemsError;
use datamesh_store::{Collected, Store};
use tokio::time::timeout;

use crate::home::Home;

/// How long a command waits for it. What is not done by then is done by a later one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends the leases that have expired and gives back the space of what no lease protects, on every disk.
///
/// # Errors
/// [`ItemsError`] of the first disk that failed; the others are as they were.
///
/// # Cancel safety
/// A collection that was begun goes on though the future is dropped.
pub(crate) async fn collect(stores: &[Store], home: &Home, now: Timestamp) -> Result<Collected, ItemsError> {
    let mut all = Collected::default();
    for store in stores {
        all.add(store.collect(now.epoch()).await?);
    }
    // Where it can't be noted, it is done again the sooner.
    if let Err(error) = fs::write(home.collected_path(), now.as_ms().to_string()) {
        tracing::debug!(%error, "when garbage was collected is not noted");
    }
    Ok(all)
}

/// The same, unless it was done within the period, and for a while only.
///
/// # Cancel safety
/// A collection that was begun goes on though the future is dropped.
pub(crate) async fn when_due(stores: &[Store], home: &Home, now: Timestamp, period: Duration) {
    let noted = fs::read_to_string(home.collected_path()).ok().and_then(|text| text.trim().parse().ok());
    if !is_due(noted.map(Timestamp::from_ms), now, period) {
        return;
    }
    match timeout(PATIENCE, collect(stores, home, now)).await {
        Ok(Ok(collected)) => {
            let Collected { lease_count, item_count, size, .. } = collected;
            tracing::info!(lease_count, item_count, size, "garbage was collected");
        }
        Ok(Err(error)) => tracing::warn!(%error, "garbage was not collected; a later command tries again"),
        Err(_) => tracing::info!("garbage is not collected yet; a later command goes on"),
    }
}

/// A clock that was set back makes it due, too.
fn is_due(last: Option<Timestamp>, now: Timestamp, period: Duration) -> bool {
    let since = last.and_then(|last| now.as_ms().checked_sub(last.as_ms())).map(Duration::from_millis);
    since.is_none_or(|since| since >= period)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datamesh_core::time::Timestamp;

    use super::is_due;

    #[test]
    fn it_is_due_once_a_period() {
        let (at, hour) = (Timestamp::from_ms, Duration::from_secs(3600));
        assert!(is_due(None, at(5), hour), "never done");
        assert!(!is_due(Some(at(5)), at(5), hour) && !is_due(Some(at(5)), at(3_600_004), hour));
        assert!(is_due(Some(at(5)), at(3_600_005), hour));
        assert!(is_due(Some(at(5)), at(4), hour), "the clock was set back");
    }
}
