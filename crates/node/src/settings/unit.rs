//! Sizes and times as people write them: `500GB`, `1GiB`, `30s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use parse_size::{ByteSuffix, Config};

const UNITS: [(&str, u64); 12] = [
    ("EiB", 1 << 60),
    ("EB", 1_000_000_000_000_000_000),
    ("PiB", 1 << 50),
    ("PB", 1_000_000_000_000_000),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
];

/// A number of bytes. Its text is exact: what is written is read back as the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// A text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no size: write a number and a unit, as in 500GB or 1GiB")]
pub struct ParseByteSizeError(String);

impl ByteSize {
    /// This many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = ParseByteSizeError;

    /// Decimal (`KB` to `EB`) and binary (`KiB` to `EiB`) units in either case. A unit is required: a bare number is
    /// more often a forgotten unit than a number of bytes.
    fn from_str(text: &str) -> Result<Self, ParseByteSizeError> {
        let config = Config::new().with_byte_suffix(ByteSuffix::Require);
        config.parse_size(text).map(Self).map_err(|_| ParseByteSizeError(text.to_owned()))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().filter(|(_, size)| self.0 != 0 && self.0.is_multiple_of(*size));
        match whole.min_by_key(|(_, size)| self.0 / size) {
            Some((unit, size)) => write!(formatter, "{}{unit}", self.0 / size),
            None => write!(formatter, "{}B", self.0),
        }
    }
}

/// A length of time, written as in `30s`, `500ms`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

/// A text is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no length of time: write a number and a unit, as in 30s, 500ms or 4h")]
pub struct ParsePeriodError(String);

impl Period {
    /// As the standard library's type.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl From<Duration> for Period {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for Period {
    type Err = ParsePeriodError;

    fn from_str(text: &str) -> Result<Self, ParsePeriodError> {
        // The library reads a bare zero too; here every number has its unit.
        let unit = text.contains(|character: char| character.is_ascii_alphabetic());
        let parsed = humantime::parse_duration(text).ok().filter(|_| unit);
        parsed.map(Self).ok_or_else(|| ParsePeriodError(text.to_owned()))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{any, proptest};

    use super::{ByteSize, Period};

    #[test]
    fn sizes_are_read_with_a_unit_and_never_without() {
        let bytes = |text: &str| text.parse::<ByteSize>().map(ByteSize::bytes).ok();
        let good = [
            ("500GB", 500_000_000_000),
            ("1GiB", 1 << 30),
            ("1.5 kb", 1_500),
            ("0B", 0),
            ("18446744073709551615B", u64::MAX),
        ];
        for (text, expected) in good {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for bad in ["", "500", "GB", "-1GB", "500 parsecs", "17EiB", "1GB1"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_size_is_written_in_the_unit_that_it_is_whole_in() {
        for text in ["500GB", "1GiB", "1536MiB", "1B", "0B", "16EB"] {
            assert_eq!(text.parse::<ByteSize>().map(|size| size.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn times_are_read_with_a_unit_and_never_without() {
        let period = |text: &str| text.parse::<Period>().map(Period::duration).ok();
        assert_eq!(period("30s"), Some(Duration::from_secs(30)));
        assert_eq!(period("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(period("1h 30m"), Some(Duration::from_secs(5400)));
        for bad in ["", "30", "0", "s", "-1s", "30 parsecs", "99999999999999999999s"] {
            assert_eq!(period(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes in any::<u64>(), milliseconds in any::<u32>()) {
            let size = ByteSize::from_bytes(bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
            let period = Period::from(Duration::from_millis(u64::from(milliseconds)));
            assert_eq!(period.to_string().parse(), Ok(period));
        }
    }
}
