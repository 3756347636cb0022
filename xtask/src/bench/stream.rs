//! Bytes that can't be compressed or deduplicated, made as fast as they are sent, and known again when they come back.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes that are made or compared at once.
const BUFFER_SIZE: usize = 1 << 20;
/// Bytes that are made at once for a reader.
const READ_SIZE: usize = 64 << 10;
/// Steps of the counter behind the bytes, and the factors that mix it: splitmix64.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const MIX: [u64; 2] = [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB];

/// An endless stream of bytes that a seed determines.
pub(super) struct Stream {
    counter: u64,
}

impl Stream {
    /// The stream of this seed.
    pub(super) fn new(seed: u64) -> Self {
        // Far apart: streams of neighbouring seeds have nothing in common for as long as anyone reads them.
        Self { counter: mix(seed) }
    }

    /// Its next number, below a limit that is small beside 2^64.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.counter = self.counter.wrapping_add(STEP);
        mix(self.counter) % limit
    }

    /// Its next bytes. A buffer's size is a multiple of eight.
    fn fill(&mut self, buffer: &mut [u8]) {
        for word in buffer.chunks_exact_mut(8) {
            self.counter = self.counter.wrapping_add(STEP);
            word.copy_from_slice(&mix(self.counter).to_le_bytes());
        }
    }

    /// Writes its next bytes, so many.
    pub(super) fn write(&mut self, size: u64, out: &mut impl Write) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_SIZE];
        let mut left = size;
        while left > 0 {
            let count = usize::try_from(left).map_or(BUFFER_SIZE, |left| left.min(BUFFER_SIZE));
            self.fill(&mut buffer[..count.next_multiple_of(8)]);
            out.write_all(&buffer[..count])?;
            left -= count as u64;
        }
        out.flush()
    }

    /// Its next bytes, so many, to be read.
    pub(super) fn take_bytes(self, size: u64) -> Bytes {
        Bytes { stream: self, buffer: Vec::new(), read: 0, left: size }
    }

    /// Whether an input has its next bytes, so many, and then ends.
    pub(super) fn is(&mut self, size: u64, mut input: impl Read) -> io::Result<bool> {
        let (mut expected, mut found) = (vec![0; BUFFER_SIZE], vec![0; BUFFER_SIZE]);
        let mut left = size;
        while left > 0 {
            let count = usize::try_from(left).map_or(BUFFER_SIZE, |left| left.min(BUFFER_SIZE));
            self.fill(&mut expected[..count.next_multiple_of(8)]);
            match input.read_exact(&mut found[..count]) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                read => read?,
            }
            if expected[..count] != found[..count] {
                return Ok(false);
            }
            left -= count as u64;
        }
        Ok(input.read(&mut found[..1])? == 0)
    }
}

/// So many bytes of a stream, to be read.
pub(super) struct Bytes {
    stream: Stream,
    buffer: Vec<u8>,
    /// Of the buffer, what is read.
    read: usize,
    left: u64,
}

impl Read for Bytes {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.read == self.buffer.len() {
            let count = usize::try_from(self.left).map_or(READ_SIZE, |left| left.min(READ_SIZE));
            self.buffer.resize(count.next_multiple_of(8), 0);
            self.stream.fill(&mut self.buffer);
            self.buffer.truncate(count);
            (self.read, self.left) = (0, self.left - count as u64);
        }
        let count = (self.buffer.len() - self.read).min(out.len());
        out[..count].copy_from_slice(&self.buffer[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(MIX[0]);
    let number = (number ^ (number >> 27)).wrapping_mul(MIX[1]);
    number ^ (number >> 31)
}

/// Makes a file of a seed's stream.
pub(super) fn make_file(path: &Path, seed: u64, size: u64) -> Result<(), String> {
    let made = File::create(path).and_then(|mut file| {
        Stream::new(seed).write(size, &mut file)?;
        // Else the system writes it while something else is measured.
        file.sync_all()
    });
    made.map_err(|error| format!("{}: {error}", path.display()))
}

/// An error unless a file is what [`make_file`] made.
pub(super) fn check_file(path: &Path, seed: u64, size: u64) -> Result<(), String> {
    let same = File::open(path).and_then(|file| Stream::new(seed).is(size, file));
    match same {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{} is not what was put", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::{BUFFER_SIZE, Stream};

    #[test]
    fn a_stream_is_known_again_and_anything_else_is_not() {
        let size = BUFFER_SIZE as u64 * 2 + 5;
        let mut bytes = Vec::new();
        Stream::new(7).write(size, &mut bytes).expect("memory takes it");
        let is = |seed: u64, bytes: &[u8]| Stream::new(seed).is(size, bytes).expect("memory can be read");
        assert!(is(7, &bytes));
        assert!(!is(8, &bytes));
        assert!(!is(7, &bytes[..bytes.len() - 1]));
        bytes.push(0);
        assert!(!is(7, &bytes));
        bytes.pop();
        *bytes.last_mut().expect("it has bytes") ^= 1;
        assert!(!is(7, &bytes));
    }

    #[test]
    fn a_stream_goes_on_where_it_was() {
        let (mut whole, mut parts) = (Vec::new(), Vec::new());
        Stream::new(7).write(3 << 20, &mut whole).expect("memory takes it");
        let mut stream = Stream::new(7);
        for size in [8, 1 << 20, 24, (2 << 20) - 32] {
            stream.write(size, &mut parts).expect("memory takes it");
        }
        assert!(whole == parts);
    }

    #[test]
    fn no_byte_value_is_frequent() {
        let mut bytes = Vec::new();
        Stream::new(1).write(1 << 20, &mut bytes).expect("memory takes it");
        let mut counts = [0_usize; 256];
        for byte in bytes {
            counts[usize::from(byte)] += 1;
        }
        assert!(counts.iter().all(|count| (3700..4500).contains(count)), "{counts:?}");
    }
}
