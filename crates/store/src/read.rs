//! Reads items and what is known of them, off the caller's thread.

use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use datamesh_core::id::{BlockId, ItemId, PlacementGroup};
use datamesh_core::lease::{PutId, Release};
use datamesh_core::limits::ITEM_LEASES_MAX;
use datamesh_core::sign::Signed;
use datamesh_core::summary::{Part, PartId, Summary};
use datamesh_core::wire::Description;
use datamesh_engine::world::ItemsError;
use tokio::sync::{mpsc, oneshot};

use crate::index::ItemRow;
use crate::index::rows::{ItemKey, LeaseRow, item_of_key, key_of_item, key_of_put};
use crate::segment::{Keeping, Place, Record, read_record};
use crate::shared::{Shared, disk_error};

/// Reads that may wait for a thread; more make their callers wait.
const JOBS_MAX: usize = 64;
/// How often an item is looked up again when compaction moved it between look-up and read.
const MOVES_MAX: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

/// A few threads that read.
#[derive(Debug)]
pub(crate) struct Readers {
    jobs: mpsc::Sender<Job>,
}

impl Readers {
    /// Starts the threads; they end when this is dropped.
    pub(crate) fn start(count: NonZeroUsize) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (sender, receiver) = mpsc::channel::<Job>(JOBS_MAX);
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = (0..count.get()).map(|index| {
            let receiver = receiver.clone();
            let work = move || {
                while let Some(job) = next_job(&receiver) {
                    // A job that panics takes its answer with it, not the thread.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            };
            thread::Builder::new().name(format!("store-read-{index}")).spawn(work)
        });
        Ok((Self { jobs: sender }, threads.collect::<io::Result<_>>()?))
    }

    /// Runs a read on one of the threads.
    ///
    /// # Cancel safety
    /// A read that has begun ends by itself though the future is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, ItemsError> + Send + 'static,
    ) -> Result<T, ItemsError> {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(move || {
            // The receiver is gone only when nobody waits for the answer any more.
            let _ = sender.send(job());
        });
        self.jobs.send(job).await.map_err(|_| ItemsError::Closed)?;
        receiver.await.map_err(|_| ItemsError::Closed)?
    }
}

fn next_job(jobs: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

/// Reads a part of an item, as it is on the disk.
pub(crate) fn fetch(
    shared: &Shared,
    item: ItemId,
    offset: u32,
    size: Option<u32>,
) -> Result<Option<Bytes>, ItemsError> {
    retry_moved(shared, &item, |row| {
        let left = row.payload_size.saturating_sub(offset);
        let size = size.unwrap_or(left).min(left);
        let size_in_memory = usize::try_from(size).expect("32 bits fit a usize");
        Ok(Bytes::from(shared.read_wanted(row, offset, size_in_memory)?))
    })
}

/// Reads all of an item and holds it to its id.
pub(crate) fn fetch_checked(shared: &Shared, item: ItemId) -> Result<Option<Bytes>, ItemsError> {
    let whole = fetch(shared, item, 0, None)?;
    match whole {
        Some(bytes) if !item.matches(&bytes) => Err(ItemsError::Rotten(item)),
        whole => Ok(whole),
    }
}

/// Reads what is known of an item as a part of one stripe.
pub(crate) fn describe(shared: &Shared, part: &PartId) -> Result<Option<Description>, ItemsError> {
    let mut descriptions = descriptions_of(shared, part.item, ITEM_LEASES_MAX)?.into_iter();
    Ok(descriptions.find(|description| description.item.subject() == part.subject))
}

/// Reads what is held of each group, in brief.
pub(crate) fn summarise(shared: &Shared, groups: &[PlacementGroup]) -> Result<Vec<Summary>, ItemsError> {
    groups.iter().map(|group| summary(shared, *group)).collect()
}

fn summary(shared: &Shared, group: PlacementGroup) -> Result<Summary, ItemsError> {
    let stamp = match shared.groups.find(group) {
        Ok(known) => return Ok(known),
        Err(stamp) => stamp,
    };
    let (mut summary, mut last) = (Summary::empty(group), None);
    let add = |part: Part| {
        summary.add(&part, last.replace(part.subject) != Some(part.subject));
        ControlFlow::Continue(())
    };
    shared.index().visit_parts(group, None, add).map_err(|error| shared.index_error(&error))?;
    summary.shorten();
    shared.groups.remember(stamp, &summary);
    Ok(summary)
}

/// Reads the parts held of a group behind another one, at most so many.
pub(crate) fn parts(
    shared: &Shared,
    group: PlacementGroup,
    after: Option<&PartId>,
    count_max: usize,
) -> Result<Vec<Part>, ItemsError> {
    let mut parts = Vec::new();
    let take = |part: Part| {
        if parts.len() >= count_max {
            return ControlFlow::Break(());
        }
        parts.push(part);
        ControlFlow::Continue(())
    };
    shared.index().visit_parts(group, after, take).map_err(|error| shared.index_error(&error))?;
    Ok(parts)
}

/// Reads the releases of those of these puts that were released.
pub(crate) fn releases(shared: &Shared, puts: &[PutId]) -> Result<Vec<Signed<Release>>, ItemsError> {
    let mut releases = Vec::new();
    for put in puts {
        let release = shared.index().release(&key_of_put(&put.owner, &put.tag));
        releases.extend(release.map_err(|error| shared.index_error(&error))?);
    }
    Ok(releases)
}

/// Reads which blocks are kept under a put.
pub(crate) fn blocks(shared: &Shared, put: &PutId, count_max: usize) -> Result<Vec<BlockId>, ItemsError> {
    let key = key_of_put(&put.owner, &put.tag);
    shared.index().blocks_of(&key, count_max).map_err(|error| shared.index_error(&error))
}

/// Reads what is known of items behind another one, in the order of their keys: for each item, a description per stripe
/// that it is of, with every lease.
pub(crate) fn list(
    shared: &Shared,
    after: Option<ItemId>,
    most: usize,
) -> Result<Vec<Description>, ItemsError> {
    let after: Option<ItemKey> = after.as_ref().map(key_of_item);
    let items =
        shared.index().items_after(after.as_ref(), most).map_err(|error| shared.index_error(&error))?;
    let mut descriptions = Vec::new();
    for (key, _) in items {
        descriptions.extend(descriptions_of(shared, item_of_key(&key), ITEM_LEASES_MAX)?);
    }
    Ok(descriptions)
}

/// Says for each item whether it is held.
pub(crate) fn has(shared: &Shared, items: &[ItemId]) -> Result<Vec<bool>, ItemsError> {
    shared.index().holds(items).map_err(|error| shared.index_error(&error))
}

fn descriptions_of(shared: &Shared, item: ItemId, leases_max: usize) -> Result<Vec<Description>, ItemsError> {
    let read = retry_moved(shared, &item, |row| {
        let index = shared.index();
        let leases = index
            .leases_of(&key_of_item(&item), ITEM_LEASES_MAX)
            .map_err(|error| io::Error::other(shared.index_error(&error)))?;
        let mut descriptions: Vec<(LeaseRow, Description)> = Vec::new();
        for (lease, place) in leases {
            let same = descriptions.last_mut().filter(|(first, _)| first.subject == lease.subject);
            if same.as_ref().is_some_and(|(_, description)| description.leases.len() >= leases_max) {
                continue;
            }
            let Keeping { item, lease: signed } = match keeping_at(shared, place) {
                // One rotten lease hides neither the others nor the items behind it.
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    tracing::error!(segment = place.segment, offset = place.offset, "lease is rotten");
                    continue;
                }
                read => read?,
            };
            match same {
                Some((_, description)) => description.leases.push(signed),
                None => {
                    let description = Description { item, size: row.payload_size, leases: vec![signed] };
                    descriptions.push((lease, description));
                }
            }
        }
        Ok(descriptions.into_iter().map(|(_, description)| description).collect())
    })?;
    Ok(read.unwrap_or_default())
}

/// Reads why an item is kept from the record at a place.
pub(crate) fn keeping_at(shared: &Shared, place: Place) -> io::Result<Keeping> {
    let file = shared.file(place.segment)?;
    match read_record(&*file, &shared.key, place)? {
        Some((_, Some(Record::Item(keeping) | Record::Lease(keeping)))) => Ok(keeping),
        _ => Err(io::Error::new(ErrorKind::InvalidData, "lease is rotten on disk")),
    }
}

/// Looks an item up and reads it; again where compaction removed its segment in between.
fn retry_moved<T>(
    shared: &Shared,
    item: &ItemId,
    mut read: impl FnMut(&ItemRow) -> io::Result<T>,
) -> Result<Option<T>, ItemsError> {
    let mut moves = 0;
    loop {
        let Some(row) = shared.index().item(item).map_err(|error| shared.index_error(&error))? else {
            return Ok(None);
        };
        match read(&row) {
            Ok(read) => return Ok(Some(read)),
            Err(error) if error.kind() == ErrorKind::NotFound && moves < MOVES_MAX => moves += 1,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(ItemsError::Rotten(*item)),
            Err(error) => return Err(disk_error("read", &error)),
        }
    }
}
