//! The index: shard to place, lease, and last verification.
//!
//! A redb file, derived from the segments and derived again where it is missing or damaged. Its commits are cheap and
//! not synced, but for a checkpoint now and then: what the last checkpoint hasn't, the segments behind it have.

pub(crate) mod apply;
mod file;
pub(crate) mod rows;
pub(crate) mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::{Bound, ControlFlow};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use datamesh_core::id::{BlockId, ItemId, PlacementGroup};
use datamesh_core::lease::Release;
use datamesh_core::sign::Signed;
use datamesh_core::summary::{Part, PartId};
use redb::{
    Database, Durability, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, Value,
    WriteTransaction,
};

use crate::disk::Disk;
use crate::index::file::{Backend, IndexFile};
use crate::index::rows::{
    ItemKey, LeaseKey, LeaseRow, OwnerKey, PartKey, PartTuple, PutKey, item_of_key, key_of_item, key_of_part,
    keys_from, keys_of_blocks, keys_of_group, part_of_row,
};
use crate::index::tables::{ItemTuple, RecordTuple, ReleaseTuple, Tables};
use crate::segment::{Kind, Place, Record, StoreKey};

pub(crate) type IndexResult<T> = Result<T, redb::Error>;

const FORMAT_VERSION: u64 = 4;
const APPLIED_SEGMENT: &str = "applied segment";
const APPLIED_OFFSET: &str = "applied offset";
const FORMAT: &str = "format";
const STORE_KEY: &str = "store key";
/// 1 while records are being replayed: then there may be items without a lease and leases without an item.
const UNSWEPT: &str = "unswept";

const ITEMS: TableDefinition<'_, &ItemKey, ItemTuple> = TableDefinition::new("items");
const LEASES: TableDefinition<'_, &LeaseKey, RecordTuple> = TableDefinition::new("leases by item");
const PARTS: TableDefinition<'_, &PartKey, PartTuple> = TableDefinition::new("parts by group");
const PUTS: TableDefinition<'_, &LeaseKey, ()> = TableDefinition::new("leases by put");
const ENDS: TableDefinition<'_, &LeaseKey, ()> = TableDefinition::new("leases by end");
const RELEASES: TableDefinition<'_, &PutKey, ReleaseTuple> = TableDefinition::new("releases");
const LAPSES: TableDefinition<'_, (u64, u64), (u64, RecordTuple)> = TableDefinition::new("lapses");
const DISCARDS: TableDefinition<'_, (u64, u64), RecordTuple> = TableDefinition::new("discards");
const SEGMENTS: TableDefinition<'_, u64, (u64, u64)> = TableDefinition::new("segments");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The store's key, for when no segment has a header any more that says it.
const KEYS: TableDefinition<'_, &str, &[u8; 32]> = TableDefinition::new("keys");

/// Where an item's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ItemRow {
    pub(crate) place: Place,
    pub(crate) header_size: u32,
    pub(crate) payload_size: u32,
}

/// Where something else is written and what it takes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordRow {
    pub(crate) place: Place,
    pub(crate) size: u64,
}

/// How full a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SegmentUsage {
    /// Bytes of its file.
    pub(crate) size: u64,
    /// Bytes of what still counts in it.
    pub(crate) live: u64,
}

/// Whether a commit must outlast a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    /// It need not: the segments can say it again.
    Cheap,
    /// It must.
    Checkpoint,
}

/// The open index.
#[derive(Debug)]
pub(crate) struct Index {
    database: Database,
    file: Arc<IndexFile>,
}

impl Index {
    /// Opens the index and checks every page of it; `None` where the file is damaged or of another format.
    ///
    /// # Errors
    /// When there is no such file or it can't be opened at all.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, cache_size: usize) -> io::Result<Option<Self>> {
        let file = Arc::new(IndexFile::new(disk.open(path)?));
        // A rotten file must not end the process, and redb asserts more of its files than it checks.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_file(&file, cache_size)));
        match opened {
            Ok(Ok(index)) => return Ok(Some(index)),
            Ok(Err(error)) => tracing::warn!(%error, "index is damaged"),
            Err(_) => tracing::warn!("index is damaged beyond what its reader expects"),
        }
        file.retire();
        Ok(None)
    }

    fn open_file(file: &Arc<IndexFile>, cache_size: usize) -> IndexResult<Self> {
        let mut database = builder(cache_size).create_with_backend(Backend(file.clone()))?;
        if !database.check_integrity()? {
            return Err(redb::Error::Corrupted("pages don't match their checksums".to_owned()));
        }
        let index = Self { database, file: file.clone() };
        match index.meta(FORMAT)? {
            Some(FORMAT_VERSION) => Ok(index),
            other => Err(redb::Error::Corrupted(format!("format {other:?}, not {FORMAT_VERSION}"))),
        }
    }

    /// Makes an empty index, durably but for its name.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        cache_size: usize,
        key: &StoreKey,
    ) -> IndexResult<Self> {
        let file = Arc::new(IndexFile::new(disk.create(path)?));
        let database = builder(cache_size).create_with_backend(Backend(file.clone()))?;
        let index = Self { database, file };
        let transaction = index.begin()?;
        transaction.open_table(META)?.insert(FORMAT, FORMAT_VERSION)?;
        transaction.open_table(KEYS)?.insert(STORE_KEY, &key.0)?;
        Tables::open(&transaction)?.finish(Place { segment: 0, offset: 0 })?;
        commit(transaction, Commit::Checkpoint)?;
        Ok(index)
    }

    /// Makes this index touch its file no more, so that another may be opened in its stead.
    pub(crate) fn retire(&self) {
        self.file.retire();
    }

    /// Whether the disk lacks something of it that is only in memory.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.file.is_in_memory()
    }

    pub(crate) fn begin(&self) -> IndexResult<WriteTransaction> {
        Ok(self.database.begin_write()?)
    }

    /// Up to where the segments are in the index.
    pub(crate) fn applied(&self) -> IndexResult<Place> {
        let segment = self.meta(APPLIED_SEGMENT)?.unwrap_or_default();
        let offset = self.meta(APPLIED_OFFSET)?.unwrap_or_default();
        Ok(Place { segment, offset })
    }

    /// The key of the store that it is of.
    pub(crate) fn key(&self) -> IndexResult<Option<StoreKey>> {
        Ok(self.read()?.open_table(KEYS)?.get(STORE_KEY)?.map(|key| StoreKey(*key.value())))
    }

    /// Whether a replay was begun and not ended.
    pub(crate) fn is_unswept(&self) -> IndexResult<bool> {
        Ok(self.meta(UNSWEPT)?.unwrap_or_default() == 1)
    }

    fn meta(&self, name: &str) -> IndexResult<Option<u64>> {
        Ok(self.read()?.open_table(META)?.get(name)?.map(|value| value.value()))
    }

    fn read(&self) -> IndexResult<ReadTransaction> {
        Ok(self.database.begin_read()?)
    }

    pub(crate) fn item(&self, item: &ItemId) -> IndexResult<Option<ItemRow>> {
        let items = self.read()?.open_table(ITEMS)?;
        Ok(items.get(&key_of_item(item))?.map(|row| ItemRow::from(row.value())))
    }

    pub(crate) fn holds(&self, items: &[ItemId]) -> IndexResult<Vec<bool>> {
        let table = self.read()?.open_table(ITEMS)?;
        items.iter().map(|item| Ok(table.get(&key_of_item(item))?.is_some())).collect()
    }

    /// Leases of an item, at most this many, behind another one; those of one stripe are together.
    pub(crate) fn leases_of(&self, item: &ItemKey, most: usize) -> IndexResult<Vec<(LeaseRow, Place)>> {
        let (first, last) = keys_from(item);
        let leases = self.read()?.open_table(LEASES)?;
        let rows = leases.range::<&LeaseKey>(&first..=&last)?.take(most);
        rows.map(|row| {
            let (key, value) = row?;
            Ok((LeaseRow::from_by_item(key.value()), RecordRow::from(value.value()).place))
        })
        .collect()
    }

    /// Items in the order of their keys, at most this many, behind another one.
    pub(crate) fn items_after(
        &self,
        after: Option<&ItemKey>,
        most: usize,
    ) -> IndexResult<Vec<(ItemKey, ItemRow)>> {
        let items = self.read()?.open_table(ITEMS)?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = items.range::<&ItemKey>((from, Bound::Unbounded))?.take(most);
        rows.map(|row| {
            let (key, value) = row?;
            Ok((*key.value(), ItemRow::from(value.value())))
        })
        .collect()
    }

    /// Visits the parts of a group behind another one in their order, until told to stop.
    pub(crate) fn visit_parts(
        &self,
        group: PlacementGroup,
        after: Option<&PartId>,
        mut visit: impl FnMut(Part) -> ControlFlow<()>,
    ) -> IndexResult<()> {
        let (first, last) = keys_of_group(group);
        let after = after.map(key_of_part);
        let from = after.as_ref().map_or(Bound::Included(&first), Bound::Excluded);
        if after.as_ref().is_some_and(|after| *after >= last) {
            return Ok(());
        }
        let parts = self.read()?.open_table(PARTS)?;
        for row in parts.range::<&PartKey>((from, Bound::Included(&last)))? {
            let (key, value) = row?;
            let part = part_of_row(key.value(), value.value());
            let part = part.ok_or_else(|| redb::Error::Corrupted("a part of no redundancy".to_owned()))?;
            if visit(part).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The blocks that are kept under a put, each once, at most this many.
    pub(crate) fn blocks_of(&self, put: &PutKey, most: usize) -> IndexResult<Vec<BlockId>> {
        let (first, last) = keys_of_blocks(put);
        let mut blocks = Vec::new();
        for row in self.read()?.open_table(PUTS)?.range::<&LeaseKey>(&first..=&last)? {
            if let ItemId::Block(block) = item_of_key(&LeaseRow::from_by_put(row?.0.value()).item)
                && blocks.last() != Some(&block)
            {
                if blocks.len() == most {
                    break;
                }
                blocks.push(block);
            }
        }
        Ok(blocks)
    }

    /// The release of a put.
    pub(crate) fn release(&self, put: &PutKey) -> IndexResult<Option<Signed<Release>>> {
        let releases = self.read()?.open_table(RELEASES)?;
        let found = releases.get(put)?;
        Ok(found.and_then(|row| release_of(row.value().3)))
    }

    /// Where releases are written, at most this many, behind another one.
    pub(crate) fn releases_after(
        &self,
        after: Option<&PutKey>,
        most: usize,
    ) -> IndexResult<Vec<(PutKey, Place)>> {
        let releases = self.read()?.open_table(RELEASES)?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = releases.range::<&PutKey>((from, Bound::Unbounded))?.take(most);
        rows.map(|row| {
            let (key, value) = row?;
            Ok((*key.value(), place_of_release(&value.value())))
        })
        .collect()
    }

    /// Bytes of the items that each owner's leases keep, each item counted once for each owner.
    pub(crate) fn kept_by_owner(&self) -> IndexResult<BTreeMap<OwnerKey, u64>> {
        let read = self.read()?;
        let (items, leases) = (read.open_table(ITEMS)?, read.open_table(LEASES)?);
        let mut kept = BTreeMap::new();
        let mut counted: Option<(ItemKey, BTreeSet<OwnerKey>)> = None;
        // Leases of one item lie together, in no order of their owners.
        for row in leases.iter()? {
            let lease = LeaseRow::from_by_item(row?.0.value());
            let of_item = match &mut counted {
                Some((item, owners)) if *item == lease.item => owners,
                other => &mut other.insert((lease.item, BTreeSet::new())).1,
            };
            if of_item.insert(lease.owner()) {
                let size = items
                    .get(&lease.item)?
                    .map_or(0, |row| u64::from(ItemRow::from(row.value()).payload_size));
                *kept.entry(lease.owner()).or_default() += size;
            }
        }
        Ok(kept)
    }

    pub(crate) fn item_count(&self) -> IndexResult<u64> {
        Ok(redb::ReadableTableMetadata::len(&self.read()?.open_table(ITEMS)?)?)
    }

    pub(crate) fn segments(&self) -> IndexResult<Vec<(u64, SegmentUsage)>> {
        let segments = self.read()?.open_table(SEGMENTS)?;
        let rows = segments.iter()?.map(|row| {
            let (segment, usage) = row?;
            Ok((segment.value(), SegmentUsage::from(usage.value())))
        });
        rows.collect()
    }

    /// A hash over all that the segments determine.
    pub(crate) fn digest(&self) -> IndexResult<[u8; 32]> {
        let read = self.read()?;
        let mut hasher = blake3::Hasher::new();
        hash_table(&read, ITEMS, &mut hasher)?;
        hash_table(&read, LEASES, &mut hasher)?;
        hash_table(&read, PARTS, &mut hasher)?;
        hash_table(&read, PUTS, &mut hasher)?;
        hash_table(&read, ENDS, &mut hasher)?;
        hash_table(&read, RELEASES, &mut hasher)?;
        hash_table(&read, LAPSES, &mut hasher)?;
        hash_table(&read, DISCARDS, &mut hasher)?;
        hash_table(&read, SEGMENTS, &mut hasher)?;
        Ok(*hasher.finalize().as_bytes())
    }
}

/// What a release's row says of it; `None` where the row has rotted.
pub(crate) fn release_of(bytes: &[u8]) -> Option<Signed<Release>> {
    match Record::decode(Kind::Release, bytes) {
        Some(Record::Release(release)) => Some(release),
        _ => None,
    }
}

pub(crate) const fn place_of_release((segment, offset, ..): &(u64, u64, u64, &[u8])) -> Place {
    Place { segment: *segment, offset: *offset }
}

/// Ends a change of the index.
pub(crate) fn commit(mut transaction: WriteTransaction, commit: Commit) -> IndexResult<()> {
    match commit {
        Commit::Cheap => transaction.set_durability(Durability::None)?,
        // Two phases, and the allocator's state with them, so that opening after a crash walks no tree.
        Commit::Checkpoint => transaction.set_quick_repair(true),
    }
    Ok(transaction.commit()?)
}

fn hash_table<K: Key, V: Value>(
    read: &ReadTransaction,
    definition: TableDefinition<'static, K, V>,
    hasher: &mut blake3::Hasher,
) -> IndexResult<()> {
    let table = read.open_table(definition)?;
    hasher.update(&redb::ReadableTableMetadata::len(&table)?.to_le_bytes());
    for row in table.iter()? {
        let (key, value) = row?;
        // Keys and values of every table here have one size, or say theirs.
        hasher.update(K::as_bytes(&key.value()).as_ref());
        hasher.update(V::as_bytes(&value.value()).as_ref());
    }
    Ok(())
}

fn builder(cache_size: usize) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_size);
    builder
}

impl From<ItemTuple> for ItemRow {
    fn from((segment, offset, header_size, payload_size): ItemTuple) -> Self {
        Self { place: Place { segment, offset }, header_size, payload_size }
    }
}

impl From<ItemRow> for ItemTuple {
    fn from(row: ItemRow) -> Self {
        (row.place.segment, row.place.offset, row.header_size, row.payload_size)
    }
}

impl From<RecordTuple> for RecordRow {
    fn from((segment, offset, size): RecordTuple) -> Self {
        Self { place: Place { segment, offset }, size }
    }
}

impl From<RecordRow> for RecordTuple {
    fn from(row: RecordRow) -> Self {
        (row.place.segment, row.place.offset, row.size)
    }
}

impl From<(u64, u64)> for SegmentUsage {
    fn from((size, live): (u64, u64)) -> Self {
        Self { size, live }
    }
}
