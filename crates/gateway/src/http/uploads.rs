//! Uploads that may be broken off and gone on with: tus 1.0, its core with creation and termination.
//!
//! What has come is kept in the mesh as parts of an upload into a bucket, so that it is gone on with after a break on either side, and
//! at any gateway of the same owner.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use datamesh_core::bucket::{Access, BucketName, Content, Extents, Key, Upload};
use datamesh_engine::buckets::{ChangeError, Refused};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::timeout;

use crate::http::Face;
use crate::http::answer::Problem;
use crate::http::contents::{bounded, type_header, value};
use crate::http::extract::{InPath, InQuery};
use crate::http::metadata::pairs;
use crate::http::objects::ensure_bucket;
use crate::http::parts::{Held, UPLOAD_SIZE_MAX, UploadAddress, append, complete, held};
use crate::http::stream::{BodySource, OnBreak, content_length, to_its_end};
use crate::http::token::Caller;
use crate::http::transfers::Way;

const TUS_VERSION: &str = "1.0.0";
const TUS_EXTENSIONS: &str = "creation,termination";
const TUS_RESUMABLE: &str = "tus-resumable";
const UPLOAD_OFFSET: &str = "upload-offset";
const UPLOAD_LENGTH: &str = "upload-length";
const PATCH_TYPE: &str = "application/offset+octet-stream";

/// The bucket of uploads that name none.
const UPLOADS_BUCKET: &str = "uploads";
/// How long a request waits for another one to the same upload to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);
/// Uploads that are written to at once.
const UPLOADS_WRITTEN_MAX: usize = 256;

/// One upload is written to by one request at a time.
#[derive(Default)]
pub(super) struct UploadLocks(Mutex<BTreeMap<String, Weak<AsyncMutex<()>>>>);

impl UploadLocks {
    /// # Errors
    /// When another request holds it for too long, or too many uploads are written to.
    async fn lock(&self, name: &str) -> Result<OwnedMutexGuard<()>, Problem> {
        let lock = self.named(name)?;
        timeout(LOCK_PATIENCE, lock.lock_owned()).await.map_err(|_| {
            let message = "another request writes to this upload".to_owned();
            Problem::new(StatusCode::LOCKED, "busy", message)
        })
    }

    fn named(&self, name: &str) -> Result<Arc<AsyncMutex<()>>, Problem> {
        // Nothing that holds the lock can leave the map half changed.
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return Ok(lock);
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        if locks.len() >= UPLOADS_WRITTEN_MAX {
            return Err(Problem::busy(format!("{UPLOADS_WRITTEN_MAX} uploads are written to already")));
        }
        let lock = Arc::new(AsyncMutex::new(()));
        locks.insert(name.to_owned(), Arc::downgrade(&lock));
        Ok(lock)
    }
}

/// How an upload stands.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct UploadView {
    upload: String,
    bucket: String,
    key: String,
    /// Bytes that have come.
    offset: u64,
    size: u64,
    completed: bool,
    /// Of what is completed: the object that it is; `null` where it is made of several.
    object: Option<String>,
    /// Of what is completed: the objects that it is made of, in order.
    objects: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct CreateQuery {
    size: Option<u64>,
    bucket: Option<String>,
    key: Option<String>,
    #[serde(rename = "type")]
    media_type: Option<String>,
}

/// An upload as it is asked for.
struct Wish {
    size: u64,
    bucket: BucketName,
    key: Key,
    media_type: Option<String>,
}

impl Wish {
    fn read(query: CreateQuery, headers: &HeaderMap, fallback_key: String) -> Result<Self, Problem> {
        let metadata = match headers.get("upload-metadata") {
            Some(value) => pairs(value.to_str().unwrap_or("\u{fffd}"))?,
            None => BTreeMap::new(),
        };
        let named = |names: &[&str]| names.iter().find_map(|name| metadata.get(*name).cloned());
        let size = number(headers, UPLOAD_LENGTH)?.or(query.size);
        let size = size.ok_or_else(|| {
            Problem::usage("Upload-Length is needed: how many bytes it will have".to_owned())
        })?;
        if size > UPLOAD_SIZE_MAX {
            let message = format!("an upload has {UPLOAD_SIZE_MAX} bytes at most");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message));
        }
        let bucket = query.bucket.or_else(|| named(&["bucket"])).unwrap_or_else(|| UPLOADS_BUCKET.to_owned());
        let key = query.key.or_else(|| named(&["key", "filename", "name"])).unwrap_or(fallback_key);
        let media_type = query.media_type.or_else(|| named(&["filetype", "type"]));
        let media_type = media_type.map(|text| bounded("type", &text)).transpose()?;
        Ok(Self { size, bucket: bucket.parse()?, key: key.parse()?, media_type })
    }

    fn upload(&self, face: &Face) -> Upload {
        let content = Content {
            size: self.size,
            etag: String::new(),
            extents: Extents::Listed(Vec::new()),
            headers: type_header(self.media_type.as_deref()),
            metadata: BTreeMap::new(),
            tags: BTreeMap::new(),
            digests: BTreeMap::new(),
            class: None,
        };
        Upload { begun: face.world().clock.now(), content, completed: false, digest: None }
    }
}

/// A number in a header.
fn number(headers: &HeaderMap, name: &str) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| Problem::usage(format!("{name} is no number of bytes")))
}

/// A client that speaks another version than this is told so.
fn check_version(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(TUS_RESUMABLE) {
        Some(version) if version != TUS_VERSION => {
            let message = format!("tus {TUS_VERSION} is spoken here");
            Err(Problem::new(StatusCode::PRECONDITION_FAILED, "usage", message))
        }
        _ => Ok(()),
    }
}

/// Adds what every answer of tus has.
fn tus(result: Result<Response, Problem>) -> Response {
    let mut response = result.into_response();
    let headers = response.headers_mut();
    headers.insert(TUS_RESUMABLE, value(TUS_VERSION));
    if response.status() == StatusCode::PRECONDITION_FAILED {
        response.headers_mut().insert("tus-version", value(TUS_VERSION));
    }
    response
}

pub(super) async fn options() -> Response {
    tus(Ok((
        StatusCode::NO_CONTENT,
        [
            ("tus-version", TUS_VERSION.to_owned()),
            ("tus-extension", TUS_EXTENSIONS.to_owned()),
            ("tus-max-size", UPLOAD_SIZE_MAX.to_string()),
        ],
    )
        .into_response()))
}

pub(super) async fn create(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    InQuery(query): InQuery<CreateQuery>,
    headers: HeaderMap,
) -> Response {
    tus(begin(&face, &caller, query, &headers).await)
}

async fn begin(
    face: &Face,
    caller: &Caller,
    query: CreateQuery,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    check_version(headers)?;
    let mut random = [0; 8];
    face.world().entropy.fill(&mut random);
    let wish = Wish::read(query, headers, crate::escape::hex(&random))?;
    caller.may(&wish.bucket, Access::Write)?;
    if wish.bucket.as_str() == UPLOADS_BUCKET {
        ensure_bucket(face, &wish.bucket).await?;
    }
    let (bucket, key) = (wish.bucket.clone(), wish.key.clone());
    let id = face.buckets().begin_upload(bucket.clone(), key.clone(), wish.upload(face)).await?;
    let address = UploadAddress { bucket, key, id };
    if wish.size == 0 {
        // No request follows for what has no bytes.
        let (face, address) = (face.clone(), address.clone());
        to_its_end(async move { finish_empty(&face, &address).await }).await?;
    }
    let view = view(face, &address)?;
    let location = value(&format!("/api/v1/uploads/{}", view.upload));
    let offset = value(&view.offset.to_string());
    let headers = [(LOCATION.as_str(), location), (UPLOAD_OFFSET, offset)];
    Ok((StatusCode::CREATED, headers, Json(view)).into_response())
}

async fn finish_empty(face: &Face, address: &UploadAddress) -> Result<(), Problem> {
    let mut source = BodySource::new(Body::empty(), None, OnBreak::End);
    source.begin(axum::body::Bytes::new(), 0);
    crate::http::parts::put_empty(face.buckets(), address, &mut source).await?;
    complete(face.buckets(), address, held(face.buckets(), address)?.parts).await
}

/// How an upload stands, be it completed.
fn view(face: &Face, address: &UploadAddress) -> Result<UploadView, Problem> {
    let buckets = face.buckets();
    let shown = |offset, size, objects: Option<Vec<String>>| UploadView {
        upload: address.text(),
        bucket: address.bucket.to_string(),
        key: address.key.as_str().to_owned(),
        offset,
        size,
        completed: objects.is_some(),
        object: objects.as_ref().filter(|objects| objects.len() == 1).map(|objects| objects[0].clone()),
        objects: objects.unwrap_or_default(),
    };
    match buckets.upload(&address.bucket, &address.key, address.id) {
        Ok(upload) => Ok(shown(held(buckets, address)?.offset, upload.content.size, None)),
        Err(ChangeError::Refused(Refused::NoUpload(id))) => {
            let gone = || {
                Problem::new(
                    StatusCode::NOT_FOUND,
                    "not-found",
                    format!("there is no upload {id}, or it was replaced"),
                )
            };
            let found = buckets.current(&address.bucket, &address.key).map_err(|_| gone())?;
            let content = found.version.content.ok_or_else(gone)?;
            match &content.extents {
                Extents::Uploaded { upload, .. } if *upload == id => {}
                _ => return Err(gone()),
            }
            let extents = buckets.extents(&address.bucket, &content)?;
            let objects = extents.iter().map(|extent| extent.object.to_string()).collect();
            Ok(shown(content.size, content.size, Some(objects)))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn head(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath<String>,
    headers: HeaderMap,
) -> Response {
    let looked = async {
        check_version(&headers)?;
        let view = look(&face, &caller, &name).await?;
        let told = [
            (UPLOAD_OFFSET, view.offset.to_string()),
            (UPLOAD_LENGTH, view.size.to_string()),
            (CACHE_CONTROL.as_str(), "no-store".to_owned()),
        ];
        Ok((StatusCode::OK, told, object_header(&view)).into_response())
    };
    tus(looked.await)
}

fn object_header(view: &UploadView) -> HeaderMap {
    let object = view.object.as_deref().map(value);
    object.map(|object| ("datamesh-object".parse().expect("a header's name"), object)).into_iter().collect()
}

pub(super) async fn get(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath<String>,
) -> Response {
    tus(look(&face, &caller, &name).await.map(|view| Json(view).into_response()))
}

/// Waits until nobody writes to it, since a request that was broken off still puts what it has got.
async fn look(face: &Face, caller: &Caller, name: &str) -> Result<UploadView, Problem> {
    let address = UploadAddress::parse(name)?;
    caller.may(&address.bucket, Access::Write)?;
    let _lock = face.0.locks.lock(name).await?;
    view(face, &address)
}

pub(super) async fn patch(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    tus(write(face, &caller, name, &headers, body).await)
}

async fn write(
    face: Face,
    caller: &Caller,
    name: String,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    check_version(headers)?;
    if headers.get(CONTENT_TYPE).is_none_or(|told| told != PATCH_TYPE) {
        let message = format!("the body of a PATCH is {PATCH_TYPE}");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "usage", message));
    }
    let offset = number(headers, UPLOAD_OFFSET)?;
    let offset = offset.ok_or_else(|| Problem::usage("Upload-Offset is needed".to_owned()))?;
    let address = UploadAddress::parse(&name)?;
    caller.may(&address.bucket, Access::Write)?;
    let length = content_length(headers);
    let lock = face.0.locks.lock(&name).await?;
    let view = to_its_end(async move {
        let done = go_on(&face, &address, (offset, length), body).await;
        drop(lock);
        done
    })
    .await?;
    let told = [(UPLOAD_OFFSET, view.offset.to_string())];
    Ok((StatusCode::NO_CONTENT, told, object_header(&view)).into_response())
}

async fn go_on(
    face: &Face,
    address: &UploadAddress,
    (offset, length): (u64, Option<u64>),
    body: Body,
) -> Result<UploadView, Problem> {
    let before = view(face, address)?;
    if before.offset != offset {
        let message = format!("the upload is at byte {}, and not at {offset}", before.offset);
        return Err(Problem::new(StatusCode::CONFLICT, "conflict", message)
            .header(UPLOAD_OFFSET.parse().expect("a header's name"), value(&before.offset.to_string())));
    }
    if before.completed {
        return Ok(before);
    }
    if length.is_some_and(|length| length > before.size - offset) {
        let message = format!("the upload lacks {} bytes, and the body has more", before.size - offset);
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message));
    }
    let buckets = face.buckets();
    let tracked = face.0.transfers.begin(Way::Put, address.key.as_str(), Some(before.size));
    tracked.resume(offset);
    let mut source = BodySource::new(body, length, OnBreak::End);
    let appended = append(buckets, address, before.size, &mut source, &tracked).await;
    tracked.ended(appended.as_ref().err().map(Problem::message).or(source.broken()));
    if appended? == before.size {
        let Held { parts, .. } = held(buckets, address)?;
        complete(buckets, address, parts).await?;
    }
    view(face, address)
}

pub(super) async fn terminate(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath<String>,
    headers: HeaderMap,
) -> Response {
    let ended = async {
        check_version(&headers)?;
        let address = UploadAddress::parse(&name)?;
        caller.may(&address.bucket, Access::Write)?;
        let _lock = face.0.locks.lock(&name).await?;
        let UploadAddress { bucket, key, id } = address;
        face.buckets().abort_upload(bucket, key, id).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    tus(ended.await)
}
