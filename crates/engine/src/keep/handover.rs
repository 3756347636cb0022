//! Hands over what this node holds and others are to hold: after a node joined, or when this one drains or stood in.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use datamesh_core::id::{NodeId, PlacementGroup};
use datamesh_core::lease::{Lease, Subject};
use datamesh_core::limits::{WIRE_PARTS_MAX, WIRE_PUTS_MAX};
use datamesh_core::receipt::KeptItem;
use datamesh_core::sign::Signed;
use datamesh_core::summary::{Part, PartId, Summary};
use datamesh_core::wire::{Description, Message, Refusal, Request, Response};
use futures::future::join_all;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::mend::parts;
use super::plan::{Held, gather};
use super::{Keeper, Round};
use crate::transfer::{Failure, Transfer};
use crate::world::{HandedOver, ItemsError};

/// Groups that are handed over at once.
const GROUPS_IN_FLIGHT: usize = 4;
/// Parts of one group that are handed over at once.
const PARTS_IN_FLIGHT: usize = 8;

/// A part that is somebody else's to hold, and what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Move {
    /// These holders have it.
    Drop(Vec<NodeId>),
    /// This holder is to have it.
    Give(NodeId),
    /// Nobody can take it now.
    Wait,
}

/// What was done about a part.
enum Outcome {
    /// Others have it, and know the leases that it had here.
    Dropped(HandedOver),
    Given(HandedOver),
    Waiting,
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
            .map(|(part, what)| async move { self.carry_out(transfer, &part, what).await });
        let mut moves = moves.buffer_unordered(PARTS_IN_FLIGHT);
        while let Some(outcome) = moves.try_next().await? {
            match outcome {
                Outcome::Dropped(part) => dropped.push(part),
                Outcome::Given(part) => {
                    moved.given += 1;
                    dropped.push(part);
                }
                Outcome::Waiting => moved.waiting += 1,
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

    /// Gives a part away where that is to be done, sees to it that whoever has it knows all its leases, and says what was done.
    async fn carry_out(&self, transfer: &Transfer, part: &Part, what: Move) -> Result<Outcome, ItemsError> {
        let (targets, given) = match what {
            Move::Drop(holders) => (holders, false),
            Move::Give(holder) => (vec![holder], true),
            Move::Wait => return Ok(Outcome::Waiting),
        };
        let id = part.id();
        let Some(description) = self.items.describe(id).await? else { return Ok(Outcome::Waiting) };
        let mut bytes = None;
        if given {
            bytes = match self.items.fetch_checked(id.item).await {
                Ok(Some(bytes)) => Some(bytes),
                // It is forgotten for that; the group's leader makes it again.
                Ok(None) | Err(ItemsError::Rotten(_)) => return Ok(Outcome::Waiting),
                Err(error) => return Err(error),
            };
        }
        let _share = transfer.memory(bytes.as_ref().map_or(0, Bytes::len)).await;
        for target in targets {
            if !self.hand_to(transfer, target, &description, bytes.clone()).await? {
                return Ok(Outcome::Waiting);
            }
        }
        let part = HandedOver { part: id, leases: description.leases };
        Ok(if given { Outcome::Given(part) } else { Outcome::Dropped(part) })
    }

    /// Tells a node all leases of an item, the first of them with its bytes where it doesn't have them, and says whether it
    /// holds the item under them now.
    async fn hand_to(
        &self,
        transfer: &Transfer,
        target: NodeId,
        part: &Description,
        bytes: Option<Bytes>,
    ) -> Result<bool, ItemsError> {
        let Description { item, size, leases } = part;
        let Some(id) = item.id() else { return Ok(false) };
        let kept = KeptItem { item: id, size: *size };
        let today = self.world.clock.now().epoch();
        let mut missing = bytes;
        let mut released = Vec::new();
        for lease in leases.iter().filter(|lease| !lease.unverified().expired(today)) {
            let stored = match &missing {
                Some(bytes) => transfer.store(target, item.clone(), lease.clone(), bytes.clone()).await,
                None => transfer.lease(target, item, lease, kept).await,
            };
            match stored {
                Ok(()) => missing = None,
                Err(Failure::Refused { refusal: Refusal::Released, .. }) => released.push(lease.clone()),
                // It has lost the item since it was asked.
                Err(Failure::Absent { .. }) => return Ok(false),
                Err(failure) => {
                    transfer.blame(target, &failure);
                    return Ok(false);
                }
            }
        }
        self.learn_releases(transfer, target, released).await?;
        Ok(missing.is_none())
    }

    /// Ends the leases that another node knows to be released: this one was away when the owner said so.
    async fn learn_releases(
        &self,
        transfer: &Transfer,
        node: NodeId,
        leases: Vec<Signed<Lease>>,
    ) -> Result<(), ItemsError> {
        for leases in leases.chunks(WIRE_PUTS_MAX) {
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
        parts.sort_by_key(|(id, part)| (self.others_with(part).is_some(), *id));
        for (_, part) in parts {
            let holders = &self.order[..part.redundancy.shard_count().min(self.order.len())];
            if holders.contains(&self.own) && kept.insert(part.subject) {
                continue;
            }
            let given = given.entry(part.subject).or_default();
            let what = self.what_to_do(part, holders, given);
            if let Move::Give(node) = &what {
                given.insert(*node);
            }
            moves.push((*part, what));
        }
        moves
    }

    /// The other holders that have the part too, if they are enough for this node not to need it.
    fn others_with(&self, part: &Part) -> Option<Vec<NodeId>> {
        let held = self.theirs.get(&part.subject)?;
        let replicated = part.redundancy.data_count() == 1;
        let same = held.parts.iter().filter(|(_, index, _)| replicated || *index == part.index);
        let nodes: Vec<NodeId> = same.map(|(node, ..)| *node).collect();
        let enough = if replicated {
            held.healthy_count() >= part.redundancy.shard_count()
        } else {
            !nodes.is_empty()
        };
        enough.then_some(nodes)
    }

    fn what_to_do(&self, part: &Part, holders: &[NodeId], given: &BTreeSet<NodeId>) -> Move {
        if let Some(others) = self.others_with(part) {
            return Move::Drop(others);
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
