//! How a mesh is all in all: what its nodes say, put together, with each trouble told once.

use std::collections::BTreeMap;
use std::time::Duration;

use datamesh_core::health::{Alert, Cause, Level, NodeHealth};
use datamesh_core::id::NodeId;
use datamesh_core::scheme::Redundancy;
use datamesh_core::time::Timestamp;

use crate::alert;
use crate::standing::{MeshStanding, Outline, mesh};
use crate::survey::{self, Surveyed};
use crate::world::World;

/// What all nodes have said.
#[derive(Debug, Clone)]
pub struct Overview {
    /// How each node is, in the order of ids.
    pub surveyed: Vec<Surveyed>,
    /// What those that answer say of what they look after.
    pub told: BTreeMap<NodeId, NodeHealth>,
    /// Failure domains that take shards.
    pub failure_domains: usize,
}

/// An alert, and who tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// How bad it is.
    pub level: Level,
    /// What is wrong; `None` for what only whoever asks sees: that there are too few nodes.
    pub cause: Option<Cause>,
    /// What is wrong, in words, where the cause alone doesn't say it.
    pub message: Option<String>,
    /// What is to be done, in words, where it is not what is to be done about the cause elsewhere.
    pub own_advice: Option<&'static str>,
    /// Since when it has been told.
    pub since: Option<Timestamp>,
    /// The nodes that tell it.
    pub nodes: Vec<NodeId>,
}

impl Trouble {
    /// The first word of what the causes of one trouble have in common.
    #[must_use]
    pub fn kind(&self) -> String {
        let key = self.cause.map_or_else(|| "too-few-nodes".to_owned(), |cause| cause.key());
        key.split(' ').next().unwrap_or_default().to_owned()
    }

    /// What is wrong, in words.
    #[must_use]
    pub fn words(&self) -> String {
        let of_cause = || self.cause.map(|cause| alert::message(self.level, &cause));
        self.message.clone().or_else(of_cause).unwrap_or_default()
    }

    /// What is to be done, in one word.
    #[must_use]
    pub fn action(&self) -> &'static str {
        self.cause.map_or("add_nodes", |cause| alert::action(self.level, &cause).text())
    }

    /// What is to be done, in words.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        let of_cause = || {
            self.cause
                .map_or("start more nodes with datamesh service", |cause| alert::advice(self.level, &cause))
        };
        self.own_advice.unwrap_or_else(of_cause)
    }
}

/// Asks every node that is known how it and what it looks after stands, and waits for none longer than the deadline twice.
///
/// # Cancel safety
/// Nothing is left behind when dropped.
pub async fn overview(world: &World, deadline: Duration) -> Overview {
    let surveyed = survey::survey(world, deadline).await;
    let answering = surveyed.iter().filter(|node| node.status.is_ok()).map(|node| node.record.node);
    let told = survey::health(world, answering.collect(), deadline).await;
    Overview {
        surveyed,
        told: told.into_iter().filter_map(|told| Some((told.node, told.health.ok()?))).collect(),
        failure_domains: world.peers.topology().domain_count(),
    }
}

impl Overview {
    /// How all that is stored stands.
    #[must_use]
    pub fn standing(&self) -> MeshStanding {
        mesh(self.told.iter().filter_map(|(node, health)| Some((*node, health.led.as_ref()?))))
    }

    /// The scheme of a put, as wide as the mesh can hold it.
    #[must_use]
    pub fn scheme(&self) -> Option<Redundancy> {
        Redundancy::largest_for(self.failure_domains)
    }

    /// Nodes that hold parts, whether they answer or not.
    #[must_use]
    pub fn holder_count(&self) -> usize {
        self.surveyed.iter().filter(|node| node.record.takes_shards()).count()
    }

    /// What nodes tell and what is seen from here, each trouble once, the worst first.
    #[must_use]
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut all: BTreeMap<String, Trouble> = BTreeMap::new();
        for (node, health) in &self.told {
            for Alert { level, cause, since } in &health.alerts {
                add(&mut all, *node, *level, *cause, Some(*since));
            }
        }
        for Surveyed { record, status, .. } in &self.surveyed {
            match status {
                Err(failure) => {
                    let cause = Cause::Silent { node: record.node };
                    add(&mut all, record.node, Level::Warning, cause, None);
                    if let Some(trouble) = all.get_mut(&cause.key()) {
                        trouble.nodes.retain(|teller| *teller != record.node);
                        trouble.message = Some(failure.to_string());
                    }
                }
                Ok(status) if status.full => {
                    add(&mut all, record.node, Level::Warning, Cause::DiskFull, None);
                }
                Ok(_) => {}
            }
        }
        let mut troubles: Vec<Trouble> = self.too_few().into_iter().chain(all.into_values()).collect();
        troubles.sort_by_key(|trouble| core::cmp::Reverse(trouble.level));
        troubles
    }

    fn too_few(&self) -> Vec<Trouble> {
        let critical = |message: String| Trouble {
            level: Level::Critical,
            cause: None,
            message: Some(message),
            own_advice: None,
            since: None,
            nodes: Vec::new(),
        };
        let scheme = self.scheme();
        let mut found = Vec::new();
        if scheme.is_none() {
            found.push(critical("there are fewer than two failure domains: nothing can be put".to_owned()));
        }
        let silent = self.surveyed.iter().filter(|node| node.status.is_err()).count();
        let bearable = scheme.map_or(0, Redundancy::parity_count);
        if silent > bearable {
            found.push(critical(format!(
                "{silent} nodes do not answer, more than a put survives ({bearable})"
            )));
        }
        found
    }
}

/// Adds an alert that a node tells to those of the mesh: what several tell of the same thing is one.
fn add(
    all: &mut BTreeMap<String, Trouble>,
    node: NodeId,
    level: Level,
    cause: Cause,
    since: Option<Timestamp>,
) {
    let of_one_node = match cause {
        Cause::Availability { .. }
        | Cause::RepairsFail { .. }
        | Cause::Silent { .. }
        | Cause::Failing { .. } => String::new(),
        Cause::DiskFull
        | Cause::Rot { .. }
        | Cause::DiskErrors { .. }
        | Cause::CutOff
        | Cause::ClockSkew { .. } => format!(" of {node}"),
    };
    let fresh = Trouble { level, cause: None, message: None, own_advice: None, since, nodes: Vec::new() };
    let trouble = all.entry(format!("{}{of_one_node}", cause.key())).or_insert(fresh);
    trouble.level = trouble.level.max(level);
    trouble.cause = Some(trouble.cause.map_or(cause, |known| together(known, cause)));
    trouble.since = trouble.since.into_iter().chain(since).min();
    if !trouble.nodes.contains(&node) {
        trouble.nodes.push(node);
    }
}

/// What two nodes tell of the groups that each of them leads.
fn together(one: Cause, other: Cause) -> Cause {
    match (one, other) {
        (
            Cause::Availability { short, endangered, lost, doubtful },
            Cause::Availability { short: s, endangered: e, lost: l, doubtful: d },
        ) => Cause::Availability {
            short: short.saturating_add(s),
            endangered: endangered.saturating_add(e),
            lost: lost.saturating_add(l),
            doubtful: doubtful.saturating_add(d),
        },
        (Cause::RepairsFail { failed, tried }, Cause::RepairsFail { failed: f, tried: t }) => {
            Cause::RepairsFail { failed: failed.saturating_add(f), tried: tried.saturating_add(t) }
        }
        (known, _) => known,
    }
}

/// What all that is stored survives, in words.
#[must_use]
pub fn words(outline: &Outline, holder_count: usize) -> String {
    let Outline { subject_count, whole, by_spare, lost, .. } = outline;
    // In a mesh of fewer nodes than parts a node holds several of one stripe.
    let noun = if holder_count >= outline.widest { "node" } else { "part" };
    let survive = |spare: usize| match spare {
        0 => "no further loss".to_owned(),
        1 => format!("the loss of any 1 more {noun}"),
        more => format!("the loss of any {more} more {noun}s"),
    };
    match by_spare.first_key_value() {
        None if *lost == 0 => "nothing is stored, as far as is known".to_owned(),
        None => format!("none of {lost} stripes and blocks can be read"),
        Some((least, _)) if *lost == 0 && whole == subject_count => {
            format!("every stripe and block is whole and survives {}", survive(*least))
        }
        Some(_) => {
            let each = by_spare.iter().map(|(spare, number)| format!("{number} survive {}", survive(*spare)));
            let lost = (*lost > 0).then(|| format!("{lost} can't be read"));
            let parts: Vec<String> = lost.into_iter().chain(each).collect();
            let short = subject_count - whole;
            format!("{short} of {subject_count} stripes and blocks lack parts: {}", parts.join(", "))
        }
    }
}
