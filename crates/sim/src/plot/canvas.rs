//! Panels of lines over one axis of time, written as SVG by hand.
use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 78.0;
const PANEL: f64 = 104.0;
const GAP: f64 = 40.0;

/// A line of a panel.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) colour: &'static str,
    pub(super) dashed: bool,
    /// A value for each second.
    pub(super) values: Vec<f64>,
}

/// A picture that is being drawn.
pub(super) struct Canvas {
    out: String,
    y: f64,
    /// First and last second shown, and those of the event.
    time: [f64; 2],
    event: [f64; 2],
}

// Writing to a String does not fail: the results below are of that kind.
impl Canvas {
    pub(super) fn new(title: &str, subtitle: &str, panels: usize, time: [f64; 2], event: [f64; 2]) -> Canvas {
        let height = TOP + panels as f64 * (PANEL + GAP) + 12.0;
        let mut out = String::new();
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\" role=\"img\">\n\
             <title>{0}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"20\" y=\"30\" font-size=\"17\" font-weight=\"600\" fill=\"#0f172a\">{0}</text>\n\
             <text x=\"20\" y=\"51\" font-size=\"13\" fill=\"#475569\">{1}</text>\n",
            escape(title),
            escape(subtitle)
        );
        Canvas { out, y: TOP, time, event }
    }

    fn x(&self, t: f64) -> f64 {
        let [first, last] = self.time;
        LEFT + (WIDTH - LEFT - RIGHT) * (t - first) / (last - first)
    }

    /// Draws a panel. Its scale ends at `most`, or at a round number above what there is.
    pub(super) fn panel(&mut self, title: &str, most: Option<f64>, lines: &[Line]) {
        let top = self.y + 18.0;
        let bottom = top + PANEL - 18.0;
        let highest = lines.iter().flat_map(|l| &l.values).copied().fold(0.0_f64, f64::max);
        let scale = most.unwrap_or_else(|| round_up(highest));
        let [from, to] = self.event.map(|t| self.x(t));
        let (left, right) = (LEFT, WIDTH - RIGHT);
        let _ = write!(
            self.out,
            "<g>\n<text x=\"{left}\" y=\"{}\" font-size=\"13\" font-weight=\"600\" fill=\"#0f172a\">{}</text>\n\
             <rect x=\"{from:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#fef3c7\"/>\n",
            self.y + 10.0,
            escape(title),
            to - from,
            bottom - top
        );
        for (part, y) in [(1.0, top), (0.5, f64::midpoint(top, bottom)), (0.0, bottom)] {
            let _ = write!(
                self.out,
                "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#e2e8f0\"/>\n\
                 <text x=\"{}\" y=\"{:.1}\" font-size=\"11\" fill=\"#64748b\" text-anchor=\"end\">{}</text>\n",
                left - 8.0,
                y + 4.0,
                number(scale * part)
            );
        }
        for line in lines {
            self.line(line, scale, top, bottom);
        }
        // Names stand in the order in which lines lie above one another.
        for (n, line) in lines.iter().rev().enumerate() {
            let y = top + 10.0 + n as f64 * 17.0;
            let dash = if line.dashed { " stroke-dasharray=\"4 3\"" } else { "" };
            let _ = write!(
                self.out,
                "<line x1=\"{0}\" y1=\"{y}\" x2=\"{1}\" y2=\"{y}\" stroke=\"{2}\" stroke-width=\"2\"{dash}/>\n\
                 <text x=\"{3}\" y=\"{4}\" font-size=\"12\" fill=\"#334155\">{5}</text>\n",
                right + 10.0,
                right + 26.0,
                line.colour,
                right + 32.0,
                y + 4.0,
                escape(&line.name)
            );
        }
        self.ticks(bottom);
        self.out.push_str("</g>\n");
        self.y += PANEL + GAP;
    }

    fn line(&mut self, line: &Line, scale: f64, top: f64, bottom: f64) {
        let mut points = String::new();
        for (n, value) in line.values.iter().enumerate() {
            let x = self.x(self.time[0] + n as f64 + 0.5);
            let part = (value / scale).clamp(0.0, 1.04);
            let _ = write!(points, "{x:.1},{:.1} ", bottom - part * (bottom - top));
        }
        let dash = if line.dashed { " stroke-dasharray=\"4 3\"" } else { "" };
        let width = if line.dashed { 1.2 } else { 1.8 };
        let _ = writeln!(
            self.out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\" \
             stroke-linejoin=\"round\"{dash}/>",
            points.trim_end(),
            line.colour
        );
    }

    fn ticks(&mut self, bottom: f64) {
        let [first, last] = self.time;
        let step = [10.0, 30.0, 60.0, 300.0, 600.0]
            .into_iter()
            .find(|s| (last - first) / s <= 14.0)
            .unwrap_or(3600.0);
        let mut t = (first / step).ceil() * step;
        while t <= last {
            let x = self.x(t);
            let _ = writeln!(
                self.out,
                "<text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"11\" fill=\"#64748b\" text-anchor=\"middle\">{t} s</text>",
                bottom + 14.0
            );
            t += step;
        }
    }

    pub(super) fn done(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10.0_f64.powf(value.max(1e-3).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.into_iter().map(|s| s * power).find(|s| *s >= value).unwrap_or(10.0 * power)
}

fn number(value: f64) -> String {
    let digits = if value >= 10.0 || value == 0.0 { 0 } else { 2 };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        assert_eq!([0.3, 1.0, 7.0, 51.0].map(round_up), [0.5, 1.0, 10.0, 100.0]);
        assert_eq!([0.0, 0.25, 1.0, 50.0].map(number), ["0", "0.25", "1", "50"]);
    }
}
