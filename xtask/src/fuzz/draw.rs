//! Draws that repeat: a generator whose whole state is a seed.

/// Bytes that parsers stumble over.
const ODD_BYTES: [u8; 14] =
    [0, b'\t', b'\n', b'\r', b' ', b'"', b'%', b'&', b'/', b':', b';', b'\\', 0x7f, 0xff];
/// Numbers that sizes overflow with.
const ODD_NUMBERS: [&str; 14] = [
    "",
    "0",
    "-1",
    "+1",
    "00000000000000000001",
    "1e3",
    "0x10",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999",
    "NaN",
];

/// A generator: splitmix64.
#[derive(Debug, Clone)]
pub(super) struct Draw(u64);

impl Draw {
    /// Of one case of one run.
    pub(super) fn new(seed: u64, index: u64) -> Self {
        let mut of_run = Self(seed);
        let mixed = of_run.next() ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(mixed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one, which is not 0.
    pub(super) fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("a count of something in memory");
        usize::try_from(self.next() % count).expect("it is below one that fits")
    }

    /// A number of a range.
    pub(super) fn between(&mut self, first: usize, last: usize) -> usize {
        first + self.below(last - first + 1)
    }

    /// True once in so many times.
    pub(super) fn once_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// One of these.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Letters and digits.
    pub(super) fn word(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        (0..length).map(|_| char::from(LETTERS[self.below(LETTERS.len())])).collect()
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// A number as no honest client sends it.
    pub(super) fn number(&mut self) -> String {
        if self.once_in(3) { self.next().to_string() } else { self.pick(&ODD_NUMBERS).to_owned() }
    }

    /// What may stand in a header that is whatever it is: no line breaks, but all else.
    pub(super) fn garbage(&mut self) -> Vec<u8> {
        let length = [0, 1, 7, 40, 300, 3000][self.below(6)];
        let mut bytes = match self.below(3) {
            0 => self.word(length).into_bytes(),
            1 => self.bytes(length),
            _ => (0..length).map(|_| ODD_BYTES[self.below(ODD_BYTES.len())]).collect(),
        };
        bytes.retain(|byte| !matches!(byte, b'\r' | b'\n'));
        bytes
    }

    /// The same bytes, changed at a few places.
    pub(super) fn mutated(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..self.between(1, 3) {
            if bytes.is_empty() {
                return bytes;
            }
            let at = self.below(bytes.len());
            let end = (at + self.between(1, 12)).min(bytes.len());
            match self.below(6) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = ODD_BYTES[self.below(ODD_BYTES.len())],
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let copied = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, copied));
                }
                4 => drop(bytes.splice(at..at, self.number().into_bytes())),
                _ => bytes.truncate(at),
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::Draw;

    #[test]
    fn a_seed_and_an_index_draw_the_same_again_and_others_do_not() {
        let drawn = |seed, index| Draw::new(seed, index).bytes(32);
        assert_eq!(drawn(1, 2), drawn(1, 2));
        assert_ne!(drawn(1, 2), drawn(1, 3));
        assert_ne!(drawn(1, 2), drawn(2, 2));
    }

    #[test]
    fn garbage_of_a_header_never_ends_its_line() {
        let mut draw = Draw::new(7, 7);
        assert!((0..500).all(|_| !draw.garbage().iter().any(|byte| matches!(byte, b'\r' | b'\n'))));
    }
}
