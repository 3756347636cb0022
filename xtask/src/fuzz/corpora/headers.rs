//! Headers of every malformed shape.

use super::super::case::{Case, Rule};
use super::super::draw::Draw;
use super::super::request::Request;
use super::super::scene::{CANARY, KNOWN, OWN, READ, Scene};

/// Headers that somebody reads.
const NAMES: [&str; 22] = [
    "Host",
    "Authorization",
    "Content-Type",
    "Content-MD5",
    "Content-Encoding",
    "Content-Disposition",
    "Accept",
    "Origin",
    "Access-Control-Request-Method",
    "Access-Control-Request-Headers",
    "Cookie",
    "Expect",
    "Upgrade",
    "Connection",
    "TE",
    "Trailer",
    "Date",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-HTTP-Method-Override",
    "Tus-Resumable",
    "Last-Event-ID",
];

/// Headers that are too many, too long, or no headers.
pub(in super::super) fn abused(scene: &Scene, draw: &mut Draw) -> Case {
    let path = draw.pick(&[
        "/",
        "/healthz",
        "/api/v1/health",
        "/api/v1/buckets",
        "/fuzz-canary/known.txt",
        "/dashboard",
    ]);
    let method = draw.pick(&["GET", "GET", "PUT", "OPTIONS", "POST"]);
    let mut request = Request::new(method, path, &scene.host);
    if let Some(key) = scene.weak(draw) {
        request = if draw.once_in(2) { request.token(key) } else { request.signed(key) };
    }
    let mut bytes = request.head();
    let mut line =
        |name: &[u8], value: &[u8]| bytes.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
    match draw.below(7) {
        0 => line(b"x-huge", &vec![b'a'; draw.between(1, 80_000)]),
        1 => (0..draw.between(1, 300)).for_each(|at| line(format!("x-{at}").as_bytes(), b"a")),
        2 => line(draw.pick(&["", " ", "\u{e9}", "a b", "a(b)", "\0", ":"]).as_bytes(), &draw.garbage()),
        3 => {
            let shown = [scene.canary.id.as_bytes(), b".", &draw.garbage()].concat();
            line(b"Authorization", &[b"Bearer ".as_slice(), &shown].concat());
            line(b"authorization", &draw.garbage());
        }
        4 => (0..draw.between(1, 30)).for_each(|_| line(draw.pick(&NAMES).as_bytes(), &draw.garbage())),
        5 => (0..draw.between(2, 90)).for_each(|_| line(draw.pick(&NAMES).as_bytes(), b"1")),
        _ => line(draw.pick(&NAMES).as_bytes(), &draw.garbage()),
    }
    bytes.extend_from_slice(b"\r\n");
    Case::broken(bytes)
}

/// Ranges and conditions on what may be read.
pub(in super::super) fn ranges(scene: &Scene, draw: &mut Draw) -> Case {
    let method = draw.pick(&["GET", "GET", "HEAD"]);
    let kind = draw.below(4);
    let path = match kind {
        0 => format!("/{READ}/{KNOWN}"),
        1 => format!("/{OWN}/{KNOWN}"),
        2 => format!("/api/v1/buckets/{READ}/keys/{KNOWN}"),
        _ => format!("/api/v1/objects/{}", scene.object),
    };
    let mut request = Request::new(method, &path, &scene.host);
    for _ in 0..draw.between(1, 3) {
        let (name, value) = condition(draw);
        request = request.header(name, value);
    }
    if draw.once_in(4) {
        let name =
            draw.pick(&["partNumber", "versionId", "response-expires", "response-content-type", "info"]);
        request = request.query(name, &draw.number());
    }
    let request = match kind {
        0 => request.signed(&scene.reader),
        1 => request.signed(&scene.owner),
        2 => request.token(&scene.reader),
        _ => return Case::whole(&request.token(&scene.master)).rule(Rule::Holder),
    };
    Case::whole(&request)
}

fn condition(draw: &mut Draw) -> (&'static str, Vec<u8>) {
    const ETAGS: [&str; 9] = ["*", "\"\"", "\"", "W/\"a\"", "a", "\"a\", \"b\"", "\"a", "W/", ", ,"];
    const DATES: [&str; 8] = [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 99 Nov 1994 99:99:99 GMT",
        "Thu, 01 Jan 0000 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "1994-11-06T08:49:37Z",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "-1",
        "Sun, 06 Nov 99999999 08:49:37 GMT",
    ];
    let (first, last) = (draw.number(), draw.number());
    let value = match draw.below(8) {
        0 => format!("bytes={first}-{last}"),
        1 => format!("bytes=-{last}"),
        2 => format!("bytes={first}-"),
        3 => vec!["0-0"; draw.between(2, 2000)].join(","),
        4 => (draw.pick(&[
            "bytes=",
            "bytes",
            "bytes=-",
            "bytes=a-b",
            "octets=0-1",
            "bytes=5-1",
            "bytes = 0 - 1",
        ]))
        .to_owned(),
        5 => (draw.pick(&ETAGS)).to_owned(),
        6 => (draw.pick(&DATES)).to_owned(),
        _ => return (named(draw), draw.garbage()),
    };
    (if value.starts_with("bytes") { "range" } else { named(draw) }, value.into_bytes())
}

fn named(draw: &mut Draw) -> &'static str {
    draw.pick(&[
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "x-amz-checksum-mode",
    ])
}

/// Garbage in what S3 reads, and copies from where the key may not read.
pub(in super::super) fn amz(scene: &Scene, draw: &mut Draw) -> Case {
    const VALUES: [&str; 12] = [
        "true",
        "CRC32",
        "STANDARD",
        "GLACIER",
        "COPY",
        "REPLACE",
        "public-read",
        "aws:kms",
        "AES256",
        "requester",
        "2026-03-01T12:00:00Z",
        "COMPLIANCE",
    ];
    let path = format!("/{OWN}/{}", draw.word(4));
    let method = draw.pick(&["PUT", "PUT", "GET", "POST", "DELETE", "HEAD"]);
    let mut request = Request::new(method, &path, &scene.host).body(draw.bytes(20));
    if draw.once_in(4) {
        return copied(scene, draw, request);
    }
    let query =
        draw.pick(&["", "uploads", "uploadId", "partNumber", "tagging", "attributes", "acl", "legal-hold"]);
    if !query.is_empty() {
        request = request.query(query, &draw.number());
    }
    for _ in 0..draw.between(1, 4) {
        let value = match draw.below(4) {
            0 => draw.number().into_bytes(),
            1 => draw.garbage(),
            2 => vec![b'a'; draw.between(1, 9000)],
            _ => (draw.pick(&VALUES)).as_bytes().to_vec(),
        };
        request = request.header(AMZ[draw.below(AMZ.len())], value);
    }
    Case::whole(&request.signed(&scene.owner))
}

const AMZ: [&str; 36] = [
    "x-amz-acl",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-tagging-directive",
    "x-amz-metadata-directive",
    "x-amz-meta-a",
    "x-amz-meta-",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-type",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-decoded-content-length",
    "x-amz-trailer",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-attributes",
    "x-amz-max-parts",
    "x-amz-part-number-marker",
    "x-amz-expected-bucket-owner",
    "x-amz-request-payer",
    "x-amz-security-token",
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
    "x-amz-copy-source-range",
    "x-amz-bucket-object-lock-enabled",
    "x-amz-mfa",
    "x-amz-if-match-size",
    "x-amz-mp-object-size",
    "x-amz-optional-object-attributes",
];

/// A copy of what only the canary's key may read, into the own bucket.
fn copied(scene: &Scene, draw: &mut Draw, mut request: Request) -> Case {
    let source = match draw.below(8) {
        0 => format!("/{CANARY}/{KNOWN}"),
        1 => format!("{CANARY}/{KNOWN}"),
        2 => format!("/{OWN}/../{CANARY}/{KNOWN}"),
        3 => format!("{OWN}%2F..%2F{CANARY}%2F{KNOWN}"),
        4 => format!("{CANARY}%2F{KNOWN}?versionId={}", draw.number()),
        5 => format!("//{CANARY}/{KNOWN}"),
        6 => format!("arn:aws:s3:us-east-1:123456789012:accesspoint/{CANARY}/object/{KNOWN}"),
        _ => format!("{OWN}/%00/../../{CANARY}/{KNOWN}"),
    };
    request.method = "PUT".to_owned();
    request.body.clear();
    if draw.once_in(3) {
        request = request.query("partNumber", "1").query("uploadId", &scene.upload);
    }
    Case::whole(&request.header("x-amz-copy-source", source).signed(&scene.owner)).rule(Rule::Refused)
}
