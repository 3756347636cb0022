//! Texts of the protocol: names, ids, instants, and their forms in URLs and in Base64.

use std::time::{Duration, SystemTime};

use datamesh_core::bucket::{BucketName, Key, UploadId, VersionSlot};
use datamesh_core::time::Timestamp;
use s3s::{S3Error, S3Result, dto, s3_error};

use crate::RESERVED_NAMES;
use crate::escape::{escaped, unescaped};

/// A bucket's name.
///
/// # Errors
/// `InvalidBucketName` for what is none, and for names that other faces have.
pub(crate) fn bucket(name: &str) -> S3Result<BucketName> {
    if RESERVED_NAMES.contains(&name) {
        return Err(s3_error!(InvalidBucketName, "the name {name} is reserved"));
    }
    name.parse().map_err(|error| s3_error!(InvalidBucketName, "{error}"))
}

/// A key.
///
/// # Errors
/// `KeyTooLongError` or `InvalidArgument`.
pub(crate) fn key(key: &str) -> S3Result<Key> {
    key.parse().map_err(|error| match error {
        datamesh_core::bucket::NameError::Size { size: 1.., .. } => s3_error!(KeyTooLongError),
        error => s3_error!(InvalidArgument, "{error}"),
    })
}

/// Both.
///
/// # Errors
/// As [`bucket`] and [`key`].
pub(crate) fn names(bucket_name: &str, key_text: &str) -> S3Result<(BucketName, Key)> {
    Ok((bucket(bucket_name)?, key(key_text)?))
}

/// The version that was asked for.
///
/// # Errors
/// `InvalidArgument` for what is no id of a version.
pub(crate) fn version(id: Option<&str>) -> S3Result<Option<VersionSlot>> {
    let malformed = |_| s3_error!(InvalidArgument, "Invalid version id specified");
    id.filter(|id| !id.is_empty()).map(str::parse).transpose().map_err(malformed)
}

/// An upload's id.
///
/// # Errors
/// `NoSuchUpload`: what is no id is no upload's either.
pub(crate) fn upload(id: &str) -> S3Result<UploadId> {
    id.parse().map_err(|_| S3Error::from(s3s::S3ErrorCode::NoSuchUpload))
}

/// An instant, as answers have it.
pub(crate) fn timestamp(instant: Timestamp) -> dto::Timestamp {
    (SystemTime::UNIX_EPOCH + Duration::from_millis(instant.as_ms())).into()
}

/// An instant to the second, as headers have it: what conditions are compared with.
pub(crate) fn second_of(instant: Timestamp) -> dto::Timestamp {
    (SystemTime::UNIX_EPOCH + Duration::from_secs(instant.as_ms() / 1000)).into()
}

/// The form of an instant in headers.
pub(crate) fn http_date(instant: &dto::Timestamp) -> String {
    let mut text = Vec::new();
    // Only years beyond 9999 have no such form.
    let _ = instant.format(dto::TimestampFormat::HttpDate, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// Bytes in Base64.
pub(crate) fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

/// The bytes that a text has in Base64.
pub(crate) fn unbase64(text: &str) -> Option<Vec<u8>> {
    base64_simd::STANDARD.decode_to_vec(text).ok()
}

/// A text as lists have it that are asked for with `encoding-type=url`: slashes stay.
pub(crate) fn url(text: &str) -> String {
    escaped(text, b"-_.~/*")
}

/// What a text in a URL's query stands for, such as the tags of a header.
pub(crate) fn unurl(text: &str) -> Option<String> {
    unescaped(&text.replace('+', " "))
}

/// A size as the protocol has it.
pub(crate) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{base64, bucket, key, unbase64, unurl, url, version};

    #[test]
    fn reserved_names_are_no_buckets() {
        assert_eq!(bucket("photos").unwrap().as_str(), "photos");
        for name in ["api", "dashboard", "metrics", "Photos", "a"] {
            assert_eq!(bucket(name).unwrap_err().code(), &s3s::S3ErrorCode::InvalidBucketName, "{name}");
        }
        assert_eq!(key(&"k".repeat(1025)).unwrap_err().code(), &s3s::S3ErrorCode::KeyTooLongError);
    }

    #[test]
    fn bytes_come_back_from_their_texts() {
        for bytes in [&b""[..], b"\x00\xff", b"some text"] {
            assert_eq!(unbase64(&base64(bytes)).unwrap(), bytes);
        }
        assert_eq!(unbase64("*"), None);
    }

    #[test]
    fn keys_come_back_from_their_form_in_urls() {
        for text in ["plain/key", "a b+c", "ä/%", "\u{1}", "~*-_.'"] {
            assert_eq!(unurl(&url(text)).as_deref(), Some(text));
        }
        assert_eq!(url("a b+ö/c"), "a%20b%2B%C3%B6/c");
        assert_eq!(unurl("a+b%2Bc").as_deref(), Some("a b+c"));
        assert_eq!((unurl("%"), unurl("%4"), unurl("%ff")), (None, None, None));
    }

    #[test]
    fn versions_are_named_by_their_ids() {
        assert_eq!(version(None).unwrap(), None);
        assert_eq!(version(Some("null")).unwrap(), Some(datamesh_core::bucket::VersionSlot::Null));
        assert!(version(Some("else")).is_err());
    }
}
