//! Objects: put, from a body or a form.

use std::sync::Arc;

use bytes::Bytes;
use datamesh_core::bucket::{Content, Extent, Extents, Versioning};
use datamesh_engine::buckets::{
    Buckets, ChangeError, ContentSubject, PutCondition, Refused, Replaced, StoreError,
};
use datamesh_engine::progress::Unobserved;
use datamesh_engine::put::PutError;
use futures::Stream;
use s3s::dto::{ETag, PutObjectInput, PutObjectOutput};
use s3s::{S3Request, S3Response, S3Result, StdError, s3_error};
use tracing::{Instrument, info_span};

use crate::Gateway;
use crate::body::{BodySource, Received};
use crate::escape::hex;
use crate::s3::attributes::{attributes_of, refuse_unmet};
use crate::s3::digests::{Expected, given_digests, tell_digests};
use crate::s3::errors::{map_error, map_fault, map_store};
use crate::s3::{conditions, text, to_the_end};

pub(super) async fn put(
    gateway: &Gateway,
    request: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let asked = asked_algorithm(&request);
    let S3Request { mut input, trailing_headers, .. } = request;
    let (bucket, key) = text::names(&input.bucket, &input.key)?;
    refuse_unmet!(input)?;
    if input.write_offset_bytes.is_some() {
        return Err(s3_error!(NotImplemented, "appending is not implemented"));
    }
    let condition = conditions::of_put(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let attributes = attributes_of!(input)?;
    let given = given_digests!(input);
    let expected = Expected::new(asked.as_deref(), given, input.content_md5.as_deref(), trailing_headers)?;
    let size = size_of(input.content_length)?;
    let body = input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
    let buckets = gateway.buckets.clone();
    // Whoever can't put it need not send it.
    foresee(&buckets, &(bucket.clone(), key.clone()), &condition)?;
    to_the_end(async move {
        let media_type = attributes.media_type().map(str::to_owned);
        let class = attributes.class.clone();
        let subject = ContentSubject {
            name: key.as_str(),
            media_type: media_type.as_deref(),
            size,
            class: class.as_deref(),
        };
        let (extent, received) = receive(&buckets, body, &subject, &expected).await?;
        let etag = hex(&received.md5);
        let extents = Extents::Listed(vec![extent]);
        let content = attributes.content(received.size, etag.clone(), extents, received.digests.clone());
        let replaced = lay_down(&buckets, (bucket, key), content, condition).await?;
        let mut output = PutObjectOutput {
            e_tag: Some(ETag::Strong(etag)),
            version_id: version_id(replaced),
            ..PutObjectOutput::default()
        };
        output.checksum_type = tell_digests!(output, &received.digests);
        Ok(S3Response::new(output))
    })
    .await
}

/// The algorithm that the client's library says it uses.
pub(super) fn asked_algorithm<T>(request: &S3Request<T>) -> Option<String> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let named = header("x-amz-sdk-checksum-algorithm").or_else(|| header("x-amz-checksum-algorithm"));
    let behind = || {
        let names = header("x-amz-trailer")?.split(',').map(str::trim);
        names.filter_map(|name| name.strip_prefix("x-amz-checksum-")).next()
    };
    named.or_else(behind).map(str::to_owned)
}

/// The size of a body as its header has it.
pub(super) fn size_of(length: Option<i64>) -> S3Result<Option<u64>> {
    length
        .map(|length| u64::try_from(length).map_err(|_| s3_error!(InvalidArgument, "negative length")))
        .transpose()
}

/// The version that answers tell.
pub(super) fn version_id(replaced: Replaced) -> Option<String> {
    (replaced.versioning != Versioning::Off).then(|| replaced.slot.to_string())
}

/// Refuses what would be refused once its bytes are stored. What changes meanwhile is found then.
fn foresee(
    buckets: &Buckets,
    (bucket, key): &(datamesh_core::bucket::BucketName, datamesh_core::bucket::Key),
    condition: &PutCondition,
) -> S3Result<()> {
    buckets.bucket(bucket).map_err(map_error)?;
    if *condition == PutCondition::None {
        return Ok(());
    }
    let current = match buckets.current(bucket, key) {
        Ok(found) => found.version.content.map(|content| content.etag),
        Err(ChangeError::Refused(Refused::NoKey(_) | Refused::Deleted(_))) => None,
        Err(error) => return Err(map_error(error)),
    };
    match (condition, current) {
        (PutCondition::Absent, Some(_)) => Err(map_error(Refused::Condition.into())),
        (PutCondition::Etag(wanted), Some(etag)) if *wanted != etag => {
            Err(map_error(Refused::Condition.into()))
        }
        (PutCondition::Etag(_) | PutCondition::Present, None) => {
            Err(map_error(Refused::NoKey(key.clone()).into()))
        }
        _ => Ok(()),
    }
}

/// Stores the bytes of a stream and holds them to what was said of them. They are nobody's yet.
pub(super) async fn receive<S: Stream<Item = Result<Bytes, StdError>> + Send + Unpin>(
    buckets: &Buckets,
    body: S,
    subject: &ContentSubject<'_>,
    expected: &Expected,
) -> S3Result<(Extent, Received)> {
    let mut source = BodySource::new(body, subject.size, expected.algorithms());
    let stored =
        buckets.store(&mut source, subject, Arc::new(Unobserved)).instrument(info_span!("put")).await;
    let extent = stored.map_err(|error| match error {
        StoreError::Put(PutError::Source(_)) => map_fault(source.fault()),
        error => map_store(error),
    })?;
    let received = source.finish();
    if let Err(error) = expected.check(&received) {
        buckets.give_back(vec![extent.tag]);
        return Err(error);
    }
    Ok((extent, received))
}

/// Puts a content under its key. What can't have become known is given back.
pub(super) async fn lay_down(
    buckets: &Buckets,
    (bucket, key): (datamesh_core::bucket::BucketName, datamesh_core::bucket::Key),
    content: Content,
    condition: PutCondition,
) -> S3Result<Replaced> {
    buckets.put(bucket, key, content, condition).await.map_err(map_error)
}
