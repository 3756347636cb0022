//! The signed node records known, newest of each node, bounded in number. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;

use datamesh_core::encode::encode;
use datamesh_core::id::NodeId;
use datamesh_core::limits::{KIB, TOPOLOGY_NODES_MAX, WIRE_HEADER_SIZE_MAX, WIRE_RECORDS_MAX};
use datamesh_core::sign::Signed;
use datamesh_core::topology::{NodeRecord, NodeState};

/// A node that left for good is remembered this long, so that an old record of it isn't taken for news.
const GONE_KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Bytes of encoded records that fit one message, with room for what is around them.
const PAGE_SIZE_MAX: usize = WIRE_HEADER_SIZE_MAX - 4 * KIB;

/// How a record compares with what is known of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Novelty {
    /// Newer than what was known.
    News,
    /// The very record that is known.
    Known,
    /// Older, or another of the same age: what is known stays.
    Stale,
}

/// The records known. Whoever adds one has verified it.
#[derive(Debug, Default)]
pub(crate) struct Book {
    records: BTreeMap<NodeId, Signed<NodeRecord>>,
}

impl Book {
    pub(crate) fn novelty(&self, record: &Signed<NodeRecord>) -> Novelty {
        match self.records.get(&record.unverified().node) {
            Some(known) if known == record => Novelty::Known,
            Some(known) if known.unverified().sequence >= record.unverified().sequence => Novelty::Stale,
            _ => Novelty::News,
        }
    }

    /// Takes a record over if it is news and there is room. Says whether it was taken.
    pub(crate) fn admit(&mut self, record: Signed<NodeRecord>, now_ms: u64) -> bool {
        let admissible = self.novelty(&record) == Novelty::News && !long_gone(record.unverified(), now_ms);
        let node = record.unverified().node;
        if !admissible || !(self.records.contains_key(&node) || self.make_room()) {
            return false;
        }
        self.records.insert(node, record);
        true
    }

    /// Forgets a node.
    pub(crate) fn forget(&mut self, node: &NodeId) {
        self.records.remove(node);
    }

    /// Whether there is room for one more, if need be after forgetting a node that has left.
    fn make_room(&mut self) -> bool {
        if self.records.len() < TOPOLOGY_NODES_MAX {
            return true;
        }
        let gone =
            self.records.values().map(Signed::unverified).find(|record| record.state == NodeState::Gone);
        let Some(node) = gone.map(|record| record.node) else { return false };
        self.records.remove(&node).is_some()
    }

    /// Forgets nodes that left long ago. Says whether there were any.
    pub(crate) fn forget_gone(&mut self, now_ms: u64) -> bool {
        let before = self.records.len();
        self.records.retain(|_, record| !long_gone(record.unverified(), now_ms));
        self.records.len() < before
    }

    /// Forgets nodes. Says whether there were any.
    pub(crate) fn expel(&mut self, expelled: impl Fn(&NodeId) -> bool) -> bool {
        let before = self.records.len();
        self.records.retain(|node, _| !expelled(node));
        self.records.len() < before
    }

    /// The records after a node in the order of ids, as many as fit a message, and whether there are more.
    pub(crate) fn page(&self, after: Option<NodeId>) -> (Vec<Signed<NodeRecord>>, bool) {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut following =
            self.records.range((begin, Bound::Unbounded)).map(|(_, record)| record).peekable();
        let page = first_page(&mut following);
        (page, following.peek().is_some())
    }

    /// The records that someone who knows these sequences lacks.
    pub(crate) fn lacking(&self, sequences: &BTreeMap<NodeId, u64>) -> Vec<Signed<NodeRecord>> {
        let lacks = |record: &&Signed<NodeRecord>| {
            let record = record.unverified();
            sequences.get(&record.node).is_none_or(|sequence| *sequence < record.sequence)
        };
        self.records.values().filter(lacks).cloned().collect()
    }

    pub(crate) fn record(&self, node: &NodeId) -> Option<&Signed<NodeRecord>> {
        self.records.get(node)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Signed<NodeRecord>> {
        self.records.values()
    }
}

fn long_gone(record: &NodeRecord, now_ms: u64) -> bool {
    record.state == NodeState::Gone && record.sequence.saturating_add(GONE_KEPT_MS) < now_ms
}

/// Cuts records into runs that each fit one message.
pub(crate) fn pages(records: &[Signed<NodeRecord>]) -> Vec<Vec<Signed<NodeRecord>>> {
    let mut records = records.iter().peekable();
    let mut pages = Vec::new();
    while records.peek().is_some() {
        pages.push(first_page(&mut records));
    }
    pages
}

/// Takes as many records as fit one message: one at least, since any bounded record does.
fn first_page<'a>(
    records: &mut std::iter::Peekable<impl Iterator<Item = &'a Signed<NodeRecord>>>,
) -> Vec<Signed<NodeRecord>> {
    let (mut page, mut size) = (Vec::new(), 0);
    while page.len() < WIRE_RECORDS_MAX
        && let Some(record) =
            records.next_if(|record| page.is_empty() || size + encode(record).len() <= PAGE_SIZE_MAX)
    {
        size += encode(record).len();
        page.push(record.clone());
    }
    page
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use datamesh_core::encode::encode;
    use datamesh_core::id::NodeId;
    use datamesh_core::limits::{
        NODE_ADDRESSES_MAX, NODE_TEXT_SIZE_MAX, WIRE_HEADER_SIZE_MAX, WIRE_RECORDS_MAX,
    };
    use datamesh_core::sign::Signed;
    use datamesh_core::topology::{FailureDomain, NodeRecord, NodeState, Role};
    use datamesh_core::wire::{Request, Response};
    use ed25519_dalek::SigningKey;

    use super::{Book, GONE_KEPT_MS, Novelty, pages};

    pub(crate) fn signed(
        number: u16,
        sequence: u64,
        change: impl FnOnce(&mut NodeRecord),
    ) -> Signed<NodeRecord> {
        let mut secret = [9; 32];
        secret[..2].copy_from_slice(&number.to_le_bytes());
        let key = SigningKey::from_bytes(&secret);
        let mut record = NodeRecord {
            node: NodeId::from_bytes(key.verifying_key().to_bytes()),
            sequence,
            addresses: vec![],
            role: Role::Storage,
            state: NodeState::Active,
            domain: FailureDomain::alone("host"),
            capacity: 1,
            grace_s: 14_400,
            software: "test".into(),
        };
        change(&mut record);
        Signed::sign(record, &key)
    }

    #[test]
    fn only_news_is_admitted() {
        let (old, new) = (signed(1, 1, |_| ()), signed(1, 2, |_| ()));
        let twin = signed(1, 2, |record| record.capacity = 2);
        let mut book = Book::default();
        assert!(book.admit(new.clone(), 0));
        assert_eq!(
            [&new, &old, &twin].map(|record| book.novelty(record)),
            [Novelty::Known, Novelty::Stale, Novelty::Stale]
        );
        assert!(!book.admit(old, 0) && !book.admit(twin, 0) && !book.admit(new.clone(), 0));
        assert_eq!(book.records().collect::<Vec<_>>(), [&new]);
    }

    #[test]
    fn a_node_that_left_is_remembered_for_a_while_and_then_forgotten() {
        let gone = signed(1, 5, |record| record.state = NodeState::Gone);
        let mut book = Book::default();
        assert!(book.admit(gone.clone(), 5));
        assert!(!book.forget_gone(5 + GONE_KEPT_MS));
        assert!(book.forget_gone(6 + GONE_KEPT_MS));
        assert!(!book.admit(gone, 6 + GONE_KEPT_MS), "nobody brings it back");
    }

    #[test]
    fn pages_follow_each_other_and_each_fits_a_message() {
        let longest = "x".repeat(NODE_TEXT_SIZE_MAX);
        let mut book = Book::default();
        for number in 0..300 {
            let record = signed(number, 1, |record| {
                if number % 2 == 0 {
                    record.addresses = vec![longest.clone(); NODE_ADDRESSES_MAX];
                }
            });
            assert!(book.admit(record, 0));
        }
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let (records, more) = book.page(after);
            after = records.last().map(|record| record.unverified().node);
            read.extend(records.iter().cloned());
            assert!(records.len() <= WIRE_RECORDS_MAX);
            assert!(encode(&Response::Records { records, more }).len() <= WIRE_HEADER_SIZE_MAX);
            if !more {
                break;
            }
        }
        assert_eq!(read, book.records().cloned().collect::<Vec<_>>());

        let cut = pages(&read);
        assert_eq!(cut.concat(), read);
        for page in cut {
            assert!(encode(&Request::Announce(page)).len() <= WIRE_HEADER_SIZE_MAX);
        }
    }

    #[test]
    fn lacking_is_what_is_unknown_or_older_there() {
        let mut book = Book::default();
        for record in [signed(1, 5, |_| ()), signed(2, 5, |_| ()), signed(3, 5, |_| ())] {
            book.admit(record, 0);
        }
        let node = |number| signed(number, 1, |_| ()).unverified().node;
        let theirs = BTreeMap::from([(node(1), 5), (node(2), 4), (node(4), 9)]);
        let lacking: Vec<_> = book.lacking(&theirs).iter().map(|record| record.unverified().node).collect();
        let mut expected = [node(2), node(3)];
        expected.sort();
        assert_eq!(lacking, expected);
    }
}
