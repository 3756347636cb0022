//! Metrics as text: written by the library, read back line by line, as strictly as a stranger's text deserves.

use std::collections::BTreeMap;
use std::fmt;
use std::str::Chars;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry as Encoding;

use super::definition::{Definition, Kind};

const TOTAL: &str = "_total";
/// What a text may have at most; more is refused.
const SAMPLES_MAX: usize = 16_384;
const LABELS_MAX: usize = 8;

/// A number: whole where it counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A whole number.
    Integer(u64),
    /// Any finite number.
    Real(f64),
}

/// One number, and what it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Names and values, in the order of the definition.
    pub labels: Vec<(String, String)>,
    /// The number.
    pub value: Value,
}

/// A metric with its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// How its values behave.
    pub kind: Kind,
    /// What it says.
    pub about: String,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// Metrics by name, each with its samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Families(BTreeMap<String, Family>);

/// Samples while they are collected.
#[derive(Debug, Default)]
pub struct Samples(Families);

/// A text is no metrics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the metrics is malformed")]
pub struct ParseMetricsError {
    /// Which line, counted from 1.
    pub line: usize,
}

impl Samples {
    /// Puts a sample, with the values of its labels in their order. A number that is not finite is left out.
    ///
    /// # Panics
    /// If there are not as many labels as the definition has.
    pub fn put(&mut self, definition: &Definition, labels: &[&str], value: Value) {
        assert_eq!(
            labels.len(),
            definition.labels.len(),
            "{} has labels {:?}",
            definition.name,
            definition.labels
        );
        if matches!(value, Value::Real(number) if !number.is_finite()) {
            return;
        }
        let names = definition.labels.iter().map(ToString::to_string);
        let labels = names.zip(labels.iter().map(ToString::to_string)).collect();
        let family = self.0.0.entry(definition.name.to_owned()).or_insert_with(|| Family {
            kind: definition.kind,
            about: definition.about().to_owned(),
            samples: Vec::new(),
        });
        family.samples.push(Sample { labels, value });
    }

    /// All of them.
    #[must_use]
    pub fn into_families(self) -> Families {
        self.0
    }
}

impl Families {
    /// Each metric, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Family)> {
        self.0.iter().map(|(name, family)| (name.as_str(), family))
    }

    /// The value of a sample with these values of its labels.
    #[must_use]
    pub fn value(&self, definition: &Definition, labels: &[&str]) -> Option<f64> {
        let samples = &self.0.get(definition.name)?.samples;
        let wanted =
            |sample: &&Sample| {
                definition.labels.iter().zip(labels).all(|(name, value)| {
                    sample.labels.iter().any(|(found, text)| found == name && text == value)
                })
            };
        samples.iter().find(wanted).map(|sample| sample.value.as_real())
    }

    /// The same with one more label on each sample, in front of the others and in place of one of the same name.
    #[must_use]
    pub fn with_label(mut self, name: &str, value: &str) -> Self {
        for sample in self.0.values_mut().flat_map(|family| &mut family.samples) {
            sample.labels.retain(|(other, _)| other != name);
            sample.labels.insert(0, (name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The same without samples that have this label.
    #[must_use]
    pub fn without_label(mut self, name: &str) -> Self {
        for family in self.0.values_mut() {
            family.samples.retain(|sample| sample.labels.iter().all(|(other, _)| other != name));
        }
        self.0.retain(|_, family| !family.samples.is_empty());
        self
    }

    /// Adds those of another participant. Where both have a metric, its kind and description stay.
    pub fn merge(&mut self, other: Self) {
        for (name, mut family) in other.0 {
            match self.0.get_mut(&name) {
                Some(known) if known.kind == family.kind => known.samples.append(&mut family.samples),
                Some(_) => {}
                None => {
                    self.0.insert(name, family);
                }
            }
        }
    }

    /// As OpenMetrics text.
    ///
    /// # Panics
    /// Never: a string takes any text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut encoding = Encoding::default();
        encoding.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &encoding).expect("a string takes any text");
        text
    }

    /// Reads a text that [`Families::text`] wrote, or anybody else.
    ///
    /// # Errors
    /// [`ParseMetricsError`] at the first line that is not of such a text.
    pub fn parse(text: &str) -> Result<Self, ParseMetricsError> {
        let mut families = Self::default();
        let mut sample_count = 0;
        for (index, line) in text.lines().enumerate() {
            let read = families.parse_line(line);
            sample_count += usize::from(read == Some(Line::Sample));
            if read.is_none() || sample_count > SAMPLES_MAX {
                return Err(ParseMetricsError { line: index + 1 });
            }
        }
        families.0.retain(|_, family| !family.samples.is_empty());
        Ok(families)
    }

    fn parse_line(&mut self, line: &str) -> Option<Line> {
        if line.is_empty() || line == "# EOF" || line.starts_with("# UNIT ") {
            return Some(Line::Other);
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, about) = rest.split_once(' ').unwrap_or((rest, ""));
            self.family(name)?.about = about.to_owned();
            return Some(Line::Other);
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ')?;
            self.family(name)?.kind =
                [Kind::Counter, Kind::Gauge].into_iter().find(|known| known.text() == kind)?;
            return Some(Line::Other);
        }
        let name_end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(name_end);
        let (labels, rest) = parse_labels(rest)?;
        let value = Value::parse(rest.strip_prefix(' ')?)?;
        // A sample belongs to the family that was announced, whose name lacks a counter's ending.
        let stem = name
            .strip_suffix(TOTAL)
            .filter(|stem| self.0.get(*stem).is_some_and(|family| family.kind == Kind::Counter));
        self.0.get_mut(stem.unwrap_or(name))?.samples.push(Sample { labels, value });
        Some(Line::Sample)
    }

    /// The family of a name that is one.
    fn family(&mut self, name: &str) -> Option<&mut Family> {
        let empty = || Family { kind: Kind::Gauge, about: String::new(), samples: Vec::new() };
        is_name(name).then(|| self.0.entry(name.to_owned()).or_insert_with(empty))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Sample,
    Other,
}

impl Value {
    /// As a real number.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a metric that counts past 2^53 is none the worse for it")]
    pub fn as_real(self) -> f64 {
        match self {
            Self::Integer(number) => number as f64,
            Self::Real(number) => number,
        }
    }

    fn encode(self, kind: Kind, sample: &mut MetricEncoder<'_>) -> fmt::Result {
        match (kind, self) {
            (Kind::Counter, Self::Integer(number)) => {
                sample.encode_counter::<NoLabelSet, _, u64>(&number, None)
            }
            (Kind::Counter, Self::Real(number)) => sample.encode_counter::<NoLabelSet, _, u64>(&number, None),
            (Kind::Gauge, Self::Integer(number)) => sample.encode_gauge(&number),
            (Kind::Gauge, Self::Real(number)) => sample.encode_gauge(&number),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let integer = text.parse().ok().map(Self::Integer);
        integer.or_else(|| text.parse().ok().filter(|number: &f64| number.is_finite()).map(Self::Real))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(formatter),
            Self::Real(number) => number.fmt(formatter),
        }
    }
}

fn is_name(text: &str) -> bool {
    let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | ':');
    text.chars().all(legal) && text.starts_with(|first: char| legal(first) && !first.is_ascii_digit())
}

/// Reads `{name="value",…}`, or nothing; what is behind it is left.
fn parse_labels(text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let Some(inside) = text.strip_prefix('{') else { return Some((Vec::new(), text)) };
    let (mut labels, mut rest) = (Vec::new(), inside);
    loop {
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((labels, behind));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        if !is_name(name) || labels.len() == LABELS_MAX {
            return None;
        }
        let mut characters = quoted.chars();
        labels.push((name.to_owned(), unescaped(&mut characters)?));
        rest = characters.as_str();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

/// Reads up to the closing quotation mark.
fn unescaped(characters: &mut Chars<'_>) -> Option<String> {
    let mut text = String::new();
    loop {
        match characters.next()? {
            '"' => return Some(text),
            '\\' => text.push(match characters.next()? {
                'n' => '\n',
                other => other,
            }),
            other => text.push(other),
        }
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, family) in &self.0 {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            // The library leaves this text as it is, and a line more would be a sample of whoever wrote it.
            let about = family.about.replace(char::is_control, " ");
            let mut metric = encoder.encode_descriptor(name, &about, None, kind)?;
            for Sample { labels, value } in &family.samples {
                // With no labels the library would write an empty pair of braces.
                if labels.is_empty() {
                    value.encode(family.kind, &mut metric)?;
                } else {
                    value.encode(family.kind, &mut metric.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition as metric;
    use super::{Families, Samples, Value};

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");

    fn some() -> Families {
        let mut samples = Samples::default();
        samples.put(&metric::UPTIME_SECONDS, &[], Value::Integer(7));
        samples.put(&metric::NETWORK_BYTES, &["sent"], Value::Integer(u64::MAX));
        samples.put(&metric::NETWORK_BYTES, &["received"], Value::Integer(0));
        samples.put(&metric::CACHE_HIT_RATIO, &[], Value::Real(0.25));
        samples.put(&metric::CACHE_HIT_RATIO, &[], Value::Real(f64::NAN));
        samples.put(&metric::BUILD, &["a \"strange\\\n version"], Value::Integer(1));
        samples.into_families()
    }

    /// The table of all metrics.
    fn page() -> String {
        let mut page = String::from("| metric | kind | labels | says |\n|---|---|---|---|\n");
        for definition in metric::DEFINITIONS {
            let labels: Vec<String> = definition.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind, about) = (definition.sample_name(), definition.kind.text(), definition.about());
            page.push_str(&format!("| `{name}` | {kind} | {} | {about} |\n", labels.join(", ")));
        }
        page
    }

    #[test]
    fn the_text_is_what_prometheus_reads_and_is_read_back() {
        let text = some().text();
        for line in [
            "# TYPE datamesh_network_bytes counter",
            "datamesh_network_bytes_total{direction=\"sent\"} 18446744073709551615",
            "datamesh_uptime_seconds 7",
            "datamesh_cache_hit_ratio 0.25",
            "datamesh_build_info{version=\"a \\\"strange\\\\\\n version\"} 1",
            "# HELP datamesh_uptime_seconds Seconds since the node started.",
        ] {
            assert!(text.lines().any(|found| found == line), "`{line}` is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(Families::parse(&text), Ok(some()));
        let mut both = some().with_label("node", "a");
        both.merge(some().with_label("node", "b"));
        assert_eq!(Families::parse(&both.text()), Ok(both.clone()));
        assert_eq!(both.text().matches("# TYPE").count(), some().text().matches("# TYPE").count());
    }

    #[test]
    fn a_hostile_text_is_refused_and_can_claim_no_other_node() {
        for bad in [
            "datamesh_x 1",
            "# TYPE datamesh_x histogram\n",
            "# TYPE 1x gauge",
            "# TYPE x gauge\nx{a=\"b} 1",
            "# TYPE x gauge\nx{a=\"b\"}1",
            "# TYPE x gauge\nx{=\"b\"} 1",
            "# TYPE x gauge\nx NaN",
            "# TYPE x gauge\nx +Inf",
            "# TYPE x gauge\nx",
            "# TYPE x gauge\nx 1 2",
            "hello",
        ] {
            assert!(Families::parse(bad).is_err(), "{bad}");
        }
        let many = format!("# TYPE x gauge\n{}", "x 1\n".repeat(super::SAMPLES_MAX + 1));
        assert_eq!(Families::parse(&many).map_err(|error| error.line), Err(super::SAMPLES_MAX + 2));
        let claim = Families::parse("# TYPE x gauge\nx{node=\"another\",a=\"b\"} 1").expect("well formed");
        let text = claim.with_label("node", "itself").text();
        assert!(text.contains("x{node=\"itself\",a=\"b\"} 1") && !text.contains("another"), "{text}");
        let steering = Families::parse("# HELP x a\u{1b}[2J\n# TYPE x gauge\nx 1").expect("well formed");
        assert!(!steering.text().contains('\u{1b}'));
    }

    #[test]
    fn the_page_is_what_the_definitions_say() {
        let (begin, end) = ("<!-- metrics: begin -->\n", "<!-- metrics: end -->\n");
        let found = std::fs::read_to_string(PAGE).expect("docs/metrics.md is there");
        let (before, rest) = found.split_once(begin).expect("it has the mark of the beginning");
        let (_, after) = rest.split_once(end).expect("it has the mark of the end");
        let expected = format!("{before}{begin}{}{end}{after}", page());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PAGE, &expected).expect("the page can be written");
        }
        let found = std::fs::read_to_string(PAGE).expect("docs/metrics.md is there");
        assert!(found == expected, "run UPDATE_DOCS=1 cargo test -p datamesh-node --lib metrics");
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut names: Vec<&str> = metric::DEFINITIONS.iter().map(|definition| definition.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), metric::DEFINITIONS.len(), "a name is used twice");
        for definition in metric::DEFINITIONS {
            assert!(definition.name.starts_with("datamesh_") && super::is_name(definition.name));
            assert!(!definition.name.ends_with("_total") && definition.about().ends_with(['.', ']']));
        }
    }
}
