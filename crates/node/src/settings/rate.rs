//! How fast bytes may move, as people write it: `10MB/s`.

use std::fmt;
use std::str::FromStr;

use datamesh_engine::traffic::{Priority, Rate};

use crate::settings::unit::ByteSize;
use crate::settings::value::SettingValue;

const OFF: &str = "off";
const A_SECOND: &str = "/s";

/// How fast bytes may move; as fast as they can where it is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit(Option<Rate>);

/// A text is no rate limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no rate: write `off`, or the bytes of a second, as in 10MB/s")]
pub struct ParseRateLimitError(String);

impl RateLimit {
    /// The rate, unless it is off.
    #[must_use]
    pub const fn rate(self) -> Option<Rate> {
        self.0
    }
}

impl FromStr for RateLimit {
    type Err = ParseRateLimitError;

    /// A size with or without `/s`. No rate is 0: nothing would ever move.
    fn from_str(text: &str) -> Result<Self, ParseRateLimitError> {
        if text == OFF {
            return Ok(Self(None));
        }
        let size = text.strip_suffix(A_SECOND).unwrap_or(text).parse::<ByteSize>();
        let rate = size.ok().and_then(|size| Rate::new(size.bytes()));
        rate.map(|rate| Self(Some(rate))).ok_or_else(|| ParseRateLimitError(text.to_owned()))
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => formatter.write_str(OFF),
            Some(rate) => write!(formatter, "{}{A_SECOND}", ByteSize::from_bytes(rate.bytes_per_second())),
        }
    }
}

impl SettingValue for RateLimit {
    const FORM: &'static str = "off, or SIZE a second, as in 10MB/s";
    const CHOICES: &'static [&'static str] = &[OFF];

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: ParseRateLimitError| error.to_string())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for Priority {
    const FORM: &'static str = "interactive, normal or background";
    const CHOICES: &'static [&'static str] = &["interactive", "normal", "background"];

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "interactive" => Ok(Self::Interactive),
            "normal" => Ok(Self::Normal),
            "background" => Ok(Self::Background),
            _ => Err(format!("`{text}` is no priority: {}", Self::FORM)),
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::RateLimit;

    #[test]
    fn a_rate_is_off_or_bytes_a_second_and_never_none() {
        let text = |text: &str| text.parse::<RateLimit>().map(|limit| limit.to_string()).ok();
        for (written, read) in
            [("10MB/s", "10MB/s"), ("1GiB", "1GiB/s"), ("off", "off"), ("1.5kb/s", "1500B/s")]
        {
            assert_eq!(text(written).as_deref(), Some(read), "{written}");
        }
        for bad in ["", "0B", "0B/s", "10", "10/s", "fast", "MB/s", "10MB/h", "Off"] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }
}
