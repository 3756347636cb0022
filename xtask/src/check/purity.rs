//! The pure crates: their sources name no clock, file, socket, thread, environment, entropy or `async`.

use super::Violation;
use crate::source::{Token, tokens};
use crate::tree::Tree;

/// The crates whose functions get time and entropy as arguments.
const PURE_CRATES: [&str; 2] = ["crates/core/src/", "crates/codec/src/"];

/// Modules of the standard library that touch the world.
const WORLDLY_MODULES: [&str; 6] = ["env", "fs", "net", "os", "process", "thread"];

/// Names that touch the world wherever they come from.
const WORLDLY_NAMES: [&str; 9] =
    ["async", "await", "tokio", "Instant", "SystemTime", "SystemRandom", "OsRng", "getrandom", "thread_rng"];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let pure = tree.sources().filter(|(path, _)| PURE_CRATES.iter().any(|folder| path.starts_with(folder)));
    pure.flat_map(|(path, text)| impurities(path, text)).collect()
}

fn impurities(path: &str, text: &str) -> Vec<Violation> {
    let tokens = tokens(text);
    let names = tokens.iter().filter(|token| WORLDLY_NAMES.contains(&token.text)).map(|token| (token, ""));
    let modules =
        (0..tokens.len()).flat_map(|at| standard_modules(&tokens[at..])).map(|token| (token, "std::"));
    names
        .chain(modules)
        .map(|(token, prefix)| {
            let place = format!("{path}:{}", token.line_number);
            Violation::new(place, format!("names `{prefix}{}` in a pure crate", token.text))
        })
        .collect()
}

/// The worldly modules that a path names if it starts here: `std::fs`, or each of `std::{fs, io}`.
fn standard_modules<'a, 'b>(tokens: &'b [Token<'a>]) -> Vec<&'b Token<'a>> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    if !(text(0) == "std" && text(1) == ":" && text(2) == ":") {
        return Vec::new();
    }
    let mut named: Vec<&Token<'_>> = Vec::new();
    if text(3) != "{" {
        named.extend(tokens.get(3));
    }
    let mut depth = 0_usize;
    for at in 3..tokens.len() {
        depth = match text(at) {
            "{" => depth + 1,
            "}" => depth.saturating_sub(1),
            _ => depth,
        };
        let begins = depth == 1 && matches!(text(at), "{" | ",");
        named.extend(tokens.get(at + 1).filter(|_| begins));
        if depth == 0 {
            break;
        }
    }
    named.retain(|token| WORLDLY_MODULES.contains(&token.text));
    named
}

#[cfg(test)]
mod tests {
    use super::violations;
    use crate::tree::Tree;

    fn found(path: &str, text: &str) -> Vec<String> {
        violations(&Tree::of(&[(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_touches_the_world_is_found_however_it_is_written() {
        for text in [
            "async fn f() {}",
            "let now = Instant::now();",
            "use std::time::SystemTime;",
            "use std::fs;",
            "use std::{\n  io,\n  fs::File,\n};",
            "let a = std :: env :: var(\"A\");",
            "::std::thread::spawn(f)",
            "use std::collections::BTreeMap; use std::net::TcpStream;",
            "use ring::rand::SystemRandom;",
        ] {
            assert_eq!(found("crates/codec/src/a.rs", text).len(), 1, "{text}");
        }
        let twice = "use std::{env, fs};";
        assert_eq!(
            found("crates/core/src/a.rs", twice),
            [
                "crates/core/src/a.rs:1: names `std::env` in a pure crate",
                "crates/core/src/a.rs:1: names `std::fs` in a pure crate",
            ]
        );
    }

    #[test]
    fn pure_code_comments_and_other_crates_pass() {
        let pure = "//! No std::fs here.\nuse std::collections::BTreeMap; use std::io; let fs = \"std::fs\"; let net = a::net;";
        assert_eq!(found("crates/core/src/a.rs", pure), [""; 0]);
        assert_eq!(found("crates/store/src/a.rs", "use std::fs;"), [""; 0]);
        assert_eq!(found("crates/core/tests/a.rs", "use std::fs;"), [""; 0]);
    }
}
