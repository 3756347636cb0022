//! The files that the checks read: sources, crate files and pages.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

const SKIPPED_FOLDERS: [&str; 3] = [".git", "target", "artefacts"];
const READ_EXTENSIONS: [&str; 3] = ["md", "rs", "toml"];

/// The repository: every file by its path from the root, with the text of those that a check may read.
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

/// One crate of the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crate<'a> {
    /// What the import table calls it: its folder's name.
    pub(crate) name: &'a str,
    /// Its folder, from the root.
    pub(crate) folder: &'a str,
    /// The text of its `Cargo.toml`.
    pub(crate) file: &'a str,
}

impl Tree {
    /// Reads the repository below a folder.
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        read_folder(root, "", &mut files)?;
        Ok(Self { files })
    }

    /// A made-up repository.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let own = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self { files: files.iter().map(own).collect() }
    }

    /// The text of a file; empty where there is no such file.
    pub(crate) fn text(&self, path: &str) -> &str {
        self.files.get(path).map_or("", String::as_str)
    }

    /// Whether a file or a folder is there.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&folder))
    }

    /// Every Rust source: its path and its text.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        self.with_extension(".rs")
    }

    /// Every page: its path and its text.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (&str, &str)> {
        self.with_extension(".md")
    }

    /// Every crate of the workspace.
    pub(crate) fn crates(&self) -> impl Iterator<Item = Crate<'_>> {
        self.files.iter().filter_map(|(path, file)| {
            let folder = path.strip_suffix("/Cargo.toml")?;
            let name = folder.strip_prefix("crates/").unwrap_or(folder);
            (!name.contains('/')).then_some(Crate { name, folder, file })
        })
    }

    fn with_extension(&self, extension: &'static str) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(extension))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

fn read_folder(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED_FOLDERS.contains(&name.as_str()) {
            read_folder(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() {
            let read = READ_EXTENSIONS.iter().any(|extension| name.ends_with(&format!(".{extension}")));
            let text = if read { fs::read_to_string(entry.path())? } else { String::new() };
            files.insert(path, text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Tree;

    #[test]
    fn crates_are_the_folders_with_a_crate_file_and_not_the_workspace_itself() {
        let tree = Tree::of(&[
            ("Cargo.toml", ""),
            ("crates/core/Cargo.toml", ""),
            ("crates/core/src/lib.rs", ""),
            ("xtask/Cargo.toml", ""),
        ]);
        let names: Vec<&str> = tree.crates().map(|found| found.name).collect();
        assert_eq!(names, ["core", "xtask"]);
    }

    #[test]
    fn a_folder_is_there_when_a_file_below_it_is() {
        let tree = Tree::of(&[("docs/format.md", "")]);
        assert!(tree.has("docs") && tree.has("docs/") && tree.has("docs/format.md"));
        assert!(!tree.has("doc") && !tree.has("docs/form"));
    }
}
