//! Repairs: each group's first holder that answers leads them, most endangered objects first, at the rate of its budget.

use std::cmp::Reverse;

use datamesh_engine::urgency::{Urgency, urgency};

use super::nodes::objects_of;
use super::objects::{OBJECTS_PER_GROUP, ones};
use super::{Event, Mesh};
use crate::durability::layout::SeatNumber;
use crate::durability::statistics::real;

/// The repair of an object, under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Job {
    number: u64,
    leader: SeatNumber,
    object: usize,
    shards: u32,
    bytes: f64,
}

impl Mesh<'_> {
    /// The shards of an object that its holders wait for.
    fn wanted(&self, object: usize) -> u32 {
        self.present[object / OBJECTS_PER_GROUP] & !self.objects.held(object)
    }

    fn urgency(&self, object: usize) -> Urgency {
        let readable = self.objects.held(object) & self.present[object / OBJECTS_PER_GROUP];
        urgency(ones(readable), self.settings.redundancy.data_count())
    }

    /// Who leads a group's repairs.
    fn leader(&self, group: usize) -> Option<SeatNumber> {
        let present = self.present[group];
        let rank = usize::try_from(present.trailing_zeros()).expect("a word has 32 bits");
        (present != 0).then(|| self.holders[group * self.width() + rank])
    }

    /// Queues an object's repair where there is something to repair and it can be.
    pub(super) fn consider(&mut self, object: usize) {
        if self.wanted(object) == 0 || self.objects.jobs[object].is_some() {
            return;
        }
        let urgency = self.urgency(object);
        let leader = self.leader(object / OBJECTS_PER_GROUP);
        if let (Urgency::Spare(_), Some(leader)) = (urgency, leader) {
            self.job_count += 1;
            self.seats[leader].queue.push(Reverse((urgency, self.job_count, object)));
            self.lead(leader);
        }
    }

    /// Begins the most urgent repair that a node leads, unless it has one under way.
    fn lead(&mut self, leader: SeatNumber) {
        while self.seats[leader].job.is_none() {
            let Some(Reverse((queued, number, object))) = self.seats[leader].queue.pop() else { return };
            let leads = self.leader(object / OBJECTS_PER_GROUP) == Some(leader);
            let shards = self.wanted(object);
            if !leads || shards == 0 || self.objects.jobs[object].is_some() {
                continue;
            }
            let urgency = self.urgency(object);
            if urgency > queued {
                // It is better off than when it was queued, and waits among its like.
                if matches!(urgency, Urgency::Spare(_)) {
                    self.seats[leader].queue.push(Reverse((urgency, number, object)));
                }
                continue;
            }
            // The leader holds one of the shards itself, or is to: it reads or sends one less.
            let moved = self.settings.redundancy.data_count() - 1 + ones(shards);
            let bytes = real(moved) * self.shard_size;
            self.job_count += 1;
            let job = Job { number: self.job_count, leader, object, shards, bytes };
            self.objects.jobs[object] = Some(job.number);
            self.agenda.put(self.now + bytes / self.settings.rebuild_rate, Event::Repaired(job));
            self.seats[leader].job = Some(job);
        }
    }

    pub(super) fn repaired(&mut self, job: Job) {
        let Job { leader, object, .. } = job;
        if self.seats[leader].job == Some(job) {
            self.seats[leader].job = None;
            self.repair_bytes += job.bytes;
        }
        if self.objects.jobs[object] == Some(job.number) {
            self.objects.jobs[object] = None;
            self.store(job);
            self.consider(object);
        }
        self.lead(leader);
    }

    fn store(&mut self, job: Job) {
        let group = job.object / OBJECTS_PER_GROUP;
        let shards = job.shards & self.wanted(job.object);
        let missing = self.objects.missing_count(job.object);
        let first = group * self.width();
        for rank in (0..self.width()).filter(|rank| shards & 1 << rank != 0) {
            let delay = self.now - self.wanted_since[first + rank];
            self.delays[missing - 1].add(delay, &mut self.sampling);
        }
        self.objects.restore(job.object, shards);
    }

    /// A leader is silent: what it had under way and queued goes to the next.
    pub(super) fn break_off(&mut self, leader: SeatNumber) {
        if let Some(job) = self.seats[leader].job.take()
            && self.objects.jobs[job.object] == Some(job.number)
        {
            self.objects.jobs[job.object] = None;
        }
        self.seats[leader].queue.clear();
        for slot in self.seats[leader].slots.clone() {
            objects_of(slot / self.width()).for_each(|object| self.consider(object));
        }
    }
}
