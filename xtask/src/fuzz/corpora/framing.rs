//! Requests whose ends can be taken to be in different places, and what is no request at all.

use super::super::case::{Case, Rule};
use super::super::draw::Draw;
use super::super::request::Request;
use super::super::scene::{OWN, Scene};
use super::super::sign::{STREAMING, Scope};
use super::super::wire::Ending;

const TARGETS: [&str; 6] = [
    "/api/v1/objects",
    "/fuzz-own/smuggled",
    "/api/v1/uploads",
    "/healthz",
    "/metrics",
    "/api/v1/buckets/fuzz-own/keys/smuggled",
];
const HIDDEN: [&str; 4] = ["/healthz", "/metrics", "/api/v1/openapi.json", "/fuzz-canary/known.txt"];

/// A second request where a reader of another mind would see only a body. It must not be answered.
pub(in super::super) fn smuggling(scene: &Scene, draw: &mut Draw) -> Case {
    let hidden = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", draw.pick(&HIDDEN), scene.host);
    let body = format!("0\r\n\r\n{hidden}");
    let (method, target) = (draw.pick(&["POST", "PUT", "GET", "HEAD", "DELETE"]), draw.pick(&TARGETS));
    let length = format!("Content-Length: {}", body.len());
    let te = "Transfer-Encoding: chunked";
    let mut version = "HTTP/1.1";
    let lines = match draw.below(12) {
        0 => format!("{length}\r\n{te}"),
        1 => format!("{te}\r\n{length}"),
        2 => format!("Content-Length: {}\r\n{length}", draw.pick(&["0", "5", "1", "+5", "-1"])),
        3 => format!("Content-Length: {}, {}", draw.pick(&["0", "5"]), body.len()),
        4 => {
            let coding = draw.pick(&[
                "xchunked",
                "chunked, identity",
                "\x0bchunked",
                "\"chunked\"",
                "chunked;q=1",
                "chunked\x00",
                "cow",
                "chunk",
                ", chunked, cow",
                "gzip",
            ]);
            format!("Transfer-Encoding: {coding}\r\n{length}")
        }
        5 => {
            let name = draw.pick(&[
                "Transfer-Encoding ",
                "Transfer_Encoding",
                "Transfer-Encoding\t",
                "X-Transfer-Encoding",
                "Transfer\u{2010}Encoding",
                "\x00Transfer-Encoding",
            ]);
            format!("{length}\r\n{name}: chunked")
        }
        6 => format!(
            "{length}\r\nX-Folded: a\r\n{te}",
            te = draw.pick(&[" Transfer-Encoding: chunked", "\tb"])
        ),
        7 => format!("{length}\r\nX-Bare: a\n{te}"),
        8 => format!("{length}\r\nX-Bare: a\r{te}"),
        9 => {
            version = "HTTP/1.0";
            format!("{length}\r\n{te}")
        }
        10 => format!("{te}\r\n{te}\r\n{length}"),
        // Its length is plain, and whoever does not read it must not take it for a request.
        _ => length,
    };
    let head = format!("{method} {target} {version}\r\nHost: {}\r\n{lines}\r\n\r\n", scene.host);
    let bytes = [head.as_bytes(), body.as_bytes()].concat();
    Case { bytes, ending: Ending::Answered, answers_max: 1, rule: Rule::Any }
}

/// A body in chunks that are none.
pub(in super::super) fn http_chunks(scene: &Scene, draw: &mut Draw) -> Case {
    let name = draw.word(6);
    let request = if draw.once_in(2) {
        let path = format!("/api/v1/buckets/{OWN}/keys/{name}");
        Request::new("PUT", &path, &scene.host).token(&scene.owner)
    } else {
        let request = Request::new("PUT", &format!("/{OWN}/{name}"), &scene.host);
        request.signed_as(&scene.owner, &Scope::now(), super::super::sign::UNSIGNED)
    };
    let mut bytes = request.header("transfer-encoding", "chunked").bytes();
    bytes.extend_from_slice(b"5\r\nfirst\r\n");
    let spoiled = match draw.below(9) {
        0 => format!("{}\r\nabc\r\n0\r\n\r\n", draw.number()),
        1 => format!("5;{}\r\nabcde\r\n0\r\n\r\n", "a=b;".repeat(draw.between(1, 8000))),
        2 => "5\nabcde\n0\n\n".to_owned(),
        3 => "5\r\nabcdefgh\r\n0\r\n\r\n".to_owned(),
        4 => format!("0\r\n{}\r\n", "x-amz-trailer-signature: a\r\n".repeat(draw.between(1, 3000))),
        5 => "ffffffffffffffff\r\nabc".to_owned(),
        6 => "fffffffffffffffffffff0\r\nabc\r\n0\r\n\r\n".to_owned(),
        7 => "5\r\nab".to_owned(),
        _ => "5\r\nabcde\r\n0\r\n\r\n".to_owned(),
    };
    let spoiled = if draw.once_in(3) { draw.mutated(spoiled.into_bytes()) } else { spoiled.into_bytes() };
    bytes.extend_from_slice(&spoiled);
    Case::broken(bytes)
}

/// A body in signed chunks, one of which is spoiled.
pub(in super::super) fn aws_chunks(scene: &Scene, draw: &mut Draw) -> Case {
    let signed = !draw.once_in(3);
    let scope = Scope::now();
    let path = format!("/{OWN}/{}", draw.word(6));
    let chunks: Vec<Vec<u8>> = (0..draw.between(1, 3)).map(|_| draw.bytes(40)).collect();
    let size: usize = chunks.iter().map(Vec::len).sum();
    let spoilt = draw.below(10);
    let told = if spoilt == 0 { draw.number() } else { size.to_string() };
    let mut request = Request::new("PUT", &path, &scene.host)
        .header("content-encoding", "aws-chunked")
        .header("x-amz-decoded-content-length", told);
    let payload = if signed { STREAMING } else { "STREAMING-UNSIGNED-PAYLOAD-TRAILER" };
    if !signed {
        request = request.header("x-amz-trailer", "x-amz-checksum-crc32");
    }
    let mut request = request.signed_as(&scene.owner, &scope, payload);
    let authorization = request.value("authorization").cloned().unwrap_or_default();
    let authorization = String::from_utf8(authorization).unwrap_or_default();
    let mut previous = authorization.rsplit('=').next().unwrap_or_default().to_owned();
    let mut body = Vec::new();
    for chunk in chunks.iter().map(Vec::as_slice).chain([&b""[..]]) {
        let signature = scope.chunk_signature(&scene.owner.secret, &previous, chunk);
        let (told, shown) = match spoilt {
            1 => (draw.number(), signature.clone()),
            2 => (format!("{:x}", chunk.len()), draw.word(64)),
            3 => (format!("{:x}", chunk.len() + 1), signature.clone()),
            _ => (format!("{:x}", chunk.len()), signature.clone()),
        };
        let extension = if signed { format!(";chunk-signature={shown}") } else { String::new() };
        body.extend_from_slice(format!("{told}{extension}\r\n").as_bytes());
        body.extend_from_slice(chunk);
        // Trailers come in the place of the last chunk's own end.
        body.extend_from_slice(if signed || !chunk.is_empty() { b"\r\n" } else { b"" });
        previous = signature;
    }
    if !signed && spoilt != 4 {
        let value = if spoilt == 5 { draw.garbage() } else { b"AAAAAA==".to_vec() };
        body.extend_from_slice(&[b"x-amz-checksum-crc32:", value.as_slice(), b"\r\n\r\n"].concat());
    }
    let body = match spoilt {
        6 => body[..draw.below(body.len())].to_vec(),
        7 | 8 => draw.mutated(body),
        _ => body,
    };
    // Of what is said to be longer or shorter than it is, the length of the request is not changed: it is whole.
    let case = Case::whole(&request.body(body));
    if signed && spoilt == 2 { case.rule(Rule::Refused) } else { case }
}

/// What may be no request at all.
pub(in super::super) fn first_lines(scene: &Scene, draw: &mut Draw) -> Case {
    let host = &scene.host;
    let method = match draw.below(3) {
        0 => draw.word(draw.clone().between(0, 12)).to_uppercase(),
        1 => String::from_utf8_lossy(&draw.garbage()).into_owned(),
        _ => (draw.pick(&[
            "TRACE", "CONNECT", "PROPFIND", "MKCOL", "MOVE", "LOCK", "PURGE", "get", "PRI", "PATCH",
            "OPTIONS",
        ]))
        .to_owned(),
    };
    let target =
        draw.pick(&["/", "*", "/healthz", "/fuzz-canary/known.txt", "/api/v1/health", "host:443", ""]);
    let version = draw.pick(&["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/1.1 ", "http/1.1", ""]);
    let bytes = match draw.below(8) {
        0 => draw.bytes(draw.clone().between(1, 4000)),
        1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec(),
        2 => [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &draw.bytes(500)].concat(),
        3 => format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "a".repeat(draw.between(1, 70_000)))
            .into_bytes(),
        4 => "\r\n".repeat(draw.between(1, 40_000)).into_bytes(),
        _ => format!("{method} {target} {version}\r\nHost: {host}\r\n\r\n").into_bytes(),
    };
    Case::broken(bytes)
}
