//! Stamps: which change is later, for all who know both.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

const WRITER_SIZE: usize = 16;
const STAMP_SIZE: usize = 8 + 4 + WRITER_SIZE;

/// Whoever writes changes: one gateway on one machine. 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WriterId(#[serde(with = "serde_bytes")] [u8; WRITER_SIZE]);

impl WriterId {
    /// Wraps raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; WRITER_SIZE]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; WRITER_SIZE] {
        &self.0
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for WriterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "WriterId({self})")
    }
}

/// When a change was made, by a hybrid logical clock (Kulkarni et al., 2014): later than every change that its writer knew. No two
/// changes have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Milliseconds since the Unix epoch.
    pub ms: u64,
    /// Which of those of the same millisecond.
    pub count: u32,
    /// Who made it.
    pub writer: WriterId,
}

impl Stamp {
    /// Before all others.
    pub const FIRST: Self = Self { ms: 0, count: 0, writer: WriterId::from_bytes([0; WRITER_SIZE]) };

    /// The next stamp of a writer who knows changes up to this one.
    #[must_use]
    pub fn after(self, now: Timestamp, writer: WriterId) -> Self {
        if now.as_ms() > self.ms {
            return Self { ms: now.as_ms(), count: 0, writer };
        }
        match self.count.checked_add(1) {
            Some(count) => Self { ms: self.ms, count, writer },
            None => Self { ms: self.ms.saturating_add(1), count: 0, writer },
        }
    }

    /// The millisecond it names.
    #[must_use]
    pub const fn instant(&self) -> Timestamp {
        Timestamp::from_ms(self.ms)
    }

    /// Bytes that sort as stamps do.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; STAMP_SIZE] {
        let mut bytes = [0; STAMP_SIZE];
        bytes[..8].copy_from_slice(&self.ms.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.count.to_be_bytes());
        bytes[12..].copy_from_slice(self.writer.as_bytes());
        bytes
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}{:08x}{}", self.ms, self.count, self.writer)
    }
}

/// A text is no stamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no stamp: it has 56 hexadecimal digits")]
pub struct ParseStampError(String);

impl FromStr for Stamp {
    type Err = ParseStampError;

    fn from_str(text: &str) -> Result<Self, ParseStampError> {
        let malformed = || ParseStampError(text.chars().take(2 * STAMP_SIZE).collect());
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 2 * STAMP_SIZE || !text.bytes().all(lower_hex) {
            return Err(malformed());
        }
        let ms = u64::from_str_radix(&text[..16], 16).map_err(|_| malformed())?;
        let count = u32::from_str_radix(&text[16..24], 16).map_err(|_| malformed())?;
        let writer = u128::from_str_radix(&text[24..], 16).map_err(|_| malformed())?;
        Ok(Self { ms, count, writer: WriterId::from_bytes(writer.to_be_bytes()) })
    }
}

#[cfg(test)]
mod tests {
    use super::{Stamp, WriterId};
    use crate::time::Timestamp;

    fn writer(number: u8) -> WriterId {
        WriterId::from_bytes([number; 16])
    }

    #[test]
    fn a_stamp_is_later_than_all_its_writer_knew_though_clocks_go_back() {
        let mut last = Stamp { ms: 10, count: u32::MAX - 1, writer: writer(9) };
        for now in [5, 10, 11, 3, u64::MAX, 4, 4] {
            let next = last.after(Timestamp::from_ms(now), writer(1));
            assert!(next > last || last.ms == u64::MAX, "{last:?} {next:?}");
            last = next;
        }
    }

    #[test]
    fn text_and_bytes_of_a_stamp_sort_as_it_does() {
        let stamps = [
            Stamp::FIRST,
            Stamp { ms: 1, count: 0, writer: writer(2) },
            Stamp { ms: 1, count: 7, writer: writer(1) },
            Stamp { ms: 1, count: 7, writer: writer(2) },
            Stamp { ms: 256, count: 0, writer: writer(0) },
        ];
        for pair in stamps.windows(2) {
            assert!(pair[0].to_bytes() < pair[1].to_bytes());
            assert!(pair[0].to_string() < pair[1].to_string());
        }
        for stamp in stamps {
            assert_eq!(stamp.to_string().parse(), Ok(stamp));
        }
        for text in ["", "null", &"g".repeat(56), &"+".repeat(56), &"A".repeat(56)] {
            assert!(text.parse::<Stamp>().is_err(), "{text}");
        }
    }
}
