//! The lease: a node's promise to keep a shard until an epoch, for a price.
//!
//! An owner signs one lease per stripe and per manifest block. All leases of one put carry one tag, so that one signed
//! release ends them all.

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{BlockId, ID_SIZE, OwnerId, PlacementGroup, StripeId};
use crate::sign::Signable;
use crate::time::{Epoch, Timestamp};

/// What all leases of one put have in common: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseTag(#[serde(with = "serde_bytes")] [u8; 16]);

impl LeaseTag {
    /// Wraps raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for LeaseTag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LeaseTag({:032x})", u128::from_be_bytes(self.0))
    }
}

/// Which put a lease belongs to: an owner may choose another owner's tag, and its puts are still others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PutId {
    /// Whose put.
    pub owner: OwnerId,
    /// Which of the owner's.
    pub tag: LeaseTag,
}

/// What a lease is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// Every shard of a stripe.
    Stripe(StripeId),
    /// A manifest block.
    Block(BlockId),
}

/// An owner's wish that whatever belongs to the subject be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who wishes it.
    pub owner: OwnerId,
    /// The put it belongs to.
    pub tag: LeaseTag,
    /// What is to be kept.
    pub subject: Subject,
    /// The first epoch in which it need not be kept any more.
    pub until: Epoch,
}

/// How long what a put stores is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// Until it is released.
    UntilReleased,
    /// For so long at least, from when the put was begun.
    For(Duration),
    /// Until the beginning of an epoch.
    Until(Epoch),
}

impl Term {
    /// The first epoch in which what was begun at an instant need not be kept any more. Epochs are whole: it is never sooner than
    /// the term says.
    #[must_use]
    pub fn end(self, begun: Timestamp) -> Epoch {
        match self {
            Self::UntilReleased => Epoch::NEVER,
            Self::Until(end) => end,
            Self::For(duration) => {
                let end =
                    u64::try_from(duration.as_millis()).ok().and_then(|ms| begun.as_ms().checked_add(ms));
                end.map_or(Epoch::NEVER, |end| Timestamp::from_ms(end).next_epoch())
            }
        }
    }
}

impl Subject {
    /// The stripe's id, or the block's.
    #[must_use]
    pub const fn hash(&self) -> &[u8; ID_SIZE] {
        match self {
            Self::Stripe(stripe) => stripe.as_bytes(),
            Self::Block(block) => block.as_bytes(),
        }
    }

    /// The placement group whose nodes hold it.
    #[must_use]
    pub const fn group(&self) -> PlacementGroup {
        PlacementGroup::of_hash(self.hash())
    }
}

impl Lease {
    /// Which put it belongs to.
    #[must_use]
    pub fn put(&self) -> PutId {
        PutId { owner: self.owner, tag: self.tag }
    }

    /// Whether the lease has ended by itself.
    #[must_use]
    pub fn expired(&self, now: Epoch) -> bool {
        now >= self.until
    }
}

impl Signable for Lease {
    const DOMAIN: &'static str = "datamesh lease v1";

    fn signer(&self) -> &[u8; ID_SIZE] {
        self.owner.as_bytes()
    }
}

/// An owner's word that nothing of a put need be kept any more. Final: no later lease under the tag counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Who says it.
    pub owner: OwnerId,
    /// The put it ends.
    pub tag: LeaseTag,
}

impl Release {
    /// Which put it ends.
    #[must_use]
    pub fn put(&self) -> PutId {
        PutId { owner: self.owner, tag: self.tag }
    }
}

impl Signable for Release {
    const DOMAIN: &'static str = "datamesh release v1";

    fn signer(&self) -> &[u8; ID_SIZE] {
        self.owner.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::Term;
    use crate::time::{Epoch, Timestamp};

    #[test]
    fn a_term_never_ends_sooner_than_it_says() {
        const HOUR_MS: u64 = 3_600_000;
        for (begun, duration_ms, end) in [
            (0, 0, 0),
            (0, 1, 1),
            (0, HOUR_MS, 1),
            (1, HOUR_MS, 2),
            (HOUR_MS - 1, 2, 2),
            (u64::MAX, 1, u64::MAX),
        ] {
            let term = Term::For(Duration::from_millis(duration_ms));
            assert_eq!(term.end(Timestamp::from_ms(begun)).as_hours(), end, "{begun} + {duration_ms}");
        }
        assert_eq!(Term::For(Duration::MAX).end(Timestamp::from_ms(1)), Epoch::NEVER);
        assert_eq!(Term::UntilReleased.end(Timestamp::from_ms(1)), Epoch::NEVER);
        assert_eq!(Term::Until(Epoch::from_hours(3)).end(Timestamp::from_ms(u64::MAX)), Epoch::from_hours(3));
    }
}
