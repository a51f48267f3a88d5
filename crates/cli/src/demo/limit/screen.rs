//! The story on a screen; the user's keys switch the surge and the limiter.
use super::ledger::{Known, Ledger, State};
use super::story::Story;
use crate::demo::board::{Board, Mood, View};
use crate::demo::screen::{Look, block, events_text};
use crate::exit::Failure;
use raddle_bench::mix::Cell;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Paragraph, Sparkline};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// The terminal as it was, whatever happens.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Surge,
    Limiter,
    Quit,
}

/// What never changes while it is shown.
pub(super) struct Stage<'a> {
    pub(super) paths: &'a [String],
    pub(super) cores: f64,
    pub(super) culprit: usize,
}

/// Shows the story until `q`, Ctrl-C or a signal.
pub(super) fn run(
    story: &Story<'_>,
    board: &Board,
    ledger: &Ledger,
    stage: &Stage<'_>,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    // Applying a rule takes a moment; the screen must not wait. The sender goes with the screen, and the scope waits
    // until the actor has ended for it.
    std::thread::scope(|scope| {
        let (keys, pressed) = mpsc::channel();
        scope.spawn(move || act(story, board, &pressed));
        show(board, ledger, stage, stop, &keys).map_err(|e| Failure::new(format!("the screen: {e}")))
    })
}

fn act(story: &Story<'_>, board: &Board, pressed: &mpsc::Receiver<Key>) {
    while let Ok(key) = pressed.recv() {
        let turned = match key {
            Key::Surge => story.turn(|s| State { surging: !s.surging, ..s }),
            Key::Limiter => story.turn(|s| State { limiting: !s.limiting, ..s }),
            Key::Quit => return,
        };
        if let Err(failure) = turned {
            board.note(Mood::Bad, failure.to_string());
        }
    }
}

fn show(
    board: &Board,
    ledger: &Ledger,
    stage: &Stage<'_>,
    stop: &AtomicBool,
    keys: &mpsc::Sender<Key>,
) -> std::io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let _restore = Restore;
    let look = Look::of_terminal();
    while !stop.load(Ordering::Relaxed) {
        let (view, known) = (board.view(), ledger.known());
        terminal.draw(|frame| draw(frame, &view, &known, stage, look))?;
        if event::poll(Duration::from_millis(200))?
            && let Event::Key(pressed) = event::read()?
            && let Some(key) = key(pressed)
        {
            if key == Key::Quit {
                return Ok(());
            }
            // The actor ends only with this sender.
            let _ = keys.send(key);
        }
    }
    Ok(())
}

fn key(pressed: KeyEvent) -> Option<Key> {
    let control = pressed.modifiers.contains(KeyModifiers::CONTROL);
    match pressed.code {
        _ if pressed.kind == KeyEventKind::Release => None,
        KeyCode::Char('c' | 'd') if control => Some(Key::Quit),
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Char('s' | 'S') => Some(Key::Surge),
        KeyCode::Char('l' | 'L') => Some(Key::Limiter),
        _ => None,
    }
}

fn draw(frame: &mut Frame<'_>, view: &View, known: &Known, stage: &Stage<'_>, look: Look) {
    let [title, top, middle, bottom, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(7),
        Constraint::Length(14),
        Constraint::Min(4),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title_line(view, known), title);
    let [load, served] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(top);
    draw_load(frame, load, known, stage, look);
    draw_served(frame, served, known, look);
    let text = paths_text(known, stage, usize::from(middle.width).saturating_sub(2), look);
    frame.render_widget(
        Paragraph::new(text).block(block("the last second: who was asked for most, and answered in time")),
        middle,
    );
    let rows = usize::from(bottom.height).saturating_sub(2);
    frame.render_widget(Paragraph::new(events_text(view, rows, look)).block(block("events")), bottom);
    frame.render_widget(keys_line(known), keys);
}

fn title_line(view: &View, known: &Known) -> Line<'static> {
    let seconds = view.elapsed.as_secs();
    let limiter = if known.state.limiting { "limiter on" } else { "limiter off: it only watches" };
    Line::from(vec![
        Span::styled(" raddle demo limit ", Look::bold().add_modifier(Modifier::REVERSED)),
        Span::raw(format!("  {}:{:02}   ", seconds / 60, seconds % 60)),
        Span::styled(known.title.clone(), Look::bold()),
        Span::raw(format!("   shop → order, 100 interfaces, a sidecar beside each   {limiter}")),
    ])
}

/// How busy the app is, and was.
fn draw_load(frame: &mut Frame<'_>, area: Rect, known: &Known, stage: &Stage<'_>, look: Look) {
    let outer = block("the app's CPU");
    let inner = outer.inner(area);
    frame.render_widget(outer, area);
    let [number, bar, chart] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(1)]).areas(inner);
    let share = known.cores / stage.cores.max(0.01);
    let style = if share > 0.95 { look.bad() } else { look.good() };
    let text = format!(" {:.0} % of {} cores", share * 100.0, stage.cores);
    frame.render_widget(Line::styled(text, style), number);
    let room = usize::from(bar.width).saturating_sub(2);
    let full = ((share * room as f64).round() as usize).min(room);
    let line = Line::from(vec![
        Span::raw(" "),
        Span::styled("█".repeat(full), style),
        Span::styled("·".repeat(room - full), look.dim()),
    ]);
    frame.render_widget(line, bar);
    let history: Vec<u64> =
        known.cores_history.iter().map(|c| (c / stage.cores.max(0.01) * 100.0) as u64).collect();
    frame.render_widget(Sparkline::default().data(last(&history, chart)).max(100).style(look.good()), chart);
}

fn last(data: &[u64], area: Rect) -> &[u64] {
    &data[data.len().saturating_sub(usize::from(area.width))..]
}

/// How the others fare, now and before.
fn draw_served(frame: &mut Frame<'_>, area: Rect, known: &Known, look: Look) {
    let outer = block("the 99 others: answered within a second");
    let inner = outer.inner(area);
    frame.render_widget(outer, area);
    let [number, rest, chart] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(1)]).areas(inner);
    let Some(now) = known.seconds.last() else { return };
    let goodput = now.innocents.goodput();
    let style = if goodput < 0.99 { look.bad() } else { look.good() };
    let text = format!(" {:.1} % of {}/s   p99 {:.0} ms", goodput * 100.0, now.innocents.offered, now.p99);
    frame.render_widget(Line::styled(text, style), number);
    let text = format!(" the culprit: {} of {}/s", now.culprit.good, now.culprit.offered);
    frame.render_widget(Line::styled(text, Style::new()), rest);
    let history: Vec<u64> = known.seconds.iter().map(|s| (s.innocents.goodput() * 100.0) as u64).collect();
    frame.render_widget(Sparkline::default().data(last(&history, chart)).max(100).style(style), chart);
}

/// The paths that were asked for most: a bar each, what was answered in time of what was asked for.
fn paths_text(known: &Known, stage: &Stage<'_>, width: usize, look: Look) -> Text<'static> {
    let room = width.saturating_sub(58).clamp(8, 60);
    let mut order: Vec<(usize, &Cell)> = known.cells.iter().enumerate().collect();
    order.sort_by_key(|(_, c)| std::cmp::Reverse(c.offered));
    let most = order.first().map_or(1, |(_, c)| c.offered.max(1));
    let line = |(path, cell): &(usize, &Cell)| {
        let scale = |n: u32| ((f64::from(n) / f64::from(most) * room as f64).round() as usize).min(room);
        let (good, offered) = (scale(cell.good), scale(cell.offered));
        let name = stage.paths.get(*path).cloned().unwrap_or_default();
        let style = if *path == stage.culprit { look.bad() } else { Style::new() };
        Line::from(vec![
            Span::styled(format!("  {name:16}"), style),
            Span::styled("█".repeat(good), look.good()),
            Span::styled("░".repeat(offered.saturating_sub(good)), look.bad()),
            Span::raw(" ".repeat(room - offered.max(good))),
            Span::raw(format!(
                " {:4} of {:4}, {:3} held, {:3} late",
                cell.good, cell.offered, cell.refused, cell.late
            )),
        ])
    };
    Text::from(order.iter().take(12).map(line).collect::<Vec<_>>())
}

fn keys_line(known: &Known) -> Line<'static> {
    let surge = if known.state.surging { "end the surge" } else { "surge" };
    let limiter = if known.state.limiting { "limiter off" } else { "limiter on" };
    let mut spans = Vec::new();
    for (key, what) in [("s", surge), ("l", limiter), ("q", "quit, and see the figures")] {
        spans.push(Span::styled(format!(" {key} "), Look::bold().add_modifier(Modifier::REVERSED)));
        spans.push(Span::raw(format!(" {what}  ")));
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::limit::ledger::Second;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn drawn(width: u16, height: u16, known: &Known) -> String {
        let paths = vec!["/cart/get".to_owned(), "/cart/list".to_owned()];
        let stage = Stage { paths: &paths, cores: 0.5, culprit: 0 };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let look = Look::of_terminal();
        terminal.draw(|frame| draw(frame, &View::default(), known, &stage, look)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn the_screen_tells_load_culprit_others_and_keys() {
        let cell = |offered, good, refused| Cell { offered, good, refused, ..Cell::default() };
        let (culprit, innocents) = (cell(200, 40, 160), cell(100, 100, 0));
        let known = Known {
            state: State { surging: true, limiting: true },
            seconds: vec![Second { number: 3, culprit, innocents, p99: 20.0 }],
            cells: vec![culprit, innocents],
            cores: 0.4,
            cores_history: vec![0.3, 0.4],
            title: "surge".into(),
            ..Known::default()
        };
        let text = drawn(120, 40, &known);
        for part in [
            "80 % of 0.5 cores",
            "100.0 % of 100/s",
            "40 of  200, 160 held",
            "limiter on",
            "s  end the surge",
            "l  limiter off",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn a_small_terminal_is_no_reason_to_panic() {
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            drawn(width, height, &Known::default());
        }
    }
}
