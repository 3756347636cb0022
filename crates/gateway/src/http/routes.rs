//! The table of routes.

use axum::http::Method;
use datamesh_core::bucket::Access;

use crate::http::buckets::{self, BucketView, KeptView, PageView};
use crate::http::events;
use crate::http::info::{self, InfoView};
use crate::http::mesh::{self, AlertView, HealthView, PeerDetailView, PeerView, RepairsView, TrafficView};
use crate::http::metrics::{self, SampleView};
use crate::http::objects::{self, PutView};
use crate::http::probes::{self, ReadyView};
use crate::http::table::{ANY, Route};
use crate::http::token::Need;
use crate::http::transfers::{self, TransferView};
use crate::http::uploads::{self, UploadView};
use crate::http::{assets, ipfs, openapi};

const EVENTS: &str = "text/event-stream";
const OPEN: Need = Need::Nothing;
const READ: Need = Need::Everywhere(Access::Read);
const WRITE: Need = Need::Everywhere(Access::Write);
const OWN: Need = Need::Everywhere(Access::Own);

/// All of them.
pub(super) fn all() -> Vec<Route> {
    [of_objects(), of_uploads(), of_buckets(), of_transfers(), of_mesh(), of_gateway(), of_ipfs()]
        .into_iter()
        .flatten()
        .collect()
}

fn of_objects() -> Vec<Route> {
    let path = "/api/v1/objects/{id}";
    let read = |method: Method, summary| {
        Route::new(method, path, READ, summary, objects::get)
            .header("Range", "One range of bytes: bytes=FIRST-LAST, bytes=FIRST- or bytes=-LAST_SO_MANY.")
            .header("If-Range", "Only a range of the object with this tag.")
            .header("If-None-Match", "Not the object with this tag, which is its id in quotes.")
            .header("If-Match", "Only the object with this tag.")
    };
    vec![
        Route::new(Method::POST, "/api/v1/objects", WRITE, "Puts an object", objects::put)
            .query("name", "The name that readers see.")
            .takes(ANY)
            .answers::<PutView>(201, "it is acknowledged"),
        read(Method::GET, "Gets an object, or a range of it")
            .gives(200, ANY, "all of it, of the type that it was put with")
            .gives(206, ANY, "the range")
            .says(304, "the client has it already")
            .answers::<crate::http::answer::ProblemView>(416, "the range begins behind its end"),
        read(Method::HEAD, "Says how large an object is")
            .says(200, "it is there")
            .says(206, "the range is")
            .says(304, "the client has it already"),
        Route::new(Method::DELETE, path, WRITE, "Has an object kept no longer", objects::delete)
            .says(204, "its leases are released in a minute"),
        Route::new(
            Method::GET,
            "/api/v1/objects/{id}/info",
            READ,
            "Says where each shard of an object is, and what it survives",
            info::info,
        )
        .query("limit", "Stripes and blocks that are listed one by one, at most 1000.")
        .answers::<InfoView>(200, "how it stands"),
    ]
}

fn of_uploads() -> Vec<Route> {
    let need = Need::InBucket(Access::Write);
    let path = "/api/v1/uploads/{id}";
    let version = "1.0.0, the version of tus.";
    vec![
        Route::new(Method::OPTIONS, "/api/v1/uploads", OPEN, "Says what of tus is spoken", uploads::options)
            .says(204, "what is spoken, in its headers"),
        Route::new(Method::POST, "/api/v1/uploads", need, "Begins an upload (tus)", uploads::create)
            .header("Tus-Resumable", version)
            .header("Upload-Length", "Bytes that it will have.")
            .header("Upload-Metadata", "Pairs in Base64: bucket, key or filename, filetype.")
            .query("size", "The same as Upload-Length.")
            .query("bucket", "Into which bucket; `uploads` if none is named.")
            .query("key", "Under which key; one is drawn if none is named.")
            .query("type", "The media type.")
            .answers::<UploadView>(201, "it is begun; Location says where it goes on"),
        Route::new(Method::OPTIONS, path, OPEN, "Says what of tus is spoken", uploads::options)
            .says(204, "what is spoken, in its headers"),
        Route::new(Method::HEAD, path, need, "Says how far an upload is (tus)", uploads::head)
            .header("Tus-Resumable", version)
            .says(200, "Upload-Offset and Upload-Length say it"),
        Route::new(Method::GET, path, need, "Says how an upload stands, be it completed", uploads::get)
            .answers::<UploadView>(200, "how it stands"),
        Route::new(Method::PATCH, path, need, "Goes on with an upload (tus)", uploads::patch)
            .header("Tus-Resumable", version)
            .header("Upload-Offset", "Where the body begins: where the upload is.")
            .takes("application/offset+octet-stream")
            .says(204, "Upload-Offset says how far it is; DataMesh-Object which object it has become")
            .answers::<crate::http::answer::ProblemView>(409, "it is elsewhere"),
        Route::new(Method::DELETE, path, need, "Gives an upload up (tus)", uploads::terminate)
            .header("Tus-Resumable", version)
            .says(204, "what came is given back"),
    ]
}

fn of_buckets() -> Vec<Route> {
    let (bucket, key) = ("/api/v1/buckets/{bucket}", "/api/v1/buckets/{bucket}/keys/{*key}");
    let (read, write) = (Need::InBucket(Access::Read), Need::InBucket(Access::Write));
    let get = |method: Method, summary| {
        Route::new(method, key, read, summary, buckets::get)
            .header("Range", "One range of bytes.")
            .header("If-None-Match", "Not what has this tag.")
            .header("If-Match", "Only what has this tag.")
    };
    vec![
        Route::new(Method::GET, "/api/v1/buckets", read, "Lists the buckets", buckets::list)
            .answers::<Vec<BucketView>>(200, "those that the token may read"),
        Route::new(Method::PUT, bucket, OWN, "Makes a bucket", buckets::create).says(201, "it is made"),
        Route::new(
            Method::DELETE,
            bucket,
            Need::InBucket(Access::Own),
            "Removes an empty bucket",
            buckets::remove,
        )
        .says(204, "it is removed"),
        Route::new(
            Method::GET,
            "/api/v1/buckets/{bucket}/keys",
            read,
            "Lists the keys of a bucket",
            buckets::keys,
        )
        .query("prefix", "Only keys that begin so.")
        .query("delimiter", "What ends the part of a key that is listed in the stead of all that begin so.")
        .query("after", "Only what comes behind this.")
        .query("limit", "Keys and prefixes of a page, at most 1000.")
        .answers::<PageView>(200, "a page"),
        get(Method::GET, "Gets what is under a key")
            .query("info", "Anything: tell of it, in the stead of its bytes.")
            .gives(200, ANY, "all of it, of the type that it was put with, or what is told of it in JSON")
            .gives(206, ANY, "the range")
            .says(304, "the client has it already"),
        get(Method::HEAD, "Says how large it is what is under a key")
            .says(200, "it is there")
            .says(206, "the range is")
            .says(304, "the client has it already"),
        Route::new(Method::PUT, key, write, "Puts something under a key", buckets::put)
            .header("If-None-Match", "*: only where nothing is under it.")
            .header("If-Match", "Only in the place of what has this tag.")
            .takes(ANY)
            .answers::<KeptView>(201, "it is acknowledged"),
        Route::new(Method::DELETE, key, write, "Deletes what is under a key", buckets::delete)
            .header("If-Match", "Only what has this tag.")
            .says(204, "nothing is under it any more"),
    ]
}

fn of_transfers() -> Vec<Route> {
    let one = "/api/v1/transfers/{id}";
    let events = "/api/v1/transfers/{id}/events";
    vec![
        Route::new(
            Method::GET,
            "/api/v1/transfers",
            OWN,
            "Lists transfers, those under way first",
            transfers::list,
        )
        .answers::<Vec<TransferView>>(200, "those of this face"),
        Route::new(Method::GET, one, OWN, "Says how a transfer stands", transfers::one)
            .answers::<TransferView>(200, "how it stands"),
        Route::new(Method::GET, events, OWN, "Tells how a transfer goes, up to its end", events::of_transfer)
            .gives(200, EVENTS, "events `transfer` with a TransferView"),
        Route::new(Method::GET, "/api/v1/events", OWN, "Tells what changes", events::all).gives(
            200,
            EVENTS,
            "events `transfers` with a TransfersEvent, and `mesh` with a MeshEvent",
        ),
    ]
}

fn of_mesh() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/api/v1/peers", OWN, "Lists the nodes of the mesh", mesh::peers)
            .answers::<Vec<PeerView>>(200, "all that are known"),
        Route::new(Method::GET, "/api/v1/peers/{id}", OWN, "Says how a node is", mesh::peer)
            .answers::<PeerDetailView>(200, "how it is"),
        Route::new(
            Method::GET,
            "/api/v1/health",
            OWN,
            "Says how the mesh and what it holds stand",
            mesh::health,
        )
        .answers::<HealthView>(200, "as datamesh health says it"),
        Route::new(Method::GET, "/api/v1/alerts", OWN, "Says what somebody should look at", mesh::alerts)
            .answers::<Vec<AlertView>>(200, "the worst first"),
        Route::new(Method::GET, "/api/v1/repairs", OWN, "Says what nodes repair", mesh::repairs_of_all)
            .answers::<Vec<RepairsView>>(200, "of each node that tells"),
        Route::new(
            Method::GET,
            "/api/v1/traffic",
            OWN,
            "Says what moves between gateway and mesh",
            mesh::traffic,
        )
        .answers::<TrafficView>(200, "by all faces of the gateway"),
        Route::new(Method::GET, "/api/v1/metrics.json", OWN, "Gives the gateway's metrics", metrics::json)
            .answers::<Vec<SampleView>>(200, "number by number"),
    ]
}

fn of_gateway() -> Vec<Route> {
    let (html, text) = ("text/html", "text/plain");
    vec![
        Route::new(Method::GET, "/metrics", OPEN, "Gives the gateway's metrics to Prometheus", metrics::text)
            .gives(200, "application/openmetrics-text", "all of them")
            .gives(200, text, "the same, where they are not whole"),
        Route::new(Method::GET, "/metrics/nodes", OPEN, "Gives the metrics of all nodes", metrics::of_nodes)
            .gives(200, text, "those of each node that tells, with a label node"),
        Route::new(Method::GET, "/healthz", OPEN, "Says that the gateway lives", probes::alive)
            .gives(200, text, "it lives"),
        Route::new(Method::GET, "/readyz", OPEN, "Says whether requests can be met", probes::ready)
            .answers::<ReadyView>(200, "they can")
            .answers::<ReadyView>(503, "they can't yet"),
        Route::new(Method::GET, "/api/v1/openapi.json", OPEN, "Gives this description", openapi::get).gives(
            200,
            "application/json",
            "OpenAPI 3.1",
        ),
        Route::new(Method::GET, "/api/v1/docs", OPEN, "Shows this description", assets::docs)
            .gives(200, html, "a page"),
        Route::new(Method::GET, "/dashboard", OPEN, "Shows the mesh, to who has a token", assets::dashboard)
            .gives(200, html, "a page without data"),
        Route::new(Method::GET, "/assets/{name}", OPEN, "Gives a part of the pages", assets::one)
            .gives(200, ANY, "the part"),
    ]
}

fn of_ipfs() -> Vec<Route> {
    let path = "/ipfs/{cid}";
    let block = |method: Method, summary| {
        Route::new(method, path, OPEN, summary, ipfs::get)
            .query("format", "raw or car.")
            .query("dag-scope", "block, entity or all; of a CAR.")
            .query("car-version", "1.")
            .query("filename", "Under what name a browser saves it.")
            .header(
                "Accept",
                "application/vnd.ipld.raw or application/vnd.ipld.car, where no format is named.",
            )
    };
    vec![
        block(Method::GET, "Gives manifest blocks of public objects, to be checked against their ids")
            .gives(200, "application/vnd.ipld.raw", "the block, or a CAR of the manifest")
            .gives(200, "application/vnd.ipld.car", "the block, or a CAR of the manifest")
            .says(304, "the client has it already")
            .answers::<crate::http::answer::ProblemView>(403, "it is of an object that is not public"),
        block(Method::HEAD, "Says whether a manifest block is there")
            .says(200, "it is")
            .says(304, "the client has it already"),
        Route::new(Method::GET, "/ipfs/{cid}/{*path}", OPEN, "There are no paths in manifests", ipfs::deeper)
            .says(404, "always"),
    ]
}
