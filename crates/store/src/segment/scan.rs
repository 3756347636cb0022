//! Walks a segment record by record, past what is torn or rotten.

use std::io;

use crate::disk::{DiskFile, is_away};
use crate::segment::{ALIGNMENT, FRAME_SIZE, Frame, Kind, Place, Record, StoreKey};

/// Bytes read at once: frame and header of most records.
const WINDOW_SIZE: usize = 4096;

/// What a scan finds.
#[expect(clippy::large_enum_variant, reason = "one at a time, and nearly always the large one")]
#[derive(Debug)]
pub(crate) enum Found {
    /// A record; its header's content is `None` where that is void, rotten or unreadable.
    Record { place: Place, frame: Frame, record: Option<Record> },
    /// Bytes that are no record.
    Gap { size: u64 },
}

/// A walk over a segment's records.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    file: &'a dyn DiskFile,
    key: StoreKey,
    at: Place,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
    unreadable: u64,
    is_away: bool,
}

impl<'a> Scan<'a> {
    /// A walk from a record's place, or the end of the segment header, up to `end`.
    pub(crate) const fn new(file: &'a dyn DiskFile, key: StoreKey, from: Place, end: u64) -> Self {
        Self { file, key, at: from, end, window: Vec::new(), window_start: 0, unreadable: 0, is_away: false }
    }

    /// Where the next record is looked for.
    pub(crate) const fn at(&self) -> Place {
        self.at
    }

    /// Reads that the disk refused so far.
    pub(crate) const fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Whether some of it could not be asked for: what was taken for a gap may be records.
    pub(crate) const fn is_away(&self) -> bool {
        self.is_away
    }

    fn frame_here(&mut self) -> Option<Frame> {
        let (key, at) = (self.key, self.at);
        let bytes = self.bytes(at.offset, FRAME_SIZE)?;
        let frame = Frame::decode(bytes.try_into().expect("as long as asked for"), &key, at)?;
        (self.at.offset + frame.record_size() <= self.end).then_some(frame)
    }

    fn record_here(&mut self, frame: &Frame) -> Option<Record> {
        if frame.kind == Kind::Void {
            return None;
        }
        let key = self.key;
        let offset = self.at.offset + frame.head_size() - u64::from(frame.header_size);
        let header = self.bytes(offset, frame.header_len())?;
        if frame.vouches_for(&key, header) { Record::decode(frame.kind, header) } else { None }
    }

    /// Bytes of the file through the window; `None` if they can't be read. The size is bounded by the callers.
    fn bytes(&mut self, offset: u64, size: usize) -> Option<&[u8]> {
        let within = |start: u64, length: usize| {
            let skipped = usize::try_from(offset.checked_sub(start)?).ok()?;
            (skipped.checked_add(size)? <= length).then_some(skipped)
        };
        if within(self.window_start, self.window.len()).is_none() {
            self.refill(offset, size);
        }
        let skipped = within(self.window_start, self.window.len())?;
        Some(&self.window[skipped..skipped + size])
    }

    fn refill(&mut self, offset: u64, size: usize) {
        let left = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = size.max(WINDOW_SIZE).min(left);
        self.window.resize(wanted, 0);
        self.window_start = offset;
        if wanted < size {
            self.window.clear();
        } else if let Err(error) = self.file.read_exact_at(&mut self.window, offset) {
            tracing::warn!(segment = self.at.segment, offset, %error, "segment can't be read here");
            self.unreadable += 1;
            self.is_away |= is_away(&error);
            // Not records and not readable: zeros are never taken for a frame, nor for the header of one.
            self.window.fill(0);
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let start = self.at;
        let frame_size = u64::try_from(FRAME_SIZE).expect("a small number");
        while self.at.offset + frame_size <= self.end {
            let Some(frame) = self.frame_here() else {
                self.at.offset += ALIGNMENT;
                continue;
            };
            if self.at > start {
                return Some(Found::Gap { size: self.at.offset - start.offset });
            }
            let record = self.record_here(&frame);
            self.at.offset += frame.record_size();
            return Some(Found::Record { place: start, frame, record });
        }
        self.at.offset = self.at.offset.max(self.end);
        (start.offset < self.end).then(|| Found::Gap { size: self.end - start.offset })
    }
}

/// Reads what a record at a known place says; `None` if there is no such record any more.
///
/// # Errors
/// When the disk says so.
pub(crate) fn read_record(
    file: &dyn DiskFile,
    key: &StoreKey,
    place: Place,
) -> io::Result<Option<(Frame, Option<Record>)>> {
    let mut bytes = [0; FRAME_SIZE];
    file.read_exact_at(&mut bytes, place.offset)?;
    let Some(frame) = Frame::decode(&bytes, key, place) else {
        return Ok(None);
    };
    let mut header = vec![0; frame.header_len()];
    file.read_exact_at(&mut header, place.offset + u64::try_from(FRAME_SIZE).expect("a small number"))?;
    let sound = frame.vouches_for(key, &header);
    Ok(Some((frame, if sound { Record::decode(frame.kind, &header) } else { None })))
}
