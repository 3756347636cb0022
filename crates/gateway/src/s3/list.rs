//! Lists of objects and of versions, page by page.

use datamesh_core::bucket::{BucketName, Key};
use datamesh_engine::buckets::{List, ListOrder, Listed};
use s3s::dto::{
    CommonPrefix, DeleteMarkerEntry, ETag, EncodingType, ListObjectVersionsInput, ListObjectVersionsOutput,
    ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, Object, ObjectStorageClass,
    ObjectVersion, ObjectVersionStorageClass,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::Gateway;
use crate::escape::{hex, unhex};
use crate::s3::attributes::USUAL_CLASS;
use crate::s3::errors::map_error;
use crate::s3::{blocking, buckets, text};

/// Most entries of a page, as S3 has it.
pub(super) const PAGE_MAX: i32 = 1000;

/// How keys and what is like them stand in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Plain,
    /// As in URLs.
    Url,
}

impl Form {
    /// The form that is asked for.
    pub(super) fn of(encoding: Option<&EncodingType>) -> S3Result<Self> {
        match encoding.map(EncodingType::as_str) {
            None => Ok(Self::Plain),
            Some(EncodingType::URL) => Ok(Self::Url),
            Some(_) => Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request")),
        }
    }

    pub(super) fn text(self, text: String) -> String {
        match self {
            Self::Plain => text,
            Self::Url => text::url(&text),
        }
    }

    pub(super) fn optional(self, text: Option<String>) -> Option<String> {
        text.map(|text| self.text(text))
    }

    pub(super) fn prefixes(self, prefixes: Vec<String>) -> Option<Vec<CommonPrefix>> {
        let prefixes = prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(self.text(prefix)) });
        Some(prefixes.collect::<Vec<_>>()).filter(|prefixes| !prefixes.is_empty())
    }
}

/// How many entries are asked for, as the protocol has it and as the engine.
pub(super) fn page_size(asked: Option<i32>, name: &str) -> S3Result<(i32, usize)> {
    let negative =
        || s3_error!(InvalidArgument, "Argument {name} must be an integer between 0 and 2147483647");
    let count = asked.unwrap_or(PAGE_MAX).min(PAGE_MAX);
    Ok((count, usize::try_from(count).map_err(|_| negative())?))
}

async fn page(gateway: &Gateway, bucket: BucketName, order: ListOrder) -> S3Result<List<Listed>> {
    let buckets = gateway.buckets.clone();
    blocking(move || buckets.list(&bucket, &order).map_err(map_error)).await
}

fn objects(list: Vec<(Key, Listed)>, form: Form, owner: Option<&s3s::dto::Owner>) -> Option<Vec<Object>> {
    let objects = list.into_iter().map(|(key, listed)| Object {
        e_tag: Some(ETag::Strong(listed.etag)),
        key: Some(form.text(key.into())),
        last_modified: Some(text::timestamp(listed.modified)),
        owner: owner.cloned(),
        size: Some(text::signed(listed.size)),
        storage_class: Some(ObjectStorageClass::from(listed.class.unwrap_or_else(|| USUAL_CLASS.to_owned()))),
        ..Object::default()
    });
    Some(objects.collect::<Vec<_>>()).filter(|objects| !objects.is_empty())
}

pub(super) async fn first(
    gateway: &Gateway,
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let ListObjectsInput { bucket, delimiter, encoding_type, marker, max_keys, prefix, .. } = request.input;
    let form = Form::of(encoding_type.as_ref())?;
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty());
    let (count, count_max) = page_size(max_keys, "max-keys")?;
    let order = ListOrder {
        prefix: prefix.clone().unwrap_or_default(),
        delimiter: delimiter.clone(),
        after: marker.clone().filter(|marker| !marker.is_empty()),
        count_max,
    };
    let list = page(gateway, text::bucket(&bucket)?, order).await?;
    let owner = buckets::owner(gateway);
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(bucket),
        prefix: Some(form.text(prefix.unwrap_or_default())),
        marker: Some(form.text(marker.unwrap_or_default())),
        max_keys: Some(count),
        is_truncated: Some(list.next.is_some()),
        next_marker: form.optional(list.next),
        contents: objects(list.entries, form, Some(&owner)),
        common_prefixes: form.prefixes(list.prefixes),
        delimiter: form.optional(delimiter),
        encoding_type,
        ..ListObjectsOutput::default()
    }))
}

pub(super) async fn second(
    gateway: &Gateway,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let ListObjectsV2Input {
        bucket,
        continuation_token,
        delimiter,
        encoding_type,
        fetch_owner,
        max_keys,
        prefix,
        start_after,
        ..
    } = request.input;
    let form = Form::of(encoding_type.as_ref())?;
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty());
    let (count, count_max) = page_size(max_keys, "max-keys")?;
    let after = match continuation_token.as_deref() {
        Some(token) => Some(from_token(token)?),
        None => start_after.clone().filter(|after| !after.is_empty()),
    };
    let order = ListOrder {
        prefix: prefix.clone().unwrap_or_default(),
        delimiter: delimiter.clone(),
        after,
        count_max,
    };
    let list = page(gateway, text::bucket(&bucket)?, order).await?;
    let owner = (fetch_owner == Some(true)).then(|| buckets::owner(gateway));
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(bucket),
        prefix: Some(form.text(prefix.unwrap_or_default())),
        max_keys: Some(count),
        key_count: i32::try_from(list.entries.len() + list.prefixes.len()).ok(),
        continuation_token,
        is_truncated: Some(list.next.is_some()),
        next_continuation_token: list.next.as_deref().map(to_token),
        contents: objects(list.entries, form, owner.as_ref()),
        common_prefixes: form.prefixes(list.prefixes),
        delimiter: form.optional(delimiter),
        encoding_type,
        start_after: form.optional(start_after),
        ..ListObjectsV2Output::default()
    }))
}

/// Where a list goes on, in a text that every XML and every URL can have.
fn to_token(last: &str) -> String {
    hex(last.as_bytes())
}

fn from_token(token: &str) -> S3Result<String> {
    let malformed = || s3_error!(InvalidArgument, "The continuation token provided is incorrect");
    String::from_utf8(unhex(token).ok_or_else(malformed)?).map_err(|_| malformed())
}

pub(super) async fn versions(
    gateway: &Gateway,
    request: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    let ListObjectVersionsInput {
        bucket,
        delimiter,
        encoding_type,
        key_marker,
        max_keys,
        prefix,
        version_id_marker,
        ..
    } = request.input;
    let form = Form::of(encoding_type.as_ref())?;
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty());
    let (count, count_max) = page_size(max_keys, "max-keys")?;
    let order = ListOrder {
        prefix: prefix.clone().unwrap_or_default(),
        delimiter: delimiter.clone(),
        // Pages end with whole keys, so that a version within one never needs to be named.
        after: key_marker.clone().filter(|marker| !marker.is_empty()),
        count_max,
    };
    let (buckets, name) = (gateway.buckets.clone(), text::bucket(&bucket)?);
    let list = blocking(move || buckets.list_versions(&name, &order).map_err(map_error)).await?;
    let owner = buckets::owner(gateway);
    let (mut versions, mut delete_markers) = (Vec::new(), Vec::new());
    let mut last: Option<Key> = None;
    for (key, found) in list.entries {
        let is_latest = Some(last.as_ref() != Some(&key));
        let modified = Some(text::timestamp(found.version.modified));
        let told = Some(form.text(key.as_str().to_owned()));
        last = Some(key);
        let Some(content) = found.version.content else {
            delete_markers.push(DeleteMarkerEntry {
                is_latest,
                key: told,
                last_modified: modified,
                owner: Some(owner.clone()),
                version_id: Some(found.slot.to_string()),
            });
            continue;
        };
        let class = content.class.unwrap_or_else(|| USUAL_CLASS.to_owned());
        versions.push(ObjectVersion {
            e_tag: Some(ETag::Strong(content.etag)),
            is_latest,
            key: told,
            last_modified: modified,
            owner: Some(owner.clone()),
            size: Some(text::signed(content.size)),
            storage_class: Some(ObjectVersionStorageClass::from(class)),
            version_id: Some(found.slot.to_string()),
            ..ObjectVersion::default()
        });
    }
    Ok(S3Response::new(ListObjectVersionsOutput {
        common_prefixes: form.prefixes(list.prefixes),
        delete_markers: Some(delete_markers).filter(|markers| !markers.is_empty()),
        delimiter: form.optional(delimiter),
        encoding_type,
        is_truncated: Some(list.next.is_some()),
        key_marker: Some(form.text(key_marker.unwrap_or_default())),
        max_keys: Some(count),
        name: Some(bucket),
        next_key_marker: form.optional(list.next),
        prefix: Some(form.text(prefix.unwrap_or_default())),
        version_id_marker,
        versions: Some(versions).filter(|versions| !versions.is_empty()),
        ..ListObjectVersionsOutput::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::{from_token, page_size, to_token};

    #[test]
    fn a_list_goes_on_where_its_token_says() {
        for last in ["a", "ä/b", "\u{1}", ""] {
            assert_eq!(from_token(&to_token(last)).unwrap(), last);
        }
        assert!(from_token("x").is_err());
        assert!(from_token("ff").is_err());
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!(page_size(None, "max-keys").unwrap(), (1000, 1000));
        assert_eq!(page_size(Some(5000), "max-keys").unwrap(), (1000, 1000));
        assert_eq!(page_size(Some(0), "max-keys").unwrap(), (0, 0));
        assert!(page_size(Some(-1), "max-keys").is_err());
    }
}
