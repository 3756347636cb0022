//! An ordered map on disk, of what could be made anew: the index of buckets.

use std::path::{Path, PathBuf};

use datamesh_engine::world::{Map, MapError, MapRow};
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, StorageError, TableDefinition, TableError,
};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows v1");

/// Memory for pages of the map, bytes.
const CACHE_SIZE: usize = 16 << 20;

/// Why a map can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenMapError {
    /// Another process has it open.
    #[error("index {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The file can't be read or made.
    #[error("index {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
}

/// A map in a file.
#[derive(Debug)]
pub struct DiskMap {
    database: Database,
}

impl DiskMap {
    /// Opens the map in this file, which is made where there is none. One that is damaged is set aside: what was in it is made anew.
    ///
    /// # Errors
    /// [`OpenMapError`] when it can't be read or made, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, OpenMapError> {
        let failed = |source: DatabaseError| match source {
            DatabaseError::DatabaseAlreadyOpen => OpenMapError::InUse(path.to_owned()),
            source => OpenMapError::File { path: path.to_owned(), source: Box::new(source.into()) },
        };
        let open = || Database::builder().set_cache_size(CACHE_SIZE).create(path);
        match open() {
            Ok(database) => Ok(Self { database }),
            Err(DatabaseError::Storage(why)) if is_damage(&why) => {
                let aside = path.with_extension("damaged");
                tracing::error!(path = %path.display(), %why, "the index is damaged: it is set aside and made anew");
                std::fs::rename(path, aside).map_err(|error| failed(DatabaseError::Storage(error.into())))?;
                Ok(Self { database: open().map_err(failed)? })
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn commit(
        &self,
        durability: Durability,
        changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        {
            let mut rows = transaction.open_table(ROWS)?;
            for (key, value) in changes {
                match value {
                    Some(value) => drop(rows.insert(key.as_slice(), value.as_slice())?),
                    None => drop(rows.remove(key.as_slice())?),
                }
            }
        }
        Ok(transaction.commit()?)
    }

    fn read<T>(
        &self,
        read: impl FnOnce(redb::ReadOnlyTable<&'static [u8], &'static [u8]>) -> Result<T, redb::Error>,
    ) -> Result<Option<T>, MapError> {
        let found = || {
            let table = match self.database.begin_read()?.open_table(ROWS) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            read(table).map(Some)
        };
        found().map_err(|error: redb::Error| MapError(error.to_string()))
    }
}

/// Whether what is in the file is no map: nothing that another attempt could read.
fn is_damage(error: &StorageError) -> bool {
    match error {
        StorageError::Corrupted(_) => true,
        StorageError::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

impl Map for DiskMap {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        let found = self.read(|table| Ok(table.get(key)?.map(|value| value.value().to_vec())))?;
        Ok(found.flatten())
    }

    fn rows(&self, from: &[u8], before: &[u8], count_max: usize) -> Result<Vec<MapRow>, MapError> {
        if from >= before {
            return Ok(Vec::new());
        }
        let found = self.read(|table| {
            let mut rows = Vec::new();
            for row in table.range(from..before)?.take(count_max) {
                let (key, value) = row?;
                rows.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(rows)
        })?;
        Ok(found.unwrap_or_default())
    }

    fn write(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), MapError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.commit(Durability::None, changes).map_err(|error| MapError(error.to_string()))
    }

    fn sync(&self) -> Result<(), MapError> {
        self.commit(Durability::Immediate, Vec::new()).map_err(|error| MapError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use datamesh_engine::world::Map;

    use super::{DiskMap, OpenMapError};

    #[test]
    fn what_was_written_and_synced_is_there_when_the_map_is_opened_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("index");
        let map = DiskMap::open(&path).expect("opens");
        assert_eq!(map.get(b"a"), Ok(None));
        assert_eq!(map.rows(b"a", b"z", 9), Ok(Vec::new()));
        let set = |key: &[u8], value: Option<&[u8]>| (key.to_vec(), value.map(<[u8]>::to_vec));
        map.write(vec![set(b"a", Some(b"1")), set(b"b", Some(b"2")), set(b"c", Some(b"3"))])
            .expect("written");
        map.write(vec![set(b"b", None)]).expect("written");
        assert!(matches!(DiskMap::open(&path), Err(OpenMapError::InUse(_))));
        map.sync().expect("synced");
        drop(map);
        let map = DiskMap::open(&path).expect("opens");
        assert_eq!(map.get(b"a"), Ok(Some(b"1".to_vec())));
        assert_eq!(map.get(b"b"), Ok(None));
        assert_eq!(map.rows(b"a", b"c", 9).expect("read").len(), 1, "the end is not in it");
        assert_eq!(map.rows(b"a", b"d", 1).expect("read").len(), 1);
        assert_eq!(map.rows(b"d", b"a", 1), Ok(Vec::new()));
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("index");
        std::fs::write(&path, vec![7; 10_000]).expect("written");
        let opened = DiskMap::open(&path);
        assert!(opened.is_ok(), "{opened:?}");
        assert!(path.with_extension("damaged").exists());
    }
}
