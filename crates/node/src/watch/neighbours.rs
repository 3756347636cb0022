//! The few nodes that a node asks again and again how they are: those behind it in the order of ids.

use std::collections::BTreeMap;
use std::time::Duration;

use datamesh_core::health::{Cause, Level};
use datamesh_core::id::NodeId;
use datamesh_core::topology::{NodeRecord, Topology};
use datamesh_engine::alert::Condition;
use datamesh_engine::forecast::{Baseline, Forecaster, Look, median};
use datamesh_engine::survey::{self, Told};
use datamesh_engine::world::World;

/// How many: each node is watched by as many others, however large the mesh is.
const WATCHED: usize = 8;
/// How long one may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Clocks that must be known to judge the own one.
const CLOCKS_MIN: usize = 2;

/// What an answer says.
#[derive(Debug, Clone, Copy)]
struct Answer {
    /// By how much the own clock is ahead, milliseconds.
    ahead_ms: i64,
    /// Microseconds that an item takes there to be written, where any was.
    write_us: Option<u64>,
    waited: Duration,
}

/// What the looks at them found.
pub(super) struct Neighbourhood {
    own: NodeId,
    /// What each has answered last, or that it did not.
    found: BTreeMap<NodeId, Option<Answer>>,
    forecasters: BTreeMap<NodeId, Forecaster>,
}

impl Neighbourhood {
    pub(super) const fn new(own: NodeId) -> Self {
        Self { own, found: BTreeMap::new(), forecasters: BTreeMap::new() }
    }

    /// Asks all of them.
    pub(super) async fn look(&mut self, world: &World) {
        let watched = watched(&world.peers.topology(), &self.own);
        let begun = world.clock.now().as_ms();
        let answers = survey::health(world, watched, DEADLINE).await;
        // The clock was read somewhere between, and that is near enough for a bound of half a minute.
        let own = begun.midpoint(world.clock.now().as_ms());
        let found = answers.into_iter().map(|Told { node, health, waited }| {
            let answer = health.ok().map(|health| Answer {
                ahead_ms: ahead(own, health.now.as_ms()),
                write_us: health.write_us,
                waited,
            });
            (node, answer)
        });
        self.found = found.collect();
        self.follow();
    }

    /// Has what was found followed for each of them.
    fn follow(&mut self) {
        self.forecasters.retain(|node, _| self.found.contains_key(node));
        let answers = self.found.values().flatten();
        let baseline = Baseline {
            latency: median(answers.map(|answer| answer.waited.as_secs_f64()).collect()),
            write: None,
        };
        for (node, answer) in &self.found {
            let look = Look {
                latency: answer.map(|answer| answer.waited.as_secs_f64()),
                absences: u64::from(answer.is_none()),
                ..Look::default()
            };
            self.forecasters.entry(*node).or_default().note(&look, &baseline);
        }
    }

    pub(super) fn conditions(&self) -> impl Iterator<Item = Condition> {
        let warning = |cause| Condition { level: Level::Warning, cause };
        let silent = self.found.iter().filter(|(_, answer)| answer.is_none());
        let silent = silent.map(move |(node, _)| warning(Cause::Silent { node: *node }));
        let failing = self.forecasters.iter().flat_map(move |(node, forecaster)| {
            forecaster.signs().map(move |sign| warning(Cause::Failing { node: *node, sign }))
        });
        silent.chain(failing)
    }

    /// What writes take elsewhere.
    pub(super) fn baseline(&self) -> Baseline {
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a write are far below 2^52")]
        let seconds = |answer: &Answer| Some(answer.write_us? as f64 / 1e6);
        let writes = self.found.values().flatten().filter_map(seconds).collect();
        Baseline { write: median(writes), latency: None }
    }

    /// By how much the own clock is ahead of most others; `None` while too few are known.
    pub(super) fn ahead_ms(&self) -> Option<i64> {
        let mut all: Vec<i64> = self.found.values().flatten().map(|answer| answer.ahead_ms).collect();
        all.sort_unstable();
        // The one in the middle; of two, the nearer to the own clock.
        let (low, high) = (all.get((all.len().max(1) - 1) / 2)?, all.get(all.len() / 2)?);
        let median = if low.unsigned_abs() < high.unsigned_abs() { low } else { high };
        (all.len() >= CLOCKS_MIN).then_some(*median)
    }
}

fn ahead(own: u64, other: u64) -> i64 {
    let difference = i128::from(own) - i128::from(other);
    i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX })
}

/// The nodes behind this one in the order of ids, the first behind the last, that serve and are not given up.
fn watched(topology: &Topology, own: &NodeId) -> Vec<NodeId> {
    let others: Vec<NodeId> = topology
        .records()
        .filter(|record| NodeRecord::serves(record) && !topology.is_absent(&record.node))
        .map(|record| record.node)
        .filter(|node| node != own)
        .collect();
    let first = others.partition_point(|node| node < own);
    others[first..].iter().chain(&others[..first]).take(WATCHED).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datamesh_core::health::{Cause, Sign};
    use datamesh_core::id::NodeId;

    use super::{Answer, Neighbourhood, ahead};

    fn answer(ahead_ms: i64) -> Answer {
        Answer { ahead_ms, write_us: Some(2_000_000), waited: Duration::from_millis(100) }
    }

    fn neighbourhood(found: &[Option<i64>]) -> Neighbourhood {
        let nodes = (0_u8..).map(|number| NodeId::from_bytes([number; 32]));
        let mut neighbourhood = Neighbourhood::new(NodeId::from_bytes([255; 32]));
        neighbourhood.found = nodes.zip(found.iter().map(|ahead| ahead.map(answer))).collect();
        neighbourhood
    }

    #[test]
    fn a_clock_is_wrong_where_most_others_say_so_and_not_where_one_does() {
        let hour = 3_600_000;
        assert_eq!(neighbourhood(&[Some(hour), None]).ahead_ms(), None, "one of two is wrong, but which?");
        assert_eq!(neighbourhood(&[Some(hour), Some(3)]).ahead_ms(), Some(3));
        assert_eq!(neighbourhood(&[Some(hour), Some(-5), Some(8)]).ahead_ms(), Some(8));
        assert_eq!(neighbourhood(&[Some(hour), Some(hour), Some(8)]).ahead_ms(), Some(hour));
        assert_eq!(ahead(0, u64::MAX), i64::MIN);
    }

    #[test]
    fn who_does_not_answer_is_told_and_who_does_so_often_is_about_to_fail() {
        let mut some = neighbourhood(&[Some(0), None, Some(0), None]);
        assert_eq!(some.conditions().count(), 2);
        assert_eq!(some.baseline().write, Some(2.0));
        (0..5).for_each(|_| some.follow());
        let failing = some
            .conditions()
            .filter(|condition| matches!(condition.cause, Cause::Failing { sign: Sign::Absences, .. }));
        assert_eq!(failing.count(), 2);
    }

    #[test]
    fn one_that_becomes_slower_than_the_others_is_about_to_fail() {
        let mut some = neighbourhood(&[Some(0), Some(0), Some(0)]);
        for _ in 0..40 {
            some.follow();
        }
        assert_eq!(some.conditions().count(), 0);
        let slow = NodeId::from_bytes([1; 32]);
        some.found.insert(slow, Some(Answer { waited: Duration::from_secs(2), ..answer(0) }));
        (0..40).for_each(|_| some.follow());
        let causes: Vec<Cause> = some.conditions().map(|condition| condition.cause).collect();
        assert_eq!(causes, [Cause::Failing { node: slow, sign: Sign::Latency }]);
    }
}
