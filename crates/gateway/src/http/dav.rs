//! WebDAV: buckets as folders that file managers open, to be read and never changed.
//!
//! The library speaks the protocol's own part, `PROPFIND` and `OPTIONS`. What is there it asks of a `tree`; contents are given
//! as under the rest of this face. Everything that would change something is refused before it is looked at.

mod folder;
mod node;
mod place;
mod tree;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use datamesh_core::bucket::AccessKey;
use datamesh_engine::buckets::Buckets;
use dav_server::{DavHandler, DavMethod, DavMethodSet};
use futures::stream::{self, StreamExt};
use tokio::time::timeout;

use self::node::Thing;
use self::place::{PREFIX, Place};
use self::tree::{Asker, Tree};
use crate::http::answer::Problem;
use crate::http::contents::give;
use crate::http::token::matching;
use crate::http::{Face, STALL};

/// The longest question for properties, bytes. That of Windows, the longest of the known clients, has some 1,000.
const QUESTION_SIZE_MAX: usize = 16 << 10;
/// The most tags in one. The library descends into them, each deeper on its stack.
const QUESTION_TAGS_MAX: usize = 256;
/// What may be asked.
const METHODS: &str = "OPTIONS, GET, HEAD, PROPFIND";
/// What of the standard is there: the first class, which has no locks.
const CLASS: HeaderValue = HeaderValue::from_static("1");
/// How somebody shows who he is.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"DataMesh\", charset=\"UTF-8\"");
/// What a list of all that is below a folder is refused with (RFC 4918, 9.1).
const FINITE_DEPTH: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
                            <D:error xmlns:D=\"DAV:\"><D:propfind-finite-depth/></D:error>\n";

/// What answers below `/dav/`.
#[derive(Clone)]
struct Door {
    tree: Tree,
    library: DavHandler<Asker>,
}

/// Adds what is below `/dav/` to a router.
pub(super) fn add_to(router: Router<Face>, buckets: &Buckets) -> Router<Face> {
    let tree = Tree::new(buckets.clone());
    let mut methods = DavMethodSet::none();
    for method in [DavMethod::Options, DavMethod::Get, DavMethod::Head, DavMethod::PropFind] {
        methods.add(method);
    }
    let library = DavHandler::builder().strip_prefix(PREFIX).filesystem(Box::new(tree.clone()));
    let door = Door { tree, library: library.methods(methods).build_handler() };
    let route = any(move |State(face): State<Face>, request: Request| {
        let door = door.clone();
        async move { door.answer(&face, request).await.unwrap_or_else(IntoResponse::into_response) }
    });
    let paths = [PREFIX.to_owned(), format!("{PREFIX}/"), format!("{PREFIX}/{{*rest}}")];
    paths.iter().fold(router, |router, path| router.route(path, route.clone()))
}

impl Door {
    /// Decided from the head of the request: who asks, then what he wants to do, then where.
    async fn answer(&self, face: &Face, request: Request) -> Result<Response, Problem> {
        let key = Arc::new(key_of(face, request.headers())?);
        let nothing = || Problem::not_found("no key has a name as in this path".to_owned());
        let place = Place::of_address(request.uri().path()).ok_or_else(nothing);
        let (parts, body) = request.into_parts();
        match parts.method.as_str() {
            "GET" | "HEAD" => self.read(face, key, place?, &parts.method, &parts.headers).await,
            "OPTIONS" => {
                place?;
                Ok(self.ask_library(key, Request::from_parts(parts, Body::empty())).await)
            }
            "PROPFIND" => {
                place?;
                self.properties(key, parts, body).await
            }
            method => {
                let message = format!("{method}: what is here can be read by WebDAV, and not changed");
                Err(not_allowed(message, METHODS).hint("S3 and the HTTP API change buckets"))
            }
        }
    }

    async fn read(
        &self,
        face: &Face,
        key: Arc<AccessKey>,
        place: Place,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        match (self.tree.find(key, place.clone()).await?, place) {
            (Thing::File(found), Place::Inside(inside)) => {
                give(face, &inside.bucket, &inside.names, &found.version, method, headers).await
            }
            _ => Err(not_allowed("a folder has no bytes".to_owned(), "OPTIONS, PROPFIND")
                .hint("a file manager lists it; GET /api/v1/buckets lists buckets as JSON")),
        }
    }

    async fn properties(
        &self,
        key: Arc<AccessKey>,
        mut parts: Parts,
        body: Body,
    ) -> Result<Response, Problem> {
        match parts.headers.get("depth").map(HeaderValue::as_bytes) {
            Some(b"0" | b"1") => {}
            // None is the same as `infinity`.
            None | Some(b"infinity" | b"Infinity") => {
                let headers = [(CONTENT_TYPE, "application/xml; charset=utf-8")];
                return Ok((StatusCode::FORBIDDEN, headers, FINITE_DEPTH).into_response());
            }
            Some(_) => return Err(Problem::usage("Depth is 0 or 1".to_owned())),
        }
        // The library lists everything below a folder for its own tests, which send this.
        parts.headers.remove("x-litmus");
        let question = timeout(STALL, to_bytes(body, QUESTION_SIZE_MAX)).await;
        let question = question.map_err(|_| {
            Problem::new(StatusCode::REQUEST_TIMEOUT, "interrupted", "the client sends nothing".to_owned())
        })?;
        let question = question.map_err(|error| {
            let message = format!("a question for properties has {QUESTION_SIZE_MAX} bytes at most: {error}");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
        })?;
        check_question(&question)?;
        Ok(self.ask_library(key, Request::from_parts(parts, Body::from(question))).await)
    }

    async fn ask_library(&self, key: Arc<AccessKey>, request: Request) -> Response {
        let asker = Asker::new(key);
        let answer = self.library.handle_guarded(request, format!("{PREFIX}/"), asker.clone()).await;
        let (mut parts, body) = answer.into_parts();
        if parts.headers.contains_key("dav") {
            // It says that it has locks as well.
            parts.headers.insert("dav", CLASS);
        }
        let whole = stream::try_unfold(body, move |mut body| {
            let asker = asker.clone();
            async move {
                let next = body.next().await.transpose()?;
                if asker.is_broken() {
                    return Err(io::Error::other("a folder can't be listed to its end"));
                }
                Ok(next.map(|bytes| (bytes, body)))
            }
        });
        Response::from_parts(parts, Body::from_stream(whole))
    }
}

/// The access key that a request shows. A wrong id and a wrong secret look alike, and take as long.
fn key_of(face: &Face, headers: &HeaderMap) -> Result<AccessKey, Problem> {
    let refused = |message: &str| {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message.to_owned())
            .hint("the user is the id of an access key of the gateway, the password its secret")
            .header(WWW_AUTHENTICATE, CHALLENGE)
    };
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(credentials);
    let (id, secret) = shown.ok_or_else(|| refused("a user and a password are needed"))?;
    matching(face, &id, &secret)?
        .ok_or_else(|| refused("the user and the password are none of this gateway's"))
}

/// The user and the password of a header (RFC 7617).
fn credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = base64_simd::STANDARD.decode_to_vec(encoded.trim()).ok()?;
    let plain = String::from_utf8(plain).ok()?;
    let (user, password) = plain.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Holds a question to what the library can read: it parses what elements are in others by calling itself.
///
/// # Errors
/// A problem with what no client asks so.
fn check_question(question: &[u8]) -> Result<(), Problem> {
    let has = |text: &[u8]| question.windows(text.len()).any(|window| window == text);
    if has(b"\0") || has(b"<!") {
        // Declarations could have more tags in them than are seen here, as could UTF-16.
        return Err(Problem::usage(
            "a question for properties is XML in UTF-8, without declarations and comments".to_owned(),
        ));
    }
    if question.iter().filter(|byte| **byte == b'<').count() > QUESTION_TAGS_MAX {
        let message = format!("a question for properties has {QUESTION_TAGS_MAX} tags at most");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message));
    }
    Ok(())
}

fn not_allowed(message: String, allowed: &'static str) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "usage", message)
        .header(ALLOW, HeaderValue::from_static(allowed))
}

#[cfg(test)]
mod tests {
    use super::{QUESTION_TAGS_MAX, check_question, credentials};

    #[test]
    fn users_and_passwords_are_read_as_the_rfc_has_them() {
        let read = |header: &str| credentials(header);
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(read("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), pair("Aladdin", "open sesame"));
        assert_eq!(read("basic dGVzdDoxMjPCow=="), pair("test", "123£"));
        assert_eq!(read("BASIC YTpiOmM="), pair("a", "b:c"));
        assert_eq!(read("Basic Og=="), pair("", ""));
        for wrong in ["", "Basic", "Basic ", "Basic YWI=", "Basic ?", "Basic /zo=", "Bearer YTpi", "YTpi"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn questions_are_as_deep_as_the_stack_bears_at_most() {
        let deep = |tags: usize| "<a>".repeat(tags);
        assert!(check_question(deep(QUESTION_TAGS_MAX).as_bytes()).is_ok());
        assert!(check_question(deep(QUESTION_TAGS_MAX + 1).as_bytes()).is_err());
        assert!(check_question(b"<!DOCTYPE a [<!ENTITY b \"c\">]>").is_err());
        assert!(check_question(b"<\0a\0>\0").is_err());
        assert!(check_question(b"").is_ok());
    }
}
