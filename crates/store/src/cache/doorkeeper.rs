//! The doorkeeper: lets in what is offered for the second time.
//!
//! The idea is that of TinyLFU (Einziger, Friedman, Manes: *TinyLFU: A Highly Efficient Cache Admission Policy*, ACM
//! Transactions on Storage 13(4), 2017), whose doorkeeper is a Bloom filter that forgets. Here it is two filters on disk, so
//! that it outlives the process and is shared by all: the later one takes in what is new, both are asked. When the later one is
//! older than the time to live, or full, the earlier one is cleared and becomes the later one. So a key is remembered for one to
//! two times to live, or for one to two million other keys.
//!
//! A filter is an array of blocks of 512 bits; a key sets eight bits of one block, so a question is one read of 64 bytes. Processes
//! that write the same block at the same time may lose each other's bits: then something is let in one time later.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use datamesh_core::time::Timestamp;

use super::entry::Key;

const FILE_MODE: u32 = 0o600;
const BLOCK_SIZE: usize = 64;
/// Blocks of a filter: 4 MiB, of which the file system keeps those that were written.
const BLOCK_COUNT: u64 = 1 << 16;
/// Bits that a key sets in its block.
const BITS_PER_KEY: usize = 8;
/// Keys after which a filter is full: sixteen to a block, so that it takes one in 20,000 others for one of them.
const KEYS_MAX: u64 = 16 * BLOCK_COUNT;
const MAGIC: &[u8; 8] = b"dmasked1";

/// Whether a key has been seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sighting {
    First,
    Again,
}

pub(super) struct Doorkeeper {
    filters: [File; 2],
    time_to_live: Duration,
}

/// The head of a filter's file, in the block before its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    begun: Timestamp,
    key_count: u64,
}

impl Doorkeeper {
    /// Opens the two filters whose names begin with this path, made where missing.
    pub(super) fn open(path: &Path, time_to_live: Duration) -> io::Result<Self> {
        let open = |number: u8| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
            options.open(path.with_added_extension(number.to_string()))
        };
        Ok(Self { filters: [open(0)?, open(1)?], time_to_live })
    }

    /// Notes a key and says whether it had been noted. A disk that fails lets nothing in.
    pub(super) fn sight(&self, key: Key, now: Timestamp) -> Sighting {
        self.try_sight(key, now).unwrap_or_else(|error| {
            tracing::debug!(%error, "what was asked for before can't be read or noted");
            Sighting::First
        })
    }

    fn try_sight(&self, key: Key, now: Timestamp) -> io::Result<Sighting> {
        let (later, earlier) = self.order(now)?;
        let place = Place::of(&key);
        let mut block = read_block(later, place.offset)?;
        if place.is_set(&block) {
            return Ok(Sighting::Again);
        }
        place.set(&mut block);
        later.write_all_at(&block, place.offset)?;
        if let Some(head) = read_head(later)? {
            write_head(later, Head { key_count: head.key_count.saturating_add(1), ..head })?;
        }
        let known = place.is_set(&read_block(earlier, place.offset)?);
        Ok(if known { Sighting::Again } else { Sighting::First })
    }

    /// The filter that takes in what is new, and the other one; after turning them if it is time.
    fn order(&self, now: Timestamp) -> io::Result<(&File, &File)> {
        let [zeroth, first] = &self.filters;
        let heads = [read_head(zeroth)?, read_head(first)?];
        let begun = |head: Option<Head>| head.map(|head| head.begun);
        let (later, earlier) = if begun(heads[0]) >= begun(heads[1]) { (0, 1) } else { (1, 0) };
        let life_ms = u64::try_from(self.time_to_live.as_millis()).unwrap_or(u64::MAX);
        let spent = heads[later].is_none_or(|head| {
            head.key_count >= KEYS_MAX || now.as_ms().saturating_sub(head.begun.as_ms()) >= life_ms
        });
        // Whoever doesn't get the lock leaves it to who has it, and notes its key where it would have before.
        let turned = spent && self.filters[earlier].try_lock().is_ok();
        if turned {
            let cleared = clear(&self.filters[earlier], heads[later], now);
            self.filters[earlier].unlock()?;
            cleared?;
            return Ok((&self.filters[earlier], &self.filters[later]));
        }
        Ok((&self.filters[later], &self.filters[earlier]))
    }
}

/// Empties a filter and dates it. The date is later than the other's, whatever the clock says.
fn clear(filter: &File, other: Option<Head>, now: Timestamp) -> io::Result<()> {
    let after = other.map_or(0, |head| head.begun.as_ms().saturating_add(1));
    filter.set_len(0)?;
    write_head(filter, Head { begun: Timestamp::from_ms(now.as_ms().max(after)), key_count: 0 })
}

fn read_block(filter: &File, offset: u64) -> io::Result<[u8; BLOCK_SIZE]> {
    let mut block = [0; BLOCK_SIZE];
    match filter.read_exact_at(&mut block, offset) {
        // Nothing was written so far behind the head yet.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok([0; BLOCK_SIZE]),
        read => read.map(|()| block),
    }
}

fn read_head(filter: &File) -> io::Result<Option<Head>> {
    let block = read_block(filter, 0)?;
    let number = |at: usize| u64::from_le_bytes(*block[at..].first_chunk().expect("a block is longer"));
    Ok(block.starts_with(MAGIC).then(|| Head { begun: Timestamp::from_ms(number(8)), key_count: number(16) }))
}

fn write_head(filter: &File, head: Head) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(head.begun.as_ms().to_le_bytes());
    bytes.extend(head.key_count.to_le_bytes());
    bytes.resize(BLOCK_SIZE, 0);
    filter.write_all_at(&bytes, 0)
}

/// Where the bits of a key are.
struct Place {
    offset: u64,
    bits: [usize; BITS_PER_KEY],
}

impl Place {
    /// A key is a hash already; which kind of thing it is of makes no difference.
    fn of(key: &Key) -> Self {
        let hash = key.hash();
        let (number, rest) = hash.split_first_chunk().expect("a hash has 32 bytes");
        let block = u64::from_le_bytes(*number) % BLOCK_COUNT;
        let size = u64::try_from(BLOCK_SIZE).expect("it is 64");
        let mut bits = [0; BITS_PER_KEY];
        for (bit, pair) in bits.iter_mut().zip(rest.chunks_exact(2)) {
            *bit = usize::from(u16::from_le_bytes([pair[0], pair[1]])) % (8 * BLOCK_SIZE);
        }
        Self { offset: size * (1 + block), bits }
    }

    fn is_set(&self, block: &[u8; BLOCK_SIZE]) -> bool {
        self.bits.iter().all(|bit| block[bit / 8] & (1 << (bit % 8)) != 0)
    }

    fn set(&self, block: &mut [u8; BLOCK_SIZE]) {
        for bit in self.bits {
            block[bit / 8] |= 1 << (bit % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datamesh_core::id::StripeId;
    use datamesh_core::time::Timestamp;

    use super::super::entry::Key;
    use super::{Doorkeeper, KEYS_MAX, Sighting, read_head, write_head};

    const DAY_MS: u64 = 24 * 3600 * 1000;

    fn key(number: u64) -> Key {
        Key::Stripe(StripeId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes()))
    }

    fn doorkeeper(directory: &tempfile::TempDir) -> Doorkeeper {
        Doorkeeper::open(&directory.path().join("asked"), Duration::from_millis(DAY_MS)).expect("opens")
    }

    fn at(days: u64) -> Timestamp {
        Timestamp::from_ms(1_700_000_000_000 + days * DAY_MS)
    }

    #[test]
    fn the_second_sighting_counts_whichever_process_had_the_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let (one, other) = (doorkeeper(&directory), doorkeeper(&directory));
        assert_eq!(one.sight(key(1), at(0)), Sighting::First);
        assert_eq!(other.sight(key(1), at(0)), Sighting::Again);
        assert_eq!(other.sight(key(2), at(0)), Sighting::First);
        drop((one, other));
        assert_eq!(doorkeeper(&directory).sight(key(2), at(0)), Sighting::Again);
    }

    #[test]
    fn a_sighting_is_remembered_for_the_time_to_live_and_not_for_ever() {
        let directory = tempfile::tempdir().expect("a directory");
        let doorkeeper = doorkeeper(&directory);
        assert_eq!(doorkeeper.sight(key(0), at(0)), Sighting::First);
        assert_eq!(doorkeeper.sight(key(1), at(0)), Sighting::First);
        assert_eq!(doorkeeper.sight(key(1), at(1)), Sighting::Again);
        assert_eq!(doorkeeper.sight(key(0), at(2)), Sighting::First, "two days later it is forgotten");
    }

    #[test]
    fn a_scan_of_many_keys_is_not_mistaken_for_keys_seen_before() {
        let directory = tempfile::tempdir().expect("a directory");
        let doorkeeper = doorkeeper(&directory);
        let scan = 200_000;
        let mistaken = (0..scan).filter(|number| doorkeeper.sight(key(*number), at(0)) == Sighting::Again);
        let mistaken = mistaken.count();
        println!("{mistaken} of {scan} keys were taken for others");
        assert!(mistaken <= 20, "{mistaken} of {scan}");
    }

    #[test]
    fn a_full_filter_is_followed_by_an_empty_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let doorkeeper = doorkeeper(&directory);
        assert_eq!(doorkeeper.sight(key(0), at(0)), Sighting::First);
        for turn in 1..=2 {
            for filter in &doorkeeper.filters {
                if let Some(head) = read_head(filter).expect("reads") {
                    write_head(filter, super::Head { key_count: KEYS_MAX, ..head }).expect("writes");
                }
            }
            assert_eq!(doorkeeper.sight(key(turn), at(0)), Sighting::First);
        }
        assert_eq!(doorkeeper.sight(key(0), at(0)), Sighting::First, "the filter that had it was cleared");
        assert_eq!(doorkeeper.sight(key(2), at(0)), Sighting::Again);
    }
}
