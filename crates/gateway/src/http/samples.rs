//! Metrics as Prometheus writes them, read again into numbers with names and labels.

use std::collections::BTreeMap;

/// Samples that are read of one text at the most.
const SAMPLES_MAX: usize = 20_000;

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) metric: &'a str,
    /// The name of its family: without the suffix of a counter.
    pub(super) family: &'a str,
    pub(super) kind: &'a str,
    pub(super) labels: BTreeMap<&'a str, String>,
    pub(super) value: f64,
}

/// Reads a text. What is no sample is passed over.
pub(super) fn samples(text: &str) -> Vec<Sample<'_>> {
    let (mut kinds, mut samples) = (BTreeMap::new(), Vec::new());
    for line in text.lines() {
        if let Some((metric, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(metric, kind.trim());
        } else if !line.starts_with('#')
            && samples.len() < SAMPLES_MAX
            && let Some(mut sample) = sample(line)
        {
            // The samples of a counter have a suffix that its type is told without.
            let bare = sample.metric.strip_suffix("_total");
            let known =
                [Some(sample.metric), bare].into_iter().flatten().find(|name| kinds.contains_key(name));
            if let Some(family) = known {
                (sample.family, sample.kind) = (family, kinds[family]);
            }
            samples.push(sample);
        }
    }
    samples
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let name_end = line.find(['{', ' '])?;
    let (metric, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside.trim_start();
        while !rest.starts_with('}') {
            let (name, behind) = rest.split_once("=\"")?;
            let (value, behind) = quoted(behind)?;
            labels.insert(name.trim(), value);
            rest = behind.trim_start_matches([',', ' ']);
        }
        rest = &rest[1..];
    }
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { metric, family: metric, kind: "unknown", labels, value })
}

/// A label's value up to its closing quote, and what is behind that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, character) in text.char_indices() {
        match (escaped, character) {
            (true, 'n') => value.push('\n'),
            (false, '\\') => {
                escaped = true;
                continue;
            }
            (false, '"') => return Some((value, &text[at + 1..])),
            (_, other) => value.push(other),
        }
        escaped = false;
    }
    None
}

/// A label's value as it stands between quotes.
pub(super) fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::samples;

    #[test]
    fn samples_are_read_with_their_labels_and_kinds() {
        let text = "# HELP up Whether it is.\n# TYPE up gauge\nup 1\n# TYPE sent counter\n\
                    sent_total{to=\"a \\\"b\\\"\\\\\",way=\"x,y\"} 2.5e3 1700\nbroken{a=\"b\nodd NaN\n# EOF\n";
        let read = samples(text);
        assert_eq!(read.len(), 3);
        assert_eq!((read[0].metric, read[0].kind, read[0].value.to_bits()), ("up", "gauge", 1_f64.to_bits()));
        assert_eq!((read[1].metric, read[1].kind), ("sent_total", "counter"));
        assert_eq!((read[1].labels["to"].as_str(), read[1].labels["way"].as_str()), ("a \"b\"\\", "x,y"));
        assert!(read[2].value.is_nan());
    }
}
