//! Whose buckets and objects are, as far as S3 has words for it: all is its owner's, and access keys say who else may what.

use s3s::dto::{
    BucketCannedACL, GetBucketAclInput, GetBucketAclOutput, GetBucketOwnershipControlsInput,
    GetBucketOwnershipControlsOutput, GetObjectAclInput, GetObjectAclOutput, Grant, Grantee, ObjectCannedACL,
    ObjectOwnership, OwnershipControls, OwnershipControlsRule, Permission, PutBucketAclInput,
    PutBucketAclOutput, PutObjectAclInput, PutObjectAclOutput, Type,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, dto, s3_error};

use crate::Gateway;
use crate::s3::{buckets, objects, text};

pub(super) async fn bucket_acl(
    gateway: &Gateway,
    request: S3Request<GetBucketAclInput>,
) -> S3Result<S3Response<GetBucketAclOutput>> {
    buckets::find(gateway, &request.input.bucket)?;
    let owner = buckets::owner(gateway);
    Ok(S3Response::new(GetBucketAclOutput { grants: Some(vec![full_control(&owner)]), owner: Some(owner) }))
}

pub(super) async fn object_acl(
    gateway: &Gateway,
    request: S3Request<GetObjectAclInput>,
) -> S3Result<S3Response<GetObjectAclOutput>> {
    let GetObjectAclInput { bucket, key, version_id, .. } = request.input;
    objects::find(gateway, text::names(&bucket, &key)?, text::version(version_id.as_deref())?).await?;
    let owner = buckets::owner(gateway);
    let grants = Some(vec![full_control(&owner)]);
    Ok(S3Response::new(GetObjectAclOutput { grants, owner: Some(owner), ..GetObjectAclOutput::default() }))
}

/// Takes the one ACL that there is anyway.
pub(super) async fn put_bucket_acl(
    gateway: &Gateway,
    request: S3Request<PutBucketAclInput>,
) -> S3Result<S3Response<PutBucketAclOutput>> {
    buckets::find(gateway, &request.input.bucket)?;
    match request.input.acl.as_ref().map(BucketCannedACL::as_str) {
        Some(BucketCannedACL::PRIVATE) => Ok(S3Response::new(PutBucketAclOutput::default())),
        _ => Err(no_other()),
    }
}

/// Takes the ones that say what is so anyway.
pub(super) async fn put_object_acl(
    gateway: &Gateway,
    request: S3Request<PutObjectAclInput>,
) -> S3Result<S3Response<PutObjectAclOutput>> {
    let PutObjectAclInput { bucket, key, version_id, acl, .. } = request.input;
    objects::find(gateway, text::names(&bucket, &key)?, text::version(version_id.as_deref())?).await?;
    match acl.as_ref().map(ObjectCannedACL::as_str) {
        Some(ObjectCannedACL::PRIVATE | ObjectCannedACL::BUCKET_OWNER_FULL_CONTROL) => {
            Ok(S3Response::new(PutObjectAclOutput::default()))
        }
        _ => Err(no_other()),
    }
}

pub(super) async fn controls(
    gateway: &Gateway,
    request: S3Request<GetBucketOwnershipControlsInput>,
) -> S3Result<S3Response<GetBucketOwnershipControlsOutput>> {
    buckets::find(gateway, &request.input.bucket)?;
    let enforced = ObjectOwnership::from_static(ObjectOwnership::BUCKET_OWNER_ENFORCED);
    let rules = vec![OwnershipControlsRule { object_ownership: enforced }];
    let ownership_controls = Some(OwnershipControls { rules });
    Ok(S3Response::new(GetBucketOwnershipControlsOutput { ownership_controls }))
}

fn full_control(owner: &dto::Owner) -> Grant {
    let grantee = Grantee {
        display_name: owner.display_name.clone(),
        email_address: None,
        id: owner.id.clone(),
        type_: Type::from_static(Type::CANONICAL_USER),
        uri: None,
    };
    Grant { grantee: Some(grantee), permission: Some(Permission::from_static(Permission::FULL_CONTROL)) }
}

fn no_other() -> S3Error {
    s3_error!(AccessControlListNotSupported, "access is given to access keys: datamesh access grant")
}
