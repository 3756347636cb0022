//! Documents and forms that somebody has to read.

use core::fmt::Write;

use super::super::case::Case;
use super::super::draw::Draw;
use super::super::request::{Request, base64};
use super::super::scene::{CANARY, KNOWN, OWN, Scene};
use super::super::sign::{STREAMING, Scope, UNSIGNED, sha256};

/// What takes a document: method, query, and a document that is valid.
const TAKERS: [(&str, &str, &str); 8] = [
    ("POST", "delete", "<Delete><Object><Key>a</Key></Object><Quiet>true</Quiet></Delete>"),
    (
        "POST",
        "uploadId",
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"a\"</ETag></Part></CompleteMultipartUpload>",
    ),
    ("PUT", "tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"),
    (
        "PUT",
        "cors",
        "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin>\
         <MaxAgeSeconds>5</MaxAgeSeconds></CORSRule></CORSConfiguration>",
    ),
    ("PUT", "versioning", "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"),
    (
        "PUT",
        "lifecycle",
        "<LifecycleConfiguration><Rule><ID>a</ID><Filter><Prefix>never/</Prefix></Filter><Status>Enabled</Status>\
         <Expiration><Days>9000</Days></Expiration></Rule></LifecycleConfiguration>",
    ),
    ("PUT", "acl", "<AccessControlPolicy/>"),
    (
        "PUT",
        "",
        "<CreateBucketConfiguration><LocationConstraint>a</LocationConstraint></CreateBucketConfiguration>",
    ),
];

/// A document of S3 that is none, signed by a key that may send it.
pub(in super::super) fn xml(scene: &Scene, draw: &mut Draw) -> Case {
    let (method, query, valid) = TAKERS[draw.below(TAKERS.len())];
    let root = valid.trim_start_matches('<').split(['>', '/']).next().unwrap_or_default();
    let document = spoiled(draw, valid, root);
    let upload = query == "uploadId";
    let path = if upload { format!("/{OWN}/{KNOWN}-upload") } else { format!("/{OWN}") };
    let request = Request::new(method, &path, &scene.host).body(document);
    let request = match query {
        "" => request,
        "uploadId" if draw.once_in(2) => request.query(query, &scene.upload),
        _ => request.query(query, ""),
    };
    let payload = match draw.below(8) {
        // Signed for another document, for none, or in chunks that it does not have.
        0 => sha256(&draw.bytes(5)),
        1 => UNSIGNED.to_owned(),
        2 => {
            let told = draw.below(400).to_string();
            let request = request.header("x-amz-decoded-content-length", told);
            return Case::whole(&request.signed_as(&scene.owner, &Scope::now(), STREAMING));
        }
        _ => sha256(&request.body),
    };
    let request = request.signed_as(&scene.owner, &Scope::now(), &payload);
    if !draw.once_in(10) {
        return Case::whole(&request);
    }
    // It never comes to its end.
    let mut bytes = request.bytes();
    bytes.truncate(bytes.len().saturating_sub(draw.between(1, 40)));
    Case::broken(bytes)
}

fn spoiled(draw: &mut Draw, valid: &str, root: &str) -> Vec<u8> {
    let text = match draw.below(14) {
        0 => {
            let mut text = "<!DOCTYPE a [<!ENTITY e0 \"expanded\">".to_owned();
            for at in 1..10 {
                let inner = format!("&e{};", at - 1).repeat(10);
                write!(text, "<!ENTITY e{at} \"{inner}\">").expect("a string takes any text");
            }
            format!("{text}]>{}", valid.replace(">a<", ">&e9;<"))
        }
        1 => format!(
            "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>{}",
            valid.replace(">a<", ">&x;<")
        ),
        2 => {
            let depth = draw.between(100, 60_000);
            format!("<{root}>{}{}</{root}>", "<a>".repeat(depth), "</a>".repeat(depth))
        }
        3 => format!("<{root}>{}", "<a>".repeat(draw.between(1, 60_000))),
        4 => valid[..draw.below(valid.len())].to_owned(),
        5 => valid.replace(root, "Other"),
        6 => parts(draw, 10_001),
        7 => {
            let objects = "<Object><Key>a</Key></Object>".repeat(draw.between(1000, 1002));
            format!("<Delete>{objects}</Delete>")
        }
        8 => format!("<{root}>{}</{root}>", "<!-- more -->".repeat(draw.between(1, 9000))),
        // More than is ever read.
        9 if draw.once_in(12) => format!("<{root}>{}</{root}>", "a".repeat(5 << 20)),
        10 => valid.replace(">a<", &format!("><![CDATA[{}]]><", draw.word(9))),
        11 => valid
            .replace(">1<", &format!(">{}<", draw.number()))
            .replace(">5<", &format!(">{}<", draw.number())),
        12 => format!("{valid}{valid}"),
        _ => return draw.mutated(valid.as_bytes().to_vec()),
    };
    text.into_bytes()
}

/// So many parts, of which none was sent.
fn parts(draw: &mut Draw, count: usize) -> String {
    let mut text = "<CompleteMultipartUpload>".to_owned();
    for number in 1..=count {
        let number = if draw.once_in(5000) { draw.number() } else { number.to_string() };
        write!(text, "<Part><PartNumber>{number}</PartNumber><ETag>\"a\"</ETag></Part>")
            .expect("a string takes any text");
    }
    text + "</CompleteMultipartUpload>"
}

/// A form of a browser, of which something is wrong.
pub(in super::super) fn forms(scene: &Scene, draw: &mut Draw) -> Case {
    let boundary = if draw.once_in(8) { draw.word(90) } else { draw.word(12) };
    let bucket = draw.pick(&[OWN, OWN, OWN, CANARY]);
    let key = if draw.once_in(3) { &scene.reader } else { &scene.owner };
    let scope = Scope::now();
    let credential = format!("{}/{}", key.id, scope.text());
    let policy = policy(draw, bucket, &credential, &scope.instant);
    let encoded = base64(policy.as_bytes());
    let signature = scope.signature(&key.secret, &encoded);
    let name = draw.word(5);
    let mut fields: Vec<(&str, Vec<u8>)> = vec![
        ("key", name.into_bytes()),
        ("bucket", bucket.as_bytes().to_vec()),
        ("policy", encoded.into_bytes()),
        ("x-amz-algorithm", b"AWS4-HMAC-SHA256".to_vec()),
        ("x-amz-credential", credential.into_bytes()),
        ("x-amz-date", scope.instant.into_bytes()),
        ("x-amz-signature", signature.into_bytes()),
        ("file", draw.bytes(60)),
    ];
    let at = draw.below(fields.len());
    match draw.below(8) {
        0 => drop(fields.remove(at)),
        1 => fields[at].1 = draw.garbage(),
        2 => fields[at].1 = draw.mutated(fields[at].1.clone()),
        3 => fields.push(fields[at].clone()),
        4 => fields.swap(0, at),
        5 => fields.insert(at, ("x-amz-meta-a", vec![b'a'; draw.between(1, 100_000)])),
        6 => (0..draw.between(1, 2000)).for_each(|_| fields.insert(0, ("x-ignore-a", b"b".to_vec()))),
        _ => {}
    }
    let mut body = Vec::new();
    for (name, value) in fields {
        let file = if name == "file" { "; filename=\"f\"\r\nContent-Type: text/plain" } else { "" };
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend_from_slice(&[head.as_bytes(), &value, b"\r\n"].concat());
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let told = match draw.below(8) {
        0 => "multipart/form-data".to_owned(),
        1 => format!("multipart/form-data; boundary=\"{boundary}"),
        2 => format!("multipart/form-data; boundary={}", draw.word(4)),
        _ => format!("multipart/form-data; boundary={boundary}"),
    };
    let body = if draw.once_in(4) { draw.mutated(body) } else { body };
    let request = Request::new("POST", &format!("/{bucket}"), &scene.host);
    Case::whole(&request.header("content-type", told).body(body))
}

fn policy(draw: &mut Draw, bucket: &str, credential: &str, instant: &str) -> String {
    let valid = format!(
        "{{\"expiration\":\"2999-01-01T00:00:00Z\",\"conditions\":[{{\"bucket\":\"{bucket}\"}},[\"starts-with\",\"$key\",\"\"],\
         [\"content-length-range\",0,{}],{{\"x-amz-credential\":\"{credential}\"}},{{\"x-amz-date\":\"{instant}\"}},\
         {{\"x-amz-algorithm\":\"AWS4-HMAC-SHA256\"}}]}}",
        if draw.once_in(5) { draw.number() } else { "1000".to_owned() }
    );
    match draw.below(6) {
        0 => String::from_utf8_lossy(&draw.mutated(valid.into_bytes())).into_owned(),
        1 => format!("{{\"expiration\":{}{}", "[".repeat(40_000), "]".repeat(40_000)),
        2 => valid.replace("2999-01-01T00:00:00Z", &draw.number()),
        _ => valid,
    }
}
