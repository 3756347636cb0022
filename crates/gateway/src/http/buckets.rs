//! Buckets and what is in them, by bucket and key.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use datamesh_core::bucket::{Access, Bucket, BucketName, Key, Versioning};
use datamesh_core::limits::KEY_SIZE_MAX;
use datamesh_engine::buckets::{ListOrder, Listed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RESERVED_NAMES;
use crate::http::Face;
use crate::http::answer::Problem;
use crate::http::contents::{condition, content_of, give, media_type, store, value};
use crate::http::extract::{InPath, InQuery};
use crate::http::stream::to_its_end;
use crate::http::text::instant;
use crate::http::token::Caller;

/// Keys and prefixes of one page.
const PAGE_MAX: usize = 1000;

/// What is shown of a bucket.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct BucketView {
    bucket: String,
    /// `off`, `enabled` or `suspended`.
    versioning: &'static str,
}

/// A page of the keys of a bucket.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PageView {
    bucket: String,
    keys: Vec<KeyView>,
    /// What keys that are not listed one by one begin with.
    prefixes: Vec<String>,
    /// What `after` is for the next page; `null` where this is the last.
    next: Option<String>,
}

/// What is shown of a key.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KeyView {
    key: String,
    size: u64,
    etag: String,
    modified: String,
}

/// What was put under a key.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KeptView {
    bucket: String,
    key: String,
    /// `null` for what is made of several objects.
    object: Option<String>,
    objects: Vec<String>,
    size: u64,
    media_type: Option<String>,
    etag: String,
    modified: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct PageQuery {
    #[serde(default)]
    prefix: String,
    delimiter: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<BucketView>>, Problem> {
    let buckets = face.buckets().buckets()?.into_iter().filter(|(name, _)| caller.may_see(name));
    let view = |(name, bucket): (BucketName, Bucket)| BucketView {
        bucket: name.to_string(),
        versioning: match bucket.versioning {
            Versioning::Off => "off",
            Versioning::Enabled => "enabled",
            Versioning::Suspended => "suspended",
        },
    };
    Ok(Json(buckets.map(view).collect()))
}

pub(super) async fn create(
    State(face): State<Face>,
    InPath(bucket): InPath<String>,
) -> Result<StatusCode, Problem> {
    let name: BucketName = bucket.parse()?;
    if RESERVED_NAMES.contains(&name.as_str()) {
        return Err(Problem::usage(format!("bucket {name}: the gateway answers something else there")));
    }
    face.buckets().create_bucket(name).await?;
    Ok(StatusCode::CREATED)
}

pub(super) async fn remove(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    InPath(bucket): InPath<String>,
) -> Result<StatusCode, Problem> {
    let name: BucketName = bucket.parse()?;
    caller.may(&name, Access::Own)?;
    face.buckets().delete_bucket(name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn keys(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    InPath(bucket): InPath<String>,
    InQuery(query): InQuery<PageQuery>,
) -> Result<Json<PageView>, Problem> {
    let name: BucketName = bucket.parse()?;
    caller.may(&name, Access::Read)?;
    let PageQuery { prefix, delimiter, after, limit } = query;
    let texts = [Some(&prefix), delimiter.as_ref(), after.as_ref()];
    if texts.into_iter().flatten().any(|text| text.len() > KEY_SIZE_MAX) {
        return Err(Problem::usage(format!("prefix, delimiter and after have {KEY_SIZE_MAX} bytes at most")));
    }
    let count_max = limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    let list = face.buckets().list(&name, &ListOrder { prefix, delimiter, after, count_max })?;
    let view = |(key, listed): (Key, Listed)| KeyView {
        key: key.as_str().to_owned(),
        size: listed.size,
        etag: listed.etag,
        modified: instant(listed.modified),
    };
    Ok(Json(PageView {
        bucket: name.to_string(),
        keys: list.entries.into_iter().map(view).collect(),
        prefixes: list.prefixes,
        next: list.next,
    }))
}

pub(super) async fn put(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    InPath((bucket, key)): InPath<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (name, key): (BucketName, Key) = (bucket.parse()?, key.parse()?);
    caller.may(&name, Access::Write)?;
    let (condition, media_type) = (condition(&headers)?, media_type(&headers)?);
    // Whoever means a bucket that isn't there need not send all of it before being told.
    face.buckets().bucket(&name)?;
    let (bucket, text) = (name.to_string(), key.as_str().to_owned());
    let put_type = media_type.clone();
    let stored = to_its_end(async move {
        let stored = store(&face, &headers, body, key.as_str(), put_type.as_deref()).await?;
        let content = content_of(&stored, put_type.as_deref());
        face.buckets().put(name, key, content, condition).await?;
        Ok(stored)
    })
    .await?;
    let object = stored.extent.object.to_string();
    let view = KeptView {
        bucket,
        key: text,
        object: Some(object.clone()),
        objects: vec![object],
        size: stored.extent.size,
        media_type,
        etag: stored.md5,
        modified: None,
    };
    Ok((StatusCode::CREATED, Json(view)).into_response())
}

#[derive(Deserialize)]
pub(super) struct GetQuery {
    /// Tell what it is, in the stead of its bytes.
    #[serde(default)]
    info: Option<String>,
}

pub(super) async fn get(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    InPath((bucket, key)): InPath<(String, String)>,
    InQuery(query): InQuery<GetQuery>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (name, key): (BucketName, Key) = (bucket.parse()?, key.parse()?);
    caller.may(&name, Access::Read)?;
    let found = face.buckets().current(&name, &key)?;
    let Some(content) = &found.version.content else {
        return Err(Problem::not_found(format!("{} was deleted", key.as_str())));
    };
    if query.info.is_some() {
        let extents = face.buckets().extents(&name, content)?;
        let objects: Vec<String> = extents.iter().map(|extent| extent.object.to_string()).collect();
        return Ok(Json(KeptView {
            bucket: name.to_string(),
            key: key.as_str().to_owned(),
            object: (objects.len() == 1).then(|| objects[0].clone()),
            objects,
            size: content.size,
            media_type: content.headers.get("content-type").cloned(),
            etag: content.etag.clone(),
            modified: Some(instant(found.version.modified)),
        })
        .into_response());
    }
    give(&face, &name, key.as_str(), &found.version, &method, &headers).await
}

pub(super) async fn delete(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    InPath((bucket, key)): InPath<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (name, key): (BucketName, Key) = (bucket.parse()?, key.parse()?);
    caller.may(&name, Access::Write)?;
    let condition = condition(&headers)?;
    let deleted = face.buckets().delete(name, key, None, condition).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(slot) = deleted.slot {
        response.headers_mut().insert("datamesh-version", value(&slot.to_string()));
    }
    Ok(response)
}
