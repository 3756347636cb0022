//! Dependencies: each of the workspace has a row in DEPENDENCIES.md and a crate that uses it, and each row is one.

use std::collections::BTreeSet;

use super::Violation;
use crate::crate_file::{dependencies, workspace_dependencies};
use crate::page::{code_span, tables};
use crate::tree::Tree;

const PAGE: &str = "DEPENDENCIES.md";
const COLUMNS: usize = 5;

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let foreign: BTreeSet<String> = workspace_dependencies(tree.text("Cargo.toml"))
        .into_iter()
        .filter(|dependency| dependency.path().is_none())
        .map(|dependency| dependency.name)
        .collect();
    let used: BTreeSet<String> =
        tree.crates().flat_map(|one| dependencies(one.file)).map(|dependency| dependency.name).collect();
    let rows: Vec<Vec<String>> = tables(tree.text(PAGE))
        .into_iter()
        .filter(|table| table.head.first().is_some_and(|head| head == "dependency"))
        .flat_map(|table| table.rows)
        .collect();
    let named: BTreeSet<&str> = rows.iter().filter_map(|row| code_span(row.first()?)).collect();

    let lacking = foreign.iter().filter(|name| !named.contains(name.as_str()));
    found.extend(lacking.map(|name| Violation::new(PAGE, format!("has no row for `{name}`"))));
    let surplus = named.iter().filter(|name| !foreign.contains(**name));
    found.extend(
        surplus.map(|name| Violation::new(PAGE, format!("`{name}` is no dependency of the workspace"))),
    );
    let unused = foreign.difference(&used);
    found.extend(unused.map(|name| Violation::new("Cargo.toml", format!("no crate uses `{name}`"))));
    let unknown =
        tree.crates().flat_map(|one| dependencies(one.file).into_iter().map(move |each| (one, each)));
    let undeclared = unknown.filter(|(_, each)| !each.inherited());
    found.extend(undeclared.map(|(one, each)| {
        let place = format!("{}/Cargo.toml", one.folder);
        Violation::new(place, format!("`{}` does not inherit its version from the workspace", each.name))
    }));
    let hollow = rows.iter().filter(|row| row.len() != COLUMNS || row.iter().any(String::is_empty));
    found.extend(
        hollow.map(|row| Violation::new(PAGE, format!("row {} has an empty or a missing cell", row[0]))),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::violations;
    use crate::tree::Tree;

    const PAGE: &str = "| dependency | what for | why this one | licence | brings |\n|---|---|---|---|---|\n| `bytes` | a | b | MIT | 0 |\n";
    const WORKSPACE: &str = "[workspace.dependencies]\nbytes = \"1\"\nx-core = { path = \"crates/core\" }\n";
    const USER: &str = "[dependencies]\nbytes.workspace = true\n";

    fn found(page: &str, workspace: &str, user: &str) -> Vec<String> {
        let files = [("DEPENDENCIES.md", page), ("Cargo.toml", workspace), ("crates/core/Cargo.toml", user)];
        violations(&Tree::of(&files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_dependency_with_a_row_and_a_user_passes() {
        assert_eq!(found(PAGE, WORKSPACE, USER), [""; 0]);
    }

    #[test]
    fn a_dependency_without_a_row_is_found() {
        let workspace = format!("{WORKSPACE}serde = \"1\"\n");
        let user = format!("{USER}serde.workspace = true\n");
        assert_eq!(found(PAGE, &workspace, &user), ["DEPENDENCIES.md: has no row for `serde`"]);
    }

    #[test]
    fn a_row_of_no_dependency_is_found() {
        let page = format!("{PAGE}| `gone` | a | b | MIT | 0 |\n");
        assert_eq!(
            found(&page, WORKSPACE, USER),
            ["DEPENDENCIES.md: `gone` is no dependency of the workspace"]
        );
    }

    #[test]
    fn a_dependency_that_no_crate_uses_is_found() {
        assert_eq!(found(PAGE, WORKSPACE, ""), ["Cargo.toml: no crate uses `bytes`"]);
    }

    #[test]
    fn a_version_in_a_crate_is_found() {
        let user = "[dependencies]\nbytes = \"1\"\n";
        let expected = "crates/core/Cargo.toml: `bytes` does not inherit its version from the workspace";
        assert_eq!(found(PAGE, WORKSPACE, user), [expected]);
    }

    #[test]
    fn an_empty_cell_is_found() {
        let page = PAGE.replace("| MIT |", "| |");
        assert_eq!(
            found(&page, WORKSPACE, USER),
            ["DEPENDENCIES.md: row `bytes` has an empty or a missing cell"]
        );
    }
}
