//! Names of buckets and keys in them, as S3 has them.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{BUCKET_NAME_SIZE_MAX, BUCKET_NAME_SIZE_MIN, KEY_SIZE_MAX};

/// Why a text is no name of a bucket, or no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is too short or too long.
    #[error("{what} `{text}` has {size} bytes; it may have {min} to {max}")]
    Size {
        /// A bucket or a key.
        what: &'static str,
        /// What was given, or its beginning.
        text: String,
        /// Its length, bytes.
        size: usize,
        /// The least length, bytes.
        min: usize,
        /// The greatest length, bytes.
        max: usize,
    },
    /// It has something that no such name has.
    #[error("{what} `{text}`: {why}")]
    Form {
        /// A bucket or a key.
        what: &'static str,
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens, the first and the last of them no dot and no hyphen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BucketName(String);

impl BucketName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BucketName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "bucket";
        check_size(WHAT, text, BUCKET_NAME_SIZE_MIN, BUCKET_NAME_SIZE_MAX)?;
        let malformed = |why| Err(NameError::Form { what: WHAT, text: text.to_owned(), why });
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let (first, last) = (text.as_bytes()[0], text.as_bytes()[text.len() - 1]);
        if !text.bytes().all(|byte| plain(byte) || byte == b'.' || byte == b'-') {
            return malformed("only lower-case letters, digits, dots and hyphens may be in it");
        }
        if !plain(first) || !plain(last) {
            return malformed("it must begin and end with a letter or a digit");
        }
        if text.contains("..") {
            return malformed("two dots may not stand side by side");
        }
        if text.parse::<core::net::Ipv4Addr>().is_ok() {
            return malformed("it may not be an IP address");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for BucketName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<BucketName> for String {
    fn from(name: BucketName) -> Self {
        name.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Under what an object is found in a bucket: 1 to 1024 bytes of UTF-8 without a NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

impl Key {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for Key {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        const WHAT: &str = "key";
        check_size(WHAT, &text, 1, KEY_SIZE_MAX)?;
        if text.contains('\0') {
            return Err(NameError::Form { what: WHAT, text, why: "it may not have a NUL" });
        }
        Ok(Self(text))
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn check_size(what: &'static str, text: &str, min: usize, max: usize) -> Result<(), NameError> {
    let size = text.len();
    if (min..=max).contains(&size) {
        return Ok(());
    }
    Err(NameError::Size { what, text: text.chars().take(max).collect(), size, min, max })
}

#[cfg(test)]
mod tests {
    use super::{BucketName, Key};

    #[test]
    fn names_of_buckets_are_those_that_s3_takes() {
        for name in ["abc", "my-bucket.v2", "0a9", &"a".repeat(63)] {
            assert_eq!(name.parse::<BucketName>().expect(name).as_str(), name);
        }
        for name in [
            "",
            "ab",
            "Abc",
            "a_b",
            "-ab",
            "ab-",
            ".ab",
            "a..b",
            "192.168.0.1",
            "a/b",
            "ä-b",
            &"a".repeat(64),
        ] {
            assert!(name.parse::<BucketName>().is_err(), "{name}");
        }
    }

    #[test]
    fn keys_are_any_text_within_their_bounds() {
        for key in ["a", "/", "../x", "ä/ö", " ", &"k".repeat(1024)] {
            assert_eq!(key.parse::<Key>().expect(key).as_str(), key);
        }
        for key in ["", "a\0b", &"k".repeat(1025), &"ä".repeat(513)] {
            assert!(key.parse::<Key>().is_err(), "{key}");
        }
    }
}
