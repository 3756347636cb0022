//! Figures: what is measured, in what unit, and what it should at least or at most be.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of a mebibyte and of a gibibyte.
pub(super) const MIB: f64 = 1048576.0;
pub(super) const GIB: f64 = 1073741824.0;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Figure {
    /// Bytes of the object per second, from the start of the client's process to its end; MiB/s.
    Rate,
    /// What iperf3 reached on the same path in the same run; MiB/s.
    RawRate,
    /// The first as a share of the second.
    OfRaw,
    /// The first as a share of the link's rate.
    OfLink,
    /// Processor seconds of all processes per GiB of the object.
    Cpu,
    /// Peak resident memory of the client, MiB; of all runs the largest.
    ClientMemory,
    /// Peak resident memory of the largest node, MiB; of all runs the largest.
    NodeMemory,
    /// Bytes on the wire towards the reader beyond those of the object, as a share of the latter.
    WireOverhead,
    /// Transfers that failed.
    Failures,
    /// Jain's index of the clients' rates: 1 when all are equal.
    Fairness,
    /// The time that half of all take at most; milliseconds.
    Half,
    /// The time that 99 of 100 take at most; milliseconds.
    Late,
    /// Objects per second.
    PerSecond,
    /// Processor milliseconds of all processes of the server per object.
    CpuEach,
    /// Peak resident memory of the process that clients of S3 talk to, MiB; of all runs the largest.
    GatewayMemory,
    /// Bytes that went over the network, as a share of those for the first version.
    Sent,
    /// Bytes that the nodes hold more, as a share of those for the first version.
    Stored,
}

impl Figure {
    /// Its name in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rate => "MiB/s",
            Self::RawRate => "iperf3 MiB/s",
            Self::OfRaw => "of iperf3",
            Self::OfLink => "of the link",
            Self::Cpu => "CPU s/GiB",
            Self::ClientMemory => "peak client, MiB",
            Self::NodeMemory => "peak node, MiB",
            Self::WireOverhead => "overhead on the wire",
            Self::Failures => "failures",
            Self::Fairness => "fairness",
            Self::Half => "p50, ms",
            Self::Late => "p99, ms",
            Self::PerSecond => "objects/s",
            Self::CpuEach => "CPU ms each",
            Self::GatewayMemory => "peak gateway, MiB",
            Self::Sent => "sent, of the first",
            Self::Stored => "stored, of the first",
        }
    }

    /// Its value as people read it.
    pub(super) fn text(self, value: f64) -> String {
        match self {
            Self::Rate | Self::RawRate if value >= 100.0 => format!("{value:.0}"),
            Self::Rate | Self::RawRate | Self::ClientMemory | Self::NodeMemory | Self::GatewayMemory => {
                format!("{value:.1}")
            }
            Self::Half | Self::Late | Self::CpuEach => format!("{value:.1}"),
            Self::OfRaw | Self::Cpu => format!("{value:.2}"),
            Self::OfLink | Self::WireOverhead | Self::Sent | Self::Stored => {
                format!("{:.1} %", value * 100.0)
            }
            Self::Failures | Self::PerSecond => format!("{value:.0}"),
            Self::Fairness => format!("{value:.3}"),
        }
    }

    /// How the values of several runs become one.
    fn of_runs(self, values: &mut [f64]) -> Option<f64> {
        match self {
            Self::ClientMemory | Self::NodeMemory | Self::GatewayMemory | Self::Failures => {
                values.iter().copied().reduce(f64::max)
            }
            _ => median(values),
        }
    }
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Bound {
    /// No smaller than this.
    AtLeast(f64),
    /// No larger than this.
    AtMost(f64),
}

impl Bound {
    /// Whether a value is as it should be.
    pub(super) fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
        }
    }

    /// The limit itself.
    pub(super) fn limit(self) -> f64 {
        match self {
            Self::AtLeast(limit) | Self::AtMost(limit) => limit,
        }
    }
}

/// The figures of one run.
pub(super) type Sample = BTreeMap<Figure, f64>;

/// One thing that was measured: its figures over all runs, and their targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// What it is.
    pub(super) case: String,
    /// Its figures.
    pub(super) figures: Sample,
    /// What some of them should be.
    pub(super) targets: BTreeMap<Figure, Bound>,
    /// What a reader should know of it.
    pub(super) note: String,
}

impl Line {
    /// From the runs: medians, and for memory and failures the worst.
    pub(super) fn new(case: impl Into<String>, samples: &[Sample]) -> Self {
        let mut values: BTreeMap<Figure, Vec<f64>> = BTreeMap::new();
        for (figure, value) in samples.iter().flatten() {
            values.entry(*figure).or_default().push(*value);
        }
        let figures =
            values.iter_mut().filter_map(|(figure, values)| Some((*figure, figure.of_runs(values)?)));
        Self { case: case.into(), figures: figures.collect(), targets: BTreeMap::new(), note: String::new() }
    }

    /// With a target.
    pub(super) fn target(mut self, figure: Figure, bound: Bound) -> Self {
        self.targets.insert(figure, bound);
        self
    }

    /// With a remark.
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.case)?;
        for (figure, value) in &self.figures {
            write!(formatter, " {} {};", figure.name(), figure.text(*value))?;
        }
        for (figure, bound) in &self.targets {
            let met = self.figures.get(figure).is_some_and(|value| bound.met(*value));
            let limit = figure.text(bound.limit());
            let sign = if matches!(bound, Bound::AtLeast(_)) { "≥" } else { "≤" };
            write!(
                formatter,
                " [{} {sign} {limit}: {}]",
                figure.name(),
                if met { "met" } else { "NOT met" }
            )?;
        }
        if self.note.is_empty() { Ok(()) } else { write!(formatter, " ({})", self.note) }
    }
}

/// The middle one, or the mean of the two in the middle.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(values[middle - 1], upper)) }
}

/// Jain's index of fairness: the square of the sum over the count times the sum of squares.
pub(super) fn fairness(rates: &[f64]) -> f64 {
    let count = f64::from(u32::try_from(rates.len()).expect("clients are few"));
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    if squares > 0.0 { sum * sum / (count * squares) } else { 0.0 }
}

/// A count of bytes as a number to divide.
#[expect(clippy::cast_precision_loss, reason = "a figure for people needs three digits")]
pub(super) fn number(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::{Bound, Figure, Line, Sample, fairness, median};

    #[test]
    fn a_line_has_medians_and_of_memory_the_worst() {
        let sample =
            |rate: f64, memory: f64| Sample::from([(Figure::Rate, rate), (Figure::ClientMemory, memory)]);
        let line = Line::new("case", &[sample(3.0, 10.0), sample(1.0, 30.0), sample(2.0, 20.0)]);
        assert_eq!(line.figures, sample(2.0, 30.0));
        assert_eq!(median(&mut [4.0, 1.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn a_target_is_met_at_its_limit_and_not_beyond() {
        assert!(Bound::AtLeast(0.9).met(0.9) && !Bound::AtLeast(0.9).met(0.89));
        assert!(Bound::AtMost(100.0).met(100.0) && !Bound::AtMost(100.0).met(100.1));
    }

    #[test]
    fn fairness_is_one_for_equals_and_falls_when_one_takes_all() {
        assert!((fairness(&[5.0; 8]) - 1.0).abs() < 1e-9);
        assert!((fairness(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
    }
}
