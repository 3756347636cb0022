//! The native face as clients see it, over a mesh in this process.

mod client;
mod dav;
mod gateway;

use std::collections::BTreeSet;
use std::time::Duration;

use datamesh_core::id::BlockId;

use crate::client::{Reply, ask};
use crate::gateway::{OF_ONE, OWNER, READER, Running, WRITER};

/// Bytes that look like none before them.
fn bytes(size: usize, seed: &str) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut hasher = blake3::Hasher::new();
    hasher.update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

async fn put(gateway: &Running, name: &str, body: &[u8]) -> String {
    let path = format!("/api/v1/objects?name={name}");
    let reply = ask("POST", path).token(WRITER).header("Content-Type", "text/plain").body(body);
    let reply = reply.send(gateway.address).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let view = reply.json();
    assert_eq!(view["size"], body.len());
    assert_eq!(
        reply.header("location"),
        format!("/api/v1/objects/{}", view["object"].as_str().expect("an id"))
    );
    view["object"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_put_got_in_ranges_looked_at_and_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Running::start(folder.path()).await;
    let body = bytes(5_000_000, "object");
    let id = put(&gateway, "gr%C3%B6%C3%9Fe.txt", &body).await;
    let path = format!("/api/v1/objects/{id}");
    let get = || ask("GET", path.clone()).token(READER);
    let whole = get().send(gateway.address).await;
    assert_eq!((whole.status, whole.body == body, whole.whole), (200, true, true));
    assert_eq!(whole.header("etag"), format!("\"{id}\""));
    assert_eq!(whole.header("content-type"), "text/plain");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert!(whole.header("content-disposition").ends_with("filename*=UTF-8''gr%C3%B6%C3%9Fe.txt"));
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=1048575-1048576", 1_048_575, 1_048_577),
        ("bytes=4999990-", 4_999_990, 5_000_000),
        ("bytes=-7", 4_999_993, 5_000_000),
        ("bytes=4000000-99999999", 4_000_000, 5_000_000),
    ] {
        let part = get().header("Range", range).send(gateway.address).await;
        assert_eq!((part.status, part.body == body[from..to]), (206, true), "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {from}-{}/5000000", to - 1));
    }
    let beyond = get().header("Range", "bytes=5000000-").send(gateway.address).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */5000000"));
    let known = get().header("If-None-Match", format!("\"{id}\"")).send(gateway.address).await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert_eq!(get().header("If-Match", "\"other\"").send(gateway.address).await.status, 412);
    let head = ask("HEAD", path.clone()).token(READER).send(gateway.address).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "5000000", 0));

    let info = ask("GET", format!("{path}/info")).token(READER).send(gateway.address).await.json();
    assert_eq!(info["scheme"], "4+2");
    assert_eq!(info["stripe_count"], 5);
    assert_eq!((info["shards_found"].as_u64(), info["shards_expected"].as_u64()), (Some(30), Some(30)));
    assert_eq!((info["score"].as_f64(), info["survives_domains"].as_u64()), (Some(1.0), Some(2)));

    let deleted = ask("DELETE", path.clone()).token(WRITER).send(gateway.address).await;
    assert_eq!(deleted.status, 204);
    let again = ask("DELETE", path).token(WRITER).send(gateway.address).await;
    assert_eq!((again.status, again.kind()), (404, "not-found".to_owned()));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_or_missing_is_told_as_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Running::start(folder.path()).await;
    let unknown = BlockId::of(b"nobody has put this").to_string();
    for (method, path, status, kind) in [
        ("GET", "/api/v1/objects/bafy".to_owned(), 400, "usage"),
        ("GET", format!("/api/v1/objects/{unknown}"), 404, "not-found"),
        ("GET", format!("/api/v1/objects/{unknown}/info"), 404, "not-found"),
        ("GET", "/api/v1/nothing".to_owned(), 404, "not-found"),
        ("GET", "/api/v1/transfers/x".to_owned(), 400, "usage"),
        ("GET", "/api/v1/transfers/99".to_owned(), 404, "not-found"),
        ("GET", "/api/v1/peers/x".to_owned(), 400, "usage"),
        ("GET", "/api/v1/buckets/none/keys".to_owned(), 404, "not-found"),
        ("GET", "/api/v1/buckets/X/keys".to_owned(), 400, "usage"),
        ("GET", "/api/v1/buckets/none/keys?limit=x".to_owned(), 400, "usage"),
        ("GET", "/api/v1/buckets/none/keys/key".to_owned(), 404, "not-found"),
        ("PUT", "/api/v1/buckets/none/keys/key".to_owned(), 404, "not-found"),
        ("PUT", "/api/v1/buckets/ipfs".to_owned(), 400, "usage"),
        ("DELETE", "/api/v1/buckets/none".to_owned(), 404, "not-found"),
        ("HEAD", "/api/v1/uploads/x".to_owned(), 404, ""),
        ("POST", "/api/v1/uploads".to_owned(), 400, "usage"),
        ("POST", "/api/v1/uploads?size=9999999999999999".to_owned(), 413, "too-large"),
        ("GET", format!("/api/v1/objects?name={}", "x".repeat(5000)), 405, ""),
    ] {
        let reply = ask(method, path.clone()).token(OWNER).send(gateway.address).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
        if !kind.is_empty() {
            assert_eq!(reply.kind(), kind, "{method} {path}");
        }
    }
    let long = format!("/api/v1/objects?name={}", "x".repeat(5000));
    let reply = ask("POST", long).token(OWNER).body(b"x").send(gateway.address).await;
    assert_eq!((reply.status, reply.kind()), (400, "usage".to_owned()));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_open_what_they_are_for_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Running::start(folder.path()).await;
    let at = gateway.address;
    assert_eq!(ask("PUT", "/api/v1/buckets/one").token(OWNER).send(at).await.status, 201);
    assert_eq!(ask("PUT", "/api/v1/buckets/two").token(OWNER).send(at).await.status, 201);
    for (method, path, token, status) in [
        ("GET", "/healthz", "", 200),
        ("GET", "/readyz", "", 200),
        ("GET", "/metrics", "", 200),
        ("GET", "/dashboard", "", 200),
        ("GET", "/api/v1/docs", "", 200),
        ("GET", "/api/v1/openapi.json", "", 200),
        ("GET", "/api/v1/peers", "", 401),
        ("GET", "/api/v1/peers", "owner.wrong", 401),
        ("GET", "/api/v1/peers", "owner.", 401),
        ("GET", "/api/v1/peers", "owner", 401),
        ("GET", "/api/v1/peers", "nobody.secret-of-the-owner", 401),
        ("GET", "/api/v1/peers", "nobody.", 401),
        ("GET", "/api/v1/peers", READER, 403),
        ("GET", "/api/v1/peers", WRITER, 403),
        ("GET", "/api/v1/peers", OWNER, 200),
        ("GET", "/api/v1/events", WRITER, 403),
        ("POST", "/api/v1/objects", READER, 403),
        ("POST", "/api/v1/objects", OF_ONE, 403),
        ("PUT", "/api/v1/buckets/three", WRITER, 403),
        ("PUT", "/api/v1/buckets/one/keys/a", OF_ONE, 201),
        ("PUT", "/api/v1/buckets/two/keys/a", OF_ONE, 403),
        ("GET", "/api/v1/buckets/one/keys", OF_ONE, 200),
        ("GET", "/api/v1/buckets/two/keys", OF_ONE, 403),
        ("DELETE", "/api/v1/buckets/one", OF_ONE, 403),
        ("POST", "/api/v1/uploads?size=5&bucket=two", OF_ONE, 403),
        ("POST", "/api/v1/uploads?size=5&bucket=one", OF_ONE, 201),
    ] {
        let asked = ask(method, path);
        let asked = if token.is_empty() { asked } else { asked.token(token) };
        let reply = asked.send(at).await;
        assert_eq!(reply.status, status, "{method} {path} {token}: {}", reply.text());
        if status == 401 {
            assert!(reply.header("www-authenticate").starts_with("Bearer"));
        }
    }
    let seen = ask("GET", "/api/v1/buckets").token(OF_ONE).send(at).await.json();
    assert_eq!(seen.as_array().map(Vec::len), Some(1), "{seen}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_broken_off_goes_on_where_it_was_even_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut gateway = Running::start(folder.path()).await;
    let body = bytes(9_000_000, "upload");
    let begun = ask("POST", "/api/v1/uploads")
        .token(WRITER)
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Length", body.len().to_string())
        .header("Upload-Metadata", "filename Z3LDtsOfZS50eHQ=,filetype dGV4dC9wbGFpbg==");
    let begun = begun.send(gateway.address).await;
    assert_eq!((begun.status, begun.header("tus-resumable")), (201, "1.0.0"), "{}", begun.text());
    let path = begun.header("location").to_owned();
    let patch = |offset: usize, body: &[u8]| {
        let asked = ask("PATCH", path.clone()).token(WRITER).header("Tus-Resumable", "1.0.0");
        asked
            .header("Content-Type", "application/offset+octet-stream")
            .header("Upload-Offset", offset.to_string())
            .body(body)
    };
    let offset = |reply: &Reply| reply.header("upload-offset").parse::<usize>().expect("an offset");
    let head = || ask("HEAD", path.clone()).token(WRITER);

    // A short chunk, a break in a long one, and the rest after a restart.
    let reply = patch(0, &body[..1000]).send(gateway.address).await;
    assert_eq!((reply.status, offset(&reply)), (204, 1000), "{}", reply.text());
    patch(1000, &body[1000..]).break_off(gateway.address, 6_000_000).await;
    let reply = head().send(gateway.address).await;
    let came = offset(&reply);
    assert!((6_001_000 - 1_000_000..=6_001_000).contains(&came), "{came}");
    assert_eq!(reply.header("upload-length"), "9000000");
    let wrong = patch(came + 1, &body[came + 1..]).send(gateway.address).await;
    assert_eq!((wrong.status, offset(&wrong)), (409, came));
    gateway.stop().await;
    gateway = Running::start(folder.path()).await;
    assert_eq!(offset(&head().send(gateway.address).await), came);
    let reply = patch(came, &body[came..came + 100]).send(gateway.address).await;
    assert_eq!((reply.status, offset(&reply)), (204, came + 100), "{}", reply.text());
    let too_much = [&body[came + 100..], b"more"].concat();
    assert_eq!(patch(came + 100, &too_much).send(gateway.address).await.status, 413);
    let reply = patch(came + 100, &body[came + 100..]).send(gateway.address).await;
    assert_eq!((reply.status, offset(&reply)), (204, body.len()), "{}", reply.text());

    let done = ask("GET", path.clone()).token(WRITER).send(gateway.address).await.json();
    assert_eq!((done["completed"].as_bool(), done["offset"].as_u64()), (Some(true), Some(9_000_000)));
    assert_eq!(done["objects"].as_array().map(Vec::len), Some(2), "{done}");
    assert_eq!(offset(&head().send(gateway.address).await), body.len());
    let key = "/api/v1/buckets/uploads/keys/gr%C3%B6%C3%9Fe.txt";
    let got = ask("GET", key).token(READER).send(gateway.address).await;
    assert_eq!((got.status, got.body == body, got.header("content-type")), (200, true, "text/plain"));
    let part =
        ask("GET", key).token(READER).header("Range", "bytes=6000000-6002000").send(gateway.address).await;
    assert_eq!((part.status, part.body == body[6_000_000..=6_002_000]), (206, true));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_one_body_is_one_object_and_one_of_nothing_is_complete_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Running::start(folder.path()).await;
    let at = gateway.address;
    let begun = ask("POST", "/api/v1/uploads?size=0&key=empty").token(WRITER).send(at).await;
    assert_eq!((begun.status, begun.json()["completed"].as_bool()), (201, Some(true)), "{}", begun.text());
    let begun = ask("POST", "/api/v1/uploads?size=70000&key=a/b%20c").token(WRITER).send(at).await;
    let path = begun.header("location").to_owned();
    let body = bytes(70_000, "one");
    let patch = ask("PATCH", path.clone()).token(WRITER).header("Upload-Offset", "0");
    let wrong = ask("PATCH", path.clone()).token(WRITER).header("Upload-Offset", "0").send(at).await;
    assert_eq!(wrong.status, 415);
    let reply = patch.header("Content-Type", "application/offset+octet-stream").body(&body).send(at).await;
    assert_eq!(reply.status, 204, "{}", reply.text());
    let object = reply.header("datamesh-object").to_owned();
    let got = ask("GET", format!("/api/v1/objects/{object}")).token(READER).send(at).await;
    assert!(got.body == body);
    let old = ask("OPTIONS", "/api/v1/uploads").send(at).await;
    assert_eq!((old.status, old.header("tus-version")), (204, "1.0.0"));
    let old = ask("HEAD", path).token(WRITER).header("Tus-Resumable", "0.2.2").send(at).await;
    assert_eq!((old.status, old.header("tus-version")), (412, "1.0.0"));

    let given_up = ask("POST", "/api/v1/uploads?size=10").token(WRITER).send(at).await;
    let path = given_up.header("location").to_owned();
    assert_eq!(ask("DELETE", path.clone()).token(WRITER).send(at).await.status, 204);
    assert_eq!(ask("HEAD", path).token(WRITER).send(at).await.status, 404);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_browsed_and_written_under_conditions() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Running::start(folder.path()).await;
    let at = gateway.address;
    assert_eq!(ask("PUT", "/api/v1/buckets/box").token(OWNER).send(at).await.status, 201);
    assert_eq!(ask("PUT", "/api/v1/buckets/box").token(OWNER).send(at).await.status, 409);
    for key in ["a", "b/1", "b/2", "c"] {
        let path = format!("/api/v1/buckets/box/keys/{key}");
        let reply = ask("PUT", path).token(WRITER).body(key.as_bytes()).send(at).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
    }
    let list = |query: &str| ask("GET", format!("/api/v1/buckets/box/keys?{query}")).token(READER).send(at);
    let names = |page: &serde_json::Value| {
        let keys = page["keys"].as_array().expect("keys").iter().map(|key| key["key"].to_string());
        let prefixes = page["prefixes"].as_array().expect("prefixes").iter().map(ToString::to_string);
        keys.chain(prefixes).collect::<Vec<_>>().join(" ").replace('"', "")
    };
    let page = list("delimiter=/&limit=2").await.json();
    assert_eq!((names(&page).as_str(), page["next"].as_str()), ("a b/", Some("b/")));
    let page = list("delimiter=/&after=b/").await.json();
    assert_eq!((names(&page).as_str(), page["next"].as_str()), ("c", None));
    assert_eq!(names(&list("prefix=b/").await.json()), "b/1 b/2");

    let one = "/api/v1/buckets/box/keys/a";
    let absent = ask("PUT", one).token(WRITER).header("If-None-Match", "*").body(b"x").send(at).await;
    assert_eq!((absent.status, absent.kind()), (412, "condition".to_owned()));
    let head = ask("HEAD", one).token(READER).send(at).await;
    let etag = head.header("etag").to_owned();
    assert_eq!(etag, "\"0cc175b9c0f1b6a831c399e269772661\"", "the MD5 of `a`");
    let put = ask("PUT", one).token(WRITER).header("If-Match", etag.clone()).body(b"new").send(at).await;
    assert_eq!(put.status, 201, "{}", put.text());
    let put = ask("PUT", one).token(WRITER).header("If-Match", etag).body(b"newer").send(at).await;
    assert_eq!(put.status, 412);
    assert_eq!(ask("GET", one).token(READER).send(at).await.body, b"new");
    let info = ask("GET", format!("{one}?info=1")).token(READER).send(at).await.json();
    assert!(info["object"].as_str().is_some_and(|id| id.starts_with("bafyr4i")), "{info}");
    assert_eq!(ask("DELETE", "/api/v1/buckets/box").token(OWNER).send(at).await.status, 409);
    for key in ["a", "b/1", "b/2", "c"] {
        let path = format!("/api/v1/buckets/box/keys/{key}");
        assert_eq!(ask("DELETE", path.clone()).token(WRITER).send(at).await.status, 204);
        assert_eq!(ask("GET", path).token(READER).send(at).await.status, 404);
    }
    assert_eq!(ask("DELETE", "/api/v1/buckets/box").token(OWNER).send(at).await.status, 204);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mesh_and_transfers_are_told_of_as_they_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Running::start(folder.path()).await;
    let at = gateway.address;
    let peers = ask("GET", "/api/v1/peers").token(OWNER).send(at).await.json();
    assert_eq!(peers.as_array().map(Vec::len), Some(6));
    assert_eq!(peers[0]["reachable"], true, "{peers}");
    let id = peers[0]["peer_id"].as_str().expect("an id");
    let peer = ask("GET", format!("/api/v1/peers/{id}")).token(OWNER).send(at).await.json();
    assert_eq!(peer["peer_id"], id);
    let health = ask("GET", "/api/v1/health").token(OWNER).send(at).await.json();
    assert_eq!(
        (health["nodes_reachable"].as_u64(), health["scheme"].as_str()),
        (Some(6), Some("4+2")),
        "{health}"
    );
    for path in ["alerts", "repairs", "transfers"] {
        let reply = ask("GET", format!("/api/v1/{path}")).token(OWNER).send(at).await;
        assert!(reply.json().is_array(), "{path}: {}", reply.text());
    }
    let metrics = ask("GET", "/api/v1/metrics.json").token(OWNER).send(at).await.json();
    assert_eq!(
        (metrics[0]["metric"].as_str(), metrics[0]["node"].as_str()),
        (Some("datamesh_up"), Some("n"))
    );
    let text = ask("GET", "/metrics").send(at).await;
    assert!(text.header("content-type").starts_with("application/openmetrics-text"), "{text:?}");
    let of_nodes = ask("GET", "/metrics/nodes").send(at).await;
    let capacities = of_nodes.text().matches("\ndatamesh_store_capacity_bytes{node=\"12D3KooW").count();
    assert_eq!((of_nodes.status, capacities), (200, 6), "{}", of_nodes.text());
    let ready = ask("GET", "/readyz").send(at).await.json();
    assert_eq!((ready["ready"].as_bool(), ready["mesh"].as_str()), (Some(true), Some("tests")));

    let listening = ask("GET", "/api/v1/events").token(OWNER).until(at, "\"name\":\"told-of\"");
    let listening = tokio::time::timeout(Duration::from_secs(30), listening);
    let putting = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        put(&gateway, "told-of", &bytes(3_000_000, "told")).await
    };
    let (heard, _) = tokio::join!(listening, putting);
    let heard = heard.expect("events within half a minute");
    assert!(heard.contains("event: mesh") && heard.contains("event: transfers"), "{heard}");
    let transfers = ask("GET", "/api/v1/transfers").token(OWNER).send(at).await.json();
    let put = &transfers[0];
    assert_eq!(
        (put["phase"].as_str(), put["bytes_done"].as_u64()),
        (Some("completed"), Some(3_000_000)),
        "{put}"
    );
    let events = format!("/api/v1/transfers/{}/events", put["transfer"]);
    let told = ask("GET", events).token(OWNER).send(at).await;
    assert!(told.text().contains("\"phase\":\"completed\"") && told.whole, "{}", told.text());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn public_manifests_can_be_checked_and_private_ones_are_not_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Running::start(folder.path()).await;
    let at = gateway.address;
    let public = put(&gateway, "public", &bytes(3_000_000, "public")).await;
    let private = put(&gateway, "private", &bytes(3_000_000, "private")).await;
    let path = format!("/ipfs/{public}");
    let raw = ask("GET", format!("{path}?format=raw")).send(at).await;
    assert_eq!((raw.status, raw.header("content-type")), (200, "application/vnd.ipld.raw"), "{}", raw.text());
    assert_eq!(BlockId::of(&raw.body).to_string(), public);
    assert_eq!(raw.header("x-ipfs-path"), path);
    assert_eq!(raw.header("etag"), format!("\"{public}.raw\""));
    assert!(raw.header("cache-control").ends_with("immutable"));
    assert!(raw.header("content-disposition").starts_with("attachment"));
    let known = ask("GET", path.clone()).header("Accept", "application/vnd.ipld.raw");
    let known = known.header("If-None-Match", raw.header("etag")).send(at).await;
    assert_eq!((known.status, known.body.len()), (304, 0));

    let car = ask("GET", path.clone()).header("Accept", "application/vnd.ipld.car;version=1").send(at).await;
    assert_eq!((car.status, car.whole), (200, true));
    assert_eq!(car.header("content-type"), "application/vnd.ipld.car; version=1; order=dfs; dups=y");
    let blocks = blocks_of(&car.body);
    assert_eq!((blocks.len(), blocks[0].0.as_str()), (2, public.as_str()));
    for (id, bytes) in &blocks {
        assert_eq!(&BlockId::of(bytes).to_string(), id);
    }
    let leaf = ask("GET", format!("/ipfs/{}?format=raw", blocks[1].0)).send(at).await;
    assert_eq!((leaf.status, leaf.body == blocks[1].1), (200, true));
    let head = ask("HEAD", format!("{path}?format=car")).send(at).await;
    assert_eq!((head.status, head.body.len()), (200, 0));

    let unknown = BlockId::of(b"nobody has put this").to_string();
    for (path, accept, status) in [
        (path.clone(), "*/*", 400),
        (path.clone(), "application/vnd.ipld.dag-json", 406),
        (format!("{path}?format=tar"), "", 406),
        (format!("{path}/a?format=raw"), "", 404),
        ("/ipfs/none?format=raw".to_owned(), "", 400),
        ("/ipfs/bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi?format=raw".to_owned(), "", 404),
        (format!("/ipfs/{unknown}?format=raw"), "", 404),
        (format!("/ipfs/{private}?format=raw"), "", 403),
        (format!("/ipfs/{private}?format=car"), "", 403),
        ("/ipfs/bafkqaaa?format=raw".to_owned(), "", 200),
    ] {
        let asked = ask("GET", path.clone());
        let asked = if accept.is_empty() { asked } else { asked.header("Accept", accept) };
        let reply = asked.send(at).await;
        assert_eq!(reply.status, status, "{path} {accept}: {}", reply.text());
    }
    let info = ask("GET", format!("/api/v1/objects/{private}/info")).token(READER).send(at).await.json();
    let sealed = info["manifest"][1]["block"].as_str().expect("a leaf");
    let leaf = ask("GET", format!("/ipfs/{sealed}?format=raw")).send(at).await;
    assert_eq!(leaf.status, 403, "the leaf of a private object");
    gateway.stop().await;
}

/// The blocks of a CAR, whose CIDs have 36 bytes.
fn blocks_of(car: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut rest = &car[59..];
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let (mut size, mut shift) = (0, 0);
        while let Some((byte, behind)) = rest.split_first() {
            size |= usize::from(byte & 0x7f) << shift;
            (shift, rest) = (shift + 7, behind);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (section, behind) = rest.split_at(size);
        let cid = section[4..36].try_into().expect("32 bytes");
        blocks.push((datamesh_core::id::ObjectId::from_bytes(cid).to_string(), section[36..].to_vec()));
        rest = behind;
    }
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_described_and_what_is_described_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Running::start(folder.path()).await;
    let at = gateway.address;
    let document = ask("GET", "/api/v1/openapi.json").send(at).await.json();
    assert_eq!(document["openapi"], "3.1.0");
    // What was put comes back with the media type that it was put with, or as JSON that tells of it.
    let content =
        &document["paths"]["/api/v1/buckets/{bucket}/keys/{key}"]["get"]["responses"]["200"]["content"];
    assert_eq!(content, &serde_json::json!({ "*/*": { "schema": {} } }));
    let head = &document["paths"]["/api/v1/objects/{id}"]["head"]["responses"];
    assert!(
        ["200", "206", "304"]
            .iter()
            .all(|status| head[status]["content"].is_null() && head[status].is_object())
    );
    let blocks = &document["paths"]["/ipfs/{cid}"]["get"]["responses"]["200"]["content"];
    assert_eq!(blocks.as_object().map(serde_json::Map::len), Some(2), "a block or a CAR");
    let paths = document["paths"].as_object().expect("paths");
    let mut ids = BTreeSet::new();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().expect("operations") {
            assert!(
                ids.insert(operation["operationId"].as_str().expect("an id").to_owned()),
                "{path} {method}"
            );
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()));
            let declared = operation["parameters"].as_array().expect("parameters").iter();
            let in_path = declared.filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(in_path, path.matches('{').count(), "{path}");
            let secured = operation["security"].as_array().is_some_and(|needs| !needs.is_empty());
            let sent = path.replace("{id}", "x").replace("{bucket}", "box").replace("{key}", "k");
            let sent = sent.replace("{cid}", "x").replace("{name}", "style.css").replace("{path}", "x");
            let method: &'static str = match method.as_str() {
                "get" => "GET",
                "put" => "PUT",
                "post" => "POST",
                "head" => "HEAD",
                "patch" => "PATCH",
                "delete" => "DELETE",
                "options" => "OPTIONS",
                other => panic!("an odd method: {other}"),
            };
            let reply = ask(method, sent.clone()).send(at).await;
            assert_ne!(reply.status, 405, "{method} {sent}");
            assert_eq!(reply.status == 401, secured, "{method} {sent}: {}", reply.status);
        }
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a name");
        assert!(document["components"]["schemas"].get(name).is_some(), "{name} is not described");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_whole_and_run_no_foreign_script() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Running::start(folder.path()).await;
    let at = gateway.address;
    for page in ["/dashboard", "/api/v1/docs"] {
        let reply = ask("GET", page).send(at).await;
        let policy = reply.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let text = reply.text();
        assert!(
            !text.contains("<script>") && !text.contains(" style=") && !text.contains("onclick"),
            "{page}"
        );
        assert!(!text.contains("https://") && !text.contains("http://"), "{page} asks others");
        for part in text.split("/assets/").skip(1) {
            let name = part.split('"').next().expect("a name");
            let found = ask("GET", format!("/assets/{name}")).send(at).await;
            assert_eq!(found.status, 200, "{name}");
            assert!(found.header("etag").starts_with('"'));
        }
    }
    assert_eq!(ask("GET", "/assets/none.js").send(at).await.status, 404);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_early_stops_its_download_and_half_a_body_is_no_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Running::start(folder.path()).await;
    let at = gateway.address;
    let id = put(&gateway, "left", &bytes(20_000_000, "left")).await;
    let get = ask("GET", format!("/api/v1/objects/{id}")).token(READER);
    get.until(at, "200 OK").await;
    let mut phase = String::new();
    for _ in 0..100 {
        let transfers = ask("GET", "/api/v1/transfers").token(OWNER).send(at).await.json();
        phase = transfers.as_array().expect("transfers").iter().map(|one| one["phase"].to_string()).collect();
        if !phase.contains("running") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(phase, "\"broken\"\"completed\"");
    let half = ask("POST", "/api/v1/objects?name=half").token(WRITER).body(&bytes(3_000_000, "half"));
    half.break_off(at, 2_000_000).await;
    let mut told = String::new();
    for _ in 0..100 {
        let transfers = ask("GET", "/api/v1/transfers").token(OWNER).send(at).await.json();
        told = transfers[0].to_string();
        if told.contains("\"half\"") && told.contains("\"broken\"") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(told.contains("source can't be read"), "the put itself has noticed, and released: {told}");
    let keys = ask("GET", "/api/v1/buckets/objects/keys").token(READER).send(at).await.json();
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(1), "{keys}");
    gateway.stop().await;
}
