//! What clients say of a content beside its bytes: headers, metadata, tags and class.

use std::collections::BTreeMap;

use datamesh_core::bucket::{Content, Digests, Extents};
use s3s::dto::{ObjectCannedACL, ServerSideEncryption, StorageClass, Tag};
use s3s::{S3Result, s3_error};

use crate::s3::text;

/// The class that is meant where none is named.
pub(crate) const USUAL_CLASS: &str = StorageClass::STANDARD;
/// Classes that may be asked for: those whose contents are read at once. What they come to is for the scheme to say.
const CLASSES: [&str; 6] = [
    USUAL_CLASS,
    StorageClass::REDUCED_REDUNDANCY,
    StorageClass::STANDARD_IA,
    StorageClass::ONEZONE_IA,
    StorageClass::INTELLIGENT_TIERING,
    StorageClass::GLACIER_IR,
];
/// Most bytes of all names and values of a content's metadata, as S3 has it.
const METADATA_SIZE_MAX: usize = 2048;
/// Most bytes of all headers that are kept with a content.
const HEADERS_SIZE_MAX: usize = 8192;
/// Most tags of an object and of a bucket, and the longest name and value of one, characters, as S3 has them.
pub(crate) const OBJECT_TAGS_MAX: usize = 10;
pub(crate) const BUCKET_TAGS_MAX: usize = 50;
const TAG_NAME_LENGTH_MAX: usize = 128;
const TAG_VALUE_LENGTH_MAX: usize = 256;

/// What is said of a content beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) class: Option<String>,
}

/// The attributes among the fields of an input, several of which have them under the same names.
macro_rules! attributes_of {
    ($input:expr) => {
        $crate::s3::attributes::Attributes::new(
            [
                ("content-type", $input.content_type.clone()),
                ("content-encoding", $input.content_encoding.clone()),
                ("content-disposition", $input.content_disposition.clone()),
                ("content-language", $input.content_language.clone()),
                ("cache-control", $input.cache_control.clone()),
                ("expires", $input.expires.as_ref().map($crate::s3::text::http_date)),
                ("x-amz-website-redirect-location", $input.website_redirect_location.clone()),
            ],
            $input.metadata.clone().unwrap_or_default(),
            $input.tagging.as_deref(),
            $input.storage_class.as_ref(),
        )
    };
}
/// Refuses what an input asks for and nobody would do.
macro_rules! refuse_unmet {
    ($input:expr) => {
        $crate::s3::attributes::refuse(&$crate::s3::attributes::Asked {
            acl: $input.acl.as_ref(),
            encryption: $input.server_side_encryption.as_ref(),
            managed_key: $input.ssekms_key_id.is_some(),
            customer_key: $input.sse_customer_algorithm.is_some() || $input.sse_customer_key.is_some(),
            lock: $input.object_lock_mode.is_some() || $input.object_lock_legal_hold_status.is_some(),
        })
    };
}
pub(crate) use {attributes_of, refuse_unmet};

/// What is asked for that may not be met.
pub(crate) struct Asked<'a> {
    pub(crate) acl: Option<&'a ObjectCannedACL>,
    pub(crate) encryption: Option<&'a ServerSideEncryption>,
    pub(crate) managed_key: bool,
    pub(crate) customer_key: bool,
    pub(crate) lock: bool,
}

/// Better refused than passed over: who asks for it would believe that it was done.
pub(crate) fn refuse(asked: &Asked<'_>) -> S3Result<()> {
    let own = [
        ObjectCannedACL::PRIVATE,
        ObjectCannedACL::BUCKET_OWNER_FULL_CONTROL,
        ObjectCannedACL::BUCKET_OWNER_READ,
    ];
    if asked.acl.is_some_and(|acl| !own.contains(&acl.as_str())) {
        return Err(s3_error!(AccessControlListNotSupported, "access is given to access keys, not by lists"));
    }
    // Everything is sealed, by keys of the owner's own.
    if asked.managed_key || asked.encryption.is_some_and(|by| by.as_str() != ServerSideEncryption::AES256) {
        return Err(s3_error!(NotImplemented, "of server-side encryption, only AES256 is implemented"));
    }
    if asked.customer_key {
        return Err(s3_error!(NotImplemented, "encryption by keys that clients send is not implemented"));
    }
    if asked.lock {
        return Err(s3_error!(NotImplemented, "object lock is not implemented"));
    }
    Ok(())
}

impl Attributes {
    pub(crate) fn new(
        headers: [(&'static str, Option<String>); 7],
        metadata: impl IntoIterator<Item = (String, String)>,
        tagging: Option<&str>,
        class: Option<&StorageClass>,
    ) -> S3Result<Self> {
        let mut kept = BTreeMap::new();
        for (name, value) in headers {
            let value = match (name, value) {
                ("content-encoding", Some(value)) => plain_encoding(&value),
                (_, value) => value,
            };
            kept.extend(value.filter(|value| !value.is_empty()).map(|value| (name.to_owned(), value)));
        }
        let metadata: BTreeMap<String, String> = metadata.into_iter().collect();
        if size_of(&metadata) > METADATA_SIZE_MAX {
            return Err(s3_error!(MetadataTooLarge));
        }
        if size_of(&kept) > HEADERS_SIZE_MAX {
            return Err(s3_error!(RequestHeaderSectionTooLarge));
        }
        let tags = tagging.map(tags_of_header).transpose()?.unwrap_or_default();
        Ok(Self { headers: kept, metadata, tags, class: class_of(class)? })
    }

    pub(crate) fn media_type(&self) -> Option<&str> {
        self.headers.get("content-type").map(String::as_str)
    }

    /// A content with these attributes.
    pub(crate) fn content(self, size: u64, etag: String, extents: Extents, digests: Digests) -> Content {
        let Self { headers, metadata, tags, class } = self;
        Content { size, etag, extents, headers, metadata, tags, digests, class }
    }
}

fn size_of(texts: &BTreeMap<String, String>) -> usize {
    texts.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// How a request was sent is not how its content is encoded.
fn plain_encoding(value: &str) -> Option<String> {
    let kept: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && *coding != "aws-chunked")
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// The class that is kept; `None` for the usual one.
pub(crate) fn class_of(class: Option<&StorageClass>) -> S3Result<Option<String>> {
    let Some(class) = class.map(StorageClass::as_str) else { return Ok(None) };
    if !CLASSES.contains(&class) {
        return Err(s3_error!(InvalidStorageClass, "there is no storage class {class} here"));
    }
    Ok((class != USUAL_CLASS).then(|| class.to_owned()))
}

/// Tags as a header has them: the form of a URL's query.
fn tags_of_header(header: &str) -> S3Result<BTreeMap<String, String>> {
    let malformed = || s3_error!(InvalidArgument, "the header x-amz-tagging is malformed");
    let mut tags = Vec::new();
    for pair in header.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        tags.push((text::unurl(name).ok_or_else(malformed)?, text::unurl(value).ok_or_else(malformed)?));
    }
    checked_tags(tags, OBJECT_TAGS_MAX)
}

/// Tags as a document has them.
pub(crate) fn tags_of(set: Vec<Tag>, count_max: usize) -> S3Result<BTreeMap<String, String>> {
    let tags = set.into_iter().map(|Tag { key, value }| (key.unwrap_or_default(), value.unwrap_or_default()));
    checked_tags(tags.collect(), count_max)
}

fn checked_tags(tags: Vec<(String, String)>, count_max: usize) -> S3Result<BTreeMap<String, String>> {
    if tags.len() > count_max {
        return Err(s3_error!(InvalidTag, "no more than {count_max} tags are kept"));
    }
    let mut kept = BTreeMap::new();
    for (name, value) in tags {
        let (name_length, value_length) = (name.chars().count(), value.chars().count());
        if name_length == 0 || name_length > TAG_NAME_LENGTH_MAX || value_length > TAG_VALUE_LENGTH_MAX {
            return Err(s3_error!(InvalidTag, "the tag `{name}` is too long, or has no name"));
        }
        if kept.insert(name, value).is_some() {
            return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(kept)
}

/// Tags as documents have them.
pub(crate) fn tag_set(tags: BTreeMap<String, String>) -> Vec<Tag> {
    tags.into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect()
}

#[cfg(test)]
mod tests {
    use s3s::dto::StorageClass;

    use super::{Attributes, class_of, plain_encoding, tags_of_header};

    const NO_HEADERS: [(&str, Option<String>); 7] = [
        ("content-type", None),
        ("content-encoding", None),
        ("content-disposition", None),
        ("content-language", None),
        ("cache-control", None),
        ("expires", None),
        ("x-amz-website-redirect-location", None),
    ];

    #[test]
    fn how_a_request_was_sent_is_not_how_its_content_is_encoded() {
        assert_eq!(plain_encoding("aws-chunked"), None);
        assert_eq!(plain_encoding("aws-chunked, gzip").as_deref(), Some("gzip"));
        assert_eq!(plain_encoding("gzip,br").as_deref(), Some("gzip,br"));
    }

    #[test]
    fn tags_of_a_header_are_decoded_and_bounded() {
        let tags = tags_of_header("a=1&b%20c=d+e&f").unwrap();
        assert_eq!(tags["b c"], "d e");
        assert_eq!((tags["a"].as_str(), tags["f"].as_str(), tags.len()), ("1", "", 3));
        let many: Vec<String> = (0..11).map(|number| format!("k{number}=v")).collect();
        for header in
            [many.join("&"), "a=1&a=2".to_owned(), format!("{}=1", "k".repeat(129)), "=1".to_owned()]
        {
            assert!(tags_of_header(&header).is_err(), "{header}");
        }
    }

    #[test]
    fn classes_are_those_that_are_read_at_once() {
        let class = |name: &str| class_of(Some(&StorageClass::from(name.to_owned())));
        assert_eq!(class("STANDARD").unwrap(), None);
        assert_eq!(class("STANDARD_IA").unwrap().as_deref(), Some("STANDARD_IA"));
        for name in ["GLACIER", "standard", "COLD"] {
            assert_eq!(class(name).unwrap_err().code(), &s3s::S3ErrorCode::InvalidStorageClass);
        }
    }

    #[test]
    fn metadata_is_bounded() {
        let of = |size: usize| Attributes::new(NO_HEADERS, [("n".to_owned(), "v".repeat(size))], None, None);
        assert!(of(2047).is_ok());
        assert_eq!(of(2048).unwrap_err().code(), &s3s::S3ErrorCode::MetadataTooLarge);
    }
}
