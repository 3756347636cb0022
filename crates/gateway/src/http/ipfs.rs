//! Manifests of public objects by the conventions of the web: raw blocks and CARs that whoever gets them can check against their ids.
//!
//! This is a trustless gateway (specs.ipfs.tech) over manifest blocks. The bytes of an object are in shards, which are no blocks of
//! that kind: `/api/v1/objects` gives them.

use std::io;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, ETAG,
    HeaderName, IF_NONE_MATCH, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use cid::Cid;
use datamesh_core::encode::decode;
use datamesh_core::id::{BlockId, ObjectId};
use datamesh_core::manifest::{Branch, BranchSizes, Leaf, LeafChunks, Root};
use datamesh_core::scheme::Mode;
use datamesh_engine::walk;
use futures::stream;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::http::answer::Problem;
use crate::http::contents::value;
use crate::http::extract::{InPath, InQuery};
use crate::http::range::weak_match;
use crate::http::{Face, STALL};

const RAW: &str = "application/vnd.ipld.raw";
const CAR: &str = "application/vnd.ipld.car";
/// Blocks of a CAR that wait for a client to take them.
const BLOCKS_WAITING_MAX: usize = 4;
/// The codec of bytes that mean nothing, and the hash that is the bytes themselves: by them a gateway is asked whether it is one.
const RAW_CODEC: u64 = 0x55;
const IDENTITY: u64 = 0;

#[derive(Deserialize)]
pub(super) struct Query {
    format: Option<String>,
    #[serde(rename = "dag-scope")]
    scope: Option<String>,
    #[serde(rename = "car-version")]
    version: Option<String>,
    filename: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Raw,
    Car,
}

/// How much of the tree a CAR has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Block,
    All,
}

impl Format {
    fn wanted(query: &Query, headers: &HeaderMap) -> Result<Self, Problem> {
        let unacceptable = |what: &str| {
            let message = format!("{what} is not given here; {RAW} and {CAR} are");
            Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "usage", message))
        };
        match query.format.as_deref() {
            Some("raw") => return Ok(Self::Raw),
            Some("car") => return Ok(Self::Car),
            Some(other) => return unacceptable(other),
            None => {}
        }
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let accepted: Vec<&str> = accepted.flat_map(|text| text.split(',')).map(str::trim).collect();
        let format = accepted.iter().find_map(|item| match item.split(';').next().map(str::trim) {
            Some(RAW) => Some(Self::Raw),
            Some(CAR) => version_of(item).is_none_or(|version| version == "1").then_some(Self::Car),
            _ => None,
        });
        match format {
            Some(format) => Ok(format),
            None if accepted.iter().any(|item| item.contains("vnd.") && !item.contains("*/*")) => {
                unacceptable(&accepted.join(", "))
            }
            None => Err(Problem::usage(format!(
                "say what is wanted: ?format=raw or ?format=car, or Accept: {RAW} or {CAR}"
            ))),
        }
    }
}

fn version_of(accepted: &str) -> Option<&str> {
    accepted.split(';').find_map(|part| part.trim().strip_prefix("version="))
}

pub(super) async fn deeper(InPath((cid, _)): InPath<(String, String)>) -> Problem {
    Problem::not_found(format!("there are no paths below {cid}: a manifest has links and no names"))
}

pub(super) async fn get(
    State(face): State<Face>,
    InPath(cid): InPath<String>,
    InQuery(query): InQuery<Query>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let cid: Cid = cid.parse().map_err(|error| Problem::usage(format!("`{cid}` is no CID: {error}")))?;
    let format = Format::wanted(&query, &headers)?;
    let scope = match query.scope.as_deref() {
        None | Some("all") => Scope::All,
        // What is no UnixFS is one block.
        Some("block" | "entity") => Scope::Block,
        Some(other) => {
            return Err(Problem::usage(format!("dag-scope is block, entity or all, and not {other}")));
        }
    };
    if query.version.as_deref().is_some_and(|version| version != "1") {
        return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "usage", "CARs are of version 1".to_owned()));
    }
    if cid.codec() == RAW_CODEC && cid.hash().code() == IDENTITY {
        let bytes = Bytes::copy_from_slice(cid.hash().digest());
        return Ok(finish(&cid, format, scope, &query, &headers, || Answer::of(format, &cid, bytes)));
    }
    let block = BlockId::from_cid(&cid).ok_or_else(|| {
        Problem::not_found(format!("{cid} is no manifest block: those are dag-cbor with a BLAKE3 hash"))
    })?;
    let found = walk::block(face.world(), face.buckets().transfer(), block).await;
    let bytes = found.map_err(|error| Problem::not_found(format!("block {block}: {error}")))?;
    let kind = Kind::of(&bytes).ok_or_else(|| {
        Problem::denied(format!("block {block} is of an object that is not public"))
            .hint("only manifests of objects that were put with --mode public are given to everyone")
    })?;
    let answer = || match (format, scope, kind) {
        (Format::Car, Scope::All, Kind::Root) if method != Method::HEAD => {
            Answer { body: car_of(face.clone(), block), size: None }
        }
        (Format::Car, Scope::All, Kind::Root) => Answer { body: Body::empty(), size: None },
        _ => Answer::of(format, &cid, bytes),
    };
    Ok(finish(&cid, format, scope, &query, &headers, answer))
}

/// What a block of a public object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Root,
    Below,
}

impl Kind {
    /// `None` for what is no block of a public object. In one the half that is else sealed lies open: no encryption makes bytes that
    /// are by chance the one encoding of a list as long as the other half has it.
    fn of(bytes: &[u8]) -> Option<Self> {
        if let Ok(root) = Root::parse(bytes) {
            return (root.scheme.mode == Mode::Public).then_some(Self::Root);
        }
        if let Ok(leaf) = Leaf::parse(bytes) {
            let LeafChunks(chunks) = decode(&leaf.sealed).ok()?;
            let open = chunks.len() == leaf.stripes.len();
            return (open && chunks.iter().all(|chunk| chunk.check(Mode::Public).is_ok()))
                .then_some(Self::Below);
        }
        let branch = Branch::parse(bytes).ok()?;
        let BranchSizes(sizes) = decode(&branch.sealed).ok()?;
        (sizes.len() == branch.children.len()).then_some(Self::Below)
    }
}

/// A body, and its size where that is known.
struct Answer {
    body: Body,
    size: Option<usize>,
}

impl Answer {
    /// One block, as it is or in a CAR of its own. A block below a root has its tree alone in the CAR of that root: where its place in
    /// the tree is unknown, so is what belongs below it.
    fn of(format: Format, cid: &Cid, bytes: Bytes) -> Self {
        let bytes = match format {
            Format::Raw => bytes,
            Format::Car => [header(cid), section(cid, &bytes)].concat().into(),
        };
        Self { size: Some(bytes.len()), body: bytes.into() }
    }
}

fn finish(
    cid: &Cid,
    format: Format,
    scope: Scope,
    query: &Query,
    headers: &HeaderMap,
    answer: impl FnOnce() -> Answer,
) -> Response {
    let (etag, media_type, ending) = match (format, scope) {
        (Format::Raw, _) => (format!("{cid}.raw"), RAW.to_owned(), "bin"),
        (Format::Car, Scope::All) => (format!("{cid}.car.all.dfs"), car_type(), "car"),
        (Format::Car, Scope::Block) => (format!("{cid}.car.block.dfs"), car_type(), "car"),
    };
    let unchanged = headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let unchanged = unchanged.is_some_and(|tags| weak_match(tags, &etag));
    let answer = if unchanged { Answer { body: Body::empty(), size: None } } else { answer() };
    let mut response = answer.body.into_response();
    let name = query.filename.clone().unwrap_or_else(|| format!("{cid}.{ending}"));
    let headers = response.headers_mut();
    for (header, text) in [
        (ETAG, format!("\"{etag}\"")),
        (CONTENT_TYPE, media_type),
        (CONTENT_DISPOSITION, crate::http::text::disposition(&name)),
        (CACHE_CONTROL, "public, max-age=29030400, immutable".to_owned()),
        (HeaderName::from_static("x-ipfs-path"), format!("/ipfs/{cid}")),
        (HeaderName::from_static("x-ipfs-roots"), cid.to_string()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (VARY, "Accept".to_owned()),
    ] {
        headers.insert(header, value(&text));
    }
    if query.format.is_none() {
        let format = if format == Format::Raw { "raw" } else { "car" };
        headers.insert(CONTENT_LOCATION, value(&format!("/ipfs/{cid}?format={format}")));
    }
    if let Some(size) = answer.size {
        headers.insert(CONTENT_LENGTH, value(&size.to_string()));
    }
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    response
}

fn car_type() -> String {
    format!("{CAR}; version=1; order=dfs; dups=y")
}

/// The manifest of an object as a CAR, block by block as it is taken. It breaks off where a block is missing.
fn car_of(face: Face, root: BlockId) -> Body {
    let (taker, blocks) = mpsc::channel::<(BlockId, Bytes)>(BLOCKS_WAITING_MAX);
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(BLOCKS_WAITING_MAX);
    tokio::spawn(async move {
        let (world, transfer) = (face.world().clone(), face.buckets().transfer());
        let walking = async move { walk::blocks(&world, transfer, ObjectId::of_root(root), &taker).await };
        let (walked, ()) = futures::join!(walking, pass(root, blocks, &sender));
        if let Err(error) = walked {
            // Where nobody listens any more, nobody need know.
            let _ = timeout(STALL, sender.send(Err(io::Error::other(error)))).await;
        }
    });
    let bytes =
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    Body::from_stream(bytes)
}

/// Passes blocks on as parts of a CAR, until there are no more or nobody takes them.
async fn pass(
    root: BlockId,
    mut blocks: mpsc::Receiver<(BlockId, Bytes)>,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) {
    let mut part = header(&root.cid());
    while let Some((block, bytes)) = blocks.recv().await {
        part.extend(section(&block.cid(), &bytes));
        let sent = timeout(STALL, sender.send(Ok(std::mem::take(&mut part).into()))).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// The header of a CAR with one root: `{"roots": [cid], "version": 1}` in DAG-CBOR, behind its length.
fn header(root: &Cid) -> Vec<u8> {
    let link = root.to_bytes();
    let mut cbor = b"\xa2\x65roots\x81\xd8\x2a".to_vec();
    // A link is a byte string with a zero before the CID.
    cbor.extend(cbor_bytes_head(link.len() + 1));
    cbor.push(0);
    cbor.extend(link);
    cbor.extend(b"\x67version\x01");
    [varint(cbor.len()), cbor].concat()
}

/// The beginning of a byte string of this length, in CBOR.
fn cbor_bytes_head(size: usize) -> Vec<u8> {
    match u8::try_from(size) {
        Ok(size @ 0..=23) => vec![0x40 | size],
        Ok(size) => vec![0x58, size],
        Err(_) => {
            let [high, low] = u16::try_from(size).unwrap_or(u16::MAX).to_be_bytes();
            vec![0x59, high, low]
        }
    }
}

/// A block in a CAR.
fn section(cid: &Cid, bytes: &[u8]) -> Vec<u8> {
    let link = cid.to_bytes();
    [varint(link.len() + bytes.len()), link, bytes.to_vec()].concat()
}

/// A number in LEB128.
fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use datamesh_core::id::BlockId;

    use super::{header, varint};

    #[test]
    fn the_header_of_a_car_is_the_one_encoding_of_its_root() {
        let root = BlockId::of(b"root").cid();
        let bytes = header(&root);
        assert_eq!(bytes[0], 58, "its length");
        assert_eq!(bytes.len(), 59);
        assert_eq!(&bytes[1..12], b"\xa2\x65roots\x81\xd8\x2a\x58");
        assert_eq!(&bytes[12..14], b"\x25\x00");
        assert_eq!(&bytes[14..50], &root.to_bytes()[..]);
        assert_eq!(&bytes[50..], b"\x67version\x01");
    }

    #[test]
    fn lengths_are_in_leb128() {
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(127), [127]);
        assert_eq!(varint(128), [0x80, 1]);
        assert_eq!(varint(300), [0xac, 2]);
    }
}
