//! Signatures and tokens with one part changed, and keys that lack a grant.

use super::super::case::{Case, Rule};
use super::super::draw::Draw;
use super::super::request::{Request, base64};
use super::super::scene::{CANARY, KNOWN, OWN, READ, Scene};
use super::super::sign::{Key, Scope, UNSIGNED, sha256, stamp};

/// What the canary's key may do, and nobody else: method, path and query.
const WISHES: [(&str, &str, &str); 8] = [
    ("GET", "/fuzz-canary/known.txt", ""),
    ("HEAD", "/fuzz-canary/known.txt", ""),
    ("GET", "/fuzz-canary", "list-type"),
    ("GET", "/fuzz-canary", "versions"),
    ("PUT", "/fuzz-canary/known.txt", ""),
    ("PUT", "/fuzz-canary/intruder", ""),
    ("DELETE", "/fuzz-canary/known.txt", ""),
    ("DELETE", "/fuzz-canary", ""),
];

fn wish(scene: &Scene, draw: &mut Draw) -> Request {
    let (method, path, query) = WISHES[draw.below(WISHES.len())];
    let request = Request::new(method, path, &scene.host);
    let request = if query.is_empty() { request } else { request.query(query, "2") };
    if method == "PUT" { request.body("intruded") } else { request }
}

/// A scope that no gateway accepts now. One of another region is: who has the secret has signed it.
fn wrong_scope(draw: &mut Draw) -> Scope {
    let mut scope = Scope::now();
    match draw.below(4) {
        0 => scope.service = draw.word(3),
        2 => scope.instant = stamp(draw.next() % 1_700_000_000),
        3 => scope.instant = stamp(4_000_000_000 + draw.next() % 1_000_000_000),
        _ => scope.instant = draw.word(16).to_uppercase(),
    }
    scope
}

/// A valid signature in a header, and then one part that is not.
pub(in super::super) fn in_headers(scene: &Scene, draw: &mut Draw) -> Case {
    if draw.once_in(2) {
        return spoiled_anywhere(scene, draw);
    }
    let mut request = wish(scene, draw);
    let spoilt = draw.below(12);
    request = match spoilt {
        // As version 2 has it, which nobody here can sign.
        10 => {
            let shown = format!("AWS {}:{}", scene.canary.id, base64(&draw.bytes(20)));
            request.header("date", "Sun, 06 Nov 1994 08:49:37 GMT").header("authorization", shown)
        }
        11 => {
            let (id, signature) = (scene.canary.id.as_str(), base64(&draw.bytes(20)));
            request.query("AWSAccessKeyId", id).query("Expires", "4102444800").query("Signature", &signature)
        }
        0 => request.signed_as(&scene.canary, &wrong_scope(draw), UNSIGNED),
        // Said to be another's, with an own secret.
        1 => request.signed(&Key { id: scene.canary.id.clone(), secret: scene.owner.secret.clone() }),
        2 => request.signed(&Key { id: scene.canary.id.clone(), secret: String::new() }),
        3 => request.signed(&Key { id: draw.word(20).to_uppercase(), secret: scene.canary.secret.clone() }),
        _ => request.signed(&scene.canary),
    };
    match spoilt {
        4 => request.path.push_str("%20"),
        5 => request.query.push(("versionId".to_owned(), "1".to_owned())),
        6 => request.method = if request.method == "GET" { "DELETE" } else { "GET" }.to_owned(),
        7 => flip_signature(&mut request, draw),
        8 => later(&mut request),
        9 => {
            let digest = sha256(&draw.bytes(9)).into_bytes();
            request.value("x-amz-content-sha256").into_iter().for_each(|value| value.clone_from(&digest));
        }
        _ => {}
    }
    Case::whole(&request).rule(Rule::Refused)
}

/// Changes one digit of the signature.
fn flip_signature(request: &mut Request, draw: &mut Draw) {
    if let Some(value) = request.value("authorization") {
        let at = value.len() - 1 - draw.below(64);
        value[at] = if value[at] == b'0' { b'1' } else { b'0' };
    }
}

/// Says that it was signed a second before or after.
fn later(request: &mut Request) {
    if let Some(value) = request.value("x-amz-date") {
        let at = value.len() - 2;
        value[at] = if value[at] == b'5' { b'6' } else { b'5' };
    }
}

/// The own key's signature, changed anywhere: it may even stay valid.
fn spoiled_anywhere(scene: &Scene, draw: &mut Draw) -> Case {
    let path = format!("/{OWN}/{}", draw.word(3));
    let mut request = Request::new("PUT", &path, &scene.host).body(draw.bytes(30)).signed(&scene.owner);
    let name = draw.pick(&["authorization", "x-amz-date", "x-amz-content-sha256", "host"]);
    let spoiled = match draw.below(3) {
        0 => draw.garbage(),
        1 => {
            let value = String::from_utf8_lossy(request.value(name).map_or(b"".as_slice(), |value| value))
                .into_owned();
            let parts: Vec<&str> = value.split([',', ' ', '/']).collect();
            let part = draw.pick(&parts);
            value.replacen(part, &draw.number(), 1).into_bytes()
        }
        _ => {
            let value = request.value(name).cloned().unwrap_or_default();
            draw.mutated(value)
        }
    };
    request.value(name).into_iter().for_each(|value| value.clone_from(&spoiled));
    Case::broken(request.bytes())
}

/// A valid signature in an address, and then one part that is not.
pub(in super::super) fn in_addresses(scene: &Scene, draw: &mut Draw) -> Case {
    let mut request = wish(scene, draw);
    let now = Scope::now();
    let anywhere = draw.once_in(3);
    let spoilt = draw.below(9);
    let (key, scope, seconds) = match spoilt {
        0 => (scene.canary.clone(), wrong_scope(draw), "900".to_owned()),
        1 => (Key { secret: scene.owner.secret.clone(), ..scene.canary.clone() }, now, "900".to_owned()),
        2 => {
            let seconds =
                (draw.pick(&["0", "-1", "-900", "", "a", "604801", "99999999999999999999"])).to_owned();
            // It was signed long ago, for no time that there is.
            (scene.canary.clone(), Scope { instant: stamp(1_600_000_000), ..now }, seconds)
        }
        _ => (scene.canary.clone(), now, "900".to_owned()),
    };
    if anywhere {
        let mut own = Request::new("GET", &format!("/{OWN}/{KNOWN}"), &scene.host);
        own = own.presigned(&scene.owner, &Scope::now(), &draw.number());
        let at = draw.below(own.query.len());
        let value = draw.mutated(own.query[at].1.clone().into_bytes());
        own.query[at].1 = String::from_utf8_lossy(&value).into_owned();
        if draw.once_in(2) {
            let again = own.query[draw.below(own.query.len())].clone();
            own.query.push(again);
        }
        return Case::broken(own.bytes());
    }
    request = request.presigned(&key, &scope, &seconds);
    let last = request.query.len() - 1;
    match spoilt {
        3 => request.path.push('x'),
        4 => request.query.push(("versionId".to_owned(), "1".to_owned())),
        5 => request.method = if request.method == "GET" { "DELETE" } else { "GET" }.to_owned(),
        6 => request.query[last].1 = draw.word(64),
        7 => drop(request.query.remove(draw.below(last + 1))),
        8 => {
            // It was signed for a shorter time.
            for (name, value) in &mut request.query {
                if name == "X-Amz-Expires" {
                    "604800".clone_into(value);
                }
            }
        }
        _ => {}
    }
    Case::whole(&request).rule(Rule::Refused)
}

/// The canary's token with one part changed, and others' tokens where they are of no use.
pub(in super::super) fn tokens(scene: &Scene, draw: &mut Draw) -> Case {
    let wishes = [
        ("GET", format!("/api/v1/buckets/{CANARY}/keys/{KNOWN}")),
        ("GET", format!("/api/v1/buckets/{CANARY}/keys")),
        ("PUT", format!("/api/v1/buckets/{CANARY}/keys/intruder")),
        ("DELETE", format!("/api/v1/buckets/{CANARY}/keys/{KNOWN}")),
        ("DELETE", format!("/api/v1/buckets/{CANARY}")),
        ("PUT", "/api/v1/buckets/fuzz-intruder".to_owned()),
        ("POST", "/api/v1/objects".to_owned()),
        ("GET", "/api/v1/health".to_owned()),
        ("GET", "/api/v1/transfers".to_owned()),
        ("GET", "/api/v1/events".to_owned()),
        ("GET", format!("/api/v1/objects/{}", scene.object)),
        ("DELETE", format!("/api/v1/objects/{}", scene.object)),
    ];
    let (method, path) = &wishes[draw.below(wishes.len())];
    let request = Request::new(method, path, &scene.host);
    let Key { id, secret } = scene.canary.clone();
    let other = &scene.owner.secret;
    let (half, rest) = secret.split_at(draw.below(secret.len()));
    let shown = match draw.below(10) {
        0 => format!("Bearer {id}.{half}"),
        1 => format!("Bearer {id}.{half}{}", draw.word(rest.len() + 1)),
        2 => format!("Bearer {id}.{other}"),
        3 => format!("Bearer {id}"),
        4 => format!("Bearer {id}."),
        5 => format!("Bearer .{secret}"),
        6 => format!("Basic {id}.{secret}"),
        7 => format!("Bearer {id}.{secret}.{}", draw.word(4)),
        8 => format!("Bearer {}.{secret}", draw.word(20).to_uppercase()),
        _ => scene.weak(draw).map_or_else(String::new, Key::token),
    };
    let shown = if draw.once_in(10) { draw.garbage() } else { shown.into_bytes() };
    let case = Case::whole(&request.header("authorization", shown));
    case.rule(Rule::Refused)
}

/// What is asked by S3 and signed as it should be, by a key that lacks the grant: method, query, and what of a bucket it asks for.
const ASKED: [(&str, &str, Place); 30] = [
    ("GET", "", Place::Key),
    ("HEAD", "", Place::Key),
    ("PUT", "", Place::Key),
    ("DELETE", "", Place::Key),
    ("GET", "tagging", Place::Key),
    ("PUT", "tagging", Place::Key),
    ("DELETE", "tagging", Place::Key),
    ("GET", "attributes", Place::Key),
    ("GET", "acl", Place::Key),
    ("PUT", "acl", Place::Key),
    ("POST", "uploads", Place::Key),
    ("POST", "uploadId", Place::Key),
    ("DELETE", "uploadId", Place::Key),
    ("GET", "uploadId", Place::Key),
    ("GET", "", Place::Bucket),
    ("HEAD", "", Place::Bucket),
    ("PUT", "", Place::Bucket),
    ("DELETE", "", Place::Bucket),
    ("GET", "list-type", Place::Bucket),
    ("GET", "versions", Place::Bucket),
    ("GET", "uploads", Place::Bucket),
    ("POST", "delete", Place::Bucket),
    ("GET", "location", Place::Bucket),
    ("PUT", "versioning", Place::Bucket),
    ("PUT", "cors", Place::Bucket),
    ("PUT", "lifecycle", Place::Bucket),
    ("DELETE", "lifecycle", Place::Bucket),
    ("GET", "policy", Place::Bucket),
    ("PUT", "policy", Place::Bucket),
    ("GET", "acl", Place::Bucket),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Key,
    Bucket,
}

/// Valid requests by keys that lack the grant.
pub(in super::super) fn rights(scene: &Scene, draw: &mut Draw) -> Case {
    let (method, query, place) = ASKED[draw.below(ASKED.len())];
    // Whoever may read there may not write there, and nobody may do anything in the canary's bucket.
    let reads = matches!(method, "GET" | "HEAD");
    let bucket = if !reads && draw.once_in(2) { READ } else { CANARY };
    let path = match place {
        Place::Key => format!("/{bucket}/{KNOWN}"),
        Place::Bucket => format!("/{bucket}"),
    };
    let request = Request::new(method, &path, &scene.host);
    let value = if query == "list-type" { "2" } else { "" };
    let request = if query.is_empty() { request } else { request.query(query, value) };
    let body = match (method, query) {
        ("POST", "delete") => format!("<Delete><Object><Key>{KNOWN}</Key></Object></Delete>"),
        ("PUT", "versioning") => {
            "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>".to_owned()
        }
        ("PUT", _) => "intruded".to_owned(),
        _ => String::new(),
    };
    let request = request.body(body);
    let request = match (scene.weak(draw), draw.below(3)) {
        (Some(key), 0) => request.presigned(key, &Scope::now(), "900"),
        (Some(key), _) => request.signed(key),
        (None, _) => request,
    };
    Case::whole(&request).rule(Rule::Refused)
}
