//! The S3 face over an embedded mesh, asked as clients ask it.

mod support;

use std::time::Duration;

use datamesh_core::bucket::Versioning;
use datamesh_core::time::Timestamp;
use datamesh_gateway::s3::expire;
use opendal::Operator;
use opendal::services::S3;
use s3s::crypto::{Checksum, Crc32, Md5, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::support::{OWNER, READER, Server, hex, noise};

const MIB: usize = 1 << 20;
/// How long an answer may take that needs nothing.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_library_puts_it_gets_and_lists() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    opendal::install_default();
    let builder = S3::default()
        .bucket("photos")
        .endpoint(&format!("http://{}", server.address))
        .region(support::REGION)
        .access_key_id(OWNER.0)
        .secret_access_key(OWNER.1)
        .disable_config_load()
        .disable_ec2_metadata();
    let photos = Operator::new(builder).unwrap();
    let large = noise(3 * MIB + 17, 1);
    for (key, bytes) in [("a/one", &b"1"[..]), ("a/two", &large[..]), ("b ö+/%", b"odd"), ("none", b"")] {
        photos.write(key, bytes.to_vec()).await.unwrap();
        assert_eq!(photos.read(key).await.unwrap().to_vec(), bytes, "{key}");
        assert_eq!(photos.stat(key).await.unwrap().content_length(), u64::try_from(bytes.len()).unwrap());
    }
    let range = photos.read_with("a/two").range(MIB as u64 - 5..MIB as u64 + 5).await.unwrap();
    assert_eq!(range.to_vec(), large[MIB - 5..MIB + 5]);
    let listed: Vec<String> =
        photos.list("a/").await.unwrap().into_iter().map(|entry| entry.path().to_owned()).collect();
    assert_eq!(listed, ["a/one", "a/two"]);
    photos.delete("a/one").await.unwrap();
    assert!(!photos.exists("a/one").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_does_what_their_key_does_not_allow() {
    let server = Server::start().await;
    for bucket in ["/photos", "/letters"] {
        server.ask("PUT", bucket, "").await.ok();
        server.ask("PUT", &format!("{bucket}/key"), "bytes").await.ok();
    }
    server.send("GET", "/photos/key", &[], "").await.refused(403, "AccessDenied");
    server.ask_with(("nobody", "x"), "GET", "/photos/key", &[], "").await.refused(403, "InvalidAccessKeyId");
    server
        .ask_with((OWNER.0, "x"), "GET", "/photos/key", &[], "")
        .await
        .refused(403, "SignatureDoesNotMatch");
    let read = |method: &'static str, path: &'static str| server.ask_with(READER, method, path, &[], "");
    assert_eq!(read("GET", "/photos/key").await.ok().text(), "bytes");
    read("GET", "/photos?list-type=2").await.ok();
    for (method, path) in [
        ("GET", "/letters/key"),
        ("PUT", "/photos/key"),
        ("DELETE", "/photos/key"),
        ("DELETE", "/photos"),
        ("PUT", "/new-bucket"),
        ("POST", "/photos/key?uploads="),
    ] {
        read(method, path).await.refused(403, "AccessDenied");
    }
    let copy = [("x-amz-copy-source", "/letters/key")];
    server.ask_with(READER, "PUT", "/photos/copy", &copy, "").await.refused(403, "AccessDenied");
    assert_eq!(read("GET", "/").await.ok().elements("Name"), ["photos"]);
    assert_eq!(server.ask("GET", "/", "").await.elements("Name"), ["letters", "photos"]);
    server.ask("GET", "/photos?policy=", "").await.refused(501, "NotImplemented");
    server.ask("PUT", "/metrics", "").await.refused(400, "InvalidBucketName");
    // In this region making it again is well, and nothing changes.
    server.ask("PUT", "/photos", "").await.ok();
    assert_eq!(server.ask("GET", "/photos/key", "").await.ok().text(), "bytes");
    server.ask("DELETE", "/photos", "").await.refused(409, "BucketNotEmpty");
    server.ask("GET", "/nothing/key", "").await.refused(404, "NoSuchBucket");
}

/// The head of a form with these fields, up to the file's first bytes.
fn form_head(fields: &[(&str, &str)]) -> String {
    let field = |(name, value): &(&str, &str)| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let fields: String = fields.iter().map(field).collect();
    format!("{fields}--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nfirst bytes")
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_are_refused_before_their_file_is_read() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    let of = |id: &str| format!("{id}/20260101/us-east-1/s3/aws4_request");
    let (reader, nobody, owner) = (of(READER.0), of("nobody"), of(OWNER.0));
    for (fields, code) in [
        (vec![("key", "k")], "AccessDenied"),
        (vec![("key", "k"), ("x-amz-credential", reader.as_str())], "AccessDenied"),
        (vec![("key", "k"), ("X-Amz-Credential", nobody.as_str())], "InvalidAccessKeyId"),
        (vec![("key", "k"), ("AWSAccessKeyId", READER.0)], "AccessDenied"),
        (
            vec![("key", "k"), ("x-amz-credential", owner.as_str()), ("x-amz-signature", "0")],
            "InvalidRequest",
        ),
    ] {
        let head = form_head(&fields);
        // Far more is announced than ever comes: whoever waits for the file never answers.
        let request = format!(
            "POST /photos HTTP/1.1\r\nHost: {}\r\nContent-Type: multipart/form-data; boundary=b\r\n\
             Content-Length: 60000000\r\n\r\n{head}",
            server.address
        );
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&answer).contains("</Error>") {
            let read = tokio::time::timeout(ANSWER_DEADLINE, stream.read(&mut buffer)).await;
            let count = read.expect("it is answered before the file is there").unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&buffer[..count]);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains(&format!("<Code>{code}</Code>")), "{fields:?}: {answer}");
    }
    server.ask("GET", "/photos/k", "").await.refused(404, "NoSuchKey");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_owners_is_told_in_words_of_s3_and_not_changed() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    server.ask("PUT", "/photos/key", "bytes").await.ok();
    for path in ["/photos?acl=", "/photos/key?acl="] {
        let acl = server.ask_with(READER, "GET", path, &[], "").await.ok();
        assert_eq!(acl.elements("Permission"), ["FULL_CONTROL"], "{path}");
        assert_eq!(acl.elements("ID").len(), 2, "{path}");
        let private = [("x-amz-acl", "private")];
        server.ask_with(OWNER, "PUT", path, &private, "").await.ok();
        let public = [("x-amz-acl", "public-read")];
        server.ask_with(OWNER, "PUT", path, &public, "").await.refused(400, "AccessControlListNotSupported");
        server.ask_with(READER, "PUT", path, &private, "").await.refused(403, "AccessDenied");
    }
    let managed = [("x-amz-server-side-encryption-aws-kms-key-id", "a-key")];
    server.ask_with(OWNER, "PUT", "/photos/managed", &managed, "").await.refused(501, "NotImplemented");
    let to_somebody = [("x-amz-grant-read", "id=somebody")];
    for path in ["/photos/granted", "/granted", "/photos/key?acl="] {
        let granted = server.ask_with(OWNER, "PUT", path, &to_somebody, "").await;
        granted.refused(400, "AccessControlListNotSupported");
    }
    server.ask_with(OWNER, "GET", "/photos/key", &managed, "").await.refused(400, "InvalidRequest");
    let controls = server.ask("GET", "/photos?ownershipControls=", "").await.ok();
    assert_eq!(controls.elements("ObjectOwnership"), ["BucketOwnerEnforced"]);
    let tagged = [("x-amz-tagging", "a=1&b=2")];
    server.ask_with(OWNER, "PUT", "/photos/tagged", &tagged, "").await.ok();
    for method in ["GET", "HEAD"] {
        let answer = server.ask_with(READER, method, "/photos/tagged", &[], "").await.ok();
        assert_eq!(answer.header("x-amz-tagging-count"), Some("2"), "{method}");
    }
    let list = server.ask("GET", "/photos?delimiter=&list-type=2", "").await.ok();
    assert_eq!((list.elements("Key").len(), list.element("Delimiter")), (2, None));
    server
        .send("GET", "/photos/key?X-Amz-Signature=0&X-Amz-Expires=604801", &[], "")
        .await
        .refused(400, "AuthorizationQueryParametersError");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_and_ranges_are_held_to() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    let with = |method: &'static str, headers: Vec<(&'static str, String)>, body: &'static str| {
        let server = &server;
        async move {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
            server.ask_with(OWNER, method, "/photos/key", &headers, body).await
        }
    };
    let header = |name: &'static str, value: &str| vec![(name, value.to_owned())];
    let put = with("PUT", header("if-none-match", "*"), "0123456789").await.ok();
    let etag = put.header("etag").unwrap().to_owned();
    assert_eq!(etag, format!("\"{}\"", hex(&Md5::checksum(b"0123456789"))));
    with("PUT", header("if-none-match", "*"), "other").await.refused(412, "PreconditionFailed");
    with("PUT", header("if-match", "\"other\""), "other").await.refused(412, "PreconditionFailed");
    with("PUT", header("if-match", &etag), "0123456789").await.ok();
    let missing = server.ask_with(OWNER, "PUT", "/photos/none", &[("if-match", &*etag)], "x").await;
    missing.refused(404, "NoSuchKey");
    let known = with("GET", header("if-none-match", &etag), "").await;
    assert_eq!((known.status.as_u16(), known.body.len(), known.header("etag")), (304, 0, Some(&*etag)));
    with("GET", header("if-match", "\"other\""), "").await.refused(412, "PreconditionFailed");
    let modified = with("GET", vec![], "").await.header("last-modified").unwrap().to_owned();
    assert_eq!(with("GET", header("if-modified-since", &modified), "").await.status.as_u16(), 304);
    with("GET", header("if-unmodified-since", &modified), "").await.ok();
    for (range, part, told) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-1", "9", "bytes 9-9/10"),
        ("bytes=0-99", "0123456789", "bytes 0-9/10"),
    ] {
        let got = with("GET", header("range", range), "").await;
        assert_eq!((got.status.as_u16(), got.text().as_str()), (206, part));
        assert_eq!(got.header("content-range"), Some(told));
    }
    let beyond = with("GET", header("range", "bytes=10-"), "").await;
    beyond.refused(416, "InvalidRange");
    assert_eq!(beyond.header("content-range"), Some("bytes */10"));
    let head = with("HEAD", header("range", "bytes=2-4"), "").await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (206, Some("3")));
    let named = server.ask("GET", "/photos/key?response-content-type=text%2Fplain", "").await.ok();
    assert_eq!(named.header("content-type"), Some("text/plain"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_page_by_page() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    for key in ["a", "b/1", "b/2", "c%20+", "d/1"] {
        server.ask("PUT", &format!("/photos/{key}").replace('+', "%2B"), "x").await.ok();
    }
    let all = server.ask("GET", "/photos?list-type=2", "").await.ok();
    assert_eq!(all.elements("Key"), ["a", "b/1", "b/2", "c +", "d/1"]);
    let encoded = server.ask("GET", "/photos?encoding-type=url&list-type=2", "").await.ok();
    assert_eq!(encoded.elements("Key")[3], "c%20%2B");
    let (mut keys, mut prefixes, mut token, mut pages) = (Vec::new(), Vec::new(), None::<String>, 0);
    loop {
        let next = token.map(|token| format!("&continuation-token={token}")).unwrap_or_default();
        let path = format!("/photos?delimiter=%2F&list-type=2&max-keys=2{next}");
        let page = server.ask("GET", &path, "").await.ok();
        keys.extend(page.elements("Key"));
        prefixes.extend(page.elements("CommonPrefixes"));
        pages += 1;
        token = page.element("NextContinuationToken");
        if page.element("IsTruncated").as_deref() == Some("false") {
            break;
        }
    }
    assert_eq!((keys, pages), (vec!["a".to_owned(), "c +".to_owned()], 2));
    assert_eq!(prefixes, ["<Prefix>b/</Prefix>", "<Prefix>d/</Prefix>"]);
    let first = server.ask("GET", "/photos?marker=b%2F1&max-keys=1", "").await.ok();
    assert_eq!(
        (first.elements("Key"), first.element("NextMarker")),
        (vec!["b/2".to_owned()], Some("b/2".to_owned()))
    );
    let behind = server.ask("GET", "/photos?list-type=2&prefix=b%2F&start-after=b%2F1", "").await.ok();
    assert_eq!(behind.elements("Key"), ["b/2"]);
    let delete = "<Delete><Object><Key>a</Key></Object><Object><Key>none</Key></Object></Delete>";
    let deleted = server.ask("POST", "/photos?delete=", delete).await.ok();
    assert_eq!(deleted.elements("Key"), ["a", "none"]);
    server.ask("GET", "/photos/a", "").await.refused(404, "NoSuchKey");
}

async fn begin(server: &Server, path: &str) -> String {
    server
        .ask("POST", &format!("{path}?uploads="), "")
        .await
        .ok()
        .element("UploadId")
        .expect("an upload has an id")
}

async fn put_part(server: &Server, path: &str, id: &str, number: u16, bytes: Vec<u8>) -> String {
    let path = format!("{path}?partNumber={number}&uploadId={id}");
    server.ask("PUT", &path, bytes).await.ok().header("etag").expect("a part has a tag").to_owned()
}

fn completion(parts: &[(u16, String)]) -> String {
    let parts: String = parts
        .iter()
        .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
        .collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_in_any_order_become_one_object() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    let (first, last) = (noise(5 * MIB, 2), noise(MIB + 3, 3));
    let id = begin(&server, "/photos/large").await;
    let wrong = put_part(&server, "/photos/large", &id, 7, b"overwritten".to_vec()).await;
    let second = put_part(&server, "/photos/large", &id, 7, last.clone()).await;
    let one = put_part(&server, "/photos/large", &id, 3, first.clone()).await;
    let parts = [(3, one.clone()), (7, second.clone())];
    let listed = server.ask("GET", &format!("/photos/large?max-parts=1&uploadId={id}"), "").await.ok();
    assert_eq!(
        (listed.elements("PartNumber"), listed.element("NextPartNumberMarker")),
        (vec!["3".to_owned()], Some("3".to_owned()))
    );
    assert_eq!(
        server.ask("GET", "/photos?uploads=", "").await.ok().elements("UploadId"),
        std::slice::from_ref(&id)
    );
    let complete = |parts: Vec<(u16, String)>| {
        let (server, path) = (&server, format!("/photos/large?uploadId={id}"));
        async move { server.ask("POST", &path, completion(&parts)).await }
    };
    complete(vec![(3, one.clone()), (7, wrong)]).await.refused(400, "InvalidPart");
    complete(vec![(7, second.clone()), (3, one.clone())]).await.refused(400, "InvalidPartOrder");
    let done = complete(parts.to_vec()).await.ok();
    let md5s = [Md5::checksum(&first), Md5::checksum(&last)].concat();
    let etag = format!("\"{}-2\"", hex(&Md5::checksum(&md5s)));
    assert_eq!(done.element("ETag").unwrap().replace("&quot;", "\""), etag);
    assert_eq!(complete(parts.to_vec()).await.ok().element("ETag"), done.element("ETag"));
    let whole = [first.clone(), last.clone()].concat();
    let got = server.ask("GET", "/photos/large", "").await.ok();
    assert!(got.body == whole && got.header("etag") == Some(&etag));
    let range = format!("bytes={}-{}", 5 * MIB - 2, 5 * MIB + 1);
    let across = server.ask_with(OWNER, "GET", "/photos/large", &[("range", &range)], "").await.ok();
    assert_eq!(across.body, whole[5 * MIB - 2..5 * MIB + 2]);
    let part = server.ask("GET", "/photos/large?partNumber=2", "").await.ok();
    assert!(part.body == last && part.header("x-amz-mp-parts-count") == Some("2"));
    let copy = [("x-amz-copy-source", "/photos/large")];
    server.ask_with(OWNER, "PUT", "/photos/copy", &copy, "").await.ok();
    server.ask("DELETE", "/photos/large", "").await.ok();
    let got = server.ask("GET", "/photos/copy", "").await.ok();
    assert!(got.body == whole && got.header("etag") == Some(&etag));
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_are_wrong_or_given_up_leave_nothing() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    let id = begin(&server, "/photos/small").await;
    let parts = [
        (1, put_part(&server, "/photos/small", &id, 1, b"short".to_vec()).await),
        (2, put_part(&server, "/photos/small", &id, 2, b"last".to_vec()).await),
    ];
    let path = format!("/photos/small?uploadId={id}");
    server.ask("POST", &path, completion(&parts)).await.refused(400, "EntityTooSmall");
    server.ask("PUT", &format!("{path}&partNumber=10001"), "x").await.refused(400, "InvalidArgument");
    server.ask("DELETE", &path, "").await.ok();
    server.ask("DELETE", &path, "").await.refused(404, "NoSuchUpload");
    server.ask("PUT", &format!("{path}&partNumber=1"), "x").await.refused(404, "NoSuchUpload");
    server.ask("POST", &path, completion(&parts)).await.refused(404, "NoSuchUpload");
    server.ask("GET", "/photos/small", "").await.refused(404, "NoSuchKey");
    server.ask("DELETE", "/photos", "").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_move_no_bytes_however_many_parts_there_are() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    let bytes = noise(5 * MIB, 4);
    server.ask("PUT", "/photos/source", bytes.clone()).await.ok();
    let id = begin(&server, "/photos/many").await;
    let source = [("x-amz-copy-source", "/photos/source")];
    let mut parts = Vec::new();
    for number in 1..=66 {
        let path = format!("/photos/many?partNumber={number}&uploadId={id}");
        let copied = server.ask_with(OWNER, "PUT", &path, &source, "").await.ok();
        parts.push((number, copied.element("ETag").unwrap()));
    }
    let path = format!("/photos/many?partNumber=67&uploadId={id}");
    let ranged = [source[0], ("x-amz-copy-source-range", "bytes=5-9")];
    let copied = server.ask_with(OWNER, "PUT", &path, &ranged, "").await.ok();
    parts.push((67, copied.element("ETag").unwrap()));
    let done = server.ask("POST", &format!("/photos/many?uploadId={id}"), completion(&parts)).await.ok();
    let copy = [("x-amz-copy-source", "/photos/many")];
    let copied = server.ask_with(OWNER, "PUT", "/photos/again", &copy, "").await.ok();
    assert_eq!(copied.element("ETag"), done.element("ETag"));
    for key in ["many", "source"] {
        server.ask("DELETE", &format!("/photos/{key}"), "").await.ok();
    }
    let range = format!("bytes={}-", 66 * 5 * MIB - 1);
    let tail = server.ask_with(OWNER, "GET", "/photos/again", &[("range", &range)], "").await.ok();
    assert_eq!(tail.body[..], [&bytes[5 * MIB - 1..], &bytes[5..10]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_take_what_is_said_of_them_or_what_their_source_has() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    let said = [("x-amz-meta-by", "me"), ("content-type", "text/plain"), ("x-amz-tagging", "a=1")];
    server.ask_with(OWNER, "PUT", "/photos/key", &said, "bytes").await.ok();
    let source = ("x-amz-copy-source", "/photos/key");
    server.ask_with(OWNER, "PUT", "/photos/key", &[source], "").await.refused(400, "InvalidRequest");
    let failed = [source, ("x-amz-copy-source-if-match", "\"other\"")];
    server.ask_with(OWNER, "PUT", "/photos/b", &failed, "").await.refused(412, "PreconditionFailed");
    server.ask_with(OWNER, "PUT", "/photos/b", &[source], "").await.ok();
    let head = server.ask("HEAD", "/photos/b", "").await.ok();
    assert_eq!((head.header("x-amz-meta-by"), head.header("content-type")), (Some("me"), Some("text/plain")));
    assert!(server.ask("GET", "/photos/b?tagging=", "").await.text().contains("<Value>1</Value>"));
    let replaced = [source, ("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-by", "you")];
    server.ask_with(OWNER, "PUT", "/photos/key", &replaced, "").await.ok();
    let got = server.ask("GET", "/photos/key", "").await.ok();
    assert_eq!((got.header("x-amz-meta-by"), got.text().as_str()), (Some("you"), "bytes"));
    let colder = [source, ("x-amz-storage-class", "STANDARD_IA")];
    server.ask_with(OWNER, "PUT", "/photos/c", &colder, "").await.ok();
    let got = server.ask("GET", "/photos/c", "").await.ok();
    assert_eq!((got.header("x-amz-storage-class"), got.text().as_str()), (Some("STANDARD_IA"), "bytes"));
    let unknown = [("x-amz-storage-class", "WARM")];
    server.ask_with(OWNER, "PUT", "/photos/d", &unknown, "x").await.refused(400, "InvalidStorageClass");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_stay_behind_marks_of_deletion() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    server.ask("PUT", "/photos?versioning=", versioning).await.ok();
    let put = |body: &'static str| {
        let server = &server;
        async move {
            let put = server.ask("PUT", "/photos/key", body).await.ok();
            put.header("x-amz-version-id").unwrap().to_owned()
        }
    };
    let (one, two) = (put("one").await, put("two").await);
    let deleted = server.ask("DELETE", "/photos/key", "").await.ok();
    assert_eq!(deleted.header("x-amz-delete-marker"), Some("true"));
    let mark = deleted.header("x-amz-version-id").unwrap().to_owned();
    let gone = server.ask("GET", "/photos/key", "").await;
    gone.refused(404, "NoSuchKey");
    assert_eq!(gone.header("x-amz-delete-marker"), Some("true"));
    assert_eq!(server.ask("GET", &format!("/photos/key?versionId={one}"), "").await.ok().text(), "one");
    let asked = server.ask("GET", &format!("/photos/key?versionId={mark}"), "").await;
    asked.refused(405, "MethodNotAllowed");
    assert_eq!(asked.header("x-amz-delete-marker"), Some("true"));
    let listed = server.ask("GET", "/photos?versions=", "").await.ok();
    let mut ids = listed.elements("VersionId");
    ids.sort_unstable();
    let mut all = [one.clone(), two.clone(), mark.clone()];
    all.sort_unstable();
    assert_eq!(ids, all);
    server.ask("DELETE", &format!("/photos/key?versionId={mark}"), "").await.ok();
    assert_eq!(server.ask("GET", "/photos/key", "").await.ok().text(), "two");
    server.ask("DELETE", &format!("/photos/key?versionId={two}"), "").await.ok();
    assert_eq!(server.ask("GET", "/photos/key", "").await.ok().text(), "one");
    let missing = server.ask("GET", &format!("/photos/key?versionId={two}"), "").await;
    missing.refused(404, "NoSuchVersion");
    let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>";
    server.ask("PUT", &format!("/photos/key?tagging=&versionId={one}"), tags).await.ok();
    assert_eq!(server.ask("GET", "/photos/key", "").await.ok().header("x-amz-tagging-count"), Some("1"));
    assert_eq!(server.buckets.bucket(&"photos".parse().unwrap()).unwrap().versioning, Versioning::Enabled);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_with_other_digests_than_were_said_are_not_kept() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    let put = |name: &'static str, value: String| {
        let server = &server;
        async move { server.ask_with(OWNER, "PUT", "/photos/key", &[(name, &value)], "bytes").await }
    };
    put("content-md5", base64(&Md5::checksum(b"other"))).await.refused(400, "BadDigest");
    put("content-md5", "nonsense".to_owned()).await.refused(400, "InvalidDigest");
    put("x-amz-checksum-crc32", base64(&Crc32::checksum(b"other"))).await.refused(400, "BadDigest");
    server.ask("GET", "/photos/key", "").await.refused(404, "NoSuchKey");
    let crc = base64(&Crc32::checksum(b"bytes"));
    assert_eq!(
        put("x-amz-checksum-crc32", crc.clone()).await.ok().header("x-amz-checksum-crc32"),
        Some(&*crc)
    );
    let told =
        server.ask_with(OWNER, "GET", "/photos/key", &[("x-amz-checksum-mode", "ENABLED")], "").await.ok();
    assert_eq!(told.header("x-amz-checksum-crc32"), Some(&*crc));
    let asked = [("x-amz-object-attributes", "ObjectSize,Checksum,ETag")];
    let attributes = server.ask_with(OWNER, "GET", "/photos/key?attributes=", &asked, "").await.ok();
    assert_eq!(
        (attributes.element("ObjectSize"), attributes.element("ChecksumCRC32")),
        (Some("5".to_owned()), Some(crc))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing_under_its_key() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    let path = server.presigned(OWNER, "PUT", "/photos/key");
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let head =
        format!("PUT {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n", server.address, 8 * MIB);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&noise(3 * MIB, 5)).await.unwrap();
    drop(stream);
    // Whoever puts it again afterwards has it whole.
    let bytes = noise(MIB, 6);
    server.ask("PUT", "/photos/key", bytes.clone()).await.ok();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(server.ask("GET", "/photos/key", "").await.ok().body == bytes);
    server.ask("DELETE", "/photos/key", "").await.ok();
    server.ask("DELETE", "/photos", "").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_elsewhere_may_do_what_the_rules_of_a_bucket_say() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    server.ask("PUT", "/photos/key", "bytes").await.ok();
    let origin = ("origin", "https://app.example.org");
    let preflight =
        [origin, ("access-control-request-method", "PUT"), ("access-control-request-headers", "x-amz-date")];
    server.send("OPTIONS", "/photos/key", &preflight, "").await.refused(403, "AccessDenied");
    let rules = "<CORSConfiguration><CORSRule><AllowedOrigin>https://*.example.org</AllowedOrigin>\
                 <AllowedMethod>PUT</AllowedMethod><AllowedMethod>GET</AllowedMethod><AllowedHeader>*</AllowedHeader>\
                 <ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule></CORSConfiguration>";
    server.ask("GET", "/photos?cors=", "").await.refused(404, "NoSuchCORSConfiguration");
    server.ask("PUT", "/photos?cors=", rules).await.ok();
    assert_eq!(
        server.ask("GET", "/photos?cors=", "").await.ok().element("ExposeHeader").as_deref(),
        Some("ETag")
    );
    let allowed = server.send("OPTIONS", "/photos/key", &preflight, "").await.ok();
    assert_eq!(allowed.header("access-control-allow-origin"), Some(origin.1));
    assert_eq!(allowed.header("access-control-allow-headers"), Some("x-amz-date"));
    assert_eq!(allowed.header("access-control-max-age"), Some("60"));
    let got = server.ask_with(OWNER, "GET", "/photos/key", &[origin], "").await.ok();
    assert_eq!(got.header("access-control-expose-headers"), Some("ETag"));
    let other =
        server.ask_with(OWNER, "GET", "/photos/key", &[("origin", "https://else.net")], "").await.ok();
    assert_eq!(other.header("access-control-allow-origin"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_had_its_time_is_ended_by_the_rules() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    for key in ["old/a", "old/b", "new/a"] {
        server.ask("PUT", &format!("/photos/{key}"), "bytes").await.ok();
    }
    begin(&server, "/photos/old/upload").await;
    server.ask("GET", "/photos?lifecycle=", "").await.refused(404, "NoSuchLifecycleConfiguration");
    let rules = "<LifecycleConfiguration><Rule><ID>old</ID><Status>Enabled</Status>\
                 <Filter><Prefix>old/</Prefix></Filter><Expiration><Days>1</Days></Expiration>\
                 <AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation>\
                 </AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>";
    server.ask("PUT", "/photos?lifecycle=", rules).await.ok();
    assert_eq!(server.ask("GET", "/photos?lifecycle=", "").await.ok().element("ID").as_deref(), Some("old"));
    let now = server.buckets.world().clock.now();
    let ended = expire(&server.buckets, now).await.unwrap();
    assert_eq!((ended.current, ended.uploads), (0, 0));
    let later = Timestamp::from_ms(now.as_ms() + 2 * 86_400_000);
    let ended = expire(&server.buckets, later).await.unwrap();
    assert_eq!((ended.current, ended.earlier, ended.uploads), (2, 0, 1));
    assert_eq!(server.ask("GET", "/photos?list-type=2", "").await.ok().elements("Key"), ["new/a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_too_long_or_not_the_one_that_was_signed_is_no_fault_of_the_gateways() {
    let server = Server::start().await;
    server.ask("PUT", "/photos", "").await.ok();
    let long = format!("<Tagging>{}</Tagging>", "a".repeat(5 * MIB));
    for (method, path) in [("PUT", "/photos?tagging="), ("POST", "/photos?delete=")] {
        server.ask(method, path, long.clone()).await.refused(400, "MaxMessageLengthExceeded");
    }
    let tagging = "<Tagging><TagSet/></Tagging>";
    let other = [("x-amz-content-sha256", hex(&Sha256::checksum(b"another document")))];
    let path = server.presigned(OWNER, "PUT", "/photos?tagging=");
    let [(name, digest)] = &other;
    server.send("PUT", &path, &[(name, digest)], tagging).await.refused(400, "IncompleteBody");
}
