//! The index as it is, with what is about to be changed laid over it.

use std::collections::BTreeMap;

use datamesh_core::encode::{decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::world::{Map, MapError, MapRow};

/// Rows of the index, and changes of them that are not written yet.
pub(crate) struct View<'a> {
    map: &'a dyn Map,
    changed: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'a> View<'a> {
    pub(crate) const fn of(map: &'a dyn Map) -> Self {
        Self { map, changed: BTreeMap::new() }
    }

    /// What is to be written.
    pub(crate) fn into_changes(self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        self.changed.into_iter().collect()
    }

    pub(crate) fn get<T: DeserializeOwned + Serialize>(&self, key: &[u8]) -> Result<Option<T>, MapError> {
        let bytes = match self.changed.get(key) {
            Some(changed) => changed.clone(),
            None => self.map.get(key)?,
        };
        bytes.map(|bytes| parse(&bytes)).transpose()
    }

    pub(crate) fn set<T: Serialize>(&mut self, key: Vec<u8>, value: &T) {
        self.changed.insert(key, Some(encode(value)));
    }

    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        self.changed.insert(key, None);
    }

    /// The rows from one key on and before another, in order, at most so many.
    pub(crate) fn rows(&self, from: &[u8], before: &[u8], count_max: usize) -> Result<Vec<MapRow>, MapError> {
        if from >= before {
            return Ok(Vec::new());
        }
        let mut changed = self.changed.range(from.to_vec()..before.to_vec()).peekable();
        let mut rows = Vec::new();
        let mut from = from.to_vec();
        loop {
            let page = self.map.rows(&from, before, count_max)?;
            let last_page = page.len() < count_max;
            for (key, value) in page {
                while let Some((other, changed_value)) = changed.next_if(|(other, _)| **other < key) {
                    rows.extend(changed_value.clone().map(|changed_value| (other.clone(), changed_value)));
                }
                let row = match changed.next_if(|(other, _)| **other == key) {
                    Some((_, changed_value)) => changed_value.clone().map(|value| (key.clone(), value)),
                    None => Some((key.clone(), value)),
                };
                rows.extend(row);
                if rows.len() >= count_max {
                    rows.truncate(count_max);
                    return Ok(rows);
                }
                from = [&key[..], &[0]].concat();
            }
            if last_page {
                break;
            }
        }
        let rest = changed.filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        rows.extend(rest.take(count_max - rows.len()));
        Ok(rows)
    }
}

/// Reads a row's value.
pub(crate) fn parse<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, MapError> {
    decode(bytes).map_err(|error| MapError(format!("a row is malformed: {error}")))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::View;
    use crate::world::{Map, MapError, MapRow};

    /// A map in memory.
    #[derive(Debug, Default)]
    pub(crate) struct Memory(pub(crate) Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

    impl Map for Memory {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
            Ok(self.0.lock().unwrap().get(key).cloned())
        }

        fn rows(&self, from: &[u8], before: &[u8], count_max: usize) -> Result<Vec<MapRow>, MapError> {
            let rows = self.0.lock().unwrap();
            let rows = rows.range(from.to_vec()..before.to_vec()).take(count_max);
            Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
        }

        fn write(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), MapError> {
            let mut rows = self.0.lock().unwrap();
            for (key, value) in changes {
                match value {
                    Some(value) => drop(rows.insert(key, value)),
                    None => drop(rows.remove(&key)),
                }
            }
            Ok(())
        }

        fn sync(&self) -> Result<(), MapError> {
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_view_shows_what_the_map_will_have_once_its_changes_are_written(
            written in btree_map(vec(0_u8..3, 1..3), any::<u8>(), 0..20),
            changed in btree_map(vec(0_u8..3, 1..3), option::of(any::<u8>()), 0..20),
            (from, before) in (vec(0_u8..4, 0..3), vec(0_u8..4, 0..3)),
            count_max in 1_usize..12,
        ) {
            let map = Memory::default();
            map.write(written.iter().map(|(key, value)| (key.clone(), Some(vec![*value]))).collect()).unwrap();
            let mut view = View::of(&map);
            for (key, value) in &changed {
                match value {
                    Some(value) => view.set(key.clone(), value),
                    None => view.remove(key.clone()),
                }
            }
            let seen = view.rows(&from, &before, count_max).unwrap();
            let changes = view.into_changes();
            map.write(changes).unwrap();
            let expected = if from < before { map.rows(&from, &before, count_max).unwrap() } else { Vec::new() };
            assert_eq!(seen, expected);
        }
    }
}
