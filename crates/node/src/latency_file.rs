//! The latency map of a mesh in a file that people write, read once where a process makes its rings.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datamesh_core::limits::LATENCY_MAP_SIZE_MAX;
use datamesh_engine::ring::latency::{LatencyMap, LatencyMapError, Place};
use datamesh_engine::rings::Rings;
use toml_edit::{Document, Item, Key, Value};

use crate::home::Home;
use crate::settings::Settings;

/// Why a file can't be read as a latency map.
#[derive(Debug, thiserror::Error)]
pub enum LatencyFileError {
    /// The file can't be read.
    #[error("latency map {} can't be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is larger than any map.
    #[error("latency map {} has more than {LATENCY_MAP_SIZE_MAX} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// It is no map.
    #[error("{}:{line}: {why}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
}

/// The rings of a mesh, by the map that the settings name: relative to the home, and none unless they do.
///
/// # Errors
/// [`LatencyFileError`] when it can't be read, or is no map.
pub(crate) fn rings(home: &Home, settings: &Settings) -> Result<Arc<Rings>, LatencyFileError> {
    let Some(path) = settings.placement.latency_map.path() else { return Ok(Arc::default()) };
    Ok(Arc::new(Rings::near(Arc::new(read(&home.root().join(path))?))))
}

/// The digest of the map by which these rings are made, as it is shown; `None` where they are made by none.
#[must_use]
pub fn digest(rings: &Rings) -> Option<String> {
    rings.latency().map(|map| blake3::Hash::from_bytes(map.digest()).to_hex().to_string())
}

/// Reads a map: a TOML table for each place, with the milliseconds to others.
///
/// # Errors
/// [`LatencyFileError`].
fn read(path: &Path) -> Result<LatencyMap, LatencyFileError> {
    let failed = |source| LatencyFileError::File { path: path.to_owned(), source };
    let limit = u64::try_from(LATENCY_MAP_SIZE_MAX).expect("a small number");
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_string(&mut text)).map_err(failed)?;
    if text.len() > LATENCY_MAP_SIZE_MAX {
        return Err(LatencyFileError::TooLarge { path: path.to_owned() });
    }
    parse(&text).map_err(|Wrong { at, why }| {
        let before = text.get(..at).unwrap_or_default();
        LatencyFileError::Malformed { path: path.to_owned(), line: 1 + before.matches('\n').count(), why }
    })
}

/// What is wrong with a text.
struct Wrong {
    /// The byte at which it begins.
    at: usize,
    why: String,
}

impl Wrong {
    fn new(span: Option<Range<usize>>, why: String) -> Self {
        Self { at: span.map_or(0, |span| span.start), why }
    }
}

/// One pair, and where it stands.
struct Pair {
    one: Place,
    other: Place,
    ms: u32,
    span: Option<Range<usize>>,
}

fn parse(text: &str) -> Result<LatencyMap, Wrong> {
    let document = Document::parse(text).map_err(|error| {
        let why = error.message().lines().next().unwrap_or("no TOML").to_owned();
        Wrong::new(error.span(), why)
    })?;
    let mut pairs = Vec::new();
    for (name, item) in document.as_table() {
        let span = document.as_table().key(name).and_then(Key::span);
        let one = place(name, span.clone())?;
        let Some(others) = item.as_table_like() else {
            let why = format!("`{name}` is no table: write [{name}] and below it OTHER = MILLISECONDS");
            return Err(Wrong::new(span, why));
        };
        for (name, item) in others.iter() {
            let span = others.key(name).and_then(Key::span);
            let (one, other) = (one.clone(), place(name, span.clone())?);
            let ms = milliseconds(item).map_err(|why| {
                Wrong::new(span.clone(), format!("`{other}` {why}: write whole milliseconds, as in 40"))
            })?;
            pairs.push(Pair { one, other, ms, span });
        }
    }
    if pairs.is_empty() {
        return Err(Wrong { at: 0, why: "the file has no pair of places".to_owned() });
    }
    let map = LatencyMap::new(pairs.iter().map(|pair| (pair.one.clone(), pair.other.clone(), pair.ms)));
    map.map_err(|error| Wrong::new(span_of(&error, &pairs), error.to_string()))
}

fn place(name: &str, span: Option<Range<usize>>) -> Result<Place, Wrong> {
    name.parse().map_err(|error| Wrong::new(span, format!("{error}")))
}

fn milliseconds(item: &Item) -> Result<u32, String> {
    match item {
        Item::Value(Value::Integer(number)) => {
            let number = *number.value();
            u32::try_from(number).map_err(|_| format!("is {number}"))
        }
        Item::Value(value) => Err(format!("is a {}", value.type_name())),
        other => Err(format!("is a {}", other.type_name())),
    }
}

/// Where the last pair stands that an error is about.
fn span_of(error: &LatencyMapError, pairs: &[Pair]) -> Option<Range<usize>> {
    let (LatencyMapError::TooFar { one, other, .. }
    | LatencyMapError::Mixed { one, other }
    | LatencyMapError::Twice { one, other }) = error
    else {
        return None;
    };
    let meant = |pair: &&Pair| [(one, other), (other, one)].contains(&(&pair.one, &pair.other));
    pairs.iter().rev().find(meant).and_then(|pair| pair.span.clone())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use datamesh_core::limits::LATENCY_MAP_SIZE_MAX;
    use datamesh_engine::ring::latency::LatencyMap;

    use super::{LatencyFileError, read};

    fn written(text: &str) -> Result<LatencyMap, LatencyFileError> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("map.toml");
        fs::write(&path, text).expect("written");
        read(&path)
    }

    const MAP: &str = "# round trips, May\n[eu]\neu = 15\nus = 90\n\n[\"eu/paris\"]\n\"eu/lyon\" = 6\n";

    #[test]
    fn the_same_pairs_are_the_same_map_however_they_are_written() {
        let place = |text: &str| text.parse().expect("a place");
        let pairs = [("us", "eu", 90), ("eu", "eu", 15), ("eu/lyon", "eu/paris", 6)];
        let expected = LatencyMap::new(pairs.map(|(one, other, ms)| (place(one), place(other), ms)));
        let expected = expected.expect("a map");
        let inline = "\"eu/lyon\" = { \"eu/paris\" = 6 }\neu.eu = 15\nus.eu = 90\n";
        for text in [MAP, inline] {
            let map = written(text).expect("a map");
            assert_eq!((map.digest(), &map), (expected.digest(), &expected), "{text}");
        }
        let other = written(&MAP.replace("90", "91")).expect("a map");
        assert_ne!(other.digest(), expected.digest());
    }

    #[test]
    fn what_is_no_map_is_refused_with_its_line_and_value() {
        for (text, line, word) in [
            ("", 1, "no pair"),
            ("# nothing\n", 1, "no pair"),
            ("[eu]\nus = 90\nus = 91\n", 3, "duplicate"),
            ("[eu]\nus = 90\n\n[us]\neu = 90\n", 5, "`eu` and `us` are there twice"),
            ("[eu]\nus = -3\n", 2, "`us` is -3"),
            ("[eu]\neu = 1\nus = 90.5\n", 3, "`us` is a float"),
            ("[eu]\nus = \"90 ms\"\n", 2, "`us` is a string"),
            ("[eu]\nus = 60001\n", 2, "60001"),
            ("[eu]\n\"us/east\" = 9\n", 2, "`eu` and `us/east`"),
            ("[eu]\nus = 9\n[\"a/b/c\"]\nus = 1\n", 3, "`a/b/c` is no place"),
            ("[eu]\n\"a/\" = 9\n", 2, "`a/` is no place"),
            ("eu = 4\n", 1, "`eu` is no table"),
            ("[[eu]]\nus = 4\n", 1, "`eu` is no table"),
            ("[eu.us]\nasia = 4\n", 1, "`us` is a table"),
            ("[eu]\nus 90\n", 2, ""),
        ] {
            let error = written(text).expect_err(text);
            let LatencyFileError::Malformed { line: found, why, .. } = &error else { panic!("{error}") };
            assert_eq!(*found, line, "{text}: {error}");
            assert!(why.contains(word), "{text}: {error}");
        }
        let long = "#".repeat(LATENCY_MAP_SIZE_MAX + 1);
        assert!(matches!(written(&long), Err(LatencyFileError::TooLarge { .. })));
        let directory = tempfile::tempdir().expect("a temporary directory");
        assert!(matches!(read(directory.path()), Err(LatencyFileError::File { .. })));
        assert!(matches!(read(&directory.path().join("none")), Err(LatencyFileError::File { .. })));
    }
}
