//! Append, sync, index, acknowledge: the crash-safe order.
//!
//! One thread writes. What has arrived while it was busy is one group: all of it is appended with one system call,
//! synced with one more, entered into the index and only then acknowledged. So the more arrives at once, the fewer syncs
//! an item costs. Where large items come several at a time, a group waits a moment for more of them: a sync costs as
//! much processor time as a shard. A lone item, or small ones, never wait for a timer.

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use datamesh_core::id::ItemId;
use datamesh_core::lease::{Lease, PutId, Release};
use datamesh_core::receipt::KeptItem;
use datamesh_core::sign::Signed;
use datamesh_core::time::Epoch;
use datamesh_core::wire::StoredItem;
use datamesh_engine::world::{Group, HandedOver, ItemsError};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::compact::{Collected, Compaction, Step};
use crate::disk::DiskFile;
use crate::index::rows::PutKey;
use crate::index::tables::{Changed, Tables};
use crate::index::{Commit, SegmentUsage, commit};
use crate::recover::reopen_index;
use crate::scrub::Doubt;
use crate::segment::{Draft, Place, SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::shared::{Fill, Shared, end_of};

pub(crate) use crate::write::plan::Plan;

/// Most bytes of items that one group aims at.
const GROUP_SIZE: usize = 16 << 20;
/// Most commands of one group.
const GROUP_COMMANDS_MAX: usize = 1024;

/// Free bytes from which on an index that is in memory is written to the disk again.
const INDEX_ROOM: u64 = 16 << 20;

/// How long a group of large items waits for more. At 10 ms a put into six nodes on two processors takes a sixth less processor
/// time than without; longer gains no more.
const COMPANY_WAIT: Duration = Duration::from_millis(10);
/// How often it looks meanwhile whether there are enough.
const COMPANY_LOOK: Duration = Duration::from_millis(2);
/// Commands that need no more company.
const COMPANY_ENOUGH: usize = 16;
/// The mean size from which on items are large.
const LARGE_ITEM_SIZE: usize = 64 << 10;

/// Where an answer goes: how many leases were ended, or whether an item is held (1) or not (0).
pub(crate) type Reply = oneshot::Sender<Outcome>;

/// What a command comes to.
pub(crate) type Outcome = Result<u64, ItemsError>;

/// What the writer may be asked.
pub(crate) enum Command {
    /// Keep an item. The permit is its share of the queue.
    Store {
        item: StoredItem,
        lease: Signed<Lease>,
        bytes: Bytes,
        permit: OwnedSemaphorePermit,
        reply: oneshot::Sender<Result<Group, ItemsError>>,
    },
    /// Keep a held item under one more lease.
    Lease { item: ItemId, lease: Signed<Lease>, reply: Reply },
    /// End the leases of a put.
    Release { release: Signed<Release>, reply: Reply },
    /// Look at an item again that a reader found rotten, and forget it if it is.
    Condemn { item: ItemId, doubt: Doubt },
    /// Forget parts that others hold.
    Discard { parts: Vec<HandedOver>, reply: Reply },
    /// End expired leases and give their space back.
    Collect { now: Epoch, reply: oneshot::Sender<Result<Collected, ItemsError>> },
    /// Write a release again that a reader found rotten, if it is.
    MendRelease { put: PutKey },
    /// Open the index again, and make it anew if it is damaged. Says whether it was (1) or not (0).
    Check { reply: Option<Reply> },
    /// Make a checkpoint and end.
    Close { reply: Reply },
}

impl Command {
    fn size(&self) -> usize {
        match self {
            Self::Store { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }

    /// What it keeps, and for which put.
    fn kept(&self) -> Option<(PutId, KeptItem)> {
        match self {
            Self::Store { item, lease, bytes, .. } => Some((lease.unverified().put(), item.kept(bytes)?)),
            _ => None,
        }
    }
}

/// Why a group was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupError {
    /// The index could not be read or changed. The segments may already have the group.
    #[error("index: {0}")]
    Index(#[from] redb::Error),
    /// The records could not be appended.
    #[error("write: {0}")]
    Write(io::Error),
    /// The records could not be synced.
    #[error("sync: {0}")]
    Sync(io::Error),
    /// There is no segment to append to.
    #[error("new segment: {0}")]
    Segment(io::Error),
    /// Something else could not be read.
    #[error("read: {0}")]
    Read(io::Error),
}

impl GroupError {
    fn answer(&self) -> ItemsError {
        let (Self::Write(error) | Self::Segment(error)) = self else {
            return ItemsError::Disk(self.to_string());
        };
        let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        if full { ItemsError::Full } else { ItemsError::Disk(self.to_string()) }
    }
}

/// The segment that is being appended to.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) segment: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Bytes of it that are synced.
    pub(crate) size: u64,
}

/// What recovery leaves for the writer to go on with.
#[derive(Debug)]
pub(crate) struct Resume {
    pub(crate) active: Option<Active>,
    /// The last segment before the active one, and how much of it was synced.
    pub(crate) sealed: Place,
    /// The greatest number that a segment had which is out of the way now.
    pub(crate) last_number: u64,
    pub(crate) segments: BTreeMap<u64, SegmentUsage>,
}

/// The one thread that writes.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) segments: BTreeMap<u64, SegmentUsage>,
    active: Option<Active>,
    sealed: Place,
    /// The greatest number that a segment had which is out of the way now.
    last_number: u64,
    /// The index lags behind the segments and refuses to be changed: it must be opened again.
    index_lags: bool,
    since_checkpoint: u64,
    compaction: Option<Compaction>,
    /// Whether the last group was of several large items, so that more of them are on their way.
    in_company: bool,
    /// Segments that can't be compacted: they hold what can't be read.
    pub(crate) stuck: BTreeSet<u64>,
}

/// What a turn of the writer leads to.
enum Turn {
    Go,
    End,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, resume: Resume) -> Self {
        let Resume { active, sealed, last_number, segments } = resume;
        Self {
            shared,
            segments,
            active,
            sealed,
            last_number,
            index_lags: false,
            since_checkpoint: 0,
            compaction: None,
            in_company: false,
            stuck: BTreeSet::new(),
        }
    }

    /// Works until the store is closed or dropped.
    pub(crate) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(group) = self.next_group(&mut commands) {
            // redb asserts more of its files than it checks. Whoever waits for an answer is told that there is none.
            match catch_unwind(AssertUnwindSafe(|| self.take_turn(group))) {
                Ok(Turn::End) => return,
                Ok(Turn::Go) => {}
                Err(_) => {
                    tracing::error!("index is damaged beyond what its reader expects");
                    self.index_lags = true;
                    self.compaction = None;
                }
            }
        }
        if let Err(error) = self.checkpoint() {
            tracing::warn!(%error, "no checkpoint at the end: the next start replays more");
        }
    }

    /// Takes what has arrived. Waits only where nothing else is to be done, and for company.
    fn next_group(&mut self, commands: &mut mpsc::Receiver<Command>) -> Option<Vec<Command>> {
        let mut group = Vec::new();
        let mut size = 0;
        if self.compaction.is_none() {
            let first = commands.blocking_recv()?;
            size += first.size();
            group.push(first);
            if self.in_company {
                wait_for_company(commands);
            }
        }
        while size < GROUP_SIZE && group.len() < GROUP_COMMANDS_MAX {
            match commands.try_recv() {
                Ok(command) => {
                    size += command.size();
                    group.push(command);
                }
                Err(TryRecvError::Empty) => break,
                // A compaction under way needn't end: it goes on when the store is opened again.
                Err(TryRecvError::Disconnected) => return (!group.is_empty()).then_some(group),
            }
        }
        self.in_company = group.len() > 1 && size / group.len() >= LARGE_ITEM_SIZE;
        Some(group)
    }

    fn take_turn(&mut self, group: Vec<Command>) -> Turn {
        let mut writes = Vec::new();
        let mut closing = Vec::new();
        for command in group {
            match command {
                Command::Collect { now, reply } => self.begin_compaction(now, reply),
                Command::Close { reply } => closing.push(reply),
                Command::Check { reply } => {
                    let outcome = self.check_index().map_err(|error| error.answer());
                    reply.and_then(|reply| reply.send(outcome).err());
                }
                write => writes.push(write),
            }
        }
        if !writes.is_empty() || self.compaction.is_some() {
            self.write_group(writes);
        }
        if closing.is_empty() {
            return Turn::Go;
        }
        let outcome = self.checkpoint().map(|()| 0).map_err(|error| error.answer());
        for reply in closing {
            // Whoever asked may have stopped waiting; so everywhere in this file.
            let _ = reply.send(outcome.clone());
        }
        Turn::End
    }

    fn begin_compaction(&mut self, now: Epoch, reply: oneshot::Sender<Result<Collected, ItemsError>>) {
        if self.compaction.is_some() {
            let _ = reply.send(Err(ItemsError::Disk("a collection is under way".to_owned())));
        } else {
            self.compaction = Some(Compaction::new(now, reply));
        }
    }

    fn write_group(&mut self, group: Vec<Command>) {
        match self.try_write_group(&group) {
            Ok((outcomes, step)) => {
                let kept = group.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
                let stored = Group::new(kept.filter_map(|(command, _)| command.kept()).collect());
                for (command, outcome) in group.into_iter().zip(outcomes) {
                    answer(command, outcome, &stored);
                }
                self.finish_step(step);
            }
            Err(error) => {
                tracing::error!(%error, command_count = group.len(), "group was not stored");
                let outcome = error.answer();
                self.after_failure(&error);
                let nothing = Group::new(Vec::new());
                for command in group {
                    answer(command, Err(outcome.clone()), &nothing);
                }
                self.end_compaction(Err(outcome));
            }
        }
    }

    /// Appends, syncs and enters a group. When this returns, a power cut can't take it back.
    fn try_write_group(&mut self, group: &[Command]) -> Result<(Vec<Outcome>, Step), GroupError> {
        self.catch_index_up()?;
        self.open_active()?;
        let shared = self.shared.clone();
        let index = shared.index();
        let transaction = index.begin()?;
        let active = self.active.as_ref().expect("opened above");
        let tables = Tables::open(&transaction)?;
        let mut plan = Plan::new(&shared, tables, end_of(active.segment, active.size), self.room()?);
        let outcomes: Vec<_> = group.iter().map(|command| plan.command(command)).collect::<Result<_, _>>()?;
        let mut compaction = self.compaction.take();
        let step = compaction.as_mut().map_or(Ok(Step::Idle), |compaction| compaction.step(self, &mut plan));
        self.compaction = compaction;
        let step = step?;

        let end = plan.end();
        let (tables, drafts) = plan.into_parts();
        self.append(&drafts, end)?;
        let changed = self.enter(tables, end)?;
        // A segment is removed only when the index on disk has no use for it either.
        let emptied = matches!(step, Step::Emptied(_));
        let due = emptied || self.since_checkpoint >= shared.settings.checkpoint_size;
        commit(transaction, if due { Commit::Checkpoint } else { Commit::Cheap })
            .inspect_err(|_| self.index_lags = true)?;
        if due {
            self.since_checkpoint = 0;
        }
        self.publish_fill(Some(changed));
        Ok((outcomes, step))
    }

    /// Notes the new end in the index, after the records are synced: from here on a failure leaves the index behind.
    fn enter(&mut self, mut tables: Tables<'_>, end: Place) -> Result<Changed, GroupError> {
        let entered = tables.set_segment_size(end.segment, end.offset).and_then(|()| tables.finish(end));
        Ok(entered.inspect_err(|_| self.index_lags = true)?)
    }

    /// Writes the records and syncs them: one system call each.
    fn append(&mut self, drafts: &[(Place, Draft)], end: Place) -> Result<(), GroupError> {
        if drafts.is_empty() {
            return Ok(());
        }
        let active = self.active.as_mut().expect("a group is planned for the active segment");
        let parts: Vec<&[u8]> = drafts.iter().flat_map(|(_, draft)| draft.parts()).collect();
        active.file.write_all_at(&parts, active.size).map_err(GroupError::Write)?;
        active.file.sync_data().map_err(GroupError::Sync)?;
        self.since_checkpoint += end.offset - active.size;
        active.size = end.offset;
        Ok(())
    }

    /// Leaves the active segment as it was before the group, or gives it up.
    fn after_failure(&mut self, error: &GroupError) {
        match error {
            GroupError::Write(_) => {
                let active = self.active.as_ref().expect("a group was being appended to it");
                if let Err(error) = active.file.set_size(active.size) {
                    tracing::error!(%error, segment = active.segment, "torn tail can't be cut off");
                    self.seal();
                }
            }
            // The kernel reports a failed sync once and then takes the pages for clean. Nothing past the last good sync
            // is ever believed: the next segment's header says where that was.
            GroupError::Sync(_) => {
                let active = self.active.as_ref().expect("a group was being appended to it");
                if let Err(error) = active.file.set_size(active.size) {
                    tracing::error!(%error, segment = active.segment, "unsynced tail can't be cut off");
                }
                self.seal();
            }
            // A transaction that could not be begun or read: nothing was written, but redb may refuse all that follows.
            GroupError::Index(_) => self.index_lags = true,
            GroupError::Segment(_) | GroupError::Read(_) => {}
        }
    }

    /// Appends no more to the active segment.
    pub(crate) fn seal(&mut self) {
        if let Some(active) = self.active.take() {
            self.sealed = end_of(active.segment, active.size);
        }
    }

    pub(crate) fn active_segment(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.segment)
    }

    /// Makes sure that there is a segment to append to.
    fn open_active(&mut self) -> Result<(), GroupError> {
        if self.active.as_ref().is_some_and(|active| active.size >= self.shared.settings.segment_size) {
            self.seal();
        }
        if self.active.is_none() {
            let segment = self.sealed.segment.max(self.segments.keys().last().copied().unwrap_or_default());
            let segment = segment.max(self.last_number) + 1;
            let active = create_segment(&self.shared, segment, self.sealed).map_err(GroupError::Segment)?;
            self.segments.insert(segment, SegmentUsage { size: active.size, live: 0 });
            self.active = Some(active);
        }
        Ok(())
    }

    /// Opens the index again after it failed, and replays what it lacks.
    fn catch_index_up(&mut self) -> Result<(), GroupError> {
        // What it has in memory alone is written once the disk takes it again.
        let may_be_written = self.shared.index().is_in_memory()
            && self.shared.room_above_floor().is_ok_and(|room| room >= INDEX_ROOM);
        if self.index_lags || self.shared.is_index_doubted() || may_be_written {
            let end = self.active.as_ref().map_or(self.sealed, |active| end_of(active.segment, active.size));
            reopen_index(&self.shared, end)?;
            self.segments = self.shared.index().segments()?.into_iter().collect();
            self.index_lags = false;
            self.stuck.clear();
            // What is appended to a file that has been removed or cut would be lost with it.
            let whole = |active: &Active| {
                self.segments.get(&active.segment).is_some_and(|usage| usage.size >= active.size)
            };
            if !self.active.as_ref().is_none_or(whole) {
                self.seal();
            }
        }
        Ok(())
    }

    /// Opens the index again, and says whether it was damaged (1) or not (0).
    fn check_index(&mut self) -> Result<u64, GroupError> {
        if !self.shared.is_index_doubted() {
            self.checkpoint()?;
        }
        let before = self.shared.mended().index_count;
        self.index_lags = true;
        self.catch_index_up()?;
        Ok(self.shared.mended().index_count - before)
    }

    /// Makes the index durable as it is.
    fn checkpoint(&mut self) -> Result<(), GroupError> {
        self.catch_index_up()?;
        let index = self.shared.index();
        commit(index.begin()?, Commit::Checkpoint)?;
        self.since_checkpoint = 0;
        Ok(())
    }

    /// Does what a step of compaction asks for once it is durable.
    fn finish_step(&mut self, step: Step) {
        match step {
            Step::Idle | Step::More => {}
            Step::SealActive => self.seal(),
            Step::Stuck(segment) => {
                tracing::error!(segment, "segment can't be compacted: something in it can't be read");
                self.stuck.insert(segment);
            }
            Step::Emptied(segment) => {
                let size = self.segments.get(&segment).map_or(0, |usage| usage.size);
                let removed = self.remove_segment(segment);
                match (removed, &mut self.compaction) {
                    (Ok(()), Some(compaction)) => compaction.count_removed(size),
                    (Ok(()), None) => {}
                    (Err(error), _) => {
                        tracing::error!(segment, %error, "emptied segment was not removed");
                        self.index_lags |= matches!(error, GroupError::Index(_));
                        self.end_compaction(Err(error.answer()));
                    }
                }
            }
            Step::Away => {
                let why = "segments lie where they can't be asked for now".to_owned();
                self.end_compaction(Err(ItemsError::Disk(why)));
            }
            Step::Done => self.end_compaction(Ok(())),
        }
    }

    fn end_compaction(&mut self, outcome: Result<(), ItemsError>) {
        if let Some(compaction) = self.compaction.take() {
            compaction.end(outcome);
        }
    }

    /// Removes a segment that nothing refers to any more, neither in the index nor in the index's last checkpoint.
    fn remove_segment(&mut self, segment: u64) -> Result<(), GroupError> {
        self.cut_predecessor(segment).map_err(GroupError::Read)?;
        self.shared.close_file(segment);
        let removed = match self.shared.disk.remove(&self.shared.path_of_segment(segment)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        };
        removed
            .and_then(|()| self.shared.disk.sync_directory(&self.shared.directory))
            .map_err(GroupError::Read)?;
        let index = self.shared.index();
        let transaction = index.begin()?;
        let applied = index.applied()?;
        let mut tables = Tables::open(&transaction)?;
        tables.drop_segment(segment);
        let changed = tables.finish(applied)?;
        commit(transaction, Commit::Cheap)?;
        self.publish_fill(Some(changed));
        Ok(())
    }

    /// Cuts off for good what the segment before this one has behind its synced records. Nobody says any more where they
    /// end once this one is gone.
    fn cut_predecessor(&self, segment: u64) -> io::Result<()> {
        let mut bytes = [0; SEGMENT_HEADER_SIZE];
        self.shared.file(segment)?.read_exact_at(&mut bytes, 0)?;
        let header = SegmentHeader::decode(&bytes)
            .map_err(|_| io::Error::new(ErrorKind::InvalidData, "the segment's header is damaged"))?;
        if self.segments.contains_key(&header.previous.segment) {
            let file = self.shared.file(header.previous.segment)?;
            file.set_size(header.previous.offset)?;
            file.sync_data()?;
        }
        Ok(())
    }

    /// Bytes of items that may be added under the quota, and of anything above the floor.
    fn room(&self) -> Result<Room, GroupError> {
        let size: u64 = self.segments.values().map(|usage| usage.size).sum();
        let above_floor = self.shared.room_above_floor().map_err(GroupError::Read)?;
        let in_quota = self.shared.settings.capacity.saturating_sub(size);
        Ok(Room { item: in_quota.min(above_floor), lease: above_floor })
    }

    pub(crate) fn publish_fill(&mut self, changed: Option<Changed>) {
        let mut item_count = self.shared.fill().item_count;
        if let Some(changed) = changed {
            item_count = changed.item_count;
            self.shared.groups.changed(&changed.groups);
            self.shared.owners.change(&changed.owners);
            for (segment, usage) in changed.segments {
                match usage {
                    Some(usage) => self.segments.insert(segment, usage),
                    None => self.segments.remove(&segment),
                };
            }
        }
        let size = self.segments.values().map(|usage| usage.size).sum();
        let live = self.segments.values().map(|usage| usage.live).sum();
        self.shared.set_fill(Fill { size, live, item_count });
    }
}

/// Bytes that may be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) item: u64,
    pub(crate) lease: u64,
}

/// Makes a segment that a power cut can't take back, empty but for its header.
fn create_segment(shared: &Shared, segment: u64, previous: Place) -> io::Result<Active> {
    let path = shared.path_of_segment(segment);
    // A segment of this number was begun before and not brought to its end: nothing in it was ever acknowledged.
    match shared.disk.remove(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = shared.disk.create(&path)?;
    file.write_all_at(&[&SegmentHeader { segment, previous, key: shared.key }.encode()], 0)?;
    file.sync_data()?;
    shared.disk.sync_directory(&shared.directory)?;
    let size = u64::try_from(SEGMENT_HEADER_SIZE).expect("a small number");
    Ok(Active { segment, file, size })
}

/// Lets more commands arrive, until there are enough of them or a moment has passed.
fn wait_for_company(commands: &mpsc::Receiver<Command>) {
    let mut waited = Duration::ZERO;
    while waited < COMPANY_WAIT && commands.len() + 1 < COMPANY_ENOUGH {
        thread::sleep(COMPANY_LOOK);
        waited += COMPANY_LOOK;
    }
}

fn answer(command: Command, outcome: Outcome, stored: &Group) {
    match command {
        Command::Store { reply, permit, .. } => {
            // The queue has room again before the sender hears of it, so that a sender never waits for itself.
            drop(permit);
            let _ = reply.send(outcome.map(|_| stored.clone()));
        }
        Command::Lease { reply, .. } | Command::Release { reply, .. } | Command::Discard { reply, .. } => {
            let _ = reply.send(outcome);
        }
        Command::Condemn { .. }
        | Command::MendRelease { .. }
        | Command::Collect { .. }
        | Command::Check { .. }
        | Command::Close { .. } => {}
    }
}
