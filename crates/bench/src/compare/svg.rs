//! A small writer of bar charts in SVG: horizontal bars in groups, each with its value beside it.
use super::table::{Metric, Table};
use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
/// About a character of the 13 px font, in px.
const CHARACTER: f64 = 7.4;
const BAR: f64 = 20.0;
const GAP: f64 = 6.0;
const VALUE_ROOM: f64 = 96.0;

/// Raddle, and everything else.
const OURS: &str = "#0f766e";
const THEIRS: &str = "#94a3b8";

/// The chart of one metric; `None` if no row has it.
pub(super) fn chart(table: &Table, metric: &Metric, subtitle: &str) -> Option<String> {
    let mut groups: Vec<(&str, Vec<(&str, f64)>)> = Vec::new();
    for row in &table.rows {
        let Some(figure) = row.figures.get(metric.key) else { continue };
        let bar = (row.subject.as_str(), figure.median);
        match groups.last_mut() {
            Some((group, bars)) if *group == row.group => bars.push(bar),
            _ => groups.push((&row.group, vec![bar])),
        }
    }
    if groups.is_empty() {
        return None;
    }
    let bars: usize = groups.iter().map(|(_, bars)| bars.len()).sum();
    let longest = groups.iter().flat_map(|(_, bars)| bars).map(|(s, _)| s.chars().count()).max().unwrap_or(0);
    let labels = 40.0 + longest as f64 * CHARACTER;
    let height = 76.0 + groups.len() as f64 * 40.0 + bars as f64 * (BAR + GAP);
    let mut out = String::new();
    // Writing to a String does not fail: the results below are of that kind.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\" role=\"img\">\n\
         <title>{0}: {1}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"20\" y=\"32\" font-size=\"17\" font-weight=\"600\" fill=\"#0f172a\">{0}</text>\n\
         <text x=\"20\" y=\"54\" font-size=\"13\" fill=\"#475569\">{1}, {2}</text>\n",
        escape(&table.title),
        escape(metric.title),
        escape(subtitle)
    );
    let mut y = 76.0;
    for (group, bars) in groups {
        y += 22.0;
        let _ = writeln!(
            out,
            "<text x=\"20\" y=\"{y}\" font-size=\"13\" font-weight=\"600\" fill=\"#0f172a\">{}</text>",
            escape(group)
        );
        y += 10.0;
        // Each group has a scale of its own: work of different kinds differs by orders of magnitude.
        let most = bars.iter().map(|(_, v)| v.abs()).fold(f64::MIN_POSITIVE, f64::max);
        for (subject, value) in bars {
            bar(&mut out, [labels, y], subject, value, most, metric.digits);
            y += BAR + GAP;
        }
        y += 8.0;
    }
    out.push_str("</svg>\n");
    Some(out)
}

fn bar(out: &mut String, [x, y]: [f64; 2], subject: &str, value: f64, most: f64, digits: usize) {
    let room = WIDTH - x - VALUE_ROOM - 20.0;
    let length = (room * value.max(0.0) / most).max(1.0);
    let ours = subject.starts_with("Raddle") || subject.starts_with(|c: char| c.is_ascii_digit());
    let (fill, weight) = if ours { (OURS, 600) } else { (THEIRS, 400) };
    let middle = y + BAR / 2.0 + 4.5;
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{middle}\" font-size=\"13\" fill=\"#334155\" text-anchor=\"end\">{}</text>\n\
         <rect x=\"{x}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"3\" fill=\"{fill}\"/>\n\
         <text x=\"{:.1}\" y=\"{middle}\" font-size=\"13\" font-weight=\"{weight}\" fill=\"#0f172a\">{}</text>\n",
        x - 10.0,
        escape(subject),
        x + length + 8.0,
        number(value, digits)
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A number with thousands set apart.
pub(super) fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.find('.').map_or((text.as_str(), ""), |at| text.split_at(at));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |w| ("-", w));
    let mut out = String::from(sign);
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_set_apart_by_thousands() {
        assert_eq!(number(1_234_567.4, 0), "1,234,567");
        assert_eq!(number(-999.994, 2), "-999.99");
        assert_eq!(number(0.5, 1), "0.5");
    }

    #[test]
    fn a_chart_names_what_it_shows_and_escapes_it() {
        let metric = Metric { key: "cpu", title: "CPU <µs>", digits: 1, chart: true };
        let mut table = Table::new("t", crate::Protocol::Bolt, "A & B", &[metric]);
        assert_eq!(chart(&table, &metric, ""), None);
        table.push("8×16", "Raddle", "cpu", 1.5);
        let svg = chart(&table, &metric, "2 cores").unwrap();
        assert!(
            svg.contains("A &amp; B") && svg.contains("CPU &lt;µs&gt;") && svg.contains(">1.5<"),
            "{svg}"
        );
    }
}
