//! One port for all faces: accepts connections, and gives each request to the face that it is for.

use core::convert::Infallible;
use core::future::Future;
use core::time::Duration;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::service::S3Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;
use tracing::Instrument;

use crate::spans::{self, FaceName};
use crate::{Gateway, RESERVED_NAMES, http, s3};

/// Connections that are served at once; more wait until one ends.
const CONNECTIONS_MAX: usize = 1024;
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest head of a request, bytes.
const HEAD_SIZE_MAX: usize = 64 * 1024;
/// How long requests may go on once the gateway is to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How often is looked for what has had its time.
const EXPIRE_EVERY: Duration = Duration::from_secs(3600);
/// The pause after a connection could not be accepted: the process may have too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What requests are given to. Cheap to clone.
#[derive(Clone)]
struct Faces {
    gateway: Gateway,
    s3: S3Service,
    http: Router,
}

/// Serves until it is told to stop, and for a while longer what is under way.
///
/// # Errors
/// Never once the listener is there; what goes wrong with one connection ends that one.
///
/// # Cancel safety
/// When dropped, what is under way is broken off.
pub async fn serve(
    gateway: Gateway,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let faces = Faces { s3: s3::service(&gateway), http: http::router(gateway.clone()), gateway };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stopping, told) = watch::channel(false);
    let mut connections = JoinSet::new();
    let expiring = tokio::spawn(expire(faces.gateway.clone()));
    let mut stop = core::pin::pin!(stop);
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let (place, accepted) = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = async { (place.await, listener.accept().await) } => accepted,
        };
        let place = place.expect("nobody closes the semaphore");
        match accepted {
            Ok((stream, _)) => drop(connections.spawn(converse(faces.clone(), stream, place, told.clone()))),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    expiring.abort();
    // Whoever listens is gone where this fails: then there are no connections.
    let _ = stopping.send(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_PATIENCE, ended).await.is_err() {
        tracing::warn!("requests that were under way for too long are broken off");
    }
    Ok(())
}

/// Ends what has had its time, again and again.
async fn expire(gateway: Gateway) {
    loop {
        let now = gateway.buckets.world().clock.now();
        match s3::expire(&gateway.buckets, now).await {
            Ok(expired) => tracing::debug!(?expired, "what has had its time was ended"),
            Err(error) => tracing::error!(?error, "what has had its time is not ended"),
        }
        tokio::time::sleep(EXPIRE_EVERY).await;
    }
}

/// Answers the requests of one connection.
async fn converse(
    faces: Faces,
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    mut stopping: watch::Receiver<bool>,
) {
    // Small answers must not wait for an acknowledgment of what was sent before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection is gone already");
        return;
    }
    let answer = service_fn(move |request| {
        let faces = faces.clone();
        async move { Ok::<_, Infallible>(faces.answer(request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_SIZE_MAX);
    let mut connection = core::pin::pin!(builder.serve_connection(TokioIo::new(stream), answer));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = told(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection was broken off");
    }
    drop(place);
}

/// Completes once the gateway is to stop.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // Who could tell is gone where this fails: then it stops too.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

impl Faces {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let face = self.face(&request);
        let span = spans::begin(face, &request, self.gateway.adopt);
        let answer = self.answer_by(face, request).instrument(span.clone()).await;
        spans::end(span, answer)
    }

    async fn answer_by(&self, face: FaceName, request: Request<Incoming>) -> Response<Body> {
        if face != FaceName::S3 {
            let answered = self.http.clone().oneshot(request.map(Body::new)).await;
            return answered.unwrap_or_else(|never| match never {});
        }
        let in_host = self.is_of_bucket_host(request.headers());
        spans::routed(request.method(), spans::route_of_bucket(request.uri().path(), in_host));
        let in_vain = waits_in_vain(request.headers());
        let answer = s3::respond(&self.gateway, &self.s3, request.map(s3s::Body::from)).await;
        let mut answer = answer.map(Body::new);
        if in_vain {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    fn face<B>(&self, request: &Request<B>) -> FaceName {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        if self.is_of_bucket_host(headers) || is_signed(uri, headers) {
            return FaceName::S3;
        }
        match first_of_path(uri) {
            "dav" => FaceName::Dav,
            first if RESERVED_NAMES.contains(&first) => FaceName::Http,
            _ if is_browser(method, uri, headers) => FaceName::Http,
            _ => FaceName::S3,
        }
    }

    /// Whether the host is a bucket's subdomain: then the whole path is a key.
    fn is_of_bucket_host(&self, headers: &HeaderMap) -> bool {
        let Some(domain) = &self.gateway.settings.domain else { return false };
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        host.strip_suffix(domain.as_str()).is_some_and(|bucket| bucket.ends_with('.'))
    }
}

/// What the path begins with: a bucket, or a name that no bucket has.
fn first_of_path(uri: &Uri) -> &str {
    uri.path().trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// Whether a client waits to be told to go on, and has nothing to send: then it is answered at once (RFC 9110, section 10.1.1). The AWS
/// libraries for Python take what answers their next request on the connection for something else, so it is closed.
fn waits_in_vain(headers: &HeaderMap) -> bool {
    let is = |name, wanted: &str| {
        headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()))
    };
    is(header::EXPECT, "100-continue") && is(header::CONTENT_LENGTH, "0")
}

/// Whether a request is signed as S3's are: such a one is answered as S3 answers, also where no bucket can be.
fn is_signed(uri: &Uri, headers: &HeaderMap) -> bool {
    let authorization = headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    let query = uri.query().unwrap_or_default();
    authorization.starts_with(b"AWS")
        || query.contains("X-Amz-Signature=")
        || query.contains("AWSAccessKeyId=")
}

/// Whether somebody opened the address in a browser: S3 clients sign what they ask.
fn is_browser(method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
    let reads = *method == Method::GET || *method == Method::HEAD;
    let wants_html = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    reads
        && uri.path() == "/"
        && uri.query().is_none()
        && wants_html
        && !headers.contains_key(header::AUTHORIZATION)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, Method, header};

    use super::{first_of_path, is_browser, is_signed};
    use crate::RESERVED_NAMES;

    #[test]
    fn what_is_signed_as_s3_requests_are_is_for_s3_whatever_its_path() {
        let of = |value| HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
        let path = |text: &str| text.parse().expect("a path");
        assert!(is_signed(&path("/metrics"), &of("AWS4-HMAC-SHA256 Credential=x")));
        assert!(is_signed(&path("/metrics?X-Amz-Signature=1"), &HeaderMap::new()));
        assert!(!is_signed(&path("/metrics"), &of("Bearer x.y")));
        assert!(!is_signed(&path("/api/v1/objects"), &HeaderMap::new()));
    }

    #[test]
    fn reserved_paths_are_not_buckets() {
        for path in ["/metrics", "/healthz", "/api/v1/objects", "/ipfs/x?format=raw", "//api", "/dashboard"] {
            assert!(RESERVED_NAMES.contains(&first_of_path(&path.parse().expect(path))), "{path}");
        }
        for path in ["/", "/bucket/api", "/apis", "/metrics-archive/x", "/?list-type=2"] {
            assert!(!RESERVED_NAMES.contains(&first_of_path(&path.parse().expect(path))), "{path}");
        }
    }

    #[test]
    fn a_browser_gets_the_dashboard_and_a_client_that_signs_does_not() {
        let html = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("text/html,*/*"))]);
        let root = "/".parse().expect("a path");
        assert!(is_browser(&Method::GET, &root, &html));
        assert!(!is_browser(&Method::PUT, &root, &html));
        assert!(!is_browser(&Method::GET, &root, &HeaderMap::new()));
        assert!(!is_browser(&Method::GET, &"/?X-Amz-Signature=1".parse().expect("a path"), &html));
        let mut signed = html;
        signed.insert(header::AUTHORIZATION, HeaderValue::from_static("AWS4-HMAC-SHA256 x"));
        assert!(!is_browser(&Method::GET, &root, &signed));
    }
}
