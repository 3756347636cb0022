//! Which entry a data shard lies in, for nodes that serve shards out of the cache.
//!
//! Entries come and go by the hands of other processes, so the index is looked up in memory and refreshed from the folders that
//! changed: at once when this process has written an entry, else at most once a second. What it says may be out of date: the shard is checked
//! where it is read.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use datamesh_core::id::{ShardId, StripeId};
use datamesh_core::manifest::Stripe;

use super::entry::read_stripe;
use super::space::Space;

/// Data shards that the index knows at most, about 100 bytes each; of more entries the rest are not served.
const SHARDS_MAX: usize = 1 << 18;
/// How often folders are looked at again.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// Where a data shard lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShardPlace {
    pub(super) stripe: StripeId,
    /// Its first byte in the entry.
    pub(super) offset: u64,
    /// Its bytes.
    pub(super) size: u64,
}

/// The data shards of all entries.
#[derive(Default)]
pub(super) struct ShardIndex {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    shards: BTreeMap<ShardId, ShardPlace>,
    /// What was seen of each folder: when it changed last, and the stripes in it with their shards.
    folds: BTreeMap<u8, (SystemTime, BTreeMap<StripeId, Vec<ShardId>>)>,
    refreshed: Option<Duration>,
    /// Entries that this process had written by then.
    written: u64,
}

impl ShardIndex {
    /// Where a shard lies, as far as is known. `now` is time since some fixed instant, `written` the entries that this process has written.
    pub(super) fn find(
        &self,
        space: &Space,
        shard: &ShardId,
        now: Duration,
        written: u64,
    ) -> Option<ShardPlace> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = known.shards.get(shard) {
            return Some(*place);
        }
        let fresh = known.refreshed.is_some_and(|then| now.saturating_sub(then) < REFRESH_EVERY);
        if !fresh || known.written != written {
            known.refreshed = Some(now);
            known.written = written;
            (0..=u8::MAX).for_each(|fold| known.refresh(space, fold));
        }
        known.shards.get(shard).copied()
    }

    /// Forgets a shard that was not where it was said to be.
    pub(super) fn forget(&self, shard: &ShardId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).shards.remove(shard);
    }
}

impl Known {
    fn refresh(&mut self, space: &Space, fold: u8) {
        let since = self.folds.get(&fold).map(|(changed, _)| *changed);
        let Some((changed, stripes)) = space.stripes_in(fold, since) else { return };
        let (_, mut before) = self.folds.remove(&fold).unwrap_or((changed, BTreeMap::new()));
        let mut after = BTreeMap::new();
        for stripe in stripes {
            // One whose shard was forgotten is read again.
            let known = |shards: &Vec<ShardId>| shards.iter().all(|shard| self.shards.contains_key(shard));
            let shards = before.remove(&stripe).filter(known);
            if let Some(shards) = shards.or_else(|| self.learn(space, stripe)) {
                after.insert(stripe, shards);
            }
        }
        for (stripe, shards) in before {
            // Stripes of other redundancy may have the same shard.
            for shard in shards {
                if self.shards.get(&shard).is_some_and(|place| place.stripe == stripe) {
                    self.shards.remove(&shard);
                }
            }
        }
        self.folds.insert(fold, (changed, after));
    }

    /// Reads which shards an entry has. `None` if it is none, or there is no room to know more.
    fn learn(&mut self, space: &Space, stripe: StripeId) -> Option<Vec<ShardId>> {
        let file = space.open_stripe(&stripe)?;
        let (described, begin) = read_stripe(&file, &stripe).ok().flatten()?;
        let data_count = described.redundancy.data_count();
        if self.shards.len() + data_count > SHARDS_MAX {
            return None;
        }
        let size = u64::try_from(described.shard_size()).expect("a shard is a few mebibytes");
        let Stripe { mut shards, .. } = described;
        shards.truncate(data_count);
        for (offset, shard) in (0_u64..).map(|index| begin + index * size).zip(&shards) {
            self.shards.insert(*shard, ShardPlace { stripe, offset, size });
        }
        Some(shards)
    }
}
