//! What a group of commands comes to: the records to append and the index behind them, before anything is written.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use bytes::Bytes;
use datamesh_core::id::ItemId;
use datamesh_core::lease::{Lease, Release};
use datamesh_core::limits::ITEM_LEASES_MAX;
use datamesh_core::sign::Signed;
use datamesh_core::wire::StoredItem;
use datamesh_engine::world::{HandedOver, ItemsError};

use crate::index::apply::apply;
use crate::index::rows::{LeaseRow, PutKey, key_of_item, key_of_put};
use crate::index::tables::{Ended, Tables, Unleased};
use crate::read::keeping_at;
use crate::scrub::{Doubt, is_refused, is_release_at, is_rotten};
use crate::segment::{DISCARD_ITEMS_MAX, Discard, Draft, Frame, Keeping, PAYLOAD_SIZE_MAX, Place, Record};
use crate::shared::{Mended, Shared, disk_error};
use crate::write::{Command, GroupError, Outcome, Room};

/// A group that is being put together. The index is changed as it will be once the group is written; the change is
/// committed after that and dropped if it doesn't come to it.
pub(crate) struct Plan<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) tables: Tables<'a>,
    drafts: Vec<(Place, Draft)>,
    end: Place,
    room: Room,
}

impl<'a> Plan<'a> {
    pub(crate) const fn new(shared: &'a Shared, tables: Tables<'a>, end: Place, room: Room) -> Self {
        Self { shared, tables, drafts: Vec::new(), end, room }
    }

    /// Where the next record goes.
    pub(crate) const fn end(&self) -> Place {
        self.end
    }

    pub(crate) fn into_parts(self) -> (Tables<'a>, Vec<(Place, Draft)>) {
        (self.tables, self.drafts)
    }

    /// Plans one command. An error of the disk concerns the whole group; what is inside concerns the command.
    pub(crate) fn command(&mut self, command: &Command) -> Result<Outcome, GroupError> {
        match command {
            Command::Store { item, lease, bytes, .. } => self.store(item, lease, bytes),
            Command::Lease { item, lease, .. } => self.lease(item, lease),
            Command::Release { release, .. } => self.release(release),
            Command::Condemn { item, doubt } => self.condemn(item, *doubt),
            Command::Discard { parts, .. } => self.discard(parts),
            Command::MendRelease { put } => self.mend_release(put),
            Command::Collect { .. } | Command::Check { .. } | Command::Close { .. } => Ok(Ok(0)),
        }
    }

    fn store(
        &mut self,
        item: &StoredItem,
        lease: &Signed<Lease>,
        bytes: &Bytes,
    ) -> Result<Outcome, GroupError> {
        let Some(id) = item.id().filter(|_| bytes.len() <= PAYLOAD_SIZE_MAX) else {
            return Ok(Err(ItemsError::Disk("no item is like this one".to_owned())));
        };
        let held = self.tables.item(&key_of_item(&id))?.is_some();
        match self.admit_lease(&id, lease)? {
            Err(refusal) => return Ok(Err(refusal)),
            Ok(Admission::Known) if held => return Ok(Ok(1)),
            Ok(_) => {}
        }
        let keeping = Keeping { item: item.clone(), lease: lease.clone() };
        let (record, payload, room) = if held {
            (Record::Lease(keeping), Bytes::new(), self.room.lease)
        } else {
            (Record::Item(keeping), bytes.clone(), self.room.item)
        };
        Ok(self.append_within(room, &record, payload)?.map(|_| 1))
    }

    fn lease(&mut self, item: &ItemId, lease: &Signed<Lease>) -> Result<Outcome, GroupError> {
        if self.tables.item(&key_of_item(item))?.is_none() {
            return Ok(Ok(0));
        }
        match self.admit_lease(item, lease)? {
            Err(refusal) => return Ok(Err(refusal)),
            Ok(Admission::Known) => return Ok(Ok(1)),
            Ok(Admission::New) => {}
        }
        let row = LeaseRow::of(item, lease.unverified());
        // What the item is of the lease's stripe can be told only by another lease for that stripe. An item that is held
        // for other stripes alone is not held for this one: it must be stored, with its place in it.
        let Some(place) = self.tables.lease_of_same(&row)? else {
            return Ok(Ok(0));
        };
        let known = match self.keeping_at(place) {
            Ok(known) => known,
            Err(error) => return Ok(Err(disk_error("read", &error))),
        };
        let record = Record::Lease(Keeping { item: known.item, lease: lease.clone() });
        Ok(self.append_within(self.room.lease, &record, Bytes::new())?.map(|_| 1))
    }

    /// Whether an item may be kept under a lease.
    fn admit_lease(
        &self,
        item: &ItemId,
        lease: &Signed<Lease>,
    ) -> Result<Result<Admission, ItemsError>, GroupError> {
        let row = LeaseRow::of(item, lease.unverified());
        if self.tables.release(&row.put)?.is_some() {
            return Ok(Err(ItemsError::Released));
        }
        if self.tables.lease(&row)?.is_some() {
            return Ok(Ok(Admission::Known));
        }
        let full = self.tables.lease_count(&row.item, ITEM_LEASES_MAX)? >= ITEM_LEASES_MAX;
        Ok(if full { Err(ItemsError::TooManyLeases) } else { Ok(Admission::New) })
    }

    fn release(&mut self, release: &Signed<Release>) -> Result<Outcome, GroupError> {
        let Release { owner, tag } = release.unverified();
        if self.tables.release(&key_of_put(owner, tag))?.is_some() {
            return Ok(Ok(0));
        }
        let ended = self.append(&Record::Release(release.clone()), Bytes::new())?;
        Ok(Ok(ended.lease_count))
    }

    /// Writes a release again whose record really is rotten.
    fn mend_release(&mut self, put: &PutKey) -> Result<Outcome, GroupError> {
        let Some(row) = self.tables.release(put)? else { return Ok(Ok(0)) };
        if self.is_planned(row.place) || is_release_at(self.shared, row.place) {
            return Ok(Ok(0));
        }
        let Some(release) = self.tables.signed_release(put)? else { return Ok(Ok(0)) };
        tracing::error!(
            segment = row.place.segment,
            offset = row.place.offset,
            "release was rotten, and is written again"
        );
        self.append(&Record::Release(release), Bytes::new())?;
        self.shared.note_mended(Mended { release_count: 1, ..Mended::default() });
        Ok(Ok(1))
    }

    /// Forgets an item that really is rotten, or that the disk refuses to read again, so that it can be stored again.
    fn condemn(&mut self, item: &ItemId, doubt: Doubt) -> Result<Outcome, GroupError> {
        let key = key_of_item(item);
        let Some(row) = self.tables.item(&key)? else {
            return Ok(Ok(0));
        };
        // What this very group writes is not on the disk yet.
        let leases = self.tables.leases_of(&key, ITEM_LEASES_MAX)?;
        if leases.iter().any(|(_, place)| self.is_planned(*place)) || self.is_planned(row.place) {
            return Ok(Ok(1));
        }
        match is_rotten(self.shared, item, &row) {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(1)),
            // Only the writer removes segments, so that nobody else has moved it meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if doubt == Doubt::Unreadable && is_refused(&error) => {}
            Err(error) => return Ok(Err(disk_error("read", &error))),
        }
        tracing::error!(%item, segment = row.place.segment, offset = row.place.offset, ?doubt, "item is lost");
        self.forget(vec![*item])?;
        self.shared.note_mended(Mended { rotten_count: 1, ..Mended::default() });
        Ok(Ok(0))
    }

    /// Forgets items. What is kept under a lease stays that was not handed over, be it as something else or because it has
    /// come since; and so does an item of this very group, which is acknowledged together with this.
    fn discard(&mut self, parts: &[HandedOver]) -> Result<Outcome, GroupError> {
        let mut discarded = BTreeSet::new();
        for HandedOver { part, leases: handed_over } in parts {
            let key = key_of_item(&part.item);
            let Some(row) = self.tables.item(&key)? else { continue };
            let leases = self.tables.leases_of(&key, ITEM_LEASES_MAX)?;
            let handed_over: Vec<LeaseRow> =
                handed_over.iter().map(|lease| LeaseRow::of(&part.item, lease.unverified())).collect();
            if !leases.iter().all(|(lease, _)| handed_over.contains(lease)) {
                continue;
            }
            let mut places = leases.into_iter().map(|(_, place)| place).chain([row.place]);
            if places.all(|place| !self.is_planned(place)) {
                discarded.insert(part.item);
            }
        }
        let discarded: Vec<ItemId> = discarded.into_iter().collect();
        let count = u64::try_from(discarded.len()).expect("a count fits 64 bits");
        self.forget(discarded)?;
        Ok(Ok(count))
    }

    /// Appends that what was written of items so far counts no more.
    pub(crate) fn forget(&mut self, items: Vec<ItemId>) -> Result<(), GroupError> {
        for items in items.chunks(DISCARD_ITEMS_MAX) {
            let discard = Discard { items: items.to_vec(), before: self.end };
            self.append(&Record::Discard(discard), Bytes::new())?;
        }
        Ok(())
    }

    fn is_planned(&self, place: Place) -> bool {
        self.drafts.first().is_some_and(|(first, _)| place >= *first)
    }

    fn append_within(
        &mut self,
        room: u64,
        record: &Record,
        payload: Bytes,
    ) -> Result<Result<Ended, ItemsError>, GroupError> {
        let draft = Draft::new(&self.shared.key, self.end, record, payload);
        let size = draft.frame.record_size();
        if size > room {
            return Ok(Err(ItemsError::Full));
        }
        self.room.item = self.room.item.saturating_sub(size);
        self.room.lease = self.room.lease.saturating_sub(size);
        Ok(Ok(self.add(draft, record)?))
    }

    /// Appends a record and enters it into the index.
    pub(crate) fn append(&mut self, record: &Record, payload: Bytes) -> Result<Ended, GroupError> {
        let draft = Draft::new(&self.shared.key, self.end, record, payload);
        self.add(draft, record)
    }

    fn add(&mut self, draft: Draft, record: &Record) -> Result<Ended, GroupError> {
        let place = self.end;
        let frame: Frame = draft.frame;
        self.end.offset += frame.record_size();
        self.drafts.push((place, draft));
        Ok(apply(&mut self.tables, place, &frame, record, Unleased::Drop)?)
    }

    /// Reads why an item is kept, from this group where it isn't written yet.
    pub(crate) fn keeping_at(&self, place: Place) -> std::io::Result<Keeping> {
        let planned = self.drafts.binary_search_by_key(&place, |(place, _)| *place).ok();
        match planned.map(|index| self.drafts[index].1.record()) {
            Some(Some(Record::Item(keeping) | Record::Lease(keeping))) => Ok(keeping),
            _ => keeping_at(self.shared, place),
        }
    }
}

/// How a lease that may be taken is taken.
enum Admission {
    Known,
    New,
}
