//! What a setting's value may be: how it is read from text, written back, and described.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use datamesh_core::scheme::{Chunking, Compression, Mode, Redundancy};
use datamesh_core::topology::FailureDomain;
use multiaddr::Multiaddr;
use toml_edit::{Array, Value};

use crate::settings::unit::{ByteSize, Period};

const ZSTD_LEVEL_MIN: i8 = -7;
const ZSTD_LEVEL_MAX: i8 = 22;
const ZSTD_LEVEL_DEFAULT: i8 = 1;
const ARCHIVE_SHARDS: (usize, usize) = (16, 8);

/// A type that a setting may have.
pub(super) trait SettingValue: Sized {
    /// What its text looks like, for people.
    const FORM: &'static str;
    /// Texts worth offering for completion; others may be valid too.
    const CHOICES: &'static [&'static str] = &[];

    /// Reads it, or says what is wrong.
    fn read(text: &str) -> Result<Self, String>;

    /// Writes it as [`SettingValue::read`] takes it.
    fn text(&self) -> String;

    /// Writes it as TOML has it.
    fn toml(&self) -> Value {
        Value::from(self.text())
    }
}

fn parse<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

macro_rules! parsed {
    ($type:ty, $form:literal) => {
        impl SettingValue for $type {
            const FORM: &'static str = $form;

            fn read(text: &str) -> Result<Self, String> {
                parse(text)
            }

            fn text(&self) -> String {
                self.to_string()
            }
        }
    };
}
parsed!(ByteSize, "SIZE, as in 500GB or 1GiB");
parsed!(Period, "TIME, as in 30s or 500ms");

impl SettingValue for u16 {
    const FORM: &'static str = "0 to 65535";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is no number from 0 to 65535"))
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn toml(&self) -> Value {
        Value::from(i64::from(*self))
    }
}

/// Which congestion control the data plane asks the kernel for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CongestionChoice {
    /// Whatever the system sets for every connection.
    System,
    /// This one, where the kernel has it.
    Named(String),
}

impl CongestionChoice {
    /// Longest name, bytes: `TCP_CA_NAME_MAX` of Linux, less its end.
    const LENGTH_MAX: usize = 15;

    /// The name to ask the kernel for; `None` to leave it alone.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::System => None,
            Self::Named(name) => Some(name),
        }
    }
}

impl SettingValue for CongestionChoice {
    const FORM: &'static str = "`system`, or a name that the kernel has";
    const CHOICES: &'static [&'static str] = &["bbr", "cubic", "system"];

    fn read(text: &str) -> Result<Self, String> {
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        let sound = (1..=Self::LENGTH_MAX).contains(&text.len()) && text.bytes().all(plain);
        match text {
            "system" => Ok(Self::System),
            _ if sound => Ok(Self::Named(text.to_owned())),
            _ => Err(format!("`{text}` is no name of a congestion control")),
        }
    }

    fn text(&self) -> String {
        self.name().unwrap_or("system").to_owned()
    }
}

/// Whom a node tells its metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsShare {
    /// Whoever asks.
    Everyone,
    /// The nodes of its mesh, which leaves out clients.
    Nodes,
    /// No other participant.
    Nobody,
}

impl MetricsShare {
    const TEXTS: [(Self, &'static str); 3] =
        [(Self::Everyone, "everyone"), (Self::Nodes, "nodes"), (Self::Nobody, "nobody")];
}

impl SettingValue for MetricsShare {
    const FORM: &'static str = "everyone, nodes or nobody";
    const CHOICES: &'static [&'static str] = &["everyone", "nodes", "nobody"];

    fn read(text: &str) -> Result<Self, String> {
        let known = Self::TEXTS.into_iter().find(|(_, known)| *known == text);
        known.map(|(share, _)| share).ok_or_else(|| format!("`{text}` is none of {}", Self::FORM))
    }

    fn text(&self) -> String {
        let known = Self::TEXTS.into_iter().find(|(share, _)| share == self);
        known.map(|(_, text)| text.to_owned()).expect("every choice has a text")
    }
}

/// A list: written as a TOML array, or in one text with commas between.
impl<T: ListItem> SettingValue for Vec<T> {
    const FORM: &'static str = T::FORM;

    fn read(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(T::read).collect()
    }

    fn text(&self) -> String {
        self.iter().map(T::text).collect::<Vec<_>>().join(",")
    }

    fn toml(&self) -> Value {
        Value::Array(self.iter().map(T::text).collect::<Array>())
    }
}

/// What a list may hold: nothing whose text has a comma.
pub(super) trait ListItem: Sized {
    /// What a list of it looks like, for people.
    const FORM: &'static str;

    /// Reads one.
    fn read(text: &str) -> Result<Self, String>;

    /// Writes one.
    fn text(&self) -> String;
}

impl ListItem for Multiaddr {
    const FORM: &'static str = "list of MULTIADDR, as in /ip4/0.0.0.0/tcp/40871";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error| format!("`{text}` is no multiaddress: {error}"))
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl ListItem for PathBuf {
    const FORM: &'static str = "list of directories";

    fn read(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }

    fn text(&self) -> String {
        self.display().to_string()
    }
}

impl SettingValue for Mode {
    const FORM: &'static str = "sealed, dedup or public";
    const CHOICES: &'static [&'static str] = &["sealed", "dedup", "public"];

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "sealed" => Ok(Self::Sealed),
            "dedup" => Ok(Self::Dedup),
            "public" => Ok(Self::Public),
            _ => Err(format!("`{text}` is no mode: sealed, dedup or public")),
        }
    }

    fn text(&self) -> String {
        let text = match self {
            Self::Sealed => "sealed",
            Self::Dedup => "dedup",
            Self::Public => "public",
        };
        text.to_owned()
    }
}

/// Which k + m an object gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemeChoice {
    /// The largest preset that the mesh's failure domains hold.
    Auto,
    /// This one.
    Exact(Redundancy),
}

impl SettingValue for SchemeChoice {
    const FORM: &'static str = "auto, archive (16+8), or K+M as in 4+2";
    const CHOICES: &'static [&'static str] = &["auto", "1+1", "1+2", "2+2", "4+2", "8+4", "10+6", "archive"];

    fn read(text: &str) -> Result<Self, String> {
        let (data, parity) = ARCHIVE_SHARDS;
        let exact = match text {
            "auto" => return Ok(Self::Auto),
            "archive" => Redundancy::new(data, parity),
            _ => text.parse(),
        };
        exact.map(Self::Exact).map_err(|error| error.to_string())
    }

    fn text(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Exact(redundancy) => redundancy.to_string(),
        }
    }
}

/// Which chunker an object gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkingChoice {
    /// Fixed where objects are sealed, content-defined where they deduplicate.
    Auto,
    /// This one.
    Exact(Chunking),
}

impl ChunkingChoice {
    /// The chunker of an object in this mode.
    #[must_use]
    pub fn chunking(self, mode: Mode) -> Chunking {
        match (self, mode) {
            (Self::Exact(chunking), _) => chunking,
            (Self::Auto, Mode::Sealed) => Chunking::Fixed,
            (Self::Auto, Mode::Dedup | Mode::Public) => Chunking::ContentDefined,
        }
    }
}

impl SettingValue for ChunkingChoice {
    const FORM: &'static str = "auto, fixed or cdc";
    const CHOICES: &'static [&'static str] = &["auto", "fixed", "cdc"];

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "fixed" => Ok(Self::Exact(Chunking::Fixed)),
            "cdc" => Ok(Self::Exact(Chunking::ContentDefined)),
            _ => Err(format!("`{text}` is no chunker: auto, fixed or cdc")),
        }
    }

    fn text(&self) -> String {
        let text = match self {
            Self::Auto => "auto",
            Self::Exact(Chunking::Fixed) => "fixed",
            Self::Exact(Chunking::ContentDefined) => "cdc",
        };
        text.to_owned()
    }
}

impl SettingValue for Compression {
    const FORM: &'static str = "none, zstd, or zstd:LEVEL with a level from -7 to 22";
    const CHOICES: &'static [&'static str] = &["none", "zstd", "zstd:1", "zstd:3", "zstd:9", "zstd:19"];

    fn read(text: &str) -> Result<Self, String> {
        let levels = ZSTD_LEVEL_MIN..=ZSTD_LEVEL_MAX;
        match (text, text.strip_prefix("zstd:")) {
            ("none", _) => Ok(Self::None),
            ("zstd", _) => Ok(Self::Zstd(ZSTD_LEVEL_DEFAULT)),
            (_, Some(level)) => {
                let level = level.parse().ok().filter(|level| *level != 0 && levels.contains(level));
                level
                    .map(Self::Zstd)
                    .ok_or_else(|| format!("`{text}` has no level from -7 to 22 other than 0"))
            }
            (_, None) => Err(format!("`{text}` is no compression: none, zstd or zstd:LEVEL")),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Zstd(level) => format!("zstd:{level}"),
        }
    }
}

/// Where a node says that it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainChoice {
    /// On a machine of its own, about which nothing else is known.
    Auto,
    /// Here.
    Exact(FailureDomain),
}

impl DomainChoice {
    /// The failure domain of a node on this host.
    #[must_use]
    pub fn domain(&self, host: &str) -> FailureDomain {
        match self {
            Self::Auto => FailureDomain::alone(host),
            Self::Exact(domain) => domain.clone(),
        }
    }
}

impl SettingValue for DomainChoice {
    const FORM: &'static str = "auto, or region/site/host";
    const CHOICES: &'static [&'static str] = &["auto"];

    fn read(text: &str) -> Result<Self, String> {
        if text == "auto" { Ok(Self::Auto) } else { parse(text).map(Self::Exact) }
    }

    fn text(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Exact(domain) => domain.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use datamesh_core::scheme::{Chunking, Compression, Mode};

    use super::{ChunkingChoice, SchemeChoice, SettingValue};

    #[test]
    fn a_choice_is_written_as_it_is_read() {
        for text in SchemeChoice::CHOICES.iter().filter(|text| **text != "archive") {
            assert_eq!(SchemeChoice::read(text).map(|choice| choice.text()).as_deref(), Ok(*text));
        }
        assert_eq!(SchemeChoice::read("archive").map(|choice| choice.text()).as_deref(), Ok("16+8"));
        for text in Mode::CHOICES {
            assert_eq!(Mode::read(text).map(|mode| mode.text()).as_deref(), Ok(*text));
        }
        for text in ["none", "zstd:1", "zstd:-7", "zstd:22"] {
            assert_eq!(Compression::read(text).map(|choice| choice.text()).as_deref(), Ok(text));
        }
        for bad in ["", "gzip", "zstd:", "zstd:0", "zstd:23", "zstd:300", "Zstd"] {
            assert!(Compression::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn chunking_follows_the_mode_unless_it_is_said() {
        let read = |text| ChunkingChoice::read(text).expect("valid");
        assert_eq!(read("auto").chunking(Mode::Sealed), Chunking::Fixed);
        assert_eq!(read("auto").chunking(Mode::Public), Chunking::ContentDefined);
        assert_eq!(read("cdc").chunking(Mode::Sealed), Chunking::ContentDefined);
    }
}
