//! What S3 clients ask, translated to what buckets do.

mod attributes;
mod buckets;
mod conditions;
mod copy;
mod cors;
mod delete;
pub mod digests;
pub mod errors;
pub(crate) mod form;
mod host;
pub mod lifecycle;
mod list;
mod objects;
mod ownership;
mod parts;
mod presigned;
mod put;
mod settings;
pub(crate) mod stage;
pub(crate) mod text;
mod unmet;
mod uploads;

use std::future::Future;
use std::sync::Arc;

use hyper::body::Body as _;
use hyper::header::{CONTENT_RANGE, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::dto;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpRequest, HttpResponse, S3, S3Error, S3Request, S3Response, S3Result, s3_error};
use tracing::Instrument;

use self::cors::Foreign;
use self::host::Subdomains;
pub use self::lifecycle::expire;
use self::stage::Stage;
use crate::Gateway;
use crate::auth::Keys;
use crate::escape::hex;
use crate::spans;

/// The largest document that a request may send, bytes: a list of 10,000 parts with their digests has some 3 MB.
const XML_SIZE_MAX: usize = 4 << 20;
/// The largest file that a form may send, bytes. It is in memory until it is stored.
const FORM_FILE_SIZE_MAX: u64 = 64 << 20;
/// The largest field of a form, bytes, and all of them together.
const FORM_FIELD_SIZE_MAX: usize = 64 << 10;
const FORM_FIELDS_SIZE_MAX: usize = 256 << 10;

/// What identifies a request in answers.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// The service that answers S3 requests. [`respond`] asks it and completes what it says.
#[must_use]
pub fn service(gateway: &Gateway) -> S3Service {
    let mut builder = S3ServiceBuilder::new(Face { gateway: gateway.clone() });
    let mut config = S3Config::default();
    config.xml_max_body_size = XML_SIZE_MAX;
    config.post_object_max_file_size = FORM_FILE_SIZE_MAX;
    config.form_max_field_size = FORM_FIELD_SIZE_MAX;
    config.form_max_fields_size = FORM_FIELDS_SIZE_MAX;
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.set_auth(Keys::new(gateway.buckets.clone()));
    builder.set_access(Keys::new(gateway.buckets.clone()));
    if let Some(domain) = &gateway.settings.domain {
        builder.set_host(Subdomains::of(domain));
    }
    builder.build()
}

/// Answers a request: what browsers ask beforehand, and all that [`service`] answers, with the headers that they want to see.
///
/// # Cancel safety
/// What was begun is done or given back; only the answer is lost.
pub async fn respond(gateway: &Gateway, service: &S3Service, mut request: HttpRequest) -> HttpResponse {
    let id = request_id(gateway);
    let (stage, size) = (Stage::default(), request.body().size_hint().exact());
    request.extensions_mut().insert(stage.clone());
    let method = request.method().clone();
    let foreign = Foreign::of(gateway, &method, request.uri(), request.headers());
    let allowed = foreign.as_ref().and_then(|foreign| foreign.allowed(gateway));
    let mut response = match &foreign {
        Some(foreign) if foreign.preflight => match allowed {
            Some(_) => HttpResponse::new(Body::empty()),
            None => error_response(s3_error!(
                AccessDenied,
                "CORSResponse: This CORS request is not allowed. This is usually because the evaluation of Origin, \
                 request method / Access-Control-Request-Method or Access-Control-Request-Headers are not \
                 whitelisted by the resource's CORS spec."
            )),
        },
        _ => match admit(gateway, request).await {
            Ok(request) => service.call(request).await.unwrap_or_else(|error| {
                tracing::error!(?error, "a request can't be answered");
                error_response(s3_error!(InternalError))
            }),
            Err(error) => error_response(error),
        },
    };
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR
        && let Some(refusal) = stage.refusal(size)
    {
        response = error_response(refusal);
    }
    response.headers_mut().extend(allowed.into_iter().flatten());
    errors::name_request(&mut response, &id);
    response.headers_mut().insert(REQUEST_ID.clone(), id);
    let told = response.headers().contains_key(CONTENT_RANGE);
    if method == Method::HEAD && told && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if response.status() == StatusCode::NOT_MODIFIED {
        // The library writes a document for every error; this one has no body.
        *response.body_mut() = Body::empty();
    }
    response
}

/// Refuses what the library would go further with.
async fn admit(gateway: &Gateway, request: HttpRequest) -> S3Result<HttpRequest> {
    presigned::check(request.uri())?;
    unmet::check(request.method(), request.headers())?;
    form::admit(gateway, request).await
}

fn error_response(error: S3Error) -> HttpResponse {
    error.to_http_response().unwrap_or_else(|_| {
        let mut response = HttpResponse::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

fn request_id(gateway: &Gateway) -> HeaderValue {
    let mut bytes = [0; 8];
    gateway.buckets.world().entropy.fill(&mut bytes);
    HeaderValue::from_str(&hex(&bytes).to_ascii_uppercase()).unwrap_or(HeaderValue::from_static("0"))
}

/// Runs what reads the index, which blocks, where it holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> S3Result<T> + Send + 'static,
) -> S3Result<T> {
    tokio::task::spawn_blocking(job).await.map_err(S3Error::internal_error)?
}

/// Runs something to its end though the client goes away: what it has stored is named or given back.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = S3Result<T>> + Send + 'static,
) -> S3Result<T> {
    tokio::spawn(work.in_current_span()).await.map_err(S3Error::internal_error)?
}

/// Translates.
struct Face {
    gateway: Gateway,
}

/// Operations, each with what does it. All others answer that they are not implemented.
macro_rules! operations {
    ($($name:ident($input:ident) -> $output:ident = $module:ident::$function:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Face {
            $(
                async fn $name(&self, request: S3Request<dto::$input>) -> S3Result<S3Response<dto::$output>> {
                    Stage::begin(&request.extensions);
                    spans::operation(stringify!($name));
                    $module::$function(&self.gateway, request).await
                }
            )*
        }
    };
}

operations! {
    create_bucket(CreateBucketInput) -> CreateBucketOutput = buckets::create;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput = buckets::delete;
    head_bucket(HeadBucketInput) -> HeadBucketOutput = buckets::head;
    list_buckets(ListBucketsInput) -> ListBucketsOutput = buckets::list;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput = buckets::location;

    get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput = ownership::bucket_acl;
    put_bucket_acl(PutBucketAclInput) -> PutBucketAclOutput = ownership::put_bucket_acl;
    get_object_acl(GetObjectAclInput) -> GetObjectAclOutput = ownership::object_acl;
    put_object_acl(PutObjectAclInput) -> PutObjectAclOutput = ownership::put_object_acl;
    get_bucket_ownership_controls(GetBucketOwnershipControlsInput)
        -> GetBucketOwnershipControlsOutput = ownership::controls;

    get_object(GetObjectInput) -> GetObjectOutput = objects::get;
    head_object(HeadObjectInput) -> HeadObjectOutput = objects::head;
    get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput = objects::attributes;
    put_object(PutObjectInput) -> PutObjectOutput = put::put;
    copy_object(CopyObjectInput) -> CopyObjectOutput = copy::copy;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput = delete::one;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput = delete::many;

    list_objects(ListObjectsInput) -> ListObjectsOutput = list::first;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output = list::second;
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput = list::versions;

    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput = uploads::create;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput = uploads::complete;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput = uploads::abort;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput = uploads::list;
    list_parts(ListPartsInput) -> ListPartsOutput = uploads::list_parts;
    upload_part(UploadPartInput) -> UploadPartOutput = parts::put;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput = parts::copy;

    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput = settings::tags;
    put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput = settings::put_tags;
    delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput = settings::delete_tags;
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput = settings::bucket_tags;
    put_bucket_tagging(PutBucketTaggingInput) -> PutBucketTaggingOutput = settings::put_bucket_tags;
    delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput = settings::delete_bucket_tags;
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput = settings::versioning;
    put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput = settings::put_versioning;
    get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput = settings::cors;
    put_bucket_cors(PutBucketCorsInput) -> PutBucketCorsOutput = settings::put_cors;
    delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput = settings::delete_cors;
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput)
        -> GetBucketLifecycleConfigurationOutput = settings::lifecycle;
    put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput)
        -> PutBucketLifecycleConfigurationOutput = settings::put_lifecycle;
    delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput = settings::delete_lifecycle;
}
