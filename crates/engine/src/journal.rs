//! The journal of a put: what was acknowledged, so that a later run goes on from there.
//!
//! Its first record says what the put is; it is durable before anything is stored, so that whatever a dead run left behind
//! can be released. Then one record per acknowledged stripe, in the order of the source. All but the head's first half is
//! sealed under the put's own key, which the head grants to the owner alone.

use std::io;

use bytes::Bytes;
use datamesh_codec::keys::{Identity, KEY_SIZE, ObjectKey, unwrap, wrap};
use datamesh_codec::seal::RecordSeal;
use datamesh_core::encode::{DecodeError, decode, encode};
use datamesh_core::id::{ID_SIZE, OwnerId};
use datamesh_core::lease::LeaseTag;
use datamesh_core::manifest::{ChunkEntry, Grant, Stripe};
use datamesh_core::scheme::Scheme;
use datamesh_core::time::Timestamp;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::place::Wholeness;
use crate::source::Chunk;
use crate::world::{Entropy, Journal};

const JOURNAL_VERSION: u8 = 1;
/// The place of the head among the records.
const HEAD_INDEX: u64 = 0;

/// Why a journal does not say what was put.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Its records can't be read, written or synced.
    #[error("journal of the put")]
    Disk(#[source] io::Error),
    /// A record is not what this program writes.
    #[error("record {index} of the put's journal is malformed")]
    Malformed {
        /// Which record, counted from the head.
        index: u64,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A later version of this program wrote it.
    #[error("journal of the put has version {0}, this program knows {JOURNAL_VERSION}")]
    Version(u8),
    /// It was written for another identity, or is not what was written.
    #[error("record {index} of the put's journal does not open with this identity")]
    Sealed {
        /// Which record, counted from the head.
        index: u64,
    },
}

/// What anyone may know of a put that was begun: enough for its owner to release it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Whose put it is.
    pub owner: OwnerId,
    /// The tag of its leases.
    pub tag: LeaseTag,
    /// When it was begun.
    pub created: Timestamp,
}

impl Begun {
    /// What the first record of a journal says.
    ///
    /// # Errors
    /// [`JournalError`] if it is not the head of a journal.
    pub fn parse(record: &[u8]) -> Result<Self, JournalError> {
        let Head { owner, tag, created, .. } = Head::parse(record)?;
        Ok(Self { owner, tag, created })
    }
}

/// The first record.
#[derive(Serialize, Deserialize)]
struct Head {
    version: u8,
    owner: OwnerId,
    tag: LeaseTag,
    created: Timestamp,
    /// The put's key, to its owner.
    grant: Grant,
    sealed: Bytes,
}

/// The sealed half of the head.
#[derive(Serialize, Deserialize)]
struct HeadSecrets {
    scheme: Scheme,
    #[serde(with = "serde_bytes")]
    grant_seed: [u8; KEY_SIZE],
    inline: Option<Bytes>,
}

impl Head {
    fn parse(record: &[u8]) -> Result<Self, JournalError> {
        let head: Self =
            decode(record).map_err(|source| JournalError::Malformed { index: HEAD_INDEX, source })?;
        if head.version == JOURNAL_VERSION { Ok(head) } else { Err(JournalError::Version(head.version)) }
    }
}

/// What is drawn once for a put, and is the same in all its runs.
#[derive(Clone)]
pub(crate) struct Beginning {
    pub(crate) key: ObjectKey,
    pub(crate) tag: LeaseTag,
    pub(crate) created: Timestamp,
    pub(crate) scheme: Scheme,
    /// What the grants of the manifest are drawn from, so that each run writes the same root.
    grant_seed: Zeroizing<[u8; KEY_SIZE]>,
    /// The hash of the packed object, where it travels inside its root. Under the same key nothing else may.
    pub(crate) inline: Option<[u8; ID_SIZE]>,
}

impl Beginning {
    /// Draws the key and the tag of a new put.
    pub(crate) fn draw(entropy: &dyn Entropy, scheme: Scheme, created: Timestamp) -> Self {
        let key = ObjectKey::random(&mut |buffer| entropy.fill(buffer));
        let mut tag = [0; 16];
        entropy.fill(&mut tag);
        let mut grant_seed = Zeroizing::new([0; KEY_SIZE]);
        entropy.fill(grant_seed.as_mut_slice());
        Self { key, tag: LeaseTag::from_bytes(tag), created, scheme, grant_seed, inline: None }
    }

    /// The same, of an object that travels inside its root, or doesn't.
    pub(crate) fn with_inline(&self, inline: Option<[u8; ID_SIZE]>) -> Self {
        Self { inline, ..self.clone() }
    }

    /// What an earlier run of the put has drawn.
    pub(crate) fn open(record: &[u8], owner: &Identity) -> Result<Self, JournalError> {
        let head = Head::parse(record)?;
        let unopened = || JournalError::Sealed { index: HEAD_INDEX };
        let key = unwrap(&head.grant, owner).ok_or_else(unopened)?;
        let opened = RecordSeal::new(&key).open(HEAD_INDEX, &head.sealed).ok_or_else(unopened)?;
        let malformed = |source| JournalError::Malformed { index: HEAD_INDEX, source };
        let mut secrets: HeadSecrets = decode(&opened).map_err(malformed)?;
        let grant_seed = Zeroizing::new(secrets.grant_seed);
        secrets.grant_seed.zeroize();
        let inline = secrets.inline.and_then(|digest| digest.as_ref().try_into().ok());
        let Head { tag, created, .. } = head;
        Ok(Self { key, tag, created, scheme: secrets.scheme, grant_seed, inline })
    }

    /// The first record of the put's journal.
    pub(crate) fn to_record(&self, owner: &Identity, entropy: &dyn Entropy) -> Bytes {
        let secrets = HeadSecrets {
            scheme: self.scheme,
            grant_seed: *self.grant_seed,
            inline: self.inline.map(|digest| Bytes::copy_from_slice(&digest)),
        };
        let secrets = Zeroizing::new(encode(&secrets));
        let head = Head {
            version: JOURNAL_VERSION,
            owner: owner.owner(),
            tag: self.tag,
            created: self.created,
            grant: wrap(&self.key, owner.recipient(), &mut |buffer| entropy.fill(buffer)),
            sealed: RecordSeal::new(&self.key).seal(HEAD_INDEX, &secrets),
        };
        encode(&head).into()
    }

    /// The randomness of the manifest's grants.
    pub(crate) fn grant_entropy(&self) -> impl FnMut(&mut [u8]) + use<> {
        let mut stream = blake3::Hasher::new_keyed(&self.grant_seed).finalize_xof();
        move |buffer| stream.fill(buffer)
    }
}

/// The record of a stripe that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StripeRecord {
    pub(crate) stripe: Stripe,
    pub(crate) chunk: ChunkEntry,
    /// The hash of the source up to the end of the chunk: it tells whether the source is still the same.
    #[serde(with = "serde_bytes")]
    pub(crate) digest_to_here: [u8; ID_SIZE],
    pub(crate) stored_size: u64,
    pub(crate) reused_size: u64,
    pub(crate) wholeness: Wholeness,
}

impl StripeRecord {
    /// Whether it is about this chunk, and the source before it is what it was.
    pub(crate) fn is_of(&self, chunk: &Chunk) -> bool {
        usize::try_from(self.chunk.size).is_ok_and(|size| size == chunk.bytes.len())
            && self.digest_to_here == chunk.digest_to_here
    }

    /// The record behind the head and those of the stripes before it.
    pub(crate) fn seal(&self, seal: &RecordSeal, stripe_index: u64) -> Bytes {
        seal.seal(stripe_index + 1, &Zeroizing::new(encode(self)))
    }

    /// What [`StripeRecord::seal`] sealed.
    pub(crate) fn open(record: &[u8], seal: &RecordSeal, stripe_index: u64) -> Result<Self, JournalError> {
        let index = stripe_index + 1;
        let opened = seal.open(index, record).ok_or(JournalError::Sealed { index })?;
        decode(&opened).map_err(|source| JournalError::Malformed { index, source })
    }
}

/// Keeps nothing: what is put so can't be resumed.
#[derive(Debug, Clone, Copy)]
pub struct Unjournaled;

impl Journal for Unjournaled {
    fn next(&self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        ready(Ok(None)).boxed()
    }

    fn commit(&self, _records: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use datamesh_codec::keys::Identity;
    use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Redundancy, Scheme};
    use datamesh_core::time::Timestamp;

    use super::{Beginning, Begun, JournalError};
    use crate::world::Entropy;

    struct Counting;

    impl Entropy for Counting {
        fn fill(&self, buffer: &mut [u8]) {
            (1..).zip(buffer).for_each(|(number, byte): (u8, _)| *byte = number);
        }
    }

    #[test]
    fn the_head_of_a_journal_opens_for_its_owner_alone_and_tells_others_only_what_releases() {
        let redundancy = Redundancy::new(4, 2).expect("a redundancy");
        let (chunking, compression) = (Chunking::Fixed, Compression::None);
        let cipher = Cipher::Aes256Gcm;
        let scheme = Scheme { mode: Mode::Sealed, chunking, compression, cipher, redundancy };
        let owner = Identity::from_seed(&[3; 32]);
        let beginning = Beginning::draw(&Counting, scheme, Timestamp::from_ms(5));
        let beginning = beginning.with_inline(Some([7; 32]));
        let record = beginning.to_record(&owner, &Counting);

        let opened = Beginning::open(&record, &owner).expect("it is the owner's");
        assert_eq!(opened.key.as_bytes(), beginning.key.as_bytes());
        assert_eq!((opened.tag, opened.created, opened.scheme), (beginning.tag, beginning.created, scheme));
        assert_eq!(opened.inline, Some([7; 32]));
        let draw = |beginning: &Beginning| {
            let mut drawn = [0; 40];
            beginning.grant_entropy()(&mut drawn);
            drawn
        };
        assert_eq!(draw(&opened), draw(&beginning), "each run writes the same grants");

        let other = Identity::from_seed(&[4; 32]);
        assert!(matches!(Beginning::open(&record, &other), Err(JournalError::Sealed { index: 0 })));
        let begun = Begun::parse(&record).expect("a head");
        assert_eq!((begun.owner, begun.tag), (owner.owner(), beginning.tag));
        let secret = beginning.key.as_bytes();
        assert!(!record.windows(secret.len()).any(|window| window == secret));
        assert!(Begun::parse(&record[1..]).is_err());
    }
}
