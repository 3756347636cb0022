//! Copies of objects. What is copied is kept a second time where it lies: no byte of it is moved, unless its class changes.

use datamesh_core::bucket::{BucketName, Content, Extent, Extents, Key, Part, Upload, UploadId, VersionSlot};
use datamesh_core::lease::LeaseTag;
use datamesh_core::limits::EXTENTS_LISTED_MAX;
use datamesh_engine::buckets::{Buckets, ContentSubject, PutCondition, Replaced};
use futures::StreamExt;
use futures::stream;
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, ETag, MetadataDirective,
    TaggingDirective,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use crate::Gateway;
use crate::body;
use crate::escape::hex;
use crate::s3::attributes::{Attributes, attributes_of, class_of, refuse_unmet};
use crate::s3::conditions::ReadConditions;
use crate::s3::digests::{Algorithm, Expected, tell_digests};
use crate::s3::errors::{map_error, map_read, map_renew};
use crate::s3::objects::{Shown, find, parts_of};
use crate::s3::put::{lay_down, receive, version_id};
use crate::s3::{blocking, text, to_the_end};

/// Extents that are leased again at once.
const IN_FLIGHT_MAX: usize = 8;
/// Most bytes that one request copies, as S3 has it; larger contents are copied by parts.
const COPY_SIZE_MAX: u64 = 5 << 30;

/// What a copy is of.
pub(super) struct Wanted {
    pub(super) bucket: BucketName,
    pub(super) key: Key,
    pub(super) version: Option<VersionSlot>,
}

/// The source that a header names.
pub(super) fn source_of(source: &CopySource) -> S3Result<Wanted> {
    let CopySource::Bucket { bucket, key, version_id } = source else {
        return Err(s3_error!(NotImplemented, "access points are not implemented"));
    };
    let (bucket, key) = text::names(bucket, key)?;
    Ok(Wanted { bucket, key, version: text::version(version_id.as_deref())? })
}

pub(super) async fn copy(
    gateway: &Gateway,
    request: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let input = request.input;
    let names = text::names(&input.bucket, &input.key)?;
    refuse_unmet!(input)?;
    let wanted = source_of(&input.copy_source)?;
    let onto_itself = wanted.version.is_none() && (&wanted.bucket, &wanted.key) == (&names.0, &names.1);
    let shown = find(gateway, (wanted.bucket.clone(), wanted.key), wanted.version).await?;
    let conditions = ReadConditions {
        matches: input.copy_source_if_match.clone(),
        none_matches: input.copy_source_if_none_match.clone(),
        modified_since: input.copy_source_if_modified_since.clone(),
        unmodified_since: input.copy_source_if_unmodified_since.clone(),
    };
    conditions.check_source(&shown.content.etag, shown.modified)?;
    let copy_source_version_id = shown.version_id();
    let attributes = attributes(&input, &shown.content)?;
    if onto_itself && attributes == Attributes::of(&shown.content) && !replaces(&input) {
        return Err(s3_error!(
            InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing the \
             object's metadata, storage class, website redirect location or encryption attributes."
        ));
    }
    gateway.buckets.bucket(&names.0).map_err(map_error)?;
    let algorithm = input.checksum_algorithm.as_ref().and_then(|name| Algorithm::named(name.as_str()));
    let gateway = gateway.clone();
    to_the_end(async move {
        let copying = Copying { gateway, from: wanted.bucket, shown, names, attributes };
        let (replaced, content, modified) = copying.run(algorithm).await?;
        let mut result = CopyObjectResult {
            e_tag: Some(ETag::Strong(content.etag)),
            last_modified: Some(text::timestamp(modified)),
            ..CopyObjectResult::default()
        };
        result.checksum_type = tell_digests!(result, &content.digests);
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            copy_source_version_id,
            version_id: version_id(replaced),
            ..CopyObjectOutput::default()
        }))
    })
    .await
}

fn replaces(input: &CopyObjectInput) -> bool {
    let metadata = input.metadata_directive.as_ref().map(MetadataDirective::as_str);
    metadata == Some(MetadataDirective::REPLACE)
}

/// The attributes of the copy: those of the source, but for what is to be replaced. The class is always what is asked for.
fn attributes(input: &CopyObjectInput, source: &Content) -> S3Result<Attributes> {
    let asked = attributes_of!(input)?;
    let mut attributes = Attributes::of(source);
    attributes.class = class_of(input.storage_class.as_ref())?;
    if replaces(input) {
        attributes.headers = asked.headers;
        attributes.metadata = asked.metadata;
    }
    if input.tagging_directive.as_ref().map(TaggingDirective::as_str) == Some(TaggingDirective::REPLACE) {
        attributes.tags = asked.tags;
    }
    Ok(attributes)
}

/// A copy under way.
struct Copying {
    gateway: Gateway,
    from: BucketName,
    shown: Shown,
    names: (BucketName, Key),
    attributes: Attributes,
}

impl Copying {
    async fn run(
        self,
        algorithm: Option<Algorithm>,
    ) -> S3Result<(Replaced, Content, datamesh_core::time::Timestamp)> {
        let buckets = self.gateway.buckets.clone();
        let (from, source) = (self.from.clone(), self.shown.content.clone());
        let extents = {
            let buckets = buckets.clone();
            let source = source.clone();
            blocking(move || buckets.extents(&from, &source).map_err(map_read)).await?
        };
        let another_digest =
            algorithm.is_some_and(|algorithm| !source.digests.contains_key(algorithm.name()));
        let names = self.names.clone();
        let (replaced, content) = if self.attributes.class != source.class || another_digest {
            if source.size > COPY_SIZE_MAX {
                return Err(s3_error!(
                    InvalidRequest,
                    "The specified copy source is larger than the maximum allowable size for a copy source: \
                     {COPY_SIZE_MAX}"
                ));
            }
            let content = self.store_again(&buckets, extents, algorithm).await?;
            (lay_down(&buckets, self.names, content.clone(), PutCondition::None).await?, content)
        } else if extents.len() <= EXTENTS_LISTED_MAX {
            let extents = lease_all_again(&buckets, extents).await?;
            let Content { size, etag, digests, .. } = source;
            let content = self.attributes.content(size, etag, Extents::Listed(extents), digests);
            (lay_down(&buckets, self.names, content.clone(), PutCondition::None).await?, content)
        } else {
            self.by_upload(&buckets).await?
        };
        let found = buckets.version(&names.0, &names.1, replaced.slot).map_err(map_error)?;
        Ok((replaced, content, found.version.modified))
    }

    /// Reads the bytes and stores them again, as the new class has it.
    async fn store_again(
        &self,
        buckets: &Buckets,
        extents: Vec<Extent>,
        algorithm: Option<Algorithm>,
    ) -> S3Result<Content> {
        let size = self.shown.content.size;
        let body = body::read(buckets, extents, buckets.temperature(&self.shown.content), 0..size)
            .await
            .map_err(map_read)?;
        let mut expected = Expected::default();
        let had = self.shown.content.digests.keys().filter_map(|name| Algorithm::named(name));
        had.chain(algorithm).for_each(|algorithm| expected.want(algorithm));
        let subject = ContentSubject {
            name: self.names.1.as_str(),
            media_type: self.attributes.media_type(),
            size: Some(size),
            class: self.attributes.class.as_deref(),
        };
        let (extent, received) = receive(buckets, body, &subject, &expected).await?;
        let etag = hex(&received.md5);
        let extents = Extents::Listed(vec![extent]);
        Ok(self.attributes.clone().content(size, etag, extents, received.digests))
    }

    /// More extents than a version lists are the parts of an upload; they become those of another, which is completed at once.
    async fn by_upload(self, buckets: &Buckets) -> S3Result<(Replaced, Content)> {
        let parts = parts_of(&self.gateway, &self.from, &self.shown.content)?;
        let parts: Vec<Part> = parts.into_iter().filter_map(|(_, _, part)| part).collect();
        let Content { size, etag, digests, .. } = self.shown.content;
        let content = self.attributes.content(size, etag, Extents::Listed(Vec::new()), digests);
        let upload = Upload {
            begun: buckets.world().clock.now(),
            content: content.clone(),
            completed: false,
            digest: None,
        };
        let (bucket, key) = self.names;
        let begun = buckets.begin_upload(bucket.clone(), key.clone(), upload).await;
        let id = begun.map_err(map_error)?;
        let names = (bucket, key);
        let completed = complete_copy(buckets, &names, id, parts).await;
        if completed.is_err() {
            let (bucket, key) = names;
            // What is left of it goes with the upload; where that fails too, a rule of lifecycle ends it.
            if let Err(error) = buckets.abort_upload(bucket, key, id).await {
                tracing::warn!(%error, upload = %id, "a copy that failed is not given up");
            }
        }
        Ok((completed?, content))
    }
}

async fn complete_copy(
    buckets: &Buckets,
    (bucket, key): &(BucketName, Key),
    id: UploadId,
    parts: Vec<Part>,
) -> S3Result<Replaced> {
    let numbered = (1_u16..).zip(parts);
    let puts = stream::iter(numbered).map(|(number, part)| async move {
        let extent = buckets.lease_again(&part.extent).await.map_err(map_renew)?;
        let etag = part.etag.clone();
        let part = Part { modified: buckets.world().clock.now(), extent, ..part };
        buckets.put_part(bucket.clone(), key.clone(), id, number, part).await.map_err(map_error)?;
        Ok::<_, S3Error>((number, etag))
    });
    let mut puts = puts.buffered(IN_FLIGHT_MAX);
    let mut named = Vec::new();
    while let Some(put) = puts.next().await {
        named.push(put?);
    }
    // The content keeps the tag and the digests of its source.
    let (bucket, key) = (bucket.clone(), key.clone());
    let completed = buckets.complete_upload(bucket, key, id, named, PutCondition::None, |_, _| {});
    completed.await.map_err(map_error)
}

/// Has extents kept a second time; all, or none.
async fn lease_all_again(buckets: &Buckets, extents: Vec<Extent>) -> S3Result<Vec<Extent>> {
    let leases = stream::iter(extents).map(|extent| async move { buckets.lease_again(&extent).await });
    let leased: Vec<_> = leases.buffered(IN_FLIGHT_MAX).collect().await;
    let tags: Vec<LeaseTag> = leased.iter().flatten().map(|extent| extent.tag).collect();
    let leased: Result<Vec<Extent>, _> = leased.into_iter().collect();
    leased.map_err(|error| {
        buckets.give_back(tags);
        map_renew(error)
    })
}

impl Attributes {
    /// Those of a content that is there.
    fn of(content: &Content) -> Self {
        let Content { headers, metadata, tags, class, .. } = content.clone();
        Self { headers, metadata, tags, class }
    }
}
