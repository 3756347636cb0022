//! Links: what is known of a block of a manifest's tree before it is fetched, and whether the block bears it out.
//!
//! A tree has one shape: all blocks of a level but the last are full. So where a block stands says how many stripes it
//! leads to, and a block that says otherwise is refused. None of this needs a key: repair walks trees with it.

use crate::id::BlockId;
use crate::limits::BRANCH_CHILDREN_MAX;
use crate::scheme::Redundancy;

use super::{Body, Branch, Child, Leaf, ManifestError, Root, stripe_count_max};

/// Where a block stands in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Levels of blocks below it: 0 for a leaf.
    pub level: u8,
    /// Blocks of its level before it.
    pub index: u64,
}

/// A block of a tree, as the blocks above it describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Where it stands.
    pub place: Place,
    /// Which block it is, and how many stripes it leads to.
    pub child: Child,
    /// The redundancy of all stripes of the tree.
    pub redundancy: Redundancy,
}

impl Root {
    /// The block at the top of the tree; `None` for an object that travels inside its root.
    #[must_use]
    pub const fn top(&self) -> Option<Link> {
        match &self.body {
            Body::Inline(_) => None,
            Body::Tree(tree) => {
                let place = Place { level: tree.depth, index: 0 };
                Some(Link { place, child: tree.top, redundancy: self.scheme.redundancy })
            }
        }
    }
}

impl Link {
    /// Reads the branch that the link leads to.
    ///
    /// # Errors
    /// [`ManifestError`] if the bytes are another block's, no branch, or not what the link says of it.
    ///
    /// # Panics
    /// If the link leads to a leaf.
    pub fn branch(&self, bytes: &[u8]) -> Result<Branch, ManifestError> {
        assert_ne!(self.place.level, 0, "level 0 has leaves only");
        self.check_bytes(bytes)?;
        let branch = Branch::parse(bytes)?;
        self.check_children(&branch.children)?;
        Ok(branch)
    }

    /// Reads the leaf that the link leads to.
    ///
    /// # Errors
    /// [`ManifestError`] if the bytes are another block's, no leaf, or not what the link says of it.
    ///
    /// # Panics
    /// If the link leads to a branch.
    pub fn leaf(&self, bytes: &[u8]) -> Result<Leaf, ManifestError> {
        assert_eq!(self.place.level, 0, "leaves are on level 0 only");
        self.check_bytes(bytes)?;
        let leaf = Leaf::parse(bytes)?;
        if u64::try_from(leaf.stripes.len()) != Ok(self.child.stripe_count) {
            return Err(ManifestError::Contradiction(
                "a leaf with more or fewer stripes than its parent says",
            ));
        }
        if leaf.stripes.iter().any(|stripe| stripe.redundancy != self.redundancy) {
            return Err(ManifestError::Contradiction("a stripe of another redundancy than its object"));
        }
        Ok(leaf)
    }

    /// The links to a branch's children, in their order.
    ///
    /// # Panics
    /// If this is not the branch's own link.
    pub fn children(&self, branch: &Branch) -> impl Iterator<Item = Self> {
        let level = self.place.level.checked_sub(1).expect("a branch is above level 0");
        let fan_out = u64::try_from(BRANCH_CHILDREN_MAX).expect("a small constant");
        let first = self.place.index * fan_out;
        let redundancy = self.redundancy;
        (first..).zip(branch.children.clone()).map(move |(index, child)| Self {
            place: Place { level, index },
            child,
            redundancy,
        })
    }

    /// The first stripe that the block leads to: its index among all stripes of the object.
    #[must_use]
    pub fn first_stripe(&self) -> u64 {
        self.place.index * stripe_count_max(self.place.level, self.redundancy)
    }

    fn check_bytes(&self, bytes: &[u8]) -> Result<(), ManifestError> {
        let block = self.child.block;
        if BlockId::of(bytes) == block { Ok(()) } else { Err(ManifestError::WrongBytes(block)) }
    }

    /// All children but the last are full, and the last has the stripes that are left.
    fn check_children(&self, children: &[Child]) -> Result<(), ManifestError> {
        let full = stripe_count_max(self.place.level - 1, self.redundancy);
        let mut left = self.child.stripe_count;
        for child in children {
            if left == 0 || child.stripe_count != left.min(full) {
                return Err(ManifestError::Contradiction(
                    "a child with more or fewer stripes than its place has",
                ));
            }
            left -= child.stripe_count;
        }
        if left == 0 { Ok(()) } else { Err(ManifestError::Contradiction("a branch with too few children")) }
    }
}
