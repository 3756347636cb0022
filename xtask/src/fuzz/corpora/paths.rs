//! Paths that lead elsewhere.

use super::super::case::Case;
use super::super::draw::Draw;
use super::super::request::Request;
use super::super::scene::{CANARY, KNOWN, Scene};

/// Where paths begin: every face.
const BASES: [&str; 17] = [
    "/",
    "/fuzz-own/",
    "/fuzz-read/",
    "/api/v1/buckets/fuzz-own/keys/",
    "/api/v1/buckets/",
    "/api/v1/objects/",
    "/api/v1/uploads/",
    "/api/v1/transfers/",
    "/api/v1/peers/",
    "/api/",
    "/ipfs/",
    "/dav/",
    "/assets/",
    "/dashboard/",
    "/metrics/",
    "/healthz/",
    "//",
];
/// One step up, or what somebody may take for one.
const STEPS: [&str; 22] = [
    "../",
    "..%2f",
    "%2e%2e/",
    ".%2e/",
    "%2e%2e%2f",
    "%252e%252e%252f",
    "..\\",
    "..%5c",
    "..;/",
    "%c0%ae%c0%ae/",
    "%e0%80%ae%e0%80%ae/",
    "..%c0%af",
    "%00",
    "%00/../",
    "./",
    "//",
    "%2f",
    "%ff/",
    "\u{ff0e}\u{ff0e}/",
    "..%u2216",
    "%",
    "%zz",
];
const ENDS: [&str; 8] = [
    "etc/passwd",
    "keys.toml",
    "fuzz-canary/known.txt",
    "buckets/fuzz-canary/keys/known.txt",
    "api/v1/buckets/fuzz-canary/keys/known.txt",
    "fuzz-canary",
    "",
    "proc/self/environ",
];

/// A path with steps up, by whoever.
pub(in super::super) fn traversal(scene: &Scene, draw: &mut Draw) -> Case {
    let steps: String = (0..draw.between(1, 8)).map(|_| draw.pick(&STEPS)).collect();
    let mut path = format!("{}{steps}{}", draw.pick(&BASES), draw.pick(&ENDS));
    if draw.once_in(8) {
        let prefix =
            draw.pick(&["http://elsewhere", "http://elsewhere:80", "ftp://x", "http://", "//elsewhere"]);
        path.insert_str(0, prefix);
    }
    let method = draw.pick(&["GET", "GET", "HEAD", "PUT", "DELETE", "POST", "OPTIONS", "PATCH"]);
    let host = match draw.below(10) {
        0 => format!("{CANARY}.{}", scene.host),
        1 => String::from_utf8_lossy(&draw.garbage()).into_owned(),
        _ => scene.host.clone(),
    };
    let mut request = Request::new(method, &path, &host);
    if draw.once_in(6) {
        let query = draw.pick(&[
            "list-type",
            "acl",
            "versions",
            "uploads",
            "uploadId",
            "policy",
            "delete",
            "tagging",
        ]);
        request = request.query(query, KNOWN);
    }
    let request = match (draw.below(4), scene.weak(draw)) {
        (0, Some(key)) => request.token(key),
        (1 | 2, Some(key)) => request.signed(key),
        _ => request,
    };
    Case::broken(request.bytes())
}
