//! Buckets: made, found, listed and removed.

use datamesh_core::bucket::{Access, Bucket, BucketName};
use datamesh_engine::buckets::{ChangeError, Refused};
use s3s::dto::{
    BucketLocationConstraint, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput,
    GetBucketLocationInput, GetBucketLocationOutput, HeadBucketInput, HeadBucketOutput, ListBucketsInput,
    ListBucketsOutput,
};
use s3s::{S3Request, S3Response, S3Result, dto, s3_error};

use crate::Gateway;
use crate::auth::key_of;
use crate::s3::errors::{map_error, map_index};
use crate::s3::text;

/// The region that has no name where buckets are located.
const UNNAMED_REGION: &str = "us-east-1";
/// Most buckets of one page of a list.
const BUCKETS_MAX: usize = 10_000;

pub(super) async fn create(
    gateway: &Gateway,
    request: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let name = text::bucket(&request.input.bucket)?;
    if request.input.object_lock_enabled_for_bucket == Some(true) {
        return Err(s3_error!(NotImplemented, "object lock is not implemented"));
    }
    if request.input.acl.is_some_and(|acl| acl.as_str() != "private") {
        return Err(s3_error!(InvalidBucketAclWithObjectOwnership, "buckets are private"));
    }
    let location = format!("/{name}");
    match gateway.buckets.create_bucket(name).await {
        // In this region, and in no other, making one's own bucket again changes nothing and is well.
        Err(ChangeError::Refused(Refused::BucketExists(_))) if gateway.settings.region == UNNAMED_REGION => {}
        made => drop(made.map_err(map_error)?),
    }
    Ok(S3Response::new(CreateBucketOutput { location: Some(location) }))
}

pub(super) async fn delete(
    gateway: &Gateway,
    request: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let name = text::bucket(&request.input.bucket)?;
    gateway.buckets.delete_bucket(name).await.map_err(map_error)?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}

pub(super) async fn head(
    gateway: &Gateway,
    request: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    find(gateway, &request.input.bucket)?;
    let bucket_region = Some(gateway.settings.region.clone());
    Ok(S3Response::new(HeadBucketOutput { bucket_region, ..HeadBucketOutput::default() }))
}

pub(super) async fn location(
    gateway: &Gateway,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    find(gateway, &request.input.bucket)?;
    let region = &gateway.settings.region;
    let named = (region != UNNAMED_REGION).then(|| BucketLocationConstraint::from(region.clone()));
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint: named }))
}

/// Lists the buckets that the key of the request may read.
pub(super) async fn list(
    gateway: &Gateway,
    request: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let key = key_of(&request)?;
    let ListBucketsInput { continuation_token, max_buckets, prefix, bucket_region } = request.input;
    let elsewhere = bucket_region.is_some_and(|region| region != gateway.settings.region);
    let count_max =
        max_buckets.map_or(BUCKETS_MAX, |count| usize::try_from(count).unwrap_or(0).min(BUCKETS_MAX));
    let begins = |name: &BucketName| prefix.as_deref().is_none_or(|prefix| name.as_str().starts_with(prefix));
    let behind = |name: &BucketName| continuation_token.as_deref().is_none_or(|last| name.as_str() > last);
    let all = gateway.buckets.buckets().map_err(map_index)?;
    let mut shown = all
        .into_iter()
        .filter(|(name, _)| !elsewhere && begins(name) && behind(name) && key.allows(name, Access::Read));
    let page: Vec<(BucketName, Bucket)> = shown.by_ref().take(count_max).collect();
    let last = page.last().map(|(name, _)| name.to_string());
    let more = shown.next().is_some();
    let buckets = page.into_iter().map(|(name, bucket)| dto::Bucket {
        bucket_region: Some(gateway.settings.region.clone()),
        creation_date: Some(text::timestamp(bucket.created.instant())),
        name: Some(name.into()),
    });
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(buckets.collect()),
        continuation_token: last.filter(|_| more),
        owner: Some(owner(gateway)),
        prefix,
    }))
}

/// A bucket that is there.
pub(super) fn find(gateway: &Gateway, name: &str) -> S3Result<(BucketName, Bucket)> {
    let name = text::bucket(name)?;
    let bucket = gateway.buckets.bucket(&name).map_err(map_error)?;
    Ok((name, bucket))
}

/// Whose all of it is.
pub(super) fn owner(gateway: &Gateway) -> dto::Owner {
    let id = gateway.buckets.owner().owner().to_string();
    dto::Owner { display_name: Some(gateway.settings.mesh.clone()), id: Some(id) }
}
