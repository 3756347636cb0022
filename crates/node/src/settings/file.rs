//! The settings file: TOML read with line numbers, and changed without losing its comments.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml_edit::{Document, DocumentMut, Item, Table, Value};

const SETTINGS_FILE_SIZE_MAX: u64 = 1024 * 1024;

/// The text of a settings file and where it came from.
#[derive(Debug, Clone)]
pub struct SettingsFile {
    path: PathBuf,
    text: String,
}

/// Why a settings file can't be read, or is no TOML.
#[derive(Debug, thiserror::Error)]
pub enum SettingsFileError {
    /// The disk or its permissions.
    #[error("settings file {} can't be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Far larger than any settings are.
    #[error("settings file {} has {size} bytes; at most {SETTINGS_FILE_SIZE_MAX} are read", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its bytes.
        size: u64,
    },
    /// Not TOML.
    #[error("{}:{line}: {why}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// What the parser said.
        why: String,
    },
}

/// A value as the file has it.
pub(super) struct Entry {
    /// Dotted.
    pub(super) key: String,
    /// From 1.
    pub(super) line: usize,
    /// Its text, or why no setting can have such a value.
    pub(super) value: Result<String, String>,
}

impl SettingsFile {
    /// Reads a file; one that doesn't exist sets nothing.
    ///
    /// # Errors
    /// [`SettingsFileError`] when it exists and can't be read.
    pub fn read(path: &Path) -> Result<Self, SettingsFileError> {
        let failed = |source| SettingsFileError::Read { path: path.to_owned(), source };
        let size = match fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::new(path, "")),
            Err(error) => return Err(failed(error)),
        };
        if size > SETTINGS_FILE_SIZE_MAX {
            return Err(SettingsFileError::TooLarge { path: path.to_owned(), size });
        }
        fs::read_to_string(path).map(|text| Self::new(path, &text)).map_err(failed)
    }

    /// A file of this text.
    #[must_use]
    pub fn new(path: &Path, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Where it came from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is, or would be, in it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Every value, in the order of the file.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, SettingsFileError> {
        let document = self.document()?;
        let mut entries = Vec::new();
        self.collect(document.as_table(), "", &mut entries);
        entries.sort_by_key(|entry| entry.line);
        Ok(entries)
    }

    // Tables nest as deep as the parser lets them, which has its own limit on recursion.
    fn collect(&self, table: &Table, prefix: &str, entries: &mut Vec<Entry>) {
        for (name, item) in table {
            let key = format!("{prefix}{name}");
            let span = table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
            let line = self.line(span);
            match item {
                Item::None => {}
                Item::Value(value) => entries.push(Entry { key, line, value: text_of(value) }),
                Item::Table(inner) => self.collect(inner, &format!("{key}."), entries),
                Item::ArrayOfTables(_) => {
                    entries.push(Entry { key, line, value: Err("is a list of tables".to_owned()) });
                }
            }
        }
    }

    fn line(&self, span: Option<Range<usize>>) -> usize {
        let before = span.and_then(|span| self.text.get(..span.start)).unwrap_or_default();
        1 + before.matches('\n').count()
    }

    fn document(&self) -> Result<Document<&str>, SettingsFileError> {
        Document::parse(self.text.as_str()).map_err(|error| {
            let why = error.message().lines().next().unwrap_or("no TOML").to_owned();
            self.syntax(error.span(), why)
        })
    }

    fn syntax(&self, span: Option<Range<usize>>, why: String) -> SettingsFileError {
        SettingsFileError::Syntax { path: self.path.clone(), line: self.line(span), why }
    }

    /// The same file with one value set; comments and order stay.
    pub(super) fn with(&self, key: &str, value: Value) -> Result<Self, SettingsFileError> {
        let (group, name) = key.split_once('.').expect("every setting's key is a group and a name");
        let read = self.document()?;
        let span = read.get(group).and_then(Item::span);
        let mut document: DocumentMut = read.into_mut();
        let item = document.entry(group).or_insert_with(toml_edit::table);
        let Some(table) = item.as_table_like_mut() else {
            return Err(self.syntax(span, format!("`{group}` is no table")));
        };
        match table.get_mut(name) {
            Some(Item::Value(old)) => {
                let decor = old.decor().clone();
                *old = value;
                *old.decor_mut() = decor;
            }
            _ => {
                table.insert(name, Item::Value(value));
            }
        }
        Ok(Self { path: self.path.clone(), text: document.to_string() })
    }
}

fn text_of(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.value().clone()),
        Value::Integer(number) => Ok(number.value().to_string()),
        Value::Array(array) => {
            let items: Option<Vec<&str>> = array.iter().map(Value::as_str).collect();
            let items = items.ok_or("has a list with something else than texts in it")?;
            if items.iter().any(|item| item.contains(',')) {
                return Err("has a list with a comma in one of its texts".to_owned());
            }
            Ok(items.join(","))
        }
        Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::InlineTable(_) => {
            Err(format!("is a {}; write a text, a whole number or a list of texts", value.type_name()))
        }
    }
}
