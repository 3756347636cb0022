//! A name that a user gives to an identity or a network.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const NAME_LENGTH_MAX: usize = 64;

/// A name: 1 to 64 letters, digits, `-`, `_` and `.`, of which the first is a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name: write 1 to {NAME_LENGTH_MAX} letters, digits, -, _ or ., the first a letter or a digit"
)]
pub struct ParseNameError(String);

impl Name {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first of `NAME-1`, `NAME-2`, … that is not taken.
    ///
    /// # Panics
    /// Never: there are more numbers than names.
    #[must_use]
    pub fn numbered(&self, taken: impl Fn(&Self) -> bool) -> Self {
        let numbered = |number: u64| {
            let suffix = format!("-{number}");
            let kept = self.0.len().min(NAME_LENGTH_MAX - suffix.len());
            Self(format!("{}{suffix}", &self.0[..kept]))
        };
        let free = (1..u64::MAX).map(numbered).find(|name| !taken(name));
        free.expect("there are more numbers than names in memory")
    }
}

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Name {
    type Error = ParseNameError;

    fn try_from(text: String) -> Result<Self, ParseNameError> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let valid = first && text.len() <= NAME_LENGTH_MAX && text.bytes().all(inner);
        if valid { Ok(Self(text)) } else { Err(ParseNameError(text)) }
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn a_name_has_nothing_that_a_shell_or_a_file_system_minds() {
        for good in ["a", "team-2", "R.1_x", &"n".repeat(64)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".", "../x", "a b", "a/b", "é", "a\n", &"n".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_numbered_name_is_a_free_name() {
        let name: Name = "n".repeat(64).parse().expect("valid");
        let free = name.numbered(|taken| taken.as_str().ends_with("-1"));
        assert!(free.as_str().ends_with("n-2"), "{free}");
        assert_eq!(free.as_str().parse(), Ok(free));
    }
}
