//! WebDAV as clients see it.

use std::net::SocketAddr;

use crate::client::{Ask, Reply, ask};
use crate::gateway::{OF_ONE, OWNER, READER, Running, WRITER};

trait AsUser {
    fn user(self, token: &str) -> Self;
}

impl AsUser for Ask {
    /// The user and the password that the two parts of a token are.
    fn user(self, token: &str) -> Self {
        let plain = token.replacen('.', ":", 1);
        let encoded = base64_simd::STANDARD.encode_to_string(plain.as_bytes());
        self.header("Authorization", format!("Basic {encoded}"))
    }
}

/// What is put into `one` before a test begins.
const KEYS: [&str; 6] = ["a.txt", "deep/er/b%20c", "deep/d", "gr%C3%B6%C3%9Fe%20%26%20%3C%25%3E", "z", "z-a"];

async fn start(folder: &std::path::Path) -> Running {
    let gateway = Running::start(folder).await;
    for bucket in ["one", "two"] {
        let made = ask("PUT", format!("/api/v1/buckets/{bucket}")).token(OWNER).send(gateway.address).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    for key in KEYS {
        put(gateway.address, key, key.as_bytes()).await;
    }
    gateway
}

async fn put(at: SocketAddr, key: &str, body: &[u8]) {
    let path = format!("/api/v1/buckets/one/keys/{key}");
    let reply =
        ask("PUT", path).token(WRITER).header("Content-Type", "text/x-of-test").body(body).send(at).await;
    assert_eq!(reply.status, 201, "{key}: {}", reply.text());
}

async fn list(at: SocketAddr, token: &str, path: &str, depth: &str) -> Reply {
    ask("PROPFIND", path).user(token).header("Depth", depth).send(at).await
}

/// What the elements of this name hold.
fn elements(text: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<D:{name}>"), format!("</D:{name}>"));
    let behind = text.split(&open).skip(1);
    behind.map(|rest| rest.split(&close).next().expect("every split has a first").to_owned()).collect()
}

/// The paths that a list shows, but for its own.
#[track_caller]
fn shown(reply: &Reply) -> Vec<String> {
    assert_eq!((reply.status, reply.whole), (207, true), "{}", reply.text());
    let mut paths = elements(&reply.text(), "href").split_off(1);
    paths.sort();
    paths
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_folders_and_files_are_listed_with_what_is_known_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(folder.path()).await;
    let at = gateway.address;
    for path in ["/dav", "/dav/"] {
        assert_eq!(shown(&list(at, READER, path, "1").await), ["/dav/one/", "/dav/two/"], "{path}");
    }
    let root = list(at, READER, "/dav/one/", "1").await;
    assert_eq!(
        shown(&root),
        [
            "/dav/one/a.txt",
            "/dav/one/deep/",
            "/dav/one/gr%C3%B6%C3%9Fe%20%26%20%3C%25%3E",
            "/dav/one/z",
            "/dav/one/z-a"
        ]
    );
    assert_eq!(
        shown(&list(at, READER, "/dav/one/deep", "1").await),
        ["/dav/one/deep/d", "/dav/one/deep/er/"]
    );
    assert_eq!(shown(&list(at, READER, "/dav/one/deep/er/", "1").await), ["/dav/one/deep/er/b%20c"]);
    assert_eq!(shown(&list(at, READER, "/dav/two/", "1").await), [""; 0]);

    let one = list(at, READER, "/dav/one/a.txt", "0").await;
    let head = ask("HEAD", "/dav/one/a.txt").user(READER).send(at).await;
    let text = one.text();
    assert_eq!(elements(&text, "href"), ["/dav/one/a.txt"]);
    assert_eq!(elements(&text, "getcontentlength"), ["5"]);
    assert_eq!(elements(&text, "getetag"), [head.header("etag")]);
    assert_eq!(elements(&text, "getlastmodified"), [head.header("last-modified")]);
    assert_eq!(elements(&text, "getcontenttype"), ["text/plain"], "by the name");
    assert!(!text.contains("<D:collection"), "{text}");
    let folder_of_it = list(at, READER, "/dav/one/deep", "0").await.text();
    assert!(folder_of_it.contains("<D:collection") && !folder_of_it.contains("getetag>"), "{folder_of_it}");
    assert_eq!(elements(&folder_of_it, "href"), ["/dav/one/deep/"]);
    let question = "<?xml version=\"1.0\"?><D:propfind xmlns:D=\"DAV:\"><D:prop><D:getcontentlength/></D:prop></D:propfind>";
    let asked = ask("PROPFIND", "/dav/one/a.txt").user(READER).header("Depth", "0");
    let asked = asked.body(question.as_bytes()).send(at).await;
    assert_eq!(elements(&asked.text(), "getcontentlength"), ["5"], "{}", asked.text());
    assert!(!asked.text().contains("getetag"), "only what was asked for: {}", asked.text());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_in_ranges_and_under_conditions() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(folder.path()).await;
    let at = gateway.address;
    let body = crate::bytes(3_000_000, "file");
    put(at, "large", &body).await;
    let get = || ask("GET", "/dav/one/large").user(READER);
    let whole = get().send(at).await;
    assert_eq!((whole.status, whole.body == body, whole.whole), (200, true, true));
    assert_eq!(whole.header("content-type"), "text/x-of-test");
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=1048570-1048580", 1_048_570, 1_048_581),
        ("bytes=-7", 2_999_993, 3_000_000),
    ] {
        let part = get().header("Range", range).send(at).await;
        assert_eq!((part.status, part.body == body[from..to]), (206, true), "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {from}-{}/3000000", to - 1));
    }
    let beyond = get().header("Range", "bytes=3000000-").send(at).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */3000000"));
    let (etag, modified) = (whole.header("etag"), whole.header("last-modified"));
    for (name, value, status) in [
        ("If-None-Match", etag, 304),
        ("If-None-Match", "\"other\"", 200),
        ("If-Match", "\"other\"", 412),
        ("If-Modified-Since", modified, 304),
        ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT", 200),
        ("If-Unmodified-Since", modified, 200),
        ("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT", 412),
    ] {
        assert_eq!(get().header(name, value).send(at).await.status, status, "{name}: {value}");
    }
    let head = ask("HEAD", "/dav/one/large").user(READER).send(at).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "3000000", 0));
    put(at, "empty", b"").await;
    let empty = ask("GET", "/dav/one/empty").user(READER).send(at).await;
    assert_eq!((empty.status, empty.header("content-length"), empty.body.len()), (200, "0", 0));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_open_the_buckets_that_they_may_read_and_no_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(folder.path()).await;
    let at = gateway.address;
    for (method, path, token, status) in [
        ("PROPFIND", "/dav/", "", 401),
        ("OPTIONS", "/dav/", "", 401),
        ("GET", "/dav/one/z", "", 401),
        ("PUT", "/dav/one/z", "", 401),
        ("GET", "/dav/../api/v1/objects", "", 401),
        ("GET", "/dav/../api/v1/objects", READER, 404),
        ("PROPFIND", "/dav/", "reader.wrong", 401),
        ("PROPFIND", "/dav/", "reader.", 401),
        ("PROPFIND", "/dav/", "nobody.", 401),
        ("PROPFIND", "/dav/", "nobody.secret-of-the-reader", 401),
        ("PROPFIND", "/dav/one", OF_ONE, 207),
        ("GET", "/dav/one/z", OF_ONE, 200),
        ("GET", "/dav/two/z", OF_ONE, 403),
        ("HEAD", "/dav/two/z", OF_ONE, 403),
        ("PROPFIND", "/dav/two", OF_ONE, 403),
        ("PROPFIND", "/dav/two/", OF_ONE, 403),
        ("PROPFIND", "/dav/none", OF_ONE, 403),
        ("PROPFIND", "/dav/none", READER, 404),
        ("PROPFIND", "/dav/one/none", READER, 404),
        ("PROPFIND", "/dav/one/z/", READER, 404),
        ("GET", "/dav/one/none", READER, 404),
        ("GET", "/dav/one/deep", READER, 405),
        ("GET", "/dav/", READER, 405),
    ] {
        let asked = ask(method, path).header("Depth", "1");
        let asked = if token.is_empty() { asked } else { asked.user(token) };
        let reply = asked.send(at).await;
        assert_eq!(reply.status, status, "{method} {path} {token}: {}", reply.text());
        let challenged = reply.header("www-authenticate").starts_with("Basic realm=");
        assert_eq!(challenged, status == 401, "{method} {path} {token}");
    }
    assert_eq!(shown(&list(at, OF_ONE, "/dav/", "1").await), ["/dav/one/"]);
    let bearer = ask("PROPFIND", "/dav/").token(READER).header("Depth", "0").send(at).await;
    assert_eq!(bearer.status, 401, "a token of the HTTP API is another scheme");
    let unread =
        ask("MKCOL", "/dav/one/z").header("Content-Length", "1000000000").header("Expect", "100-continue");
    assert_eq!(unread.send(at).await.status, 401, "before a byte of the body came");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(folder.path()).await;
    let at = gateway.address;
    let before = list(at, OWNER, "/dav/one/", "1").await.text();
    for method in [
        "PUT",
        "DELETE",
        "MKCOL",
        "MOVE",
        "COPY",
        "PROPPATCH",
        "LOCK",
        "UNLOCK",
        "PATCH",
        "POST",
        "REPORT",
        "FROB",
    ] {
        for path in ["/dav/one/a.txt", "/dav/one/new", "/dav/one/deep/", "/dav/new/", "/dav/one/../two/x"] {
            let asked = ask(method, path).user(OWNER).header("Destination", "/dav/one/moved");
            let reply = asked.header("Overwrite", "T").send(at).await;
            assert_eq!(reply.status, 405, "{method} {path}: {}", reply.text());
            assert_eq!(reply.header("allow"), "OPTIONS, GET, HEAD, PROPFIND");
        }
    }
    assert_eq!(list(at, OWNER, "/dav/one/", "1").await.text(), before);
    assert_eq!(shown(&list(at, OWNER, "/dav/", "1").await), ["/dav/one/", "/dav/two/"]);
    for (path, allowed) in
        [("/dav/one/a.txt", "HEAD,GET,OPTIONS,PROPFIND"), ("/dav/one/", "OPTIONS,PROPFIND")]
    {
        let options = ask("OPTIONS", path).user(OWNER).send(at).await;
        assert_eq!(
            (options.status, options.header("dav"), options.header("allow")),
            (200, "1", allowed),
            "{path}"
        );
    }
    gateway.stop().await;
}

/// Keys that are no paths, or are a file and a folder at once, escaped.
const ODD_KEYS: [&str; 17] = [
    "both",
    "both-side",
    "both/inner",
    "both!",
    "%2E%2E",
    "%2E%2E/x",
    "%2E",
    "%2E/x",
    "twice//x",
    "marker/",
    "%2Flead",
    "%2F%2E%2E%2Fout",
    "in/%2E%2E/x",
    "line%0Abreak",
    "back%5Cslash",
    "...",
    "both-side/y",
];

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_no_paths_are_passed_over_and_what_is_file_and_folder_is_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Running::start(folder.path()).await;
    let at = gateway.address;
    assert_eq!(ask("PUT", "/api/v1/buckets/one").token(OWNER).send(at).await.status, 201);
    for key in ODD_KEYS {
        put(at, key, b"x").await;
    }
    let all = list(at, READER, "/dav/one", "1").await;
    assert_eq!(
        shown(&all),
        [
            "/dav/one/...",
            "/dav/one/back%5Cslash",
            "/dav/one/both%21",
            "/dav/one/both-side/",
            "/dav/one/both/",
            "/dav/one/in/",
            "/dav/one/line%0Abreak",
            "/dav/one/marker/",
            "/dav/one/twice/",
        ]
    );
    assert_eq!(shown(&list(at, READER, "/dav/one/both", "1").await), ["/dav/one/both/inner"]);
    for empty in ["in", "marker", "twice"] {
        let path = format!("/dav/one/{empty}/");
        assert_eq!(shown(&list(at, READER, &path, "1").await), [""; 0], "{path}");
    }
    for (path, status) in [
        ("/dav/one/both", 405),
        ("/dav/one/both/inner", 200),
        ("/dav/one/line%0Abreak", 200),
        ("/dav/one/back%5Cslash", 200),
        ("/dav/one/marker/", 405),
        ("/dav/one/..", 404),
        ("/dav/one/%2E%2E", 404),
        ("/dav/one/%2e%2e/x", 404),
        ("/dav/one/in/../x", 404),
        ("/dav/one/in/%2E%2E/x", 404),
        ("/dav/one/in%2F..%2Fx", 404),
        ("/dav/one/twice//x", 404),
        ("/dav/one//lead", 404),
        ("/dav/one/%2Flead", 404),
        ("/dav/one/%00", 404),
        ("/dav/one/%FF", 404),
        ("/dav/one/%zz", 404),
        ("/dav//one/both", 404),
        ("/dav/ONE/both", 404),
    ] {
        let reply = ask("GET", path).user(READER).send(at).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        let listed = list(at, READER, path, "0").await;
        assert_eq!(listed.status, if status == 404 { 404 } else { 207 }, "{path}");
    }
    let long = format!("/dav/one/{}", "x".repeat(20_000));
    assert_eq!(list(at, READER, &long, "0").await.status, 404);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_would_cost_too_much_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(folder.path()).await;
    let at = gateway.address;
    for depth in ["infinity", "Infinity", ""] {
        let asked = ask("PROPFIND", "/dav/").user(READER).header("X-Litmus", "props: 1");
        let asked = if depth.is_empty() { asked } else { asked.header("Depth", depth) };
        let reply = asked.send(at).await;
        assert_eq!(reply.status, 403, "{depth}");
        assert!(reply.text().contains("propfind-finite-depth"), "{}", reply.text());
    }
    assert_eq!(list(at, READER, "/dav/", "2").await.status, 400);
    let ask_with = |body: Vec<u8>| {
        let asked = ask("PROPFIND", "/dav/one/").user(READER).header("Depth", "1");
        asked.body(&body).send(at)
    };
    let open = "<D:propfind xmlns:D=\"DAV:\"><D:prop>";
    let nested =
        |depth: usize| format!("{open}{}{}</D:prop></D:propfind>", "<a>".repeat(depth), "</a>".repeat(depth));
    assert_eq!(ask_with(nested(120).into_bytes()).await.status, 207, "as deep as it may be");
    assert_eq!(ask_with(nested(5_000).into_bytes()).await.status, 413);
    assert_eq!(ask_with(vec![b' '; 17 << 10]).await.status, 413);
    let declared = format!("<!DOCTYPE a [<!ENTITY b \"{}\">]>{open}&b;", "<a>".repeat(5_000));
    assert_eq!(ask_with(declared.into_bytes()).await.status, 400);
    let wide: Vec<u8> = nested(5_000).encode_utf16().flat_map(u16::to_le_bytes).take(16_000).collect();
    assert_eq!(ask_with(wide).await.status, 400);
    for malformed in ["<", "<a/>", "x", "<D:propfind xmlns:D=\"DAV:\"/>", "\u{feff}<a", "<a b=\"&c;\"/>"] {
        assert_eq!(ask_with(malformed.as_bytes().to_vec()).await.status, 400, "{malformed}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_several_pages_is_listed_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Running::start(folder.path()).await;
    let at = gateway.address;
    assert_eq!(ask("PUT", "/api/v1/buckets/one").token(OWNER).send(at).await.status, 201);
    // A page has 1,000, and what is both file and folder lies on two of them: `b`, then the `b-…`, then `b/`.
    put(at, "b", b"hidden").await;
    put(at, "b/inner", b"x").await;
    let names: Vec<String> = (0..1_100).map(|number| format!("b-{number:04}")).collect();
    futures::stream::StreamExt::for_each_concurrent(futures::stream::iter(&names), 16, |name| {
        put(at, name, b"")
    })
    .await;
    let listed = shown(&list(at, READER, "/dav/one/", "1").await);
    let expected: Vec<String> = names.iter().map(|name| format!("/dav/one/{name}")).collect();
    assert_eq!(listed.len(), 1_101);
    assert!(listed.contains(&"/dav/one/b/".to_owned()) && !listed.contains(&"/dav/one/b".to_owned()));
    assert!(expected.iter().all(|path| listed.binary_search(path).is_ok()));
    gateway.stop().await;
}
