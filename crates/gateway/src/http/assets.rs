//! Pages of the gateway itself: the dashboard and the browsable description of the API, which are in the program and hold no data.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::http::answer::Problem;
use crate::http::contents::value;
use crate::http::extract::InPath;
use crate::http::range::weak_match;

/// Pages load what comes from here and run no script that stands in them.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file that is in the program.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const fn asset(name: &'static str, media_type: &'static str, text: &'static str) -> Asset {
    Asset { name, media_type, text }
}

const DASHBOARD: Asset = asset("dashboard.html", HTML, include_str!("../../assets/dashboard.html"));
const DOCS: Asset = asset("docs.html", HTML, include_str!("../../assets/docs.html"));

const ASSETS: [Asset; 11] = [
    asset("style.css", CSS, include_str!("../../assets/style.css")),
    asset("docs.css", CSS, include_str!("../../assets/docs.css")),
    asset("docs.js", SCRIPT, include_str!("../../assets/docs.js")),
    asset("main.js", SCRIPT, include_str!("../../assets/main.js")),
    asset("api.js", SCRIPT, include_str!("../../assets/api.js")),
    asset("dom.js", SCRIPT, include_str!("../../assets/dom.js")),
    asset("map.js", SCRIPT, include_str!("../../assets/map.js")),
    asset("overview.js", SCRIPT, include_str!("../../assets/overview.js")),
    asset("browse.js", SCRIPT, include_str!("../../assets/browse.js")),
    asset("details.js", SCRIPT, include_str!("../../assets/details.js")),
    asset("icon.svg", SVG, include_str!("../../assets/icon.svg")),
];

pub(super) async fn dashboard(headers: HeaderMap) -> Response {
    give(&DASHBOARD, &headers)
}

pub(super) async fn docs(headers: HeaderMap) -> Response {
    give(&DOCS, &headers)
}

pub(super) async fn one(InPath(name): InPath<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    found
        .map(|asset| give(asset, &headers))
        .ok_or_else(|| Problem::not_found(format!("there is no asset {name}")))
}

fn give(asset: &Asset, headers: &HeaderMap) -> Response {
    let etag = blake3::hash(asset.text.as_bytes()).to_hex().as_str()[..16].to_owned();
    let known = headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let mut response = if known.is_some_and(|tags| weak_match(tags, &etag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        asset.text.into_response()
    };
    for (header, text) in [
        (CONTENT_TYPE, asset.media_type),
        (ETAG, &format!("\"{etag}\"")),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(header, value(text));
    }
    response
}
