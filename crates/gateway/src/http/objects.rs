//! Objects by their ids: put, got and deleted.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use datamesh_core::bucket::{BucketName, Key};
use datamesh_core::id::ObjectId;
use datamesh_engine::buckets::{ChangeError, PutCondition, Refused};
use datamesh_engine::get::{DigestCheck, Reading};
use datamesh_engine::progress::Unobserved;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::http::Face;
use crate::http::answer::Problem;
use crate::http::contents::{Opened, Subject, bounded, content_of, media_type, store, value};
use crate::http::extract::{InPath, InQuery};
use crate::http::stream::{respond, to_its_end};
use crate::http::transfers::Way;

/// The bucket that has what was put without a bucket, under the ids of the objects: so that they are kept, listed and deleted as all
/// else is.
const OBJECTS_BUCKET: &str = "objects";

#[derive(Deserialize)]
pub(super) struct PutQuery {
    #[serde(default)]
    name: String,
}

/// What was put.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PutView {
    object: String,
    name: String,
    size: u64,
    media_type: Option<String>,
    /// The MD5 of its bytes.
    etag: String,
    bucket: String,
    key: String,
}

pub(super) async fn put(
    State(face): State<Face>,
    InQuery(query): InQuery<PutQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (name, media_type) = (bounded("name", &query.name)?, media_type(&headers)?);
    let bucket = objects_bucket()?;
    ensure_bucket(&face, &bucket).await?;
    let (put_name, put_type, into) = (name.clone(), media_type.clone(), bucket.clone());
    let stored = to_its_end(async move {
        let stored = store(&face, &headers, body, &put_name, put_type.as_deref()).await?;
        let key: Key = stored.extent.object.to_string().parse()?;
        let content = content_of(&stored, put_type.as_deref());
        face.buckets().put(into, key, content, PutCondition::None).await?;
        Ok(stored)
    })
    .await?;
    let object = stored.extent.object.to_string();
    let view = PutView {
        name,
        size: stored.extent.size,
        media_type,
        etag: stored.md5,
        bucket: bucket.to_string(),
        key: object.clone(),
        object,
    };
    let location = value(&format!("/api/v1/objects/{}", view.object));
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(view)).into_response())
}

fn objects_bucket() -> Result<BucketName, Problem> {
    Ok(OBJECTS_BUCKET.parse()?)
}

/// Makes a bucket where there is none.
///
/// # Errors
/// When it is not acknowledged.
pub(super) async fn ensure_bucket(face: &Face, bucket: &BucketName) -> Result<(), Problem> {
    match face.buckets().bucket(bucket) {
        Err(ChangeError::Refused(Refused::NoBucket(_))) => {}
        found => return Ok(found.map(drop)?),
    }
    match face.buckets().create_bucket(bucket.clone()).await {
        // Another request was faster.
        Ok(()) | Err(ChangeError::Refused(Refused::BucketExists(_))) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn get(
    State(face): State<Face>,
    InPath(id): InPath<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let object: ObjectId = id.parse()?;
    let buckets = face.buckets();
    let identities = std::slice::from_ref(&**buckets.owner());
    let reading =
        Reading::open(face.world(), buckets.transfer(), Arc::new(Unobserved), object, identities).await?;
    let details = reading.details().clone();
    let name = if details.name.is_empty() { object.to_string() } else { details.name };
    let subject = Subject {
        etag: object.to_string(),
        size: details.size,
        media_type: details.media_type.as_deref(),
        name: &name,
        modified: details.created,
        immutable: true,
    };
    let (mut response, range) = match subject.open(&method, &headers)? {
        Opened::Answered(response) => return Ok(response),
        Opened::Reading(response, range) => (response, range),
    };
    let tracked = face.0.transfers.begin(Way::Get, &name, Some(range.end - range.start));
    *response.body_mut() = respond(tracked, |mut sink| async move {
        reading.copy(Some(range), DigestCheck::Skip, &mut sink).await?;
        Ok(())
    })
    .await?;
    Ok(response)
}

pub(super) async fn delete(
    State(face): State<Face>,
    InPath(id): InPath<String>,
) -> Result<StatusCode, Problem> {
    let object: ObjectId = id.parse()?;
    let (bucket, key): (BucketName, Key) = (objects_bucket()?, object.to_string().parse()?);
    let unknown = || Problem::not_found(format!("object {object} was not put here without a bucket"));
    match face.buckets().current(&bucket, &key) {
        Err(ChangeError::Refused(_)) => return Err(unknown()),
        found => drop(found?),
    }
    face.buckets().delete(bucket, key, None, PutCondition::None).await?;
    Ok(StatusCode::NO_CONTENT)
}
