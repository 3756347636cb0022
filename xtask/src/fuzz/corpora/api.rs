//! The HTTP API, tus, IPFS and streams of events.

use super::super::case::{Case, Rule};
use super::super::draw::Draw;
use super::super::request::{Request, base64};
use super::super::scene::{KNOWN, OWN, READ, Scene};
use super::super::sign::{Key, escaped};

/// Calls with something wrong in them.
pub(in super::super) fn calls(scene: &Scene, draw: &mut Draw) -> Case {
    match draw.below(5) {
        0 => lists(scene, draw),
        1 => uploads(scene, draw),
        2 => ipfs(scene, draw),
        3 => of_the_mesh(scene, draw),
        _ => puts(scene, draw),
    }
}

/// A text as a query or a path may have it.
fn odd(draw: &mut Draw) -> String {
    match draw.below(4) {
        0 => draw.number(),
        1 => escaped(&String::from_utf8_lossy(&draw.garbage())),
        2 => draw.bytes(12).iter().map(|byte| format!("%{byte:02x}")).collect(),
        _ => (draw.pick(&["{}", "[]", "%7B%22a%22%3A1%7D", "null", "../..", "a&b=c", "%", "%f", "+", "'--"]))
            .to_owned(),
    }
}

fn lists(scene: &Scene, draw: &mut Draw) -> Case {
    let path = draw.pick(&[
        "/api/v1/buckets",
        "/api/v1/buckets/fuzz-own/keys",
        "/api/v1/buckets/fuzz-read/keys",
        "/api/v1/buckets/fuzz-canary/keys",
        "/fuzz-own",
        "/fuzz-read",
        "/",
    ]);
    let mut request = Request::new("GET", path, &scene.host);
    for _ in 0..draw.between(1, 4) {
        let name = draw.pick(&[
            "prefix",
            "delimiter",
            "after",
            "limit",
            "list-type",
            "max-keys",
            "marker",
            "start-after",
            "encoding-type",
            "continuation-token",
            "versions",
            "key-marker",
            "version-id-marker",
            "fetch-owner",
            "max-uploads",
            "uploads",
        ]);
        let value = odd(draw);
        request.query.push((name.to_owned(), value));
    }
    let key = if path.contains(READ) { &scene.reader } else { &scene.owner };
    let request = if path.starts_with("/api") { request.token(key) } else { request.signed(key) };
    Case::broken(request.bytes())
}

fn uploads(scene: &Scene, draw: &mut Draw) -> Case {
    let ids = [scene.tus.clone(), draw.word(20), odd(draw)];
    let id = &ids[draw.below(ids.len())];
    let method = draw.pick(&["POST", "POST", "PATCH", "HEAD", "GET", "DELETE", "OPTIONS"]);
    // What is given up here is made at the begin, and wanted to the end.
    let method = if method == "DELETE" && *id == scene.tus { "PATCH" } else { method };
    let path = if method == "POST" { "/api/v1/uploads".to_owned() } else { format!("/api/v1/uploads/{id}") };
    let bucket = draw.pick(&[OWN, OWN, READ, "fuzz-canary", "..", ""]);
    let metadata = match draw.below(4) {
        0 => draw.garbage(),
        1 => format!("bucket {},key {}", base64(bucket.as_bytes()), base64(&draw.garbage())).into_bytes(),
        2 => format!("bucket {},bucket {},filename", base64(OWN.as_bytes()), draw.word(7)).into_bytes(),
        _ => vec![b','; draw.between(1, 9000)],
    };
    let mut request = Request::new(method, &path, &scene.host)
        .header("tus-resumable", if draw.once_in(6) { draw.garbage() } else { b"1.0.0".to_vec() })
        .header("upload-metadata", metadata);
    let length = if draw.once_in(2) { draw.number() } else { draw.below(100).to_string() };
    request = request.header("upload-length", length);
    if method == "PATCH" {
        let offset = if draw.once_in(2) { "0".to_owned() } else { draw.number() };
        let told = if draw.once_in(4) { draw.garbage() } else { b"application/offset+octet-stream".to_vec() };
        let body = draw.bytes(draw.clone().between(0, 200));
        request = request.header("upload-offset", offset).header("content-type", told).body(body);
    }
    if draw.once_in(3) {
        let name = draw.pick(&["size", "bucket", "key", "type"]);
        let value = odd(draw);
        request.query.push((name.to_owned(), value));
    }
    Case::broken(request.token(&scene.owner).bytes())
}

fn ipfs(scene: &Scene, draw: &mut Draw) -> Case {
    let cid = match draw.below(5) {
        0 => odd(draw),
        1 => String::from_utf8_lossy(&draw.mutated(scene.object.clone().into_bytes()))
            .replace(['\r', '\n', ' ', '\0'], ""),
        2 => format!("{}/{}", scene.object, odd(draw)),
        3 => "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy".to_owned(),
        _ => scene.object.clone(),
    };
    let mut request = Request::new(draw.pick(&["GET", "HEAD"]), &format!("/ipfs/{cid}"), &scene.host);
    for _ in 0..draw.between(0, 3) {
        let name = draw.pick(&["format", "dag-scope", "car-version", "filename", "entity-bytes", "car-dups"]);
        let value = if draw.once_in(2) {
            odd(draw)
        } else {
            (draw.pick(&["raw", "car", "all", "1", "block"])).to_owned()
        };
        request.query.push((name.to_owned(), value));
    }
    let accepted =
        if draw.once_in(2) { draw.garbage() } else { b"application/vnd.ipld.car;order=dfs".to_vec() };
    Case::broken(request.header("accept", accepted).bytes())
}

/// By the one key that may do everything: it only reads, so that nothing of what is compared in the end is changed with permission.
fn of_the_mesh(scene: &Scene, draw: &mut Draw) -> Case {
    let base = draw.pick(&[
        "/api/v1/peers/",
        "/api/v1/objects/",
        "/api/v1/transfers/",
        "/api/v1/peers",
        "/api/v1/health",
        "/api/v1/alerts",
        "/api/v1/repairs",
        "/api/v1/traffic",
        "/api/v1/metrics.json",
        "/api/v1/transfers",
        "/metrics/nodes",
        "/readyz",
    ]);
    let path = if base.ends_with('/') {
        let id = if draw.once_in(3) { scene.object.clone() } else { odd(draw) };
        format!("{base}{id}{}", draw.pick(&["", "/info", "/events", "/"]))
    } else {
        base.to_owned()
    };
    let mut request = Request::new("GET", &path, &scene.host);
    if draw.once_in(2) {
        let value = odd(draw);
        request.query.push(("limit".to_owned(), value));
    }
    Case::broken(request.token(&scene.master).bytes()).rule(Rule::Holder)
}

fn puts(scene: &Scene, draw: &mut Draw) -> Case {
    let (by_id, name) = (draw.once_in(4), odd(draw));
    let mut request = if by_id {
        let mut request = Request::new("POST", "/api/v1/objects", &scene.host);
        request.query.push(("name".to_owned(), name));
        request
    } else {
        let method = draw.pick(&["PUT", "PUT", "GET", "DELETE", "HEAD"]);
        // The one that others read stays.
        let name = if name == KNOWN { "other".to_owned() } else { name };
        Request::new(method, &format!("/api/v1/buckets/{OWN}/keys/{name}"), &scene.host)
    };
    for _ in 0..draw.below(3) {
        let name =
            draw.pick(&["content-type", "if-match", "if-none-match", "content-length", "expect", "accept"]);
        let value = if draw.once_in(2) { draw.garbage() } else { draw.number().into_bytes() };
        request = request.header(name, value);
    }
    let key: &Key = if by_id { &scene.master } else { &scene.owner };
    let body = if draw.once_in(2) { b"{\"a\":[[[[".to_vec() } else { draw.bytes(50) };
    let rule = if by_id { Rule::Holder } else { Rule::Any };
    Case::broken(request.body(body).token(key).bytes()).rule(rule)
}

/// Streams from where no stream is.
pub(in super::super) fn events(scene: &Scene, draw: &mut Draw) -> Case {
    let path = draw.pick(&["/api/v1/events", "/api/v1/transfers/1/events", "/api/v1/transfers/x/events"]);
    let id = if draw.once_in(2) { draw.garbage() } else { draw.number().into_bytes() };
    let request = Request::new("GET", path, &scene.host)
        .header("accept", "text/event-stream")
        .header("last-event-id", id)
        .token(&scene.master);
    Case::broken(request.bytes()).rule(Rule::Holder)
}
