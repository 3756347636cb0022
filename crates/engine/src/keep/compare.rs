//! Compares what the holders of a group say they hold, in brief.

use std::collections::BTreeMap;

use datamesh_core::encode::encode;
use datamesh_core::id::{NodeId, PlacementGroup};
use datamesh_core::limits::WIRE_GROUPS_MAX;
use datamesh_core::scheme::Redundancy;
use datamesh_core::summary::{Class, Summary};
use datamesh_core::wire::{Message, Request, Response};
use futures::stream::{self, StreamExt};

use super::{Keeper, Look, Round};
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
    summaries: BTreeMap<NodeId, Summary>,
}

impl Compared {
    /// The most holders that anything in the group has, as far as is known.
    fn width(&self) -> usize {
        let classes = self.summaries.values().flat_map(|summary| &summary.classes);
        classes.map(|class| class.redundancy.shard_count()).max().unwrap_or_default()
    }

    /// Whether every holder that was reached holds what the others hold, and each part is held once.
    fn agrees(&self) -> bool {
        let mut redundancies: Vec<Redundancy> = self
            .summaries
            .values()
            .flat_map(|summary| summary.classes.iter().map(|class| class.redundancy))
            .collect();
        redundancies.sort_unstable();
        redundancies.dedup();
        redundancies.into_iter().all(|redundancy| {
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
    /// The groups that this node leads and whose holders differ.
    pub(super) async fn compare(
        &self,
        transfer: &Transfer,
        own: Vec<Summary>,
        round: &mut Round,
    ) -> Vec<Compared> {
        let led =
            own.into_iter().filter(|summary| transfer.group_order(summary.group).next() == Some(self.own));
        let mut compared: Vec<Compared> = led
            .map(|summary| Compared {
                group: summary.group,
                holders: vec![self.own],
                summaries: BTreeMap::from([(self.own, summary)]),
            })
            .collect();
        round.group_count = u64::try_from(compared.len()).unwrap_or(u64::MAX);
        // Other holders may know of more of a group, and so of more holders.
        while ask_further_holders(transfer, &mut compared).await {}
        compared.retain(|group| !group.agrees());
        round.differing_count = u64::try_from(compared.len()).unwrap_or(u64::MAX);
        compared
    }
}

/// Asks the holders of each group that were not asked yet. Says whether there were any.
async fn ask_further_holders(transfer: &Transfer, compared: &mut [Compared]) -> bool {
    let mut questions: BTreeMap<NodeId, Vec<(usize, PlacementGroup)>> = BTreeMap::new();
    for (at, group) in compared.iter_mut().enumerate() {
        let width = group.width().max(HOLDERS_ASKED_FIRST);
        let known = group.holders.len();
        for holder in transfer.group_order(group.group).take(width).skip(known) {
            group.holders.push(holder);
            questions.entry(holder).or_default().push((at, group.group));
        }
    }
    let asked = !questions.is_empty();
    let answers = stream::iter(questions).map(|(node, groups)| async move {
        let named = groups.iter().map(|(_, group)| *group).collect();
        (node, groups, summaries(transfer, node, named).await)
    });
    let mut answers = answers.buffer_unordered(NODES_IN_FLIGHT);
    while let Some((node, groups, summaries)) = answers.next().await {
        for ((at, _), summary) in groups.into_iter().zip(summaries) {
            compared[at].summaries.insert(node, summary);
        }
    }
    asked
}

/// What a node says of these groups: of none, if it can't be reached.
async fn summaries(transfer: &Transfer, node: NodeId, groups: Vec<PlacementGroup>) -> Vec<Summary> {
    let mut all = Vec::with_capacity(groups.len());
    while all.len() < groups.len() {
        let asked = groups[all.len()..].iter().take(WIRE_GROUPS_MAX).copied().collect();
        let request = Message::bare(Request::Summarise(asked));
        let answer = transfer.ask(node, request, transfer.settings.fetch_deadline).await;
        let failure = match answer.map(|message| message.header) {
            Ok(Response::Summaries(page)) if !page.is_empty() => {
                all.extend(page);
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
