//! Fixtures: text files beside the crate, compared and never written unless told.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

/// Set to anything, it makes the tests write the fixtures instead of comparing them.
const WRITE: &str = "DATAMESH_WRITE_FIXTURES";
const BYTES_PER_LINE: usize = 48;

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fixtures", name].iter().collect()
}

/// Compares a text with its fixture.
#[track_caller]
pub(crate) fn check_text(name: &str, text: &str) {
    if std::env::var_os(WRITE).is_some() {
        fs::write(path(name), text).expect("the fixture is written");
    }
    let fixture = fs::read_to_string(path(name)).expect("there is a fixture");
    assert_eq!(text, fixture, "the format has drifted from fixtures/{name}");
}

/// Compares bytes with their fixture.
#[track_caller]
pub(crate) fn check(name: &str, bytes: &[u8]) {
    let lines = bytes.chunks(BYTES_PER_LINE).map(|line| hex(line) + "\n");
    check_text(&format!("{name}.hex"), &lines.collect::<String>());
}

/// The bytes of a fixture as they are on disk.
pub(crate) fn read(name: &str) -> Vec<u8> {
    let text = fs::read_to_string(path(&format!("{name}.hex"))).expect("there is a fixture");
    let digits: Vec<char> = text.chars().filter(|character| !character.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hexadecimal");
    digits.chunks(2).map(byte).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text takes any text");
        text
    })
}

/// Bytes that follow from a number, as entropy for fixtures.
pub(crate) fn entropy(number: u64) -> impl FnMut(&mut [u8]) {
    let mut stream = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
    move |buffer| stream.fill(buffer)
}
