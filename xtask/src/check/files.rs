//! The shape of a file: it opens with one sentence and has 600 lines at most.

use super::Violation;
use crate::tree::Tree;

const LINES_MAX: usize = 600;

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in tree.sources() {
        let first = text.lines().next().unwrap_or_default();
        let sentence = first.strip_prefix("//! ").is_some_and(|sentence| sentence.ends_with(['.', '!', '?']));
        if !sentence {
            found.push(Violation::new(path, "does not open with `//!` and one whole sentence"));
        }
        let line_count = text.lines().count();
        if line_count > LINES_MAX {
            found.push(Violation::new(path, format!("has {line_count} lines, {LINES_MAX} at most")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{LINES_MAX, violations};
    use crate::tree::Tree;

    fn found(text: &str) -> usize {
        violations(&Tree::of(&[("crates/core/tests/a.rs", text)])).len()
    }

    #[test]
    fn a_file_that_opens_with_a_sentence_passes_up_to_its_last_line() {
        assert_eq!(found(&format!("//! A file.\n{}", "x\n".repeat(LINES_MAX - 1))), 0);
    }

    #[test]
    fn a_longer_file_is_found() {
        assert_eq!(found(&format!("//! A file.\n{}", "x\n".repeat(LINES_MAX))), 1);
    }

    #[test]
    fn a_file_without_its_sentence_is_found() {
        for text in
            ["", "use std;\n", "// A file.\n", "//!\n//! A file.\n", "//! A file, which goes\n//! on.\n"]
        {
            assert_eq!(found(text), 1, "{text:?}");
        }
    }
}
