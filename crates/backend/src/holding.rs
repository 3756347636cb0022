//! What is known of a segment that lies at the backend: kept beside it there and on the own disk, in one encoding.

use std::collections::BTreeMap;

use datamesh_core::encode::{decode, encode};
use serde::{Deserialize, Serialize};

/// Bytes of a segment's beginning that are known without asking: its header. A start reads nothing else of most segments.
pub(crate) const HEAD_SIZE: usize = 96;
/// Longest change of a segment that has moved, bytes: the frame of a record that is void from now on.
const PATCH_SIZE_MAX: usize = 32;

const VERSION: u64 = 1;

/// What is known of a segment that lies at the backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holding {
    version: u64,
    /// Bytes of it that count: of what lies there, or fewer.
    pub(crate) size: u64,
    /// Bytes of what lies there.
    pub(crate) stored_size: u64,
    /// BLAKE3 of what lies there.
    #[serde(with = "serde_bytes")]
    pub(crate) hash: [u8; 32],
    /// What it begins with.
    #[serde(with = "serde_bytes")]
    pub(crate) head: Vec<u8>,
    /// What was written to it since, by offset.
    patches: Vec<(u64, serde_bytes::ByteBuf)>,
}

/// Why bytes are no holding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HoldingError {
    /// They are not in the encoding.
    #[error("it is damaged")]
    Damaged,
    /// A later version of the program wrote them.
    #[error("it has version {0}: a later version of the program wrote it")]
    Version(u64),
}

impl Holding {
    /// A segment as it was moved.
    pub(crate) fn new(size: u64, hash: [u8; 32], head: Vec<u8>) -> Self {
        Self { version: VERSION, size, stored_size: size, hash, head, patches: Vec::new() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HoldingError> {
        let holding: Self = decode(bytes).map_err(|_| HoldingError::Damaged)?;
        match holding.version {
            VERSION if holding.is_sound() => Ok(holding),
            VERSION => Err(HoldingError::Damaged),
            other => Err(HoldingError::Version(other)),
        }
    }

    fn is_sound(&self) -> bool {
        let in_bounds = |(offset, bytes): &(u64, serde_bytes::ByteBuf)| {
            bytes.len() <= PATCH_SIZE_MAX
                && offset.checked_add(length(bytes)).is_some_and(|end| end <= self.stored_size)
        };
        self.size <= self.stored_size
            && self.head.len() <= HEAD_SIZE
            && length(&self.head) <= self.stored_size
            && self.patches.is_sorted_by(|(left, _), (right, _)| left < right)
            && self.patches.iter().all(in_bounds)
    }

    /// Notes a change; says whether it is one that can be noted.
    pub(crate) fn patch(&mut self, offset: u64, bytes: Vec<u8>) -> bool {
        let end = offset.checked_add(length(&bytes));
        if bytes.len() > PATCH_SIZE_MAX || end.is_none_or(|end| end > self.size) {
            return false;
        }
        let bytes = serde_bytes::ByteBuf::from(bytes);
        match self.patches.binary_search_by_key(&offset, |(offset, _)| *offset) {
            Ok(found) => self.patches[found].1 = bytes,
            Err(place) => self.patches.insert(place, (offset, bytes)),
        }
        true
    }

    /// Cuts it: what lies behind counts no more.
    pub(crate) fn cut(&mut self, size: u64) {
        self.size = self.size.min(size);
        self.patches.retain(|(offset, bytes)| offset + length(bytes) <= size);
    }

    /// Whether it is not what was moved any more.
    pub(crate) fn is_patched(&self) -> bool {
        !self.patches.is_empty() || self.size < self.stored_size
    }

    /// Lays the changes over what was read from an offset on.
    pub(crate) fn lay_over(&self, start: u64, buffer: &mut [u8]) {
        let end = start + length(buffer);
        let reach = u64::try_from(PATCH_SIZE_MAX).expect("a small number");
        let first = self.patches.partition_point(|(offset, _)| offset + reach <= start);
        for (offset, bytes) in self.patches[first..].iter().take_while(|(offset, _)| *offset < end) {
            for (at, byte) in (*offset..).zip(bytes.iter()).filter(|(at, _)| (start..end).contains(at)) {
                let place = usize::try_from(at - start).expect("it lies within the buffer");
                buffer[place] = *byte;
            }
        }
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length fits 64 bits")
}

/// Everything held, by segment.
pub(crate) type Holdings = BTreeMap<u64, Holding>;

#[cfg(test)]
mod tests {
    use datamesh_core::encode::encode;

    use super::{Holding, HoldingError};

    fn holding() -> Holding {
        let mut holding = Holding::new(1000, [7; 32], vec![1; 96]);
        assert!(holding.patch(500, vec![9; 32]));
        assert!(holding.patch(100, vec![8; 32]));
        holding
    }

    #[test]
    fn the_format_does_not_drift() {
        let hash = blake3::hash(&holding().encode());
        assert_eq!(
            hash.to_hex().as_str(),
            "9920d59845e4db9952a702b787479ec28b04973450c24df504509a5d525a9057"
        );
    }

    #[test]
    fn a_holding_is_read_back_and_a_later_one_is_told_from_a_damaged_one() {
        assert_eq!(Holding::decode(&holding().encode()), Ok(holding()));
        assert_eq!(Holding::decode(b"nothing"), Err(HoldingError::Damaged));
        let later = Holding { version: 2, ..holding() };
        assert_eq!(Holding::decode(&encode(&later)), Err(HoldingError::Version(2)));
        let absurd = Holding { size: 2000, ..holding() };
        assert_eq!(Holding::decode(&encode(&absurd)), Err(HoldingError::Damaged));
    }

    #[test]
    fn changes_lie_over_what_is_read_wherever_a_read_begins() {
        let mut whole = vec![0; 1000];
        holding().lay_over(0, &mut whole);
        assert_eq!(whole.iter().filter(|byte| **byte != 0).count(), 64);
        for start in [0, 90, 100, 101, 131, 132, 499, 510, 531, 532, 900] {
            let mut part = vec![0; 50];
            holding().lay_over(start, &mut part);
            let start = usize::try_from(start).expect("small");
            assert_eq!(part, whole[start..start + 50], "{start}");
        }
        assert!(!holding().patch(990, vec![1; 32]), "it would reach beyond the end");
        assert!(!holding().patch(0, vec![1; 33]), "it is longer than a change may be");
    }
}
