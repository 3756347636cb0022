//! Pages: links lead to files that are there, and the README's blocks are commands that tests run or their output.

use super::Violation;
use crate::page::{blocks, links};
use crate::tree::Tree;

const README: &str = "README.md";
const COMMANDS: &str = "sh";
const OUTPUT: &str = "text";
const PROGRAMS: [&str; 2] = ["cargo", "datamesh"];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut found = dead_links(tree);
    let readme = tree.text(README);
    if !blocks(readme).iter().any(|block| block.language == COMMANDS) {
        found.push(Violation::new(README, format!("has no `{COMMANDS}` block")));
    }
    for block in blocks(readme) {
        let place = format!("{README}:{}", block.line_number);
        match block.language {
            OUTPUT => {}
            COMMANDS => found.extend(block.lines.iter().filter_map(|line| strange_command(&place, line))),
            other => found
                .push(Violation::new(place, format!("block of `{other}`, not `{COMMANDS}` or `{OUTPUT}`"))),
        }
    }
    found
}

fn strange_command(place: &str, line: &str) -> Option<Violation> {
    let program = line.split_whitespace().next().unwrap_or_default();
    (!PROGRAMS.contains(&program))
        .then(|| Violation::new(place, format!("`{line}` is no `cargo` or `datamesh` command")))
}

fn dead_links(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (page, text) in tree.pages() {
        let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (line_number, target) in links(text) {
            let file = target.split('#').next().unwrap_or_default();
            let outside = target.contains("://") || target.starts_with("mailto:") || file.is_empty();
            if !outside && !tree.has(&resolve(folder, file)) {
                found.push(Violation::new(
                    format!("{page}:{line_number}"),
                    format!("`{target}` leads nowhere"),
                ));
            }
        }
    }
    found
}

/// A relative link as a path from the root.
fn resolve(folder: &str, target: &str) -> String {
    let mut path: Vec<&str> = folder.split('/').filter(|name| !name.is_empty()).collect();
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(path.pop()),
            name => path.push(name),
        }
    }
    path.join("/")
}

#[cfg(test)]
mod tests {
    use super::violations;
    use crate::tree::Tree;

    const GOOD: &str = "[a](docs/a.md#x) [b](https://example.org) [c](#c)\n```sh\ncargo xtask test\ndatamesh list\n```\n```text\nok\n```\n";

    fn found(readme: &str, page: &str) -> Vec<String> {
        let tree = Tree::of(&[("README.md", readme), ("docs/a.md", page), ("LICENSE-MIT", "")]);
        violations(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn true_links_and_known_blocks_pass() {
        assert_eq!(found(GOOD, "[up](../README.md), [licence](../LICENSE-MIT), [folder](../docs/)"), [""; 0]);
    }

    #[test]
    fn a_dead_link_is_found() {
        assert_eq!(found(GOOD, "\n[gone](b.md)"), ["docs/a.md:2: `b.md` leads nowhere"]);
    }

    #[test]
    fn a_block_of_another_language_and_an_unknown_program_are_found() {
        assert_eq!(found(&GOOD.replace("```text", "```console"), "").len(), 1);
        assert_eq!(found(&GOOD.replace("datamesh list", "curl x"), "").len(), 1);
        assert_eq!(found(&GOOD.replace("datamesh list", "# what follows"), "").len(), 1);
        assert_eq!(found("no blocks", "").len(), 1);
    }
}
