//! What a put has stored so far, in numbers.

use datamesh_core::id::ObjectId;

use super::Kept;
use crate::place::Wholeness;

/// Which run of a put it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    First,
    Resumed,
}

/// What has been stored so far.
#[derive(Clone, Copy)]
pub(super) struct Tally {
    pub(super) object: Option<ObjectId>,
    pub(super) size: u64,
    pub(super) packed_size: u64,
    pub(super) stored_size: u64,
    pub(super) reused_size: u64,
    pub(super) sent_size: u64,
    pub(super) stripe_count: u64,
    pub(super) reused_count: u64,
    pub(super) resumed_count: u64,
    pub(super) acknowledged: Wholeness,
}

impl Tally {
    pub(super) const NOTHING: Self = Self {
        object: None,
        size: 0,
        packed_size: 0,
        stored_size: 0,
        reused_size: 0,
        sent_size: 0,
        stripe_count: 0,
        reused_count: 0,
        resumed_count: 0,
        acknowledged: Wholeness::Whole,
    };

    pub(super) fn add(self, stored: Stored, run: Run) -> Self {
        let sent_size = if run == Run::First { stored.sent_size } else { 0 };
        Self {
            stored_size: self.stored_size + stored.size,
            reused_size: self.reused_size + stored.reused_size,
            sent_size: self.sent_size + sent_size,
            acknowledged: self.acknowledged.min(stored.wholeness),
            ..self
        }
    }

    pub(super) fn add_stripe(self, kept: &Kept) -> Self {
        let Kept { stripe, stored, put_in, .. } = kept;
        Self {
            packed_size: self.packed_size + u64::from(stripe.sealed_size),
            stripe_count: self.stripe_count + 1,
            reused_count: self.reused_count + u64::from(stored.size == stored.reused_size),
            resumed_count: self.resumed_count + u64::from(*put_in == Run::Resumed),
            ..self.add(*stored, *put_in)
        }
    }
}

/// One stripe or block, stored well enough to be acknowledged.
#[derive(Clone, Copy)]
pub(super) struct Stored {
    pub(super) size: u64,
    pub(super) reused_size: u64,
    pub(super) sent_size: u64,
    pub(super) wholeness: Wholeness,
}
