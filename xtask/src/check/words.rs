//! One word per thing: no identifier uses a word that the glossary says never to say.

use std::collections::BTreeSet;

use super::Violation;
use crate::page::tables;
use crate::source::{Token, parts, tokens};
use crate::tree::Tree;

const PAGE: &str = "GLOSSARY.md";

/// Identifiers that may have such a word, and why.
const EXCEPTIONS: [(&str, &str); 2] =
    [("hyper_util", "the crate's own name"), ("tokio_util", "the crate's own name")];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let never = never_said(tree.text(PAGE));
    if never.is_empty() {
        return vec![Violation::new(PAGE, "has no table with the head `word` and a column `never say`")];
    }
    find(tree, &never, &EXCEPTIONS)
}

fn find(tree: &Tree, never: &BTreeSet<String>, exceptions: &[(&str, &str)]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    for (path, text) in tree.sources() {
        for token in tokens(text).iter().filter(|token| token.is_word()) {
            let Some(word) = said(token, never) else { continue };
            if exceptions.iter().any(|(identifier, _)| *identifier == token.text) {
                used.insert(token.text);
                continue;
            }
            let place = format!("{path}:{}", token.line_number);
            found.push(Violation::new(place, format!("`{}` says `{word}`: see {PAGE}", token.text)));
        }
    }
    let stale = exceptions.iter().filter(|(identifier, _)| !used.contains(identifier));
    found.extend(stale.map(|(identifier, _)| {
        Violation::new("xtask/src/check/words.rs", format!("nothing needs the exception for `{identifier}`"))
    }));
    found
}

/// The never-say word that an identifier has as one of its parts, in the singular or the plural.
fn said(token: &Token<'_>, never: &BTreeSet<String>) -> Option<String> {
    parts(token.text).into_iter().find(|part| {
        let singular = part.strip_suffix('s').unwrap_or(part);
        never.contains(part) || never.contains(singular)
    })
}

/// The words of the column `never say`. One with a remark in brackets is for readers alone.
fn never_said(page: &str) -> BTreeSet<String> {
    let mut cells = Vec::new();
    for table in
        tables(page).into_iter().filter(|table| table.head.first().is_some_and(|head| head == "word"))
    {
        let column = table.head.iter().position(|head| head == "never say");
        cells.extend(table.rows.into_iter().filter_map(|row| row.get(column?).cloned()));
    }
    let words = cells.iter().flat_map(|cell| cell.split(',')).map(str::trim);
    words.filter(|word| !word.is_empty() && !word.contains('(')).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::{find, never_said};
    use crate::tree::Tree;

    const PAGE: &str = "| word | meaning | never say |\n|---|---|---|\n| shard | a part | sliver, piece |\n| lease | a promise | contract (of a lease) |\n\n## More\n\n| word | meaning | never say |\n|---|---|---|\n| repair | a verb | heal |\n";

    fn found(text: &str, exceptions: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::of(&[("crates/core/src/a.rs", text)]);
        find(&tree, &never_said(PAGE), exceptions).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_word_is_found_in_every_case_and_number() {
        for text in [
            "fn sliver() {}",
            "struct SliverSet;",
            "const PIECES_MAX: u8 = 1;",
            "let my_piece = 1;",
            "fn self_heal() {}",
        ] {
            assert_eq!(found(text, &[]).len(), 1, "{text}");
        }
        assert_eq!(
            found("\nlet a_sliver;", &[]),
            ["crates/core/src/a.rs:2: `a_sliver` says `sliver`: see GLOSSARY.md"]
        );
    }

    #[test]
    fn other_words_comments_and_strings_pass() {
        assert_eq!(
            found("// a piece\nlet masterpiece = \"piece\"; fn contract(shard: Shard) {}", &[]),
            [""; 0]
        );
    }

    #[test]
    fn an_exception_holds_for_its_identifier_and_must_be_needed() {
        assert_eq!(found("piece_length(); sliver();", &[("piece_length", "their API")]).len(), 1);
        assert_eq!(found("shard();", &[("piece_length", "their API")]).len(), 1, "a stale exception");
    }
}
