//! Clocks that are wrong.

use std::fs;

/// What starts a program whose clock is off by so much; only the clock of the day, not the one that durations are measured by.
pub(crate) fn clock_off(by: &str) -> Vec<String> {
    let folders =
        fs::read_dir("/usr/lib").expect("Linux has it").map(|entry| entry.expect("an entry").path());
    // Debian has it in a folder for each kind of machine.
    let library =
        folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists());
    let library = library.expect("Debian's package `faketime` is there");
    let off = [
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME={by}"),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    ["/usr/bin/env".to_owned()].into_iter().chain(off).collect()
}
