//! Parts of uploads: from a body, or from what is there already.

use std::ops::Range;

use datamesh_core::bucket::{BucketName, Content, Digests, Extent, Extents, Key, Part, Upload, UploadId};
use datamesh_engine::buckets::{Buckets, ContentSubject};
use s3s::dto::{
    CopyPartResult, ETag, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::Gateway;
use crate::body;
use crate::escape::hex;
use crate::s3::conditions::{ReadConditions, source_bytes_of};
use crate::s3::copy::{Wanted, source_of};
use crate::s3::digests::{Expected, UploadDigest, given_digests, tell_digests};
use crate::s3::errors::{map_error, map_read, map_renew};
use crate::s3::objects::{Shown, find, is_of_parts, parts_of};
use crate::s3::put::{asked_algorithm, receive, size_of};
use crate::s3::uploads::{digest_of, has_digest, open, part_number};
use crate::s3::{blocking, text, to_the_end};

/// A part that is to be put.
struct Place {
    buckets: Buckets,
    bucket: BucketName,
    key: Key,
    id: UploadId,
    number: u16,
}

impl Place {
    /// Bytes that are stored become the part.
    async fn put(self, extent: Extent, etag: String, digests: Digests) -> S3Result<Part> {
        let modified = self.buckets.world().clock.now();
        let part = Part { modified, extent, etag, digests };
        let Self { buckets, bucket, key, id, number } = self;
        buckets.put_part(bucket, key, id, number, part.clone()).await.map_err(map_error)?;
        Ok(part)
    }
}

/// What is known of a part's content before it is read.
fn subject<'a>(key: &'a Key, upload: &'a Upload, size: Option<u64>) -> ContentSubject<'a> {
    let Content { headers, class, .. } = &upload.content;
    let media_type = headers.get("content-type").map(String::as_str);
    ContentSubject { name: key.as_str(), media_type, size, class: class.as_deref() }
}

pub(super) async fn put(
    gateway: &Gateway,
    request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let asked = asked_algorithm(&request);
    let S3Request { mut input, trailing_headers, .. } = request;
    let names = text::names(&input.bucket, &input.key)?;
    let number = part_number(input.part_number)?;
    let id = text::upload(&input.upload_id)?;
    if input.sse_customer_algorithm.is_some() {
        return Err(s3_error!(NotImplemented, "encryption by keys that clients send is not implemented"));
    }
    let upload = open(gateway, &names, id)?;
    let given = given_digests!(input);
    let mut expected =
        Expected::new(asked.as_deref(), given, input.content_md5.as_deref(), trailing_headers)?;
    if let Some(digest) = digest_of(&upload) {
        expected.want(digest.algorithm);
    }
    let size = size_of(input.content_length)?;
    let body = input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
    let (bucket, key) = names;
    let place = Place { buckets: gateway.buckets.clone(), bucket, key, id, number };
    to_the_end(async move {
        let (buckets, key) = (place.buckets.clone(), place.key.clone());
        let (extent, received) = receive(&buckets, body, &subject(&key, &upload, size), &expected).await?;
        let part = place.put(extent, hex(&received.md5), received.digests).await?;
        let mut output =
            UploadPartOutput { e_tag: Some(ETag::Strong(part.etag)), ..UploadPartOutput::default() };
        let _ = tell_digests!(output, &part.digests);
        Ok(S3Response::new(output))
    })
    .await
}

pub(super) async fn copy(
    gateway: &Gateway,
    request: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let input = request.input;
    let names = text::names(&input.bucket, &input.key)?;
    let number = part_number(input.part_number)?;
    let id = text::upload(&input.upload_id)?;
    let upload = open(gateway, &names, id)?;
    let Wanted { bucket: from, key: from_key, version } = source_of(&input.copy_source)?;
    let shown = find(gateway, (from.clone(), from_key), version).await?;
    let conditions = ReadConditions {
        matches: input.copy_source_if_match,
        none_matches: input.copy_source_if_none_match,
        modified_since: input.copy_source_if_modified_since,
        unmodified_since: input.copy_source_if_unmodified_since,
    };
    conditions.check_source(&shown.content.etag, shown.modified)?;
    let size = shown.content.size;
    let range = input.copy_source_range.as_deref().map(|range| source_bytes_of(range, size)).transpose()?;
    let range = range.unwrap_or(0..size);
    let copy_source_version_id = shown.version_id();
    let (bucket, key) = names;
    let place = Place { buckets: gateway.buckets.clone(), bucket, key, id, number };
    let gateway = gateway.clone();
    to_the_end(async move {
        let whole = whole_extent(&gateway, &from, &shown, &range, &upload)?;
        let part = match whole {
            Some((extent, etag, digests)) => {
                let extent = place.buckets.lease_again(&extent).await.map_err(map_renew)?;
                place.put(extent, etag, digests).await?
            }
            None => restore(place, &from, shown, range, &upload).await?,
        };
        let mut result = CopyPartResult {
            e_tag: Some(ETag::Strong(part.etag)),
            last_modified: Some(text::timestamp(part.modified)),
            ..CopyPartResult::default()
        };
        let _ = tell_digests!(result, &part.digests);
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(result),
            copy_source_version_id,
            ..UploadPartCopyOutput::default()
        }))
    })
    .await
}

/// The extent that a range is all of, where its MD5 and what else the upload needs are known: it need not be moved.
fn whole_extent(
    gateway: &Gateway,
    bucket: &BucketName,
    shown: &Shown,
    range: &Range<u64>,
    upload: &Upload,
) -> S3Result<Option<(Extent, String, Digests)>> {
    let content = &shown.content;
    if content.class != upload.content.class {
        return Ok(None);
    }
    let digest: Option<UploadDigest> = digest_of(upload);
    let fits = |digests: &Digests| has_digest(digests, digest);
    if let Extents::Listed(extents) = &content.extents {
        let known = extents.len() == 1 && *range == (0..content.size) && !is_of_parts(content);
        let whole = known && fits(&content.digests);
        return Ok(whole.then(|| (extents[0], content.etag.clone(), content.digests.clone())));
    }
    let mut begin = 0;
    for (_, size, part) in parts_of(gateway, bucket, content)? {
        match part {
            Some(part) if *range == (begin..begin + size) && fits(&part.digests) => {
                return Ok(Some((part.extent, part.etag, part.digests)));
            }
            _ => begin += size,
        }
    }
    Ok(None)
}

/// Reads a range and stores it again.
async fn restore(
    place: Place,
    from: &BucketName,
    shown: Shown,
    range: Range<u64>,
    upload: &Upload,
) -> S3Result<Part> {
    let (buckets, from) = (place.buckets.clone(), from.clone());
    let temperature = buckets.temperature(&shown.content);
    let extents = blocking(move || buckets.extents(&from, &shown.content).map_err(map_read)).await?;
    let size = range.end - range.start;
    let body = body::read(&place.buckets, extents, temperature, range).await.map_err(map_read)?;
    let mut expected = Expected::default();
    if let Some(digest) = digest_of(upload) {
        expected.want(digest.algorithm);
    }
    let key = place.key.clone();
    let subject = subject(&key, upload, Some(size));
    let (extent, received) = receive(&place.buckets, body, &subject, &expected).await?;
    place.put(extent, hex(&received.md5), received.digests).await
}
