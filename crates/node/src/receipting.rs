//! One signed receipt for all items of a put that became durable together.
//!
//! Items of different puts are never on one receipt: it would tell one owner what another stores. A put is an owner's tag, and not
//! a tag alone: whoever may read a lease could store under its tag.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use datamesh_core::lease::PutId;
use datamesh_core::limits::RECEIPT_ITEMS_MAX;
use datamesh_core::receipt::{KeptItem, Receipt};
use datamesh_core::sign::Signed;
use datamesh_engine::world::Group;

/// Receipts that are remembered: those of the last groups, of which some items are still to be answered for.
const REMEMBERED_MAX: usize = 8;

/// The receipts that were signed last.
#[derive(Default)]
pub(crate) struct Receipting {
    last: Mutex<VecDeque<Last>>,
}

struct Last {
    of: Group,
    put: PutId,
    receipt: Signed<Receipt>,
}

impl Receipting {
    /// A receipt for an item of a group, with those of the same put that became durable with it; `sign` makes one of 1 to
    /// [`RECEIPT_ITEMS_MAX`] items, once for as many.
    pub(crate) fn receipt(
        &self,
        group: &Group,
        put: PutId,
        kept: KeptItem,
        sign: impl FnOnce(Vec<KeptItem>) -> Signed<Receipt>,
    ) -> Signed<Receipt> {
        // Held while it is signed: the others of the group are about to ask for the same.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let covers = |one: &Last| one.put == put && one.receipt.unverified().items.contains(&kept);
        if let Some(known) = last.iter().find(|one| one.of.is(group) && covers(one)) {
            return known.receipt.clone();
        }
        let receipt = sign(batch(group, put, kept));
        if last.len() >= REMEMBERED_MAX {
            last.pop_front();
        }
        last.push_back(Last { of: group.clone(), put, receipt: receipt.clone() });
        receipt
    }
}

/// What goes onto the receipt that this item is on.
fn batch(group: &Group, put: PutId, kept: KeptItem) -> Vec<KeptItem> {
    let of_put: Vec<KeptItem> = group.of_put(put).collect();
    let batch = of_put.chunks(RECEIPT_ITEMS_MAX).find(|batch| batch.contains(&kept));
    batch.map_or_else(|| vec![kept], <[KeptItem]>::to_vec)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use datamesh_core::id::{BlockId, ItemId, NodeId, OwnerId};
    use datamesh_core::lease::LeaseTag;
    use datamesh_core::time::Timestamp;
    use ed25519_dalek::SigningKey;

    use super::*;

    const PUT: PutId = put(1, 1);
    const OTHER_PUT: PutId = put(1, 2);
    /// Of another owner, who chose the same tag.
    const STRANGERS_PUT: PutId = put(2, 1);

    const fn put(owner: u8, tag: u8) -> PutId {
        PutId { owner: OwnerId::from_bytes([owner; 32]), tag: LeaseTag::from_bytes([tag; 16]) }
    }

    fn kept(number: usize) -> KeptItem {
        KeptItem { item: ItemId::Block(BlockId::of(&number.to_le_bytes())), size: 1 }
    }

    fn sign(put: PutId, items: Vec<KeptItem>) -> Signed<Receipt> {
        let key = SigningKey::from_bytes(&[1; 32]);
        let node = NodeId::from_bytes(key.verifying_key().to_bytes());
        Signed::sign(Receipt { node, tag: put.tag, items, stored: Timestamp::from_ms(0) }, &key)
    }

    /// The receipts for all items of a group, and how many were signed.
    fn receipts(receipting: &Receipting, group: &[(PutId, KeptItem)]) -> (Vec<Signed<Receipt>>, usize) {
        let (of, signature_count) = (Group::new(group.to_vec()), Cell::new(0));
        let receipts = group.iter().map(|(put, kept)| {
            receipting.receipt(&of, *put, *kept, |items| {
                signature_count.set(signature_count.get() + 1);
                sign(*put, items)
            })
        });
        (receipts.collect(), signature_count.get())
    }

    #[test]
    fn what_became_durable_together_is_signed_for_once_and_what_is_too_much_in_parts() {
        let group: Vec<_> = (0..=RECEIPT_ITEMS_MAX).map(|number| (PUT, kept(number))).collect();
        let (receipts, signature_count) = receipts(&Receipting::default(), &group);
        assert_eq!(signature_count, 2);
        for (receipt, (put, kept)) in receipts.iter().zip(&group) {
            let receipt = receipt.verify().expect("it is signed");
            assert!(receipt.covers(receipt.node, put.tag, *kept));
        }
    }

    #[test]
    fn a_receipt_tells_nothing_of_another_put() {
        let group = [(PUT, kept(1)), (OTHER_PUT, kept(2)), (PUT, kept(3)), (STRANGERS_PUT, kept(4))];
        let (receipts, signature_count) = receipts(&Receipting::default(), &group);
        assert_eq!(signature_count, 3);
        assert_eq!(receipts[0].unverified().items, [kept(1), kept(3)]);
        assert_eq!(receipts[1].unverified().items, [kept(2)]);
        assert_eq!(receipts[1].unverified().tag, OTHER_PUT.tag);
        assert_eq!(receipts[3].unverified().items, [kept(4)]);
    }

    #[test]
    fn an_item_that_became_durable_again_has_a_receipt_of_its_own_time() {
        let (receipting, group) = (Receipting::default(), [(PUT, kept(1))]);
        for _ in 0..2 * REMEMBERED_MAX {
            assert_eq!(receipts(&receipting, &group).1, 1);
        }
        assert_eq!(receipting.last.lock().expect("not poisoned").len(), REMEMBERED_MAX);
    }
}
