//! What the engine says when something can't be done, in the codes that clients know.

use datamesh_engine::buckets::{ChangeError, ReadError, Refused, StoreError};
use datamesh_engine::get::GetError;
use datamesh_engine::put::PutError;
use datamesh_engine::renew::RenewError;
use datamesh_engine::world::MapError;
use hyper::HeaderMap;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use s3s::{Body, HttpResponse, S3Error, S3ErrorCode, s3_error};

use crate::body::BodyFault;

/// How the document of an error ends.
const END: &[u8] = b"</Error>";

/// Says in the document of an error which request it is of, as its header does: people send that document to whoever helps them.
pub(super) fn name_request(response: &mut HttpResponse, id: &HeaderValue) {
    if response.status().is_success() {
        return;
    }
    let whole = response.body().bytes().unwrap_or_default();
    if let Some(document) = whole.strip_suffix(END) {
        let named = [document, b"<RequestId>", id.as_bytes(), b"</RequestId>", END].concat();
        response.headers_mut().remove(CONTENT_LENGTH);
        *response.body_mut() = Body::from(named);
    }
}

/// Why something was not changed or found.
#[must_use]
pub fn map_error(error: ChangeError) -> S3Error {
    match error {
        ChangeError::Refused(refused) => map_refused(&refused),
        ChangeError::Index(error) => map_index(error),
        error @ ChangeError::TooLarge(_) => s3_error!(MetadataTooLarge, "{error}"),
        error @ (ChangeError::NotEnoughNodes { .. } | ChangeError::Scheme(_) | ChangeError::Closed) => {
            unavailable(error)
        }
    }
}

fn map_refused(refused: &Refused) -> S3Error {
    let code = match refused {
        Refused::NoBucket(_) => S3ErrorCode::NoSuchBucket,
        Refused::BucketExists(_) => S3ErrorCode::BucketAlreadyOwnedByYou,
        Refused::NotEmpty(_) => S3ErrorCode::BucketNotEmpty,
        Refused::NoKey(_) => S3ErrorCode::NoSuchKey,
        Refused::Deleted(_) => {
            return with_headers(
                s3_error!(NoSuchKey, "{refused}"),
                [("x-amz-delete-marker", HeaderValue::from_static("true"))],
            );
        }
        Refused::NoUpload(_) => S3ErrorCode::NoSuchUpload,
        Refused::NoPart(_) => S3ErrorCode::InvalidPart,
        Refused::PartsUnordered => S3ErrorCode::InvalidPartOrder,
        Refused::PartTooShort { .. } => S3ErrorCode::EntityTooSmall,
        Refused::Condition => S3ErrorCode::PreconditionFailed,
        Refused::NoAccessKey(_) => S3ErrorCode::InvalidAccessKeyId,
    };
    S3Error::with_message(code, refused.to_string())
}

/// The index on this machine can't be read: nothing that a client could mend.
#[must_use]
pub fn map_index(error: MapError) -> S3Error {
    tracing::error!(%error, "the index of buckets");
    S3Error::internal_error(error)
}

/// Why bytes were not stored.
#[must_use]
pub fn map_store(error: StoreError) -> S3Error {
    match error {
        error @ (StoreError::Scheme(_) | StoreError::Put(PutError::NotEnoughNodes { .. })) => {
            unavailable(error)
        }
        StoreError::Put(PutError::Manifest(error)) => s3_error!(EntityTooLarge, "{error}"),
        StoreError::Put(PutError::Details(error)) => s3_error!(InvalidArgument, "{error}"),
        StoreError::Put(error) => S3Error::internal_error(error),
    }
}

/// Why a content can't be read.
#[must_use]
pub fn map_read(error: ReadError) -> S3Error {
    match error {
        ReadError::Index(error) => map_index(error),
        // What another gateway has written may not be known here yet; nodes that are away come back.
        error @ (ReadError::MissingPart(_)
        | ReadError::Get(
            GetError::NotFound { .. } | GetError::MissingBlock { .. } | GetError::TooFewShards { .. },
        )) => unavailable(error),
        ReadError::Get(error) => S3Error::internal_error(error),
    }
}

/// Why something is not kept a second time.
#[must_use]
pub fn map_renew(error: RenewError) -> S3Error {
    unavailable(error)
}

/// What is wrong with a body.
#[must_use]
pub fn map_fault(fault: Option<BodyFault>) -> S3Error {
    match fault {
        Some(BodyFault::Digest) => {
            // This code is not among those that the library names.
            let mut error = S3Error::new(S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()));
            error.set_status_code(hyper::StatusCode::BAD_REQUEST);
            error.set_message("The provided 'x-amz-content-sha256' header does not match what was computed.");
            error
        }
        Some(BodyFault::Signature) => s3_error!(SignatureDoesNotMatch),
        Some(BodyFault::Size | BodyFault::Broken) | None => s3_error!(IncompleteBody),
    }
}

/// The same error, with headers. Those that are set replace the one that says what the error itself is.
#[must_use]
pub fn with_headers<const N: usize>(mut error: S3Error, named: [(&'static str, HeaderValue); N]) -> S3Error {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    for (name, value) in named {
        headers.insert(HeaderName::from_static(name), value);
    }
    error.set_headers(headers);
    error
}

/// Too few nodes answer: clients try again.
fn unavailable<E: std::error::Error + Send + Sync + 'static>(error: E) -> S3Error {
    tracing::warn!(%error, "a request is not met");
    let mut answer = s3_error!(ServiceUnavailable, "{error}");
    answer.set_source(Box::new(error));
    answer
}

#[cfg(test)]
mod tests {
    use datamesh_engine::buckets::{ChangeError, Refused};
    use s3s::S3ErrorCode;

    use super::map_error;

    #[test]
    fn only_what_clients_can_not_mend_is_the_server_s_fault() {
        let key: datamesh_core::bucket::Key = "k".parse().unwrap();
        let bucket: datamesh_core::bucket::BucketName = "bucket".parse().unwrap();
        for (refused, code) in [
            (Refused::NoBucket(bucket.clone()), S3ErrorCode::NoSuchBucket),
            (Refused::BucketExists(bucket.clone()), S3ErrorCode::BucketAlreadyOwnedByYou),
            (Refused::NotEmpty(bucket), S3ErrorCode::BucketNotEmpty),
            (Refused::NoKey(key.clone()), S3ErrorCode::NoSuchKey),
            (Refused::Deleted(key), S3ErrorCode::NoSuchKey),
            (Refused::NoPart(1), S3ErrorCode::InvalidPart),
            (Refused::PartsUnordered, S3ErrorCode::InvalidPartOrder),
            (Refused::PartTooShort { number: 1, size: 1, min: 2 }, S3ErrorCode::EntityTooSmall),
            (Refused::Condition, S3ErrorCode::PreconditionFailed),
        ] {
            let error = map_error(refused.into());
            assert_eq!(error.code(), &code);
            assert!(error.status_code().unwrap().is_client_error());
        }
        assert_eq!(map_error(ChangeError::Closed).code(), &S3ErrorCode::ServiceUnavailable);
        assert_eq!(map_error(ChangeError::TooLarge(1)).code(), &S3ErrorCode::MetadataTooLarge);
    }
}
