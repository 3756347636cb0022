//! Objects: read, whole or in part, and told of.

use std::ops::Range;

use datamesh_core::bucket::{BucketName, Content, Extents, Key, Part, VersionSlot, Versioning};
use datamesh_core::limits::UPLOAD_PARTS_MAX;
use datamesh_core::time::Timestamp;
use datamesh_engine::buckets::{ChangeError, Found, Refused};
use hyper::header::{HeaderName, HeaderValue};
use s3s::dto::{
    ETag, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts, GetObjectInput,
    GetObjectOutput, HeadObjectInput, HeadObjectOutput, ObjectAttributes, ObjectPart, StorageClass,
    TimestampFormat,
};
use s3s::stream::DynByteStream;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, dto, s3_error};

use crate::Gateway;
use crate::body;
use crate::s3::attributes::USUAL_CLASS;
use crate::s3::conditions::{ReadConditions, bytes_of};
use crate::s3::digests::{kind_of, tell_digests, to_dto};
use crate::s3::errors::{map_error, map_index, map_read, with_headers};
use crate::s3::{blocking, text};

/// The media type of what was put without one.
const UNKNOWN_MEDIA_TYPE: &str = "binary/octet-stream";
/// Says how many tags an object has.
const TAGGING_COUNT: HeaderName = HeaderName::from_static("x-amz-tagging-count");
/// Most parts of one page of a list.
pub(super) const PARTS_PAGE_MAX: usize = 1000;

/// A content that was found, and what is told with it.
pub(super) struct Shown {
    pub(super) content: Content,
    pub(super) slot: VersionSlot,
    pub(super) modified: Timestamp,
    pub(super) versioning: Versioning,
}

impl Shown {
    /// The id of its version, where the bucket has had versions.
    pub(super) fn version_id(&self) -> Option<String> {
        (self.versioning != Versioning::Off).then(|| self.slot.to_string())
    }
}

/// Finds what a key holds, or held in a version.
pub(super) async fn find(
    gateway: &Gateway,
    (bucket, key): (BucketName, Key),
    version: Option<VersionSlot>,
) -> S3Result<Shown> {
    let buckets = gateway.buckets.clone();
    blocking(move || {
        let versioning = buckets.bucket(&bucket).map_err(map_error)?.versioning;
        let found = match version {
            None => buckets.current(&bucket, &key).map_err(map_error)?,
            Some(slot) => buckets.version(&bucket, &key, slot).map_err(|error| match error {
                ChangeError::Refused(Refused::NoKey(_)) => S3Error::new(S3ErrorCode::NoSuchVersion),
                error => map_error(error),
            })?,
        };
        let Found { slot, version, .. } = found;
        let modified = version.modified;
        let content = version.content.ok_or_else(|| deleted(slot, modified))?;
        Ok(Shown { content, slot, modified, versioning })
    })
    .await
}

/// A version that was asked for by its id is a mark that the key was deleted.
fn deleted(slot: VersionSlot, modified: Timestamp) -> S3Error {
    let value = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
    with_headers(
        s3_error!(MethodNotAllowed, "The specified version is a delete marker"),
        [
            ("x-amz-delete-marker", HeaderValue::from_static("true")),
            ("x-amz-version-id", value(&slot.to_string())),
            ("last-modified", value(&text::http_date(&text::timestamp(modified)))),
            ("allow", HeaderValue::from_static("DELETE")),
        ],
    )
}

/// The parts of a content: their numbers, sizes and, where they were uploaded as such, what is known of them.
pub(super) fn parts_of(
    gateway: &Gateway,
    bucket: &BucketName,
    content: &Content,
) -> S3Result<Vec<(u16, u64, Option<Part>)>> {
    match &content.extents {
        Extents::Listed(extents) => {
            let numbered = (1..=UPLOAD_PARTS_MAX).zip(extents);
            Ok(numbered.map(|(number, extent)| (number, extent.size, None)).collect())
        }
        Extents::Uploaded { upload, parts } => {
            let all = gateway.buckets.parts(bucket, upload, 0, usize::from(UPLOAD_PARTS_MAX) + 1);
            let named = |number: u16| parts.iter().any(|(first, last)| (*first..=*last).contains(&number));
            let all = all.map_err(map_index)?.into_iter().filter(|(number, _)| named(*number));
            Ok(all.map(|(number, part)| (number, part.extent.size, Some(part))).collect())
        }
    }
}

/// Whether a content is of parts, as its tag tells.
pub(super) fn is_of_parts(content: &Content) -> bool {
    content.etag.contains('-')
}

/// What of a content is asked for.
struct Asked {
    range: Range<u64>,
    content_range: Option<String>,
    parts_count: Option<i32>,
}

fn asked(
    gateway: &Gateway,
    bucket: &BucketName,
    content: &Content,
    range: Option<dto::Range>,
    part: Option<i32>,
) -> S3Result<Asked> {
    let size = content.size;
    let told = |range: &Range<u64>| format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
    match (range, part) {
        (Some(_), Some(_)) => {
            Err(s3_error!(InvalidRequest, "Cannot specify both Range header and partNumber query parameter"))
        }
        (None, None) => Ok(Asked { range: 0..size, content_range: None, parts_count: None }),
        (Some(range), None) => {
            let range = bytes_of(range, size)?;
            Ok(Asked { content_range: Some(told(&range)), range, parts_count: None })
        }
        (None, Some(1)) if !is_of_parts(content) => {
            let content_range = (size > 0).then(|| told(&(0..size)));
            Ok(Asked { range: 0..size, content_range, parts_count: None })
        }
        (None, Some(number)) => {
            let missing = || {
                let mut error = s3_error!(InvalidRequest, "The requested partnumber is not satisfiable");
                error.set_code(S3ErrorCode::Custom("InvalidPartNumber".into()));
                error.set_status_code(hyper::StatusCode::RANGE_NOT_SATISFIABLE);
                error
            };
            let parts = parts_of(gateway, bucket, content)?;
            let index =
                usize::try_from(number).ok().and_then(|number| number.checked_sub(1)).ok_or_else(missing)?;
            let begin: u64 = parts.iter().take(index).map(|(_, size, _)| size).sum();
            let (_, part_size, _) = parts.get(index).filter(|_| is_of_parts(content)).ok_or_else(missing)?;
            let range = begin..begin + part_size;
            let content_range = (*part_size > 0).then(|| told(&range));
            Ok(Asked { range, content_range, parts_count: i32::try_from(parts.len()).ok() })
        }
    }
}

pub(super) async fn get(
    gateway: &Gateway,
    request: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let input = request.input;
    let names = text::names(&input.bucket, &input.key)?;
    let shown = find(gateway, names.clone(), text::version(input.version_id.as_deref())?).await?;
    let conditions = ReadConditions {
        matches: input.if_match,
        none_matches: input.if_none_match,
        modified_since: input.if_modified_since,
        unmodified_since: input.if_unmodified_since,
    };
    conditions.check(&shown.content.etag, shown.modified)?;
    let bucket = names.0;
    let asked = asked(gateway, &bucket, &shown.content, input.range, input.part_number)?;
    let buckets = gateway.buckets.clone();
    let content = shown.content.clone();
    let temperature = buckets.temperature(&content);
    let extents = blocking(move || buckets.extents(&bucket, &content).map_err(map_read)).await?;
    let body =
        body::read(&gateway.buckets, extents, temperature, asked.range.clone()).await.map_err(map_read)?;
    let tag_count = tag_count(&shown.content);
    let mut output = describe(shown, &asked, input.checksum_mode.as_ref());
    let body: DynByteStream = Box::pin(body);
    output.body = Some(body.into());
    output.tag_count = tag_count;
    Ok(S3Response::new(output))
}

pub(super) async fn head(
    gateway: &Gateway,
    request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let input = request.input;
    let names = text::names(&input.bucket, &input.key)?;
    let shown = find(gateway, names.clone(), text::version(input.version_id.as_deref())?).await?;
    let conditions = ReadConditions {
        matches: input.if_match,
        none_matches: input.if_none_match,
        modified_since: input.if_modified_since,
        unmodified_since: input.if_unmodified_since,
    };
    conditions.check(&shown.content.etag, shown.modified)?;
    let asked = asked(gateway, &names.0, &shown.content, input.range, input.part_number)?;
    let tag_count = tag_count(&shown.content);
    let told = describe(shown, &asked, input.checksum_mode.as_ref());
    let mut response = S3Response::new(HeadObjectOutput {
        accept_ranges: told.accept_ranges,
        cache_control: input.response_cache_control.or(told.cache_control),
        checksum_crc32: told.checksum_crc32,
        checksum_crc32c: told.checksum_crc32c,
        checksum_crc64nvme: told.checksum_crc64nvme,
        checksum_sha1: told.checksum_sha1,
        checksum_sha256: told.checksum_sha256,
        checksum_type: told.checksum_type,
        content_disposition: input.response_content_disposition.or(told.content_disposition),
        content_encoding: input.response_content_encoding.or(told.content_encoding),
        content_language: input.response_content_language.or(told.content_language),
        content_length: told.content_length,
        content_range: told.content_range,
        content_type: input.response_content_type.or(told.content_type),
        e_tag: told.e_tag,
        expires: input.response_expires.or(told.expires),
        last_modified: told.last_modified,
        metadata: told.metadata,
        parts_count: told.parts_count,
        storage_class: told.storage_class,
        version_id: told.version_id,
        website_redirect_location: told.website_redirect_location,
        ..HeadObjectOutput::default()
    });
    // The library knows it of what is got alone.
    if let Some(count) = tag_count {
        response.headers.insert(TAGGING_COUNT, count.into());
    }
    Ok(response)
}

/// How many tags there are, where there are some.
fn tag_count(content: &Content) -> Option<i32> {
    i32::try_from(content.tags.len()).ok().filter(|count| *count > 0)
}

/// What is told of a content, short of its bytes.
fn describe(shown: Shown, asked: &Asked, mode: Option<&dto::ChecksumMode>) -> GetObjectOutput {
    let version_id = shown.version_id();
    let Shown { content, modified, .. } = shown;
    let Content { size, etag, mut headers, metadata, digests, class, .. } = content;
    let whole = asked.range == (0..size);
    let mut header = |name: &str| headers.remove(name);
    let expires = header("expires");
    let mut output = GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        cache_control: header("cache-control"),
        content_disposition: header("content-disposition"),
        content_encoding: header("content-encoding"),
        content_language: header("content-language"),
        content_length: Some(text::signed(asked.range.end - asked.range.start)),
        content_range: asked.content_range.clone(),
        content_type: Some(header("content-type").unwrap_or_else(|| UNKNOWN_MEDIA_TYPE.to_owned())),
        e_tag: Some(ETag::Strong(etag)),
        expires: expires.and_then(|text| dto::Timestamp::parse(TimestampFormat::HttpDate, &text).ok()),
        last_modified: Some(text::timestamp(modified)),
        metadata: (!metadata.is_empty()).then(|| metadata.into_iter().collect()),
        parts_count: asked.parts_count,
        storage_class: class.map(StorageClass::from),
        version_id,
        website_redirect_location: header("x-amz-website-redirect-location"),
        ..GetObjectOutput::default()
    };
    // Clients hold what they get to it, so it is told of the whole alone.
    if whole && mode.is_some_and(|mode| mode.as_str() == dto::ChecksumMode::ENABLED) {
        output.checksum_type = tell_digests!(output, &digests);
    }
    output
}

pub(super) async fn attributes(
    gateway: &Gateway,
    request: S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let input = request.input;
    let names = text::names(&input.bucket, &input.key)?;
    let shown = find(gateway, names.clone(), text::version(input.version_id.as_deref())?).await?;
    // Clients send all of them in one header, which the library leaves as it is.
    let wants = |attribute: &str| {
        let mut asked = input.object_attributes.iter().flat_map(|asked| asked.as_str().split(','));
        asked.any(|asked| asked.trim() == attribute)
    };
    let (content, version_id) = (&shown.content, shown.version_id());
    let object_parts = (wants(ObjectAttributes::OBJECT_PARTS) && is_of_parts(content))
        .then(|| {
            let after = input.part_number_marker.unwrap_or(0);
            let count_max =
                input.max_parts.and_then(|count| usize::try_from(count).ok()).unwrap_or(PARTS_PAGE_MAX);
            let parts = parts_of(gateway, &names.0, content)?;
            Ok::<_, S3Error>(told_parts(parts, after, count_max.min(PARTS_PAGE_MAX)))
        })
        .transpose()?;
    let has_digests = wants(ObjectAttributes::CHECKSUM) && !content.digests.is_empty();
    let class = content.class.as_deref().unwrap_or(USUAL_CLASS);
    let storage_class = wants(ObjectAttributes::STORAGE_CLASS).then(|| StorageClass::from(class.to_owned()));
    Ok(S3Response::new(GetObjectAttributesOutput {
        checksum: has_digests.then(|| to_dto(&content.digests)),
        e_tag: wants(ObjectAttributes::ETAG).then(|| ETag::Strong(content.etag.clone())),
        last_modified: Some(text::timestamp(shown.modified)),
        object_parts,
        object_size: wants(ObjectAttributes::OBJECT_SIZE).then(|| text::signed(content.size)),
        storage_class,
        version_id,
        ..GetObjectAttributesOutput::default()
    }))
}

fn told_parts(
    parts: Vec<(u16, u64, Option<Part>)>,
    after: i32,
    count_max: usize,
) -> GetObjectAttributesParts {
    let total = i32::try_from(parts.len()).ok();
    let behind = parts.into_iter().filter(|(number, ..)| i32::from(*number) > after);
    let mut told: Vec<ObjectPart> = behind
        .take(count_max + 1)
        .map(|(number, size, part)| {
            let mut told = ObjectPart {
                part_number: Some(i32::from(number)),
                size: Some(text::signed(size)),
                ..ObjectPart::default()
            };
            if let Some(part) = part.filter(|part| kind_of(&part.digests).is_some()) {
                let _ = tell_digests!(told, &part.digests);
            }
            told
        })
        .collect();
    let more = told.len() > count_max;
    told.truncate(count_max);
    GetObjectAttributesParts {
        is_truncated: Some(more),
        max_parts: i32::try_from(count_max).ok(),
        next_part_number_marker: told.last().and_then(|part| part.part_number),
        part_number_marker: Some(after),
        parts: Some(told),
        total_parts_count: total,
    }
}
