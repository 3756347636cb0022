//! Contents: bodies that become objects, and answers that are read from them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderName, IF_MATCH, IF_NONE_MATCH, LAST_MODIFIED, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use datamesh_core::bucket::{BucketName, Content, Extent, Extents, Version};
use datamesh_core::limits::DETAIL_TEXT_SIZE_MAX;
use datamesh_core::time::Timestamp;
use datamesh_engine::buckets::{ContentSubject, PutCondition};
use tracing::{Instrument, info_span};

use crate::http::Face;
use crate::http::answer::Problem;
use crate::http::range::{Wanted, wanted};
use crate::http::stream::{BodySource, OnBreak, content_length, respond};
use crate::http::text::{disposition, http_date};
use crate::http::transfers::Way;

/// The media type of what nobody has said more of.
const BYTES: &str = "application/octet-stream";

/// What an answer says of what it gives.
pub(super) struct Subject<'a> {
    /// What tells it from all others, without its quotes.
    pub(super) etag: String,
    pub(super) size: u64,
    pub(super) media_type: Option<&'a str>,
    /// Under what name a browser saves it.
    pub(super) name: &'a str,
    pub(super) modified: Timestamp,
    /// Whether what is under this address can never be another.
    pub(super) immutable: bool,
}

/// What a request for a subject comes to, short of its bytes.
pub(super) enum Opened {
    /// Everything has been said.
    Answered(Response),
    /// These bytes are to follow as the body.
    Reading(Response, Range<u64>),
}

impl Subject<'_> {
    /// Looks at what is wanted: the headers of the answer, and the bytes that are to follow.
    ///
    /// # Errors
    /// A problem for conditions that aren't met, and for ranges behind the end.
    pub(super) fn open(&self, method: &Method, headers: &HeaderMap) -> Result<Opened, Problem> {
        let size = self.size;
        let (status, range) = match wanted(headers, &self.etag, size, self.modified) {
            Wanted::Whole => (StatusCode::OK, 0..size),
            Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
            Wanted::Unchanged => (StatusCode::NOT_MODIFIED, 0..0),
            Wanted::Other => {
                let message = "what is there is not what the condition says".to_owned();
                return Err(Problem::new(StatusCode::PRECONDITION_FAILED, "condition", message));
            }
            Wanted::Beyond => {
                let message = format!("the range begins behind the end of {size} bytes");
                let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range", message);
                return Err(problem.header(CONTENT_RANGE, value(&format!("bytes */{size}"))));
            }
        };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        self.describe(response.headers_mut());
        if status == StatusCode::NOT_MODIFIED {
            return Ok(Opened::Answered(response));
        }
        if status == StatusCode::PARTIAL_CONTENT {
            let text = format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
            response.headers_mut().insert(CONTENT_RANGE, value(&text));
        }
        let length = (range.end - range.start).to_string();
        response.headers_mut().insert(CONTENT_LENGTH, value(&length));
        if method == Method::HEAD || range.is_empty() {
            return Ok(Opened::Answered(response));
        }
        Ok(Opened::Reading(response, range))
    }

    fn describe(&self, headers: &mut HeaderMap) {
        let cached =
            if self.immutable { "private, max-age=31536000, immutable" } else { "private, no-cache" };
        for (name, text) in [
            (ETAG, format!("\"{}\"", self.etag)),
            (ACCEPT_RANGES, "bytes".to_owned()),
            (CONTENT_TYPE, self.media_type.unwrap_or(BYTES).to_owned()),
            (CONTENT_DISPOSITION, disposition(self.name)),
            (LAST_MODIFIED, http_date(self.modified)),
            (CACHE_CONTROL, cached.to_owned()),
            // What somebody has put is never to run as a page of this gateway.
            (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (HeaderName::from_static("content-security-policy"), "sandbox; default-src 'none'".to_owned()),
        ] {
            headers.insert(name, value(&text));
        }
    }
}

/// A text as a header. One that can't stand in headers is left out: it was put by somebody, and says no more than itself.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Gives the version of a key, or a range of it, as fast as the client takes it.
///
/// # Errors
/// When it was deleted, a condition isn't met, or not even its first bytes can be read.
///
/// # Cancel safety
/// Changes nothing.
pub(super) async fn give(
    face: &Face,
    bucket: &BucketName,
    key: &str,
    version: &Version,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let Some(content) = &version.content else {
        return Err(Problem::not_found(format!("{key} was deleted")));
    };
    let extents = face.buckets().extents(bucket, content)?;
    let subject = Subject {
        etag: content.etag.clone(),
        size: content.size,
        media_type: content.headers.get("content-type").map(String::as_str),
        name: key,
        modified: version.modified,
        immutable: false,
    };
    let (mut response, range) = match subject.open(method, headers)? {
        Opened::Answered(response) => return Ok(response),
        Opened::Reading(response, range) => (response, range),
    };
    let size = range.end - range.start;
    let tracked = face.0.transfers.begin(Way::Get, key, Some(size));
    let buckets = face.buckets().clone();
    let temperature = buckets.temperature(content);
    *response.body_mut() = respond(tracked, |mut sink| async move {
        let written = buckets.copy(&extents, temperature, range, &mut sink).await?;
        if written == size {
            Ok(())
        } else {
            Err(Problem::usage("the content is shorter than it was said".to_owned()))
        }
    })
    .await?;
    Ok(response)
}

/// What the body of a request became.
pub(super) struct StoredBody {
    pub(super) extent: Extent,
    pub(super) md5: String,
}

/// Puts the body of a request as an object of its own, which is nobody's yet. To be done to its end: what is put when this is dropped
/// is kept for nobody.
///
/// # Errors
/// When it can't be read to its end or is not acknowledged.
pub(super) async fn store(
    face: &Face,
    headers: &HeaderMap,
    body: Body,
    name: &str,
    media_type: Option<&str>,
) -> Result<StoredBody, Problem> {
    let size = content_length(headers);
    let tracked = face.0.transfers.begin(Way::Put, name, size);
    let subject = ContentSubject { name, media_type, size, class: None };
    let mut source = BodySource::new(body, size, OnBreak::Fail);
    let stored = face.buckets().store(&mut source, &subject, Arc::new(tracked.clone()));
    let stored = stored.instrument(info_span!("put")).await;
    let stored = stored.map_err(Problem::from);
    tracked.ended(stored.as_ref().err().map(Problem::message));
    Ok(StoredBody { extent: stored?, md5: source.md5() })
}

/// The content that a single object is.
pub(super) fn content_of(stored: &StoredBody, media_type: Option<&str>) -> Content {
    Content {
        size: stored.extent.size,
        etag: stored.md5.clone(),
        extents: Extents::Listed(vec![stored.extent]),
        headers: type_header(media_type),
        metadata: BTreeMap::new(),
        tags: BTreeMap::new(),
        digests: BTreeMap::new(),
        class: None,
    }
}

pub(super) fn type_header(media_type: Option<&str>) -> BTreeMap<String, String> {
    media_type.map(|text| ("content-type".to_owned(), text.to_owned())).into_iter().collect()
}

/// What must be so for a key to be put or deleted, as the request's conditions say.
///
/// # Errors
/// For conditions that can't be held to.
pub(super) fn condition(headers: &HeaderMap) -> Result<PutCondition, Problem> {
    let text =
        |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("").trim().to_owned());
    match (text(IF_MATCH), text(IF_NONE_MATCH)) {
        (None, None) => Ok(PutCondition::None),
        (None, Some(tag)) if tag == "*" => Ok(PutCondition::Absent),
        (Some(tag), None) if tag == "*" => Ok(PutCondition::Present),
        (Some(tag), None) => {
            let bare = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let bare = bare.filter(|bare| !bare.contains('"'));
            let etag = bare.ok_or_else(|| Problem::usage(format!("If-Match: `{tag}` is not one tag")))?;
            Ok(PutCondition::Etag(etag.to_owned()))
        }
        _ => Err(Problem::usage("If-None-Match may only be *, and not beside If-Match".to_owned())),
    }
}

/// The media type that a request says its body has, if it says one.
///
/// # Errors
/// When it is too long.
pub(super) fn media_type(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let told = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    // A range of types says what somebody takes, and of what is put nothing.
    let told = told.filter(|text| !text.contains('*'));
    told.map(|text| bounded("Content-Type", text)).transpose()
}

/// A text that is no longer than the manifest of an object may have it.
///
/// # Errors
/// When it is too long.
pub(super) fn bounded(what: &str, text: &str) -> Result<String, Problem> {
    if text.len() <= DETAIL_TEXT_SIZE_MAX {
        return Ok(text.to_owned());
    }
    Err(Problem::usage(format!("{what} has {} bytes; it may have {DETAIL_TEXT_SIZE_MAX}", text.len())))
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::header::CONTENT_TYPE;

    use super::media_type;

    #[test]
    fn a_range_of_types_is_no_media_type() {
        let of = |text: &str| {
            let headers: HeaderMap = [(CONTENT_TYPE, text.parse().expect("a header"))].into_iter().collect();
            media_type(&headers).expect("it is short")
        };
        assert_eq!(of("text/plain; charset=utf-8").as_deref(), Some("text/plain; charset=utf-8"));
        assert_eq!([of("*/*"), of("text/*")], [None, None]);
    }
}
