//! Holds nodes to their receipts.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use datamesh_core::id::NodeId;
use datamesh_core::lease::LeaseTag;
use datamesh_core::receipt::{KeptItem, Receipt};
use datamesh_core::sign::Signed;

/// Nodes whose last receipt is remembered.
const REMEMBERED_NODES_MAX: usize = 256;

/// The last valid receipt of each node: a node answers for all items that it stored together with one, which need not be
/// verified again with every answer.
#[derive(Default)]
pub(super) struct Receipts {
    last: Mutex<BTreeMap<NodeId, Signed<Receipt>>>,
}

impl Receipts {
    /// Whether a receipt proves that a node keeps an item for a put.
    pub(super) fn prove(
        &self,
        receipt: Signed<Receipt>,
        node: NodeId,
        tag: LeaseTag,
        kept: KeptItem,
    ) -> bool {
        if !receipt.unverified().covers(node, tag, kept) {
            return false;
        }
        // Held while it is verified: others are about to be asked about the same.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(&node).is_some_and(|last| *last == receipt) {
            return true;
        }
        let valid = receipt.verify().is_ok();
        if valid {
            if last.len() >= REMEMBERED_NODES_MAX && !last.contains_key(&node) {
                last.pop_first();
            }
            last.insert(node, receipt);
        }
        valid
    }
}

#[cfg(test)]
mod tests {
    use datamesh_core::encode::{decode, encode};
    use datamesh_core::id::{BlockId, ItemId};
    use datamesh_core::time::Timestamp;
    use ed25519_dalek::SigningKey;

    use super::*;

    const PUT: LeaseTag = LeaseTag::from_bytes([1; 16]);

    fn kept(number: u8) -> KeptItem {
        KeptItem { item: ItemId::Block(BlockId::of(&[number])), size: 1 }
    }

    fn receipt(key: u8, items: Vec<KeptItem>) -> (NodeId, Signed<Receipt>) {
        let key = SigningKey::from_bytes(&[key; 32]);
        let node = NodeId::from_bytes(key.verifying_key().to_bytes());
        (node, Signed::sign(Receipt { node, tag: PUT, items, stored: Timestamp::from_ms(0) }, &key))
    }

    /// The same receipt with the last byte of its signature changed.
    fn forged(receipt: &Signed<Receipt>) -> Signed<Receipt> {
        let mut bytes = encode(receipt);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        decode(&bytes).expect("still a receipt")
    }

    #[test]
    fn a_receipt_proves_what_it_lists_and_a_forged_one_nothing_before_or_after() {
        let receipts = Receipts::default();
        let (node, receipt) = receipt(1, vec![kept(1), kept(2)]);
        let forged = forged(&receipt);
        assert_ne!(forged, receipt, "the signature is the last field");
        assert!(!receipts.prove(forged.clone(), node, PUT, kept(1)));
        assert!(receipts.prove(receipt.clone(), node, PUT, kept(1)));
        assert!(receipts.prove(receipt.clone(), node, PUT, kept(2)), "known by then");
        assert!(!receipts.prove(forged, node, PUT, kept(1)), "what is known is the signature too");
        assert!(!receipts.prove(receipt.clone(), node, PUT, kept(3)));
        assert!(!receipts.prove(receipt.clone(), node, LeaseTag::from_bytes([2; 16]), kept(1)));
        let (other, _) = self::receipt(2, Vec::new());
        assert!(!receipts.prove(receipt, other, PUT, kept(1)));
    }

    #[test]
    fn the_receipts_of_so_many_nodes_are_remembered() {
        let receipts = Receipts::default();
        for key in 0..=u8::MAX {
            let (node, receipt) = receipt(key, vec![kept(1)]);
            assert!(receipts.prove(receipt, node, PUT, kept(1)));
        }
        let key = SigningKey::from_bytes(&[0xab; 32]);
        let node = NodeId::from_bytes(key.verifying_key().to_bytes());
        assert!(receipts.last.lock().expect("not poisoned").contains_key(&node));
        assert_eq!(receipts.last.lock().expect("not poisoned").len(), REMEMBERED_NODES_MAX);
    }
}
