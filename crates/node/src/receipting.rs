//! One signed receipt for all items of a put that became durable together.
//!
//! Items under different tags are never on one receipt: it would tell one owner what another stores. A tag is random and known to
//! whoever may read the leases under it; one who stores under another's tag learns what becomes durable under it meanwhile.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use datamesh_core::lease::LeaseTag;
use datamesh_core::limits::RECEIPT_ITEMS_MAX;
use datamesh_core::receipt::{KeptItem, Receipt};
use datamesh_core::sign::Signed;
use datamesh_engine::world::Group;

/// Receipts that are remembered: those of the last groups, of which some items are still to be answered for.
const REMEMBERED_MAX: usize = 8;

/// The receipts that were signed last.
#[derive(Default)]
pub(crate) struct Receipting {
    last: Mutex<VecDeque<(Group, Signed<Receipt>)>>,
}

impl Receipting {
    /// A receipt for an item of a group, with those of the same put that became durable with it; `sign` makes one of 1 to
    /// [`RECEIPT_ITEMS_MAX`] items, once for as many.
    pub(crate) fn receipt(
        &self,
        group: &Group,
        tag: LeaseTag,
        kept: KeptItem,
        sign: impl FnOnce(Vec<KeptItem>) -> Signed<Receipt>,
    ) -> Signed<Receipt> {
        // Held while it is signed: the others of the group are about to ask for the same.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let covers = |receipt: &Receipt| receipt.tag == tag && receipt.items.contains(&kept);
        let known = last.iter().find(|(of, receipt)| of.is(group) && covers(receipt.unverified()));
        if let Some((_, receipt)) = known {
            return receipt.clone();
        }
        let receipt = sign(batch(group, tag, kept));
        if last.len() >= REMEMBERED_MAX {
            last.pop_front();
        }
        last.push_back((group.clone(), receipt.clone()));
        receipt
    }
}

/// What goes onto the receipt that this item is on.
fn batch(group: &Group, tag: LeaseTag, kept: KeptItem) -> Vec<KeptItem> {
    let of_put: Vec<KeptItem> = group.of_put(tag).collect();
    let batch = of_put.chunks(RECEIPT_ITEMS_MAX).find(|batch| batch.contains(&kept));
    batch.map_or_else(|| vec![kept], <[KeptItem]>::to_vec)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use datamesh_core::id::{BlockId, ItemId, NodeId};
    use datamesh_core::time::Timestamp;
    use ed25519_dalek::SigningKey;

    use super::*;

    const PUT: LeaseTag = LeaseTag::from_bytes([1; 16]);
    const OTHER_PUT: LeaseTag = LeaseTag::from_bytes([2; 16]);

    fn kept(number: usize) -> KeptItem {
        KeptItem { item: ItemId::Block(BlockId::of(&number.to_le_bytes())), size: 1 }
    }

    fn sign(tag: LeaseTag, items: Vec<KeptItem>) -> Signed<Receipt> {
        let key = SigningKey::from_bytes(&[1; 32]);
        let node = NodeId::from_bytes(key.verifying_key().to_bytes());
        Signed::sign(Receipt { node, tag, items, stored: Timestamp::from_ms(0) }, &key)
    }

    /// The receipts for all items of a group, and how many were signed.
    fn receipts(receipting: &Receipting, group: &[(LeaseTag, KeptItem)]) -> (Vec<Signed<Receipt>>, usize) {
        let (of, signature_count) = (Group::new(group.to_vec()), Cell::new(0));
        let receipts = group.iter().map(|(tag, kept)| {
            receipting.receipt(&of, *tag, *kept, |items| {
                signature_count.set(signature_count.get() + 1);
                sign(*tag, items)
            })
        });
        (receipts.collect(), signature_count.get())
    }

    #[test]
    fn what_became_durable_together_is_signed_for_once_and_what_is_too_much_in_parts() {
        let group: Vec<_> = (0..=RECEIPT_ITEMS_MAX).map(|number| (PUT, kept(number))).collect();
        let (receipts, signature_count) = receipts(&Receipting::default(), &group);
        assert_eq!(signature_count, 2);
        for (receipt, (tag, kept)) in receipts.iter().zip(&group) {
            let receipt = receipt.verify().expect("it is signed");
            assert!(receipt.covers(receipt.node, *tag, *kept));
        }
    }

    #[test]
    fn a_receipt_tells_nothing_of_another_put() {
        let group = [(PUT, kept(1)), (OTHER_PUT, kept(2)), (PUT, kept(3))];
        let (receipts, signature_count) = receipts(&Receipting::default(), &group);
        assert_eq!(signature_count, 2);
        assert_eq!(receipts[0].unverified().items, [kept(1), kept(3)]);
        assert_eq!(receipts[1].unverified().items, [kept(2)]);
        assert_eq!(receipts[1].unverified().tag, OTHER_PUT);
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
