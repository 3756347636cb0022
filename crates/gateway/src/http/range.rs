//! Ranges and conditions of requests (RFC 9110, 13 and 14), as far as one range goes.

use std::ops::Range;

use axum::http::HeaderMap;
use axum::http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use datamesh_core::time::Timestamp;
use s3s::dto::{self, TimestampFormat};

use crate::http::text::LAST_MS;
use crate::s3::text::second_of;

/// What a request wants of a representation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that it has not.
    Beyond,
    /// Nothing, since the client has it already.
    Unchanged,
    /// Nothing, since it is not the one that was meant.
    Other,
}

/// Finds out what is wanted of a representation with this tag, without its quotes, of this size, that was modified then.
pub(super) fn wanted(headers: &HeaderMap, etag: &str, size: u64, modified: Timestamp) -> Wanted {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // What is no date is passed over, as the RFC has it.
    let since =
        |name| text(name).and_then(|date| dto::Timestamp::parse(TimestampFormat::HttpDate, date).ok());
    // Behind the last year that dates have is no instant to compare with.
    let modified = second_of(Timestamp::from_ms(modified.as_ms().min(LAST_MS)));
    // Tags count before instants.
    let other = match text(IF_MATCH) {
        Some(tags) => !strong_match(tags, etag),
        None => since(IF_UNMODIFIED_SINCE).is_some_and(|since| modified > since),
    };
    if other {
        return Wanted::Other;
    }
    let unchanged = match text(IF_NONE_MATCH) {
        Some(tags) => weak_match(tags, etag),
        None => since(IF_MODIFIED_SINCE).is_some_and(|since| modified <= since),
    };
    if unchanged {
        return Wanted::Unchanged;
    }
    if text(IF_RANGE).is_some_and(|tag| tag.trim() != format!("\"{etag}\"")) {
        return Wanted::Whole;
    }
    text(RANGE).map_or(Wanted::Whole, |range| part(range, size))
}

/// Whether one of these tags is this one, however weak it is.
pub(super) fn weak_match(tags: &str, etag: &str) -> bool {
    let quoted = format!("\"{etag}\"");
    let same = |tag: &str| tag.trim().trim_start_matches("W/") == quoted;
    tags.trim() == "*" || tags.split(',').any(same)
}

fn strong_match(tags: &str, etag: &str) -> bool {
    let quoted = format!("\"{etag}\"");
    tags.trim() == "*" || tags.split(',').any(|tag| tag.trim() == quoted)
}

/// The one range that is asked for. What is malformed or more than one is passed over, as the RFC has it.
fn part(range: &str, size: u64) -> Wanted {
    let Some(spec) = range.trim().strip_prefix("bytes=").map(str::trim) else { return Wanted::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Wanted::Whole };
    let number = |text: &str| {
        let text = text.trim();
        // Longer numbers are beyond every object, and no reason to pass the range over.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (None, Some(0)) if first.trim().is_empty() => Wanted::Beyond,
        (None, Some(_)) if first.trim().is_empty() && size == 0 => Wanted::Beyond,
        (None, Some(count)) if first.trim().is_empty() => Wanted::Part(size.saturating_sub(count)..size),
        (Some(first), None) if last.trim().is_empty() => from(first, size, size),
        (Some(first), Some(last)) if first <= last => from(first, last.saturating_add(1), size),
        _ => Wanted::Whole,
    }
}

fn from(first: u64, end: u64, size: u64) -> Wanted {
    if first >= size { Wanted::Beyond } else { Wanted::Part(first..end.min(size)) }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};
    use datamesh_core::time::Timestamp;

    use super::{Wanted, wanted};

    fn ask(pairs: &[(&'static str, &'static str)], size: u64) -> Wanted {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers: HeaderMap = pairs.iter().map(header).collect();
        // 784,111,777 s after 1970 is Sun, 06 Nov 1994 08:49:37 GMT.
        wanted(&headers, "tag", size, Timestamp::from_ms(784_111_777_900))
    }

    #[test]
    fn ranges_are_read_as_the_rfc_has_them() {
        for (range, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-", Wanted::Part(2..10)),
            ("bytes=2-99999999999999999999999", Wanted::Part(2..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=10-", Wanted::Beyond),
            ("bytes=99999999999999999999999-", Wanted::Beyond),
            ("bytes=3-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
        ] {
            assert_eq!(ask(&[("range", range)], 10), expected, "{range}");
        }
        assert_eq!(ask(&[("range", "bytes=-1")], 0), Wanted::Beyond);
        assert_eq!(ask(&[("range", "bytes=0-")], 0), Wanted::Beyond);
    }

    #[test]
    fn conditions_come_before_ranges() {
        let range = ("range", "bytes=0-1");
        assert_eq!(ask(&[range, ("if-none-match", "\"other\", W/\"tag\"")], 10), Wanted::Unchanged);
        assert_eq!(ask(&[range, ("if-none-match", "\"other\"")], 10), Wanted::Part(0..2));
        assert_eq!(ask(&[range, ("if-match", "W/\"tag\"")], 10), Wanted::Other, "weak tags match nothing");
        assert_eq!(ask(&[range, ("if-match", "*")], 10), Wanted::Part(0..2));
        assert_eq!(ask(&[range, ("if-range", "\"old\"")], 10), Wanted::Whole);
        assert_eq!(ask(&[range, ("if-range", "\"tag\"")], 10), Wanted::Part(0..2));
    }

    #[test]
    fn instants_are_conditions_to_the_second_and_count_behind_tags() {
        let (same, before) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:36 GMT");
        assert_eq!(ask(&[("if-modified-since", same)], 10), Wanted::Unchanged);
        assert_eq!(ask(&[("if-modified-since", before)], 10), Wanted::Whole);
        assert_eq!(ask(&[("if-modified-since", "yesterday")], 10), Wanted::Whole);
        assert_eq!(ask(&[("if-modified-since", same), ("if-none-match", "\"old\"")], 10), Wanted::Whole);
        assert_eq!(ask(&[("if-unmodified-since", same)], 10), Wanted::Whole);
        assert_eq!(ask(&[("if-unmodified-since", before)], 10), Wanted::Other);
        assert_eq!(ask(&[("if-unmodified-since", before), ("if-match", "\"tag\"")], 10), Wanted::Whole);
    }
}
