//! Texts as JSON and headers have them: instants, file names, hexadecimal digits.

use datamesh_core::time::Timestamp;

use crate::escape::escaped;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;
/// Characters of URLs that mean nothing else (RFC 3986, section 2.3), beside letters and digits.
const UNRESERVED: &[u8] = b"-._~";
/// The last instant that this form has: the end of the year 9999.
pub(super) const LAST_MS: u64 = 253_402_300_799_000;

/// Days and times of the civil calendar, UTC.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    weekday: u64,
    second: u64,
}

impl Civil {
    /// By the algorithm of Howard Hinnant's `civil_from_days`, for days from 1970 on.
    fn of(instant: Timestamp) -> Self {
        let ms = instant.as_ms().min(LAST_MS);
        let (days, second) = (ms / DAY_MS, ms % DAY_MS / 1000);
        let shifted = days + 719_468;
        let (cycle, of_cycle) = (shifted / 146_097, shifted % 146_097);
        let year_of_cycle = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
        let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_cycle + cycle * 400 + u64::from(month <= 2);
        Self {
            year,
            month,
            day: of_year - (153 * shifted_month + 2) / 5 + 1,
            weekday: (days + 4) % 7,
            second,
        }
    }

    fn clock(&self) -> String {
        let Self { second, .. } = self;
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
    }
}

/// An instant as RFC 3339 has it.
pub(super) fn instant(instant: Timestamp) -> String {
    let civil = Civil::of(instant);
    let Civil { year, month, day, .. } = civil;
    format!("{year:04}-{month:02}-{day:02}T{}Z", civil.clock())
}

/// An instant as headers have it (RFC 9110, 5.6.7).
pub(super) fn http_date(instant: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let civil = Civil::of(instant);
    let named = |names: &[&'static str], index: u64| {
        usize::try_from(index).ok().and_then(|index| names.get(index).copied()).unwrap_or("")
    };
    let (day_name, month) = (named(&DAYS, civil.weekday), named(&MONTHS, civil.month - 1));
    format!("{day_name}, {:02} {month} {:04} {} GMT", civil.day, civil.year, civil.clock())
}

/// What has a browser save an answer under a name (RFC 6266), whatever the name is.
pub(super) fn disposition(name: &str) -> String {
    let base = name.rsplit('/').find(|part| !part.is_empty()).unwrap_or("object");
    let plain = |character: char| character.is_ascii_alphanumeric() || " .-_()+,=".contains(character);
    let ascii: String = base.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    if ascii == base {
        return format!("attachment; filename=\"{ascii}\"");
    }
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", escaped(base, UNRESERVED))
}

#[cfg(test)]
mod tests {
    use datamesh_core::time::Timestamp;

    use super::{disposition, http_date, instant};

    #[test]
    fn instants_are_utc_and_never_overflow() {
        assert_eq!(instant(Timestamp::from_ms(0)), "1970-01-01T00:00:00Z");
        assert_eq!(instant(Timestamp::from_ms(1_772_366_400_000)), "2026-03-01T12:00:00Z");
        assert_eq!(instant(Timestamp::from_ms(1_709_164_799_000)), "2024-02-28T23:59:59Z");
        assert_eq!(instant(Timestamp::from_ms(1_709_251_199_000)), "2024-02-29T23:59:59Z");
        assert_eq!(instant(Timestamp::from_ms(u64::MAX)), "9999-12-31T23:59:59Z");
        assert_eq!(http_date(Timestamp::from_ms(784_111_777_000)), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn no_name_breaks_out_of_its_header() {
        assert_eq!(disposition("a/b/plain file.txt"), "attachment; filename=\"plain file.txt\"");
        let odd = "attachment; filename=\"gr__e__.txt\"; filename*=UTF-8''gr%C3%B6%C3%9Fe%22%0A.txt";
        assert_eq!(disposition("größe\"\n.txt"), odd);
        assert_eq!(disposition("///"), "attachment; filename=\"object\"");
    }
}
