//! Crate files: each inherits version, edition, licence and lints from the workspace.

use super::Violation;
use crate::tree::Tree;

const INHERITED: [&str; 6] = [
    "version.workspace = true",
    "edition.workspace = true",
    "rust-version.workspace = true",
    "license.workspace = true",
    "publish.workspace = true",
    "[lints]\nworkspace = true",
];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for one in tree.crates() {
        let lines = format!("\n{}\n", one.file);
        for wanted in INHERITED.iter().filter(|wanted| !lines.contains(&format!("\n{wanted}\n"))) {
            let what = format!("lacks `{}`", wanted.replace('\n', " "));
            found.push(Violation::new(format!("{}/Cargo.toml", one.folder), what));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{INHERITED, violations};
    use crate::tree::Tree;

    fn found(lines: &[&str]) -> Vec<String> {
        let file = format!("[package]\n{}\n", lines.join("\n"));
        violations(&Tree::of(&[("crates/core/Cargo.toml", &file)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_crate_that_inherits_all_passes() {
        assert_eq!(found(&INHERITED), [""; 0]);
    }

    #[test]
    fn each_line_that_is_left_out_is_found() {
        for left_out in INHERITED {
            let lines: Vec<&str> = INHERITED.into_iter().filter(|line| *line != left_out).collect();
            assert_eq!(found(&lines).len(), 1, "{left_out}");
        }
    }
}
