//! Tokens: `Authorization: Bearer ID.SECRET`, where the two are an access key of the buckets.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use datamesh_core::bucket::{Access, AccessKey, BucketName};

use crate::http::Face;
use crate::http::answer::Problem;

/// What a route wants to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: what it tells is no secret.
    Nothing,
    /// A key that may do this in every bucket.
    Everywhere(Access),
    /// A key that may do this in the bucket that the request is about, which the handler holds it to.
    InBucket(Access),
}

/// Who asks.
#[derive(Clone)]
pub(super) struct Caller(Arc<AccessKey>);

impl Caller {
    /// Whether this may be done in a bucket.
    ///
    /// # Errors
    /// A problem that says no.
    pub(super) fn may(&self, bucket: &BucketName, access: Access) -> Result<(), Problem> {
        if self.0.allows(bucket, access) {
            return Ok(());
        }
        Err(Problem::denied(format!("this token does not allow to {} in bucket {bucket}", verb(access))))
    }

    pub(super) fn may_see(&self, bucket: &BucketName) -> bool {
        self.0.allows(bucket, Access::Read)
    }
}

const fn verb(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "write",
        Access::Own => "change settings",
    }
}

/// Lets only those through who show what the route needs.
pub(super) async fn check(
    State((face, need)): State<(Face, Need)>,
    mut request: Request,
    next: Next,
) -> Response {
    match admit(&face, need, request.headers()) {
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(None) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn admit(face: &Face, need: Need, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
    let access = match need {
        Need::Nothing => return Ok(None),
        Need::Everywhere(access) => Some(access),
        Need::InBucket(_) => None,
    };
    let key = key_of(face, headers)?;
    match access {
        Some(access) if !key.allows_everywhere(access) => {
            Err(Problem::denied(format!("this token does not allow to {} everywhere", verb(access)))
                .hint("datamesh keys says what access keys there are"))
        }
        _ => Ok(Some(Caller(Arc::new(key)))),
    }
}

/// The access key that a request shows. A wrong id and a wrong secret look alike, and take as long.
fn key_of(face: &Face, headers: &HeaderMap) -> Result<AccessKey, Problem> {
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let Some(token) = token else {
        return Err(unauthorized("a token is needed", "Bearer"));
    };
    let (id, secret) = token.split_once('.').unwrap_or((token, ""));
    let none = || unauthorized("the token is none of this gateway's", "Bearer error=\"invalid_token\"");
    matching(face, id, secret)?.ok_or_else(none)
}

/// The access key with this id, if this is its secret.
///
/// # Errors
/// When the index can't be read.
pub(super) fn matching(face: &Face, id: &str, secret: &str) -> Result<Option<AccessKey>, Problem> {
    let key = face.buckets().access_key(id)?;
    let expected = key.as_ref().map_or("", |key| key.secret.as_str());
    // Hashes are compared in constant time, so that the time taken tells nothing of how much of a secret was right.
    let right = blake3::hash(secret.as_bytes()) == blake3::hash(expected.as_bytes());
    Ok(key.filter(|_| right && !secret.is_empty()))
}

fn unauthorized(message: &str, challenge: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message.to_owned())
        .hint("send Authorization: Bearer ID.SECRET, an access key of the gateway")
        .header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}
