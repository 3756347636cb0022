//! Bar charts as SVG, readable on a light and on a dark page.

use core::fmt::Write;

/// Width of a chart, of its labels, and of the values behind the bars; height of its title and of one bar's row.
const WIDTH: f64 = 760.0;
const LABEL_WIDTH: f64 = 330.0;
const VALUE_WIDTH: f64 = 90.0;
const TITLE_HEIGHT: f64 = 34.0;
const ROW_HEIGHT: f64 = 24.0;
const FOOT_HEIGHT: f64 = 8.0;
const BAR_HEIGHT: f64 = 14.0;
/// Between a bar or a mark and the value behind it, and about how wide a value is at most.
const GAP: f64 = 6.0;
const TEXT_WIDTH: f64 = 60.0;
const STYLE: &str = "text{font:13px sans-serif;fill:#24292f}.title{font-weight:bold}.bar{fill:#4878a8}\
.target{stroke:#c2410c;stroke-width:2}\
@media(prefers-color-scheme:dark){text{fill:#d0d7de}.bar{fill:#6ca0d8}.target{stroke:#fb923c}}";

/// One bar.
#[derive(Debug)]
pub(crate) struct Bar {
    /// What stands before it.
    pub(crate) label: String,
    /// How long it is.
    pub(crate) value: f64,
    /// What stands behind it.
    pub(crate) text: String,
    /// Where a mark crosses its row: a target.
    pub(crate) mark: Option<f64>,
}

/// A chart of these bars.
pub(crate) fn svg(title: &str, bars: &[Bar]) -> String {
    stacked(&[(title, bars)])
}

/// Charts below one another in one picture, each with its title and a scale of its own.
pub(crate) fn stacked(charts: &[(&str, &[Bar])]) -> String {
    let height: f64 = charts.iter().map(|(_, bars)| height(bars)).sum();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<style>{STYLE}</style>\n"
    );
    let mut top = 0.0;
    for (title, bars) in charts {
        draw(&mut text, top, title, bars);
        top += self::height(bars);
    }
    text.push_str("</svg>\n");
    text
}

fn height(bars: &[Bar]) -> f64 {
    TITLE_HEIGHT + ROW_HEIGHT * f64::from(u32::try_from(bars.len()).expect("lines are few")) + FOOT_HEIGHT
}

/// One chart, from here down.
fn draw(text: &mut String, top: f64, title: &str, bars: &[Bar]) {
    let most = bars.iter().map(|bar| bar.mark.unwrap_or(0.0).max(bar.value)).fold(0.0, f64::max);
    let scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / most.max(f64::MIN_POSITIVE);
    let (title, title_baseline) = (escaped(title), top + 20.0);
    writeln!(text, "<text class=\"title\" x=\"8\" y=\"{title_baseline}\">{title}</text>")
        .expect("a string takes any text");
    let mut top = top + TITLE_HEIGHT;
    for bar in bars {
        let (middle, length) = (top + ROW_HEIGHT / 2.0, bar.value * scale);
        let (bar_top, baseline) = (middle - BAR_HEIGHT / 2.0, middle + 4.5);
        let label_end = LABEL_WIDTH - 8.0;
        let value_start = value_start(length, bar.mark.map(|mark| mark * scale)) + LABEL_WIDTH;
        let (label, value) = (escaped(&bar.label), escaped(&bar.text));
        write!(
            text,
            "<text x=\"{label_end}\" y=\"{baseline:.1}\" text-anchor=\"end\">{label}</text>\n\
             <rect class=\"bar\" x=\"{LABEL_WIDTH}\" y=\"{bar_top:.1}\" width=\"{length:.1}\" height=\"{BAR_HEIGHT}\"/>\n\
             <text x=\"{value_start:.1}\" y=\"{baseline:.1}\">{value}</text>\n"
        )
        .expect("a string takes any text");
        if let Some(mark) = bar.mark {
            let at = LABEL_WIDTH + mark * scale;
            let (mark_top, mark_end) = (top + 2.0, top + ROW_HEIGHT - 2.0);
            writeln!(
                text,
                "<line class=\"target\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{mark_top:.1}\" y2=\"{mark_end:.1}\"/>"
            )
            .expect("a string takes any text");
        }
        top += ROW_HEIGHT;
    }
}

/// Where the value of a bar begins: behind the bar, and behind the mark where it would lie under that.
fn value_start(length: f64, mark: Option<f64>) -> f64 {
    let behind = length + GAP;
    match mark {
        Some(mark) if (behind - GAP..behind + TEXT_WIDTH).contains(&mark) => mark + GAP,
        _ => behind,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{Bar, GAP, TEXT_WIDTH, stacked, svg, value_start};

    #[test]
    fn a_value_stands_beside_the_mark_and_never_under_it() {
        assert!((value_start(100.0, None) - 106.0).abs() < 1e-9);
        for mark in 0..400 {
            let mark = f64::from(mark);
            let start = value_start(100.0, Some(mark));
            assert!(
                start >= 100.0 + GAP && !(start..start + TEXT_WIDTH).contains(&mark),
                "{start} for {mark}"
            );
        }
    }

    #[test]
    fn a_longer_bar_is_longer_and_a_label_is_text() {
        let bar = |label: &str, value| Bar {
            label: label.to_owned(),
            value,
            text: format!("{value}"),
            mark: Some(0.5),
        };
        let text = svg("bars", &[bar("a<b", 0.25), bar("c", 0.5)]);
        assert!(text.contains("a&lt;b") && !text.contains("a<b"), "{text}");
        assert!(text.contains("width=\"170.0\"") && text.contains("width=\"340.0\""), "{text}");
        assert_eq!(text.matches("<line").count(), 2, "{text}");
    }

    #[test]
    fn charts_below_one_another_have_scales_of_their_own_and_do_not_overlap() {
        let bar = |value| [Bar { label: "a".to_owned(), value, text: String::new(), mark: None }];
        let (low, high) = (bar(1.0), bar(1000.0));
        let text = stacked(&[("low", &low), ("high", &high)]);
        assert_eq!(text.matches("width=\"340.0\"").count(), 2, "{text}");
        assert!(
            text.contains("height=\"132\"") && text.contains("y=\"20\"") && text.contains("y=\"86\""),
            "{text}"
        );
    }
}
