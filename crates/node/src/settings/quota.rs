//! How much a node keeps for one owner, as people write it: `500GB`, or `off`.

use std::fmt;
use std::str::FromStr;

use crate::settings::unit::ByteSize;
use crate::settings::value::SettingValue;

const OFF: &str = "off";

/// How much a node keeps for one owner; all that it has where it is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerQuota(Option<ByteSize>);

/// A text is no quota.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no quota: write `off`, or a size, as in 500GB")]
pub struct ParseOwnerQuotaError(String);

impl OwnerQuota {
    /// The bytes, unless it is off.
    #[must_use]
    pub fn bytes(self) -> Option<u64> {
        self.0.map(ByteSize::bytes)
    }
}

impl FromStr for OwnerQuota {
    type Err = ParseOwnerQuotaError;

    fn from_str(text: &str) -> Result<Self, ParseOwnerQuotaError> {
        if text == OFF {
            return Ok(Self(None));
        }
        text.parse().map(|size| Self(Some(size))).map_err(|_| ParseOwnerQuotaError(text.to_owned()))
    }
}

impl fmt::Display for OwnerQuota {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => formatter.write_str(OFF),
            Some(size) => size.fmt(formatter),
        }
    }
}

impl SettingValue for OwnerQuota {
    const FORM: &'static str = "off, or SIZE, as in 500GB";
    const CHOICES: &'static [&'static str] = &[OFF];

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: ParseOwnerQuotaError| error.to_string())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::OwnerQuota;

    #[test]
    fn a_quota_is_off_or_a_size() {
        let text = |text: &str| text.parse::<OwnerQuota>().map(|quota| quota.to_string()).ok();
        for (written, read) in [("500GB", "500GB"), ("off", "off"), ("0B", "0B")] {
            assert_eq!(text(written).as_deref(), Some(read), "{written}");
        }
        for bad in ["", "10", "Off", "much"] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }
}
