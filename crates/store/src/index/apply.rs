//! What one record means to the index: the same whether it is written now or replayed after a crash.

use datamesh_core::id::ItemId;
use datamesh_core::lease::Release;

use crate::index::rows::{LeaseRow, key_of_item, key_of_put};
use crate::index::tables::{Ended, Tables, Unleased};
use crate::index::{IndexResult, ItemRow, RecordRow};
use crate::segment::{Frame, Keeping, Kind, Place, Record};

/// Enters a record into the index.
pub(crate) fn apply(
    tables: &mut Tables<'_>,
    place: Place,
    frame: &Frame,
    record: &Record,
    unleased: Unleased,
) -> IndexResult<Ended> {
    match record {
        Record::Item(keeping) | Record::Lease(keeping) => {
            // A record of no item is one that was written by a program that knew more, or less, than this one.
            let Some(id) = keeping.id() else { return Ok(Ended::default()) };
            keep(tables, place, frame, &id, keeping)?;
            Ok(Ended::default())
        }
        Record::Release(release) => {
            let Release { owner, tag } = release.unverified();
            tables.put_release(&key_of_put(owner, tag), release, record_row(place, frame), unleased)
        }
        Record::Lapse(lapse) => tables.put_lapse(lapse, record_row(place, frame), unleased),
        Record::Discard(discard) => {
            tables.put_discard(discard, record_row(place, frame))?;
            Ok(Ended::default())
        }
    }
}

fn keep(
    tables: &mut Tables<'_>,
    place: Place,
    frame: &Frame,
    id: &ItemId,
    keeping: &Keeping,
) -> IndexResult<()> {
    if frame.kind == Kind::Item {
        let row = ItemRow { place, header_size: frame.header_size, payload_size: frame.payload_size };
        tables.put_item(&key_of_item(id), row)?;
    }
    let lease = LeaseRow::of(id, keeping.lease.unverified());
    // A release is final, wherever it stands: compaction may have moved this lease behind it.
    if tables.release(&lease.put)?.is_none() {
        tables.put_lease(&lease, record_row(place, frame))?;
        if let Some(part) = keeping.item.part() {
            tables.put_part(&part)?;
        }
    }
    Ok(())
}

/// A record's part that is not an item's bytes.
fn record_row(place: Place, frame: &Frame) -> RecordRow {
    let size = if frame.kind == Kind::Item { frame.head_size() } else { frame.record_size() };
    RecordRow { place, size }
}
