//! put = read, chunk, compress, seal, stripe, place, send, manifest.

mod send;
mod tally;

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use datamesh_codec::chunk::{Chunker, GearKey};
use datamesh_codec::compress::pack;
use datamesh_codec::keys::{Identity, Recipient};
use datamesh_codec::manifest::{Block, FinishError, ManifestWriter, NewManifestError, fits_inline};
use datamesh_codec::seal::{RecordSeal, SealedChunk, Sealer};
use datamesh_codec::stripe::{Coder, EncodedStripe};
use datamesh_core::id::{ID_SIZE, NodeId, ObjectId};
use datamesh_core::lease::{LeaseTag, Term};
use datamesh_core::manifest::{ChunkEntry, Details, Kind, ManifestError, Stripe};
use datamesh_core::scheme::{Mode, Scheme};
use datamesh_core::time::{Epoch, Timestamp};
use futures::FutureExt;
use futures::future::{BoxFuture, Either, pending, select};
use futures::stream::{self, FuturesUnordered, Stream, StreamExt, TryStreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::tally::{Run, Stored, Tally};
use crate::journal::{Beginning, JournalError, StripeRecord, Unjournaled};
use crate::place::Wholeness;
use crate::progress::{Cause, Event, Observer, Unobserved};
use crate::release::release;
use crate::source::{Chunk, Chunks};
use crate::traffic::Share;
use crate::transfer::{Failure, Transfer, TransferSettings};
use crate::world::{Journal, Source, World};

/// Of the window of stripes, the part that is acknowledged before a record of it is made durable: one in so many.
const COMMIT_SHARE: usize = 4;

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
    pub term: Term,
}

/// What was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Its id.
    pub object: ObjectId,
    /// Bytes of plaintext.
    pub size: u64,
    /// How it is encoded: as its first run was told.
    pub scheme: Scheme,
    /// Bytes that its chunks take once they are packed and sealed.
    pub packed_size: u64,
    /// Bytes stored for it, all shards and replicas together.
    pub stored_size: u64,
    /// Of these, what nodes had already, so that only a lease was sent.
    pub reused_size: u64,
    /// Bytes of shards and replicas that this run sent.
    pub sent_size: u64,
    /// Stripes; none where it travels inside its manifest.
    pub stripe_count: u64,
    /// Of these, those of which no shard had to be sent.
    pub reused_count: u64,
    /// Of these, those that an earlier run had put.
    pub resumed_count: u64,
    /// The tag of its leases.
    pub tag: LeaseTag,
    /// When it was put.
    pub created: Timestamp,
    /// The first epoch in which it need not be kept any more.
    pub until: Epoch,
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
    /// The source is not what an earlier run has begun to put.
    #[error("source has changed since the put was begun")]
    Changed,
    /// The journal can't be read or written, or is none of this put.
    #[error(transparent)]
    Journal(#[from] JournalError),
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

impl PutError {
    /// Whether the same put may go on where it stopped, once what was wrong is mended.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Source(_) | Self::Journal(JournalError::Disk(_)) => true,
            // What a full mesh holds of half an object is better given back.
            Self::NotEnoughNodes { failures, .. } => !failures.values().any(Failure::is_for_space),
            _ => false,
        }
    }

    fn event(&self, settings: &TransferSettings) -> Event {
        let (cause, retry_after) = match self {
            Self::Source(_) | Self::Journal(_) => (Cause::Machine, None),
            // By then, nodes that failed are asked again.
            Self::NotEnoughNodes { .. } => (Cause::Nodes, self.may_pass().then_some(settings.avoid_for)),
            _ => (Cause::Order, None),
        };
        Event::broken(cause, self, retry_after)
    }
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
    let done = async {
        let observer = Arc::clone(&observer);
        let putting = Putting::start(world, settings, observer, order, &Unjournaled).await?;
        let _slot = putting.transfer.slot().await;
        // Boxed, since all stages of a put together make a large future.
        match Box::pin(putting.run(Chunks::new(&putting.transfer, source, putting.chunker()))).await {
            Ok(tally) => Ok(putting.report(tally)),
            Err(error) => {
                // What was stored would be kept for nobody. A node that can't be told now keeps it until its lease ends.
                let tag = putting.beginning.tag;
                release(world, settings, Arc::new(Unobserved), &order.owner, tag).await;
                Err(error)
            }
        }
    };
    tell_end(done.await, &*observer, &settings)
}

/// Puts an object as [`put`] does, and notes in a journal what was acknowledged. A journal that an earlier run of the same
/// order and source has written makes this run go on from there: of what that run sent, no more is sent again than one
/// window, [`TransferSettings::stripes_in_flight`] stripes. The scheme is the one that the first run was told.
///
/// # Errors
/// [`PutError`] when it can't be acknowledged. Nothing is released: the journal's first record tells what is to be, see
/// [`Begun`](crate::journal::Begun), unless the same put is to be run again.
///
/// # Cancel safety
/// When dropped, nothing is acknowledged, and the journal has all but the last window of what was stored.
pub async fn put_with_journal(
    world: &World,
    settings: TransferSettings,
    observer: Arc<dyn Observer>,
    source: &mut dyn Source,
    order: &PutOrder,
    journal: &dyn Journal,
) -> Result<Put, PutError> {
    let done = async {
        let putting = Putting::start(world, settings, Arc::clone(&observer), order, journal).await?;
        let _slot = putting.transfer.slot().await;
        let tally = Box::pin(putting.run(Chunks::new(&putting.transfer, source, putting.chunker()))).await?;
        Ok(putting.report(tally))
    };
    tell_end(done.await, &*observer, &settings)
}

fn tell_end(
    done: Result<Put, PutError>,
    observer: &dyn Observer,
    settings: &TransferSettings,
) -> Result<Put, PutError> {
    observer.observe(match &done {
        Ok(Put { object, size, .. }) => Event::Completed { object: *object, bytes: *size },
        Err(error) => error.event(settings),
    });
    done
}

/// One put under way.
struct Putting<'a> {
    transfer: Transfer,
    order: &'a PutOrder,
    journal: &'a dyn Journal,
    beginning: Beginning,
    run: Run,
    sealer: Arc<Sealer>,
    coder: Arc<Coder>,
    record_seal: RecordSeal,
    /// The window: a slot for each stripe that is under way, or acknowledged and not yet durably noted.
    slots: Arc<Semaphore>,
}

/// The right to have one more stripe under way, given back when dropped.
type Slot = Arc<OwnedSemaphorePermit>;

/// The next stripe of the object.
enum Cut {
    /// A chunk that was cut, and its share of the memory.
    Fresh { index: u64, chunk: Chunk, share: Share, slot: Slot },
    /// An earlier run has put it.
    Noted { record: StripeRecord, slot: Slot },
}

/// A stripe that is stored.
struct Kept {
    stripe: Stripe,
    entry: ChunkEntry,
    stored: Stored,
    put_in: Run,
    /// What the journal is to say of it.
    record: Option<Bytes>,
    slot: Slot,
}

/// What was going on beside the stripes, and is done.
enum Done {
    Block(Stored),
    Committed,
}

impl<'a> Putting<'a> {
    /// Reads in the journal whether the put was begun before.
    async fn start(
        world: &World,
        settings: TransferSettings,
        observer: Arc<dyn Observer>,
        order: &'a PutOrder,
        journal: &'a dyn Journal,
    ) -> Result<Self, PutError> {
        if let Some(bytes) = order.expected_size {
            observer.observe(Event::Expected { bytes });
        }
        let transfer = Transfer::start(world.clone(), settings, observer).await;
        let (entropy, owner) = (&*world.entropy, &order.owner);
        let (beginning, run) = match journal.next().await.map_err(JournalError::Disk)? {
            None => (Beginning::draw(entropy, order.scheme, world.clock.now()), Run::First),
            Some(head) => (Beginning::open(&head, owner)?, Run::Resumed),
        };
        let Beginning { scheme, key, .. } = &beginning;
        let secret = owner.dedup_secret();
        let sealer = match run {
            Run::First => Sealer::new(scheme, key, secret),
            Run::Resumed => Sealer::resumed(scheme, key, secret, &mut |buffer| entropy.fill(buffer)),
        };
        Ok(Self {
            sealer: Arc::new(sealer),
            coder: Arc::new(Coder::new(scheme.redundancy)),
            record_seal: RecordSeal::new(key),
            slots: Arc::new(Semaphore::new(settings.stripes_in_flight.max(1))),
            transfer,
            order,
            journal,
            beginning,
            run,
        })
    }

    /// Puts the object, inside its manifest or in stripes.
    async fn run(&self, mut chunks: Chunks<'_>) -> Result<Tally, PutError> {
        let first = chunks.next().await.map_err(PutError::Source)?.unwrap_or_else(Chunk::empty);
        if chunks.ended().await.map_err(PutError::Source)? {
            self.put_whole(first, chunks).await
        } else {
            self.put_stripes(first, chunks).await
        }
    }

    /// Notes what the put is, before anything is stored for it.
    async fn begin(&self, inline: Option<[u8; ID_SIZE]>) -> Result<(), PutError> {
        match self.run {
            Run::First => {
                let beginning = self.beginning.with_inline(inline);
                let head = beginning.to_record(&self.order.owner, &*self.transfer.world.entropy);
                Ok(self.journal.commit(vec![head]).await.map_err(JournalError::Disk)?)
            }
            Run::Resumed if self.beginning.inline == inline => Ok(()),
            Run::Resumed => Err(PutError::Changed),
        }
    }

    /// Where chunks end may only tell those something who may know what deduplicates.
    fn chunker(&self) -> Chunker {
        let gear_key = match self.scheme().mode {
            Mode::Sealed => Some(*self.beginning.key.gear_key()),
            Mode::Dedup => Some(*self.order.owner.gear_key()),
            Mode::Public => None,
        };
        Chunker::new(self.scheme().chunking, gear_key.map(GearKey::from_bytes).as_ref())
    }

    /// Puts an object of one chunk, or of none: inside its manifest if it packs to little, else as one stripe.
    async fn put_whole(&self, chunk: Chunk, chunks: Chunks<'_>) -> Result<Tally, PutError> {
        let Scheme { compression, mode, .. } = *self.scheme();
        let plain = chunk.bytes.clone();
        let packed = self.transfer.world.compute.output(move || pack(&plain, compression)).await;
        if !fits_inline(mode, packed.len()) {
            return self.put_stripes(chunk, chunks).await;
        }
        self.begin(Some(*blake3::hash(&packed).as_bytes())).await?;
        let (size, digest) = chunks.total();
        let packed_size = u64::try_from(packed.len()).expect("it is small");
        let finished = self.manifest()?.finish_inline(packed, &self.details(size, digest))?;
        let tally = self.send_finished(finished, Tally { size, packed_size, ..Tally::NOTHING }).await?;
        self.transfer.observe(Event::Advanced { bytes: size });
        Ok(tally)
    }

    /// Puts an object in stripes, the first chunk of which has been cut already.
    async fn put_stripes(&self, first: Chunk, mut chunks: Chunks<'_>) -> Result<Tally, PutError> {
        self.begin(None).await?;
        let mut manifest = self.manifest()?;
        let tally = {
            let cuts = stream::try_unfold((Some(first), &mut chunks, 0, self.run), |cutting| async move {
                let (first, chunks, index, run) = cutting;
                let chunk = match first {
                    Some(first) => Some(first),
                    None => chunks.next().await.map_err(PutError::Source)?,
                };
                let Some((cut, run)) = self.cut(chunk, index, run).await? else { return Ok(None) };
                Ok(Some((cut, (None, chunks, index + 1, run))))
            });
            let in_flight = self.transfer.settings.stripes_in_flight.max(1);
            // Boxed, since the compiler can't tell otherwise that whoever puts may be a task of its own.
            let stripes = cuts.map_ok(|cut| self.put_cut(cut)).try_buffered(in_flight).boxed();
            self.collect(stripes, &mut manifest).await?
        };
        let (size, digest) = chunks.total();
        let finished = manifest.finish(&self.details(size, digest))?;
        self.send_finished(finished, Tally { size, ..tally }).await
    }

    /// What is to be done with the next chunk, once there is a slot for it; and whether more of the journal may follow.
    async fn cut(&self, chunk: Option<Chunk>, index: u64, run: Run) -> Result<Option<(Cut, Run)>, PutError> {
        let record = match run {
            Run::First => None,
            Run::Resumed => self.journal.next().await.map_err(JournalError::Disk)?,
        };
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("nobody closes the semaphore");
        let slot = Arc::new(slot);
        match (chunk, record) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(PutError::Changed),
            (Some(mut chunk), None) => {
                let share = self.share(&chunk).await;
                chunk.intake = None;
                Ok(Some((Cut::Fresh { index, chunk, share, slot }, Run::First)))
            }
            (Some(chunk), Some(record)) => {
                let record = StripeRecord::open(&record, &self.record_seal, index)?;
                let noted = record.is_of(&chunk).then_some((Cut::Noted { record, slot }, run));
                noted.map(Some).ok_or(PutError::Changed)
            }
        }
    }

    /// Lists the stripes in the manifest, sends its blocks as they fill up, and notes the stripes in the journal. All of
    /// that is polled together at all times: it shares the network's memory, so that those which wait must never keep the
    /// others from giving some back. A stripe's slot is free once it is noted and the blocks that it fills are sent.
    async fn collect(
        &self,
        mut stripes: impl Stream<Item = Result<Kept, PutError>> + Unpin,
        manifest: &mut ManifestWriter,
    ) -> Result<Tally, PutError> {
        let enough = (self.transfer.settings.stripes_in_flight / COMMIT_SHARE).max(1);
        let mut tally = Tally::NOTHING;
        let mut beside: FuturesUnordered<BoxFuture<'_, Result<Done, PutError>>> = FuturesUnordered::new();
        let (mut uncommitted, mut committing, mut ended) = (Vec::new(), false, false);
        loop {
            if !committing && (uncommitted.len() >= enough || (ended && !uncommitted.is_empty())) {
                committing = true;
                beside.push(self.commit(std::mem::take(&mut uncommitted)).boxed());
            }
            let next = {
                let stripe = pin!(async { if ended { pending().await } else { stripes.next().await } });
                let done = pin!(async {
                    match beside.next().await {
                        None if !ended => pending().await,
                        done => done,
                    }
                });
                match select(stripe, done).await {
                    Either::Left((stripe, _)) => Either::Left(stripe),
                    Either::Right((done, _)) => Either::Right(done),
                }
            };
            match next {
                Either::Left(None) => ended = true,
                Either::Left(Some(kept)) => {
                    let kept = kept?;
                    tally = tally.add_stripe(&kept);
                    let Kept { stripe, entry, record, slot, .. } = kept;
                    for block in manifest.push(stripe, entry)? {
                        beside.push(self.send_block_in(block, Arc::clone(&slot)).boxed());
                    }
                    uncommitted.extend(record.map(|record| (record, slot)));
                }
                Either::Right(None) => return Ok(tally),
                Either::Right(Some(done)) => match done? {
                    Done::Block(stored) => tally = tally.add(stored, Run::First),
                    Done::Committed => committing = false,
                },
            }
        }
    }

    async fn commit(&self, noted: Vec<(Bytes, Slot)>) -> Result<Done, PutError> {
        let (records, slots): (Vec<Bytes>, Vec<Slot>) = noted.into_iter().unzip();
        self.journal.commit(records).await.map_err(JournalError::Disk)?;
        drop(slots);
        Ok(Done::Committed)
    }

    async fn send_block_in(&self, block: Block, slot: Slot) -> Result<Done, PutError> {
        let stored = self.send_block(block).await?;
        drop(slot);
        Ok(Done::Block(stored))
    }

    /// Waits until there is memory for a chunk, its sealed form and its shards.
    async fn share(&self, chunk: &Chunk) -> Share {
        let redundancy = self.scheme().redundancy;
        let size = chunk.bytes.len();
        let striped_size = size * redundancy.shard_count() / redundancy.data_count();
        self.transfer.memory(size + striped_size).await
    }

    async fn put_cut(&self, cut: Cut) -> Result<Kept, PutError> {
        match cut {
            Cut::Fresh { index, chunk, share, slot } => self.put_chunk(index, chunk, share, slot).await,
            Cut::Noted { record, slot } => {
                self.transfer.observe(Event::Resumed { bytes: u64::from(record.chunk.size) });
                let StripeRecord { stripe, chunk, stored_size, reused_size, wholeness, .. } = record;
                let stored = Stored { size: stored_size, reused_size, sent_size: 0, wholeness };
                Ok(Kept { stripe, entry: chunk, stored, put_in: Run::Resumed, record: None, slot })
            }
        }
    }

    /// Compresses, seals, stripes and sends one chunk.
    async fn put_chunk(&self, index: u64, chunk: Chunk, share: Share, slot: Slot) -> Result<Kept, PutError> {
        let Chunk { bytes: chunk, digest_to_here, .. } = chunk;
        let size = u32::try_from(chunk.len()).expect("a chunk is small");
        let compression = self.scheme().compression;
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
        let record = StripeRecord {
            stripe: stripe.clone(),
            chunk: entry.clone(),
            digest_to_here,
            stored_size: stored.size,
            reused_size: stored.reused_size,
            wholeness: stored.wholeness,
        };
        let record = Some(record.seal(&self.record_seal, index));
        Ok(Kept { stripe, entry, stored, put_in: Run::First, record, slot })
    }

    fn manifest(&self) -> Result<ManifestWriter, PutError> {
        let PutOrder { owner, recipients, .. } = self.order;
        let scheme = self.scheme();
        let own = (scheme.mode != Mode::Public).then(|| owner.recipient().clone());
        let readers: Vec<Recipient> = own.into_iter().chain(recipients.iter().cloned()).collect();
        let mut entropy = self.beginning.grant_entropy();
        Ok(ManifestWriter::new(*scheme, &self.beginning.key, &readers, &mut entropy)?)
    }

    /// When its leases end: the same in each run.
    fn until(&self) -> Epoch {
        self.order.term.end(self.beginning.created)
    }

    const fn scheme(&self) -> &Scheme {
        &self.beginning.scheme
    }

    fn details(&self, size: u64, digest: [u8; ID_SIZE]) -> Details {
        Details {
            name: self.order.name.clone(),
            kind: self.order.kind,
            media_type: self.order.media_type.clone(),
            size,
            digest,
            metadata: self.order.metadata.clone(),
            tag: self.beginning.tag,
            created: self.beginning.created,
        }
    }

    fn report(&self, tally: Tally) -> Put {
        Put {
            object: tally.object.expect("a put that succeeded has sent its root"),
            size: tally.size,
            scheme: self.beginning.scheme,
            packed_size: tally.packed_size,
            stored_size: tally.stored_size,
            reused_size: tally.reused_size,
            sent_size: tally.sent_size,
            stripe_count: tally.stripe_count,
            reused_count: tally.reused_count,
            resumed_count: tally.resumed_count,
            tag: self.beginning.tag,
            created: self.beginning.created,
            until: self.until(),
            acknowledged: tally.acknowledged,
            failures: self.transfer.failures(),
        }
    }
}
