//! What single arguments may be.

use std::str::FromStr;
use std::time::UNIX_EPOCH;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use datamesh_core::time::Timestamp;
use datamesh_core::topology::Role;
use datamesh_node::settings::{Definition, Override};

/// Bytes of an object: from the first, counted from 0, to the last, which is among them; without a last to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub first: u64,
    /// The last byte.
    pub last: Option<u64>,
}

/// A text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write the first and the last byte, as in 0-1023, or 1024- for the rest")]
pub struct ParseByteRangeError;

impl FromStr for ByteRange {
    type Err = ParseByteRangeError;

    fn from_str(text: &str) -> Result<Self, ParseByteRangeError> {
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| ParseByteRangeError);
        let (first, last) = text.split_once('-').ok_or(ParseByteRangeError)?;
        let first = number(first)?;
        let last = if last.is_empty() { None } else { Some(number(last)?) };
        if last.is_some_and(|last| last < first) {
            Err(ParseByteRangeError)
        } else {
            Ok(Self { first, last })
        }
    }
}

/// An instant, as a date or a date and a time, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant(pub Timestamp);

/// A text is no instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write a date, as in 2027-03-01, or a date and a time in UTC, as in 2027-03-01T12:00:00Z")]
pub struct ParseInstantError;

impl FromStr for Instant {
    type Err = ParseInstantError;

    fn from_str(text: &str) -> Result<Self, ParseInstantError> {
        let midnight = format!("{text}T00:00:00Z");
        let parsed = humantime::parse_rfc3339_weak(text).or_else(|_| humantime::parse_rfc3339(&midnight));
        let since_1970 = parsed.ok().and_then(|instant| instant.duration_since(UNIX_EPOCH).ok());
        let milliseconds = since_1970.and_then(|since| u64::try_from(since.as_millis()).ok());
        milliseconds.map(|ms| Self(Timestamp::from_ms(ms))).ok_or(ParseInstantError)
    }
}

/// What a user says about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What is said.
    pub key: String,
    /// That it is so.
    pub value: String,
}

impl FromStr for Metadata {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err("write KEY=VALUE".to_owned()),
        }
    }
}

/// Parses a flag that overrides a setting: it takes what the setting takes, and completes to the same.
pub(super) fn setting(key: &'static str) -> SettingParser {
    SettingParser { key, refused: Refused::Repeated }
}

/// The same, where what is refused may hold a secret.
pub(super) fn unrepeated_setting(key: &'static str) -> SettingParser {
    SettingParser { key, refused: Refused::Unrepeated }
}

/// Whether an error shows the value that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Repeated,
    /// Errors end up on screens and in logs.
    Unrepeated,
}

/// See [`setting`].
#[derive(Debug, Clone)]
pub(super) struct SettingParser {
    key: &'static str,
    refused: Refused,
}

impl TypedValueParser for SettingParser {
    type Value = Override;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Override, clap::Error> {
        let key = self.key;
        if self.refused == Refused::Unrepeated {
            let text = value.to_str().ok_or_else(|| "is no UTF-8".to_owned());
            return text.and_then(|text| Override::new(key, text)).map_err(|why| {
                let argument = argument.map(ToString::to_string).unwrap_or_default();
                command.clone().error(ErrorKind::ValueValidation, format!("{argument}: {why}"))
            });
        }
        let parser = StringValueParser::new().try_map(move |text: String| Override::new(key, &text));
        parser.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let choices = Definition::of(self.key)?.choices;
        if choices.is_empty() { None } else { Some(Box::new(choices.iter().map(PossibleValue::new))) }
    }
}

/// Parses a node's role.
pub(super) fn role(text: &str) -> Result<Role, String> {
    match text {
        "storage" => Ok(Role::Storage),
        "archival" => Ok(Role::Archival),
        "cache" => Ok(Role::Cache),
        _ => Err("write storage, archival or cache".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use datamesh_core::time::Timestamp;

    use super::{ByteRange, Instant};

    #[test]
    fn an_instant_is_a_date_with_or_without_a_time() {
        let day = Instant(Timestamp::from_ms(86_400_000));
        for text in ["1970-01-02", "1970-01-02T00:00:00Z", "1970-01-02 00:00:00"] {
            assert_eq!(text.parse(), Ok(day), "{text}");
        }
        for bad in ["", "tomorrow", "1970", "1970-13-01", "1960-01-01", "01.02.1970"] {
            assert!(bad.parse::<Instant>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_names_its_first_and_last_byte() {
        assert_eq!("0-0".parse(), Ok(ByteRange { first: 0, last: Some(0) }));
        assert_eq!("5-".parse(), Ok(ByteRange { first: 5, last: None }));
        for bad in ["", "-", "-5", "5", "5-4", "a-b", "1-2-3", " 1-2", "99999999999999999999-"] {
            assert!(bad.parse::<ByteRange>().is_err(), "{bad}");
        }
    }
}
