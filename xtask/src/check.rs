//! The checks that keep the pages true and the crates apart.

use core::fmt;

use crate::tree::Tree;

mod crates;
mod dependencies;
mod files;
mod imports;
mod modules;
mod pages;
mod purity;
mod words;

/// One thing that is not as the pages say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    place: String,
    what: String,
}

impl Violation {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.what)
    }
}

/// A check: its name, and what finds the violations.
type Check = (&'static str, fn(&Tree) -> Vec<Violation>);

/// Every check.
pub(crate) const CHECKS: [Check; 8] = [
    ("crates import downwards", imports::violations),
    ("modules are as the code map says", modules::violations),
    ("files open with a sentence and fit a sitting", files::violations),
    ("pure crates are pure", purity::violations),
    ("one word per thing", words::violations),
    ("each dependency has its row", dependencies::violations),
    ("crates inherit what the workspace lays down", crates::violations),
    ("pages lead where they say", pages::violations),
];

/// Runs every check and returns all that they found.
pub(crate) fn violations(tree: &Tree) -> Vec<Violation> {
    CHECKS.iter().flat_map(|(_, violations)| violations(tree)).collect()
}

#[cfg(test)]
mod tests {
    use super::{CHECKS, violations};
    use crate::repository;
    use crate::tree::Tree;

    #[test]
    fn the_repository_is_as_its_pages_say() {
        let tree = Tree::read(&repository()).expect("the repository can be read");
        assert!(tree.has("xtask/src/check.rs") && tree.has("crates/core"), "the repository was found");
        let found: Vec<String> = violations(&tree).iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
    }

    #[test]
    fn an_empty_repository_passes_no_check_that_needs_a_page() {
        let tree = Tree::of(&[("crates/core/Cargo.toml", "[dependencies]\nbytes = \"1\"")]);
        let silent: Vec<&str> =
            CHECKS.iter().filter(|(_, check)| check(&tree).is_empty()).map(|(name, _)| *name).collect();
        assert_eq!(silent, ["files open with a sentence and fit a sitting", "pure crates are pure"]);
    }
}
