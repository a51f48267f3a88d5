//! The story on a screen.
use super::story::{Scene, Shown};
use super::wire::{Look as Seen, Wire, dump};
use crate::demo::board::{Board, View};
use crate::demo::screen::{Look, block, draw_traffic, events_text};
use crate::exit::Failure;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Modifier;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::Paragraph;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Lines of the panels with bytes, borders included.
const BYTES: u16 = 10;

/// The terminal as it was, whatever happens.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows the story until `q`, Ctrl-C or a signal.
pub(super) fn run(board: &Board, scene: &Scene, wire: &Wire, stop: &AtomicBool) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("the screen: {e}"));
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let _restore = Restore;
    let look = Look::of_terminal();
    while !stop.load(Ordering::Relaxed) {
        let (view, shown, seen) = (board.view(), scene.shown(), wire.look());
        let now = wire.sample(seen.tls > seen.plain);
        terminal.draw(|frame| draw(frame, &view, &shown, &seen, &now, look)).map_err(failed)?;
        if event::poll(Duration::from_millis(200)).map_err(failed)?
            && let Event::Key(key) = event::read().map_err(failed)?
            && quits(key)
        {
            return Ok(());
        }
    }
    Ok(())
}

fn quits(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release
        && match key.code {
            KeyCode::Char('c' | 'd') => control,
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
            _ => false,
        }
}

fn draw(frame: &mut Frame<'_>, view: &View, shown: &Shown, seen: &Seen, now: &[u8], look: Look) {
    let [title, top, before, after, bottom, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(9),
        Constraint::Length(BYTES),
        Constraint::Length(BYTES),
        Constraint::Min(4),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title_line(view, shown), title);
    let [traffic, links] =
        Layout::horizontal([Constraint::Percentage(54), Constraint::Percentage(46)]).areas(top);
    draw_traffic(frame, traffic, view, look);
    frame.render_widget(
        Paragraph::new(links_text(seen, links, look)).block(block("links from shop to pay")),
        links,
    );
    frame.render_widget(bytes(&shown.before).block(block("on the wire: at the start")), before);
    frame.render_widget(bytes(now).block(block("on the wire: now")), after);
    let rows = usize::from(bottom.height).saturating_sub(2);
    frame.render_widget(Paragraph::new(events_text(view, rows, look)).block(block("events")), bottom);
    let text = if shown.over { " q  quit, and see what became of the requests" } else { " q  quit" };
    frame.render_widget(Line::styled(text, Look::bold()), keys);
}

fn title_line(view: &View, shown: &Shown) -> Line<'static> {
    let seconds = view.elapsed.as_secs();
    Line::from(vec![
        Span::styled(" raddle demo encryption ", Look::bold().add_modifier(Modifier::REVERSED)),
        Span::raw(format!("  {}:{:02}   ", seconds / 60, seconds % 60)),
        Span::styled(shown.title.clone(), Look::bold()),
        Span::raw("   2 × shop → 4 × pay, a sidecar beside each"),
    ])
}

fn links_text(seen: &Seen, area: Rect, look: Look) -> Text<'static> {
    let room = usize::from(area.width).saturating_sub(6).min(60);
    let share = seen.share().unwrap_or(0.0);
    let full = ((share * room as f64).round() as usize).min(room);
    let read = if seen.plain > 0 { look.bad() } else { look.good() };
    Text::from(vec![
        Line::from(vec![
            Span::raw(" encrypted "),
            Span::styled(format!("{:.0} %", share * 100.0), Look::bold()),
            Span::raw(format!("   {} TLS, {} plaintext", seen.tls, seen.plain)),
        ]),
        Line::default(),
        Line::from(vec![
            Span::raw("  "),
            Span::styled("█".repeat(full), look.good()),
            Span::styled("·".repeat(room - full), look.dim()),
        ]),
        Line::default(),
        Line::styled(format!(" card numbers read on the wire: {}", seen.readable), read),
        Line::styled(format!(" in {} KiB", seen.bytes >> 10), look.dim()),
    ])
}

fn bytes(sample: &[u8]) -> Paragraph<'static> {
    let lines = dump(sample).into_iter().map(|l| Line::raw(format!(" {l}")));
    Paragraph::new(Text::from(lines.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn drawn(width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let shown = Shown { title: "encrypted".into(), before: b"card=4929-1234".to_vec(), over: true };
        let seen = Seen { plain: 2, tls: 6, readable: 7, bytes: 4096 };
        let look = Look::of_terminal();
        let draws =
            |frame: &mut Frame<'_>| draw(frame, &View::default(), &shown, &seen, b"\x17\x03\x03", look);
        terminal.draw(draws).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn the_screen_tells_share_bytes_before_and_now_and_what_was_read() {
        let text = drawn(120, 44);
        for part in
            ["75 %", "6 TLS, 2 plaintext", "card=4929-1234", "17 03 03", "read on the wire: 7", "q  quit"]
        {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn a_small_terminal_is_no_reason_to_panic() {
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            drawn(width, height);
        }
    }
}
