//! Nodes and their seats: how they die, are away, part, return and join, and who holds their slots meanwhile.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use datamesh_engine::urgency::Urgency;

use super::objects::{Fate, OBJECTS_PER_GROUP};
use super::{Event, Job, Mesh};
use crate::durability::layout::{Layout, SeatNumber};
use crate::durability::settings::{DAY, Following};

const WEEK: f64 = 7.0 * DAY;

/// How a seat's node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Standing {
    /// It answers.
    #[default]
    Present,
    /// It is silent and will come back, but not within its grace; others still wait for it.
    Away,
    /// It left the ring and will come back with its shards.
    AwayForLong,
    /// It is silent for good; others still wait for it.
    Dead,
    /// It left the ring; a newcomer will take its seat.
    Gone,
}

/// A seat, its node, and the repairs that the node leads.
#[derive(Debug, Clone, Default)]
pub(super) struct Seat {
    /// Nodes that were here before.
    pub(super) life: u64,
    /// Changes of standing: what was expected of an earlier one no longer comes.
    turn: u64,
    pub(super) standing: Standing,
    pub(super) slots: Vec<usize>,
    /// What a node that left alive has: by slot, a bit for each object of the group.
    kept: BTreeMap<usize, u8>,
    pub(super) job: Option<Job>,
    pub(super) queue: BinaryHeap<Reverse<(Urgency, u64, usize)>>,
}

/// The objects of a group.
pub(super) const fn objects_of(group: usize) -> std::ops::Range<usize> {
    group * OBJECTS_PER_GROUP..(group + 1) * OBJECTS_PER_GROUP
}

impl Mesh<'_> {
    /// Puts down when a node of this age dies and when it is away next.
    pub(super) fn expect_faults(&mut self, seat: SeatNumber, age: f64) {
        let left = self.settings.lifetime.left(age, &mut self.chance);
        self.agenda.put(self.now + left, Event::Dies { seat, life: self.seats[seat].life });
        self.expect_absence(seat);
    }

    /// Absences within the grace cost nothing and move nothing: only those beyond it are drawn, as often as they come.
    pub(super) fn expect_absence(&mut self, seat: SeatNumber) {
        if let Some(absences) = self.settings.absences {
            let per_second = absences.per_week / WEEK * absences.length.share_above(self.settings.silence());
            let pause = self.chance.exponential() / per_second;
            self.agenda.put(self.now + pause, Event::GoesAway { seat, life: self.seats[seat].life });
        }
    }

    pub(super) fn expect_outage(&mut self, site: usize) {
        if let Some(faults) = self.settings.site_faults {
            let every = faults.outage_every / faults.outage.share_above(self.settings.silence());
            let at = self.now + every * self.chance.exponential();
            self.agenda.put(at, Event::SiteStops { site });
        }
    }

    pub(super) fn expect_site_loss(&mut self, site: usize) {
        if let Some(faults) = self.settings.site_faults {
            let at = self.now + faults.loss_every * self.chance.exponential();
            self.agenda.put(at, Event::SiteLost { site });
        }
    }

    pub(super) fn stop_site(&mut self, site: usize) {
        if let Some(faults) = self.settings.site_faults {
            let length = faults.outage.above(self.settings.silence(), &mut self.chance);
            for seat in self.seats_of(site) {
                self.go_away(seat, length);
            }
        }
        self.expect_outage(site);
    }

    pub(super) fn go_away(&mut self, seat: SeatNumber, length: f64) {
        if !self.stands(seat, Standing::Present) {
            return;
        }
        let turn = self.turn(seat, Standing::Away);
        self.agenda.put(self.now + self.settings.silence(), Event::Parts { seat, turn });
        self.agenda.put(self.now + length, Event::Returns { seat, turn });
        self.fall_silent(seat);
    }

    /// A node is lost with its shards.
    pub(super) fn die(&mut self, seat: SeatNumber) {
        let before = self.seats[seat].standing;
        match before {
            Standing::Present => {
                let turn = self.turn(seat, Standing::Dead);
                self.agenda.put(self.now + self.settings.silence(), Event::Parts { seat, turn });
            }
            Standing::Away => self.seats[seat].standing = Standing::Dead,
            Standing::AwayForLong => {
                self.turn(seat, Standing::Gone);
                self.expect_newcomer(seat);
            }
            Standing::Dead | Standing::Gone => return,
        }
        self.deaths += 1;
        for (slot, kept) in std::mem::take(&mut self.seats[seat].kept) {
            self.destroy(slot, |bit| kept & 1 << bit != 0, Copies::Away);
        }
        for slot in self.seats[seat].slots.clone() {
            self.destroy(slot, |_| true, Copies::Held);
        }
        if before == Standing::Present {
            self.fall_silent(seat);
        }
    }

    /// A node was silent for its grace: it leaves the ring.
    pub(super) fn part(&mut self, seat: SeatNumber, turn: u64) {
        if self.seats[seat].turn != turn {
            return;
        }
        match self.seats[seat].standing {
            Standing::Dead => {
                self.seats[seat].standing = Standing::Gone;
                self.expect_newcomer(seat);
            }
            Standing::Away => {
                self.seats[seat].standing = Standing::AwayForLong;
                self.long_absences += 1;
                for slot in self.seats[seat].slots.clone() {
                    let (group, shard) = self.place(slot);
                    let mut kept = 0;
                    for (bit, object) in objects_of(group).enumerate() {
                        kept |= u8::from(self.objects.held(object) & shard != 0) << bit;
                        self.objects.carry_away(object, shard);
                    }
                    self.seats[seat].kept.insert(slot, kept);
                }
            }
            Standing::Present | Standing::AwayForLong | Standing::Gone => return,
        }
        match self.settings.following {
            Following::Rebuilt => self.follow(),
            Following::HandOff => {
                for slot in self.seats[seat].slots.clone() {
                    if let Some(stand_in) = self.stand_in(&self.layout, slot / self.width()) {
                        self.assign(slot, stand_in);
                    }
                }
            }
        }
    }

    pub(super) fn return_with_shards(&mut self, seat: SeatNumber, turn: u64) {
        let awaited = matches!(self.seats[seat].standing, Standing::Away | Standing::AwayForLong);
        if awaited && self.seats[seat].turn == turn {
            self.turn(seat, Standing::Present);
            self.take_seat(seat);
        }
    }

    pub(super) fn join(&mut self, seat: SeatNumber) {
        // What was expected of the node before is not of this one.
        self.seats[seat].life += 1;
        self.turn(seat, Standing::Present);
        self.expect_faults(seat, 0.0);
        self.take_seat(seat);
    }

    fn expect_newcomer(&mut self, seat: SeatNumber) {
        self.agenda.put(self.now + self.settings.join_delay, Event::Joins { seat });
    }

    fn turn(&mut self, seat: SeatNumber, standing: Standing) -> u64 {
        let seat = &mut self.seats[seat];
        seat.standing = standing;
        seat.turn += 1;
        seat.turn
    }

    /// A node answers again, or for the first time: it gets what the ring gives it.
    fn take_seat(&mut self, seat: SeatNumber) {
        self.set_present(seat);
        match self.settings.following {
            Following::Rebuilt => self.follow(),
            Following::HandOff => {
                let width = self.width();
                for slot in self.home[seat].clone() {
                    let group = slot / width;
                    if !self.holders[group * width..][..width].contains(&seat) {
                        self.assign(slot, seat);
                    }
                }
            }
        }
        self.hand_in_what_is_left(seat);
    }

    /// What a node comes back with for slots that others have now, those take over where they lack it.
    fn hand_in_what_is_left(&mut self, seat: SeatNumber) {
        for (slot, kept) in std::mem::take(&mut self.seats[seat].kept) {
            let (group, shard) = self.place(slot);
            for (_, object) in objects_of(group).enumerate().filter(|(bit, _)| kept & 1 << bit != 0) {
                if self.present[group] & shard != 0 {
                    self.objects.bring_back(object, shard);
                } else {
                    self.objects.forget_away(object, shard);
                }
            }
        }
    }

    /// Builds the ring anew and gives every slot to its new holder.
    fn follow(&mut self) {
        let in_ring = |seat: &Seat| !matches!(seat.standing, Standing::AwayForLong | Standing::Gone);
        let members = self.seats.iter().enumerate().filter(|(_, seat)| in_ring(seat));
        let layout = Layout::of(self.settings, members.map(|(number, seat)| (number, seat.life)));
        let width = self.width();
        for group in 0..self.present.len() {
            let intended = layout.holders(group).to_vec();
            if intended == self.holders[group * width..][..width] {
                continue;
            }
            for (rank, holder) in intended.into_iter().enumerate() {
                let slot = group * width + rank;
                if self.holders[slot] == holder {
                    continue;
                }
                // What is to go to a node that does not answer goes to whoever steps in for it, or stays.
                let answers = self.stands(holder, Standing::Present);
                let stays = self.stands(self.holders[slot], Standing::Present);
                if answers {
                    self.assign(slot, holder);
                } else if !stays && let Some(stand_in) = self.stand_in(&layout, group) {
                    self.assign(slot, stand_in);
                }
            }
        }
        self.layout = layout;
    }

    fn stand_in(&self, layout: &Layout, group: usize) -> Option<SeatNumber> {
        let used = &self.holders[group * self.width()..][..self.width()];
        layout.stand_in(group, |seat| self.stands(seat, Standing::Present) && !used.contains(&seat))
    }

    /// Gives a slot to a node that answers. A holder that answers keeps its shards until the new one has them.
    fn assign(&mut self, slot: usize, to: SeatNumber) {
        let (group, shard) = self.place(slot);
        let from = std::mem::replace(&mut self.holders[slot], to);
        let hands_over = self.stands(from, Standing::Present);
        self.seats[from].slots.retain(|held| *held != slot);
        self.seats[to].slots.push(slot);
        self.present[group] |= shard;
        let kept = self.seats[to].kept.remove(&slot).unwrap_or(0);
        if !hands_over {
            self.wanted_since[slot] = self.now;
        }
        for (bit, object) in objects_of(group).enumerate() {
            if kept & 1 << bit != 0 {
                self.objects.bring_back(object, shard);
            } else if hands_over && self.objects.held(object) & shard != 0 {
                self.moved_bytes += self.shard_size;
            }
            self.consider(object);
        }
    }

    /// The slots of a node that stops answering have nobody who answers, and another leads its repairs.
    fn fall_silent(&mut self, seat: SeatNumber) {
        for slot in self.seats[seat].slots.clone() {
            let (group, shard) = self.place(slot);
            self.present[group] &= !shard;
        }
        self.break_off(seat);
    }

    fn set_present(&mut self, seat: SeatNumber) {
        for slot in self.seats[seat].slots.clone() {
            let (group, shard) = self.place(slot);
            self.present[group] |= shard;
            objects_of(group).for_each(|object| self.consider(object));
        }
    }

    /// Shards of a slot are gone for good.
    fn destroy(&mut self, slot: usize, had: impl Fn(usize) -> bool, copies: Copies) {
        let (group, shard) = self.place(slot);
        let mut lost = false;
        for (_, object) in objects_of(group).enumerate().filter(|(bit, _)| had(*bit)) {
            let fate = match copies {
                Copies::Held => self.objects.destroy_held(object, shard),
                Copies::Away => self.objects.destroy_away(object, shard),
            };
            if fate == Fate::Lost {
                lost = true;
                self.objects.replace(object, self.present[group] & !shard);
            }
        }
        if lost {
            self.objects.count_loss_moment();
        }
    }
}

/// Which copies of a slot's shards.
#[derive(Debug, Clone, Copy)]
enum Copies {
    Held,
    Away,
}
