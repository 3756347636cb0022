//! The part of the page that the record makes: how a look grows with the shards, and how with the nodes.

use core::fmt::Write;

use super::plots::{NODES, SHARDS};
use super::record::{Record, Row};

/// Below this many kilobytes or milliseconds a figure has a digit behind the point.
const FINE_BELOW: f64 = 10.0;

/// The record's section of the page.
pub(super) fn section(record: &Record) -> String {
    let Record { session, cores, more_shards, more_nodes } = record;
    let mut text = format!(
        "Measured on {}, commit {}, {cores} cores, load before {:.1}. Where a figure of a second includes looks, \
         it is one in five minutes.\n",
        session.date, session.commit, session.load
    );
    if let Some(row) = more_shards.first() {
        let under = format!("With more shards, in a mesh of {} nodes:", row.nodes);
        table(&mut text, &under, "shards on each node", more_shards, |row| row.shards_per_node);
    }
    if let Some(row) = more_nodes.first() {
        let under = format!("With more nodes, {} shards on each:", grouped(row.shards_per_node));
        table(&mut text, &under, "nodes", more_nodes, |row| row.nodes);
    }
    for plot in [SHARDS, NODES] {
        write!(text, "\n![{}](plots/{})\n", plot.title, plot.file).expect("a string takes any text");
    }
    text
}

/// A table of rows of which each has more of something than the one above.
fn table(text: &mut String, under: &str, head: &str, rows: &[Row], growing: fn(&Row) -> u64) {
    write!(
        text,
        "\n{under}\n\n\
         | {head} | bytes of one look | to the row above | of them messages | processor time of one look | to the row above | \
         bytes a second, looks included | beside looks | processor time a second, looks included | beside looks |\n\
         |---|---|---|---|---|---|---|---|---|---|\n"
    )
    .expect("a string takes any text");
    let mut above: Option<&Row> = None;
    for row in rows {
        let growth = |figure: fn(&Row) -> f64| times(above.map(figure), figure(row));
        let cells = [
            grouped(growing(row)),
            kilobytes(row.packet_bytes_a_look),
            growth(|row| row.packet_bytes_a_look),
            kilobytes(row.message_bytes_a_look),
            milliseconds(row.cpu_us_a_look),
            growth(|row| row.cpu_us_a_look),
            whole(row.bytes_a_second()),
            whole(row.packet_bytes_a_second),
            microseconds(row.cpu_us_in_all()),
            microseconds(row.cpu_us_a_second),
        ];
        writeln!(text, "| {} |", cells.join(" | ")).expect("a string takes any text");
        above = Some(row);
    }
}

/// How often a figure has the one above in it; nothing where there is none above.
fn times(above: Option<f64>, now: f64) -> String {
    above.filter(|above| *above > 0.0).map_or_else(String::new, |above| format!("× {:.2}", now / above))
}

/// Bytes as people read them.
pub(super) fn kilobytes(bytes: f64) -> String {
    format!("{} kB", short(bytes / 1e3))
}

/// Microseconds as people read them.
pub(super) fn milliseconds(us: f64) -> String {
    format!("{} ms", short(us / 1e3))
}

fn microseconds(us: f64) -> String {
    format!("{} µs", whole(us))
}

fn short(value: f64) -> String {
    if value < FINE_BELOW { format!("{value:.1}") } else { whole(value) }
}

/// A figure without digits behind the point.
fn whole(value: f64) -> String {
    in_threes(&format!("{value:.0}"))
}

/// A count with a comma before every three digits from its end.
pub(super) fn grouped(count: u64) -> String {
    in_threes(&count.to_string())
}

fn in_threes(digits: &str) -> String {
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{grouped, kilobytes, milliseconds, section};
    use crate::idle::record::Record;

    /// A record of two rows that hold more and more, and of one mesh.
    fn record() -> Record {
        let row = |shards: u64, bytes: f64, cpu: f64| {
            format!(
                r#"{{"nodes": 6, "shards_per_node": {shards}, "cpu_us_a_second": 500, "packet_bytes_a_second": 2000,
                "cpu_us_a_look": {cpu}, "packet_bytes_a_look": {bytes}, "message_bytes_a_look": 90000}}"#
            )
        };
        let (first, second) = (row(10_000, 120_000.0, 0.0), row(100_000, 180_000.0, 30_000.0));
        let text = format!(
            r#"{{"date": "2026-01-01", "commit": "abc", "load": 0.25, "cores": 2,
            "more_shards": [{first}, {second}], "more_nodes": [{first}]}}"#
        );
        Record::of(&text).expect("a record")
    }

    #[test]
    fn a_row_says_how_much_more_it_is_than_the_one_above() {
        let text = section(&record());
        let first = "| 10,000 | 120 kB |  | 90 kB | 0.0 ms |  | 2,400 | 2,000 | 500 µs | 500 µs |";
        // Nothing is a multiple of a look that took no time.
        let second = "| 100,000 | 180 kB | × 1.50 | 90 kB | 30 ms |  | 2,600 | 2,000 | 600 µs | 500 µs |";
        assert!(text.contains(&format!("{first}\n{second}\n")), "{text}");
        assert!(text.contains("mesh of 6 nodes:") && text.contains("10,000 shards on each:"), "{text}");
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let record = record();
        let read = Record::of(&record.text()).expect("it was written");
        assert_eq!((&read.more_shards, &read.more_nodes), (&record.more_shards, &record.more_nodes));
        assert_eq!((read.session.commit.as_str(), read.cores), ("abc", 2));
    }

    #[test]
    fn figures_are_written_as_people_read_them() {
        let counts = [(7, "7"), (100, "100"), (1000, "1,000"), (16_384, "16,384"), (1_000_000, "1,000,000")];
        for (count, text) in counts {
            assert_eq!(grouped(count), text);
        }
        assert_eq!(kilobytes(184_321.0), "184 kB");
        assert_eq!(kilobytes(2_500_000.0), "2,500 kB");
        assert_eq!(milliseconds(4_321.0), "4.3 ms");
    }
}
