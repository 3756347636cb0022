//! Reading ahead: a backend answers slowly and gives much at once, so that whoever walks a segment asks for more and more.

use datamesh_core::limits::{KIB, MIB};

/// From this size on a read is of an item's bytes: it is asked for as it is and kept by nobody.
pub(crate) const DIRECT_SIZE: usize = 32 * KIB;

const WINDOW_SIZE_MIN: usize = 64 * KIB;
const WINDOW_SIZE_MAX: usize = 4 * MIB;
/// Windows that are kept; together they are the bound of the memory.
const WINDOWS_MAX: usize = 8;
/// How far behind a window's end the next read of a walk may begin: it skips the bytes of items.
const STRIDE_MAX: u64 = MIB as u64;

/// Bytes of segments that were read before they were wanted.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// The least recently used first.
    windows: Vec<Window>,
}

#[derive(Debug)]
struct Window {
    segment: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Ahead {
    /// Fills the buffer, if all of it was read before.
    pub(crate) fn find(&mut self, segment: u64, offset: u64, buffer: &mut [u8]) -> bool {
        let found =
            self.windows.iter().position(|window| window.part(segment, offset, buffer.len()).is_some());
        let Some(found) = found else { return false };
        let window = self.windows.remove(found);
        let part = window.part(segment, offset, buffer.len()).expect("it was found by it");
        buffer.copy_from_slice(part);
        self.windows.push(window);
        true
    }

    /// How much to read from an offset on, where `left` bytes are left.
    pub(crate) fn step(&self, segment: u64, offset: u64, size: usize, left: u64) -> usize {
        let follows = |window: &&Window| {
            window.segment == segment && (window.end()..=window.end() + STRIDE_MAX).contains(&offset)
        };
        let before = self.windows.iter().rev().find(follows).map(|window| window.bytes.len());
        let step =
            before.map_or(WINDOW_SIZE_MIN, |length| (2 * length).clamp(WINDOW_SIZE_MIN, WINDOW_SIZE_MAX));
        step.max(size).min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// Keeps what was read.
    pub(crate) fn keep(&mut self, segment: u64, start: u64, bytes: Vec<u8>) {
        if self.windows.len() >= WINDOWS_MAX {
            self.windows.remove(0);
        }
        self.windows.push(Window { segment, start, bytes });
    }

    /// Forgets what was read of a segment: it is removed.
    pub(crate) fn forget(&mut self, segment: u64) {
        self.windows.retain(|window| window.segment != segment);
    }
}

impl Window {
    fn end(&self) -> u64 {
        self.start + u64::try_from(self.bytes.len()).expect("a length fits 64 bits")
    }

    fn part(&self, segment: u64, offset: u64, size: usize) -> Option<&[u8]> {
        let skipped = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let part = self.bytes.get(skipped..skipped.checked_add(size)?)?;
        (self.segment == segment).then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ahead, WINDOW_SIZE_MAX, WINDOW_SIZE_MIN, WINDOWS_MAX};

    #[test]
    fn a_walk_asks_for_more_and_more_and_a_look_here_and_there_does_not() {
        let mut ahead = Ahead::default();
        let (mut offset, mut steps) = (0_u64, Vec::new());
        for _ in 0..10 {
            let step = ahead.step(7, offset, 100, u64::MAX);
            ahead.keep(7, offset, vec![0; step]);
            offset += u64::try_from(step).expect("small") + 200_000;
            steps.push(step);
        }
        assert_eq!((steps[0], steps[1]), (WINDOW_SIZE_MIN, 2 * WINDOW_SIZE_MIN));
        assert_eq!(steps.last(), Some(&WINDOW_SIZE_MAX));
        assert_eq!(ahead.windows.len(), WINDOWS_MAX);
        assert_eq!(ahead.step(7, 0, 100, u64::MAX), WINDOW_SIZE_MIN);
        assert_eq!(ahead.step(7, 0, 100, 50), 50);
        ahead.forget(7);
        assert!(ahead.windows.is_empty());
    }

    #[test]
    fn what_was_read_is_found_and_nothing_else() {
        let mut ahead = Ahead::default();
        ahead.keep(1, 100, (0..50).collect());
        let mut buffer = [0; 3];
        assert!(ahead.find(1, 147, &mut buffer));
        assert_eq!(buffer, [47, 48, 49]);
        for (segment, offset) in [(1, 148), (1, 99), (2, 100)] {
            assert!(!ahead.find(segment, offset, &mut buffer), "{segment} {offset}");
        }
    }
}
