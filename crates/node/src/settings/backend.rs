//! Where a backend is, and where its secrets are, as settings say it.

use std::path::PathBuf;

use datamesh_backend::Address;

use crate::settings::value::SettingValue;

const NONE: &str = "none";

/// Where closed segments lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendChoice {
    /// On the own disk, as all else.
    Own,
    /// At this backend.
    At(Address),
}

impl SettingValue for BackendChoice {
    const FORM: &'static str =
        "none, s3://BUCKET/PREFIX?region=REGION&endpoint=URL, redis://HOST:PORT/DATABASE, or file:///PATH";
    const CHOICES: &'static [&'static str] = &[NONE];

    fn read(text: &str) -> Result<Self, String> {
        if text == NONE {
            return Ok(Self::Own);
        }
        text.parse().map(Self::At).map_err(|error: datamesh_backend::ParseAddressError| error.to_string())
    }

    fn text(&self) -> String {
        match self {
            Self::Own => NONE.to_owned(),
            Self::At(address) => address.to_string(),
        }
    }
}

/// A path, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionalPath(Option<PathBuf>);

impl OptionalPath {
    /// The path, if one is set.
    #[must_use]
    pub const fn path(&self) -> Option<&PathBuf> {
        self.0.as_ref()
    }
}

impl SettingValue for OptionalPath {
    const FORM: &'static str = "none, or a file";
    const CHOICES: &'static [&'static str] = &[NONE];

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("is empty".to_owned()),
            NONE => Ok(Self(None)),
            path => Ok(Self(Some(PathBuf::from(path)))),
        }
    }

    fn text(&self) -> String {
        self.0.as_ref().map_or_else(|| NONE.to_owned(), |path| path.display().to_string())
    }
}
