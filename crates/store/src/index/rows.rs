//! The index's keys as bytes: what they are made of and how they sort.

use datamesh_core::id::{BlockId, ItemId, OwnerId, PlacementGroup, ShardId, StripeId};
use datamesh_core::lease::{Lease, LeaseTag, Subject};
use datamesh_core::summary::{Part, PartId};
use datamesh_core::time::Epoch;

/// An item: its kind and its hash.
pub(crate) type ItemKey = [u8; 33];
/// An owner.
pub(crate) type OwnerKey = [u8; 32];
/// A put: its owner and its tag.
pub(crate) type PutKey = [u8; 48];
/// An item as a part of a stripe or as a replica of a block: the stripe's id or the block's, and the item.
pub(crate) type PartKey = [u8; 65];
/// A part's place in its stripe, and k and m.
pub(crate) type PartTuple = (u8, u8, u8);
/// A lease, in the order of one of the three tables that have it.
pub(crate) type LeaseKey = [u8; 121];

const SHARD: u8 = 0;
const BLOCK: u8 = 1;

pub(crate) fn key_of_item(item: &ItemId) -> ItemKey {
    let mut key = [0; 33];
    key[0] = match item {
        ItemId::Shard(_) => SHARD,
        ItemId::Block(_) => BLOCK,
    };
    key[1..].copy_from_slice(item.hash());
    key
}

pub(crate) fn item_of_key(key: &ItemKey) -> ItemId {
    let hash = part(key, 1);
    if key[0] == SHARD {
        ItemId::Shard(ShardId::from_bytes(hash))
    } else {
        ItemId::Block(BlockId::from_bytes(hash))
    }
}

pub(crate) fn key_of_put(owner: &OwnerId, tag: &LeaseTag) -> PutKey {
    let mut key = [0; 48];
    key[..32].copy_from_slice(owner.as_bytes());
    key[32..].copy_from_slice(tag.as_bytes());
    key
}

/// The key of a part: parts are sorted by stripe or block, so that those of a group lie together.
pub(crate) fn key_of_part(part: &PartId) -> PartKey {
    part_key(part.subject.hash(), &key_of_item(&part.item))
}

/// What a part's key and its row say. `None` if no part has this row.
pub(crate) fn part_of_row(key: &PartKey, (index, data, parity): PartTuple) -> Option<Part> {
    let item = item_of_key(&part(key, 32));
    let hash = part(key, 0);
    let subject = match item {
        ItemId::Shard(_) => Subject::Stripe(StripeId::from_bytes(hash)),
        ItemId::Block(_) => Subject::Block(BlockId::from_bytes(hash)),
    };
    Some(Part { subject, item, index, redundancy: (data, parity).try_into().ok()? })
}

fn part_key(subject: &[u8; 32], item: &ItemKey) -> PartKey {
    let mut key = [0; 65];
    key[..32].copy_from_slice(subject);
    key[32..].copy_from_slice(item);
    key
}

/// The least and the greatest key of a group's parts.
pub(crate) fn keys_of_group(group: PlacementGroup) -> (PartKey, PartKey) {
    let (mut first, mut last) = ([0; 65], [255; 65]);
    let prefix = group.hash_prefixes();
    first[..2].copy_from_slice(&prefix.start().to_be_bytes());
    last[..2].copy_from_slice(&prefix.end().to_be_bytes());
    (first, last)
}

/// A lease of an item. Two leases are one when all of this is equal; a lease prolonged is a second lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LeaseRow {
    pub(crate) item: ItemKey,
    /// The stripe's id or the block's; which of the two, the item says.
    pub(crate) subject: [u8; 32],
    pub(crate) until: Epoch,
    pub(crate) put: PutKey,
}

impl LeaseRow {
    pub(crate) fn of(item: &ItemId, lease: &Lease) -> Self {
        Self {
            item: key_of_item(item),
            subject: *lease.subject.hash(),
            until: lease.until,
            put: key_of_put(&lease.owner, &lease.tag),
        }
    }

    /// Whose it is.
    pub(crate) fn owner(&self) -> OwnerKey {
        part(&self.put, 0)
    }

    /// The part that it is a lease of.
    pub(crate) fn part_key(&self) -> PartKey {
        part_key(&self.subject, &self.item)
    }

    /// The group that the part belongs to.
    pub(crate) const fn group(&self) -> PlacementGroup {
        PlacementGroup::of_hash(&self.subject)
    }

    /// Sorted by item, then stripe.
    pub(crate) fn by_item(&self) -> LeaseKey {
        join(&[&self.item, &self.subject, &self.until_bytes(), &self.put])
    }

    pub(crate) fn from_by_item(key: &LeaseKey) -> Self {
        Self { item: part(key, 0), subject: part(key, 33), until: epoch(part(key, 65)), put: part(key, 73) }
    }

    /// Sorted by owner and tag.
    pub(crate) fn by_put(&self) -> LeaseKey {
        join(&[&self.put, &self.item, &self.subject, &self.until_bytes()])
    }

    pub(crate) fn from_by_put(key: &LeaseKey) -> Self {
        Self { put: part(key, 0), item: part(key, 48), subject: part(key, 81), until: epoch(part(key, 113)) }
    }

    /// Sorted by when it ends.
    pub(crate) fn by_end(&self) -> LeaseKey {
        join(&[&self.until_bytes(), &self.item, &self.subject, &self.put])
    }

    pub(crate) fn from_by_end(key: &LeaseKey) -> Self {
        Self { until: epoch(part(key, 0)), item: part(key, 8), subject: part(key, 41), put: part(key, 73) }
    }

    /// Big-endian, so that bytes sort as numbers do.
    fn until_bytes(&self) -> [u8; 8] {
        self.until.as_hours().to_be_bytes()
    }
}

/// The least and the greatest key that begin with these bytes.
pub(crate) fn keys_from(prefix: &[u8]) -> (LeaseKey, LeaseKey) {
    let (mut first, mut last) = ([0; 121], [255; 121]);
    first[..prefix.len()].copy_from_slice(prefix);
    last[..prefix.len()].copy_from_slice(prefix);
    (first, last)
}

/// The least and the greatest key, of those sorted by put, of leases of blocks under a put.
pub(crate) fn keys_of_blocks(put: &PutKey) -> (LeaseKey, LeaseKey) {
    keys_from(&[&put[..], &[BLOCK]].concat())
}

fn epoch(bytes: [u8; 8]) -> Epoch {
    Epoch::from_hours(u64::from_be_bytes(bytes))
}

fn join(parts: &[&[u8]]) -> LeaseKey {
    let mut key = [0; 121];
    let mut at = 0;
    for part in parts {
        key[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    assert_eq!(at, key.len(), "a lease's key has all its parts");
    key
}

fn part<const N: usize>(key: &[u8], at: usize) -> [u8; N] {
    key[at..at + N].try_into().expect("callers name constant places in arrays of constant size")
}

#[cfg(test)]
mod tests {
    use datamesh_core::time::Epoch;

    use super::LeaseRow;

    #[test]
    fn a_lease_is_read_back_from_each_of_its_keys() {
        let row =
            LeaseRow { item: [1; 33], subject: [2; 32], until: Epoch::from_hours(0x0102_0304), put: [3; 48] };
        assert_eq!(LeaseRow::from_by_item(&row.by_item()), row);
        assert_eq!(LeaseRow::from_by_put(&row.by_put()), row);
        assert_eq!(LeaseRow::from_by_end(&row.by_end()), row);
    }
}
