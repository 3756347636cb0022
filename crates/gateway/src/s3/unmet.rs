//! Headers that ask for what nobody would do, or say nothing, and that the library passes over.

use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use s3s::{S3Error, S3Result, s3_error};

/// What headers begin with that give rights to somebody.
const GRANT: &str = "x-amz-grant-";
/// What headers begin with that say how something is to be encrypted.
const ENCRYPTION: &str = "x-amz-server-side-encryption";

/// The digest of a body, as it was before there was a choice.
const MD5: &str = "content-md5";

/// Refuses rights that nobody would be given, encryption where nothing is written, and a digest that is none.
///
/// # Errors
/// `AccessControlListNotSupported`, `InvalidRequest` or `InvalidDigest`, as S3 says it.
pub(super) fn check(method: &Method, headers: &HeaderMap) -> S3Result<()> {
    let has = |beginning: &str| headers.keys().any(|name| name.as_str().starts_with(beginning));
    if has(GRANT) {
        return Err(s3_error!(AccessControlListNotSupported, "access is given to access keys, not by lists"));
    }
    if headers.get(MD5).is_some_and(HeaderValue::is_empty) {
        return Err(s3_error!(InvalidDigest, "the header {MD5} says no digest"));
    }
    if [Method::GET, Method::HEAD].contains(method) && has(ENCRYPTION) {
        let mut error: S3Error = s3_error!(
            InvalidRequest,
            "what is read is decrypted without being told how: leave {ENCRYPTION} out"
        );
        error.set_status_code(StatusCode::BAD_REQUEST);
        return Err(error);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hyper::Method;
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};

    use super::check;

    fn with(name: &'static str) -> HeaderMap {
        [(HeaderName::from_static(name), HeaderValue::from_static("x"))].into_iter().collect()
    }

    #[test]
    fn what_nobody_would_do_is_refused_and_not_passed_over() {
        let grant = with("x-amz-grant-read-acp");
        assert!(check(&Method::PUT, &grant).is_err() && check(&Method::POST, &grant).is_err());
        let key = with("x-amz-server-side-encryption-customer-key");
        assert!(check(&Method::GET, &key).is_err() && check(&Method::HEAD, &key).is_err());
        assert!(check(&Method::PUT, &key).is_ok(), "said by the operation, which knows the fields");
        assert!(check(&Method::GET, &with("x-amz-checksum-mode")).is_ok());
        let no_digest = [(HeaderName::from_static("content-md5"), HeaderValue::from_static(""))];
        assert!(check(&Method::PUT, &no_digest.into_iter().collect()).is_err());
        assert!(check(&Method::PUT, &with("content-md5")).is_ok());
    }
}
