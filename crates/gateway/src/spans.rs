//! Spans of requests: what was asked, by its route and never by its path, and what came of it.
//!
//! They cost nothing where nobody wants them: then a span is disabled, and nothing is counted for it.

use core::pin::Pin;
use core::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, Method, Request, Response, header};
use hyper::body::{Frame, SizeHint};
use tracing::Span;
use tracing::field::Empty;

/// Makes a span part of the trace that a caller names in its headers.
pub type Adopt = fn(&Span, &HeaderMap);

/// What of a gateway a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaceName {
    /// Buckets, as S3 clients know them.
    S3,
    /// The native API, the dashboard, and what else is asked by HTTP.
    Http,
    /// Buckets as folders.
    Dav,
}

impl FaceName {
    const fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Http => "http",
            Self::Dav => "dav",
        }
    }
}

/// Begins the span of a request.
pub(crate) fn begin<B>(face: FaceName, request: &Request<B>, adopt: Adopt) -> Span {
    let method = known(request.method());
    let span = tracing::info_span!(
        parent: None,
        "request",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.request.body.size = Empty,
        http.route = Empty,
        http.response.status_code = Empty,
        http.response.body.size = Empty,
        datamesh.face = face.as_str(),
        datamesh.operation = Empty,
    );
    if !span.is_disabled() {
        adopt(&span, request.headers());
        let size = request.headers().get(header::CONTENT_LENGTH);
        if let Some(size) = size.and_then(|size| size.to_str().ok()?.parse::<i64>().ok()) {
            span.record("http.request.body.size", size);
        }
    }
    span
}

/// Notes in the span of the current request which route it has taken.
pub(crate) fn routed(method: &Method, route: &'static str) {
    let span = Span::current();
    if !span.is_disabled() {
        span.record("http.route", route);
        span.record("otel.name", format!("{} {route}", known(method)).as_str());
    }
}

/// Notes in the span of the current request which operation of S3 it is.
pub(crate) fn operation(name: &'static str) {
    Span::current().record("datamesh.operation", name);
}

/// The route of a request to a bucket or to what is in it; a bucket may be named by the host.
pub(crate) fn route_of_bucket(path: &str, bucket_in_host: bool) -> &'static str {
    let path = path.strip_prefix('/').unwrap_or(path);
    match (bucket_in_host, path.split_once('/')) {
        (_, None) if path.is_empty() => "/",
        (true, _) => "/{key}",
        (false, None | Some((_, ""))) => "/{bucket}",
        (false, Some(_)) => "/{bucket}/{key}",
    }
}

/// Notes what was answered. The span ends with the last byte of it.
pub(crate) fn end(span: Span, answer: Response<Body>) -> Response<Body> {
    if span.is_disabled() {
        return answer;
    }
    span.record("http.response.status_code", i64::from(answer.status().as_u16()));
    if answer.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    answer.map(|body| Body::new(Counted { body, span, size: 0 }))
}

/// A method that HTTP knows: any other is a word of the caller's.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// A body whose bytes are counted for its span.
struct Counted {
    body: Body,
    span: Span,
    size: i64,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            self.size = self.size.saturating_add(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // A span lasts until it was left for the last time.
        self.span.in_scope(|| self.span.record("http.response.body.size", self.size));
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::{known, route_of_bucket};

    #[test]
    fn a_route_has_no_word_of_the_request_in_it() {
        for (path, in_path, in_host) in [
            ("/", "/", "/"),
            ("/photos", "/{bucket}", "/{key}"),
            ("/photos/", "/{bucket}", "/{key}"),
            ("/photos/album/one", "/{bucket}/{key}", "/{key}"),
            ("//", "/{bucket}", "/{key}"),
        ] {
            assert_eq!(route_of_bucket(path, false), in_path, "{path}");
            assert_eq!(route_of_bucket(path, true), in_host, "{path}");
        }
        assert_eq!(known(&Method::PATCH), "PATCH");
        assert_eq!(known(&Method::from_bytes(b"SECRET").expect("a method")), "_OTHER");
    }
}
