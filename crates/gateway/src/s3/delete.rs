//! Objects: deleted, one by one or many at once.

use datamesh_core::bucket::{BucketName, VersionSlot};
use datamesh_engine::buckets::{Buckets, Deleted, PutCondition};
use futures::StreamExt;
use futures::stream;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject,
    ETagCondition, ObjectIdentifier,
};
use s3s::{S3Request, S3Response, S3Result, dto, s3_error};

use crate::Gateway;
use crate::s3::errors::map_error;
use crate::s3::{buckets, text, to_the_end};

/// Most keys that one request deletes, as S3 has it.
const KEYS_MAX: usize = 1000;
/// Keys that are deleted at once.
const IN_FLIGHT_MAX: usize = 64;

pub(super) async fn one(
    gateway: &Gateway,
    request: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let input = request.input;
    let bucket = text::bucket(&input.bucket)?;
    let condition = match input.if_match {
        None => PutCondition::None,
        Some(ETagCondition::Any) => PutCondition::Present,
        Some(ETagCondition::ETag(etag)) => PutCondition::Etag(etag.into_value()),
    };
    if input.if_match_size.is_some() || input.if_match_last_modified_time.is_some() {
        return Err(s3_error!(NotImplemented, "conditions on size and time are not implemented"));
    }
    let buckets = gateway.buckets.clone();
    to_the_end(async move {
        let deleted = delete(&buckets, bucket, &input.key, input.version_id.as_deref(), condition).await?;
        Ok(S3Response::new(DeleteObjectOutput {
            delete_marker: deleted.mark.then_some(true),
            version_id: deleted.slot.map(|slot: VersionSlot| slot.to_string()),
            ..DeleteObjectOutput::default()
        }))
    })
    .await
}

pub(super) async fn many(
    gateway: &Gateway,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let (bucket, _) = buckets::find(gateway, &request.input.bucket)?;
    let dto::Delete { objects, quiet } = request.input.delete;
    if objects.is_empty() || objects.len() > KEYS_MAX {
        return Err(s3_error!(MalformedXML, "1 to {KEYS_MAX} keys are deleted at once"));
    }
    let buckets = gateway.buckets.clone();
    to_the_end(async move {
        let deletions = stream::iter(objects).map(|object| {
            let (buckets, bucket) = (buckets.clone(), bucket.clone());
            async move {
                let ObjectIdentifier { key, version_id, e_tag, .. } = object;
                let condition =
                    e_tag.map_or(PutCondition::None, |etag| PutCondition::Etag(etag.into_value()));
                let deleted = delete(&buckets, bucket, &key, version_id.as_deref(), condition).await;
                (key, version_id, deleted)
            }
        });
        let mut deletions = deletions.buffered(IN_FLIGHT_MAX);
        let (mut done, mut errors) = (Vec::new(), Vec::new());
        while let Some((key, version_id, deleted)) = deletions.next().await {
            match deleted {
                Ok(deleted) => done.push(told(key, version_id, deleted)),
                Err(error) => errors.push(dto::Error {
                    code: Some(error.code().as_str().to_owned()),
                    key: Some(key),
                    message: error.message().map(str::to_owned),
                    version_id,
                }),
            }
        }
        let deleted = (quiet != Some(true)).then_some(done);
        let errors = (!errors.is_empty()).then_some(errors);
        Ok(S3Response::new(DeleteObjectsOutput { deleted, errors, ..DeleteObjectsOutput::default() }))
    })
    .await
}

fn told(key: String, version_id: Option<String>, deleted: Deleted) -> DeletedObject {
    let mark_id = deleted.slot.filter(|_| deleted.mark).map(|slot| slot.to_string());
    DeletedObject {
        delete_marker: deleted.mark.then_some(true),
        delete_marker_version_id: mark_id,
        key: Some(key),
        version_id,
    }
}

async fn delete(
    buckets: &Buckets,
    bucket: BucketName,
    key: &str,
    version_id: Option<&str>,
    condition: PutCondition,
) -> S3Result<Deleted> {
    let (key, slot) = (text::key(key)?, text::version(version_id)?);
    buckets.delete(bucket, key, slot, condition).await.map_err(map_error)
}
