//! Looks at items as they lie on the disk: bytes, records and leases, of which none may have rotted.

use std::io::{self, ErrorKind};

use datamesh_core::id::ItemId;
use datamesh_core::limits::ITEM_LEASES_MAX;
use datamesh_engine::world::ItemsError;

use crate::index::ItemRow;
use crate::index::rows::{PutKey, item_of_key, key_of_item};
use crate::read::keeping_at;
use crate::segment::{Kind, Place, Record, read_record};
use crate::shared::Shared;

/// What a look at some items found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scrubbed {
    /// The last item that was looked at; `None` behind the last of all.
    pub last: Option<ItemId>,
    /// Items that were looked at.
    pub item_count: u64,
    /// Their bytes.
    pub size: u64,
    /// Items that are not what they were stored as: they are held no more.
    pub rotten: Vec<ItemId>,
    /// Items that the disk does not give, whatever they are. They are held no more if it gives most others: a disk that gives
    /// nothing may be back when its cable is.
    pub unreadable: Vec<ItemId>,
}

/// What is wrong with an item, as whoever looked at it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    Rotten,
    Unreadable,
}

impl Scrubbed {
    /// Whether the disk gave more than half of what was asked of it.
    pub(crate) fn is_mostly_readable(&self) -> bool {
        u64::try_from(self.unreadable.len()).is_ok_and(|count| count * 2 < self.item_count)
    }
}

/// Whether the disk itself says that it can't read what is there: it has tried often before it says so.
pub(crate) fn is_refused(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Looks at items behind another one, in the order of the index, at most so many. Whoever asked has the rotten ones condemned,
/// and the unreadable ones too.
pub(crate) fn scrub(
    shared: &Shared,
    after: Option<ItemId>,
    count_max: usize,
) -> Result<Scrubbed, ItemsError> {
    let after = after.as_ref().map(key_of_item);
    let items =
        shared.index().items_after(after.as_ref(), count_max).map_err(|error| shared.index_error(&error))?;
    let mut scrubbed = Scrubbed::default();
    for (key, _) in items {
        let item = item_of_key(&key);
        scrubbed.last = Some(item);
        // Looked up again: it may have been moved or released meanwhile.
        let Some(row) = shared.index().item(&item).map_err(|error| shared.index_error(&error))? else {
            continue;
        };
        scrubbed.item_count += 1;
        scrubbed.size += u64::from(row.payload_size);
        match is_rotten(shared, &item, &row) {
            Ok(false) => {}
            Ok(true) => scrubbed.rotten.push(item),
            // Its segment was compacted away under the reader, or the file is gone: then the writer finds so too.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let again = shared.index().item(&item).map_err(|error| shared.index_error(&error))?;
                if again == Some(row) {
                    scrubbed.rotten.push(item);
                }
            }
            Err(error) => {
                tracing::error!(%item, segment = row.place.segment, offset = row.place.offset, %error, "item can't be read");
                scrubbed.unreadable.push(item);
            }
        }
    }
    Ok(scrubbed)
}

/// Whether anything of an item is not what was written: its bytes, its record, or one of its leases. A file that is too short is
/// rotten too; what the disk refuses to read is an error.
///
/// # Errors
/// `NotFound` too: whoever knows that no segment is being removed takes that for rot.
pub(crate) fn is_rotten(shared: &Shared, item: &ItemId, row: &ItemRow) -> io::Result<bool> {
    match is_sound(shared, item, row) {
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData) => Ok(true),
        sound => sound.map(|sound| !sound),
    }
}

fn is_sound(shared: &Shared, item: &ItemId, row: &ItemRow) -> io::Result<bool> {
    let size = usize::try_from(row.payload_size).expect("32 bits fit a usize");
    if !item.matches(&shared.read_payload(row, 0, size)?) {
        return Ok(false);
    }
    let file = shared.file(row.place.segment)?;
    let record = read_record(&*file, &shared.key, row.place)?;
    if !matches!(record, Some((frame, Some(_))) if frame.kind == Kind::Item) {
        return Ok(false);
    }
    let leases = shared
        .index()
        .leases_of(&key_of_item(item), ITEM_LEASES_MAX)
        .map_err(|error| io::Error::other(shared.index_error(&error)))?;
    for (_, place) in leases {
        keeping_at(shared, place)?;
    }
    Ok(true)
}

/// Looks at the records of releases behind another one, at most so many. Says which was the last, and which are rotten.
pub(crate) fn scrub_releases(
    shared: &Shared,
    after: Option<&PutKey>,
    count_max: usize,
) -> Result<(Option<PutKey>, Vec<PutKey>), ItemsError> {
    let releases =
        shared.index().releases_after(after, count_max).map_err(|error| shared.index_error(&error))?;
    let last = releases.last().map(|(put, _)| *put);
    let rotten = releases.into_iter().filter(|(_, place)| !is_release_at(shared, *place)).map(|(put, _)| put);
    Ok((last, rotten.collect()))
}

/// Whether there is a release at a place, as far as the disk gives it.
pub(crate) fn is_release_at(shared: &Shared, place: Place) -> bool {
    let read = shared.file(place.segment).and_then(|file| read_record(&*file, &shared.key, place));
    matches!(read, Ok(Some((_, Some(Record::Release(_))))))
}
