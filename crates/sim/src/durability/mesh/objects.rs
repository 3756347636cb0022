//! Which shards of each object exist, and the count of what became of them.

use datamesh_core::scheme::Redundancy;
use datamesh_engine::health::score;

use crate::durability::mesh::BATCHES;
use crate::durability::statistics::real;

/// Objects of a group: they lie on the same nodes and are repaired one after the other. With all groups, 114,688 of them.
pub(super) const OBJECTS_PER_GROUP: usize = 7;
/// The availability score below which an object's owner is warned.
const WARNING_SCORE: f64 = 0.8;

/// The objects of a mesh. A shard is a bit, in the order of ranks.
pub(super) struct Objects {
    redundancy: Redundancy,
    /// All shards of an object.
    full: u32,
    /// Shards with the holders of their slots.
    held: Vec<u32>,
    /// Shards with nodes that left the ring alive: nobody reads them, and they may come back. Where two such nodes had
    /// one slot after the other, the first to come back or die takes the bit: it is never set for a copy that is gone.
    away: Vec<u32>,
    /// The most shards that an object lacked since it was last whole.
    deepest: Vec<usize>,
    /// The job that repairs an object, by its number.
    pub(super) jobs: Vec<Option<u64>>,
    /// Whether an object with so many shards calls for a warning.
    warns: Vec<bool>,
    tally: Tally,
    short_count: usize,
    warned_count: usize,
    now: f64,
    span: f64,
}

/// What became of objects.
pub(super) struct Tally {
    pub(super) lost: Vec<usize>,
    pub(super) loss_moments: usize,
    pub(super) entries: Vec<usize>,
    pub(super) short_seconds: f64,
    pub(super) warned_seconds: f64,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Lost,
}

impl Objects {
    pub(super) fn new(redundancy: Redundancy, groups: usize, span: f64) -> Self {
        let (needed, width) = (redundancy.data_count(), redundancy.shard_count());
        let full = u32::MAX >> (u32::BITS - u32::try_from(width).expect("a stripe has at most 255 shards"));
        let count = groups * OBJECTS_PER_GROUP;
        Self {
            redundancy,
            full,
            held: vec![full; count],
            away: vec![0; count],
            deepest: vec![0; count],
            jobs: vec![None; count],
            warns: (0..=width).map(|healthy| score(healthy, needed, width) < WARNING_SCORE).collect(),
            tally: Tally {
                lost: vec![0; BATCHES],
                loss_moments: 0,
                entries: vec![0; width],
                short_seconds: 0.0,
                warned_seconds: 0.0,
            },
            short_count: 0,
            warned_count: 0,
            now: 0.0,
            span,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.held.len()
    }

    /// All shards of an object.
    pub(super) const fn full(&self) -> u32 {
        self.full
    }

    pub(super) fn held(&self, object: usize) -> u32 {
        self.held[object]
    }

    /// How many shards of an object are not where they should be.
    pub(super) fn missing_count(&self, object: usize) -> usize {
        self.redundancy.shard_count() - ones(self.held[object])
    }

    /// Counts the time until now.
    pub(super) fn pass(&mut self, now: f64) {
        let elapsed = now - self.now;
        self.tally.short_seconds += real(self.short_count) * elapsed;
        self.tally.warned_seconds += real(self.warned_count) * elapsed;
        self.now = now;
    }

    /// Shards are with their holders.
    pub(super) fn restore(&mut self, object: usize, shards: u32) {
        self.set_held(object, self.held[object] | shards);
        if self.held[object] == self.full {
            self.deepest[object] = 0;
        }
    }

    /// A holder leaves with its shard, alive.
    pub(super) fn carry_away(&mut self, object: usize, shard: u32) {
        self.away[object] |= self.held[object] & shard;
        self.set_held(object, self.held[object] & !shard);
    }

    /// It is back with it.
    pub(super) fn bring_back(&mut self, object: usize, shard: u32) {
        self.away[object] &= !shard;
        self.restore(object, shard);
    }

    /// It is back, and somebody else has the slot for good: it has nothing of its own any more.
    pub(super) fn forget_away(&mut self, object: usize, shard: u32) {
        self.away[object] &= !shard;
    }

    /// A holder dies with its shard.
    pub(super) fn destroy_held(&mut self, object: usize, shard: u32) -> Fate {
        let before = self.living(object);
        self.set_held(object, self.held[object] & !shard);
        self.judge(object, before)
    }

    /// A node that left the ring dies with its shard.
    pub(super) fn destroy_away(&mut self, object: usize, shard: u32) -> Fate {
        let before = self.living(object);
        self.away[object] &= !shard;
        self.judge(object, before)
    }

    /// Counts a moment at which objects of one group were lost.
    pub(super) const fn count_loss_moment(&mut self) {
        self.tally.loss_moments += 1;
    }

    /// Another object takes the place of one that was lost, so that as many are at stake: on those of its holders that
    /// answer, or, where these are too few to put anything, on all.
    pub(super) fn replace(&mut self, object: usize, answering: u32) {
        let enough = ones(answering) >= self.redundancy.acknowledged_count_min();
        self.away[object] = 0;
        self.jobs[object] = None;
        self.set_held(object, if enough { answering } else { self.full });
        self.deepest[object] = self.missing_count(object);
    }

    pub(super) fn into_tally(self) -> Tally {
        self.tally
    }

    fn living(&self, object: usize) -> usize {
        ones(self.held[object] | self.away[object])
    }

    fn judge(&mut self, object: usize, before: usize) -> Fate {
        let living = self.living(object);
        if living == before {
            return Fate::Kept;
        }
        let level = self.redundancy.shard_count() - living;
        if level > self.deepest[object] {
            self.deepest[object] = level;
            self.tally.entries[level - 1] += 1;
        }
        if living >= self.redundancy.data_count() {
            return Fate::Kept;
        }
        let batch = self.batch();
        self.tally.lost[batch] += 1;
        Fate::Lost
    }

    fn batch(&self) -> usize {
        let passed = (self.now / self.span * real(BATCHES)).floor();
        (0..BATCHES - 1).find(|batch| real(*batch) >= passed).unwrap_or(BATCHES - 1)
    }

    fn set_held(&mut self, object: usize, held: u32) {
        let (before, after) = (ones(self.held[object]), ones(held));
        let change = |count: &mut usize, was: bool, is: bool| {
            *count = *count + usize::from(is) - usize::from(was);
        };
        let width = self.redundancy.shard_count();
        change(&mut self.short_count, before < width, after < width);
        change(&mut self.warned_count, self.warns[before], self.warns[after]);
        self.held[object] = held;
    }
}

/// How many shards these are.
pub(super) fn ones(shards: u32) -> usize {
    usize::try_from(shards.count_ones()).expect("a word has 32 bits")
}
