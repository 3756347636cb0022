//! Hands over what this node holds and others are to hold: after a node joined, or when this one drains or stood in.

use std::collections::{BTreeMap, BTreeSet};

use datamesh_core::id::{NodeId, PlacementGroup};
use datamesh_core::lease::{Lease, Subject};
use datamesh_core::limits::WIRE_PARTS_MAX;
use datamesh_core::sign::Signed;
use datamesh_core::summary::{Part, PartId, Summary};
use datamesh_core::wire::{Description, Message, Refusal, Request, Response};
use futures::future::join_all;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::mend::parts;
use super::plan::{Held, gather};
use super::{Keeper, Round};
use crate::transfer::{Failure, Transfer};
use crate::world::ItemsError;

/// Groups that are handed over at once.
const GROUPS_IN_FLIGHT: usize = 4;
/// Parts of one group that are handed over at once.
const PARTS_IN_FLIGHT: usize = 8;

/// A part that is somebody else's to hold, and what is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    /// Another holder has it.
    Drop,
    /// This holder is to have it.
    Give(NodeId),
    /// Nobody can take it now.
    Wait,
}

/// What came of the parts of a group.
#[derive(Debug, Default)]
struct Moved {
    given: u64,
    dropped: u64,
    waiting: u64,
}

impl Keeper {
    /// Gives parts that belong elsewhere to the holders that they belong to, and drops them once those have them.
    pub(super) async fn hand_over(
        &self,
        transfer: &Transfer,
        summaries: &[Summary],
        round: &mut Round,
    ) -> Result<(), ItemsError> {
        let groups: Vec<PlacementGroup> = summaries
            .iter()
            .filter(|summary| self.holds_what_belongs_elsewhere(transfer, summary))
            .map(|summary| summary.group)
            .collect();
        let moves = stream::iter(groups).map(|group| self.hand_over_group(transfer, group));
        let mut moves = moves.buffer_unordered(GROUPS_IN_FLIGHT);
        while let Some(Moved { given, dropped, waiting }) = moves.try_next().await? {
            round.handed_over += given;
            round.discarded += dropped;
            round.misplaced += waiting;
        }
        Ok(())
    }

    fn holds_what_belongs_elsewhere(&self, transfer: &Transfer, summary: &Summary) -> bool {
        summary.classes.iter().any(|class| {
            let redundancy = class.redundancy;
            let mut holders = transfer.group_order(summary.group).take(redundancy.shard_count());
            let doubled = redundancy.data_count() > 1 && class.part_count > class.subject_count;
            doubled || !holders.any(|holder| holder == self.own)
        })
    }

    async fn hand_over_group(&self, transfer: &Transfer, group: PlacementGroup) -> Result<Moved, ItemsError> {
        let own = self.own_parts(group).await?;
        let width = own.iter().map(|part| part.redundancy.shard_count()).max().unwrap_or_default();
        let order: Vec<NodeId> = transfer.group_order(group).take(width).collect();
        let others = order.iter().filter(|node| **node != self.own);
        let asked = others.map(|node| async move { (*node, parts(transfer, *node, group).await) });
        let (mut theirs, mut unreached) = (Vec::new(), BTreeSet::new());
        for (node, parts) in join_all(asked).await {
            match parts {
                Ok(parts) => theirs.extend(parts.into_iter().map(|part| (node, part))),
                Err(failure) => {
                    transfer.blame(node, &failure);
                    unreached.insert(node);
                }
            }
        }
        let view = View { own: self.own, order, unreached, theirs: gather(theirs) };
        let mut moved = Moved::default();
        let mut dropped = Vec::new();
        let moves = view.moves(&own);
        let moves = stream::iter(moves)
            .map(|(part, what)| async move { (part, self.carry_out(transfer, &part, what).await) });
        let mut moves = moves.buffer_unordered(PARTS_IN_FLIGHT);
        while let Some((part, outcome)) = moves.next().await {
            match outcome? {
                Move::Drop => dropped.push(part.id()),
                Move::Give(_) => {
                    moved.given += 1;
                    dropped.push(part.id());
                }
                Move::Wait => moved.waiting += 1,
            }
        }
        drop(moves);
        moved.dropped = self.items.discard(dropped).await?;
        Ok(moved)
    }

    async fn own_parts(&self, group: PlacementGroup) -> Result<Vec<Part>, ItemsError> {
        let mut all: Vec<Part> = Vec::new();
        loop {
            let page = self.items.parts(group, all.last().map(Part::id), WIRE_PARTS_MAX).await?;
            let last = page.len() < WIRE_PARTS_MAX;
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }

    /// Gives a part away where that is to be done, and says what was done.
    async fn carry_out(&self, transfer: &Transfer, part: &Part, what: Move) -> Result<Move, ItemsError> {
        let Move::Give(target) = what else { return Ok(what) };
        let Some(Description { item, leases, .. }) = self.items.describe(part.id()).await? else {
            return Ok(Move::Wait);
        };
        let bytes = match self.items.fetch_checked(part.item).await {
            Ok(Some(bytes)) => bytes,
            // It is forgotten for that; the group's leader makes it again.
            Ok(None) | Err(ItemsError::Rotten(_)) => return Ok(Move::Wait),
            Err(error) => return Err(error),
        };
        let _share = transfer.memory(bytes.len()).await;
        let mut given = false;
        let mut released = Vec::new();
        for lease in leases {
            let stored = if given {
                let request = Message::bare(Request::Lease { item: item.clone(), lease: lease.clone() });
                transfer.ask(target, request, transfer.settings.store_deadline).await.map_or_else(
                    |error| Err(Failure::Call(error)),
                    |answer| match answer.header {
                        Response::Stored(_) => Ok(()),
                        Response::Refused(refusal) => Err(Failure::Refused { node: target, refusal }),
                        _ => Err(Failure::Protocol { node: target }),
                    },
                )
            } else {
                transfer.store(target, item.clone(), lease.clone(), bytes.clone()).await
            };
            match stored {
                Ok(()) => given = true,
                Err(Failure::Refused { refusal: Refusal::Released, .. }) => released.push(lease),
                Err(failure) => {
                    transfer.blame(target, &failure);
                    return Ok(Move::Wait);
                }
            }
        }
        self.learn_releases(transfer, target, released).await?;
        Ok(if given { what } else { Move::Wait })
    }

    /// Ends the leases that another node knows to be released: this one was away when the owner said so.
    async fn learn_releases(
        &self,
        transfer: &Transfer,
        node: NodeId,
        leases: Vec<Signed<Lease>>,
    ) -> Result<(), ItemsError> {
        if leases.is_empty() {
            return Ok(());
        }
        let puts = leases.iter().map(|lease| lease.unverified().put()).collect();
        let request = Message::bare(Request::Releases(puts));
        match transfer.ask(node, request, transfer.settings.fetch_deadline).await {
            Ok(Message { header: Response::Releases(releases), .. }) => {
                for release in releases.into_iter().filter(|release| release.verify().is_ok()) {
                    self.items.release(release).await?;
                }
            }
            Ok(_) => transfer.blame(node, &Failure::Protocol { node }),
            Err(error) => transfer.blame(node, &Failure::Call(error)),
        }
        Ok(())
    }
}

/// A group as this node sees it.
struct View {
    own: NodeId,
    order: Vec<NodeId>,
    unreached: BTreeSet<NodeId>,
    /// What the other holders have.
    theirs: BTreeMap<Subject, Held>,
}

impl View {
    /// What is to be done with each part that this node need not hold.
    fn moves(&self, own: &[Part]) -> Vec<(Part, Move)> {
        let mut kept: BTreeSet<Subject> = BTreeSet::new();
        let mut given: BTreeMap<Subject, BTreeSet<NodeId>> = BTreeMap::new();
        let mut moves = Vec::new();
        // What others have goes first, so that what is kept of several parts of a stripe is one that nobody else has.
        let mut parts: Vec<(PartId, &Part)> = own.iter().map(|part| (part.id(), part)).collect();
        parts.sort_by_key(|(id, part)| (self.others_have(part), *id));
        for (_, part) in parts {
            let holders = &self.order[..part.redundancy.shard_count().min(self.order.len())];
            if holders.contains(&self.own) && kept.insert(part.subject) {
                continue;
            }
            let given = given.entry(part.subject).or_default();
            let what = self.what_to_do(part, holders, given);
            if let Move::Give(node) = what {
                given.insert(node);
            }
            moves.push((*part, what));
        }
        moves
    }

    /// Whether the part is with another holder too.
    fn others_have(&self, part: &Part) -> bool {
        let Some(held) = self.theirs.get(&part.subject) else { return false };
        if part.redundancy.data_count() == 1 {
            return held.healthy_count() >= part.redundancy.shard_count();
        }
        held.parts.iter().any(|(_, index, _)| *index == part.index)
    }

    fn what_to_do(&self, part: &Part, holders: &[NodeId], given: &BTreeSet<NodeId>) -> Move {
        if self.others_have(part) {
            return Move::Drop;
        }
        let nothing = Held { subject: part.subject, redundancy: part.redundancy, parts: Vec::new() };
        let held = self.theirs.get(&part.subject).unwrap_or(&nothing);
        let takes = |node: &NodeId| *node != self.own && !self.unreached.contains(node);
        let lacking: Vec<NodeId> =
            held.lacking(holders).filter(|node| takes(node) && !given.contains(node)).collect();
        let of_rank = holders.get(usize::from(part.index)).copied();
        // The holder of the part's own rank is where a reader looks first.
        let target = of_rank.filter(|node| lacking.contains(node)).or_else(|| lacking.first().copied());
        if let Some(node) = target {
            return Move::Give(node);
        }
        if part.redundancy.data_count() == 1 {
            return Move::Wait;
        }
        // Each holder has a part already, so two of them have the same: one of those drops its copy once it has this.
        let spare = held.spare_holder().filter(|node| takes(node) && !given.contains(node));
        spare.map_or(Move::Wait, Move::Give)
    }
}
