//! What is set for a bucket or noted with an object: versioning, tags, and the documents of rules.

use std::collections::BTreeMap;

use datamesh_core::bucket::{Bucket, Versioning};
use datamesh_engine::buckets::{ChangeError, Refused};
use s3s::dto::{
    BucketLifecycleConfiguration, BucketVersioningStatus, CORSConfiguration, DeleteBucketCorsInput,
    DeleteBucketCorsOutput, DeleteBucketLifecycleInput, DeleteBucketLifecycleOutput,
    DeleteBucketTaggingInput, DeleteBucketTaggingOutput, DeleteObjectTaggingInput, DeleteObjectTaggingOutput,
    GetBucketCorsInput, GetBucketCorsOutput, GetBucketLifecycleConfigurationInput,
    GetBucketLifecycleConfigurationOutput, GetBucketTaggingInput, GetBucketTaggingOutput,
    GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectTaggingInput, GetObjectTaggingOutput,
    PutBucketCorsInput, PutBucketCorsOutput, PutBucketLifecycleConfigurationInput,
    PutBucketLifecycleConfigurationOutput, PutBucketTaggingInput, PutBucketTaggingOutput,
    PutBucketVersioningInput, PutBucketVersioningOutput, PutObjectTaggingInput, PutObjectTaggingOutput,
    Tagging,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error, xml};

use crate::Gateway;
use crate::s3::attributes::{BUCKET_TAGS_MAX, OBJECT_TAGS_MAX, tag_set, tags_of};
use crate::s3::errors::map_error;
use crate::s3::objects::find;
use crate::s3::{buckets, cors, lifecycle, text, to_the_end};

/// The names of documents that buckets keep for this face.
const CORS: &str = "s3.cors";
pub(super) const LIFECYCLE: &str = "s3.lifecycle";
const TAGGING: &str = "s3.tagging";
/// The longest document, bytes: all of a bucket's fit a block of the log.
const DOCUMENT_SIZE_MAX: usize = 64 << 10;

/// A document of a bucket; `None` where there is none.
pub(super) fn document<T: for<'xml> xml::Deserialize<'xml>>(
    bucket: &Bucket,
    name: &str,
) -> S3Result<Option<T>> {
    let Some(text) = bucket.documents.get(name) else { return Ok(None) };
    let parsed = T::deserialize(&mut xml::Deserializer::new(text.as_bytes()));
    parsed.map(Some).map_err(S3Error::internal_error)
}

/// The rules of origins of a bucket.
pub(super) fn cors_of(bucket: &Bucket) -> S3Result<Option<CORSConfiguration>> {
    document(bucket, CORS)
}

async fn set(gateway: &Gateway, name: &str, document: &'static str, text: Option<String>) -> S3Result<()> {
    let name = text::bucket(name)?;
    if text.as_ref().is_some_and(|text| text.len() > DOCUMENT_SIZE_MAX) {
        return Err(s3_error!(
            MaxMessageLengthExceeded,
            "a document of {DOCUMENT_SIZE_MAX} bytes at most is kept"
        ));
    }
    let change = move |bucket: &mut Bucket| match text {
        Some(text) => drop(bucket.documents.insert(document.to_owned(), text)),
        None => drop(bucket.documents.remove(document)),
    };
    let buckets = gateway.buckets.clone();
    to_the_end(async move { buckets.set_bucket(name, change).await.map_err(map_error) }).await
}

fn written<T: xml::Serialize>(document: &T) -> S3Result<Option<String>> {
    let mut text = Vec::new();
    document.serialize(&mut xml::Serializer::new(&mut text)).map_err(S3Error::internal_error)?;
    String::from_utf8(text).map(Some).map_err(S3Error::internal_error)
}

pub(super) async fn put_versioning(
    gateway: &Gateway,
    request: S3Request<PutBucketVersioningInput>,
) -> S3Result<S3Response<PutBucketVersioningOutput>> {
    let name = text::bucket(&request.input.bucket)?;
    let asked = request.input.versioning_configuration;
    if asked.mfa_delete.is_some_and(|mfa| mfa.as_str() == "Enabled") {
        return Err(s3_error!(NotImplemented, "deletion by a second factor is not implemented"));
    }
    let versioning = match asked.status.as_ref().map(BucketVersioningStatus::as_str) {
        Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
        Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
        _ => return Err(s3_error!(IllegalVersioningConfigurationException)),
    };
    let buckets = gateway.buckets.clone();
    let change = move |bucket: &mut Bucket| bucket.versioning = versioning;
    to_the_end(async move { buckets.set_bucket(name, change).await.map_err(map_error) }).await?;
    Ok(S3Response::new(PutBucketVersioningOutput::default()))
}

pub(super) async fn versioning(
    gateway: &Gateway,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let (_, bucket) = buckets::find(gateway, &request.input.bucket)?;
    let status = match bucket.versioning {
        Versioning::Off => None,
        Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
        Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
    };
    let status = status.map(BucketVersioningStatus::from_static);
    Ok(S3Response::new(GetBucketVersioningOutput { status, ..GetBucketVersioningOutput::default() }))
}

pub(super) async fn put_bucket_tags(
    gateway: &Gateway,
    request: S3Request<PutBucketTaggingInput>,
) -> S3Result<S3Response<PutBucketTaggingOutput>> {
    let PutBucketTaggingInput { bucket, tagging, .. } = request.input;
    let tags = tags_of(tagging.tag_set, BUCKET_TAGS_MAX)?;
    set(gateway, &bucket, TAGGING, written(&Tagging { tag_set: tag_set(tags) })?).await?;
    Ok(S3Response::new(PutBucketTaggingOutput::default()))
}

pub(super) async fn bucket_tags(
    gateway: &Gateway,
    request: S3Request<GetBucketTaggingInput>,
) -> S3Result<S3Response<GetBucketTaggingOutput>> {
    let (_, bucket) = buckets::find(gateway, &request.input.bucket)?;
    let tagging: Tagging = document(&bucket, TAGGING)?.ok_or_else(|| s3_error!(NoSuchTagSet))?;
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set: tagging.tag_set }))
}

pub(super) async fn delete_bucket_tags(
    gateway: &Gateway,
    request: S3Request<DeleteBucketTaggingInput>,
) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
    set(gateway, &request.input.bucket, TAGGING, None).await?;
    Ok(S3Response::new(DeleteBucketTaggingOutput::default()))
}

pub(super) async fn put_cors(
    gateway: &Gateway,
    request: S3Request<PutBucketCorsInput>,
) -> S3Result<S3Response<PutBucketCorsOutput>> {
    let PutBucketCorsInput { bucket, cors_configuration, .. } = request.input;
    cors::check(&cors_configuration)?;
    set(gateway, &bucket, CORS, written(&cors_configuration)?).await?;
    Ok(S3Response::new(PutBucketCorsOutput::default()))
}

pub(super) async fn cors(
    gateway: &Gateway,
    request: S3Request<GetBucketCorsInput>,
) -> S3Result<S3Response<GetBucketCorsOutput>> {
    let (_, bucket) = buckets::find(gateway, &request.input.bucket)?;
    let rules = cors_of(&bucket)?.ok_or_else(|| s3_error!(NoSuchCORSConfiguration))?.cors_rules;
    Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(rules) }))
}

pub(super) async fn delete_cors(
    gateway: &Gateway,
    request: S3Request<DeleteBucketCorsInput>,
) -> S3Result<S3Response<DeleteBucketCorsOutput>> {
    set(gateway, &request.input.bucket, CORS, None).await?;
    Ok(S3Response::new(DeleteBucketCorsOutput::default()))
}

pub(super) async fn put_lifecycle(
    gateway: &Gateway,
    request: S3Request<PutBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
    let PutBucketLifecycleConfigurationInput { bucket, lifecycle_configuration, .. } = request.input;
    let configuration = lifecycle_configuration.ok_or_else(|| s3_error!(MalformedXML))?;
    let configuration = lifecycle::checked(configuration)?;
    set(gateway, &bucket, LIFECYCLE, written(&configuration)?).await?;
    Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
}

pub(super) async fn lifecycle(
    gateway: &Gateway,
    request: S3Request<GetBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
    let (_, bucket) = buckets::find(gateway, &request.input.bucket)?;
    let configuration: BucketLifecycleConfiguration =
        document(&bucket, LIFECYCLE)?.ok_or_else(|| s3_error!(NoSuchLifecycleConfiguration))?;
    let rules = Some(configuration.rules);
    Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
        rules,
        ..GetBucketLifecycleConfigurationOutput::default()
    }))
}

pub(super) async fn delete_lifecycle(
    gateway: &Gateway,
    request: S3Request<DeleteBucketLifecycleInput>,
) -> S3Result<S3Response<DeleteBucketLifecycleOutput>> {
    set(gateway, &request.input.bucket, LIFECYCLE, None).await?;
    Ok(S3Response::new(DeleteBucketLifecycleOutput::default()))
}

pub(super) async fn put_tags(
    gateway: &Gateway,
    request: S3Request<PutObjectTaggingInput>,
) -> S3Result<S3Response<PutObjectTaggingOutput>> {
    let PutObjectTaggingInput { bucket, key, tagging, version_id, .. } = request.input;
    let tags = tags_of(tagging.tag_set, OBJECT_TAGS_MAX)?;
    let version_id = annotate(gateway, (&bucket, &key), version_id.as_deref(), tags).await?;
    Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
}

pub(super) async fn delete_tags(
    gateway: &Gateway,
    request: S3Request<DeleteObjectTaggingInput>,
) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
    let DeleteObjectTaggingInput { bucket, key, version_id, .. } = request.input;
    let version_id = annotate(gateway, (&bucket, &key), version_id.as_deref(), BTreeMap::new()).await?;
    Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
}

/// Sets the tags of an object.
async fn annotate(
    gateway: &Gateway,
    (bucket, key): (&str, &str),
    version_id: Option<&str>,
    tags: BTreeMap<String, String>,
) -> S3Result<Option<String>> {
    let (bucket, key) = text::names(bucket, key)?;
    let slot = text::version(version_id)?;
    let versioning = gateway.buckets.bucket(&bucket).map_err(map_error)?.versioning;
    let buckets = gateway.buckets.clone();
    let annotated = to_the_end(async move {
        let annotated = buckets.annotate(bucket, key, slot, move |content| content.tags = tags).await;
        annotated.map_err(|error| match error {
            ChangeError::Refused(Refused::NoKey(_)) if slot.is_some() => s3_error!(NoSuchVersion),
            ChangeError::Refused(Refused::Deleted(_)) if slot.is_some() => s3_error!(MethodNotAllowed),
            error => map_error(error),
        })
    });
    let slot = annotated.await?;
    Ok((versioning != Versioning::Off).then(|| slot.to_string()))
}

pub(super) async fn tags(
    gateway: &Gateway,
    request: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let GetObjectTaggingInput { bucket, key, version_id, .. } = request.input;
    let names = text::names(&bucket, &key)?;
    let shown = find(gateway, names, text::version(version_id.as_deref())?).await?;
    let version_id = shown.version_id();
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set: tag_set(shown.content.tags), version_id }))
}
