//! Quotas: how many bytes a node keeps for one owner at most, what is on its way counted with what is there.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use datamesh_core::id::{NodeId, OwnerId};
use datamesh_core::limits::{MIB, PLACEMENT_GROUPS, RING_BALANCED_RANKS};
use datamesh_core::wire::Refusal;
use datamesh_engine::ring::Ring;
use tokio::sync::Notify;

/// What a node keeps of a quota for the whole mesh beyond its exact part, in hundredths: placement is even only on average, and
/// nodes don't see the same mesh at every moment.
const SLACK_PERCENT: u128 = 125;
/// What a node keeps besides, bytes: what is even on average for many shards is not for few.
const OVER: usize = 8 * MIB;

/// What part of all items a node holds by the ring, found out once for each ring.
#[derive(Debug)]
pub(crate) struct Shares {
    own: NodeId,
    /// Of this ring, the own slots by the number of holders.
    known: Mutex<(Weak<Ring>, BTreeMap<usize, u64>)>,
}

impl Shares {
    pub(crate) fn new(own: NodeId) -> Self {
        Self { own, known: Mutex::default() }
    }

    /// What the node keeps at most of an owner's quota for the whole mesh, when another item comes that so many nodes are to hold.
    pub(crate) fn of(&self, quota: u64, ring: &Arc<Ring>, holder_count: usize) -> u64 {
        let ranks = holder_count.min(ring.members().len()).min(RING_BALANCED_RANKS);
        let slots = u128::from(self.slots(ring, ranks));
        let wide = |number: usize| u64::try_from(number).expect("a small number");
        let all = u128::from(PLACEMENT_GROUPS) * u128::from(wide(ranks));
        let part = (u128::from(quota) * slots * SLACK_PERCENT).checked_div(all * 100).unwrap_or_default();
        u64::try_from(part).unwrap_or(u64::MAX).saturating_add(wide(OVER)).min(quota)
    }

    fn slots(&self, ring: &Arc<Ring>, ranks: usize) -> u64 {
        // Nothing that holds the lock can leave what is known half changed.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::ptr::eq(known.0.as_ptr(), Arc::as_ptr(ring)) {
            *known = (Arc::downgrade(ring), BTreeMap::new());
        }
        let slots = || ring.loads(ranks).get(&self.own).copied().unwrap_or_default();
        *known.1.entry(ranks).or_insert_with(slots)
    }
}

/// What is on its way of each owner. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quotas {
    under_way: Arc<Mutex<BTreeMap<OwnerId, u64>>>,
    /// Something is under way no more.
    arrived: Arc<Notify>,
}

/// Room in an owner's quota, until this is dropped: by then what it was for is counted where it is kept.
#[derive(Debug)]
#[must_use]
pub(crate) struct Reserved {
    quotas: Quotas,
    owner: OwnerId,
    size: u64,
}

impl Quotas {
    /// Room for so many more bytes of an owner in its quota here, for whom `kept` tells what is there.
    ///
    /// For a moment what has just arrived counts twice, as kept and as on its way. So what has room only without that waits
    /// until it is known.
    ///
    /// # Errors
    /// [`Refusal::OverQuota`] when what is kept leaves too little room.
    ///
    /// # Cancel safety
    /// Nothing is reserved when dropped.
    pub(crate) async fn reserve(
        &self,
        owner: OwnerId,
        size: u64,
        quota: u64,
        kept: impl Fn() -> u64,
    ) -> Result<Reserved, Refusal> {
        loop {
            let mut arrived = pin!(self.arrived.notified());
            arrived.as_mut().enable();
            if let Some(reserved) = self.try_reserve(owner, size, quota, &kept)? {
                return Ok(reserved);
            }
            arrived.await;
        }
    }

    /// `None` while only what is on its way, or has just arrived, leaves too little room.
    fn try_reserve(
        &self,
        owner: OwnerId,
        size: u64,
        quota: u64,
        kept: impl Fn() -> u64,
    ) -> Result<Option<Reserved>, Refusal> {
        let mut under_way = self.under_way();
        let coming = under_way.get(&owner).copied().unwrap_or_default();
        // Asked for with the lock held: what was under way is counted there before it is no more counted here.
        let used = kept();
        if used.saturating_add(size) > quota {
            return Err(Refusal::OverQuota { used, quota });
        }
        if used.saturating_add(coming).saturating_add(size) > quota {
            return Ok(None);
        }
        under_way.insert(owner, coming + size);
        Ok(Some(Reserved { quotas: self.clone(), owner, size }))
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<OwnerId, u64>> {
        // Nothing that holds the lock can leave the map half changed.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut under_way = self.quotas.under_way();
        let left = under_way.get(&self.owner).map_or(0, |coming| coming.saturating_sub(self.size));
        if left == 0 {
            under_way.remove(&self.owner);
        } else {
            under_way.insert(self.owner, left);
        }
        drop(under_way);
        self.quotas.arrived.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU64;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;

    use datamesh_core::id::{NodeId, OwnerId, PlacementGroup};
    use datamesh_core::topology::FailureDomain;
    use datamesh_core::wire::Refusal;
    use datamesh_engine::ring::{Member, Ring, RingSettings};
    use futures::poll;
    use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_assert, proptest};

    use super::{OVER, Quotas, Shares};

    const MIB: u64 = 1 << 20;

    /// Nodes of any capacity on few hosts or many.
    fn members() -> impl Strategy<Value = Vec<Member>> {
        let weight = (0_u32..12, 1_u64..100).prop_map(|(shift, weight)| weight << shift);
        prop::collection::btree_map(any::<[u8; 32]>(), (weight, 0..20_u8), 1..=24).prop_map(|nodes| {
            let member = |(node, (weight, host)): ([u8; 32], (u64, u8))| Member {
                node: NodeId::from_bytes(node),
                weight: NonZeroU64::new(weight).expect("one at least"),
                domain: FailureDomain::alone(&host.to_string()),
            };
            nodes.into_iter().map(member).collect()
        })
    }

    /// What all nodes grant of a quota together, each for itself.
    fn shares(ring: &Arc<Ring>, quota: u64, holder_count: usize) -> BTreeMap<NodeId, u64> {
        let share = |member: &Member| Shares::new(member.node).of(quota, ring, holder_count);
        ring.members().iter().map(|member| (member.node, share(member))).collect()
    }

    /// Bytes of stripes that are kept before one finds too few nodes with room: each shard lies on the first node in the order of
    /// its group that has room, as puts place them.
    fn kept(
        ring: &Ring,
        mut room: BTreeMap<NodeId, u64>,
        holder_count: usize,
        groups: &[u16],
        most: u64,
    ) -> u64 {
        let mut kept = 0;
        let all: Vec<PlacementGroup> = PlacementGroup::all().collect();
        for group in groups.iter().cycle().map(|group| all[usize::from(*group)]) {
            let with_room = ring.order(group).filter(|node| room[node] >= MIB);
            let holders: Vec<NodeId> = with_room.take(holder_count).collect();
            let size = MIB * u64::try_from(holders.len()).expect("few");
            if holders.len() < holder_count || kept + size > most {
                return kept;
            }
            for node in holders {
                *room.get_mut(&node).expect("a member") -= MIB;
            }
            kept += size;
        }
        kept
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

        #[test]
        fn an_owner_gets_its_quota_of_the_mesh_and_no_more_than_the_stated_error(
            members in members(),
            holder_count in 1_usize..20,
            quota in 40_u64..2000,
            groups in prop::collection::vec(0_u16..16_384, 400),
        ) {
            let (ring, quota) = (Arc::new(Ring::build(members, RingSettings::default())), quota * MIB);
            let node_count = ring.members().len();
            let holder_count = holder_count.min(node_count);
            let shares = shares(&ring, quota, holder_count);
            let granted: u64 = shares.values().sum();
            let over = u64::try_from(OVER * node_count).expect("fits");
            prop_assert!(granted <= quota * 5 / 4 + over, "{granted} of {quota} on {node_count} nodes");
            let kept = kept(&ring, shares, holder_count, &groups, quota);
            let stripe = MIB * u64::try_from(holder_count).expect("few");
            prop_assert!(kept + stripe > quota, "{kept} of {quota} on {node_count} nodes");
        }
    }

    #[test]
    fn a_node_counts_by_the_ring_of_the_moment_and_one_outside_takes_what_little_is_over() {
        let ring = |hosts: u8| {
            let member = |host: u8| Member {
                node: NodeId::from_bytes([host; 32]),
                weight: NonZeroU64::MIN,
                domain: FailureDomain::alone(&host.to_string()),
            };
            Arc::new(Ring::build((1..=hosts).map(member), RingSettings::default()))
        };
        let (two, six, quota) = (ring(2), ring(6), 1200 * MIB);
        let shares = Shares::new(NodeId::from_bytes([1; 32]));
        // Two copies on two nodes: half of all lies here. Then six nodes share it as the ring says.
        assert_eq!(shares.of(quota, &two, 2), quota * 5 / 8 + 8 * MIB);
        let sixth = quota * 5 / 24 + 8 * MIB;
        assert!((sixth * 7 / 10..sixth * 13 / 10).contains(&shares.of(quota, &six, 1)));
        assert_eq!(shares.of(quota, &six, 6), sixth, "all six hold one shard of six");
        assert_eq!(shares.of(MIB, &six, 6), MIB, "never more than the quota");
        assert_eq!(Shares::new(NodeId::from_bytes([9; 32])).of(quota, &six, 6), 8 * MIB);
        assert_eq!(shares.of(quota, &ring(0), 6), 8 * MIB, "a ring of nobody");
    }

    #[tokio::test]
    async fn what_is_on_its_way_counts_and_each_owner_for_itself() {
        let (one, other) = (OwnerId::from_bytes([1; 32]), OwnerId::from_bytes([2; 32]));
        let quotas = Quotas::default();
        let first = quotas.reserve(one, 60, 100, || 10).await.expect("70 of 100");
        let full = quotas.reserve(other, 100, 100, || 0).await.expect("its own");
        let exact = quotas.reserve(one, 30, 100, || 10).await.expect("100 of 100");
        assert!(quotas.try_reserve(one, 1, 100, || 10).expect("it may have room").is_none());
        let refused =
            quotas.reserve(one, 91, 100, || 10).await.expect_err("101 of 100 even without what is coming");
        assert_eq!(refused, Refusal::OverQuota { used: 10, quota: 100 });
        drop((first, exact, full));
        assert!(quotas.under_way().is_empty());
        assert!(quotas.reserve(one, 90, 100, || 10).await.is_ok());
    }

    #[tokio::test]
    async fn what_has_just_arrived_does_not_count_twice() {
        let (owner, quotas, kept) = (OwnerId::from_bytes([1; 32]), Quotas::default(), AtomicU64::new(0));
        let first = quotas.reserve(owner, 60, 100, || 0).await.expect("60 of 100");
        // It is kept and still said to be on its way.
        kept.store(60, Relaxed);
        let mut second = pin!(quotas.reserve(owner, 40, 100, || kept.load(Relaxed)));
        assert!(poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.is_ok());
    }
}
