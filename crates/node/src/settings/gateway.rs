//! Settings of a gateway: where it listens, how it presents itself, what storage classes mean.

use std::net::SocketAddr;

use datamesh_engine::transfer::Temperature;

use crate::settings::value::{ListItem, SchemeChoice, SettingValue};

const NONE: &str = "none";

impl SettingValue for SocketAddr {
    const FORM: &'static str = "IP:PORT, as in 127.0.0.1:9000";
    const CHOICES: &'static [&'static str] = &[];

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is no IP:PORT"))
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

/// A word that clients sign for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionName(String);

impl RegionName {
    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SettingValue for RegionName {
    const FORM: &'static str = "a word of lower-case letters, digits and hyphens";
    const CHOICES: &'static [&'static str] = &["us-east-1"];

    fn read(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || !text.bytes().all(plain) {
            return Err(format!("`{text}` is not {}", Self::FORM));
        }
        Ok(Self(text.to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// A domain, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionalDomain(Option<String>);

impl OptionalDomain {
    /// The domain, if one is set.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl SettingValue for OptionalDomain {
    const FORM: &'static str = "none, or a domain, as in s3.example.org";
    const CHOICES: &'static [&'static str] = &[NONE];

    fn read(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        match text {
            NONE => Ok(Self(None)),
            _ if !text.is_empty() && text.bytes().all(plain) => Ok(Self(Some(text.to_owned()))),
            _ => Err(format!(
                "`{text}` is no domain: it may have lower-case letters, digits, hyphens and dots"
            )),
        }
    }

    fn text(&self) -> String {
        self.0.clone().unwrap_or_else(|| NONE.to_owned())
    }
}

/// What a storage class means: the scheme of what is put with it, and who keeps what is read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassRule {
    /// The class as S3 names it.
    pub class: String,
    /// What it chooses, as far as the mesh holds it.
    pub scheme: SchemeChoice,
    /// Whether caches keep what is read.
    pub temperature: Temperature,
}

/// What is written behind the scheme of a class that no cache keeps.
const COLD: &str = "@cold";

impl ListItem for ClassRule {
    const FORM: &'static str =
        "list of CLASS=SCHEME or CLASS=SCHEME@cold, as in GLACIER_IR=archive@cold,REDUCED_REDUNDANCY=1+1";

    fn read(text: &str) -> Result<Self, String> {
        let (class, scheme) = text.split_once('=').ok_or_else(|| format!("`{text}` is no CLASS=SCHEME"))?;
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if class.is_empty() || !class.bytes().all(plain) {
            return Err(format!(
                "`{class}` is no storage class: it has upper-case letters, digits and underscores"
            ));
        }
        let (scheme, temperature) = scheme
            .strip_suffix(COLD)
            .map_or((scheme, Temperature::Hot), |scheme| (scheme, Temperature::Cold));
        Ok(Self { class: class.to_owned(), scheme: SchemeChoice::read(scheme)?, temperature })
    }

    fn text(&self) -> String {
        let temperature = if self.temperature == Temperature::Cold { COLD } else { "" };
        format!("{}={}{temperature}", self.class, self.scheme.text())
    }
}
