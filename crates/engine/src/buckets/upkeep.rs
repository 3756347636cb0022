//! What goes on beside requests: changes are written to the log, logs of others are read, what is not needed any more is released.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use datamesh_core::bucket::{Change, ChapterId, Stamp, WriterId};
use datamesh_core::encode::encode;
use datamesh_core::id::{BlockId, NodeId};
use datamesh_core::lease::LeaseTag;
use datamesh_core::limits::{CHAPTER_BLOCKS_MAX, LOG_BLOCK_SIZE_MAX};
use datamesh_core::scheme::Redundancy;
use datamesh_core::time::Timestamp;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use futures::stream::{self, FuturesUnordered, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::buckets::follow::{Follower, Heard, REGISTER, Read};
use crate::buckets::log::{Appender, LogEnd, acknowledged_by};
use crate::buckets::rows;
use crate::buckets::view::{View, parse};
use crate::buckets::{Buckets, BucketsOrder, ChangeError, ContentSubject, PROPOSALS_MAX, Proposal};
use crate::progress::Unobserved;
use crate::release::release;
use crate::world::{Map, MapError};

/// How often nodes are asked for what others have written, in a small mesh.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// How much less often for each node, so that a large mesh is asked no more often than a small one.
const POLL_EVERY_PER_NODE: Duration = Duration::from_millis(10);
/// Chapters of each writer that are asked for beyond those that are known to be whole.
const CHAPTERS_AHEAD: u32 = 4;
/// How long opening waits for nodes that keep blocks that nobody else may have.
const OPEN_PATIENCE: Duration = Duration::from_secs(30);
/// Nodes that may be silent when buckets are opened, however many replicas blocks have.
const SILENT_MAX: usize = 2;
/// Rows of one chapter, or of all writers.
const ROWS_MAX: usize = 65_536;
/// Bytes of a log block beside its changes.
const BLOCK_REST_SIZE: usize = 256;
/// How often is looked for what is to be released, how much of it at a time, and how much of that at once.
const TIDY_EVERY: Duration = Duration::from_secs(5);
const RELEASES_PER_ROUND: usize = 1024;
const RELEASES_IN_FLIGHT: usize = 8;

/// Why buckets can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The index can't be read or written.
    #[error(transparent)]
    Index(#[from] MapError),
    /// Nodes that may keep what nobody else keeps don't answer.
    #[error("{} nodes don't answer, which may keep parts of the bucket log that no other node keeps", silent.len())]
    Silent {
        /// Which.
        silent: BTreeSet<NodeId>,
    },
    /// Blocks of the log can't be read.
    #[error("{0} blocks of the bucket log can't be read")]
    Unreadable(usize),
    /// The mesh holds no scheme.
    #[error("{0}")]
    Scheme(String),
}

/// What a writer's row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct WriterRow {
    /// The first chapter that need be read.
    first: u32,
    /// The first chapter that is not known to be whole.
    next: u32,
}

/// What the own row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct OwnRow {
    writer: WriterId,
    /// The latest stamp that is known of any change.
    last: Stamp,
    registered: bool,
}

/// Has to run as long as the buckets are used: without it nothing is changed, and nothing of others becomes known.
pub struct Upkeep {
    order: BucketsOrder,
    proposals: mpsc::Receiver<Proposal>,
    appender: Appender,
    own: OwnRow,
    /// `None` while a poll is under way, which has it.
    follower: Option<Follower>,
    /// A proposal that found no room in the block before.
    waiting: Option<Proposal>,
}

/// What goes on beside changes.
enum Done {
    Polled(Result<Box<Polled>, MapError>),
    Tidied(Result<(), MapError>),
}

/// A round of reading others' logs.
struct Polled {
    follower: Follower,
    heard: Heard,
    read: Vec<Read>,
    missing: usize,
}

impl Buckets {
    /// Opens the buckets of an owner: reads what the index does not have yet from the logs that the mesh keeps.
    ///
    /// # Errors
    /// [`OpenError`] when the index can't be used, or so many nodes don't answer that parts of the log may be unknown.
    ///
    /// # Cancel safety
    /// What was read until then is in the index.
    pub async fn open(order: BucketsOrder) -> Result<(Self, Upkeep), OpenError> {
        let own = own_row(&order)?;
        let key = order.owner.log_key();
        let mut follower =
            Follower::new(order.world.clone(), order.transfer, order.owner.owner(), key.clone());
        follower = catch_up(&order, follower).await?;
        let last = View::of(&*order.map).own()?.map_or(own.last, |row| row.last);
        let own = OwnRow { last, ..own };
        let end = log_end(&*order.map, own.writer)?;
        let (sender, proposals) = mpsc::channel(PROPOSALS_MAX);
        let appender = Appender {
            world: order.world.clone(),
            transfer: order.transfer,
            owner: Arc::clone(&order.owner),
            key,
            end,
        };
        let buckets = Self { order: order.clone(), writer: own.writer, proposals: sender };
        Ok((buckets, Upkeep { order, proposals, appender, own, follower: Some(follower), waiting: None }))
    }
}

/// Who writes here: drawn where the index is new.
fn own_row(order: &BucketsOrder) -> Result<OwnRow, MapError> {
    if let Some(own) = View::of(&*order.map).own()? {
        return Ok(own);
    }
    let mut bytes = [0; 16];
    order.world.entropy.fill(&mut bytes);
    let own = OwnRow { writer: WriterId::from_bytes(bytes), last: Stamp::FIRST, registered: false };
    order.map.write(vec![(rows::own(), Some(encode(&own)))])?;
    order.map.sync()?;
    Ok(own)
}

/// Reads all that the mesh keeps of the logs.
async fn catch_up(order: &BucketsOrder, mut follower: Follower) -> Result<Follower, OpenError> {
    let redundancy = redundancy(order).map_err(OpenError::Scheme)?;
    // With one less silent than have each block, each is at some node that answers. What was written while the mesh was smaller has
    // fewer replicas than a block has now.
    let silent_max = acknowledged_by(redundancy).saturating_sub(1).min(SILENT_MAX);
    let deadline = order.world.clock.elapsed() + OPEN_PATIENCE;
    loop {
        let chapters = asked_chapters(&*order.map)?;
        let Polled { follower: back, heard, read, missing } = poll(order, follower, chapters.clone()).await?;
        follower = back;
        let (silent, news) = (heard.silent, !read.is_empty());
        take_in(order, &read)?;
        let enough = silent.len() <= silent_max;
        if enough && missing == 0 && !news && asked_chapters(&*order.map)? == chapters {
            order.map.sync()?;
            return Ok(follower);
        }
        if news {
            continue;
        }
        if order.world.clock.elapsed() > deadline {
            return Err(if enough { OpenError::Unreadable(missing) } else { OpenError::Silent { silent } });
        }
        follower.forget();
        order.world.clock.sleep(POLL_EVERY).await;
    }
}

/// The redundancy of log blocks: as safe as the smallest content.
fn redundancy(order: &BucketsOrder) -> Result<Redundancy, String> {
    let topology = order.world.peers.topology();
    Ok(order.schemes.scheme(&ContentSubject::default(), &topology)?.redundancy)
}

/// The chapters that may have blocks which are not known.
fn asked_chapters(map: &dyn Map) -> Result<Vec<ChapterId>, MapError> {
    let mut chapters = vec![REGISTER];
    let prefix = rows::writers();
    for (row, value) in map.rows(&prefix, &rows::behind(&prefix), ROWS_MAX)? {
        let id = row.last_chunk().map(|bytes| WriterId::from_bytes(*bytes));
        let writer = id.ok_or_else(|| MapError("a row has no writer".to_owned()))?;
        let WriterRow { next, .. } = parse(&value)?;
        chapters
            .extend((next..next.saturating_add(CHAPTERS_AHEAD)).map(|number| ChapterId { writer, number }));
    }
    Ok(chapters)
}

/// Asks all nodes for blocks of these chapters, and reads those that are new.
async fn poll(
    order: &BucketsOrder,
    mut follower: Follower,
    chapters: Vec<ChapterId>,
) -> Result<Polled, MapError> {
    let heard = follower.ask(&chapters).await;
    let mut unknown = Vec::new();
    for (chapter, block) in &heard.blocks {
        if order.map.get(&rows::block(chapter, block))?.is_none() {
            unknown.push((*chapter, *block));
        }
    }
    let (read, missing) = follower.read(unknown).await;
    if missing > 0 {
        follower.forget();
    }
    Ok(Polled { follower, heard, read, missing })
}

/// Lays what was read into the index. Says which stamp is the latest.
fn take_in(order: &BucketsOrder, read: &[Read]) -> Result<Stamp, MapError> {
    let now = order.world.clock.now();
    let mut latest = Stamp::FIRST;
    for Read { chapter, id, block } in read {
        let mut view = View::of(&*order.map);
        if *chapter != REGISTER && block.chapter != *chapter {
            tracing::error!(block = %id, "a log block is kept under the tag of another chapter: it is not counted");
            continue;
        }
        for change in &block.changes {
            latest = latest.max(change.stamp);
            view.apply(change, now)?;
        }
        view.note_block(*chapter, *id, block.sequence, block.chapter.writer, block.first_chapter)?;
        if let Some(own) = view.own()?.filter(|own| own.last < latest) {
            view.set(rows::own(), &OwnRow { last: latest, ..own });
        }
        order.map.write(view.into_changes())?;
    }
    Ok(latest)
}

/// Where a writer goes on: behind all of its blocks that are known.
fn log_end(map: &dyn Map, writer: WriterId) -> Result<LogEnd, MapError> {
    let row = map.get(&rows::writer(&writer))?.map(|row| parse::<WriterRow>(&row)).transpose()?;
    let WriterRow { first, next } = row.unwrap_or_default();
    let last = (next..next.saturating_add(CHAPTERS_AHEAD)).rev();
    for number in last {
        let count = sequences(map, ChapterId { writer, number })?.last().map_or(0, |last| last + 1);
        if count > 0 {
            return Ok(LogEnd::behind(writer, number, count, first));
        }
    }
    Ok(LogEnd::behind(writer, next, 0, first))
}

/// The places in a chapter of which blocks are known.
fn sequences(map: &dyn Map, chapter: ChapterId) -> Result<BTreeSet<u32>, MapError> {
    let prefix = rows::blocks(&chapter);
    let rows = map.rows(&prefix, &rows::behind(&prefix), ROWS_MAX)?;
    rows.iter().map(|(_, sequence)| parse(sequence)).collect()
}

/// Has tags released in a while.
pub(super) fn give_back(map: &dyn Map, tags: &[LeaseTag], now: Timestamp) -> Result<(), MapError> {
    let mut view = View::of(map);
    tags.iter().for_each(|tag| view.release(*tag, now));
    map.write(view.into_changes())
}

impl View<'_> {
    fn own(&self) -> Result<Option<OwnRow>, MapError> {
        self.get(&rows::own())
    }

    /// Notes that a block is known, and how far its writer's log is known to be whole.
    fn note_block(
        &mut self,
        chapter: ChapterId,
        block: BlockId,
        sequence: u32,
        writer: WriterId,
        first_chapter: u32,
    ) -> Result<(), MapError> {
        self.set(rows::block(&chapter, &block), &sequence);
        let row = rows::writer(&writer);
        let mut known: WriterRow = self.get(&row)?.unwrap_or_default();
        known.first = known.first.max(first_chapter);
        known.next = known.next.max(known.first);
        while self.is_whole(ChapterId { writer, number: known.next })? {
            known.next += 1;
        }
        self.set(row, &known);
        Ok(())
    }

    fn is_whole(&self, chapter: ChapterId) -> Result<bool, MapError> {
        let prefix = rows::blocks(&chapter);
        let known = self.rows(&prefix, &rows::behind(&prefix), ROWS_MAX)?;
        if known.len() < usize::try_from(CHAPTER_BLOCKS_MAX).unwrap_or(usize::MAX) {
            return Ok(false);
        }
        let sequences: Result<BTreeSet<u32>, MapError> =
            known.iter().map(|(_, sequence)| parse(sequence)).collect();
        Ok((0..CHAPTER_BLOCKS_MAX).eq(sequences?))
    }
}

/// Lets go of what nobody needs any more, and releases what is due.
async fn tidy(order: &BucketsOrder) -> Result<(), MapError> {
    let BucketsOrder { world, transfer, owner, map, .. } = order;
    let now = world.clock.now();
    let mut view = View::of(&**map);
    view.sweep(now)?;
    let due = view.due(now, RELEASES_PER_ROUND)?;
    map.write(view.into_changes())?;
    let released = stream::iter(due).map(|(row, tag)| async move {
        let released = release(world, *transfer, Arc::new(Unobserved), owner, tag).await;
        // Those that were away are told by the others.
        (released.node_count > 0).then_some((row, None))
    });
    let done: Vec<_> = released.buffer_unordered(RELEASES_IN_FLIGHT).collect().await;
    map.write(done.into_iter().flatten().collect())
}

/// Changes that go into one block.
struct Batch {
    changes: Vec<Change>,
    size: usize,
    accepted: Vec<(oneshot::Sender<Result<Stamp, ChangeError>>, Stamp)>,
}

impl Upkeep {
    /// Runs until nobody uses the buckets any more.
    ///
    /// # Cancel safety
    /// When dropped, changes that are under way may or may not be made.
    pub async fn run(mut self) {
        let mut beside = FuturesUnordered::from_iter([self.next_poll(), self.next_tidying()]);
        loop {
            if let Some(proposal) = self.waiting.take() {
                self.commit(proposal).await;
                continue;
            }
            let next = match select(pin!(self.proposals.recv()), beside.next()).await {
                Either::Left((proposal, _)) => Either::Left(proposal),
                Either::Right((done, _)) => Either::Right(done),
            };
            match next {
                Either::Left(Some(proposal)) => self.commit(proposal).await,
                Either::Left(None) => break,
                Either::Right(done) => beside.push(self.done(done.expect("two are always under way"))),
            }
        }
        if let Err(error) = self.order.map.sync() {
            tracing::warn!(%error, "the index of buckets is not synced: what it lacks is read from the mesh again");
        }
    }

    /// Takes note of what is done, and begins the next round of it.
    fn done(&mut self, done: Done) -> BoxFuture<'static, Done> {
        match done {
            Done::Polled(polled) => {
                self.polled(polled);
                self.next_poll()
            }
            Done::Tidied(tidied) => {
                if let Err(error) = tidied {
                    tracing::error!(%error, "what is not needed any more is not released");
                }
                self.next_tidying()
            }
        }
    }

    fn next_poll(&mut self) -> BoxFuture<'static, Done> {
        let order = self.order.clone();
        let fresh = || {
            let key = self.appender.key.clone();
            Follower::new(order.world.clone(), order.transfer, order.owner.owner(), key)
        };
        let follower = self.follower.take().unwrap_or_else(fresh);
        async move {
            let node_count =
                u32::try_from(order.world.peers.topology().records().count()).unwrap_or(u32::MAX);
            let pause = POLL_EVERY.max(POLL_EVERY_PER_NODE.saturating_mul(node_count));
            order.world.clock.sleep(pause).await;
            let polled = match asked_chapters(&*order.map) {
                Ok(chapters) => poll(&order, follower, chapters).await,
                Err(error) => Err(error),
            };
            Done::Polled(polled.map(Box::new))
        }
        .boxed()
    }

    fn next_tidying(&self) -> BoxFuture<'static, Done> {
        let order = self.order.clone();
        async move {
            order.world.clock.sleep(TIDY_EVERY).await;
            Done::Tidied(tidy(&order).await)
        }
        .boxed()
    }

    /// Takes in what others have written.
    fn polled(&mut self, polled: Result<Box<Polled>, MapError>) {
        let taken = polled.and_then(|polled| {
            let Polled { follower, read, .. } = *polled;
            let latest = take_in(&self.order, &read)?;
            self.own.last = self.own.last.max(latest);
            self.follower = Some(follower);
            self.order.map.sync()
        });
        if let Err(error) = taken {
            tracing::error!(%error, "what other gateways have written is not known here");
        }
    }

    /// Writes a change, and those that wait behind it, as one block.
    async fn commit(&mut self, first: Proposal) {
        let map = Arc::clone(&self.order.map);
        let mut view = View::of(&*map);
        let mut batch = Batch { changes: Vec::new(), size: 0, accepted: Vec::new() };
        let mut next = Some(first);
        while let Some(proposal) = next.take() {
            if batch.size + BLOCK_REST_SIZE >= LOG_BLOCK_SIZE_MAX / 2 {
                self.waiting = Some(proposal);
                break;
            }
            self.consider(&mut view, &mut batch, proposal);
            next = self.proposals.try_recv().ok();
        }
        let written = self.write(view, batch.changes).await;
        for (reply, stamp) in batch.accepted {
            // Who does not wait any more need not be told.
            let _ = reply.send(written.clone().map(|()| stamp));
        }
    }

    /// Lays a change over the view if it can be made.
    fn consider(&mut self, view: &mut View<'_>, batch: &mut Batch, proposal: Proposal) {
        let Proposal { decide, reply } = proposal;
        let now = self.order.world.clock.now();
        let stamp = self.own.last.after(now, self.own.writer);
        let decided = decide(view, stamp).and_then(|changes| {
            let size = changes.iter().map(|change| encode(change).len()).sum();
            if size > LOG_BLOCK_SIZE_MAX / 2 { Err(ChangeError::TooLarge(size)) } else { Ok((changes, size)) }
        });
        match decided {
            Ok((changes, size)) => {
                for change in &changes {
                    if let Err(error) = view.apply(change, now) {
                        let _ = reply.send(Err(error.into()));
                        return;
                    }
                }
                self.own.last = stamp;
                batch.size += size;
                batch.changes.extend(changes);
                batch.accepted.push((reply, stamp));
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Has the mesh keep changes, then makes them in the index.
    async fn write(&mut self, mut view: View<'_>, changes: Vec<Change>) -> Result<(), ChangeError> {
        if changes.is_empty() {
            return Ok(());
        }
        let redundancy = redundancy(&self.order).map_err(ChangeError::Scheme)?;
        if !self.own.registered {
            self.appender.register(redundancy).await?;
            self.own.registered = true;
        }
        let appended = self.appender.append(changes, redundancy).await?;
        let (writer, first) = (self.own.writer, self.appender.end.first_chapter);
        view.note_block(appended.chapter, appended.id, appended.sequence, writer, first)?;
        view.set(rows::own(), &self.own);
        Ok(self.order.map.write(view.into_changes())?)
    }
}
