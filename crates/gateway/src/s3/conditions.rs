//! Conditions of requests, and the ranges that they ask for.

use std::ops::Range;

use datamesh_core::time::Timestamp;
use datamesh_engine::buckets::PutCondition;
use hyper::header::HeaderValue;
use s3s::dto::{self, ETagCondition};
use s3s::{S3Error, S3Result, s3_error};

use crate::s3::errors::with_headers;
use crate::s3::text;

/// What must be so of a content for it to be read.
#[derive(Debug, Default)]
pub(crate) struct ReadConditions {
    pub(crate) matches: Option<ETagCondition>,
    pub(crate) none_matches: Option<ETagCondition>,
    pub(crate) modified_since: Option<dto::Timestamp>,
    pub(crate) unmodified_since: Option<dto::Timestamp>,
}

/// What conditions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    NotModified,
    Failed,
}

impl ReadConditions {
    /// As HTTP has it (RFC 9110, 13.2.2): tags count before instants.
    pub(crate) fn judge(&self, etag: &str, modified: Timestamp) -> Verdict {
        let modified = text::second_of(modified);
        let has = |condition: &ETagCondition| condition.as_etag().is_none_or(|wanted| wanted.value() == etag);
        let failed = match (&self.matches, &self.unmodified_since) {
            (Some(condition), _) => !has(condition),
            (None, Some(since)) => modified > *since,
            (None, None) => false,
        };
        if failed {
            return Verdict::Failed;
        }
        let known = match (&self.none_matches, &self.modified_since) {
            (Some(condition), _) => has(condition),
            (None, Some(since)) => modified <= *since,
            (None, None) => false,
        };
        if known { Verdict::NotModified } else { Verdict::Met }
    }

    /// For a get: what the client has already is not sent again.
    pub(crate) fn check(&self, etag: &str, modified: Timestamp) -> S3Result<()> {
        match self.judge(etag, modified) {
            Verdict::Met => Ok(()),
            Verdict::Failed => Err(s3_error!(PreconditionFailed)),
            Verdict::NotModified => Err(with_headers(
                s3_error!(NotModified),
                [
                    ("etag", value(&format!("\"{etag}\""))),
                    ("last-modified", value(&text::http_date(&text::timestamp(modified)))),
                ],
            )),
        }
    }

    /// For a copy.
    pub(crate) fn check_source(&self, etag: &str, modified: Timestamp) -> S3Result<()> {
        match self.judge(etag, modified) {
            Verdict::Met => Ok(()),
            Verdict::Failed | Verdict::NotModified => Err(s3_error!(PreconditionFailed)),
        }
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// The condition of a put.
///
/// # Errors
/// `NotImplemented` for the one that S3 hasn't either: another tag than a given one.
pub(crate) fn of_put(
    matches: Option<&ETagCondition>,
    none_matches: Option<&ETagCondition>,
) -> S3Result<PutCondition> {
    match (matches, none_matches) {
        (None, None) => Ok(PutCondition::None),
        (Some(ETagCondition::Any), None) => Ok(PutCondition::Present),
        (Some(ETagCondition::ETag(etag)), None) => Ok(PutCondition::Etag(etag.value().to_owned())),
        (None, Some(ETagCondition::Any)) => Ok(PutCondition::Absent),
        (_, Some(_)) => Err(s3_error!(NotImplemented, "of If-None-Match, only * is implemented here")),
    }
}

/// The bytes that a range names.
///
/// # Errors
/// `InvalidRange` where there are none.
pub(crate) fn bytes_of(range: dto::Range, size: u64) -> S3Result<Range<u64>> {
    let wanted = match range {
        dto::Range::Int { first, last } => first..last.map_or(size, |last| last.saturating_add(1).min(size)),
        dto::Range::Suffix { length } => size.saturating_sub(length)..size,
    };
    if wanted.is_empty() { Err(unsatisfiable(size)) } else { Ok(wanted) }
}

fn unsatisfiable(size: u64) -> S3Error {
    let error = s3_error!(InvalidRange, "The requested range is not satisfiable");
    with_headers(error, [("content-range", value(&format!("bytes */{size}")))])
}

/// The range of a source of which a part is made: `bytes=first-last`, both within it.
///
/// # Errors
/// `InvalidArgument` or `InvalidRange`.
pub(crate) fn source_bytes_of(range: &str, size: u64) -> S3Result<Range<u64>> {
    let malformed =
        || s3_error!(InvalidArgument, "the x-amz-copy-source-range value must be bytes=first-last");
    match dto::Range::parse(range) {
        Ok(dto::Range::Int { first, last: Some(last) }) if last < size => Ok(first..last + 1),
        Ok(dto::Range::Int { last: Some(_), .. }) => Err(unsatisfiable(size)),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use datamesh_core::time::Timestamp;
    use datamesh_engine::buckets::PutCondition;
    use s3s::dto::{self, ETag, ETagCondition};

    use super::{ReadConditions, Verdict, bytes_of, of_put, source_bytes_of};
    use crate::s3::text;

    fn tag(etag: &str) -> ETagCondition {
        ETagCondition::ETag(ETag::Strong(etag.to_owned()))
    }

    #[test]
    fn conditions_are_judged_as_http_has_them() {
        let modified = Timestamp::from_ms(10_500);
        let at = |seconds: u64| Some(text::timestamp(Timestamp::from_ms(seconds * 1000)));
        let judge = |conditions: ReadConditions| conditions.judge("a", modified);
        let none = ReadConditions::default;
        assert_eq!(judge(none()), Verdict::Met);
        assert_eq!(judge(ReadConditions { matches: Some(tag("a")), ..none() }), Verdict::Met);
        assert_eq!(judge(ReadConditions { matches: Some(ETagCondition::Any), ..none() }), Verdict::Met);
        assert_eq!(judge(ReadConditions { matches: Some(tag("b")), ..none() }), Verdict::Failed);
        assert_eq!(judge(ReadConditions { none_matches: Some(tag("a")), ..none() }), Verdict::NotModified);
        assert_eq!(judge(ReadConditions { none_matches: Some(tag("b")), ..none() }), Verdict::Met);
        // An answer's header has no more than seconds: who sends it back has what it had.
        assert_eq!(judge(ReadConditions { modified_since: at(10), ..none() }), Verdict::NotModified);
        assert_eq!(judge(ReadConditions { modified_since: at(9), ..none() }), Verdict::Met);
        assert_eq!(judge(ReadConditions { unmodified_since: at(10), ..none() }), Verdict::Met);
        assert_eq!(judge(ReadConditions { unmodified_since: at(9), ..none() }), Verdict::Failed);
        let both = ReadConditions { matches: Some(tag("a")), unmodified_since: at(9), ..none() };
        assert_eq!(judge(both), Verdict::Met);
        let both = ReadConditions { none_matches: Some(tag("b")), modified_since: at(10), ..none() };
        assert_eq!(judge(both), Verdict::Met);
    }

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        let int = |first, last| dto::Range::Int { first, last };
        let suffix = |length| dto::Range::Suffix { length };
        assert_eq!(bytes_of(int(0, Some(0)), 10).unwrap(), 0..1);
        assert_eq!(bytes_of(int(3, Some(99)), 10).unwrap(), 3..10);
        assert_eq!(bytes_of(int(3, None), 10).unwrap(), 3..10);
        assert_eq!(bytes_of(suffix(4), 10).unwrap(), 6..10);
        assert_eq!(bytes_of(suffix(40), 10).unwrap(), 0..10);
        for (range, size) in [(int(10, None), 10), (suffix(0), 10), (suffix(1), 0), (int(0, None), 0)] {
            assert_eq!(bytes_of(range, size).unwrap_err().code(), &s3s::S3ErrorCode::InvalidRange);
        }
    }

    #[test]
    fn ranges_of_sources_are_whole_and_within_them() {
        assert_eq!(source_bytes_of("bytes=2-9", 10).unwrap(), 2..10);
        for range in ["bytes=2-10", "bytes=2-", "bytes=-3", "2-3", ""] {
            assert!(source_bytes_of(range, 10).is_err(), "{range}");
        }
    }

    #[test]
    fn conditions_of_puts_are_those_of_s3() {
        assert_eq!(of_put(None, None).unwrap(), PutCondition::None);
        assert_eq!(of_put(Some(&tag("a")), None).unwrap(), PutCondition::Etag("a".to_owned()));
        assert_eq!(of_put(None, Some(&ETagCondition::Any)).unwrap(), PutCondition::Absent);
        assert!(of_put(None, Some(&tag("a"))).is_err());
    }
}
