//! Draws the board.
use super::board::{Instance, Mood, View};
use super::live::KEYS;
use crate::output::colours_wanted;
use raddle_core::Reason;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, BorderType, Paragraph, Sparkline};

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    colours: bool,
}

impl Look {
    /// As the user's environment wants it.
    pub(super) fn of_terminal() -> Look {
        Look { colours: colours_wanted() }
    }

    fn colour(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    pub(super) fn good(self) -> Style {
        self.colour(Color::Green)
    }

    pub(super) fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn act(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim(self) -> Style {
        self.colour(Color::DarkGray)
    }

    pub(super) fn bold() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }
}

/// The whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, look: Look) {
    let instances = view.instances.len() as u16;
    let [title, top, middle, bottom, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(9),
        Constraint::Length(instances + 3),
        Constraint::Min(4),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title_line(view), title);
    let [traffic, failures] =
        Layout::horizontal([Constraint::Percentage(54), Constraint::Percentage(46)]).areas(top);
    draw_traffic(frame, traffic, view, look);
    frame.render_widget(Paragraph::new(failures_text(view, look)).block(block("failures")), failures);
    let width = usize::from(middle.width).saturating_sub(2);
    let text = instances_text(view, width, look);
    frame.render_widget(Paragraph::new(text).block(block("order: where the requests go")), middle);
    let rows = usize::from(bottom.height).saturating_sub(2);
    frame.render_widget(Paragraph::new(events_text(view, rows, look)).block(block("events")), bottom);
    frame.render_widget(keys_line(look), keys);
}

/// A frame with a title.
pub(super) fn block(title: &str) -> Block<'_> {
    Block::bordered().border_type(BorderType::Rounded).title(format!(" {title} "))
}

fn title_line(view: &View) -> Line<'static> {
    let seconds = view.elapsed.as_secs();
    let mut spans = vec![
        Span::styled(" raddle demo ", Look::bold().add_modifier(Modifier::REVERSED)),
        Span::raw(format!("  {}:{:02}", seconds / 60, seconds % 60)),
        Span::raw("   configuration"),
    ];
    for shop in &view.shops {
        spans.push(Span::raw(format!("  {}: {}", shop.name, shop.generation)));
    }
    spans.push(Span::raw("   2 × shop → 3 × order + canary, a sidecar beside each"));
    Line::from(spans)
}

/// Rates, latency and a chart of the last seconds.
pub(super) fn draw_traffic(frame: &mut Frame<'_>, area: Rect, view: &View, look: Look) {
    let outer = block("traffic");
    let inner = outer.inner(area);
    frame.render_widget(outer, area);
    let [numbers, chart] = Layout::vertical([Constraint::Length(4), Constraint::Min(1)]).areas(inner);
    let s = &view.second;
    let failed_now = if s.failed > 0 { look.bad() } else { Style::new() };
    let text = Text::from(vec![
        Line::from(vec![
            Span::raw(" answered "),
            Span::styled(format!("{:.0}/s", s.ok), look.good().add_modifier(Modifier::BOLD)),
            Span::raw(format!(" of {:.0}/s   failed ", view.rate)),
            Span::styled(format!("{}/s", s.failed), failed_now),
        ]),
        Line::from(vec![
            Span::raw(" p50 "),
            Span::styled(format!("{:.2}", s.p50), Look::bold()),
            Span::raw("   p99 "),
            Span::styled(format!("{:.2}", s.p99), Look::bold()),
            Span::raw("   max "),
            Span::styled(format!("{:.2}", s.max), Look::bold()),
            Span::raw(" ms"),
        ]),
        Line::from(format!(" {} sent, {} answered, {} failed", view.sent, view.ok, view.failures())),
        Line::styled(" answered each second:", look.dim()),
    ]);
    frame.render_widget(Paragraph::new(text), numbers);
    let room = usize::from(chart.width).saturating_sub(2);
    let seen = &view.history[view.history.len().saturating_sub(room)..];
    let bars = Sparkline::default().data(seen).max((view.rate * 1.2) as u64).style(look.good());
    let [_, chart] = Layout::horizontal([Constraint::Length(2), Constraint::Min(1)]).areas(chart);
    frame.render_widget(bars, chart);
}

fn failures_text(view: &View, look: Look) -> Text<'static> {
    if view.failed.is_empty() {
        return Text::from(Line::styled("  none", look.good()));
    }
    let mut lines: Vec<Line<'static>> = view
        .failed
        .iter()
        .take(5)
        .map(|(kind, n)| {
            let why = Reason::from_flag(kind).map_or("", Reason::describe);
            let count = Span::styled(format!("{n:6} "), look.bad());
            Line::from(vec![count, Span::styled(format!("{kind:4} "), Look::bold()), Span::raw(why)])
        })
        .collect();
    if view.expected > 0 {
        let text = format!("  {} expected: in flight to a killed instance", view.expected);
        lines.push(Line::styled(text, look.dim()));
    }
    Text::from(lines)
}

fn instances_text(view: &View, width: usize, look: Look) -> Text<'static> {
    // What the other columns take.
    let fixed = 70;
    let room = width.saturating_sub(fixed).clamp(8, 60);
    let bar = "share";
    let head = format!(
        "  {:9}{:9}{:>7}  {:12}{bar:room$}{:>9}{:>9}  sidecar",
        "instance", "group", "weight", "state", "", "per s"
    );
    let mut lines = vec![Line::styled(head, look.dim())];
    lines.extend(view.instances.iter().map(|i| instance_line(i, room, look)));
    Text::from(lines)
}

fn instance_line(i: &Instance, room: usize, look: Look) -> Line<'static> {
    let (state, style) = if !i.alive {
        ("killed".to_owned(), look.bad())
    } else {
        let good = ["", "healthy", "ready", "connected", "up", "unknown", "idle"].contains(&i.state.as_str());
        (
            if i.state.is_empty() { "-".into() } else { i.state.clone() },
            if good { look.good() } else { look.bad() },
        )
    };
    let full = (i.share * room as f64).round() as usize;
    let full = full.min(room);
    Line::from(vec![
        Span::styled(format!("  {:9}", i.name), Look::bold()),
        Span::raw(format!("{:9}{:>7}  ", i.group, i.weight)),
        Span::styled(format!("{state:12}"), style),
        Span::styled("█".repeat(full), look.colour(Color::Blue)),
        Span::styled("·".repeat(room - full), look.dim()),
        Span::raw(format!("{:>7.1} %{:>9.0}  {}", i.share * 100.0, i.per_second, memory(i.memory))),
    ])
}

fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |b| format!("{:.1} MiB", b as f64 / f64::from(1 << 20)))
}

/// The newest events, newest first.
pub(super) fn events_text(view: &View, rows: usize, look: Look) -> Text<'static> {
    let newest = view.events.iter().rev().take(rows);
    let lines = newest.map(|e| {
        let (mark, style) = match e.mood {
            Mood::Act => ("▸", look.act()),
            Mood::Good => ("✓", look.good()),
            Mood::Bad => ("!", look.bad()),
        };
        // One line each; the rest of a longer text is in the processes' logs.
        let text = e.text.lines().next().unwrap_or_default().to_owned();
        let time = Span::styled(format!("  {:6.1} s ", e.at.as_secs_f64()), look.dim());
        Line::from(vec![time, Span::styled(format!("{mark} "), style), Span::styled(text, style)])
    });
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return Text::from(Line::styled("  press a key: k kills an instance, w shifts weights", look.dim()));
    }
    Text::from(lines)
}

fn keys_line(look: Look) -> Line<'static> {
    let mut spans = Vec::new();
    for (key, _, what) in KEYS {
        spans.push(Span::styled(format!(" {key} "), Look::bold().add_modifier(Modifier::REVERSED)));
        spans.push(Span::styled(format!(" {what}  "), look.colour(Color::Reset)));
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::board::{Event, Second, Shop};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use std::time::Duration;

    fn view() -> View {
        let instance = |n: u32, alive, share| Instance {
            name: format!("order-{n}"),
            group: "default".into(),
            weight: 100,
            alive,
            state: "healthy".into(),
            share,
            per_second: share * 2000.0,
            memory: Some(6 << 20),
            ..Instance::default()
        };
        View {
            elapsed: Duration::from_secs(83),
            rate: 2000.0,
            second: Second { ok: 1998.0, failed: 2, p50: 2.31, p99: 3.5, max: 8.0 },
            history: vec![2000, 1990, 1998],
            sent: 6000,
            ok: 5997,
            failed: [("UC".to_owned(), 3)].into(),
            expected: 3,
            instances: vec![instance(1, true, 0.5), instance(2, false, 0.0), instance(3, true, 0.5)],
            shops: vec![Shop { name: "shop-1".into(), generation: 3 }],
            events: vec![Event {
                at: Duration::from_secs(80),
                mood: Mood::Act,
                text: "kill -9 order-2".into(),
            }],
            events_dropped: 0,
        }
    }

    fn drawn(width: u16, height: u16, view: &View) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, Look { colours: false })).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn the_screen_tells_rates_failures_shares_events_and_keys() {
        let text = drawn(120, 30, &view());
        for part in [
            "1:23",
            "answered 1998/s",
            "p50 2.31",
            "3 UC",
            "3 expected: in flight to a killed",
            "order-2  default",
            "killed",
            "50.0 %",
            "6.0 MiB",
            "kill -9 order-2",
            "w  weights",
            "shop-1: 3",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn a_small_terminal_is_no_reason_to_panic() {
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            drawn(width, height, &view());
            drawn(width, height, &View::default());
        }
    }
}
