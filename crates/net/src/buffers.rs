//! Buffers that go round: a payload is read into one that a payload before it has left.
//!
//! A new buffer of some hundred kilobytes is zeroed, and its pages are faulted in one by one: a tenth of a node's processor
//! time while it stores. So buffers are kept, up to [`KEPT_SIZE_MAX`] bytes of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Bytes of buffers that are kept while nobody uses them.
const KEPT_SIZE_MAX: usize = 8 * 1024 * 1024;
/// Sizes are rounded up to this, so that payloads of nearly the same size share buffers.
const GRAIN: usize = 32 * 1024;
/// A payload that is smaller than this gets a buffer of its own: the allocator keeps those itself.
const POOLED_SIZE_MIN: usize = 32 * 1024;

/// Buffers of one network. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    by_size: BTreeMap<usize, Vec<Vec<u8>>>,
    size: usize,
}

/// A buffer to fill.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    size: usize,
    home: Option<Buffers>,
}

impl Buffers {
    /// A buffer for so many bytes. What is in it is of no meaning.
    pub(crate) fn take(&self, size: usize) -> Buffer {
        if size < POOLED_SIZE_MIN {
            return Buffer { bytes: vec![0; size], size, home: None };
        }
        let room = size.next_multiple_of(GRAIN);
        let kept = self.kept().take(room);
        let bytes = kept.unwrap_or_else(|| vec![0; room]);
        Buffer { bytes, size, home: Some(self.clone()) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing that holds the lock can leave the buffers half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The smallest buffer with so much room, unless most of it would be wasted.
    fn take(&mut self, room: usize) -> Option<Vec<u8>> {
        let (size, buffers) = self.by_size.range_mut(room..=room.saturating_mul(2)).next()?;
        let size = *size;
        let buffer = buffers.pop();
        if buffers.is_empty() {
            self.by_size.remove(&size);
        }
        self.size -= size;
        buffer
    }

    fn keep(&mut self, buffer: Vec<u8>) {
        if self.size + buffer.len() <= KEPT_SIZE_MAX {
            self.size += buffer.len();
            self.by_size.entry(buffer.len()).or_default().push(buffer);
        }
    }
}

impl Buffer {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.size]
    }

    /// Its bytes; the buffer goes back when the last one who has them is done.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.size]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.kept().keep(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Buffers, KEPT_SIZE_MAX};

    #[test]
    fn a_buffer_comes_back_when_the_last_user_is_done() {
        let buffers = Buffers::default();
        let mut first = buffers.take(100_000);
        first.as_mut().fill(7);
        let address = first.as_ref().as_ptr();
        let bytes = first.freeze();
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_ne!(buffers.take(100_000).as_ref().as_ptr(), address, "a part is still used");
        assert_eq!(part, [7; 10][..]);
        drop(part);
        let sizes = [buffers.take(100_001), buffers.take(98_305)];
        assert!(sizes.iter().any(|buffer| buffer.as_ref().as_ptr() == address), "a size near enough");
        assert_eq!(sizes[0].as_ref().len(), 100_001);
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let buffers = Buffers::default();
        let taken: Vec<_> = (0..40).map(|_| buffers.take(1_000_000)).collect();
        drop(taken);
        let kept = buffers.kept();
        assert!(kept.size <= KEPT_SIZE_MAX && kept.size > KEPT_SIZE_MAX / 2, "{}", kept.size);
        assert_eq!(kept.by_size.values().flatten().map(Vec::len).sum::<usize>(), kept.size);
    }

    #[test]
    fn a_small_payload_takes_no_large_buffer() {
        let buffers = Buffers::default();
        drop(buffers.take(4_000_000));
        assert_eq!(buffers.take(40_000).bytes.len(), 65_536);
        assert_eq!(buffers.take(10).bytes.len(), 10);
    }
}
