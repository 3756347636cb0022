//! Uploads in parts: begun, listed, completed and given up.

use std::collections::BTreeMap;

use datamesh_core::bucket::{BucketName, Content, Digests, Extents, Key, Part, Upload, UploadId};
use datamesh_core::limits::UPLOAD_PARTS_MAX;
use datamesh_engine::buckets::{Buckets, ChangeError, ListOrder, Refused};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CompletedPart, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    ETag, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput,
    MultipartUpload, StorageClass,
};
use s3s::{S3Request, S3Response, S3Result, dto, s3_error};

use crate::Gateway;
use crate::s3::attributes::{USUAL_CLASS, attributes_of, refuse_unmet};
use crate::s3::digests::{UploadDigest, etag_of_parts, given_digests, kind_of, tell_digests};
use crate::s3::errors::{map_error, map_index};
use crate::s3::list::{Form, PAGE_MAX, page_size};
use crate::s3::objects::PARTS_PAGE_MAX;
use crate::s3::put::version_id;
use crate::s3::{blocking, buckets, conditions, text, to_the_end};

pub(super) async fn create(
    gateway: &Gateway,
    request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let input = request.input;
    let (bucket, key) = text::names(&input.bucket, &input.key)?;
    refuse_unmet!(input)?;
    let algorithm = input.checksum_algorithm.as_ref().map(dto::ChecksumAlgorithm::as_str);
    let digest = UploadDigest::asked(algorithm, input.checksum_type.as_ref().map(dto::ChecksumType::as_str))?;
    let attributes = attributes_of!(input)?;
    let upload = Upload {
        begun: gateway.buckets.world().clock.now(),
        content: attributes.content(0, String::new(), Extents::Listed(Vec::new()), [].into()),
        completed: false,
        digest: digest.map(UploadDigest::to_text),
    };
    let buckets = gateway.buckets.clone();
    let id =
        to_the_end(async move { buckets.begin_upload(bucket, key, upload).await.map_err(map_error) }).await?;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        checksum_algorithm: digest.map(|digest| digest.algorithm.dto()),
        checksum_type: digest.map(|digest| digest.kind.dto()),
        key: Some(input.key),
        upload_id: Some(id.to_string()),
        ..CreateMultipartUploadOutput::default()
    }))
}

/// The number of a part.
pub(super) fn part_number(number: i32) -> S3Result<u16> {
    let number = u16::try_from(number).ok().filter(|number| (1..=UPLOAD_PARTS_MAX).contains(number));
    number.ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "Part number must be an integer between 1 and {UPLOAD_PARTS_MAX}, inclusive"
        )
    })
}

/// An upload that is under way.
pub(super) fn open(gateway: &Gateway, (bucket, key): &(BucketName, Key), id: UploadId) -> S3Result<Upload> {
    gateway.buckets.upload(bucket, key, id).map_err(map_error)
}

/// The digest that an upload's parts have.
pub(super) fn digest_of(upload: &Upload) -> Option<UploadDigest> {
    upload.digest.as_deref().and_then(UploadDigest::from_text)
}

pub(super) async fn complete(
    gateway: &Gateway,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let mut input = request.input;
    let names = text::names(&input.bucket, &input.key)?;
    let id = text::upload(&input.upload_id)?;
    let condition = conditions::of_put(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let given = given_digests!(input);
    let parts = input.multipart_upload.take().and_then(|upload| upload.parts).unwrap_or_default();
    if parts.is_empty() {
        return Err(s3_error!(MalformedXML, "no parts are named"));
    }
    let upload = match gateway.buckets.upload(&names.0, &names.1, id) {
        Ok(upload) => upload,
        Err(ChangeError::Refused(Refused::NoUpload(_))) => {
            let done = completed(&gateway.buckets, &names, id)?;
            return Ok(S3Response::new(told(input.bucket, input.key, done)));
        }
        Err(error) => return Err(map_error(error)),
    };
    let named = parts.iter().map(named).collect::<S3Result<Vec<_>>>()?;
    let digest = digest_of(&upload);
    let said = Said { parts, size: input.mpu_object_size, whole: given };
    check_parts(gateway, &names.0, id, said, digest).await?;
    let buckets = gateway.buckets.clone();
    let done = to_the_end(async move {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let finish = move |content: &mut Content, parts: &[(u16, Part)]| {
            content.etag = etag_of_parts(parts);
            if let Some((digest, value)) = digest.and_then(|digest| Some((digest, digest.of_parts(parts)?))) {
                content.digests.insert(digest.algorithm.name().to_owned(), value);
            }
            // Who does not wait any more need not be told.
            let _ = sender.send((content.etag.clone(), content.digests.clone()));
        };
        let (bucket, key) = names.clone();
        let replaced = buckets.complete_upload(bucket, key, id, named, condition, finish).await;
        let replaced = match replaced {
            // Another request for the same was faster.
            Err(ChangeError::Refused(Refused::NoUpload(_))) => return completed(&buckets, &names, id),
            replaced => replaced.map_err(map_error)?,
        };
        let (etag, digests) = receiver.await.map_err(|_| s3_error!(ServiceUnavailable))?;
        Ok(Done { etag, digests, version_id: version_id(replaced) })
    })
    .await?;
    Ok(S3Response::new(told(input.bucket, input.key, done)))
}

/// What an upload has become.
struct Done {
    etag: String,
    digests: Digests,
    version_id: Option<String>,
}

fn told(bucket: String, key: String, done: Done) -> CompleteMultipartUploadOutput {
    let mut output = CompleteMultipartUploadOutput {
        e_tag: Some(ETag::Strong(done.etag)),
        location: Some(format!("/{bucket}/{}", text::url(&key))),
        bucket: Some(bucket),
        key: Some(key),
        version_id: done.version_id,
        ..CompleteMultipartUploadOutput::default()
    };
    output.checksum_type = tell_digests!(output, &done.digests);
    output
}

/// What an upload that is not open any more has become: who asks twice is answered the same twice.
fn completed(buckets: &Buckets, (bucket, key): &(BucketName, Key), id: UploadId) -> S3Result<Done> {
    let order = ListOrder { prefix: key.to_string(), count_max: 1, ..ListOrder::default() };
    let versioning = buckets.bucket(bucket).map_err(map_error)?.versioning;
    let versions = buckets.list_versions(bucket, &order).map_err(map_error)?.entries;
    for (_, found) in versions.into_iter().filter(|(other, _)| other == key) {
        if let Some(Content { etag, digests, extents: Extents::Uploaded { upload, .. }, .. }) =
            found.version.content
            && upload == id
        {
            let replaced = datamesh_engine::buckets::Replaced { slot: found.slot, versioning };
            return Ok(Done { etag, digests, version_id: version_id(replaced) });
        }
    }
    Err(map_error(Refused::NoUpload(id).into()))
}

fn named(part: &CompletedPart) -> S3Result<(u16, String)> {
    let number = part.part_number.ok_or_else(|| s3_error!(MalformedXML, "a part has no number"))?;
    let etag = part.e_tag.as_ref().ok_or_else(|| s3_error!(MalformedXML, "a part has no ETag"))?;
    Ok((part_number(number)?, etag.value().to_owned()))
}

/// What a client says of the parts that it has completed.
struct Said {
    parts: Vec<CompletedPart>,
    /// Bytes of all of them.
    size: Option<i64>,
    /// Digests of what they make.
    whole: Digests,
}

/// Holds what was sent with the list of parts to those parts.
async fn check_parts(
    gateway: &Gateway,
    bucket: &BucketName,
    id: UploadId,
    said: Said,
    digest: Option<UploadDigest>,
) -> S3Result<()> {
    let (buckets, bucket) = (gateway.buckets.clone(), bucket.clone());
    blocking(move || {
        let count_max = usize::from(UPLOAD_PARTS_MAX) + 1;
        let mut there: BTreeMap<u16, Part> =
            buckets.parts(&bucket, &id, 0, count_max).map_err(map_index)?.into_iter().collect();
        let Said { parts: named, size, whole } = said;
        let mut parts = Vec::new();
        for mut named in named {
            let number = part_number(named.part_number.unwrap_or(0))?;
            let given = given_digests!(named);
            // What is missing is found when the parts are put together.
            let Some(part) = there.remove(&number) else { continue };
            let other = |(name, digest): (&String, &String)| {
                part.digests.get(name).is_some_and(|computed| computed != digest)
            };
            if given.iter().any(other) {
                return Err(s3_error!(InvalidPart, "part {number} has another checksum"));
            }
            parts.push((number, part));
        }
        let sum = parts.iter().map(|(_, part)| part.extent.size).sum();
        if size.is_some_and(|size| size != text::signed(sum)) {
            return Err(s3_error!(InvalidRequest, "the parts have {sum} bytes, which is not what was said"));
        }
        let made = digest.and_then(|digest| Some((digest.algorithm.name(), digest.of_parts(&parts)?)));
        if let Some((name, made)) = made
            && whole.get(name).is_some_and(|said| *said != made && !is_without_count(said, &made))
        {
            return Err(s3_error!(BadDigest, "the checksum of the parts is {made}"));
        }
        Ok(())
    })
    .await
}

/// Whether a digest of parts is another one but for their number, which clients may leave out.
fn is_without_count(said: &str, made: &str) -> bool {
    made.split_once('-').is_some_and(|(digest, _)| digest == said)
}

pub(super) async fn abort(
    gateway: &Gateway,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let (bucket, key) = text::names(&request.input.bucket, &request.input.key)?;
    let id = text::upload(&request.input.upload_id)?;
    let buckets = gateway.buckets.clone();
    to_the_end(async move { buckets.abort_upload(bucket, key, id).await.map_err(map_error) }).await?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub(super) async fn list_parts(
    gateway: &Gateway,
    request: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let ListPartsInput { bucket, key, max_parts, part_number_marker, upload_id, .. } = request.input;
    let names = text::names(&bucket, &key)?;
    let id = text::upload(&upload_id)?;
    let upload = open(gateway, &names, id)?;
    let (count, count_max) = page_size(max_parts, "max-parts")?;
    let marker = part_number_marker.unwrap_or(0);
    let after = u16::try_from(marker).map_err(|_| s3_error!(InvalidArgument, "part-number-marker"))?;
    let buckets = gateway.buckets.clone();
    let mut parts = blocking(move || {
        let from = after.saturating_add(1);
        buckets.parts(&names.0, &id, from, count_max.min(PARTS_PAGE_MAX) + 1).map_err(map_index)
    })
    .await?;
    let more = parts.len() > count_max;
    parts.truncate(count_max);
    let last = parts.last().map(|(number, _)| i32::from(*number));
    let told = parts.into_iter().map(|(number, part)| {
        let mut told = dto::Part {
            e_tag: Some(ETag::Strong(part.etag)),
            last_modified: Some(text::timestamp(part.modified)),
            part_number: Some(i32::from(number)),
            size: Some(text::signed(part.extent.size)),
            ..dto::Part::default()
        };
        let _ = tell_digests!(told, &part.digests);
        told
    });
    let digest = digest_of(&upload);
    let class = upload.content.class.unwrap_or_else(|| USUAL_CLASS.to_owned());
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(bucket),
        checksum_algorithm: digest.map(|digest| digest.algorithm.dto()),
        checksum_type: digest.map(|digest| digest.kind.dto()),
        is_truncated: Some(more),
        key: Some(key),
        max_parts: Some(count),
        next_part_number_marker: last.filter(|_| more),
        owner: Some(buckets::owner(gateway)),
        part_number_marker: Some(marker),
        parts: Some(told.collect()),
        storage_class: Some(StorageClass::from(class)),
        upload_id: Some(upload_id),
        ..ListPartsOutput::default()
    }))
}

pub(super) async fn list(
    gateway: &Gateway,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let ListMultipartUploadsInput {
        bucket,
        delimiter,
        encoding_type,
        key_marker,
        max_uploads,
        prefix,
        upload_id_marker,
        ..
    } = request.input;
    let form = Form::of(encoding_type.as_ref())?;
    let (count, count_max) = page_size(max_uploads.or(Some(PAGE_MAX)), "max-uploads")?;
    let order = ListOrder {
        prefix: prefix.clone().unwrap_or_default(),
        delimiter: delimiter.clone(),
        // Pages end with whole keys, so that an upload within one never needs to be named.
        after: key_marker.clone().filter(|marker| !marker.is_empty()),
        count_max,
    };
    let (buckets, name) = (gateway.buckets.clone(), text::bucket(&bucket)?);
    let list = blocking(move || buckets.list_uploads(&name, &order).map_err(map_error)).await?;
    let owner = buckets::owner(gateway);
    let uploads: Vec<MultipartUpload> = list
        .entries
        .into_iter()
        .map(|(key, (id, upload))| {
            let digest = digest_of(&upload);
            let class = upload.content.class.unwrap_or_else(|| USUAL_CLASS.to_owned());
            MultipartUpload {
                checksum_algorithm: digest.map(|digest| digest.algorithm.dto()),
                checksum_type: digest.map(|digest| digest.kind.dto()),
                initiated: Some(text::timestamp(upload.begun)),
                key: Some(form.text(key.into())),
                owner: Some(owner.clone()),
                storage_class: Some(StorageClass::from(class)),
                upload_id: Some(id.to_string()),
                ..MultipartUpload::default()
            }
        })
        .collect();
    let last = uploads.last().and_then(|upload| upload.upload_id.clone());
    let more = list.next.is_some();
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(bucket),
        common_prefixes: form.prefixes(list.prefixes),
        delimiter: form.optional(delimiter),
        encoding_type,
        is_truncated: Some(more),
        key_marker: Some(form.text(key_marker.unwrap_or_default())),
        max_uploads: Some(count),
        next_key_marker: form.optional(list.next),
        next_upload_id_marker: last.filter(|_| more),
        prefix: Some(form.text(prefix.unwrap_or_default())),
        upload_id_marker,
        uploads: Some(uploads),
        ..ListMultipartUploadsOutput::default()
    }))
}

/// Whether digests of a part are of use to its upload.
pub(super) fn has_digest(part: &Digests, wanted: Option<UploadDigest>) -> bool {
    wanted.is_none_or(|digest| kind_of(part).is_some() && part.contains_key(digest.algorithm.name()))
}
