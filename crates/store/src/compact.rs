//! Gives back the space of what no lease protects any more.
//!
//! Step by step, between the groups that are written and in the same syncs: what still counts in a segment is copied to
//! the active one, the index follows, the index is made durable, and only then is the old file removed. A crash at any
//! point leaves at worst two copies, of which the later counts.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;
use datamesh_core::id::ItemId;
use datamesh_core::lease::Release;
use datamesh_core::limits::MIB;
use datamesh_core::time::Epoch;
use datamesh_engine::world::ItemsError;
use tokio::sync::oneshot;

use crate::disk::{DiskFile, is_away};
use crate::index::SegmentUsage;
use crate::index::rows::{LeaseRow, key_of_item, key_of_put};
use crate::segment::{Found, Frame, Keeping, Lapse, Place, Record, SEGMENT_HEADER_SIZE, Scan};
use crate::shared::Mended;
use crate::write::{GroupError, Plan, Writer};

/// Bytes that one step copies at most, give or take a record: what a group may wait for it.
const STEP_SIZE: u64 = 4 * MIB as u64;
/// Records that one step looks at.
const STEP_RECORDS_MAX: usize = 4096;
/// From this share of the capacity on, in percent, space is worth more work.
const TIGHT_PERCENT: u64 = 90;
/// Segments of which less than this share still counts are compacted when space is tight, in percent.
const COMPACT_BELOW_PERCENT_TIGHT: u8 = 90;
/// The active segment is compacted as well when it has this share of a whole segment to give back: one of so many.
const ACTIVE_GARBAGE_SHARE: u64 = 16;

/// What a collection came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// Leases that had expired.
    pub lease_count: u64,
    /// Items that were kept under no other lease.
    pub item_count: u64,
    /// Segment files removed.
    pub segment_count: u64,
    /// Bytes of those files.
    pub size: u64,
    /// Items that turned out rotten when they were to be copied, and are held no more.
    pub rotten: Vec<ItemId>,
}

impl Collected {
    /// Adds what another collection did.
    pub fn add(&mut self, other: Self) {
        self.lease_count += other.lease_count;
        self.item_count += other.item_count;
        self.segment_count += other.segment_count;
        self.size += other.size;
        self.rotten.extend(other.rotten);
    }
}

/// What is to be done once a step is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: no collection is under way.
    Idle,
    /// Nothing: the next step follows.
    More,
    /// Begin a new segment, so that the active one can be compacted.
    SealActive,
    /// Remove a segment: nothing counts in it any more.
    Emptied(u64),
    /// Leave a segment alone: something in it can't be read.
    Stuck(u64),
    /// Give up for now: something could not be asked for.
    Away,
    /// Report: all is done.
    Done,
}

/// A collection under way.
pub(crate) struct Compaction {
    now: Epoch,
    stage: Stage,
    report: Collected,
    reply: oneshot::Sender<Result<Collected, ItemsError>>,
}

enum Stage {
    Lapse,
    Seal,
    Choose,
    Copy { at: Place, others: VecDeque<u64> },
    Next { others: VecDeque<u64> },
}

impl Compaction {
    pub(crate) fn new(now: Epoch, reply: oneshot::Sender<Result<Collected, ItemsError>>) -> Self {
        Self { now, stage: Stage::Lapse, report: Collected::default(), reply }
    }

    pub(crate) fn end(self, outcome: Result<(), ItemsError>) {
        // Whoever asked may have stopped waiting.
        let _ = self.reply.send(outcome.map(|()| self.report));
    }

    pub(crate) fn count_removed(&mut self, size: u64) {
        self.report.segment_count += 1;
        self.report.size += size;
    }

    /// Adds the next step to a group.
    pub(crate) fn step(&mut self, writer: &Writer, plan: &mut Plan<'_>) -> Result<Step, GroupError> {
        // A step that fails takes the collection with it, so the stage need not be put back.
        match std::mem::replace(&mut self.stage, Stage::Choose) {
            Stage::Lapse => {
                self.lapse(plan)?;
                self.stage = Stage::Seal;
                Ok(Step::More)
            }
            Stage::Seal => {
                Ok(if writer.active_is_worth_compacting() { Step::SealActive } else { Step::More })
            }
            Stage::Choose => {
                self.stage = Stage::Next { others: writer.segments_to_compact().into() };
                Ok(Step::More)
            }
            Stage::Next { mut others } => {
                let Some(segment) = others.pop_front() else { return Ok(Step::Done) };
                let offset = u64::try_from(SEGMENT_HEADER_SIZE).expect("a small number");
                self.copy(writer, plan, Place { segment, offset }, others)
            }
            Stage::Copy { at, others } => self.copy(writer, plan, at, others),
        }
    }

    /// Ends the leases that have expired.
    fn lapse(&mut self, plan: &mut Plan<'_>) -> Result<(), GroupError> {
        if plan.tables.any_expired(self.now)? {
            let lapse = Lapse { now: self.now, before: plan.end() };
            let ended = plan.append(&Record::Lapse(lapse), Bytes::new())?;
            self.report.lease_count = ended.lease_count;
            self.report.item_count = ended.item_count;
        }
        Ok(())
    }

    /// Copies what counts in a segment from a place on, as much as fits a step.
    fn copy(
        &mut self,
        writer: &Writer,
        plan: &mut Plan<'_>,
        from: Place,
        others: VecDeque<u64>,
    ) -> Result<Step, GroupError> {
        let segment = from.segment;
        // What nothing refers to needs not be read.
        if plan.tables.segment_usage(segment)?.unwrap_or_default().live == 0 {
            self.stage = Stage::Next { others };
            return Ok(Step::Emptied(segment));
        }
        let file = match plan.shared.file(segment) {
            Ok(file) => file,
            Err(error) => {
                self.stage = Stage::Next { others };
                return Ok(unread(segment, Some(&error)));
            }
        };
        let size = writer.segments.get(&segment).map_or(0, |usage| usage.size);
        let copier = Copier { file: &*file };
        let begin = plan.end().offset;
        let mut scan = Scan::new(&*file, plan.shared.key, from, size);
        for _ in 0..STEP_RECORDS_MAX {
            if plan.end().offset - begin >= STEP_SIZE {
                break;
            }
            let Some(found) = scan.next() else {
                self.stage = Stage::Next { others };
                let live = plan.tables.segment_usage(segment)?.unwrap_or_default().live;
                return Ok(match live {
                    _ if scan.is_away() => Step::Away,
                    0 => Step::Emptied(segment),
                    _ => Step::Stuck(segment),
                });
            };
            if let Found::Record { place, frame, record: Some(record) } = found {
                let copied = copier.copy(plan, place, &frame, record, &mut self.report.rotten)?;
                if let ControlFlow::Break(why) = copied {
                    self.stage = Stage::Next { others };
                    return Ok(why);
                }
            }
        }
        self.stage = Stage::Copy { at: scan.at(), others };
        Ok(if scan.is_away() { Step::Away } else { Step::More })
    }
}

/// Copies records of one segment to where the plan ends. It breaks off when a record can't be read.
struct Copier<'a> {
    file: &'a dyn DiskFile,
}

impl Copier<'_> {
    fn copy(
        &self,
        plan: &mut Plan<'_>,
        place: Place,
        frame: &Frame,
        record: Record,
        rotten: &mut Vec<ItemId>,
    ) -> Result<ControlFlow<Step>, GroupError> {
        match record {
            Record::Item(keeping) => return self.copy_item(plan, place, frame, keeping, rotten),
            Record::Lease(keeping) => self.copy_lease(plan, place, keeping)?,
            Record::Release(release) => {
                let Release { owner, tag } = release.unverified();
                if plan.tables.release(&key_of_put(owner, tag))?.is_some_and(|row| row.place == place) {
                    plan.append(&Record::Release(release), Bytes::new())?;
                }
            }
            Record::Discard(discard) => {
                if plan.tables.discard(discard.before)?.is_some_and(|row| row.place == place) {
                    plan.append(&Record::Discard(discard), Bytes::new())?;
                }
            }
            Record::Lapse(lapse) => {
                if plan.tables.lapse(lapse.before)?.is_some_and(|row| row.place == place) {
                    plan.append(&Record::Lapse(lapse), Bytes::new())?;
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn copy_item(
        &self,
        plan: &mut Plan<'_>,
        place: Place,
        frame: &Frame,
        keeping: Keeping,
        rotten: &mut Vec<ItemId>,
    ) -> Result<ControlFlow<Step>, GroupError> {
        let Some(id) = keeping.id() else { return Ok(ControlFlow::Continue(())) };
        let key = key_of_item(&id);
        if plan.tables.item(&key)?.is_none_or(|row| row.place != place) {
            self.copy_lease(plan, place, keeping)?;
            return Ok(ControlFlow::Continue(()));
        }
        let mut bytes = vec![0; frame.payload_len()];
        if let Err(error) = self.file.read_exact_at(&mut bytes, place.offset + frame.head_size()) {
            return Ok(ControlFlow::Break(unread(place.segment, Some(&error))));
        }
        if !id.matches(&bytes) {
            tracing::error!(item = %id, segment = place.segment, offset = place.offset, "item is rotten");
            rotten.push(id);
            plan.forget(vec![id])?;
            plan.shared.note_mended(Mended { rotten_count: 1, ..Mended::default() });
            return Ok(ControlFlow::Continue(()));
        }
        let own = LeaseRow::of(&id, keeping.lease.unverified());
        let keeping = if plan.tables.lease(&own)?.is_some() {
            keeping
        } else {
            // The lease that the item came with has ended; it is kept under another, which is written elsewhere.
            let other = plan.tables.leases_of(&key, 1)?.pop();
            match other.map(|(_, place)| plan.keeping_at(place)) {
                Some(Ok(other)) => other,
                unreadable => {
                    let error = unreadable.and_then(Result::err);
                    return Ok(ControlFlow::Break(unread(place.segment, error.as_ref())));
                }
            }
        };
        plan.append(&Record::Item(keeping), bytes.into())?;
        Ok(ControlFlow::Continue(()))
    }

    fn copy_lease(&self, plan: &mut Plan<'_>, place: Place, keeping: Keeping) -> Result<(), GroupError> {
        let Some(id) = keeping.id() else { return Ok(()) };
        let lease = LeaseRow::of(&id, keeping.lease.unverified());
        if plan.tables.lease(&lease)?.is_some_and(|row| row.place == place) {
            plan.append(&Record::Lease(keeping), Bytes::new())?;
        }
        Ok(())
    }
}

/// What becomes of a segment that something can't be read of.
fn unread(segment: u64, error: Option<&io::Error>) -> Step {
    if error.is_some_and(is_away) { Step::Away } else { Step::Stuck(segment) }
}

impl Writer {
    /// Segments but the active one that are worth compacting, the emptiest first: that gives space back soonest.
    fn segments_to_compact(&self) -> Vec<u64> {
        let percent = self.compact_below_percent();
        let worth = |(segment, usage): &(&u64, &SegmentUsage)| {
            Some(**segment) != self.active_segment()
                && !self.stuck.contains(segment)
                && is_below(usage, percent)
        };
        let mut segments: Vec<_> =
            self.segments.iter().filter(worth).map(|(id, usage)| (usage.live, *id)).collect();
        segments.sort_unstable();
        segments.into_iter().map(|(_, segment)| segment).collect()
    }

    fn active_is_worth_compacting(&self) -> bool {
        let usage = self.active_segment().and_then(|active| self.segments.get(&active));
        usage.is_some_and(|usage| {
            let garbage = usage.size.saturating_sub(usage.live);
            let much = garbage >= self.shared.settings.segment_size / ACTIVE_GARBAGE_SHARE;
            much && is_below(usage, self.compact_below_percent())
        })
    }

    fn compact_below_percent(&self) -> u8 {
        let settings = &self.shared.settings;
        let size: u64 = self.segments.values().map(|usage| usage.size).sum();
        let tight = size >= settings.capacity / 100 * TIGHT_PERCENT;
        if tight {
            settings.compact_below_percent.max(COMPACT_BELOW_PERCENT_TIGHT)
        } else {
            settings.compact_below_percent
        }
    }
}

fn is_below(usage: &SegmentUsage, percent: u8) -> bool {
    usage.live.saturating_mul(100) < usage.size.saturating_mul(u64::from(percent))
}
