//! Compares this node's records with those of another and gives each what it lacks.

use std::collections::BTreeMap;

use datamesh_core::admission::RollError;
use datamesh_core::id::NodeId;
use datamesh_core::limits::{AUTHORITIES_MAX, TOPOLOGY_NODES_MAX};
use datamesh_core::sign::Signed;
use datamesh_core::topology::NodeRecord;
use datamesh_core::wire::{Message, Refusal, Request, Response};
use datamesh_engine::world::CallError;

use crate::exchange::call::Caller;
use crate::exchange::frame::Violation;
use crate::membership::Membership;
use crate::membership::book::pages;
use crate::membership::rolls::EnrolError;

/// Which way records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Only here: a client has nothing to tell.
    Pull,
    /// Both ways.
    Both,
}

/// What a reconciliation brought.
#[derive(Debug)]
pub(crate) struct Reconciled {
    /// Records that were news here.
    pub(crate) news: Vec<Signed<NodeRecord>>,
    /// Whether the other takes this node for one of the mesh, so far as it said so.
    pub(crate) welcome: Welcome,
}

/// What another node makes of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Welcome {
    Taken,
    NotAdmitted,
}

/// Reconciles with one node.
///
/// # Errors
/// [`CallError`] when it does not answer, or answers with what can't be.
///
/// # Cancel safety
/// What was learned until then stays learned.
pub(crate) async fn reconcile(
    caller: &Caller,
    membership: &Membership,
    node: NodeId,
    direction: Direction,
) -> Result<Reconciled, CallError> {
    learn_rolls(caller, membership, node).await?;
    let mut news = Vec::new();
    let mut sequences = BTreeMap::new();
    let mut after = None;
    loop {
        let (records, more) = page(caller, node, after).await?;
        let broken = |violation: Violation| {
            caller.report(node, &violation);
            CallError::Protocol { node, why: violation.to_string() }
        };
        after = follows(after, &records, more).ok_or_else(|| broken(Violation::PageOutOfOrder))?;
        sequences
            .extend(records.iter().map(|record| (record.unverified().node, record.unverified().sequence)));
        let learned = membership.overhear(records).await;
        news.extend(learned.news);
        if let Some(violation) = learned.violation {
            return Err(broken(violation));
        }
        if !more || sequences.len() >= TOPOLOGY_NODES_MAX {
            break;
        }
    }
    let mut welcome = Welcome::Taken;
    if direction == Direction::Both {
        for records in pages(&membership.lacking(&sequences)) {
            let answer = caller.call(node, &Message::bare(Request::Announce(records))).await?;
            if matches!(answer.header, Response::Refused(Refusal::NotAdmitted)) {
                welcome = Welcome::NotAdmitted;
            }
        }
    }
    Ok(Reconciled { news, welcome })
}

/// Learns the rolls that are newer there, before the records whose nodes they admit.
async fn learn_rolls(caller: &Caller, membership: &Membership, node: NodeId) -> Result<(), CallError> {
    if !membership.rolls().is_restricted() {
        return Ok(());
    }
    for _ in 0..AUTHORITIES_MAX {
        let known = membership.rolls().sequences();
        let answer = caller.call(node, &Message::bare(Request::Rolls(known))).await?;
        let Response::Roll(Some(roll)) = answer.header else { return Ok(()) };
        match membership.enrol(roll).await {
            Ok(true) => {}
            // Our clock may be wrong, and another round begins with the same.
            Ok(false) | Err(EnrolError::Roll(RollError::Ahead | RollError::Stranger)) => return Ok(()),
            Err(error @ EnrolError::Disk(_)) => tracing::warn!(%error, "it has to be told again"),
            Err(EnrolError::Roll(RollError::Forged)) => {
                caller.report(node, &Violation::ForgedRoll);
                return Err(CallError::Protocol { node, why: Violation::ForgedRoll.to_string() });
            }
        }
    }
    Ok(())
}

async fn page(
    caller: &Caller,
    node: NodeId,
    after: Option<NodeId>,
) -> Result<(Vec<Signed<NodeRecord>>, bool), CallError> {
    match caller.call(node, &Message::bare(Request::Records { after })).await?.header {
        Response::Records { records, more } => Ok((records, more)),
        // The caller has checked that the answer is one that the request may get.
        _ => Err(CallError::Unreachable { node, why: "it is busy".to_owned() }),
    }
}

/// The node after which the next page begins, if this page lies wholly after the one before and gets on.
#[expect(clippy::option_option, reason = "the inner one is where an empty last page ends")]
fn follows(after: Option<NodeId>, records: &[Signed<NodeRecord>], more: bool) -> Option<Option<NodeId>> {
    let nodes = records.iter().map(|record| record.unverified().node);
    let ascending = after.into_iter().chain(nodes).is_sorted_by(|left, right| left < right);
    let last = records.last().map(|record| record.unverified().node);
    (ascending && (last.is_some() || !more)).then_some(last.or(after))
}

#[cfg(test)]
mod tests {
    use super::follows;
    use crate::membership::book::tests::signed;

    #[test]
    fn a_page_must_ascend_after_the_one_before_and_get_on() {
        let mut records: Vec<_> = (0..3).map(|number| signed(number, 1, |_| ())).collect();
        records.sort_by_key(|record| record.unverified().node);
        let node = |index: usize| Some(records[index].unverified().node);
        assert_eq!(follows(None, &records, true), Some(node(2)));
        assert_eq!(follows(node(0), &records[1..], false), Some(node(2)));
        assert_eq!(follows(node(2), &[], false), Some(node(2)));
        assert_eq!(follows(node(1), &records[1..], true), None, "the same node again");
        assert_eq!(follows(None, &[records[1].clone(), records[0].clone()], true), None, "not in order");
        assert_eq!(follows(node(0), &[], true), None, "more of nothing");
    }
}
