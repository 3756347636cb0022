//! Who asks, shown by signatures, and what that key lets them do.

use std::sync::Arc;

use datamesh_core::bucket::{Access, AccessKey};
use datamesh_engine::buckets::Buckets;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::{CopyObjectInput, CopySource, PostObjectInput, UploadPartCopyInput};
use s3s::path::S3Path;
use s3s::{S3Request, S3Result, s3_error};

use crate::s3::errors::map_index;
use crate::s3::form::FileName;
use crate::s3::stage::Stage;
use crate::s3::text;

/// The keys of the owner whose buckets these are, and what they allow.
#[derive(Clone)]
pub struct Keys {
    buckets: Buckets,
}

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Any key: what is shown is what the key may read.
    Key,
    /// This, in the bucket that is named.
    There(Access),
    /// This, in all buckets.
    Everywhere(Access),
}

impl Keys {
    /// The keys that these buckets' owner has made.
    #[must_use]
    pub const fn new(buckets: Buckets) -> Self {
        Self { buckets }
    }
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        Ok(known_key(&self.buckets, access_key)?.secret.into())
    }
}

#[async_trait::async_trait]
impl S3Access for Keys {
    /// Decided before a byte of the body is used. What is not allowed here by name is refused.
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(credentials) = context.credentials() else {
            return Err(s3_error!(AccessDenied, "Requests must be signed"));
        };
        let key = known_key(&self.buckets, &credentials.access_key)?;
        let operation = context.s3_op().name();
        let need =
            need_of(operation).ok_or_else(|| s3_error!(NotImplemented, "{operation} is not implemented"))?;
        let bucket = match context.s3_path() {
            S3Path::Root => None,
            S3Path::Bucket { bucket } | S3Path::Object { bucket, .. } => Some(&**bucket),
        };
        if !is_met(need, &key, bucket)? {
            return Err(s3_error!(AccessDenied));
        }
        context.extensions_mut().insert(Arc::new(key));
        Stage::allow(context.extensions_mut());
        Ok(())
    }

    async fn copy_object(&self, request: &mut S3Request<CopyObjectInput>) -> S3Result<()> {
        may_read(request, &request.input.copy_source)
    }

    async fn upload_part_copy(&self, request: &mut S3Request<UploadPartCopyInput>) -> S3Result<()> {
        may_read(request, &request.input.copy_source)
    }

    /// Puts the name of the file into the key where the form asks for that.
    async fn post_object(&self, request: &mut S3Request<PostObjectInput>) -> S3Result<()> {
        if let Some(name) = request.extensions.get::<FileName>() {
            request.input.key = name.in_key(&request.input.key);
        }
        Ok(())
    }
}

/// The access key with this id.
///
/// # Errors
/// `InvalidAccessKeyId` where there is none.
pub(crate) fn known_key(buckets: &Buckets, id: &str) -> S3Result<AccessKey> {
    let unknown = || s3_error!(InvalidAccessKeyId, "The access key Id you provided does not exist.");
    buckets.access_key(id).map_err(map_index)?.ok_or_else(unknown)
}

/// The key that a request was signed with, as it was when that was checked.
///
/// # Errors
/// `AccessDenied` where nothing was checked.
pub(crate) fn key_of<T>(request: &S3Request<T>) -> S3Result<Arc<AccessKey>> {
    request.extensions.get::<Arc<AccessKey>>().cloned().ok_or_else(|| s3_error!(AccessDenied))
}

fn may_read<T>(request: &S3Request<T>, source: &CopySource) -> S3Result<()> {
    let CopySource::Bucket { bucket, .. } = source else {
        return Err(s3_error!(NotImplemented, "access points are not implemented"));
    };
    if is_met(Need::There(Access::Read), &*key_of(request)?, Some(&**bucket))? {
        return Ok(());
    }
    Err(s3_error!(AccessDenied))
}

fn is_met(need: Need, key: &AccessKey, bucket: Option<&str>) -> S3Result<bool> {
    Ok(match need {
        Need::Key => true,
        Need::There(access) => match bucket {
            Some(bucket) => key.allows(&text::bucket(bucket)?, access),
            None => false,
        },
        Need::Everywhere(access) => key.allows_everywhere(access),
    })
}

/// What an operation needs; `None` for those that are not there.
fn need_of(operation: &str) -> Option<Need> {
    Some(match operation {
        "ListBuckets" => Need::Key,
        "CreateBucket" => Need::Everywhere(Access::Own),
        "HeadBucket"
        | "GetBucketLocation"
        | "ListObjects"
        | "ListObjectsV2"
        | "ListObjectVersions"
        | "ListMultipartUploads"
        | "ListParts"
        | "GetObject"
        | "HeadObject"
        | "GetObjectAttributes"
        | "GetObjectTagging"
        | "GetBucketAcl"
        | "GetObjectAcl"
        | "GetBucketOwnershipControls"
        | "GetBucketVersioning"
        | "GetBucketTagging"
        | "GetBucketCors"
        | "GetBucketLifecycleConfiguration" => Need::There(Access::Read),
        "PutObject"
        | "PostObject"
        | "CopyObject"
        | "DeleteObject"
        | "DeleteObjects"
        | "CreateMultipartUpload"
        | "UploadPart"
        | "UploadPartCopy"
        | "CompleteMultipartUpload"
        | "AbortMultipartUpload"
        | "PutObjectAcl"
        | "PutObjectTagging"
        | "DeleteObjectTagging" => Need::There(Access::Write),
        "DeleteBucket"
        | "PutBucketAcl"
        | "PutBucketVersioning"
        | "PutBucketTagging"
        | "DeleteBucketTagging"
        | "PutBucketCors"
        | "DeleteBucketCors"
        | "PutBucketLifecycleConfiguration"
        | "DeleteBucketLifecycle" => Need::There(Access::Own),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use datamesh_core::bucket::{Access, AccessKey, Grant};
    use datamesh_core::time::Timestamp;

    use super::{Need, is_met, need_of};

    fn key(bucket: Option<&str>, access: Access) -> AccessKey {
        let grants = vec![Grant { bucket: bucket.map(|name| name.parse().unwrap()), access }];
        AccessKey { secret: "secret".to_owned(), created: Timestamp::from_ms(0), grants, name: None }
    }

    #[test]
    fn a_key_does_in_its_bucket_what_it_was_given_for_and_nothing_elsewhere() {
        let reader = key(Some("photos"), Access::Read);
        for (operation, bucket, met) in [
            ("GetObject", "photos", true),
            ("ListObjectsV2", "photos", true),
            ("PutObject", "photos", false),
            ("PostObject", "photos", false),
            ("DeleteBucket", "photos", false),
            ("GetObject", "letters", false),
        ] {
            assert_eq!(
                is_met(need_of(operation).unwrap(), &reader, Some(bucket)).unwrap(),
                met,
                "{operation}"
            );
        }
        let writer = key(Some("photos"), Access::Write);
        assert!(is_met(need_of("CompleteMultipartUpload").unwrap(), &writer, Some("photos")).unwrap());
        assert!(!is_met(need_of("PutBucketCors").unwrap(), &writer, Some("photos")).unwrap());
        let owner = key(Some("photos"), Access::Own);
        assert!(is_met(need_of("DeleteBucket").unwrap(), &owner, Some("photos")).unwrap());
        assert!(!is_met(need_of("CreateBucket").unwrap(), &owner, Some("photos")).unwrap());
        assert!(is_met(need_of("CreateBucket").unwrap(), &key(None, Access::Own), Some("new")).unwrap());
    }

    #[test]
    fn what_is_not_named_is_not_there() {
        assert_eq!(need_of("GetBucketPolicy"), None);
        assert_eq!(need_of("PutBucketPolicy"), None);
        assert_eq!(need_of("ListBuckets"), Some(Need::Key));
    }
}
