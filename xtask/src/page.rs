//! Reads tables, fenced blocks and links out of Markdown, and replaces what stands between two marks.

const FENCE: &str = "```";

/// A table under its nearest heading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// The heading's text, without its number signs.
    pub(crate) heading: String,
    /// The cells of the head row.
    pub(crate) head: Vec<String>,
    /// The cells of each row below it.
    pub(crate) rows: Vec<Vec<String>>,
}

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block<'a> {
    /// The word after the opening fence.
    pub(crate) language: &'a str,
    /// The line of the opening fence, from 1.
    pub(crate) line_number: usize,
    /// What stands between the fences.
    pub(crate) lines: Vec<&'a str>,
}

/// Every table of a page, in order.
pub(crate) fn tables(text: &str) -> Vec<Table> {
    let mut heading = String::new();
    let mut tables: Vec<Table> = Vec::new();
    let mut inside = false;
    for (_, line) in prose(text) {
        let row = cells(line);
        if let Some(title) = line.strip_prefix('#') {
            title.trim_start_matches('#').trim().clone_into(&mut heading);
        }
        match row {
            None => inside = false,
            Some(head) if !inside => {
                tables.push(Table { heading: heading.clone(), head, rows: Vec::new() });
                inside = true;
            }
            Some(row) => {
                let ruler = row.iter().all(|cell| cell.chars().all(|sign| matches!(sign, '-' | ':' | ' ')));
                let table = tables.last_mut().filter(|_| !ruler);
                table.into_iter().for_each(|table| table.rows.push(row.clone()));
            }
        }
    }
    tables
}

/// The table with this first head cell, if the page has one.
pub(crate) fn table(text: &str, first_head: &str) -> Option<Table> {
    tables(text).into_iter().find(|table| table.head.first().is_some_and(|head| head == first_head))
}

/// Every fenced block of a page, in order.
pub(crate) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for (index, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix(FENCE), open.take()) {
            (Some(language), None) => {
                open = Some(Block { language: language.trim(), line_number: index + 1, lines: Vec::new() });
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.lines.push(line);
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    blocks.extend(open);
    blocks
}

/// The targets of a page's inline links, each with its line, from 1.
pub(crate) fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    for (line_number, line) in prose(text) {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        links.extend(targets.map(|target| (line_number, target)));
    }
    links
}

/// A page with what stands between its marks replaced; `None` where it lacks one of them.
pub(crate) fn replaced(page: &str, [begin, end]: [&str; 2], section: &str) -> Option<String> {
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n\n{section}\n{end}{after}"))
}

/// The text between the first pair of backticks.
pub(crate) fn code_span(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

/// The lines outside fenced blocks, each with its number, from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with(FENCE);
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

fn cells(line: &str) -> Option<Vec<String>> {
    const ESCAPED_BAR: &str = "\\|";
    const STAND_IN: &str = "\u{0}";
    let inner = line.trim().strip_prefix('|')?.replace(ESCAPED_BAR, STAND_IN);
    let inner = inner.strip_suffix('|').unwrap_or(&inner);
    Some(inner.split('|').map(|cell| cell.replace(STAND_IN, "|").trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::{blocks, code_span, links, replaced, table, tables};

    const PAGE: &str = "# Top\n\n| word | never say |\n|---|---|\n| a \\| b | c |\n| d | |\n\n## Next\n\n```sh\n| no | table |\n[no](link)\n```\n\n| x |\n|---|\nsee [there](docs/a.md) and [here](b.md#c).\n";

    #[test]
    fn a_table_has_the_heading_above_it_and_its_escaped_bars() {
        let found = tables(PAGE);
        assert_eq!(found.len(), 2, "the fenced one is no table");
        assert_eq!(found[0].heading, "Top");
        assert_eq!(found[0].rows, [["a | b", "c"], ["d", ""]]);
        assert_eq!(found[1].heading, "Next");
        assert!(table(PAGE, "word").is_some() && table(PAGE, "no").is_none());
    }

    #[test]
    fn a_block_has_its_language_and_lines() {
        let found = blocks(PAGE);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].language, found[0].line_number), ("sh", 10));
        assert_eq!(found[0].lines, ["| no | table |", "[no](link)"]);
    }

    #[test]
    fn a_block_that_is_never_closed_is_not_lost() {
        assert_eq!(blocks("```text\na").len(), 1);
    }

    #[test]
    fn links_are_found_outside_blocks() {
        let targets: Vec<&str> = links(PAGE).into_iter().map(|(_, target)| target).collect();
        assert_eq!(targets, ["docs/a.md", "b.md#c"]);
    }

    #[test]
    fn a_code_span_is_what_stands_between_backticks() {
        assert_eq!(code_span("the `core` crate"), Some("core"));
        assert_eq!(code_span("nothing"), None);
    }

    const MARKS: [&str; 2] = ["BEGIN", "END"];

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let page = "before\nBEGIN\nold\nEND\nafter\n";
        let new = replaced(page, MARKS, "new\n").expect("it has the marks");
        assert_eq!(new, "before\nBEGIN\n\nnew\n\nEND\nafter\n");
        assert_eq!(replaced(&new, MARKS, "new\n").as_deref(), Some(new.as_str()));
        assert_eq!(replaced("no marks", MARKS, "new"), None);
    }
}
