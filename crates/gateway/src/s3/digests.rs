//! Digests of contents: those that clients ask for or send, and those that parts make together.

use std::collections::{BTreeMap, BTreeSet};

use datamesh_core::bucket::{Digests, Part};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{Checksum, ChecksumAlgorithm, ChecksumType};
use s3s::{S3Result, TrailingHeaders, s3_error};

use crate::body::Received;
use crate::escape::{hex, unhex};
use crate::s3::text;

/// How a digest is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// CRC-32 as of zip.
    Crc32,
    /// CRC-32C.
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// What a digest of parts is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of the parts' digests.
    Composite,
    /// Of the whole content.
    FullObject,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// Its name in small letters, as contents have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "crc32",
            Self::Crc32c => "crc32c",
            Self::Crc64Nvme => "crc64nvme",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// The algorithm of a name, however it is written.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    const fn size(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    const fn crc(self) -> Option<crc_fast::CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(crc_fast::CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(crc_fast::CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(crc_fast::CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    pub(crate) fn dto(self) -> ChecksumAlgorithm {
        ChecksumAlgorithm::from(self.name().to_ascii_uppercase())
    }
}

/// Computes several digests at once.
pub struct Hashers(ChecksumHasher);

impl Hashers {
    /// For these algorithms.
    pub fn new(algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        let mut hasher = ChecksumHasher::default();
        for algorithm in algorithms {
            match algorithm {
                Algorithm::Crc32 => hasher.crc32 = Some(Crc32::new()),
                Algorithm::Crc32c => hasher.crc32c = Some(Crc32c::new()),
                Algorithm::Crc64Nvme => hasher.crc64nvme = Some(Crc64Nvme::new()),
                Algorithm::Sha1 => hasher.sha1 = Some(Sha1::new()),
                Algorithm::Sha256 => hasher.sha256 = Some(Sha256::new()),
            }
        }
        Self(hasher)
    }

    /// Takes in what comes next.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digests of all that was taken in.
    #[must_use]
    pub fn finish(self) -> Digests {
        from_dto(self.0.finalize())
    }
}

/// Digests as the protocol has them.
pub(crate) fn to_dto(digests: &Digests) -> Checksum {
    let of = |algorithm: Algorithm| digests.get(algorithm.name()).cloned();
    Checksum {
        checksum_crc32: of(Algorithm::Crc32),
        checksum_crc32c: of(Algorithm::Crc32c),
        checksum_crc64nvme: of(Algorithm::Crc64Nvme),
        checksum_sha1: of(Algorithm::Sha1),
        checksum_sha256: of(Algorithm::Sha256),
        checksum_type: kind_of(digests).map(|kind| kind.dto()),
    }
}

/// The digests that the protocol has.
pub(crate) fn from_dto(checksum: Checksum) -> Digests {
    let named = [
        (Algorithm::Crc32, checksum.checksum_crc32),
        (Algorithm::Crc32c, checksum.checksum_crc32c),
        (Algorithm::Crc64Nvme, checksum.checksum_crc64nvme),
        (Algorithm::Sha1, checksum.checksum_sha1),
        (Algorithm::Sha256, checksum.checksum_sha256),
    ];
    named.into_iter().filter_map(|(algorithm, digest)| Some((algorithm.name().to_owned(), digest?))).collect()
}

/// The digests among the fields of an input or output, all of which have them under the same names.
macro_rules! given_digests {
    ($input:expr) => {
        $crate::s3::digests::from_dto(s3s::dto::Checksum {
            checksum_crc32: $input.checksum_crc32.take(),
            checksum_crc32c: $input.checksum_crc32c.take(),
            checksum_crc64nvme: $input.checksum_crc64nvme.take(),
            checksum_sha1: $input.checksum_sha1.take(),
            checksum_sha256: $input.checksum_sha256.take(),
            checksum_type: None,
        })
    };
}
/// Sets the digests among the fields of an output.
macro_rules! tell_digests {
    ($output:expr, $digests:expr) => {{
        let checksum = $crate::s3::digests::to_dto($digests);
        $output.checksum_crc32 = checksum.checksum_crc32;
        $output.checksum_crc32c = checksum.checksum_crc32c;
        $output.checksum_crc64nvme = checksum.checksum_crc64nvme;
        $output.checksum_sha1 = checksum.checksum_sha1;
        $output.checksum_sha256 = checksum.checksum_sha256;
        checksum.checksum_type
    }};
}
pub(crate) use {given_digests, tell_digests};

impl Kind {
    pub(crate) fn dto(self) -> ChecksumType {
        ChecksumType::from_static(match self {
            Self::Composite => ChecksumType::COMPOSITE,
            Self::FullObject => ChecksumType::FULL_OBJECT,
        })
    }
}

/// What the digests of a content are of; that of parts' digests ends with their number.
pub(crate) fn kind_of(digests: &Digests) -> Option<Kind> {
    let digest = digests.values().next()?;
    Some(if digest.contains('-') { Kind::Composite } else { Kind::FullObject })
}

/// What a client says of the digests of a body.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    algorithms: BTreeSet<Algorithm>,
    given: Digests,
    md5: Option<Vec<u8>>,
    trailer: Option<TrailingHeaders>,
}

impl Expected {
    /// From the headers of a request; those behind the body are read when that is there.
    pub(crate) fn new(
        asked: Option<&str>,
        given: Digests,
        content_md5: Option<&str>,
        trailer: Option<TrailingHeaders>,
    ) -> S3Result<Self> {
        let mut algorithms = BTreeSet::new();
        for name in asked.into_iter().chain(given.keys().map(String::as_str)) {
            let unknown = || s3_error!(InvalidRequest, "the checksum algorithm {name} is not supported");
            algorithms.insert(Algorithm::named(name).ok_or_else(unknown)?);
        }
        for (name, digest) in &given {
            let size = Algorithm::named(name).map(Algorithm::size);
            if text::unbase64(digest).map(|bytes| bytes.len()) != size {
                return Err(s3_error!(InvalidRequest, "Value for x-amz-checksum-{name} header is invalid."));
            }
        }
        let md5 = content_md5.map(|text| text::unbase64(text).filter(|bytes| bytes.len() == 16));
        let malformed = || s3_error!(InvalidDigest, "The Content-MD5 you specified is not valid.");
        let md5 = md5.map(|bytes| bytes.ok_or_else(malformed)).transpose()?;
        Ok(Self { algorithms, given, md5, trailer })
    }

    /// One more digest that is wanted.
    pub(crate) fn want(&mut self, algorithm: Algorithm) {
        self.algorithms.insert(algorithm);
    }

    pub(crate) fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.algorithms.iter().copied()
    }

    /// Holds what was received to what was said of it.
    pub(crate) fn check(&self, received: &Received) -> S3Result<()> {
        if self.md5.as_ref().is_some_and(|md5| md5[..] != received.md5) {
            return Err(s3_error!(
                BadDigest,
                "The Content-MD5 you specified did not match what we received."
            ));
        }
        let mut given: BTreeMap<String, String> = self.given.clone();
        let behind = self.trailer.as_ref().and_then(|trailer| trailer.read(behind_body));
        given.extend(behind.into_iter().flatten());
        for (name, digest) in &given {
            if received.digests.get(name).is_some_and(|computed| computed != digest) {
                return Err(s3_error!(
                    BadDigest,
                    "The {} you specified did not match the calculated checksum.",
                    name.to_ascii_uppercase()
                ));
            }
        }
        Ok(())
    }
}

fn behind_body(headers: &hyper::HeaderMap) -> Digests {
    let of = |algorithm: Algorithm| {
        let value = headers.get(format!("x-amz-checksum-{}", algorithm.name()))?.to_str().ok()?;
        Some((algorithm.name().to_owned(), value.to_owned()))
    };
    Algorithm::ALL.into_iter().filter_map(of).collect()
}

/// What an upload says of the digests of its parts, in the text that it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UploadDigest {
    pub(crate) algorithm: Algorithm,
    pub(crate) kind: Kind,
}

impl UploadDigest {
    /// As asked for when an upload is begun.
    pub(crate) fn asked(algorithm: Option<&str>, kind: Option<&str>) -> S3Result<Option<Self>> {
        let Some(name) = algorithm else { return Ok(None) };
        let unknown = || s3_error!(InvalidRequest, "the checksum algorithm {name} is not supported");
        let algorithm = Algorithm::named(name).ok_or_else(unknown)?;
        let kind = match kind {
            Some(ChecksumType::FULL_OBJECT) => Kind::FullObject,
            Some(ChecksumType::COMPOSITE) => Kind::Composite,
            None if algorithm == Algorithm::Crc64Nvme => Kind::FullObject,
            None => Kind::Composite,
            Some(_) => return Err(s3_error!(InvalidRequest, "the checksum type is not valid")),
        };
        let fits = match kind {
            Kind::FullObject => algorithm.crc().is_some(),
            Kind::Composite => algorithm != Algorithm::Crc64Nvme,
        };
        if fits {
            return Ok(Some(Self { algorithm, kind }));
        }
        Err(s3_error!(InvalidRequest, "The checksum type can't be used with the {name} checksum algorithm."))
    }

    pub(crate) fn to_text(self) -> String {
        let kind = if self.kind == Kind::FullObject { ":full-object" } else { "" };
        format!("{}{kind}", self.algorithm.name())
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let (name, kind) = match text.strip_suffix(":full-object") {
            Some(name) => (name, Kind::FullObject),
            None => (text, Kind::Composite),
        };
        Algorithm::named(name).map(|algorithm| Self { algorithm, kind })
    }

    /// The digest of a content of parts; `None` where a part has none.
    pub(crate) fn of_parts(self, parts: &[(u16, Part)]) -> Option<String> {
        let name = self.algorithm.name();
        let digests: Option<Vec<Vec<u8>>> =
            parts.iter().map(|(_, part)| text::unbase64(part.digests.get(name)?)).collect();
        let digests = digests?;
        match (self.kind, self.algorithm.crc()) {
            (Kind::Composite, _) => {
                let mut hashers = Hashers::new([self.algorithm]);
                digests.iter().for_each(|digest| hashers.update(digest));
                Some(format!("{}-{}", hashers.finish().remove(name)?, parts.len()))
            }
            (Kind::FullObject, Some(crc)) => {
                let sizes = parts.iter().map(|(_, part)| part.extent.size);
                let number = |digest: &[u8]| digest.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
                let mut all = digests.iter().map(|digest| number(digest)).zip(sizes);
                let (first, _) = all.next()?;
                let whole =
                    all.fold(first, |sum, (next, size)| crc_fast::checksum_combine(crc, sum, next, size));
                Some(text::base64(&whole.to_be_bytes()[8 - self.algorithm.size()..]))
            }
            (Kind::FullObject, None) => None,
        }
    }
}

/// The tag of a content of parts: the MD5 of their MD5s, and their number.
pub(crate) fn etag_of_parts(parts: &[(u16, Part)]) -> String {
    let mut md5 = Md5::new();
    for (_, part) in parts {
        md5.update(&unhex(&part.etag).unwrap_or_default());
    }
    format!("{}-{}", hex(&md5.finalize()), parts.len())
}

#[cfg(test)]
mod tests {
    use datamesh_core::bucket::{Digests, Extent, Part};
    use datamesh_core::id::ObjectId;
    use datamesh_core::lease::LeaseTag;
    use datamesh_core::time::Timestamp;
    use s3s::crypto::{Checksum as _, Md5};

    use super::{Algorithm, Expected, Hashers, Kind, UploadDigest, etag_of_parts};
    use crate::body::Received;
    use crate::escape::hex;
    use crate::s3::text;

    fn digests(bytes: &[u8]) -> Digests {
        let mut hashers = Hashers::new(Algorithm::ALL);
        hashers.update(bytes);
        hashers.finish()
    }

    fn part(number: u16, bytes: &[u8]) -> (u16, Part) {
        let extent = Extent {
            object: ObjectId::from_bytes([0; 32]),
            size: u64::try_from(bytes.len()).unwrap(),
            tag: LeaseTag::from_bytes([0; 16]),
        };
        let etag = hex(&Md5::checksum(bytes));
        (number, Part { modified: Timestamp::from_ms(0), extent, etag, digests: digests(bytes) })
    }

    #[test]
    fn digests_of_known_bytes_are_the_published_ones() {
        let digests = digests(b"123456789");
        let hex = |name: &str| hex(&text::unbase64(&digests[name]).unwrap());
        assert_eq!(hex("crc32"), "cbf43926");
        assert_eq!(hex("crc32c"), "e3069283");
        assert_eq!(hex("crc64nvme"), "ae8b14860a799888");
        assert_eq!(hex("sha1"), "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
        assert!(hex("sha256").starts_with("15e2b0d3c33891eb"));
    }

    #[test]
    fn the_tag_of_parts_is_the_md5_of_their_md5s() {
        // MD5 of the two MD5s, one behind the other, as coreutils has it.
        assert_eq!(etag_of_parts(&[part(1, b"a"), part(5, b"b")]), "96e024ba2074fe77e8e965ba43a704be-2");
    }

    #[test]
    fn digests_of_parts_make_that_of_the_whole() {
        let parts = [part(1, b"1234"), part(2, b""), part(3, b"56789")];
        let whole = digests(b"123456789");
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            let digest = UploadDigest { algorithm, kind: Kind::FullObject };
            assert_eq!(digest.of_parts(&parts).as_ref(), whole.get(algorithm.name()), "{algorithm:?}");
        }
        let composite = UploadDigest { algorithm: Algorithm::Sha256, kind: Kind::Composite };
        let of_digests: Vec<u8> =
            parts.iter().flat_map(|(_, part)| text::unbase64(&part.digests["sha256"]).unwrap()).collect();
        assert_eq!(composite.of_parts(&parts).unwrap(), format!("{}-3", digests(&of_digests)["sha256"]));
    }

    #[test]
    fn what_uploads_keep_of_digests_comes_back() {
        for (algorithm, kind) in
            [("CRC32", None), ("SHA256", Some("COMPOSITE")), ("CRC32C", Some("FULL_OBJECT"))]
        {
            let asked = UploadDigest::asked(Some(algorithm), kind).unwrap().unwrap();
            assert_eq!(UploadDigest::from_text(&asked.to_text()), Some(asked));
        }
        assert!(UploadDigest::asked(Some("SHA1"), Some("FULL_OBJECT")).is_err());
        assert!(UploadDigest::asked(Some("CRC64NVME"), Some("COMPOSITE")).is_err());
        assert!(UploadDigest::asked(Some("MD4"), None).is_err());
        assert_eq!(UploadDigest::asked(None, None).unwrap(), None);
    }

    #[test]
    fn a_body_with_another_digest_than_was_said_is_refused() {
        let received = |bytes: &[u8]| Received {
            size: u64::try_from(bytes.len()).unwrap(),
            md5: Md5::checksum(bytes),
            digests: digests(bytes),
        };
        let given: Digests = [("crc32".to_owned(), digests(b"one")["crc32"].clone())].into();
        let md5 = text::base64(&Md5::checksum(b"one"));
        let expected = Expected::new(Some("CRC32"), given.clone(), Some(&md5), None).unwrap();
        assert!(expected.check(&received(b"one")).is_ok());
        assert!(expected.check(&received(b"two")).is_err());
        let expected = Expected::new(None, given, None, None).unwrap();
        assert!(expected.check(&received(b"two")).is_err());
        let malformed: Digests = [("crc32".to_owned(), "AAAA".to_owned())].into();
        assert!(Expected::new(None, malformed, None, None).is_err());
        assert!(Expected::new(None, Digests::new(), Some("AAAA"), None).is_err());
    }
}
