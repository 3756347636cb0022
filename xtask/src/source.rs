//! Rust source without its comments and literals: identifiers and punctuation.

/// An identifier or one punctuation character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// Its text.
    pub(crate) text: &'a str,
    /// The line that it stands on, from 1.
    pub(crate) line_number: usize,
}

impl Token<'_> {
    /// Whether it is an identifier or a keyword.
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(starts_word)
    }
}

/// Cuts Rust source into its tokens. Comments, numbers, strings and character literals are left out.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut line_number = 1;
    while let Some(first) = rest.chars().next() {
        let (size, kept) = next(rest, first);
        if kept {
            tokens.push(Token { text: &rest[..size], line_number });
        }
        line_number += rest[..size].matches('\n').count();
        rest = &rest[size..];
    }
    tokens
}

/// The parts of an identifier, in lower case: `ShardStore` and `shard_store` are both `shard`, `store`.
pub(crate) fn parts(identifier: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut after_lower = false;
    for sign in identifier.chars() {
        let begins = !sign.is_alphabetic() || (sign.is_uppercase() && after_lower);
        if begins && parts.last().is_some_and(|part| !part.is_empty()) {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut().filter(|_| sign.is_alphabetic()) {
            part.extend(sign.to_lowercase());
        }
        after_lower = sign.is_lowercase();
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// The size of what stands at the start, and whether it is a token to keep.
fn next(rest: &str, first: char) -> (usize, bool) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (block_comment_size(rest), false);
    }
    if first == '"' {
        return (string_size(rest), false);
    }
    if first == '\'' {
        return (character_size(rest).unwrap_or(1), false);
    }
    if starts_word(first) {
        let size = word_size(rest);
        return prefixed_literal_size(rest, size).map_or((size, true), |literal| (literal, false));
    }
    if first.is_ascii_digit() {
        return (word_size(rest), false);
    }
    (first.len_utf8(), !first.is_whitespace())
}

fn starts_word(sign: char) -> bool {
    sign == '_' || sign.is_alphabetic()
}

fn word_size(rest: &str) -> usize {
    rest.find(|sign: char| sign != '_' && !sign.is_alphanumeric()).unwrap_or(rest.len())
}

fn block_comment_size(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The size of a quoted literal, from its opening quote to its closing one.
fn string_size(rest: &str) -> usize {
    let mut escaped = false;
    for (at, sign) in rest.char_indices().skip(1) {
        match sign {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The size of a character literal; `None` if the quote begins a lifetime.
fn character_size(rest: &str) -> Option<usize> {
    let mut signs = rest.char_indices().skip(1);
    let (_, first) = signs.next()?;
    if first == '\\' {
        let end = signs.skip(1).find(|(_, sign)| *sign == '\'');
        return Some(end.map_or(rest.len(), |(at, _)| at + 1));
    }
    signs.next().filter(|(_, sign)| *sign == '\'').map(|(at, _)| at + 1)
}

/// The size of a literal that begins with this word, such as `b"…"` or `r#"…"#`; `None` if it begins none.
fn prefixed_literal_size(rest: &str, word: usize) -> Option<usize> {
    let (prefix, after) = rest.split_at(word);
    match prefix {
        "b" if after.starts_with('\'') => character_size(after).map(|size| word + size),
        "b" | "c" if after.starts_with('"') => Some(word + string_size(after)),
        "r" | "br" | "cr" => {
            let fence = after.len() - after.trim_start_matches('#').len();
            let body = after[fence..].strip_prefix('"')?;
            let close = format!("\"{}", "#".repeat(fence));
            let size = body.find(&close).map_or(body.len(), |at| at + close.len());
            Some(word + fence + 1 + size)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Token, parts, tokens};

    fn words(text: &str) -> Vec<&str> {
        tokens(text).into_iter().filter(Token::is_word).map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_literals_are_no_words() {
        let text = r###"
            // one /* two
            /* three /* four */ five */
            let x = "six \" seven"; let y = r#"eight " nine"#; let z = b"ten";
            let c = 'e'; let q = '\''; let u = '\u{e9}'; let b = b'f'; let n = 0xabc_u64;
            fn f<'life>(r#type: &'life str) {}
        "###;
        let expected = [
            "let", "x", "let", "y", "let", "z", "let", "c", "let", "q", "let", "u", "let", "b", "let", "n",
            "fn", "f", "life", "r", "type", "life", "str",
        ];
        assert_eq!(words(text), expected);
    }

    #[test]
    fn what_never_closes_ends_with_the_file() {
        for text in ["/* a", "\"a", "r#\"a\"", "'\\", "b\"a"] {
            assert_eq!(words(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_token_knows_its_line() {
        let found = tokens("a\n/* \n */ b \"\n\" c");
        let lines: Vec<usize> = found.iter().map(|token| token.line_number).collect();
        assert_eq!(lines, [1, 3, 4]);
    }

    #[test]
    fn an_identifier_falls_into_its_words() {
        assert_eq!(parts("ShardStore2"), ["shard", "store"]);
        assert_eq!(parts("shard_store"), ["shard", "store"]);
        assert_eq!(parts("SHARD_SIZE_MAX"), ["shard", "size", "max"]);
        assert_eq!(parts("__x"), ["x"]);
        assert_eq!(parts("_"), [""; 0]);
    }
}
