//! The index while it is being changed: what each record of a segment does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use datamesh_core::encode::encode;
use datamesh_core::id::PlacementGroup;
use datamesh_core::lease::Release;
use datamesh_core::limits::ITEM_LEASES_MAX;
use datamesh_core::sign::Signed;
use datamesh_core::summary::Part;
use datamesh_core::time::Epoch;
use redb::{ReadableTable, Table, WriteTransaction};

use crate::index::rows::{
    ItemKey, LeaseKey, LeaseRow, OwnerKey, PartKey, PartTuple, PutKey, key_of_item, key_of_part, keys_from,
};
use crate::index::{
    APPLIED_OFFSET, APPLIED_SEGMENT, DISCARDS, ENDS, ITEMS, IndexResult, ItemRow, LAPSES, LEASES, META,
    PARTS, PUTS, RELEASES, RecordRow, SEGMENTS, SegmentUsage, UNSWEPT, release_of,
};
use crate::segment::{ALIGNMENT, Discard, Lapse, Place};

/// What becomes of an item whose last lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unleased {
    /// It is garbage at once.
    Drop,
    /// It may yet turn out to have another lease: records are being replayed, and those lie in any order.
    Await,
}

/// What a release or a lapse ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ended {
    pub(crate) lease_count: u64,
    pub(crate) item_count: u64,
}

/// The index's tables, open for one transaction.
pub(crate) struct Tables<'a> {
    items: Table<'a, &'static ItemKey, ItemTuple>,
    leases: Table<'a, &'static LeaseKey, RecordTuple>,
    parts: Table<'a, &'static PartKey, PartTuple>,
    puts: Table<'a, &'static LeaseKey, ()>,
    ends: Table<'a, &'static LeaseKey, ()>,
    releases: Table<'a, &'static PutKey, ReleaseTuple>,
    lapses: Table<'a, (u64, u64), (u64, RecordTuple)>,
    discards: Table<'a, (u64, u64), RecordTuple>,
    segments: Table<'a, u64, (u64, u64)>,
    meta: Table<'a, &'static str, u64>,
    /// Segments whose usage has changed, as it is now; `None` where the segment is gone.
    usage: BTreeMap<u64, Option<SegmentUsage>>,
    /// Groups whose parts have changed.
    groups: BTreeSet<PlacementGroup>,
    /// By how much what is kept for an owner has changed, bytes.
    owners: BTreeMap<OwnerKey, i64>,
}

/// [`ItemRow`] as redb keeps it.
pub(crate) type ItemTuple = (u64, u64, u32, u32);
/// [`RecordRow`] as redb keeps it.
pub(crate) type RecordTuple = (u64, u64, u64);
/// The same, and the release itself as it is signed: where its record has rotted, it is written again.
pub(crate) type ReleaseTuple = (u64, u64, u64, &'static [u8]);

impl<'a> Tables<'a> {
    pub(crate) fn open(transaction: &'a WriteTransaction) -> IndexResult<Self> {
        Ok(Self {
            items: transaction.open_table(ITEMS)?,
            leases: transaction.open_table(LEASES)?,
            parts: transaction.open_table(PARTS)?,
            puts: transaction.open_table(PUTS)?,
            ends: transaction.open_table(ENDS)?,
            releases: transaction.open_table(RELEASES)?,
            lapses: transaction.open_table(LAPSES)?,
            discards: transaction.open_table(DISCARDS)?,
            segments: transaction.open_table(SEGMENTS)?,
            meta: transaction.open_table(META)?,
            usage: BTreeMap::new(),
            groups: BTreeSet::new(),
            owners: BTreeMap::new(),
        })
    }

    pub(crate) fn item(&self, item: &ItemKey) -> IndexResult<Option<ItemRow>> {
        Ok(self.items.get(item)?.map(|row| ItemRow::from(row.value())))
    }

    /// Notes where an item's bytes are; of several places the last one counts.
    pub(crate) fn put_item(&mut self, item: &ItemKey, row: ItemRow) -> IndexResult<()> {
        if let Some(old) = self.item(item)? {
            if old.place > row.place {
                return Ok(());
            }
            self.add_live(old.place.segment, -old.weight())?;
        }
        self.add_live(row.place.segment, row.weight())?;
        self.items.insert(item, ItemTuple::from(row))?;
        Ok(())
    }

    pub(crate) fn drop_item(&mut self, item: &ItemKey) -> IndexResult<()> {
        let old = self.items.remove(item)?.map(|row| ItemRow::from(row.value()));
        old.map_or(Ok(()), |old| self.add_live(old.place.segment, -old.weight()))
    }

    /// The record of a lease.
    pub(crate) fn lease(&self, lease: &LeaseRow) -> IndexResult<Option<RecordRow>> {
        Ok(self.leases.get(&lease.by_item())?.map(|row| RecordRow::from(row.value())))
    }

    /// The record of some lease of the same item for the same stripe.
    pub(crate) fn lease_of_same(&self, lease: &LeaseRow) -> IndexResult<Option<Place>> {
        let (first, last) = keys_from(&[&lease.item[..], &lease.subject].concat());
        let row = self.leases.range::<&LeaseKey>(&first..=&last)?.next().transpose()?;
        Ok(row.map(|(_, value)| RecordRow::from(value.value()).place))
    }

    /// The first leases of an item, at most this many.
    pub(crate) fn leases_of(&self, item: &ItemKey, most: usize) -> IndexResult<Vec<(LeaseRow, Place)>> {
        let (first, last) = keys_from(item);
        let rows = self.leases.range::<&LeaseKey>(&first..=&last)?.take(most);
        rows.map(|row| {
            let (key, value) = row?;
            Ok((LeaseRow::from_by_item(key.value()), RecordRow::from(value.value()).place))
        })
        .collect()
    }

    /// How many leases an item has, counted up to this many.
    pub(crate) fn lease_count(&self, item: &ItemKey, most: usize) -> IndexResult<usize> {
        let (first, last) = keys_from(item);
        let rows = self.leases.range::<&LeaseKey>(&first..=&last)?.take(most);
        rows.map(|row| Ok(row.map(|_| 1)?)).sum()
    }

    /// Notes where a lease is written; of several places the last one counts.
    pub(crate) fn put_lease(&mut self, lease: &LeaseRow, record: RecordRow) -> IndexResult<()> {
        if let Some(old) = self.lease(lease)? {
            if old.place > record.place {
                return Ok(());
            }
            self.add_live(old.place.segment, -old.weight())?;
        }
        self.add_live(record.place.segment, record.weight())?;
        let known = self.is_kept_for(&lease.item, &lease.owner())?;
        self.leases.insert(&lease.by_item(), RecordTuple::from(record))?;
        if !known {
            self.count_for(lease, 1)?;
        }
        self.puts.insert(&lease.by_put(), ())?;
        // A lease that ends by release only is in nobody's way when those that end are looked for.
        if lease.until != Epoch::NEVER {
            self.ends.insert(&lease.by_end(), ())?;
        }
        Ok(())
    }

    /// Notes what an item is a part of, which a lease of it says.
    pub(crate) fn put_part(&mut self, part: &Part) -> IndexResult<()> {
        let key = key_of_part(&part.id());
        if self.parts.get(&key)?.is_none() {
            let (data, parity) = part.redundancy.into();
            self.parts.insert(&key, (part.index, data, parity))?;
            self.groups.insert(part.subject.group());
        }
        Ok(())
    }

    pub(crate) fn drop_lease(&mut self, lease: &LeaseRow) -> IndexResult<()> {
        self.puts.remove(&lease.by_put())?;
        self.ends.remove(&lease.by_end())?;
        let old = self.leases.remove(&lease.by_item())?.map(|row| RecordRow::from(row.value()));
        let Some(old) = old else { return Ok(()) };
        if !self.is_kept_for(&lease.item, &lease.owner())? {
            self.count_for(lease, -1)?;
        }
        if self.lease_of_same(lease)?.is_none() && self.parts.remove(&lease.part_key())?.is_some() {
            self.groups.insert(lease.group());
        }
        self.add_live(old.place.segment, -old.weight())
    }

    /// Whether any lease of an item is of this owner.
    fn is_kept_for(&self, item: &ItemKey, owner: &OwnerKey) -> IndexResult<bool> {
        let (first, last) = keys_from(item);
        for row in self.leases.range::<&LeaseKey>(&first..=&last)? {
            if LeaseRow::from_by_item(row?.0.value()).owner() == *owner {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Counts an item for, or no more for, a lease's owner. While records are replayed an item may not be there yet; then the
    /// count is of no use, and made anew in the end.
    fn count_for(&mut self, lease: &LeaseRow, sign: i64) -> IndexResult<()> {
        let size = self.item(&lease.item)?.map_or(0, |item| i64::from(item.payload_size));
        *self.owners.entry(lease.owner()).or_default() += sign * size;
        Ok(())
    }

    /// The record of a release.
    pub(crate) fn release(&self, put: &PutKey) -> IndexResult<Option<RecordRow>> {
        let row = self.releases.get(put)?;
        Ok(row.map(|row| {
            let (segment, offset, size, _) = row.value();
            RecordRow::from((segment, offset, size))
        }))
    }

    /// A release itself; `None` where there is none, or its row has rotted.
    pub(crate) fn signed_release(&self, put: &PutKey) -> IndexResult<Option<Signed<Release>>> {
        Ok(self.releases.get(put)?.and_then(|row| release_of(row.value().3)))
    }

    /// Notes a release for good and ends its leases.
    pub(crate) fn put_release(
        &mut self,
        put: &PutKey,
        release: &Signed<Release>,
        record: RecordRow,
        unleased: Unleased,
    ) -> IndexResult<Ended> {
        if let Some(old) = self.release(put)? {
            if old.place > record.place {
                return Ok(Ended::default());
            }
            self.add_live(old.place.segment, -old.weight())?;
        }
        self.add_live(record.place.segment, record.weight())?;
        let Place { segment, offset } = record.place;
        self.releases.insert(put, (segment, offset, record.size, &encode(release)[..]))?;
        let mut ended = Ended::default();
        while let Some(lease) = self.first_lease_of_put(put)? {
            self.end_lease(&lease, unleased, &mut ended)?;
        }
        Ok(ended)
    }

    fn first_lease_of_put(&self, put: &PutKey) -> IndexResult<Option<LeaseRow>> {
        let (first, last) = keys_from(put);
        let row = self.puts.range::<&LeaseKey>(&first..=&last)?.next().transpose()?;
        Ok(row.map(|(key, _)| LeaseRow::from_by_put(key.value())))
    }

    /// The first lease in the order of their ends, behind another.
    fn next_end(&self, after: Option<&LeaseKey>) -> IndexResult<Option<LeaseKey>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let row = self.ends.range::<&LeaseKey>((from, Bound::Unbounded))?.next().transpose()?;
        Ok(row.map(|(key, _)| *key.value()))
    }

    /// Whether any lease has expired.
    pub(crate) fn any_expired(&self, now: Epoch) -> IndexResult<bool> {
        Ok(self.next_end(None)?.is_some_and(|key| LeaseRow::from_by_end(&key).until <= now))
    }

    /// The record of the lapse that counts up to a place.
    pub(crate) fn lapse(&self, before: Place) -> IndexResult<Option<RecordRow>> {
        Ok(self.lapses.get((before.segment, before.offset))?.map(|row| RecordRow::from(row.value().1)))
    }

    /// Ends the leases that had expired when the lapse was written, and no others.
    pub(crate) fn put_lapse(
        &mut self,
        lapse: &Lapse,
        record: RecordRow,
        unleased: Unleased,
    ) -> IndexResult<Ended> {
        self.note_lapse(lapse, record)?;
        let mut ended = Ended::default();
        let mut last: Option<LeaseKey> = None;
        while let Some(key) = self.next_end(last.as_ref())? {
            let lease = LeaseRow::from_by_end(&key);
            if lease.until > lapse.now {
                break;
            }
            if self.lease(&lease)?.is_some_and(|written| written.place < lapse.before) {
                self.end_lease(&lease, unleased, &mut ended)?;
            }
            last = Some(key);
        }
        Ok(ended)
    }

    /// Keeps a lapse unless another says all that it says, and drops those of which it does.
    fn note_lapse(&mut self, lapse: &Lapse, record: RecordRow) -> IndexResult<()> {
        let rows: IndexResult<Vec<_>> = self
            .lapses
            .iter()?
            .map(|row| {
                let (before, value) = row?;
                let (now, record) = value.value();
                Ok((before.value(), Epoch::from_hours(now), RecordRow::from(record)))
            })
            .collect();
        let this = (lapse.before.segment, lapse.before.offset);
        for (before, now, old) in rows? {
            let same = before == this && now == lapse.now;
            if before >= this && now >= lapse.now && !(same && old.place < record.place) {
                return Ok(());
            }
            if before <= this && now <= lapse.now {
                self.lapses.remove(before)?;
                self.add_live(old.place.segment, -old.weight())?;
            }
        }
        self.lapses.insert(this, (lapse.now.as_hours(), RecordTuple::from(record)))?;
        self.add_live(record.place.segment, record.weight())
    }

    /// Forgets lapses that are needed no more: a lapse is needed as long as a segment besides its own is left in which it
    /// has ended leases. In its own it can be found again.
    fn drop_idle_lapses(&mut self) -> IndexResult<()> {
        let rows: IndexResult<Vec<_>> = self
            .lapses
            .iter()?
            .map(|row| {
                let (before, value) = row?;
                Ok((before.value(), RecordRow::from(value.value().1)))
            })
            .collect();
        for (before, record) in rows? {
            if !self.is_older_segment_left(before.0, record.place.segment)? {
                self.lapses.remove(before)?;
                self.add_live(record.place.segment, -record.weight())?;
            }
        }
        Ok(())
    }

    /// The record of the discard that counts up to a place.
    pub(crate) fn discard(&self, before: Place) -> IndexResult<Option<RecordRow>> {
        Ok(self.discards.get((before.segment, before.offset))?.map(|row| RecordRow::from(row.value())))
    }

    /// Drops items, with every lease of them, as far as records before the discard say of them.
    pub(crate) fn put_discard(&mut self, discard: &Discard, record: RecordRow) -> IndexResult<()> {
        self.note_discard(discard.before, record)?;
        for item in &discard.items {
            let key = key_of_item(item);
            for (lease, place) in self.leases_of(&key, ITEM_LEASES_MAX)? {
                if place < discard.before {
                    self.drop_lease(&lease)?;
                }
            }
            if self.item(&key)?.is_some_and(|row| row.place < discard.before) {
                self.drop_item(&key)?;
            }
        }
        Ok(())
    }

    /// Keeps a discard where it is needed; of several places the last one counts.
    fn note_discard(&mut self, before: Place, record: RecordRow) -> IndexResult<()> {
        if self.discard(before)?.is_some_and(|old| old.place > record.place) {
            return Ok(());
        }
        self.drop_discard(before)?;
        if self.is_older_segment_left(before.segment, record.place.segment)? {
            self.discards.insert((before.segment, before.offset), RecordTuple::from(record))?;
            self.add_live(record.place.segment, record.weight())?;
        }
        Ok(())
    }

    fn drop_discard(&mut self, before: Place) -> IndexResult<()> {
        let old = self.discards.remove((before.segment, before.offset))?;
        let old = old.map(|row| RecordRow::from(row.value()));
        old.map_or(Ok(()), |old| self.add_live(old.place.segment, -old.weight()))
    }

    /// Forgets discards that are needed no more, as lapses are. Those can only be the first ones: all others have two segments
    /// before them at the least.
    fn drop_idle_discards(&mut self) -> IndexResult<()> {
        let second =
            self.segments.iter()?.nth(1).transpose()?.map_or(u64::MAX, |(segment, _)| segment.value());
        let rows: IndexResult<Vec<_>> = self
            .discards
            .range(..(second, 0))?
            .map(|row| {
                let (before, value) = row?;
                let (segment, offset) = before.value();
                Ok((Place { segment, offset }, RecordRow::from(value.value())))
            })
            .collect();
        for (before, record) in rows? {
            if !self.is_older_segment_left(before.segment, record.place.segment)? {
                self.drop_discard(before)?;
            }
        }
        Ok(())
    }

    /// Whether there is a segment up to this one besides that of a record.
    fn is_older_segment_left(&self, last: u64, own: u64) -> IndexResult<bool> {
        let mut older = self.segments.range(..=last)?;
        Ok(older.any(|row| row.is_ok_and(|(segment, _)| segment.value() != own)))
    }

    fn end_lease(&mut self, lease: &LeaseRow, unleased: Unleased, ended: &mut Ended) -> IndexResult<()> {
        self.drop_lease(lease)?;
        ended.lease_count += 1;
        if unleased == Unleased::Drop && self.lease_count(&lease.item, 1)? == 0 {
            self.drop_item(&lease.item)?;
            ended.item_count += 1;
        }
        Ok(())
    }

    /// Notes that records are being replayed: the index must be swept in the end, if not by this process then by the next.
    pub(crate) fn need_sweep(&mut self) -> IndexResult<()> {
        self.meta.insert(UNSWEPT, 1)?;
        Ok(())
    }

    /// Drops items without a lease and leases without an item, once all records have been replayed.
    pub(crate) fn sweep(&mut self) -> IndexResult<()> {
        self.meta.insert(UNSWEPT, 0)?;
        let mut last: Option<ItemKey> = None;
        loop {
            let from = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.items.range::<&ItemKey>((from, Bound::Unbounded))?.next().transpose()?;
            let Some(item) = next.map(|(key, _)| *key.value()) else { break };
            if self.lease_count(&item, 1)? == 0 {
                self.drop_item(&item)?;
            }
            last = Some(item);
        }
        let mut last: Option<LeaseKey> = None;
        loop {
            let from = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.leases.range::<&LeaseKey>((from, Bound::Unbounded))?.next().transpose()?;
            let Some(key) = next.map(|(key, _)| *key.value()) else { break };
            let lease = LeaseRow::from_by_item(&key);
            if self.item(&lease.item)?.is_none() {
                self.drop_lease(&lease)?;
            }
            last = Some(key);
        }
        Ok(())
    }

    /// Notes a segment's size.
    pub(crate) fn set_segment_size(&mut self, segment: u64, size: u64) -> IndexResult<()> {
        let usage = self.segment_usage(segment)?.unwrap_or_default();
        self.usage.insert(segment, Some(SegmentUsage { size, ..usage }));
        Ok(())
    }

    /// Forgets a segment.
    pub(crate) fn drop_segment(&mut self, segment: u64) {
        self.usage.insert(segment, None);
    }

    pub(crate) fn segment_usage(&self, segment: u64) -> IndexResult<Option<SegmentUsage>> {
        if let Some(usage) = self.usage.get(&segment) {
            return Ok(*usage);
        }
        Ok(self.segments.get(segment)?.map(|row| SegmentUsage::from(row.value())))
    }

    fn add_live(&mut self, segment: u64, change: i64) -> IndexResult<()> {
        let usage = self.segment_usage(segment)?.unwrap_or_default();
        let live = usage.live.checked_add_signed(change);
        let live =
            live.ok_or_else(|| redb::Error::Corrupted(format!("segment {segment} is less than empty")))?;
        self.usage.insert(segment, Some(SegmentUsage { live, ..usage }));
        Ok(())
    }

    fn write_usage(&mut self) -> IndexResult<()> {
        for (segment, usage) in &self.usage {
            match usage {
                Some(usage) => self.segments.insert(segment, (usage.size, usage.live))?,
                None => self.segments.remove(segment)?,
            };
        }
        Ok(())
    }

    /// Ends the change: notes up to where segments are in the index, and says which segments' usage has changed and how
    /// many items there are.
    pub(crate) fn finish(mut self, applied: Place) -> IndexResult<Changed> {
        self.meta.insert(APPLIED_SEGMENT, applied.segment)?;
        self.meta.insert(APPLIED_OFFSET, applied.offset)?;
        self.write_usage()?;
        self.drop_idle_lapses()?;
        if self.usage.values().any(Option::is_none) {
            self.drop_idle_discards()?;
        }
        self.write_usage()?;
        let item_count = redb::ReadableTableMetadata::len(&self.items)?;
        Ok(Changed { segments: self.usage, groups: self.groups, owners: self.owners, item_count })
    }
}

/// What a change did to the figures that are kept in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) segments: BTreeMap<u64, Option<SegmentUsage>>,
    pub(crate) groups: BTreeSet<PlacementGroup>,
    pub(crate) owners: BTreeMap<OwnerKey, i64>,
    pub(crate) item_count: u64,
}

impl ItemRow {
    /// What the item's bytes take of their segment: all of the record but its head, which is counted for the lease.
    pub(crate) fn weight(&self) -> i64 {
        let head = crate::segment::head_size(self.header_size);
        let record = (head + u64::from(self.payload_size)).next_multiple_of(ALIGNMENT);
        i64::try_from(record - head).expect("a record is far shorter than 2^63 bytes")
    }
}

impl RecordRow {
    /// What the record, short of an item's bytes, takes of its segment.
    pub(crate) fn weight(&self) -> i64 {
        i64::try_from(self.size).expect("a record is far shorter than 2^63 bytes")
    }
}
