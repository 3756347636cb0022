//! Finds what is short in groups whose holders differ, and makes it whole again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datamesh_codec::stripe::Coder;
use datamesh_core::health::Standing;
use datamesh_core::id::{NodeId, PlacementGroup};
use datamesh_core::lease::{PutId, Release, Subject};
use datamesh_core::limits::{WIRE_PARTS_MAX, WIRE_PUTS_MAX};
use datamesh_core::manifest::Stripe;
use datamesh_core::scheme::Redundancy;
use datamesh_core::sign::Signed;
use datamesh_core::summary::{Part, PartId};
use datamesh_core::wire::{Description, Message, Request, Response, StoredItem};
use futures::future::join_all;
use futures::stream::{self, StreamExt};

use super::compare::Compared;
use super::plan::{Held, gather, most_endangered_first};
use super::tally::Tally;
use super::{Keeper, Round, Seen};
use crate::repair::{Outcome, StripeError, Unreached, repair_block, repair_stripe};
use crate::transfer::{Failure, Transfer};

/// Groups whose parts are asked for at once.
const GROUPS_IN_FLIGHT: usize = 8;
/// Stripes and blocks that are remembered as short, the most endangered ones; the others are found again.
const SHORT_MAX: usize = 65_536;
/// Pages of parts that one holder is asked for of one group: some hundred thousand parts.
const PAGES_MAX: usize = 256;
/// Holders that are asked what a stripe is.
const DESCRIBERS_MAX: usize = 3;

/// What is known of all that a group's holders hold.
struct Inventory {
    compared: Compared,
    held: BTreeMap<Subject, Held>,
    /// Holders that could not be asked.
    unreached: BTreeSet<NodeId>,
    /// How all of it stands, what has not been handed over yet included.
    standing: Standing,
}

impl Keeper {
    /// Repairs what is short in these groups and has been for long enough.
    pub(super) async fn mend(
        &mut self,
        transfer: &Transfer,
        differing: Vec<Compared>,
        tally: Tally,
        round: &mut Round,
    ) {
        let (seen, mut short) = self.find_short(transfer, differing, tally).await;
        self.tell(seen);
        most_endangered_first(&mut short);
        round.short_count = count(short.len());
        short.truncate(SHORT_MAX);
        self.keep_notes_of(&short.iter().map(|held| held.subject).collect());
        short.retain(|held| self.has_settled(held.subject));
        self.repair_all(transfer, short, round).await;
    }

    /// How all groups stand, these among the others that agree, and what is short in these.
    pub(super) async fn find_short(
        &mut self,
        transfer: &Transfer,
        differing: Vec<Compared>,
        mut tally: Tally,
    ) -> (Seen, Vec<Held>) {
        let mut changed = Vec::new();
        for group in differing {
            match self.looked_at.get(&group.group) {
                Some((look, standing)) if *look == group.look() => tally.add(group.stands_in_for, standing),
                _ => changed.push(group),
            }
        }
        let mut short = Vec::new();
        let inventories = stream::iter(changed).map(|compared| inventory(transfer, compared));
        let mut inventories = inventories.buffer_unordered(GROUPS_IN_FLIGHT);
        while let Some(inventory) = inventories.next().await {
            let found = short_of(&inventory);
            let Inventory { compared, unreached, standing, .. } = inventory;
            tally.add(compared.stands_in_for, &standing);
            if found.is_empty() && unreached.is_empty() {
                self.looked_at.insert(compared.group, (compared.look(), standing));
            }
            short.extend(found);
        }
        drop(inventories);
        (tally.seen(), short)
    }

    async fn repair_all(&mut self, transfer: &Transfer, short: Vec<Held>, round: &mut Round) {
        let coders: BTreeMap<Redundancy, Arc<Coder>> = short
            .iter()
            .filter(|held| matches!(held.subject, Subject::Stripe(_)))
            .map(|held| (held.redundancy, Arc::new(Coder::new(held.redundancy))))
            .collect();
        let coders = &coders;
        let repairs = stream::iter(short).map(|held| async move {
            let repaired = repair(transfer, &held, coders).await;
            (held, repaired)
        });
        let mut repairs = repairs.buffer_unordered(transfer.settings.stripes_in_flight);
        while let Some((held, repaired)) = repairs.next().await {
            let done = match repaired {
                Ok(Repaired::Made(Outcome { stored, unplaced })) => {
                    round.repaired += stored;
                    round.unplaced += unplaced;
                    unplaced == 0
                }
                Ok(Repaired::Released(lease_count)) => {
                    round.released += lease_count;
                    true
                }
                Ok(Repaired::Lost) => {
                    round.lost_count += 1;
                    false
                }
                Err(error) => {
                    round.failed += 1;
                    tracing::warn!(subject = ?held.subject, %error, "not repaired");
                    false
                }
            };
            if !done {
                // What can't be done now is tried again, but not in every round.
                self.postpone(held.subject);
            }
        }
    }
}

/// What came of a repair.
enum Repaired {
    Made(Outcome),
    /// It need not be kept any more: so many leases were ended where that was not known.
    Released(u64),
    Lost,
}

async fn repair(
    transfer: &Transfer,
    held: &Held,
    coders: &BTreeMap<Redundancy, Arc<Coder>>,
) -> Result<Repaired, StripeError> {
    let Some(description) = describe(transfer, held).await else {
        return Ok(Repaired::Made(Outcome::default()));
    };
    let released = spread_releases(transfer, held, &description).await;
    if released.all {
        return Ok(Repaired::Released(released.lease_count));
    }
    match (&description.item, held.subject) {
        (StoredItem::Shard { stripe, .. }, _) => repair_shards(transfer, stripe, coders).await,
        (StoredItem::Block { block, redundancy }, _) => {
            let bytes = async || transfer.block(*block).await;
            let repaired = repair_block(transfer, *block, *redundancy, Unreached::HasItsPart, bytes).await;
            repaired.map(Repaired::Made)
        }
    }
}

async fn repair_shards(
    transfer: &Transfer,
    stripe: &Stripe,
    coders: &BTreeMap<Redundancy, Arc<Coder>>,
) -> Result<Repaired, StripeError> {
    let coder = coders.get(&stripe.redundancy).cloned();
    let coder = coder.unwrap_or_else(|| Arc::new(Coder::new(stripe.redundancy)));
    match repair_stripe(transfer, &coder, stripe, Unreached::HasItsPart).await {
        Err(StripeError::TooFewShards(error)) if error.failures.is_empty() => Ok(Repaired::Lost),
        repaired => repaired.map(Repaired::Made),
    }
}

/// What is short of parts, beyond those that unreached holders may have.
fn short_of(inventory: &Inventory) -> Vec<Held> {
    let Inventory { compared, held, unreached, .. } = inventory;
    let short = held.values().filter(|held| {
        let holders = compared.holders.iter().take(held.redundancy.shard_count());
        held.is_short(holders.filter(|holder| unreached.contains(holder)).count())
    });
    short.cloned().collect()
}

async fn inventory(transfer: &Transfer, compared: Compared) -> Inventory {
    let (mut all, unreached) = parts_of(transfer, &compared.holders, compared.group).await;
    let held = gather(all.iter().copied());
    let mut silent = unreached.clone();
    if held.values().any(|held| held.healthy_count() < held.redundancy.shard_count()) {
        // What has not been handed over yet can be read where it is.
        let former = transfer.former_holders(compared.group, &compared.holders);
        let (more, more_unreached) = parts_of(transfer, &former, compared.group).await;
        all.extend(more);
        silent.extend(more_unreached);
    }
    let standing = standing(&gather(all), &compared, &silent);
    Inventory { compared, held, unreached, standing }
}

/// How what is held of a group stands.
fn standing(held: &BTreeMap<Subject, Held>, compared: &Compared, silent: &BTreeSet<NodeId>) -> Standing {
    let mut standing = Standing { group_count: 1, ..Standing::default() };
    for held in held.values() {
        let shard_count = held.redundancy.shard_count();
        let healthy = held.healthy_count();
        // A former holder may have any part, one of the ring's only what it is to hold.
        let beyond = &compared.holders[shard_count.min(compared.holders.len())..];
        let doubtful = healthy < shard_count && silent.iter().any(|node| !beyond.contains(node));
        standing.add(held.redundancy, healthy, 1, u64::from(doubtful));
    }
    standing
}

/// What these nodes hold of a group, and which of them could not be asked.
async fn parts_of(
    transfer: &Transfer,
    nodes: &[NodeId],
    group: PlacementGroup,
) -> (Vec<(NodeId, Part)>, BTreeSet<NodeId>) {
    let asked = nodes.iter().map(|node| async move { (*node, parts(transfer, *node, group).await) });
    let (mut all, mut unreached) = (Vec::new(), BTreeSet::new());
    for (node, parts) in join_all(asked).await {
        match parts {
            Ok(parts) => all.extend(parts.into_iter().map(|part| (node, part))),
            Err(failure) => {
                transfer.blame(node, &failure);
                unreached.insert(node);
            }
        }
    }
    (all, unreached)
}

/// All parts of a group that a node holds.
pub(super) async fn parts(
    transfer: &Transfer,
    node: NodeId,
    group: PlacementGroup,
) -> Result<Vec<Part>, Failure> {
    let mut all: Vec<Part> = Vec::new();
    for _ in 0..PAGES_MAX {
        let after = all.last().map(Part::id);
        let request = Message::bare(Request::Parts { group, after });
        let answer = transfer.ask(node, request, transfer.settings.fetch_deadline).await?;
        match answer.header {
            Response::Parts { parts, more } => {
                let of_group = parts.iter().all(|part| part.subject.group() == group);
                if !of_group || parts.len() > WIRE_PARTS_MAX || (more && parts.is_empty()) {
                    return Err(Failure::Protocol { node });
                }
                all.extend(parts);
                if !more {
                    break;
                }
            }
            Response::Refused(refusal) => return Err(Failure::Refused { node, refusal }),
            _ => return Err(Failure::Protocol { node }),
        }
    }
    Ok(all)
}

/// What a holder says that a stripe or a block is. A stripe is what its id says, so one that is true is enough.
async fn describe(transfer: &Transfer, held: &Held) -> Option<Description> {
    for (node, _, item) in held.parts.iter().take(DESCRIBERS_MAX) {
        let request = Message::bare(Request::Describe(PartId { subject: held.subject, item: *item }));
        match transfer.ask(*node, request, transfer.settings.fetch_deadline).await {
            Ok(Message { header: Response::Described(description), .. })
                if description.item.subject() == held.subject && description.item.id().is_some() =>
            {
                return Some(description);
            }
            Ok(Message { header: Response::Absent, .. }) => {}
            Ok(_) => transfer.blame(*node, &Failure::Lied { node: *node, item: *item }),
            Err(error) => transfer.blame(*node, &Failure::Call(error)),
        }
    }
    None
}

/// What is known of releases among the holders.
struct Releases {
    /// Whether every lease that was known was released.
    all: bool,
    lease_count: u64,
}

/// Tells the holders of what is short that its leases were released, where a holder that lacks it knows so: they were away
/// when the owner said it.
async fn spread_releases(transfer: &Transfer, held: &Held, description: &Description) -> Releases {
    let puts: Vec<PutId> = description.leases.iter().map(|lease| lease.unverified().put()).collect();
    let holders: Vec<NodeId> =
        transfer.group_order(held.subject.group()).take(held.redundancy.shard_count()).collect();
    let mut released: BTreeMap<PutId, Signed<Release>> = BTreeMap::new();
    for node in held.lacking(&holders).filter(|node| !transfer.avoids(node)) {
        let asked = puts.iter().take(WIRE_PUTS_MAX).copied().collect();
        let request = Message::bare(Request::Releases(asked));
        match transfer.ask(node, request, transfer.settings.fetch_deadline).await {
            Ok(Message { header: Response::Releases(releases), .. }) => {
                let signed = releases.into_iter().filter(|release| release.verify().is_ok());
                released.extend(signed.map(|release| (release.unverified().put(), release)));
            }
            Ok(_) => transfer.blame(node, &Failure::Protocol { node }),
            Err(error) => transfer.blame(node, &Failure::Call(error)),
        }
    }
    let mut lease_count = 0;
    for release in puts.iter().filter_map(|put| released.get(put)) {
        for node in held.parts.iter().map(|(node, ..)| *node).collect::<BTreeSet<_>>() {
            lease_count += tell_release(transfer, node, release.clone()).await;
        }
    }
    let all = !puts.is_empty() && puts.iter().all(|put| released.contains_key(put));
    Releases { all, lease_count }
}

async fn tell_release(transfer: &Transfer, node: NodeId, release: Signed<Release>) -> u64 {
    let request = Message::bare(Request::Release(release));
    match transfer.ask(node, request, transfer.settings.store_deadline).await {
        Ok(Message { header: Response::Released { lease_count }, .. }) => lease_count,
        Ok(_) => {
            transfer.blame(node, &Failure::Protocol { node });
            0
        }
        Err(error) => {
            transfer.blame(node, &Failure::Call(error));
            0
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
