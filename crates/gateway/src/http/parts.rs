//! The parts that an upload is kept in: objects of their own, so that what has come is there after a break and after a restart.
//!
//! A body is cut into parts of one size as it comes. One that breaks off ends its part early; the next body makes that part anew,
//! with what it had at its beginning, where it is too short for a part that others follow.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use bytes::BytesMut;
use datamesh_core::bucket::{BucketName, Content, Key, Part, UploadId};
use datamesh_core::limits::UPLOAD_PARTS_MAX;
use datamesh_engine::buckets::{Buckets, ContentSubject, PutCondition};
use datamesh_engine::progress::{Observer, Unobserved};
use datamesh_engine::transfer::Temperature;
use md5::{Digest, Md5};
use tracing::{Instrument, info_span};

use crate::escape::{hex, unhex};
use crate::http::answer::Problem;
use crate::http::stream::{BodySource, MemorySink};
use crate::http::transfers::Tracked;

/// The least part that others may follow, as the buckets have it.
const FOLLOWED_SIZE_MIN: u64 = 5 << 20;
/// Bytes of a part, where so many parts are enough.
const PART_SIZE: u64 = 64 << 20;
/// Parts that an upload is cut into at the most. Less than there may be, since breaks make more of them.
const PARTS_CUT_MAX: u64 = 5000;

/// Bytes of an upload at the most: a part is then 200 GiB.
pub(super) const UPLOAD_SIZE_MAX: u64 = 1 << 50;

/// Which upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UploadAddress {
    pub(super) bucket: BucketName,
    pub(super) key: Key,
    pub(super) id: UploadId,
}

impl UploadAddress {
    /// The one name that the address of an upload has in URLs.
    pub(super) fn text(&self) -> String {
        format!("{}-{}", self.id, hex(format!("{}/{}", self.bucket, self.key.as_str()).as_bytes()))
    }

    /// # Errors
    /// For what is no such name.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let unknown = || Problem::not_found(format!("there is no upload {text}"));
        let (id, place) = text.split_once('-').ok_or_else(unknown)?;
        let place = unhex(place).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(unknown)?;
        let (bucket, key) = place.split_once('/').ok_or_else(unknown)?;
        let id = id.parse().map_err(|_| unknown())?;
        Ok(Self {
            bucket: bucket.parse().map_err(|_| unknown())?,
            key: key.parse().map_err(|_| unknown())?,
            id,
        })
    }
}

/// How far an upload is.
pub(super) struct Held {
    pub(super) parts: Vec<(u16, Part)>,
    pub(super) offset: u64,
}

/// What is held of an upload.
///
/// # Errors
/// When the index can't be read.
pub(super) fn held(buckets: &Buckets, address: &UploadAddress) -> Result<Held, Problem> {
    let parts = buckets.parts(&address.bucket, &address.id, 1, usize::from(UPLOAD_PARTS_MAX))?;
    let offset = parts.iter().map(|(_, part)| part.extent.size).sum();
    Ok(Held { parts, offset })
}

/// Puts what a body has behind what is held. Says how far the upload is then, however the body ended.
///
/// # Errors
/// When a part is not acknowledged. Those before it are held.
pub(super) async fn append(
    buckets: &Buckets,
    address: &UploadAddress,
    size: u64,
    source: &mut BodySource,
    tracked: &Tracked,
) -> Result<u64, Problem> {
    loop {
        let Held { mut parts, offset } = held(buckets, address)?;
        if offset >= size || source.ended() {
            return Ok(offset);
        }
        let short = parts.pop_if(|(_, part)| part.extent.size < FOLLOWED_SIZE_MIN);
        let number = match (&short, parts.last()) {
            (Some((number, _)), _) => *number,
            (None, Some((number, _))) => number.saturating_add(1),
            (None, None) => 1,
        };
        if number > UPLOAD_PARTS_MAX {
            return Err(Problem::usage(format!(
                "the upload has been broken off too often: it has {UPLOAD_PARTS_MAX} parts"
            )));
        }
        let prefix = match &short {
            Some((_, part)) => read(buckets, part).await?,
            None => Bytes::new(),
        };
        let prefix_size = short.map_or(0, |(_, part)| part.extent.size);
        let part_size = PART_SIZE.max(size.div_ceil(PARTS_CUT_MAX));
        source.begin(prefix, (part_size - prefix_size).min(size - offset));
        let part = put_part(buckets, address, source, Arc::new(tracked.clone())).await?;
        if part.extent.size == prefix_size {
            // Nothing has come: what was put is what is held already.
            buckets.give_back(vec![part.extent.tag]);
            return Ok(offset);
        }
        let UploadAddress { bucket, key, id } = address.clone();
        buckets.put_part(bucket, key, id, number, part).await?;
    }
}

async fn read(buckets: &Buckets, part: &Part) -> Result<Bytes, Problem> {
    let mut sink = MemorySink(BytesMut::new());
    buckets.copy(&[part.extent], Temperature::Cold, 0..part.extent.size, &mut sink).await?;
    Ok(sink.0.freeze())
}

async fn put_part(
    buckets: &Buckets,
    address: &UploadAddress,
    source: &mut BodySource,
    observer: Arc<dyn Observer>,
) -> Result<Part, Problem> {
    let subject = ContentSubject { name: address.key.as_str(), ..ContentSubject::default() };
    let extent = buckets.store(source, &subject, observer).instrument(info_span!("put")).await?;
    let modified = buckets.world().clock.now();
    Ok(Part { modified, extent, etag: source.md5(), digests: BTreeMap::new() })
}

/// Makes an upload of which all is held a content.
///
/// # Errors
/// When it is not acknowledged.
pub(super) async fn complete(
    buckets: &Buckets,
    address: &UploadAddress,
    parts: Vec<(u16, Part)>,
) -> Result<(), Problem> {
    let named = parts.into_iter().map(|(number, part)| (number, part.etag)).collect();
    let UploadAddress { bucket, key, id } = address.clone();
    let finish = |content: &mut Content, parts: &[(u16, Part)]| content.etag = etag(parts);
    buckets.complete_upload(bucket, key, id, named, PutCondition::None, finish).await?;
    Ok(())
}

/// The tag of a content in parts, as S3 makes it: the MD5 of the parts' MD5s, and their number.
fn etag(parts: &[(u16, Part)]) -> String {
    let mut md5 = Md5::new();
    for (_, part) in parts {
        md5.update(unhex(&part.etag).unwrap_or_default());
    }
    format!("{}-{}", hex(&md5.finalize()), parts.len())
}

/// Puts a part without bytes, for an upload that has none.
///
/// # Errors
/// When it is not acknowledged.
pub(super) async fn put_empty(
    buckets: &Buckets,
    address: &UploadAddress,
    source: &mut BodySource,
) -> Result<(), Problem> {
    let part = put_part(buckets, address, source, Arc::new(Unobserved)).await?;
    let UploadAddress { bucket, key, id } = address.clone();
    Ok(buckets.put_part(bucket, key, id, 1, part).await?)
}
