//! The code map: each crate and top-level module stands there with the sentence that opens its file.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::page::{code_span, tables};
use crate::tree::{Crate, Tree};

const PAGE: &str = "ARCHITECTURE.md";
const ROOTS: [&str; 2] = ["lib", "main"];

/// What the code map says of one crate.
struct Entry {
    sentence: String,
    modules: BTreeMap<String, String>,
}

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let page = tree.text(PAGE);
    let mut map = code_map(page);
    let mut found = Vec::new();
    for one in tree.crates() {
        match map.remove(one.folder) {
            Some(entry) => check_crate(tree, one, &entry, &mut found),
            None => found.push(Violation::new(PAGE, format!("the code map lacks `{}`", one.folder))),
        }
    }
    found.extend(
        map.keys()
            .map(|folder| Violation::new(PAGE, format!("the code map has `{folder}`, which is no crate"))),
    );
    found
}

fn check_crate(tree: &Tree, one: Crate<'_>, entry: &Entry, found: &mut Vec<Violation>) {
    let root = ROOTS.into_iter().find_map(|root| file_of(tree, one, root));
    check_sentence(tree, root, &entry.sentence, one.folder, found);
    let there = top_level_modules(tree, one);
    for (module, sentence) in &entry.modules {
        let place = format!("{}/src/{module}", one.folder);
        check_sentence(tree, file_of(tree, one, module), sentence, &place, found);
    }
    for module in there.iter().filter(|module| !entry.modules.contains_key(*module)) {
        let what = format!("the code map of `{}` has no row for module `{module}`", one.folder);
        found.push(Violation::new(PAGE, what));
    }
}

fn check_sentence(
    tree: &Tree,
    file: Option<String>,
    sentence: &str,
    place: &str,
    found: &mut Vec<Violation>,
) {
    let Some(file) = file else {
        found.push(Violation::new(place, format!("stands in {PAGE}, but has no file")));
        return;
    };
    let first = tree.text(&file).lines().next().unwrap_or_default();
    if first.strip_prefix("//! ") != Some(sentence) {
        found.push(Violation::new(file, format!("opens with `{first}`, {PAGE} says `{sentence}`")));
    }
}

fn file_of(tree: &Tree, one: Crate<'_>, module: &str) -> Option<String> {
    let candidates =
        [format!("{}/src/{module}.rs", one.folder), format!("{}/src/{module}/mod.rs", one.folder)];
    candidates.into_iter().find(|path| tree.has(path))
}

fn top_level_modules(tree: &Tree, one: Crate<'_>) -> BTreeSet<String> {
    let source = format!("{}/src/", one.folder);
    let module = |path: &str| {
        let inner = path.strip_prefix(&source)?;
        let name = inner.strip_suffix("/mod.rs").or_else(|| inner.strip_suffix(".rs"))?;
        (!name.contains('/') && !ROOTS.contains(&name)).then(|| name.to_owned())
    };
    tree.sources().filter_map(|(path, _)| module(path)).collect()
}

/// The crates of the code map by their folder: a heading of the folder in backticks, a sentence, and a table of modules.
fn code_map(page: &str) -> BTreeMap<String, Entry> {
    let mut sentences = BTreeMap::new();
    let mut lines = page.lines().filter(|line| !line.is_empty());
    while let Some(line) = lines.next() {
        if let Some(folder) = line.strip_prefix("####").and_then(code_span) {
            sentences.insert(folder.to_owned(), lines.next().unwrap_or_default().to_owned());
        }
    }
    let entry = |(folder, sentence): (String, String)| {
        let modules = tables(page)
            .into_iter()
            .filter(|table| code_span(&table.heading) == Some(&folder))
            .flat_map(|table| table.rows)
            .filter_map(|row| Some((code_span(row.first()?)?.to_owned(), row.get(1)?.clone())))
            .collect();
        (folder, Entry { sentence, modules })
    };
    sentences.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::violations;
    use crate::tree::Tree;

    const PAGE: &str = "#### `crates/core`\n\nThe nouns.\n\n| module | what it is |\n|---|---|\n| `id` | Names. |\n| `wire` | Words. |\n";

    fn found(page: &str, files: &[(&str, &str)]) -> Vec<String> {
        let mut all = vec![("ARCHITECTURE.md", page), ("crates/core/Cargo.toml", "")];
        all.extend(files);
        violations(&Tree::of(&all)).iter().map(ToString::to_string).collect()
    }

    const ROOT: (&str, &str) = ("crates/core/src/lib.rs", "//! The nouns.\nmod id;");
    const ID: (&str, &str) = ("crates/core/src/id.rs", "//! Names.\n");
    const WIRE: (&str, &str) = ("crates/core/src/wire/mod.rs", "//! Words.\n");
    const ROOM: (&str, &str) = ("crates/core/src/wire/room.rs", "//! A room needs no row.\n");

    #[test]
    fn a_true_map_passes() {
        assert_eq!(found(PAGE, &[ROOT, ID, WIRE, ROOM]), [""; 0]);
    }

    #[test]
    fn a_row_without_a_file_is_found() {
        assert_eq!(
            found(PAGE, &[ROOT, ID]),
            ["crates/core/src/wire: stands in ARCHITECTURE.md, but has no file"]
        );
    }

    #[test]
    fn a_file_without_a_row_is_found() {
        let files = [ROOT, ID, WIRE, ("crates/core/src/new.rs", "//! New.")];
        let expected = "ARCHITECTURE.md: the code map of `crates/core` has no row for module `new`";
        assert_eq!(found(PAGE, &files), [expected]);
    }

    #[test]
    fn another_sentence_is_found_in_a_module_and_in_the_crate() {
        let id = ("crates/core/src/id.rs", "//! Names of things.\n");
        let root = ("crates/core/src/lib.rs", "//! The verbs.\n");
        assert_eq!(
            found(PAGE, &[root, id, WIRE]),
            [
                "crates/core/src/lib.rs: opens with `//! The verbs.`, ARCHITECTURE.md says `The nouns.`",
                "crates/core/src/id.rs: opens with `//! Names of things.`, ARCHITECTURE.md says `Names.`",
            ]
        );
    }

    #[test]
    fn a_crate_that_the_map_lacks_and_one_that_is_not_there_are_found() {
        assert_eq!(found(&PAGE.replace("core", "gone"), &[ROOT]).len(), 2);
    }
}
