//! put = read, chunk, compress, seal, stripe, place, send, manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use datamesh_codec::chunk::{Chunker, GearKey};
use datamesh_codec::compress::pack;
use datamesh_codec::keys::{Identity, ObjectKey, Recipient};
use datamesh_codec::manifest::{Block, FinishError, Finished, ManifestWriter, NewManifestError, fits_inline};
use datamesh_codec::seal::{SealedChunk, Sealer};
use datamesh_codec::stripe::{Coder, EncodedStripe};
use datamesh_core::id::{ID_SIZE, NodeId, ObjectId};
use datamesh_core::lease::{Lease, LeaseTag, Subject};
use datamesh_core::manifest::{ChunkEntry, Details, Kind, ManifestError, Stripe};
use datamesh_core::placement::Placement;
use datamesh_core::scheme::{Mode, Redundancy, Scheme};
use datamesh_core::sign::Signed;
use datamesh_core::time::{Epoch, Timestamp};
use datamesh_core::wire::StoredItem;
use futures::future::{Either, pending, select};
use futures::stream::{self, FuturesUnordered, Stream, StreamExt, TryStreamExt};

use crate::place::{Wholeness, wholeness};
use crate::progress::{Event, Observer, Unobserved};
use crate::release::release;
use crate::source::Chunks;
use crate::traffic::Share;
use crate::transfer::{Failure, Transfer, TransferSettings};
use crate::world::{Source, World};

/// What is to be put, and how.
pub struct PutOrder {
    /// How it is encoded.
    pub scheme: Scheme,
    /// Its name, which only readers see.
    pub name: String,
    /// What its bytes are.
    pub kind: Kind,
    /// Their media type.
    pub media_type: Option<String>,
    /// What the owner notes.
    pub metadata: BTreeMap<String, String>,
    /// Bytes of plaintext, where that is known beforehand.
    pub expected_size: Option<u64>,
    /// Who owns it: signs its leases, and can read it.
    pub owner: Arc<Identity>,
    /// Who else can read it.
    pub recipients: Vec<Recipient>,
    /// How long it is kept.
    pub until: Epoch,
}

/// What was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Its id.
    pub object: ObjectId,
    /// Bytes of plaintext.
    pub size: u64,
    /// Bytes stored for it, all shards and replicas together.
    pub stored_size: u64,
    /// Stripes; none where it travels inside its manifest.
    pub stripe_count: u64,
    /// The tag of its leases.
    pub tag: LeaseTag,
    /// When it was put.
    pub created: Timestamp,
    /// Whether every shard found a failure domain of its own.
    pub acknowledged: Wholeness,
    /// The nodes that failed meanwhile.
    pub failures: BTreeMap<NodeId, Failure>,
}

/// Why nothing was acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The source can't be read, or changed meanwhile.
    #[error("source can't be read")]
    Source(#[source] io::Error),
    /// The recipients are too many.
    #[error(transparent)]
    Recipients(#[from] NewManifestError),
    /// The object is too large for one manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The name or the metadata is out of bounds.
    #[error(transparent)]
    Details(#[from] FinishError),
    /// Too few nodes took shards or manifest replicas.
    #[error("{what}: taken by {placed} nodes, at least {needed} are needed{}", describe(failures))]
    NotEnoughNodes {
        /// What was to be placed.
        what: String,
        /// Distinct nodes that took a part.
        placed: usize,
        /// Distinct nodes that must.
        needed: usize,
        /// The nodes that didn't, and why.
        failures: BTreeMap<NodeId, Failure>,
    },
}

fn describe(failures: &BTreeMap<NodeId, Failure>) -> String {
    failures.values().map(|failure| format!("; {failure}")).collect()
}

/// Puts an object: its chunks are sealed, striped and spread over the mesh as they are read, its manifest follows, and its
/// root last, so that an object that can be named is there.
///
/// # Errors
/// [`PutError`] when it can't be acknowledged, not even as degraded. What was stored already is released.
///
/// # Cancel safety
/// When dropped, nothing is acknowledged; shards that were stored already stay until their lease ends.
pub async fn put(
    world: &World,
    settings: TransferSettings,
    observer: Arc<dyn Observer>,
    source: &mut dyn Source,
    order: &PutOrder,
) -> Result<Put, PutError> {
    if let Some(bytes) = order.expected_size {
        observer.observe(Event::Expected { bytes });
    }
    let transfer = Transfer::start(world.clone(), settings, observer).await;
    let _slot = transfer.slot().await;
    let putting = Putting::new(transfer, order);
    // Boxed, since all stages of a put together make a large future.
    match Box::pin(putting.run(Chunks::new(world, source, putting.chunker()))).await {
        Ok(tally) => Ok(putting.report(tally)),
        Err(error) => {
            // What was stored would be kept for nobody. A node that can't be told now keeps it until its lease ends.
            release(world, settings, Arc::new(Unobserved), &order.owner, putting.tag).await;
            Err(error)
        }
    }
}

/// One put under way.
struct Putting<'a> {
    transfer: Transfer,
    order: &'a PutOrder,
    key: ObjectKey,
    tag: LeaseTag,
    created: Timestamp,
    sealer: Arc<Sealer>,
    coder: Arc<Coder>,
}

/// What has been stored so far.
#[derive(Clone, Copy)]
struct Tally {
    object: Option<ObjectId>,
    size: u64,
    stored_size: u64,
    stripe_count: u64,
    acknowledged: Wholeness,
}

impl Tally {
    const NOTHING: Self =
        Self { object: None, size: 0, stored_size: 0, stripe_count: 0, acknowledged: Wholeness::Whole };

    fn add(self, stored: Stored) -> Self {
        Self {
            stored_size: self.stored_size + stored.size,
            acknowledged: self.acknowledged.min(stored.wholeness),
            ..self
        }
    }
}

/// One stripe or block, stored well enough to be acknowledged.
#[derive(Clone, Copy)]
struct Stored {
    size: u64,
    wholeness: Wholeness,
}

/// A chunk that was cut, and its share of the memory.
struct Cut {
    index: u64,
    chunk: Bytes,
    share: Share,
}

impl<'a> Putting<'a> {
    fn new(transfer: Transfer, order: &'a PutOrder) -> Self {
        let entropy = Arc::clone(&transfer.world.entropy);
        let key = ObjectKey::random(&mut |buffer| entropy.fill(buffer));
        let mut tag = [0; 16];
        entropy.fill(&mut tag);
        let sealer = Sealer::new(&order.scheme, &key, order.owner.dedup_secret());
        let coder = Coder::new(order.scheme.redundancy);
        let created = transfer.world.clock.now();
        Self {
            transfer,
            order,
            key,
            tag: LeaseTag::from_bytes(tag),
            created,
            sealer: Arc::new(sealer),
            coder: Arc::new(coder),
        }
    }

    /// Puts the object, inside its manifest or in stripes.
    async fn run(&self, mut chunks: Chunks<'_>) -> Result<Tally, PutError> {
        let first = chunks.next().await.map_err(PutError::Source)?.unwrap_or_default();
        if chunks.ended().await.map_err(PutError::Source)? {
            self.put_whole(first, chunks).await
        } else {
            self.put_stripes(first, chunks).await
        }
    }

    /// Where chunks end may only tell those something who may know what deduplicates.
    fn chunker(&self) -> Chunker {
        let gear_key = match self.order.scheme.mode {
            Mode::Sealed => Some(*self.key.gear_key()),
            Mode::Dedup => Some(*self.order.owner.gear_key()),
            Mode::Public => None,
        };
        Chunker::new(self.order.scheme.chunking, gear_key.map(GearKey::from_bytes).as_ref())
    }

    /// Puts an object of one chunk, or of none: inside its manifest if it packs to little, else as one stripe.
    async fn put_whole(&self, chunk: Bytes, chunks: Chunks<'_>) -> Result<Tally, PutError> {
        let compression = self.order.scheme.compression;
        let plain = chunk.clone();
        let packed = self.transfer.world.compute.output(move || pack(&plain, compression)).await;
        if !fits_inline(self.order.scheme.mode, packed.len()) {
            return self.put_stripes(chunk, chunks).await;
        }
        let (size, digest) = chunks.total();
        let finished = self.manifest()?.finish_inline(packed, &self.details(size, digest))?;
        let tally = self.send_finished(finished, Tally { size, ..Tally::NOTHING }).await?;
        self.transfer.observe(Event::Advanced { bytes: size });
        Ok(tally)
    }

    /// Puts an object in stripes, the first chunk of which has been cut already.
    async fn put_stripes(&self, first: Bytes, mut chunks: Chunks<'_>) -> Result<Tally, PutError> {
        let mut manifest = self.manifest()?;
        let first = self.with_share(0, first).await;
        let rest = stream::try_unfold((&mut chunks, 1), |(chunks, index)| async move {
            let Some(chunk) = chunks.next().await.map_err(PutError::Source)? else {
                return Ok(None);
            };
            Ok(Some((self.with_share(index, chunk).await, (chunks, index + 1))))
        });
        let tally = {
            let cuts = stream::iter([Ok(first)]).chain(rest);
            let in_flight = self.transfer.settings.stripes_in_flight;
            let stripes = cuts.map_ok(|cut| self.put_chunk(cut)).try_buffered(in_flight);
            self.collect(pin!(stripes), &mut manifest).await?
        };
        let (size, digest) = chunks.total();
        let finished = manifest.finish(&self.details(size, digest))?;
        self.send_finished(finished, Tally { size, ..tally }).await
    }

    /// Lists the stripes in the manifest, and sends its blocks as they fill up. Stripes and blocks are polled together at all
    /// times: they share the network's memory, so that those which wait must never keep the others from giving some back.
    async fn collect(
        &self,
        mut stripes: impl Stream<Item = Result<(Stripe, ChunkEntry, Stored), PutError>> + Unpin,
        manifest: &mut ManifestWriter,
    ) -> Result<Tally, PutError> {
        let mut tally = Tally::NOTHING;
        let mut blocks = FuturesUnordered::new();
        loop {
            let next = {
                let sent =
                    pin!(async { if let Some(sent) = blocks.next().await { sent } else { pending().await } });
                match select(stripes.next(), sent).await {
                    Either::Left((stripe, _)) => Either::Left(stripe),
                    Either::Right((sent, _)) => Either::Right(sent),
                }
            };
            match next {
                Either::Left(Some(stripe)) => {
                    let (stripe, entry, stored) = stripe?;
                    tally = Tally { stripe_count: tally.stripe_count + 1, ..tally.add(stored) };
                    blocks.extend(
                        manifest.push(stripe, entry)?.into_iter().map(|block| self.send_block(block)),
                    );
                }
                Either::Left(None) => break,
                Either::Right(sent) => tally = tally.add(sent?),
            }
        }
        while let Some(sent) = blocks.next().await {
            tally = tally.add(sent?);
        }
        Ok(tally)
    }

    /// Waits until there is memory for a chunk, its sealed form and its shards.
    async fn with_share(&self, index: u64, chunk: Bytes) -> Cut {
        let redundancy = self.order.scheme.redundancy;
        let striped_size = chunk.len() * redundancy.shard_count() / redundancy.data_count();
        let share = self.transfer.memory(chunk.len() + striped_size).await;
        Cut { index, chunk, share }
    }

    /// Compresses, seals, stripes and sends one chunk.
    async fn put_chunk(&self, cut: Cut) -> Result<(Stripe, ChunkEntry, Stored), PutError> {
        let Cut { index, chunk, share } = cut;
        let size = u32::try_from(chunk.len()).expect("a chunk is small");
        let compression = self.order.scheme.compression;
        let (sealer, coder) = (Arc::clone(&self.sealer), Arc::clone(&self.coder));
        let encode = move || {
            let packed = pack(&chunk, compression);
            let SealedChunk { bytes, key } = sealer.seal(index, packed);
            (coder.encode(bytes), ChunkEntry { size, key })
        };
        let (encoded, entry) = self.transfer.world.compute.output(encode).await;
        let EncodedStripe { stripe, shards } = encoded;
        let stored = self.send_stripe(index, &stripe, shards).await?;
        drop(share);
        self.transfer.observe(Event::Advanced { bytes: u64::from(size) });
        Ok((stripe, entry, stored))
    }

    async fn send_stripe(&self, index: u64, stripe: &Stripe, shards: Vec<Bytes>) -> Result<Stored, PutError> {
        let lease = self.lease(Subject::Stripe(stripe.id()));
        let size = stored_size(&shards);
        let items = (0..=u8::MAX).zip(shards);
        let items = items.map(|(index, shard)| (StoredItem::Shard { index, stripe: stripe.clone() }, shard));
        let holders = self.transfer.stripe_holders(stripe);
        let redundancy = stripe.redundancy;
        let needed = redundancy.acknowledged_count_min();
        let items = items.collect();
        let placement = self.transfer.spread(items, &lease, holders, &BTreeSet::new(), needed).await;
        let wholeness = wholeness(&placement, self.transfer.topology(), redundancy);
        if wholeness == Wholeness::NotEnough {
            return Err(self.not_enough(format!("stripe {index}"), &placement, needed));
        }
        Ok(Stored { size, wholeness })
    }

    async fn send_block(&self, block: Block) -> Result<Stored, PutError> {
        let redundancy = self.order.scheme.redundancy;
        let lease = self.lease(Subject::Block(block.id));
        let replicas = vec![block.bytes; redundancy.manifest_replica_count()];
        let size = stored_size(&replicas);
        let items = replicas.into_iter().map(|bytes| (StoredItem::Block(block.id), bytes));
        let holders = self.transfer.block_holders(&block.id, redundancy);
        let needed = redundancy.manifest_replica_count_min();
        let items = items.collect();
        let placement = self.transfer.spread(items, &lease, holders, &BTreeSet::new(), needed).await;
        let placed = placement.healthy_count();
        if placed < needed {
            return Err(self.not_enough(format!("manifest block {}", block.id), &placement, needed));
        }
        let replicated =
            Redundancy::new(1, redundancy.parity_count()).expect("m + 1 replicas are within bounds");
        let whole = wholeness(&placement, self.transfer.topology(), replicated) == Wholeness::Whole;
        Ok(Stored { size, wholeness: if whole { Wholeness::Whole } else { Wholeness::Degraded } })
    }

    /// Sends the last blocks, and the root when all else is there.
    async fn send_finished(&self, finished: Finished, tally: Tally) -> Result<Tally, PutError> {
        let object = finished.object();
        let mut tally = Tally { object: Some(object), ..tally };
        for block in finished.blocks.into_iter().chain([finished.root]) {
            tally = tally.add(self.send_block(block).await?);
        }
        Ok(tally)
    }

    fn not_enough(&self, what: String, placement: &Placement, needed: usize) -> PutError {
        let placed = placement.healthy_count();
        PutError::NotEnoughNodes { what, placed, needed, failures: self.transfer.failures() }
    }

    fn lease(&self, subject: Subject) -> Signed<Lease> {
        let PutOrder { owner, until, .. } = self.order;
        let lease = Lease { owner: owner.owner(), tag: self.tag, subject, until: *until };
        Signed::sign(lease, owner.signing_key())
    }

    fn manifest(&self) -> Result<ManifestWriter, PutError> {
        let PutOrder { scheme, owner, recipients, .. } = self.order;
        let own = (scheme.mode != Mode::Public).then(|| owner.recipient().clone());
        let readers: Vec<Recipient> = own.into_iter().chain(recipients.iter().cloned()).collect();
        let entropy = &self.transfer.world.entropy;
        Ok(ManifestWriter::new(*scheme, &self.key, &readers, &mut |buffer| entropy.fill(buffer))?)
    }

    fn details(&self, size: u64, digest: [u8; ID_SIZE]) -> Details {
        Details {
            name: self.order.name.clone(),
            kind: self.order.kind,
            media_type: self.order.media_type.clone(),
            size,
            digest,
            metadata: self.order.metadata.clone(),
            tag: self.tag,
            created: self.created,
        }
    }

    fn report(&self, tally: Tally) -> Put {
        Put {
            object: tally.object.expect("a put that succeeded has sent its root"),
            size: tally.size,
            stored_size: tally.stored_size,
            stripe_count: tally.stripe_count,
            tag: self.tag,
            created: self.created,
            acknowledged: tally.acknowledged,
            failures: self.transfer.failures(),
        }
    }
}

fn stored_size(parts: &[Bytes]) -> u64 {
    parts.iter().map(|part| u64::try_from(part.len()).unwrap_or(u64::MAX)).sum()
}
