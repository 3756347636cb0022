//! The law of imports: a crate depends on what its row of the import table allows, and on no other crate of ours.

use std::collections::BTreeMap;

use super::Violation;
use crate::crate_file::{Kind, dependencies, workspace_dependencies};
use crate::page::{code_span, table};
use crate::tree::Tree;

const PAGE: &str = "ARCHITECTURE.md";

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let allowed = import_table(tree.text(PAGE));
    if allowed.is_empty() {
        return vec![Violation::new(PAGE, "has no table with the head `crate`, `may import`")];
    }
    let mut found = Vec::new();
    for row in allowed.keys().filter(|row| !tree.crates().any(|one| one.name == row.as_str())) {
        found.push(Violation::new(PAGE, format!("the import table has `{row}`, which is no crate")));
    }
    let ours = crate_names_by_dependency(tree.text("Cargo.toml"));
    for one in tree.crates() {
        let Some(row) = allowed.get(one.name) else {
            found.push(Violation::new(PAGE, format!("the import table has no row for `{}`", one.name)));
            continue;
        };
        let normal = dependencies(one.file).into_iter().filter(|dependency| dependency.kind == Kind::Normal);
        for imported in normal.filter_map(|dependency| ours.get(&dependency.name)) {
            if !row.contains(imported) {
                let what = format!("imports `{imported}`, which {PAGE} does not allow `{}`", one.name);
                found.push(Violation::new(format!("{}/Cargo.toml", one.folder), what));
            }
        }
    }
    found
}

/// Which crates each crate may import.
fn import_table(page: &str) -> BTreeMap<String, Vec<String>> {
    let rows = table(page, "crate").map(|table| table.rows).unwrap_or_default();
    let entry = |row: Vec<String>| {
        let name = code_span(row.first()?)?.to_owned();
        let imports = row.get(1)?.split(',').filter_map(code_span).map(str::to_owned).collect();
        Some((name, imports))
    };
    rows.into_iter().filter_map(entry).collect()
}

/// The crate behind each workspace dependency that is a crate of ours.
fn crate_names_by_dependency(workspace: &str) -> BTreeMap<String, String> {
    let entry = |dependency: crate::crate_file::Dependency| {
        let name = dependency.path()?.rsplit('/').next()?.to_owned();
        Some((dependency.name, name))
    };
    workspace_dependencies(workspace).into_iter().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::violations;
    use crate::tree::Tree;

    const WORKSPACE: &str = "[workspace.dependencies]\nx-core = { path = \"crates/core\" }\nx-node = { path = \"crates/node\" }\n";
    const PAGE: &str = "| crate | may import |\n|---|---|\n| `core` | nothing |\n| `node` | `core` |\n";
    const UP: &str = "[dependencies]\nx-node.workspace = true\n";
    const DOWN: &str = "[dependencies]\nx-core.workspace = true\n";
    const FREE: &str = "[dev-dependencies]\nx-node.workspace = true\n";

    fn found(page: &str, core: &str, node: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("ARCHITECTURE.md", page),
            ("Cargo.toml", WORKSPACE),
            ("crates/core/Cargo.toml", core),
            ("crates/node/Cargo.toml", node),
        ]);
        violations(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn imports_downwards_and_for_tests_pass() {
        assert_eq!(found(PAGE, FREE, DOWN), [""; 0]);
    }

    #[test]
    fn an_import_upwards_is_found() {
        let expected = "crates/core/Cargo.toml: imports `node`, which ARCHITECTURE.md does not allow `core`";
        assert_eq!(found(PAGE, UP, DOWN), [expected]);
    }

    #[test]
    fn a_missing_table_a_missing_row_and_a_row_of_no_crate_are_found() {
        assert_eq!(found("", "", "").len(), 1);
        assert_eq!(found(&PAGE.replace("`node`", "`gone`"), "", "").len(), 2);
    }
}
