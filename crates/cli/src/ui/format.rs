//! Sizes, times and counts as people read them.

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use datamesh_core::time::{Epoch, Timestamp};
use indicatif::{BinaryBytes, HumanCount};

/// A size: `1.40 GiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    BinaryBytes(bytes).to_string()
}

/// A rate: `1.40 GiB/s`. Unknown as long as no time has passed.
#[must_use]
pub fn rate(size: u64, time: Duration) -> String {
    let nanoseconds = time.as_nanos();
    let per_second = (u128::from(size) * 1_000_000_000).checked_div(nanoseconds);
    match per_second.and_then(|per_second| u64::try_from(per_second).ok()) {
        Some(per_second) => format!("{}/s", bytes(per_second)),
        None => "?/s".to_owned(),
    }
}

/// A number: `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// A share of a whole: `12.5 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A length of time in its two largest units: `350 ms`, `12.3 s`, `2 min 05 s`, `3 h 12 min`, `4 d 03 h`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        60..3_600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {:02} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// An instant in UTC, as in RFC 3339: `2026-03-01T12:00:00Z`. For people and for programs.
#[must_use]
pub fn instant(instant: Timestamp) -> String {
    // Beyond the year 9999 that form ends.
    let latest = Duration::from_secs(253_402_300_799);
    let since_1970 = Duration::from_millis(instant.as_ms()).min(latest);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_1970).to_string()
}

/// When an object need not be kept any more: an instant, or its deletion.
#[must_use]
pub fn kept_until(end: Epoch) -> String {
    end.begin().map_or_else(|| "it is deleted".to_owned(), instant)
}

/// A text that steers no terminal: control characters and what reverses the direction of writing are shown escaped.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let steers = |character: char| {
        let direction =
            matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        direction || (character.is_control() && character != '\n')
    };
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let shown = |character: char| {
        if steers(character) { character.escape_default().to_string() } else { character.to_string() }
    };
    Cow::Owned(text.chars().map(shown).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datamesh_core::time::Timestamp;

    use super::{bytes, count, duration, instant, percent, printable, rate};

    #[test]
    fn people_read_two_units_at_most() {
        let shown = |milliseconds| duration(Duration::from_millis(milliseconds));
        assert_eq!(shown(350), "350 ms");
        assert_eq!(shown(12_345), "12.3 s");
        assert_eq!(shown(125_000), "2 min 05 s");
        assert_eq!(shown(11_520_000), "3 h 12 min");
        assert_eq!(shown(356_400_000), "4 d 03 h");
        assert_eq!(bytes(1_610_612_736), "1.50 GiB");
        assert_eq!(rate(1_048_576, Duration::from_millis(500)), "2.00 MiB/s");
        assert_eq!(rate(1, Duration::ZERO), "?/s");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(percent(0.125), "12.5 %");
    }

    #[test]
    fn instants_are_utc_and_never_overflow() {
        assert_eq!(instant(Timestamp::from_ms(0)), "1970-01-01T00:00:00Z");
        assert_eq!(instant(Timestamp::from_ms(1_772_366_400_000)), "2026-03-01T12:00:00Z");
        assert_eq!(instant(Timestamp::from_ms(u64::MAX)), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn no_name_steers_the_terminal() {
        assert_eq!(printable("plain, größe, 大きさ"), "plain, größe, 大きさ");
        assert_eq!(printable("\u{1b}[2Jgone"), "\\u{1b}[2Jgone");
        assert_eq!(printable("a\u{202e}gpj.exe"), "a\\u{202e}gpj.exe");
        assert_eq!(printable("a\rb\nc"), "a\\rb\nc");
    }
}
