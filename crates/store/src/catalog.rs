//! The client's catalog on disk: what was put, by object.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use datamesh_core::encode::{DecodeError, decode, encode};
use datamesh_core::id::ObjectId;
use datamesh_engine::catalog::Entry;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};

const ENTRIES: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("entries v1");

/// How long a process waits for another one to be done with the catalog.
const IN_USE_PATIENCE: Duration = Duration::from_secs(10);
const IN_USE_PAUSE: Duration = Duration::from_millis(10);

/// Why the catalog can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Another process has it open for too long.
    #[error("catalog {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The file can't be read, written or synced.
    #[error("catalog {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// An entry is not what this program writes.
    #[error("catalog has a malformed entry for object {object}")]
    Entry {
        /// Of which object.
        object: ObjectId,
        /// What is wrong with it.
        source: DecodeError,
    },
}

/// A catalog file. It is open only during each operation, so that several processes may share it.
#[derive(Debug, Clone)]
pub struct Catalog {
    path: PathBuf,
}

impl Catalog {
    /// The catalog in this file, which is made when something is first written.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Adds an entry, durably, in place of an older one for the same object.
    ///
    /// # Errors
    /// [`CatalogError`] when it is not durable.
    pub fn insert(&self, entry: &Entry) -> Result<(), CatalogError> {
        self.change(|table| {
            table.insert(entry.object.root().as_bytes(), encode(entry).as_slice())?;
            Ok(())
        })
    }

    /// Puts an entry in place of the one for the same object and put, durably. Says whether there was one: what was deleted
    /// meanwhile does not come back.
    ///
    /// # Errors
    /// [`CatalogError`] when it is not durable.
    pub fn replace(&self, entry: &Entry) -> Result<bool, CatalogError> {
        let key = *entry.object.root().as_bytes();
        let mut known = false;
        self.change(|table| {
            let old = table.get(&key)?.and_then(|bytes| decode::<Entry>(bytes.value()).ok());
            known = old.is_some_and(|old| (old.owner, old.tag) == (entry.owner, entry.tag));
            if known {
                table.insert(&key, encode(entry).as_slice())?;
            }
            Ok(())
        })?;
        Ok(known)
    }

    /// Removes an object's entry, durably. That it had none is no error.
    ///
    /// # Errors
    /// [`CatalogError`] when that is not durable.
    pub fn remove(&self, object: ObjectId) -> Result<(), CatalogError> {
        self.change(|table| {
            table.remove(object.root().as_bytes())?;
            Ok(())
        })
    }

    /// Every entry, in the order of object ids.
    ///
    /// # Errors
    /// [`CatalogError`] when the file can't be read.
    pub fn entries(&self) -> Result<Vec<Entry>, CatalogError> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let database = self.open()?;
        let encoded = read(&database).map_err(|source| self.failed(source))?;
        encoded.into_iter().map(|(object, bytes)| parse(object, &bytes)).collect()
    }

    fn change(
        &self,
        change: impl FnOnce(&mut redb::Table<'_, [u8; 32], &[u8]>) -> Result<(), redb::Error>,
    ) -> Result<(), CatalogError> {
        let database = self.open()?;
        let commit = || {
            let transaction = database.begin_write()?;
            change(&mut transaction.open_table(ENTRIES)?)?;
            transaction.commit()?;
            Ok(())
        };
        commit().map_err(|source| self.failed(source))
    }

    fn open(&self) -> Result<Database, CatalogError> {
        let started = Instant::now();
        loop {
            match Database::create(&self.path) {
                Err(DatabaseError::DatabaseAlreadyOpen) if started.elapsed() < IN_USE_PATIENCE => {
                    thread::sleep(IN_USE_PAUSE);
                }
                Err(DatabaseError::DatabaseAlreadyOpen) => {
                    return Err(CatalogError::InUse(self.path.clone()));
                }
                opened => return opened.map_err(|error| self.failed(error.into())),
            }
        }
    }

    fn failed(&self, source: redb::Error) -> CatalogError {
        CatalogError::File { path: self.path.clone(), source: Box::new(source) }
    }
}

fn read(database: &Database) -> Result<BTreeMap<[u8; 32], Vec<u8>>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(ENTRIES) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        table => table?,
    };
    let mut entries = BTreeMap::new();
    for row in table.iter()? {
        let (object, bytes) = row?;
        entries.insert(object.value(), bytes.value().to_vec());
    }
    Ok(entries)
}

fn parse(object: [u8; 32], bytes: &[u8]) -> Result<Entry, CatalogError> {
    let object = ObjectId::from_bytes(object);
    decode(bytes).map_err(|source| CatalogError::Entry { object, source })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use datamesh_core::encode::{decode, encode};
    use datamesh_core::id::{ObjectId, OwnerId};
    use datamesh_core::lease::LeaseTag;
    use datamesh_core::manifest::Kind;
    use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Redundancy, Scheme};
    use datamesh_core::time::{Epoch, Timestamp};
    use datamesh_engine::catalog::{Entry, Savings};
    use datamesh_engine::place::Wholeness;

    use super::Catalog;

    fn entry(number: u8) -> Entry {
        Entry {
            object: ObjectId::from_bytes([number; 32]),
            name: format!("object {number}"),
            kind: Kind::File,
            size: 1,
            stored_size: 2,
            scheme: Scheme {
                mode: Mode::Sealed,
                chunking: Chunking::Fixed,
                compression: Compression::None,
                cipher: Cipher::Aes256Gcm,
                redundancy: Redundancy::PRESETS[0],
            },
            created: Timestamp::from_ms(5),
            owner: OwnerId::from_bytes([1; 32]),
            tag: LeaseTag::from_bytes([2; 16]),
            network: "embedded".into(),
            acknowledged: Wholeness::Whole,
            savings: Some(Savings { packed_size: 1, reused_size: 0, stripe_count: 1, reused_count: 0 }),
            until: Some(Epoch::from_hours(7)),
        }
    }

    /// An entry as the first version wrote it, without what later ones note besides.
    #[test]
    fn an_entry_of_the_first_version_is_read() {
        #[derive(serde::Serialize)]
        struct First {
            object: ObjectId,
            name: String,
            kind: Kind,
            size: u64,
            stored_size: u64,
            scheme: Scheme,
            created: Timestamp,
            owner: OwnerId,
            tag: LeaseTag,
            network: String,
            acknowledged: Wholeness,
        }
        let Entry {
            object,
            name,
            kind,
            size,
            stored_size,
            scheme,
            created,
            owner,
            tag,
            network,
            acknowledged,
            ..
        } = entry(1);
        let first = First {
            object,
            name,
            kind,
            size,
            stored_size,
            scheme,
            created,
            owner,
            tag,
            network,
            acknowledged,
        };
        let read: Entry = decode(&encode(&first)).expect("it is canonical");
        assert_eq!(read, Entry { savings: None, until: None, ..entry(1) });
    }

    #[test]
    fn entries_are_kept_replaced_and_removed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let catalog = Catalog::at(directory.path().join("catalog"));
        assert_eq!(catalog.entries().expect("readable"), []);
        catalog.insert(&entry(2)).expect("writable");
        catalog.insert(&entry(1)).expect("writable");
        let renamed = Entry { name: "renamed".into(), ..entry(2) };
        catalog.insert(&renamed).expect("writable");
        assert_eq!(catalog.entries().expect("readable"), [entry(1), renamed.clone()]);
        let prolonged = Entry { until: None, ..renamed };
        assert!(catalog.replace(&prolonged).expect("writable"));
        assert_eq!(catalog.entries().expect("readable"), [entry(1), prolonged.clone()]);
        let other = Entry { tag: LeaseTag::from_bytes([3; 16]), ..prolonged.clone() };
        assert!(!catalog.replace(&other).expect("writable"), "another put of the same");
        catalog.remove(entry(2).object).expect("writable");
        assert!(!catalog.replace(&prolonged).expect("writable"), "what was removed stays so");
        catalog.remove(entry(2).object).expect("it is no error twice");
        assert_eq!(catalog.entries().expect("readable"), [entry(1)]);
    }

    #[test]
    fn several_writers_lose_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let catalog = Catalog::at(directory.path().join("catalog"));
        let writers: Vec<_> = (0..4_u8)
            .map(|writer| {
                let catalog = catalog.clone();
                thread::spawn(move || {
                    for number in 0..8 {
                        catalog.insert(&entry(writer * 8 + number)).expect("writable");
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().expect("no writer failed");
        }
        assert_eq!(catalog.entries().expect("readable").len(), 32);
    }
}
