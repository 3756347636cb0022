//! Compares what the holders of a group say they hold, in brief.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use datamesh_core::encode::encode;
use datamesh_core::health::Standing;
use datamesh_core::id::{NodeId, PlacementGroup};
use datamesh_core::limits::WIRE_GROUPS_MAX;
use datamesh_core::scheme::Redundancy;
use datamesh_core::summary::{Class, Summary};
use datamesh_core::wire::{Message, Request, Response};
use futures::stream::{self, StreamExt};

use super::tally::Tally;
use super::{Keeper, Look, Round, Told};
use crate::transfer::{Failure, Transfer};

/// Nodes that are asked at once.
const NODES_IN_FLIGHT: usize = 16;
/// Holders that are asked of a group of which nothing is known yet.
const HOLDERS_ASKED_FIRST: usize = 3;

/// What the holders of a group said, each that could be reached.
#[derive(Debug, Clone)]
pub(super) struct Compared {
    pub(super) group: PlacementGroup,
    /// In the order of the ring.
    pub(super) holders: Vec<NodeId>,
    /// The first holder, where it is silent and this node leads the group in its stead.
    pub(super) stands_in_for: Option<NodeId>,
    summaries: BTreeMap<NodeId, Summary>,
}

impl Compared {
    /// The most holders that anything in the group has, as far as is known.
    fn width(&self) -> usize {
        let classes = self.summaries.values().flat_map(|summary| &summary.classes);
        classes.map(|class| class.redundancy.shard_count()).max().unwrap_or_default()
    }

    /// Every redundancy that anything in the group has, as far as is known.
    fn redundancies(&self) -> Vec<Redundancy> {
        let mut redundancies: Vec<Redundancy> = self
            .summaries
            .values()
            .flat_map(|summary| summary.classes.iter().map(|class| class.redundancy))
            .collect();
        redundancies.sort_unstable();
        redundancies.dedup();
        redundancies
    }

    /// How what is in the group stands, where its holders agree: each that answers has one part of everything.
    fn standing(&self) -> Standing {
        let mut standing = Standing { group_count: 1, ..Standing::default() };
        for redundancy in self.redundancies() {
            let holders = self.holders.iter().take(redundancy.shard_count());
            let answers: Vec<Class> = holders
                .filter_map(|holder| self.summaries.get(holder))
                .map(|summary| summary.class(redundancy))
                .collect();
            let subject_count = answers.first().map_or(0, |class| class.subject_count);
            let doubtful = if answers.len() < redundancy.shard_count() { subject_count } else { 0 };
            standing.add(redundancy, answers.len(), subject_count, doubtful);
        }
        standing
    }

    /// Whether every holder that was reached holds what the others hold, and each part is held once.
    fn agrees(&self) -> bool {
        self.redundancies().into_iter().all(|redundancy| {
            let holders = || self.holders.iter().take(redundancy.shard_count());
            let classes: Vec<Class> = holders()
                .filter_map(|holder| self.summaries.get(holder))
                .map(|summary| summary.class(redundancy))
                .collect();
            if holders().all(|holder| self.summaries.contains_key(holder)) {
                Class::complete(&classes)
            } else {
                classes.windows(2).all(|pair| pair[0].same_subjects(&pair[1]))
            }
        })
    }

    /// What a later look is compared with.
    pub(super) fn look(&self) -> Look {
        let mut hasher = blake3::Hasher::new();
        for holder in &self.holders {
            hasher.update(&encode(&(holder, self.summaries.get(holder))));
        }
        Look(*hasher.finalize().as_bytes())
    }
}

impl Keeper {
    /// The groups that this node leads and whose holders differ: those of which it is the first holder, and those whose first
    /// holder is silent and of which it is the second.
    pub(super) async fn compare(
        &mut self,
        transfer: &Transfer,
        own: Vec<Summary>,
        round: &mut Round,
    ) -> (Vec<Compared>, Tally) {
        let (mut led, mut second) = (Vec::new(), Vec::new());
        for summary in own {
            let mut order = transfer.group_order(summary.group);
            match (order.next(), order.next()) {
                (Some(first), _) if first == self.own => led.push((None, summary)),
                (Some(first), Some(next)) if next == self.own => second.push((first, summary)),
                _ => {}
            }
        }
        let firsts: BTreeSet<NodeId> = second.iter().map(|(first, _)| *first).collect();
        let silent = silent_of(transfer, firsts).await;
        let stood_in = second.into_iter().filter(|(first, _)| silent.contains(first));
        led.extend(stood_in.map(|(first, summary)| (Some(first), summary)));
        round.group_count = count(led.len());
        let mut compared: Vec<Compared> = led
            .into_iter()
            .map(|(stands_in_for, summary)| Compared {
                group: summary.group,
                holders: Vec::new(),
                stands_in_for,
                summaries: BTreeMap::from([(self.own, summary)]),
            })
            .collect();
        // Other holders may know of more of a group, and so of more holders.
        while self.ask_further_holders(transfer, &mut compared).await {}
        self.remember_told(&compared);
        let mut tally = Tally::default();
        compared.retain(|group| {
            let agrees = group.agrees();
            if agrees {
                tally.add(group.stands_in_for, &group.standing());
            }
            !agrees
        });
        round.differing_count = count(compared.len());
        (compared, tally)
    }

    /// Asks the holders of each group that were not asked yet. Says whether there were any.
    async fn ask_further_holders(&self, transfer: &Transfer, compared: &mut [Compared]) -> bool {
        let mut questions: BTreeMap<NodeId, Vec<(usize, PlacementGroup)>> = BTreeMap::new();
        for (at, group) in compared.iter_mut().enumerate() {
            let width = group.width().max(HOLDERS_ASKED_FIRST);
            let known = group.holders.len();
            for holder in transfer.group_order(group.group).take(width).skip(known) {
                group.holders.push(holder);
                if holder == self.own || transfer.is_silent(&holder) {
                    continue;
                }
                questions.entry(holder).or_default().push((at, group.group));
            }
        }
        let asked = !questions.is_empty();
        let answers = stream::iter(questions).map(|(node, groups)| async move {
            let named = groups.iter().map(|(_, group)| *group).collect();
            (node, groups, summaries(transfer, node, named, self.told.get(&node)).await)
        });
        let mut answers = answers.buffer_unordered(NODES_IN_FLIGHT);
        while let Some((node, groups, summaries)) = answers.next().await {
            for ((at, _), summary) in groups.into_iter().zip(summaries) {
                compared[at].summaries.insert(node, summary);
            }
        }
        asked
    }

    /// Remembers what the holders of these groups said, and nothing of other groups.
    fn remember_told(&mut self, compared: &[Compared]) {
        let before = mem::take(&mut self.told);
        for Compared { group, holders, summaries, .. } in compared {
            for holder in holders.iter().filter(|holder| **holder != self.own) {
                // Who could not be reached now may still know what was said before.
                let told = summaries.get(holder).or_else(|| before.get(holder)?.get(group));
                if let Some(summary) = told.filter(|summary| !summary.classes.is_empty()) {
                    self.told.entry(*holder).or_default().insert(*group, summary.clone());
                }
            }
        }
    }
}

/// Those of these nodes that don't answer.
async fn silent_of(transfer: &Transfer, nodes: BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let deadline = transfer.settings.fetch_deadline;
    let answers = stream::iter(nodes).map(|node| async move {
        (node, transfer.ask(node, Message::bare(Request::Status), deadline).await)
    });
    let mut answers = answers.buffer_unordered(NODES_IN_FLIGHT);
    let mut silent = BTreeSet::new();
    while let Some((node, answer)) = answers.next().await {
        if let Err(error) = answer {
            transfer.blame(node, &Failure::Call(error));
            silent.insert(node);
        }
    }
    silent
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What a node says of these groups: of none, if it can't be reached. Where it is what was told before, only that is said.
async fn summaries(
    transfer: &Transfer,
    node: NodeId,
    groups: Vec<PlacementGroup>,
    told: Option<&Told>,
) -> Vec<Summary> {
    let known = |group: &PlacementGroup| told.and_then(|told| told.get(group)).cloned();
    let mut all: Vec<Summary> =
        groups.iter().map(|group| known(group).unwrap_or_else(|| Summary::empty(*group))).collect();
    let mut answered = 0;
    while answered < all.len() {
        let asked = all[answered..].iter().take(WIRE_GROUPS_MAX);
        let asked = asked.map(|summary| (summary.group, summary.digest())).collect();
        let request = Message::bare(Request::Summarise(asked));
        let answer = transfer.ask(node, request, transfer.settings.fetch_deadline).await;
        let failure = match answer.map(|message| message.header) {
            Ok(Response::Summaries { group_count, changed }) if group_count > 0 => {
                let page = usize::try_from(group_count).unwrap_or(usize::MAX).min(all.len() - answered);
                let mut changed = changed.into_iter().peekable();
                for summary in &mut all[answered..answered + page] {
                    if let Some(now) = changed.next_if(|changed| changed.group == summary.group) {
                        *summary = now;
                    }
                }
                answered += page;
                continue;
            }
            Ok(Response::Refused(refusal)) => Failure::Refused { node, refusal },
            Ok(_) => Failure::Protocol { node },
            Err(error) => Failure::Call(error),
        };
        transfer.blame(node, &failure);
        return Vec::new();
    }
    all
}
